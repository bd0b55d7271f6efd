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
        rate.of += 1;
        rate.well += u64::from(well);
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
