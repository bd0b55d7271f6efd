//! How a load is done.

use std::fmt;
use std::path::Path;
use std::time::Duration;

/// Told how far a file is, in percent.
pub type Progress<'p> = &'p (dyn Fn(&Path, u32) + Sync);

/// What a load does about conflicts: what
/// [`Runtime::conflicts`](crate::Runtime::conflicts) finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
#[non_exhaustive]
pub enum ConflictMode {
    /// None are looked for, beyond what every load checks.
    #[default]
    Unasked,
    /// One that is [medium](crate::conflict::Severity::Medium) or graver refuses the load:
    /// [`Error::Conflicting`](crate::Error::Conflicting).
    Refuse,
    /// What can be loaded is, and the log has each conflict at WARN. What cannot is refused with
    /// [`Error::Conflicting`](crate::Error::Conflicting), which says what to do.
    PreferLatest,
}

/// What becomes of a module's ordinary variables when it is replaced
/// ([`LoadOptions::carry`](crate::LoadOptions::carry)).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Carry {
    /// The new version's begin with their initial values.
    #[default]
    Nothing,
    /// Those that can be carried over have the values that they had; the others begin anew, and
    /// [`Publication::anew`](crate::Publication::anew) lists them.
    Possible,
    /// All have the values that they had. If one cannot be carried over, the load is refused with
    /// [`Error::NotCarried`](crate::Error::NotCarried).
    All,
}

/// How a load is done. The default is the fastest: on the calling thread, without a limit, nothing
/// checked but what must be.
///
/// ```
/// use midflight::LoadOptions;
///
/// let options = LoadOptions::new().validate(true).keep_previous(true);
/// assert!(options.verify(true).validate);
/// ```
#[derive(Clone, Copy, Default)]
#[non_exhaustive]
pub struct LoadOptions<'p> {
    /// Refuse with [`Error::Incompatible`](crate::Error::Incompatible) what
    /// [`Runtime::compatibility`](crate::Runtime::compatibility) calls incompatible with the
    /// version that is loaded. What it cannot know passes.
    pub validate: bool,
    /// Keep the versions that are replaced, code and variables as they are, for
    /// [`Runtime::rollback_module`](crate::Runtime::rollback_module).
    pub keep_previous: bool,
    /// Stage on so many of the runtime's threads
    /// ([`Runtime::set_threads`](crate::Runtime::set_threads)), rather than on the calling one. 0:
    /// on the calling one.
    pub threads: usize,
    /// Give up with [`Error::Timeout`](crate::Error::Timeout) what takes longer, waiting for other
    /// loads included. Looked at between steps; a constructor that does not return is not
    /// interrupted.
    pub timeout: Option<Duration>,
    /// Compare the code in memory with what was linked, once it is published:
    /// [`Error::Integrity`](crate::Error::Integrity).
    pub verify: bool,
    /// If that finds a difference, publish the replaced versions again.
    pub rollback_on_failure: bool,
    /// Refuse with [`Error::Conflict`](crate::Error::Conflict) to replace what another thread has
    /// published since the call began: the first that publishes wins, and not the last. A
    /// [transaction](crate::Transaction) has more of that.
    pub refuse_conflicts: bool,
    /// What is done about conflicts.
    pub conflicts: ConflictMode,
    /// Those who have [registered](crate::Runtime::add_resolver) for it are asked about each
    /// conflict before the mode decides; without a mode, as by [`ConflictMode::Refuse`].
    pub resolve_conflicts: bool,
    /// What becomes of the variables of the version that is replaced. But for
    /// [`Carry::Nothing`] the version before must have been loaded so as well, and both have debug
    /// information (`-g`). Calls of the module wait while values are copied, at most a second for
    /// frames that are open: then it is refused with [`Error::Occupied`](crate::Error::Occupied).
    /// The calling thread has no frame open. docs/state.md says what is carried over.
    pub carry: Carry,
    /// Told how far each file is, in percent: never less than before, and 100 when it is published.
    /// Called on the loading thread; the runtime is busy meanwhile. If it panics, the panic
    /// goes on to whoever loads, and nothing is published and nothing left behind; but by 100
    /// it is published, and stays.
    pub progress: Option<Progress<'p>>,
}

impl<'p> LoadOptions<'p> {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn looks_for_conflicts(&self) -> bool {
        self.conflicts != ConflictMode::Unasked || self.resolve_conflicts
    }

    /// Sets [`validate`](Self#structfield.validate).
    #[must_use]
    pub fn validate(self, validate: bool) -> Self {
        Self { validate, ..self }
    }

    /// Sets [`keep_previous`](Self#structfield.keep_previous).
    #[must_use]
    pub fn keep_previous(self, keep_previous: bool) -> Self {
        Self { keep_previous, ..self }
    }

    /// Sets [`threads`](Self#structfield.threads).
    #[must_use]
    pub fn threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// Sets [`timeout`](Self#structfield.timeout). None: no limit.
    #[must_use]
    pub fn timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        Self { timeout: timeout.into(), ..self }
    }

    /// Sets [`verify`](Self#structfield.verify).
    #[must_use]
    pub fn verify(self, verify: bool) -> Self {
        Self { verify, ..self }
    }

    /// Sets [`rollback_on_failure`](Self#structfield.rollback_on_failure).
    #[must_use]
    pub fn rollback_on_failure(self, rollback_on_failure: bool) -> Self {
        Self { rollback_on_failure, ..self }
    }

    /// Sets [`refuse_conflicts`](Self#structfield.refuse_conflicts).
    #[must_use]
    pub fn refuse_conflicts(self, refuse_conflicts: bool) -> Self {
        Self { refuse_conflicts, ..self }
    }

    /// Sets [`conflicts`](Self#structfield.conflicts).
    #[must_use]
    pub fn conflicts(self, conflicts: ConflictMode) -> Self {
        Self { conflicts, ..self }
    }

    /// Sets [`resolve_conflicts`](Self#structfield.resolve_conflicts).
    #[must_use]
    pub fn resolve_conflicts(self, resolve_conflicts: bool) -> Self {
        Self { resolve_conflicts, ..self }
    }

    /// Sets [`carry`](Self#structfield.carry).
    #[must_use]
    pub fn carry(self, carry: Carry) -> Self {
        Self { carry, ..self }
    }

    /// Sets [`progress`](Self#structfield.progress).
    #[must_use]
    pub fn progress(self, progress: Progress<'p>) -> Self {
        Self { progress: Some(progress), ..self }
    }
}

impl fmt::Debug for LoadOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadOptions")
            .field("validate", &self.validate)
            .field("keep_previous", &self.keep_previous)
            .field("threads", &self.threads)
            .field("timeout", &self.timeout)
            .field("verify", &self.verify)
            .field("rollback_on_failure", &self.rollback_on_failure)
            .field("refuse_conflicts", &self.refuse_conflicts)
            .field("conflicts", &self.conflicts)
            .field("resolve_conflicts", &self.resolve_conflicts)
            .field("carry", &self.carry)
            .field("progress", &self.progress.is_some())
            .finish()
    }
}
