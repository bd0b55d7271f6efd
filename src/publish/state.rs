//! The publisher's state: what is loaded, and the next generation in the making.

mod collection;
mod escapes;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::exporters::Exporters;
use super::held::Held;
use super::history::History;
use super::libraries::Libraries;
use super::publication::{ModuleVersion, Publication};
use super::retirement::Retirement;
use super::tables::{Change, Table, Tables};
use crate::call::frame::{DISPATCH, Made, in_open_frame};
use crate::call::home::{Home, Place, World};
use crate::call::live::{self, LIVE, MAX_SLOTS};
use crate::call::slots::SlotTable;
use crate::call::trampolines::Trampolines;
use crate::call::versions;
use crate::code::{Backing, CodeMemory};
use crate::fault::past::End;
use crate::module::{Origin, Phases, Version};
use crate::os::{barrier, memory};
use crate::statistics::Figures;
use crate::{Config, Error, checks};

/// All that a publisher changes. One thread at a time has it.
pub(crate) struct State {
    pub(super) memory: CodeMemory,
    slots: SlotTable,
    pub(super) trampolines: Trampolines,
    pub(super) modules: BTreeMap<Arc<str>, Module>,
    /// Of code memory that the current versions have.
    bytes: usize,
    pub(super) exporters: Exporters,
    pub(super) libraries: Libraries,
    /// The current one.
    generation: u64,
    /// Cover whole pages of slot code.
    pub(super) tables: Tables,
    history: History,
    pub(crate) retirement: Retirement,
    held: Held,
    max_memory: Option<usize>,
}

/// A module that was loaded at some time.
#[derive(Default)]
pub(super) struct Module {
    /// None after an unload.
    current: Option<Current>,
    /// The number of its latest version.
    versions: u64,
    /// The version before, if it was asked to be kept.
    previous: Option<Arc<Version>>,
}

impl Module {
    pub(super) fn versions(&self) -> u64 {
        self.versions
    }
}

/// A version, and the first generation that it was current in.
struct Current {
    version: Arc<Version>,
    since: u64,
}

/// A publication that is done.
pub(super) struct Published {
    pub(super) generation: u64,
    /// When it began to be seen, and for how long it was on its way.
    pub(super) at: Instant,
    pub(super) publish: Duration,
    pub(super) before: Before,
}

/// Modules as a publication makes them; None: not loaded.
pub(super) type Next = BTreeMap<Arc<str>, Option<Arc<Version>>>;

/// Modules as they were before a publication that changed them.
pub(super) type Before = Vec<(Arc<str>, Option<Arc<Version>>)>;

impl State {
    /// Publishes the empty generation, number 0.
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let backing = match config.backing {
            Backing::Memfd if config.perf_map => Backing::WriteOnce,
            // Where the system executes nothing else.
            Backing::WriteOnce if memory::must_toggle() => Backing::Toggled,
            asked => asked,
        };
        let page_size = config.page_size.unwrap_or_else(memory::page_size);
        tracing::info!(?backing, page_size, membarrier = barrier::is_asymmetric(), "code memory");
        let memory = CodeMemory::new(backing, page_size)
            .map_err(|source| Error::CodeMemory { of: "the runtime".into(), source })?;
        let trampolines = Trampolines::new(&memory)?;
        let slots = SlotTable::declared()?;
        let mut state = Self {
            memory,
            slots,
            trampolines,
            modules: BTreeMap::new(),
            bytes: 0,
            exporters: Exporters::default(),
            libraries: Libraries::default(),
            generation: 0,
            tables: Tables::default(),
            history: History::new(config.history),
            retirement: Retirement::default(),
            held: Held::default(),
            max_memory: config.max_memory,
        };
        state.cover_slots(state.slots.len())?;
        let table = state.tables.with(&[]);
        let (entries, changes) = state.tables.publish(table, &[], |_, _| {});
        let made = Made::new(changes, &entries);
        // SAFETY: the process's one publisher.
        unsafe {
            let publisher = &mut state.retirement.publisher;
            let first = DISPATCH.prepare(publisher, entries, made);
            DISPATCH.publish(publisher, first)
        };
        Ok(state)
    }

    /// See [`crate::Runtime::rollback`].
    pub(crate) fn rollback(&mut self, generation: u64) -> Result<Publication, Error> {
        let begin = Instant::now();
        let Some(next) = self.history.modules_of(generation) else {
            let (oldest, current) = (self.history.oldest().unwrap_or(self.generation), self.generation);
            return Err(Error::NotInHistory { generation, oldest, current });
        };
        self.republish(next, begin).map(|(publication, _)| publication)
    }

    /// See [`crate::Runtime::rollback_module`].
    pub(crate) fn rollback_module(&mut self, module: &str) -> Result<Publication, Error> {
        let begin = Instant::now();
        let name = self.loaded(module)?.name().clone();
        let previous = self.modules.get(module).and_then(|module| module.previous.clone());
        let previous = previous.ok_or_else(|| Error::NoPreviousVersion { module: module.into() })?;
        let (publication, before) = self.republish(Next::from([(name, Some(previous))]), begin)?;
        self.keep_previous(before);
        Ok(publication)
    }

    /// Publishes versions again that were current once. Returns what they replaced, too.
    pub(super) fn republish(
        &mut self,
        mut next: Next,
        begin: Instant,
    ) -> Result<(Publication, Before), Error> {
        // What has come back already stays: it is not replaced by itself.
        next.retain(|name, version| {
            self.loaded(name).ok().map(Arc::as_ptr) != version.as_ref().map(Arc::as_ptr)
        });
        let versions = || next.values().flatten();
        versions().try_for_each(|version| self.check_version(version, &next))?;
        versions().try_for_each(|version| self.check_calls(version, &next))?;
        // What those call that stay is there: they have not changed since.
        let mut changes = Vec::new();
        for (name, version) in &next {
            self.bind_slots(name, version.as_deref(), &mut changes);
        }
        let table = self.tables.with(&changes);
        let names: Vec<_> = next.keys().cloned().collect();
        let modules = versions().map(|version| ModuleVersion::of(version)).collect();
        let Published { generation, at, publish, before } = self.publish(table, &changes, next);
        self.follow_escapes(&names);
        let publication =
            Publication { generation, stage: at - begin, publish, phases: Phases::default(), modules };
        Ok((publication, before))
    }

    /// Keeps what was replaced for [`rollback_module`](Self::rollback_module).
    pub(super) fn keep_previous(&mut self, before: Before) {
        for (name, replaced) in before {
            let module = self.modules.get_mut(&name).expect("it was published");
            module.previous = replaced.or(module.previous.take());
        }
    }

    /// That the version has all that the program declares of its module, and that the modules of the generation which `next` leads
    /// to call. Versions that are not current call what is at their homes.
    pub(super) fn check_version(&self, version: &Version, next: &Next) -> Result<(), Error> {
        let staying = || self.current().filter(|version| !next.contains_key(version.name()));
        let callers = || staying().chain(next.values().flatten());
        let is_called =
            |symbol: &str| callers().flat_map(|v| v.calls()).any(|call| call == (&**version.name(), symbol));
        let has = |symbol: &str| version.function(symbol).is_some();
        self.check_promises(version.name(), version.path(), has, is_called)
    }

    /// As [`check_version`](Self::check_version), of whatever `has` functions.
    pub(super) fn check_promises(
        &self,
        module: &str,
        path: &Path,
        has: impl Fn(&str) -> bool,
        is_called: impl Fn(&str) -> bool,
    ) -> Result<(), Error> {
        let mut symbols: Vec<String> = self
            .slots
            .of(module)
            .filter(|(symbol, slot)| !has(symbol) && (slot.promised || is_called(symbol)))
            .map(|(symbol, _)| symbol.to_owned())
            .collect();
        if symbols.is_empty() {
            return Ok(());
        }
        symbols.sort();
        Err(Error::MissingFunctions { path: path.into(), module: module.into(), symbols })
    }

    /// That what the version calls and needs is there in the generation that `next` leads to.
    fn check_calls(&self, version: &Version, next: &Next) -> Result<(), Error> {
        let find = |module: &str| match next.get(module) {
            Some(found) => found.as_ref(),
            None => self.loaded(module).ok(),
        };
        if let Some(missing) = version.needs().find(|module| find(module).is_none()) {
            return Err(Error::MissingModule { path: version.path().into(), needs: missing.into() });
        }
        for (module, symbol) in version.calls() {
            let called = find(module).ok_or_else(|| Error::NotLoaded { module: module.into() })?;
            if called.function(symbol).is_none() {
                return Err(Error::NoSuchFunction { module: module.into(), symbol: symbol.into() });
            }
        }
        Ok(())
    }

    /// The versions that the next generation has.
    pub(super) fn current(&self) -> impl Iterator<Item = &Arc<Version>> {
        current(&self.modules)
    }

    /// Gives at least `slots` slots their code and their entries in the next table and in the live one. Whole pages of
    /// slots at a time: the entries beyond the last slot are unbound already when it comes into use.
    fn cover_slots(&mut self, slots: u32) -> Result<(), Error> {
        let covered = self.tables.current().len() as u32;
        if slots <= covered {
            return Ok(());
        }
        self.trampolines.grow(&mut self.memory, slots)?;
        synchronise_cores()?;
        let unbound = |slot| self.trampolines.unbound(slot);
        self.tables.extend((covered..self.trampolines.len()).map(unbound));
        live::follow((covered..self.trampolines.len()).map(|slot| (slot, unbound(slot))));
        Ok(())
    }

    /// The index of a slot, which has its code.
    pub(super) fn slot(&mut self, module: &str, symbol: &str, promised: bool) -> Result<u32, Error> {
        if self.slots.get(module, symbol).is_none() {
            // With some to spare: who has a frame open meanwhile, and is given the address of a new slot by somebody else, comes to
            // its unbound stub, which says so.
            const SPARE: u32 = 64;
            self.cover_slots((self.slots.len() + 1 + SPARE).min(MAX_SLOTS as u32))?;
        }
        self.slots.insert(module, symbol, promised)
    }

    /// The index of a slot, if it has one.
    pub(super) fn slot_of(&self, module: &str, symbol: &str) -> Option<u32> {
        self.slots.get(module, symbol).map(|entry| entry.index)
    }

    /// What is behind the slots of a generation in which `staged` replace what they replace: their own, and those of the modules they
    /// call, some of which may be new.
    pub(super) fn next_bindings(&self, staged: &[Arc<Version>]) -> Vec<Change> {
        let mut changes = Vec::new();
        let called = staged.iter().flat_map(|version| version.calls()).map(|(module, _)| module);
        let mut next: BTreeMap<&str, Option<&Arc<Version>>> =
            called.map(|module| (module, self.loaded(module).ok())).collect();
        next.extend(staged.iter().map(|version| (&**version.name(), Some(version))));
        for (module, version) in next {
            self.bind_slots(module, version.map(|version| &**version), &mut changes);
        }
        changes
    }

    /// Binds a module's slots to a version, or to nothing.
    fn bind_slots(&self, module: &str, version: Option<&Version>, changes: &mut Vec<Change>) {
        for (symbol, slot) in self.slots.of(module) {
            let unbound = || self.trampolines.unbound(slot.index);
            let target = version.and_then(|version| version.function(symbol)).unwrap_or_else(unbound);
            changes.push((slot.index, target));
        }
    }

    /// Where versions belong among those that `find` finds: what they call there, and what these go on to.
    pub(super) fn homes_of<'v>(
        &self,
        versions: impl IntoIterator<Item = &'v Version>,
        find: impl Fn(&str) -> Option<&'v Version>,
    ) -> impl Iterator<Item = Home> {
        let mut reached: Vec<&Version> = versions.into_iter().collect();
        let count = reached.len();
        let mut numbers: HashMap<&str, usize> =
            reached.iter().enumerate().map(|(at, version)| (&**version.name(), at)).collect();
        let mut places = Vec::with_capacity(count);
        while let Some(&version) = reached.get(places.len()) {
            // What it lacks itself, it cannot be the one to be called for: whoever calls that means another version.
            let own = self.slots.of(version.name()).filter(|_| places.len() < count);
            let own = own.filter_map(|(symbol, slot)| Some((slot.index, version.function(symbol)?)));
            let own: Vec<_> = own.collect();
            let mut needs = Vec::new();
            for needed in version.dependencies().collect::<BTreeSet<_>>() {
                let Some(found) = find(needed) else { continue };
                needs.push(*numbers.entry(found.name()).or_insert_with(|| {
                    reached.push(found);
                    reached.len() - 1
                }));
            }
            let calls = version.calls().filter_map(|(module, symbol)| {
                let target = find(module)?.function(symbol)?;
                Some((self.slots.get(module, symbol)?.index, target))
            });
            places.push(Place { key: version.key(), own: own.into(), calls: calls.collect(), needs });
        }
        World { places, generation: self.generation }.homes(count)
    }

    /// Publishes a table that was made with these changes, and the modules that they are about. Takes as long as those are many,
    /// whatever else is loaded.
    pub(super) fn publish(&mut self, table: Table, changes: &[Change], next: Next) -> Published {
        let generation = self.generation + 1;
        let held: Vec<_> = self.retirement.held().chain([self.generation]).collect();
        let number = |version: &Option<Arc<Version>>| version.as_ref().map(|version| version.number());
        versions::note(generation, &held, next.iter().map(|(name, version)| (name.clone(), number(version))));
        // Before anybody sees a generation without them.
        let loaded = |name: &str| self.loaded(name).ok().map(|version| &**version);
        let replaced: Vec<_> = next.keys().filter_map(|name| loaded(name)).collect();
        let homes = self.homes_of(replaced.iter().copied(), loaded);
        replaced.iter().zip(homes).for_each(|(version, home)| version.set_home(Some(home)));
        let mut live = Vec::with_capacity(changes.len());
        let (entries, changes) =
            self.tables.publish(table, changes, |change, before| live.push((change, before)));
        let live = self.in_order(live, &next);
        let made = Made::new(changes, &entries);
        let publisher = &mut self.retirement.publisher;
        // SAFETY: the process's one publisher, behind the runtime's lock.
        let new = unsafe { DISPATCH.prepare(publisher, entries, made) };

        // Only what has to be between the first thread that sees something of it and the last.
        let at = Instant::now();
        // SAFETY: as above, and this is the next.
        self.generation = unsafe { DISPATCH.publish(publisher, new) };
        live::follow(live);
        let publish = at.elapsed();

        debug_assert_eq!(self.generation, generation);
        self.exporters.changed(&next);
        self.libraries.changed(&next);
        let mut before = Vec::with_capacity(next.len());
        for (name, version) in next {
            let module = self.modules.entry(name.clone()).or_default();
            let replaced = module.current.take();
            if let Some(version) = version {
                version.set_home(None);
                version.set_end(None);
                module.versions = module.versions.max(version.number());
                self.bytes += version.bytes();
                let since = self.retirement.restore(&version).unwrap_or(generation);
                module.current = Some(Current { version, since });
            }
            if let Some(Current { version, since }) = &replaced {
                self.bytes -= version.bytes();
                let by = module.current.as_ref().map(|current| current.version.number());
                version.set_end(Some(End { generation, at, by }));
                self.retirement.replace(version.clone(), *since..=generation - 1);
            }
            before.push((name, replaced.map(|current| current.version)));
        }
        self.history.push(generation, &before);
        self.held.replace(generation - 1, at);
        self.look_for_held_frames(checks::longest_frame());
        self.follow_threads();
        let names = before.iter().map(|(name, _)| name);
        let lends = |name: &&Arc<str>| self.loaded(name).is_ok_and(|version| version.lends());
        self.follow(names.filter(lends).cloned().collect());
        Published { generation, at, publish, before }
    }

    /// Reports frames that have been held for so long, in checked mode.
    pub(crate) fn look_for_held_frames(&mut self, longest: Duration) {
        self.held.look(&self.retirement, longest);
    }

    /// The changes of a publication, with what was there before, in the order in which the live table follows: nobody who calls through
    /// it meanwhile finds a slot unbound that what he has called goes on to, nor one that was left for callers of older versions. What is
    /// new comes first, and what is gone last; and that has a version behind it as long as one may run that calls it.
    fn in_order(&self, changes: Vec<(Change, usize)>, next: &Next) -> Vec<Change> {
        let unbound = |slot: u32| self.trampolines.unbound(slot);
        let (gone, mut changed): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|&((slot, target), _)| target == unbound(slot));
        changed.sort_by_key(|&((slot, _), before)| before != unbound(slot));
        let mut ordered: Vec<Change> = changed.into_iter().map(|(change, _)| change).collect();
        if gone.is_empty() {
            return ordered;
        }
        let replaced = next.keys().filter_map(|name| self.loaded(name).ok()).map(|version| &**version);
        let called = Home::called(self.retirement.remaining().chain(replaced).filter_map(Version::home));
        ordered
            .extend(gone.into_iter().map(|((slot, unbound), _)| (slot, left_behind(slot, &called, unbound))));
        ordered
    }

    /// See [`crate::Runtime::set_max_memory`].
    pub(crate) fn set_max_memory(&mut self, bytes: Option<usize>) {
        self.max_memory = bytes;
    }

    /// Whether code memory is at nine tenths of its limit.
    pub(crate) fn is_nearly_full(&self) -> bool {
        self.max_memory.is_some_and(|limit| self.bytes + self.retirement.bytes() > limit / 10 * 9)
    }

    /// What it knows of itself.
    pub(crate) fn figures(&self) -> Figures {
        let left = self.retirement.report(0);
        Figures {
            generation: self.generation,
            modules: self.current().count(),
            current_bytes: self.bytes,
            old_bytes: left.old_bytes,
            retained_bytes: left.retained_bytes,
        }
    }

    /// The current versions.
    pub(crate) fn loaded_modules(&self) -> Vec<ModuleVersion> {
        self.current().map(|version| ModuleVersion::of(version)).collect()
    }

    /// The size of the pages of code memory.
    pub(crate) fn page_size(&self) -> usize {
        self.memory.page_size()
    }

    /// Notes what a module's current version was made of.
    pub(crate) fn set_origin(&self, module: &str, origin: Arc<Origin>) {
        if let Ok(version) = self.loaded(module) {
            version.set_origin(origin);
        }
    }

    /// The number of a module's current version. None if it is not loaded.
    pub(crate) fn version(&self, module: &str) -> Option<u64> {
        self.loaded(module).ok().map(|version| version.number())
    }

    /// The number of a module's current version, and what it was made of if that was kept. None if it is not loaded.
    pub(crate) fn origin(&self, module: &str) -> Option<(u64, Option<Arc<Origin>>)> {
        let version = self.loaded(module).ok()?;
        Some((version.number(), version.origin().cloned()))
    }

    /// See [`crate::Runtime::unload_all`].
    pub(crate) fn unload<'n>(&mut self, modules: impl IntoIterator<Item = &'n str>) -> Result<(), Error> {
        let name = |module| self.loaded(module).map(|version| version.name().clone());
        let names = modules.into_iter().map(name).collect::<Result<BTreeSet<_>, _>>()?;
        if names.is_empty() {
            return Ok(());
        }
        let staying =
            self.current().map(|version| &**version).filter(|version| !names.contains(version.name()));
        check_callers(&names, staying)?;
        let mut changes = Vec::new();
        names.iter().for_each(|name| self.bind_slots(name, None, &mut changes));
        let table = self.tables.with(&changes);
        for name in &names {
            self.modules.get_mut(name).expect("it is loaded").previous = None;
        }
        self.publish(table, &changes, names.into_iter().map(|name| (name, None)).collect());
        Ok(())
    }

    pub(super) fn loaded(&self, module: &str) -> Result<&Arc<Version>, Error> {
        let current = self.modules.get(module).and_then(|module| module.current.as_ref());
        current.map(|current| &current.version).ok_or_else(|| Error::NotLoaded { module: module.into() })
    }

    /// See [`crate::Runtime::symbol`] and [`crate::Runtime::frame_symbol`], of which the latter does not let it escape.
    pub(crate) fn symbol(&mut self, module: &str, symbol: &str, escapes: bool) -> Result<usize, Error> {
        let version = self.loaded(module)?;
        let name = version.name().clone();
        let target = version
            .function(symbol)
            .ok_or_else(|| Error::NoSuchFunction { module: module.into(), symbol: symbol.into() })?;
        let slot = self.slot(&name, symbol, true)?;
        // A new slot is unbound in every table so far.
        if self.tables.current()[slot as usize] != target {
            let changes = [(slot, target)];
            let table = self.tables.with(&changes);
            self.publish(table, &changes, Next::new());
        }
        // The caller would call it there: then it is better told now.
        if let Some((frame, target)) = in_open_frame(slot)
            && target.is_none_or(|target| target == self.trampolines.unbound(slot))
        {
            let generation = self.generation;
            return Err(Error::NewerThanFrame {
                module: module.into(),
                symbol: symbol.into(),
                frame,
                generation,
            });
        }
        if escapes {
            self.follow(vec![name]);
        }
        if escapes || !checks::are_on() {
            return Ok(self.trampolines.trampoline(slot));
        }
        let checked = self.trampolines.checked(&mut self.memory, slot)?;
        synchronise_cores()?;
        Ok(checked)
    }
}

/// What is to be behind a slot of the live table that no current version has: what it has at the latest home of those who may still
/// call it, which keep that. So nobody goes back to what was current before he came.
fn left_behind(slot: u32, called: &HashMap<u32, Vec<usize>>, unbound: usize) -> usize {
    let targets = called.get(&slot).map_or(&[][..], Vec::as_slice);
    let now = LIVE.get(slot as usize);
    if targets.contains(&now) { now } else { *targets.last().unwrap_or(&unbound) }
}

/// That none of these versions depends on a module that is to go, but its own. Looks at each version once, however many go.
fn check_callers<'v>(
    going: &BTreeSet<Arc<str>>,
    versions: impl Iterator<Item = &'v Version>,
) -> Result<(), Error> {
    let mut callers = BTreeMap::<&str, BTreeSet<&str>>::new();
    for version in versions {
        let others = version.dependencies().filter(|on| **on != **version.name() && going.contains(*on));
        others.for_each(|on| _ = callers.entry(on).or_default().insert(version.name()));
    }
    match callers.pop_first() {
        None => Ok(()),
        Some((module, by)) => {
            Err(Error::StillImported { module: module.into(), by: by.into_iter().map(Into::into).collect() })
        }
    }
}

pub(super) fn current(modules: &BTreeMap<Arc<str>, Module>) -> impl Iterator<Item = &Arc<Version>> {
    modules.values().filter_map(|module| module.current.as_ref()).map(|current| &current.version)
}

pub(super) fn synchronise_cores() -> Result<(), Error> {
    barrier::synchronise_cores().map_err(|source| Error::Synchronise { source })
}
