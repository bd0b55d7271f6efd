//! Making written instructions visible: x86-64 keeps instruction fetch coherent with data.
//!
//! What remains is the *executing* core's obligation to serialise before it runs bytes that another
//! core wrote (Intel SDM volume 3, "Handling Self- and Cross-Modifying Code"; AMD APM volume 2,
//! 7.6.1). membarrier's SYNC_CORE does that for all cores; `synchronise_this_core` says what holds
//! without it.

/// Nothing to do for the caches. The compiler must not move the stores behind this, hence the
/// fence.
///
/// # Safety
///
/// None needed here; the twin's contract is that the bytes are mapped at these addresses.
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe fn publish_code(_start: *const u8, _len: usize) {
    std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
}

/// Nothing to do: no core can have fetched from a code address before its bytes were complete.
/// Pages become executable after they are written, and where an address is used again, the
/// unmapping in between interrupted every core that had the process's address space loaded (the TLB
/// shoot-down), and an interrupt's return serialises; a core that takes the process up later loads
/// CR3, which serialises too. CPUID here would cost a virtual machine's exit, 5.7 us, per frame.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn synchronise_this_core() {}
