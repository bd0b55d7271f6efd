//! Two words of static thread-local storage: the table pointer that trampolines read, and this
//! thread's record.
//!
//! They are defined in assembly because Rust's `thread_local!` promises neither an address that is
//! constant relative to the thread pointer nor an initial value that is right in a thread the
//! runtime has never seen. In `.tdata` they get both from the C library's thread set-up (ELF TLS,
//! local-exec or initial-exec model).

use std::cell::Cell;
use std::ptr::NonNull;

use midflight_dispatch::ThreadBlock;

/// The calling thread's block, as laid out in asm/*/thread.s.
#[inline(always)]
pub(crate) fn block() -> NonNull<ThreadBlock> {
    let at: *mut ThreadBlock;
    // SAFETY: reads the thread pointer and the GOT entry that holds the block's offset from it;
    // both are constant for a thread, so `pure` and `nomem` hold.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        std::arch::asm!(
            "mov {at}, qword ptr fs:[0]",
            "add {at}, qword ptr [rip + midflight_thread@GOTTPOFF]",
            at = out(reg) at,
            options(pure, nomem, nostack)
        );
        #[cfg(target_arch = "aarch64")]
        std::arch::asm!(
            "mrs {at}, tpidr_el0",
            "adrp {offset}, :gottprel:midflight_thread",
            "ldr {offset}, [{offset}, :gottprel_lo12:midflight_thread]",
            "add {at}, {at}, {offset}",
            at = out(reg) at,
            offset = out(reg) _,
            options(pure, nomem, nostack, preserves_flags)
        );
        NonNull::new_unchecked(at)
    }
}

thread_local! {
    /// No destructor, so it is there to the thread's very end.
    static NOTED: Cell<u64> = const { Cell::new(0) };
}

/// The number that `host` knows the calling thread by, 0 if it does not. It is there to the
/// thread's very end.
pub(crate) fn noted() -> u64 {
    NOTED.get()
}

/// See [`noted`].
pub(crate) fn set_noted(number: u64) {
    NOTED.set(number);
}

/// The table word's distance from the thread pointer, for the trampolines' immediate. The same in
/// every thread.
pub(crate) fn table_offset() -> i64 {
    let thread_pointer: i64;
    // SAFETY: reads the thread pointer; on x86-64 the ABI keeps a copy of it at %fs:0.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        std::arch::asm!("mov {}, qword ptr fs:[0]", out(reg) thread_pointer, options(pure, readonly, nostack));
        #[cfg(target_arch = "aarch64")]
        std::arch::asm!("mrs {}, tpidr_el0", out(reg) thread_pointer, options(pure, nomem, nostack));
    }
    block().as_ptr() as i64 + std::mem::offset_of!(ThreadBlock, table) as i64 - thread_pointer
}
