//! What the C library runs at the end of a thread and of the process, and when a library is
//! unloaded: glibc's stdlib/cxa_*.c.

use std::ffi::{c_int, c_void};

/// The address that says whose function is registered: anything in this library.
static OURS: u8 = 0;

unsafe extern "C" {
    fn __cxa_thread_atexit_impl(
        function: unsafe extern "C" fn(*mut c_void),
        argument: *mut c_void,
        dso: *const c_void,
    ) -> c_int;
    fn __cxa_atexit(
        function: unsafe extern "C" fn(*mut c_void, c_int),
        argument: *mut c_void,
        dso: *const c_void,
    ) -> c_int;
    #[link_name = "on_exit"]
    fn c_on_exit(function: unsafe extern "C" fn(*mut c_void), argument: *mut c_void) -> c_int;
    fn __cxa_at_quick_exit(function: extern "C" fn(*mut c_void), dso: *const c_void) -> c_int;
    fn __cxa_finalize(dso: *const c_void);
    fn __register_atfork(
        prepare: Option<unsafe extern "C" fn()>,
        parent: Option<unsafe extern "C" fn()>,
        child: Option<unsafe extern "C" fn()>,
        dso: *const c_void,
    ) -> c_int;
}

/// Has a function called when this thread exits, before those that were registered earlier. Too
/// late for that when the destructors of keys run already.
///
/// # Safety
///
/// The function may be called with the argument then.
pub(crate) unsafe fn at_thread_exit(
    function: unsafe extern "C" fn(*mut c_void),
    argument: *mut c_void,
    dso: Option<*const c_void>,
) -> c_int {
    // SAFETY: the caller promises that the function may be called then. An address of an object
    // keeps that object from being unloaded meanwhile.
    unsafe { __cxa_thread_atexit_impl(function, argument, dso.unwrap_or((&raw const OURS).cast())) }
}

/// Has a function called when the process exits, or when `finalize` is called for its handle. glibc
/// passes the status as well: exit(3)'s, and 0 otherwise.
///
/// # Safety
///
/// The function may be called with the argument then.
pub(crate) unsafe fn at_exit(
    function: unsafe extern "C" fn(*mut c_void, c_int),
    argument: *mut c_void,
    dso: *const c_void,
) -> c_int {
    // SAFETY: the caller promises that the function may be called then.
    unsafe { __cxa_atexit(function, argument, dso) }
}

/// on_exit(3). The function takes the status first.
///
/// # Safety
///
/// The function may be called with the argument when the process exits.
pub(crate) unsafe fn on_exit(function: unsafe extern "C" fn(*mut c_void), argument: *mut c_void) -> c_int {
    // SAFETY: the caller promises that the function may be called when the process exits.
    unsafe { c_on_exit(function, argument) }
}

/// Has a function called by quick_exit(3).
pub(crate) fn at_quick_exit(function: extern "C" fn(*mut c_void)) -> c_int {
    // SAFETY: the function is of this library, which is not unloaded.
    unsafe { __cxa_at_quick_exit(function, (&raw const OURS).cast()) }
}

/// Runs what was registered with a handle, the latest first, and takes back its handlers of fork.
///
/// # Safety
///
/// Those functions may be called now.
pub(crate) unsafe fn finalize(dso: *const c_void) {
    // SAFETY: the caller promises that the functions of this handle may be called now.
    unsafe { __cxa_finalize(dso) };
}

/// pthread_atfork(3), with the handle by which `finalize` takes it back.
///
/// # Safety
///
/// The functions may be called around any fork until then.
pub(crate) unsafe fn at_fork(
    prepare: Option<unsafe extern "C" fn()>,
    parent: Option<unsafe extern "C" fn()>,
    child: Option<unsafe extern "C" fn()>,
    dso: *const c_void,
) -> c_int {
    // SAFETY: the caller promises that the functions may be called around any fork until they are
    // taken back.
    unsafe { __register_atfork(prepare, parent, child, dso) }
}
