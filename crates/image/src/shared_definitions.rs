//! What a module defines and a process has once: if the process has it already, its definition is
//! the module's too.
//!
//! Code belongs to its version, and so do constants, tables of virtual functions and type
//! information: a new version may have other ones. But a variable that every file defines which
//! includes a header (an `inline` one, a static one of an inline function with its guard, one of a
//! template) is meant to be one in the process, as a function is that allocates: what one of them
//! gives another must be able to take back. Thread-local variables are the version's own, as their
//! destructors are.

use object::elf;

/// Functions that a program may replace, for all of it: C's (glibc's manual, "Replacing malloc")
/// and C++'s ([replacement.functions]), where `size_t` is `unsigned long`.
pub(crate) const ALLOCATORS: [&str; 34] = [
    "malloc",
    "calloc",
    "realloc",
    "reallocarray",
    "free",
    "free_sized",
    "free_aligned_sized",
    "cfree",
    "aligned_alloc",
    "memalign",
    "posix_memalign",
    "valloc",
    "pvalloc",
    "malloc_usable_size",
    "_Znwm",
    "_ZnwmRKSt9nothrow_t",
    "_ZnwmSt11align_val_t",
    "_ZnwmSt11align_val_tRKSt9nothrow_t",
    "_Znam",
    "_ZnamRKSt9nothrow_t",
    "_ZnamSt11align_val_t",
    "_ZnamSt11align_val_tRKSt9nothrow_t",
    "_ZdlPv",
    "_ZdlPvm",
    "_ZdlPvRKSt9nothrow_t",
    "_ZdlPvSt11align_val_t",
    "_ZdlPvmSt11align_val_t",
    "_ZdlPvSt11align_val_tRKSt9nothrow_t",
    "_ZdaPv",
    "_ZdaPvm",
    "_ZdaPvRKSt9nothrow_t",
    "_ZdaPvSt11align_val_t",
    "_ZdaPvmSt11align_val_t",
    "_ZdaPvSt11align_val_tRKSt9nothrow_t",
];

/// Whether definitions of this kind (of ELF) may be in several files of a program, which then have
/// one.
pub(crate) fn is_repeatable(binding: u8, visibility: u8) -> bool {
    matches!(binding, elf::STB_WEAK | elf::STB_GNU_UNIQUE) && visibility == elf::STV_DEFAULT
}

/// Whether a name is that of what the compiler writes of a class. Where that is not read-only (-z
/// norelro), nothing else tells.
pub(crate) fn is_of_class(name: &[u8]) -> bool {
    name.starts_with(b"_ZT") && matches!(name.get(3), Some(b'V' | b'T' | b'I' | b'S' | b'C'))
}
