//! Which vector registers a descriptor's slow path saves.

use std::sync::atomic::AtomicU8;
#[cfg(all(target_arch = "aarch64", target_os = "linux"))]
use std::sync::atomic::Ordering;

/// What asm/aarch64/thread_local.s reads: 0 for the 32 registers of 128 bits, 1 for scalable ones
/// with their predicates.
pub(crate) static SAVE: AtomicU8 = AtomicU8::new(0);

/// Asks the kernel. Before any module is linked.
///
/// Relaxed: whoever has a module's descriptor has it by a happens-before edge from its linking.
#[cfg(all(target_arch = "aarch64", target_os = "linux"))]
pub(crate) fn prepare() {
    // SAFETY: getauxval(3) has no preconditions.
    let capabilities = unsafe { libc::getauxval(libc::AT_HWCAP) };
    SAVE.store((capabilities & libc::HWCAP_SVE != 0).into(), Ordering::Relaxed);
}

/// Apple's processors have no scalable vectors outside their streaming mode.
#[cfg(all(target_arch = "aarch64", not(target_os = "linux")))]
pub(crate) fn prepare() {}
