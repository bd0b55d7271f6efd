//! Signals that a thread is not to have for a while.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr;

/// The calling thread's handlers wait until this is dropped, but for those of its own faults.
pub(crate) struct Blocked {
    before: libc::sigset_t,
    _on_this_thread: PhantomData<*const ()>,
}

/// Signals that the thread's own instructions raise. Blocked, they would end the process.
const FAULTS: [libc::c_int; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS, libc::SIGABRT];

impl Blocked {
    pub(crate) fn new() -> Self {
        let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: sets that are filled in before they are read.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            for fault in FAULTS {
                libc::sigdelset(all.as_mut_ptr(), fault);
            }
            // It fails only for a first argument that is unknown.
            libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), before.as_mut_ptr());
            Self { before: before.assume_init(), _on_this_thread: PhantomData }
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: a set, of this thread.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, ptr::null_mut()) };
    }
}
