use std::collections::BTreeMap;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::digest::Digest;

/// Modules by name, each with the digest of its bytes.
pub type Set = BTreeMap<String, Digest>;

/// A transaction of a journal. Numbers are not used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TransactionId(pub(crate) u64);

impl TransactionId {
    /// The number, as records and messages have it.
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a transaction does with a module.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Operation {
    /// A module that was not there.
    Load,
    /// Another version of one that was.
    Replace,
    /// It is taken out.
    Unload,
    /// An earlier version of it comes back.
    RollBack,
}

/// A module before and after a transaction.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Change {
    /// The module's name: at most 4,096 bytes.
    pub module: String,
    /// What is done with it.
    pub operation: Operation,
    /// What is committed before. `None`: nothing of this name.
    pub old: Option<Digest>,
    /// What is committed after. `None`: nothing of this name.
    pub new: Option<Digest>,
}

impl Change {
    /// A module is loaded that was not there.
    pub fn load(module: impl Into<String>, new: Digest) -> Self {
        Self { module: module.into(), operation: Operation::Load, old: None, new: Some(new) }
    }

    /// A module is replaced.
    pub fn replace(module: impl Into<String>, old: Digest, new: Digest) -> Self {
        Self { module: module.into(), operation: Operation::Replace, old: Some(old), new: Some(new) }
    }

    /// A module is taken out.
    pub fn unload(module: impl Into<String>, old: Digest) -> Self {
        Self { module: module.into(), operation: Operation::Unload, old: Some(old), new: None }
    }

    /// An earlier version of a module comes back.
    pub fn roll_back(module: impl Into<String>, old: Digest, new: Digest) -> Self {
        Self { operation: Operation::RollBack, ..Self::replace(module, old, new) }
    }

    /// Whether the digests are there that the operation says.
    pub(crate) fn is_whole(&self) -> bool {
        match self.operation {
            Operation::Load => self.old.is_none() && self.new.is_some(),
            Operation::Replace | Operation::RollBack => self.old.is_some() && self.new.is_some(),
            Operation::Unload => self.old.is_some() && self.new.is_none(),
        }
    }
}

/// How far an open transaction has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Stage {
    /// It has begun.
    Begun,
    /// All that can fail has been done.
    Prepared,
    /// It is committed, and not yet said to be applied.
    Committed,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Begun => "begun",
            Self::Prepared => "prepared",
            Self::Committed => "committed",
        })
    }
}

/// A transaction that has begun and not ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InFlight {
    /// Which.
    pub transaction: TransactionId,
    /// How far it has come.
    pub stage: Stage,
    /// What it does.
    pub changes: Vec<Change>,
}

/// What has happened to a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// It has begun, and this is what it does.
    Begin(Vec<Change>),
    /// All that can fail has been done: verified, mapped, migration rehearsed.
    Prepared,
    /// It holds from now on.
    Commit,
    /// What was committed is published.
    Applied,
    /// It does not hold, for this reason. After a commit: what it did is taken back.
    Abort(String),
}

/// An event, as it is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Its place in the order of all records. Numbers may be missing.
    pub sequence: u64,
    /// When, in milliseconds since 1970 (UTC), by the system's clock.
    pub milliseconds: u64,
    /// Whose.
    pub transaction: TransactionId,
    /// What.
    pub event: Event,
}

/// Milliseconds since 1970. A clock that is before has none.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
