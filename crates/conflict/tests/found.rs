//! Each kind of conflict: found, with its severity, place, those concerned, and its words.

use std::collections::{BTreeMap, BTreeSet};

use midflight_conflict::{Candidate, Conflict, Kind, Module, Need, Severity, Situation, find};
use midflight_interface::{Report, Verdict};

fn module(name: &str) -> Module {
    Module { name: name.into(), ..Module::default() }
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// One that exports these and calls those.
fn with(name: &str, exports: &[&str], calls: &[(&str, &str)]) -> Module {
    let calls = calls.iter().map(|(module, symbol)| ((*module).to_owned(), (*symbol).to_owned())).collect();
    Module { exports: names(exports), calls, ..module(name) }
}

fn need(module: &str, range: Option<&str>) -> Need {
    Need { module: module.into(), range: range.map(str::to_owned) }
}

fn candidate(module: Module) -> Candidate {
    Candidate {
        file: format!("lib{}.so", module.name),
        module,
        report: Report::bare([Verdict::Compatible; 3], None),
        places: BTreeMap::new(),
        adapted: BTreeMap::new(),
        promised: BTreeSet::new(),
        also_changed_by: Vec::new(),
        changed_since: None,
    }
}

fn found(loaded: &[Module], candidates: &[Candidate]) -> Vec<Conflict> {
    find(&Situation { loaded: loaded.to_vec(), candidates: candidates.to_vec() })
}

/// The only one.
#[track_caller]
fn one(loaded: &[Module], candidates: &[Candidate]) -> Conflict {
    let mut all = found(loaded, candidates);
    assert_eq!(all.len(), 1, "{all:#?}");
    all.remove(0)
}

#[track_caller]
fn is(conflict: &Conflict, kind: Kind, severity: Severity, concerned: &[&str], words: &str) {
    assert_eq!((conflict.kind, conflict.severity), (kind, severity), "{conflict}");
    assert_eq!(conflict.concerned, concerned, "{conflict}");
    assert!(conflict.message.contains(words), "`{words}` is not in `{conflict}`");
    assert!(!conflict.proposal.is_empty());
}

#[test]
fn what_fits_conflicts_with_nothing() {
    let loaded = [with("physics", &["step"], &[]), with("game", &["run"], &[("physics", "step")])];
    assert_eq!(found(&loaded, &[candidate(with("physics", &["step", "more"], &[]))]), []);
    assert_eq!(found(&[], &[candidate(with("physics", &["step"], &[]))]), []);
    assert_eq!(found(&loaded, &[]), []);
}

#[test]
fn who_is_given_an_adapter_does_not_come_by_it() {
    let loaded = [with("physics", &["step"], &[]), with("game", &[], &[("physics", "step")])];
    let mut new = candidate(with("physics", &[], &[]));
    new.adapted.insert("step".into(), "compat::step_old".into());
    let words = "game is given what does as before (compat::step_old)";
    is(&one(&loaded, std::slice::from_ref(&new)), Kind::ApiChange, Severity::Low, &["game"], words);
    // Of nobody it is said as ever.
    let gone = one(&loaded[..1], &[new]);
    assert!(gone.message.contains("which nobody calls"), "{gone}");
}

#[test]
fn a_function_that_is_gone_concerns_whoever_calls_it() {
    let loaded = [
        with("physics", &["step", "spin", "stop"], &[]),
        with("game", &[], &[("physics", "step")]),
        with("sound", &[], &[("physics", "step"), ("other", "spin")]),
    ];
    let mut new = candidate(with("physics", &["stop"], &[]));
    new.promised = names(&["step"]);
    let all = found(&loaded, std::slice::from_ref(&new));
    assert_eq!(all.len(), 2, "{all:#?}");
    let callers = [Conflict::PROGRAM, "game", "sound"];
    is(
        &all[0],
        Kind::ApiChange,
        Severity::Critical,
        &callers,
        "`step` is gone, and the program, game and sound call it",
    );
    assert_eq!(
        (&*all[0].module, &*all[0].place.symbol, &*all[0].place.file),
        ("physics", "step", "libphysics.so")
    );
    is(&all[1], Kind::ApiChange, Severity::Low, &[], "`spin` is gone, which nobody calls");
    // Whoever is replaced with it is not bound yet, and so is not concerned.
    let with_callers = [new, candidate(module("game")), candidate(module("sound"))];
    is(
        &found(&loaded, &with_callers)[0],
        Kind::ApiChange,
        Severity::Critical,
        &[Conflict::PROGRAM],
        "calls it",
    );
}

#[test]
fn what_the_program_was_promised_need_not_have_been_there() {
    let mut new = candidate(with("physics", &[], &[]));
    new.promised = names(&["step"]);
    is(&one(&[], &[new]), Kind::ApiChange, Severity::Critical, &[Conflict::PROGRAM], "`step` is gone");
}

#[test]
fn dependencies_that_are_missing_or_of_another_version() {
    let mut user = module("game");
    user.needs = vec![need("sky", None), need("terrain", Some(">=2.1, <3"))];
    let terrain = |declared: &str| Module { declared: Some(declared.into()), ..module("terrain") };
    let sky = module("sky");
    let missing = one(&[terrain("2.4")], &[candidate(user.clone())]);
    is(&missing, Kind::DependencyChain, Severity::Critical, &["sky"], "needs the module `sky`");

    let loaded = [sky.clone(), terrain("3.0.1")];
    let wrong = one(&loaded, &[candidate(user.clone())]);
    is(
        &wrong,
        Kind::DependencyChain,
        Severity::Critical,
        &["terrain"],
        "game needs terrain in a version of `>=2.1, <3`, and it is version 3.0.1",
    );
    // The other way round, and both at once.
    let loaded = [sky, terrain("2.4"), user.clone()];
    let wrong = one(&loaded, &[candidate(terrain("3.0"))]);
    is(&wrong, Kind::DependencyChain, Severity::Critical, &["game"], "it is version 3.0");
    user.needs = vec![need("terrain", Some("3"))];
    assert_eq!(found(&loaded, &[candidate(terrain("3.1")), candidate(user)]), []);
    let odd = one(&loaded, &[candidate(terrain("r17"))]);
    is(&odd, Kind::DependencyChain, Severity::Critical, &["game"], "`r17` is not of the form 1.2.3");
}

#[test]
fn modules_that_come_to_need_each_other() {
    let needing = |name: &str, needs: &[&str]| Module {
        needs: needs.iter().map(|other| need(other, None)).collect(),
        ..module(name)
    };
    let loaded = [needing("a", &["b"]), needing("b", &["c"]), needing("c", &[])];
    let circle = one(&loaded, &[candidate(needing("c", &["a"]))]);
    is(&circle, Kind::DependencyChain, Severity::Low, &["a", "b"], "a, b and c need each other");
    // One that was there before is not said again.
    let loaded = [needing("a", &["b"]), needing("b", &["a"])];
    assert_eq!(found(&loaded, &[candidate(needing("a", &["b"]))]), []);
    // A module may say that it needs itself.
    assert_eq!(found(&[], &[candidate(needing("a", &["a"]))]), []);
}

#[test]
fn a_name_that_two_modules_export() {
    let loaded = [with("a", &["draw", "module_init"], &[]), with("user", &[], &[("a", "draw")])];
    let twice = one(&loaded, &[candidate(with("b", &["draw", "module_init"], &[]))]);
    is(&twice, Kind::ApiChange, Severity::High, &["a", "user"], "the next version of user will be refused");
    let twice = one(&loaded[..1], &[candidate(with("b", &["draw"], &[]))]);
    is(&twice, Kind::ApiChange, Severity::Low, &["a"], "`draw` is exported by a too");
    // What was so before is not said again; nor what every user of a header has.
    let both = [loaded[0].clone(), with("b", &["draw"], &[])];
    assert_eq!(found(&both, &[candidate(with("b", &["draw"], &[]))]), []);
    let inline = [with("a", &["_ZN1xC2Ev"], &[])];
    assert_eq!(found(&inline, &[candidate(with("b", &["_ZN1xC2Ev"], &[]))]), []);
}

#[test]
fn resources_that_two_modules_want_alone() {
    let with = |name: &str, exclusive: &[&str]| Module { exclusive: names(exclusive), ..module(name) };
    let loaded = [with("sound", &["audio device", "port 4000"]), with("net", &["port 4001"])];
    let both = one(&loaded, &[candidate(with("music", &["audio device", "gpu"]))]);
    is(&both, Kind::ResourceAccess, Severity::High, &["sound"], "`audio device` is sound's alone");
    assert_eq!(found(&loaded, &[candidate(with("sound", &["audio device"]))]), [], "its own next version");
}

#[test]
fn changes_of_somebody_else() {
    let mut new = candidate(module("physics"));
    new.also_changed_by = vec!["transaction 7".into()];
    let other = one(&[], &[new.clone()]);
    is(
        &other,
        Kind::ConcurrentModification,
        Severity::High,
        &["transaction 7"],
        "also being changed by transaction 7",
    );
    new.also_changed_by.clear();
    new.changed_since = Some("it is version 4 now".into());
    is(
        &one(&[], &[new]),
        Kind::ConcurrentModification,
        Severity::High,
        &[],
        "changed after you looked: it is version 4 now",
    );
}

#[test]
fn versions_that_do_not_say_what_has_changed() {
    let physics = |declared: &str| Module { declared: Some(declared.into()), ..module("physics") };
    let told = |was: &str, is: &str, breaks: bool| {
        let mut new = candidate(physics(is));
        if breaks {
            new.report =
                Report::bare([Verdict::Compatible, Verdict::Incompatible, Verdict::Compatible], None);
        }
        found(&[physics(was)], &[new]).into_iter().map(|conflict| conflict.message).collect::<Vec<_>>()
    };
    assert_eq!(told("1.2", "1.2", false), [""; 0]);
    assert!(told("1.2", "1.2", true)[0].contains("its interface is another"));
    assert!(told("dev", "dev", true)[0].contains("its interface is another"));
    assert!(told("1.2", "1.1.9", false)[0].contains("older than 1.2"));
    assert!(told("1.2", "1.3", true)[0].contains("fits whoever uses 1.2"));
    // Before 1.0 everything may change, and at the next whole number.
    for (was, is) in [("0.2", "0.3"), ("1.9", "2.0"), ("dev", "1.0")] {
        assert_eq!(told(was, is, true), [""; 0]);
    }
}

#[test]
fn the_gravest_comes_first_and_none_twice() {
    let loaded = [with("physics", &["a", "b"], &[]), with("game", &[], &[("physics", "b")])];
    let mut new = candidate(Module { needs: vec![need("sky", None)], ..with("physics", &[], &[]) });
    new.also_changed_by = vec!["t".into()];
    let all = found(&loaded, &[new]);
    let severities: Vec<_> = all.iter().map(|conflict| conflict.severity).collect();
    assert!(severities.is_sorted_by(|a, b| a >= b) && severities.len() == 4, "{all:#?}");
    assert_eq!(all[0].kind, Kind::ApiChange);
    let mut once = all.clone();
    once.dedup();
    assert_eq!(once, all);
}
