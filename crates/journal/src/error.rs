use std::error;
use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::digest::Digest;
use crate::record::{InFlight, Operation, Set, Stage, TransactionId};

/// What can go wrong with a journal. Where nothing else is said, nothing has changed.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Error {
    /// Another process has the journal open, or this one has it open twice.
    InUse {
        /// The journal's folder.
        folder: PathBuf,
        /// Who has it, if that could be read.
        process: Option<u32>,
    },
    /// A newer midflight wrote it.
    NewerFormat {
        /// Its format.
        found: u64,
        /// The newest that is known here.
        known: u64,
    },
    /// The store is not what it was when it was last written.
    Damaged(Damage),
    /// The disk is full.
    Full {
        /// What was being done.
        doing: &'static str,
        /// What the system says.
        said: String,
    },
    /// Reading or writing has failed.
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system says.
        said: String,
        /// Of which kind it is.
        kind: io::ErrorKind,
    },
    /// Writing a commit has failed, and the store cannot be read at the moment. The transaction does
    /// not hold. But if the process ends before another one is committed, opening the journal says
    /// whether it does.
    Undecided {
        /// What has failed.
        said: String,
    },
    /// A sync has failed, now or earlier. The journal takes nothing more.
    SyncFailed {
        /// What the system said of the sync that failed first.
        said: String,
    },
    /// A thread has panicked while it was writing. The journal takes nothing more.
    Panicked,
    /// There is no open transaction of this number.
    UnknownTransaction(TransactionId),
    /// The transaction is not where it would have to be for this.
    WrongStage {
        /// Which.
        transaction: TransactionId,
        /// Where it is.
        stage: Stage,
        /// What was asked for.
        what: &'static str,
    },
    /// The transaction's commit is being written in this moment.
    BeingCommitted(TransactionId),
    /// What the transaction expects to be committed is not: another one was committed first.
    NotCurrent {
        /// The module.
        module: String,
        /// What the transaction expects.
        expected: Option<Digest>,
        /// What is committed.
        found: Option<Digest>,
    },
    /// A transaction has two changes of one module.
    Twice(String),
    /// A change lacks a digest that its operation needs, or has one too many.
    NotWhole {
        /// The module.
        module: String,
        /// What is done with it.
        operation: Operation,
    },
    /// A transaction, a name or a file is too large.
    TooLarge {
        /// What is counted.
        what: &'static str,
        /// How many there are.
        size: usize,
        /// How many there may be.
        most: usize,
    },
    /// The bytes of this digest are not in the journal.
    NoBytes(Digest),
    /// The bytes are not those of a [`Package`](crate::Package).
    NoModule,
    /// A newer midflight wrote the module's bytes.
    NewerModule {
        /// Their form.
        found: u32,
        /// The newest that is known here.
        known: u32,
    },
    /// The file that should have the bytes of this digest has others.
    BytesDamaged(Digest),
}

/// How the store is not what it was when it was last written.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Damage {
    /// There is no store, and there was one.
    Missing,
    /// The store has no bytes.
    Empty,
    /// The store is shorter than it was, and cannot be read.
    Truncated {
        /// How long it is, in bytes.
        bytes: u64,
        /// How long it was.
        expected: u64,
    },
    /// The store is an earlier one: it was replaced by a copy, or its last commit cannot be read.
    Older {
        /// How many commits it has.
        generation: u64,
        /// How many it had.
        expected: u64,
    },
    /// The store cannot be read.
    Corrupt {
        /// Why.
        said: String,
    },
    /// The store can be read, but no file of the witness can. So nobody can say whether it is the
    /// newest.
    NoWitness,
}

/// What is known to have been committed last, although the store cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LastGood {
    /// The modules.
    pub committed: Set,
    /// How many commits were durable.
    pub generation: u64,
    /// What was in flight.
    pub in_flight: Vec<InFlight>,
}

/// Why a journal was not opened, and what can be used nevertheless.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenError {
    /// Why.
    pub error: Error,
    /// What was committed last, if that is known. Its modules' bytes are had by
    /// [`read_bytes`](crate::Journal::read_bytes).
    pub last_good: Option<Box<LastGood>>,
}

impl Error {
    pub(crate) fn io(doing: &'static str, error: &io::Error) -> Self {
        let said = error.to_string();
        if is_full(error.kind()) {
            return Self::Full { doing, said };
        }
        Self::Io { doing, said, kind: error.kind() }
    }
}

fn is_full(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(kind, StorageFull | QuotaExceeded | FileTooLarge)
}

struct Shown<'a>(&'a Option<Digest>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(digest) => digest.fmt(f),
            None => f.write_str("nothing"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse { folder, process } => {
                write!(f, "the journal in {} is open ", folder.display())?;
                match process {
                    Some(process) if *process == std::process::id() => {
                        write!(f, "in this process already; close it first")
                    }
                    Some(process) => {
                        write!(f, "in process {process}; end that one, or use a folder for each process")
                    }
                    None => write!(f, "in another process; end that one, or use a folder for each process"),
                }
            }
            Self::NewerFormat { found, known } => write!(
                f,
                "the journal has format {found}, and this midflight knows those up to {known}; \
                 use the midflight that wrote it, or another folder"
            ),
            Self::Damaged(damage) => write!(
                f,
                "{damage}; bring back the whole folder from a backup, or open it with \
                 `Options::rebuild`, which goes on from the witness and keeps the damaged store aside"
            ),
            Self::Full { doing, said } => write!(
                f,
                "the disk is full ({doing}: {said}); what was committed before stays; \
                 make room and try again"
            ),
            Self::Io { doing, said, .. } => write!(f, "{doing}: {said}"),
            Self::Undecided { said } => write!(
                f,
                "{said}; nor can the journal be read at the moment, so if the process ends before \
                 another transaction is committed, opening the journal says whether this one was"
            ),
            Self::SyncFailed { said } => write!(
                f,
                "a sync of the journal has failed ({said}); nothing more is written, because what the \
                 system had not yet written may be lost; look after the disk, and start the process \
                 again: opening the journal says what was committed"
            ),
            Self::Panicked => f.write_str(
                "a thread has panicked while it was writing to the journal; start the process again: \
                 opening the journal says what was committed",
            ),
            Self::UnknownTransaction(id) => {
                write!(f, "transaction {id} is not open: it has not begun, or has ended")
            }
            Self::WrongStage { transaction, stage, what } => {
                write!(f, "transaction {transaction} cannot {what}: it is {stage}")
            }
            Self::BeingCommitted(id) => {
                write!(f, "transaction {id} is being committed; wait until that has returned")
            }
            Self::NotCurrent { module, expected, found } => write!(
                f,
                "module {module} is committed as {}, and the transaction expects {}: another one was \
                 committed first; begin anew from what is committed",
                Shown(found),
                Shown(expected)
            ),
            Self::Twice(module) => write!(f, "the transaction changes module {module} twice; say it once"),
            Self::NotWhole { module, operation } => {
                write!(f, "{operation:?} of module {module} needs {}", operation.needs())
            }
            Self::TooLarge { what, size, most } => write!(f, "{size} {what}, and {most} are the most"),
            Self::NoBytes(digest) => {
                write!(f, "the journal does not have the bytes of {digest}; put them before you begin")
            }
            Self::NoModule => f.write_str(
                "the journal's bytes are not those of a module as midflight writes them; another program \
                 has put them there: use another folder",
            ),
            Self::NewerModule { found, known } => write!(
                f,
                "the module's bytes have form {found}, and this midflight knows those up to {known}; use the \
                 midflight that wrote them, or another folder"
            ),
            Self::BytesDamaged(digest) => write!(
                f,
                "the journal's file for {digest} has other bytes; put the right ones again, or bring the \
                 folder back from a backup"
            ),
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("the journal's store is missing"),
            Self::Empty => f.write_str("the journal's store is empty, and was not"),
            Self::Truncated { bytes, expected } => {
                write!(f, "the journal's store is truncated: {bytes} bytes of {expected}")
            }
            Self::Older { generation, expected } => {
                write!(f, "the journal's store is an older one: it has {generation} commits of {expected}")
            }
            Self::Corrupt { said } => write!(f, "the journal's store cannot be read: {said}"),
            Self::NoWitness => f.write_str(
                "the journal's witness is missing or damaged, so nobody can say whether its store is the \
                 newest",
            ),
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)?;
        if let Some(last) = &self.last_good {
            write!(f, " (known to have been committed last: {} modules)", last.committed.len())?;
        }
        Ok(())
    }
}

impl error::Error for Error {}

impl error::Error for OpenError {}

impl From<Error> for OpenError {
    fn from(error: Error) -> Self {
        Self { error, last_good: None }
    }
}
