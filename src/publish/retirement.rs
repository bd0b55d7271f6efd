//! Freeing what was replaced.
//!
//! The dispatcher says which generations no thread can be inside. A version goes when none is left
//! of the generations that it was current in, unless history keeps it, or an address of its module
//! has escaped: a trampoline given to the host may be called outside every frame, where no pin
//! proves anything. Such versions are *retained* until it is known that nobody is inside.
//! And it does not go before the versions whose home it is part of: whatever keeps those keeps it.
//! docs/dispatch.md proves that nothing is freed which somebody is inside (theorem 2) or calls
//! (theorem 3), and says on what conditions.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use midflight_dispatch::Publisher;

use super::tables::{Table, Tables};
use crate::call::frame::{DISPATCH, Made};
use crate::call::home::{Home, Key, with_table};
use crate::host;
use crate::module::{Version, callers_first};
use crate::platform::threads::{Holder, Thread};

/// What a collection did, and what is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Collected {
    /// Versions freed: destructors run, memory unmapped.
    pub freed: usize,
    /// Generations that a frame still holds.
    pub held: usize,
    /// Versions kept because an address of their module has escaped.
    pub retained: usize,
    /// Code memory of the retained versions, in bytes.
    pub retained_bytes: usize,
    /// Versions that no frame holds, but threads do: one that the version started goes on, or one
    /// is running the version's exit functions; or a handler of a signal is in one. The next
    /// collection looks again. Also those of which nobody can say: Rust modules that start
    /// threads by way of a shared standard library.
    pub busy: usize,
    /// Code memory of all versions that were replaced and are not free, whoever keeps them, in
    /// bytes.
    pub old_bytes: usize,
}

/// A version that is not current any more.
struct Replaced {
    version: Arc<Version>,
    /// It was current in these generations, and perhaps not in all between.
    generations: RangeInclusive<u64>,
}

/// What is retired and not yet free.
#[derive(Default)]
pub(crate) struct Retirement {
    pub(crate) publisher: Publisher<Made>,
    /// Replaced; somebody may be inside them, or history has them.
    replaced: Vec<Replaced>,
    /// Modules of which an address has escaped, and the modules that those call.
    escaped: HashSet<Arc<str>>,
    /// Those of them whose own addresses may be where nobody looks.
    opaque: HashSet<Arc<str>>,
    /// Replaced and collected, but somebody may be inside.
    pub(crate) retained: Vec<Version>,
    /// A thread that exits was inside when they were to be ended, or it was a thread of their own
    /// that was to end them.
    leaving: Vec<Version>,
    /// Ended, but threads that they started go on in them, or in versions whose home they are part
    /// of.
    lingering: Vec<Version>,
    /// Not ended, and never will be: [`Version::stays`].
    staying: Vec<Version>,
    /// What has ended or is kept, and nobody was told yet.
    departures: Vec<Departure>,
}

/// The end of a version that was replaced or unloaded, or that it is kept.
pub(crate) enum Departure {
    Retained(Retained),
    Retired(Retired),
}

/// A version that was replaced or unloaded, that no frame is inside, and that is kept all the same.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Retained {
    /// The module's name.
    pub module: Arc<str>,
    /// The number of its version.
    pub version: u64,
    /// Its code memory.
    pub bytes: usize,
    /// The first generation without it.
    pub generation: u64,
    /// What ends it.
    pub until: Until,
}

/// What a retained version is kept for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Until {
    /// A look at all threads that finds nobody inside
    /// ([`Runtime::collect_quiescent`](crate::Runtime::collect_quiescent)).
    Look,
    /// The host's word that nobody is inside
    /// ([`Runtime::collect_escaped`](crate::Runtime::collect_escaped)): the module
    /// was [retained](crate::Runtime::retain), or one that calls it.
    Word,
    /// Nothing: threads that nobody counts may be inside as long as the process goes on.
    Never,
}

/// A version that was replaced or unloaded and is gone: its destructors have run, and its memory is
/// free.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Retired {
    /// The module's name.
    pub module: Arc<str>,
    /// The number of its version.
    pub version: u64,
    /// Its code memory, which is free now.
    pub bytes: usize,
    /// The first generation without it.
    pub generation: u64,
    /// For how long it was kept after that.
    pub kept: Duration,
}

impl Retirement {
    /// Notes that a module can be called outside frames. True if that is new.
    pub(crate) fn escape(&mut self, module: Arc<str>) -> bool {
        self.escaped.insert(module)
    }

    /// Notes that a module's own addresses, not only trampolines, are outside frames.
    pub(crate) fn make_opaque(&mut self, module: Arc<str>) {
        self.opaque.insert(module);
    }

    pub(super) fn is_opaque(&self, module: &str) -> bool {
        self.opaque.contains(module)
    }

    pub(crate) fn any_escaped(&self) -> bool {
        !self.escaped.is_empty()
    }

    pub(crate) fn has_escaped(&self, module: &str) -> bool {
        self.escaped.contains(module)
    }

    /// Takes a version that a publication has replaced.
    pub(crate) fn replace(&mut self, version: Arc<Version>, generations: RangeInclusive<u64>) {
        self.replaced.push(Replaced { version, generations });
    }

    /// A replaced version is current again. Returns the first generation that it was current in.
    pub(crate) fn restore(&mut self, version: &Arc<Version>) -> Option<u64> {
        let at = self.replaced.iter().position(|replaced| Arc::ptr_eq(&replaced.version, version))?;
        Some(*self.replaced.swap_remove(at).generations.start())
    }

    /// Looks which generations nobody can be inside any more, and gives their tables to `again`.
    /// Takes out the versions that no frame can be inside either, for [`Self::bury`]. Retains
    /// what may have escaped.
    pub(crate) fn collect(&mut self, again: impl FnMut(Table)) -> Vec<Version> {
        // SAFETY: the process's one publisher, behind the runtime's lock.
        let generations = unsafe { DISPATCH.collect(&mut self.publisher) };
        let tables = generations.into_iter().map(|generation| generation.into_parts());
        tables.map(|(entries, made)| Table::of_the_past(entries, made.changes)).for_each(again);
        let held: Vec<u64> = self.publisher.retired().collect();
        let is_held = |generations: &RangeInclusive<u64>| {
            let first = held.partition_point(|held| held < generations.start());
            held.get(first).is_some_and(|held| held <= generations.end())
        };
        let gone = self.replaced.extract_if(.., |replaced| {
            // Only history, a module that keeps its previous version, and this list have a replaced
            // version, all behind the runtime's lock.
            !is_held(&replaced.generations) && Arc::strong_count(&replaced.version) == 1
        });
        let versions: Vec<_> = gone.filter_map(|replaced| Arc::into_inner(replaced.version)).collect();
        let (retained, mut free): (Vec<_>, Vec<_>) =
            versions.into_iter().partition(|version| self.has_escaped(version.name()));
        for version in retained {
            let until = if self.is_opaque(version.name()) { Until::Word } else { Until::Look };
            self.note_retained(&version, until);
            self.retained.push(version);
        }
        free.append(&mut self.leaving);
        free
    }

    /// Notes that a version is kept, once.
    fn note_retained(&mut self, version: &Version, until: Until) {
        if let Some(end) = version.end().filter(|_| version.is_newly_retained()) {
            let (module, generation) = (version.name().clone(), end.generation);
            let (version, bytes) = (version.number(), version.bytes());
            self.departures.push(Departure::Retained(Retained { module, version, bytes, generation, until }));
        }
    }

    /// Frees a version, and notes that, if anybody can have seen it.
    ///
    /// # Safety
    ///
    /// As for [`Version::free`].
    unsafe fn free(&mut self, version: Version) {
        let retired = version.end().map(|end| Retired {
            module: version.name().clone(),
            version: version.number(),
            bytes: version.bytes(),
            generation: end.generation,
            kept: end.at.elapsed(),
        });
        // SAFETY: the caller promises it.
        unsafe { version.free() };
        self.departures.extend(retired.map(Departure::Retired));
    }

    /// How many departures were noted and not taken.
    pub(crate) fn departed(&self) -> usize {
        self.departures.len()
    }

    /// Takes out what was noted of versions that ended or are kept, in that order.
    pub(crate) fn take_departures(&mut self) -> Vec<Departure> {
        std::mem::take(&mut self.departures)
    }

    /// Whether there may be more to free than the tables of some generations.
    pub(crate) fn is_worth_collecting(&self) -> bool {
        const TABLES: usize = 4;
        let versions = self.replaced.len() + self.leaving.len() + self.lingering.len();
        versions > 0 || self.publisher.retired().len() > TABLES
    }

    /// The threads that may be inside replaced generations.
    pub(crate) fn holders(&self) -> Vec<Holder> {
        let holder = |(id, generation)| Holder { thread: Thread::new(id as i32).to_string(), generation };
        DISPATCH.holders(&self.publisher).into_iter().map(holder).collect()
    }

    /// The generations of those, once for each thread.
    pub(super) fn holding_generations(&self) -> Vec<u64> {
        DISPATCH.holders(&self.publisher).into_iter().map(|(_, generation)| generation).collect()
    }

    /// The versions that were replaced, each with the generations that it was current in.
    pub(super) fn replaced(&self) -> impl Iterator<Item = (&Version, RangeInclusive<u64>)> {
        self.replaced.iter().map(|replaced| (&*replaced.version, replaced.generations.clone()))
    }

    /// The versions that no frame keeps, but what they themselves have begun does.
    pub(super) fn busy(&self) -> impl Iterator<Item = &Version> {
        self.leaving.iter().chain(&self.lingering).chain(&self.staying)
    }

    /// The versions that were replaced and were current in a generation.
    pub(super) fn kept_by(&self, generation: u64) -> impl Iterator<Item = String> + '_ {
        let replaced =
            self.replaced.iter().filter(move |replaced| replaced.generations.contains(&generation));
        replaced.map(|Replaced { version, .. }| format!("{} version {}", version.name(), version.number()))
    }

    /// The generations that are replaced and that somebody may be inside, ascending.
    pub(crate) fn held(&self) -> impl Iterator<Item = u64> + '_ {
        self.publisher.retired()
    }

    /// Code memory of all that is replaced and not free, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let replaced = self.replaced.iter().map(|replaced| &*replaced.version);
        replaced.chain(self.kept()).map(Version::bytes).sum()
    }

    /// The versions that are kept for whoever may be inside: they call other modules as current
    /// ones do.
    pub(crate) fn kept(&self) -> impl Iterator<Item = &Version> {
        self.retained.iter().chain(&self.leaving).chain(&self.lingering).chain(&self.staying)
    }

    /// Versions whose home still counts: they may run, by whatever keeps them.
    pub(super) fn remaining(&self) -> impl Iterator<Item = &Version> {
        self.replaced.iter().map(|replaced| &*replaced.version).chain(self.kept())
    }

    /// Of these, which nobody is inside, those that are part of no home but each other's. The
    /// others wait.
    pub(crate) fn release(&mut self, candidates: Vec<Version>) -> Vec<Version> {
        let (free, needed) = self.unneeded(candidates);
        needed.into_iter().for_each(|version| self.wait(version));
        free
    }

    fn unneeded(&self, mut free: Vec<Version>) -> (Vec<Version>, Vec<Version>) {
        if free.is_empty() {
            return (free, Vec::new());
        }
        let homes = self.remaining().filter_map(Version::home);
        let mut needed = Home::needed(homes.chain(host::homes_in_use()));
        let mut waiting = Vec::new();
        loop {
            let (more, rest): (Vec<_>, Vec<_>) =
                free.into_iter().partition(|version| needed.contains(&version.key()));
            free = rest;
            if more.is_empty() {
                return (free, waiting);
            }
            needed.extend(Home::needed(more.iter().filter_map(Version::home)));
            waiting.extend(more);
        }
    }

    /// Keeps a version, which no frame can be inside, until the next collection.
    fn wait(&mut self, version: Version) {
        #[expect(clippy::reversed_empty_ranges, reason = "no generation has it")]
        self.replaced.push(Replaced { version: Arc::new(version), generations: 1..=0 });
    }

    /// Frees what only its threads kept, if those are over. Returns how many.
    pub(crate) fn end_lingering(&mut self) -> usize {
        let over = self.lingering.extract_if(.., |version| !version.is_busy()).collect();
        let (free, needed) = self.unneeded(over);
        self.lingering.extend(needed);
        // SAFETY: they were ended and their threads are over; no frame was inside when they were,
        // and nobody's home has them.
        free.into_iter().map(|version| unsafe { self.free(version) }).count()
    }

    pub(super) fn lingering(&self) -> impl Iterator<Item = &Version> {
        self.lingering.iter()
    }

    /// The caller says that no thread is in a handler that is gone.
    pub(crate) fn vouch_for_handlers(&self) {
        self.lingering().filter(|version| version.waits_for_look()).for_each(Version::was_looked_at);
    }

    /// Takes out the retained versions.
    pub(crate) fn take_retained(&mut self) -> Vec<Version> {
        std::mem::take(&mut self.retained)
    }

    pub(crate) fn report(&self, freed: usize) -> Collected {
        Collected {
            freed,
            held: self.publisher.retired().len(),
            retained: self.retained.len(),
            retained_bytes: self.retained.iter().map(Version::bytes).sum(),
            busy: self.leaving.len() + self.lingering.len() + self.staying.len(),
            old_bytes: self.bytes(),
        }
    }

    /// Ends versions that die together: all destructors, callers before those they call, each at
    /// its version's home; and only then any memory. Keeps those that threads are inside, and
    /// what is part of their homes. Returns how many it freed.
    ///
    /// `unbind` is told of each, before anything of it runs: nobody calls it any more.
    ///
    /// # Safety
    ///
    /// No frame is inside any of them, and they are part of no home but each other's.
    pub(crate) unsafe fn bury(
        &mut self,
        dying: Vec<Version>,
        tables: &mut Tables,
        unbind: impl Fn(&Version, &Tables),
    ) -> usize {
        let keep = |needed: &mut HashSet<Key>, version: &Version| needed.extend(Home::needed(version.home()));
        let mut needed = HashSet::new();
        let mut ended = Vec::with_capacity(dying.len());
        for version in callers_first(dying) {
            if needed.contains(&version.key()) {
                keep(&mut needed, &version);
                self.wait(version);
                continue;
            }
            if version.stays() {
                keep(&mut needed, &version);
                self.note_retained(&version, Until::Never);
                self.staying.push(version);
                continue;
            }
            if !version.evict() {
                keep(&mut needed, &version);
                self.leaving.push(version);
                continue;
            }
            unbind(&version, tables);
            let bindings = version.home().map_or(Vec::new(), |home| home.bindings());
            let table = tables.with(&bindings);
            // SAFETY: evicted; the caller promises that no frame is inside; each is in the list
            // once, and never finalised again.
            with_table(table.entries(), || unsafe { version.finalise() });
            tables.take_back(table, &bindings);
            if version.is_busy() {
                keep(&mut needed, &version);
            }
            ended.push(version);
        }
        let (lingering, mut free): (Vec<_>, Vec<_>) =
            ended.into_iter().partition(|version| version.is_busy() || needed.contains(&version.key()));
        self.lingering.extend(lingering);
        // The latest first: libgcc 12 searches a list that begins with those. (Of 10,000 by name
        // that took 1.5 s.)
        free.sort_unstable_by_key(|version| Reverse(version.order()));
        // SAFETY: finalised, nobody's threads are in them, and the caller promises that no frame
        // is.
        free.into_iter().map(|version| unsafe { self.free(version) }).count()
    }
}
