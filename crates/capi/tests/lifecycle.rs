//! Starting, reconfiguring and stopping: in any order, from several threads, from where it may not
//! be.

mod support;

use std::ffi::{c_char, c_int};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};

use midflight::ErrorKind::{self, Busy, Forked, NotInitialized};
use midflight_c::hot_reload::*;
use midflight_c::runtime_core::*;
use midflight_c::runtime_types::*;
use support::*;

#[test]
fn init_again_reconfigures() {
    let session = start("init-again");
    ok(reload(session.module("staying", 1, &returns(1))));
    // An address is for frames that are opened after it was asked for.
    assert_eq!(call(c"staying", c"value"), 1);
    let mut frame = RuntimeFrame::default();
    // SAFETY: a place for a frame.
    ok(unsafe { runtime_frame_begin(&mut frame) });
    // SAFETY: no configuration: the defaults.
    ok(unsafe { runtime_init(std::ptr::null()) });
    assert_eq!(call(c"staying", c"value"), 1);
    // SAFETY: a frame.
    ok(unsafe { runtime_frame_end(&mut frame) });
    assert_eq!(status().total_reloads, 1);
}

#[test]
fn after_shutdown_it_starts_anew() {
    let session = start("start-anew");
    let path = session.module("anew", 1, &returns(1));
    for round in 0..3 {
        ok(reload(&path));
        fails(reload("/nowhere"), ErrorKind::Io, "/nowhere");
        assert_eq!(call(c"anew", c"value"), 1);
        let (status, stats) = (status(), statistics());
        assert_eq!(
            (status.total_reloads, status.total_errors, stats.loaded_modules),
            (2, 1, 1),
            "round {round}"
        );
        ok(runtime_shutdown());
        fails(runtime_shutdown(), NotInitialized, "runtime_init()");
        ok(init(&RuntimeConfig::default()));
        assert_eq!((statistics().total_reloads, statistics().loaded_modules), (0, 0));
        assert_eq!(self::status().last_error_time, 0);
    }
}

#[test]
fn eight_threads_start_it() {
    let session = stopped("eight");
    let path = session.module("eight", 1, &returns(8));
    for _ in 0..20 {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    ok(init(&RuntimeConfig::default()));
                });
            }
        });
        ok(reload(&path));
        assert_eq!(call(c"eight", c"value"), 8);
        ok(runtime_shutdown());
    }
}

#[test]
fn starts_and_stops_race_with_reloads() {
    let session = stopped("races");
    let paths = [1, 2].map(|n| session.module("racing", n, &returns(n as i32)));
    let done = AtomicBool::new(false);
    let reloaded = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for path in &paths {
            let (done, reloaded) = (&done, &reloaded);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let mut frame = RuntimeFrame::default();
                    // SAFETY: a place for a frame, which is ended if it began.
                    let begun = unsafe { runtime_frame_begin(&mut frame) };
                    match reload(path) {
                        0 => _ = reloaded.fetch_add(1, Ordering::Relaxed),
                        code => fails(code, NotInitialized, "runtime_init()"),
                    }
                    if begun == 0 {
                        // SAFETY: a frame.
                        ok(unsafe { runtime_frame_end(&mut frame) });
                    }
                }
            });
        }
        for _ in 0..100 {
            ok(init(&RuntimeConfig::default()));
            let before = reloaded.load(Ordering::Relaxed);
            while reloaded.load(Ordering::Relaxed) == before {
                std::thread::yield_now();
            }
            ok(runtime_shutdown());
            let after = reloaded.load(Ordering::Relaxed);
            // It waited for those that were under way; a caller may still be about to count his.
            std::thread::yield_now();
            assert!(reloaded.load(Ordering::Relaxed) <= after + paths.len());
        }
        done.store(true, Ordering::Relaxed);
    });
    ok(init(&RuntimeConfig::default()));
    assert_eq!(statistics().loaded_modules, 0);
}

/// What the host exports to the module below.
#[unsafe(no_mangle)]
extern "C" fn capi_test_from_module() -> c_int {
    type Calls = [fn() -> c_int; 9];
    let calls: Calls = [
        || init(&RuntimeConfig::default()),
        || runtime_shutdown(),
        || reload("/nowhere"),
        || unload(c"calling"),
        || rollback(c"calling"),
        || runtime_gc_collect(),
        // SAFETY: strings.
        || unsafe { hot_reload_watch(c"/tmp/x.so".as_ptr(), std::ptr::null()) },
        // SAFETY: as above.
        || unsafe { hot_reload_unwatch(c"/tmp/x.so".as_ptr()) },
        || look_up(c"calling", c"value").0,
    ];
    for (at, call) in calls.into_iter().enumerate() {
        let code = call();
        if code != Busy as c_int {
            eprintln!("call {at} returned {code}: {}", last());
            WRONG.fetch_add(1, Ordering::Relaxed);
        }
    }
    CALLED.fetch_add(1, Ordering::Relaxed)
}

static WRONG: AtomicI32 = AtomicI32::new(0);
static CALLED: AtomicI32 = AtomicI32::new(0);

#[test]
fn constructors_and_destructors_are_turned_away() {
    let session = start("constructors");
    // Tests are not linked with their symbols exported: the address is handed over in the source.
    let function = capi_test_from_module as extern "C" fn() -> c_int as usize;
    let source = format!(
        "typedef int f(void); static int call(void) {{ return ((f *){function}ul)(); }}
         __attribute__((constructor)) static void make(void) {{ call(); }}
         __attribute__((destructor)) static void end(void) {{ call(); }}
         int module_init(void) {{ call(); return 0; }}
         void module_shutdown(void) {{ call(); }}
         int value(void) {{ return 1; }}"
    );
    let path = session.module("calling", 1, &source);
    ok(reload(&path));
    assert_eq!((CALLED.load(Ordering::Relaxed), WRONG.load(Ordering::Relaxed)), (2, 0));
    ok(unload(c"calling"));
    assert_eq!((CALLED.load(Ordering::Relaxed), WRONG.load(Ordering::Relaxed)), (4, 0));
    ok(reload(&path));
    ok(runtime_shutdown());
    assert_eq!((CALLED.load(Ordering::Relaxed), WRONG.load(Ordering::Relaxed)), (8, 0));
}

#[test]
fn shutdown_waits_for_a_reload() {
    let session = start("shutdown-waits");
    static ENDED: AtomicBool = AtomicBool::new(false);
    static STOPPING: AtomicBool = AtomicBool::new(false);
    extern "C-unwind" fn complete(_: *const c_char, success: bool, _: f64) {
        assert!(success);
        // The other thread has begun to stop it, and cannot go on before this returned.
        while !STOPPING.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        while status().state != 3 {
            std::thread::yield_now();
        }
        fails(reload("/nowhere"), Busy, "is stopping");
        ENDED.store(true, Ordering::Relaxed);
    }
    let path = session.module("slow", 1, &returns(1));
    let config = HotReloadConfig { complete_callback: Some(complete), ..HotReloadConfig::default() };
    std::thread::scope(|scope| {
        scope.spawn(|| ok(reload_with(&path, &config)));
        while statistics().loaded_modules == 0 {
            std::thread::yield_now();
        }
        STOPPING.store(true, Ordering::Relaxed);
        ok(runtime_shutdown());
        assert!(ENDED.load(Ordering::Relaxed));
    });
}

#[test]
fn a_forked_child_can_call_and_nothing_else() {
    let session = start("forked");
    ok(reload(session.module("forked", 1, &returns(6))));
    let (code, address) = look_up(c"forked", c"value");
    ok(code);
    let path = c(session.module("forked", 2, &returns(7)));
    // SAFETY: the child calls this API, and ends without running anything of the test's.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            let mut frame = RuntimeFrame::default();
            let mut wrong = runtime_frame_begin(&mut frame);
            let value: extern "C" fn() -> c_int = std::mem::transmute(address);
            wrong |= (value() != 6) as c_int;
            wrong |= runtime_frame_end(&mut frame);
            for code in [
                hot_reload_module(path.as_ptr(), std::ptr::null()),
                unload(c"forked"),
                rollback(c"forked"),
                hot_reload_watch(path.as_ptr(), std::ptr::null()),
                hot_reload_unwatch(path.as_ptr()),
                runtime_gc_collect(),
                runtime_shutdown(),
                runtime_init(std::ptr::null()),
            ] {
                wrong |= (code != Forked as c_int) as c_int;
            }
            libc::_exit(wrong);
        }
        let mut how = 0;
        assert_eq!(libc::waitpid(child, &mut how, 0), child);
        assert_eq!(how, 0);
    }
    assert_eq!(call(c"forked", c"value"), 6);
}
