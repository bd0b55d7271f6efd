//! A thread's part in a pass: it is asked by a signal, answers once, and only in the pass that
//! asked.
//!
//! Passes are numbered, one at a time, and use the same parts one after the other. The number comes
//! with the signal, which may come late: then the pass that it was for is over, and another may be
//! asking already.

use crate::primitive::{AtomicPtr, AtomicUsize, Ordering, ordering};

// How it is with a part. The number of the pass is above these two bits.
const ABANDONED: usize = 0;
const WAITING: usize = 1;
const ANSWERING: usize = 2;
const ANSWERED: usize = 3;

/// A part in passes whose state is a `T`. It is never freed, so a signal that comes late finds that
/// its pass is over.
#[derive(Debug)]
pub struct Part<T> {
    word: AtomicUsize,
    pass: AtomicPtr<T>,
}

impl<T> Part<T> {
    /// Nobody is asked.
    #[cfg(not(loom))]
    #[expect(clippy::new_without_default, reason = "it is const")]
    pub const fn new() -> Self {
        Self { word: AtomicUsize::new(ABANDONED), pass: AtomicPtr::new(core::ptr::null_mut()) }
    }

    /// As under the real atomics, but not const.
    #[cfg(loom)]
    #[expect(clippy::new_without_default, reason = "as the const one")]
    pub fn new() -> Self {
        Self { word: AtomicUsize::new(ABANDONED), pass: AtomicPtr::new(core::ptr::null_mut()) }
    }

    /// True if the part was in the state, and is in the next now.
    fn advance(&self, pass: usize, from: usize, to: usize) -> bool {
        // A1. Release in `answered`: partner of A2. Acquire and Release between who takes a part
        // and who gives it up or leaves it behind: see `claim`.
        let success = ordering!(A1, AcqRel);
        self.word.compare_exchange(pass << 2 | from, pass << 2 | to, success, Ordering::Relaxed).is_ok()
    }

    /// Opens it for a pass. The signal is sent after this, or not at all.
    pub fn ask(&self, number: usize, pass: *mut T) {
        // Both Relaxed: the signal is sent after them. The kernel's queue of signals is under a
        // lock, and that lock orders these stores, and the pass itself, before the handler.
        self.pass.store(pass, Ordering::Relaxed);
        self.word.store(number << 2 | WAITING, Ordering::Relaxed);
    }

    /// The thread takes its part in the pass that the signal was for; None if that is over. Then it
    /// answers, and calls [`answered`](Self::answered).
    pub fn claim(&self, number: usize) -> Option<*mut T> {
        // Before the part is taken, and not after: once it is taken this thread may be kept for so
        // long that who asked gives it up, and asks anew. Then there would be another pass, of
        // which this thread has no part.
        //
        // Relaxed. It is not an earlier pass's: see `ask`. It is not a later one's if the part is
        // taken: that was stored by who had seen the part given up, so A1 fails; or taken by this
        // thread, which had loaded this before (A1's Release).
        let pass = self.pass.load(Ordering::Relaxed);
        self.advance(number, WAITING, ANSWERING).then_some(pass)
    }

    /// The thread has answered. It uses the pass only to leave it.
    pub fn answered(&self, number: usize) {
        // It fails if the part was given up meanwhile.
        self.advance(number, ANSWERING, ANSWERED);
    }

    /// Takes a part back that nobody has taken: true if that is so, and then nobody will.
    pub fn give_up(&self, number: usize) -> bool {
        self.advance(number, WAITING, ABANDONED)
    }

    /// Waits no more for who has taken the part and has not answered. The pass stays as long as he
    /// is in it.
    pub fn leave_behind(&self, number: usize) {
        self.advance(number, ANSWERING, ABANDONED);
    }

    /// Whether nobody has taken the part.
    pub fn is_waiting(&self, number: usize) -> bool {
        self.word.load(Ordering::Relaxed) == number << 2 | WAITING
    }

    /// Whether there is an answer, which can be read then.
    pub fn has_answered(&self, number: usize) -> bool {
        // A2. Acquire: partner of A1 in `answered`.
        self.word.load(ordering!(A2, Acquire)) == number << 2 | ANSWERED
    }
}

#[cfg(loom)]
impl<T> Part<T> {
    /// [`claim`](Self::claim) as it was: the part is taken before the pass is known.
    pub fn claim_first(&self, number: usize) -> Option<*mut T> {
        self.advance(number, WAITING, ANSWERING).then(|| self.pass.load(Ordering::Relaxed))
    }
}
