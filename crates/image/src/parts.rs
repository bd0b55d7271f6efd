//! The parts of an image, in words that no file format owns.

use alloc::borrow::Cow;

/// What the pages of a region may be used for once the image is finished.
///
/// There is no writable and executable one: a segment that asks for it is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Protection {
    /// Constants, tables, and data that is read-only after relocation (RELRO).
    Read,
    /// Variables.
    ReadWrite,
    /// Code.
    ReadExecute,
}

/// A run of pages with one protection. `offset` and `len` are multiples of the page size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Region {
    /// From the start of the image.
    pub offset: u64,
    /// In bytes.
    pub len: u64,
    /// Of the finished image. While it is linked, everything must be writable.
    pub protection: Protection,
}

/// A part of the finished image that is just as in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verbatim<'a> {
    /// From the start of the image.
    pub offset: u64,
    /// In one region that is not writable.
    pub bytes: &'a [u8],
}

/// A symbol that the module uses and does not define; or which it defines, but which a process has
/// once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Import<'a> {
    /// The symbol, as the linker wrote it (mangled); of Mach-O without its first underscore, as C
    /// has it.
    pub name: &'a str,
    /// The version that was there when the module was linked, such as `GLIBC_2.17`.
    pub version: Option<&'a str>,
    /// It may stay undefined; its address is then 0.
    pub weak: bool,
    /// What it is known to be.
    pub kind: ImportKind,
    /// Its address is used, and not only to call it, as far as the file tells.
    pub addressed: bool,
    /// Where the module was linked to find it.
    pub from: Lookup,
    /// Of what the module defines itself, and uses where the process has no other: how many bytes
    /// it has.
    pub own: Option<u64>,
}

impl<'a> Import<'a> {
    /// How tools write it: `name@version` where it has a version.
    pub fn symbol(&self) -> Cow<'a, str> {
        match self.version {
            None => Cow::Borrowed(self.name),
            Some(version) => Cow::Owned(alloc::format!("{}@{version}", self.name)),
        }
    }
}

/// Where an import is looked for. What the module itself defines for such a look-up is no import:
/// it is bound to that.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Lookup {
    /// In everything that is loaded: every import of ELF, and of Mach-O those of flat look-up
    /// (`-undefined dynamic_lookup`).
    Anywhere,
    /// In the library of this index of [`Image::needed`](crate::Image::needed): Mach-O's two-level
    /// names.
    Library(usize),
    /// In the program: the one that a bundle is linked for (`-bundle_loader`).
    Program,
}

/// What an import is known to be. A module that is linked without the libraries it uses has untyped
/// imports.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum ImportKind {
    /// Not known.
    Unknown,
    /// Typed as a function, or called by a branch or through the procedure linkage table.
    Function,
    /// A variable.
    Data,
    /// A thread-local variable.
    ThreadLocal,
}

/// What an import stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Binding {
    /// A function or a variable at this address.
    Address(u64),
    /// A thread-local variable.
    ThreadLocal(ThreadLocal),
}

/// A thread-local variable of another image or of the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct ThreadLocal {
    /// What `__tls_get_addr` knows the image that has it by.
    pub module: u64,
    /// From the start of that image's block.
    pub offset: u64,
    /// From the thread pointer, where that is the same in every thread (static thread-local
    /// storage).
    pub from_thread_pointer: Option<i64>,
}

/// What the host has for the thread-local variables of the image that is being linked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct Host {
    /// What `__tls_get_addr` is to know this image by: below 2^32. 0 if the image has no block of
    /// its own.
    pub tls_module: u64,
    /// The descriptor resolver for blocks that are found by module. Its argument, the descriptor's
    /// second word, is `module << 32 | offset`.
    pub tls_dynamic: u64,
    /// The descriptor resolver for variables at a fixed place: its argument is the offset from the
    /// thread pointer.
    pub tls_static: u64,
    /// The descriptor resolver for weak variables that nobody defines: its argument is the address
    /// to give, 0 plus addend. `__tls_get_addr` gets such a variable as module 0, and the same
    /// as its offset.
    pub tls_undefined: u64,
    /// What a Mach-O thread-local descriptor calls (three words: this, `module << 32 | offset`, 0).
    /// x0 is the descriptor's address, and afterwards the variable's; all other registers but
    /// x16, x17 and the flags are kept, vectors included.
    pub tlv_thunk: u64,
}

/// A symbol that the module defines for others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Export<'a> {
    /// The symbol, as the linker wrote it (mangled).
    pub name: &'a str,
    /// From the start of the image; of a thread-local variable, from the start of its block.
    pub offset: u64,
    /// In bytes; 0 when the module does not say.
    pub size: u64,
    /// What it is.
    pub kind: ExportKind,
}

/// What an export is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum ExportKind {
    /// Typed as a function, or untyped (as assembly may leave it) and in executable memory. It lies
    /// there either way.
    Function,
    /// A variable.
    Data,
    /// A function whose address is what the function at `offset` returns (STT_GNU_IFUNC).
    Indirect,
    /// A thread-local variable.
    ThreadLocal,
}

/// A place that gets an address which code of the image chooses, once that code can run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Indirect {
    /// Where the 8-byte address goes, from the start of the image. It need not be aligned.
    pub place: u64,
    /// The function that returns it, from the start of the image. It lies in executable memory.
    pub resolver: u64,
    /// Added to what it returns.
    pub addend: i64,
}

/// The initial contents of the image's thread-local variables.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct ThreadLocals {
    /// Where the initialised part stands in the linked image, from its start.
    pub offset: u64,
    /// Of the initialised part, in bytes.
    pub initialised: u64,
    /// Of the whole block, in bytes: the rest is zero.
    pub size: u64,
    /// A power of two.
    pub align: u64,
    /// What the block's address is modulo `align`.
    pub skew: u64,
}

/// The image's call frame information (`.eh_frame`; of Mach-O also what its compact unwind
/// information says), for whoever unwinds through it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Unwind {
    /// From the start of the image.
    pub offset: u64,
    /// In bytes, with the terminator.
    pub size: u64,
    /// Whether it ends in a terminator (four zero bytes), as `__register_frame` needs it.
    pub terminated: bool,
}

/// Where an image must be: the lowest and the highest address of its first byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Window {
    /// The lowest.
    pub low: u64,
    /// The highest.
    pub high: u64,
}

impl Window {
    /// Anywhere.
    pub const ANYWHERE: Self = Self { low: 0, high: u64::MAX };
}

/// See [`Image::content`](crate::Image::content).
pub(crate) fn content<'m, 'data: 'm>(
    verbatim: &[Verbatim<'data>],
    memory: &'m [u8],
    offset: u64,
    len: u64,
) -> &'m [u8] {
    let holds = |part: &&Verbatim<'_>| (part.offset..part.offset + part.bytes.len() as u64).contains(&offset);
    let (bytes, start) = match verbatim.iter().find(holds) {
        Some(part) => (part.bytes, offset - part.offset),
        None => (memory, offset),
    };
    let rest = usize::try_from(start).ok().and_then(|start| bytes.get(start..)).unwrap_or_default();
    &rest[..rest.len().min(usize::try_from(len).unwrap_or(usize::MAX))]
}
