//! Values that are read without a lock: in signal handlers, and in a forked child, which has not
//! got the thread that may have been changing them.
//!
//! A value is never changed but replaced, and goes when no reader is counted.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// A value that is replaced by one thread at a time, and read by all.
pub(crate) struct Lockless<T: 'static> {
    /// As it is now; null if there never was one.
    current: AtomicPtr<T>,
    /// Who is reading, counted in the phase that it began in.
    readers: [AtomicUsize; 2],
    phase: AtomicUsize,
    replaced: Mutex<Replaced<T>>,
}

/// The values that somebody may still be reading.
///
/// One that was replaced is pending until nobody is counted in the other phase, which becomes the
/// present one then: whoever reads it now is counted in the phase that was. When nobody is counted
/// there any more it goes. Who begins later has loaded `current` after it was replaced. All of it
/// is SeqCst: a reader counts himself and then loads the value, the writer replaces the value and
/// then reads the count, and one of the two sees the other.
struct Replaced<T> {
    pending: Vec<Box<T>>,
    draining: Vec<Box<T>>,
}

impl<T: Clone + Default + Send + Sync> Lockless<T> {
    pub(crate) const fn new() -> Self {
        Self {
            current: AtomicPtr::new(ptr::null_mut()),
            readers: [const { AtomicUsize::new(0) }; 2],
            phase: AtomicUsize::new(0),
            replaced: Mutex::new(Replaced { pending: Vec::new(), draining: Vec::new() }),
        }
    }

    /// Reads the value, if there is one. Lock-free and async-signal-safe, if `read` is.
    pub(crate) fn with<R>(&self, read: impl FnOnce(Option<&T>) -> R) -> R {
        struct Counted<'r>(&'r AtomicUsize);
        impl Drop for Counted<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        let readers = &self.readers[self.phase.load(Ordering::SeqCst)];
        readers.fetch_add(1, Ordering::SeqCst);
        let _counted = Counted(readers);
        let current = self.current.load(Ordering::SeqCst);
        // SAFETY: null, or from Box::into_raw and not freed as long as this thread is counted.
        read(unsafe { current.as_ref() })
    }

    /// Whether somebody may be reading a value that was replaced before this was called.
    ///
    /// Who reads one was counted before he loaded it, and so before it was replaced: SeqCst, as in
    /// [`Replaced`]. That he is not any more happens after all that he read.
    pub(crate) fn is_read(&self) -> bool {
        self.readers.iter().any(|readers| readers.load(Ordering::SeqCst) != 0)
    }

    /// Makes another value of it. One at a time.
    pub(crate) fn change(&self, change: impl FnOnce(&mut T)) {
        let mut replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        let mut value = self.with(|value| value.cloned()).unwrap_or_default();
        change(&mut value);
        let before = self.current.swap(Box::into_raw(Box::new(value)), Ordering::SeqCst);
        if !before.is_null() {
            // SAFETY: from Box::into_raw, and taken out once.
            replaced.pending.push(unsafe { Box::from_raw(before) });
        }
        // Twice: where nobody reads, what was replaced goes at once.
        for _ in 0..2 {
            let phase = self.phase.load(Ordering::SeqCst);
            if self.readers[1 - phase].load(Ordering::SeqCst) != 0 {
                break;
            }
            let Replaced { pending, draining } = &mut *replaced;
            draining.clear();
            std::mem::swap(pending, draining);
            self.phase.store(1 - phase, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::*;

    /// Readers all the time, and values that are replaced: none is freed that is read, and all are
    /// that are not.
    #[test]
    fn values_go_when_nobody_reads_them() {
        static NUMBERS: Lockless<Vec<Arc<u64>>> = Lockless::new();
        let over = AtomicBool::new(false);
        let kept = Arc::new(7);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        NUMBERS.with(|numbers| assert!(numbers.into_iter().flatten().all(|n| **n == 7)));
                    }
                });
            }
            for _ in 0..2000 {
                NUMBERS.change(|numbers| numbers.push(kept.clone()));
                NUMBERS.change(Vec::clear);
            }
            over.store(true, Ordering::Relaxed);
        });
        for _ in 0..2 {
            NUMBERS.change(|_| ());
        }
        assert_eq!(Arc::strong_count(&kept), 1);
    }

    /// A child has only the thread that forked, and a handler only what it interrupted: neither
    /// waits for who was changing the value.
    #[test]
    fn whoever_changes_a_value_keeps_nobody_from_reading_it() {
        static NUMBER: Lockless<u64> = Lockless::new();
        NUMBER.change(|number| *number = 1);
        NUMBER.change(|number| {
            *number = 2;
            assert_eq!(NUMBER.with(|number| number.copied()), Some(1));
        });
        assert_eq!(NUMBER.with(|number| number.copied()), Some(2));
    }
}
