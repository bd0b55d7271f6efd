//! What came of decisions.

use std::collections::BTreeMap;

use crate::{Action, Kind};

/// How often something went well.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rate {
    /// How often it did.
    pub well: u64,
    /// Of how many times.
    pub of: u64,
}

impl Rate {
    /// From 0.0 to 1.0; 0.0 if nothing is known yet.
    pub fn value(self) -> f64 {
        if self.of == 0 { 0.0 } else { self.well as f64 / self.of as f64 }
    }
}

/// What came of each action on each kind of conflict. It is small, whatever is recorded.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcomes(BTreeMap<(Kind, Action), Rate>);

impl Outcomes {
    /// Records how an action has ended. `well`: what was decided has been published, and stays.
    pub fn record(&mut self, kind: Kind, action: Action, well: bool) {
        let rate = self.0.entry((kind, action)).or_default();
        if rate.of < u64::MAX {
            rate.of += 1;
            rate.well += u64::from(well);
        }
    }

    /// Adds what came of others: those of an earlier process.
    pub fn add(&mut self, others: &Self) {
        for (key, other) in &others.0 {
            let rate = self.0.entry(*key).or_default();
            rate.of = rate.of.saturating_add(other.of);
            rate.well = rate.well.saturating_add(other.well).min(rate.of);
        }
    }

    /// What has come of anything so far, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Kind, Action, Rate)> {
        self.0.iter().map(|((kind, action), rate)| (*kind, *action, *rate))
    }

    pub(crate) fn set(&mut self, kind: Kind, action: Action, rate: Rate) {
        self.0.insert((kind, action), rate);
    }

    /// What was recorded to have gone well has been rolled back after all.
    pub fn take_back(&mut self, kind: Kind, action: Action) {
        if let Some(rate) = self.0.get_mut(&(kind, action)) {
            rate.well = rate.well.saturating_sub(1);
        }
    }

    /// How often the action went well on conflicts of this kind.
    pub fn rate(&self, kind: Kind, action: Action) -> Rate {
        self.0.get(&(kind, action)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_an_earlier_process_count_as_well() {
        let (mut now, mut before) = (Outcomes::default(), Outcomes::default());
        now.record(Kind::ApiChange, Action::UseLatest, true);
        before.record(Kind::ApiChange, Action::UseLatest, false);
        before.record(Kind::StateMachine, Action::UseLatest, false);
        now.add(&before);
        assert_eq!(now.rate(Kind::ApiChange, Action::UseLatest), Rate { well: 1, of: 2 });
        assert_eq!(now.rate(Kind::StateMachine, Action::UseLatest), Rate { well: 0, of: 1 });
        // So many that nobody counts on.
        let mut most = Outcomes::default();
        most.set(Kind::ApiChange, Action::UseLatest, Rate { well: u64::MAX, of: u64::MAX });
        now.add(&most);
        now.record(Kind::ApiChange, Action::UseLatest, false);
        assert_eq!(now.rate(Kind::ApiChange, Action::UseLatest).value(), 1.0);
    }

    #[test]
    fn a_rate_is_counted_and_never_claimed() {
        let mut outcomes = Outcomes::default();
        let rate = |outcomes: &Outcomes| outcomes.rate(Kind::ApiChange, Action::UseLatest);
        assert_eq!((rate(&outcomes), rate(&outcomes).value()), (Rate::default(), 0.0));
        for well in [true, true, false, true] {
            outcomes.record(Kind::ApiChange, Action::UseLatest, well);
        }
        assert_eq!((rate(&outcomes), rate(&outcomes).value()), (Rate { well: 3, of: 4 }, 0.75));
        outcomes.take_back(Kind::ApiChange, Action::UseLatest);
        assert_eq!(rate(&outcomes), Rate { well: 2, of: 4 });
        assert_eq!(outcomes.rate(Kind::ApiChange, Action::KeepCurrent), Rate::default());
        assert_eq!(outcomes.rate(Kind::MemoryLayout, Action::UseLatest), Rate::default());
        // What was never recorded cannot be taken back.
        outcomes.take_back(Kind::MemoryLayout, Action::UseLatest);
        assert_eq!(outcomes.rate(Kind::MemoryLayout, Action::UseLatest), Rate::default());
    }
}
