//! Versions of modules whose addresses have escaped, freed when no thread is inside: by looking at
//! the threads.

mod support;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use midflight::{Config, Error, Kept, Runtime};
use support::looks::{elsewhere, look};
use support::{Workshop, is_emulated};

midflight::module! {
    unsafe mod waiting { safe fn number() -> i32; }
}

/// `wait` returns the version's number when it is let go.
fn waiting(shop: &Workshop, version: u32) -> PathBuf {
    let source = format!(
        "int number(void) {{ return {version}; }}
         int wait(volatile char *inside, volatile char *go) {{ *inside = 1; while (!*go) ; return number(); }}"
    );
    shop.module("waiting", version, &source)
}

/// Lets the waiting thread go, also when the test fails: it would wait for ever for its end.
struct Go<'a>(&'a AtomicBool);

impl Drop for Go<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

type Wait = extern "C" fn(*const AtomicBool, *const AtomicBool) -> i32;

#[test]
fn a_version_is_freed_when_no_thread_is_inside_and_not_before() {
    let shop = Workshop::new("quiescence");
    let mut config = Config::default();
    config.max_memory = Some(16 << 20);
    let rt = Runtime::start_with(config).unwrap();
    // SAFETY: as declared, here and below.
    let load = |path: &PathBuf| elsewhere(|| unsafe { rt.load(path) });
    load(&waiting(&shop, 1)).unwrap();
    // SAFETY: the module's function is of this type.
    let wait: Wait = elsewhere(|| unsafe { std::mem::transmute(rt.symbol("waiting", "wait").unwrap()) });

    // Nothing to look for.
    let nothing = rt.collect_quiescent().unwrap();
    assert_eq!((nothing.threads, nothing.collected.retained, nothing.kept.len()), (0, 0, 0));

    let (inside, go) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("in the module".into());
        let called = thread.spawn_scoped(scope, || wait(&inside, &go)).unwrap();
        while !inside.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        let go = Go(&go);
        load(&waiting(&shop, 2)).unwrap();
        let named = |why: &String| why.contains("in the module") && why.contains("has an address");
        // And nothing else is, where every thread can be looked at.
        let has_address =
            |kept: &Kept| kept.because.iter().any(named) && (is_emulated() || kept.because.iter().all(named));
        let looked = look(rt, |looked| {
            assert_eq!((looked.collected.retained, looked.collected.freed), (1, 0), "{looked:?}");
            looked.kept.iter().any(has_address)
        });
        assert!(looked.threads >= 2 && !looked.longest_stop.is_zero(), "{looked:?}");
        let [kept] = &looked.kept[..] else { panic!("{looked:?}") };
        assert_eq!((&*kept.module, kept.version), ("waiting", 1));
        drop(go);
        assert_eq!(called.join().unwrap(), 1, "the old version was still there");
    });
    if is_emulated() {
        // Nobody has an address, and still it cannot be known.
        let looked = look(rt, |looked| looked.kept[0].because.iter().all(|why| why.contains("signal")));
        assert_eq!(looked.collected.retained, 1);
    } else {
        let looked = look(rt, |looked| looked.kept.is_empty());
        assert_eq!((looked.collected.retained, looked.collected.freed), (0, 1), "{looked:?}");
    }
    assert_eq!(elsewhere(|| (waiting::number(&rt.frame()), wait(&go, &go))), (2, 2));

    // Near the limit, loading looks by itself. No frame holds these, and nobody gives his word.
    let ballast = |number: u32| {
        let source = format!(
            "static const volatile char ballast[3 << 20] = {{ 1 }}; int number(void) {{ return {number} + ballast[5]; }}
             int wait(volatile char *inside, volatile char *go) {{ return number(); }}"
        );
        shop.module("waiting", number, &source)
    };
    let files = [3, 4].map(ballast);
    let until = Instant::now() + Duration::from_secs(20);
    let mut round = 0;
    while round < 20 {
        match load(&files[round % 2]) {
            Ok(_) => round += 1,
            Err(error) => {
                assert!(matches!(error, Error::MemoryLimit { retained: 1.., .. }), "{error}");
                if is_emulated() {
                    return;
                }
                // The look was late. The next may not be.
                assert!(Instant::now() < until, "{error}");
            }
        }
    }
    assert!(!is_emulated());
    assert_eq!(elsewhere(|| waiting::number(&rt.frame())), 4);

    // A module that is to be retained is, whatever the threads have.
    look(rt, |looked| looked.collected.retained == 0);
    rt.retain("waiting").unwrap();
    load(&waiting(&shop, 5)).unwrap();
    let looked = rt.collect_quiescent().unwrap();
    assert_eq!((looked.collected.retained, looked.threads), (1, 0), "{looked:?}");
    // SAFETY: no thread is inside any of them.
    let collected = unsafe { rt.collect_escaped() }.unwrap();
    assert_eq!((collected.retained, collected.freed), (0, 1));
    assert!(rt.retain("nobody").is_err());
}
