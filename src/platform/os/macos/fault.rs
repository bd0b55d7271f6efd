//! What a fault's handler is given, and how a process ends by one.

use std::ffi::{c_int, c_void};

pub(crate) use crate::platform::os::posix::fault::{Fault, watch};

/// Where the interrupted thread was.
///
/// # Safety
///
/// The context is what the kernel gave a handler.
pub(crate) unsafe fn program_counter(context: *const c_void) -> usize {
    // SAFETY: the caller has the context from the kernel; the machine's part is where the context
    // says (sys/_types/_ucontext.h).
    unsafe { (*(*context.cast::<libc::ucontext_t>()).uc_mcontext).__ss.__pc as usize }
}

/// The calling thread's errno.
///
/// # Safety
///
/// Only the calling thread uses it.
pub(crate) unsafe fn errno() -> *mut c_int {
    // SAFETY: no preconditions.
    unsafe { libc::__error() }
}

/// Ends the process by a signal that has its default action now. There is no way to send oneself
/// the information of a fault: the thread comes to the same one again when the handler has
/// returned.
///
/// # Safety
///
/// Called in the signal's handler.
pub(crate) unsafe fn end_as(signal: c_int, _info: *const libc::siginfo_t, is_fault: bool) {
    if !is_fault {
        // SAFETY: the calling thread is there.
        unsafe { libc::pthread_kill(libc::pthread_self(), signal) };
    }
}

/// The calling thread's number; its name takes a lock. Async-signal-safe.
pub(crate) fn this_thread(_name: &mut [u8; 16]) -> (u64, usize) {
    let mut number = 0;
    // SAFETY: room for the number; 0 is the calling thread.
    unsafe { libc::pthread_threadid_np(0, &raw mut number) };
    (number, 0)
}
