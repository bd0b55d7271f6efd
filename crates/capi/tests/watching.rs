//! Watches: files are reloaded by themselves, and the callbacks are told.

mod support;

use std::ffi::{CString, c_char, c_int};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use midflight::ErrorKind::{self, Busy, NotWatched};
use midflight_c::hot_reload::*;
use midflight_c::runtime_core::*;
use support::*;

static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn tell(what: String) {
    TOLD.lock().unwrap().push(what);
}

/// Waits until it was told, and returns all until then.
fn wait_for(what: &str) -> Vec<String> {
    let clock = Instant::now();
    loop {
        let mut told = TOLD.lock().unwrap();
        if told.iter().any(|told| told.contains(what)) {
            return std::mem::take(&mut told);
        }
        assert!(clock.elapsed() < Duration::from_secs(20), "`{what}` was not told: {told:?}");
        drop(told);
        std::thread::sleep(Duration::from_millis(5));
    }
}

extern "C-unwind" fn progress(path: *const c_char, percent: u32) {
    assert_eq!(runtime_shutdown(), Busy as c_int);
    tell(format!("progress {} {percent}", text(path)));
}

extern "C-unwind" fn complete(path: *const c_char, success: bool, duration: f64) {
    assert_eq!(runtime_shutdown(), Busy as c_int);
    assert_eq!(init(&RuntimeConfig::default()), Busy as c_int);
    // SAFETY: a string.
    assert_eq!(unsafe { hot_reload_unwatch(path) }, Busy as c_int);
    tell(format!("complete {} {success} {}", text(path), duration > 0.0));
}

extern "C-unwind" fn error(path: *const c_char, code: c_int, message: *const c_char) {
    tell(format!("error {} {code} {}", text(path), text(message)));
}

fn watch(path: &CString, config: &HotReloadConfig) -> c_int {
    // SAFETY: the tests' modules are sound.
    unsafe { hot_reload_watch(path.as_ptr(), config) }
}

fn unwatch(path: &CString) -> c_int {
    // SAFETY: a string.
    unsafe { hot_reload_unwatch(path.as_ptr()) }
}

fn telling() -> HotReloadConfig {
    HotReloadConfig {
        progress_callback: Some(progress),
        complete_callback: Some(complete),
        error_callback: Some(error),
        ..HotReloadConfig::default()
    }
}

/// As compilers do it, and careful people.
fn put(from: &Path, to: &Path) {
    let beside = to.with_extension("new");
    std::fs::copy(from, &beside).unwrap();
    std::fs::rename(beside, to).unwrap();
}

#[test]
fn what_is_written_is_loaded() {
    let session = start("watch");
    let path = session.path("libwatched.so");
    let string = c(&path);
    let versions: Vec<_> = (1..=3).map(|n| session.module("watched", n, &returns(n as i32))).collect();
    put(&versions[0], &path);
    ok(reload(&path));
    {
        // Everything is copied: nothing of the caller's is kept.
        let (string, config) = (string.clone(), Box::new(telling()));
        ok(watch(&string, &config));
    }
    assert_eq!(statistics().watched_files, 1);
    put(&versions[1], &path);
    let name = path.to_str().unwrap();
    let told = wait_for("complete");
    let Some((last, before)) = told.split_last() else { panic!() };
    assert_eq!(*last, format!("complete {name} true true"));
    assert!(
        before.len() > 1 && before.iter().all(|told| told.starts_with(&format!("progress {name} "))),
        "{told:?}"
    );
    assert!(before.last().unwrap().ends_with(" 100"), "{told:?}");
    assert_eq!(call(c"watched", c"value"), 2);

    // What is wrong is told, and the old version serves on.
    std::fs::write(path.with_extension("bad"), "no module").unwrap();
    std::fs::rename(path.with_extension("bad"), &path).unwrap();
    let told = wait_for("complete");
    let code = ErrorKind::InvalidModule as c_int;
    assert!(told.iter().any(|told| told.starts_with(&format!("error {name} {code} "))), "{told:?}");
    assert!(told.last().unwrap().starts_with(&format!("complete {name} false")), "{told:?}");
    assert_eq!(call(c"watched", c"value"), 2);

    // Another configuration, without callbacks but one.
    let quiet = HotReloadConfig { complete_callback: Some(complete), ..HotReloadConfig::default() };
    ok(watch(&string, &quiet));
    assert_eq!(statistics().watched_files, 1);
    put(&versions[2], &path);
    let told = wait_for("complete");
    assert_eq!(told, [format!("complete {name} true true")]);
    assert_eq!(call(c"watched", c"value"), 3);

    ok(unwatch(&string));
    fails(unwatch(&string), NotWatched, "libwatched.so");
    assert_eq!(statistics().watched_files, 0);
}

#[test]
fn shutdown_ends_watches() {
    let session = start("watch-shutdown");
    let path = session.path("libended.so");
    let string = c(&path);
    ok(watch(&string, &telling()));
    own_threads_become(1);
    ok(runtime_shutdown());
    ok(init(&RuntimeConfig::default()));
    assert_eq!(statistics().watched_files, 0);
    own_threads_become(0);
    fails(unwatch(&string), NotWatched, "libended.so");
    // The file need not be there yet.
    ok(watch(&string, &telling()));
    put(&session.module("ended", 1, &returns(1)), &path);
    wait_for("complete");
    assert_eq!(call(c"ended", c"value"), 1);
}

#[test]
fn what_cannot_be_watched() {
    let session = start("watch-refused");
    let dry = HotReloadConfig { dry_run: true.into(), ..HotReloadConfig::default() };
    fails(watch(&c(session.path("x.so")), &dry), ErrorKind::InvalidArgument, "dry_run");
    assert_eq!(statistics().watched_files, 0);
}
