//! Where the time of staging goes.

use std::time::{Duration, Instant};

/// Where the time of staging went, summed over the modules of a publication.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Phases {
    /// Reading the files.
    pub read: Duration,
    /// Checking what they say.
    pub parse: Duration,
    /// Finding what their imports stand for, loading the libraries they need included.
    pub bind: Duration,
    /// Finding a place, copying, relocating.
    pub link: Duration,
    /// Giving pages their final protections, and making code visible to instruction fetch.
    pub seal: Duration,
    /// Indirect functions, thread-local storage, unwinders, debuggers.
    pub register: Duration,
    /// The next table, the synchronisation of the cores, the constructors.
    pub initialise: Duration,
    /// Writing to the journal, with its syncs: the files' bytes and the commit.
    pub commit: Duration,
}

/// Measures one phase after the other.
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Adds the time since the last call to a phase.
    pub(crate) fn lap(&mut self, phase: &mut Duration) {
        let now = Instant::now();
        *phase += now - self.0;
        self.0 = now;
    }

    /// Adds the time since the last call to none.
    pub(crate) fn skip(&mut self) {
        self.0 = Instant::now();
    }
}
