//! Frames that are held for long, or were never ended: in checked mode ([`crate::call::checks`])
//! each is reported once, when somebody publishes or collects.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::retirement::Retirement;
use crate::call::checks;
use crate::platform::threads::Holder;

/// What is known of the generations that somebody may be inside.
#[derive(Default)]
pub(super) struct Held {
    /// Those that were replaced, and when; ascending.
    replaced: VecDeque<(u64, Instant)>,
    /// The frames that were reported: the thread and its generation.
    reported: HashSet<(String, u64)>,
}

impl Held {
    /// A generation was replaced.
    pub(super) fn replace(&mut self, generation: u64, at: Instant) {
        if checks::are_on() {
            self.replaced.push_back((generation, at));
        }
    }

    /// Reports the threads that have been in a generation for `longest` since it was replaced.
    pub(super) fn look(&mut self, retirement: &Retirement, longest: Duration) {
        if self.replaced.is_empty() {
            return;
        }
        let held: Vec<u64> = retirement.held().collect();
        self.replaced.retain(|(generation, _)| held.binary_search(generation).is_ok());
        let is_late = |&&(_, at): &&(u64, Instant)| at.elapsed() >= longest;
        if self.replaced.front().filter(is_late).is_none() {
            return;
        }
        let holders = retirement.holders();
        let frame = |holder: &Holder| (holder.thread.clone(), holder.generation);
        let open: HashSet<_> = holders.iter().map(frame).collect();
        self.reported.retain(|reported| open.contains(reported));
        for holder in holders {
            let Some(&(_, at)) = self.replaced.iter().find(|(number, _)| *number == holder.generation) else {
                continue;
            };
            if at.elapsed() < longest || !self.reported.insert(frame(&holder)) {
                continue;
            }
            let Holder { thread, generation } = holder;
            let kept: Vec<String> = retirement.kept_by(generation).collect();
            let kept = if kept.is_empty() { "its table".into() } else { kept.join(", ") };
            checks::report(format_args!(
                "{thread} is inside a frame of generation {generation}, which was replaced {:.1} s ago: it calls what was current then, and \
                 keeps it in memory ({kept}). End each frame, on every way out of the code that began it",
                at.elapsed().as_secs_f64()
            ));
        }
    }
}
