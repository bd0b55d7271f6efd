//! `conflict_resolution.h`, and what `conflict_mode` and `auto_resolve_conflicts` do.

mod support;

use std::ffi::{CStr, c_char, c_int};
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use midflight::ErrorKind::{
    CompatibilityUnknown, Conflict, Incompatible, InvalidArgument, Io, NotInitialized,
};
use midflight::conflict::{Action, Kind, Severity, Strategy};
use midflight_c::compatibility_layer::*;
use midflight_c::conflict_resolution::*;
use midflight_c::hot_reload::*;
use midflight_c::runtime_core::*;
use support::*;

const REFUSE: i32 = 1;
const PREFER_LATEST: i32 = 2;

fn detect(path: &Path, state: *const CurrentState) -> (c_int, Box<ConflictAnalysis>) {
    let mut analysis = Box::new(ConflictAnalysis::default());
    // SAFETY: a string, a state or NULL, and a place for the answer.
    let code = unsafe { detect_potential_conflicts(c(path).as_ptr(), state, &mut *analysis) };
    (code, analysis)
}

fn current_state() -> CurrentState {
    let mut state = CurrentState::default();
    // SAFETY: a place for it.
    ok(unsafe { runtime_get_current_state(&mut state) });
    state
}

fn resolve(info: &ConflictInfo, config: &ResolutionConfig) -> (c_int, ResolutionResult) {
    let mut result = ResolutionResult::default();
    // SAFETY: structures, and a place for the answer.
    let code = unsafe { resolve_module_conflicts(info, config, &mut result) };
    (code, result)
}

fn register(name: &CStr, resolver: Option<ConflictResolver>) -> c_int {
    // SAFETY: a string, and a function of this type.
    unsafe { register_conflict_resolver(name.as_ptr(), resolver) }
}

fn automatic(strategy: Strategy) -> ResolutionConfig {
    ResolutionConfig { strategy: strategy as i32, auto_resolve: true.into(), ..ResolutionConfig::default() }
}

fn mode(conflict_mode: i32, auto: bool) -> HotReloadConfig {
    HotReloadConfig { conflict_mode, auto_resolve_conflicts: auto.into(), ..HotReloadConfig::default() }
}

fn module(session: &Session, name: &str, version: u32, source: &str) -> PathBuf {
    session.module(name, version, source)
}

const BOTH: &str = "int one(void) { return 1; } int two(void) { return 2; }";
const ONE: &str = "int one(void) { return 1; }";
const USER: &str = "int two(void); int use(void) { return two(); }";

/// `used` and its `user` are loaded; the path of a version of `used` that lacks what that calls.
/// Nobody here asks for `two`: a promise to the program lasts as long as the process.
fn in_use(session: &Session) -> PathBuf {
    ok(reload(module(session, "used", 1, BOTH)));
    ok(reload(module(session, "user", 1, USER)));
    module(session, "used", 2, ONE)
}

#[test]
fn the_gravest_is_told_and_all_are_counted() {
    let session = start("conflicts-told");
    let lacking = in_use(&session);
    let (count, analysis) = detect(&lacking, ptr::null());
    assert!(count >= 1 && analysis.count == count as u32 && analysis.listed_count == analysis.count);
    let info = &analysis.conflict_info;
    assert_eq!((info.kind, info.severity), (Kind::ApiChange as i32, Severity::Critical as i32));
    let texts = [&info.module[..], &info.symbol, &info.concerned[0]].map(|field| text(field.as_ptr()));
    assert_eq!((texts, info.concerned_count), (["used".into(), "two".into(), "user".into()], 1));
    assert!(text(info.message.as_ptr()).contains("`two` is gone, and user calls it"));
    assert!(!text(info.proposal.as_ptr()).is_empty());
    assert_eq!(text(analysis.conflicts[0].message.as_ptr()), text(info.message.as_ptr()));
    assert_eq!(analysis.generation, current_state().generation);
    // Without debug information not all is known, and that is said.
    assert_eq!(analysis.is_complete.get(), text(analysis.unknown_because.as_ptr()).is_empty());
    assert!(!analysis.is_complete.get());
    assert_eq!(call(c"user", c"use"), 2, "nothing was published");
}

#[test]
fn a_state_that_was_looked_at() {
    let session = start("conflicts-state");
    let path = module(&session, "used", 1, BOTH);
    ok(reload(&path));
    let state = current_state();
    assert_eq!((state.module_count, state.reserved), (1, 0));
    assert!(state.generation > 0 && state.timestamp_ns > 0);
    assert_eq!(detect(&path, &state).0, 0);
    ok(reload(&path));
    let (count, analysis) = detect(&path, &state);
    assert_eq!((count, analysis.conflict_info.kind), (1, Kind::ConcurrentModification as i32));
    // One that was never filled is as none, and so is a new one.
    for state in [CurrentState::default(), current_state()] {
        assert_eq!(detect(&path, &state).0, 0);
    }
}

#[test]
fn arguments_that_are_none() {
    let session = stopped("conflicts-arguments");
    let path = module(&session, "used", 1, ONE);
    assert_eq!(detect(&path, ptr::null()).0, NotInitialized as c_int);
    assert_eq!(register(c"early", Some(latest)), NotInitialized as c_int);
    ok(init(&RuntimeConfig::default()));
    fails(detect(&session.path("missing.so"), ptr::null()).0, Io, "missing.so");
    // SAFETY: what is NULL is refused.
    unsafe {
        let null = ptr::null::<c_char>();
        let mut analysis = Box::new(ConflictAnalysis::default());
        fails(
            detect_potential_conflicts(null, ptr::null(), &mut *analysis),
            InvalidArgument,
            "module_path is NULL",
        );
        let given = c(&path);
        let nowhere = detect_potential_conflicts(given.as_ptr(), ptr::null(), ptr::null_mut());
        fails(nowhere, InvalidArgument, "conflict_analysis is NULL");
        let state = ptr::without_provenance(8);
        fails(
            detect_potential_conflicts(given.as_ptr(), state, &mut *analysis),
            InvalidArgument,
            "current_state",
        );
        fails(runtime_get_current_state(ptr::null_mut()), InvalidArgument, "current_state is NULL");
        fails(register_conflict_resolver(null, Some(latest)), InvalidArgument, "strategy_name is NULL");
        let mut result = ResolutionResult::default();
        fails(
            resolve_module_conflicts(ptr::null(), ptr::null(), &mut result),
            InvalidArgument,
            "conflict_info is NULL",
        );
    }
    fails(register(c"", Some(latest)), InvalidArgument, "strategy_name is empty");
    fails(register(c"nobody", None), InvalidArgument, "there is no resolver nobody");
    let info = ConflictInfo { kind: 1, severity: 1, ..ConflictInfo::default() };
    let config = ResolutionConfig::default();
    ok(resolve(&info, &config).0);
    for kind in [0, 10, -1] {
        fails(resolve(&ConflictInfo { kind, ..info }, &config).0, InvalidArgument, "none of conflict_type_t");
    }
    fails(resolve(&ConflictInfo { severity: 5, ..info }, &config).0, InvalidArgument, "its severity is 5");
    fails(
        resolve(&info, &ResolutionConfig { strategy: 7, ..config }).0,
        InvalidArgument,
        "its strategy is 7",
    );
    for confidence_threshold in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        let config = ResolutionConfig { confidence_threshold, ..config };
        fails(resolve(&info, &config).0, InvalidArgument, "confidence_threshold");
    }
    // Texts without an end are cut, not followed.
    let endless = ConflictInfo { module: [b'm' as c_char; 128], message: [b'x' as c_char; 768], ..info };
    ok(resolve(&endless, &config).0);
    for wrong in [-1, 3, i32::MAX] {
        fails(reload_with(&path, &mode(wrong, false)), InvalidArgument, "none of conflict_resolution_mode_t");
    }
}

static ASKED: AtomicUsize = AtomicUsize::new(0);
static ANSWER: AtomicI32 = AtomicI32::new(0);

unsafe extern "C-unwind" fn passes(_: *const ConflictInfo, _: *mut ResolutionResult) -> c_int {
    ASKED.fetch_add(1, Ordering::Relaxed);
    -1
}

/// Says whatever `ANSWER` is.
unsafe extern "C-unwind" fn latest(conflict: *const ConflictInfo, result: *mut ResolutionResult) -> c_int {
    // SAFETY: both are the call's.
    let (conflict, result) = unsafe { (&*conflict, &mut *result) };
    assert!(conflict.kind != 0 && result.action == 0 && !result.success.get());
    *result = ResolutionResult {
        action: ANSWER.load(Ordering::Relaxed),
        success: true.into(),
        confidence: 0.98,
        ..ResolutionResult::default()
    };
    0
}

#[test]
fn resolvers_are_asked_first_and_what_they_claim_is_a_claim() {
    let session = start("conflicts-resolvers");
    let lacking = in_use(&session);
    let info = detect(&lacking, ptr::null()).1.conflict_info;
    ASKED.store(0, Ordering::Relaxed);
    ANSWER.store(Action::UseCompatibilityLayer as i32, Ordering::Relaxed);
    ok(register(c"passes", Some(passes)));
    ok(register(c"latest", Some(latest)));
    let (code, result) = resolve(&info, &automatic(Strategy::Manual));
    ok(code);
    assert_eq!(ASKED.load(Ordering::Relaxed), 1);
    assert!(result.success.get() && result.action == Action::UseCompatibilityLayer as i32);
    assert_eq!((result.confidence, result.outcome_count, result.claimed_confidence), (0.0, 0, 0.98));
    assert_eq!(text(result.resolver.as_ptr()), "latest");
    // What is no action is no answer.
    ANSWER.store(99, Ordering::Relaxed);
    let (_, result) = resolve(&info, &automatic(Strategy::Manual));
    assert_eq!((result.action, result.success.get()), (Action::Manual as i32, false));
    assert_eq!(text(result.resolver.as_ptr()), "");
    // Taken out, and by a shutdown all.
    ok(register(c"latest", None));
    runtime_shutdown();
    ok(init(&RuntimeConfig::default()));
    ASKED.store(0, Ordering::Relaxed);
    ok(resolve(&info, &automatic(Strategy::MlGuided)).0);
    assert_eq!(ASKED.load(Ordering::Relaxed), 0);
    let (_, result) = resolve(&info, &automatic(Strategy::MlGuided));
    assert!(!result.model_used.get() && text(result.explanation.as_ptr()).contains("there is no model"));
    ok(register(c"passes", Some(passes)));
    ok(register(c"passes", None));
}

#[test]
fn what_a_reload_does_about_conflicts() {
    let session = start("conflicts-modes");
    let lacking = in_use(&session);
    // What cannot be loaded is refused whatever the mode, and the modes say what to do.
    fails(reload_with(&lacking, &mode(0, false)), Incompatible, "two");
    for conflict_mode in [REFUSE, PREFER_LATEST] {
        fails(
            reload_with(&lacking, &mode(conflict_mode, false)),
            Conflict,
            "`two` is gone, and user calls it",
        );
    }
    fails(reload_with(&lacking, &mode(0, true)), Conflict, "load new versions of user with it");
    // Together with its caller it is none.
    let caller = module(&session, "user", 2, "int one(void); int use(void) { return one(); }");
    ok(reload_all(&[lacking, caller], &mode(REFUSE, false)));
    assert_eq!(call(c"user", c"use"), 1);
}

/// A resource is found without debug information, and so on every system.
#[test]
fn a_resolver_may_let_a_reload_pass() {
    let session = start("conflicts-auto");
    let include = format!("-I{}", include().display());
    let owner = |name: &str| {
        let source = format!(
            "#include \"runtime_module.h\"\nRUNTIME_MODULE_EXCLUSIVE(\"audio\")\nint {name}(void) {{ return 1; }}"
        );
        session.module_for(std::env::consts::ARCH, name, 1, &source, &[&include])
    };
    ok(reload(owner("sound")));
    let music = owner("music");
    let dry =
        |config: HotReloadConfig| reload_with(&music, &HotReloadConfig { dry_run: true.into(), ..config });
    for conflict_mode in [0, REFUSE] {
        fails(dry(mode(conflict_mode, true)), Conflict, "`audio` is sound's alone");
        fails(reload_with(&music, &mode(conflict_mode, true)), Conflict, "`audio` is sound's alone");
    }
    ANSWER.store(Action::UseLatest as i32, Ordering::Relaxed);
    ok(register(c"latest", Some(latest)));
    // Only who is told to ask asks.
    fails(reload_with(&music, &mode(REFUSE, false)), Conflict, "`audio` is sound's alone");
    ok(dry(mode(REFUSE, true)));
    ok(reload_with(&music, &mode(REFUSE, true)));
    let info = ConflictInfo { kind: Kind::ResourceAccess as i32, severity: 3, ..ConflictInfo::default() };
    let (_, result) = resolve(&info, &automatic(Strategy::Default));
    assert_eq!((result.confidence, result.outcome_count), (1.0, 1));
    ok(register(c"latest", None));
}

#[test]
fn prefer_latest_loads_what_can_be_loaded() {
    let session = start("conflicts-latest");
    let include = format!("-I{}", include().display());
    let owner = |name: &str| {
        let source =
            "#include \"runtime_module.h\"\nRUNTIME_MODULE_EXCLUSIVE(\"audio\")\nint f(void) { return 1; }";
        session.module_for(std::env::consts::ARCH, name, 1, source, &[&include])
    };
    ok(reload(owner("sound")));
    ok(reload_with(owner("music"), &mode(PREFER_LATEST, false)));
    assert_eq!(statistics().loaded_modules, 2);
}

fn signature(module: &CStr, symbol: &CStr) -> (c_int, String) {
    let mut said = FunctionSignature { text: [0; 256] };
    // SAFETY: strings, and a place for the answer.
    let code = unsafe { hot_reload_function_signature(module.as_ptr(), symbol.as_ptr(), &mut said) };
    (code, text(said.text.as_ptr()))
}

fn adapt(adapter: &CompatibilityAdapter) -> (c_int, u64) {
    let mut id = u64::MAX;
    // SAFETY: a structure, and a place for the answer.
    (unsafe { register_compatibility_adapter(adapter, &mut id) }, id)
}

#[test]
fn old_callers_are_given_an_adapter() {
    let session = start("conflicts-adapter");
    let debug = |name: &str, version, source: &str| {
        session.module_for(std::env::consts::ARCH, name, version, source, &["-g", "-O1"])
    };
    let (old, new) = ("int size(int x) { return x; }", "long size(long x, int y) { return x + y; }");
    ok(reload(debug("sized", 1, old)));
    ok(reload(debug("sizer", 1, "int size(int); int sizer(void) { return size(7); }")));
    assert_eq!(signature(c"sized", c"size"), (0, "int (int)".into()));
    fails(signature(c"sized", c"absent").0, CompatibilityUnknown, "is not known");
    let adapter = CompatibilityAdapter {
        struct_size: size_of::<CompatibilityAdapter>() as u32,
        unsaid: 0,
        module: c"sized".as_ptr(),
        symbol: c"size".as_ptr(),
        signature: c"int (int)".as_ptr(),
        adapter_module: c"adapts".as_ptr(),
        adapter_symbol: c"size_of_old".as_ptr(),
    };
    for bad in [
        CompatibilityAdapter { unsaid: 3, ..adapter },
        CompatibilityAdapter { unsaid: -1, ..adapter },
        CompatibilityAdapter { signature: ptr::null(), ..adapter },
        CompatibilityAdapter { adapter_symbol: c"".as_ptr(), ..adapter },
        CompatibilityAdapter { struct_size: 0, ..adapter },
    ] {
        let (code, id) = adapt(&bad);
        fails(code, InvalidArgument, "adapter");
        assert_eq!(id, 0);
    }
    let (code, id) = adapt(&adapter);
    ok(code);
    let next = debug("sized", 2, new);
    let both = [
        next.clone(),
        debug("adapts", 1, "long size(long, int); int size_of_old(int x) { return size(x, 100); }"),
    ];
    fails(reload(next), Incompatible, "sizer was built against `int (int)`");
    ok(reload_all(&both, &mode(REFUSE, false)));
    assert_eq!(call(c"sizer", c"sizer"), 107);
    fails(unregister_compatibility_adapter(id), Incompatible, "there is no adapter: add one");
    // The next caller is a new one.
    ok(reload(debug("sizer", 2, "long size(long, int); int sizer(void) { return size(7, 1); }")));
    assert_eq!(call(c"sizer", c"sizer"), 8);
    ok(unregister_compatibility_adapter(id));
    fails(unregister_compatibility_adapter(id), InvalidArgument, "there is no adapter");
}
