//! What a program is started with, for the constructors of modules: dyld passes it to those of a
//! library.

use std::ffi::{c_char, c_int};

use super::super::Strings;

unsafe extern "C" {
    /// `<crt_externs.h>`: where the C library keeps them.
    safe fn _NSGetArgc() -> *mut c_int;
    safe fn _NSGetArgv() -> *mut *mut *mut c_char;
}

/// How many arguments the program has, and where they are.
pub(crate) fn arguments() -> (c_int, Strings) {
    // SAFETY: the C library's own, which were written before any of our code ran.
    unsafe { (*_NSGetArgc(), (*_NSGetArgv()).cast_const().cast()) }
}
