//! Guarded calls: code of a module fails, and the call ends by an error that says how and where.
#![cfg(target_os = "linux")]

mod support;

use std::ffi::c_int;
use std::thread;

use midflight::{Failure, FailureCause, Runtime};
use support::*;

type Callback = extern "C-unwind" fn();

midflight::module! {
    unsafe mod faulty {
        safe guarded fn well(x: i32) -> i32;
        safe guarded fn fail(kind: c_int) -> c_int;
        safe guarded fn through(callback: Callback) -> c_int;
        safe guarded fn modes() -> c_int;
        safe guarded fn child(how: c_int) -> c_int;
        safe fn plain(x: i32) -> i32;
    }
    unsafe mod thrower { safe guarded fn fling(x: c_int) -> c_int; }
}

/// `fail` fails in as many ways as it has cases.
const SOURCE: &str = r#"
#include <stdlib.h>
#include <stdint.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <assert.h>
#include <stdio.h>
#include <fenv.h>

int well(int x) { return x + 1; }
int plain(int x) { return x + VERSION; }

static volatile int *volatile nowhere;
static volatile int zero;
static int (*volatile none)(void);

__attribute__((noinline)) static int deeper(volatile char *above, int n) {
    volatile char room[4000];
    room[0] = above[0];
    return deeper(room, n + 1) + room[n & 1];
}

int fail(int kind) {
    switch (kind) {
    case 0: return *nowhere;
#ifdef __x86_64__
    case 1: __asm__ volatile("ud2"); return 0;
    case 2: return kind / zero;
    case 3: __asm__ volatile("int3"); return 0;
#else
    case 1: case 2: __asm__ volatile("udf #1"); return 0;
    case 3: __asm__ volatile("brk #1"); return 0;
#endif
    case 4: {
        FILE *empty = tmpfile();
        volatile char *page = mmap(0, 4096, PROT_READ, MAP_SHARED, fileno(empty), 0);
        fclose(empty);
        return page[0];
    }
    case 5: { volatile char first[1] = {0}; return deeper(first, 0); }
    case 6: return none() + 1;
    case 7: abort();
    case 8: exit(7);
    case 9: _exit(9);
    case 10: assert(kind == 11);
    case 11: quick_exit(11);
    }
    return kind;
}

/* What a program does that starts another one, which is not there. */
int child(int how) {
    int status = 0;
    pid_t pid = how == 1 ? vfork() : fork();
    if (pid == 0) {
        if (how == 2) *nowhere = 1;
        execl("/nowhere", "nowhere", (char *)0);
        _exit(127);
    }
    return waitpid(pid, &status, 0) == pid ? status : -1;
}

int through(void (*callback)(void)) { callback(); return 1; }

int modes(void) {
#ifdef __x86_64__
    unsigned csr = 0xffc0;
    __asm__ volatile("ldmxcsr %0; std; fldz; fldz" :: "m"(csr));
#else
    __asm__ volatile("msr fpcr, %0" :: "r"(0x1000000UL));
#endif
    return *nowhere;
}
"#;

fn load(rt: Runtime, shop: &Workshop, version: u32) {
    let path = shop.module("faulty", version, &format!("#define VERSION {version}\n{SOURCE}"));
    // SAFETY: the tests' modules have the functions as declared above.
    unsafe { rt.load(path) }.unwrap();
}

fn signal_of(failure: &Failure) -> Option<c_int> {
    match failure.cause() {
        FailureCause::Fault { signal, .. } => Some(*signal),
        _ => None,
    }
}

#[test]
fn each_kind_ends_the_call_with_an_error_that_says_where() {
    let (rt, shop, _turn) = start("guarded_kinds");
    let divided = if cfg!(target_arch = "x86_64") { libc::SIGFPE } else { libc::SIGILL };
    let kinds = [
        Some(libc::SIGSEGV),
        Some(libc::SIGILL),
        Some(divided),
        Some(libc::SIGTRAP),
        Some(libc::SIGBUS),
        Some(libc::SIGSEGV),
        Some(libc::SIGSEGV),
        None,
        None,
        None,
        None,
        None,
    ];
    for (kind, signal) in (0..).zip(kinds) {
        load(rt, &shop, kind as u32 + 1);
        let frame = rt.frame();
        assert_eq!(faulty::well(&frame, 4).unwrap(), 5);
        let failure = faulty::fail(&frame, kind).unwrap_err();
        println!("{kind}: {failure}");
        assert_eq!(signal_of(&failure), signal, "{kind}: {failure}");
        let place = failure.place().unwrap();
        assert_eq!((place.module.as_str(), Some(place.version)), ("faulty", frame.version("faulty")));
        if kind != 5 {
            assert_eq!(place.symbol.as_deref(), Some("fail"), "{failure}");
        }
        match kind {
            0 => assert!(matches!(
                failure.cause(),
                FailureCause::Fault { address: 0, is_stack_overflow: false, .. }
            )),
            5 => assert!(
                matches!(failure.cause(), FailureCause::Fault { is_stack_overflow: true, .. }),
                "{failure}"
            ),
            7 => assert_eq!(failure.cause(), &FailureCause::Aborted),
            8 => assert_eq!(failure.cause(), &FailureCause::Exited { status: 7 }),
            9 => assert_eq!(failure.cause(), &FailureCause::Exited { status: 9 }),
            10 => assert_eq!(failure.cause(), &FailureCause::Aborted),
            11 => assert_eq!(failure.cause(), &FailureCause::Exited { status: 11 }),
            _ => {}
        }
        // It is not entered again.
        let failure = faulty::well(&frame, 4).unwrap_err();
        assert_eq!(failure.cause(), &FailureCause::Quarantined);
    }
}

/// The version goes when the test is done with it: what failed has its place free for the next.
fn renew(rt: Runtime, shop: &Workshop, version: u32) {
    load(rt, shop, version);
    rt.collect().unwrap();
}

extern "C-unwind" fn nested() {
    let rt = Runtime::start().unwrap();
    // A frame that is left when the module fails below.
    let frame = rt.frame();
    let inner = faulty::fail(&frame, 0).unwrap_err();
    assert_eq!(signal_of(&inner), Some(libc::SIGSEGV));
}

extern "C-unwind" fn leaves_a_frame() {
    let frame = Runtime::start().unwrap().frame();
    unguarded::fail(&frame, 0);
    unreachable!("it failed");
}

midflight::module! {
    unsafe mod unguarded { safe fn fail(kind: c_int) -> c_int; }
}

#[test]
fn calls_within_calls_end_by_themselves_and_frames_that_were_left_are_ended() {
    let (rt, shop, _turn) = start("guarded_nested");
    renew(rt, &shop, 30);
    // The same functions under a name that is called without a guard.
    let path = shop.module("unguarded", 1, &format!("#define VERSION 1\n{SOURCE}"));
    // SAFETY: as above.
    unsafe { rt.load(path) }.unwrap();
    {
        let frame = rt.frame();
        // The inner call ends, and the outer returns.
        assert_eq!(faulty::through(&frame, nested).unwrap(), 1);
    }
    renew(rt, &shop, 31);
    {
        let frame = rt.frame();
        let failure = faulty::through(&frame, leaves_a_frame).unwrap_err();
        assert_eq!(failure.place().unwrap().module, "unguarded");
    }
    // No pin is left: what was replaced goes.
    renew(rt, &shop, 32);
    rt.unload("unguarded").unwrap();
    let left = rt.collect().unwrap();
    assert_eq!((left.held, left.retained, left.busy), (0, 0, 0));
}

#[test]
fn how_a_thread_computes_is_as_before() {
    let (rt, shop, _turn) = start("guarded_modes");
    renew(rt, &shop, 40);
    let failure = faulty::modes(&rt.frame()).unwrap_err();
    assert_eq!(signal_of(&failure), Some(libc::SIGSEGV));
    // Subnormal numbers are kept, and backward copies go forward.
    let smallest = std::hint::black_box(f64::MIN_POSITIVE);
    assert!(smallest / 2.0 > 0.0);
    let bytes = std::hint::black_box(vec![7_u8; 4096]);
    assert!(bytes.clone().iter().all(|byte| *byte == 7));
}

#[test]
fn threads_fail_by_themselves_and_nothing_is_left() {
    let (rt, shop, _turn) = start("guarded_threads");
    const ROUNDS: u32 = 20;
    for round in 0..ROUNDS {
        renew(rt, &shop, 50 + round % 2);
        thread::scope(|scope| {
            for kind in [0, 1, 5, 6] {
                scope.spawn(move || {
                    let frame = rt.frame();
                    let failure = faulty::fail(&frame, kind).unwrap_err();
                    let quarantined = *failure.cause() == FailureCause::Quarantined;
                    assert!(quarantined || signal_of(&failure).is_some(), "{failure}");
                });
            }
        });
    }
    renew(rt, &shop, 52);
    let left = rt.collect().unwrap();
    assert_eq!((left.held, left.retained, left.busy), (0, 0, 0));
    assert_eq!(faulty::well(&rt.frame(), 1).unwrap(), 2);
}

/// A child has its parent's stack, and must not go on as the parent.
#[test]
fn what_fails_in_a_forked_child_is_the_childs_own_end() {
    let (rt, shop, _turn) = start("guarded_children");
    renew(rt, &shop, 70);
    let frame = rt.frame();
    for how in [0, 1] {
        let status = faulty::child(&frame, how).unwrap();
        assert_eq!((libc::WIFEXITED(status), libc::WEXITSTATUS(status)), (true, 127), "{how}: {status:#x}");
    }
    let status = faulty::child(&frame, 2).unwrap();
    assert_eq!((libc::WIFSIGNALED(status), libc::WTERMSIG(status)), (true, libc::SIGSEGV), "{status:#x}");
    // The call itself is contained as before.
    assert!(faulty::fail(&frame, 0).is_err());
}

/// pthread_exit(3) ends the thread, and not the call by an error.
#[test]
fn a_thread_that_ends_in_a_guarded_call_ends() {
    let (rt, shop, _turn) = start("guarded_ends");
    renew(rt, &shop, 71);
    extern "C-unwind" fn ends() {
        // SAFETY: nothing of this thread's is needed any more.
        unsafe { libc::pthread_exit(std::ptr::without_provenance_mut(7)) };
    }
    extern "C-unwind" fn begin(_: *mut libc::c_void) -> *mut libc::c_void {
        let ended = faulty::through(&Runtime::start().unwrap().frame(), ends);
        unreachable!("it went on: {ended:?}");
    }
    let (mut thread, mut result) = (0, std::ptr::null_mut());
    // SAFETY: room for both; the function may be unwound through.
    unsafe {
        let begin: extern "C-unwind" fn(*mut libc::c_void) -> *mut libc::c_void = begin;
        let begin: extern "C" fn(*mut libc::c_void) -> *mut libc::c_void = std::mem::transmute(begin);
        assert_eq!(libc::pthread_create(&mut thread, std::ptr::null(), begin, std::ptr::null_mut()), 0);
        assert_eq!(libc::pthread_join(thread, &mut result), 0);
    }
    assert_eq!(result.addr(), 7);
    assert_eq!(faulty::well(&rt.frame(), 1).unwrap(), 2);
    rt.collect().unwrap();
}

#[test]
fn an_exception_that_leaves_a_guarded_call_is_an_error() {
    let (rt, shop, _turn) = start("guarded_exceptions");
    let source = "extern \"C\" int fling(int x) { if (x) throw x; return 3; }";
    let path = shop.cpp("thrower", 1, source, &[]);
    // SAFETY: it has the function as declared above.
    unsafe { rt.load(path) }.unwrap();
    let frame = rt.frame();
    assert_eq!(thrower::fling(&frame, 0).unwrap(), 3);
    let failure = thrower::fling(&frame, 5).unwrap_err();
    assert_eq!(failure.cause(), &FailureCause::Exception);
    assert_eq!(failure.place().unwrap().module, "thrower");
}

extern "C-unwind" fn fails_itself() {
    eprintln!("the host fails");
    // SAFETY: none: it is to fail.
    unsafe { std::ptr::without_provenance_mut::<i32>(8).write_volatile(1) };
}

/// A fault of the host's is its own, though a module has called it.
#[test]
fn a_fault_of_the_host_is_never_swallowed() {
    const CHILD: &str = "MIDFLIGHT_TEST_HOST_FAULT";
    if std::env::var_os(CHILD).is_some() {
        let (rt, shop, _turn) = start("guarded_host");
        load(rt, &shop, 60);
        let ended = faulty::through(&rt.frame(), fails_itself);
        unreachable!("it went on: {ended:?}");
    }
    let output = this_test("a_fault_of_the_host_is_never_swallowed").env(CHILD, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("the host fails"), "{text}");
    assert!(text.contains("in a guarded call is not contained") && !text.contains("it went on"), "{text}");
}
