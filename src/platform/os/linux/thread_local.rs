//! Thread-local variables: the resolvers of asm/*/thread_local.s, and the variables that the
//! process has itself.

use std::ffi::{CStr, c_int, c_void};
use std::sync::atomic::AtomicUsize;

use midflight_image::ThreadLocal;

use crate::platform::os::library::{self, Library};
use crate::platform::os::walk::Walking;

unsafe extern "C" {
    /// Descriptor resolver: the argument is the distance from the thread pointer.
    pub(crate) fn midflight_tls_static();
    /// Descriptor resolver: the argument is an address.
    pub(crate) fn midflight_tls_undefined();
    /// Descriptor resolver: the argument is `id << 32 | offset`.
    pub(crate) fn midflight_tls_dynamic();
    /// What a Mach-O thread-local descriptor calls.
    #[cfg(target_arch = "aarch64")]
    pub(crate) fn midflight_tlv_thunk();
    /// `__tls_get_addr`.
    pub(crate) fn midflight_tls_get_addr();
    fn midflight_set_blocks(table: *const AtomicUsize);
    safe fn midflight_thread_pointer() -> usize;
}

/// Gives the calling thread another table of blocks.
///
/// # Safety
///
/// The table starts with the number of entries behind it, and is there until the thread has
/// another.
pub(crate) unsafe fn set_blocks(table: *const AtomicUsize) {
    // SAFETY: the caller promises that the table begins with its length and outlives its use by
    // this thread.
    unsafe { midflight_set_blocks(table) };
}

/// A variable of an object that the C library loaded. Allocates the calling thread's block of that
/// object, as any first use does.
///
/// # Safety
///
/// The object has an id `module`, and stays loaded.
pub(crate) unsafe fn address_in_process(module: u64, offset: u64) -> *mut c_void {
    /// `tls_index` of ELF Handling For Thread-Local Storage.
    #[repr(C)]
    struct Index {
        module: u64,
        offset: u64,
    }
    unsafe extern "C" {
        fn __tls_get_addr(index: &Index) -> *mut c_void;
    }
    // SAFETY: the caller promises that the object with this id stays loaded.
    unsafe { __tls_get_addr(&Index { module, offset }) }
}

/// A thread-local variable of the process, or of the libraries that a module needs.
pub(crate) fn find(name: &CStr, version: Option<&CStr>, libraries: &[Library]) -> Option<ThreadLocal> {
    let anywhere = library::process_symbol(name, version);
    let from = |library: &Library| library.symbol(name, version);
    // dlsym(3) gives the calling thread's own, and by that its block is there.
    let address = anywhere.or_else(|| libraries.iter().find_map(from))? as usize;
    let block = blocks().into_iter().find(|block| (block.start..block.end).contains(&address))?;
    let from_thread_pointer = (address as i64).wrapping_sub(midflight_thread_pointer() as i64);
    Some(ThreadLocal {
        module: block.module as u64,
        offset: (address - block.start) as u64,
        from_thread_pointer: is_static(&block).then_some(from_thread_pointer),
    })
}

/// The calling thread's block of an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    /// The C library's id of the object.
    module: usize,
    start: usize,
    end: usize,
    /// From the thread pointer to the start.
    distance: usize,
}

/// The blocks that the calling thread has of the process's objects: dl_iterate_phdr(3).
pub(super) fn blocks() -> Vec<Block> {
    unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, size: usize, blocks: *mut c_void) -> c_int {
        // SAFETY: dl_iterate_phdr passes its own record, and what `blocks` below gave it.
        let (info, blocks) = unsafe { (&*info, &mut *blocks.cast::<Vec<Block>>()) };
        if size < size_of::<libc::dl_phdr_info>() || info.dlpi_tls_data.is_null() {
            return 0;
        }
        // SAFETY: the object's program headers, of which there are so many.
        let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
        let length = headers.iter().find(|header| header.p_type == libc::PT_TLS).map_or(0, |h| h.p_memsz);
        let start = info.dlpi_tls_data as usize;
        blocks.push(Block {
            module: info.dlpi_tls_modid,
            start,
            end: start.saturating_add(length as usize),
            distance: start.wrapping_sub(midflight_thread_pointer()),
        });
        0
    }
    let mut blocks: Vec<Block> = Vec::new();
    let _walking = Walking::new();
    // SAFETY: `visit` has the type, and does not unwind (short of having no memory, which aborts).
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut blocks).cast()) };
    blocks
}

/// Whether every thread has the block at the same distance from its thread pointer.
///
/// glibc gives a thread the static blocks when it makes the thread, all others on first use
/// (elf/dl-tls.c), and lists neither before it is there. So a thread that has used nothing of the
/// object, and lists its block at the same distance as this one, has it in its static storage. If
/// no such thread can be had, the answer is no, which is always right.
fn is_static(block: &Block) -> bool {
    let Block { module, distance, .. } = *block;
    let look = move || blocks().iter().any(|other| other.module == module && other.distance == distance);
    std::thread::Builder::new().spawn(look).is_ok_and(|thread| thread.join().unwrap_or(false))
}
