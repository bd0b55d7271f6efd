//! Notice of changes to files and folders: kqueue(2), EVFILT_VNODE.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::event::{EvFlags, EventFilter, FilterFlag, KEvent, Kqueue};

/// A file or folder of which notice is given, by device and inode.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Place {
    device: u64,
    inode: u64,
}

/// Of what notice is given, besides that the place itself is removed or moved.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Interest {
    /// A folder: that a name comes or goes in it.
    pub(crate) names: bool,
    /// A file: that it was written.
    pub(crate) contents: bool,
}

impl Interest {
    pub(crate) fn or(self, other: Self) -> Self {
        Self { names: self.names || other.names, contents: self.contents || other.contents }
    }

    fn flags(self) -> FilterFlag {
        let mut flags = FilterFlag::NOTE_DELETE | FilterFlag::NOTE_RENAME | FilterFlag::NOTE_REVOKE;
        if self.names {
            flags |= FilterFlag::NOTE_WRITE | FilterFlag::NOTE_LINK;
        }
        if self.contents {
            flags |= FilterFlag::NOTE_WRITE | FilterFlag::NOTE_EXTEND | FilterFlag::NOTE_ATTRIB;
        }
        flags
    }
}

/// See Linux. kqueue gives no names, and coalesces: it loses nothing.
#[derive(Debug)]
#[allow(dead_code, reason = "only Linux has events that are lost")]
pub(crate) enum Event {
    /// Something happened to the place, or to this name in it.
    Changed(Place, Option<OsString>),
    /// See Linux.
    Status(Place),
    /// The place is no more, or its file system was unmounted.
    Gone(Place),
    /// There were too many to be kept: anything may have happened.
    Lost,
    /// See Linux.
    Renewed,
}

pub(crate) struct Changes {
    queue: Kqueue,
    /// What is open to be watched, for as long as it is.
    open: Mutex<HashMap<Place, (File, Interest)>>,
}

/// The user event that ends a `wait`.
const WAKE: usize = 0;

impl Changes {
    /// # Errors
    ///
    /// EMFILE above all: no descriptors left.
    pub(crate) fn new() -> io::Result<Self> {
        let queue = Kqueue::new()?;
        let flags = EvFlags::EV_ADD | EvFlags::EV_CLEAR;
        let wake = KEvent::new(WAKE, EventFilter::EVFILT_USER, flags, FilterFlag::empty(), 0, 0);
        queue.kevent(&[wake], &mut [], None)?;
        Ok(Self { queue, open: Mutex::default() })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Place, (File, Interest)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Linux only: see there.
    pub(crate) fn are_renewed(&self) -> io::Result<bool> {
        Ok(false)
    }

    /// Gives notice from now on, of this too. Follows no symbolic link at the path's end.
    ///
    /// # Errors
    ///
    /// No such file; it may not be read; no descriptors left.
    pub(crate) fn arm(&self, path: &Path, interest: Interest) -> io::Result<Place> {
        self.add(path, |before| before.or(interest))
    }

    /// Of a place that gives notice already: of this only.
    ///
    /// # Errors
    ///
    /// As `arm`.
    pub(crate) fn limit(&self, path: &Path, interest: Interest) -> io::Result<Place> {
        self.add(path, |_| interest)
    }

    fn add(&self, path: &Path, interest: impl FnOnce(Interest) -> Interest) -> io::Result<Place> {
        // O_SYMLINK: a link is what is opened itself. O_NOFOLLOW refuses it, where Linux watches
        // it.
        let flags = libc::O_EVTONLY | libc::O_SYMLINK | libc::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let metadata = file.metadata()?;
        let place = Place { device: metadata.dev(), inode: metadata.ino() };
        let mut open = self.open();
        let (file, present) = open.entry(place).or_insert_with(|| (file, Interest::default()));
        let interest = interest(*present);
        let (fd, flags) = (file.as_raw_fd() as usize, EvFlags::EV_ADD | EvFlags::EV_CLEAR);
        let event = KEvent::new(fd, EventFilter::EVFILT_VNODE, flags, interest.flags(), 0, 0);
        match self.queue.kevent(&[event], &mut [], None) {
            Ok(_) => *present = interest,
            Err(errno) => {
                if *present == Interest::default() {
                    open.remove(&place);
                }
                return Err(errno.into());
            }
        }
        Ok(place)
    }

    /// No notice any more. What was noticed before may still come.
    pub(crate) fn disarm(&self, place: Place) {
        // Closing it takes it from the queue.
        self.open().remove(&place);
    }

    /// Ends the present `wait`, or the next.
    pub(crate) fn wake(&self) {
        let (filter, trigger) = (EventFilter::EVFILT_USER, FilterFlag::NOTE_TRIGGER);
        let event = KEvent::new(WAKE, filter, EvFlags::empty(), trigger, 0, 0);
        let result = self.queue.kevent(&[event], &mut [], None);
        debug_assert!(result.is_ok(), "the event is in the queue");
    }

    /// Waits for events, for `wake`, or for the time. Returns none early if a signal handler ran.
    ///
    /// # Errors
    ///
    /// If the descriptors are no longer ours.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> io::Result<Vec<Event>> {
        // More than this is EINVAL for some releases' kernels (bsd/kern/kern_time.c, `itimerfix`,
        // and `timespec_is_valid` since).
        const MOST: u64 = 100_000_000;
        let timeout = timeout.map(|time| libc::timespec {
            tv_sec: time.as_secs().min(MOST) as libc::time_t,
            tv_nsec: time.subsec_nanos().into(),
        });
        let (filter, flags) = (EventFilter::EVFILT_USER, FilterFlag::empty());
        let mut events = [KEvent::new(WAKE, filter, EvFlags::empty(), flags, 0, 0); 64];
        let count = match self.queue.kevent(&[], &mut events, timeout) {
            Ok(count) => count,
            Err(Errno::EINTR) => return Ok(Vec::new()),
            Err(errno) => return Err(errno.into()),
        };
        let mut open = self.open();
        let mut seen = Vec::new();
        for event in &events[..count] {
            let of =
                |(_, (file, _)): &(&Place, &(File, Interest))| file.as_raw_fd() as usize == event.ident();
            let Some((&place, _)) = open.iter().find(of) else { continue };
            if event.fflags().intersects(FilterFlag::NOTE_DELETE | FilterFlag::NOTE_REVOKE) {
                // An inode's number is used again once nobody has it open.
                open.remove(&place);
                seen.push(Event::Gone(place));
            } else if event.fflags() == FilterFlag::NOTE_ATTRIB {
                seen.push(Event::Status(place));
            } else {
                seen.push(Event::Changed(place, None));
            }
        }
        Ok(seen)
    }
}
