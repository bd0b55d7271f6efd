//! gdb's JIT interface: a list of symbol files in memory, and a function that gdb stops at when the
//! list changes.
//!
//! The protocol, its names and layout are gdb's ("JIT Compilation Interface" in its manual); lldb
//! follows it too.

use std::ptr::{self, NonNull};
use std::sync::{Mutex, PoisonError};

use crate::platform::assemble::assemble;
use crate::platform::buffers;

/// `struct jit_code_entry`.
#[repr(C)]
struct Entry {
    next: *mut Entry,
    previous: *mut Entry,
    file: *const u8,
    size: u64,
}

/// `struct jit_descriptor`.
#[repr(C)]
struct Descriptor {
    version: u32,
    action: u32,
    relevant: *mut Entry,
    first: *mut Entry,
}

const NOTHING: u32 = 0;
const REGISTER: u32 = 1;
const UNREGISTER: u32 = 2;

// In assembly, because they must be weak: a program may have another library with them (LLVM's, for
// one), and gdb reads one list.
assemble!("gdb");

unsafe extern "C" {
    static mut __jit_debug_descriptor: Descriptor;
    fn __jit_debug_register_code();
}

/// Whether a debugger waits for symbol files: then it has a breakpoint at the beginning of the
/// function, which its manual asks it to find by name.
pub(crate) fn is_attached() -> bool {
    let function = __jit_debug_register_code as *const ();
    // SAFETY: the function's first instruction, in memory that is readable and that only a
    // debugger, which stops us, writes to.
    unsafe {
        if cfg!(target_arch = "x86_64") {
            function.cast::<u8>().read_volatile() == 0xcc // int3
        } else {
            function.cast::<u32>().read_volatile() & 0xffe0_001f == 0xd420_0000 // brk
        }
    }
}

/// Who changes the list.
static LIST: Mutex<()> = Mutex::new(());

/// A symbol file that gdb knows of, until this is dropped.
pub(crate) struct Registered {
    /// Leaked from a box: gdb and the neighbours in the list have its address.
    entry: NonNull<Entry>,
    file: Vec<u8>,
}

// SAFETY: the pointers of the list are followed under the lock only, or by a debugger that has
// stopped all threads.
unsafe impl Send for Registered {}
// SAFETY: there is nothing to do with a shared one.
unsafe impl Sync for Registered {}

impl Registered {
    pub(crate) fn new(file: Vec<u8>) -> Self {
        let _list = LIST.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, previous) = (ptr::null_mut(), ptr::null_mut());
        let entry = Box::new(Entry { next, previous, file: file.as_ptr(), size: file.len() as u64 });
        let entry = NonNull::from(Box::leak(entry));
        // SAFETY: the descriptor is changed under the lock, and its entries stay where they are
        // until they are taken out.
        unsafe {
            let (list, entry) = (&raw mut __jit_debug_descriptor, entry.as_ptr());
            (*entry).next = (*list).first;
            if let Some(next) = (*entry).next.as_mut() {
                next.previous = entry;
            }
            (*list).first = entry;
            tell(REGISTER, entry);
        }
        Self { entry, file }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let _list = LIST.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: as in `new`; the entry is in the list, and its box is put together again once.
        unsafe {
            let (list, entry) = (&raw mut __jit_debug_descriptor, self.entry.as_ptr());
            match (*entry).previous.as_mut() {
                Some(previous) => previous.next = (*entry).next,
                None => (*list).first = (*entry).next,
            }
            if let Some(next) = (*entry).next.as_mut() {
                next.previous = (*entry).previous;
            }
            tell(UNREGISTER, entry);
            drop(Box::from_raw(entry));
        }
        buffers::give_back(std::mem::take(&mut self.file));
    }
}

/// Stops at the function where gdb has a breakpoint, with the descriptor saying what has changed.
///
/// # Safety
///
/// The caller holds the lock; the list is whole; the entry is there until this returns.
unsafe fn tell(action: u32, entry: *mut Entry) {
    // SAFETY: the caller holds the lock, the list is whole and the entry is there. Volatile,
    // because the reader is a debugger; the function's assembly is opaque, so that all is written
    // before the call.
    unsafe {
        let list = &raw mut __jit_debug_descriptor;
        (&raw mut (*list).relevant).write_volatile(entry);
        (&raw mut (*list).action).write_volatile(action);
        __jit_debug_register_code();
        (&raw mut (*list).action).write_volatile(NOTHING);
        (&raw mut (*list).relevant).write_volatile(ptr::null_mut());
    }
}
