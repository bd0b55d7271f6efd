//! Thread-local variables of versions: their ids, and a thread's first use.

use std::ffi::c_void;

use midflight_image::Host;

use super::blocks::Block;
use super::ledger::ledger;
use super::places::Id;
use super::thread;
use crate::platform::assemble::assemble;
use crate::platform::os::thread_local;

#[cfg(target_os = "linux")]
assemble!(
    "thread_local",
    empty = super::blocks::EMPTY,
    save = crate::platform::arch::registers::SAVE,
    address = address
);
#[cfg(target_os = "macos")]
assemble!("thread_local", offset = crate::platform::os::thread::OFFSET, address = address);

/// Tells our ids from the C library's, which count from 1.
const OURS: u64 = 1 << 31;

/// What a version is linked with.
pub(super) fn host(id: Option<Id>) -> Host {
    Host {
        tls_module: id.map_or(0, |id| OURS | u64::from(id.0)),
        tls_dynamic: thread_local::midflight_tls_dynamic as *const () as u64,
        tls_static: thread_local::midflight_tls_static as *const () as u64,
        tls_undefined: thread_local::midflight_tls_undefined as *const () as u64,
        #[cfg(target_arch = "aarch64")]
        tlv_thunk: thread_local::midflight_tlv_thunk as *const () as u64,
        #[cfg(not(target_arch = "aarch64"))]
        tlv_thunk: 0, // Mach-O modules are AArch64's.
    }
}

/// Where the calling thread has a variable, when asm/*/thread_local.s does not find it: it is its
/// first of that version, or of an object of the C library's. Keeps errno.
pub(crate) extern "C" fn address(module: u64, offset: u64) -> *mut c_void {
    let error = errno::get();
    let address = if module == 0 {
        // A weak variable that nobody defines: the image crate leaves the address itself.
        std::ptr::without_provenance_mut(offset as usize)
    } else if module & OURS == 0 {
        // SAFETY: an id that the image was linked with, of a library that it keeps loaded or that
        // the process has.
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

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use std::arch::asm;

    use midflight_image::ThreadLocals;

    use crate::host::Tenant;
    use crate::platform::arch::registers;
    use crate::platform::os::thread_local;

    /// The processor that runs this has one of them as its own; tests/thread_locals.rs has all
    /// registers of that.
    #[test]
    fn each_way_of_saving_registers_keeps_them() {
        let of = ThreadLocals { offset: 0, initialised: 0, size: 64, align: 64, skew: 0 };
        registers::with_each_way(|| {
            let tenant = Tenant::new(Some(of)).unwrap();
            // No code runs there.
            tenant.settle(1 << 47, 4096);
            let descriptor = [0, tenant.host().tls_module << 32 | 8];
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let values: [u64; 4] = std::array::from_fn(|n| 0x1111_1111_1111_1111 * (n as u64 + 1));
                    let (mut first, mut last, mut count, mut other) =
                        (values[0], values[1], values[2], values[3]);
                    let mut distance = &raw const descriptor as u64;
                    // SAFETY: a descriptor's call, which touches nothing but its result.
                    unsafe {
                        asm!(
                            "movq xmm0, rcx",
                            "movq xmm15, rdx",
                            "call {resolver}",
                            "movq rsi, xmm0",
                            "movq rdi, xmm15",
                            resolver = sym thread_local::midflight_tls_dynamic,
                            inout("rax") distance,
                            inout("rcx") count,
                            inout("rdx") other,
                            out("rsi") first,
                            out("rdi") last,
                            out("xmm0") _,
                            out("xmm15") _,
                        );
                    }
                    assert_eq!([count, other, first, last], [values[2], values[3], values[2], values[3]]);
                    let address = super::address(tenant.host().tls_module, 8) as usize;
                    assert_eq!(address % 64, 8);
                    // The thread pointer is the first word that it points at.
                    let thread_pointer: usize;
                    // SAFETY: reads the thread pointer.
                    unsafe { asm!("mov {}, fs:[0]", out(reg) thread_pointer) };
                    assert_eq!(thread_pointer.wrapping_add(distance as usize), address);
                });
            });
        });
    }
}
