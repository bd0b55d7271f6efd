//! The store: what is committed, in one file of redb. Each write of it is one transaction of redb,
//! and has all that belongs together: records, the set, what is open, and how many writes there
//! were.

use std::collections::HashSet;
use std::fmt::Display;
use std::io;
use std::ops::Bound;
use std::sync::Arc;

use redb::{
    CommitError, Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    StorageError, TableDefinition, TableError, WriteTransaction,
};

use crate::codec::Coded;
use crate::digest::Digest;
use crate::disk::Watched;
use crate::error::{Damage, Error};
use crate::record::{Event, InFlight, Record, Set};
use crate::state::State;

/// The name of the store's file.
pub(crate) const FILE: &str = "store.redb";
/// What a store is called until it is whole for the first time.
pub(crate) const UNFINISHED: &str = "store.new";
/// The format of the store and the witness. Format 1 is the first there is.
pub(crate) const FORMAT: u64 = 1;

/// Numbers by name: `format`, `generation`, `sequence`, `transaction`.
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
/// Digests by module.
const SET: TableDefinition<'_, &str, &[u8; 32]> = TableDefinition::new("set");
/// Open transactions by number.
const OPEN: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("open");
/// Records by sequence.
const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");

/// What redb keeps in memory, in bytes. All that it has is read when it is opened, and little
/// after.
const CACHE: usize = 4 << 20;

/// What a write has.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    pub(crate) records: &'a [Record],
    /// What all comes to when this is written.
    pub(crate) state: &'a State,
    /// How many records are kept.
    pub(crate) kept: usize,
}

#[derive(Debug)]
pub(crate) struct Store {
    disk: Arc<Watched>,
    two_phase: bool,
    /// `None` after a write has failed, until the next attempt.
    database: Option<Database>,
    /// What the store has, as far as this process knows.
    generation: u64,
    set: Set,
    /// Of its latest record.
    sequence: u64,
    /// Whether the store may have something else.
    unsure: bool,
}

/// How a store could not be opened or written.
#[derive(Debug)]
pub(crate) enum Failed {
    /// It is not what a store should be.
    Unreadable(String),
    /// Of a newer format.
    Newer(u64),
    /// The system has refused something.
    Io(io::Error),
}

impl Failed {
    fn other(error: impl Display) -> Self {
        Self::Unreadable(error.to_string())
    }

    pub(crate) fn into_error(self, disk: &Watched, doing: &'static str) -> Error {
        match self {
            Self::Unreadable(said) => Error::Damaged(Damage::Corrupt { said }),
            Self::Newer(found) => Error::NewerFormat { found, known: FORMAT },
            Self::Io(error) => disk.error(doing, &error),
        }
    }
}

impl From<StorageError> for Failed {
    fn from(error: StorageError) -> Self {
        match error {
            // redb says so of files that are none of its own, and of those that end too early.
            StorageError::Io(error)
                if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
            {
                Self::other(error)
            }
            StorageError::Io(error) => Self::Io(error),
            StorageError::PreviousIo => Self::Io(io::Error::other("an earlier write has failed")),
            other => Self::other(other),
        }
    }
}

impl From<DatabaseError> for Failed {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Storage(error) => error.into(),
            other => Self::other(other),
        }
    }
}

impl From<TableError> for Failed {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Storage(error) => error.into(),
            other => Self::other(other),
        }
    }
}

impl From<redb::TransactionError> for Failed {
    fn from(error: redb::TransactionError) -> Self {
        match error {
            redb::TransactionError::Storage(error) => error.into(),
            other => Self::other(other),
        }
    }
}

impl From<CommitError> for Failed {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Storage(error) => error.into(),
            other => Self::other(other),
        }
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Store {
    /// Makes a store of this state under the name of unfinished ones, whole and synced.
    pub(crate) fn make(disk: &Arc<Watched>, generation: u64, state: &State) -> Result<(), Failed> {
        if disk.length(UNFINISHED)?.is_some() {
            disk.remove(UNFINISHED)?;
        }
        let database = open(disk, UNFINISHED)?;
        // Twice, since a store that is made is small, and must not be lost.
        let before = Before { set: &Set::new(), sequence: 0, unsure: false };
        write(&database, true, generation, &before, &Batch { records: &[], state, kept: 0 })?;
        database.close()?;
        disk.sync(UNFINISHED)?;
        Ok(())
    }

    /// Opens the store, looks at all of it, and says what is in it.
    pub(crate) fn open(disk: Arc<Watched>, two_phase: bool) -> Result<(Self, State), Failed> {
        let database = open(&disk, FILE)?;
        let (generation, state) = load(&database)?;
        let store = Self {
            disk,
            two_phase,
            database: Some(database),
            generation,
            set: state.set.clone(),
            sequence: state.sequence,
            unsure: false,
        };
        Ok((store, state))
    }

    /// How many writes it has had.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Writes the batch, and returns when it is on the disk: all of it, or nothing.
    pub(crate) fn write(&mut self, batch: &Batch<'_>) -> Result<(), Error> {
        const DOING: &str = "writing the journal";
        let database = match self.database.take() {
            Some(database) => database,
            None => self.open_again().map_err(|failed| failed.into_error(&self.disk, DOING))?,
        };
        let generation = self.generation + 1;
        let before = Before { set: &self.set, sequence: self.sequence, unsure: self.unsure };
        if let Err(failed) = write(&database, self.two_phase, generation, &before, batch) {
            // redb takes nothing more after a write that failed, until it is opened anew. What it
            // has then is what it had before, or this batch.
            drop(database);
            self.unsure = true;
            let error = failed.into_error(&self.disk, DOING);
            if self.disk.failure().is_some() {
                return Err(error);
            }
            match self.open_again() {
                Ok(database) => self.database = Some(database),
                Err(_) => return Err(Error::Undecided { said: error.to_string() }),
            }
            // Opening it has synced it. So it is all there, or it will never be.
            if self.generation != generation {
                return Err(error);
            }
        } else {
            self.database = Some(database);
        }
        self.generation = generation;
        self.set.clone_from(&batch.state.set);
        self.sequence = batch.state.sequence;
        self.unsure = false;
        Ok(())
    }

    fn open_again(&mut self) -> Result<Database, Failed> {
        let database = open(&self.disk, FILE)?;
        let (generation, _) = load(&database)?;
        if generation < self.generation {
            return Err(Failed::Unreadable(format!(
                "it has {generation} commits of {} after a write has failed",
                self.generation
            )));
        }
        self.generation = generation;
        Ok(database)
    }

    /// redb, opened anew if a write has failed.
    fn database(&mut self) -> Result<&Database, Error> {
        let database = match self.database.take() {
            Some(database) => database,
            None => {
                self.open_again().map_err(|failed| failed.into_error(&self.disk, "reading the journal"))?
            }
        };
        Ok(self.database.insert(database))
    }

    /// The records that are kept, the oldest first.
    pub(crate) fn records(&mut self) -> Result<Vec<Record>, Error> {
        let found = records(self.database()?);
        let mut found = found.map_err(|failed| failed.into_error(&self.disk, "reading the journal"))?;
        // Of a write that has failed there may be more.
        found.retain(|record| record.sequence <= self.sequence);
        Ok(found)
    }

    /// Keeps only records from this sequence on.
    pub(crate) fn forget_before(&mut self, sequence: u64) -> Result<(), Error> {
        let two_phase = self.two_phase;
        let forget = |database: &Database| -> Result<(), Failed> {
            let transaction = begin(database, two_phase)?;
            transaction
                .open_table(RECORDS)?
                .retain_in((Bound::Unbounded, Bound::Excluded(sequence)), |_, _| false)?;
            Ok(transaction.commit()?)
        };
        let result = forget(self.database()?);
        if let Err(failed) = result {
            self.database = None;
            self.unsure = true;
            return Err(failed.into_error(&self.disk, "forgetting old records"));
        }
        Ok(())
    }

    /// Closes redb's file. Its length may change thereby.
    pub(crate) fn close(&mut self) -> Result<(), Error> {
        let Some(database) = self.database.take() else { return Ok(()) };
        database.close().map_err(|error| Failed::from(error).into_error(&self.disk, "closing the journal"))
    }

    pub(crate) fn length(&self) -> Result<u64, Error> {
        let length =
            self.disk.length(FILE).map_err(|error| self.disk.error("looking at the journal", &error))?;
        Ok(length.unwrap_or(0))
    }
}

fn open(disk: &Watched, name: &str) -> Result<Database, Failed> {
    let backend = disk.store(name)?;
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
    Ok(builder.create_with_backend(backend)?)
}

fn load(database: &Database) -> Result<(u64, State), Failed> {
    let transaction = database.begin_read()?;
    let numbers = transaction.open_table(NUMBERS)?;
    let number = |name: &str| -> Result<u64, Failed> {
        let found = numbers.get(name)?;
        found.map(|value| value.value()).ok_or_else(|| Failed::Unreadable(format!("it lacks its {name}")))
    };
    let format = number("format")?;
    if format > FORMAT {
        return Err(Failed::Newer(format));
    }
    let mut state =
        State { sequence: number("sequence")?, transaction: number("transaction")?, ..State::default() };
    for entry in transaction.open_table(SET)?.iter()? {
        let (module, digest) = entry?;
        state.set.insert(module.value().to_owned(), Digest::from_bytes(*digest.value()));
    }
    for entry in transaction.open_table(OPEN)?.iter()? {
        let (id, open) = entry?;
        let open = InFlight::from_bytes(open.value())
            .map_err(|_| Failed::Unreadable(format!("its open transaction {} cannot be read", id.value())))?;
        state.open.insert(id.value(), open);
    }
    // Not needed now, but what cannot be read should be known before anything is built upon it.
    read_records(&transaction.open_table(RECORDS)?)?;
    Ok((number("generation")?, state))
}

fn records(database: &Database) -> Result<Vec<Record>, Failed> {
    read_records(&database.begin_read()?.open_table(RECORDS)?)
}

fn read_records(table: &impl ReadableTable<u64, &'static [u8]>) -> Result<Vec<Record>, Failed> {
    let mut records = Vec::new();
    for entry in table.iter()? {
        let (sequence, record) = entry?;
        let record = Record::from_bytes(record.value())
            .map_err(|_| Failed::Unreadable(format!("its record {} cannot be read", sequence.value())))?;
        records.push(record);
    }
    Ok(records)
}

fn begin(database: &Database, two_phase: bool) -> Result<WriteTransaction, Failed> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate).map_err(Failed::other)?;
    transaction.set_two_phase_commit(two_phase);
    Ok(transaction)
}

/// What the store had before a write.
struct Before<'a> {
    set: &'a Set,
    sequence: u64,
    /// If it may have something else, what it has is not built upon.
    unsure: bool,
}

fn write(
    database: &Database,
    two_phase: bool,
    generation: u64,
    before: &Before<'_>,
    batch: &Batch<'_>,
) -> Result<(), Failed> {
    let transaction = begin(database, two_phase)?;
    {
        let mut numbers = transaction.open_table(NUMBERS)?;
        numbers.insert("format", FORMAT)?;
        numbers.insert("generation", generation)?;
        numbers.insert("sequence", batch.state.sequence)?;
        numbers.insert("transaction", batch.state.transaction)?;

        let mut set = transaction.open_table(SET)?;
        if before.unsure {
            set.retain(|_, _| false)?;
        }
        for (module, digest) in &batch.state.set {
            if before.unsure || before.set.get(module) != Some(digest) {
                set.insert(module.as_str(), digest.as_bytes())?;
            }
        }
        for module in before.set.keys().filter(|module| !batch.state.set.contains_key(*module)) {
            set.remove(module.as_str())?;
        }

        let mut open = transaction.open_table(OPEN)?;
        open.retain(|_, _| false)?;
        for (id, in_flight) in &batch.state.open {
            open.insert(id, in_flight.to_bytes().as_slice())?;
        }

        let mut records = transaction.open_table(RECORDS)?;
        if before.unsure {
            records.retain_in((Bound::Excluded(before.sequence), Bound::Unbounded), |_, _| false)?;
        }
        for record in batch.records {
            records.insert(record.sequence, record.to_bytes().as_slice())?;
        }
        while records.len()? > batch.kept as u64 {
            records.pop_first()?;
        }
    }
    Ok(transaction.commit()?)
}

/// The digests that records name.
pub(crate) fn named(records: &[Record]) -> HashSet<Digest> {
    let mut named = HashSet::new();
    for record in records {
        if let Event::Begin(changes) = &record.event {
            named.extend(changes.iter().flat_map(|change| [change.old, change.new]).flatten());
        }
    }
    named
}

/// As a newer midflight would leave it.
#[cfg(test)]
pub(crate) fn set_format(disk: &Watched, format: u64) {
    let database = open(disk, FILE).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(NUMBERS).unwrap().insert("format", format).unwrap();
    transaction.commit().unwrap();
}
