//! Generations that can be had back at once. Its own process: how many is chosen at the runtime's
//! start.

mod support;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use midflight::{Config, Error, LoadOptions, Runtime};
use support::Workshop;

midflight::module! {
    unsafe mod counted { safe fn number() -> i32; safe fn count() -> i32; }
    unsafe mod guest { safe fn number() -> i32; }
    unsafe mod caller { safe fn through() -> i32; }
}

const HISTORY: usize = 4;

/// The runtime, which remembers four publications, and this test's turn.
fn start(name: &str) -> (Runtime, Workshop, MutexGuard<'static, ()>) {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut config = Config::default();
    config.history = HISTORY;
    (Runtime::start_with(config).unwrap(), Workshop::new(name), turn)
}

/// Loads a file and returns the generation that this made.
fn load(rt: Runtime, path: &PathBuf) -> u64 {
    // SAFETY: the tests' modules have the functions as declared above.
    unsafe { rt.load(path) }.unwrap().generation
}

static ENDED: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

extern "C" fn ended(version: usize) {
    ENDED.fetch_or(1 << version, std::sync::atomic::Ordering::Relaxed);
}

fn ended_versions() -> usize {
    ENDED.load(std::sync::atomic::Ordering::Relaxed)
}

/// A module that counts its calls, knows its version, and says when it ends.
fn counted(shop: &Workshop, version: u32) -> PathBuf {
    let source = format!(
        "static int calls, begun;
         __attribute__((constructor)) static void begin(void) {{ begun++; }}
         __attribute__((destructor)) static void end(void) {{ ((void (*)(unsigned long)){}ul)({version}); }}
         int number(void) {{ return {version} * begun; }}
         int count(void) {{ return ++calls; }}",
        ended as *const () as usize
    );
    shop.module("counted", version, &source)
}

#[test]
fn an_earlier_generation_is_had_back_as_it_was_left() {
    let (rt, shop, _turn) = start("history");
    ENDED.store(0, std::sync::atomic::Ordering::Relaxed);
    let generations: Vec<u64> = (1..=5)
        .map(|version| {
            let made = load(rt, &counted(&shop, version));
            assert_eq!(counted::count(&rt.frame()), 1);
            made
        })
        .collect();
    let parked = rt.frame();

    // Four publications can be taken back: the first version is the fifth's predecessor's
    // predecessor's predecessor's.
    let back = rt.rollback(generations[0]).unwrap();
    assert_eq!(back.generation, generations[4] + 1);
    assert_eq!((&*back.modules[0].name, back.modules[0].version), ("counted", 1));
    assert!(back.phases.read.is_zero() && back.phases.initialise.is_zero(), "nothing is loaded or run");
    assert_eq!(counted::number(&parked), 5, "frames stay where they are");
    drop(parked);
    {
        let frame = rt.frame();
        assert_eq!((counted::number(&frame), counted::count(&frame)), (1, 2), "its state is what it was");
        assert_eq!((frame.generation(), frame.version("counted")), (back.generation, Some(1)));
    }
    assert_eq!(ended_versions(), 0);

    // And forth again: the generation before that one.
    rt.rollback(generations[4]).unwrap();
    assert_eq!((counted::number(&rt.frame()), counted::count(&rt.frame())), (5, 2));

    // The first load is forgotten by now, and the rest is named.
    let Err(Error::NotInHistory { generation, oldest, current }) = rt.rollback(generations[0]) else {
        panic!("that was too long ago");
    };
    assert_eq!((generation, oldest, current), (generations[0], generations[2], generations[4] + 2));
    let message = rt.rollback(generations[0]).unwrap_err().to_string();
    assert!(message.contains("cannot be had back"), "{message}");
    assert!(rt.rollback(current).is_err() && rt.rollback(u64::MAX).is_err());

    // A new version is the sixth, whatever was current in between; what history forgets ends.
    assert_eq!(ended_versions(), 1 << 2, "it was current in one generation only, which is out of reach");
    let path = counted(&shop, 6);
    for number in 6..6 + HISTORY as u64 + 1 {
        load(rt, &path);
        assert_eq!(rt.frame().version("counted"), Some(number));
    }
    let left = rt.collect().unwrap();
    assert_eq!((left.held, left.retained), (0, 0));
    assert_eq!(ended_versions() & 0b11_1110, 0b11_1110, "all that is out of reach has ended");
    rt.unload("counted").unwrap();
}

#[test]
fn modules_that_came_go_and_those_that_went_come() {
    let (rt, shop, _turn) = start("sets");
    let guest = shop.module("guest", 1, "int number(void) { return 7; }");
    let before = load(rt, &counted(&shop, 1));
    let with_guest = load(rt, &guest);
    rt.unload("counted").unwrap();
    rt.rollback(before).unwrap();
    {
        let frame = rt.frame();
        assert_eq!((frame.version("counted").is_some(), frame.version("guest")), (true, None));
        assert_eq!(counted::number(&frame), 1);
    }
    rt.rollback(with_guest).unwrap();
    let frame = rt.frame();
    assert_eq!((counted::number(&frame), guest::number(&frame)), (1, 7));
    drop(frame);
    rt.unload("counted").unwrap();
    rt.unload("guest").unwrap();
}

#[test]
fn what_was_given_out_since_is_bound_to_the_version_that_is_back() {
    let (rt, shop, _turn) = start("promises");
    let guest = |version, source: &str| load(rt, &shop.module("guest", version, source));
    let lacking = guest(1, "int number(void) { return 1; }");
    let first = guest(2, "int number(void) { return 2; } int later(void) { return 20; }");
    guest(3, "int number(void) { return 3; } int later(void) { return 30; }");
    let later = rt.symbol("guest", "later").unwrap();
    // SAFETY: declared so above.
    let later: extern "C" fn() -> i32 = unsafe { std::mem::transmute(later) };
    assert_eq!(later(), 30);
    rt.rollback(first).unwrap();
    assert_eq!((guest::number(&rt.frame()), later()), (2, 20));
    let Err(Error::MissingFunctions { symbols, .. }) = rt.rollback(lacking) else {
        panic!("a function that was given out would be missing");
    };
    assert_eq!(symbols, ["later"]);
    assert_eq!((guest::number(&rt.frame()), later()), (2, 20), "nothing has moved");
    rt.unload("guest").unwrap();
}

#[test]
fn modules_go_back_together_with_those_that_call_them() {
    let (rt, shop, _turn) = start("together");
    let guest = |version: u32, value| {
        shop.module(
            "guest",
            version,
            &format!("int number(void) {{ return {value}; }} int extra{version}(void) {{ return {value}; }}"),
        )
    };
    let caller = |version: u32| {
        shop.module(
            "caller",
            version,
            &format!("int extra{version}(void); int through(void) {{ return 100 + extra{version}(); }}"),
        )
    };
    // SAFETY: as declared.
    let load_all = |paths: [PathBuf; 2]| unsafe { rt.load_all(paths) }.unwrap().generation;
    let first = load_all([guest(1, 1), caller(1)]);
    // The new caller calls what only the new guest has, and the other way round.
    let second = load_all([guest(2, 2), caller(2)]);
    assert_eq!(caller::through(&rt.frame()), 102);
    rt.rollback(first).unwrap();
    assert_eq!(caller::through(&rt.frame()), 101);
    rt.rollback(second).unwrap();
    assert_eq!(caller::through(&rt.frame()), 102);
    rt.unload("caller").unwrap();
    rt.unload("guest").unwrap();
}

#[test]
fn what_is_back_already_is_not_kept_twice() {
    let (rt, shop, _turn) = start("twice");
    let first = load(rt, &counted(&shop, 20));
    load(rt, &counted(&shop, 21));
    rt.rollback(first).unwrap();
    let again = rt.rollback(first).unwrap();
    assert!(again.modules.is_empty(), "nothing was to be changed: {again:?}");
    assert_eq!(counted::number(&rt.frame()), 20);
    // When both are replaced, and history has forgotten them, they end.
    rt.unload("counted").unwrap();
    let filler = shop.module("filler", 1, "int number(void) { return 7; }");
    for _ in 0..=HISTORY {
        load(rt, &filler);
    }
    rt.collect().unwrap();
    assert_eq!(ended_versions() >> 20 & 0b11, 0b11);
    rt.unload("filler").unwrap();
}

#[test]
fn a_version_that_has_come_back_already_is_not_brought_back_again() {
    let (rt, shop, _turn) = start("back-already");
    let first = load(rt, &shop.module("guest", 1, "int number(void) { return 1; }"));
    let keep = LoadOptions::new().keep_previous(true);
    let second = shop.module("guest", 2, "int number(void) { return 2; }");
    // SAFETY: as above.
    unsafe { rt.load_with([&second], &keep) }.unwrap();
    rt.rollback(first).unwrap();
    assert_eq!(guest::number(&rt.frame()), 1);
    let before = rt.frame().generation();
    let error = rt.rollback_module("guest").unwrap_err();
    assert!(matches!(error, Error::NoPreviousVersion { .. }), "{error}");
    assert_eq!((guest::number(&rt.frame()), rt.frame().generation()), (1, before));
}
