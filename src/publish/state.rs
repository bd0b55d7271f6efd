//! The publisher's state: what is loaded, and the next generation in the making.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use midflight_image::{ExportKind, Image};

use super::exporters::Exporters;
use super::history::History;
use super::publication::{ModuleVersion, Publication};
use super::quiescent::Quiescence;
use super::retirement::{Collected, Retirement, with_table};
use super::tables::{Change, Table, Tables};
use crate::Config;
use crate::Error;
use crate::call::frame::{DISPATCH, Made};
use crate::call::live::{LIVE, MAX_SLOTS};
use crate::call::slots::SlotTable;
use crate::call::trampolines::Trampolines;
use crate::call::versions;
use crate::code::{Backing, CodeMemory};
use crate::debug::Observers;
use crate::module::{
    Clock, Found, ModuleFile, Neighbours, Phases, Source, Version, Versions, bind, dependencies_first, link,
};
use crate::os::{barrier, memory};
use crate::quiescence::Caller;

/// All that a publisher changes. One thread at a time has it.
pub(crate) struct State {
    memory: CodeMemory,
    observers: Observers,
    slots: SlotTable,
    trampolines: Trampolines,
    modules: BTreeMap<Arc<str>, Module>,
    /// Of code memory that the current versions have.
    bytes: usize,
    exporters: Exporters,
    /// The current one.
    generation: u64,
    /// Cover whole pages of slot code.
    tables: Tables,
    history: History,
    pub(crate) retirement: Retirement,
    max_memory: Option<usize>,
}

/// A module that was loaded at some time.
#[derive(Default)]
struct Module {
    /// None after an unload.
    current: Option<Current>,
    /// The number of its latest version.
    versions: u64,
}

/// A version, and the first generation that it was current in.
struct Current {
    version: Arc<Version>,
    since: u64,
}

/// A publication that is done.
struct Published {
    generation: u64,
    /// When it began to be seen, and for how long it was on its way.
    at: Instant,
    publish: Duration,
}

/// Modules as a publication makes them; None: not loaded.
type Next = BTreeMap<Arc<str>, Option<Arc<Version>>>;

/// The files of one publication, by module.
type Files<'f> = BTreeMap<Arc<str>, (&'f ModuleFile, Image<'f>)>;

impl State {
    /// Publishes the empty generation, number 0.
    pub(crate) fn new(config: Config) -> Result<Self, Error> {
        let observers = Observers::new(&config)?;
        let backing = if config.perf_map { Backing::WriteOnce } else { config.backing };
        let memory = CodeMemory::new(backing, memory::page_size());
        let trampolines = Trampolines::new(&memory);
        let slots = SlotTable::declared()?;
        let mut state = Self {
            memory,
            observers,
            slots,
            trampolines,
            modules: BTreeMap::new(),
            bytes: 0,
            exporters: Exporters::default(),
            generation: 0,
            tables: Tables::default(),
            history: History::new(config.history),
            retirement: Retirement::default(),
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

    /// Stages, initialises, publishes. On any error nothing has been published and what was staged is gone.
    ///
    /// # Safety
    ///
    /// As for [`crate::Runtime::load`], of each file.
    pub(crate) unsafe fn load(
        &mut self,
        sources: impl IntoIterator<Item = impl Into<Source>>,
        caller: &Caller<'_>,
    ) -> Result<Publication, Error> {
        let begin = Instant::now();
        let (mut clock, mut phases) = (Clock::start(), Phases::default());
        let watched = self.observers.are_there();
        let read = |source: _| ModuleFile::read(Into::into(source), watched);
        let files = sources.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        if files.is_empty() {
            return Err(Error::NoFiles);
        }
        clock.lap(&mut phases.read);
        // SAFETY: the caller's promise.
        let versions = unsafe { self.stage(&files, caller, &mut clock, &mut phases) }?;
        let changes = self.next_bindings(&versions);
        let table = self.tables.with(&changes);
        // Before any constructor runs or starts a thread: an address dependency orders data, not instruction fetch.
        if let Err(error) = synchronise_cores() {
            self.tables.take_back(table, &changes);
            return Err(error);
        }
        with_table(table.entries(), || {
            for version in dependencies_first(versions.iter().map(|version| &**version)) {
                // SAFETY: the caller vouches for the code; staged means not yet initialised; the table has what it calls.
                unsafe { version.initialise() };
            }
        });
        // Again, for what the constructors wrote: a thread outside frames reaches it by a branch, which on AArch64 orders nothing.
        if cfg!(target_arch = "aarch64")
            && versions.iter().any(|version| version.has_constructors())
            && let Err(error) = synchronise_cores()
        {
            let staged = versions.into_iter().filter_map(Arc::into_inner).collect();
            // SAFETY: nobody was told of them; the table has what they call.
            unsafe { self.retirement.bury(staged, table.entries()) };
            self.tables.take_back(table, &changes);
            return Err(error);
        }
        clock.lap(&mut phases.initialise);

        // From here on nothing fails.
        let names: Vec<_> = versions.iter().map(|version| version.name().clone()).collect();
        let modules = versions.iter().map(|version| ModuleVersion::of(version)).collect();
        let next = versions.into_iter().map(|version| (version.name().clone(), Some(version))).collect();
        let Published { generation, at, publish } = self.publish(table, &changes, next);
        self.follow_escapes(&names);
        Ok(Publication { generation, stage: at - begin, publish, phases, modules })
    }

    /// See [`crate::Runtime::rollback`].
    pub(crate) fn rollback(&mut self, generation: u64) -> Result<Publication, Error> {
        let begin = Instant::now();
        let Some(mut next) = self.history.modules_of(generation) else {
            let (oldest, current) = (self.history.oldest().unwrap_or(self.generation), self.generation);
            return Err(Error::NotInHistory { generation, oldest, current });
        };
        // What has come back already stays: it is not replaced by itself.
        next.retain(|name, version| {
            self.loaded(name).ok().map(Arc::as_ptr) != version.as_ref().map(Arc::as_ptr)
        });
        let versions = || next.values().flatten();
        versions().try_for_each(|version| self.check_promises(version, &next))?;
        // Those that stay have not changed since, and did not call them then.
        let gone = next.iter().filter(|(_, version)| version.is_none()).map(|(name, _)| name);
        for name in gone.clone() {
            self.check_callers(name, self.retirement.kept())?;
        }
        let mut changes = Vec::new();
        for (name, version) in &next {
            self.bind_slots(name, version.as_deref(), &mut changes);
        }
        let table = self.tables.with(&changes);
        let names: Vec<_> = next.keys().cloned().collect();
        let modules = versions().map(|version| ModuleVersion::of(version)).collect();
        let Published { generation, at, publish } = self.publish(table, &changes, next);
        self.follow_escapes(&names);
        Ok(Publication { generation, stage: at - begin, publish, phases: Phases::default(), modules })
    }

    /// Links all files against each other and against the modules that stay. Nothing of them runs but what chooses their
    /// indirect functions.
    ///
    /// # Safety
    ///
    /// As for [`bind`] and [`link`].
    unsafe fn stage(
        &mut self,
        files: &[ModuleFile],
        caller: &Caller<'_>,
        clock: &mut Clock,
        phases: &mut Phases,
    ) -> Result<Versions, Error> {
        let page_size = self.memory.page_size();
        let mut next = Files::new();
        let mut names: Vec<Arc<str>> = Vec::with_capacity(files.len());
        for file in files {
            let image = file.parse(page_size)?;
            let name: Arc<str> = file.name(&image)?.into();
            if let Some((first, _)) = next.get(&name) {
                let paths = [first.path().into(), file.path().into()];
                return Err(Error::DuplicateModule { module: name.to_string(), paths });
            }
            next.insert(name.clone(), (file, image));
            names.push(name);
        }
        self.make_room(next.values().map(|(_, image)| image.span() as usize).sum(), caller)?;
        clock.lap(&mut phases.parse);

        let mut versions = Versions::with_capacity(names.len());
        for name in names {
            let (file, image) = &next[&name];
            // SAFETY: the caller accepts the constructors of needed libraries.
            let bound = unsafe { bind(file, image, &name, &mut Staging { files: &next, state: self }) }?;
            clock.lap(&mut phases.bind);
            let number = self.modules.get(&name).map_or(0, |module| module.versions) + 1;
            // SAFETY: the caller vouches for the code.
            let version = unsafe {
                link(
                    file,
                    image,
                    bound,
                    (name, number),
                    (&mut self.memory, &mut self.observers),
                    clock,
                    phases,
                )
            }?;
            versions.push(Arc::new(version));
        }
        let staged = versions.iter().map(|version| (version.name().clone(), Some(version.clone()))).collect();
        versions.iter().try_for_each(|version| self.check_promises(version, &staged))?;
        Ok(versions)
    }

    /// That the version has all that the program declares of its module, and that the modules of the generation which `next` leads
    /// to and the retained versions call.
    fn check_promises(&self, version: &Version, next: &Next) -> Result<(), Error> {
        let staying = || self.current().filter(|version| !next.contains_key(version.name()));
        let callers = || staying().chain(next.values().flatten()).map(|v| &**v).chain(self.retirement.kept());
        let is_called =
            |symbol| callers().flat_map(|v| v.calls()).any(|call| call == (&**version.name(), symbol));
        let mut symbols: Vec<String> = self
            .slots
            .of(version.name())
            .filter(|(symbol, slot)| {
                version.function(symbol).is_none() && (slot.promised || is_called(symbol))
            })
            .map(|(symbol, _)| symbol.to_owned())
            .collect();
        if symbols.is_empty() {
            return Ok(());
        }
        symbols.sort();
        Err(Error::MissingFunctions {
            path: version.path().into(),
            module: version.name().to_string(),
            symbols,
        })
    }

    /// The versions that the next generation has.
    fn current(&self) -> impl Iterator<Item = &Arc<Version>> {
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
        for slot in covered..self.trampolines.len() {
            LIVE.set(slot as usize, unbound(slot));
        }
        Ok(())
    }

    /// The index of a slot, which has its code.
    fn slot(&mut self, module: &str, symbol: &str, promised: bool) -> Result<u32, Error> {
        if self.slots.get(module, symbol).is_none() {
            self.cover_slots((self.slots.len() + 1).min(MAX_SLOTS as u32))?;
        }
        self.slots.insert(module, symbol, promised)
    }

    /// What is behind the slots of a generation in which `staged` replace what they replace: their own, and those of the modules they
    /// call, some of which may be new.
    fn next_bindings(&self, staged: &[Arc<Version>]) -> Vec<Change> {
        let mut changes = Vec::new();
        let changed = staged.iter().map(|version| &**version.name());
        let called = staged.iter().flat_map(|version| version.calls()).map(|(module, _)| module);
        for module in changed.chain(called).collect::<BTreeSet<_>>() {
            let staged = staged.iter().find(|version| &**version.name() == module);
            let version = staged.or_else(|| self.loaded(module).ok()).map(|version| &**version);
            self.bind_slots(module, version, &mut changes);
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

    /// Publishes a table that was made with these changes, and the modules that they are about. Takes as long as those are many,
    /// whatever else is loaded.
    fn publish(&mut self, table: Table, changes: &[Change], next: Next) -> Published {
        let generation = self.generation + 1;
        let held: Vec<_> = self.retirement.held().chain([self.generation]).collect();
        let number = |version: &Option<Arc<Version>>| version.as_ref().map(|version| version.number());
        versions::note(generation, &held, next.iter().map(|(name, version)| (name.clone(), number(version))));
        let mut live = Vec::with_capacity(changes.len());
        let (entries, changes) =
            self.tables.publish(table, changes, |slot, target| live.push((slot, target)));
        let made = Made::new(changes, &entries);
        let publisher = &mut self.retirement.publisher;
        // SAFETY: the process's one publisher, behind the runtime's lock.
        let new = unsafe { DISPATCH.prepare(publisher, entries, made) };

        // Only what has to be between the first thread that sees something of it and the last.
        let at = Instant::now();
        // SAFETY: as above, and this is the next.
        self.generation = unsafe { DISPATCH.publish(publisher, new) };
        for (slot, target) in live {
            LIVE.set(slot as usize, target);
        }
        let publish = at.elapsed();

        debug_assert_eq!(self.generation, generation);
        let mut before = Vec::with_capacity(next.len());
        for (name, version) in next {
            self.exporters.changed(&name, version.as_deref());
            let module = self.modules.entry(name.clone()).or_default();
            let replaced = module.current.take();
            if let Some(version) = version {
                module.versions = module.versions.max(version.number());
                self.bytes += version.bytes();
                let since = self.retirement.restore(&version).unwrap_or(generation);
                module.current = Some(Current { version, since });
            }
            if let Some(Current { version, since }) = &replaced {
                self.bytes -= version.bytes();
                self.retirement.replace(version.clone(), *since..=generation - 1);
            }
            before.push((name, replaced.map(|current| current.version)));
        }
        self.history.push(generation, before);
        Published { generation, at, publish }
    }

    /// Sees to it that so many more bytes of code memory may be used.
    fn make_room(&mut self, more: usize, caller: &Caller<'_>) -> Result<(), Error> {
        let Some(limit) = self.max_memory else { return Ok(()) };
        let has_room = |state: &Self| state.bytes + state.retirement.bytes() + more <= limit;
        if !has_room(self) {
            self.collect(false);
        }
        while !has_room(self) && self.history.forget() {
            self.collect(false);
        }
        if !has_room(self) && self.retirement.report(0).retained > 0 {
            self.collect_quiescent(caller)?;
        }
        if has_room(self) {
            return Ok(());
        }
        let Collected { held, retained, busy, .. } = self.retirement.report(0);
        let (old, holders) = (self.retirement.bytes(), self.retirement.holders());
        let current = self.bytes;
        Err(Error::MemoryLimit { limit, needed: more, current, old, held, holders, retained, busy })
    }

    /// Frees the versions that no thread can be inside any more, and the retained ones if the caller vouches for those.
    pub(crate) fn collect(&mut self, with_retained: bool) -> Collected {
        let mut dying = self.retirement.collect(|table| self.tables.keep(table));
        if with_retained {
            dying.extend(self.retirement.take_retained());
        }
        // SAFETY: no thread is inside them.
        let freed = self.retirement.end_lingering() + unsafe { self.bury(dying) };
        self.retirement.report(freed)
    }

    /// Frees what no thread can be inside any more, if that is worth the barrier that it takes.
    pub(crate) fn tidy(&mut self) {
        if self.retirement.is_worth_collecting() {
            self.collect(false);
        }
    }

    /// As [`collect`](Self::collect), and frees the retained versions of which no thread has an address.
    pub(crate) fn collect_quiescent(&mut self, caller: &Caller<'_>) -> Result<Quiescence, Error> {
        let before = self.collect(false);
        let taken = self.retirement.take_quiescent(caller);
        let (quiescent, mut report) = taken.map_err(|source| Error::Quiescence { source })?;
        // SAFETY: no thread is inside them: they were replaced and collected before the threads were looked at.
        let freed = before.freed + unsafe { self.bury(quiescent) };
        report.collected = self.retirement.report(freed);
        Ok(report)
    }

    /// Ends versions and frees them, and returns how many it freed. A destructor calls what dies with it, else what is current.
    ///
    /// # Safety
    ///
    /// No thread is inside them.
    unsafe fn bury(&mut self, dying: Vec<Version>) -> usize {
        if dying.is_empty() {
            return 0;
        }
        let mut changes = Vec::new();
        for version in &dying {
            self.bind_slots(version.name(), Some(version), &mut changes);
        }
        let table = self.tables.with(&changes);
        // SAFETY: the caller's promise; the table is whole, and its targets are of versions dying or current.
        let freed = unsafe { self.retirement.bury(dying, table.entries()) };
        self.tables.take_back(table, &changes);
        freed
    }

    /// See [`crate::Runtime::unload`].
    pub(crate) fn unload(&mut self, module: &str) -> Result<(), Error> {
        let name = self.loaded(module)?.name().clone();
        self.check_callers(&name, self.current().map(|version| &**version).chain(self.retirement.kept()))?;
        let mut changes = Vec::new();
        self.bind_slots(&name, None, &mut changes);
        let table = self.tables.with(&changes);
        self.publish(table, &changes, Next::from([(name, None)]));
        Ok(())
    }

    /// That none of these versions calls a module that is to go.
    fn check_callers<'v>(
        &self,
        module: &str,
        versions: impl Iterator<Item = &'v Version>,
    ) -> Result<(), Error> {
        let calls_it = |v: &&Version| **v.name() != *module && v.calls().any(|(called, _)| called == module);
        let by: BTreeSet<_> = versions.filter(calls_it).map(|version| version.name().to_string()).collect();
        match by.is_empty() {
            true => Ok(()),
            false => Err(Error::StillImported { module: module.into(), by: by.into_iter().collect() }),
        }
    }

    fn loaded(&self, module: &str) -> Result<&Arc<Version>, Error> {
        let current = self.modules.get(module).and_then(|module| module.current.as_ref());
        current.map(|current| &current.version).ok_or_else(|| Error::NotLoaded { module: module.into() })
    }

    /// See [`crate::Runtime::symbol`].
    pub(crate) fn symbol(&mut self, module: &str, symbol: &str) -> Result<usize, Error> {
        let version = self.loaded(module)?;
        let name = version.name().clone();
        if version.function(symbol).is_none() {
            return Err(Error::NoSuchFunction { module: module.into(), symbol: symbol.into() });
        }
        let slot = self.slot(&name, symbol, true)?;
        let mut changes = Vec::new();
        self.bind_slots(&name, self.loaded(module).ok().map(|version| &**version), &mut changes);
        // A new slot is unbound in every table so far.
        if changes.iter().any(|(slot, target)| self.tables.current()[*slot as usize] != *target) {
            let table = self.tables.with(&changes);
            self.publish(table, &changes, Next::new());
        }
        self.follow(vec![name]);
        Ok(self.trampolines.trampoline(slot))
    }

    /// A new version of an escaped module may call modules that the old one did not.
    fn follow_escapes(&mut self, changed: &[Arc<str>]) {
        let escaped = changed.iter().filter(|name| self.retirement.has_escaped(name));
        self.follow(escaped.flat_map(|name| self.called_by(name)).collect());
    }

    /// See [`crate::Runtime::retain`].
    pub(crate) fn retain(&mut self, module: &str) -> Result<(), Error> {
        let name = self.loaded(module)?.name().clone();
        self.retirement.make_opaque(name.clone());
        self.follow(vec![name]);
        Ok(())
    }

    /// Marks modules as escaped, with all that they call.
    fn follow(&mut self, mut modules: Vec<Arc<str>>) {
        while let Some(name) = modules.pop() {
            if self.retirement.escape(name.clone()) {
                modules.extend(self.called_by(&name));
            }
        }
    }

    fn called_by(&self, module: &str) -> Vec<Arc<str>> {
        let version = self.loaded(module).into_iter();
        version.flat_map(|version| version.calls()).map(|(called, _)| called.into()).collect()
    }
}

fn current(modules: &BTreeMap<Arc<str>, Module>) -> impl Iterator<Item = &Arc<Version>> {
    modules.values().filter_map(|module| module.current.as_ref()).map(|current| &current.version)
}

fn synchronise_cores() -> Result<(), Error> {
    barrier::synchronise_cores().map_err(|source| Error::Synchronise { source })
}

/// The next generation as a module that is being linked into it sees it: the new files first, else what stays.
struct Staging<'n, 'f> {
    files: &'n Files<'f>,
    state: &'n mut State,
}

impl Neighbours for Staging<'_, '_> {
    fn is_module(&self, name: &str) -> bool {
        self.files.contains_key(name) || self.state.loaded(name).is_ok()
    }

    fn exporters(&mut self, symbol: &str, from: &str) -> Vec<Found> {
        let new = self.files.iter().filter_map(|(name, (_, image))| {
            let export = image.export(symbol)?;
            Some(Found {
                module: name.clone(),
                function: matches!(export.kind, ExportKind::Function | ExportKind::Indirect),
            })
        });
        let State { exporters, modules, .. } = &mut *self.state;
        let ask = || current(modules).filter_map(|version| Found::of(version, symbol)).collect();
        let staying =
            exporters.of(symbol, ask).iter().filter(|found| !self.files.contains_key(&found.module));
        new.chain(staying.cloned()).filter(|found| &*found.module != from).collect()
    }

    fn trampoline(&mut self, module: &str, symbol: &str) -> Result<usize, Error> {
        let slot = self.state.slot(module, symbol, false)?;
        Ok(self.state.trampolines.trampoline(slot))
    }
}
