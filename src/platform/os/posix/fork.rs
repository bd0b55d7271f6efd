//! Whether this process is a forked child of the one that began to watch. pthread_atfork(3) knows
//! of `fork` alone, so the process's number is looked at as well: `_Fork` and clone(2) make
//! children too.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::platform::os::guard;

static CHILD: AtomicBool = AtomicBool::new(false);
/// The process that began to watch; 0 before.
static WATCHING: AtomicU32 = AtomicU32::new(0);

// Relaxed: the child has only the thread that forked.
extern "C" fn in_child() {
    CHILD.store(true, Ordering::Relaxed);
    guard::in_child();
}

/// Watches from now on.
pub(crate) fn watch() {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        WATCHING.store(std::process::id(), Ordering::Relaxed);
        // SAFETY: the handler is async-signal-safe and stays for the life of the process.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
}

/// Whether this process is a fork of the one that began to watch.
pub fn is_child() -> bool {
    let watching = WATCHING.load(Ordering::Relaxed);
    // A child in a namespace of its own may have its parent's number: that one is a fork's by the
    // handler, or unseen.
    CHILD.load(Ordering::Relaxed) || (watching != 0 && watching != std::process::id())
}
