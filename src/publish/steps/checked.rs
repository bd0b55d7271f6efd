//! The first step: files that may be loaded, as far as they themselves and what is loaded tell.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use super::neighbours::{Neighbourhood, Trampolines};
use super::next::{Next, Staged};
use crate::Error;
use crate::call::home::with_table;
use crate::module::{Clock, Code, Libraries, Linked, Phases, Placed, Unseen, Version, bind, in_order, place};
use crate::publish::besides::{Besides, Others, coming};
use crate::publish::candidates::{Candidate, Candidates, NewExporters};
use crate::publish::layers::{Generation, Said};
use crate::publish::load::Load;
use crate::publish::load::options::Carry;
use crate::publish::quiescence::Caller;
use crate::publish::state::{State, check_callers};

/// Files whose modules' needs are met, and what else changes with them, which nobody needs who
/// stays. Dropped, it leaves nothing.
pub(crate) struct Checked<'s, 'c, 'f> {
    state: &'s mut State,
    candidates: &'c Candidates<'f>,
    /// What changes besides them.
    besides: Others,
    keeps: BTreeSet<Arc<str>>,
    /// What the files say of functions that have adapters.
    said: Said,
    load: &'c Load<'c>,
}

impl<'s, 'c, 'f> Checked<'s, 'c, 'f> {
    /// # Errors
    ///
    /// If a module that one of them says it needs is neither loaded nor among them, or is not in a
    /// version that will do; if one of them will not do for a module that stays; if what is to
    /// change besides is not there, or is called by what stays.
    pub(crate) fn new(
        state: &'s mut State,
        candidates: &'c Candidates<'f>,
        besides: &Besides,
        load: &'c Load<'c>,
    ) -> Result<Self, Error> {
        let others = besides.find(state)?;
        if !besides.gone.is_empty() {
            let current = state.current();
            let stays = |name: &str| !candidates.has(name) && !others.contains_key(name);
            let staying = current.filter(|version| stays(version.name())).chain(coming(&others));
            check_callers(&besides.gone, staying.map(|version| &**version))?;
        }
        let is_there = |name: &str| candidates.has(name) || state.then(&others, name).is_ok();
        for candidate in candidates.iter() {
            if let Some(missing) = candidate.image.needs().find(|name| !is_there(name)) {
                return Err(Error::MissingModule {
                    path: candidate.file.path().into(),
                    needs: missing.into(),
                });
            }
        }
        state.check_ranges(candidates)?;
        let said = Said::of(state, candidates, load)?;
        Ok(Self { state, candidates, besides: others, keeps: besides.keeps.clone(), said, load })
    }

    /// What they take of code memory, but for what is around the images.
    fn bytes(&self) -> usize {
        self.candidates.iter().map(|candidate| candidate.image.span() as usize).sum()
    }

    /// Says what the next steps would say, up to the constructors. Nothing is published, run or
    /// changed: no slot is made, and no library is loaded.
    pub(crate) fn rehearse(self) -> Result<(), Error> {
        let bytes = self.bytes();
        let Self { state, candidates, besides, said, load, .. } = self;
        state.check_room(bytes)?;
        let mut placed = Vec::with_capacity(candidates.len());
        let mut calls: Vec<(Arc<str>, String, String)> = Vec::new();
        let new = NewExporters::of(candidates);
        for Candidate { file, image, name } in candidates.iter() {
            let neighbours = Neighbourhood::new(&new, &besides, &mut *state, Trampolines::Found);
            let mut neighbours = neighbours.saying(&said);
            // SAFETY: no library is loaded.
            let bound = unsafe { bind(file, image, name, Libraries::Loaded, &mut neighbours) }?;
            bound.check(file, image, name, &neighbours)?;
            if !state.layers.is_empty() {
                calls.extend(bound.calls().map(|(of, slot)| (name.clone(), of.to_owned(), slot.to_owned())));
            }
            // What is missing may be in a library that is absent: then nothing can be said of
            // linking.
            let whole = bound.absent.is_empty() || bound.missing(image).next().is_none();
            let draft = whole.then(|| place(file, image, bound, &mut state.memory, false)).transpose()?;
            placed.extend(draft.map(|draft| (name.clone(), 0, Mutex::new(Some(draft)))));
        }
        // What candidates call of each other is there: they were bound to it.
        let stays = |name: &str| !candidates.has(name) && !besides.contains_key(name);
        let current = state.current().filter(|version| stays(version.name()));
        let staying: Vec<_> = current.chain(coming(&besides)).collect();
        let calls = calls.iter().map(|(caller, module, slot)| (&**caller, &**module, &**slot));
        let of_staying = staying
            .iter()
            .flat_map(|version| version.calls().map(|(module, slot)| (&**version.name(), module, slot)));
        let there = Rehearsed { state, candidates, besides: &besides, said: &said };
        state.check_layers(calls.chain(of_staying).chain(state.promised_calls()), &there)?;
        for candidate in candidates.iter() {
            let is_called = |symbol: &str| {
                staying.iter().flat_map(|v| v.calls()).any(|call| call == (&*candidate.name, symbol))
            };
            let has = |symbol: &str| candidate.function(symbol);
            state.check_promises(&candidate.name, candidate.file.path(), has, is_called)?;
        }
        link(&placed, load)?;
        load.deadline.check()
    }

    /// Links the files against each other and against the modules that stay, and makes the next
    /// generation's table. Nothing of them runs but what chooses their indirect functions.
    ///
    /// # Safety
    ///
    /// As for [`bind`] and [`Linked::finish`]: the caller accepts the constructors of needed
    /// libraries, and vouches for the code.
    pub(crate) unsafe fn stage(
        self,
        caller: &Caller<'_>,
        clock: &mut Clock,
        phases: &mut Phases,
    ) -> Result<Staged<'s>, Error> {
        let bytes = self.bytes();
        let Self { state, candidates, besides, keeps, said, load } = self;
        state.make_room(bytes, caller)?;
        let compare = load.options.verify;
        let mut placed = Vec::with_capacity(candidates.len());
        let new = NewExporters::of(candidates);
        for Candidate { file, image, name } in candidates.iter() {
            let neighbours = Neighbourhood::new(&new, &besides, &mut *state, Trampolines::Made);
            let mut neighbours = neighbours.saying(&said);
            // SAFETY: the caller accepts the constructors of needed libraries.
            let mut bound = unsafe { bind(file, image, name, Libraries::Load, &mut neighbours) }?;
            bound.check(file, image, name, &neighbours)?;
            clock.lap(&mut phases.bind);
            let number = state.next_number(name);
            bound.say(file, image, name, number > 1);
            let draft = place(file, image, bound, &mut state.memory, compare)?;
            clock.lap(&mut phases.link);
            placed.push((name.clone(), number, Mutex::new(Some(draft))));
        }
        load.deadline.check()?;
        let mut linked = link(&placed, load)?;
        clock.skip();
        for linked in &linked {
            phases.link += linked.phases.link;
            phases.seal += linked.phases.seal;
        }
        let codes: Vec<Code> = linked.iter_mut().map(|linked| std::mem::take(&mut linked.code)).collect();
        // SAFETY: the caller vouches for the code.
        let versions = unsafe { finish(state, &besides, &said, linked) }?;
        clock.lap(&mut phases.register);
        {
            let versions = &versions.0;
            let new = versions.iter().map(|version| (version.name().clone(), Some(version.clone())));
            let next = besides.clone().into_iter().chain(new).collect();
            let mut all = versions.iter().chain(coming(&besides));
            all.try_for_each(|version| state.check_version(version, &next))?;
            coming(&besides).try_for_each(|version| state.check_calls(version, &next))?;
            state.check_adapted(&next)?;
        }
        load.reached(70)?;
        Next::new(state, versions, besides, keeps).map(|next| Staged::new(next, codes))
    }
}

/// The next generation, of which nothing is linked.
struct Rehearsed<'r, 'f> {
    state: &'r State,
    candidates: &'r Candidates<'f>,
    besides: &'r Others,
    said: &'r Said,
}

impl Rehearsed<'_, '_> {
    fn version(&self, module: &str) -> Option<&Version> {
        self.state.then(self.besides, module).ok().map(|version| &**version)
    }
}

impl Generation for Rehearsed<'_, '_> {
    fn has(&self, module: &str) -> bool {
        self.candidates.has(module) || self.version(module).is_some()
    }

    fn function(&self, module: &str, symbol: &str) -> bool {
        match self.candidates.get(module) {
            Some(candidate) => candidate.function(symbol),
            None => self.version(module).is_some_and(|version| version.function(symbol).is_some()),
        }
    }

    fn signature(&self, module: &str, symbol: &str) -> Option<Box<str>> {
        match self.candidates.has(module) {
            true => self.said.signature(module, symbol).map(Into::into),
            false => self.version(module)?.signature(symbol),
        }
    }
}

/// Modules that have their places: of each its name, and the number of the version that it becomes.
type Drafts<'i, 'f> = [(Arc<str>, u64, Mutex<Option<Placed<'i, 'f>>>)];

/// Links each of them, side by side if that was asked for.
fn link<'i, 'f>(placed: &Drafts<'i, 'f>, load: &Load<'_>) -> Result<Vec<Linked<'i, 'f>>, Error> {
    load.each(placed, |(name, number, placed)| {
        let placed = placed.lock().take().expect("each is linked once");
        let carried = load.options.carry != Carry::Nothing;
        placed.link(name.clone(), *number, &load.loader.observers, load.options.verify, carried)
    })
}

/// Makes versions of what was linked: those first whose functions others call to choose theirs.
///
/// # Safety
///
/// The code is sound.
unsafe fn finish(
    state: &State,
    besides: &Others,
    said: &Said,
    linked: Vec<Linked<'_, '_>>,
) -> Result<Unseen, Error> {
    let mut order: Vec<usize> = (0..linked.len()).collect();
    if linked.iter().any(Linked::calls_to_choose) {
        let places: HashMap<&str, usize> =
            linked.iter().enumerate().map(|(at, linked)| (linked.name(), at)).collect();
        let called = |at: usize| linked[at].calls().filter_map(|(module, _)| places.get(module).copied());
        order = in_order(linked.len(), called);
    }
    let mut linked: Vec<_> = linked.into_iter().map(Some).collect();
    let mut finished = Unseen::default();
    for &at in &order {
        let linked = linked[at].take().expect("each is finished once");
        let table = table_of_chooser(state, besides, &linked, &finished.0);
        let mut version = None;
        // SAFETY: the caller vouches for the code.
        let finish = || version = Some(unsafe { linked.finish() });
        match table {
            Some(table) => with_table(&table, finish),
            None => finish(),
        }
        let version = version.expect("it was finished")?;
        said.note(&version);
        finished.0.push(Arc::new(version));
    }
    // As they were given.
    let mut placed: Vec<_> = order.into_iter().zip(std::mem::take(&mut finished.0)).collect();
    placed.sort_unstable_by_key(|(at, _)| *at);
    finished.0.extend(placed.into_iter().map(|(_, version)| version));
    Ok(finished)
}

/// What code calls that chooses functions of a module: what is current, but for what is new. None:
/// it calls nothing.
fn table_of_chooser(
    state: &State,
    besides: &Others,
    linked: &Linked<'_, '_>,
    finished: &[Arc<Version>],
) -> Option<Vec<usize>> {
    if !linked.calls_to_choose() {
        return None;
    }
    let mut table = state.tables.current().to_vec();
    // What it is the first to call has a slot that is bound nowhere yet.
    let called = linked.calls().filter_map(|(module, symbol)| {
        let find = |module: &str| state.then(besides, module).ok().map(|version| &**version);
        Some((state.slot_of(module, symbol)?, state.behind(module, symbol, find)?.1))
    });
    for (slot, target) in called.chain(state.next_bindings(finished, besides)) {
        table[slot as usize] = target;
    }
    Some(table)
}
