//! All versions there are, for who asks what is in memory and why.

use std::path::PathBuf;

use super::state::State;
use crate::module::Version;

/// A version that is in memory.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct LoadedVersion {
    /// The module's name.
    pub module: String,
    /// Counts the loads of this module that succeeded, from 1.
    pub version: u64,
    /// The version that the module says it is.
    pub declared: Option<String>,
    /// The file, or the first of them.
    pub path: PathBuf,
    /// Why it is there.
    pub state: VersionState,
    /// The first generation without it. None: it is current.
    pub until: Option<u64>,
    /// Its code memory.
    pub bytes: usize,
    /// Threads that are in frames of generations that were replaced and had it: those keep it.
    pub holders: usize,
}

/// Why a version is in memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum VersionState {
    /// Frames opened now run it.
    Current,
    /// It was replaced: until the last frame of its generations has ended, and what is kept that
    /// calls it.
    Retired,
    /// It may be called outside frames: until a look at all threads shows that nobody is inside
    /// ([`collect_quiescent`](crate::Runtime::collect_quiescent)); if it is
    /// [retained](crate::Runtime::retain), for good.
    Retained,
    /// It can be had back: [`keep_previous`](crate::LoadOptions::keep_previous),
    /// [`history`](crate::Config::history).
    Backup,
    /// Threads that it started go on in it, or its exit functions run, or its handlers of signals
    /// are installed.
    Busy,
}

impl State {
    /// See [`crate::Runtime::versions`].
    pub(crate) fn inventory(&self) -> Vec<LoadedVersion> {
        let holders = self.retirement.holding_generations();
        let describe = |version: &Version, state, generations: std::ops::RangeInclusive<u64>| LoadedVersion {
            module: version.name().to_string(),
            version: version.number(),
            declared: version.declared().map(str::to_owned),
            path: version.path().into(),
            state,
            until: version.ended_in(),
            bytes: version.bytes(),
            holders: holders.iter().filter(|generation| generations.contains(generation)).count(),
        };
        let current = self.current_since();
        let current =
            current.map(|(version, since)| describe(version, VersionState::Current, since..=u64::MAX));
        let replaced = self.retirement.replaced().map(|(version, generations)| {
            let backup = self.is_backup(version);
            describe(version, if backup { VersionState::Backup } else { VersionState::Retired }, generations)
        });
        #[expect(clippy::reversed_empty_ranges, reason = "no frame holds it")]
        let none = 1..=0;
        let retained = self
            .retirement
            .retained
            .iter()
            .map(|version| describe(version, VersionState::Retained, none.clone()));
        let busy = self.retirement.busy().map(|version| describe(version, VersionState::Busy, none.clone()));
        let mut all: Vec<_> = current.chain(replaced).chain(retained).chain(busy).collect();
        all.sort_by(|a, b| (&a.module, a.version).cmp(&(&b.module, b.version)));
        all
    }
}
