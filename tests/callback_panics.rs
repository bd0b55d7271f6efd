//! A callback may panic whenever it is called: then a load has not been, and leaves nothing behind.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use midflight::{LoadOptions, Runtime};
use support::*;

/// What a module needs of the program: counts of constructors and destructors that have run.
type Counts = [AtomicI64; 2];

midflight::module! {
    unsafe mod panicky_a { safe fn number() -> i32; }
    unsafe mod panicky_b { safe fn number() -> i32; safe fn through() -> i32; }
    unsafe mod panicky_c { safe fn number() -> i32; }
}

static COUNTS: Counts = [AtomicI64::new(0), AtomicI64::new(0)];

/// Where modules find the counts: in the environment, which constructors are given.
fn source(n: u32, calls: bool) -> String {
    let through = match calls {
        true => "int number_of_a(void); int through(void) { return number_of_a(); }",
        false => "",
    };
    let provides = if calls { "" } else { "int number_of_a(void) { return number(); }" };
    format!(
        "#include <stdlib.h>
        #include <string.h>
        static long *counts;
        static char *filled;
        static __thread int used;
        int number(void) {{ return {n} + used; }}
        {provides}
        {through}
        __attribute__((constructor)) static void begin(int argc, char **argv, char **environment) {{
            for (; *environment; environment++)
                if (!strncmp(*environment, \"MIDFLIGHT_TEST_COUNTS=\", 22)) counts = (long *)strtoul(*environment + 22, 0, 10);
            __atomic_fetch_add(&counts[0], 1, __ATOMIC_SEQ_CST);
            used = 100; used = 0;
            filled = malloc(100);
        }}
        __attribute__((destructor)) static void end(void) {{
            __atomic_fetch_add(&counts[1], 1, __ATOMIC_SEQ_CST);
            free(filled);
        }}"
    )
}

const NAMES: [&str; 3] = ["panicky_a", "panicky_b", "panicky_c"];

/// Two versions of each module.
fn modules(shop: &Workshop) -> Vec<[PathBuf; 2]> {
    let place = (&raw const COUNTS).addr();
    // SAFETY: whoever looks at the environment of this process does so in the loads of the thread
    // that has the turn.
    unsafe { std::env::set_var("MIDFLIGHT_TEST_COUNTS", place.to_string()) };
    let make = |(at, name): (usize, &&str)| {
        [1, 2].map(|n| {
            // Only one has the function that the second calls.
            let text = source(n, at == 1);
            let text = if at == 2 { text.replace("number_of_a", "number_of_c") } else { text };
            shop.module(name, n, &text)
        })
    };
    NAMES.iter().enumerate().map(make).collect()
}

/// Constructors less destructors: versions that are there.
fn alive() -> i64 {
    COUNTS[0].load(Ordering::SeqCst) - COUNTS[1].load(Ordering::SeqCst)
}

fn numbers(rt: Runtime) -> [i32; 4] {
    let frame = rt.frame();
    [
        panicky_a::number(&frame),
        panicky_b::number(&frame),
        panicky_c::number(&frame),
        panicky_b::through(&frame),
    ]
}

/// What a call of a callback panics with: any value may be it.
struct Thrown(usize);

#[test]
fn a_progress_callback_that_panics_at_any_call_leaves_nothing() {
    let (rt, shop, _turn) = start("callback-panics");
    let versions = modules(&shop);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    // SAFETY: the modules have the functions as declared above.
    unsafe { rt.load_all(versions.iter().map(|of| &of[0])) }.unwrap();
    let (mut current, mut seed) = ([0_usize; 3], 0x2545_f491_4f6c_dd15_u64);
    let mut below = |n: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % n as u64) as usize
    };
    // At which percentages it has panicked; the mappings when nothing new was to be made any more.
    let (mut seen, mut settled) = (std::collections::BTreeMap::new(), None);
    for round in 0..150 {
        let chosen: Vec<usize> = match below(4) {
            0 => vec![0, 1, 2],
            _ => vec![below(3)],
        };
        let next = below(2);
        let paths: Vec<&Path> = chosen.iter().map(|&at| versions[at][next].as_path()).collect();
        let (calls, panics_at, reached) = (AtomicUsize::new(0), below(6 * paths.len()), AtomicUsize::new(0));
        let progress = |_: &Path, percent: u32| {
            reached.store(percent as usize, Ordering::SeqCst);
            if calls.fetch_add(1, Ordering::SeqCst) == panics_at {
                panic_any(Thrown(panics_at));
            }
        };
        let options = LoadOptions::new()
            .validate(below(8) == 0)
            .threads(2 * below(2))
            .verify(below(2) == 0)
            .timeout(Duration::from_secs(3600))
            .progress(&progress);
        let generation = rt.frame().generation();
        let load = || {
            // SAFETY: as above.
            unsafe { rt.load_with(&paths, &options) }
        };
        match catch_unwind(AssertUnwindSafe(load)) {
            Ok(published) => _ = published.unwrap(),
            Err(panic) => {
                assert_eq!(panic.downcast_ref::<Thrown>().map(|thrown| thrown.0), Some(panics_at));
                *seen.entry(reached.load(Ordering::SeqCst)).or_insert(0) += 1;
            }
        }
        let published = reached.load(Ordering::SeqCst) == 100;
        assert_eq!(rt.frame().generation(), generation + u64::from(published), "round {round}");
        if published {
            chosen.iter().for_each(|&at| current[at] = next);
        }
        let left = rt.collect().unwrap();
        assert_eq!((left.held, left.retained, left.busy, left.old_bytes), (0, 0, 0, 0), "round {round}");
        assert_eq!(alive(), 3, "round {round}, at {reached:?}");
        let [a, b, c] = current.map(|at| at as i32 + 1);
        assert_eq!(numbers(rt), [a, b, c, a], "round {round}");
        if round >= 60 {
            let bytes = rt.statistics().unwrap().current_bytes;
            let mappings = count_mappings();
            let (most_bytes, most) = *settled.get_or_insert((bytes, mappings));
            assert!(bytes <= most_bytes && mappings <= most + 4, "round {round}: {bytes} {mappings}");
        }
    }
    std::panic::set_hook(hook);
    assert!([20, 40, 70, 90, 100].iter().all(|percent| seen.contains_key(percent)), "{seen:?}");
    rt.unload_all(NAMES).unwrap();
    rt.collect().unwrap();
    assert_eq!(alive(), 0);
}

#[test]
fn a_load_of_a_watch_whose_callbacks_panic_leaves_nothing_and_the_watch_goes_on() {
    static PANICS_AT: AtomicUsize = AtomicUsize::new(0);
    static OUTCOMES: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let (rt, shop, _turn) = start("callback-panics-watch");
    let versions = modules(&shop);
    let watched = shop.path(&library_name("panicky_a"));
    let contents = AtomicUsize::new(0);
    let replace = |n: usize| {
        // A content that it has not had: each is handed on once.
        let number = contents.fetch_add(1, Ordering::SeqCst);
        let fresh = shop.path("fresh");
        let mut bytes = std::fs::read(&versions[0][n]).unwrap();
        bytes.extend(number.to_ne_bytes());
        std::fs::write(&fresh, bytes).unwrap();
        std::fs::rename(&fresh, &watched).unwrap();
    };
    replace(0);
    // SAFETY: the modules have the functions as declared above.
    unsafe { rt.load_all([&watched, &versions[1][0], &versions[2][0]]) }.unwrap();
    let progress: &'static (dyn Fn(&Path, u32) + Sync) =
        &|_, percent| assert_ne!(percent as usize, PANICS_AT.load(Ordering::SeqCst), "as the test wants it");
    let options = LoadOptions::new().progress(progress);
    let outcome = |_: &Path, result: Result<midflight::Publication, midflight::Error>| {
        OUTCOMES.lock().unwrap().push(result.map_or_else(|error| error.to_string(), |_| "published".into()));
        assert_ne!(PANICS_AT.load(Ordering::SeqCst), 1, "as the test wants it, of what is told");
    };
    // SAFETY: as above.
    unsafe { rt.watch(&watched, &options, outcome) }.unwrap();
    let mut generation = rt.frame().generation();
    for (round, percent) in [20, 0, 40, 70, 1, 90, 100, 0].into_iter().enumerate() {
        PANICS_AT.store(percent, Ordering::SeqCst);
        let before = OUTCOMES.lock().unwrap().len();
        replace(round % 2);
        // The one that panics when it is told is told so once more.
        let expected = before + if percent == 1 { 2 } else { 1 };
        let deadline = Instant::now() + Duration::from_secs(60);
        while OUTCOMES.lock().unwrap().len() < expected {
            assert!(Instant::now() < deadline, "nothing was told: {:?}", OUTCOMES.lock().unwrap());
            std::thread::sleep(Duration::from_millis(1));
        }
        let told = OUTCOMES.lock().unwrap()[before..].to_vec();
        match percent {
            0 => assert_eq!(told, ["published"]),
            1 => assert!(told[0] == "published" && told[1].contains("as the test wants it"), "{told:?}"),
            _ => assert!(told[0].contains("as the test wants it"), "{told:?}"),
        }
        generation += u64::from([0, 1, 100].contains(&percent));
        assert_eq!(rt.frame().generation(), generation, "{percent}");
        let left = rt.collect().unwrap();
        assert_eq!((left.held, left.retained, left.busy, left.old_bytes), (0, 0, 0, 0), "{percent}");
        assert_eq!(alive(), 3, "{percent}");
    }
    rt.unwatch(&watched).unwrap();
    rt.unload_all(NAMES).unwrap();
    rt.collect().unwrap();
    assert_eq!(alive(), 0);
}
