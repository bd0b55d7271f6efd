//! What is committed, kept over the end of the process: the journal as the runtime uses it.
//! docs/journal.md has what is promised.
//!
//! | | |
//! |---|---|
//! | `options` | where the journal is, and how it is used |
//! | `points` | where tests end the process |
//!
//! A publication's set of modules is committed after everything that can fail and before it is
//! seen. So what a thread has seen is in the journal, and what is in the journal and was not seen is
//! what the process was about to publish when it ended.

mod options;
pub mod points;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use midflight_journal::{Change, Digest, Journal, Opened, Stored, TransactionId};

use crate::Error;
pub use options::{Durability, JournalOptions};

/// A journal that is open.
pub(crate) struct Durable {
    folder: PathBuf,
    journal: Journal,
}

/// What a journal had when it was opened.
pub(crate) struct Found {
    pub(crate) durable: Arc<Durable>,
    /// The committed set, by name.
    pub(crate) committed: BTreeMap<String, Digest>,
    /// Transactions that were committed, and of which nobody knows whether they were published.
    committed_in_flight: Vec<TransactionId>,
}

impl Durable {
    /// Opens the journal of a folder.
    pub(crate) fn open(options: &JournalOptions) -> Result<Found, Error> {
        let folder = options.folder();
        let wrong = |source| Error::Journal { folder: folder.into(), source: Box::new(source) };
        let opened = options.open().map_err(|error| wrong(error.error))?;
        let Opened { journal, committed, damage, .. } = opened;
        if let Some(damage) = damage {
            let modules = committed.len();
            tracing::warn!(folder = %folder.display(), modules, "{damage}: the journal was rebuilt from its witness");
        }
        // What was not committed was ended when it was opened.
        let open = journal.in_flight().into_iter().map(|open| open.transaction).collect();
        let durable = Arc::new(Self { folder: folder.into(), journal });
        points::reached("opened");
        Ok(Found { durable, committed, committed_in_flight: open })
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    /// What is wrong with it.
    pub(crate) fn wrong(&self, source: midflight_journal::Error) -> Error {
        Error::Journal { folder: self.folder.clone(), source: Box::new(source) }
    }

    /// Keeps bytes, and they are on the disk.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<Stored, Error> {
        let stored = self.journal.put(bytes).map_err(|source| self.wrong(source))?;
        points::reached("put");
        Ok(stored)
    }

    /// Whether it is this journal that has them.
    pub(crate) fn has(&self, stored: &Stored) -> bool {
        self.journal.has(stored)
    }

    /// Bytes that it has.
    pub(crate) fn bytes(&self, digest: Digest) -> Result<Vec<u8>, Error> {
        self.journal.bytes(digest).map_err(|source| self.wrong(source))
    }

    /// Commits that this is the set from now on. What was published and not made durable
    /// ([`Durability::Off`]) is in it as well: the set of a journal is always one that the runtime
    /// had, as a whole. `back`: modules of which an earlier version comes back.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`]: then the set is what it was; but see
    /// [`SyncFailed`](midflight_journal::Error::SyncFailed).
    pub(crate) fn commit(
        self: &Arc<Self>,
        set: &BTreeMap<&str, Digest>,
        back: impl Fn(&str) -> bool,
        durability: Durability,
    ) -> Result<Committed, Error> {
        if durability == Durability::Off {
            return Ok(Committed::nothing());
        }
        let committed = self.journal.committed();
        let gone = committed.iter().filter(|(name, _)| !set.contains_key(&***name));
        let gone = gone.map(|(name, old)| Change::unload(name, *old));
        let changed = set.iter().filter_map(|(name, new)| match committed.get(*name) {
            None => Some(Change::load(*name, *new)),
            Some(old) if old == new => None,
            Some(old) if back(name) => Some(Change::roll_back(*name, *old, *new)),
            Some(old) => Some(Change::replace(*name, *old, *new)),
        });
        let changes: Vec<_> = changed.chain(gone).collect();
        if changes.is_empty() {
            // What somebody has committed lazily is what this one builds upon.
            if durability == Durability::Durable {
                self.journal.settle().map_err(|source| self.wrong(source))?;
            }
            return Ok(Committed::nothing());
        }
        let commit = || {
            let id = self.journal.begin(changes)?;
            // From here on it is ended if it is not committed.
            let open = Committed { of: Some((self.clone(), id)) };
            points::reached("begun");
            self.journal.prepared(id)?;
            points::reached("prepared");
            match durability {
                Durability::Lazy => self.journal.commit_lazily(id)?,
                _ => self.journal.commit(id)?,
            }
            points::reached("committed");
            Ok(open)
        };
        commit().map_err(|source| self.wrong(source))
    }

    /// Everything that it has is on the disk, and another process may open it.
    pub(crate) fn close(self: Arc<Self>) -> Result<(), Error> {
        // A load that is under way closes it otherwise, when it ends.
        let Some(Self { folder, journal }) = Arc::into_inner(self) else { return Ok(()) };
        journal.close().map_err(|source| Error::Journal { folder, source: Box::new(source) })
    }
}

impl Found {
    /// What was committed is published by now.
    pub(crate) fn applied(self) {
        for id in self.committed_in_flight {
            Committed { of: Some((self.durable.clone(), id)) }.applied();
        }
    }
}

/// A commit that is to be published. Dropped, it is taken back: what came between has failed.
#[must_use]
pub(crate) struct Committed {
    /// None: nothing was to be committed.
    of: Option<(Arc<Durable>, TransactionId)>,
}

impl Committed {
    pub(crate) fn nothing() -> Self {
        Self { of: None }
    }

    /// It is published.
    pub(crate) fn applied(mut self) {
        let Some((durable, id)) = self.of.take() else { return };
        points::reached("published");
        if let Err(error) = durable.journal.applied(id) {
            // It holds, and is published. Whoever opens the journal is told of it once more.
            tracing::warn!(transaction = id.number(), %error, "the journal could not note that it is published");
        }
        points::reached("applied");
    }

    /// It is not published, or not any more.
    pub(crate) fn abort(mut self, reason: &str) {
        self.take_back(reason);
    }

    fn take_back(&mut self, reason: &str) {
        if let Some((durable, id)) = self.of.take()
            && let Err(error) = durable.journal.abort(id, reason)
        {
            tracing::error!(
                transaction = id.number(), reason, %error,
                "the journal could not take a commit back: opening it may bring back what was not published"
            );
        }
    }
}

impl Drop for Committed {
    fn drop(&mut self) {
        self.take_back("it was not published");
    }
}
