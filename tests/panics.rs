//! Panics in Rust modules, which bring a standard library of their own: caught there, and reported
//! with names and lines.

mod support;

use std::path::Path;

use midflight::Runtime;
use support::{start, this_test};

midflight::module! {
    unsafe mod panics { safe fn quiet(); safe fn caught(x: i32) -> i32; safe fn in_a_thread(x: i32) -> i32; safe fn escapes(); safe fn unwinds(); }
}

/// `deep_in_the_module` panics on line 6.
const SOURCE: &str = r#"
use std::panic::catch_unwind;

#[inline(never)]
fn deep_in_the_module(x: i32) -> i32 {
    assert!(x >= 0, "below zero: {x}");
    x + 1
}

#[unsafe(no_mangle)]
extern "C" fn quiet() {
    std::panic::set_hook(Box::new(|_| ()));
}

#[unsafe(no_mangle)]
extern "C" fn caught(x: i32) -> i32 {
    catch_unwind(|| deep_in_the_module(x)).unwrap_or(-1)
}

#[unsafe(no_mangle)]
extern "C" fn in_a_thread(x: i32) -> i32 {
    std::thread::spawn(move || deep_in_the_module(x)).join().unwrap_or(-2)
}

#[unsafe(no_mangle)]
extern "C" fn escapes() {
    deep_in_the_module(-1);
}

#[unsafe(no_mangle)]
extern "C-unwind" fn unwinds() {
    deep_in_the_module(-1);
}
"#;

fn load(rt: Runtime, path: &Path) {
    // SAFETY: the tests' modules have the functions as declared above.
    unsafe { rt.load(path) }.unwrap();
}

/// What the test prints when it is run in a process of its own, and whether that succeeds.
fn output_of(test: &str, child: &str) -> (String, bool) {
    let output = this_test(test).env(child, "1").env("RUST_BACKTRACE", "1").output().unwrap();
    (String::from_utf8_lossy(&output.stderr).into_owned(), output.status.success())
}

#[test]
fn caught_where_they_are_and_by_the_thread_they_end() {
    let (rt, shop, _turn) = start("panics");
    let versions = [1, 2].map(|n| shop.rust("panics", n, SOURCE, &["-O"]));
    for round in 0..6 {
        load(rt, &versions[round % 2]);
        let frame = rt.frame();
        panics::quiet(&frame);
        assert_eq!([panics::caught(&frame, 1), panics::caught(&frame, -5)], [2, -1]);
        assert_eq!([panics::in_a_thread(&frame, 1), panics::in_a_thread(&frame, -5)], [2, -2]);
    }
    let left = rt.collect().unwrap();
    assert_eq!((left.held, left.retained), (0, 0));
}

// macOS's standard library asks dyld what is loaded, and dyld has not loaded it.
#[cfg(target_os = "linux")]
#[test]
fn a_backtrace_has_the_modules_functions_and_lines_and_never_wrong_ones() {
    const CHILD: &str = "MIDFLIGHT_TEST_BACKTRACE";
    if std::env::var_os(CHILD).is_some() {
        let (rt, shop, _turn) = start("backtrace");
        let first = shop.rust("panics", 1, SOURCE, &["-g"]);
        let moved = SOURCE.replace("fn deep", "fn before() {}\nfn deep");
        let second = shop.rust("panics", 2, &moved, &["-g"]);
        eprintln!("== first");
        load(rt, &first);
        panics::caught(&rt.frame(), -1);
        eprintln!("== second");
        load(rt, &second);
        panics::caught(&rt.frame(), -1);
        eprintln!("== replaced");
        load(rt, &first);
        // Another file takes the place of the one that was loaded.
        std::fs::rename(&second, &first).unwrap();
        panics::caught(&rt.frame(), -1);
        eprintln!("== end");
        return;
    }
    let (text, success) =
        output_of("a_backtrace_has_the_modules_functions_and_lines_and_never_wrong_ones", CHILD);
    assert!(success, "{text}");
    let part = |from: &str, to: &str| {
        let begin =
            text.find(&format!("== {from}\n")).unwrap_or_else(|| panic!("not reached: {from}\n{text}"));
        text[begin..].split(&format!("== {to}\n")).next().unwrap_or_default().to_owned()
    };
    for (from, to, line) in [("first", "second", 6), ("second", "replaced", 7)] {
        let part = part(from, to);
        assert!(part.contains("below zero: -1"), "{part}");
        assert!(part.contains("panics::deep_in_the_module\n"), "{part}");
        assert!(part.contains(&format!("module.rs:{line}:")), "{part}");
    }
    let part = part("replaced", "end");
    assert!(part.contains("below zero: -1") && part.contains("stack backtrace"), "{part}");
    assert!(!part.contains("panics::deep_in_the_module\n"), "names of another file: {part}");
}

#[test]
fn a_panic_that_leaves_an_extern_c_function_ends_the_process() {
    const CHILD: &str = "MIDFLIGHT_TEST_ESCAPING_PANIC";
    if std::env::var_os(CHILD).is_some() {
        let (rt, shop, _turn) = start("escapes");
        load(rt, &shop.rust("panics", 1, SOURCE, &[]));
        panics::escapes(&rt.frame());
        unreachable!("the call returned");
    }
    let (text, success) = output_of("a_panic_that_leaves_an_extern_c_function_ends_the_process", CHILD);
    assert!(!success && text.contains("panic in a function that cannot unwind"), "{text}");
    assert!(!text.contains("the call returned"), "{text}");
}

/// The module's standard library is not the host's, so its panic is a foreign exception here:
/// frames that it passes end, and whoever would catch it ends the process. docs/rust-modules.md
/// says what to do.
#[test]
fn a_panic_that_a_host_would_catch_ends_the_process_and_says_why() {
    const CHILD: &str = "MIDFLIGHT_TEST_CAUGHT_BY_THE_HOST";
    struct Dropped;
    impl Drop for Dropped {
        fn drop(&mut self) {
            eprintln!("a frame of the host's was left");
        }
    }
    if std::env::var_os(CHILD).is_some() {
        let (rt, shop, _turn) = start("unwinds");
        load(rt, &shop.rust("panics", 1, SOURCE, &[]));
        // It needs no AssertUnwindSafe: nothing of the runtime is broken by a panic.
        let caught = std::panic::catch_unwind(|| {
            let _dropped = Dropped;
            panics::unwinds(&rt.frame());
        });
        unreachable!("it was caught: {}", caught.is_err());
    }
    let (text, success) = output_of("a_panic_that_a_host_would_catch_ends_the_process_and_says_why", CHILD);
    assert!(!success && text.contains("below zero: -1"), "{text}");
    assert!(text.contains("a frame of the host's was left"), "{text}");
    assert!(text.contains("Rust cannot catch foreign exceptions"), "{text}");
    assert!(!text.contains("it was caught"), "{text}");
}
