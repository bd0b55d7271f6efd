//! Mach-O has thread-local variables of another kind, which are not loaded yet; `Runtime::start` refuses macOS before
//! anything here is used.

#![allow(dead_code, reason = "there is a twin of each item of the other system")]

use std::ffi::{CStr, c_void};
use std::sync::atomic::AtomicUsize;

use midflight_image::ThreadLocal;

use crate::os::library::Library;

/// No code calls it.
pub(crate) unsafe extern "C" fn midflight_tls_static() {}
/// No code calls it.
pub(crate) unsafe extern "C" fn midflight_tls_undefined() {}
/// No code calls it.
pub(crate) unsafe extern "C" fn midflight_tls_dynamic() {}
/// No code calls it.
pub(crate) unsafe extern "C" fn midflight_tls_get_addr() {}

/// No code reads it.
///
/// # Safety
///
/// None needed.
pub(crate) unsafe fn set_blocks(_table: *const AtomicUsize) {}

/// No code asks for it.
///
/// # Safety
///
/// None needed.
pub(crate) unsafe fn address_in_process(_module: u64, _offset: u64) -> *mut c_void {
    std::ptr::null_mut()
}

/// None is found.
pub(crate) fn find(_name: &CStr, _version: Option<&CStr>, _libraries: &[Library]) -> Option<ThreadLocal> {
    None
}
