//! Threads that wait for a word: futex(2). asm/*/unbound.s waits.

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use crate::platform::os::memory::{map_zeroed, page_size, reserve};

/// Whether asm/*/unbound.s waits here.
pub(crate) const IS_POSSIBLE: bool = true;

/// A word that is 0 in each child: of fork(2), of `_Fork` and of clone(2) without CLONE_VM.
///
/// madvise(2), MADV_WIPEONFORK. Where the kernel has that not (before 4.14, or an emulator's), only
/// fork(2) sees to it, by a handler.
pub(crate) fn word() -> io::Result<&'static AtomicU32> {
    static WORD: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());
    extern "C" fn in_child() {
        // SAFETY: there for ever. Relaxed, as below: stored before the handler was registered.
        if let Some(word) = unsafe { WORD.load(Ordering::Relaxed).as_ref() } {
            word.store(0, Ordering::Relaxed);
        }
    }
    let len = page_size();
    let page = reserve(len)?;
    // SAFETY: our own new page.
    let wiped = unsafe {
        map_zeroed(page, len)?;
        libc::madvise(page.as_ptr().cast(), len, libc::MADV_WIPEONFORK) == 0
    };
    WORD.store(page.cast().as_ptr(), Ordering::Relaxed);
    // SAFETY: the handler is async-signal-safe and stays for the life of the process.
    if !wiped && unsafe { libc::pthread_atfork(None, None, Some(in_child)) } != 0 {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    // SAFETY: a page of zeros that is never unmapped.
    Ok(unsafe { page.cast().as_ref() })
}

/// Waits while a word is 1, or for a shorter time.
pub(crate) fn wait(word: &AtomicU32) {
    let wait = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the word is there, and nothing is written. No time-out. If a signal ends it, or the
    // word has changed, the caller looks again.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), wait, 1, ptr::null::<libc::timespec>()) };
}

/// Wakes all that wait for a word, which has been changed.
pub(crate) fn wake_all(word: &AtomicU32) {
    let wake = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the word is there, and nothing is written.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), wake, i32::MAX) };
}
