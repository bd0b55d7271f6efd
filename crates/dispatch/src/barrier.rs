//! The asymmetric fence between a pin and a publication: R2 and P2 of docs/dispatch.md.

use core::cell::Cell;

use crate::primitive::{Ordering, fence};

/// The two halves of one store-load fence, and what a thread owes its instruction stream.
///
/// # Safety
///
/// For every pair of a thread that runs `store a; light(); load b` and one that runs `store b;
/// heavy(); load a`, at least one of the two loads must see the other's store (if `heavy` returned
/// true). A store that happens before `light` on another thread counts like the thread's own. Both
/// halves are also compiler barriers.
pub unsafe trait Barrier {
    /// The pinning thread's half. Runs at every pin: cheap.
    fn light(&self);
    /// The publisher's half. Runs once per collection: may be dear. False if it could not be done:
    /// the guarantee then does not hold for this run, and the publisher frees nothing.
    fn heavy(&self) -> bool;
    /// Runs after a pin has seen its generation and before any of that generation's code is called.
    /// Where the kernel cannot make other cores discard stale instructions, this is the
    /// thread's own context synchronisation: see [`CodeEpoch`](crate::CodeEpoch). `seen` is the
    /// thread's own word for it, 0 at first.
    fn entered(&self, _seen: &Cell<usize>) {}
}

/// Both halves as full fences: right everywhere, and some 15 ns per pin on x86-64.
#[derive(Clone, Copy, Debug, Default)]
pub struct SeqCstFences;

// SAFETY: two SeqCst fences between the accesses are what C11 (and loom) define this guarantee by.
unsafe impl Barrier for SeqCstFences {
    #[inline]
    fn light(&self) {
        fence(Ordering::SeqCst);
    }

    #[inline]
    fn heavy(&self) -> bool {
        fence(Ordering::SeqCst);
        true
    }
}
