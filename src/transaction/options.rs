//! How a transaction is done.

use std::time::Duration;

use crate::{ConflictMode, Durability};

/// How far a transaction is kept apart from others. docs/transactions.md has what each level
/// prevents; each prevents what those before it do.
///
/// What a transaction reads are versions of modules, the list of modules, and whether a module has
/// a function. What it writes are modules. Nobody waits for anybody: what others have committed in
/// the meantime is found at commit, and then the first has won ([`Error::Conflict`]).
///
/// [`Error::Conflict`]: crate::Error::Conflict
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Default)]
#[repr(i32)]
pub enum Isolation {
    /// Reads also see what other transactions intend and have not committed. Commits over whatever
    /// is there.
    ReadUncommitted = 0,
    /// Each read sees what is committed then. A commit is refused if one of its modules has changed
    /// since its operation was added.
    ReadCommitted = 1,
    /// All reads see what was committed when the transaction began. A commit is refused if one of
    /// its modules has changed since then.
    RepeatableRead = 2,
    /// As above, and a commit that changes anything is also refused if something that was read has
    /// changed since.
    #[default]
    Serializable = 3,
}

impl Isolation {
    /// All levels, the weakest first.
    pub const ALL: [Self; 4] =
        [Self::ReadUncommitted, Self::ReadCommitted, Self::RepeatableRead, Self::Serializable];

    /// Whether reads are of one moment.
    pub(super) fn has_snapshot(self) -> bool {
        self >= Self::RepeatableRead
    }
}

/// How a transaction is done. The default is the safest: serializable, with no limits.
///
/// ```
/// use midflight::{Isolation, TransactionOptions};
/// use std::time::Duration;
///
/// let options =
///     TransactionOptions::new().isolation(Isolation::ReadCommitted).timeout(Duration::from_secs(1));
/// assert_eq!(options.retries, 8);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct TransactionOptions {
    /// How far it is kept apart from others.
    pub isolation: Isolation,
    /// From its beginning to the publication; afterwards everything but ending it is refused with
    /// [`Error::Timeout`](crate::Error::Timeout). None: no limit.
    pub timeout: Option<Duration>,
    /// The most operations. None: no limit.
    pub max_operations: Option<usize>,
    /// Operations are refused with [`Error::ReadOnly`](crate::Error::ReadOnly).
    pub read_only: bool,
    /// When its commit is on the disk, if the runtime has a [journal](crate::Config::journal).
    pub durability: Durability,
    /// Bind and link each file when it is added, so that what is wrong with it is known at once.
    /// Else that is known at commit, and files are linked once.
    pub rehearse: bool,
    /// What a commit does about conflicts of the set as a whole: see
    /// [`LoadOptions::conflicts`](crate::LoadOptions::conflicts).
    pub conflicts: ConflictMode,
    /// See [`LoadOptions::resolve_conflicts`](crate::LoadOptions::resolve_conflicts).
    pub resolve_conflicts: bool,
    /// A commit that has lost is [merged](crate::Transaction::merge) with what has won, if that can
    /// be, and then published.
    pub merge: bool,
    /// How often [`Runtime::transact`](crate::Runtime::transact) begins again after a conflict.
    pub retries: u32,
    /// How long it waits before that for the first time; twice as long each time after, and each
    /// time a random part of up to half of that less.
    pub first_wait: Duration,
    /// The longest that it waits.
    pub longest_wait: Duration,
}

impl Default for TransactionOptions {
    fn default() -> Self {
        Self {
            isolation: Isolation::default(),
            timeout: None,
            max_operations: None,
            read_only: false,
            durability: Durability::default(),
            rehearse: true,
            conflicts: ConflictMode::Unasked,
            resolve_conflicts: false,
            merge: false,
            retries: 8,
            first_wait: Duration::from_millis(1),
            longest_wait: Duration::from_millis(100),
        }
    }
}

impl TransactionOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`isolation`](Self#structfield.isolation).
    #[must_use]
    pub fn isolation(self, isolation: Isolation) -> Self {
        Self { isolation, ..self }
    }

    /// Sets [`timeout`](Self#structfield.timeout). None: no limit.
    #[must_use]
    pub fn timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        Self { timeout: timeout.into(), ..self }
    }

    /// Sets [`max_operations`](Self#structfield.max_operations). None: no limit.
    #[must_use]
    pub fn max_operations(self, operations: impl Into<Option<usize>>) -> Self {
        Self { max_operations: operations.into(), ..self }
    }

    /// Sets [`read_only`](Self#structfield.read_only).
    #[must_use]
    pub fn read_only(self, read_only: bool) -> Self {
        Self { read_only, ..self }
    }

    /// Sets [`durability`](Self#structfield.durability).
    #[must_use]
    pub fn durability(self, durability: Durability) -> Self {
        Self { durability, ..self }
    }

    /// Sets [`rehearse`](Self#structfield.rehearse).
    #[must_use]
    pub fn rehearse(self, rehearse: bool) -> Self {
        Self { rehearse, ..self }
    }

    /// Sets [`conflicts`](Self#structfield.conflicts).
    #[must_use]
    pub fn conflicts(self, conflicts: ConflictMode) -> Self {
        Self { conflicts, ..self }
    }

    /// Sets [`resolve_conflicts`](Self#structfield.resolve_conflicts).
    #[must_use]
    pub fn resolve_conflicts(self, resolve_conflicts: bool) -> Self {
        Self { resolve_conflicts, ..self }
    }

    /// Sets [`merge`](Self#structfield.merge).
    #[must_use]
    pub fn merge(self, merge: bool) -> Self {
        Self { merge, ..self }
    }

    /// Sets [`retries`](Self#structfield.retries).
    #[must_use]
    pub fn retries(self, retries: u32) -> Self {
        Self { retries, ..self }
    }

    /// Sets [`first_wait`](Self#structfield.first_wait) and
    /// [`longest_wait`](Self#structfield.longest_wait).
    #[must_use]
    pub fn waits(self, first_wait: Duration, longest_wait: Duration) -> Self {
        Self { first_wait, longest_wait, ..self }
    }
}

/// How one module of a transaction is loaded. As in [`LoadOptions`](crate::LoadOptions), for one
/// module.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct OperationOptions {
    /// [`LoadOptions::validate`](crate::LoadOptions::validate): when the file is added, and again
    /// at commit.
    pub validate: bool,
    /// [`LoadOptions::keep_previous`](crate::LoadOptions::keep_previous).
    pub keep_previous: bool,
    /// [`LoadOptions::verify`](crate::LoadOptions::verify). If one module of a transaction asks for
    /// it, all are compared; and if one differs, all that the transaction has done is undone by a
    /// second publication.
    pub verify: bool,
}

impl OperationOptions {
    /// The defaults: nothing of it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`validate`](Self#structfield.validate).
    #[must_use]
    pub fn validate(self, validate: bool) -> Self {
        Self { validate, ..self }
    }

    /// Sets [`keep_previous`](Self#structfield.keep_previous).
    #[must_use]
    pub fn keep_previous(self, keep_previous: bool) -> Self {
        Self { keep_previous, ..self }
    }

    /// Sets [`verify`](Self#structfield.verify).
    #[must_use]
    pub fn verify(self, verify: bool) -> Self {
        Self { verify, ..self }
    }
}
