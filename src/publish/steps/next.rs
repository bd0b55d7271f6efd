//! The steps that own versions: their constructors run, then they are published, or all is taken
//! back.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::Error;
use crate::call::home::with_table;
use crate::durable::Committed;
use crate::error::NotCarried;
use crate::module::{Code, Phases, Unseen, Version, Versions, dependencies_first};
use crate::platform::os::mask::Blocked;
use crate::publish::besides::{Others, coming};
use crate::publish::candidates::{Candidate, Candidates};
use crate::publish::carry::Carriage;
use crate::publish::load::Load;
use crate::publish::load::options::Carry;
use crate::publish::publication::{ModuleVersion, Publication, described};
use crate::publish::quiescence::Caller;
use crate::publish::state::{Before, Published, State, synchronise_cores};
use crate::publish::tables::{Change, Table};

/// The next generation, which nobody has seen: its new versions, and its table. Dropped, it is
/// abandoned: what was initialised of it ends.
pub(super) struct Next<'s> {
    state: &'s mut State,
    /// None: it was published.
    made: Option<(Versions, Table)>,
    /// What changes besides. These versions were current once, and are not abandoned with it.
    others: Others,
    /// Modules of which what they replace is kept.
    keeps: BTreeSet<Arc<str>>,
    changes: Vec<Change>,
}

impl<'s> Next<'s> {
    /// That in which these replace what they replace, and others change besides.
    pub(super) fn new(
        state: &'s mut State,
        versions: Unseen,
        others: Others,
        keeps: BTreeSet<Arc<str>>,
    ) -> Result<Self, Error> {
        let versions = versions.into_versions();
        let changes = state.next_bindings(&versions, &others);
        let table = state.tables.with(&changes);
        settle(state, &versions, &others);
        let has_new_code = !versions.is_empty();
        let next = Self { state, made: Some((versions, table)), others, keeps, changes };
        // Before any constructor runs or starts a thread: an address dependency orders data, not
        // instruction fetch.
        if has_new_code {
            synchronise_cores()?;
        }
        Ok(next)
    }

    fn made(&self) -> &(Versions, Table) {
        self.made.as_ref().expect("it is there until it is published or dropped")
    }

    /// Makes it the current one.
    fn publish(&mut self) -> Published {
        let (versions, table) = self.made.take().expect("it is there until it is published or dropped");
        let new = versions.into_iter().map(|version| (version.name().clone(), Some(version)));
        let next = std::mem::take(&mut self.others).into_iter().chain(new).collect();
        self.state.decide_pause();
        let published = self.state.publish(table, &self.changes, next);
        self.state.end_pause();
        published
    }
}

impl Drop for Next<'_> {
    fn drop(&mut self) {
        let Some((versions, table)) = self.made.take() else { return };
        self.state.give_up_pause();
        let versions = versions.into_iter().filter_map(Arc::into_inner).collect();
        self.state.tables.take_back(table, &self.changes);
        // SAFETY: nobody was told of them.
        unsafe { self.state.bury(versions) };
    }
}

/// Until they are published, they belong with each other, with what comes back and with what stays.
fn settle(state: &State, staged: &Versions, others: &Others) {
    let names: HashMap<&str, &Version> =
        staged.iter().map(|version| (&**version.name(), &**version)).collect();
    let find = |name: &str| names.get(name).copied().or_else(|| Some(&**state.then(others, name).ok()?));
    let homes = state.homes_of(staged.iter().map(|version| &**version), find);
    staged.iter().zip(homes).for_each(|(version, home)| version.set_home(Some(home)));
}

/// Versions that are linked and known to nobody. Nothing of them has run.
pub(crate) struct Staged<'s> {
    next: Next<'s>,
    /// Of each its code as it was linked, if that is to be compared.
    codes: Vec<Code>,
}

impl<'s> Staged<'s> {
    pub(super) fn new(next: Next<'s>, codes: Vec<Code>) -> Self {
        Self { next, codes }
    }

    /// Runs the constructors, of callers last, and sees to it that what they wrote is seen.
    ///
    /// # Safety
    ///
    /// The code is sound.
    pub(crate) unsafe fn initialise(self, load: &Load<'_>) -> Result<Initialised<'s>, Error> {
        let (versions, table) = self.next.made();
        let mut initialised = Ok(());
        with_table(table.entries(), || {
            let mut order = dependencies_first(versions.iter().map(|version| &**version)).into_iter();
            initialised = order.try_for_each(|version| {
                // SAFETY: the caller vouches for the code; staged means not yet initialised, and
                // the table has what it calls.
                let accepted = unsafe { version.initialise() };
                accepted.map_err(|code| Error::Refused { path: version.path().into(), code })
            });
        });
        initialised?;
        // Again, for what they wrote: a thread outside frames reaches it by a branch, which on
        // AArch64 orders nothing.
        if cfg!(target_arch = "aarch64") && versions.iter().any(|version| version.is_initialised_by_code()) {
            synchronise_cores()?;
        }
        load.reached(90)?;
        Ok(Initialised { next: self.next, codes: self.codes, carried: Vec::new(), anew: Vec::new() })
    }
}

/// Versions whose constructors have run. Until they are published only the journal can refuse them,
/// and what is to be carried over.
pub(crate) struct Initialised<'s> {
    next: Next<'s>,
    codes: Vec<Code>,
    /// Variables that were to be carried over, and are not.
    carried: Vec<(String, usize)>,
    anew: Vec<NotCarried>,
}

/// What became of a load that was published.
pub(crate) struct Done {
    pub(crate) publication: Publication,
    /// Its code in memory is not what was linked.
    pub(crate) damage: Option<Box<Damage>>,
}

/// What was found of a publication, and done about it.
pub(crate) struct Damage {
    /// [`Error::Integrity`].
    pub(crate) error: Error,
    /// By which what it had replaced came back, if that was asked for.
    pub(crate) back: Option<Publication>,
}

impl Initialised<'_> {
    /// Commits them to the journal, if there is one. What comes after this is outside of every pause,
    /// and fails only for what is carried over: then the commit is taken back.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`].
    pub(crate) fn commit(&self, candidates: &Candidates<'_>, load: &Load<'_>) -> Result<Committed, Error> {
        let state = &*self.next.state;
        let (versions, _) = self.next.made();
        for (Candidate { file, .. }, version) in candidates.iter().zip(versions) {
            let stored = match state.journal() {
                // It was put there already, but for what was read before the journal was opened.
                Some(journal) => Some(file.keep(journal, load.with())?),
                // What is brought back comes from there.
                None => file.stored(),
            };
            stored.into_iter().for_each(|stored| version.set_stored(stored));
        }
        let new = versions.iter().map(|version| (version.name().clone(), Some(version.clone())));
        let next = self.next.others.clone().into_iter().chain(new).collect();
        state.commit(&next, load.durability)
    }

    /// Gives their variables the values that those of the versions have which they replace, if that
    /// was asked for, and their states in another layout always. From then on nobody is inside those, nor comes in before the publication.
    ///
    /// # Errors
    ///
    /// Of what cannot be carried over, if all was to be; or who is inside.
    pub(crate) fn carry(mut self, load: &Load<'_>, caller: &Caller<'_>) -> Result<Self, Error> {
        let (versions, _) = self.next.made();
        let migrates = versions.iter().any(|version| version.migrates());
        let carries = load.options.carry != Carry::Nothing;
        if !carries && !migrates {
            return Ok(self);
        }
        let names: Vec<_> = versions.iter().map(|version| version.name().clone()).collect();
        let versions: Versions = versions.clone();
        let before: Versions =
            names.iter().filter_map(|name| self.next.state.loaded(name).ok().cloned()).collect();
        let mut left = Vec::new();
        let pairs = versions.iter().filter_map(|new| {
            let old = before.iter().find(|old| old.name() == new.name())?;
            Some((&**old, &**new))
        });
        let pairs = pairs.filter(|_| carries);
        let mut carriages: Vec<_> = pairs.map(|(old, new)| Carriage::plan(old, new, &mut left)).collect();
        let check = |left: &[NotCarried]| match load.options.carry {
            Carry::All if !left.is_empty() => Err(Error::NotCarried { variables: left.to_vec() }),
            _ => Ok(()),
        };
        check(&left)?;
        if migrates || carriages.iter().any(|carriage| carriage.len() > 0) {
            // A handler that calls one of the modules would not wait for this thread: it would be in
            // the new version before the values are.
            let blocked = Blocked::new();
            let Next { state, changes, .. } = &mut self.next;
            state.pause(&names, changes, &load.deadline, caller)?;
            for carriage in &mut carriages {
                // SAFETY: nobody is inside the old version, nor comes in before the publication.
                unsafe { carriage.look(&mut left) };
            }
            if let Err(error) = check(&left) {
                // Before signals come again: this thread would be in what is not published.
                self.next.state.give_up_pause();
                return Err(error);
            }
            for carriage in &carriages {
                // SAFETY: as above; and nobody but the publisher has the new one.
                unsafe { carriage.run() };
            }
            // Modules' own functions do it, which may start threads.
            drop(blocked);
            let (_, table) = self.next.made();
            let mut migrated = Ok(());
            with_table(table.entries(), || {
                // SAFETY: as above; initialised, and the table has what they call.
                migrated = versions.iter().try_for_each(|version| unsafe { version.migrate() });
            });
            migrated?;
        }
        self.carried = carriages.iter().map(Carriage::count).filter(|(_, count)| *count > 0).collect();
        for one in &left {
            tracing::warn!(module = one.module, variable = one.variable, "begins anew: {}", one.reason);
        }
        self.anew = left;
        Ok(self)
    }

    /// Publishes them, and looks at them if that was asked for. If what is in memory is not what
    /// was linked, what they replaced comes back if that was asked for too.
    pub(crate) fn publish(self, load: &Load<'_>, phases: Phases) -> Done {
        let Self { mut next, codes, carried, anew } = self;
        let (versions, _) = next.made();
        let versions: Versions = versions.clone();
        let names: Vec<_> = versions.iter().map(|version| version.name().clone()).collect();
        let coming: Versions = coming(&next.others).cloned().collect();
        let returned: Vec<_> = coming.iter().map(|version| version.name().clone()).collect();
        let Published { generation, at, publish, mut before, .. } = next.publish();
        let describe = |versions: Versions| -> Vec<_> {
            versions.iter().map(|version| described(version, &before, load.recorded)).collect()
        };
        // They are counted by who has them: nobody keeps them here.
        let (modules, back) = (describe(versions), describe(coming));
        let Next { state, keeps, .. } = &mut next;
        let gone = before.iter().filter(|(name, _)| state.loaded(name).is_err());
        let gone = gone.filter_map(|(_, gone)| gone.as_deref()).map(ModuleVersion::of).collect();
        state.follow_escapes(&names);
        state.follow_escapes(&returned);
        let stage = at - load.begin;
        let publication =
            Publication { generation, stage, publish, phases, modules, back, gone, carried, anew };
        let damage = verify(state, &names, &codes, load, &before);
        if damage.is_none() {
            publication.gone.iter().for_each(|gone| state.forget_previous_of(&gone.name));
            // What has come back takes the place of what it was kept for.
            before.retain(|(name, _)| {
                let is_new = names.contains(name);
                returned.contains(name) || is_new && (load.options.keep_previous || keeps.contains(name))
            });
            state.keep_previous(before);
        }
        Done { publication, damage }
    }
}

/// That the code of what was published is what was linked. If not, publishes what was replaced
/// again, if that was asked for.
fn verify(
    state: &mut State,
    names: &[Arc<str>],
    codes: &[Code],
    load: &Load<'_>,
    before: &Before,
) -> Option<Box<Damage>> {
    let differs = |(name, code): (&Arc<str>, &Code)| {
        let version = state.loaded(name).ok()?;
        Some((version.path().to_owned(), name.to_string(), version.differs(code)?))
    };
    let (path, module, offset) = names.iter().zip(codes).find_map(differs)?;
    let mut back = None;
    if load.options.rollback_on_failure {
        match state.republish(before.iter().cloned().collect(), load.begin, load.recorded, false) {
            Ok((publication, _)) => back = Some(publication),
            Err(error) => tracing::error!(module, %error, "cannot be rolled back"),
        }
    }
    let error = Error::Integrity { path, module, offset, rolled_back: back.is_some() };
    Some(Box::new(Damage { error, back }))
}
