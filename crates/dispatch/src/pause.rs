//! A pause: threads that come to a slot wait until what is behind it has been replaced.
//!
//! docs/dispatch.md has the argument ("Pauses"). What a thread does is [`Pause::target`]. In a
//! process it is done by assembly (`asm/*/unbound.s`), which has no registers to spare.

use crate::live::LiveTable;
use crate::primitive::{AtomicPtr, AtomicU32, AtomicUsize, Ordering, ordering};
use core::ptr;

/// The words that a pause is told by. One pause at a time, each with a number of its own.
///
/// A pause *decides* at one store ([`decide`](Self::decide)) whether those who waited go on in what
/// was there before it or in what is there after it. Memory that a forked child has is the
/// parent's at one moment: so in the child all go on in the one or the other.
#[repr(C)]
#[derive(Debug)]
pub struct Pause<const SLOTS: usize> {
    /// Null before the first pause: a word that is 1 while threads wait. In a forked child it is 0.
    wait: AtomicPtr<AtomicU32>,
    /// The number of the pause that is under way, else 0. While it is not 0, `wait` is 1, but for
    /// children.
    pub(crate) under_way: AtomicUsize,
    /// Where the table is of the generation that the last pause began with, if a frame may be in
    /// it, else 0.
    table: AtomicUsize,
    /// `before` or `after`.
    goes_on: AtomicPtr<LiveTable<SLOTS>>,
    /// The thread that pauses, by a number that no other thread has meanwhile.
    pauser: AtomicUsize,
    after: LiveTable<SLOTS>,
    before: LiveTable<SLOTS>,
}

/// What a pause begins with.
#[derive(Clone, Copy, Debug)]
pub struct Begin<'b> {
    /// The word that threads wait for. In a forked child it is 0.
    pub wait: &'static AtomicU32,
    /// Of the calling thread: see [`Pause::target`].
    pub pauser: usize,
    /// Not 0, and of no earlier pause.
    pub number: usize,
    /// Where the table is of the generation that is about to be published, in which the slots are
    /// unbound.
    pub table: usize,
    /// Slots that become unbound, and what is behind them now.
    pub before: &'b [(u32, usize)],
    /// Slots, and what will be behind them if the pause ends as it should.
    pub after: &'b [(u32, usize)],
}

impl<const SLOTS: usize> Pause<SLOTS> {
    /// None is under way.
    #[cfg(not(loom))]
    #[expect(clippy::new_without_default, reason = "megabytes are made in a static, not by value")]
    pub const fn new() -> Self {
        Self {
            wait: AtomicPtr::new(ptr::null_mut()),
            under_way: AtomicUsize::new(0),
            table: AtomicUsize::new(0),
            goes_on: AtomicPtr::new(ptr::null_mut()),
            pauser: AtomicUsize::new(0),
            after: LiveTable::new(),
            before: LiveTable::new(),
        }
    }

    /// As under the real atomics, but not const.
    #[cfg(loom)]
    #[expect(clippy::new_without_default, reason = "as above")]
    pub fn new() -> Self {
        Self {
            wait: AtomicPtr::new(ptr::null_mut()),
            under_way: AtomicUsize::new(0),
            table: AtomicUsize::new(0),
            goes_on: AtomicPtr::new(ptr::null_mut()),
            pauser: AtomicUsize::new(0),
            after: LiveTable::new(),
            before: LiveTable::new(),
        }
    }

    /// From now on threads that come to an unbound slot wait. The slots are unbound after this, and
    /// [`decide`](Self::decide) or [`end`](Self::end) come after that.
    pub fn begin(&'static self, begin: &Begin<'_>) {
        for &(slot, target) in begin.before {
            self.before.set(slot as usize, target);
        }
        for &(slot, target) in begin.after {
            self.after.set(slot as usize, target);
        }
        // All Relaxed: W2 publishes them, and so does what unbinds the slots (P1, L1).
        self.goes_on.store((&raw const self.before).cast_mut(), Ordering::Relaxed);
        self.table.store(begin.table, Ordering::Relaxed);
        self.pauser.store(begin.pauser, Ordering::Relaxed);
        self.wait.store(ptr::from_ref(begin.wait).cast_mut(), Ordering::Relaxed);
        // Relaxed: who sees a slot unbound sees this (P1, L1), and who sees the pause's number does
        // by W2.
        begin.wait.store(1, Ordering::Relaxed);
        // W2. Release: partner of W5.
        self.under_way.store(begin.number, ordering!(W2, Release));
    }

    /// Whoever waits goes on in what comes after the pause. It is complete, and published after
    /// this.
    pub fn decide(&'static self) {
        // W3. Release: partner of W7. And the moment of it for children: see `Pause`.
        self.goes_on.store((&raw const self.after).cast_mut(), ordering!(W3, Release));
    }

    /// Has all go on. No slot is unbound for the pause any more, but in its own generation.
    /// Whoever waits has to be woken.
    pub fn end(&self) {
        // Relaxed: it is seen by whoever sees W4.
        self.under_way.store(0, Ordering::Relaxed);
        let wait = self.wait.load(Ordering::Relaxed);
        // SAFETY: from a reference in `begin`.
        let Some(wait) = (unsafe { wait.as_ref() }) else { return };
        // W4. Release: partner of W6.
        wait.store(0, ordering!(W4, Release));
    }

    /// No frame is in the generation of the last pause any more, which is over: nobody looks for
    /// what was behind these slots.
    pub fn forget(&self, slots: impl IntoIterator<Item = u32>) {
        // Relaxed, all of it: nobody looks.
        self.table.store(0, Ordering::Relaxed);
        for slot in slots {
            self.before.set(slot as usize, 0);
            self.after.set(slot as usize, 0);
        }
    }

    /// The word that threads wait for, if they have to.
    pub fn waits(&self) -> Option<&'static AtomicU32> {
        let wait = self.wait.load(Ordering::Relaxed);
        // SAFETY: null, or from a reference in `begin`. Relaxed: the word is there for ever.
        let wait: &'static AtomicU32 = unsafe { wait.as_ref() }?;
        // W6. Acquire: partner of W4. Store first: all is there that was published by the end of
        // the pause. Load first: the thread waits.
        (wait.load(ordering!(W6, Acquire)) != 0).then_some(wait)
    }

    /// Whether this is the table of the generation that the last pause began with.
    pub fn is_table(&self, table: usize) -> bool {
        // Relaxed: who has the table was given it by what was published after this was written.
        self.table.load(Ordering::Relaxed) == table
    }

    /// Whether this thread pauses.
    pub fn is_pauser(&self, thread: usize) -> bool {
        // Relaxed: the thread's own store, or it is another's number.
        self.pauser.load(Ordering::Relaxed) == thread
    }

    /// What a thread goes on to that has come to the unbound entry of a slot; None if there is
    /// nothing.
    ///
    /// `table`: what its table word holds. `entry`: what that table has behind the slot by now; 0 if
    /// it is unbound still. `wait` returns some time after the word is no longer 1.
    pub fn target(
        &self,
        thread: usize,
        table: usize,
        slot: usize,
        entry: impl Fn() -> usize,
        wait: impl Fn(&AtomicU32),
    ) -> Option<usize> {
        let some = |target: usize| Some(target).filter(|target| *target != 0);
        loop {
            if let Some(word) = self.waits() {
                // It would wait for itself. It makes what comes after the pause, and is in it.
                if self.is_pauser(thread) {
                    return some(self.after.get(slot));
                }
                wait(word);
                continue;
            }
            if !self.is_table(table) {
                let target = entry();
                if target != 0 {
                    return Some(target);
                }
                // W5. Acquire: partner of W2.
                let number = self.under_way.load(ordering!(W5, Acquire));
                if number == 0 {
                    return None;
                }
                // Nobody waits, and a pause is under way: that is so in a child. Else another pause
                // has begun meanwhile; then one of the two words has changed.
                if self.waits().is_some() || self.under_way.load(Ordering::Relaxed) != number {
                    continue;
                }
            }
            return self.goes_on(slot);
        }
    }

    pub(crate) fn goes_on(&self, slot: usize) -> Option<usize> {
        // W7. Acquire: partner of W3.
        let table = self.goes_on.load(ordering!(W7, Acquire));
        // SAFETY: null, or one of ours.
        Some(unsafe { table.as_ref() }?.get(slot)).filter(|target| *target != 0)
    }
}

/// Where assembly finds the words.
#[cfg(not(loom))]
const _: () = {
    type Any = Pause<1>;
    assert!(core::mem::offset_of!(Any, wait) == 0);
    assert!(core::mem::offset_of!(Any, under_way) == 8);
    assert!(core::mem::offset_of!(Any, table) == 16);
    assert!(core::mem::offset_of!(Any, goes_on) == 24);
    assert!(core::mem::offset_of!(Any, pauser) == 32);
    assert!(core::mem::offset_of!(Any, after) == 40);
};
