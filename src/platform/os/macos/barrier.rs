//! macOS has no membarrier: fences on both sides, and each thread discards its core's fetched
//! instructions at its first pin after a publication, and in every trampoline.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{Ordering, fence};

use midflight_dispatch::CodeEpoch;

use crate::platform::arch;

/// Nothing to register.
pub(crate) fn start(_force_fences: bool) {}

/// Each pin carries its own fence.
#[inline]
pub(crate) fn is_asymmetric() -> bool {
    false
}

/// The threads do it themselves: at their next pin (`Barrier::entered`), and in every trampoline.
pub(crate) fn synchronise_cores() -> io::Result<()> {
    EPOCH.advance();
    Ok(())
}

/// Of code that threads discard their fetched instructions for.
static EPOCH: CodeEpoch = CodeEpoch::new();

/// The process's barrier between pins and publications.
pub(crate) struct Barrier;

// SAFETY: SeqCst fences on both sides.
unsafe impl midflight_dispatch::Barrier for Barrier {
    #[inline]
    fn light(&self) {
        fence(Ordering::SeqCst);
    }

    fn heavy(&self) -> bool {
        fence(Ordering::SeqCst);
        true
    }

    #[inline]
    fn entered(&self, seen: &Cell<usize>) {
        EPOCH.catch_up(seen, arch::cache::synchronise_this_core);
    }
}
