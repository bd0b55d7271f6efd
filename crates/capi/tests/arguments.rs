//! Arguments that are none: a code and a message each, never a crash; outputs are filled.

mod support;

use std::ffi::{CString, c_char, c_void};
use std::ptr;

use midflight::ErrorKind::{self, InvalidArgument, NotInitialized};
use midflight_c::hot_reload::*;
use midflight_c::runtime_core::*;
use midflight_c::runtime_types::*;
use midflight_c::stacks::*;
use support::*;

/// Addresses of strings that are none, and what is said of them.
fn bad_strings() -> Vec<(*const c_char, &'static str)> {
    vec![
        (ptr::null(), "NULL"),
        (8 as *const c_char, "cannot be read"),
        (usize::MAX as *const c_char, "cannot be read"),
        (0x0123_4567_89ab_cdef as *const c_char, "cannot be read"),
        (c"".as_ptr(), "empty"),
    ]
}

#[test]
fn strings_that_are_none() {
    let _session = start("bad-strings");
    let long = CString::new(vec![b'x'; 4096]).unwrap();
    let config = HotReloadConfig::default();
    let mut address: *mut c_void = ptr::null_mut();
    let mut info = ModuleCompatibility::default();
    let mut bad = bad_strings();
    bad.push((long.as_ptr(), "longer than 4095"));
    for (string, message) in bad {
        let good = c"libm.so".as_ptr();
        // SAFETY: addresses that the functions are to refuse.
        unsafe {
            for code in [
                hot_reload_module(string, &config),
                hot_reload_modules_atomic([good, string].as_ptr(), 2, &config),
                hot_reload_symbol(string, good, &mut address),
                hot_reload_symbol(good, string, &mut address),
                hot_reload_frame_symbol(string, good, &mut address),
                hot_reload_frame_symbol(good, string, &mut address),
                hot_reload_retain(string),
                hot_reload_unload(string),
                hot_reload_rollback(string),
                hot_reload_watch(string, &config),
                hot_reload_unwatch(string),
                hot_reload_check_compatibility(string, &mut info),
            ] {
                fails(code, InvalidArgument, message);
            }
            let log = RuntimeConfig { log_file_path: string, ..RuntimeConfig::default() };
            if !string.is_null() {
                fails(init(&log), InvalidArgument, message);
                assert!(last().contains("log_file_path"), "{}", last());
            }
        }
    }
    // SAFETY: as above.
    unsafe {
        fails(hot_reload_unload(c"\xff".as_ptr()), InvalidArgument, "module is not UTF-8");
        fails(
            hot_reload_modules_atomic([8 as *const c_char].as_ptr(), 1, &config),
            InvalidArgument,
            "module_paths[0]",
        );
        // A path may be any bytes.
        fails(hot_reload_module(c"/\xff.so".as_ptr(), &config), ErrorKind::Io, "cannot be read");
    }
    assert_eq!(status().state, 1);
}

#[test]
fn structures_that_are_none() {
    let _session = start("bad-structures");
    let config = HotReloadConfig::default();
    let path = c"x.so".as_ptr();
    let odd = (&raw const config).wrapping_byte_add(1);
    // SAFETY: addresses that the functions are to refuse.
    unsafe {
        fails(hot_reload_module(path, odd), InvalidArgument, "aligned");
        fails(hot_reload_module(path, 16 as *const HotReloadConfig), InvalidArgument, "cannot be read");
        fails(runtime_init(16 as *const RuntimeConfig), InvalidArgument, "cannot be read");
        fails(hot_reload_modules_atomic(ptr::null(), 1, &config), InvalidArgument, "module_paths is NULL");
        fails(hot_reload_modules_atomic(16 as *const _, 4096, &config), InvalidArgument, "cannot be read");
        for count in [0, 4097, u32::MAX] {
            fails(
                hot_reload_modules_atomic([path].as_ptr(), count, &config),
                InvalidArgument,
                "module_count",
            );
        }
        fails(runtime_get_status(ptr::null_mut()), InvalidArgument, "NULL");
        fails(runtime_get_status(16 as *mut RuntimeStatus), InvalidArgument, "cannot be written");
        fails(hot_reload_get_statistics(ptr::null_mut()), InvalidArgument, "NULL");
        fails(hot_reload_check_compatibility(path, ptr::null_mut()), InvalidArgument, "NULL");
        fails(hot_reload_symbol(path, path, ptr::null_mut()), InvalidArgument, "address is NULL");
        static CONSTANT: RuntimeFrame = RuntimeFrame { reserved: [1; 4] };
        let constant = (&raw const CONSTANT).cast_mut().cast::<*mut c_void>();
        fails(hot_reload_symbol(path, path, constant), InvalidArgument, "cannot be written");
    }
}

#[test]
fn values_that_are_absurd() {
    let _session = start("bad-values");
    let wrong = |change: fn(&mut HotReloadConfig), message| {
        let mut config = HotReloadConfig::default();
        change(&mut config);
        fails(reload_with("x.so", &config), InvalidArgument, message);
        // SAFETY: a string and a configuration.
        fails(unsafe { hot_reload_watch(c"x.so".as_ptr(), &config) }, InvalidArgument, message);
    };
    wrong(|config| config.max_reload_threads = 257, "max_reload_threads is 257");
    wrong(|config| config.conflict_mode = 3, "conflict_mode is 3");
    wrong(|config| config.conflict_mode = i32::MIN, "conflict_mode is -2147483648");
    let wrong = |change: fn(&mut RuntimeConfig), message| {
        let mut config = RuntimeConfig::default();
        change(&mut config);
        fails(init(&config), InvalidArgument, message);
    };
    wrong(|config| config.hot_reload_threads = 257, "hot_reload_threads is 257");
    wrong(|config| config.security_level = 5, "security_level is 5");
    wrong(|config| config.security_level = -1, "security_level is -1");
    wrong(|config| config.log_level = 7, "log_level is 7");
    // SAFETY: no callback.
    fails(unsafe { runtime_set_log_callback(None, 7, ptr::null_mut()) }, InvalidArgument, "level is 7");
    // Large, but not absurd.
    let patient = HotReloadConfig {
        reload_timeout_ns: u64::MAX,
        max_reload_threads: 256,
        ..HotReloadConfig::default()
    };
    fails(reload_with("/nowhere/x.so", &patient), ErrorKind::Io, "/nowhere/x.so");
    let config = RuntimeConfig {
        reload_timeout_ns: u64::MAX,
        max_memory_usage: u64::MAX,
        max_concurrent_reloads: u32::MAX,
        hot_reload_threads: 256,
        ..RuntimeConfig::default()
    };
    ok(init(&config));
}

#[test]
fn booleans_of_any_byte_are_true() {
    let session = start("booleans");
    let path = session.module("booleans", 1, &returns(1));
    let mut config = HotReloadConfig::default();
    // SAFETY: a byte of the structure, which C may have written so.
    unsafe { (&raw mut config.dry_run).cast::<u8>().write(0x40) };
    ok(reload_with(&path, &config));
    assert_eq!(statistics().loaded_modules, 0);
}

#[test]
fn nothing_runs_before_init_and_after_shutdown() {
    let session = stopped("not-running");
    let path = c(session.module("idle", 1, &returns(1)));
    let all = || {
        let path = path.as_ptr();
        let config = HotReloadConfig::default();
        let mut address: *mut c_void = ptr::dangling_mut();
        let mut status = RuntimeStatus { state: 7, total_errors: 7, ..RuntimeStatus::default() };
        let mut stats =
            HotReloadStats { total_reloads: 7, p99_reload_time_ms: 7.0, ..HotReloadStats::default() };
        let mut info =
            ModuleCompatibility { calls: 7, unknown_because: [7; 256], ..ModuleCompatibility::default() };
        // SAFETY: strings, and places for outputs.
        unsafe {
            for code in [
                hot_reload_module(path, &config),
                hot_reload_modules_atomic([path].as_ptr(), 1, &config),
                hot_reload_symbol(path, path, &mut address),
                hot_reload_unload(path),
                hot_reload_rollback(path),
                hot_reload_watch(path, &config),
                hot_reload_unwatch(path),
                hot_reload_check_compatibility(path, &mut info),
                hot_reload_get_statistics(&mut stats),
                runtime_get_status(&mut status),
                runtime_gc_collect(),
                runtime_stack_add(path.cast(), 1, std::ptr::null()),
                runtime_shutdown(),
            ] {
                fails(code, NotInitialized, "runtime_init()");
            }
        }
        assert!(address.is_null());
        assert_eq!((status.state, status.total_errors), (0, 0));
        assert_eq!((stats.total_reloads, stats.p99_reload_time_ms), (0, 0.0));
        assert_eq!((info.calls, info.unknown_because), (0, [0; 256]));
    };
    all();
    ok(init(&RuntimeConfig::default()));
    ok(runtime_shutdown());
    all();
}

#[test]
fn outputs_are_filled_when_it_fails() {
    let _session = start("outputs");
    let mut address: *mut c_void = ptr::dangling_mut();
    let mut info = ModuleCompatibility { calls: 7, listed_count: 7, ..ModuleCompatibility::default() };
    // SAFETY: strings, and places for outputs.
    unsafe {
        fails(hot_reload_symbol(c"none".as_ptr(), c"f".as_ptr(), &mut address), ErrorKind::NotLoaded, "none");
        fails(hot_reload_check_compatibility(c"/no.so".as_ptr(), &mut info), ErrorKind::Io, "/no.so");
    }
    assert!(address.is_null());
    assert_eq!((info.calls, info.listed_count), (0, 0));
}

#[test]
fn messages_are_each_threads_own() {
    let _session = start("messages");
    fails(unload(c"here"), ErrorKind::NotLoaded, "`here`");
    let kept = runtime_last_error();
    std::thread::spawn(|| {
        assert_eq!(last(), "");
        fails(unload(c"there"), ErrorKind::NotLoaded, "`there`");
    })
    .join()
    .unwrap();
    // What succeeds leaves it as it is.
    assert_eq!(status().state, 1);
    assert_eq!(kept, runtime_last_error());
    assert!(last().contains("`here`"));
}
