//! What reloads tell, in which order, and what may be called meanwhile.

mod support;

use std::ffi::{c_char, c_int};
use std::sync::Mutex;

use midflight::ErrorKind::{self, Busy};
use midflight_c::hot_reload::*;
use midflight_c::runtime_core::*;
use support::*;

#[derive(Clone, PartialEq, Debug)]
enum Told {
    Progress(String, u32),
    Complete(String, bool, f64),
    Error(String, c_int, String),
}
use Told::{Complete, Error, Progress};

/// One test has it at a time: [`start`].
static TOLD: Mutex<Vec<Told>> = Mutex::new(Vec::new());

fn tell(what: Told) {
    TOLD.lock().unwrap().push(what);
}

fn told() -> Vec<Told> {
    std::mem::take(&mut TOLD.lock().unwrap())
}

extern "C-unwind" fn progress(path: *const c_char, percent: u32) {
    tell(Progress(text(path), percent));
}

extern "C-unwind" fn complete(path: *const c_char, success: bool, duration: f64) {
    tell(Complete(text(path), success, duration));
}

extern "C-unwind" fn error(path: *const c_char, code: c_int, message: *const c_char) {
    tell(Error(text(path), code, text(message)));
}

fn telling() -> HotReloadConfig {
    HotReloadConfig {
        progress_callback: Some(progress),
        complete_callback: Some(complete),
        error_callback: Some(error),
        ..HotReloadConfig::default()
    }
}

/// The percentages that one path was told.
fn percentages(told: &[Told], path: &str) -> Vec<u32> {
    let of = |told: &Told| match told {
        Progress(of, percent) if of == path => Some(*percent),
        _ => None,
    };
    told.iter().filter_map(of).collect()
}

#[test]
fn a_reload_that_works() {
    let session = start("callbacks-good");
    let path = session.module("told", 1, &returns(1));
    let name = path.to_str().unwrap().to_owned();
    for config in [telling(), HotReloadConfig { dry_run: true.into(), ..telling() }] {
        let clock = std::time::Instant::now();
        ok(reload_with(&path, &config));
        let took = clock.elapsed().as_secs_f64() * 1e3;
        let told = told();
        let percent = percentages(&told, &name);
        assert!(percent.len() > 1 && percent.is_sorted() && percent.last() == Some(&100), "{percent:?}");
        let [before @ .., Complete(path, true, duration)] = &told[..] else { panic!("{told:?}") };
        assert!(before.iter().all(|told| matches!(told, Progress(..))), "{told:?}");
        assert_eq!(*path, name);
        assert!(*duration > 0.0 && *duration <= took, "{duration} of {took}");
    }
}

#[test]
fn a_reload_that_fails() {
    let session = start("callbacks-bad");
    let path = session.file("libbad.so", b"no module");
    fails(reload_with(&path, &telling()), ErrorKind::InvalidModule, "libbad.so");
    let name = path.to_str().unwrap().to_owned();
    let told = told();
    assert!(!percentages(&told, &name).contains(&100));
    let [.., Error(of, code, message), Complete(completed, false, duration)] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!((of, *code, completed), (&name, ErrorKind::InvalidModule as c_int, &name));
    assert!(message.contains("libbad.so") && *message == last(), "{message}");
    assert!(*duration > 0.0);
}

#[test]
fn an_atomic_reload_tells_of_each_and_of_the_one_to_blame() {
    let session = start("callbacks-atomic");
    let good = session.module("good", 1, &returns(1));
    let bad = session.module("missing", 1, "int nowhere(void); int value(void) { return nowhere(); }");
    let paths = [good.clone(), bad.clone()];
    fails(reload_all(&paths, &telling()), ErrorKind::Unresolved, "nowhere");
    let [good, bad] = [good, bad].map(|path| path.to_str().unwrap().to_owned());
    let told_of = told();
    let rest: Vec<_> = told_of.iter().filter(|told| !matches!(told, Progress(..))).collect();
    let [Error(to_blame, ..), Complete(first, false, _), Complete(second, false, _)] = rest[..] else {
        panic!("{rest:?}")
    };
    assert_eq!((to_blame, first, second), (&bad, &good, &bad));

    // Nobody is to blame for the time.
    let hurried = HotReloadConfig { reload_timeout_ns: 1, ..telling() };
    fails(reload_all(&paths[..1], &hurried), ErrorKind::Timeout, "Hot-reload timeout after 0ms");
    assert!(told().iter().any(|told| matches!(told, Error(path, ..) if *path == good)));

    ok(reload_all(&paths[..1], &telling()));
    let told = told();
    assert_eq!(percentages(&told, &good).last(), Some(&100));
    assert!(matches!(told.last(), Some(Complete(path, true, _)) if *path == good));
}

#[test]
fn arguments_that_are_refused_begin_no_reload() {
    let _session = start("callbacks-none");
    fails(reload_with("", &telling()), ErrorKind::InvalidArgument, "empty");
    assert_eq!(told(), []);
}

#[test]
fn callbacks_may_be_missing() {
    let session = start("callbacks-null");
    let path = session.module("quiet", 1, &returns(1));
    for missing in 0..3 {
        let mut config = telling();
        match missing {
            0 => config.progress_callback = None,
            1 => config.complete_callback = None,
            _ => config.error_callback = None,
        }
        ok(reload_with(&path, &config));
        fails(reload_with("/nowhere", &config), ErrorKind::Io, "/nowhere");
        let told = told();
        assert_eq!(told.iter().any(|told| matches!(told, Progress(..))), missing != 0);
        assert_eq!(told.iter().any(|told| matches!(told, Complete(..))), missing != 1);
        assert_eq!(told.iter().any(|told| matches!(told, Error(..))), missing != 2);
    }
}

/// What every callback gets that calls what would wait for itself.
fn never_from_callbacks() {
    fails(runtime_shutdown(), Busy, "runtime_shutdown()");
    fails(init(&RuntimeConfig::default()), Busy, "runtime_init()");
    // SAFETY: a string.
    unsafe {
        fails(hot_reload_watch(c"/tmp/x.so".as_ptr(), std::ptr::null()), Busy, "hot_reload_watch()");
        fails(hot_reload_unwatch(c"/tmp/x.so".as_ptr()), Busy, "hot_reload_unwatch()");
    }
}

static MODULE: Mutex<Option<std::path::PathBuf>> = Mutex::new(None);

extern "C-unwind" fn busy_progress(_: *const c_char, percent: u32) {
    never_from_callbacks();
    fails(reload("/nowhere"), Busy, "busy");
    fails(unload(c"inner"), Busy, "busy");
    fails(rollback(c"inner"), Busy, "busy");
    tell(Progress(String::new(), percent));
}

extern "C-unwind" fn asking_progress(_: *const c_char, percent: u32) {
    assert_eq!(status().state, 2);
    let _ = statistics();
    tell(Progress(String::new(), percent));
}

extern "C-unwind" fn busy_complete(_: *const c_char, _: bool, _: f64) {
    never_from_callbacks();
    assert_eq!(status().state, 1);
    let module = MODULE.lock().unwrap().clone().unwrap();
    ok(reload(module));
    assert_eq!(call(c"inner", c"value"), 5);
    tell(Complete(String::new(), true, 0.0));
}

extern "C-unwind" fn busy_error(_: *const c_char, _: c_int, _: *const c_char) {
    never_from_callbacks();
    let module = MODULE.lock().unwrap().clone().unwrap();
    ok(reload(module));
    ok(unload(c"inner"));
    tell(Error(String::new(), 0, String::new()));
}

#[test]
fn what_callbacks_may_call() {
    let session = start("callbacks-calls");
    *MODULE.lock().unwrap() = Some(session.module("inner", 1, &returns(5)));
    let path = session.module("outer", 1, &returns(1));
    let busy = HotReloadConfig {
        progress_callback: Some(busy_progress),
        complete_callback: Some(busy_complete),
        error_callback: Some(busy_error),
        ..HotReloadConfig::default()
    };
    ok(reload_with(&path, &busy));
    assert!(told().len() > 1);
    fails(reload_with("/nowhere", &busy), ErrorKind::Io, "/nowhere");
    let told_of = told();
    assert_eq!(told_of.iter().filter(|told| !matches!(told, Progress(..))).count(), 2, "{told_of:?}");
    assert_eq!(status().state, 1);
}

#[test]
fn a_progress_callback_may_ask() {
    let session = start("callbacks-ask");
    let path = session.module("asked", 1, &returns(1));
    ok(reload_with(
        &path,
        &HotReloadConfig { progress_callback: Some(asking_progress), ..HotReloadConfig::default() },
    ));
    assert!(told().len() > 1);
}
