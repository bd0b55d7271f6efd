//! The log: what is asked for, and nothing else.

mod support;

use std::ffi::{CString, c_char, c_void};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use midflight::ErrorKind::{self, Busy, Io};
use midflight_c::hot_reload::{HotReloadConfig, hot_reload_rollback};
use midflight_c::runtime_core::*;
use support::*;

const TRACE: i32 = 1;
const INFO: i32 = 3;
const WARN: i32 = 4;
const ERROR: i32 = 5;
const OFF: i32 = 6;

fn logging(file: &CString) -> RuntimeConfig {
    RuntimeConfig { log_file_path: file.as_ptr(), ..RuntimeConfig::default() }
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// A line at WARN, as the runtime writes them, and then its own at ERROR.
fn warn() {
    tracing::warn!(target: "midflight::config", "as of a field that has no effect yet");
    reload("/nowhere");
}

#[test]
fn a_file_has_lines() {
    let session = stopped("log-file");
    let path = session.path("runtime.log");
    std::fs::write(&path, "before\n").unwrap();
    let file = c(&path);
    ok(init(&logging(&file)));
    ok(reload(session.module("logged", 1, &returns(1))));
    fails(reload("/no\nwhere"), Io, "cannot be read");
    ok(runtime_shutdown());
    let text = read(&path);
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("before"));
    let mut levels = Vec::new();
    for line in lines {
        let [time, rest] = line.split_once(' ').map(<[&str; 2]>::from).unwrap();
        let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000-00-00T00:00:00.000000Z", "{line}");
        let (level, rest) = rest.trim_start().split_once(' ').unwrap();
        assert!(rest.starts_with("midflight"), "{line}");
        levels.push(level);
    }
    assert!(levels.contains(&"INFO") && levels.contains(&"ERROR"), "{text}");
    assert!(!levels.contains(&"DEBUG") && !levels.contains(&"TRACE"), "{text}");
    assert!(text.contains("module=\"logged\"") && text.contains("/no\\nwhere"), "{text}");

    // Nothing more once it has stopped, and another file the next time.
    let other = c(session.path("other.log"));
    ok(init(&logging(&other)));
    warn();
    assert_eq!(read(&path), text);
    assert!(read(session.path("other.log")).contains("WARN"));
}

#[test]
fn each_reload_is_a_line_of_json_at_debug() {
    let session = stopped("log-records");
    let path = session.path("records.log");
    let file = c(&path);
    ok(init(&RuntimeConfig { enable_debug_output: true.into(), ..logging(&file) }));
    let keep = HotReloadConfig { backup_current_state: true.into(), ..HotReloadConfig::default() };
    let versions = [1, 2].map(|n| session.module("recorded", n, &returns(n as i32)));
    versions.iter().for_each(|version| ok(reload_with(version, &keep)));
    fails(reload("/no\nwhere \"quoted\""), Io, "cannot be read");
    // SAFETY: a string.
    ok(unsafe { hot_reload_rollback(c"recorded".as_ptr()) });
    // A new configuration that asks for less.
    ok(init(&logging(&file)));
    ok(reload(&versions[1]));
    ok(runtime_shutdown());
    let text = read(&path);
    let records: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split_once("DEBUG midflight::record: "))
        .map(|(_, json)| json)
        .collect();
    let expected = [
        ("published", r#""version":1,"before":null,"unchanged":null,"functions":null,"state":"new"}]}"#),
        ("published", r#""state":"lost"}]}"#),
        (
            "refused",
            r#""path":"/no\u000awhere \"quoted\"","content":null,"version":null,"before":null,"unchanged":null,"functions":null,"state":"untouched"}]}"#,
        ),
        ("rolled back", r#""state":"as left"}]}"#),
    ];
    assert_eq!(records.len(), expected.len(), "{text}");
    for (record, (outcome, end)) in records.iter().zip(expected) {
        assert!(
            record.starts_with(&format!("{{\"outcome\":\"{outcome}\",")) && record.ends_with(end),
            "{record}"
        );
    }
    assert!(records[1].contains(r#""unchanged":false"#), "{}", records[1]);
}

#[test]
fn levels() {
    let session = stopped("log-levels");
    for (level, debug, file_has) in [
        (0, false, "INFO"),
        (INFO, false, "INFO"),
        (WARN, false, "WARN"),
        (ERROR, false, "ERROR"),
        (OFF, false, ""),
    ] {
        let path = session.path(&format!("{level}.log"));
        let file = c(&path);
        ok(init(&RuntimeConfig { log_level: level, enable_debug_output: debug.into(), ..logging(&file) }));
        ok(reload(session.module("levels", 1, &returns(1))));
        warn();
        ok(runtime_shutdown());
        let text = read(&path);
        let order = ["INFO", "WARN", "ERROR"];
        let lowest = order.iter().position(|&name| name == file_has).unwrap_or(order.len());
        for (at, name) in order.into_iter().enumerate() {
            assert_eq!(text.contains(&format!(" {name} ")), at >= lowest, "{level}: {text}");
        }
    }
}

#[test]
fn every_field_that_comes_later_is_named() {
    let session = stopped("log-later");
    let path = session.path("later.log");
    let file = c(&path);
    let config = RuntimeConfig {
        enable_security_monitoring: true.into(),
        enable_compliance_validation: true.into(),
        security_level: 4,
        enable_performance_monitoring: true.into(),
        metrics_collection_interval_ms: 1,
        enable_auto_recovery: true.into(),
        recovery_timeout_ms: 1,
        ..logging(&file)
    };
    ok(init(&config));
    let text = read(&path);
    let fields = [
        "enable_security_monitoring",
        "enable_compliance_validation",
        "security_level",
        "enable_performance_monitoring",
        "metrics_collection_interval_ms",
        "enable_auto_recovery",
        "recovery_timeout_ms",
    ];
    for field in fields {
        let lines: Vec<_> = text.lines().filter(|line| line.contains(&format!("\"{field}\""))).collect();
        assert!(
            matches!(lines[..], [line] if line.contains("WARN") && line.contains(".h\"")),
            "{field}: {text}"
        );
    }
    assert_eq!(text.lines().filter(|line| line.contains(" WARN ")).count(), fields.len(), "{text}");
}

#[test]
fn a_file_that_cannot_be_opened_changes_nothing() {
    let session = start("log-nowhere");
    ok(reload(session.module("there", 1, &returns(1))));
    let file = c(session.path("no/such/folder.log"));
    fails(init(&RuntimeConfig { reload_timeout_ns: 1, ..logging(&file) }), Io, "folder.log");
    ok(reload(session.module("there", 2, &returns(2))));
    ok(runtime_shutdown());
    fails(init(&logging(&file)), Io, "folder.log");
    fails(reload("/nowhere"), ErrorKind::NotInitialized, "runtime_init()");
}

static LINES: Mutex<Vec<(i32, String, String, usize)>> = Mutex::new(Vec::new());

extern "C-unwind" fn line(level: i32, target: *const c_char, message: *const c_char, user: *mut c_void) {
    LINES.lock().unwrap().push((level, text(target), text(message), user.addr()));
}

fn lines() -> Vec<(i32, String, String, usize)> {
    std::mem::take(&mut LINES.lock().unwrap())
}

fn set(callback: Option<LogCallback>, level: i32) -> i32 {
    // SAFETY: the callbacks here take any `user`.
    unsafe { runtime_set_log_callback(callback, level, 77 as *mut c_void) }
}

#[test]
fn a_callback_has_lines_until_it_is_taken_back() {
    let session = stopped("log-callback");
    // Before the runtime starts, too.
    ok(set(Some(line), TRACE));
    ok(init(&RuntimeConfig { enable_auto_recovery: true.into(), ..RuntimeConfig::default() }));
    assert!(
        lines()
            .iter()
            .any(|(level, _, message, _)| *level == WARN && message.contains("enable_auto_recovery"))
    );
    ok(reload(session.module("told", 1, &returns(1))));
    let told = lines();
    let published =
        told.iter().find(|(_, _, message, _)| message.contains("published")).expect("it was published");
    assert_eq!((published.0, published.3), (INFO, 77));
    assert!(published.1.starts_with("midflight"), "{told:?}");

    ok(set(Some(line), ERROR));
    warn();
    let told = lines();
    assert!(!told.is_empty() && told.iter().all(|line| line.0 == ERROR), "{told:?}");

    ok(set(None, 0));
    warn();
    assert_eq!(lines(), []);

    // Besides the file, each at its level.
    let path = session.path("both.log");
    let file = c(&path);
    ok(init(&RuntimeConfig { log_level: ERROR, ..logging(&file) }));
    ok(set(Some(line), WARN));
    warn();
    assert_eq!(lines().iter().map(|line| line.0).collect::<Vec<_>>(), [WARN, ERROR]);
    assert!(!read(&path).contains(" WARN ") && read(&path).contains(" ERROR "));
    ok(set(None, 0));
}

extern "C-unwind" fn calling(_: i32, _: *const c_char, _: *const c_char, _: *mut c_void) {
    // It may not, and does not wait for itself.
    let codes = [set(None, 0), init(&RuntimeConfig::default()), runtime_shutdown()];
    LINES.lock().unwrap().push((
        codes.iter().all(|code| *code == Busy as i32).into(),
        String::new(),
        String::new(),
        0,
    ));
}

#[test]
fn a_callback_that_calls_back_is_turned_away() {
    let _session = start("log-calls");
    ok(set(Some(calling), WARN));
    warn();
    ok(set(None, 0));
    let told = lines();
    assert!(!told.is_empty() && told.iter().all(|line| line.0 == 1), "{told:?}");
}

#[test]
fn lines_that_are_lost_are_told_of() {
    let session = stopped("log-full");
    let full = c"/dev/full".to_owned();
    ok(set(Some(line), WARN));
    ok(init(&logging(&full)));
    lines();
    ok(reload(session.module("lost", 1, &returns(1))));
    warn();
    let told = lines();
    let lost: Vec<_> = told.iter().filter(|line| line.2.contains("the log cannot be written")).collect();
    assert_eq!(lost.len(), 1, "{told:?}");
    fails(runtime_shutdown(), Io, "lines of its log could not be written to /dev/full");
    // It has stopped nevertheless, and is told of once.
    fails(runtime_shutdown(), ErrorKind::NotInitialized, "runtime_init()");
    ok(init(&logging(&full)));
    lines();
    warn();
    let file = c(session.path("good.log"));
    ok(init(&logging(&file)));
    assert!(read(session.path("good.log")).contains("could not be written"));
    ok(set(None, 0));
    ok(runtime_shutdown());
}

/// In a process of its own: what it writes to stdout.
fn stdout_of(case: &str) -> String {
    let output = this_test("stdout_cases").env("MIDFLIGHT_LOG_CASE", case).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let stdout = String::from_utf8(output.stdout).unwrap();
    stdout.lines().filter(|line| line.contains("midflight")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn stdout_cases() {
    let Ok(case) = std::env::var("MIDFLIGHT_LOG_CASE") else { return };
    let session = stopped("log-stdout");
    let config = match &*case {
        "nothing" => RuntimeConfig::default(),
        "level" => RuntimeConfig { log_level: WARN, ..RuntimeConfig::default() },
        "debug" => RuntimeConfig { enable_debug_output: true.into(), ..RuntimeConfig::default() },
        other => panic!("{other}"),
    };
    ok(init(&config));
    ok(reload(session.module("aloud", 1, &returns(1))));
    warn();
}

#[test]
fn stdout_is_asked_for() {
    assert_eq!(stdout_of("nothing"), "");
    let level = stdout_of("level");
    assert!(level.contains(" WARN midflight") && !level.contains(" INFO "), "{level}");
    let debug = stdout_of("debug");
    assert!(debug.contains(" WARN midflight") && debug.contains(" INFO midflight"), "{debug}");
}

static TAKEN_BACK: AtomicBool = AtomicBool::new(true);
static LATE: AtomicUsize = AtomicUsize::new(0);
static CALLS: AtomicUsize = AtomicUsize::new(0);

extern "C-unwind" fn never_late(_: i32, _: *const c_char, _: *const c_char, _: *mut c_void) {
    CALLS.fetch_add(1, Ordering::Relaxed);
    if TAKEN_BACK.load(Ordering::SeqCst) {
        LATE.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_callback_is_not_called_once_it_is_taken_back() {
    let _session = start("log-late");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    warn();
                }
            });
        }
        for _ in 0..200 {
            TAKEN_BACK.store(false, Ordering::SeqCst);
            ok(set(Some(never_late), WARN));
            let before = CALLS.load(Ordering::Relaxed);
            while CALLS.load(Ordering::Relaxed) == before {
                std::thread::yield_now();
            }
            ok(set(None, 0));
            TAKEN_BACK.store(true, Ordering::SeqCst);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(LATE.load(Ordering::Relaxed), 0);
}
