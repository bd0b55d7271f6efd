//! Loading behind the runtime's lock: from parsed files to the publication of their versions.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::candidates::{Candidate, Candidates, NewExporters};
use super::publication::{ModuleVersion, Publication};
use super::state::{Module, Published, State, current, synchronise_cores};
use super::tables::{Change, Table};
use crate::Error;
use crate::call::home::with_table;
use crate::load::Load;
use crate::module::{
    Clock, Code, Found, Libraries, Linked, Meant, Neighbours, Phases, Placed, Version, Versions, bind,
    dependencies_first, file_name, in_order, place, stem,
};
use crate::quiescence::Caller;

/// Versions whose constructors run or have run, and that are not published. If that does not come
/// about they are ended when this is dropped, whatever the reason: an error, or a panic of a
/// callback.
struct Pending<'s> {
    state: &'s mut State,
    /// None: published.
    staged: Option<(Versions, Table)>,
    changes: Vec<Change>,
}

impl Pending<'_> {
    /// # Safety
    ///
    /// As for [`initialise`].
    unsafe fn initialise(&self, load: &Load<'_>) -> Result<(), Error> {
        let (versions, table) = self.staged.as_ref().expect("it is there until it is taken out");
        // SAFETY: the caller's promise.
        unsafe { initialise(versions, table, load) }
    }

    /// They are about to be published.
    fn into_parts(mut self) -> (Versions, Table, Vec<Change>) {
        let (versions, table) = self.staged.take().expect("it is there until it is taken out");
        (versions, table, std::mem::take(&mut self.changes))
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if let Some((versions, table)) = self.staged.take() {
            self.state.abandon(versions, table, &self.changes);
        }
    }
}

/// Versions that are linked and known to nobody, and of each its code as it was linked, if that is to be compared.
type Staged = (Versions, Vec<Code>);

impl State {
    /// That the modules which the candidates say they need are loaded, or among them.
    fn check_needs(&self, candidates: &Candidates<'_>) -> Result<(), Error> {
        let is_there = |name: &str| candidates.has(name) || self.loaded(name).is_ok();
        for candidate in candidates.iter() {
            if let Some(missing) = candidate.image.needs().find(|name| !is_there(name)) {
                return Err(Error::MissingModule {
                    path: candidate.file.path().into(),
                    needs: missing.into(),
                });
            }
        }
        Ok(())
    }

    /// Stages, initialises, publishes. On any error but [`Error::Integrity`] nothing has been published and what was staged is gone.
    ///
    /// # Safety
    ///
    /// As for [`crate::Runtime::load`], of each file.
    pub(crate) unsafe fn load(
        &mut self,
        candidates: &Candidates<'_>,
        load: &Load<'_>,
        caller: &Caller<'_>,
        mut phases: Phases,
    ) -> Result<Publication, Error> {
        let mut clock = Clock::start();
        self.check_needs(candidates)?;
        let bytes = candidates.iter().map(|candidate| candidate.image.span() as usize).sum();
        self.make_room(bytes, caller)?;
        // SAFETY: the caller's promise.
        let (versions, codes) = unsafe { self.stage(candidates, load, &mut clock, &mut phases) }?;
        load.reached(70)?;
        let changes = self.next_bindings(&versions);
        let table = self.tables.with(&changes);
        self.settle(&versions);
        // Before any constructor runs or starts a thread: an address dependency orders data, not instruction fetch.
        if let Err(error) = synchronise_cores() {
            self.tables.take_back(table, &changes);
            return Err(error);
        }
        let pending = Pending { state: self, staged: Some((versions, table)), changes };
        // SAFETY: the caller vouches for the code; staged means not yet initialised.
        unsafe { pending.initialise(load) }?;
        clock.lap(&mut phases.initialise);

        // From here on nothing fails.
        let (versions, table, changes) = pending.into_parts();
        let names: Vec<_> = versions.iter().map(|version| version.name().clone()).collect();
        let modules = versions.iter().map(|version| ModuleVersion::of(version)).collect();
        let next = versions.into_iter().map(|version| (version.name().clone(), Some(version))).collect();
        let Published { generation, at, publish, before } = self.publish(table, &changes, next);
        self.follow_escapes(&names);
        self.verify(&names, &codes, load, &before)?;
        if load.options.keep_previous {
            self.keep_previous(before);
        }
        Ok(Publication { generation, stage: at - load.begin, publish, phases, modules })
    }

    /// Says what a load would say up to the constructors. Nothing is published or run, and no library is loaded.
    pub(crate) fn rehearse(&mut self, candidates: &Candidates<'_>, load: &Load<'_>) -> Result<(), Error> {
        self.check_needs(candidates)?;
        let bytes: usize = candidates.iter().map(|candidate| candidate.image.span() as usize).sum();
        self.check_room(bytes)?;
        let mut placed = Vec::with_capacity(candidates.len());
        let new = NewExporters::of(candidates);
        for candidate in candidates.iter() {
            let Candidate { file, image, name } = candidate;
            let mut staging = Staging { new: &new, state: self, dry: false };
            // SAFETY: no library is loaded.
            let bound = unsafe { bind(file, image, name, Libraries::Loaded, &mut staging) }?;
            // What is missing may be in a library that is absent: then nothing can be said of linking.
            let whole = bound.absent.is_empty() || bound.missing(image).next().is_none();
            let draft = whole.then(|| place(file, image, bound, &mut self.memory, false)).transpose()?;
            placed.push((candidate, draft));
        }
        // What candidates call of each other is there: they were bound to it.
        let staying: Vec<_> = self.current().filter(|version| !candidates.has(version.name())).collect();
        for candidate in candidates.iter() {
            let is_called = |symbol: &str| {
                staying.iter().flat_map(|v| v.calls()).any(|call| call == (&*candidate.name, symbol))
            };
            let has = |symbol: &str| candidate.function(symbol);
            self.check_promises(&candidate.name, candidate.file.path(), has, is_called)?;
        }
        let drafts = placed
            .into_iter()
            .filter_map(|(candidate, draft)| Some((candidate.name.clone(), Mutex::new(Some(draft?)))));
        let drafts: Vec<_> = drafts.collect();
        load.each(&drafts, |(name, placed)| link(placed, name.clone(), 0, load))?;
        load.deadline.check()
    }

    /// Links all candidates against each other and against the modules that stay. Nothing of them runs but what chooses their
    /// indirect functions.
    ///
    /// # Safety
    ///
    /// As for [`bind`] and [`Linked::finish`].
    unsafe fn stage(
        &mut self,
        candidates: &Candidates<'_>,
        load: &Load<'_>,
        clock: &mut Clock,
        phases: &mut Phases,
    ) -> Result<Staged, Error> {
        let compare = load.options.verify;
        let mut placed = Vec::with_capacity(candidates.len());
        let new = NewExporters::of(candidates);
        for candidate in candidates.iter() {
            let Candidate { file, image, name } = candidate;
            let mut staging = Staging { new: &new, state: self, dry: false };
            // SAFETY: the caller accepts the constructors of needed libraries.
            let mut bound = unsafe { bind(file, image, name, Libraries::Load, &mut staging) }?;
            clock.lap(&mut phases.bind);
            let number = self.modules.get(name).map_or(0, Module::versions) + 1;
            bound.say(file, image, name, number > 1);
            let draft = place(file, image, bound, &mut self.memory, compare)?;
            clock.lap(&mut phases.link);
            placed.push((name, number, Mutex::new(Some(draft))));
        }
        load.deadline.check()?;
        let linked =
            load.each(&placed, |(name, number, placed)| link(placed, (*name).clone(), *number, load))?;
        clock.skip();
        let mut codes = Vec::new();
        for linked in &linked {
            phases.link += linked.phases.link;
            phases.seal += linked.phases.seal;
        }
        let linked = linked.into_iter().map(|mut linked| {
            codes.push(std::mem::take(&mut linked.code));
            linked
        });
        // SAFETY: the caller vouches for the code.
        let versions = unsafe { self.finish(linked.collect()) }?;
        clock.lap(&mut phases.register);
        let next = versions.iter().map(|version| (version.name().clone(), Some(version.clone()))).collect();
        versions.iter().try_for_each(|version| self.check_version(version, &next))?;
        Ok((versions, codes))
    }

    /// Makes versions of what was linked: those first whose functions others call to choose theirs.
    ///
    /// # Safety
    ///
    /// The code is sound.
    unsafe fn finish(&self, linked: Vec<Linked<'_, '_>>) -> Result<Versions, Error> {
        let mut order: Vec<usize> = (0..linked.len()).collect();
        if linked.iter().any(Linked::calls_to_choose) {
            let places: HashMap<&str, usize> =
                linked.iter().enumerate().map(|(at, linked)| (linked.name(), at)).collect();
            let called = |at: usize| linked[at].calls().filter_map(|(module, _)| places.get(module).copied());
            order = in_order(linked.len(), called);
        }
        let mut linked: Vec<_> = linked.into_iter().map(Some).collect();
        let mut finished: Vec<Option<Arc<Version>>> = vec![None; linked.len()];
        for at in order {
            let linked = linked[at].take().expect("each is finished once");
            let table = self.table_of_chooser(&linked, &finished);
            let mut version = None;
            // SAFETY: the caller's promise.
            let finish = || version = Some(unsafe { linked.finish() });
            match table {
                Some(table) => with_table(&table, finish),
                None => finish(),
            }
            finished[at] = Some(Arc::new(version.expect("it was finished")?));
        }
        Ok(finished.into_iter().flatten().collect())
    }

    /// What code calls that chooses functions of a module: what is current, but for what is new. None: it calls nothing.
    fn table_of_chooser(
        &self,
        linked: &Linked<'_, '_>,
        finished: &[Option<Arc<Version>>],
    ) -> Option<Vec<usize>> {
        if !linked.calls_to_choose() {
            return None;
        }
        let mut table = self.tables.current().to_vec();
        // What it is the first to call has a slot that is bound nowhere yet.
        let called = linked.calls().filter_map(|(module, symbol)| {
            Some((self.slot_of(module, symbol)?, self.loaded(module).ok()?.function(symbol)?))
        });
        let new: Vec<_> = finished.iter().flatten().cloned().collect();
        for (slot, target) in called.chain(self.next_bindings(&new)) {
            table[slot as usize] = target;
        }
        Some(table)
    }

    /// Ends what was initialised and is not published.
    fn abandon(&mut self, versions: Versions, table: Table, changes: &[Change]) {
        let staged = versions.into_iter().filter_map(Arc::into_inner).collect();
        self.tables.take_back(table, changes);
        // SAFETY: nobody was told of them.
        unsafe { self.bury(staged) };
    }

    /// Until they are published, they belong with each other and with what stays.
    fn settle(&self, staged: &Versions) {
        let names: HashMap<&str, &Version> =
            staged.iter().map(|version| (&**version.name(), &**version)).collect();
        let find = |name: &str| {
            names.get(name).copied().or_else(|| self.loaded(name).ok().map(|version| &**version))
        };
        let homes = self.homes_of(staged.iter().map(|version| &**version), find);
        staged.iter().zip(homes).for_each(|(version, home)| version.set_home(Some(home)));
    }

    /// That the code of what was published is what was linked. If not, publishes what was replaced again, if that was asked for.
    fn verify(
        &mut self,
        names: &[Arc<str>],
        codes: &[Code],
        load: &Load<'_>,
        before: &[(Arc<str>, Option<Arc<Version>>)],
    ) -> Result<(), Error> {
        let differs = |(name, code): (&Arc<str>, &Code)| {
            let version = self.loaded(name).ok()?;
            Some((version.path().to_owned(), name.to_string(), version.differs(code)?))
        };
        let Some((path, module, offset)) = names.iter().zip(codes).find_map(differs) else { return Ok(()) };
        let rolled_back = load.options.rollback_on_failure
            && match self.republish(before.iter().cloned().collect(), load.begin) {
                Ok(_) => true,
                Err(error) => {
                    tracing::error!(module, %error, "cannot be rolled back");
                    false
                }
            };
        Err(Error::Integrity { path, module, offset, rolled_back })
    }
}

fn link<'i, 'f>(
    placed: &Mutex<Option<Placed<'i, 'f>>>,
    name: Arc<str>,
    number: u64,
    load: &Load<'_>,
) -> Result<Linked<'i, 'f>, Error> {
    let placed = placed.lock().take().expect("each is linked once");
    placed.link(name, number, &load.loader.observers, load.options.verify)
}

/// Runs the constructors, of callers last, and sees to it that what they wrote is seen.
///
/// # Safety
///
/// The code is sound and was not initialised; the table has what it calls.
unsafe fn initialise(versions: &Versions, table: &Table, load: &Load<'_>) -> Result<(), Error> {
    let mut initialised = Ok(());
    with_table(table.entries(), || {
        let mut order = dependencies_first(versions.iter().map(|version| &**version)).into_iter();
        initialised = order.try_for_each(|version| {
            // SAFETY: the caller's promise.
            let accepted = unsafe { version.initialise() };
            accepted.map_err(|code| Error::Refused { path: version.path().into(), code })
        });
    });
    initialised?;
    // Again, for what they wrote: a thread outside frames reaches it by a branch, which on AArch64 orders nothing.
    if cfg!(target_arch = "aarch64") && versions.iter().any(|version| version.is_initialised_by_code()) {
        synchronise_cores()?;
    }
    load.reached(90)
}

/// The next generation as a module that is being linked into it sees it: the new files first, else what stays.
pub(super) struct Staging<'s, 'n, 'f> {
    pub(super) new: &'s NewExporters<'n, 'f>,
    pub(super) state: &'s mut State,
    /// Nothing is to be called: no trampoline is needed.
    pub(super) dry: bool,
}

impl Neighbours for Staging<'_, '_, '_> {
    fn module_of(&self, library: &str) -> Option<Meant> {
        let (candidates, file) = (self.new.candidates(), file_name(library));
        let meant = |module: &Arc<str>, library: Option<&str>, by_library| {
            Some(Meant { module: module.clone(), by_library, library: library.map(Into::into) })
        };
        if let Some(Candidate { name, .. }) = candidates.of_library(file) {
            return meant(name, Some(file), true);
        }
        let staying = self.state.libraries.module(file).filter(|module| !candidates.has(module));
        if let Some(module) = staying {
            return meant(module, Some(file), true);
        }
        match candidates.get(stem(library)) {
            Some(Candidate { file, image, name }) => meant(name, file.library(image), false),
            None => {
                let version = self.state.loaded(stem(library)).ok()?;
                meant(version.name(), version.library(), false)
            }
        }
    }

    fn exporters(&mut self, symbol: &str, from: &str) -> Vec<Found> {
        let candidates = self.new.candidates();
        let State { exporters, modules, .. } = &mut *self.state;
        let ask = || current(modules).filter_map(|version| Found::of(version, symbol)).collect();
        let staying = exporters.of(symbol, ask).iter().filter(|found| !candidates.has(&found.module));
        let new = self.new.find(symbol).into_iter();
        new.chain(staying.cloned()).filter(|found| &*found.module != from).collect()
    }

    fn trampoline(&mut self, module: &str, symbol: &str) -> Result<usize, Error> {
        if self.dry {
            return Ok(0);
        }
        let slot = self.state.slot(module, symbol, false)?;
        Ok(self.state.trampolines.trampoline(slot))
    }
}
