//! The protocol broken on purpose, one step at a time, and interrupted at each, for the loom models
//! that must notice. Not in a build without loom.

extern crate std;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::Cell;

use crate::primitive::Ordering;
use crate::registry::JOINED;
use crate::{Barrier, Dispatcher, Generation, Pause, Pin, Publisher, Share, ThreadHandle};

/// The steps whose orderings docs/dispatch.md argues, by their names there.
#[expect(missing_docs, reason = "docs/dispatch.md has them")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    R1,
    R4,
    J1,
    X1,
    S2,
    P1,
    P3,
    P4,
    T1,
    T2,
    T3,
    T4,
    L1,
    L2,
    E1,
    E2,
    A1,
    A2,
    W2,
    W3,
    W4,
    W5,
    W6,
    W7,
}

// Loom runs all threads of a model on the thread of its test, and tests run side by side.
std::thread_local! {
    static WEAKENED: Cell<Option<(Step, Ordering)>> = const { Cell::new(None) };
    static HANDLER: Cell<Option<fn()>> = const { Cell::new(None) };
}

/// Has the models that run on this thread from now on do a step with another ordering.
pub fn weaken(step: Step, ordering: Ordering) {
    WEAKENED.set(Some((step, ordering)));
}

/// Has the models that run on this thread from now on run a signal handler on the thread of the
/// model that is at it: before each step, and before a thread's trampolines are given another
/// table.
pub fn interrupt_with(handler: fn()) {
    HANDLER.set(Some(handler));
}

/// Where a signal handler runs.
pub(crate) fn interrupt() {
    // Not in a handler: it takes steps itself.
    if let Some(handler) = HANDLER.take() {
        handler();
        HANDLER.set(Some(handler));
    }
}

pub(crate) fn ordering(step: Step, ordering: Ordering) -> Ordering {
    interrupt();
    match WEAKENED.get() {
        Some((weakened, weaker)) if weakened == step => weaker,
        _ => ordering,
    }
}

pub(crate) fn fence(step: Step, ordering: Ordering) {
    match self::ordering(step, ordering) {
        Ordering::Relaxed => (),
        ordering => crate::primitive::fence(ordering),
    }
}

impl<P, B: Barrier> Dispatcher<P, B> {
    /// [`Self::collect`] with P4 before P3.
    ///
    /// # Safety
    ///
    /// None possible: it frees too early.
    pub unsafe fn collect_counts_first(&self, publisher: &mut Publisher<P>) -> Vec<Box<Generation<P>>> {
        self.barrier.heavy();
        // SAFETY: retired and not yet freed.
        let count =
            |g: &core::ptr::NonNull<Generation<P>>| unsafe { g.as_ref() }.shares.load(Ordering::Acquire);
        let counts: Vec<_> = publisher.retired.iter().map(count).collect();
        let seen: Vec<_> = self.threads.iter().map(|r| r.hazard.load(Ordering::Acquire)).collect();
        let mut counts = counts.into_iter();
        let free = |g: &mut core::ptr::NonNull<Generation<P>>| {
            counts.next().is_some_and(|count| count == 0) && !seen.contains(&g.as_ptr())
        };
        // SAFETY: from Box::into_raw in `publish`; whether somebody holds it is what the model
        // looks at.
        publisher.retired.extract_if(.., free).map(|g| unsafe { Box::from_raw(g.as_ptr()) }).collect()
    }

    /// [`Self::join`] without a share of the joiner's own.
    ///
    /// # Safety
    ///
    /// None possible: nothing holds the generation once the share is dropped.
    pub unsafe fn join_uncounted(&self, thread: &ThreadHandle<P>, share: &Share<'_, P>) -> Pin<'_, P> {
        // SAFETY: as the caller of `join` promises; the thread is in no generation.
        unsafe {
            let pin = self.join(thread, share).expect("outside every generation");
            let record = thread.record().as_ref();
            record.extra.set(record.extra.get() & !JOINED);
            pin.shares.fetch_sub(1, Ordering::Release);
            pin
        }
    }
}

impl<P> ThreadHandle<P> {
    /// [`Self::release`] that does not wait for the end of the pin.
    ///
    /// # Safety
    ///
    /// None possible: the next thread's pin takes the place of this one's.
    pub unsafe fn release_under_pin(&self) {
        // SAFETY: the dispatcher is alive, so its records are.
        unsafe { self.record().as_ref() }.give_up();
    }
}

impl<const SLOTS: usize> Pause<SLOTS> {
    /// [`Self::target`] in a child, where the word is 0, of a slot that is unbound.
    pub fn target_in_child(&'static self, table: usize, slot: usize) -> Option<usize> {
        if !self.is_table(table) && self.under_way.load(ordering(Step::W5, Ordering::Acquire)) == 0 {
            return None;
        }
        self.goes_on(slot)
    }

    /// [`Self::target`] that takes it for a child's if a pause is under way and nobody waits, without
    /// a second look.
    pub fn target_without_looking_again(
        &self,
        thread: usize,
        table: usize,
        slot: usize,
        entry: impl Fn() -> usize,
        wait: impl Fn(&crate::primitive::AtomicU32),
    ) -> Option<usize> {
        while let Some(word) = self.waits() {
            assert!(!self.is_pauser(thread));
            wait(word);
        }
        assert!(!self.is_table(table) && entry() == 0);
        match self.under_way.load(Ordering::Acquire) {
            0 => None,
            _ => self.goes_on(slot),
        }
    }
}
