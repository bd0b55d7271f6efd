//! Core synchronisation where the kernel has none: P0 of docs/dispatch.md, done by the readers.

use core::cell::Cell;

use crate::primitive::{AtomicUsize, ordering};

/// Counts how often code has become executable. A thread that has seen the count and discarded what
/// its core had fetched since need not do so again until the count moves.
#[derive(Debug)]
pub struct CodeEpoch(AtomicUsize);

impl CodeEpoch {
    /// No code yet.
    #[cfg(not(loom))]
    #[expect(clippy::new_without_default, reason = "it is const")]
    pub const fn new() -> Self {
        Self(AtomicUsize::new(1))
    }

    /// As under the real atomics, but not const.
    #[cfg(loom)]
    #[expect(clippy::new_without_default, reason = "as the const one")]
    pub fn new() -> Self {
        Self(AtomicUsize::new(1))
    }

    /// The publisher's half: there is code whose caches have been maintained, and of which nobody
    /// has been told.
    pub fn advance(&self) {
        // E1. Release: partner of E2. Advance first: whoever reads it has the maintenance behind
        // it. E2 first: then its thread has not seen the generation with that code either, since P1
        // comes after this and R4 before E2.
        self.0.fetch_add(1, ordering!(E1, Release));
    }

    /// The thread's half, once it has its generation: `synchronise` discards what its core has
    /// fetched. `seen` is the thread's own; 0 is a thread that never did.
    #[inline]
    pub fn catch_up(&self, seen: &Cell<usize>, synchronise: impl FnOnce()) {
        // E2. Acquire: partner of E1.
        let now = self.0.load(ordering!(E2, Acquire));
        if seen.get() != now {
            synchronise();
            seen.set(now);
        }
    }
}
