use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::digest::Digest;
use crate::disk::{Lock, Real, Watched};
use crate::error::Error;
use crate::modules::{self, Modules, Stored};
use crate::record::{Change, Event, InFlight, Record, Set, Stage, TransactionId, now};
use crate::state::{LONGEST_REASON, State};
use crate::store::{self, Batch, Store};
use crate::witness::{Files, Witness};

/// How many records may wait for the next commit's sync before they get one of their own.
const MOST_PENDING: usize = 256;

/// How much is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Bounds {
    pub(crate) records: usize,
    pub(crate) module_bytes: u64,
}

/// A journal that is open. All of it may be used from several threads at once.
#[derive(Debug)]
pub struct Journal {
    disk: Arc<Watched>,
    bounds: Bounds,
    modules: Arc<Modules>,
    // Who needs both takes the store first. Who leads has given `inner` back by then.
    store: Mutex<Store>,
    inner: Mutex<Inner>,
    /// A ticket has its result, or nobody leads any more.
    changed: Condvar,
    closed: bool,
    _lock: Option<Lock>,
}

#[derive(Debug)]
struct Inner {
    /// With all that is acknowledged.
    state: State,
    /// What the store has, and the sequence of its latest record.
    generation: u64,
    stored: u64,
    store_bytes: u64,
    /// Records that are not yet in the store.
    pending: Vec<Record>,
    witness: Files,
    witness_failure: Option<Error>,
    /// Transactions whose commit is being written.
    busy: HashSet<TransactionId>,
    /// Who waits to be committed. The first of them leads, and writes what all have brought.
    queue: Vec<Ticket>,
    tickets: u64,
    done: HashMap<u64, Result<(), Error>>,
    leading: bool,
    panicked: bool,
}

/// Something that is written in its turn.
#[derive(Debug)]
struct Ticket {
    number: u64,
    /// `None`: only what is pending.
    event: Option<(TransactionId, Event)>,
    durable: bool,
}

/// What a collection has freed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Collected {
    /// How many files.
    pub files: usize,
    /// How many bytes these had.
    pub bytes: u64,
    /// How many of the oldest records were forgotten, because what they name took too much.
    pub records: usize,
}

impl Journal {
    pub(crate) fn new(
        disk: Arc<Watched>,
        bounds: Bounds,
        store: Store,
        modules: Arc<Modules>,
        files: Files,
        witness: Witness,
        lock: Option<Lock>,
    ) -> Self {
        let inner = Inner {
            state: witness.state,
            generation: witness.generation,
            stored: witness.stored,
            store_bytes: witness.store_bytes,
            pending: Vec::new(),
            witness: files,
            witness_failure: None,
            busy: HashSet::new(),
            queue: Vec::new(),
            tickets: 0,
            done: HashMap::new(),
            leading: false,
            panicked: false,
        };
        Self {
            disk,
            bounds,
            modules,
            store: Mutex::new(store),
            inner: Mutex::new(inner),
            changed: Condvar::new(),
            closed: false,
            _lock: lock,
        }
    }

    /// Begins a transaction that makes these changes, all or none. It is written, but not synced:
    /// if the process ends, the next one learns of it; if the machine stops, perhaps not.
    ///
    /// # Errors
    ///
    /// [`Error::NoBytes`] if bytes of a new version were not [`put`](Self::put);
    /// [`Error::Twice`], [`Error::NotWhole`], [`Error::TooLarge`]; and what writing can fail with.
    pub fn begin(&self, changes: Vec<Change>) -> Result<TransactionId, Error> {
        let missing = |inner: &Inner| {
            let id = TransactionId(inner.state.transaction + 1);
            let new = changes.iter().filter_map(|change| change.new);
            match new.into_iter().find(|digest| !self.modules.has(*digest)) {
                Some(digest) => Err(Error::NoBytes(digest)),
                None => Ok((id, Event::Begin(changes.clone()))),
            }
        };
        self.note(missing)
    }

    /// Says that all that can fail has been done. Written as [`begin`](Self::begin) is. A
    /// transaction may be committed without.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTransaction`], [`Error::WrongStage`]; and what writing can fail with.
    pub fn prepared(&self, transaction: TransactionId) -> Result<(), Error> {
        self.note(|_| Ok((transaction, Event::Prepared))).map(drop)
    }

    /// Commits. When this returns, the commit is on the disk, and so is all that was said before.
    /// Threads that commit meanwhile share one sync.
    ///
    /// # Errors
    ///
    /// [`Error::NotCurrent`] if a module is no longer what the transaction expects;
    /// [`Error::UnknownTransaction`], [`Error::WrongStage`]; what writing can fail with. After
    /// [`Error::SyncFailed`], only opening the journal anew says whether it is committed.
    pub fn commit(&self, transaction: TransactionId) -> Result<(), Error> {
        self.submit(Some((transaction, Event::Commit)), true)
    }

    /// Commits without a sync. It holds at once, and outlives the process. The machine it outlives
    /// from the next [`commit`](Self::commit), [`flush`](Self::flush) or [`close`](Self::close) on.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    pub fn commit_lazily(&self, transaction: TransactionId) -> Result<(), Error> {
        self.submit(Some((transaction, Event::Commit)), false)
    }

    /// Says that what was committed is published: the transaction ends. Written as
    /// [`begin`](Self::begin) is.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTransaction`], [`Error::WrongStage`]; and what writing can fail with.
    pub fn applied(&self, transaction: TransactionId) -> Result<(), Error> {
        self.note(|_| Ok((transaction, Event::Applied))).map(drop)
    }

    /// Ends a transaction that does not hold, and says why. (Of the reason 4,096 bytes are kept.)
    ///
    /// If it is committed, and could not be applied: what it did is taken back, and that is on the
    /// disk when this returns.
    ///
    /// # Errors
    ///
    /// [`Error::NotCurrent`] if it is committed, and another one was committed upon it;
    /// [`Error::UnknownTransaction`]; and what writing can fail with.
    pub fn abort(&self, transaction: TransactionId, reason: &str) -> Result<(), Error> {
        let mut end = reason.len().min(LONGEST_REASON);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let event = Event::Abort(reason[..end].to_owned());
        let stage = self.inner().state.open.get(&transaction.0).map(|open| open.stage);
        match stage {
            Some(Stage::Committed) => self.submit(Some((transaction, event)), true),
            _ => self
                .note(|inner| match inner.state.open.get(&transaction.0) {
                    // By another thread, and between the two looks.
                    Some(open) if open.stage == Stage::Committed => Err(Error::BeingCommitted(transaction)),
                    _ => Ok((transaction, event)),
                })
                .map(drop),
        }
    }

    /// Everything that was said so far is on the disk when this returns.
    ///
    /// # Errors
    ///
    /// What writing can fail with.
    pub fn flush(&self) -> Result<(), Error> {
        self.submit(None, true)
    }

    /// What was committed lazily is on the disk when this returns.
    ///
    /// # Errors
    ///
    /// What writing can fail with.
    pub fn settle(&self) -> Result<(), Error> {
        let is_set = |record: &Record| matches!(record.event, Event::Commit | Event::Abort(_));
        let is_lazy = self.inner().pending.iter().any(is_set);
        if is_lazy { self.flush() } else { Ok(()) }
    }

    /// Whether bytes were [`put`](Self::put) into this journal: not into one of the same folder that
    /// was closed.
    pub fn has(&self, stored: &Stored) -> bool {
        stored.is_of(&self.modules)
    }

    /// What is committed. After an error, too: it is what was acknowledged last.
    pub fn committed(&self) -> Set {
        self.inner().state.set.clone()
    }

    /// Transactions that have begun and not ended.
    pub fn in_flight(&self) -> Vec<InFlight> {
        self.inner().state.open.values().cloned().collect()
    }

    /// How often the store was written. It only grows.
    pub fn generation(&self) -> u64 {
        self.inner().generation
    }

    /// What happened, the oldest first, as far back as records are kept.
    ///
    /// # Errors
    ///
    /// What reading can fail with.
    pub fn records(&self) -> Result<Vec<Record>, Error> {
        let mut store = self.store();
        let mut records = store.records()?;
        let last = records.last().map_or(0, |record| record.sequence);
        // What is just being written is in both.
        let inner = self.inner();
        records.extend(inner.pending.iter().filter(|record| record.sequence > last).cloned());
        Ok(records)
    }

    /// Why the witness could not be written after the latest commit. The commit holds; but until
    /// the next one, a store that is replaced by an older one may not be recognised.
    pub fn witness_failure(&self) -> Option<Error> {
        self.inner().witness_failure.clone()
    }

    /// Keeps a module's bytes. They are on the disk when this returns. If they are there already,
    /// they are compared, and written again if they are damaged.
    ///
    /// # Errors
    ///
    /// What writing can fail with.
    pub fn put(&self, bytes: &[u8]) -> Result<Stored, Error> {
        self.inner().check(&self.disk)?;
        let stored = self.modules.put(bytes)?;
        if self.modules.total() > self.bounds.module_bytes {
            self.collect()?;
        }
        Ok(stored)
    }

    /// The bytes of this digest: these and no others, whatever has become of the file.
    ///
    /// # Errors
    ///
    /// [`Error::NoBytes`], [`Error::BytesDamaged`]; and what reading can fail with.
    pub fn bytes(&self, digest: Digest) -> Result<Vec<u8>, Error> {
        modules::read(&self.disk, digest)
    }

    /// The same of a journal that cannot be opened: for what
    /// [`OpenError::last_good`](crate::OpenError::last_good) names.
    ///
    /// # Errors
    ///
    /// As [`bytes`](Self::bytes).
    pub fn read_bytes(folder: impl AsRef<Path>, digest: Digest) -> Result<Vec<u8>, Error> {
        let disk = Real::of(folder.as_ref());
        modules::read(&Watched::new(Arc::new(disk)), digest)
    }

    /// Frees the bytes that nothing names: not what is committed, what is open, or a record that is
    /// kept. If the rest is more than [`Options::module_bytes`](crate::Options::module_bytes), the
    /// oldest records are forgotten until it is not. [`put`](Self::put) does this by itself when
    /// there are more bytes than that.
    ///
    /// # Errors
    ///
    /// What reading and writing can fail with.
    pub fn collect(&self) -> Result<Collected, Error> {
        self.inner().check(&self.disk)?;
        let mut store = self.store();
        let mut records = store.records()?;
        // Nothing begins meanwhile.
        let inner = self.inner();
        let mut needed = store::named(&inner.pending);
        needed.extend(inner.state.set.values());
        let open = inner.state.open.values().flat_map(|open| &open.changes);
        needed.extend(open.flat_map(|change| [change.old, change.new]).flatten());

        // From the newest on, as many records as there is room for what they name.
        let mut total: u64 = needed.iter().map(|digest| self.modules.bytes_of(*digest)).sum();
        let mut forgotten = 0;
        for (at, record) in records.iter().enumerate().rev() {
            let mut more = store::named(std::slice::from_ref(record));
            more.retain(|digest| !needed.contains(digest));
            total += more.iter().map(|digest| self.modules.bytes_of(*digest)).sum::<u64>();
            if total > self.bounds.module_bytes && !more.is_empty() {
                forgotten = at + 1;
                break;
            }
            needed.extend(more);
        }
        if forgotten > 0 {
            let until = records[forgotten - 1].sequence;
            store.forget_before(until + 1)?;
            records.drain(..forgotten);
        }
        let (files, bytes) = self.modules.remove(|digest| needed.contains(&digest))?;
        Ok(Collected { files, bytes, records: forgotten })
    }

    /// Closes the journal: everything is on the disk when this returns. Dropping it does the same,
    /// and does not say if it fails.
    ///
    /// # Errors
    ///
    /// What writing can fail with.
    pub fn close(mut self) -> Result<(), Error> {
        self.finish()
    }

    fn finish(&mut self) -> Result<(), Error> {
        if std::mem::replace(&mut self.closed, true) {
            return Ok(());
        }
        if !self.inner().pending.is_empty() {
            self.flush()?;
        }
        let mut store = self.store();
        let mut inner = self.inner();
        inner.check(&self.disk)?;
        store.close()?;
        inner.store_bytes = store.length()?;
        inner.write_witness(true).map_err(|error| self.failed(error))
    }

    /// How many threads wait for who leads.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.inner().queue.len()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Each change of it is whole before anything can panic; who panics while leading says so.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, error: std::io::Error) -> Error {
        self.disk.error("writing the journal's witness", &error)
    }

    /// Something happens that changes no set: it is written to the witness.
    fn note(
        &self,
        event: impl FnOnce(&Inner) -> Result<(TransactionId, Event), Error>,
    ) -> Result<TransactionId, Error> {
        let mut inner = self.inner();
        inner.check(&self.disk)?;
        let (transaction, event) = event(&inner)?;
        if inner.busy.contains(&transaction) {
            return Err(Error::BeingCommitted(transaction));
        }
        let record = inner.record(&inner.state, transaction, event);
        let mut state = inner.state.clone();
        state.apply(&record)?;
        inner.change(state, vec![record]).map_err(|error| self.failed(error))?;
        let many = inner.pending.len() >= MOST_PENDING;
        drop(inner);
        if many {
            self.flush()?;
        }
        Ok(transaction)
    }

    /// Waits for its turn, and for the result.
    fn submit(&self, event: Option<(TransactionId, Event)>, durable: bool) -> Result<(), Error> {
        let mut inner = self.inner();
        inner.check(&self.disk)?;
        inner.tickets += 1;
        let number = inner.tickets;
        inner.queue.push(Ticket { number, event, durable });
        loop {
            if let Some(result) = inner.done.remove(&number) {
                return result;
            }
            if inner.panicked {
                return Err(Error::Panicked);
            }
            if inner.leading {
                inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            inner.leading = true;
            let leading = Leading(self);
            inner = self.lead(inner);
            inner.leading = false;
            std::mem::forget(leading);
            self.changed.notify_all();
        }
    }

    /// Writes what all who wait have brought.
    fn lead<'a>(&'a self, mut inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        let tickets = std::mem::take(&mut inner.queue);
        let durable = tickets.iter().any(|ticket| ticket.durable);
        let mut state = inner.state.clone();
        let (mut records, mut written) = (Vec::new(), Vec::new());
        for ticket in tickets {
            let result = match ticket.event {
                None => Ok(()),
                Some((transaction, event)) => {
                    let record = inner.record(&state, transaction, event);
                    state.apply(&record).map(|()| records.push(record))
                }
            };
            match result {
                Ok(()) => written.push(ticket.number),
                Err(error) => {
                    inner.done.insert(ticket.number, Err(error));
                }
            }
        }
        if written.is_empty() {
            return inner;
        }
        let result = if durable {
            let result;
            (inner, result) = self.write(inner, &state, records);
            result
        } else {
            inner.change(state, records).map_err(|error| self.failed(error))
        };
        inner.done.extend(written.into_iter().map(|number| (number, result.clone())));
        inner
    }

    /// Writes what is pending and these records to the store, while others may go on.
    fn write<'a>(
        &'a self,
        mut inner: MutexGuard<'a, Inner>,
        state: &State,
        records: Vec<Record>,
    ) -> (MutexGuard<'a, Inner>, Result<(), Error>) {
        let waited = inner.pending.len();
        let all: Vec<_> = inner.pending.iter().chain(&records).cloned().collect();
        // These numbers are taken, whatever comes of it.
        inner.state.sequence = state.sequence;
        inner.busy = records.iter().map(|record| record.transaction).collect();
        drop(inner);

        let mut store = self.store();
        let result = store.write(&Batch { records: &all, state, kept: self.bounds.records });
        let (generation, length) = (store.generation(), store.length());
        drop(store);

        let mut inner = self.inner();
        inner.busy.clear();
        if let Err(error) = result {
            return (inner, Err(error));
        }
        inner.pending.drain(..waited);
        inner.stored = state.sequence;
        inner.generation = generation;
        for record in &records {
            // Only who leads changes the set, and these transactions were left alone.
            inner.state.apply(record).expect("what could be written can be done");
        }
        inner.witness_failure = match length {
            Ok(length) => {
                inner.store_bytes = length;
                inner.write_witness(false).err().map(|error| self.failed(error))
            }
            Err(error) => Some(error),
        };
        (inner, Ok(()))
    }
}

/// If who leads panics, the others do not wait for ever.
struct Leading<'a>(&'a Journal);

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        self.0.inner().panicked = true;
        self.0.changed.notify_all();
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // `close` says what goes wrong here. What was acknowledged as durable is so already.
        drop(self.finish());
    }
}

impl Inner {
    /// Whether anything may still be written.
    fn check(&self, disk: &Watched) -> Result<(), Error> {
        if let Some(said) = disk.failure() {
            return Err(Error::SyncFailed { said: said.to_owned() });
        }
        if self.panicked { Err(Error::Panicked) } else { Ok(()) }
    }

    fn record(&self, state: &State, transaction: TransactionId, event: Event) -> Record {
        // The state that follows may be ahead of this one, or behind, while somebody leads.
        let sequence = state.sequence.max(self.state.sequence) + 1;
        Record { sequence, milliseconds: now(), transaction, event }
    }

    /// The state changes by these records, without a sync; or nothing changes.
    fn change(&mut self, state: State, records: Vec<Record>) -> std::io::Result<()> {
        let waited = self.pending.len();
        self.pending.extend(records);
        let before = std::mem::replace(&mut self.state, state);
        self.write_witness(false).inspect_err(|_| {
            self.pending.truncate(waited);
            self.state = before;
        })
    }

    fn write_witness(&mut self, now: bool) -> std::io::Result<()> {
        let witness = Witness {
            count: 0,
            generation: self.generation,
            stored: self.stored,
            store_bytes: self.store_bytes,
            state: self.state.clone(),
            pending: self.pending.clone(),
        };
        self.witness.write(witness, now)
    }
}
