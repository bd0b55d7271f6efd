//! What happens to threads, and to children of fork, while calls of a module wait for its variables
//! to be carried over.
#![cfg(target_os = "linux")]

mod support;

use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::Barrier;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use midflight::{Carry, Error, LoadOptions, Publication, Runtime};
use support::{Workshop, start};

midflight::module! {
    unsafe mod keeper {
        safe fn next() -> i64;
        safe fn number() -> i32;
    }
    unsafe mod leaver {
        safe fn jump_out() -> i32;
        safe fn begin() -> i32;
        safe fn cancel() -> i32;
    }
}

unsafe extern "C" {
    /// fork(2) without the handlers of pthread_atfork(3).
    fn _Fork() -> libc::pid_t;
}

const KEEPER: &str = "static long count = 100;
    long next(void) { return ++count; }
    int number(void) { return NUMBER; }
    MORE";

fn build(shop: &Workshop, module: &str, number: u32, source: &str) -> PathBuf {
    let source = format!("#define NUMBER {number}\n{source}");
    shop.module_for(std::env::consts::ARCH, module, number, &source, &["-g"])
}

fn keeper(shop: &Workshop, number: u32, more: &str) -> PathBuf {
    build(shop, "keeper", number, &KEEPER.replace("MORE", more))
}

fn load(rt: Runtime, path: &Path, options: &LoadOptions<'_>) -> Result<Publication, Error> {
    // SAFETY: the tests' modules have the functions as declared above.
    unsafe { rt.load_with([path], options) }
}

fn carrying() -> LoadOptions<'static> {
    LoadOptions::new().carry(Carry::All)
}

/// Dylibs keep their debug information in object files.
fn is_without_debug_information() -> bool {
    support::is_macho()
}

fn end(rt: Runtime) {
    rt.unload("keeper").unwrap();
    // SAFETY: the tests' threads are over.
    assert_eq!(unsafe { rt.collect_escaped() }.unwrap().old_bytes, 0);
}

/// Runs `meanwhile` while a load of the module waits for a frame. It is given what ends that frame.
/// Returns what came of the load.
fn while_paused(
    rt: Runtime,
    path: &Path,
    options: &LoadOptions<'_>,
    meanwhile: impl FnOnce(mpsc::Sender<()>),
) -> Result<Publication, Error> {
    let before = rt.frame().generation();
    let opened = Barrier::new(2);
    thread::scope(|scope| {
        let (done, is_done) = mpsc::channel::<()>();
        let opened = &opened;
        scope.spawn(move || {
            let _frame = rt.frame();
            opened.wait();
            // Dropped, too, if the test does not hold.
            let _ = is_done.recv();
        });
        opened.wait();
        let loader = scope.spawn(move || load(rt, path, options));
        while rt.frame().generation() == before {
            thread::yield_now();
        }
        meanwhile(done);
        loader.join().unwrap()
    })
}

fn fork() -> libc::pid_t {
    // SAFETY: the children here only call, and exit without unwinding into the test harness.
    unsafe { libc::fork() }
}

fn fork_without_handlers() -> libc::pid_t {
    // SAFETY: as above.
    unsafe { _Fork() }
}

fn clone() -> libc::pid_t {
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) as libc::pid_t }
}

/// Runs `child` in a child, which is ended if it waits for ever.
fn in_child(fork: fn() -> libc::pid_t, what: &str, child: impl FnOnce() -> bool) {
    let process = fork();
    if process == 0 {
        // SAFETY: ends the child, now or later.
        unsafe {
            libc::alarm(20);
            libc::_exit(if child() { 0 } else { 1 })
        }
    }
    let mut status = -1;
    // SAFETY: waits for the child.
    assert_eq!(unsafe { libc::waitpid(process, &raw mut status, 0) }, process, "{what}");
    assert_eq!(status, 0, "{what}");
}

/// The thread that would end the pause is not there in the child.
#[test]
fn a_child_that_is_forked_in_a_pause_goes_on_with_all_of_the_old() {
    if is_without_debug_information() {
        return;
    }
    let (rt, shop, _turn) = start("pause-forks");
    let paths = [1, 2].map(|number| keeper(&shop, number, ""));
    type Fork = fn() -> libc::pid_t;
    let ways = [("fork", fork as Fork), ("_Fork", fork_without_handlers), ("clone", clone)];
    for (way, fork) in ways {
        load(rt, &paths[0], &carrying()).unwrap();
        assert_eq!(keeper::next(&rt.frame()), 101);
        let published = while_paused(rt, &paths[1], &carrying(), |done| {
            in_child(fork, way, || {
                let frame = rt.frame();
                keeper::number(&frame) == 1 && keeper::next(&frame) == 102
            });
            drop(done);
        });
        // The child may have taken longer than a pause may.
        if published.is_ok() {
            assert_eq!((keeper::number(&rt.frame()), keeper::next(&rt.frame())), (2, 102), "{way}");
        }
        end(rt);
    }
}

/// As outside frames, where the live table's slots are unbound.
#[test]
fn a_child_calls_outside_frames_what_was_there_before_the_pause() {
    if is_without_debug_information() {
        return;
    }
    let (rt, shop, _turn) = start("pause-forks-outside");
    let paths = [1, 2].map(|number| keeper(&shop, number, ""));
    load(rt, &paths[0], &carrying()).unwrap();
    // SAFETY: of the type that the module's function has.
    let number: extern "C" fn() -> i32 =
        unsafe { std::mem::transmute(rt.symbol("keeper", "number").unwrap()) };
    // Under an emulator, and if words on stacks look like addresses, the load is refused.
    let _ = while_paused(rt, &paths[1], &carrying(), |done| {
        in_child(fork_without_handlers, "outside", || number() == 1);
        drop(done);
    });
    end(rt);
}

/// A frame is in the publication whose versions it calls, and says so.
#[test]
fn a_frame_that_is_opened_in_a_pause_tells_what_it_calls() {
    if is_without_debug_information() {
        return;
    }
    let (rt, shop, _turn) = start("pause-numbers");
    let paths = [1, 2, 3].map(|number| keeper(&shop, number, ""));
    let first = load(rt, &paths[0], &carrying()).unwrap();
    // Given up, published.
    for (path, in_time) in [(&paths[1], false), (&paths[2], true)] {
        let expected = first.generation + if in_time { 2 } else { 1 };
        let opened = Barrier::new(2);
        let told = thread::scope(|scope| {
            let opened = &opened;
            let mut told = None;
            let published = while_paused(rt, path, &carrying(), |done| {
                let asks = scope.spawn(move || {
                    let frame = rt.frame();
                    let before = frame.generation();
                    opened.wait();
                    // Not before it is decided.
                    let version = frame.version("keeper");
                    (before, version, keeper::number(&frame), frame.generation())
                });
                opened.wait();
                let done = (!in_time).then_some(done);
                // Without, the pause ends when it has lasted long enough.
                told = Some(asks.join().unwrap());
                drop(done);
            });
            assert_eq!(
                published.as_ref().map(|published| published.generation).ok(),
                in_time.then_some(expected)
            );
            told.unwrap()
        });
        let called =
            if in_time { (expected, Some(2), 3, expected) } else { (expected, Some(1), 1, expected) };
        assert_eq!(told, called);
    }
    end(rt);
}

#[test]
fn a_load_with_less_time_than_a_pause_may_take_is_given_up_when_its_time_is_over() {
    if is_without_debug_information() {
        return;
    }
    let (rt, shop, _turn) = start("pause-deadline");
    let paths = [1, 2].map(|number| keeper(&shop, number, ""));
    load(rt, &paths[0], &carrying()).unwrap();
    let frame = Barrier::new(2);
    thread::scope(|scope| {
        let (done, is_done) = mpsc::channel::<()>();
        let frame = &frame;
        scope.spawn(move || {
            let _frame = rt.frame();
            frame.wait();
            let _ = is_done.recv();
        });
        frame.wait();
        let begin = Instant::now();
        let limit = Duration::from_millis(300);
        let error = load(rt, &paths[1], &carrying().timeout(limit)).unwrap_err();
        let took = begin.elapsed();
        assert!(matches!(error, Error::Occupied { .. } | Error::Timeout { .. }), "{error}");
        assert!(took < Duration::from_millis(900), "{took:?}");
        assert_eq!((keeper::number(&rt.frame()), keeper::next(&rt.frame())), (1, 101));
        drop(done);
    });
    load(rt, &paths[1], &carrying()).unwrap();
    assert_eq!((keeper::number(&rt.frame()), keeper::next(&rt.frame())), (2, 102));
    end(rt);
}

/// Who holds a frame waits for who waits for the pause.
#[test]
fn threads_that_wait_for_each_other_wait_no_longer_than_a_pause_may_last() {
    if is_without_debug_information() {
        return;
    }
    let (rt, shop, _turn) = start("pause-deadlock");
    let paths = [1, 2].map(|number| keeper(&shop, number, ""));
    load(rt, &paths[0], &carrying()).unwrap();
    let begin = Instant::now();
    let published = while_paused(rt, &paths[1], &carrying(), |done| {
        // Waits.
        assert_eq!(keeper::number(&rt.frame()), 1);
        drop(done);
    });
    let Error::Occupied { by, .. } = published.unwrap_err() else { panic!("it cannot leave") };
    assert!(by[0].contains("is in generation"), "{by:?}");
    assert!(begin.elapsed() < Duration::from_secs(10));
    load(rt, &paths[1], &carrying()).unwrap();
    assert_eq!(keeper::number(&rt.frame()), 2);
    end(rt);
}

#[test]
fn two_loads_at_once_take_turns() {
    if is_without_debug_information() {
        return;
    }
    let (rt, shop, _turn) = start("pause-two");
    let paths = [1, 2, 3].map(|number| keeper(&shop, number, ""));
    load(rt, &paths[0], &carrying()).unwrap();
    assert_eq!(keeper::next(&rt.frame()), 101);
    thread::scope(|scope| {
        let loads = [1, 2].map(|at| {
            let path = &paths[at];
            scope.spawn(move || (0..10).all(|_| load(rt, path, &carrying()).is_ok()))
        });
        assert_eq!(loads.map(|load| load.join().unwrap()), [true, true]);
    });
    assert_eq!(keeper::next(&rt.frame()), 102);
    end(rt);
}

/// Exit functions are called by nobody who could wait.
#[test]
fn a_thread_that_exits_in_a_pause_waits_with_what_the_module_left_in_it() {
    if is_without_debug_information() {
        return;
    }
    let (rt, shop, _turn) = start("pause-exit");
    let more = "
        #include <pthread.h>
        static pthread_key_t key;
        static void leave(void *value) { (void)value; __atomic_add_fetch(&count, 1000, __ATOMIC_RELAXED); }
        __attribute__((constructor)) static void init(void) { pthread_key_create(&key, leave); }
        __attribute__((destructor)) static void fini(void) { pthread_key_delete(key); }
        long note(void) { return pthread_setspecific(key, &key); }
    ";
    let noting = |number| {
        // The keys are each version's own.
        let more = more.replace("key;", &format!("key_{number};")).replace("&key", &format!("&key_{number}"));
        let more = more.replace("(key", &format!("(key_{number}"));
        let source = KEEPER
            .replace("MORE", &more)
            .replace("return ++count;", "extern long note(void); note(); return ++count;");
        build(&shop, "keeper", number, &source)
    };
    let paths = [1, 2].map(noting);
    let possible = LoadOptions::new().carry(Carry::Possible);
    load(rt, &paths[0], &possible).unwrap();
    let (exit, is_to_exit) = mpsc::channel::<()>();
    let called = Barrier::new(2);
    thread::scope(|scope| {
        let on_thread = &called;
        let exits = scope.spawn(move || {
            let next = keeper::next(&rt.frame());
            on_thread.wait();
            let _ = is_to_exit.recv();
            next
        });
        called.wait();
        let mut exit = Some(exit);
        let (told, is_over) = mpsc::channel::<()>();
        let joins = scope.spawn(move || {
            assert_eq!(exits.join().unwrap(), 101);
            drop(told);
        });
        let published = while_paused(rt, &paths[1], &possible, |done| {
            drop(exit.take());
            // It is not over as long as the pause is.
            let early = is_over.recv_timeout(Duration::from_millis(200));
            assert_eq!(early, Err(mpsc::RecvTimeoutError::Timeout));
            drop(done);
        });
        joins.join().unwrap();
        published.unwrap();
    });
    assert_eq!((keeper::number(&rt.frame()), keeper::next(&rt.frame())), (2, 102));
    end(rt);
}

/// What makes the new version's state may call the host, which may call the module.
#[test]
fn the_thread_that_pauses_calls_what_is_coming() {
    let (rt, shop, _turn) = start("pause-self");
    extern "C" fn ask() -> i32 {
        let rt = Runtime::start().unwrap();
        let frame = rt.frame();
        keeper::number(&frame)
    }
    let source = |number: u32, members: &str, more: &str| {
        let source = format!(
            r#"#include "runtime_module.h"
            struct asks {{ {members} }};
            MIDFLIGHT_STATE(struct asks, asks, {number}) = {{0}};
            {more}
            int number(void) {{ return NUMBER; }}
            long next(void) {{ return (long)asks.ask; }}"#
        );
        let header = include_str!("../include/runtime_module.h");
        build(&shop, "keeper", number, &source.replace("#include \"runtime_module.h\"", header))
    };
    let first = source(1, "int (*ask)(void);", "void take(void *ask) { asks.ask = (int (*)(void))ask; }");
    let hook = "void take(void *ask) { (void)ask; }
        int module_migrate_state(const char *state, const void *from, unsigned long size, unsigned schema,
                                         void *to, unsigned long new_size) {
            (void)state; (void)size; (void)schema; (void)new_size;
            ((struct asks *)to)->ask = (*(int (**)(void))from)();
            return 0;
        }";
    let second = source(2, "long ask;", hook);
    load(rt, &first, &LoadOptions::new()).unwrap();
    // SAFETY: of the type that the module's function has.
    let take: extern "C" fn(*const ()) =
        unsafe { std::mem::transmute(rt.frame_symbol("keeper", "take").unwrap()) };
    let frame = rt.frame();
    take(ask as *const ());
    drop(frame);
    // SAFETY: ends the process if it waits for ever.
    unsafe { libc::alarm(100) };
    load(rt, &second, &LoadOptions::new()).unwrap();
    // SAFETY: as above.
    unsafe { libc::alarm(0) };
    assert_eq!((keeper::number(&rt.frame()), keeper::next(&rt.frame())), (2, 2));
    end(rt);
}

const LEAVER: &str = r#"
    #include <pthread.h>
    #include <setjmp.h>
    #include <signal.h>
    #include <string.h>
    int number(void);
    static __thread sigjmp_buf out;
    static void on_signal(int signal) { (void)signal; siglongjmp(out, 1); }
    int jump_out(void) {
        struct sigaction action;
        memset(&action, 0, sizeof action);
        action.sa_handler = on_signal;
        sigaction(SIGUSR1, &action, 0);
        return sigsetjmp(out, 1) ? -1 : number();
    }

    static pthread_t thread;
    static int begun, cleaned;
    static void clean(void *by) { cleaned += *(int *)by; }
    static void *call(void *argument) {
        int old, by = 7;
        pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
        pthread_cleanup_push(clean, &by);
        __atomic_store_n(&begun, 1, __ATOMIC_RELEASE);
        number();
        pthread_cleanup_pop(0);
        return argument;
    }
    int begin(void) {
        if (pthread_create(&thread, 0, call, 0)) return -1;
        while (!__atomic_load_n(&begun, __ATOMIC_ACQUIRE)) ;
        return 0;
    }
    int cancel(void) {
        void *result;
        pthread_cancel(thread);
        pthread_join(thread, &result);
        return result == PTHREAD_CANCELED ? cleaned : -1;
    }"#;

/// A handler may jump out of a call that waits. The frame is the thread's still.
#[test]
fn a_thread_jumps_out_of_a_call_that_waits() {
    if is_without_debug_information() {
        return;
    }
    let (rt, shop, _turn) = start("pause-jumps");
    let paths = [1, 2].map(|number| keeper(&shop, number, ""));
    load(rt, &paths[0], &carrying()).unwrap();
    load(rt, &shop.module("leaver", 1, LEAVER), &LoadOptions::new()).unwrap();
    let published = while_paused(rt, &paths[1], &carrying(), |done| {
        let (tell, thread) = mpsc::channel();
        let waits = thread::spawn(move || {
            let frame = rt.frame();
            // SAFETY: the calling thread.
            tell.send(unsafe { libc::pthread_self() }).unwrap();
            leaver::jump_out(&frame)
        });
        let thread = thread.recv().unwrap();
        // It calls as soon as it has told.
        thread::sleep(Duration::from_millis(100));
        // SAFETY: the thread is there: it waits, or the test fails by what it returns.
        assert_eq!(unsafe { libc::pthread_kill(thread, libc::SIGUSR1) }, 0);
        assert_eq!(waits.join().unwrap(), -1);
        drop(done);
    });
    // The handler's module, and what it calls, is called outside frames: so threads are looked at,
    // which is never complete under an emulator.
    assert!(published.is_ok() || support::is_emulated(), "{published:?}");
    assert_eq!(keeper::number(&rt.frame()), if published.is_ok() { 2 } else { 1 });
    // SAFETY: the handler is the module's, which goes.
    unsafe { libc::signal(libc::SIGUSR1, libc::SIG_DFL) };
    rt.unload("leaver").unwrap();
    end(rt);
}

/// It leaves as from any function: what the module has put there for it runs.
#[test]
fn a_thread_is_cancelled_in_a_call_that_waits() {
    if is_without_debug_information() {
        return;
    }
    let (rt, shop, _turn) = start("pause-cancel");
    let paths = [1, 2].map(|number| keeper(&shop, number, ""));
    load(rt, &paths[0], &carrying()).unwrap();
    load(rt, &shop.module("leaver", 1, LEAVER), &LoadOptions::new()).unwrap();
    let published = while_paused(rt, &paths[1], &carrying(), |done| {
        let frame = rt.frame();
        assert_eq!(leaver::begin(&frame), 0);
        // It calls as soon as it has begun.
        thread::sleep(Duration::from_millis(100));
        assert_eq!(leaver::cancel(&frame), 7);
        drop(done);
    });
    // A module's own thread has called it: so threads are looked at, which is never complete under an
    // emulator.
    assert!(published.is_ok() || support::is_emulated(), "{published:?}");
    assert_eq!(keeper::number(&rt.frame()), if published.is_ok() { 2 } else { 1 });
    rt.unload("leaver").unwrap();
    end(rt);
}

/// Who does not leave is named with what he is in.
#[test]
fn who_stays_inside_is_named_with_the_function() {
    if is_without_debug_information() {
        return;
    }
    let (rt, shop, _turn) = start("pause-names");
    let source = KEEPER.replace(
        "MORE",
        "static int over; void leave(void) { __atomic_store_n(&over, 1, __ATOMIC_RELAXED); }
         int stay(void) { while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) ; return NUMBER; }",
    );
    let paths = [1, 2].map(|number| build(&shop, "keeper", number, &source));
    load(rt, &paths[0], &carrying()).unwrap();
    let [stay, leave] = ["stay", "leave"].map(|symbol| rt.frame_symbol("keeper", symbol).unwrap());
    // SAFETY: of the type that the module's function has.
    let stay = unsafe { std::mem::transmute::<NonNull<()>, extern "C" fn() -> i32>(stay) };
    // SAFETY: as above.
    let leave = unsafe { std::mem::transmute::<NonNull<()>, extern "C" fn()>(leave) };
    let opened = Barrier::new(2);
    thread::scope(|scope| {
        let on_thread = &opened;
        let inside = scope.spawn(move || {
            let _frame = rt.frame();
            on_thread.wait();
            stay()
        });
        opened.wait();
        let error = load(rt, &paths[1], &carrying()).unwrap_err();
        {
            let _frame = rt.frame();
            leave();
        }
        assert_eq!(inside.join().unwrap(), 1);
        let Error::Occupied { modules, by } = &error else { panic!("{error}") };
        assert_eq!((&*modules[0], by.len()), ("keeper", 1), "{error}");
        assert!(by[0].starts_with("thread ") && by[0].contains("is in generation"), "{error}");
        // Under an emulator threads are not stopped in time.
        assert!(by[0].contains("`stay` of version 1 of `keeper`") || support::is_emulated(), "{error}");
    });
    load(rt, &paths[1], &carrying()).unwrap();
    assert_eq!(keeper::number(&rt.frame()), 2);
    end(rt);
}

/// A destructor that runs at the process's end is no reason to refuse.
#[test]
fn a_module_with_functions_for_the_end_of_the_process_is_carried_over() {
    if is_without_debug_information() {
        return;
    }
    let (rt, shop, _turn) = start("pause-destructor");
    let source = |number: u32| {
        format!(
            "struct ends {{ int x; ~ends() {{ x = 0; }} }};
             static ends one;
             static long count = 100;
             extern \"C\" long next() {{ return ++count + one.x; }}
             extern \"C\" int number() {{ return {number}; }}"
        )
    };
    let paths = [1, 2].map(|number| shop.cpp("keeper", number, &source(number), &["-g"]));
    let possible = LoadOptions::new().carry(Carry::Possible);
    load(rt, &paths[0], &possible).unwrap();
    assert_eq!(keeper::next(&rt.frame()), 101);
    load(rt, &paths[1], &possible).unwrap();
    assert_eq!((keeper::number(&rt.frame()), keeper::next(&rt.frame())), (2, 102));
    end(rt);
}

/// It would not wait for its own thread.
#[test]
fn a_handler_on_the_thread_that_pauses_runs_when_the_values_are_there() {
    if is_without_debug_information() {
        return;
    }
    static CALLED: AtomicI32 = AtomicI32::new(0);
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn on_signal(_: libc::c_int) {
        // SAFETY: of the type that the module's function has.
        let number: extern "C" fn() -> i32 = unsafe { std::mem::transmute(NUMBER.load(Ordering::Relaxed)) };
        CALLED.store(number(), Ordering::Relaxed);
    }
    let (rt, shop, _turn) = start("pause-handler");
    let paths = [1, 2].map(|number| keeper(&shop, number, ""));
    load(rt, &paths[0], &carrying()).unwrap();
    NUMBER.store(rt.symbol("keeper", "number").unwrap().addr().get(), Ordering::Relaxed);
    // SAFETY: the handler stores two words and calls the module.
    unsafe { libc::signal(libc::SIGUSR2, on_signal as *const () as libc::sighandler_t) };
    let opened = Barrier::new(2);
    let (done, is_done) = mpsc::channel::<()>();
    let before = rt.frame().generation();
    thread::scope(|scope| {
        let opened = &opened;
        scope.spawn(move || {
            let _frame = rt.frame();
            opened.wait();
            let _ = is_done.recv();
        });
        opened.wait();
        let (tell, loads) = mpsc::channel();
        let path = &paths[1];
        let loader = scope.spawn(move || {
            // SAFETY: the calling thread.
            tell.send(unsafe { libc::pthread_self() }).unwrap();
            load(rt, path, &carrying())
        });
        let loads = loads.recv().unwrap();
        while rt.frame().generation() == before {
            thread::yield_now();
        }
        // SAFETY: the thread is there: it is in the pause.
        assert_eq!(unsafe { libc::pthread_kill(loads, libc::SIGUSR2) }, 0);
        thread::sleep(Duration::from_millis(100));
        assert_eq!(CALLED.load(Ordering::Relaxed), 0, "it waits for the copy");
        drop(done);
        // A look at threads may find what only seems to be an address; under an emulator it is never
        // complete. Then the old version goes on.
        let expected = if loader.join().unwrap().is_ok() { 2 } else { 1 };
        assert_eq!(CALLED.load(Ordering::Relaxed), expected);
    });
    // SAFETY: the handler goes.
    unsafe { libc::signal(libc::SIGUSR2, libc::SIG_DFL) };
    end(rt);
}
