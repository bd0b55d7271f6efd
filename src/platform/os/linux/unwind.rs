//! What the process's unwinder, libgcc's, is told of a version's call frame information.

use std::ffi::c_void;
use std::ops::Range;
use std::ptr::NonNull;

/// Call frame information that the process's unwinder knows of, until this is dropped.
pub(crate) struct Frames {
    section: NonNull<c_void>,
}

// SAFETY: the unwinder takes and forgets sections on any thread.
unsafe impl Send for Frames {}
// SAFETY: there is nothing to do with a shared one.
unsafe impl Sync for Frames {}

impl Frames {
    /// `code` is where the section's functions are.
    ///
    /// # Safety
    ///
    /// A checked section of call frame information that ends with a record of length 0 and
    /// describes some function, mapped and unchanged until this is dropped.
    pub(crate) unsafe fn register(section: NonNull<c_void>, _code: Range<usize>) -> Self {
        // SAFETY: a checked section with a terminator and at least one function, registered once.
        unsafe { __register_frame(section.as_ptr()) };
        Self { section }
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        // SAFETY: registered and still mapped: libgcc 13 reads it once more.
        unsafe { __deregister_frame(self.section.as_ptr()) };
    }
}

// libgcc's (unwind-dw2-fde.c), from the library that the standard library unwinds with. libgcc 12
// puts the section on a list, and sorts its functions when the first exception is thrown after
// that; libgcc 13 finds the range of addresses at once, and throws take no lock.
unsafe extern "C" {
    fn __register_frame(section: *const c_void);
    fn __deregister_frame(section: *const c_void);
}
