//! What conflicts with what is loaded, before anything is published, and what is done about it.
//! `crates/conflict` has what is looked for and how it is decided.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use midflight_conflict::{
    Action, Answer, Conflict, Decision, Kind, Outcomes, Request, Severity, Strategy, decide, find,
};
use parking_lot::Mutex;

use super::loading::{Fits, Known};
use super::{Busy, Runtime, intentions};
use crate::interface::Interface;
use crate::module::{Extent, ModuleFile};
use crate::publish::load::{Deadline, Load};
use crate::publish::{Besides, Candidate, Candidates};
use crate::{ConflictMode, Error, Event, LoadOptions, Source};

/// Differences of a candidate that are looked at: more than any that somebody has made by hand.
const LOOKED_AT: usize = 4096;

/// Modules of which decisions are remembered until they are loaded.
const REMEMBERED: usize = 4096;

/// What is loaded, in short: for who looks, thinks, and acts on it later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SystemState {
    /// The current generation.
    pub generation: u64,
    /// How many modules it has.
    pub modules: usize,
    /// When this was so.
    pub at: Instant,
}

/// What whoever asks for conflicts knows, and the runtime does not.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct View {
    /// The generation that it has looked at ([`Runtime::system_state`]). A module that was changed
    /// after it is a conflict. None: the current one.
    pub since: Option<u64>,
    /// Who else is about to change modules, besides the transactions that are open: (module, in
    /// what words a user knows who that is).
    pub others: Vec<(String, String)>,
}

impl View {
    /// Of the current generation, and of nobody but open transactions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`since`](Self#structfield.since).
    #[must_use]
    pub fn since(self, generation: u64) -> Self {
        Self { since: Some(generation), ..self }
    }

    /// Adds one to [`others`](Self#structfield.others).
    #[must_use]
    pub fn other(mut self, module: impl Into<String>, who: impl Into<String>) -> Self {
        self.others.push((module.into(), who.into()));
        self
    }
}

/// What whoever looks for conflicts knows.
pub(crate) struct Asked<'a> {
    /// Of a module, the generation that it has looked at.
    pub(crate) since: &'a dyn Fn(&str) -> Option<u64>,
    /// See [`View::others`].
    pub(crate) others: Vec<(String, String)>,
    pub(crate) deadline: Deadline,
}

impl Asked<'_> {
    /// Of who is about to publish. Open transactions do not matter to that, as the first wins: else
    /// two that are open would refuse each other.
    fn nothing() -> Self {
        Asked { since: &|_| None, others: Vec::new(), deadline: Deadline::after(None) }
    }
}

/// What was found of candidates.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Conflicts {
    /// The gravest first.
    pub found: Vec<Conflict>,
    /// The generation that the candidates were compared with.
    pub generation: u64,
    /// What could not be looked at, and why: more may conflict. Empty: nothing.
    pub unknown: Vec<String>,
}

/// A line for each.
impl fmt::Display for Conflicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} conflicts with generation {}", self.found.len(), self.generation)?;
        self.found.iter().try_for_each(|conflict| write!(f, "\n{conflict}"))?;
        self.unknown.iter().try_for_each(|unknown| write!(f, "\nnot all is known: {unknown}"))
    }
}

/// A resolver that was added.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ResolverId(u64);

type Resolve = dyn Fn(&Conflict) -> Option<Answer> + Send + Sync;

/// Who resolves conflicts, and what has come of it.
#[derive(Default)]
pub(crate) struct Resolutions {
    resolvers: Mutex<Resolvers>,
    outcomes: Mutex<Record>,
    /// Functions that have adapters, by the adapters: (module, symbol).
    adapted: Mutex<BTreeMap<u64, (String, String)>>,
}

#[derive(Default)]
struct Resolvers {
    last: u64,
    all: Vec<(u64, String, Arc<Resolve>)>,
}

/// What was decided of one module.
type Decided = Vec<(Kind, Action)>;

#[derive(Default)]
struct Record {
    outcomes: Outcomes,
    /// By module: what is to be tried with its next load.
    tried: BTreeMap<String, Decided>,
    /// By module: what its current version was published with.
    published: BTreeMap<String, Decided>,
}

impl Resolutions {
    fn decide(&self, conflict: &Conflict, request: &Request, asks: bool) -> Decision {
        // Asked without a lock: they may register others.
        let resolvers: Vec<(String, Arc<Resolve>)> = match asks {
            true => {
                self.resolvers.lock().all.iter().map(|(_, name, ask)| (name.clone(), ask.clone())).collect()
            }
            false => Vec::new(),
        };
        type Ask<'a> = Box<dyn Fn(&Conflict) -> Option<Answer> + 'a>;
        let asked: Vec<(&str, Ask<'_>)> = resolvers
            .iter()
            .map(|(name, ask)| (&**name, Box::new(|conflict: &Conflict| ask(conflict)) as Ask<'_>))
            .collect();
        let asked: Vec<_> = asked.iter().map(|(name, ask)| (*name, &**ask)).collect();
        let outcomes = self.outcomes.lock().outcomes.clone();
        let request = Request { has_adapter: self.has_adapter(conflict), ..*request };
        decide(conflict, &request, &asked, &outcomes)
    }

    /// Notes that a function has an adapter, or none any more.
    pub(super) fn adapt(&self, adapter: u64, function: Option<(&str, &str)>) {
        let mut adapted = self.adapted.lock();
        match function {
            Some((module, symbol)) => adapted.insert(adapter, (module.to_owned(), symbol.to_owned())),
            None => adapted.remove(&adapter),
        };
    }

    fn has_adapter(&self, conflict: &Conflict) -> bool {
        let is_it = |(module, symbol): &(String, String)| {
            *module == conflict.module && *symbol == conflict.place.symbol
        };
        let by_function = matches!(conflict.kind, Kind::ApiChange | Kind::FunctionSignature);
        by_function && self.adapted.lock().values().any(is_it)
    }

    /// Notes what is to be tried with the next load of a module.
    fn try_with(&self, module: &str, kind: Kind, action: Action) {
        let is_loaded = matches!(action, Action::UseLatest | Action::Merge | Action::UseCompatibilityLayer);
        let mut record = self.outcomes.lock();
        if record.tried.len() == REMEMBERED && !record.tried.contains_key(module) {
            record.tried.clear();
        }
        let tried = record.tried.entry(module.to_owned()).or_default();
        tried.retain(|(of, _)| *of != kind);
        // Of what is not loaded nothing comes.
        if is_loaded {
            tried.push((kind, action));
        }
    }

    /// Records what has come of decisions.
    pub(super) fn note(&self, event: &Event<'_>) {
        let mut guard = self.outcomes.lock();
        let record = &mut *guard;
        let mut end = |module: &str, well: bool| {
            let tried = record.tried.remove(module).unwrap_or_default();
            for (kind, action) in &tried {
                record.outcomes.record(*kind, *action, well);
            }
            tried
        };
        match event {
            Event::Published { publication, .. } | Event::Damaged { publication, .. } => {
                let well = matches!(event, Event::Published { .. });
                for module in &publication.modules {
                    let tried = end(&module.name, well);
                    record.published.remove(&module.name);
                    if well && !tried.is_empty() {
                        record.published.insert(module.name.clone(), tried);
                    }
                }
            }
            Event::Refused { files, .. } => {
                for module in files.iter().filter_map(|file| file.module.as_deref()) {
                    end(module, false);
                }
            }
            Event::RolledBack { publication, damaged, .. } => {
                let damaged = damaged.iter().flat_map(|(published, _)| &published.modules);
                damaged.for_each(|module| _ = end(&module.name, false));
                for module in publication.modules.iter().chain(&publication.gone) {
                    for (kind, action) in record.published.remove(&module.name).unwrap_or_default() {
                        record.outcomes.take_back(kind, action);
                    }
                }
            }
            Event::Unloaded { modules, .. } => {
                modules.iter().for_each(|module| _ = record.published.remove(&module.name));
            }
            _ => {}
        }
    }

    pub(super) fn clear(&self) {
        self.resolvers.lock().all.clear();
        self.adapted.lock().clear();
        *self.outcomes.lock() = Record::default();
    }
}

impl Runtime {
    /// What is loaded now, in short.
    ///
    /// # Errors
    ///
    /// As for [`modules`](Self::modules).
    pub fn system_state(&self) -> Result<SystemState, Error> {
        let figures = self.lock()?.figures();
        Ok(SystemState { generation: figures.generation, modules: figures.modules, at: Instant::now() })
    }

    /// What of these files, loaded in one publication, conflicts with what is loaded. Nothing is
    /// published, run or changed. A [transaction](crate::Transaction) that is open and is about to
    /// change one of the modules is a conflict, too. docs/conflicts.md has what there is.
    ///
    /// # Errors
    ///
    /// If one cannot be read as a module.
    pub fn conflicts(
        &self,
        sources: impl IntoIterator<Item = impl Into<Source>>,
        view: &View,
    ) -> Result<Conflicts, Error> {
        let sources: Vec<Source> = sources.into_iter().map(Into::into).collect();
        if sources.is_empty() {
            return Err(Error::NoFiles);
        }
        // In a forked child nobody may ask the transactions.
        drop(Busy::enter()?);
        let files = sources.into_iter().map(|source| ModuleFile::read(source, Extent::Whole));
        let files = files.collect::<Result<Vec<_>, _>>()?;
        let asked = Asked {
            since: &|_| view.since,
            others: view.others.iter().cloned().chain(intentions::others(None)).collect(),
            deadline: Deadline::after(None),
        };
        self.conflicts_of(&files.iter().collect::<Vec<_>>(), &Besides::default(), &asked)
    }

    /// The same of files that were read wholly, with what is to change besides.
    pub(crate) fn conflicts_of(
        &self,
        files: &[&ModuleFile],
        besides: &Besides,
        asked: &Asked<'_>,
    ) -> Result<Conflicts, Error> {
        let _busy = Busy::enter()?;
        let options = LoadOptions::default();
        let load = Load::new(&self.shared.loader, &options, &[], false).until(asked.deadline);
        let candidates = files.iter().map(|file| Candidate::new(file, self.shared.page_size));
        let candidates = Candidates::new(candidates.collect::<Result<_, _>>()?)?;
        self.analyse(&candidates, besides, &load, asked).map(|(conflicts, _)| conflicts)
    }

    /// Says what is to be done about a conflict: those who have [registered](Self::add_resolver) are
    /// asked first, then the request's strategy. What is decided to be loaded is remembered, and
    /// what comes of the module's next load is counted for
    /// [`Decision::confidence`](crate::conflict::Decision::confidence): it went well if it was
    /// published and was not rolled back. Of keeping what is loaded nothing comes that could be
    /// counted.
    pub fn resolve(&self, conflict: &Conflict, request: &Request) -> Decision {
        let decision = self.shared.resolutions.decide(conflict, request, true);
        if decision.success {
            self.shared.resolutions.try_with(&conflict.module, conflict.kind, decision.action);
        }
        decision
    }

    /// What has come of decisions: for [`confidence`](crate::conflict::Decision::confidence).
    /// [As bytes](Outcomes::to_bytes) it can be kept for the next process.
    pub fn outcomes(&self) -> Outcomes {
        self.shared.resolutions.outcomes.lock().outcomes.clone()
    }

    /// Adds what came of decisions in an earlier process ([`Outcomes::from_bytes`]). A
    /// [shutdown](Self::shutdown) forgets all.
    pub fn add_outcomes(&self, outcomes: &Outcomes) {
        self.shared.resolutions.outcomes.lock().outcomes.add(outcomes);
    }

    /// Notes that a module's next load is of a merged set: what comes of it is counted.
    pub(crate) fn try_merge_with(&self, module: &str) {
        self.shared.resolutions.try_with(module, Kind::ConcurrentModification, Action::Merge);
    }

    /// Has somebody be asked what to do about each conflict, before the strategy decides: those that
    /// are added first, first. None: the next is asked. On the thread that asks; of a load, the
    /// runtime is busy meanwhile, as for [`progress`](LoadOptions::progress). Until it is
    /// [removed](Self::remove_resolver) or the runtime is [shut down](Self::shutdown).
    pub fn add_resolver(
        &self,
        name: impl Into<String>,
        resolver: impl Fn(&Conflict) -> Option<Answer> + Send + Sync + 'static,
    ) -> ResolverId {
        let mut resolvers = self.shared.resolutions.resolvers.lock();
        resolvers.last += 1;
        let id = resolvers.last;
        resolvers.all.push((id, name.into(), Arc::new(resolver)));
        ResolverId(id)
    }

    /// Has nobody be asked any more who was added as that: false if there is nobody. Who is being
    /// asked by another thread may be so still.
    pub fn remove_resolver(&self, id: ResolverId) -> bool {
        let mut resolvers = self.shared.resolutions.resolvers.lock();
        let count = resolvers.all.len();
        resolvers.all.retain(|(other, ..)| *other != id.0);
        resolvers.all.len() < count
    }

    /// What is found, and what the candidates were compared with.
    fn analyse(
        &self,
        candidates: &Candidates<'_>,
        besides: &Besides,
        load: &Load<'_>,
        asked: &Asked<'_>,
    ) -> Result<(Conflicts, Fits), Error> {
        let (known, facts) = {
            let mut state = self.state_until(load)?;
            (Known::of(&mut state, candidates, besides)?, state.facts(candidates, besides, asked.since)?)
        };
        let interfaces = &self.shared.loader.interfaces;
        let (mut reports, mut fits) = (Vec::new(), Fits::new());
        for (candidate, known) in candidates.iter().zip(&known) {
            let compared = self.compare(candidate, known, false, LOOKED_AT)?;
            fits.push((candidate.name.clone(), compared.loaded));
            // It is known by now.
            let interface = interfaces
                .of(&candidate.file.inputs(), false, || Ok::<_, Error>(Interface::of(&candidate.image)))?;
            reports.push((compared.report, interface));
        }
        let generation = facts.generation;
        let covered = known.into_iter().map(|known| known.covered).collect();
        let (situation, unknown) = facts.situation(candidates, reports, covered, &asked.others, interfaces);
        Ok((Conflicts { found: find(&situation), generation, unknown }, fits))
    }

    /// Resolves the conflicts of a load as its options say. Returns what it was compared with, and
    /// of each conflict that was resolved what is tried.
    ///
    /// # Errors
    ///
    /// [`Error::Conflicting`], if one is left.
    fn resolved(
        &self,
        candidates: &Candidates<'_>,
        besides: &Besides,
        load: &Load<'_>,
    ) -> Result<(Fits, Vec<(Conflict, Action)>), Error> {
        let (conflicts, fits) = self.analyse(candidates, besides, load, &Asked::nothing())?;
        let LoadOptions { conflicts: mode, resolve_conflicts: asks, .. } = *load.options;
        let strategy = match mode {
            ConflictMode::PreferLatest => Strategy::PreferLatest,
            ConflictMode::Unasked | ConflictMode::Refuse => Strategy::KeepCurrent,
        };
        let request = Request { strategy, auto_resolve: true, ..Request::default() };
        let (mut tried, mut left, mut because) = (Vec::new(), Vec::new(), None);
        for conflict in conflicts.found {
            let decision = load.telling(|| self.shared.resolutions.decide(&conflict, &request, asks));
            let by_strategy = matches!(decision.by, midflight_conflict::Decider::Strategy(_));
            let has_adapter = self.shared.resolutions.has_adapter(&conflict);
            let accepted = match decision.action {
                Action::UseLatest => decision.success,
                Action::UseCompatibilityLayer => decision.success && has_adapter,
                // Nobody comes by it.
                _ => by_strategy && conflict.severity == Severity::Low,
            };
            if accepted {
                if conflict.severity > Severity::Low {
                    tracing::warn!(%conflict, because = decision.explanation, "loaded in spite of a conflict");
                }
                let is_adapted = has_adapter && conflict.severity == Severity::Low;
                tried.push(match is_adapted || decision.action == Action::UseCompatibilityLayer {
                    true => (conflict, Action::UseCompatibilityLayer),
                    false => (conflict, Action::UseLatest),
                });
            } else {
                because.get_or_insert(match decision.action {
                    Action::UseCompatibilityLayer if !has_adapter => format!(
                        "{}; the runtime has none: add an adapter, or link them into the new version",
                        decision.explanation
                    ),
                    _ => decision.explanation,
                });
                left.push(conflict);
            }
        }
        let Some(because) = because else { return Ok((fits, tried)) };
        let module = left.first().map(|conflict| &*conflict.module);
        let path = candidates.iter().find(|candidate| Some(&*candidate.name) == module);
        let path = path.map(|candidate| candidate.file.path().into()).unwrap_or_default();
        Err(Error::Conflicting { path, conflicts: left, because })
    }

    /// Resolves the conflicts of a load that goes on if none is left: what comes of it is counted.
    pub(super) fn resolve_all(
        &self,
        candidates: &Candidates<'_>,
        besides: &Besides,
        load: &Load<'_>,
    ) -> Result<Fits, Error> {
        let (fits, tried) = self.resolved(candidates, besides, load)?;
        let resolutions = &self.shared.resolutions;
        tried
            .iter()
            .for_each(|(conflict, action)| resolutions.try_with(&conflict.module, conflict.kind, *action));
        Ok(fits)
    }

    /// Says what [`resolve_all`](Self::resolve_all) would say.
    pub(super) fn rehearse_conflicts(
        &self,
        candidates: &Candidates<'_>,
        load: &Load<'_>,
    ) -> Result<(), Error> {
        self.resolved(candidates, &Besides::default(), load).map(drop)
    }
}
