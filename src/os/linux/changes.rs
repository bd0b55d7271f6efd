//! Notice of changes to files and folders: inotify(7).
//!
//! Used directly, and not through the `notify` crate: that asks for IN_OPEN, so every file that anybody opens in a watched
//! folder wakes it, it does not tell that a folder was unmounted, and its thread cannot be joined.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

/// A file or folder of which notice is given: the same for all its paths, and never another's again.
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
    /// The place is no more, or its file system was unmounted.
    Gone(Place),
    /// There were too many to be kept: anything may have happened.
    Lost,
}

pub(crate) struct Changes {
    inotify: Inotify,
    wake: EventFd,
}

impl Changes {
    /// # Errors
    ///
    /// EMFILE above all: no descriptors left, or as many inotify instances as `fs.inotify.max_user_instances` allows.
    pub(crate) fn new() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { inotify, wake })
    }

    /// Gives notice from now on, of this too. Follows no symbolic link at the path's end.
    ///
    /// # Errors
    ///
    /// No such file; it may not be read; ENOSPC if the user watches as many as `fs.inotify.max_user_watches` allows.
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
        self.inotify.add_watch(path, flags | AddWatchFlags::IN_DONT_FOLLOW).map_err(|errno| match errno {
            Errno::ENOSPC => io::Error::new(
                io::ErrorKind::QuotaExceeded,
                "the user watches as many files as fs.inotify.max_user_watches allows: raise it",
            ),
            errno => errno.into(),
        })
    }

    /// No notice any more. What was noticed before may still come.
    pub(crate) fn disarm(&self, place: Place) {
        // It fails if the place is gone.
        let _ = self.inotify.rm_watch(place);
    }

    /// Ends the present `wait`, or the next.
    pub(crate) fn wake(&self) {
        // It fails when the counter is at its end: then there is something to wake it.
        let _ = self.wake.write(1);
    }

    /// Waits for events, for `wake`, or for the time. Returns none early if a signal handler ran.
    ///
    /// # Errors
    ///
    /// If the descriptors are no longer ours.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> io::Result<Vec<Event>> {
        let timeout = timeout.map_or(PollTimeout::NONE, |time| {
            // Rounded up: too early would be for nothing.
            PollTimeout::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = [
            PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.wake.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, timeout) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(Vec::new()),
            Err(errno) => return Err(errno.into()),
        }
        if fds[1].any() == Some(true) {
            match self.wake.read() {
                Ok(_) | Err(Errno::EAGAIN) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        // One buffer full at a time: the rest stays in the kernel's queue, whose length is bounded.
        match self.inotify.read_events() {
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
    } else {
        Event::Changed(place, name)
    }
}
