//! The figures of the status and the statistics, against what the kernel says.

mod support;

use std::sync::Barrier;
use std::time::{Duration, Instant};

use midflight::ErrorKind;
use midflight_c::runtime_core::*;
use midflight_c::runtime_types::*;
use support::*;

fn busy(time: Duration) {
    let clock = Instant::now();
    while clock.elapsed() < time {}
}

#[test]
fn the_process() {
    let _session = start("status-process");
    let tasks = || threads().len();
    // Threads of other tests may be ending.
    let begun = Instant::now();
    while status().active_threads as usize != tasks() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{} {}", status().active_threads, tasks());
    }
    let status_ = status();
    assert_eq!((status_.state, status_.is_healthy.get()), (1, true));
    if cfg!(target_os = "linux") && !is_emulated() {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        let resident = statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096;
        assert!(
            status_.memory_used_bytes.abs_diff(resident) < 4 << 20,
            "{} {resident}",
            status_.memory_used_bytes
        );
    }

    let memory = vec![1_u8; 32 << 20];
    let meet = Barrier::new(17);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| meet.wait());
        }
        assert!(status().active_threads >= status_.active_threads + 12);
        meet.wait();
    });
    let more = status();
    assert!(more.memory_used_bytes >= status_.memory_used_bytes + (24 << 20), "{status_:?} {more:?}");
    assert_eq!(memory[1 << 20], 1);
    let state = [more.security_status as u32, more.threat_level, more.last_security_scan as u32];
    assert_eq!(state, [0; 3]);
}

#[test]
fn cpu_time_since_the_last_look() {
    let _session = start("status-cpu");
    // Others may have the cores: as much as was had is what counts.
    let begin = (Instant::now(), cpu());
    status();
    busy(Duration::from_millis(100));
    let percent = f64::from(status().cpu_usage_percent);
    let expected = (cpu() - begin.1).as_secs_f64() / begin.0.elapsed().as_secs_f64() * 100.0;
    assert!((percent - expected).abs() < 10.0 + expected / 10.0, "{percent} of {expected}");
    std::thread::sleep(Duration::from_millis(100));
    let idle = f64::from(status().cpu_usage_percent);
    assert!(idle < 30.0, "{idle}");
}

fn cpu() -> Duration {
    midflight::ProcessUsage::now().unwrap().cpu
}

#[test]
fn uptime_and_errors() {
    let session = stopped("status-uptime");
    let path = session.module("timed", 1, &returns(1));
    let before_start = Instant::now();
    ok(init(&RuntimeConfig::default()));
    let after_start = Instant::now();
    // Whole seconds, between what had passed before the question and what has passed after it.
    let uptime_is_right = || {
        let least = after_start.elapsed().as_secs();
        let uptime = status().uptime_seconds;
        assert!((least..=before_start.elapsed().as_secs()).contains(&uptime), "{uptime} s, at least {least}");
    };
    uptime_is_right();
    assert_eq!(status().last_error_time, 0);
    let before = get_timestamp_ns();
    fails(unload(c"none"), ErrorKind::NotLoaded, "none");
    let after = get_timestamp_ns();
    assert!((before..=after).contains(&status().last_error_time));
    assert_eq!((status().total_errors, status().recovered_errors), (1, 0));
    std::thread::sleep(Duration::from_millis(1050));
    uptime_is_right();

    let clock = Instant::now();
    for _ in 0..20 {
        ok(reload(&path));
    }
    let took = clock.elapsed().as_secs_f64() * 1e3;
    fails(reload("/nowhere"), ErrorKind::Io, "/nowhere");
    let (status, stats) = (status(), statistics());
    assert_eq!((status.total_reloads, status.successful_reloads, status.failed_reloads), (21, 20, 1));
    assert_eq!((stats.total_reloads, stats.successful_reloads, stats.failed_reloads), (21, 20, 1));
    assert!(
        status.average_reload_time_ms > 0.0 && status.average_reload_time_ms * 20.0 <= took,
        "{status:?} {took}"
    );
    let times = [
        stats.p50_reload_time_ms,
        stats.p95_reload_time_ms,
        stats.p99_reload_time_ms,
        stats.max_reload_time_ms,
    ];
    assert!(times[0] > 0.0 && times.is_sorted() && times[3] <= took, "{stats:?}");
    assert!(stats.avg_stage_time_ms > 0.0 && stats.avg_stage_time_ms < stats.avg_reload_time_ms, "{stats:?}");
    assert!(
        stats.avg_publish_time_ms > 0.0 && stats.p99_publish_time_ms < stats.p99_stage_time_ms,
        "{stats:?}"
    );
    assert!((stats.avg_reload_time_ms - status.average_reload_time_ms).abs() < 1e-9);
    assert_eq!((stats.loaded_modules, stats.watched_files, stats.cache_hit_rate), (1, 0, 0.0));
    assert!(stats.memory_usage_mb > 0.0);
}

#[test]
fn old_versions_are_counted() {
    let session = start("status-old");
    let paths = [1, 2].map(|n| session.module("old", n, &returns(n as i32)));
    ok(reload(&paths[0]));
    let before = statistics();
    let mut frame = RuntimeFrame::default();
    // SAFETY: a place for a frame, and its end.
    unsafe {
        ok(runtime_frame_begin(&mut frame));
        ok(reload(&paths[1]));
        let held = statistics();
        assert_eq!(held.generation, before.generation + 1);
        assert!(held.retired_bytes > 0 && held.retained_bytes == 0, "{held:?}");
        assert!(held.memory_usage_mb > before.memory_usage_mb);
        ok(runtime_frame_end(&mut frame));
    }
    ok(runtime_gc_collect());
    let after = statistics();
    assert_eq!(after.retired_bytes, 0, "{after:?}");
    assert!((after.memory_usage_mb - before.memory_usage_mb).abs() < 0.05);
}
