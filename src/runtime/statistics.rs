//! How loads went.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::Event;
use crate::publish::load::Figures;

/// How the loads since the runtime's start, or its last [`shutdown`](crate::Runtime::shutdown),
/// went.
#[derive(Clone, PartialEq, Debug, Default)]
#[non_exhaustive]
pub struct Statistics {
    /// Modules that were published: each of a common publication counts.
    pub loaded: u64,
    /// Modules that were not, because the load failed.
    pub failed: u64,
    /// Of the failed ones, those that were published and rolled back by themselves.
    pub rolled_back: u64,
    /// Of successful loads, from the call to its end.
    pub reload: Times,
    /// From the call to everything linked and initialised
    /// ([`Publication::stage`](crate::Publication::stage)).
    pub stage: Times,
    /// [`Publication::publish`](crate::Publication::publish).
    pub publish: Times,
    /// Files that were validated and whose content was known.
    pub cache_hits: u64,
    /// Files that were validated and had to be read for it.
    pub cache_misses: u64,
    /// The current generation.
    pub generation: u64,
    /// How many modules it has.
    pub modules: usize,
    /// How many files are watched.
    pub watched: usize,
    /// Code memory of the current versions, in bytes.
    pub current_bytes: usize,
    /// Code memory of the versions that were replaced and are not free, in bytes.
    pub old_bytes: usize,
    /// Of it, that of the versions that may be called outside frames.
    pub retained_bytes: usize,
}

impl Statistics {
    pub(crate) fn add(&mut self, figures: Figures) {
        let Figures { generation, modules, current_bytes, old_bytes, retained_bytes } = figures;
        (self.generation, self.modules) = (generation, modules);
        (self.current_bytes, self.old_bytes, self.retained_bytes) =
            (current_bytes, old_bytes, retained_bytes);
    }
}

/// The distribution of a time. All zero if nothing was measured; percentiles within 1 %.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Times {
    /// How many were measured.
    pub count: u64,
    /// The mean.
    pub mean: Duration,
    /// The median.
    pub p50: Duration,
    /// 95 % took at most this.
    pub p95: Duration,
    /// 99 % took at most this.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

/// What is noted of each load.
pub(crate) struct Recorder {
    loaded: u64,
    failed: u64,
    rolled_back: u64,
    reload: Histogram<u32>,
    stage: Histogram<u32>,
    publish: Histogram<u32>,
}

impl Default for Recorder {
    fn default() -> Self {
        let (reload, stage, publish) = (histogram(), histogram(), histogram());
        Self { loaded: 0, failed: 0, rolled_back: 0, reload, stage, publish }
    }
}

/// Within 1 %, up to an hour, which longer times count as. All its memory is there from the
/// beginning: 20 KiB.
fn histogram() -> Histogram<u32> {
    const HOUR: u64 = 3_600_000_000_000;
    Histogram::new_with_bounds(1, HOUR, 2).expect("these bounds are allowed")
}

impl Recorder {
    /// Notes a load that has ended.
    pub(crate) fn note(&mut self, event: &Event<'_>) {
        match event {
            Event::Published { publication, took, .. } => {
                let times = publication.modules.len() as u32;
                self.loaded += u64::from(times);
                record(&mut self.reload, times, *took);
                record(&mut self.stage, times, publication.stage);
                record(&mut self.publish, times, publication.publish);
            }
            Event::Refused { files, .. } => self.failed += files.len() as u64,
            Event::Damaged { publication, .. } => self.failed += publication.modules.len() as u64,
            Event::RolledBack { damaged: Some((publication, _)), .. } => {
                self.failed += publication.modules.len() as u64;
                self.rolled_back += publication.modules.len() as u64;
            }
            // What was asked for is no load.
            Event::RolledBack { damaged: None, .. } | Event::NotRolledBack { .. } => {}
            Event::Unloaded { .. } | Event::Retained(_) | Event::Retired(_) | Event::Stopped { .. } => {}
            Event::Watched { .. } | Event::Unwatched { .. } | Event::WatchFailed { .. } => {}
        }
    }

    /// What it has, and nothing of what others know.
    pub(crate) fn statistics(&self) -> Statistics {
        Statistics {
            loaded: self.loaded,
            failed: self.failed,
            rolled_back: self.rolled_back,
            reload: Times::of(&self.reload),
            stage: Times::of(&self.stage),
            publish: Times::of(&self.publish),
            ..Statistics::default()
        }
    }
}

fn record(histogram: &mut Histogram<u32>, times: u32, took: Duration) {
    let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    histogram.saturating_record_n(took, times);
}

impl Times {
    fn of(histogram: &Histogram<u32>) -> Self {
        let below = |percent| Duration::from_nanos(histogram.value_at_percentile(percent));
        match histogram.len() {
            0 => Self::default(),
            count => Self {
                count,
                mean: Duration::from_nanos(histogram.mean() as u64),
                p50: below(50.0),
                p95: below(95.0),
                p99: below(99.0),
                max: Duration::from_nanos(histogram.max()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_one_percent() {
        let mut histogram = histogram();
        (1..=1000).for_each(|us| record(&mut histogram, 1, Duration::from_micros(us)));
        let times = Times::of(&histogram);
        assert_eq!(times.count, 1000);
        for (found, us) in
            [(times.p50, 500), (times.p95, 950), (times.p99, 990), (times.max, 1000), (times.mean, 500)]
        {
            let error = found.as_nanos() as f64 / (us as f64 * 1000.0);
            assert!((0.99..=1.011).contains(&error), "{found:?} is to be {us} us");
        }
        record(&mut histogram, 3, Duration::MAX);
        assert_eq!(Times::of(&histogram).count, 1003);
    }

    #[test]
    fn nothing_measured_is_nothing() {
        assert_eq!(Recorder::default().statistics(), Statistics::default());
    }
}
