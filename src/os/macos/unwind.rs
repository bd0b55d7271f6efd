//! What Apple's unwinder (LLVM's libunwind, in libSystem) is told of a version's call frame information.
//!
//! Since macOS 14 it asks functions that were added for it (`__unw_add_find_dynamic_unwind_sections`, mach-o/.. libunwind.h): which
//! section is for an address. It has room for eight, so there is one of ours for all versions. Older systems are told each function's
//! record (`__register_frame`, which takes one record there, not a section as libgcc's does), and keep them in a list that is searched
//! from its start. Both are looked up when they are needed, as the newer is not in older systems' libraries.
//!
//! Either way libunwind remembers records that it has found under a group (`DwarfFDECache`): the image that the answer names, or the record itself. What it
//! remembers is taken back by `__deregister_frame` of the group.

use std::ffi::{CStr, c_int, c_void};
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::{OnceLock, PoisonError, RwLock};

use crate::os::library;

/// `unw_dynamic_unwind_sections` of libunwind.h.
#[repr(C)]
struct Sections {
    image: usize,
    dwarf: usize,
    dwarf_len: usize,
    compact: usize,
    compact_len: usize,
}

type Finder = extern "C" fn(usize, *mut Sections) -> c_int;
type OfRecord = unsafe extern "C" fn(*const c_void);

/// Where a version's code is, and what describes it.
struct Told {
    code: Range<usize>,
    section: usize,
    len: usize,
}

/// Read by whoever throws, so it is held for moments only. Code that is on a thrower's stack has not been taken out.
static TOLD: RwLock<Vec<Told>> = RwLock::new(Vec::new());

/// For libunwind. Nonzero if the sections were filled in.
extern "C" fn find(address: usize, sections: *mut Sections) -> c_int {
    let told = TOLD.read().unwrap_or_else(PoisonError::into_inner);
    let Some(told) = told.iter().find(|told| told.code.contains(&address)) else { return 0 };
    // SAFETY: libunwind's own record. The section's address stands for the image: it is as much one version's.
    unsafe {
        sections.write(Sections {
            image: told.section,
            dwarf: told.section,
            dwarf_len: told.len,
            compact: 0,
            compact_len: 0,
        });
    }
    1
}

/// Whether libunwind asks `find`.
fn asks() -> bool {
    static ASKS: OnceLock<bool> = OnceLock::new();
    *ASKS.get_or_init(|| {
        let Some(add) = library::process_symbol(c"__unw_add_find_dynamic_unwind_sections", None) else {
            return false;
        };
        // SAFETY: libunwind.h: int __unw_add_find_dynamic_unwind_sections(unw_find_dynamic_unwind_sections). `find` stays for the process's life.
        unsafe {
            let add: extern "C" fn(Finder) -> c_int = std::mem::transmute(add as usize);
            add(find) == 0
        }
    })
}

/// A function of libunwind's that every system has.
fn of_record(name: &CStr) -> OfRecord {
    let function =
        library::process_symbol(name, None).expect("libSystem has __register_frame and __deregister_frame");
    // SAFETY: void (const void *fde), of unwind.h.
    unsafe { std::mem::transmute(function as usize) }
}

/// A section that the unwinder knows of, until this is dropped.
pub(crate) struct Frames {
    section: NonNull<c_void>,
    by_record: bool,
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
    /// A checked section of call frame information that ends with a record of length 0, mapped and unchanged until this is dropped.
    pub(crate) unsafe fn register(section: NonNull<c_void>, code: Range<usize>) -> Self {
        // SAFETY: the caller's promise.
        let records = || unsafe { Records::of(section) };
        let by_record = !asks();
        if by_record {
            let register = of_record(c"__register_frame");
            for (record, _) in records().filter(|(_, describes)| *describes) {
                // SAFETY: a function's record.
                unsafe { register(record) };
            }
        } else {
            let mut end = records();
            end.by_ref().for_each(drop);
            let section = section.addr().get();
            let told = Told { code, section, len: end.at.addr() - section };
            TOLD.write().unwrap_or_else(PoisonError::into_inner).push(told);
        }
        Self { section, by_record }
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        let deregister = of_record(c"__deregister_frame");
        if self.by_record {
            // SAFETY: registered, and still mapped.
            let records = unsafe { Records::of(self.section) };
            for (record, _) in records.filter(|(_, describes)| *describes) {
                // SAFETY: registered above.
                unsafe { deregister(record) };
            }
        } else {
            let section = self.section.addr().get();
            TOLD.write().unwrap_or_else(PoisonError::into_inner).retain(|told| told.section != section);
            // SAFETY: takes the group's number only. Nobody is inside the version, so nobody finds a record anew.
            unsafe { deregister(self.section.as_ptr()) };
        }
    }
}

/// The records of a section, and whether each describes a function (a zero in its second word says that it is shared by such).
struct Records {
    at: *const u8,
}

impl Records {
    /// # Safety
    ///
    /// As for [`Frames::register`], as long as this is used.
    unsafe fn of(section: NonNull<c_void>) -> Self {
        Self { at: section.as_ptr().cast_const().cast() }
    }
}

impl Iterator for Records {
    type Item = (*const c_void, bool);

    fn next(&mut self) -> Option<Self::Item> {
        // SAFETY: within a section that ends with a length of 0; a length of u32::MAX has the real one behind it.
        unsafe {
            let record = self.at;
            let (len, body) = match record.cast::<u32>().read_unaligned() {
                0 => return None,
                u32::MAX => (record.add(4).cast::<u64>().read_unaligned() as usize, record.add(12)),
                len => (len as usize, record.add(4)),
            };
            self.at = body.add(len);
            Some((record.cast(), body.cast::<u32>().read_unaligned() != 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_a_section() {
        let words: [u32; 12] = [8, 0, 7, 12, 1, 2, 3, 8, 0, 9, 0, 77];
        // SAFETY: three records and an end.
        let mut records = unsafe { Records::of(NonNull::from(&words).cast()) };
        let describes: Vec<bool> = records.by_ref().map(|(_, describes)| describes).collect();
        assert_eq!(describes, [false, true, false]);
        assert_eq!(records.at.addr() - words.as_ptr().addr(), 40);
    }
}
