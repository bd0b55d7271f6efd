//! Threads that wait for a word: futex(2). asm/*/unbound.s waits.

use std::sync::atomic::AtomicU32;

/// Whether asm/*/unbound.s waits here.
pub(crate) const IS_POSSIBLE: bool = true;

/// Wakes all that wait for a word, which has been changed.
pub(crate) fn wake_all(word: &AtomicU32) {
    let wake = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the word is there, and nothing is written.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), wake, i32::MAX) };
}
