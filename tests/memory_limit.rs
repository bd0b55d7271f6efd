//! A limit on code memory. Its own process: the limit is chosen at the runtime's start.

mod support;

use std::path::PathBuf;

use midflight::{Config, Error, LoadOptions, Runtime};
use support::{DONE, Workshop, is_child};

midflight::module! {
    unsafe mod bounded { safe fn number() -> i32; }
}

const LIMIT: usize = 4 << 20;
const MODULE: usize = 700 << 10;

#[test]
fn old_versions_are_bounded_and_what_would_go_past_is_refused_by_name() {
    let shop = Workshop::new("memory-limit");
    let mut config = Config::default();
    config.max_memory = Some(LIMIT);
    config.history = 100;
    let rt = Runtime::start_with(config).unwrap();
    let module = |name: &str, number: i32| {
        let source = format!(
            "static const volatile char ballast[{MODULE}] = {{ 1 }};
             int number(void) {{ return {number} + ballast[{number}]; }}"
        );
        shop.module(name, number as u32, &source)
    };
    let versions = [1, 2].map(|number| module("bounded", number));
    // SAFETY: as declared, here and below.
    let load = |number: usize| unsafe { rt.load(&versions[number % 2]) };

    // History gives way: no more than fits is kept, and nothing is refused.
    for number in 0..50 {
        load(number).unwrap();
    }
    assert_eq!(bounded::number(&rt.frame()), 2);

    // What a frame holds cannot give way. Each other generation goes, so that is one version.
    let frame = rt.frame();
    for number in 0..50 {
        load(number).unwrap();
    }
    assert_eq!(bounded::number(&frame), 2);
    let kept = rt.collect().unwrap().old_bytes;
    assert!(kept > MODULE && kept < LIMIT, "history, and what the frame holds: {kept}");
    drop(frame);

    // A thread parked in each of the latest generations: then there is no room for another.
    std::thread::scope(|scope| {
        let (parked, arrivals) = std::sync::mpsc::channel();
        let mut leave = Vec::new();
        let refused = loop {
            let (go, wait) = std::sync::mpsc::channel::<()>();
            let parked = parked.clone();
            let thread = std::thread::Builder::new().name(format!("parked {}", leave.len()));
            let park = move || {
                let _frame = rt.frame();
                parked.send(()).unwrap();
                // An error says that the test is over.
                let _ = wait.recv();
            };
            thread.spawn_scoped(scope, park).unwrap();
            leave.push(go);
            arrivals.recv().unwrap();
            match load(leave.len()) {
                Ok(_) => assert!(leave.len() < 10, "the limit is passed"),
                Err(error) => break error,
            }
        };
        let Error::MemoryLimit { limit, needed, current, old, held, holders, .. } = &refused else {
            panic!("{refused}");
        };
        assert_eq!((*limit, *held), (LIMIT, leave.len() - 1), "the latest is inside the current one");
        assert!(*needed > MODULE && *current > MODULE && *old > held * MODULE);
        assert!(current + old <= LIMIT && current + old + needed > LIMIT);
        let text = refused.to_string();
        assert!(text.contains("generations") && text.contains("max_memory"), "{text}");
        assert_eq!(*holders, rt.holders().unwrap());
        assert_eq!(holders.len(), *held, "{text}");
        for number in 0..*held {
            assert!(text.contains(&format!("`parked {number}` is in generation")), "{text}");
        }
        let number = bounded::number(&rt.frame());

        // With one of them gone there is room again, and what was current has not moved.
        assert_eq!(number, bounded::number(&rt.frame()));
        drop(leave);
    });
    for number in 0..10 {
        load(number).unwrap();
    }

    // A module that would not fit on its own.
    let huge = shop.module(
        "huge",
        1,
        &format!("const char ballast[{LIMIT}] = {{ 1 }}; int f(void) {{ return 1; }}"),
    );
    // SAFETY: nothing of it is called.
    let refused = unsafe { rt.load(&huge) }.unwrap_err();
    assert!(matches!(refused, Error::MemoryLimit { held: 0, .. }), "{refused}");
    assert_eq!(bounded::number(&rt.frame()), 2);

    // A dry run says so, too: to the byte, with what is current and nothing else.
    let other = module("other", 1);
    let dry_run = |limit| {
        rt.set_max_memory(Some(limit)).unwrap();
        rt.dry_run([&other], &LoadOptions::default())
    };
    let refused = dry_run(MODULE).unwrap_err();
    let Error::MemoryLimit { limit: MODULE, needed, current, .. } = refused else { panic!("{refused}") };
    assert!(needed > MODULE && current > MODULE);
    let refused = dry_run(current + needed - 1).unwrap_err();
    assert!(matches!(refused, Error::MemoryLimit { .. }), "{refused}");
    dry_run(current + needed).unwrap();
    // SAFETY: as declared.
    unsafe { rt.load(&other) }.unwrap();
    rt.set_max_memory(None).unwrap();
    // SAFETY: nothing of it is called.
    unsafe { rt.load(&huge) }.unwrap();
}

const LARGE: &str = "const volatile char ballast[3 << 20] = { 1 }; int number(void) { return ballast[1]; }";

#[test]
fn what_is_kept_stays_while_there_is_room_and_gives_way_when_there_is_none() {
    if !is_child("what_is_kept_stays_while_there_is_room_and_gives_way_when_there_is_none") {
        return;
    }
    let shop = Workshop::new("gives-way");
    let mut config = Config::default();
    (config.max_memory, config.history) = (Some(64 << 20), 1);
    let rt = Runtime::start_with(config).unwrap();
    // SAFETY: as declared, here and below.
    let load = |path: &PathBuf| unsafe { rt.load_with([path], &LoadOptions::new().keep_previous(true)) };
    let versions = [1, 2].map(|number| shop.module("bounded", number, LARGE));
    let lent = shop.module("lent", 1, "int number(void) { return 1; }");
    // SAFETY: as above.
    (0..2).for_each(|_| _ = unsafe { rt.load(&lent) }.unwrap());
    rt.rollback(rt.frame().generation() - 1).unwrap();
    versions.iter().for_each(|path| drop(load(path).unwrap()));
    rt.rollback_module("bounded").unwrap();
    // Three of it: one is current, one history has, one is kept until somebody looks.
    rt.symbol("lent", "number").unwrap();
    // SAFETY: as above.
    (0..2).for_each(|_| _ = unsafe { rt.load(&lent) }.unwrap());
    assert_eq!(rt.collect().unwrap().retained, 1);
    assert!(rt.statistics().unwrap().old_bytes > 3 << 20, "the version before");

    // Of all that only what is current is left.
    let large = shop.module("large", 1, LARGE);
    rt.set_max_memory(Some(1)).unwrap();
    let refused = rt.dry_run([&large], &LoadOptions::default()).unwrap_err();
    let Error::MemoryLimit { needed, current, retained, .. } = refused else { panic!("{refused}") };
    assert_eq!(retained, 1, "a dry run frees nothing");
    // Whoever has an address of what is retained may be this very thread. What history had is
    // retained then, too.
    let some = rt.statistics().unwrap().retained_bytes;
    rt.set_max_memory(Some(current + needed + 2 * some)).unwrap();
    load(&large).unwrap();
    let error = rt.rollback_module("bounded").unwrap_err();
    assert!(matches!(error, Error::NoPreviousVersion { .. }), "{error}");
    println!("{DONE}");
}

/// Of old code, which a frame holds, and of current code together.
#[cfg(target_os = "linux")]
#[test]
fn that_nine_tenths_of_the_limit_are_in_use_is_said() {
    use support::linked::{load, start_logged, warned};
    if !is_child("that_nine_tenths_of_the_limit_are_in_use_is_said") {
        return;
    }
    let (rt, shop, _turn) = start_logged("nine-tenths");
    let [old, new] = [1, 2].map(|version| shop.module("bounded", version, LARGE));
    let small = shop.module("small", 1, "int small(void) { return 1; }");
    load(&rt, &[&old]).unwrap();
    let frame = rt.frame();
    load(&rt, &[&new, &small]).unwrap();
    let used = || {
        let figures = rt.statistics().unwrap();
        figures.current_bytes + figures.old_bytes
    };
    // Loading it again takes no more in the end.
    let said_with = |limit: usize| {
        rt.set_max_memory(Some(limit)).unwrap();
        load(&rt, &[&small]).unwrap();
        warned(&["90%"])
    };
    assert_eq!(said_with(used().div_ceil(9) * 10), 0);
    assert_eq!(said_with((used() - 1) / 9 * 10), 1);
    rt.set_max_memory(None).unwrap();
    drop(frame);
    println!("{}", DONE);
}
