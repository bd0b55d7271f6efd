//! Forks of this process: pthread_atfork(3). A child that only calls exec (posix_spawn, vfork) does not count.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

static FORKS: AtomicUsize = AtomicUsize::new(0);
static CHILD: AtomicBool = AtomicBool::new(false);

// Relaxed throughout: the thread that forks counts before the child exists, and the child has only that thread. Who writes code
// meanwhile on another thread is in the same race as with any other memory of the process.
extern "C" fn about_to_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

extern "C" fn in_child() {
    CHILD.store(true, Ordering::Relaxed);
}

/// Watches from now on.
pub(crate) fn watch() {
    static WATCH: Once = Once::new();
    // SAFETY: the handlers are async-signal-safe and stay for the life of the process.
    WATCH.call_once(|| unsafe {
        libc::pthread_atfork(Some(about_to_fork), None, Some(in_child));
    });
}

/// The number of forks so far.
pub(crate) fn count() -> usize {
    FORKS.load(Ordering::Relaxed)
}

/// Whether this process is a fork of the one that began to watch.
pub(crate) fn is_child() -> bool {
    CHILD.load(Ordering::Relaxed)
}
