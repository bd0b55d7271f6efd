//! What a fault's handler is given, and how a process ends by one.

use std::ffi::{c_int, c_void};

pub(crate) use crate::platform::os::posix::fault::{Fault, watch};

/// Where the interrupted thread was.
///
/// # Safety
///
/// The context is what the kernel gave a handler.
pub(crate) unsafe fn program_counter(context: *const c_void) -> usize {
    // SAFETY: the caller has the context from the kernel.
    let context = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext };
    #[cfg(target_arch = "x86_64")]
    return context.gregs[libc::REG_RIP as usize] as usize;
    #[cfg(target_arch = "aarch64")]
    return context.pc as usize;
}

/// The calling thread's errno.
///
/// # Safety
///
/// Only the calling thread uses it.
pub(crate) unsafe fn errno() -> *mut c_int {
    // SAFETY: no preconditions.
    unsafe { libc::__errno_location() }
}

/// Ends the process by a signal that has its default action now and is blocked as long as its
/// handler runs: it comes when that has returned, before the interrupted thread goes on, as it came
/// the first time. (The thread would come to the same fault again, but for memory that has been put
/// to use meanwhile.) The kernel lets a process send itself any information.
///
/// Where it does not (seccomp), or does not end a process of number 1 by what is sent, the thread
/// comes to the same fault, or the next trap.
///
/// # Safety
///
/// The information is what the kernel gave the handler.
pub(crate) unsafe fn end_as(signal: c_int, info: *const libc::siginfo_t, _is_fault: bool) {
    // SAFETY: the caller has the information from the kernel. getpid and gettid take nothing.
    unsafe {
        let (process, thread) = (libc::getpid(), libc::syscall(libc::SYS_gettid));
        libc::syscall(libc::SYS_rt_tgsigqueueinfo, process, thread, signal, info);
    }
}

/// The calling thread's number, and its name in so many bytes. Async-signal-safe.
pub(crate) fn this_thread(name: &mut [u8; 16]) -> (u64, usize) {
    // SAFETY: room for a name of 16 bytes, which is what PR_GET_NAME writes, zero included.
    let thread = unsafe {
        libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr());
        libc::syscall(libc::SYS_gettid)
    };
    (thread as u64, name.iter().position(|byte| *byte == 0).unwrap_or(name.len()))
}
