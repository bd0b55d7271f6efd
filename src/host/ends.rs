//! The end of the process, as modules ask for it: in a guarded call it is that call's end, and not
//! the process's. What libraries ask for is theirs.

use std::ffi::c_int;
#[cfg(target_os = "linux")]
use std::ffi::{c_char, c_uint};
#[cfg(target_os = "linux")]
use std::io::Write as _;

#[cfg(target_os = "linux")]
use crate::platform::os::guard::is_open;
use crate::platform::os::guard::{ABORT, EXIT, leave};

/// abort(3).
pub(super) unsafe extern "C" fn abort() -> ! {
    // SAFETY: the module does not go on from here in any case.
    unsafe { leave(0, ABORT) };
    std::process::abort()
}

/// What assert(3) comes to.
#[cfg(target_os = "linux")]
pub(super) unsafe extern "C" fn assert_fail(
    assertion: *const c_char,
    file: *const c_char,
    line: c_uint,
    function: *const c_char,
) -> ! {
    if !is_open() {
        // SAFETY: as the caller asks.
        unsafe { real_assert_fail(assertion, file, line, function) };
    }
    let text = |text: *const c_char| match text.is_null() {
        true => String::from("?"),
        // SAFETY: a text of C's, as the caller of assert(3) gives it.
        false => unsafe { std::ffi::CStr::from_ptr(text) }.to_string_lossy().into_owned(),
    };
    // As the C library says it. A stderr that cannot be written to is one that nobody reads.
    let (file, function, assertion) = (text(file), text(function), text(assertion));
    let _ = writeln!(std::io::stderr(), "{file}:{line}: {function}: Assertion `{assertion}' failed.");
    // SAFETY: as above.
    unsafe { leave(0, ABORT) };
    std::process::abort()
}

#[cfg(target_os = "linux")]
unsafe extern "C" {
    #[link_name = "__assert_fail"]
    fn real_assert_fail(
        assertion: *const c_char,
        file: *const c_char,
        line: c_uint,
        function: *const c_char,
    ) -> !;
}

macro_rules! exits {
    ($($(#[$what:meta])* $name:ident = $real:path;)*) => {$(
        $(#[$what])*
        pub(super) unsafe extern "C-unwind" fn $name(status: c_int) -> ! {
            // SAFETY: the module does not go on from here in any case.
            unsafe { leave(status as usize, EXIT) };
            // SAFETY: as the caller asks.
            unsafe { $real(status) }
        }
    )*};
}
unsafe extern "C-unwind" {
    #[link_name = "exit"]
    fn real_exit(status: c_int) -> !;
    #[link_name = "_exit"]
    fn real_exit_at_once(status: c_int) -> !;
    #[cfg(target_os = "linux")]
    #[link_name = "quick_exit"]
    fn real_quick_exit(status: c_int) -> !;
}
exits! {
    /// exit(3).
    exit = real_exit;
    /// _exit(2) and _Exit(3).
    exit_at_once = real_exit_at_once;
}
#[cfg(target_os = "linux")]
exits! {
    /// quick_exit(3).
    quick_exit = real_quick_exit;
}
