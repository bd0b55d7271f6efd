//! Rust's standard library as a shared library (`-C prefer-dynamic`), which modules call where
//! others have it inside. What it does for a module, the C library is asked for by it, and so
//! nothing of that passes by here.
//!
//! Its functions are known by their names, mangled in either way, with whatever hash.

use std::ffi::{c_int, c_void};

use super::thread_exits;

/// Whether this is `std::sys::thread_local::destructors::*::register`, by which `thread_local!` has
/// a variable destroyed at its thread's end. The library would keep the module's function for
/// longer than the module is there (rust-lang/rust#88737).
pub(super) fn registers_destructor(symbol: &str) -> bool {
    is_function(symbol, "8register")
        && symbol.contains("3std3sys")
        && symbol.contains("12thread_local11destructors")
}

/// Whether this is `std::sys::*::Thread::new`, by which `std::thread::spawn` starts a thread. It is
/// given a closure, in a form that changes with the library: so when the thread is over, nobody can
/// say.
pub(crate) fn starts_threads(symbol: &str) -> bool {
    is_function(symbol, "6Thread3new") && symbol.contains("3std3sys") && symbol.contains("6thread")
}

/// `path` is the end of a mangled name: behind it are the legacy mangling's hash, or nothing.
fn is_function(symbol: &str, path: &str) -> bool {
    // Most imports are of C.
    if !symbol.starts_with("_R") && !symbol.starts_with("_ZN") {
        return false;
    }
    let behind = symbol.rsplit_once(path).map(|(_, behind)| behind);
    behind.is_some_and(|behind| match symbol.starts_with("_R") {
        true => behind.is_empty(),
        false => behind.starts_with("17h") && behind.ends_with('E'),
    })
}

/// In its place: the variable and its destructor, which are noted as those of other thread-local
/// variables are. The Rust ABI passes two pointers as the C ABI does.
pub(super) unsafe extern "C" fn register(variable: *mut c_void, destroy: unsafe extern "C" fn(*mut c_void)) {
    // SAFETY: the caller is std, whose function is for its variable. The function's address tells
    // whose it is.
    let _always: c_int = unsafe { thread_exits::register(destroy, variable, std::ptr::null()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_functions_are_known_by_their_names_in_either_mangling() {
        for (symbol, destructor, thread) in [
            (
                "_RNvNtNtNtNtCsjrHSEGnQ3l9_3std3sys12thread_local11destructors10linux_like8register",
                true,
                false,
            ),
            ("_ZN3std3sys12thread_local11destructors10linux_like8register17h0123456789abcdefE", true, false),
            ("_RNvMs0_NtNtNtCsjrHSEGnQ3l9_3std3sys6thread4unixNtB5_6Thread3new", false, true),
            ("_ZN3std3sys3pal4unix6thread6Thread3new17h0123456789abcdefE", false, true),
            // `std::thread::Thread::new` makes a handle. The others are not the library's, or not
            // functions.
            ("_RNvMs_NtNtCsjrHSEGnQ3l9_3std6thread6threadNtB4_6Thread3new", false, false),
            ("_ZN3std6thread6Thread3new17h0123456789abcdefE", false, false),
            ("_RNvNtNtCsabc_4game12thread_local11destructors8register", false, false),
            ("_RNCNvNtNtNtNtCsjr_3std3sys12thread_local11destructors10linux_like8register0B9_", false, false),
            (
                "_ZN3std3sys12thread_local11destructors10linux_like8register\
                 28_$u7b$$u7b$closure$u7d$$u7d$17h0123456789abcdefE",
                false,
                false,
            ),
            ("register", false, false),
        ] {
            assert_eq!(
                (registers_destructor(symbol), starts_threads(symbol)),
                (destructor, thread),
                "{symbol}"
            );
        }
    }
}
