//! Transactions on modules made durable: which modules were committed last, and their bytes.
//!
//! A [`Journal`] lives in a folder. [`Journal::open`] says what was committed last, by name and
//! digest, and what was in flight when the process ended. From then on each transaction is told:
//! [`begin`](Journal::begin), [`prepared`](Journal::prepared), [`commit`](Journal::commit),
//! [`applied`](Journal::applied), or [`abort`](Journal::abort) with the reason. When `commit`
//! returns, the commit is on the disk. Transactions that are committed at the same time share one
//! sync.
//!
//! ```
//! use midflight_journal::{Change, Journal};
//!
//! # let folder = std::env::temp_dir().join(format!("midflight-journal-{}", std::process::id()));
//! let journal = Journal::open(&folder)?.journal;
//! let bytes = journal.put(b"what the module's file had when it was verified")?;
//! let transaction = journal.begin(vec![Change::load("physics", bytes.digest())])?;
//! journal.prepared(transaction)?;
//! journal.commit(transaction)?;
//! // Now the module is published, and then:
//! journal.applied(transaction)?;
//! journal.close()?;
//!
//! let opened = Journal::open(&folder)?;
//! let digest = opened.committed["physics"];
//! assert_eq!(opened.journal.bytes(digest)?, b"what the module's file had when it was verified");
//! # drop(opened);
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Three things are in the folder. The *store* (redb) has the committed set, the transactions that
//! are open, and the latest records. The *witness*, a small file beside it, has the same set and
//! how often and how long the store was written: so it is seen if the store is not what it was.
//! *modules* has files by the digest of what is in them. docs/journal.md says what of this is
//! promised in which kind of crash.
#![forbid(unsafe_code)]

mod codec;
mod digest;
mod disk;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod journal;
mod modules;
mod open;
mod package;
mod record;
mod state;
mod store;
mod witness;

#[cfg(test)]
mod tests;

pub use digest::Digest;
pub use error::{Damage, Error, LastGood, OpenError};
pub use journal::{Collected, Journal};
pub use modules::Stored;
pub use open::{Opened, Options};
pub use package::Package;
pub use record::{Change, Event, InFlight, Operation, Record, Set, Stage, TransactionId};
