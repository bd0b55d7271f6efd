//! Tables of generations, made of those of older ones.
//!
//! A table has an entry for every slot of the process, and a publication changes few of them. So
//! the table of a generation that is gone is taken again, and what has changed since is written to
//! it: a publication costs what it changes, not what there is. (With 100,000 slots a table is 800
//! kB: copying it took 200 us of a reload of 30.)

use std::collections::VecDeque;

pub(crate) use crate::call::home::Change;

/// What is behind every slot, and tables to publish it in.
#[derive(Default)]
pub(crate) struct Tables {
    /// By slot, as the current generation has it.
    current: Vec<usize>,
    /// The latest changes, oldest first.
    log: VecDeque<Change>,
    /// Changes so far, those that are no longer in the log included.
    changes: u64,
    /// Tables of nobody, the latest last.
    spare: Vec<Table>,
}

/// A table that nobody reads yet, or any more.
pub(crate) struct Table {
    entries: Vec<usize>,
    /// How many of the changes it has.
    changes: u64,
}

impl Table {
    /// Of a generation that is gone: as [`Tables::publish`] returned it.
    pub(crate) fn of_the_past(entries: Vec<usize>, changes: u64) -> Self {
        Self { entries, changes }
    }

    pub(crate) fn entries(&self) -> &[usize] {
        &self.entries
    }
}

/// Tables that are kept for later: one is in use while the next is made, and a frame that is open
/// for a little longer has another.
const SPARE: usize = 3;

/// Changes that are kept at least, for what a table misses that was published some reloads ago.
const LOG: usize = 64;

impl Tables {
    pub(crate) fn current(&self) -> &[usize] {
        &self.current
    }

    /// Adds slots behind the last. Published tables do not have them.
    pub(crate) fn extend(&mut self, targets: impl IntoIterator<Item = usize>) {
        self.current.extend(targets);
    }

    /// A table in which these entries are others than now, for [`publish`](Self::publish) or
    /// [`take_back`](Self::take_back).
    pub(crate) fn with(&mut self, changes: &[Change]) -> Table {
        let mut table = self.up_to_date();
        for &(slot, target) in changes {
            table.entries[slot as usize] = target;
        }
        table
    }

    /// Takes back a table that was not published.
    pub(crate) fn take_back(&mut self, mut table: Table, changes: &[Change]) {
        for &(slot, _) in changes {
            table.entries[slot as usize] = self.current[slot as usize];
        }
        self.keep(table);
    }

    /// Makes a table the current one. `changes` are those that the table was made with: each slot
    /// that really gets another target is told to `changed`, with the target that it had.
    /// Returns the table's entries, and the number to return them with when their generation is
    /// gone.
    pub(crate) fn publish(
        &mut self,
        table: Table,
        changes: &[Change],
        mut changed: impl FnMut(Change, usize),
    ) -> (Vec<usize>, u64) {
        for &(slot, target) in changes {
            let before = std::mem::replace(&mut self.current[slot as usize], target);
            if before != target {
                self.log.push_back((slot, target));
                self.changes += 1;
                changed((slot, target), before);
            }
        }
        // A longer log would cost more than a copy.
        while self.log.len() > LOG.max(self.current.len() / 4) {
            self.log.pop_front();
        }
        (table.entries, self.changes)
    }

    /// Keeps a table for later.
    pub(crate) fn keep(&mut self, table: Table) {
        if self.spare.len() == SPARE {
            self.spare.remove(0);
        }
        self.spare.push(table);
    }

    fn up_to_date(&mut self) -> Table {
        let Some(Table { mut entries, changes }) = self.spare.pop() else {
            return Table { entries: self.current.clone(), changes: self.changes };
        };
        let missing = (self.changes - changes) as usize;
        if missing > self.log.len() {
            entries.clear();
        }
        // Slots that are new since, or all.
        entries.extend_from_slice(&self.current[entries.len()..]);
        for &(slot, target) in self.log.iter().skip(self.log.len().saturating_sub(missing)) {
            entries[slot as usize] = target;
        }
        Table { entries, changes: self.changes }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Extend(usize),
        Publish(Vec<Change>),
        Fail(Vec<Change>),
        /// The oldest generation that is held goes.
        Return,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let changes = || prop::collection::vec((0..40u32, 0..1000usize), 0..60);
        let step = prop_oneof![
            (1..10usize).prop_map(Step::Extend),
            changes().prop_map(Step::Publish),
            changes().prop_map(Step::Fail),
            Just(Step::Return),
        ];
        prop::collection::vec(step, 1..200)
    }

    proptest! {
        #[test]
        fn a_table_has_what_was_published_whatever_table_it_was(steps in steps()) {
            let mut tables = Tables::default();
            tables.extend(0..40);
            let mut model: Vec<usize> = (0..40).collect();
            let mut held = VecDeque::new();
            for step in steps {
                match step {
                    Step::Extend(more) => {
                        tables.extend(std::iter::repeat_n(7, more));
                        model.extend(std::iter::repeat_n(7, more));
                    }
                    Step::Publish(changes) => {
                        let table = tables.with(&changes);
                        let mut told = model.clone();
                        for &(slot, target) in &changes {
                            model[slot as usize] = target;
                        }
                        prop_assert_eq!(table.entries(), &model[..]);
                        let made = tables.publish(table, &changes, |(slot, target), before| {
                            assert_eq!(std::mem::replace(&mut told[slot as usize], target), before);
                        });
                        prop_assert_eq!(&told, &model);
                        held.push_back(made);
                    }
                    Step::Fail(changes) => {
                        let table = tables.with(&changes);
                        tables.take_back(table, &changes);
                    }
                    Step::Return => {
                        if let Some((entries, changes)) = held.pop_front() {
                            tables.keep(Table::of_the_past(entries, changes));
                        }
                    }
                }
                prop_assert_eq!(tables.current(), &model[..]);
            }
        }
    }

    #[test]
    fn a_table_that_is_older_than_the_log_is_copied_anew() {
        let mut tables = Tables::default();
        tables.extend([0; 10]);
        let table = tables.with(&[]);
        let first = tables.publish(table, &[], |_, _| {});
        for target in 1..3 * LOG {
            // The last slot changes once, and the log does not have that any more.
            let changes = [(if target == 1 { 9 } else { target as u32 % 9 }, target)];
            let table = tables.with(&changes);
            tables.publish(table, &changes, |_, _| {});
        }
        assert_eq!(tables.log.len(), LOG);
        tables.keep(Table::of_the_past(first.0, first.1));
        assert_eq!(tables.with(&[]).entries(), tables.current().to_vec());
    }
}
