//! Reading a file while nobody writes it: read leases, fcntl(2) F_SETLEASE.
//!
//! The kernel grants a read lease only while nobody has the file open for writing
//! (`check_conflicting_open` in fs/locks.c, by the inode's `i_writecount`), and makes whoever opens
//! or truncates it meanwhile wait (`__break_lease`, called by `do_dentry_open` and `vfs_truncate`).
//! An open file description counts until its last user is gone, and a mapping is a user
//! (mmap(2), NOTES: closing the descriptor does not unmap): a writer by MAP_SHARED counts until it
//! has unmapped.
//!
//! The kernel tells the holder by a signal that somebody waits, SIGIO as it comes, whose default is
//! to end the process. Nobody is to see one. `lease_setup` names the process as its receiver only
//! if the file has none, so the receiver is named before: the calling thread alone, which has the
//! signal blocked. Then the receiver is taken away, the lease looked at, and if it was being broken
//! the signal that may have been sent is taken from the thread's pending ones. The signal chosen is
//! SIGURG: blocked it is harmless, and even unblocked the default is to ignore it (signal(7)).

use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};
use std::{io, ptr};

use nix::sys::statfs::fstatfs;

/// What came of it.
#[derive(Debug)]
pub(crate) enum Leased<T> {
    /// Nobody had the file open for writing, from before the reading until after it.
    Unwritten(T),
    /// Somebody has.
    Written,
    /// The file's system grants no leases, or not to us.
    Unavailable,
}

const SIGNAL: libc::c_int = libc::SIGURG;

/// The kernel's `struct f_owner_ex`, which libc lacks: fcntl(2), F_SETOWN_EX.
#[repr(C)]
struct Owner {
    kind: libc::c_int,
    pid: libc::pid_t,
}

/// F_SETSIG, F_SETOWN_EX and F_OWNER_TID of include/uapi/asm-generic/fcntl.h.
const SET_SIGNAL: libc::c_int = 10;
const SET_OWNER: libc::c_int = 15;
const THREAD: libc::c_int = 0;

/// Runs `read`, which must be short: who opens the file for writing meanwhile waits for it.
///
/// # Errors
///
/// Those of `read`.
pub(crate) fn read<T>(file: &File, read: impl FnOnce() -> io::Result<T>) -> io::Result<Leased<T>> {
    let fd = file.as_raw_fd();
    let _blocked = Blocked::new();
    // SAFETY: takes no pointers.
    let owner = Owner { kind: THREAD, pid: unsafe { libc::gettid() } };
    // SAFETY: an open file, and the record that F_SETOWN_EX reads.
    let owned = unsafe {
        libc::fcntl(fd, SET_SIGNAL, SIGNAL) == 0 && libc::fcntl(fd, SET_OWNER, &raw const owner) == 0
    };
    if !owned {
        return Ok(Leased::Unavailable);
    }
    if is_remote(file) {
        return Ok(Leased::Unavailable);
    }
    if let Err(error) = control(fd, libc::F_SETLEASE, libc::F_RDLCK) {
        let written = error.raw_os_error() == Some(libc::EAGAIN);
        return Ok(if written { Leased::Written } else { Leased::Unavailable });
    }
    let result = read();
    // From here on nothing is sent.
    let silenced = control(fd, libc::F_SETOWN, 0);
    // The kernel marks the lease before it sends the signal, both under the lock that this takes
    // (`flc_lock`). A lease that was taken away, because whoever waited for it has waited too long,
    // is F_UNLCK as well.
    let held = control(fd, libc::F_GETLEASE, 0).is_ok_and(|lease| lease == libc::F_RDLCK);
    // It cannot fail: at worst there is no lease any more (EAGAIN).
    let _ = control(fd, libc::F_SETLEASE, libc::F_UNLCK);
    if !held || silenced.is_err() {
        discard_signal(fd);
        return Ok(Leased::Written);
    }
    result.map(Leased::Unwritten)
}

fn control(fd: RawFd, command: libc::c_int, argument: libc::c_int) -> io::Result<libc::c_int> {
    // SAFETY: an open file; these commands take a number.
    match unsafe { libc::fcntl(fd, command, argument) } {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

/// File systems that others write too, of whom this kernel does not know: its leases say nothing of
/// them. NFS and CIFS also say EAGAIN where their server has not granted one (`nfs4_setlease`,
/// `cifs_setlease`).
fn is_remote(file: &File) -> bool {
    /// include/uapi/linux/magic.h: NFS, CIFS, SMB2, 9P, FUSE.
    const REMOTE: [u32; 5] = [0x6969, 0xFF53_4D42, 0xFE53_4D42, 0x0102_1997, 0x6573_5546];
    fstatfs(file).is_ok_and(|system| REMOTE.contains(&(system.filesystem_type().0 as u32)))
}

/// The calling thread has the signal blocked.
struct Blocked {
    before: libc::sigset_t,
}

fn signal_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: room for the set, which sigemptyset fills in.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), SIGNAL);
        set.assume_init()
    }
}

impl Blocked {
    fn new() -> Self {
        let mut before = signal_set();
        // SAFETY: two sets. It fails only for a first argument that is unknown.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &signal_set(), &mut before) };
        Self { before }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: a set.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, ptr::null_mut()) };
    }
}

/// Takes the signal that was sent on behalf of this file, if it was.
fn discard_signal(fd: RawFd) {
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: a set, room for the information, and a time. The thread's own signals come before the
    // process's.
    let signal = unsafe { libc::sigtimedwait(&signal_set(), info.as_mut_ptr(), &now) };
    if signal != SIGNAL {
        return;
    }
    /// `siginfo_t` of a file's signal: sigaction(2), "si_band and si_fd".
    #[repr(C)]
    struct OfFile {
        signal: libc::c_int,
        errno: libc::c_int,
        code: libc::c_int,
        band: libc::c_long,
        fd: libc::c_int,
    }
    // SAFETY: written by the kernel, and large enough: the union of which this is one starts on a
    // word.
    let info = unsafe { &*info.as_ptr().cast::<OfFile>() };
    // POLL_IN to POLL_HUP.
    if (1..=6).contains(&info.code) && info.fd == fd {
        return;
    }
    // The host's own. It goes back to where it was: pending for the process.
    // SAFETY: takes no pointers.
    unsafe { libc::kill(libc::getpid(), SIGNAL) };
}
