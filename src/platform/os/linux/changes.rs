//! Notice of changes to files and folders: inotify(7).
//!
//! Used directly, and not through the `notify` crate: that asks for IN_OPEN, so every file that
//! anybody opens in a watched folder wakes it, it does not tell that a folder was unmounted, and
//! its thread cannot be joined.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use crate::platform::os::held::Held;

/// A file or folder of which notice is given: the same for all its paths, and never another's again
/// until [`Event::Renewed`].
pub(crate) type Place = WatchDescriptor;

/// Of what notice is given, besides that the place itself is removed or moved.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Interest {
    /// A folder: that a name comes or goes in it.
    pub(crate) names: bool,
    /// A file: that it was written, or that a writer has closed it.
    pub(crate) contents: bool,
}

impl Interest {
    pub(crate) fn or(self, other: Self) -> Self {
        Self { names: self.names || other.names, contents: self.contents || other.contents }
    }

    fn flags(self) -> AddWatchFlags {
        type Flags = AddWatchFlags;
        let mut flags = Flags::IN_DELETE_SELF | Flags::IN_MOVE_SELF;
        if self.names {
            flags |= Flags::IN_CREATE | Flags::IN_DELETE | Flags::IN_MOVED_FROM | Flags::IN_MOVED_TO;
        }
        if self.contents {
            flags |= Flags::IN_CLOSE_WRITE | Flags::IN_MODIFY | Flags::IN_ATTRIB;
        }
        flags
    }
}

#[derive(Debug)]
pub(crate) enum Event {
    /// Something happened to the place, or to this name in it.
    Changed(Place, Option<OsString>),
    /// The file was not written: its links, rights or times are others.
    Status(Place),
    /// The place is no more, or its file system was unmounted.
    Gone(Place),
    /// There were too many to be kept: anything may have happened.
    Lost,
    /// Anything may have happened, and no place gives notice any more: the program has closed the
    /// descriptors, and there are new ones.
    Renewed,
}

/// The program may close the descriptors at any time, and have others under their numbers. Then
/// there are new ones: see [`Event::Renewed`].
pub(crate) struct Changes {
    now: Mutex<Now>,
}

#[derive(Clone)]
struct Now {
    inotify: Arc<Held<Inotify>>,
    wake: Arc<Wake>,
    /// How often there were new descriptors, of which `Renewed` tells.
    renewals: u64,
    /// Of which it has told.
    told: u64,
}

/// What ends a `wait`. Sockets, and not an eventfd: if the program closes all descriptors, a thread
/// that waits at one end learns of it by the other's end.
struct Wake {
    waited_for: Held<UnixStream>,
    written: Held<UnixStream>,
}

impl Wake {
    fn new() -> io::Result<Self> {
        let (waited_for, written) = UnixStream::pair()?;
        for end in [&waited_for, &written] {
            end.set_nonblocking(true)?;
        }
        Ok(Self { waited_for: Held::new(waited_for)?, written: Held::new(written)? })
    }

    fn is_there(&self) -> bool {
        self.waited_for.is_there() && self.written.is_there()
    }

    fn wake(&self) {
        let Ok(end) = self.written.get() else { return };
        // It fails when it is full: then there is something to wake it. No SIGPIPE, whatever became
        // of the other end. SAFETY: an open socket, and a byte.
        unsafe { libc::send(end.as_raw_fd(), [0_u8].as_ptr().cast(), 1, libc::MSG_NOSIGNAL) };
    }

    /// Takes what was written, for the next `wait` to wait again.
    fn settle(&self) -> io::Result<()> {
        let mut bytes = [0_u8; 64];
        let end = self.waited_for.get()?;
        // SAFETY: an open socket that does not block, and room.
        while unsafe { libc::recv(end.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), 0) } > 0 {}
        Ok(())
    }
}

fn inotify() -> io::Result<Held<Inotify>> {
    Held::marked(Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?)
}

impl Changes {
    /// # Errors
    ///
    /// EMFILE above all: no descriptors left, or as many inotify instances as
    /// `fs.inotify.max_user_instances` allows.
    pub(crate) fn new() -> io::Result<Self> {
        let now = Now { inotify: inotify()?.into(), wake: Wake::new()?.into(), renewals: 0, told: 0 };
        Ok(Self { now: Mutex::new(now) })
    }

    /// The descriptors. New ones, if the program has closed those there were.
    fn now(&self) -> io::Result<Now> {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if !now.wake.is_there() {
            // Who waits at the old one, whose other end may be there still, is to wait at the new
            // one.
            now.wake.wake();
            now.wake = Wake::new()?.into();
        }
        if !now.inotify.is_there() {
            now.inotify = inotify()?.into();
            now.renewals += 1;
            // Who waits with the old ones is to wait with the new ones.
            now.wake.wake();
        }
        Ok(now.clone())
    }

    /// Whether there are new descriptors that nobody was told of. Says so once.
    pub(crate) fn are_renewed(&self) -> io::Result<bool> {
        self.now()?;
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let renewed = now.told != now.renewals;
        now.told = now.renewals;
        Ok(renewed)
    }

    /// Gives notice from now on, of this too. Follows no symbolic link at the path's end.
    ///
    /// # Errors
    ///
    /// No such file; it may not be read; ENOSPC if the user watches as many as
    /// `fs.inotify.max_user_watches` allows.
    pub(crate) fn arm(&self, path: &Path, interest: Interest) -> io::Result<Place> {
        self.add(path, interest.flags() | AddWatchFlags::from_bits_retain(libc::IN_MASK_ADD))
    }

    /// Of a place that gives notice already: of this only.
    ///
    /// # Errors
    ///
    /// As `arm`.
    pub(crate) fn limit(&self, path: &Path, interest: Interest) -> io::Result<Place> {
        self.add(path, interest.flags())
    }

    fn add(&self, path: &Path, flags: AddWatchFlags) -> io::Result<Place> {
        let added = self.now()?.inotify.get()?.add_watch(path, flags | AddWatchFlags::IN_DONT_FOLLOW);
        added.map_err(|errno| match errno {
            Errno::ENOSPC => io::Error::new(
                io::ErrorKind::QuotaExceeded,
                "the user watches as many files as fs.inotify.max_user_watches allows: raise it",
            ),
            errno => errno.into(),
        })
    }

    /// No notice any more. What was noticed before may still come.
    pub(crate) fn disarm(&self, place: Place) {
        let Ok(now) = self.now() else { return };
        if let Ok(inotify) = now.inotify.get() {
            // It fails if the place is gone.
            let _ = inotify.rm_watch(place);
        }
    }

    /// Ends the present `wait`, or the next.
    pub(crate) fn wake(&self) {
        // Without descriptors the thread has nothing to wait with, and so is awake.
        if let Ok(now) = self.now() {
            now.wake.wake();
        }
    }

    /// Waits for events, for `wake`, or for the time. Returns none early if a signal handler ran.
    ///
    /// # Errors
    ///
    /// If there are no new descriptors to be had for those that the program has closed.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> io::Result<Vec<Event>> {
        let timeout = timeout.map_or(PollTimeout::NONE, |time| {
            // Rounded up: too early would be for nothing.
            PollTimeout::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(PollTimeout::MAX)
        });
        let now = self.now()?;
        if self.are_renewed()? {
            return Ok(vec![Event::Renewed]);
        }
        {
            // If they were closed since, the next `wait` is with new ones.
            let (Ok(inotify), Ok(wake)) = (now.inotify.get(), now.wake.waited_for.get()) else {
                return Ok(Vec::new());
            };
            let mut fds = [
                PollFd::new(inotify.as_fd(), PollFlags::POLLIN),
                PollFd::new(wake.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, timeout) {
                Ok(_) => {}
                Err(Errno::EINTR) => return Ok(Vec::new()),
                Err(errno) => return Err(errno.into()),
            }
        }
        // Meanwhile they may have become others'.
        if self.are_renewed()? {
            return Ok(vec![Event::Renewed]);
        }
        // One of old ones is not read: the next `wait` is with new ones.
        let (Ok(()), Ok(inotify)) = (now.wake.settle(), now.inotify.get()) else { return Ok(Vec::new()) };
        // One buffer full at a time: the rest stays in the kernel's queue, whose length is bounded.
        match inotify.read_events() {
            Ok(events) => {
                Ok(events.into_iter().map(|event| seen(event.mask, event.wd, event.name)).collect())
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(Vec::new()),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn seen(mask: AddWatchFlags, place: Place, name: Option<OsString>) -> Event {
    if mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
        Event::Lost
    } else if mask.intersects(AddWatchFlags::IN_IGNORED | AddWatchFlags::IN_UNMOUNT) {
        Event::Gone(place)
    } else if mask == AddWatchFlags::IN_ATTRIB {
        Event::Status(place)
    } else {
        Event::Changed(place, name)
    }
}
