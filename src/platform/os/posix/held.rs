//! Descriptors that are kept for long, in a process whose program may close any number and open a
//! file of its own under it: what becomes a daemon closes them all. So a number is used only while
//! it still leads to the file that it was opened for, and is closed only then.
//!
//! Another thread that closes it between the look and the use is beyond what can be known. It is so
//! with every descriptor.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// What tells a file from another under the same number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Identity {
    device: u64,
    inode: u64,
    /// See [`Held::marked`].
    mark: Option<Mark>,
}

/// What was noted in the open file itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Mark {
    owner: libc::c_int,
    signal: libc::c_int,
}

/// A descriptor that is used and closed only while it is the one that was opened.
pub(crate) struct Held<T: AsFd> {
    what: ManuallyDrop<T>,
    identity: Identity,
    /// It was seen closed once. What comes to its number afterwards may be alike: the next of the
    /// runtime's own. Relaxed: who replaces it has seen it.
    gone: AtomicBool,
}

impl<T: AsFd> Held<T> {
    /// # Errors
    ///
    /// If nothing can be known of it: it is closed already.
    pub(crate) fn new(what: T) -> io::Result<Self> {
        let identity = identity(what.as_fd(), false)?;
        Ok(Self { what: ManuallyDrop::new(what), identity, gone: AtomicBool::new(false) })
    }

    /// Has it used for a moment, and closes it. What came of that counts only if it was what was
    /// opened until the end: a look before would say nothing more, and each takes half a
    /// microsecond of a load of 30.
    ///
    /// # Errors
    ///
    /// If the program has closed it; or those of the use.
    pub(crate) fn use_up<R>(self, with: impl FnOnce(&T) -> io::Result<R>) -> io::Result<R> {
        let result = with(&self.what);
        self.get()?;
        let mut this = ManuallyDrop::new(self);
        // SAFETY: not used any more, and dropped once: `this` is not.
        unsafe { ManuallyDrop::drop(&mut this.what) };
        result
    }

    /// As [`new`](Self::new), for what has no inode of its own: all of eventfd, epoll, timerfd and
    /// inotify have one between them (fs/anon_inodes.c). The open file is given an owner and a
    /// signal, which are for programs that ask for SIGIO (fcntl(2), F_SETOWN and F_SETSIG): nobody
    /// has asked here, so none is sent, and no other such file has these two.
    ///
    /// # Errors
    ///
    /// As for `new`.
    #[cfg(target_os = "linux")]
    pub(crate) fn marked(what: T) -> io::Result<Self> {
        /// F_SETSIG of include/uapi/asm-generic/fcntl.h.
        const SET_SIGNAL: libc::c_int = 10;
        let fd = what.as_fd().as_raw_fd();
        let own = libc::pid_t::try_from(std::process::id()).map_err(|_| io::ErrorKind::InvalidData)?;
        // SAFETY: an open descriptor, and numbers. SIGXFSZ is for something else, so nobody chooses
        // it here.
        let marked = unsafe {
            libc::fcntl(fd, libc::F_SETOWN, own) == 0 && libc::fcntl(fd, SET_SIGNAL, libc::SIGXFSZ) == 0
        };
        // An emulator may not know these. Then what can be seen is that the number leads to
        // something else than such a file.
        let identity = identity(what.as_fd(), marked)?;
        Ok(Self { what: ManuallyDrop::new(what), identity, gone: AtomicBool::new(false) })
    }

    /// What was opened, if its number still leads there.
    ///
    /// # Errors
    ///
    /// If the program has closed it.
    pub(crate) fn get(&self) -> io::Result<&T> {
        match self.is_there() {
            true => Ok(&self.what),
            false => Err(io::Error::new(
                io::ErrorKind::NotConnected,
                "the program has closed a descriptor of midflight's: leave open what it did not open",
            )),
        }
    }

    pub(crate) fn is_there(&self) -> bool {
        let there = !self.gone.load(Ordering::Relaxed)
            && identity(self.what.as_fd(), self.identity.mark.is_some())
                .is_ok_and(|now| now == self.identity);
        if !there {
            self.gone.store(true, Ordering::Relaxed);
        }
        there
    }
}

impl Held<File> {
    /// As [`new`](Self::new), of a file that was just asked for its metadata.
    pub(crate) fn known(file: File, metadata: &Metadata) -> Self {
        let identity = Identity { device: metadata.dev(), inode: metadata.ino(), mark: None };
        Self { what: ManuallyDrop::new(file), identity, gone: AtomicBool::new(false) }
    }
}

impl<T: AsFd> Drop for Held<T> {
    fn drop(&mut self) {
        // A number that leads elsewhere is the program's to close.
        if self.is_there() {
            // SAFETY: not used any more, and dropped once.
            unsafe { ManuallyDrop::drop(&mut self.what) };
        }
    }
}

fn identity(fd: BorrowedFd<'_>, marked: bool) -> io::Result<Identity> {
    let fd = fd.as_raw_fd();
    let mut status = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: any number, and room for the answer.
    if unsafe { libc::fstat(fd, status.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: written by the kernel.
    let status = unsafe { status.assume_init() };
    let mark = marked.then(|| mark(fd)).transpose()?;
    // The types differ from system to system.
    #[allow(clippy::unnecessary_cast, reason = "as above")]
    Ok(Identity { device: status.st_dev as u64, inode: status.st_ino as u64, mark })
}

#[cfg(target_os = "linux")]
fn mark(fd: libc::c_int) -> io::Result<Mark> {
    /// F_GETSIG of include/uapi/asm-generic/fcntl.h.
    const GET_SIGNAL: libc::c_int = 11;
    // SAFETY: any number, and no pointers.
    let (owner, signal) = unsafe { (libc::fcntl(fd, libc::F_GETOWN), libc::fcntl(fd, GET_SIGNAL)) };
    if owner == -1 || signal == -1 { Err(io::Error::last_os_error()) } else { Ok(Mark { owner, signal }) }
}

#[cfg(not(target_os = "linux"))]
fn mark(_: libc::c_int) -> io::Result<Mark> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Whether a file may be written up to there: the limit that the process has on files
/// (RLIMIT_FSIZE), memory behind a descriptor included. Who writes beyond it is sent SIGXFSZ, whose
/// default ends the process; so it is asked before.
///
/// # Errors
///
/// If not.
pub(crate) fn may_write_to(end: u64) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: room for the answer.
    if unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur == libc::RLIM_INFINITY || end <= limit.rlim_cur {
        return Ok(());
    }
    let text = format!(
        "the limit of this process on the size of files, {} bytes, is too low: raise it (ulimit -f)",
        limit.rlim_cur
    );
    Err(io::Error::new(io::ErrorKind::FileTooLarge, text))
}

/// A file that is only ever added to, such as a log. One that the program has closed is opened
/// again.
pub struct Record {
    path: PathBuf,
    file: Held<File>,
}

impl Record {
    /// `file` is the one at this path, and open for writing.
    ///
    /// # Errors
    ///
    /// If nothing can be known of it.
    pub fn new(path: &Path, file: File) -> io::Result<Self> {
        Ok(Self { path: std::path::absolute(path)?, file: Held::new(file)? })
    }

    /// Adds to the end.
    ///
    /// # Errors
    ///
    /// If the file cannot be written, or may not be that long; if the program has closed it, and
    /// another is at its path now.
    pub fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.file.is_there() {
            let again = Held::new(OpenOptions::new().append(true).open(&self.path)?)?;
            if again.identity != self.file.identity {
                let text = "the program has closed this file, and another is at its path now";
                return Err(io::Error::new(io::ErrorKind::NotConnected, text));
            }
            self.file = again;
        }
        let mut file = self.file.get()?;
        let status = file.metadata()?;
        // A terminal or a pipe has no length.
        if status.is_file() {
            may_write_to(status.len().saturating_add(bytes.len() as u64))?;
        }
        file.write_all(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    /// A new file, whose descriptor is made to be the one that is held.
    fn put_in_place(of: BorrowedFd<'_>, path: &Path) -> File {
        let file = File::create(path).unwrap();
        // SAFETY: both are open. What was held is closed by it, which is what is tested.
        unsafe { libc::dup2(file.as_raw_fd(), of.as_raw_fd()) };
        file
    }

    #[test]
    fn what_the_program_has_put_in_its_place_is_neither_written_nor_closed() {
        let folder = std::env::temp_dir().join(format!("midflight-held-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let own = folder.join("record");
        let mut record = Record::new(&own, File::create(&own).unwrap()).unwrap();
        record.add(b"one ").unwrap();
        let number = record.file.what.as_fd().as_raw_fd();
        let other = put_in_place(record.file.what.as_fd(), &folder.join("other"));
        record.add(b"two").unwrap();
        assert_eq!(std::fs::read(&own).unwrap(), b"one two");
        assert_eq!(std::fs::read(folder.join("other")).unwrap(), b"");
        // SAFETY: an open descriptor: the record has not closed it.
        let there = unsafe { BorrowedFd::borrow_raw(number) };
        assert_eq!(identity(there, false).unwrap().inode, other.metadata().unwrap().ino());
        // Another file at the path is not the one that was opened.
        std::fs::remove_file(&own).unwrap();
        std::fs::write(&own, b"another").unwrap();
        let _other = put_in_place(record.file.what.as_fd(), &folder.join("third"));
        assert_eq!(record.add(b"three").unwrap_err().kind(), io::ErrorKind::NotConnected);
        assert_eq!(std::fs::read(&own).unwrap(), b"another");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    /// All of these have one inode between them.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_without_an_inode_is_told_from_others() {
        use nix::sys::eventfd::{EfdFlags, EventFd};

        let event = || OwnedFd::from(EventFd::from_flags(EfdFlags::EFD_CLOEXEC).unwrap());
        let held = Held::marked(event()).unwrap();
        assert!(held.is_there() && held.get().is_ok());
        let other = event();
        let number = held.what.as_raw_fd();
        // SAFETY: as above.
        unsafe { libc::dup2(other.as_raw_fd(), number) };
        assert!(!held.is_there() && held.get().is_err());
        // Nor is the next of the runtime's own, which is marked as this one was.
        let next = Held::marked(event()).unwrap();
        // SAFETY: as above.
        unsafe { libc::dup2(next.what.as_raw_fd(), number) };
        assert!(next.is_there() && !held.is_there());
        drop(held);
        // SAFETY: the other's, which is left open.
        assert_eq!(unsafe { libc::fcntl(number, libc::F_GETFD) }, 0);
        // SAFETY: ours, by the copy above.
        assert_eq!(unsafe { libc::close(number) }, 0);
    }
}
