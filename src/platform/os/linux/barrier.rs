//! The asymmetric fence (R2 and P2 of docs/dispatch.md) and core synchronisation (P0), by
//! membarrier(2) (kernel/sched/membarrier.c); by fences and a code epoch where there is none.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicU8, Ordering, compiler_fence, fence};

use midflight_dispatch::CodeEpoch;

use crate::platform::arch;

// Values of include/uapi/linux/membarrier.h.
const REGISTER_PRIVATE_EXPEDITED: libc::c_int = 1 << 4;
const PRIVATE_EXPEDITED: libc::c_int = 1 << 3;
const REGISTER_PRIVATE_EXPEDITED_SYNC_CORE: libc::c_int = 1 << 6;
const PRIVATE_EXPEDITED_SYNC_CORE: libc::c_int = 1 << 5;

/// Fences on both sides, and a context synchronisation at the first pin after a publication. Also
/// the state before `start`.
const FENCES: u8 = 0;
/// The writer pays.
const MEMBARRIER: u8 = 1;

/// Written once, before the first pin; Relaxed throughout: whoever holds a `Runtime` has it by a
/// happens-before edge.
static MODE: AtomicU8 = AtomicU8::new(FENCES);

fn membarrier(command: libc::c_int) -> io::Result<()> {
    // SAFETY: membarrier(2) takes no pointers.
    match unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Registers the process for both expedited commands. A kernel without them (before 4.16), or a
/// sandbox that forbids the call, leaves the fences: right, and dearer at each pin. `force_fences`
/// leaves them on purpose.
pub(crate) fn start(force_fences: bool) {
    let registered = !force_fences
        && membarrier(REGISTER_PRIVATE_EXPEDITED).is_ok()
        && membarrier(REGISTER_PRIVATE_EXPEDITED_SYNC_CORE).is_ok();
    MODE.store(if registered { MEMBARRIER } else { FENCES }, Ordering::Relaxed);
}

/// Whether publications carry the cost of the pins' fences.
#[inline]
pub(crate) fn is_asymmetric() -> bool {
    MODE.load(Ordering::Relaxed) == MEMBARRIER
}

/// Makes every core that runs a thread of this process discard instructions it fetched before this
/// call.
///
/// Without membarrier the threads do it themselves: at their next pin (`Barrier::entered`), and in
/// every trampoline.
pub(crate) fn synchronise_cores() -> io::Result<()> {
    if is_asymmetric() {
        return membarrier(PRIVATE_EXPEDITED_SYNC_CORE);
    }
    EPOCH.advance();
    Ok(())
}

/// Of code that threads discard their fetched instructions for.
static EPOCH: CodeEpoch = CodeEpoch::new();

/// The process's barrier between pins and publications.
pub(crate) struct Barrier;

// SAFETY: with membarrier, the heavy half makes every running thread of the process execute a full
// barrier between the caller's accesses before and after it, and a thread that is not running
// passes through the scheduler's; so a compiler fence is all that the light half owes
// (membarrier(2), "PRIVATE_EXPEDITED"). Without it both halves are SeqCst fences.
unsafe impl midflight_dispatch::Barrier for Barrier {
    #[inline]
    fn light(&self) {
        if is_asymmetric() {
            compiler_fence(Ordering::SeqCst);
        } else {
            fence(Ordering::SeqCst);
        }
    }

    fn heavy(&self) -> bool {
        fence(Ordering::SeqCst);
        // It may fail yet: a seccomp filter set after the start, no memory for the kernel's list of
        // cores.
        !is_asymmetric() || membarrier(PRIVATE_EXPEDITED).is_ok()
    }

    #[inline]
    fn entered(&self, seen: &Cell<usize>) {
        // x86-64 has nothing to run, and so nothing to ask.
        if cfg!(target_arch = "aarch64") && !is_asymmetric() {
            EPOCH.catch_up(seen, arch::cache::synchronise_this_core);
        }
    }
}
