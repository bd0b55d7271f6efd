//! Compatibility layers, on real modules: old callers are bound to the adapter and new ones to the
//! function itself, in one publication.

mod support;

use std::path::PathBuf;

use midflight::conflict::{Action, Kind, Request, Severity, Strategy};
use midflight::{
    Adapter, ConflictMode, Error, ErrorKind, LoadOptions, Publication, Runtime, TransactionOptions, Unsaid,
    View,
};
use support::{Workshop, start};

midflight::module! {
    unsafe mod game { safe fn game_run(x: i32) -> i32; }
    unsafe mod user { safe fn user_run(x: i32) -> i32; }
}

const OLD: &str = "int twice(int x) { return 2 * x; }";
/// It counts in hundredths, and adds one so that it is seen who was called.
const NEW: &str = "double twice(double x) { return 200 * x + 1; }";
const CALLER: &str = "int twice(int); int game_run(int x) { return twice(x); }";
const ADAPTER: &str = "double twice(double); int twice_int(int x) { return (int)twice(x / 100.0) + 1000; }";
const NEW_CALLER: &str = "double twice(double); int user_run(int x) { return (int)twice(x); }";

fn module(shop: &Workshop, name: &str, version: u32, source: &str) -> PathBuf {
    // clang says what it calls where it has optimized.
    shop.module_for(std::env::consts::ARCH, name, version, source, &["-g", "-O1"])
}

fn load_with(
    rt: Runtime,
    paths: impl IntoIterator<Item = PathBuf>,
    options: &LoadOptions<'_>,
) -> Result<Publication, Error> {
    // SAFETY: the tests' modules are sound.
    unsafe { rt.load_with(paths, options) }
}

fn load<const N: usize>(rt: Runtime, paths: [PathBuf; N]) -> Result<Publication, Error> {
    load_with(rt, paths, &LoadOptions::new().keep_previous(true))
}

fn adapter() -> Adapter {
    Adapter::new("physics", "twice", "int (int)", ("compat", "twice_int"))
}

/// A runtime with physics and the game that calls it.
fn playing(name: &str) -> Option<(Runtime, Workshop, impl Drop)> {
    let (rt, shop, turn) = start(name);
    rt.shutdown().unwrap();
    if support::is_macho() {
        // Of Mach-O files signatures are not known: docs/macos.md.
        return None;
    }
    rt.set_keep_files(true);
    load(rt, [module(&shop, "physics", 1, OLD)]).unwrap();
    load(rt, [module(&shop, "game", 1, CALLER)]).unwrap();
    Some((rt, shop, turn))
}

fn runs(rt: Runtime) -> i32 {
    game::game_run(&rt.frame(), 7)
}

#[test]
fn old_callers_go_by_the_adapter_and_new_ones_do_not() {
    let Some((rt, shop, _turn)) = playing("adapters") else { return };
    assert_eq!(rt.signature("physics", "twice").unwrap().as_deref(), Some("int (int)"));
    let next = || [module(&shop, "physics", 2, NEW), module(&shop, "compat", 1, ADAPTER)];
    // Without one it is a conflict, and with one it is none that anybody comes by.
    let found = rt.conflicts(next(), &View::new()).unwrap().found;
    assert_eq!((found[0].kind, found[0].severity), (Kind::FunctionSignature, Severity::High));
    let layer = Request { strategy: Strategy::CompatibilityLayer, auto_resolve: true, ..Request::default() };
    assert_eq!(rt.resolve(&found[0], &layer).action, Action::Manual);
    rt.add_adapter(&adapter()).unwrap();
    let found = rt.conflicts(next(), &View::new()).unwrap().found;
    assert_eq!(found.iter().map(|of| of.severity).max(), Some(Severity::Low), "{found:?}");
    assert!(found[0].message.contains("given what does as before (compat::twice_int)"), "{found:?}");
    let decision = rt.resolve(&found[0], &layer);
    assert_eq!((decision.action, decision.success), (Action::UseCompatibilityLayer, true));

    // Nothing has changed until it is published: a frame that is open goes on with what it has.
    assert_eq!(runs(rt), 14);
    let frame = rt.frame();
    let strict = LoadOptions::new().conflicts(ConflictMode::Refuse).validate(true).keep_previous(true);
    let both = next().into_iter().chain([module(&shop, "user", 1, NEW_CALLER)]);
    load_with(rt, both, &strict).unwrap();
    assert_eq!(game::game_run(&frame, 7), 14);
    drop(frame);
    assert_eq!(runs(rt), 15 + 1000, "the game goes by the adapter");
    assert_eq!(user::user_run(&rt.frame(), 7), 1401, "a new caller has the function itself");
    let decision = rt.resolve(&found[0], &layer);
    assert_eq!((decision.measured.well, decision.measured.of), (1, 1));

    // The next version of the adapter, by itself.
    load(rt, [module(&shop, "compat", 2, &ADAPTER.replace("1000", "2000"))]).unwrap();
    assert_eq!(runs(rt), 15 + 2000);
    rt.rollback_module("compat").unwrap();
    assert_eq!(runs(rt), 15 + 1000);
    // An old caller that is loaded now goes by it as well, and a new one of the same module not.
    load(rt, [module(&shop, "game", 2, &CALLER.replace("twice(x)", "twice(x + 1)"))]).unwrap();
    assert_eq!(runs(rt), 17 + 1000);
    load(rt, [module(&shop, "game", 3, &NEW_CALLER.replace("user", "game"))]).unwrap();
    assert_eq!(runs(rt), 1401);
    // Back to what goes by it.
    rt.rollback_module("game").unwrap();
    assert_eq!(runs(rt), 17 + 1000);
    rt.shutdown().unwrap();
    assert_eq!(rt.collect().unwrap().old_bytes, 0);
}

/// The function comes back as it was: then nobody goes by the adapter, and who needs the new one is
/// in the way.
#[test]
fn what_has_no_adapter_is_refused_in_every_way() {
    let Some((rt, shop, _turn)) = playing("adapters_refused") else { return };
    let id = rt.add_adapter(&adapter()).unwrap();
    let refused = load(rt, [module(&shop, "physics", 2, NEW)]).unwrap_err();
    assert!(
        matches!(&refused, Error::NoAdapter(of) if of.signature == "int (int)"
        && of.is.as_deref() == Some("double (double)") && of.callers == ["game"]),
        "{refused}"
    );
    assert!(refused.to_string().contains("game was built against `int (int)`"), "{refused}");
    assert_eq!(refused.kind(), ErrorKind::Incompatible);
    let paths = [module(&shop, "physics", 2, NEW)];
    assert!(matches!(rt.dry_run(paths, &LoadOptions::new()), Err(Error::NoAdapter { .. })));
    // The adapter before the function that it calls.
    let refused = load(rt, [module(&shop, "compat", 1, ADAPTER)]).unwrap_err();
    assert!(
        matches!(&refused, Error::NoAdapter(of)
        if of.signature == "double (double)" && of.callers == ["compat"]),
        "{refused}"
    );
    assert_eq!(runs(rt), 14);
    let both = || [module(&shop, "physics", 2, NEW), module(&shop, "compat", 1, ADAPTER)];
    rt.dry_run(both(), &LoadOptions::new()).unwrap();
    load(rt, both()).unwrap();
    assert_eq!(runs(rt), 15 + 1000);
    // A third signature, for which the adapter has none.
    let third = module(&shop, "physics", 3, "long twice(long x) { return x; }");
    assert!(matches!(load(rt, [third]), Err(Error::NoAdapter { .. })));
    // Neither goes without the other: not by an unload, a rollback, or that it is taken out.
    assert!(matches!(rt.unload("compat"), Err(Error::NoAdapter { .. })));
    assert!(matches!(rt.rollback_module("physics"), Err(Error::NoAdapter { .. })));
    assert!(matches!(rt.remove_adapter(id), Err(Error::NoAdapter { .. })));
    let without = module(&shop, "compat", 2, "int other(int x) { return x; }");
    assert!(matches!(load(rt, [without]), Err(Error::NoAdapter { .. })));
    assert_eq!(runs(rt), 15 + 1000);
    // With its adapter it goes: in one transaction.
    let mut tx = rt.transaction(&TransactionOptions::new()).unwrap();
    tx.unload("compat").unwrap();
    tx.rollback_module("physics").unwrap();
    tx.commit().unwrap();
    assert_eq!(runs(rt), 14);
    assert!(rt.remove_adapter(id).unwrap() && !rt.remove_adapter(id).unwrap());
}

/// The module has it itself, and the function is gone: nobody calls it any more but old callers.
#[test]
fn an_adapter_may_be_in_the_module_that_it_is_for() {
    let Some((rt, shop, _turn)) = playing("adapters_own") else { return };
    rt.add_adapter(&Adapter::new("physics", "twice", "int (int)", ("physics", "twice_int"))).unwrap();
    let own = "double twice(double x) { return 200 * x + 1; } int twice_int(int x) { return (int)twice(x / 100.0) + 500; }";
    load(rt, [module(&shop, "physics", 2, own)]).unwrap();
    assert_eq!(runs(rt), 15 + 500);
    let gone = "int twice_int(int x) { return 3 * x; }";
    let path = module(&shop, "physics", 3, gone);
    let found = rt.conflicts([&path], &View::new()).unwrap().found;
    assert!(found.iter().all(|of| of.severity <= Severity::Low), "{found:?}");
    load_with(rt, [path], &LoadOptions::new().conflicts(ConflictMode::Refuse)).unwrap();
    assert_eq!(runs(rt), 21);
    load(rt, [module(&shop, "physics", 4, OLD)]).unwrap();
    assert_eq!(runs(rt), 14);
}

#[test]
fn what_a_caller_does_not_say_is_not_guessed() {
    let Some((rt, shop, _turn)) = playing("adapters_unsaid") else { return };
    let blank = |name: &str, version, source: &str| {
        shop.module_for(std::env::consts::ARCH, name, version, source, &["-g0"])
    };
    // One that is loaded.
    load(rt, [blank("game", 2, CALLER)]).unwrap();
    let refused = rt.add_adapter(&adapter()).unwrap_err();
    assert!(matches!(&refused, Error::UnknownSignature { caller: Some(caller), .. } if caller == "game"));
    assert_eq!(refused.kind(), ErrorKind::CompatibilityUnknown);
    assert!(refused.to_string().contains("game does not say which signature"), "{refused}");
    rt.add_adapter(&adapter().unsaid(Unsaid::Old)).unwrap();
    load(rt, [module(&shop, "physics", 2, NEW), module(&shop, "compat", 1, ADAPTER)]).unwrap();
    assert_eq!(runs(rt), 15 + 1000);
    // One that comes.
    let new = blank("user", 1, NEW_CALLER);
    rt.add_adapter(&adapter()).unwrap();
    let refused = load(rt, [new.clone()]).unwrap_err();
    assert!(matches!(&refused, Error::UnknownSignature { caller: Some(caller), .. } if caller == "user"));
    rt.add_adapter(&adapter().unsaid(Unsaid::New)).unwrap();
    load(rt, [new]).unwrap();
    assert_eq!(user::user_run(&rt.frame(), 7), 1401);
    assert_eq!(runs(rt), 15 + 1000);
    // The function itself.
    let refused = load(rt, [blank("physics", 3, NEW)]).unwrap_err();
    assert!(matches!(&refused, Error::UnknownSignature { caller: None, .. }), "{refused}");
    assert_eq!(rt.signature("physics", "absent").unwrap(), None);
    assert_eq!(rt.signature("absent", "twice").unwrap(), None);
}

#[test]
fn callers_that_do_not_agree_are_named() {
    let Some((rt, shop, _turn)) = playing("adapters_mixed") else { return };
    // It links, and would go wrong.
    load(rt, [module(&shop, "user", 1, NEW_CALLER)]).unwrap();
    let refused = rt.add_adapter(&adapter()).unwrap_err();
    let text = refused.to_string();
    assert!(matches!(refused, Error::MixedCallers { .. }), "{text}");
    assert!(text.contains("`int (int)` by game") && text.contains("`double (double)` by user"), "{text}");
    rt.unload("user").unwrap();
    rt.add_adapter(&adapter()).unwrap();
}

/// What goes by an adapter keeps it: a version that was replaced runs its destructor there.
#[test]
fn an_adapter_outlives_who_goes_by_it() {
    let Some((rt, shop, _turn)) = playing("adapters_outlived") else { return };
    rt.add_adapter(&adapter()).unwrap();
    // Its destructor calls the adapter, which calls the function, and says so in the environment.
    let last = format!(
        "#include <stdio.h>\n#include <stdlib.h>\n{CALLER}\n__attribute__((destructor)) static void end(void) {{
             char text[32]; snprintf(text, sizeof text, \"%d\", twice(7)); setenv(\"ADAPTED\", text, 1); }}"
    );
    load_with(rt, [module(&shop, "game", 2, &last)], &LoadOptions::new()).unwrap();
    let plain = LoadOptions::new();
    load_with(rt, [module(&shop, "physics", 2, NEW), module(&shop, "compat", 1, ADAPTER)], &plain).unwrap();
    // All of it is replaced while a frame holds it.
    let frame = rt.frame();
    let numbers = ["physics", "compat", "game"].map(|name| frame.version(name));
    let next = [
        module(&shop, "physics", 3, "double twice(double x) { return 0 * x; }"),
        module(&shop, "compat", 2, &ADAPTER.replace("1000", "9000")),
        module(&shop, "game", 3, CALLER),
    ];
    load_with(rt, next, &plain).unwrap();
    rt.collect().unwrap();
    assert_eq!(game::game_run(&frame, 7), 15 + 1000, "{numbers:?}");
    drop(frame);
    rt.collect().unwrap();
    assert_eq!(std::env::var("ADAPTED").as_deref(), Ok("1015"));
    assert_eq!(runs(rt), 9000);
}

/// The program has what it has asked for, and may ask for the other by its signature.
#[test]
fn the_program_is_an_old_caller_too() {
    let Some((rt, shop, _turn)) = playing("adapters_program") else { return };
    let old = rt.symbol("physics", "twice").unwrap();
    rt.add_adapter(&adapter()).unwrap();
    let both = [module(&shop, "physics", 2, NEW), module(&shop, "compat", 1, ADAPTER)];
    load(rt, both).unwrap();
    let new = rt.symbol("physics", "twice as double (double)").unwrap();
    assert_eq!(rt.symbol("physics", "twice").unwrap(), old);
    // SAFETY: the types are those of the signatures.
    let (old, new) = unsafe {
        (
            std::mem::transmute::<std::ptr::NonNull<()>, extern "C" fn(i32) -> i32>(old),
            std::mem::transmute::<std::ptr::NonNull<()>, extern "C" fn(f64) -> f64>(new),
        )
    };
    assert_eq!((old(7), new(7.0)), (15 + 1000, 1401.0));
    let unknown = rt.symbol("physics", "twice as long (long)").unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NoSuchSymbol, "{unknown}");
    // Both are promised now.
    assert!(matches!(load(rt, [module(&shop, "physics", 3, OLD)]), Err(Error::NoAdapter(of))
        if of.callers == ["(the program)", "compat"]));
    assert_eq!((old(7), new(7.0)), (15 + 1000, 1401.0));
    // What is promised may still go as a whole.
    rt.unload_all(["game", "compat", "physics"]).unwrap();
    rt.shutdown().unwrap();
}
