//! Whether another process has what this one had: a child of fork(2), however it was made.
//! pthread_atfork(3) knows of `fork` alone; not of `_Fork`, and not of clone(2).
//!
//! A segment of System V shared memory counts its attachments (shmctl(2), `shm_nattch`), and a
//! child is attached to what its parent was. The count goes down again when the child ends or
//! executes another program; and it does not go up for a child that shares the memory (vfork(2),
//! posix_spawn(3)), which has no pages of its own.

use std::ffi::c_void;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::platform::os::posix::memory::page_size;

/// An attachment that a child has as well.
pub(crate) struct Witness {
    id: libc::c_int,
    at: *mut c_void,
    /// It was seen that a child has it. Relaxed: who sees it too late asks again.
    shared: AtomicBool,
}

// SAFETY: nothing is done with the page.
unsafe impl Send for Witness {}
// SAFETY: as above.
unsafe impl Sync for Witness {}

impl Witness {
    /// # Errors
    ///
    /// If the process may have no such memory.
    pub(crate) fn new() -> io::Result<Self> {
        // Readable by all: the process may become another user's, and asks afterwards.
        // SAFETY: a new segment, attached at an address of the kernel's choice.
        unsafe {
            let id = libc::shmget(libc::IPC_PRIVATE, page_size(), libc::IPC_CREAT | 0o644);
            if id == -1 {
                return Err(io::Error::last_os_error());
            }
            let at = libc::shmat(id, ptr::null(), libc::SHM_RDONLY);
            let error = io::Error::last_os_error();
            // It goes with its last attachment.
            libc::shmctl(id, libc::IPC_RMID, ptr::null_mut());
            if at.addr() == usize::MAX {
                return Err(error);
            }
            let witness = Self { id, at, shared: AtomicBool::new(false) };
            // Some emulators and sandboxes do not count, or forget it at once.
            match witness.attachments() {
                Some(1) => Ok(witness),
                _ => Err(io::ErrorKind::Unsupported.into()),
            }
        }
    }

    fn attachments(&self) -> Option<u64> {
        let mut status = MaybeUninit::<libc::shmid_ds>::zeroed();
        // SAFETY: room for the answer.
        let answered = unsafe { libc::shmctl(self.id, libc::IPC_STAT, status.as_mut_ptr()) } == 0;
        // SAFETY: written by the kernel.
        answered.then(|| unsafe { status.assume_init() }.shm_nattch)
    }

    /// Whether a child has, or had when this was asked before, what this process has had since the
    /// witness was there. True also if it cannot be known any more.
    pub(crate) fn is_shared(&self) -> bool {
        let shared = self.shared.load(Ordering::Relaxed) || self.attachments() != Some(1);
        if shared {
            self.shared.store(true, Ordering::Relaxed);
        }
        shared
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        // SAFETY: attached once, and nobody uses it.
        unsafe { libc::shmdt(self.at) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_seen_until_they_are_gone_and_however_they_were_made() {
        unsafe extern "C" {
            fn _Fork() -> libc::pid_t;
        }
        // SAFETY: as fork(2), without handlers.
        let clone = || unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) as libc::pid_t };
        // SAFETY: the child only waits for its end.
        let ways: [&dyn Fn() -> libc::pid_t; 3] =
            [&|| unsafe { libc::fork() }, &|| unsafe { _Fork() }, &clone];
        for (number, way) in ways.into_iter().enumerate() {
            let witness = Witness::new().unwrap();
            assert!(!witness.is_shared(), "{number}");
            let child = way();
            if child == 0 {
                loop {
                    // SAFETY: async-signal-safe.
                    unsafe { libc::pause() };
                }
            }
            assert!(child > 0 && witness.is_shared(), "{number}");
            let later = Witness::new().unwrap();
            assert!(!later.is_shared(), "the child has not got it");
            let mut status = 0;
            // SAFETY: the child made above.
            unsafe {
                libc::kill(child, libc::SIGKILL);
                assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
            }
            // What was seen once stays so: meanwhile it was not written to.
            assert_eq!(witness.attachments(), Some(1));
            assert!(witness.is_shared());
        }
    }
}
