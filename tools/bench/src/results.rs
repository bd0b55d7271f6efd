//! One comparison, and how it is said.

use serde::Serialize;

/// What a ratio, or a figure without a peer, is held to.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
    /// The peer's figure itself.
    Equal,
    /// It is there to be known.
    None,
}

#[derive(Serialize)]
pub(crate) struct Comparison {
    pub(crate) name: String,
    /// None if it could not be measured.
    pub(crate) ours: Option<f64>,
    /// None for a figure that is held to a goal by itself.
    pub(crate) peer: Option<f64>,
    pub(crate) peer_name: String,
    pub(crate) unit: &'static str,
    pub(crate) ratio: Option<f64>,
    #[serde(serialize_with = "number")]
    pub(crate) goal: Goal,
    pub(crate) met: bool,
}

impl Comparison {
    pub(crate) fn new(
        name: impl Into<String>,
        unit: &'static str,
        ours: f64,
        (peer_name, peer): (&str, f64),
        goal: Goal,
    ) -> Self {
        let met = goal.met(ours / peer);
        Self {
            name: name.into(),
            ours: Some(ours),
            peer: Some(peer),
            peer_name: peer_name.into(),
            unit,
            ratio: Some(ours / peer),
            goal,
            met,
        }
    }

    /// A figure with no peer.
    pub(crate) fn alone(name: impl Into<String>, unit: &'static str, ours: f64, goal: Goal) -> Self {
        let (ours, met) = (Some(ours), goal.met(ours));
        Self { name: name.into(), ours, peer: None, peer_name: String::new(), unit, ratio: None, goal, met }
    }

    /// What could not be measured is not met.
    pub(crate) fn failed(name: &str) -> Self {
        let (ours, peer, ratio, goal) = (None, None, None, Goal::None);
        Self { name: name.into(), ours, peer, peer_name: String::new(), unit: "", ratio, goal, met: false }
    }

    /// A line of the table.
    pub(crate) fn line(&self) -> String {
        let met = match (self.goal, self.met) {
            (_, false) => "NOT MET",
            (Goal::None, true) => "",
            (_, true) => "met",
        };
        let ratio = self.ratio.map_or(String::new(), |ratio| format!("{ratio:.3}"));
        format!(
            "{:58}{:>12} {:>12} {:7}{:>8} {:>9}  {:8}{}",
            self.name,
            figure(self.ours),
            figure(self.peer),
            self.unit,
            ratio,
            self.goal.text(),
            met,
            self.peer_name
        )
    }

    pub(crate) fn heading() -> String {
        format!(
            "{:58}{:>12} {:>12} {:7}{:>8} {:>9}  {:8}{}",
            "", "ours", "peer", "unit", "ratio", "goal", "", "peer"
        )
    }
}

impl Goal {
    fn met(self, figure: f64) -> bool {
        match self {
            Goal::AtMost(most) => figure <= most,
            Goal::AtLeast(least) => figure >= least,
            Goal::Equal => figure == 1.0,
            Goal::None => true,
        }
    }

    pub(crate) fn value(self) -> Option<f64> {
        match self {
            Goal::AtMost(goal) | Goal::AtLeast(goal) => Some(goal),
            Goal::Equal => Some(1.0),
            Goal::None => None,
        }
    }

    fn text(self) -> String {
        match self {
            Goal::AtMost(most) => format!("<= {most}"),
            Goal::AtLeast(least) => format!(">= {least}"),
            Goal::Equal => "equal".into(),
            Goal::None => "-".into(),
        }
    }
}

fn number<S: serde::Serializer>(goal: &Goal, serializer: S) -> Result<S::Ok, S::Error> {
    goal.value().serialize(serializer)
}

/// Three digits at least.
fn figure(value: Option<f64>) -> String {
    match value {
        None => String::new(),
        Some(value) if value >= 1000.0 => format!("{value:.0}"),
        Some(value) if value >= 100.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}

pub(crate) fn median(samples: &[f64]) -> f64 {
    let mut samples = samples.to_vec();
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}
