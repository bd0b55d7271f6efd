//! Symbol look-up. Mach-O symbols have no versions: dlsym(3).

use std::ffi::CStr;

use libc::c_void;

/// The address of a symbol in what `handle` (of dlopen, or RTLD_DEFAULT) reaches.
pub(crate) fn lookup(handle: *mut c_void, name: &CStr, _version: Option<&CStr>) -> Option<u64> {
    // SAFETY: C strings, and a handle that is open or RTLD_DEFAULT.
    let address = unsafe { libc::dlsym(handle, name.as_ptr()) };
    (!address.is_null()).then_some(address as u64)
}

/// The size of a variable: Mach-O says none.
pub(crate) fn size(_address: u64, _name: &str) -> Option<u64> {
    None
}
