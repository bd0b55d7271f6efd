//! What records come to: the one place that says which may follow which. Both the running journal
//! and the one that is read back go through here.

use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::error::Error;
use crate::record::{Event, InFlight, Operation, Record, Set, Stage, TransactionId};

/// The longest name of a module, in bytes.
pub(crate) const LONGEST_NAME: usize = 4096;
/// The most modules that one transaction may change.
pub(crate) const MOST_CHANGES: usize = 65_536;
/// The longest reason that is kept, in bytes. What is longer is cut.
pub(crate) const LONGEST_REASON: usize = 4096;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct State {
    pub(crate) set: Set,
    pub(crate) open: BTreeMap<u64, InFlight>,
    /// Of the latest record. The first has 1.
    pub(crate) sequence: u64,
    /// Of the latest transaction. The first has 1.
    pub(crate) transaction: u64,
}

impl State {
    /// A record's event happens. If it cannot, nothing has changed.
    pub(crate) fn apply(&mut self, record: &Record) -> Result<(), Error> {
        let id = record.transaction;
        match &record.event {
            Event::Begin(changes) => {
                if id.0 <= self.transaction {
                    return Err(Error::UnknownTransaction(id));
                }
                check(changes)?;
                let begun = InFlight { transaction: id, stage: Stage::Begun, changes: changes.clone() };
                self.open.insert(id.0, begun);
                self.transaction = id.0;
            }
            Event::Prepared => self.at(id, "be prepared", &[Stage::Begun])?.stage = Stage::Prepared,
            Event::Commit => {
                let changes = &self.at(id, "be committed", &[Stage::Begun, Stage::Prepared])?.changes;
                let changes: Vec<_> =
                    changes.iter().map(|change| (change.module.clone(), change.old, change.new)).collect();
                self.exchange(changes)?;
                self.at(id, "be committed", &[Stage::Begun, Stage::Prepared])?.stage = Stage::Committed;
            }
            Event::Applied => {
                self.at(id, "be applied", &[Stage::Committed])?;
                self.open.remove(&id.0);
            }
            Event::Abort(_) => {
                let open = self.at(id, "be aborted", &[Stage::Begun, Stage::Prepared, Stage::Committed])?;
                if open.stage == Stage::Committed {
                    let changes = open.changes.iter();
                    let back =
                        changes.map(|change| (change.module.clone(), change.new, change.old)).collect();
                    self.exchange(back)?;
                }
                self.open.remove(&id.0);
            }
        }
        self.sequence = self.sequence.max(record.sequence);
        Ok(())
    }

    /// The transaction, if it is open and at one of these stages.
    fn at(
        &mut self,
        id: TransactionId,
        what: &'static str,
        stages: &[Stage],
    ) -> Result<&mut InFlight, Error> {
        let open = self.open.get_mut(&id.0).ok_or(Error::UnknownTransaction(id))?;
        if !stages.contains(&open.stage) {
            return Err(Error::WrongStage { transaction: id, stage: open.stage, what });
        }
        Ok(open)
    }

    /// All modules are what they are expected to be, and become what they shall be; or none.
    fn exchange(&mut self, changes: Vec<(String, Option<Digest>, Option<Digest>)>) -> Result<(), Error> {
        for (module, expected, _) in &changes {
            let found = self.set.get(module).copied();
            if found != *expected {
                return Err(Error::NotCurrent { module: module.clone(), expected: *expected, found });
            }
        }
        for (module, _, new) in changes {
            match new {
                Some(digest) => self.set.insert(module, digest),
                None => self.set.remove(&module),
            };
        }
        Ok(())
    }
}

fn check(changes: &[crate::record::Change]) -> Result<(), Error> {
    if changes.len() > MOST_CHANGES {
        return Err(Error::TooLarge {
            what: "modules of a transaction",
            size: changes.len(),
            most: MOST_CHANGES,
        });
    }
    let mut names: Vec<&str> = changes.iter().map(|change| change.module.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Error::Twice(twice[0].to_owned()));
    }
    for change in changes {
        if change.module.len() > LONGEST_NAME {
            return Err(Error::TooLarge {
                what: "bytes of a name",
                size: change.module.len(),
                most: LONGEST_NAME,
            });
        }
        if !change.is_whole() {
            return Err(Error::NotWhole { module: change.module.clone(), operation: change.operation });
        }
    }
    Ok(())
}

impl Operation {
    /// The digests that a change of this kind must have.
    pub(crate) const fn needs(self) -> &'static str {
        match self {
            Self::Load => "a new digest and no old one",
            Self::Replace | Self::RollBack => "an old digest and a new one",
            Self::Unload => "an old digest and no new one",
        }
    }
}
