//! Walks of what is loaded (dl_iterate_phdr(3)), which hold a lock of the C library's: a child that
//! is forked meanwhile would wait for it for ever. So forks wait for the threads that walk, and who
//! begins meanwhile waits for the fork.

use std::cell::Cell;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How many threads walk.
///
/// SeqCst: who begins counts himself and looks for a fork, the fork announces itself and looks at
/// the count; one sees the other.
static WALKERS: AtomicUsize = AtomicUsize::new(0);
static FORKING: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// How deep this thread is in walks: a callback may begin another, or fork. No destructor.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// A thread that walks, also when it leaves by an exception.
pub(crate) struct Walking;

impl Walking {
    pub(crate) fn new() -> Self {
        if DEPTH.replace(DEPTH.get() + 1) == 0 {
            loop {
                WALKERS.fetch_add(1, Ordering::SeqCst);
                if FORKING.load(Ordering::SeqCst) == 0 {
                    break;
                }
                WALKERS.fetch_sub(1, Ordering::SeqCst);
                std::thread::yield_now();
            }
        }
        Self
    }
}

impl Drop for Walking {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
        if DEPTH.get() == 0 {
            WALKERS.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Has forks wait for the walkers.
pub(crate) fn watch_forks() {
    /// A callback that waits for the thread that forks would have both wait for ever: after so long
    /// the fork goes on.
    const PATIENCE: Duration = Duration::from_secs(1);
    extern "C" fn before() {
        FORKING.fetch_add(1, Ordering::SeqCst);
        let own = usize::from(DEPTH.get() != 0);
        let until = Instant::now() + PATIENCE;
        while WALKERS.load(Ordering::SeqCst) > own && Instant::now() < until {
            std::thread::yield_now();
        }
    }
    extern "C" fn in_parent() {
        FORKING.fetch_sub(1, Ordering::SeqCst);
    }
    extern "C" fn in_child() {
        // There is this thread only.
        WALKERS.store(usize::from(DEPTH.get() != 0), Ordering::SeqCst);
        FORKING.store(0, Ordering::SeqCst);
    }
    static WATCH: Once = Once::new();
    // SAFETY: the handlers stay for the life of the process.
    WATCH.call_once(|| unsafe {
        libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child));
    });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::platform::os::{symbol, thread_local};

    /// A child of fork walks at once, whatever walks of ours the parent is in.
    #[test]
    fn no_walk_of_ours_keeps_a_child_waiting() {
        static OVER: AtomicBool = AtomicBool::new(false);
        /// Ends the walkers, also when the test fails.
        struct End;
        impl Drop for End {
            fn drop(&mut self) {
                OVER.store(true, Ordering::Relaxed);
            }
        }
        let names = || symbol::each_object(|_| {});
        let blocks = || assert!(!thread_local::blocks().is_empty());
        watch_forks();
        let walks: [&(dyn Fn() + Sync); 2] = [&names, &blocks];
        std::thread::scope(|scope| {
            let _end = End;
            for walk in walks {
                scope.spawn(move || {
                    while !OVER.load(Ordering::Relaxed) {
                        walk();
                    }
                });
            }
            for _ in 0..100 {
                // SAFETY: the child walks, without memory, and ends; the alarm ends it if it waits
                // for ever.
                let child = unsafe {
                    let child = libc::fork();
                    if child == 0 {
                        libc::alarm(20);
                        names();
                        libc::_exit(0);
                    }
                    child
                };
                let mut status = -1;
                // SAFETY: waits for the child.
                assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
                assert_eq!(status, 0, "the child ends well");
            }
        });
    }
}
