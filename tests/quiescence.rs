//! Versions of modules whose addresses have escaped, freed when no thread is inside: by looking at the threads.

mod support;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use midflight::{Config, Error, Runtime};
use support::Workshop;

midflight::module! {
    mod waiting { fn number() -> i32; }
}

/// A user-mode emulator has a thread of its own among ours, which blocks every signal: no look at the threads is ever complete.
fn is_emulated() -> bool {
    std::env::var("MIDFLIGHT_TEST_RUNNER").is_ok_and(|runner| runner.contains("qemu"))
}

/// `wait` returns the version's number when it is let go.
fn waiting(shop: &Workshop, version: u32) -> PathBuf {
    let source = format!(
        "int number(void) {{ return {version}; }}
         int wait(volatile char *inside, volatile char *go) {{ *inside = 1; while (!*go) ; return number(); }}"
    );
    shop.module("waiting", version, &source)
}

/// Calls a module: on a thread of its own, so that no dead return address stays on this one's stack, where every word counts.
fn elsewhere<T: Send>(call: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(call).join().unwrap())
}

type Wait = extern "C" fn(*const AtomicBool, *const AtomicBool) -> i32;

#[test]
fn a_version_is_freed_when_no_thread_is_inside_and_not_before() {
    let shop = Workshop::new("quiescence");
    let mut config = Config::default();
    config.max_memory = Some(16 << 20);
    let rt = Runtime::start_with(config).unwrap();
    // SAFETY: as declared, here and below.
    let load = |path: &PathBuf| unsafe { rt.load(path) };
    load(&waiting(&shop, 1)).unwrap();
    // SAFETY: the module's function is of this type.
    let wait: Wait = unsafe { std::mem::transmute(rt.symbol("waiting", "wait").unwrap()) };

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
        load(&waiting(&shop, 2)).unwrap();
        let looked = rt.collect_quiescent().unwrap();
        assert_eq!((looked.collected.retained, looked.collected.freed), (1, 0), "{looked:?}");
        assert!(looked.threads >= 2 && !looked.longest_stop.is_zero(), "{looked:?}");
        let [kept] = &looked.kept[..] else { panic!("{looked:?}") };
        assert_eq!((&*kept.module, kept.version), ("waiting", 1));
        let because = kept.because.join(", ");
        assert!(because.contains("in the module") && because.contains("has an address"), "{because}");
        go.store(true, Ordering::Release);
        assert_eq!(called.join().unwrap(), 1, "the old version was still there");
    });
    let looked = rt.collect_quiescent().unwrap();
    if is_emulated() {
        assert_eq!(looked.collected.retained, 1);
        assert!(looked.kept[0].because.iter().all(|why| !why.contains("has an address")), "{looked:?}");
    } else {
        assert_eq!((looked.collected.retained, looked.collected.freed), (0, 1), "{looked:?}");
        assert!(looked.kept.is_empty());
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
    let loaded = (0..20).try_for_each(|round| load(&files[round % 2]).map(|_| ()));
    if is_emulated() {
        assert!(matches!(loaded, Err(Error::MemoryLimit { retained: 1.., .. })), "{loaded:?}");
        return;
    }
    loaded.unwrap();
    assert_eq!(elsewhere(|| waiting::number(&rt.frame())), 4);

    // A module that is to be retained is, whatever the threads have.
    let looked = rt.collect_quiescent().unwrap();
    assert_eq!(looked.collected.retained, 0, "{looked:?}");
    rt.retain("waiting").unwrap();
    load(&waiting(&shop, 5)).unwrap();
    let looked = rt.collect_quiescent().unwrap();
    assert_eq!((looked.collected.retained, looked.threads), (1, 0), "{looked:?}");
    // SAFETY: no thread is inside any of them.
    let collected = unsafe { rt.collect_escaped() }.unwrap();
    assert_eq!((collected.retained, collected.freed), (0, 1));
    assert!(rt.retain("nobody").is_err());
}
