//! Checked mode: what is done with frames that no type sees to is reported.

mod support;

use std::os::unix::process::ExitStatusExt;
use std::process::Output;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use midflight::{Checks, Config, ErrorKind, Runtime};
use support::{DONE, Workshop, is_child, this_test};

midflight::module! {
    unsafe mod checked { safe fn value() -> i32; }
}

const HOW: &str = "MIDFLIGHT_TEST_HOW";
const CHECKS: &str = "MIDFLIGHT_CHECKS";

fn source(version: i32) -> String {
    format!(
        "int value(void) {{ return {version}; }}
         double all(int a, int b, int c, int d, int e, int f, int g, int h, double i, double j, double k, double l, double m,
                    double n, double o, double p, int q, double r) {{
             return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i + 10 * j + 11 * k + 12 * l + 13 * m + 14 * n
                    + 15 * o + 16 * p + 17 * q + 18 * r;
         }}"
    )
}

type Value = extern "C" fn() -> i32;
type All = extern "C" fn(
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    f64,
    f64,
    f64,
    f64,
    f64,
    f64,
    f64,
    f64,
    i32,
    f64,
) -> f64;

fn start(checks: Checks) -> Runtime {
    let mut config = Config::default();
    config.checks = checks;
    Runtime::start_with(config).unwrap()
}

fn load(rt: Runtime, shop: &Workshop, version: i32) {
    // SAFETY: the functions have the types that they are called as.
    unsafe { rt.load(shop.module("checked", version as u32, &source(version))) }.unwrap();
}

fn frame_symbol(rt: Runtime) -> Value {
    let address = rt.frame_symbol("checked", "value").unwrap();
    // SAFETY: it is of that type.
    unsafe { std::mem::transmute(address) }
}

/// A test's child, with what the environment says of checks.
fn child(test: &str, how: &str, checks: Option<&str>) -> (Output, String) {
    let mut child = this_test(test);
    child.env(HOW, how).env_remove(CHECKS);
    if let Some(checks) = checks {
        child.env(CHECKS, checks);
    }
    let output = child.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, told)
}

fn how() -> Option<String> {
    std::env::var(HOW).ok()
}

#[test]
fn a_call_outside_frames_of_what_is_for_frames_ends_the_process_and_is_named() {
    const TEST: &str = "a_call_outside_frames_of_what_is_for_frames_ends_the_process_and_is_named";
    if let Some(how) = how() {
        let (rt, shop) = (start(Checks::On), Workshop::new("outside"));
        load(rt, &shop, 1);
        let value = frame_symbol(rt);
        {
            let (frame, _nested) = (rt.frame(), rt.frame());
            assert_eq!(value(), 1);
            let shared = frame.share();
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    let _joined = shared.join().unwrap();
                    assert_eq!(value(), 1);
                });
            });
        }
        println!("{DONE}");
        match &*how {
            "had a frame" => _ = value(),
            "never" => {
                let thread = std::thread::Builder::new().name("careless".into());
                thread.spawn(move || value()).unwrap().join().unwrap();
            }
            _ => unreachable!(),
        }
        std::process::exit(0);
    }
    for (how, thread) in [("had a frame", "a_call_outside"), ("never", "careless")] {
        let (output, told) = child(TEST, how, None);
        assert!(String::from_utf8_lossy(&output.stdout).contains(DONE), "{how}: {told}");
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{how}: {told}");
        let what =
            "midflight: `value` of `checked` was called outside a frame (hot_reload_frame_symbol), by ";
        assert!(told.contains(what) && told.contains(thread), "{how}: {told}");
        assert!(told.contains("hot_reload_symbol()"), "{how}: {told}");
    }
}

/// The last one is off by what the environment says.
#[test]
fn addresses_for_frames_are_checked_where_that_is_on() {
    const TEST: &str = "addresses_for_frames_are_checked_where_that_is_on";
    if let Some(how) = how() {
        let checks = match &*how {
            "on" => Checks::On,
            "off" => Checks::Off,
            _ => Checks::ByBuild,
        };
        let (rt, shop) = (start(checks), Workshop::new("where"));
        load(rt, &shop, 1);
        let anywhere = rt.symbol("checked", "value").unwrap();
        // SAFETY: it is of that type.
        let call: Value = unsafe { std::mem::transmute(anywhere) };
        assert_eq!(call(), 1);
        let checked = rt.frame_symbol("checked", "value").unwrap();
        assert_eq!(checked, rt.frame_symbol("checked", "value").unwrap());
        println!("{DONE} {}", checked != anywhere);
        std::process::exit(0);
    }
    let by_build = cfg!(debug_assertions);
    for (how, environment, expected) in [
        ("on", None, true),
        ("off", None, false),
        ("by build", None, by_build),
        ("off", Some("on"), true),
        ("by build", Some("longest-frame=5"), by_build),
        ("on", Some("longest-frame=5,off"), false),
    ] {
        let (output, told) = child(TEST, how, environment);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(&format!("{DONE} {expected}")), "{how} {environment:?}: {said}\n{told}");
    }
}

#[test]
fn a_checked_call_hands_on_all_arguments() {
    const TEST: &str = "a_checked_call_hands_on_all_arguments";
    if !is_child(TEST) {
        return;
    }
    let (rt, shop) = (start(Checks::On), Workshop::new("arguments"));
    load(rt, &shop, 1);
    let all = rt.frame_symbol("checked", "all").unwrap();
    // SAFETY: it is of that type.
    let all: All = unsafe { std::mem::transmute(all) };
    let _frame = rt.frame();
    let sum = all(1, 2, 3, 4, 5, 6, 7, 8, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17, 18.0);
    assert_eq!(sum, f64::from((1..=18).map(|n| n * n).sum::<i32>()));
    println!("{DONE}");
}

#[test]
fn words_that_the_environment_may_not_have() {
    const TEST: &str = "words_that_the_environment_may_not_have";
    if how().is_some() {
        let error = Runtime::start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        println!("{DONE} {error}");
        std::process::exit(0);
    }
    for word in ["always", "longest-frame=1s", "on,,of"] {
        let (output, told) = child(TEST, "", Some(word));
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(DONE) && said.contains("MIDFLIGHT_CHECKS has "), "{word}: {said}\n{told}");
    }
}

#[test]
fn a_frame_that_is_held_is_reported_once() {
    const TEST: &str = "a_frame_that_is_held_is_reported_once";
    if let Some(how) = how() {
        let mut config = Config::default();
        config.checks = if how == "off" { Checks::Off } else { Checks::On };
        config.longest_frame = Some(Duration::ZERO);
        let (rt, shop) = (Runtime::start_with(config).unwrap(), Workshop::new("held"));
        load(rt, &shop, 1);
        let (entered, is_in) = mpsc::channel();
        let (leave, left) = mpsc::channel::<()>();
        let parked = std::thread::Builder::new().name("parked".into());
        let parked = parked.spawn(move || {
            for _ in 0..2 {
                let _frame = rt.frame();
                entered.send(()).unwrap();
                left.recv().unwrap();
            }
        });
        for version in 2..4 {
            is_in.recv().unwrap();
            load(rt, &shop, version);
            rt.collect().unwrap();
            rt.collect().unwrap();
            leave.send(()).unwrap();
        }
        parked.unwrap().join().unwrap();
        load(rt, &shop, 4);
        rt.collect().unwrap();
        let forgotten = rt.frame();
        rt.shutdown().unwrap();
        drop(forgotten);
        println!("{DONE}");
        std::process::exit(0);
    }
    let (output, told) = child(TEST, "on", None);
    assert!(String::from_utf8_lossy(&output.stdout).contains(DONE), "{told}");
    for (generation, version) in [(1, 1), (2, 2)] {
        let inside = format!("`parked` is inside a frame of generation {generation}, which was replaced 0.");
        let kept = format!("(checked version {version})");
        let of_it =
            |line: &&str| line.contains(&inside) && line.contains(&kept) && line.starts_with("midflight: ");
        assert_eq!(told.lines().filter(of_it).count(), 1, "{inside}: {told}");
    }
    let forgotten = told.lines().filter(|line| line.contains("is inside a frame of generation 4")).count();
    assert_eq!((forgotten, told.matches("inside a frame").count()), (1, 3), "{told}");
    let (output, told) = child(TEST, "off", None);
    assert!(String::from_utf8_lossy(&output.stdout).contains(DONE) && !told.contains("inside"), "{told}");
}

#[test]
fn a_frame_that_is_not_late_yet_is_not_reported_with_one_that_is() {
    const TEST: &str = "a_frame_that_is_not_late_yet_is_not_reported_with_one_that_is";
    const LONGEST: Duration = Duration::from_secs(2);
    if how().is_some() {
        let mut config = Config::default();
        (config.checks, config.longest_frame) = (Checks::On, Some(LONGEST));
        let (rt, shop) = (Runtime::start_with(config).unwrap(), Workshop::new("not-late"));
        load(rt, &shop, 1);
        let late = rt.frame();
        load(rt, &shop, 2);
        let begin = Instant::now();
        std::thread::scope(|scope| {
            let (entered, is_in) = mpsc::channel();
            let (leave, left) = mpsc::channel::<()>();
            scope.spawn(move || {
                let _frame = rt.frame();
                entered.send(()).unwrap();
                left.recv().unwrap_err();
            });
            is_in.recv().unwrap();
            while begin.elapsed() < LONGEST {
                std::thread::yield_now();
            }
            load(rt, &shop, 3);
            drop(leave);
        });
        drop(late);
        println!("{DONE}");
        std::process::exit(0);
    }
    let (output, told) = child(TEST, "", None);
    assert!(String::from_utf8_lossy(&output.stdout).contains(DONE), "{told}");
    let inside = told.matches("is inside a frame of generation 1, ").count();
    assert_eq!((inside, told.matches("inside a frame").count()), (1, 1), "{told}");
}
