//! A transaction that has lost, with what has won.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use midflight_conflict::{Collision, Conflict, Kind, Place, Severity, merge};

use super::{Operation, Reads, Transaction, What, agree, written};
use crate::runtime::conflicts::{Asked, Conflicts};
use crate::{Error, ErrorKind};

/// What is behind a module's name in one of the sets that are merged.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Made {
    /// The version of this number, which was committed.
    Committed(u64),
    /// What the transaction loads.
    New,
}

/// What became of a merge.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct MergeReport {
    /// The modules that both sides have changed, in different ways: the numbers of their versions.
    /// Ours is the one that the next version would have.
    pub collisions: Vec<Collision<u64>>,
    /// What of the merged set conflicts with what is loaded; the gravest first.
    pub conflicts: Vec<Conflict>,
    /// What could not be looked at, and why: more may conflict.
    pub unknown: Vec<String>,
    /// The generation that was merged with.
    pub generation: u64,
}

impl MergeReport {
    /// The transaction has become one that was begun now, and can be committed: nothing collides,
    /// and what conflicts is of low severity, which nobody comes by.
    pub fn is_clean(&self) -> bool {
        self.collisions.is_empty() && self.conflicts.iter().all(|conflict| conflict.severity <= Severity::Low)
    }

    /// All of it as conflicts: a collision is a
    /// [concurrent modification](Kind::ConcurrentModification).
    pub fn in_the_way(&self) -> Vec<Conflict> {
        let collision = |collision: &Collision<u64>| Conflict {
            severity: Severity::High,
            kind: Kind::ConcurrentModification,
            module: collision.module.clone(),
            place: Place { symbol: collision.module.clone(), ..Place::default() },
            concerned: Vec::new(),
            message: collision.to_string(),
            proposal: "Begin the transaction again, and look at what has become of the module".into(),
        };
        self.collisions.iter().map(collision).chain(self.conflicts.iter().cloned()).collect()
    }
}

/// A line for each.
impl fmt::Display for MergeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.collisions.iter().map(ToString::to_string);
        let lines = lines.chain(self.conflicts.iter().map(ToString::to_string));
        f.write_str(&lines.collect::<Vec<_>>().join("\n"))
    }
}

impl Transaction {
    /// Merges it with what was committed since it began: three ways, with what it saw when it began
    /// as the base. (Of [`ReadCommitted`](crate::Isolation::ReadCommitted), what it saw when each
    /// operation was added.)
    ///
    /// If the two have changed different modules, and the set of both has no
    /// [conflict](Self::conflicts) that is graver than low, then it becomes a transaction that was
    /// begun now: it sees what was committed, and what it had read counts no more. Whoever merges
    /// says by that, that its operations are right whatever it had read. Else it stays as it is, and
    /// each module that is in the way is listed.
    ///
    /// Savepoints stay. What comes of the commit is counted as the outcome of
    /// [`Action::Merge`](crate::conflict::Action::Merge).
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`]. As for [`conflicts`](Self::conflicts).
    pub fn merge(&mut self) -> Result<MergeReport, Error> {
        let state = self.state()?;
        let (theirs, began) = (state.numbers(), state.figures().generation);
        let fresh: Vec<_> = self
            .operations
            .iter()
            .map(|Operation { module, what, .. }| match what {
                What::Load(..) => Some(state.next_number(module)),
                What::Unload => None,
                What::RollBack => state.previous_number(module).ok(),
            })
            .collect();
        drop(state);

        let mut base: BTreeMap<Arc<str>, u64> = self.reads.snapshot.clone().unwrap_or_else(|| theirs.clone());
        if self.reads.snapshot.is_none() {
            for Operation { module, then, .. } in &self.operations {
                match then {
                    Some(then) => base.insert(module.clone(), *then),
                    None => base.remove(module),
                };
            }
        }
        let committed = |set: &BTreeMap<Arc<str>, u64>| -> BTreeMap<String, Made> {
            set.iter().map(|(module, number)| (module.to_string(), Made::Committed(*number))).collect()
        };
        let mut ours = committed(&base);
        for Operation { module, what, becomes, .. } in &self.operations {
            match (what, becomes) {
                (What::RollBack, Some(number)) => ours.insert(module.to_string(), Made::Committed(*number)),
                (What::Load(..), _) => ours.insert(module.to_string(), Made::New),
                _ => ours.remove(&**module),
            };
        }
        let merged = merge(&committed(&base), &ours, &committed(&theirs));
        let number = |made: &Option<Made>| match made {
            Some(Made::Committed(number)) => Some(*number),
            Some(Made::New) | None => None,
        };
        let collisions: Vec<Collision<u64>> = merged
            .collisions
            .into_iter()
            .map(|collision| Collision {
                base: number(&collision.base),
                ours: self.own(&collision.module).and_then(|operation| operation.becomes),
                theirs: number(&collision.theirs),
                module: collision.module,
            })
            .collect();
        if !collisions.is_empty() {
            return Ok(MergeReport { collisions, generation: began, ..MergeReport::default() });
        }
        // Both have unloaded a module, or have had the same version come back: that is done.
        let is_done = |operation: &Operation| {
            !matches!(operation.what, What::Load(..))
                && theirs.get(&operation.module) == operation.becomes.as_ref()
        };
        let left: Vec<bool> = self.operations.iter().map(|operation| !is_done(operation)).collect();
        let mut besides = self.besides();
        for (operation, _) in self.operations.iter().zip(&left).filter(|(_, left)| !**left) {
            besides.gone.remove(&operation.module);
            besides.back.remove(&operation.module);
        }
        // That others are open does not matter: the first wins.
        let asked = Asked { since: &|_| None, others: Vec::new(), deadline: self.deadline };
        let Conflicts { found, generation, unknown } =
            self.runtime.conflicts_of(&self.files(), &besides, &asked)?;
        let merged = MergeReport { conflicts: found, unknown, generation, collisions: Vec::new() };
        if merged.is_clean() {
            self.rebase(theirs, began, &fresh, &left);
        }
        Ok(merged)
    }

    /// Makes it one that was begun when this was committed. Of each operation: the number that its
    /// module has once it is done, and whether there is anything left to do.
    fn rebase(
        &mut self,
        committed: BTreeMap<Arc<str>, u64>,
        generation: u64,
        fresh: &[Option<u64>],
        left: &[bool],
    ) {
        for (operation, becomes) in self.operations.iter_mut().zip(fresh) {
            operation.then = committed.get(&operation.module).copied();
            (operation.becomes, operation.generation) = (*becomes, generation);
        }
        for (_, count) in &mut self.savepoints {
            *count = left[..*count].iter().filter(|left| **left).count();
        }
        let mut left = left.iter();
        self.operations.retain(|_| *left.next().expect("one for each"));
        let intended = self.operations.iter().map(|operation| (operation.module.clone(), operation.becomes));
        self.intentions.replace(intended);
        let snapshot = self.options.isolation.has_snapshot().then_some(committed);
        self.reads = Reads::since(snapshot, generation);
        for operation in &self.operations {
            self.runtime.try_merge_with(&operation.module);
        }
    }

    /// Before a commit, if what it has read or is about to change is not as it was.
    ///
    /// # Errors
    ///
    /// [`Error::NotMerged`].
    pub(super) fn merge_if_lost(&mut self) -> Result<(), Error> {
        let agreed = agree(self.options.isolation, &self.reads, &written(&self.operations), &*self.state()?);
        match agreed {
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            agreed => return agreed,
        }
        let merged = self.merge()?;
        match merged.is_clean() {
            true => Ok(()),
            false => {
                let MergeReport { collisions, conflicts, .. } = merged;
                Err(Error::NotMerged { collisions, conflicts })
            }
        }
    }
}
