//! Transactions: operations on several modules that are published together or not at all, and
//! apart from what others do meanwhile. docs/transactions.md has what is promised.
//!
//! | | |
//! |---|---|
//! | `options` | levels of isolation, limits |
//! | `reads` | what was read, and whether it is still so |
//! | `merge` | one that has lost, with what has won |
//! | `retry` | beginning again after a conflict |
//!
//! A transaction has files that were read and a list of what to do, and changes nothing until it
//! commits. Nothing is locked while it is open: it is compared with what is committed, behind the
//! runtime's lock, right before it is published. So there is nothing to wait for, and no deadlock.

mod merge;
mod options;
mod reads;
mod retry;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::module::ModuleFile;
use crate::platform::os::fork;
use crate::publish::load::Deadline;
use crate::publish::{Besides, State};
use crate::runtime::conflicts::{Asked, Conflicts};
use crate::runtime::intentions::{self, Intentions};
use crate::runtime::{Files, Guard, Tried, Wanted};
use crate::{ConflictMode, Error, LoadOptions, Publication, Runtime, Source};
pub use merge::MergeReport;
pub use options::{Isolation, OperationOptions, TransactionOptions};
use reads::Reads;

/// Operations on modules that are [committed](Self::commit) together, in one publication, or not at
/// all. Dropped, it is rolled back.
///
/// It reads what it is about to change, and sees its own operations as if they were done; what it
/// sees of others says its [`Isolation`]. Any thread may have it.
pub struct Transaction {
    runtime: Runtime,
    options: TransactionOptions,
    deadline: Deadline,
    operations: Vec<Operation>,
    /// Of each savepoint its number, and how many operations there were.
    savepoints: Vec<(u64, usize)>,
    last_savepoint: u64,
    reads: Reads,
    intentions: Intentions,
}

/// What is done to one module.
struct Operation {
    module: Arc<str>,
    what: What,
    /// The version that was current when it was added; None: the module was not loaded.
    then: Option<u64>,
    /// The version that is current once it is done.
    becomes: Option<u64>,
    /// The generation that was current when it was added.
    generation: u64,
}

enum What {
    Load(Box<ModuleFile>, OperationOptions),
    Unload,
    RollBack,
}

/// A point of a transaction to go [back to](Transaction::rollback_to).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Savepoint {
    transaction: u64,
    number: u64,
}

impl Savepoint {
    /// As a number, from 1, which no other savepoint of its transaction has.
    pub fn number(self) -> u64 {
        self.number
    }
}

impl Runtime {
    /// Begins a transaction.
    ///
    /// With [`Isolation::RepeatableRead`] and above it notes the version of each module that is
    /// loaded, which waits for a load that is being linked. Else it does nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`] if that takes too long. If called from a module's constructor or
    /// destructor, or in a forked child.
    pub fn transaction(&self, options: &TransactionOptions) -> Result<Transaction, Error> {
        if fork::is_child() {
            return Err(Error::Forked);
        }
        let mut transaction = Transaction {
            runtime: *self,
            options: *options,
            deadline: Deadline::after(options.timeout),
            operations: Vec::new(),
            savepoints: Vec::new(),
            last_savepoint: 0,
            reads: Reads::default(),
            intentions: Intentions::new(),
        };
        if options.isolation.has_snapshot() {
            let state = transaction.state()?;
            transaction.reads = Reads::since(Some(state.numbers()), state.figures().generation);
        }
        Ok(transaction)
    }
}

impl Transaction {
    /// Its number, which no other transaction of this process has.
    pub fn id(&self) -> u64 {
        self.intentions.id
    }

    /// What it was begun with.
    pub fn options(&self) -> &TransactionOptions {
        &self.options
    }

    /// How many operations it has.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether it has no operations.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// The state, within the time that is left.
    fn state(&self) -> Result<Guard, Error> {
        self.deadline.check()?;
        self.runtime.lock_until(self.deadline)
    }

    /// Its own operation on a module.
    fn own(&self, module: &str) -> Option<&Operation> {
        self.operations.iter().find(|operation| *operation.module == *module)
    }
}

/// Reading.
impl Transaction {
    /// The number of a module's version. None: it is not loaded. A version that does not exist yet,
    /// because this transaction is to load it (or another one, with
    /// [`Isolation::ReadUncommitted`]), has the number that it will have, if no other comes before.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`].
    pub fn version(&mut self, module: &str) -> Result<Option<u64>, Error> {
        if let Some(own) = self.own(module) {
            self.deadline.check()?;
            return Ok(own.becomes);
        }
        if self.options.isolation == Isolation::ReadUncommitted {
            return Ok(self.uncommitted()?.get(module).copied());
        }
        let state = self.state()?;
        Ok(self.reads.version(module, &state))
    }

    /// The modules that are loaded, and the numbers of their versions.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`].
    pub fn modules(&mut self) -> Result<BTreeMap<Arc<str>, u64>, Error> {
        if self.options.isolation == Isolation::ReadUncommitted {
            return self.uncommitted();
        }
        let state = self.state()?;
        let mut modules = self.reads.list(&state);
        for operation in &self.operations {
            match operation.becomes {
                Some(version) => modules.insert(operation.module.clone(), version),
                None => modules.remove(&operation.module),
            };
        }
        Ok(modules)
    }

    /// Whether a module is loaded and exports a function of this symbol. What other transactions
    /// have not committed is never looked into.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`]. [`Error::Conflict`], with [`Isolation::RepeatableRead`] and above, if
    /// the module has been replaced since the beginning: what the version had that this
    /// transaction sees, nobody knows any more.
    pub fn symbol(&mut self, module: &str, symbol: &str) -> Result<bool, Error> {
        let state = self.state()?;
        match self.own(module).map(|operation| &operation.what) {
            None => self.reads.has_function(module, symbol, &state),
            Some(What::Unload) => Ok(false),
            Some(What::RollBack) => state.previous_has_function(module, symbol),
            Some(What::Load(file, _)) => {
                drop(state);
                self.runtime.file_has_function(file, symbol)
            }
        }
    }

    /// What of its operations, published together, conflicts with what is loaded; what another open
    /// transaction is about to change as well; and what has changed since it looked, as far as its
    /// [`Isolation`] minds. Nothing is published, run or changed.
    ///
    /// Of modules that it rolls back only what they call is looked at.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`]. If a module that it unloads or rolls back is not loaded any more.
    pub fn conflicts(&self) -> Result<Conflicts, Error> {
        self.deadline.check()?;
        let looked_at = |module: &str| match self.options.isolation {
            Isolation::ReadUncommitted => None,
            level if level.has_snapshot() => Some(self.reads.generation),
            _ => self.own(module).map(|operation| operation.generation),
        };
        let asked =
            Asked { since: &looked_at, others: intentions::others(Some(self.id())), deadline: self.deadline };
        self.runtime.conflicts_of(&self.files(), &self.besides(), &asked)
    }

    fn files(&self) -> Vec<&ModuleFile> {
        let file = |operation| match operation {
            &Operation { what: What::Load(ref file, _), .. } => Some(&**file),
            _ => None,
        };
        self.operations.iter().filter_map(file).collect()
    }

    /// What it does besides loading files.
    fn besides(&self) -> Besides {
        let mut besides = Besides::default();
        for Operation { module, what, .. } in &self.operations {
            match what {
                What::Unload => _ = besides.gone.insert(module.clone()),
                What::RollBack => _ = besides.back.insert(module.clone()),
                What::Load(_, how) => besides.keeps.extend(how.keep_previous.then(|| module.clone())),
            }
        }
        besides
    }

    /// What is committed, and on top of it what all open transactions intend.
    fn uncommitted(&self) -> Result<BTreeMap<Arc<str>, u64>, Error> {
        let mut modules = self.state()?.numbers();
        self.intentions.apply_all(&mut modules);
        Ok(modules)
    }
}

/// Operations. One that is refused leaves the transaction as it was.
impl Transaction {
    /// Adds the loading of a module, or its replacement.
    ///
    /// The file is read in this call, and what was read is what is published, whatever becomes of
    /// the file. If [`TransactionOptions::rehearse`] is set, what is wrong with it is an error of
    /// this call, but for what other operations may make right: symbols that are missing, functions
    /// that others call and it lacks.
    ///
    /// # Errors
    ///
    /// As for [`Runtime::load`]; and as for [`unload`](Self::unload).
    ///
    /// # Safety
    ///
    /// As for [`Runtime::load`]: its code is run by [`commit`](Self::commit).
    pub unsafe fn load(&mut self, source: impl Into<Source>) -> Result<(), Error> {
        // SAFETY: the caller vouches for the module's code.
        unsafe { self.load_with(source, &OperationOptions::default()) }
    }

    /// As [`load`](Self::load), in the way that the options say.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load), and those of the options.
    ///
    /// # Safety
    ///
    /// As for [`load`](Self::load).
    pub unsafe fn load_with(
        &mut self,
        source: impl Into<Source>,
        options: &OperationOptions,
    ) -> Result<(), Error> {
        self.has_room()?;
        let how = LoadOptions::new().validate(options.validate).verify(options.verify);
        let tried = self.runtime.try_out(source.into(), &how, self.deadline, self.options.rehearse)?;
        let Tried { file, name, current, next, generation } = tried;
        self.add(name, What::Load(file.into(), *options), (current, generation), Some(next))
    }

    /// Adds the unloading of a module. That no other calls it is looked at when it is committed.
    ///
    /// # Errors
    ///
    /// [`Error::NotLoaded`]. Of any operation: [`Error::ReadOnly`], [`Error::TransactionFull`],
    /// [`Error::Timeout`], and [`Error::AlreadyInTransaction`] if there is one of this module.
    pub fn unload(&mut self, module: &str) -> Result<(), Error> {
        self.has_room()?;
        let state = self.state()?;
        let (current, generation) = (state.version(module), state.figures().generation);
        drop(state);
        if current.is_none() {
            return Err(Error::NotLoaded { module: module.into() });
        }
        self.add(module.into(), What::Unload, (current, generation), None)
    }

    /// Adds the rollback of a module to the version that was kept of it: see
    /// [`Runtime::rollback_module`].
    ///
    /// # Errors
    ///
    /// [`Error::NotLoaded`], [`Error::NoPreviousVersion`]; and as for [`unload`](Self::unload).
    pub fn rollback_module(&mut self, module: &str) -> Result<(), Error> {
        self.has_room()?;
        let state = self.state()?;
        let (current, previous) = (state.version(module), state.previous_number(module)?);
        let generation = state.figures().generation;
        drop(state);
        self.add(module.into(), What::RollBack, (current, generation), Some(previous))
    }

    /// That there may be another operation.
    fn has_room(&self) -> Result<(), Error> {
        if self.options.read_only {
            return Err(Error::ReadOnly);
        }
        self.deadline.check()?;
        match self.options.max_operations {
            Some(limit) if self.operations.len() >= limit => Err(Error::TransactionFull { limit }),
            _ => Ok(()),
        }
    }

    /// `then`: the version that is current, and the generation.
    fn add(
        &mut self,
        module: Arc<str>,
        what: What,
        (then, generation): (Option<u64>, u64),
        becomes: Option<u64>,
    ) -> Result<(), Error> {
        if self.own(&module).is_some() {
            return Err(Error::AlreadyInTransaction { module: module.to_string() });
        }
        self.intentions.push(module.clone(), becomes);
        self.operations.push(Operation { module, what, then, becomes, generation });
        Ok(())
    }

    /// A point to go back to.
    pub fn savepoint(&mut self) -> Savepoint {
        self.last_savepoint += 1;
        self.savepoints.push((self.last_savepoint, self.operations.len()));
        Savepoint { transaction: self.id(), number: self.last_savepoint }
    }

    /// The savepoint of a number. None: it has none of this number, or not any more.
    pub fn find_savepoint(&self, number: u64) -> Option<Savepoint> {
        let found = self.savepoints.iter().any(|(savepoint, _)| *savepoint == number);
        found.then_some(Savepoint { transaction: self.id(), number })
    }

    /// Takes back the operations that were added since. The savepoint stays, and those after it are
    /// gone. What was read stays read.
    ///
    /// # Errors
    ///
    /// [`Error::NoSavepoint`] if it is another transaction's, or gone.
    pub fn rollback_to(&mut self, savepoint: Savepoint) -> Result<(), Error> {
        let is_it = |(number, _): &(u64, usize)| *number == savepoint.number;
        let at = self.savepoints.iter().position(is_it).filter(|_| savepoint.transaction == self.id());
        let at = at.ok_or(Error::NoSavepoint)?;
        let (_, count) = self.savepoints[at];
        self.savepoints.truncate(at + 1);
        self.operations.truncate(count);
        self.intentions.truncate(count);
        Ok(())
    }
}

/// The end.
impl Transaction {
    /// Publishes all operations by one swap: every frame sees all of it, or nothing. Constructors
    /// run before, callers' last. Returns what was published. None: there was nothing to.
    ///
    /// On an error nothing has changed, and the transaction is over; but see [`Error::Integrity`].
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if something has changed that may not have, by its [`Isolation`].
    /// [`Error::Timeout`]. As for [`Runtime::load`]; as for [`Runtime::unload`] and
    /// [`Runtime::rollback_module`].
    pub fn commit(self) -> Result<Option<Publication>, Error> {
        self.commit_with(&LoadOptions::default())
    }

    /// As [`commit`](Self::commit), in the way that the options say. What they ask for is asked for
    /// all modules that are loaded, and comes before what the transaction's own options say of
    /// conflicts. What is found damaged is always [rolled back](LoadOptions::rollback_on_failure).
    ///
    /// # Errors
    ///
    /// As for [`commit`](Self::commit), and those of the options.
    pub fn commit_with(mut self, options: &LoadOptions<'_>) -> Result<Option<Publication>, Error> {
        if self.options.merge && !self.operations.is_empty() {
            self.merge_if_lost()?;
        }
        let besides = self.besides();
        let Self { runtime, options: own, deadline, operations, reads, intentions, .. } = self;
        if operations.is_empty() {
            return deadline.check().map(|()| None);
        }
        let written = written(&operations);
        let agreed = |state: &State| agree(own.isolation, &reads, &written, state);
        let mut options = options.rollback_on_failure(true);
        if options.conflicts == ConflictMode::Unasked {
            options = options.conflicts(own.conflicts);
        }
        options = options.resolve_conflicts(options.resolve_conflicts || own.resolve_conflicts);
        let (mut files, mut validates) = (Vec::new(), BTreeSet::new());
        for Operation { module, what, .. } in operations {
            if let What::Load(file, how) = what {
                files.push(*file);
                options = options.verify(options.verify || how.verify);
                validates.extend(how.validate.then_some(module));
            }
        }
        let files = Files::Read(files);
        let durability = own.durability;
        let wanted = Wanted {
            files,
            besides,
            validates,
            agreed: &agreed,
            deadline,
            durability,
            ..Wanted::load(Vec::new())
        };
        // SAFETY: whoever added a module has vouched for its code (`load`).
        let published = unsafe { runtime.load_and_tell(wanted, &options) };
        // It is open until then.
        drop(intentions);
        published.map(Some)
    }

    /// Ends it. Nothing has changed.
    pub fn rollback(self) {
        drop(self);
    }
}

/// The modules that operations change, and the versions that were current when they were added.
fn written(operations: &[Operation]) -> Vec<(Arc<str>, Option<u64>)> {
    operations.iter().map(|operation| (operation.module.clone(), operation.then)).collect()
}

/// That a transaction may be committed: `written` has its modules, and the versions that were
/// current when its operations were added.
fn agree(
    isolation: Isolation,
    reads: &Reads,
    written: &[(Arc<str>, Option<u64>)],
    state: &State,
) -> Result<(), Error> {
    if isolation >= Isolation::Serializable {
        reads.check(state)?;
    }
    written.iter().try_for_each(|(module, then)| match (&reads.snapshot, isolation) {
        (Some(snapshot), _) => state.check_unchanged(module, snapshot.get(module).copied()),
        (None, Isolation::ReadUncommitted) => Ok(()),
        (None, _) => state.check_unchanged(module, *then),
    })
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let modules: Vec<_> = self.operations.iter().map(|operation| &*operation.module).collect();
        f.debug_struct("Transaction")
            .field("id", &self.id())
            .field("options", &self.options)
            .field("modules", &modules)
            .finish_non_exhaustive()
    }
}
