//! One event for each thing that has happened to modules, told once it is done.
//!
//! The runtime tells of it when it has let go of its lock, on the thread that did it. The
//! statistics hear first, then the log, then whoever [subscribed](crate::Runtime::subscribe). An
//! event borrows what is there anyway, so it costs nothing where nobody listens; what has to be
//! looked for (hashes of files, which functions are other code) is looked for only if somebody
//! does.

mod record;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::platform::files::ContentHash;
use crate::platform::os::fork;
use crate::{Error, ModuleVersion, Publication, Replaced, Retained, Retired};

pub use record::{ModuleRecord, ModuleState, Outcome, Record};

/// Something that has happened. Each is told once: what a load does is in its event and in no
/// other.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'e> {
    /// A load or a [transaction](crate::Transaction) was published: all its modules are in frames
    /// that are opened from now on. A transaction may also have brought versions
    /// [back](Publication::back) and taken modules [out](Publication::gone); of that there is no
    /// other event.
    Published {
        /// What was published.
        publication: &'e Publication,
        /// From the call to its end.
        took: Duration,
        /// It was the load of a [watched](crate::Runtime::watch) file that was written again.
        watched: bool,
    },
    /// A load or a transaction was refused: nothing was published, and what is loaded goes on.
    Refused {
        /// The files, in the order of the call; none if it named none.
        files: &'e [Attempt],
        /// Why.
        error: &'e Error,
        /// From the call to its end.
        took: Duration,
        /// As for [`Event::Published`].
        watched: bool,
    },
    /// A load was published, its code in memory was found not to be what was linked
    /// ([`LoadOptions::verify`](crate::LoadOptions::verify)), and it stays all the same: nobody
    /// asked for a rollback, or it cannot be.
    Damaged {
        /// What was published.
        publication: &'e Publication,
        /// What was found.
        error: &'e Error,
        /// From the call to its end.
        took: Duration,
        /// As for [`Event::Published`].
        watched: bool,
    },
    /// Earlier versions are current again, with their variables as they were left.
    RolledBack {
        /// That by which they are.
        publication: &'e Publication,
        /// None: it was asked for. Else the load that was published and found damaged, as for
        /// [`Event::Damaged`], and how.
        damaged: Option<(&'e Publication, &'e Error)>,
        /// From the call to its end.
        took: Duration,
        /// As for [`Event::Published`].
        watched: bool,
    },
    /// A rollback was asked for and refused: nothing was published.
    NotRolledBack {
        /// Why.
        error: &'e Error,
        /// From the call to its end.
        took: Duration,
    },
    /// Modules were taken out.
    Unloaded {
        /// The versions that were current.
        modules: &'e [ModuleVersion],
        /// The first generation without them.
        generation: u64,
    },
    /// A version that was replaced or unloaded is kept, though no frame is inside it.
    Retained(&'e Retained),
    /// A version that was replaced or unloaded is gone.
    Retired(&'e Retired),
    /// A file is watched from now on.
    Watched {
        /// As it was given.
        path: &'e Path,
    },
    /// A file is not watched any more.
    Unwatched {
        /// Absolute.
        path: &'e Path,
    },
    /// A watched file cannot be read, or stays open for writing; or who was told of a load of it
    /// panicked. It is watched still.
    WatchFailed {
        /// As it was given.
        path: &'e Path,
        /// What is wrong.
        error: &'e Error,
    },
    /// The runtime was shut down.
    Stopped {
        /// Why modules stay loaded, if they do.
        error: Option<&'e Error>,
    },
}

/// A file of a load that was refused, as far as it was come to know.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Attempt {
    /// The file, or the first of a module's. None: the module has none.
    pub path: Option<PathBuf>,
    /// The module's name. None: the load was refused before that was read.
    pub module: Option<Arc<str>>,
    /// Of all that its files hold. None: the load was refused before they were read, or nobody had
    /// asked.
    pub content: Option<ContentHash>,
    /// The version of the module that was loaded when this was compared with it. None: none was, or
    /// it did not come to that.
    pub loaded: Option<Replaced>,
}

impl Attempt {
    /// Nothing but the file is known.
    pub(crate) fn new(path: Option<&Path>) -> Self {
        Self { path: path.map(Into::into), module: None, content: None, loaded: None }
    }
}

/// The record of each load as a line of JSON, at DEBUG.
const RECORDS: &str = "midflight::record";

type Subscriber = dyn Fn(&Event<'_>) + Send + Sync;

/// Who is told.
#[derive(Default)]
pub(crate) struct Events {
    subscribers: Mutex<Vec<(u64, Arc<Subscriber>)>>,
    /// How many there are. Relaxed: who subscribes while something happens may come too late for
    /// it.
    count: AtomicUsize,
}

/// Who has [subscribed](crate::Runtime::subscribe). Dropped, it takes that back: no call begins any
/// more, and one that another thread has begun may still go on.
#[must_use = "dropped, it ends the subscription"]
pub struct Subscription {
    events: &'static Events,
    id: u64,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let ended = {
            let mut subscribers = self.events.subscribers.lock();
            let at = subscribers.iter().position(|(id, _)| *id == self.id);
            at.map(|at| subscribers.remove(at))
        };
        self.events.count.fetch_sub(1, Ordering::Relaxed);
        // Not with the lock: what it owns may have a destructor that subscribes.
        drop(ended);
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}

impl Events {
    pub(crate) fn subscribe(&'static self, subscriber: Arc<Subscriber>) -> Subscription {
        let mut subscribers = self.subscribers.lock();
        let id = subscribers.last().map_or(0, |(id, _)| id + 1);
        subscribers.push((id, subscriber));
        self.count.fetch_add(1, Ordering::Relaxed);
        Subscription { events: self, id }
    }

    /// Whether somebody wants to know what files hold and which functions change.
    pub(crate) fn are_recorded(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
            || tracing::event_enabled!(target: RECORDS, tracing::Level::DEBUG)
    }

    /// Tells the log, and whoever subscribed, in that order. With no lock of the runtime's.
    pub(crate) fn tell(&self, event: &Event<'_>) {
        log(event);
        // A forked child has not got the threads that subscribers are for.
        if self.count.load(Ordering::Relaxed) == 0 || fork::is_child() {
            return;
        }
        let subscribers: Vec<_> =
            self.subscribers.lock().iter().map(|(_, subscriber)| subscriber.clone()).collect();
        for subscriber in subscribers {
            // What happened has happened; the panic hook has said why this one does not know.
            if catch_unwind(AssertUnwindSafe(|| subscriber(event))).is_err() {
                tracing::error!("a subscriber panicked when it was told what has happened");
            }
        }
    }
}

/// The log's lines: for people one for each module, and for programs one for each load.
fn log(event: &Event<'_>) {
    match event {
        Event::Published { publication, took, .. } => published(publication, *took),
        Event::Damaged { publication, error, took, .. } => {
            published(publication, *took);
            tracing::error!(%error, "published, and it stays");
        }
        Event::RolledBack { publication, damaged, took, .. } => {
            if let Some((_, error)) = damaged {
                tracing::error!(%error, "rolled back");
            }
            let Publication { modules, gone, .. } = publication;
            modules.iter().for_each(|module| is_back(module, publication, *took));
            gone.iter().for_each(|module| tracing::info!(module = &*module.name, "unloaded by a rollback"));
        }
        Event::Refused { error, .. } => tracing::error!(%error, "not published"),
        Event::NotRolledBack { error, .. } => tracing::error!(%error, "not rolled back"),
        Event::Unloaded { modules, .. } => {
            modules.iter().for_each(|module| tracing::info!(module = &*module.name, "unloaded"));
        }
        Event::Retained(Retained { module, version, until, .. }) => {
            tracing::debug!(module = &**module, version, ?until, "kept");
        }
        Event::Retired(Retired { module, version, bytes, .. }) => {
            tracing::debug!(module = &**module, version, bytes, "freed");
        }
        Event::Watched { path } => tracing::info!(path = %path.display(), "watched"),
        Event::Unwatched { path } => tracing::info!(path = %path.display(), "not watched any more"),
        Event::WatchFailed { error, .. } => tracing::error!(%error, "a watched file was not loaded"),
        Event::Stopped { error: None } => tracing::info!("stopped"),
        Event::Stopped { error: Some(error) } => tracing::error!(%error, "stopped, but modules stay loaded"),
    }
    if tracing::event_enabled!(target: RECORDS, tracing::Level::DEBUG)
        && let Some(record) = Record::of(event)
    {
        tracing::debug!(target: RECORDS, "{}", record.to_json());
    }
}

fn is_back(module: &ModuleVersion, by: &Publication, took: Duration) {
    let (publish_ns, took_us) = (by.publish.as_nanos() as u64, took.as_micros() as u64);
    let replaces = module.replaced.as_ref().map(|replaced| replaced.version);
    let (module, version, generation) = (&*module.name, module.version, by.generation);
    tracing::info!(module, version, replaces, generation, took_us, publish_ns, "is back");
}

fn published(publication: &Publication, took: Duration) {
    let Publication { generation, publish, modules, back, gone, .. } = publication;
    back.iter().for_each(|module| is_back(module, publication, took));
    gone.iter().for_each(|module| tracing::info!(module = &*module.name, "unloaded"));
    for of in modules {
        let (declared, publish_ns) = (of.declared.as_deref(), publish.as_nanos() as u64);
        let (module, version, took_us) = (&*of.name, of.version, took.as_micros() as u64);
        let replaces = of.replaced.as_ref().map(|replaced| replaced.version);
        let unchanged = of.is_unchanged();
        tracing::info!(
            module,
            version,
            replaces,
            unchanged,
            declared,
            generation,
            took_us,
            publish_ns,
            "published"
        );
    }
}
