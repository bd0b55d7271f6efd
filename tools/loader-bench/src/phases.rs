//! Where midflight's own time goes: medians of the phases that a publication reports, and of the
//! unloading.

use std::fmt;
use std::time::{Duration, Instant};

use midflight::{Publication, Runtime};

use crate::modules::Module;

const NAMES: [&str; 10] = [
    "read",
    "parse",
    "bind",
    "link",
    "seal",
    "register",
    "initialise",
    "other staging",
    "publish",
    "unload and free",
];

/// By module, the median of each phase in microseconds.
pub(crate) struct Table(Vec<(&'static str, Vec<f64>)>);

impl Table {
    /// Loads and unloads each module `rounds` times. Modules that fail have no row: the comparison
    /// says why.
    pub(crate) fn measure(rt: Runtime, modules: &[Module], rounds: usize) -> Self {
        let mut rows = Vec::new();
        for module in modules {
            let mut times = vec![Vec::with_capacity(rounds); NAMES.len()];
            for _ in 0..rounds {
                // SAFETY: nothing of it is called.
                let Ok(publication) = (unsafe { rt.load(&module.path) }) else { break };
                let begin = Instant::now();
                rt.unload("measured").expect("it was loaded just now");
                for (times, time) in times.iter_mut().zip(split(&publication, begin.elapsed())) {
                    times.push(time.as_secs_f64() * 1e6);
                }
            }
            if times[0].len() == rounds {
                rows.push((module.name, times.into_iter().map(median).collect()));
            }
        }
        Self(rows)
    }
}

/// In the order of [`NAMES`].
fn split(publication: &Publication, unload: Duration) -> [Duration; NAMES.len()] {
    let p = &publication.phases;
    let known = [p.read, p.parse, p.bind, p.link, p.seal, p.register, p.initialise];
    let other = publication.stage.saturating_sub(known.iter().sum());
    let [read, parse, bind, link, seal, register, initialise] = known;
    [read, parse, bind, link, seal, register, initialise, other, publication.publish, unload]
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{:18}", "medians, us")?;
        self.0.iter().try_for_each(|(module, _)| write!(f, "{module:>18}"))?;
        for (phase, name) in NAMES.iter().enumerate() {
            write!(f, "\n{name:18}")?;
            self.0.iter().try_for_each(|(_, medians)| write!(f, "{:>18.1}", medians[phase]))?;
        }
        writeln!(f)
    }
}
