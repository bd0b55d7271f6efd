//! What a program is started with, for the constructors of modules: ld.so passes it to those of a
//! library.

use std::ffi::c_int;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};

use super::super::Strings;

/// Written once, before `main` or by the dlopen that brought this library: Relaxed, because whoever
/// loads a module is behind that.
static COUNT: AtomicI32 = AtomicI32::new(0);
static VECTOR: AtomicPtr<*const std::ffi::c_char> = AtomicPtr::new(ptr::null_mut());

/// glibc calls each with the arguments and the environment; other C libraries with nothing. Among
/// the first, as the standard library's own.
#[cfg(target_env = "gnu")]
#[used]
// SAFETY: a pointer to a function of the type with which glibc calls what is in this section.
#[unsafe(link_section = ".init_array.00099")]
static NOTED: extern "C" fn(c_int, Strings, Strings) = note;

#[cfg(target_env = "gnu")]
extern "C" fn note(count: c_int, vector: Strings, _environment: Strings) {
    COUNT.store(count, Ordering::Relaxed);
    VECTOR.store(vector.cast_mut(), Ordering::Relaxed);
}

/// How many arguments the program has, and where they are; an empty vector if the C library does
/// not say it.
pub(crate) fn arguments() -> (c_int, Strings) {
    // A static library's linker takes the object that has the entry only if something names it.
    #[cfg(target_env = "gnu")]
    // SAFETY: it is a static.
    let _named = unsafe { ptr::read_volatile(&raw const NOTED) };
    let vector = VECTOR.load(Ordering::Relaxed);
    if vector.is_null() {
        (0, super::super::NO_STRINGS.0.as_ptr())
    } else {
        (COUNT.load(Ordering::Relaxed), vector)
    }
}
