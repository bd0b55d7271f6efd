//! The results: percentiles, the table for a person, the JSON for a program, and the verdict.

use std::fmt;
use std::hint::black_box;

use crate::memory::Footprint;
use crate::timeline::TURN;

/// An empty buffer whose memory is there already, so that filling it costs no page fault and adds
/// nothing to what the runtime is measured by.
pub(crate) fn touched<T: Clone + Default>(capacity: usize) -> Vec<T> {
    let mut buffer = Vec::with_capacity(capacity);
    buffer.resize(capacity, T::default());
    black_box(&mut buffer);
    buffer.clear();
    buffer
}

/// What a set of times comes to.
#[derive(Clone, Copy, Default)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Percentiles {
    /// By nearest rank: each is a value that was measured. Zeros if nothing was.
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let rank = |share: f64| {
            let index = (share * sorted.len() as f64).ceil() as usize;
            sorted.get(index.saturating_sub(1)).copied().unwrap_or(0.0)
        };
        Percentiles { p50: rank(0.5), p99: rank(0.99), p999: rank(0.999), max: rank(1.0) }
    }

    fn json(&self) -> String {
        let Percentiles { p50, p99, p999, max } = self;
        format!(r#"{{"p50": {p50:.3}, "p99": {p99:.3}, "p999": {p999:.3}, "max": {max:.3}}}"#)
    }
}

/// Everything that a run shows.
pub(crate) struct Results {
    pub(crate) agents: u32,
    pub(crate) threads: u32,
    pub(crate) seconds: u32,
    pub(crate) frames: usize,
    pub(crate) frames_mixed: usize,
    pub(crate) reloads: usize,
    pub(crate) reloads_due: u32,
    pub(crate) reloads_several: usize,
    pub(crate) reloads_failed: u32,
    pub(crate) checksum: u64,
    pub(crate) checksum_replay: Option<u64>,
    pub(crate) frame_ms: Percentiles,
    pub(crate) frame_ms_idle: Percentiles,
    pub(crate) stage_us: Percentiles,
    pub(crate) publish_us: Percentiles,
    pub(crate) start: Footprint,
    pub(crate) end: Footprint,
    /// Whether times count.
    pub(crate) times: bool,
}

/// One line of the verdict.
pub(crate) struct Check {
    what: String,
    pub(crate) passed: bool,
    pub(crate) kind: Kind,
}

/// What a missed requirement says.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// The result is wrong: always a failure.
    Result,
    /// It costs more than it may: a failure where that is asked for.
    Cost,
    /// It takes longer than it may: likewise, on a machine whose times mean something.
    Time,
}

impl Results {
    fn checksum_ok(&self) -> bool {
        self.checksum_replay == Some(self.checksum)
    }

    /// The requirements, and which of them are met.
    pub(crate) fn checks(&self) -> Vec<Check> {
        let check = |kind, passed, what| Check { kind, passed, what };
        // The reloader may come a little late to the end of its schedule, but must not skip it.
        let wanted = f64::from(self.reloads_due) * 0.95;
        let ratio = self.frame_ms.p99 / self.frame_ms_idle.p99;
        let growth = self.end.rss_mb - self.start.rss_mb;
        vec![
            check(
                Kind::Result,
                self.frames_mixed == 0,
                format!("{} of {} frames mixed versions, none may", self.frames_mixed, self.frames),
            ),
            check(
                Kind::Result,
                self.checksum_ok(),
                match self.checksum_replay {
                    Some(replay) => {
                        format!("checksum {:016x}, and {replay:016x} without the runtime", self.checksum)
                    }
                    None => format!("checksum {:016x}; mixed frames cannot be replayed", self.checksum),
                },
            ),
            check(
                Kind::Result,
                self.reloads_failed == 0,
                format!("{} reloads failed, none may", self.reloads_failed),
            ),
            check(
                Kind::Cost,
                self.reloads as f64 >= wanted,
                format!("{} reloads of {} due, at least {wanted:.0} wanted", self.reloads, self.reloads_due),
            ),
            check(
                Kind::Cost,
                self.end.mappings <= self.start.mappings + 2,
                format!("{:+} mappings, at most +2", self.end.mappings as i64 - self.start.mappings as i64),
            ),
            check(Kind::Cost, growth <= 8.0, format!("{growth:+.1} MB resident, at most +8")),
            check(
                Kind::Time,
                self.publish_us.p99 <= 50.0,
                format!("publish p99 {:.1} us, at most 50", self.publish_us.p99),
            ),
            check(
                Kind::Time,
                ratio <= 1.10,
                format!("frame p99 {ratio:.3} of the idle frame p99, at most 1.10"),
            ),
        ]
    }

    /// The results as one JSON object.
    pub(crate) fn json(&self) -> String {
        let fields = [
            ("arch", format!("\"{}\"", std::env::consts::ARCH)),
            ("agents", self.agents.to_string()),
            ("threads", self.threads.to_string()),
            ("frames", self.frames.to_string()),
            ("frames_mixed", self.frames_mixed.to_string()),
            ("reloads", self.reloads.to_string()),
            ("reloads_failed", self.reloads_failed.to_string()),
            ("checksum_ok", self.checksum_ok().to_string()),
            ("frame_ms", self.frame_ms.json()),
            ("frame_ms_idle", self.frame_ms_idle.json()),
            ("stage_us", self.stage_us.json()),
            ("publish_us", self.publish_us.json()),
            ("rss_mb_start", format!("{:.2}", self.start.rss_mb)),
            ("rss_mb_end", format!("{:.2}", self.end.rss_mb)),
            ("mappings_start", self.start.mappings.to_string()),
            ("mappings_end", self.end.mappings.to_string()),
        ];
        let lines: Vec<_> = fields.iter().map(|(key, value)| format!("  \"{key}\": {value}")).collect();
        format!("{{\n{}\n}}\n", lines.join(",\n"))
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arch = std::env::consts::ARCH;
        let Results { agents, threads, seconds, start, end, .. } = self;
        writeln!(f, "\n{agents} agents, {threads} threads, {arch}.")?;
        let turn = TURN.as_millis();
        writeln!(f, "{seconds} s idle (without reloads) and {seconds} s live, in turns of {turn} ms.\n")?;
        writeln!(f, "{:18}{:>10}{:>10}{:>10}{:>10}", "", "p50", "p99", "p99.9", "max")?;
        for (name, row, digits) in [
            ("frame, idle   ms", &self.frame_ms_idle, 2),
            ("frame, live   ms", &self.frame_ms, 2),
            ("stage         us", &self.stage_us, 1),
            ("publish       us", &self.publish_us, 1),
        ] {
            let Percentiles { p50, p99, p999, max } = row;
            writeln!(f, "{name:18}{p50:>10.digits$}{p99:>10.digits$}{p999:>10.digits$}{max:>10.digits$}")?;
        }
        writeln!(f, "\n{:18}{:>10}{:>10}", "", "start", "end")?;
        writeln!(f, "{:18}{:>10.1}{:>10.1}", "resident      MB", start.rss_mb, end.rss_mb)?;
        writeln!(f, "{:18}{:>10}{:>10}", "mappings", start.mappings, end.mappings)?;
        let (all, several) = (self.reloads, self.reloads_several);
        writeln!(f, "\n{all} reloads, {several} of them of several modules at once.\n")?;
        for Check { what, passed, kind } in self.checks() {
            let verdict = match passed {
                _ if kind == Kind::Time && !self.times => "SKIP",
                true => "PASS",
                false => "FAIL",
            };
            writeln!(f, "{verdict}  {what}")?;
        }
        Ok(())
    }
}
