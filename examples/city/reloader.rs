//! The thread that replaces the modules. It knows nothing of frames: it publishes when its time has
//! come, and whoever opens a frame after that finds the new code in it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use midflight::Runtime;

use crate::modules::Modules;
use crate::report::touched;
use crate::systems::{SYSTEMS, VERSIONS, VersionSet};
use crate::timeline::Timeline;

/// What the main thread tells the reloader to do next.
pub(crate) enum Order {
    /// Publish one version of all systems at once.
    Round(u8),
    /// Reload on the timeline's schedule, and report.
    Run(Timeline),
}

/// One publication of the run.
#[derive(Clone, Copy, Default)]
pub(crate) struct Reload {
    pub(crate) at: Duration,
    pub(crate) modules: usize,
    pub(crate) stage: Duration,
    pub(crate) publish: Duration,
}

/// Everything that was published.
pub(crate) struct Log {
    pub(crate) reloads: Vec<Reload>,
    pub(crate) failed: u32,
    /// The versions that each generation was published with.
    pub(crate) generations: HashMap<u64, VersionSet>,
}

pub(crate) struct Reloader<'a> {
    runtime: Runtime,
    modules: &'a Modules,
    every: Duration,
    current: VersionSet,
    log: Log,
    /// Publications so far, for the progress line.
    count: &'a AtomicU32,
}

impl<'a> Reloader<'a> {
    /// A reloader with room for all the records of a run of `reloads`, so that it does not grow on
    /// the way.
    pub(crate) fn new(
        runtime: Runtime,
        modules: &'a Modules,
        every: Duration,
        reloads: u32,
        count: &'a AtomicU32,
    ) -> Self {
        let reloads = reloads as usize;
        let mut generations: HashMap<_, _> = (0..2 * reloads as u64 + 8).map(|i| (i, [0; 4])).collect();
        generations.clear();
        let log = Log { reloads: touched(reloads), failed: 0, generations };
        Reloader { runtime, modules, every, current: VersionSet::default(), log, count }
    }

    /// Follows orders until there are no more. Answers each round when it is published.
    pub(crate) fn work(mut self, orders: &Receiver<Order>, done: &Sender<Result<(), String>>) -> Log {
        while let Ok(order) = orders.recv() {
            match order {
                Order::Round(version) => {
                    let set = [version; SYSTEMS.len()];
                    let answer = self.publish(&[0, 1, 2, 3], set).map(|_| ());
                    if done.send(answer).is_err() {
                        break;
                    }
                }
                Order::Run(timeline) => self.run(timeline),
            }
        }
        self.log
    }

    fn run(&mut self, timeline: Timeline) {
        let mut index = 0;
        while let Some(due) = timeline.reload_due(index, self.every) {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let (systems, set) = next(index, self.current);
            let at = timeline.start.elapsed();
            match self.publish(&systems, set) {
                Ok(reload) => {
                    self.log.reloads.push(Reload { at, ..reload });
                    self.count.fetch_add(1, Relaxed);
                }
                Err(error) => {
                    self.log.failed += 1;
                    eprintln!("reload {index} failed: {error}");
                }
            }
            index += 1;
        }
    }

    /// Loads and publishes the versions in `set` of the `systems`, together.
    fn publish(&mut self, systems: &[usize], set: VersionSet) -> Result<Reload, String> {
        let file = |&system: &usize| self.modules.file(system, set[system]);
        // SAFETY: we built these modules from sources that keep to the declarations in systems.rs.
        let published = unsafe { self.runtime.load_all(systems.iter().map(file)) };
        let published = published.map_err(|error| error.to_string())?;
        self.current = set;
        self.log.generations.insert(published.generation, set);
        // What earlier publications replaced and no frame can see any more goes now.
        self.runtime.collect().map_err(|error| error.to_string())?;
        Ok(Reload {
            at: Duration::ZERO,
            modules: systems.len(),
            stage: published.stage,
            publish: published.publish,
        })
    }
}

/// What reload number `index` publishes: mostly the next version of one system, in turn; every
/// fourth time of two, three or all four.
fn next(index: u32, mut set: VersionSet) -> (Vec<usize>, VersionSet) {
    let (index, all) = (index as usize, SYSTEMS.len());
    let count = if index % 4 == 3 { 2 + index / 4 % 3 } else { 1 };
    let systems: Vec<_> = (0..count).map(|i| (index + index / 4 + i) % all).collect();
    for &system in &systems {
        set[system] = set[system] % VERSIONS as u8 + 1;
    }
    (systems, set)
}
