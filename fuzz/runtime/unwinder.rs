//! The process's unwinder, libgcc's, as whoever throws or takes a backtrace uses it.

use std::ffi::{c_int, c_void};

/// `struct dwarf_eh_bases` of unwind-dw2-fde.h.
#[repr(C)]
#[derive(Default)]
struct Bases {
    text: usize,
    data: usize,
    function: usize,
}

unsafe extern "C" {
    fn _Unwind_Find_FDE(pc: *const c_void, bases: *mut Bases) -> *const c_void;
}
unsafe extern "C-unwind" {
    fn _Unwind_Backtrace(step: extern "C" fn(*mut c_void, *mut c_void) -> c_int, data: *mut c_void) -> c_int;
    fn _Unwind_GetIP(context: *mut c_void) -> usize;
}

/// Where the record of the function is that an address is in, and where that function begins.
pub fn record(address: usize) -> Option<(usize, usize)> {
    let mut bases = Bases::default();
    // SAFETY: a look-up; the bases are written to.
    let found = unsafe { _Unwind_Find_FDE(address as *const c_void, &mut bases) };
    (!found.is_null()).then_some((found as usize, bases.function))
}

/// The return addresses on the stack, from this function's caller outwards.
///
/// # Safety
///
/// What describes the functions on it is right.
#[inline(never)]
pub unsafe fn backtrace() -> Vec<usize> {
    extern "C" fn step(context: *mut c_void, data: *mut c_void) -> c_int {
        // SAFETY: the vector below, and a context of the unwinder's.
        unsafe { (*data.cast::<Vec<usize>>()).push(_Unwind_GetIP(context)) };
        0
    }
    let mut found: Vec<usize> = Vec::new();
    // SAFETY: the caller's promise.
    unsafe { _Unwind_Backtrace(step, (&raw mut found).cast()) };
    found
}

/// Whether the record says what the assembler writes of
/// `push %rax; call *place(%rip); pop %rcx; ret`, and nothing else.
///
/// # Safety
///
/// A record of the unwinder's.
pub unsafe fn is_of_a_call(record: usize) -> bool {
    // Of the common record: "zR", the return address in column 16, relative addresses of four
    // bytes; the frame is at 8(%rsp) and the return address below it.
    const COMMON: &[u8] = b"\x01zR\0\x01\x78\x10\x01\x1b\x0c\x07\x08\x90\x01\0\0";
    // No augmentation. One byte further the frame is at 16(%rsp), seven further at 8(%rsp) again.
    const FUNCTION: &[u8] = b"\0\x41\x0e\x10\x47\x0e\x08\0";
    let bytes = |from: usize, length: usize| {
        // SAFETY: within a record, as far as its length says.
        unsafe { std::slice::from_raw_parts(from as *const u8, length) }
    };
    let word = |at: usize| u32::from_le_bytes(*bytes(at, 4).first_chunk().expect("four bytes"));
    let is = |record: usize, skipped: usize, expected: &[u8]| {
        let length = word(record) as usize;
        length == skipped + expected.len() && bytes(record + 4 + skipped, expected.len()) == expected
    };
    let common = record + 4 - word(record + 4) as usize;
    is(record, 12, FUNCTION) && is(common, 4, COMMON)
}
