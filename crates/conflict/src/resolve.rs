//! What is done about a conflict.

use std::fmt;

use crate::{Conflict, Kind, Outcomes, Rate, Severity};

/// How a conflict is to be resolved. The numbers are those of the C API (`RESOLUTION_STRATEGY_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
#[repr(i32)]
pub enum Strategy {
    /// As [`Request::prefer_latest`] says.
    #[default]
    Default = 0,
    /// The candidate is loaded.
    PreferLatest = 1,
    /// What is loaded stays.
    KeepCurrent = 2,
    /// Two changes of the set of modules are merged ([`merge`](crate::merge())).
    ThreeWayMerge = 3,
    /// Old callers are given functions that do as the old ones.
    CompatibilityLayer = 4,
    /// A person decides.
    Manual = 5,
    /// A model that has learned from outcomes. There is none: it is said, and done as by
    /// [`Strategy::Default`].
    MlGuided = 6,
}

/// What is done. The numbers are those of the C API (`RESOLUTION_ACTION_*`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
#[repr(i32)]
pub enum Action {
    /// Nothing: nothing was decided.
    #[default]
    None = 0,
    /// The candidate is loaded.
    UseLatest = 1,
    /// The candidate is not loaded.
    KeepCurrent = 2,
    /// The merged set is loaded.
    Merge = 3,
    /// The candidate is loaded, with functions for old callers.
    UseCompatibilityLayer = 4,
    /// A person decides.
    Manual = 5,
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Request {
    /// How it is to be resolved.
    pub strategy: Strategy,
    /// A decision may stand without a person. If not, what would be done is said, and that it is
    /// not done.
    pub auto_resolve: bool,
    /// A decision stands by itself if this share of earlier ones went well, from 0.0 to 1.0; or,
    /// as long as none is known, if who decided claims so much. 0.0: always.
    pub confidence_threshold: f64,
    /// Where the strategy leaves it open: the candidate, rather than what is loaded.
    pub prefer_latest: bool,
    /// The function that it is about has an adapter for old callers. The runtime sets it.
    pub has_adapter: bool,
}

/// What a resolver says.
#[derive(Clone, PartialEq, Debug)]
pub struct Answer {
    /// What is to be done.
    pub action: Action,
    /// Whether that resolves it.
    pub success: bool,
    /// How sure it says it is, from 0.0 to 1.0.
    pub confidence: f64,
}

/// Somebody who is asked before the strategy is: its name, and what it says of a conflict. None:
/// the next is asked.
pub type Resolver<'r> = (&'r str, &'r dyn Fn(&Conflict) -> Option<Answer>);

/// Who has decided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decider {
    /// A registered resolver, by its name.
    Resolver(String),
    /// The strategy.
    Strategy(Strategy),
}

/// What was decided.
#[derive(Clone, PartialEq, Debug)]
pub struct Decision {
    /// What is to be done.
    pub action: Action,
    /// The decision stands: nobody else need be asked.
    pub success: bool,
    /// Who has decided.
    pub by: Decider,
    /// How often the action went well on conflicts of this kind.
    pub measured: Rate,
    /// What a resolver has claimed; 0.0 of a strategy, which claims nothing.
    pub claimed: f64,
    /// Why, in plain words.
    pub explanation: String,
}

impl Decision {
    /// The measured share of times that it went well: 0.0 if there were none.
    pub fn confidence(&self) -> f64 {
        self.measured.value()
    }
}

/// Decides about a conflict: the resolvers are asked in their order, and then the strategy.
pub fn decide(
    conflict: &Conflict,
    request: &Request,
    resolvers: &[Resolver<'_>],
    known: &Outcomes,
) -> Decision {
    let answered = resolvers.iter().find_map(|(name, ask)| Some((*name, ask(conflict)?)));
    let mut decision = match answered {
        Some((name, answer)) => {
            let claims = answer.confidence;
            Decision {
                action: answer.action,
                success: answer.success && !matches!(answer.action, Action::None | Action::Manual),
                by: Decider::Resolver(name.to_owned()),
                measured: Rate::default(),
                claimed: if claims.is_finite() { claims.clamp(0.0, 1.0) } else { 0.0 },
                explanation: format!("the resolver {name} has decided: {}", answer.action),
            }
        }
        None => {
            let (action, explanation) = by_strategy(conflict, request);
            Decision {
                action,
                success: action != Action::Manual,
                by: Decider::Strategy(request.strategy),
                measured: Rate::default(),
                claimed: 0.0,
                explanation,
            }
        }
    };
    decision.measured = known.rate(conflict.kind, decision.action);
    if decision.success && !request.auto_resolve {
        decision.success = false;
        decision.explanation += "; it is not done by itself, as auto_resolve is off";
    }
    let known = decision.measured.of;
    let confidence = if known == 0 { decision.claimed } else { decision.confidence() };
    if decision.success && confidence < request.confidence_threshold {
        decision.success = false;
        let share = match known {
            0 => "nothing is known of how that goes".to_owned(),
            _ => format!("that went well {} of {known} times", decision.measured.well),
        };
        decision.explanation +=
            &format!("; {share}, and a confidence of {} was asked for", request.confidence_threshold);
    }
    decision
}

fn by_strategy(conflict: &Conflict, request: &Request) -> (Action, String) {
    let open = |why: &str| {
        let latest = request.prefer_latest && conflict.severity < Severity::Critical;
        let (action, what) = match latest {
            true => (Action::UseLatest, "the candidate is preferred"),
            false if request.prefer_latest => {
                (Action::KeepCurrent, "what is loaded stays, as the candidate cannot be loaded")
            }
            false => (Action::KeepCurrent, "what is loaded stays"),
        };
        (action, format!("{why}{what}"))
    };
    match request.strategy {
        Strategy::Default => open(""),
        Strategy::MlGuided => open("there is no model that has learned from outcomes; without one "),
        Strategy::PreferLatest if conflict.severity == Severity::Critical => {
            (Action::Manual, format!("it cannot be loaded as it is. {}", conflict.proposal))
        }
        Strategy::PreferLatest => (Action::UseLatest, "the candidate is preferred".into()),
        Strategy::KeepCurrent => (Action::KeepCurrent, "what is loaded stays".into()),
        Strategy::ThreeWayMerge if conflict.kind == Kind::ConcurrentModification => {
            (Action::Manual, format!("both sides have changed {} in different ways", conflict.module))
        }
        Strategy::ThreeWayMerge => {
            (Action::Manual, format!("there are no two changes to merge: it is a {}", conflict.kind))
        }
        Strategy::CompatibilityLayer if request.has_adapter => {
            (Action::UseCompatibilityLayer, "old callers are given the adapter that is registered".into())
        }
        Strategy::CompatibilityLayer => {
            (Action::Manual, "no function is registered that does as the old one for old callers".into())
        }
        Strategy::Manual => (Action::Manual, format!("a person decides. {}", conflict.proposal)),
    }
}

impl Action {
    /// All actions, by their numbers.
    pub const ALL: [Self; 6] = [
        Self::None,
        Self::UseLatest,
        Self::KeepCurrent,
        Self::Merge,
        Self::UseCompatibilityLayer,
        Self::Manual,
    ];
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "nothing",
            Self::UseLatest => "load the candidate",
            Self::KeepCurrent => "keep what is loaded",
            Self::Merge => "merge both changes",
            Self::UseCompatibilityLayer => "give old callers functions of their own",
            Self::Manual => "ask a person",
        })
    }
}
