//! Hooks: who is asked before modules are replaced, and told what came of it.

use std::cell::Cell;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::{Error, Publication};

type Before = dyn Fn(&[Upcoming]) -> Result<(), i32> + Send + Sync;
type After = dyn Fn(&[Upcoming], Result<&Publication, &Error>) + Send + Sync;

/// A module that a load is about to publish a version of.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Upcoming {
    /// The module's name.
    pub module: String,
    /// The file, or the first of them.
    pub path: PathBuf,
    /// The number of the version that is current. None: the module is not loaded.
    pub replaces: Option<u64>,
}

/// What a part of the program wants to do before and after loads, whoever asks for them: a watch, a
/// console, a test. See [`Runtime::add_hooks`](crate::Runtime::add_hooks).
pub struct ReloadHooks {
    name: String,
    before: Option<Box<Before>>,
    after: Option<Box<After>>,
}

impl ReloadHooks {
    /// None yet. The name is what errors call it.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), before: None, after: None }
    }

    /// Asked when the files have been read, parsed and validated, and nothing is linked yet. An
    /// error refuses the load: [`Error::Vetoed`], with this number.
    ///
    /// On the loading thread, with no lock held. The runtime is busy meanwhile, as for
    /// [`progress`](crate::LoadOptions::progress): it may be asked for statistics, and frames
    /// may call modules; other loads go on on other threads.
    #[must_use]
    pub fn before(mut self, before: impl Fn(&[Upcoming]) -> Result<(), i32> + Send + Sync + 'static) -> Self {
        self.before = Some(Box::new(before));
        self
    }

    /// Told what came of a load that was asked about, whatever that is: once for each time that
    /// [`before`](Self::before) was called (or would have been, if there is none), also if that
    /// or the hooks after it refused.
    ///
    /// On the loading thread, when the load is over: everything may be called, and the load's
    /// result is not changed by it.
    #[must_use]
    pub fn after(
        mut self,
        after: impl Fn(&[Upcoming], Result<&Publication, &Error>) + Send + Sync + 'static,
    ) -> Self {
        self.after = Some(Box::new(after));
        self
    }
}

impl fmt::Debug for ReloadHooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReloadHooks").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Hooks that were added.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct HooksId(u64);

impl HooksId {
    /// As a number, from 1.
    pub fn number(self) -> u64 {
        self.0
    }

    /// From such a number.
    pub fn from_number(number: u64) -> Self {
        Self(number)
    }
}

thread_local! {
    /// In how many loads this thread is that have hooks.
    static LOADS: Cell<u32> = const { Cell::new(0) };
}

/// All that were added, in that order.
#[derive(Default)]
pub(crate) struct Hooks {
    all: Mutex<Added>,
    /// A load that had some is over.
    over: Condvar,
}

#[derive(Default)]
struct Added {
    last: u64,
    hooks: Vec<(u64, Arc<ReloadHooks>)>,
}

impl Hooks {
    pub(crate) fn add(&self, hooks: ReloadHooks) -> HooksId {
        let mut all = self.all.lock();
        all.last += 1;
        let id = all.last;
        all.hooks.push((id, Arc::new(hooks)));
        HooksId(id)
    }

    /// Waits until no load has them any more, unless this thread is in one. False if there are
    /// none.
    pub(crate) fn remove(&self, HooksId(id): HooksId) -> bool {
        let mut all = self.all.lock();
        let Some(at) = all.hooks.iter().position(|(other, _)| *other == id) else { return false };
        let (_, mut hooks) = all.hooks.remove(at);
        while LOADS.get() == 0 && Arc::get_mut(&mut hooks).is_none() {
            self.over.wait(&mut all);
        }
        true
    }

    /// Removes all, without waiting for anybody.
    pub(crate) fn clear(&self) {
        self.all.lock().hooks.clear();
    }

    /// Those of a load that begins.
    pub(crate) fn begin(&self) -> Hooked<'_> {
        let hooks: Vec<_> = self.all.lock().hooks.iter().map(|(_, hooks)| hooks.clone()).collect();
        LOADS.set(LOADS.get() + u32::from(!hooks.is_empty()));
        Hooked { all: self, hooks, asked: 0, upcoming: Vec::new() }
    }
}

/// The hooks of one load.
pub(crate) struct Hooked<'h> {
    all: &'h Hooks,
    hooks: Vec<Arc<ReloadHooks>>,
    /// How many of them were asked.
    asked: usize,
    upcoming: Vec<Upcoming>,
}

impl Hooked<'_> {
    pub(crate) fn are_there(&self) -> bool {
        !self.hooks.is_empty()
    }

    /// Asks them, in order, until one refuses.
    pub(crate) fn before(&mut self, upcoming: Vec<Upcoming>) -> Result<(), Error> {
        self.upcoming = upcoming;
        for hooks in &self.hooks {
            self.asked += 1;
            let answer = hooks.before.as_ref().map_or(Ok(()), |before| before(&self.upcoming));
            let path = || self.upcoming.first().map_or_else(PathBuf::new, |first| first.path.clone());
            answer.map_err(|code| Error::Vetoed { path: path(), by: hooks.name.clone(), code })?;
        }
        Ok(())
    }

    /// Tells those that were asked, in the reverse order.
    pub(crate) fn after(&self, result: Result<&Publication, &Error>) {
        for hooks in self.hooks[..self.asked].iter().rev() {
            if let Some(after) = &hooks.after {
                after(&self.upcoming, result);
            }
        }
    }
}

impl Drop for Hooked<'_> {
    fn drop(&mut self) {
        if self.are_there() {
            LOADS.set(LOADS.get() - 1);
            // With the lock: who waits has looked, and sleeps, or looks after this.
            let _all = self.all.all.lock();
            self.hooks.clear();
            self.all.over.notify_all();
        }
    }
}

impl Upcoming {
    pub(crate) fn new(module: &str, path: &Path, replaces: Option<u64>) -> Self {
        Self { module: module.into(), path: path.into(), replaces }
    }
}
