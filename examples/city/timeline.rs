//! When what happens: the city runs idle (without reloads) and live (with them) by turns.
//!
//! A machine is not as fast in one second as in the next, and not every version takes as long as
//! another. So the run without reloads, which the one with them is measured against, is no run of
//! its own: the two take turns so short that whatever else goes on falls on both.

use std::time::{Duration, Instant};

/// Frames in a second of the city's time, and of ours when the machine keeps up.
pub(crate) const STEP: Duration = Duration::from_nanos(1_000_000_000 / 60);

/// How long a turn is: twelve frames.
pub(crate) const TURN: Duration = Duration::from_millis(200);

/// Which part of the run a frame belongs to.
#[derive(Clone, Copy, Default, PartialEq)]
pub(crate) enum Phase {
    /// Before the clock starts: memory is touched, every version runs once.
    #[default]
    WarmUp,
    /// Without reloads.
    Idle,
    /// With reloads.
    Live,
}

/// The run's clock: `seconds` of each phase, by turns, the first one idle.
#[derive(Clone, Copy)]
pub(crate) struct Timeline {
    pub(crate) start: Instant,
    pub(crate) seconds: u32,
}

impl Timeline {
    /// The phase at `since_start`, or `None` when the run is over.
    pub(crate) fn phase(self, since_start: Duration) -> Option<Phase> {
        let over = since_start.as_secs() >= 2 * u64::from(self.seconds);
        (!over).then_some([Phase::Idle, Phase::Live][turns(since_start) as usize % 2])
    }

    /// When reload number `index` is due. Counted in live time, reloads are evenly spaced, and the
    /// first and last keep half that space from the ends.
    pub(crate) fn reload_due(self, index: u32, every: Duration) -> Option<Instant> {
        let live = every * index + every / 2;
        let over = live.as_secs() >= u64::from(self.seconds);
        (!over).then(|| self.start + live + TURN * (turns(live) + 1))
    }

    /// How many reloads are due in all.
    pub(crate) fn reloads(self, every: Duration) -> u32 {
        (0..).take_while(|&index| self.reload_due(index, every).is_some()).count() as u32
    }
}

/// Whole turns in `time`.
fn turns(time: Duration) -> u32 {
    (time.as_nanos() / TURN.as_nanos()) as u32
}
