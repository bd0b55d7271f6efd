mod crashes;
mod damage;
mod disk;
mod failures;
mod model;

use crate::open::{Opened, Options};
use crate::record::{Change, TransactionId};
use crate::{Digest, Error, Journal, OpenError};
use disk::Simulated;

fn open(disk: &Simulated) -> Result<Opened, OpenError> {
    Options::new().open_on(disk.shared(), None)
}

/// The bytes of a module's version.
fn bytes(module: &str, version: u32) -> Vec<u8> {
    format!("{module} {version}").repeat(20).into_bytes()
}

fn digest(module: &str, version: u32) -> Digest {
    Digest::of(&bytes(module, version))
}

/// Begins a transaction that loads or replaces these modules by these versions.
fn begin(journal: &Journal, versions: &[(&str, u32)]) -> Result<TransactionId, Error> {
    let committed = journal.committed();
    let (mut held, mut changes) = (Vec::new(), Vec::new());
    for (module, version) in versions {
        let new = journal.put(&bytes(module, *version))?;
        changes.push(match committed.get(*module) {
            Some(old) => Change::replace(*module, *old, new.digest()),
            None => Change::load(*module, new.digest()),
        });
        held.push(new);
    }
    journal.begin(changes)
}

/// Begins, prepares, commits and applies it.
fn commit(journal: &Journal, versions: &[(&str, u32)]) -> Result<(), Error> {
    let id = begin(journal, versions)?;
    journal.prepared(id)?;
    journal.commit(id)?;
    journal.applied(id)
}
