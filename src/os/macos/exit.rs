//! What the C library runs at the end of a thread and of the process. Modules are not loaded on macOS yet, so nothing of
//! this is used.

use std::ffi::{c_int, c_void};

unsafe extern "C" {
    fn _tlv_atexit(function: unsafe extern "C" fn(*mut c_void), argument: *mut c_void);
    fn __cxa_atexit(
        function: unsafe extern "C" fn(*mut c_void, c_int),
        argument: *mut c_void,
        dso: *const c_void,
    ) -> c_int;
    fn __cxa_finalize(dso: *const c_void);
}

/// Has a function called when this thread exits.
///
/// # Safety
///
/// The function may be called with the argument then.
pub(crate) unsafe fn at_thread_exit(
    function: unsafe extern "C" fn(*mut c_void),
    argument: *mut c_void,
    _dso: Option<*const c_void>,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { _tlv_atexit(function, argument) };
    0
}

/// Has a function called when the process exits, or when `finalize` is called for its handle.
///
/// # Safety
///
/// The function may be called with the argument then.
pub(crate) unsafe fn at_exit(
    function: unsafe extern "C" fn(*mut c_void, c_int),
    argument: *mut c_void,
    dso: *const c_void,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { __cxa_atexit(function, argument, dso) }
}

/// macOS has no on_exit.
///
/// # Safety
///
/// None needed.
pub(crate) unsafe fn on_exit(_function: unsafe extern "C" fn(*mut c_void), _argument: *mut c_void) -> c_int {
    -1
}

/// macOS has no quick_exit.
pub(crate) fn at_quick_exit(_function: extern "C" fn(*mut c_void)) -> c_int {
    -1
}

/// Runs what was registered with a handle, the latest first.
///
/// # Safety
///
/// Those functions may be called now.
pub(crate) unsafe fn finalize(dso: *const c_void) {
    // SAFETY: the caller's promise.
    unsafe { __cxa_finalize(dso) };
}

/// macOS cannot take such handlers back.
///
/// # Safety
///
/// None needed.
pub(crate) unsafe fn at_fork(
    _prepare: Option<unsafe extern "C" fn()>,
    _parent: Option<unsafe extern "C" fn()>,
    _child: Option<unsafe extern "C" fn()>,
    _dso: *const c_void,
) -> c_int {
    -1
}
