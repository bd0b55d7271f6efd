//! Symbol look-up. Mach-O symbols have no versions: dlsym(3).

use std::ffi::CStr;

use libc::c_void;
use mach2::dyld::{_dyld_get_image_name, _dyld_image_count};

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

/// The paths of the images that the process has loaded, for messages and to compare names of files.
pub(crate) fn each_object(mut see: impl FnMut(&str)) {
    // SAFETY: dyld's list may be read at any time; an image that goes meanwhile has no name any
    // more.
    for index in 0..unsafe { _dyld_image_count() } {
        // SAFETY: as above.
        let name = unsafe { _dyld_get_image_name(index) };
        // SAFETY: dyld keeps the names of images that are there.
        if let Some(name) = (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }) {
            see(&name.to_string_lossy());
        }
    }
}
