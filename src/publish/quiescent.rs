//! Freeing retained versions that no thread can be inside, by looking at the threads.

use std::io;
use std::ops::Range;
use std::time::Duration;

use super::retirement::{Collected, Retirement};
use crate::module::Version;
use crate::publish::quiescence::{self, Caller, Scan};

/// What a look at all threads has come to: see
/// [`Runtime::collect_quiescent`](crate::Runtime::collect_quiescent).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Quiescence {
    /// What was freed, and what is left.
    pub collected: Collected,
    /// The versions that were looked for and are kept.
    pub kept: Vec<Kept>,
    /// Threads that were looked at. None if there was nothing to look for.
    pub threads: usize,
    /// The longest that one of them was stopped: the time in its signal handler.
    pub longest_stop: Duration,
}

/// A retained version that may be in use.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Kept {
    /// The module.
    pub module: String,
    /// The number of its version.
    pub version: u64,
    /// The threads that have an address of it, or of which nothing is known, with the reason.
    pub because: Vec<String>,
}

impl Retirement {
    /// Takes out the retained versions that no thread has an address of, for [`Self::bury`].
    ///
    /// The publications that replaced them were made before this is called.
    pub(super) fn take_quiescent(&mut self, caller: &Caller<'_>) -> io::Result<(Vec<Version>, Quiescence)> {
        let mut report = Quiescence::default();
        let (opaque, retained): (Vec<_>, Vec<_>) =
            self.take_retained().into_iter().partition(|version| self.is_opaque(version.name()));
        self.retained = opaque;
        if retained.is_empty() {
            return Ok((retained, report));
        }
        // With variables and constants: whoever has a pointer to one may go on to use it.
        let ranges: Vec<Range<usize>> = retained.iter().map(Version::range).collect();
        let scan = match quiescence::scan(caller, &ranges, quiescence::LIMIT) {
            Ok(scan) => scan,
            Err(error) => {
                self.retained.extend(retained);
                return Err(error);
            }
        };
        (report.threads, report.longest_stop) = (scan.threads, scan.longest_stop);
        let mut free = Vec::new();
        for (range, version) in retained.into_iter().enumerate() {
            if scan.is_clear(range) {
                free.push(version);
                continue;
            }
            let because = reasons(&scan, range);
            report.kept.push(Kept { module: version.name().to_string(), version: version.number(), because });
            self.retained.push(version);
        }
        Ok((free, report))
    }

    /// Frees what only its handlers of signals kept, if those are gone and no thread is in one.
    /// Returns how many.
    pub(super) fn end_handled(&mut self, caller: &Caller<'_>) -> io::Result<usize> {
        let waiting: Vec<&Version> = self.lingering().filter(|version| version.waits_for_look()).collect();
        let ranges: Vec<Range<usize>> = waiting.iter().map(|version| version.range()).collect();
        if !ranges.is_empty() {
            let scan = quiescence::scan(caller, &ranges, quiescence::LIMIT)?;
            let clear = waiting.iter().enumerate().filter(|(range, _)| scan.is_clear(*range));
            clear.for_each(|(_, version)| version.was_looked_at());
        }
        Ok(self.end_lingering())
    }
}

fn reasons(scan: &Scan, range: usize) -> Vec<String> {
    let hits = scan.hits.iter().filter(|hit| hit.range == range);
    let hits = hits.map(|hit| format!("{} has an address of it", hit.thread));
    let suspended = scan.suspended.iter().filter(|(_, found)| *found == range);
    let suspended =
        suspended.map(|(stack, _)| format!("the stack of a fiber at {stack:#x?} has an address of it"));
    let missed = scan.missed.iter().map(|(thread, why)| format!("{thread} {why}"));
    let incomplete =
        (!scan.complete).then(|| "threads came and went faster than they could be listed".into());
    hits.chain(suspended).chain(missed).chain(incomplete).collect()
}
