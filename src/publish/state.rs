//! The publisher's state: what is loaded, and the next generation in the making.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use midflight_image::{ExportKind, Image};

use super::publication::{ModuleVersion, Publication};
use super::retirement::{Collected, Retirement, with_table};
use crate::Config;
use crate::Error;
use crate::call::frame::DISPATCH;
use crate::call::live::{LIVE, MAX_SLOTS};
use crate::call::slots::SlotTable;
use crate::call::trampolines::Trampolines;
use crate::code::{Backing, CodeMemory};
use crate::debug::Observers;
use crate::module::{
    Clock, Found, ModuleFile, Neighbours, Phases, Source, Version, Versions, bind, dependencies_first, link,
};
use crate::os::{barrier, memory};

/// All that a publisher changes. One thread at a time has it.
pub(crate) struct State {
    memory: CodeMemory,
    observers: Observers,
    slots: SlotTable,
    trampolines: Trampolines,
    modules: BTreeMap<Arc<str>, Module>,
    /// The next generation's table. Covers whole pages of slot code.
    table: Vec<usize>,
    pub(crate) retirement: Retirement,
}

/// A module that was loaded at some time.
struct Module {
    /// None after an unload.
    current: Option<Arc<Version>>,
    /// The number of its latest version.
    versions: u64,
}

/// The files of one publication, by module.
type Files<'f> = BTreeMap<Arc<str>, (&'f ModuleFile, Image<'f>)>;

impl State {
    /// Publishes the empty generation, number 0.
    pub(crate) fn new(config: Config) -> Result<Self, Error> {
        let observers = Observers::new(&config)?;
        let backing = if config.perf_map { Backing::WriteOnce } else { config.backing };
        let memory = CodeMemory::new(backing, memory::page_size());
        let trampolines = Trampolines::new(&memory);
        let mut slots = SlotTable::new();
        slots.bind_declared()?;
        let (modules, table) = (BTreeMap::new(), Vec::new());
        let mut state =
            Self { memory, observers, slots, trampolines, modules, table, retirement: Retirement::default() };
        state.cover_slots(state.slots.len())?;
        state.publish(state.table.clone());
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
        let versions = unsafe { self.stage(&files, &mut clock, &mut phases) }?;
        let table = self.next_table(&versions);
        // Before any constructor runs or starts a thread: an address dependency orders data, not instruction fetch.
        synchronise_cores()?;
        with_table(&table, || {
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
            // SAFETY: nobody was told of them; the table has what they call.
            unsafe {
                self.retirement.bury(versions.into_iter().filter_map(Arc::into_inner).collect(), &table)
            };
            return Err(error);
        }
        clock.lap(&mut phases.initialise);
        let stage = begin.elapsed();

        // From here on nothing fails.
        let begin = Instant::now();
        let names: Vec<_> = versions.iter().map(|version| version.name().clone()).collect();
        let module_version = |v: &Arc<Version>| ModuleVersion {
            name: v.name().to_string(),
            version: v.number(),
            debug_omitted: v.debug_omitted(),
        };
        let modules = versions.iter().map(module_version).collect();
        for version in versions {
            let versions = version.number();
            self.modules.insert(version.name().clone(), Module { current: Some(version), versions });
        }
        let generation = self.publish(table);
        let publish = begin.elapsed();
        self.follow_escapes(&names);
        Ok(Publication { generation, stage, publish, phases, modules })
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
        clock.lap(&mut phases.parse);

        let mut versions = Versions::with_capacity(names.len());
        for name in names {
            let (file, image) = &next[&name];
            // SAFETY: the caller accepts the constructors of needed libraries.
            let bound = unsafe { bind(file, image, &name, &mut Next { files: &next, state: self }) }?;
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
        for version in &versions {
            self.check_promises(version, &versions)?;
        }
        Ok(versions)
    }

    /// That the version has all that the program declares of its module, and that the next generation's modules and the retained
    /// versions call.
    fn check_promises(&self, version: &Version, staged: &[Arc<Version>]) -> Result<(), Error> {
        let is_replaced = |v: &&Arc<Version>| staged.iter().any(|other| other.name() == v.name());
        let staying = || self.current().filter(|v| !is_replaced(v)).chain(staged).map(|v| &**v);
        let callers = || staying().chain(self.retirement.kept());
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
        self.modules.values().filter_map(|module| module.current.as_ref())
    }

    /// Gives at least `slots` slots their code and their entries in the next table and in the live one. Whole pages of
    /// slots at a time: the entries beyond the last slot are unbound already when it comes into use.
    fn cover_slots(&mut self, slots: u32) -> Result<(), Error> {
        if slots as usize <= self.table.len() {
            return Ok(());
        }
        self.trampolines.grow(&mut self.memory, slots)?;
        synchronise_cores()?;
        for slot in self.table.len() as u32..self.trampolines.len() {
            let unbound = self.trampolines.unbound(slot);
            self.table.push(unbound);
            LIVE.set(slot as usize, unbound);
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

    /// The table of a generation in which `staged` replace what they replace: their slots, and those of the modules they
    /// call, some of which may be new, bound to it.
    fn next_table(&self, staged: &[Arc<Version>]) -> Vec<usize> {
        let mut table = self.table.clone();
        let changed = staged.iter().map(|version| &**version.name());
        let called = staged.iter().flat_map(|version| version.calls()).map(|(module, _)| module);
        for module in changed.chain(called).collect::<BTreeSet<_>>() {
            let staged = staged.iter().find(|version| &**version.name() == module);
            self.bind_slots(&mut table, module, staged.or_else(|| self.loaded(module).ok()).map(|v| &**v));
        }
        table
    }

    /// Binds a module's slots to a version, or to nothing.
    fn bind_slots(&self, table: &mut [usize], module: &str, version: Option<&Version>) {
        for (symbol, slot) in self.slots.of(module) {
            let unbound = || self.trampolines.unbound(slot.index);
            table[slot.index as usize] =
                version.and_then(|version| version.function(symbol)).unwrap_or_else(unbound);
        }
    }

    /// Publishes the current versions of all modules, with their table.
    fn publish(&mut self, table: Vec<usize>) -> u64 {
        let versions: Versions = self.current().cloned().collect();
        // SAFETY: the process's one publisher, behind the runtime's lock.
        let generation =
            unsafe { DISPATCH.publish(&mut self.retirement.publisher, table.as_slice().into(), versions) };
        for (slot, (&before, &target)) in self.table.iter().zip(&table).enumerate() {
            if before != target {
                LIVE.set(slot, target);
            }
        }
        self.table = table;
        generation
    }

    /// Frees the versions that no thread can be inside any more, and the retained ones if the caller vouches for those.
    pub(crate) fn collect(&mut self, with_retained: bool) -> Collected {
        let mut dying = self.retirement.collect();
        if with_retained {
            dying.extend(self.retirement.take_retained());
        }
        let mut freed = self.retirement.end_lingering();
        if !dying.is_empty() {
            // A destructor calls what dies with it, else what is current.
            let mut table = self.table.clone();
            for version in &dying {
                self.bind_slots(&mut table, version.name(), Some(version));
            }
            // SAFETY: no thread is inside them; the table is whole, and its targets are of versions dying or current.
            freed += unsafe { self.retirement.bury(dying, &table) };
        }
        self.retirement.report(freed)
    }

    /// See [`crate::Runtime::unload`].
    pub(crate) fn unload(&mut self, module: &str) -> Result<(), Error> {
        let name = self.loaded(module)?.name().clone();
        let calls_it = |v: &&Version| *v.name() != name && v.calls().any(|(called, _)| called == &*name);
        let callers = self.current().map(|v| &**v).chain(self.retirement.kept()).filter(calls_it);
        let by: BTreeSet<_> = callers.map(|version| version.name().to_string()).collect();
        if !by.is_empty() {
            return Err(Error::StillImported { module: name.to_string(), by: by.into_iter().collect() });
        }
        if let Some(module) = self.modules.get_mut(&name) {
            module.current = None;
        }
        let mut table = self.table.clone();
        self.bind_slots(&mut table, &name, None);
        self.publish(table);
        Ok(())
    }

    fn loaded(&self, module: &str) -> Result<&Arc<Version>, Error> {
        let current = self.modules.get(module).and_then(|module| module.current.as_ref());
        current.ok_or_else(|| Error::NotLoaded { module: module.into() })
    }

    /// See [`crate::Runtime::symbol`].
    pub(crate) fn symbol(&mut self, module: &str, symbol: &str) -> Result<usize, Error> {
        let version = self.loaded(module)?;
        let name = version.name().clone();
        if version.function(symbol).is_none() {
            return Err(Error::NoSuchFunction { module: module.into(), symbol: symbol.into() });
        }
        let slot = self.slot(&name, symbol, true)?;
        let mut table = self.table.clone();
        self.bind_slots(&mut table, &name, self.loaded(module).ok().map(|v| &**v));
        // A new slot is unbound in every table so far.
        if table != self.table {
            self.publish(table);
        }
        self.follow(vec![name]);
        Ok(self.trampolines.trampoline(slot))
    }

    /// A new version of an escaped module may call modules that the old one did not.
    fn follow_escapes(&mut self, changed: &[Arc<str>]) {
        let escaped = changed.iter().filter(|name| self.retirement.has_escaped(name));
        self.follow(escaped.flat_map(|name| self.called_by(name)).collect());
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
        let version = self.modules.get(module).and_then(|module| module.current.as_ref());
        version.into_iter().flat_map(|version| version.calls()).map(|(called, _)| called.into()).collect()
    }
}

fn synchronise_cores() -> Result<(), Error> {
    barrier::synchronise_cores().map_err(|source| Error::Synchronise { source })
}

/// The next generation as a module that is being linked into it sees it: the new files first, else what stays.
struct Next<'n, 'f> {
    files: &'n Files<'f>,
    state: &'n mut State,
}

impl Neighbours for Next<'_, '_> {
    fn is_module(&self, name: &str) -> bool {
        self.files.contains_key(name) || self.state.loaded(name).is_ok()
    }

    fn exporters(&self, symbol: &str, from: &str) -> Vec<Found> {
        let new = self.files.iter().filter_map(|(name, (_, image))| {
            let export = image.export(symbol)?;
            Some(Found {
                module: name.clone(),
                function: matches!(export.kind, ExportKind::Function | ExportKind::Indirect),
            })
        });
        let staying = self.state.current().filter(|version| !self.files.contains_key(version.name()));
        let staying = staying.filter_map(|version| {
            let exported = version.exports(symbol)?;
            Some(Found { module: version.name().clone(), function: exported.function })
        });
        new.chain(staying).filter(|found| &*found.module != from).collect()
    }

    fn trampoline(&mut self, module: &str, symbol: &str) -> Result<usize, Error> {
        let slot = self.state.slot(module, symbol, false)?;
        Ok(self.state.trampolines.trampoline(slot))
    }
}
