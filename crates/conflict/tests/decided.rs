//! What is decided: resolvers first, then the strategy, and what a confidence is.

use midflight_conflict::{
    Action, Answer, Conflict, Decider, Decision, Kind, Outcomes, Place, Request, Resolver, Severity,
    Strategy, decide,
};
use proptest::prelude::*;

const STRATEGIES: [Strategy; 7] = [
    Strategy::Default,
    Strategy::PreferLatest,
    Strategy::KeepCurrent,
    Strategy::ThreeWayMerge,
    Strategy::CompatibilityLayer,
    Strategy::Manual,
    Strategy::MlGuided,
];
const SEVERITIES: [Severity; 4] = [Severity::Low, Severity::Medium, Severity::High, Severity::Critical];

fn conflict(severity: Severity) -> Conflict {
    Conflict {
        severity,
        kind: Kind::FunctionSignature,
        module: "physics".into(),
        place: Place::default(),
        concerned: Vec::new(),
        message: "it is so".into(),
        proposal: "Do this".into(),
    }
}

fn by(strategy: Strategy, severity: Severity, prefer_latest: bool) -> Decision {
    let request = Request { strategy, auto_resolve: true, prefer_latest, ..Request::default() };
    decide(&conflict(severity), &request, &[], &Outcomes::default())
}

#[test]
fn what_each_strategy_does() {
    use Action::{KeepCurrent, Manual, UseLatest};
    for (strategy, prefer_latest, severity, action) in [
        (Strategy::Default, false, Severity::High, KeepCurrent),
        (Strategy::Default, true, Severity::High, UseLatest),
        (Strategy::Default, true, Severity::Critical, KeepCurrent),
        (Strategy::PreferLatest, false, Severity::High, UseLatest),
        (Strategy::PreferLatest, true, Severity::Critical, Manual),
        (Strategy::KeepCurrent, true, Severity::Low, KeepCurrent),
        (Strategy::ThreeWayMerge, true, Severity::High, Manual),
        (Strategy::CompatibilityLayer, true, Severity::High, Manual),
        (Strategy::Manual, true, Severity::Low, Manual),
        (Strategy::MlGuided, true, Severity::High, UseLatest),
        (Strategy::MlGuided, false, Severity::High, KeepCurrent),
    ] {
        let decision = by(strategy, severity, prefer_latest);
        assert_eq!(decision.action, action, "{strategy:?} {severity} {prefer_latest}");
        assert_eq!((decision.success, &decision.by), (action != Manual, &Decider::Strategy(strategy)));
        assert!(!decision.explanation.is_empty());
    }
    let request = Request { strategy: Strategy::CompatibilityLayer, has_adapter: true, ..Request::default() };
    let decision = decide(&conflict(Severity::High), &request, &[], &Outcomes::default());
    assert_eq!(decision.action, Action::UseCompatibilityLayer);
    assert!(by(Strategy::MlGuided, Severity::High, true).explanation.starts_with("there is no model"));
    assert!(by(Strategy::Manual, Severity::High, true).explanation.contains("Do this"));
}

#[test]
fn resolvers_are_asked_in_their_order_until_one_answers() {
    let asked = std::cell::RefCell::new(Vec::new());
    let note = |name: &'static str, answer: Option<Answer>| {
        let asked = &asked;
        move |_: &Conflict| {
            asked.borrow_mut().push(name);
            answer.clone()
        }
    };
    let answer = Answer { action: Action::UseCompatibilityLayer, success: true, confidence: 0.98 };
    let (first, second, third) =
        (note("first", None), note("second", Some(answer.clone())), note("third", Some(answer)));
    let resolvers: [Resolver<'_>; 3] = [("first", &first), ("second", &second), ("third", &third)];
    let request = Request { auto_resolve: true, confidence_threshold: 0.95, ..Request::default() };
    let decision = decide(&conflict(Severity::High), &request, &resolvers, &Outcomes::default());
    assert_eq!(*asked.borrow(), ["first", "second"]);
    assert_eq!(decision.by, Decider::Resolver("second".into()));
    assert_eq!((decision.action, decision.success), (Action::UseCompatibilityLayer, true));
    // It claims, and nothing is measured.
    assert_eq!((decision.claimed, decision.confidence(), decision.measured.of), (0.98, 0.0, 0));
    // Who has decided nothing has resolved nothing.
    for action in [Action::None, Action::Manual] {
        let nothing = move |_: &Conflict| Some(Answer { action, success: true, confidence: 1.0 });
        let decision = decide(&conflict(Severity::Low), &request, &[("n", &nothing)], &Outcomes::default());
        assert!(!decision.success && decision.action == action);
    }
    // Whoever passes leaves it to the strategy.
    let decision = decide(&conflict(Severity::High), &request, &resolvers[..1], &Outcomes::default());
    assert_eq!(decision.by, Decider::Strategy(Strategy::Default));
}

#[test]
fn what_is_measured_outweighs_what_is_claimed() {
    let sure = |_: &Conflict| Some(Answer { action: Action::UseLatest, success: true, confidence: 1.0 });
    let resolvers: [Resolver<'_>; 1] = [("sure", &sure)];
    let request = Request { auto_resolve: true, confidence_threshold: 0.6, ..Request::default() };
    let mut outcomes = Outcomes::default();
    let mut decided = |well: bool| {
        outcomes.record(Kind::FunctionSignature, Action::UseLatest, well);
        let decision = decide(&conflict(Severity::High), &request, &resolvers, &outcomes);
        (decision.success, decision.confidence(), decision.measured.of)
    };
    assert_eq!(decided(false), (false, 0.0, 1));
    assert_eq!(decided(true), (false, 0.5, 2));
    assert_eq!(decided(true), (true, 2.0 / 3.0, 3));
}

proptest! {
    #[test]
    fn nothing_stands_that_was_not_asked_for(
        strategy in proptest::sample::select(&STRATEGIES[..]),
        severity in proptest::sample::select(&SEVERITIES[..]),
        auto_resolve: bool,
        prefer_latest: bool,
        threshold in 0.0..=1.0f64,
        claims in proptest::option::of(proptest::num::f64::ANY),
        history in proptest::collection::vec(any::<bool>(), 0..5),
    ) {
        let request = Request { strategy, auto_resolve, confidence_threshold: threshold, prefer_latest, ..Request::default() };
        let mut outcomes = Outcomes::default();
        for well in &history {
            outcomes.record(Kind::FunctionSignature, Action::UseLatest, *well);
        }
        let claim = |_: &Conflict| {
            claims.map(|confidence| Answer { action: Action::UseLatest, success: true, confidence })
        };
        let resolvers: [Resolver<'_>; 1] = [("claims", &claim)];
        let decision = decide(&conflict(severity), &request, &resolvers, &outcomes);
        prop_assert!((0.0..=1.0).contains(&decision.claimed) && (0.0..=1.0).contains(&decision.confidence()));
        prop_assert!(!decision.success || auto_resolve);
        prop_assert!(!(decision.success && matches!(decision.action, Action::None | Action::Manual)));
        // By strategy, what cannot be loaded is not to be loaded.
        if claims.is_none() {
            prop_assert!(!(decision.action == Action::UseLatest && severity == Severity::Critical));
        }
        let sure = if decision.measured.of == 0 { decision.claimed } else { decision.confidence() };
        prop_assert!(!decision.success || sure >= threshold);
        let expected = if decision.action == Action::UseLatest { history.len() as u64 } else { 0 };
        prop_assert_eq!(decision.measured.of, expected);
    }
}
