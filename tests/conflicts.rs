//! What conflicts with what is loaded, on real modules: found before anything is published, resolved,
//! and counted. `crates/conflict` has the rules, and their tests.

mod support;

use std::path::{Path, PathBuf};

use midflight::conflict::{Action, Answer, Conflict, Decider, Kind, Outcomes, Request, Severity, Strategy};
use midflight::{ConflictMode, Conflicts, Error, ErrorKind, LoadOptions, Publication, Runtime, View};
use support::{Workshop, start};

const PHYSICS: &str = "struct body { float x, v; int id; };
                       int step(struct body *b) { b->x += b->v; return b->id; }
                       int twice(int x) { return 2 * x; }";
/// Calls both.
const GAME: &str = "struct body { float x, v; int id; }; int step(struct body *); int twice(int);
                    int run(struct body *b) { return step(b) + twice(1); }";

fn module(shop: &Workshop, name: &str, version: u32, source: &str) -> PathBuf {
    let include = format!("-I{}/include", env!("CARGO_MANIFEST_DIR"));
    // What another module defines is found when it is loaded.
    shop.module_for(std::env::consts::ARCH, name, version, source, &["-g", &include])
}

/// One that says what it is and needs.
fn saying(shop: &Workshop, file: (&str, u32), name: &str, version: &str, rest: &str) -> PathBuf {
    let source =
        format!("#include \"runtime_module.h\"\nRUNTIME_MODULE(\"{name}\", \"{version}\")\n{rest}\n");
    module(shop, file.0, file.1, &source)
}

fn load_with(rt: Runtime, path: &Path, options: &LoadOptions<'_>) -> Result<Publication, Error> {
    // SAFETY: the tests' modules are sound.
    unsafe { rt.load_with([path], options) }
}

fn load(rt: Runtime, path: &Path) {
    load_with(rt, path, &LoadOptions::new()).unwrap();
}

fn conflicts(rt: Runtime, path: &Path) -> Conflicts {
    rt.conflicts([path], &View::new()).unwrap()
}

fn of(conflicts: &Conflicts, kind: Kind) -> &Conflict {
    let of_kind: Vec<_> = conflicts.found.iter().filter(|conflict| conflict.kind == kind).collect();
    assert_eq!(of_kind.len(), 1, "{conflicts}");
    of_kind[0]
}

/// A runtime that keeps files, with physics and the game that calls it.
fn playing(name: &str) -> Option<(Runtime, Workshop, impl Drop)> {
    let (rt, shop, turn) = start(name);
    rt.shutdown().unwrap();
    if support::is_macho() {
        // Of Mach-O files signatures and layouts are not known: docs/macos.md.
        return None;
    }
    rt.set_keep_files(true);
    load(rt, &module(&shop, "physics", 1, PHYSICS));
    load(rt, &module(&shop, "game", 1, GAME));
    Some((rt, shop, turn))
}

#[test]
fn a_function_that_another_module_calls_is_gone() {
    let (rt, shop, _turn) = start("conflicts_gone");
    rt.shutdown().unwrap();
    load(rt, &module(&shop, "physics", 1, PHYSICS));
    load(rt, &module(&shop, "game", 1, GAME));
    let without = module(&shop, "physics", 2, &PHYSICS.replace("twice", "thrice"));
    let before = rt.system_state().unwrap().generation;
    let found = conflicts(rt, &without);
    let gone = of(&found, Kind::ApiChange);
    assert_eq!((gone.severity, &*gone.place.symbol), (Severity::Critical, "twice"), "{found}");
    assert_eq!(gone.concerned, ["game"]);
    assert_eq!((found.generation, rt.system_state().unwrap().generation), (before, before));
    // That is what a load says, in whichever mode.
    let refused = load_with(rt, &without, &LoadOptions::new()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Incompatible, "{refused}");
    for mode in [ConflictMode::Refuse, ConflictMode::PreferLatest] {
        let refused = load_with(rt, &without, &LoadOptions::new().conflicts(mode)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
        assert!(refused.to_string().contains("`twice` is gone, and game calls it"), "{refused}");
        assert_eq!(refused.path(), Some(&*without));
    }
    // With the caller in one publication there is none.
    let caller = module(&shop, "game", 2, &GAME.replace("twice", "thrice"));
    let both = rt.conflicts([&without, &caller], &View::new()).unwrap();
    assert!(both.found.iter().all(|conflict| conflict.severity == Severity::Low), "{both}");
    // SAFETY: the tests' modules are sound.
    unsafe { rt.load_with([without, caller], &LoadOptions::new().conflicts(ConflictMode::Refuse)) }.unwrap();
}

#[test]
fn a_signature_that_another_module_was_compiled_against() {
    let Some((rt, shop, _turn)) = playing("conflicts_signature") else { return };
    let other = PHYSICS.replace("int twice(int x)", "double twice(double x)");
    let found = conflicts(rt, &module(&shop, "physics", 2, &other));
    let changed = of(&found, Kind::FunctionSignature);
    assert_eq!((changed.severity, &*changed.place.symbol), (Severity::High, "twice"), "{found}");
    assert_eq!(changed.concerned, ["game"]);
    assert!(changed.message.contains("`int (int)` and is `double (double)`"), "{found}");
    assert!(changed.place.file.ends_with(".c") && changed.place.line == 3, "{:?}", changed.place);
    assert_eq!(found.unknown, [""; 0]);
}

#[test]
fn a_structure_that_two_modules_share() {
    let Some((rt, shop, _turn)) = playing("conflicts_structure") else { return };
    let grown = PHYSICS.replace("float x, v;", "float x, y, v;");
    let path = module(&shop, "physics", 2, &grown);
    let found = conflicts(rt, &path);
    for kind in [Kind::DataStructure, Kind::MemoryLayout] {
        let changed = of(&found, kind);
        assert_eq!((changed.severity, &*changed.place.member), (Severity::High, "v"), "{found}");
        assert!(changed.place.symbol.contains("body"), "{found}");
        assert_eq!(changed.concerned, ["game"]);
        assert!(changed.place.file.ends_with(".c") && changed.place.line == 1, "{:?}", changed.place);
    }
    // The other module with it, and the objects are still laid out as before.
    let game = module(&shop, "game", 2, &GAME.replace("float x, v;", "float x, y, v;"));
    let both = rt.conflicts([path, game], &View::new()).unwrap();
    assert!(both.found.iter().all(|conflict| conflict.concerned.is_empty()), "{both}");
    assert!(both.found.iter().any(|conflict| conflict.kind == Kind::MemoryLayout), "{both}");
}

#[test]
fn values_that_state_holds() {
    let Some((rt, shop, _turn)) = playing("conflicts_values") else { return };
    let mode = "enum mode { IDLE, RUN, JUMP }; enum mode mode; int get(void) { return mode; }";
    load(rt, &module(&shop, "mode", 1, mode));
    let found = conflicts(rt, &module(&shop, "mode", 2, &mode.replace("IDLE, RUN", "IDLE, SIT, RUN")));
    let changed = of(&found, Kind::StateMachine);
    assert_eq!((changed.severity, &*changed.place.member), (Severity::High, "RUN"), "{found}");
    let found = conflicts(rt, &module(&shop, "mode", 3, &mode.replace("JUMP", "JUMP, FLY")));
    assert_eq!(found.found, [], "a new name is none");
}

#[test]
fn what_is_not_known_is_said() {
    let Some((rt, shop, _turn)) = playing("conflicts_unknown") else { return };
    let blank = shop.module_for(std::env::consts::ARCH, "physics", 9, PHYSICS, &["-s"]);
    let found = conflicts(rt, &blank);
    assert_eq!(found.found, [], "{found}");
    assert!(found.unknown.iter().any(|why| why.starts_with("physics: ")), "{found}");
    assert!(found.to_string().contains("not all is known: physics: "));
    // What cannot be known passes, as with `validate`.
    load_with(rt, &blank, &LoadOptions::new().conflicts(ConflictMode::Refuse)).unwrap();
    assert_eq!(rt.conflicts([shop.path("missing.so")], &View::new()).unwrap_err().kind(), ErrorKind::Io);
    assert!(matches!(rt.conflicts([""; 0], &View::new()), Err(Error::NoFiles)));
}

#[test]
fn versions_within_a_range_are_loaded_and_others_refused() {
    let (rt, shop, _turn) = start("conflicts_range");
    rt.shutdown().unwrap();
    let terrain = |number, declared: &str| {
        saying(&shop, ("terrain", number), "terrain", declared, "int height(void) { return 1; }")
    };
    let needs = |range: &str| format!("RUNTIME_MODULE_NEEDS_VERSION(\"terrain\", \"{range}\")");
    let user = |number, range: &str| saying(&shop, ("user", number), "user", "1.0", &needs(range));
    let refused = |path: &Path, words: &str| {
        let error = load_with(rt, path, &LoadOptions::new()).unwrap_err();
        let dry = rt.dry_run([path], &LoadOptions::new()).unwrap_err();
        assert_eq!((error.kind(), dry.kind()), (ErrorKind::Conflict, ErrorKind::Conflict), "{error}");
        assert!(error.to_string().contains(words) && error.path() == Some(path), "{error}");
        let found = conflicts(rt, path);
        assert_eq!(of(&found, Kind::DependencyChain).severity, Severity::Critical, "{found}");
    };
    let missing = load_with(rt, &user(1, "2.1"), &LoadOptions::new()).unwrap_err();
    assert!(matches!(missing, Error::MissingModule { .. }), "{missing}");
    load(rt, &terrain(1, "2.4"));
    refused(&user(2, ">=3"), "`user` needs `terrain` in a version of `>=3`, and it is version 2.4");
    refused(&user(3, "of late"), "`of late` is no range of versions");
    load(rt, &user(4, ">=2.1, <3"));
    // Nor may what is needed leave the range.
    refused(&terrain(2, "3.0"), "`user` needs `terrain` in a version of `>=2.1, <3`, and it is version 3.0");
    refused(&terrain(3, "latest"), "(its version `latest` is not of the form 1.2.3)");
    let both = LoadOptions::new().keep_previous(true);
    // SAFETY: the tests' modules are sound.
    unsafe { rt.load_with([terrain(4, "3.0"), user(5, "3")], &both) }.unwrap();
    assert_eq!(rt.modules().unwrap().len(), 2);
    // Nor by a rollback, of the one as of the other.
    for module in ["terrain", "user"] {
        let refused = rt.rollback_module(module).unwrap_err();
        assert!(matches!(refused, Error::VersionNotMet { .. }), "{refused}");
    }
}

#[test]
fn resources_and_other_changes() {
    let (rt, shop, _turn) = start("conflicts_rivals");
    rt.shutdown().unwrap();
    let owner =
        |name: &str| saying(&shop, (name, 1), name, "1.0", "RUNTIME_MODULE_EXCLUSIVE(\"audio device\")");
    let sound = owner("sound");
    load(rt, &sound);
    let music = owner("music");
    let found = conflicts(rt, &music);
    assert_eq!(of(&found, Kind::ResourceAccess).concerned, ["sound"]);
    let refused = load_with(rt, &music, &LoadOptions::new().conflicts(ConflictMode::Refuse)).unwrap_err();
    assert!(refused.to_string().contains("`audio device` is sound's alone"), "{refused}");

    let looked = rt.system_state().unwrap();
    assert_eq!(looked.modules, 1);
    assert_eq!(rt.conflicts([&sound], &View::new().since(looked.generation)).unwrap().found, []);
    load(rt, &sound);
    let view = View::new().since(looked.generation).other("sound", "transaction 7").other("music", "nobody");
    let found = rt.conflicts([&sound], &view).unwrap();
    let messages: Vec<_> = found.found.iter().map(|conflict| &*conflict.message).collect();
    assert_eq!(messages.len(), 2, "{found}");
    assert!(messages[0].contains("also being changed by transaction 7"), "{found}");
    assert!(messages[1].contains("version 2 came with generation"), "{found}");
    rt.unload("sound").unwrap();
    let found = rt.conflicts([&sound], &View::new().since(looked.generation)).unwrap();
    assert!(of(&found, Kind::ConcurrentModification).message.contains("it was taken out"), "{found}");
}

/// Counts of what was measured for loading the latest on this kind of conflict.
fn measured(rt: Runtime, conflict: &Conflict) -> (u64, u64) {
    let request = Request { strategy: Strategy::PreferLatest, ..Request::default() };
    let decision = rt.resolve(conflict, &request);
    assert_eq!(decision.action, Action::UseLatest);
    (decision.measured.well, decision.measured.of)
}

#[test]
fn what_comes_of_a_resolution_is_counted() {
    let Some((rt, shop, _turn)) = playing("conflicts_counted") else { return };
    let other = module(&shop, "physics", 2, &PHYSICS.replace("int twice(int x)", "long twice(long x)"));
    let found = conflicts(rt, &other);
    let conflict = of(&found, Kind::FunctionSignature).clone();
    assert_eq!(measured(rt, &conflict), (0, 0));
    let latest = Request { strategy: Strategy::PreferLatest, auto_resolve: true, ..Request::default() };
    // Asked, and nothing done: nothing has come of it.
    assert!(rt.resolve(&conflict, &latest).success);
    assert_eq!(measured(rt, &conflict), (0, 0));
    // A load of another module is not the one.
    load(rt, &module(&shop, "game", 2, &GAME.replace("+ twice", "- twice")));
    assert_eq!(measured(rt, &conflict), (0, 0));
    load_with(rt, &other, &LoadOptions::new().keep_previous(true)).unwrap();
    assert_eq!(measured(rt, &conflict), (1, 1));
    // Rolled back: it did not go well after all. Forth again is no resolution.
    rt.rollback_module("physics").unwrap();
    assert_eq!(measured(rt, &conflict), (0, 1));
    rt.rollback_module("physics").unwrap();
    assert_eq!(measured(rt, &conflict), (0, 1));
    rt.rollback_module("physics").unwrap();
    // One that fails.
    assert!(rt.resolve(&conflict, &latest).success);
    let refusing = PHYSICS.to_owned() + " int module_init(void) { return 7; }";
    let refused = load_with(rt, &module(&shop, "physics", 3, &refusing), &LoadOptions::new()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert_eq!(measured(rt, &conflict), (0, 2));
    // And by a mode, with nobody asking before.
    load_with(rt, &other, &LoadOptions::new().conflicts(ConflictMode::PreferLatest)).unwrap();
    assert_eq!(measured(rt, &conflict), (1, 3));
    let decision = rt.resolve(&conflict, &Request { confidence_threshold: 0.5, ..latest });
    assert!(!decision.success && decision.explanation.contains("went well 1 of 3 times"), "{decision:?}");
    let kept = rt.outcomes().to_bytes();
    rt.shutdown().unwrap();
    assert_eq!(measured(rt, &conflict), (0, 0));
    rt.add_outcomes(&Outcomes::from_bytes(&kept).unwrap());
    assert_eq!(measured(rt, &conflict), (1, 3));
    rt.shutdown().unwrap();
}

#[test]
fn resolvers_decide_before_the_mode() {
    let Some((rt, shop, _turn)) = playing("conflicts_resolvers") else { return };
    let other = module(&shop, "physics", 2, &PHYSICS.replace("int twice(int x)", "long twice(long x)"));
    let auto = LoadOptions::new().resolve_conflicts(true);
    let before = rt.system_state().unwrap().generation;
    let refused = load_with(rt, &other, &auto).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
    let answer = |action| move |_: &Conflict| Some(Answer { action, success: true, confidence: 0.9 });
    let passes = rt.add_resolver("passes", |_| None);
    // The runtime has no such functions to give.
    let layer = rt.add_resolver("layer", answer(Action::UseCompatibilityLayer));
    let refused = load_with(rt, &other, &auto).unwrap_err().to_string();
    assert!(
        refused.contains("the resolver layer has decided") && refused.contains("the runtime has none"),
        "{refused}"
    );
    assert_eq!(rt.system_state().unwrap().generation, before);
    assert!(rt.remove_resolver(layer) && !rt.remove_resolver(layer));
    let latest = rt.add_resolver("latest", answer(Action::UseLatest));
    // A dry run says what the load says, and counts nothing.
    rt.dry_run([&other], &auto).unwrap();
    // Without being told to ask, nobody is asked.
    let strict = LoadOptions::new().conflicts(ConflictMode::Refuse);
    assert_eq!(load_with(rt, &other, &strict).unwrap_err().kind(), ErrorKind::Conflict);
    load_with(rt, &other, &auto).unwrap();
    let found = conflicts(rt, &module(&shop, "physics", 3, PHYSICS));
    let conflict = of(&found, Kind::FunctionSignature);
    let decision = rt.resolve(conflict, &Request { auto_resolve: true, ..Request::default() });
    assert_eq!(decision.by, Decider::Resolver("latest".into()));
    assert_eq!((decision.claimed, decision.measured.well, decision.measured.of), (0.9, 1, 1));
    assert!(rt.remove_resolver(latest) && rt.remove_resolver(passes));
}

/// A resolver is on the loading thread, as a progress callback is.
#[test]
fn a_resolver_that_calls_the_runtime_finds_it_busy() {
    let Some((rt, shop, _turn)) = playing("conflicts_busy") else { return };
    let other = module(&shop, "physics", 2, &PHYSICS.replace("int twice(int x)", "long twice(long x)"));
    let calls = rt.add_resolver("calls", move |_| {
        assert_eq!(rt.modules().unwrap_err().kind(), ErrorKind::Busy);
        assert!(rt.statistics().unwrap().modules == 2);
        Some(Answer { action: Action::UseLatest, success: true, confidence: 1.0 })
    });
    load_with(rt, &other, &LoadOptions::new().resolve_conflicts(true)).unwrap();
    assert!(rt.remove_resolver(calls));
}
