//! How modules start threads. They are not loaded on macOS yet, so nothing of this is called.

#![allow(dead_code, reason = "there is a twin of each item of the other system")]

use std::ffi::c_void;

/// No code calls it.
pub(crate) unsafe extern "C" fn midflight_pthread_create() {}
/// No code calls it.
pub(crate) unsafe extern "C" fn midflight_thrd_create() {}
/// No code calls it.
pub(crate) unsafe extern "C" fn midflight_pthread_key_create() {}
/// No code calls it.
pub(crate) unsafe extern "C" fn midflight_tss_create() {}
/// No code calls it.
pub(crate) unsafe extern "C" fn midflight_std_start_thread() {}
/// No code calls it.
pub(crate) unsafe extern "C" fn midflight_thread_entry(start: *mut c_void) -> *mut c_void {
    start
}
/// No code calls it.
pub(crate) unsafe extern "C" fn midflight_std_thread_entry(_state: *mut c_void) {}
