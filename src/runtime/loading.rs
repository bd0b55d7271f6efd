//! How modules come, are replaced, and go.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use parking_lot::MutexGuard;

use super::hooks::Hooked;
use super::{Busy, Runtime, Wanted, unloading};
use crate::interface::{Interface, Verdict};
use crate::module::{Clock, Extent, ModuleFile, Origin, Phases};
use crate::publish::load::Load;
use crate::publish::quiescence::{self, Caller};
use crate::publish::{
    Besides, Candidate, Candidates, Checked, Covered, Damage, Departure, Done, LISTED, Missing, State,
    compare,
};
use crate::{
    Attempt, Compatibility, Error, Event, HooksId, LoadOptions, Publication, ReloadHooks, Source, Upcoming,
};

impl Runtime {
    /// Loads a module, or replaces the version that is loaded, for every frame opened from now on.
    ///
    /// Whatever is wrong with the file is an error, and then the old version goes on serving. What
    /// its code does is its own: a constructor that crashes ends the process.
    ///
    /// # Errors
    ///
    /// Says what is wrong with which file, and what to do.
    ///
    /// # Safety
    ///
    /// The module's native code runs in this process: its constructors in this call, its functions
    /// when they are called. The caller vouches for three things, of this version as of those
    /// before.
    ///
    /// - **Its code is sound.** Its functions have the types with which the program's
    ///   [`module!`](crate::module!) declarations and the other modules call them. Those that are
    ///   declared `safe fn` are sound with any arguments.
    /// - **Its addresses are not kept.** An address in the version is used in the frame that it was
    ///   had in, or while the version is current. This goes for references and function pointers
    ///   that its functions return (a `&'static` into a module is not static), and for callbacks
    ///   that it leaves with the host or with libraries. Excepted are addresses that have [escaped
    ///   by name](Self::symbol), and modules that are [retained](Self::retain).
    /// - **Its threads look after themselves.** A thread that it starts calls what is new in this
    ///   publication only after the publication. And it calls no other module that is replaced
    ///   while the thread is in it: a thread outside frames holds only the version that started it.
    pub unsafe fn load(&self, source: impl Into<Source>) -> Result<Publication, Error> {
        // SAFETY: the caller vouches for the module's code, as `load_all` asks of each.
        unsafe { self.load_all([source]) }
    }

    /// Loads or replaces several modules in one publication: every frame sees all of them or none.
    /// They may call each other.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load); if one file is wrong, nothing is published.
    ///
    /// # Safety
    ///
    /// As for [`load`](Self::load), of each.
    pub unsafe fn load_all(
        &self,
        sources: impl IntoIterator<Item = impl Into<Source>>,
    ) -> Result<Publication, Error> {
        // SAFETY: the caller vouches for the code of each module.
        unsafe { self.load_with(sources, &LoadOptions::default()) }
    }

    /// As [`load_all`](Self::load_all), in the way that the options say.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load), and those of the options.
    ///
    /// # Safety
    ///
    /// As for [`load`](Self::load), of each.
    pub unsafe fn load_with(
        &self,
        sources: impl IntoIterator<Item = impl Into<Source>>,
        options: &LoadOptions<'_>,
    ) -> Result<Publication, Error> {
        let wanted = Wanted::load(sources.into_iter().map(Into::into).collect());
        // SAFETY: the caller vouches for the code of each module.
        unsafe { self.load_and_tell(wanted, options) }
    }

    /// As [`load_with`](Self::load_with), of all that is wanted.
    ///
    /// # Safety
    ///
    /// As for [`load`](Self::load), of each.
    pub(crate) unsafe fn load_and_tell(
        &self,
        wanted: Wanted<'_>,
        options: &LoadOptions<'_>,
    ) -> Result<Publication, Error> {
        let begin = Instant::now();
        let watched = wanted.watched;
        let mut ended = Ended {
            files: wanted.files.paths().into_iter().map(Attempt::new).collect(),
            // A watch has hashed the file, and its user is told what has changed.
            recorded: watched || self.shared.events.are_recorded(),
            ..Ended::default()
        };
        let mut hooked = self.shared.hooks.begin();
        // SAFETY: the caller vouches for the code of each module.
        let result = unsafe { self.load_wanted(wanted, options, &mut ended, &mut hooked) };
        self.forget_stack();
        let took = begin.elapsed();
        let Ended { files, before, departures, panic, .. } = ended;
        let (before, after) = departures.split_at(before);
        self.tell_departures(before);
        let result = match *result {
            Ok(Done { publication, damage: None }) => {
                self.tell(&Event::Published { publication: &publication, took, watched });
                Ok(publication)
            }
            Ok(Done { publication, damage: Some(damage) }) => {
                let Damage { error, back } = *damage;
                self.tell(&match &back {
                    None => Event::Damaged { publication: &publication, error: &error, took, watched },
                    Some(back) => {
                        let damaged = Some((&publication, &error));
                        Event::RolledBack { publication: back, damaged, took, watched }
                    }
                });
                Err(error)
            }
            Err(error) => {
                self.tell(&Event::Refused { files: &files, error: &error, took, watched });
                Err(error)
            }
        };
        self.tell_departures(after);
        hooked.after(result.as_ref());
        match panic {
            Some(panic) => resume_unwind(panic),
            None => result,
        }
    }

    /// Its frames are below those that [`forget_stack`](Self::forget_stack) is called from. What it
    /// returns is in a box: a value that is moved up takes along what else was on the stack, in
    /// those of its bytes that mean nothing.
    ///
    /// # Safety
    ///
    /// As for [`load`](Self::load), of each.
    #[inline(never)]
    unsafe fn load_wanted(
        &self,
        wanted: Wanted<'_>,
        options: &LoadOptions<'_>,
        ended: &mut Ended,
        hooked: &mut Hooked<'_>,
    ) -> Box<Result<Done, Error>> {
        Box::new(quiescence::outside(|caller| {
            let _busy = Busy::enter()?;
            let loader = &self.shared.loader;
            let load = Load::new(loader, options, &wanted.files.paths(), ended.recorded);
            let load = load.with_hooks(hooked.are_there()).until(wanted.deadline).durable(wanted.durability);
            let _turn = loader.gate.enter(&load.deadline)?;
            load.note_figures(|| Ok(self.state_until(&load)?.figures()))?;
            let then = options.refuse_conflicts.then(|| Ok::<_, Error>(self.state_until(&load)?.numbers()));
            let then = then.transpose()?;
            let (mut clock, mut phases) = (Clock::start(), Phases::default());
            let Wanted { files, besides, validates, agreed, restores, .. } = wanted;
            let mut files = files.read(&load)?;
            clock.lap(&mut phases.read);
            load.keep(&files)?;
            clock.lap(&mut phases.commit);
            if load.recorded {
                load.each(&files, |file| {
                    file.hash();
                    Ok(())
                })?;
            }
            ended.files.iter_mut().zip(&files).for_each(|(ended, file)| ended.content = file.content_hash());
            load.reached(20)?;
            let (done, mut state) = {
                let candidates = load.each(&files, |file| Candidate::new(file, self.shared.page_size))?;
                for (ended, candidate) in ended.files.iter_mut().zip(&candidates) {
                    ended.module = Some(candidate.name.clone());
                }
                let candidates = Candidates::new(candidates)?;
                clock.lap(&mut phases.parse);
                let mut asked = false;
                let mut state = loop {
                    let mut fits = match options.validate || !validates.is_empty() {
                        true => {
                            let is_asked = |name: &str| options.validate || validates.contains(name);
                            self.validate(&candidates, &besides, is_asked, &load, ended)?
                        }
                        false => Fits::default(),
                    };
                    if load.looks_for_conflicts() {
                        fits.extend(self.resolve_all(&candidates, &besides, &load)?);
                    }
                    load.reached(40)?;
                    if !asked && hooked.are_there() && !candidates.is_empty() {
                        asked = true;
                        let upcoming = self.upcoming(&candidates, &load)?;
                        load.telling(|| hooked.before(upcoming))?;
                    }
                    let state = self.state_until(&load)?;
                    // Else another load came between.
                    if fits.iter().all(|(name, version)| state.version(name) == *version) {
                        break state;
                    }
                };
                ended.note_loaded(&state);
                agreed(&state)?;
                if let Some(then) = then {
                    let then = |name: &str| then.get(name).copied();
                    let mut names = candidates.iter().map(|candidate| &*candidate.name);
                    names.try_for_each(|name| state.check_unchanged(name, then(name)))?;
                }
                // SAFETY: the caller vouches for the code of each module.
                let done = unsafe { publish(&mut state, &candidates, &besides, &load, caller, phases) };
                (done, state)
            };
            ended.before = state.retirement.departed();
            if let (Ok(Done { damage: None, .. }), Some(journal)) = (&done, restores) {
                // Nobody has published anything in between.
                state.set_journal(Some(journal.clone()));
            }
            if let Ok(Done { publication, damage: None }) = &done {
                for (file, module) in files.iter_mut().zip(&publication.modules) {
                    state.set_origin(&module.name, load.origin(file));
                }
            }
            if state.retirement.any_escaped() {
                self.shared.escaped.store(true, Ordering::Relaxed);
            }
            // What was replaced before may be free by now.
            state.tidy();
            if loader.is_eager()
                && let Err(error) = state.collect_quiescent(caller)
            {
                tracing::warn!(%error, "old versions could not be looked for");
            }
            if state.is_nearly_full() {
                tracing::warn!("Memory usage exceeded 90% threshold");
            }
            load.note_figures(|| Ok(state.figures()))?;
            ended.departures = state.retirement.take_departures();
            drop(state);
            if let Ok(Done { damage: None, .. }) = &done {
                // It is published, whoever panics: that is told first.
                ended.panic = catch_unwind(AssertUnwindSafe(|| load.tell(100))).err();
            }
            done
        }))
    }

    /// What [`load_with`](Self::load_with) would say, up to the constructors: everything is read,
    /// bound and linked, nothing of it is published or run, and no library is loaded for it.
    ///
    /// # Errors
    ///
    /// As for [`load_with`](Self::load_with). A symbol that may be in a library which is not loaded
    /// passes.
    pub fn dry_run(
        &self,
        sources: impl IntoIterator<Item = impl Into<Source>>,
        options: &LoadOptions<'_>,
    ) -> Result<(), Error> {
        let sources: Vec<Source> = sources.into_iter().map(Into::into).collect();
        let _busy = Busy::enter()?;
        let paths: Vec<_> = sources.iter().map(Source::path).collect();
        let load = Load::new(&self.shared.loader, options, &paths, false);
        let _turn = load.loader.gate.enter(&load.deadline)?;
        load.note_figures(|| Ok(self.state_until(&load)?.figures()))?;
        let files = load.read(sources)?;
        load.reached(20)?;
        let candidates = load.each(&files, |file| Candidate::new(file, self.shared.page_size))?;
        let (candidates, none) = (Candidates::new(candidates)?, Besides::default());
        if options.validate {
            self.validate(&candidates, &none, |_| true, &load, &mut Ended::default())?;
        }
        if load.looks_for_conflicts() {
            self.rehearse_conflicts(&candidates, &load)?;
        }
        load.reached(40)?;
        Checked::new(&mut *self.state_until(&load)?, &candidates, &none, &load)?.rehearse()?;
        load.tell(100);
        Ok(())
    }

    /// The state, unless it takes too long. The thread is [`Busy`] already.
    pub(super) fn state_until(&self, load: &Load<'_>) -> Result<MutexGuard<'static, State>, Error> {
        let state = &self.shared.state;
        match load.deadline.at() {
            None => Ok(state.lock()),
            Some(at) => state.try_lock_until(at).ok_or_else(|| load.deadline.error()),
        }
    }

    /// What a load is about to replace.
    fn upcoming(&self, candidates: &Candidates<'_>, load: &Load<'_>) -> Result<Vec<Upcoming>, Error> {
        let state = self.state_until(load)?;
        let upcoming = |of: &Candidate<'_>| Upcoming::new(&of.name, of.file.path(), state.version(&of.name));
        Ok(candidates.iter().map(upcoming).collect())
    }

    /// That what is known to be incompatible is not loaded, of the modules of which that is asked.
    /// Returns what each was compared with.
    pub(super) fn validate(
        &self,
        candidates: &Candidates<'_>,
        besides: &Besides,
        is_asked: impl Fn(&str) -> bool,
        load: &Load<'_>,
        ended: &mut Ended,
    ) -> Result<Fits, Error> {
        // Not on the crew's threads: the load that has the state may be waiting for those.
        let known = {
            let mut state = self.state_until(load)?;
            ended.note_loaded(&state);
            Known::of(&mut state, candidates, besides)?
        };
        let all = candidates.iter().zip(&known).filter(|(candidate, _)| is_asked(&candidate.name));
        let all: Vec<_> = all.collect();
        load.each(&all, |&(candidate, known)| {
            let Compatibility { module, loaded, mut report } =
                self.compare(candidate, known, true, LISTED)?;
            for covered in &known.covered {
                let becomes = || {
                    let inputs = candidate.file.inputs();
                    let read = || Ok::<_, Error>(Interface::of(&candidate.image));
                    let interface = self.shared.loader.interfaces.of(&inputs, false, read)?;
                    Ok::<_, Error>(interface.signature(&covered.symbol))
                };
                if covered.by(becomes()?.as_deref()).is_some() {
                    report.accept(&covered.symbol);
                }
            }
            let verdicts = [report.links, report.calls, report.state];
            if verdicts.contains(&Verdict::Incompatible) {
                let path = candidate.file.path().into();
                return Err(Error::Incompatible { path, report: Box::new(report) });
            }
            if verdicts.contains(&Verdict::Unknown) {
                let because = report.reason.unwrap_or_default();
                tracing::warn!(module, loaded, because, "whether it is compatible is not known");
            }
            Ok((candidate.name.clone(), loaded))
        })
    }

    /// Compares a file with the version of its module that is loaded. Nothing is published or run.
    ///
    /// # Errors
    ///
    /// If it cannot be read as a module.
    pub fn compatibility(&self, source: impl Into<Source>) -> Result<Compatibility, Error> {
        let _busy = Busy::enter()?;
        let (sources, options) = (vec![source.into()], LoadOptions::default());
        let load = Load::new(&self.shared.loader, &options, &[], false);
        let files = sources.into_iter().map(|source| ModuleFile::read(source, Extent::Whole));
        let files = files.collect::<Result<Vec<_>, _>>()?;
        let candidates = Candidates::new(vec![Candidate::new(&files[0], self.shared.page_size)?])?;
        let known = Known::of(&mut *self.state_until(&load)?, &candidates, &Besides::default())?;
        self.compare(&candidates[0], &known[0], false, LISTED)
    }

    /// `counts`: in the statistics. `limit`: how many differences are listed.
    pub(super) fn compare(
        &self,
        candidate: &Candidate<'_>,
        known: &Known,
        counts: bool,
        limit: usize,
    ) -> Result<Compatibility, Error> {
        let Candidate { file, image, name } = candidate;
        let interfaces = &self.shared.loader.interfaces;
        let new = interfaces.of(&file.inputs(), counts, || Ok::<_, Error>(Interface::of(image)))?;
        let number = known.loaded.as_ref().map(|(number, _)| *number);
        let report = compare(known.loaded.clone(), &new, &known.missing, interfaces, limit);
        let report = report.map_err(|source| file.wrong(source))?;
        file.set_interface(new);
        Ok(Compatibility { module: name.to_string(), loaded: number, report })
    }

    /// Has these be asked before each load, and told after it, until they are
    /// [removed](Self::remove_hooks) or the runtime is [shut down](Self::shutdown). Those that
    /// are added first are asked first, and told last. Loads that are under way are not concerned;
    /// nor are dry runs, rollbacks and unloads. A panic of one goes on to whoever loads: of one
    /// that is asked, nothing is published and nobody is told.
    pub fn add_hooks(&self, hooks: ReloadHooks) -> HooksId {
        self.shared.hooks.add(hooks)
    }

    /// Removes hooks. Loads that are under way are waited for, so that afterwards they are not
    /// called any more; unless this is called by a hook or another callback of a load. False if
    /// there are none of this id.
    pub fn remove_hooks(&self, id: HooksId) -> bool {
        self.shared.hooks.remove(id)
    }

    /// Publishes an earlier generation's versions again, as a new generation: by one swap, with
    /// nothing loaded and no constructor run. Versions that have come since are replaced by it
    /// like any others, and can be had back in the same way.
    ///
    /// How many publications can be taken back says [`Config::history`](crate::Config::history).
    ///
    /// # Errors
    ///
    /// If history has not got that generation; if a version of it lacks a function that has been
    /// [given out](Self::symbol) since; if a version that is kept calls a module that was not
    /// loaded then.
    pub fn rollback(&self, generation: u64) -> Result<Publication, Error> {
        self.roll_back(|state, recorded| state.rollback(generation, recorded))
    }

    /// Publishes the version that a module had before its last load with
    /// [`LoadOptions::keep_previous`]: by one swap, with nothing loaded and no constructor run.
    /// What it replaces is kept in turn.
    ///
    /// # Errors
    ///
    /// If none was kept; if it lacks a function that is called by now, or calls one that is gone.
    pub fn rollback_module(&self, module: &str) -> Result<Publication, Error> {
        self.roll_back(|state, recorded| state.rollback_module(module, recorded))
    }

    fn roll_back(
        &self,
        publish: impl FnOnce(&mut State, bool) -> Result<Publication, Error>,
    ) -> Result<Publication, Error> {
        let begin = Instant::now();
        let mut state = self.lock()?;
        let published = publish(&mut state, self.shared.events.are_recorded());
        let before = state.retirement.departed();
        state.tidy();
        self.forget_stack();
        let took = begin.elapsed();
        state.end(
            before,
            Some(match &published {
                Ok(publication) => Event::RolledBack { publication, damaged: None, took, watched: false },
                Err(error) => Event::NotRolledBack { error, took },
            }),
        );
        published
    }

    /// Takes a module out. Calls to it from frames opened afterwards abort the process, so its
    /// callers go first.
    ///
    /// # Errors
    ///
    /// If it is not loaded, or another loaded module calls it.
    pub fn unload(&self, module: &str) -> Result<(), Error> {
        self.unload_all([module])
    }

    /// Takes several modules out in one publication. They may call each other.
    ///
    /// # Errors
    ///
    /// If one is not loaded, or a loaded module that is not among them calls one; then all stay.
    pub fn unload_all(&self, modules: impl IntoIterator<Item = impl AsRef<str>>) -> Result<(), Error> {
        let names: Vec<_> = modules.into_iter().collect();
        let mut state = self.lock()?;
        let unloaded = state.unload(names.iter().map(AsRef::as_ref))?;
        let before = state.retirement.departed();
        state.tidy();
        self.forget_stack();
        state.end(before, unloading(&unloaded));
        Ok(())
    }
}

/// What is to be told of a load when it has ended.
#[derive(Default)]
pub(super) struct Ended {
    /// What is known of its files, should it be refused.
    files: Vec<Attempt>,
    /// More is to be known.
    recorded: bool,
    /// What has ended by it or is kept, and how many of them before anything was published.
    departures: Vec<Departure>,
    before: usize,
    /// What a progress callback has panicked with when it was told of the publication.
    panic: Option<Box<dyn Any + Send>>,
}

impl Ended {
    /// Notes which versions are loaded of its files' modules.
    fn note_loaded(&mut self, state: &State) {
        for Attempt { module, loaded, .. } in &mut self.files {
            *loaded = module.as_deref().and_then(|module| state.loaded_version(module));
        }
    }
}

/// The steps of a load. On an error nothing has been published, and what was made is gone.
///
/// # Safety
///
/// As for [`Runtime::load`], of each file.
unsafe fn publish(
    state: &mut State,
    candidates: &Candidates<'_>,
    besides: &Besides,
    load: &Load<'_>,
    caller: &Caller<'_>,
    mut phases: Phases,
) -> Result<Done, Error> {
    let mut clock = Clock::start();
    let checked = Checked::new(state, candidates, besides, load)?;
    // SAFETY: the caller vouches for the files: constructors of needed libraries may run, and the
    // code is sound.
    let staged = unsafe { checked.stage(caller, &mut clock, &mut phases) }?;
    // SAFETY: as above.
    let initialised = unsafe { staged.initialise(load) }?;
    clock.lap(&mut phases.initialise);
    let committed = initialised.commit(candidates, load)?;
    clock.lap(&mut phases.commit);
    let initialised = match initialised.carry(load, caller) {
        Ok(initialised) => initialised,
        Err(error) => {
            committed.abort(&error.to_string());
            return Err(error);
        }
    };
    clock.lap(&mut phases.initialise);
    let done = initialised.publish(load, phases);
    match &done.damage {
        Some(damage) if damage.back.is_some() => committed.abort(&damage.error.to_string()),
        // What is damaged and was not taken back is current.
        _ => committed.applied(),
    }
    Ok(done)
}

/// What the state knows of a candidate that is to be compared.
pub(super) struct Known {
    pub(super) loaded: Option<(u64, Option<Arc<Origin>>)>,
    missing: Missing,
    /// Its functions that have adapters.
    pub(super) covered: Vec<Covered>,
}

impl Known {
    /// Of each of them.
    pub(super) fn of(
        state: &mut State,
        candidates: &Candidates<'_>,
        besides: &Besides,
    ) -> Result<Vec<Self>, Error> {
        let missing = state.missing(candidates, besides)?;
        let stays = |name: &str| {
            !candidates.has(name) && !besides.gone.contains(name) && !besides.back.contains(name)
        };
        let known = |(candidate, missing): (&Candidate<'_>, Missing)| Self {
            loaded: state.origin(&candidate.name),
            missing,
            covered: state.covered(&candidate.name, stays),
        };
        Ok(candidates.iter().zip(missing).map(known).collect())
    }
}

/// Modules, and the numbers of the versions that files were compared with; None: not loaded.
pub(super) type Fits = Vec<(Arc<str>, Option<u64>)>;
