//! The live table: what a thread outside every pin calls through.

use crate::primitive::{AtomicUsize, ordering};

/// A table at a fixed address whose entries follow each publication.
///
/// Unlike a generation it is not a snapshot: a thread that calls two slots through it, with a
/// publication between, calls two versions. Trampolines used outside a pin read it; its address is
/// the initial value of every thread's table word, so a thread that the runtime has never seen
/// calls correctly.
#[derive(Debug)]
#[repr(transparent)]
pub struct LiveTable<const SLOTS: usize> {
    entries: [AtomicUsize; SLOTS],
}

impl<const SLOTS: usize> LiveTable<SLOTS> {
    /// All zero, so that it lives in .bss and only pages in use cost memory.
    #[cfg(not(loom))]
    #[expect(clippy::new_without_default, reason = "a megabyte is made in a static, not by value")]
    pub const fn new() -> Self {
        Self { entries: [const { AtomicUsize::new(0) }; SLOTS] }
    }

    /// As under the real atomics, but not const: loom's are registered with the running model.
    #[cfg(loom)]
    #[expect(clippy::new_without_default, reason = "as above")]
    pub fn new() -> Self {
        Self { entries: core::array::from_fn(|_| AtomicUsize::new(0)) }
    }

    /// Lets the slot follow a publication.
    ///
    /// L1. Release: partner of L2, and of the trampoline's load, which is a plain one. Trampoline
    /// first: it calls the old code, which is not yet retired. Store first: it branches to the
    /// new code. A branch orders nothing after it on AArch64, so what makes the new code's
    /// bytes and data visible to that thread is not this store but the core synchronisation that
    /// the publisher makes between writing them and publishing: a full barrier on every core.
    pub fn set(&self, slot: usize, target: usize) {
        self.entries[slot].store(target, ordering!(L1, Release));
    }

    /// The slot's target now.
    pub fn get(&self, slot: usize) -> usize {
        // L2. Acquire: partner of L1; what the target's code was linked from is visible.
        self.entries[slot].load(ordering!(L2, Acquire))
    }

    /// Where entry 0 is: what a thread's table word holds outside a pin.
    pub const fn as_ptr(&self) -> *const usize {
        (&raw const self.entries).cast()
    }
}
