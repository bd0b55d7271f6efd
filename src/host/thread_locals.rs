//! Thread-local variables of versions: their ids, and a thread's first use.

use std::ffi::c_void;

use midflight_image::Host;

use super::blocks::Block;
use super::ledger::ledger;
use super::places::Id;
use super::thread;
use crate::os::thread_local;

/// Tells our ids from the C library's, which count from 1.
const OURS: u64 = 1 << 31;

/// What a version is linked with.
pub(super) fn host(id: Option<Id>) -> Host {
    Host {
        tls_module: id.map_or(0, |id| OURS | u64::from(id.0)),
        tls_dynamic: thread_local::midflight_tls_dynamic as *const () as u64,
        tls_static: thread_local::midflight_tls_static as *const () as u64,
        tls_undefined: thread_local::midflight_tls_undefined as *const () as u64,
    }
}

/// Where the calling thread has a variable, when asm/*/thread_local.s does not find it: it is its first of that version, or
/// of an object of the C library's. Keeps errno.
pub(crate) extern "C" fn address(module: u64, offset: u64) -> *mut c_void {
    let error = errno::get();
    let address = if module & OURS == 0 {
        // SAFETY: an id that the image was linked with, of a library that it keeps loaded or that the process has.
        unsafe { thread_local::address_in_process(module, offset) }
    } else {
        block(Id((module & !OURS) as u32)).wrapping_add(offset as usize).cast()
    };
    errno::set(error);
    address
}

/// The calling thread's block, made if need be.
fn block(id: Id) -> *mut u8 {
    let thread = thread::current();
    let (there, template) = {
        let mut ledger = ledger();
        (ledger.thread(thread).blocks.get(id), ledger.version(id).template)
    };
    if let Some(there) = there {
        return there.as_ptr();
    }
    let template = template.expect("a version that names its block has one");
    // SAFETY: the version's code is asking.
    let block = unsafe { Block::new(template) };
    let address = block.address().as_ptr();
    ledger().thread(thread).blocks.replace(id, Some(block));
    address
}

mod errno {
    #[cfg(target_os = "linux")]
    use libc::__errno_location as location;
    #[cfg(target_os = "macos")]
    use libc::__error as location;

    pub(super) fn get() -> i32 {
        // SAFETY: the calling thread's own.
        unsafe { *location() }
    }

    pub(super) fn set(to: i32) {
        // SAFETY: the calling thread's own.
        unsafe { *location() = to };
    }
}
