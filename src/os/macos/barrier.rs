//! macOS has no membarrier: fences on both sides, and each thread discards its fetched instructions at its pins.

use std::io;
use std::sync::atomic::{Ordering, fence};

use crate::arch;

/// Nothing to register.
pub(crate) fn start(_force_fences: bool) {}

/// Each pin carries its own fence.
#[inline]
pub(crate) fn is_asymmetric() -> bool {
    false
}

/// The threads do it themselves, at each pin (`Barrier::entered`).
pub(crate) fn synchronise_cores() -> io::Result<()> {
    Ok(())
}

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
    fn entered(&self) {
        arch::cache::synchronise_this_core();
    }
}
