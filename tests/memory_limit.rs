//! A limit on code memory. Its own process: the limit is chosen at the runtime's start.

mod support;

use midflight::{Config, Error, LoadOptions, Runtime};
use support::Workshop;

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
