//! What Apple's unwinder (LLVM's libunwind, in libSystem) is told of a version's call frame
//! information.
//!
//! Since macOS 14 it asks functions that were added for it
//! (`__unw_add_find_dynamic_unwind_sections`, src/libunwind_ext.h of LLVM's): which section is for
//! an address. It has room for eight, so there is one of ours for all versions. Older systems are
//! told each function's record (`__register_frame`, which takes one record there, not a section as
//! libgcc's does), and keep them in a list that is searched from its start. That is enough for
//! their backtraces; but on arm64 an exception that comes to such a frame ends the process there,
//! as it does for other compilers at run time (LLVM's issue 49036). Both are looked up when they
//! are needed, as the newer is not in older systems' libraries.
//!
//! The answer names an image, by its Mach-O header. Apple's own libunwind, which is not open, reads
//! it: without one exceptions do not get through. So each version has a header, which says that it
//! is arm64 and has no load commands.
//!
//! Either way libunwind remembers records that it has found under a group (`DwarfFDECache`): the
//! image's header, or the record itself. What it remembers is taken back by `__deregister_frame` of
//! the group.

use std::ffi::{CStr, c_int, c_void};
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::{OnceLock, PoisonError, RwLock};

use crate::platform::os::library;

/// `mach_header_64` of mach-o/loader.h: MH_MAGIC_64, CPU_TYPE_ARM64, CPU_SUBTYPE_ARM64_ALL,
/// MH_DYLIB; no load commands, no flags.
const HEADER: [u32; 8] = [0xfeed_facf, 0x0100_000c, 0, 6, 0, 0, 0, 0];

/// `unw_dynamic_unwind_sections` of src/libunwind_ext.h.
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
    /// Its [`HEADER`].
    image: usize,
    section: usize,
    len: usize,
}

/// Read by whoever throws, so it is held for moments only. Code that is on a thrower's stack has
/// not been taken out.
static TOLD: RwLock<Vec<Told>> = RwLock::new(Vec::new());

/// For libunwind. Nonzero if the sections were filled in.
extern "C" fn find(address: usize, sections: *mut Sections) -> c_int {
    let told = TOLD.read().unwrap_or_else(PoisonError::into_inner);
    let Some(told) = told.iter().find(|told| told.code.contains(&address)) else { return 0 };
    // SAFETY: libunwind's own record.
    unsafe {
        sections.write(Sections {
            image: told.image,
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
        // SAFETY: libunwind_ext.h: int
        // __unw_add_find_dynamic_unwind_sections(unw_find_dynamic_unwind_sections). `find` stays
        // for the process's life.
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
    /// None if libunwind was told each record.
    image: Option<Box<[u32; 8]>>,
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
    /// A checked section of call frame information that ends with a record of length 0, mapped and
    /// unchanged until this is dropped.
    pub(crate) unsafe fn register(section: NonNull<c_void>, code: Range<usize>) -> Self {
        // SAFETY: the caller promises that the section was checked and stays.
        let records = || unsafe { Records::of(section) };
        let image = asks().then(|| Box::new(HEADER));
        if let Some(image) = &image {
            let mut end = records();
            end.by_ref().for_each(drop);
            let image = (&raw const **image).expose_provenance();
            let section = section.addr().get();
            let told = Told { code, image, section, len: end.at.addr() - section };
            TOLD.write().unwrap_or_else(PoisonError::into_inner).push(told);
        } else {
            let register = of_record(c"__register_frame");
            for (record, _) in records().filter(|(_, describes)| *describes) {
                // SAFETY: a function's record.
                unsafe { register(record) };
            }
        }
        Self { section, image }
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        let deregister = of_record(c"__deregister_frame");
        if let Some(image) = &self.image {
            let image = &raw const **image;
            TOLD.write().unwrap_or_else(PoisonError::into_inner).retain(|told| told.image != image.addr());
            // SAFETY: takes the group's number only. Nobody is inside the version, so nobody finds
            // a record anew.
            unsafe { deregister(image.cast()) };
        } else {
            // SAFETY: registered, and still mapped.
            let records = unsafe { Records::of(self.section) };
            for (record, _) in records.filter(|(_, describes)| *describes) {
                // SAFETY: registered above.
                unsafe { deregister(record) };
            }
        }
    }
}

/// The records of a section, and whether each describes a function (a zero in its second word says
/// that it is shared by such).
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
        // SAFETY: within a section that ends with a length of 0; a length of u32::MAX has the real
        // one behind it.
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
