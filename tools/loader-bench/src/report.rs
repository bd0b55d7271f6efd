//! The results: medians, their ratios, the goals.

use std::fmt;

use crate::modules::Module;

/// The time of one load in microseconds, or why it failed.
pub(crate) type Outcome = Result<f64, String>;

/// Ours is the first of the loaders.
const OURS: usize = 0;

/// All times of all loaders, by module.
pub(crate) struct Report {
    loaders: [&'static str; 3],
    rows: Vec<Row>,
}

struct Row {
    name: &'static str,
    object: bool,
    bytes: u64,
    goal: bool,
    /// By loader.
    times: [Vec<f64>; 3],
    failures: [Option<String>; 3],
}

/// Our median against a peer's.
struct Comparison {
    name: &'static str,
    peer: &'static str,
    ours: Option<f64>,
    theirs: Option<f64>,
    /// The ratio must be at most this, if there is a goal.
    goal: Option<f64>,
}

impl Report {
    pub(crate) fn new(modules: &[Module], loaders: [&'static str; 3]) -> Self {
        let row = |module: &Module| Row {
            name: module.name,
            object: module.object,
            bytes: module.bytes,
            goal: module.goal,
            times: Default::default(),
            failures: Default::default(),
        };
        Self { loaders, rows: modules.iter().map(row).collect() }
    }

    pub(crate) fn add(&mut self, module: usize, loader: usize, outcome: Outcome) {
        let row = &mut self.rows[module];
        match outcome {
            Ok(time) => row.times[loader].push(time),
            Err(why) => _ = row.failures[loader].get_or_insert(why),
        }
    }

    fn comparisons(&self) -> Vec<Comparison> {
        let mut all = Vec::new();
        for row in &self.rows {
            let peers: &[_] = if row.object { &[(2, 0.5)] } else { &[(1, 0.5), (2, 1.0)] };
            for &(peer, goal) in peers {
                let (ours, theirs, goal) = (row.median(OURS), row.median(peer), row.goal.then_some(goal));
                all.push(Comparison { name: row.name, peer: self.loaders[peer], ours, theirs, goal });
            }
        }
        all
    }

    /// Whether every goal is.
    pub(crate) fn met(&self) -> bool {
        self.comparisons().iter().all(Comparison::met)
    }

    pub(crate) fn json(&self) -> String {
        let number = |value: Option<f64>| value.map_or("null".into(), |value| format!("{value:.3}"));
        let object = |c: &Comparison| {
            format!(
                r#"  {{"name": "load {}", "ours": {}, "peer": {}, "peer_name": "{}", "unit": "us", "ratio": {}, "goal": {}, "met": {}}}"#,
                c.name,
                number(c.ours),
                number(c.theirs),
                c.peer,
                number(c.ratio()),
                number(c.goal),
                c.met()
            )
        };
        let objects: Vec<_> = self.comparisons().iter().map(object).collect();
        format!("[\n{}\n]\n", objects.join(",\n"))
    }
}

impl Row {
    /// None if there is none, or if any load failed.
    fn median(&self, loader: usize) -> Option<f64> {
        if self.failures[loader].is_some() {
            return None;
        }
        let mut times = self.times[loader].clone();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied()
    }
}

impl Comparison {
    fn ratio(&self) -> Option<f64> {
        Some(self.ours? / self.theirs?)
    }

    /// A peer that cannot take the file sets no goal.
    fn met(&self) -> bool {
        let goal = self.goal.unwrap_or(f64::INFINITY);
        self.ours.is_some() && self.ratio().is_none_or(|ratio| ratio <= goal)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounds = self.rows[0].times[OURS].len();
        writeln!(f, "load + call + unload + free, medians of {rounds} loads each, microseconds")?;
        write!(f, "{:18}{:>10}", "", "bytes")?;
        for loader in self.loaders {
            write!(f, "{loader:>12}")?;
        }
        writeln!(f)?;
        for row in &self.rows {
            write!(f, "{:18}{:>10}", row.name, row.bytes)?;
            for loader in 0..self.loaders.len() {
                let cell = match row.median(loader) {
                    Some(median) => format!("{median:.1}"),
                    None if row.failures[loader].is_some() => "failed".into(),
                    None => "-".into(),
                };
                write!(f, "{cell:>12}")?;
            }
            writeln!(f)?;
        }
        for row in &self.rows {
            for (loader, failure) in self.loaders.iter().zip(&row.failures) {
                if let Some(why) = failure {
                    writeln!(f, "{} by {loader}: {why}", row.name)?;
                }
            }
        }
        writeln!(f, "\n{:18}{:24}{:>8}{:>8}", "", "midflight against", "ratio", "goal")?;
        for c in self.comparisons() {
            let ratio = c.ratio().map_or("-".into(), |ratio| format!("{ratio:.2}"));
            let met = if c.met() { "met" } else { "NOT MET" };
            let (goal, met) = c.goal.map_or(("-".into(), ""), |goal| (goal.to_string(), met));
            writeln!(f, "{:18}{:24}{ratio:>8}{goal:>8}  {met}", c.name, c.peer)?;
        }
        Ok(())
    }
}
