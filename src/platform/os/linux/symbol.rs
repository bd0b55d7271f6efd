//! Symbol look-up, in the version that was linked against: dlvsym(3).

use std::ffi::CStr;

use libc::{Dl_info, Elf64_Sym, c_void};

use crate::platform::os::walk::Walking;

/// The address of a symbol in what `handle` (of dlopen, or RTLD_DEFAULT) reaches.
pub(crate) fn lookup(handle: *mut c_void, name: &CStr, version: Option<&CStr>) -> Option<u64> {
    // SAFETY: C strings, and a handle that is open or RTLD_DEFAULT.
    let address = unsafe {
        match version {
            Some(version) => libc::dlvsym(handle, name.as_ptr(), version.as_ptr()),
            None => libc::dlsym(handle, name.as_ptr()),
        }
    };
    (!address.is_null()).then_some(address as u64)
}

/// The size of the variable of this name at an address, if the object that has it says so.
pub(crate) fn size(address: u64, name: &str) -> Option<u64> {
    unsafe extern "C" {
        fn dladdr1(
            address: *const c_void,
            info: *mut Dl_info,
            extra: *mut *const Elf64_Sym,
            flags: i32,
        ) -> i32;
    }
    /// `<dlfcn.h>`: the extra word is the symbol's entry.
    const RTLD_DL_SYMENT: i32 = 1;
    let mut info: Dl_info = Dl_info {
        dli_fname: std::ptr::null(),
        dli_fbase: std::ptr::null_mut(),
        dli_sname: std::ptr::null(),
        dli_saddr: std::ptr::null_mut(),
    };
    let mut entry = std::ptr::null();
    // SAFETY: any address may be asked about, and both results can be written to.
    let found = unsafe { dladdr1(address as *const c_void, &mut info, &mut entry, RTLD_DL_SYMENT) } != 0;
    if !found || entry.is_null() || info.dli_sname.is_null() || info.dli_saddr as u64 != address {
        return None;
    }
    // SAFETY: they point into the tables of an object that is loaded as long as somebody uses its
    // variable.
    let (known, size) = unsafe { (CStr::from_ptr(info.dli_sname), (*entry).st_size) };
    // Of several names of one place it tells any.
    (known.to_bytes() == name.as_bytes()).then_some(size).filter(|size| *size != 0)
}

/// The paths of the objects that the process has loaded, for messages and to compare names of files.
pub(crate) fn each_object(mut see: impl FnMut(&str)) {
    unsafe extern "C" fn visit<S: FnMut(&str)>(
        info: *mut libc::dl_phdr_info,
        _size: usize,
        see: *mut c_void,
    ) -> libc::c_int {
        // SAFETY: dl_iterate_phdr passes its own record, with a C string, and what `see` below gave
        // it.
        let (name, see) = unsafe { (CStr::from_ptr((*info).dlpi_name), &mut *see.cast::<S>()) };
        see(&name.to_string_lossy());
        0
    }
    fn visitor<S: FnMut(&str)>(
        _: &S,
    ) -> unsafe extern "C" fn(*mut libc::dl_phdr_info, usize, *mut c_void) -> libc::c_int {
        visit::<S>
    }
    let _walking = Walking::new();
    // SAFETY: the function has the type, and is given what it takes.
    unsafe { libc::dl_iterate_phdr(Some(visitor(&see)), (&raw mut see).cast()) };
}
