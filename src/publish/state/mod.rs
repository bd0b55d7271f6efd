//! The publisher's state: what is loaded, and the next generation in the making.

mod bindings;
mod collection;
mod durable;
mod escapes;
mod pause;
mod promises;
pub(super) use promises::check_callers;
mod rollback;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::pause::Pause;
use super::exporters::Exporters;
use super::held::Held;
use super::history::History;
use super::layers::Layers;
use super::libraries::Libraries;
use super::publication::{ModuleVersion, Replaced};
use super::retirement::Retirement;
use super::tables::{Change, Table, Tables};
use crate::Error;
use crate::call::checks;
use crate::call::frame::{DISPATCH, Made, in_open_frame};
use crate::call::live;
use crate::call::slots::SlotTable;
use crate::call::trampolines::Trampolines;
use crate::call::versions;
use crate::code::CodeMemory;
use crate::durable::{Durability, Durable};
use crate::error::symbols::{OF_TYPE, Wanted};
use crate::fault::past::End;
use crate::module::{Origin, Version};
use crate::platform::files::{ContentHash, Identity};
use crate::platform::os::barrier;
use crate::publish::load::Figures;

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
    pub(crate) layers: Layers,
    pub(crate) retirement: Retirement,
    held: Held,
    pause: Option<Pause>,
    max_memory: Option<usize>,
    /// What is published is committed there first.
    journal: Option<Arc<Durable>>,
}

/// A module that was loaded at some time.
#[derive(Default)]
pub(super) struct Module {
    /// None after an unload.
    current: Option<Current>,
    /// The number of its latest version.
    versions: u64,
    /// The generation by which it came, was replaced or taken out last.
    changed: u64,
    /// The version before, if it was asked to be kept.
    previous: Option<Arc<Version>>,
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
pub(in crate::publish) type Next = BTreeMap<Arc<str>, Option<Arc<Version>>>;

/// Modules as they were before a publication that changed them.
pub(super) type Before = Vec<(Arc<str>, Option<Arc<Version>>)>;

impl State {
    /// Publishes the empty generation, number 0.
    pub(crate) fn new(memory: CodeMemory, history: usize, max_memory: Option<usize>) -> Result<Self, Error> {
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
            history: History::new(history),
            layers: Layers::default(),
            retirement: Retirement::default(),
            held: Held::default(),
            pause: None,
            max_memory,
            journal: None,
        };
        // One at least: a dry run takes its trampoline for what would be others'.
        state.cover_slots(state.slots.len().max(1))?;
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

    /// The versions that the next generation has.
    pub(super) fn current(&self) -> impl Iterator<Item = &Arc<Version>> {
        current(&self.modules)
    }

    /// Publishes a table that was made with these changes, and the modules that they are about.
    /// Takes as long as those are many, whatever else is loaded.
    pub(super) fn publish(&mut self, table: Table, changes: &[Change], next: Next) -> Published {
        // The generation that a pause begins with stands in for that which ends it: both have the
        // same number.
        let (generation, stands_in) = match self.pause_under_way() {
            Some(generation) => (generation, generation != self.generation),
            None => (self.generation + 1, false),
        };
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
        let new = unsafe {
            match stands_in {
                true => DISPATCH.prepare_stand_in(publisher, entries, made),
                false => DISPATCH.prepare(publisher, entries, made),
            }
        };
        let last = self.generation;

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
            module.changed = generation;
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
        if !stands_in {
            self.history.push(generation, &before);
        }
        self.held.replace(last, at);
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

    /// The current versions, each with the first generation that it was current in.
    pub(super) fn current_since(&self) -> impl Iterator<Item = (&Version, u64)> {
        let current = self.modules.values().filter_map(|module| module.current.as_ref());
        current.map(|Current { version, since }| (&**version, *since))
    }

    /// Whether a version that was replaced can be had back.
    pub(super) fn is_backup(&self, version: &Version) -> bool {
        let previous = self.modules.get(version.name()).and_then(|module| module.previous.as_deref());
        previous.is_some_and(|previous| std::ptr::eq(previous, version)) || self.history.has(version)
    }

    /// The versions of a module that are current or can be had back.
    pub(super) fn versions_of(&self, module: &str) -> Vec<Arc<Version>> {
        let known = self.modules.get(module).into_iter();
        let known = known
            .flat_map(|module| module.current.iter().map(|current| &current.version).chain(&module.previous));
        known.cloned().chain(self.history.versions_of(module)).collect()
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

    /// The number that a module's next version has.
    pub(crate) fn next_number(&self, module: &str) -> u64 {
        self.modules.get(module).map_or(0, |module| module.versions) + 1
    }

    /// The number of the version that a module would be rolled back to.
    pub(crate) fn previous_number(&self, module: &str) -> Result<u64, Error> {
        self.previous(module).map(|version| version.number())
    }

    /// Whether the version that a module would be rolled back to exports such a function.
    pub(crate) fn previous_has_function(&self, module: &str, symbol: &str) -> Result<bool, Error> {
        self.previous(module).map(|version| version.function(symbol).is_some())
    }

    /// The modules that are loaded, and the numbers of their versions.
    pub(crate) fn numbers(&self) -> BTreeMap<Arc<str>, u64> {
        self.current().map(|version| (version.name().clone(), version.number())).collect()
    }

    /// That a module is as it was then; None: not loaded.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`].
    pub(crate) fn check_unchanged(&self, module: &str, then: Option<u64>) -> Result<(), Error> {
        match self.version(module) {
            now if now == then => Ok(()),
            now => Err(Error::Conflict { module: module.into(), then, now }),
        }
    }

    /// Whether the module is loaded and exports such a function.
    pub(crate) fn has_function(&self, module: &str, symbol: &str) -> bool {
        self.loaded(module).is_ok_and(|version| version.function(symbol).is_some())
    }

    /// A module's current version, as what would replace it is told of it. None if it is not
    /// loaded.
    pub(crate) fn loaded_version(&self, module: &str) -> Option<Replaced> {
        let version = self.loaded(module).ok()?;
        Some(Replaced { version: version.number(), content: version.content(), functions: None })
    }

    /// The generation by which a module came, was replaced or taken out last. None: it was never
    /// loaded.
    pub(in crate::publish) fn changed_in(&self, module: &str) -> Option<u64> {
        self.modules.get(module).map(|module| module.changed)
    }

    /// Functions of a module that the program declares or has asked for.
    pub(in crate::publish) fn promised(&self, module: &str) -> impl Iterator<Item = &str> {
        self.slots.of(module).filter(|(_, slot)| slot.promised).map(|(symbol, _)| symbol)
    }

    /// The number of a module's current version, and what it was made of if that was kept. None if
    /// it is not loaded.
    pub(crate) fn origin(&self, module: &str) -> Option<(u64, Option<Arc<Origin>>)> {
        let version = self.loaded(module).ok()?;
        Some((version.number(), version.origin().cloned()))
    }

    /// Notes the hash of a file, which may be what a current version was made of.
    pub(crate) fn note_content(&self, path: &Path, identity: Identity, hash: ContentHash) {
        self.current().for_each(|version| version.note_content(path, identity, hash));
    }

    /// See [`crate::Runtime::unload_all`]. Returns the generation, and what was unloaded.
    pub(crate) fn unload<'n>(
        &mut self,
        modules: impl IntoIterator<Item = &'n str>,
    ) -> Result<(u64, Vec<ModuleVersion>), Error> {
        let name = |module| self.loaded(module).map(|version| version.name().clone());
        let names = modules.into_iter().map(name).collect::<Result<BTreeSet<_>, _>>()?;
        if names.is_empty() {
            return Ok((self.generation, Vec::new()));
        }
        let staying =
            self.current().map(|version| &**version).filter(|version| !names.contains(version.name()));
        promises::check_callers(&names, staying)?;
        let next: Next = names.iter().map(|name| (name.clone(), None)).collect();
        self.check_adapted(&next)?;
        let changes = self.bindings_of(&next);
        let committed = self.commit(&next, Durability::Durable)?;
        let table = self.tables.with(&changes);
        names.iter().for_each(|name| self.forget_previous_of(name));
        let Published { generation, before, .. } = self.publish(table, &changes, next);
        committed.applied();
        let gone = before.iter().filter_map(|(_, gone)| gone.as_deref()).map(ModuleVersion::of).collect();
        Ok((generation, gone))
    }

    /// A module's version in the generation that `next` leads to.
    pub(super) fn then<'s>(&'s self, next: &'s Next, module: &str) -> Result<&'s Arc<Version>, Error> {
        match next.get(module) {
            Some(version) => version.as_ref().ok_or_else(|| Error::NotLoaded { module: module.into() }),
            None => self.loaded(module),
        }
    }

    pub(super) fn loaded(&self, module: &str) -> Result<&Arc<Version>, Error> {
        let current = self.modules.get(module).and_then(|module| module.current.as_ref());
        current.map(|current| &current.version).ok_or_else(|| Error::NotLoaded { module: module.into() })
    }

    /// See [`crate::Runtime::symbol`] and [`crate::Runtime::frame_symbol`], of which the latter
    /// does not let it escape.
    pub(crate) fn symbol(&mut self, module: &str, symbol: &str, escapes: bool) -> Result<usize, Error> {
        let version = self.loaded(module)?;
        let name = version.name().clone();
        // A symbol by itself says nothing of a type.
        let plain = symbol.split_once(OF_TYPE).map_or(symbol, |(name, _)| name);
        let find = |module: &str| self.loaded(module).ok().map(|version| &**version);
        let (symbol, target) = match self.behind(module, plain, find) {
            Some((_, target)) => (plain.to_owned(), target),
            None => named(version, symbol)?,
        };
        let symbol = &*symbol;
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

pub(super) fn current(modules: &BTreeMap<Arc<str>, Module>) -> impl Iterator<Item = &Arc<Version>> {
    modules.values().filter_map(|module| module.current.as_ref()).map(|current| &current.version)
}

pub(super) fn synchronise_cores() -> Result<(), Error> {
    barrier::synchronise_cores().map_err(|source| Error::Synchronise { source })
}

/// The function that somebody means who does not know its symbol, and where it is.
fn named(version: &Version, wanted: &str) -> Result<(String, usize), Error> {
    let name = Wanted::new(wanted);
    let (mut same, mut alike) = (Vec::new(), Vec::new());
    for symbol in version.functions_with(name.word()) {
        match name.is(symbol) {
            Some(true) => same.extend(version.function(symbol).map(|target| (symbol.to_owned(), target))),
            Some(false) => alike.push(symbol.to_owned()),
            None => {}
        }
    }
    let (module, symbol) = (version.name().to_string(), wanted.to_owned());
    // A constructor has several symbols, and may have as many functions.
    match &same[..] {
        [] => Err(Error::NoSuchFunction { module, symbol, alike }),
        [first, rest @ ..] if rest.iter().all(|(_, target)| *target == first.1) => Ok(first.clone()),
        _ => {
            let functions = same.into_iter().map(|(symbol, _)| symbol).collect();
            Err(Error::SeveralFunctions { module, symbol, functions })
        }
    }
}
