//! Thread-local variables of modules: asm/aarch64/thread_local_macos.s.

use std::ffi::{CStr, c_void};
use std::sync::atomic::AtomicUsize;

use midflight_image::ThreadLocal;

use super::thread;
use crate::platform::os::library::Library;

unsafe extern "C" {
    /// What a module's thread-local descriptors call: `Host::tlv_thunk`.
    pub(crate) fn midflight_tlv_thunk();
}

/// What only ELF modules call, which are not loaded here.
extern "C" fn only_elf() -> ! {
    eprintln!("midflight: a thread-local variable of an ELF module was used on macOS");
    std::process::abort()
}

/// ELF's.
pub(crate) unsafe extern "C" fn midflight_tls_static() {
    only_elf()
}
/// ELF's.
pub(crate) unsafe extern "C" fn midflight_tls_undefined() {
    only_elf()
}
/// ELF's.
pub(crate) unsafe extern "C" fn midflight_tls_dynamic() {
    only_elf()
}
/// ELF's.
pub(crate) unsafe extern "C" fn midflight_tls_get_addr() {
    only_elf()
}

/// Gives the calling thread another table of blocks.
///
/// # Safety
///
/// The table starts with the number of entries behind it, and is there until the thread has
/// another.
pub(crate) unsafe fn set_blocks(table: *const AtomicUsize) {
    thread::set_blocks(table);
}

/// Nobody asks: [`find`] gives no variable of another image.
///
/// # Safety
///
/// None needed.
pub(crate) unsafe fn address_in_process(module: u64, offset: u64) -> *mut c_void {
    unreachable!("no image of dyld's has the id {module}, which a variable at {offset} is said to be in")
}

/// None: what dlsym(3) gives for a thread-local variable is the calling thread's own, and dyld
/// tells nobody where the descriptor is. A module that imports one is refused.
pub(crate) fn find(_name: &CStr, _version: Option<&CStr>, _libraries: &[Library]) -> Option<ThreadLocal> {
    None
}
