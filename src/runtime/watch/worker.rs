//! The watcher's thread.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use super::reading::{Attempt, Held, Stamp, attempt};
use super::route::Places;
use super::{Callback, MOST_DEBOUNCES, Outcome, Settle, WatchId};
use crate::platform::files::{ContentHash, Identity};
use crate::platform::os::changes::{Changes, Event};

/// What the thread shares with those who call the watcher.
pub(super) struct Shared {
    changes: Changes,
    state: Mutex<State>,
    /// No callback is running any more; the thread has ended.
    returned: Condvar,
    thread: OnceLock<ThreadId>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<WatchId, File>,
    places: Places,
    /// Whose callback runs.
    running: Option<WatchId>,
    stopping: bool,
    ended: bool,
}

/// A watched file.
pub(super) struct File {
    path: PathBuf,
    settle: Settle,
    /// What was handed on last.
    last: Option<ContentHash>,
    /// As what the file was found that has it.
    known: Option<Identity>,
    /// It may have been written since, or may be another.
    changed: bool,
    /// Taken while it runs.
    callback: Option<Callback>,
    /// When to look at it.
    due: Option<Instant>,
    /// When to look at it at the latest, since it has not been left alone.
    latest: Option<Instant>,
    /// What the last reading found, if there is no lease.
    before: Option<Stamp>,
    doubt: Option<Doubt>,
}

/// Something is wrong, and may pass.
struct Doubt {
    what: Wrong,
    since: Instant,
    told: bool,
}

#[derive(PartialEq)]
enum Wrong {
    Incomplete(ContentHash),
    Failed(io::ErrorKind, Option<i32>),
    Held(Held),
}

impl Wrong {
    fn failed(error: &io::Error) -> Self {
        Self::Failed(error.kind(), error.raw_os_error())
    }
}

impl File {
    pub(super) fn new(path: PathBuf, settle: Settle, last: Option<ContentHash>, callback: Callback) -> Self {
        let callback = Some(callback);
        Self {
            path,
            settle,
            last,
            known: None,
            changed: true,
            callback,
            due: None,
            latest: None,
            before: None,
            doubt: None,
        }
    }

    /// It may be another, or written.
    fn changed(&mut self, now: Instant) {
        self.changed = true;
        self.touched(now);
    }

    /// Something happened to it.
    fn touched(&mut self, now: Instant) {
        let latest = *self.latest.get_or_insert(now + self.settle.debounce * MOST_DEBOUNCES);
        self.due = Some(latest.min(now + self.settle.debounce));
    }

    /// What to tell of what a reading found; and when to look again, if nothing is noticed before.
    fn judge(&mut self, attempt: Attempt, now: Instant) -> Option<Outcome> {
        let before = self.before.take();
        self.known = None;
        match attempt {
            Attempt::Missing => self.doubt = None,
            Attempt::Written(held) => {
                // The writer's closing it is noticed. Not so if somebody holds a lease for writing.
                self.look_again(now + self.settle.patience);
                let Some(held) = held else {
                    self.doubt = None;
                    return None;
                };
                let wait = self.settle.held;
                if self.is_certain(Wrong::Held(held), wait, now) {
                    return Some(Outcome::Failed(io::Error::other(format!(
                        "it has been open for writing, or mapped so, for {} s without a change, and nothing of it is loaded before that \
                         ends: close it when it is complete, or write another file and rename that over it",
                        wait.as_secs_f32()
                    ))));
                }
            }
            Attempt::Doubtful(stamp) => {
                self.before = Some(stamp);
                self.look_again(now + self.settle.debounce);
            }
            Attempt::Complete(contents) => {
                if self.last == Some(contents.digest) {
                    self.doubt = None;
                    self.known = Some(contents.identity);
                } else if (self.settle.whole)(&contents.bytes)
                    || self.is_certain(Wrong::Incomplete(contents.digest), self.settle.patience, now)
                {
                    self.doubt = None;
                    self.last = Some(contents.digest);
                    self.known = Some(contents.identity);
                    return Some(Outcome::Version(contents));
                } else {
                    // It will be the second reading, if there are two to be.
                    self.before = before;
                }
            }
            Attempt::Failed(error) => return self.failed(error, now),
        }
        None
    }

    fn failed(&mut self, error: io::Error, now: Instant) -> Option<Outcome> {
        let certain = self.is_certain(Wrong::failed(&error), self.settle.patience, now);
        // Not everything that ends it is noticed: a limit that was raised is not.
        self.look_again(now + self.settle.patience);
        certain.then_some(Outcome::Failed(error))
    }

    /// Whether this has been wrong for so long that it is to be told, and was not told yet.
    fn is_certain(&mut self, what: Wrong, wait: Duration, now: Instant) -> bool {
        match &mut self.doubt {
            Some(doubt) if doubt.what == what => {
                let certain = now >= doubt.since + wait;
                let tell = certain && !doubt.told;
                doubt.told |= certain;
                if !certain {
                    let until = doubt.since + wait;
                    self.look_again(until);
                }
                tell
            }
            doubt => {
                *doubt = Some(Doubt { what, since: now, told: false });
                self.look_again(now + wait);
                false
            }
        }
    }

    fn look_again(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }
}

impl State {
    /// Has all files looked at if the descriptors are new: then no place gives notice.
    fn renew(&mut self, changes: &Changes) -> io::Result<()> {
        if changes.are_renewed()? {
            self.places.clear();
            let now = Instant::now();
            self.files.values_mut().for_each(|file| file.changed(now));
        }
        Ok(())
    }
}

impl Shared {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            changes: Changes::new()?,
            state: Mutex::default(),
            returned: Condvar::new(),
            thread: OnceLock::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.state().stopping
    }

    pub(super) fn is_this_thread(&self) -> bool {
        self.thread.get() == Some(&thread::current().id())
    }

    /// `None` if the thread is about to end: then the file is left.
    pub(super) fn add(&self, file: &mut Option<File>) -> Option<io::Result<WatchId>> {
        let mut state = self.state();
        if state.stopping {
            return None;
        }
        if let Err(error) = state.renew(&self.changes) {
            return Some(Err(error));
        }
        let mut file = file.take().expect("it is added once");
        let id = WatchId::next();
        if let Err(error) = state.places.find(&self.changes, id, &file.path) {
            // Outside the lock: the callback is dropped with it.
            drop(state);
            return Some(Err(error));
        }
        file.due = Some(Instant::now());
        state.files.insert(id, file);
        drop(state);
        self.changes.wake();
        Some(Ok(id))
    }

    pub(super) fn remove(&self, id: WatchId) -> bool {
        let mut state = self.state();
        let file = state.files.remove(&id);
        // Without descriptors there is nothing to take back, and the thread says so itself.
        if state.renew(&self.changes).is_ok() {
            state.places.forget(&self.changes, id);
        }
        if !self.is_this_thread() {
            let running = |state: &mut State| state.running == Some(id);
            drop(self.returned.wait_while(state, running).unwrap_or_else(PoisonError::into_inner));
        } else {
            drop(state);
        }
        // What the callback owns is dropped here: no lock is held.
        file.is_some()
    }

    /// Has the thread end. Returns the files, whose callbacks are to be dropped without a lock.
    pub(super) fn stop(&self) -> BTreeMap<WatchId, File> {
        let mut state = self.state();
        state.stopping = true;
        let files = mem::take(&mut state.files);
        drop(state);
        self.changes.wake();
        files
    }

    /// Waits until no callback runs, and none will.
    pub(super) fn wait_for_end(&self) {
        let state = self.returned.wait_while(self.state(), |state| !state.ended);
        drop(state.unwrap_or_else(PoisonError::into_inner));
    }

    /// The thread.
    pub(super) fn run(&self) {
        self.thread.get_or_init(|| thread::current().id());
        self.serve();
        self.state().ended = true;
        self.returned.notify_all();
    }

    fn serve(&self) {
        loop {
            let Some(timeout) = self.timeout() else { return };
            match self.changes.wait(timeout) {
                Ok(events) => self.note(events),
                Err(error) => return self.fail(&error),
            }
            for id in self.due() {
                self.look(id);
            }
        }
    }

    /// How long there is nothing to look at; nothing at all if the thread is to end.
    fn timeout(&self) -> Option<Option<Duration>> {
        let state = self.state();
        let due = state.files.values().filter_map(|file| file.due).min();
        (!state.stopping).then(|| due.map(|due| due.saturating_duration_since(Instant::now())))
    }

    fn note(&self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut state = self.state();
        let State { files, places, .. } = &mut *state;
        for event in events {
            let only_status = matches!(event, Event::Status(_));
            let concerned: Vec<_> = match event {
                Event::Changed(place, name) => places.concerned(place, name.as_deref()).collect(),
                Event::Status(place) => places.concerned(place, None).collect(),
                Event::Gone(place) => places.remove(place),
                Event::Lost => files.keys().copied().collect(),
                Event::Renewed => {
                    places.clear();
                    files.keys().copied().collect()
                }
            };
            for id in concerned {
                match files.get_mut(&id) {
                    Some(file) if only_status => file.touched(now),
                    Some(file) => file.changed(now),
                    None => {}
                }
            }
        }
    }

    fn due(&self) -> Vec<WatchId> {
        let now = Instant::now();
        let due = |(&id, file): (&WatchId, &File)| file.due.is_some_and(|due| due <= now).then_some(id);
        self.state().files.iter().filter_map(due).collect()
    }

    /// Looks at a file, and tells its callback what there is to tell.
    fn look(&self, id: WatchId) {
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(file) = state.files.get_mut(&id) else { return };
        (file.due, file.latest) = (None, None);
        let changed = mem::take(&mut file.changed);
        let known = file.known.filter(|_| !changed);
        let path = file.path.clone();
        let found = match state.renew(&self.changes) {
            Ok(()) => state.places.find(&self.changes, id, &path),
            Err(error) => Err(error),
        };
        let Some(file) = state.files.get_mut(&id) else { return };
        let (path, settle, last, before) = (file.path.clone(), file.settle.clone(), file.last, file.before);
        drop(guard);
        let settled = !matches!(found, Ok(false));
        // Another link, or other rights: all that was written is known.
        if settled && known.is_some_and(|known| is_as_written(&path, known)) {
            return;
        }
        let attempt = match found {
            Ok(_) => attempt(&path, &settle, last, before),
            Err(error) => Attempt::Failed(error),
        };
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(file) = state.files.get_mut(&id) else { return };
        let now = Instant::now();
        if !settled {
            file.changed(now);
        }
        let Some(outcome) = file.judge(attempt, now) else { return };
        let mut callback = file.callback.take().expect("only this thread runs it");
        state.running = Some(id);
        drop(guard);

        if let Some(message) = call(|| callback(&path, outcome)) {
            // What it says of a second panic, the panic hook has said.
            let _ = call(|| callback(&path, Outcome::Panicked(message)));
        }

        let mut callback = Some(callback);
        if let Some(file) = self.state().files.get_mut(&id) {
            file.callback = callback.take();
        }
        // It was unwatched meanwhile. Whoever waits for that, waits for this too.
        let _ = call(|| drop(callback));
        self.state().running = None;
        self.returned.notify_all();
    }

    /// No notice can be had any more: somebody has closed our descriptors.
    fn fail(&self, error: &io::Error) {
        for (id, mut file) in self.stop() {
            let mut callback = file.callback.take().expect("only this thread runs it");
            self.state().running = Some(id);
            let error = io::Error::new(error.kind(), format!("the watcher has stopped: {error}"));
            let _ = call(|| callback(&file.path, Outcome::Failed(error)));
            let _ = call(|| drop(callback));
            self.state().running = None;
            self.returned.notify_all();
        }
    }

    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.state().places.len()
    }
}

/// Whether the file at the path is that one, not written since. It may be gone, or not to be seen:
/// then reading it says so.
fn is_as_written(path: &Path, known: Identity) -> bool {
    std::fs::metadata(path).is_ok_and(|now| known.is_as_written(Identity::from(&now)))
}

/// Calls what may panic. Returns the panic's message.
fn call(run: impl FnOnce()) -> Option<String> {
    let panic: Box<dyn Any + Send> = catch_unwind(AssertUnwindSafe(run)).err()?;
    let message = panic.downcast_ref::<String>().cloned();
    let message = message.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
    Some(message.unwrap_or_else(|| "a value that is no text".into()))
}
