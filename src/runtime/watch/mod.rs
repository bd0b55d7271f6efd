//! Files that are loaded again when they were written again: each complete version of a watched
//! file, once, and never a part of one.
//!
//! Notice comes from the kernel (inotify(7); kqueue(2) on macOS), of the whole way that a path
//! takes to its file: see `route`. What is noticed only says when to look. A file is looked at once
//! it has been left alone for the debounce interval, or for [`MOST_DEBOUNCES`] of them if it is not
//! left alone, and what is found is handed on if three things are known:
//!
//! 1. **Nobody was writing it.** On Linux it is read under a read lease (fcntl(2), F_SETLEASE),
//!    which the kernel refuses while the file is open for writing anywhere and by any name, or
//!    mapped shared from such a descriptor, open still or closed since; and which it breaks if
//!    somebody opens it for writing or truncates it meanwhile (`os::linux::lease` has the kernel's
//!    side). So no byte of the file changed between the first that was read and the last, whatever
//!    way it is written: also where it is overwritten in place, and where a linker maps it. A
//!    writer that is met has to close the file, which is noticed; one that does not, and leaves it
//!    as it is, is told of. One that wants to open it while it is read waits until it was, or gets
//!    EWOULDBLOCK if he asked for O_NONBLOCK: some 3 us for a module of 15 kB, 50 us for 1 MB.
//!
//!    Where there are no leases (a file of another owner without CAP_LEASE, network file systems,
//!    macOS) two readings have to be equal, a debounce apart, in bytes, size, time and inode. A
//!    writer that pauses for longer than that is not seen there.
//! 2. **It is all there**, if more than one opening made it: an ELF file or an archive is
//!    [whole](whole::is_whole) if what its tables promise is in it. One that is not may still
//!    become so: it is handed on as it is, for the loader to say what is wrong with it, once it has
//!    not changed for [`Settle::patience`].
//! 3. **It is another**: its digest is not that of the content that was handed on last, or was
//!    loaded to begin with. Times do not count. What the kernel says was not written, and is the
//!    same file by inode, size and time, is not even read. A, then B, then A again are three
//!    versions; versions that were replaced within a debounce may be passed over, the last never
//!    is.
//!
//! The thread is started with the first watch, has no timer while nothing happens, and holds no
//! lock while a callback runs. What is kept does not grow with the number of events: they only mark
//! files, and the kernel's queue of them is bounded; if it overflows, all files are looked at.
//!
//! What is not seen: changes that the kernel gives no notice of, which are those that another
//! machine makes on a network file system, and a file system mounted over a folder of the way; and
//! the moving of folders that may not be read. A child of fork(2) has none of its parent's watches.
//! It may begin its own, if no thread was in a call of the watcher when it was forked.

mod reading;
mod route;
#[cfg(test)]
mod tests;
mod whole;
mod worker;

use std::io;
use std::mem;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use worker::Shared;

use crate::platform::buffers::Buffer;
use crate::platform::files::{ContentHash, Identity};

/// A file that is changed all the time is looked at after so many debounces, rather than never.
const MOST_DEBOUNCES: u32 = 20;

/// A complete version of a file.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) bytes: Buffer,
    /// Which file it was.
    pub(crate) identity: Identity,
    pub(crate) digest: ContentHash,
}

/// What a callback is told.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A version, complete; or one that has stayed incomplete for [`Settle::patience`].
    Version(Contents),
    /// The file cannot be read, or its folder not be watched, for [`Settle::patience`] now; or
    /// somebody has it open for writing, for [`Settle::held`] since it was changed. Said once
    /// for each reason; it is tried again every so often, and when something changes. A file
    /// that does not exist is none: it is waited for.
    Failed(io::Error),
    /// The callback panicked, with this message, when it was told of a version, which counts as
    /// handed on. If it panics again on being told so, only the panic hook has heard of that.
    Panicked(String),
}

/// When a file counts as complete.
#[derive(Clone, Debug)]
pub(crate) struct Settle {
    /// For how long a file has to be left alone before it is looked at.
    pub(crate) debounce: Duration,
    /// For how long a file that is not whole, or cannot be read, may still become so.
    pub(crate) patience: Duration,
    /// For how long a file that somebody has open for writing, and does not change, is waited for
    /// before that is told.
    pub(crate) held: Duration,
    /// Whether the bytes are all of a file.
    pub(crate) whole: fn(&[u8]) -> bool,
    /// Whether to ask for leases.
    pub(crate) leases: bool,
}

impl Default for Settle {
    fn default() -> Self {
        Self {
            debounce: Duration::from_millis(50),
            patience: Duration::from_secs(2),
            held: Duration::from_secs(2),
            whole: whole::is_whole,
            leases: true,
        }
    }
}

/// A watch, among all of the process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct WatchId(u64);

impl WatchId {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Relaxed: only its being unique counts.
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Called on the watcher's thread.
pub(crate) type Callback = Box<dyn FnMut(&Path, Outcome) + Send>;

/// Watches files, on one thread of its own: `midflight-watch`.
pub(crate) struct Watcher {
    running: Mutex<Option<Running>>,
}

struct Running {
    shared: Arc<Shared>,
    /// Taken by who waits for its end.
    thread: Option<JoinHandle<()>>,
    /// A child of fork has a copy of this, but no such thread.
    process: u32,
}

impl Running {
    fn is_ours(&self) -> bool {
        self.process == std::process::id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.is_ours() {
            // Dropping the handle would detach a thread that is not there, and panic.
            mem::forget(self.thread.take());
        }
    }
}

impl Watcher {
    /// Starts nothing yet.
    pub(crate) const fn new() -> Self {
        Self { running: Mutex::new(None) }
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `callback` with each complete version of the file from now on: with what is there
    /// already too, unless its digest is `loaded`. The path is taken as it is now if it is
    /// relative. Neither file nor folder need exist. A path may be watched more than once. May
    /// be called from callbacks.
    ///
    /// # Errors
    ///
    /// If the thread cannot be started, or a folder on the way not be watched: it may not be read,
    /// or a limit of the system's for such (inotify(7), `/proc` interfaces) is reached.
    pub(crate) fn watch(
        &self,
        path: &Path,
        settle: Settle,
        loaded: Option<ContentHash>,
        callback: Callback,
    ) -> io::Result<WatchId> {
        let path = std::path::absolute(path)?;
        let mut file = Some(worker::File::new(path, settle, loaded, callback));
        loop {
            let shared = self.started()?;
            // It may have been stopped since.
            if let Some(result) = shared.add(&mut file) {
                return result;
            }
        }
    }

    fn started(&self) -> io::Result<Arc<Shared>> {
        let mut running = self.running();
        let goes_on = |running: &&Running| running.is_ours() && !running.shared.is_stopping();
        if let Some(running) = running.as_ref().filter(goes_on) {
            return Ok(running.shared.clone());
        }
        let shared = Arc::new(Shared::new()?);
        let thread = thread::Builder::new().name("midflight-watch".into());
        let thread = thread.spawn({
            let shared = shared.clone();
            move || shared.run()
        })?;
        // A thread that came to its end by itself is not waited for: it may be the one that calls.
        let process = std::process::id();
        *running = Some(Running { shared: shared.clone(), thread: Some(thread), process });
        Ok(shared)
    }

    /// Ends a watch. The callback is not running any more when this returns, is dropped, and will
    /// not run. Called from the callback itself it only will not run again. Must not be called
    /// with a lock that the callback takes.
    ///
    /// Returns whether there was such a watch.
    pub(crate) fn unwatch(&self, id: WatchId) -> bool {
        let running = self.running();
        let shared =
            running.as_ref().filter(|running| running.is_ours()).map(|running| running.shared.clone());
        drop(running);
        shared.is_some_and(|shared| shared.remove(id))
    }

    /// Ends all watches and the thread, and waits for it; from a callback, it ends after that. The
    /// next `watch` starts another.
    pub(crate) fn stop(&self) {
        let (shared, thread) = match &mut *self.running() {
            Some(running) if running.is_ours() => {
                // From a callback, the handle is left for whoever can wait.
                let here = running.shared.is_this_thread();
                (running.shared.clone(), if here { None } else { running.thread.take() })
            }
            _ => return,
        };
        let files = shared.stop();
        if shared.is_this_thread() {
            return;
        }
        match thread {
            Some(thread) => {
                // It catches what callbacks do, so there is nothing to pass on.
                let ended = thread.join();
                debug_assert!(ended.is_ok(), "the watcher's thread does not panic");
            }
            // Somebody else stops it as well.
            None => shared.wait_for_end(),
        }
        drop(files);
        // Not earlier: `unwatch` is to find callbacks that run.
        let mut running = self.running();
        if running.as_ref().is_some_and(|running| Arc::ptr_eq(&running.shared, &shared)) {
            *running = None;
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop();
    }
}
