//! Opening a journal: what was committed last, or why that cannot be said.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::disk::{Disk, Lock, Real, Watched};
use crate::error::{Damage, Error, LastGood, OpenError};
use crate::journal::{Bounds, Journal};
use crate::modules::Modules;
use crate::record::{Event, InFlight, Record, Set, Stage, now};
use crate::state::State;
use crate::store::{self, Batch, Failed, Store};
use crate::witness::{Files, Witness};

/// How a journal is opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    two_phase: bool,
    rebuild: bool,
    bounds: Bounds,
}

/// A journal, and what it says of the time before.
#[derive(Debug)]
pub struct Opened {
    /// The journal.
    pub journal: Journal,
    /// What was committed last.
    pub committed: Set,
    /// What was in flight when the journal was last closed or its process ended. Transactions that
    /// were not committed are ended by now. Those that were are in `committed`, and open: say that
    /// they are [`applied`](Journal::applied) once they are.
    pub in_flight: Vec<InFlight>,
    /// What was wrong with the store, if [`Options::rebuild`] was needed.
    pub damage: Option<Damage>,
}

impl Default for Options {
    fn default() -> Self {
        Self { two_phase: false, rebuild: false, bounds: Bounds { records: 10_000, module_bytes: 1 << 30 } }
    }
}

impl Options {
    /// One sync for each commit, 10,000 records, 1 GiB of modules' bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a commit is written in two phases, with a sync each. With one phase, a commit that was
    /// written in part is told by a checksum that is not cryptographic.
    pub fn two_phase(self, two_phase: bool) -> Self {
        Self { two_phase, ..self }
    }

    /// Whether to go on if the store is damaged: with the witness's set, and the store kept aside as
    /// `damaged-GENERATION.redb`. After the machine has stopped the witness may lack up to 64
    /// commits. If there is no witness, with the store's set.
    pub fn rebuild(self, rebuild: bool) -> Self {
        Self { rebuild, ..self }
    }

    /// How many records are kept, the latest. What is committed and what is open is kept always.
    pub fn kept_records(self, kept_records: usize) -> Self {
        Self { bounds: Bounds { records: kept_records, ..self.bounds }, ..self }
    }

    /// How many bytes modules may take before older records are forgotten for them. What is
    /// committed, open or held stays, also if it is more.
    pub fn module_bytes(self, module_bytes: u64) -> Self {
        Self { bounds: Bounds { module_bytes, ..self.bounds }, ..self }
    }

    /// Opens the journal of a folder. It is made if it is not there.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`], [`Error::NewerFormat`], [`Error::Damaged`] and what the system refuses. If
    /// it is known what was committed last, the error has it ([`OpenError::last_good`]).
    pub fn open(&self, folder: impl AsRef<Path>) -> Result<Opened, OpenError> {
        let folder = folder.as_ref();
        let disk = Real::new(folder).map_err(|error| Error::io("making the journal's folder", &error))?;
        match Lock::take(folder) {
            Ok(lock) => self.open_on(Arc::new(disk), Some(lock)),
            Err(error @ Error::InUse { .. }) => Err(error.into()),
            // On a disk that can only be read, for one, it is known what was committed.
            Err(error) => {
                let witness = Files::read(&Watched::new(Arc::new(disk)))?;
                Err(OpenError { error, last_good: witness.as_ref().map(LastGood::of).map(Box::new) })
            }
        }
    }

    pub(crate) fn open_on(&self, disk: Arc<dyn Disk>, lock: Option<Lock>) -> Result<Opened, OpenError> {
        let disk = Arc::new(Watched::new(disk));
        let witness = Files::read(&disk)?;
        let witnessed = witness.as_ref().map(LastGood::of);
        let failed = |error: Error| OpenError { error, last_good: witnessed.clone().map(Box::new) };

        let mut damage = None;
        let (store, state, pending) = match self.find(&disk, witness.as_ref()) {
            Ok(found) => found,
            Err(NotFound::Store(Error::Damaged(found))) if self.rebuild && witness.is_some() => {
                damage = Some(found);
                let witness = witness.as_ref().expect("there is one");
                rebuild(&disk, witness, self.two_phase)
                    .map_err(|error| failed(error.into_error(&disk, "rebuilding the journal")))?
            }
            Err(NotFound::Witness(store, state)) if self.rebuild => {
                damage = Some(Damage::NoWitness);
                (*store, state, Vec::new())
            }
            Err(NotFound::Witness(store, state)) => {
                let last_good = Some(Box::new(LastGood::new(&state, store.generation())));
                return Err(OpenError { error: Error::Damaged(Damage::NoWitness), last_good });
            }
            Err(NotFound::Store(error)) => return Err(failed(error)),
        };
        let in_flight: Vec<_> = state.open.values().cloned().collect();
        let journal = self.go_on(&disk, store, state, pending, lock).map_err(failed)?;
        let committed = journal.committed();
        Ok(Opened { journal, committed, in_flight, damage })
    }

    /// The store, what it comes to with the witness, and what is not yet in it.
    fn find(
        &self,
        disk: &Arc<Watched>,
        witness: Option<&Witness>,
    ) -> Result<(Store, State, Vec<Record>), NotFound> {
        let refused = |error: io::Error| NotFound::Store(disk.error("opening the journal", &error));
        let length = match (disk.length(store::FILE).map_err(refused)?, witness) {
            (None, Some(_)) => return Err(NotFound::Store(Error::Damaged(Damage::Missing))),
            (Some(0), _) => return Err(NotFound::Store(Error::Damaged(Damage::Empty))),
            (Some(length), _) => length,
            (None, None) => {
                create(disk)
                    .map_err(|error| NotFound::Store(error.into_error(disk, "making the journal")))?;
                0
            }
        };
        let (store, mut state) = Store::open(Arc::clone(disk), self.two_phase).map_err(|error| {
            NotFound::Store(match (error, witness) {
                (Failed::Unreadable(_), Some(witness)) if length < witness.store_bytes => {
                    Error::Damaged(Damage::Truncated { bytes: length, expected: witness.store_bytes })
                }
                (error, _) => error.into_error(disk, "opening the journal"),
            })
        })?;
        let Some(witness) = witness else {
            // A store that is just made comes before its first witness.
            return match store.generation() {
                1 => Ok((store, state, Vec::new())),
                _ => Err(NotFound::Witness(Box::new(store), state)),
            };
        };
        if store.generation() < witness.generation {
            let (generation, expected) = (store.generation(), witness.generation);
            return Err(NotFound::Store(Error::Damaged(Damage::Older { generation, expected })));
        }
        // The store may be newer than the witness: it is written first.
        let newer = witness.pending.iter().filter(|record| record.sequence > state.sequence);
        let pending: Vec<_> = newer.cloned().collect();
        for record in &pending {
            state.apply(record).map_err(|error| {
                let said = format!("record {} of the witness does not follow: {error}", record.sequence);
                NotFound::Store(Error::Damaged(Damage::Corrupt { said }))
            })?;
        }
        Ok((store, state, pending))
    }

    /// Ends what was not committed, and writes all that is not yet in the store.
    fn go_on(
        &self,
        disk: &Arc<Watched>,
        mut store: Store,
        mut state: State,
        mut pending: Vec<Record>,
        lock: Option<Lock>,
    ) -> Result<Journal, Error> {
        let opening = |error: io::Error| disk.error("opening the journal", &error);
        let unfinished = state.open.values().filter(|open| open.stage != Stage::Committed);
        for transaction in unfinished.map(|open| open.transaction).collect::<Vec<_>>() {
            let record = Record {
                sequence: state.sequence + 1,
                milliseconds: now(),
                transaction,
                event: Event::Abort("it was not committed when the journal was closed".to_owned()),
            };
            state.apply(&record)?;
            pending.push(record);
        }
        if !pending.is_empty() {
            store.write(&Batch { records: &pending, state: &state, kept: self.bounds.records })?;
        }
        let modules = Arc::new(Modules::open(Arc::clone(disk)).map_err(opening)?);
        let witness = Witness {
            count: 0,
            generation: store.generation(),
            stored: state.sequence,
            store_bytes: store.length()?,
            state,
            pending: Vec::new(),
        };
        let files = Files::begin(Arc::clone(disk), witness.clone()).map_err(opening)?;
        Ok(Journal::new(Arc::clone(disk), self.bounds, store, modules, files, witness, lock))
    }
}

impl Journal {
    /// Opens the journal of a folder, with [`Options::new`].
    ///
    /// # Errors
    ///
    /// As [`Options::open`].
    pub fn open(folder: impl AsRef<Path>) -> Result<Opened, OpenError> {
        Options::new().open(folder)
    }
}

/// Why there is nothing to go on from.
enum NotFound {
    Store(Error),
    /// There is a store, but nothing says that it is the newest.
    Witness(Box<Store>, State),
}

impl LastGood {
    fn of(witness: &Witness) -> Self {
        Self::new(&witness.state, witness.generation)
    }

    fn new(state: &State, generation: u64) -> Self {
        let in_flight = state.open.values().cloned().collect();
        Self { committed: state.set.clone(), generation, in_flight }
    }
}

/// A store of its own, whole before it has its name.
fn create(disk: &Arc<Watched>) -> Result<(), Failed> {
    Store::make(disk, 1, &State::default())?;
    disk.rename(store::UNFINISHED, store::FILE)?;
    Ok(disk.sync_folder("")?)
}

/// A store with what the witness knows, in place of the one that is there.
fn rebuild(
    disk: &Arc<Watched>,
    witness: &Witness,
    two_phase: bool,
) -> Result<(Store, State, Vec<Record>), Failed> {
    Store::make(disk, witness.generation + 1, &witness.state)?;
    if disk.length(store::FILE)?.is_some() {
        disk.rename(store::FILE, &format!("damaged-{}.redb", witness.generation))?;
    }
    disk.rename(store::UNFINISHED, store::FILE)?;
    disk.sync_folder("")?;
    let (store, state) = Store::open(Arc::clone(disk), two_phase)?;
    Ok((store, state, witness.pending.clone()))
}
