//! What the process uses: sys/proc_info.h.

use std::io;
use std::mem::{self, MaybeUninit};

pub(crate) use crate::platform::os::posix::usage::cpu;

/// Resident memory in bytes, and the number of threads.
pub(crate) fn memory_and_threads() -> io::Result<(u64, u32)> {
    let mut info = MaybeUninit::<libc::proc_taskinfo>::uninit();
    let size = mem::size_of_val(&info) as i32;
    // SAFETY: writes at most `size` bytes, and returns how many.
    let written = unsafe {
        libc::proc_pidinfo(libc::getpid(), libc::PROC_PIDTASKINFO, 0, info.as_mut_ptr().cast(), size)
    };
    if written != size {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all of it was written.
    let info = unsafe { info.assume_init() };
    Ok((info.pti_resident_size, info.pti_threadnum as u32))
}
