//! Children of fork(2), however they are made: what they have of the parent's is theirs, and nobody
//! keeps them waiting.

#![cfg(target_os = "linux")]

mod support;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use midflight::{Error, Runtime};
use support::{Workshop, is_bridged, start};

midflight::module! {
    unsafe mod forked { safe fn number() -> i32; }
    unsafe mod walker { safe fn objects() -> i32; }
    unsafe mod signalled { safe fn begin(); safe fn look(times: i64) -> i64; }
}

unsafe extern "C" {
    /// fork(2) without the handlers of pthread_atfork(3).
    fn _Fork() -> libc::pid_t;
}

fn fork() -> libc::pid_t {
    // SAFETY: the children here only call, ask, and exit without unwinding into the test harness.
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

type Way = fn() -> libc::pid_t;

const WAYS: [(&str, Way); 3] = [("fork", fork), ("_Fork", fork_without_handlers), ("clone", clone)];

fn ends_well(child: libc::pid_t, what: &str) {
    let mut status = -1;
    // SAFETY: waits for the child.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child, "{what}");
    assert_eq!(status, 0, "{what}");
}

fn exit(well: bool) -> ! {
    // SAFETY: ends the child at once.
    unsafe { libc::_exit(if well { 0 } else { 1 }) }
}

fn version(shop: &Workshop, number: u32) -> PathBuf {
    shop.module("forked", number, &format!("int number(void) {{ return {number}; }}"))
}

fn load(rt: Runtime, path: &PathBuf) {
    // SAFETY: the tests' modules have the functions as declared.
    unsafe { rt.load(path) }.unwrap();
}

#[test]
fn a_child_keeps_its_code_while_the_parent_reloads() {
    let (rt, shop, _turn) = start("fork-ways");
    let versions = [1, 2].map(|n| version(&shop, n));
    for (way, fork) in WAYS {
        // Pages that were freed wait to be written again.
        for round in 0..4 {
            load(rt, &versions[round % 2]);
        }
        load(rt, &versions[0]);
        let (mut waits, mut tells) = std::io::pipe().unwrap();
        let child = fork();
        if child == 0 {
            let told = std::io::Read::read_exact(&mut waits, &mut [0]).is_ok();
            exit(told && forked::number(&rt.frame()) == 1);
        }
        for round in 1..8 {
            load(rt, &versions[round % 2]);
            rt.collect().unwrap();
        }
        std::io::Write::write_all(&mut tells, &[1]).unwrap();
        ends_well(child, way);
    }
}

/// Loading in a child would write to pages that the parent executes.
#[test]
fn a_child_does_not_load_and_the_parent_keeps_its_code() {
    let (rt, shop, _turn) = start("fork-loads");
    let versions = [1, 2].map(|n| version(&shop, n));
    for (way, fork) in WAYS {
        load(rt, &versions[1]);
        load(rt, &versions[0]);
        let child = fork();
        if child == 0 {
            // SAFETY: it is refused.
            exit((0..3).all(|_| matches!(unsafe { rt.load(&versions[1]) }, Err(Error::Forked))));
        }
        ends_well(child, way);
        assert_eq!(forked::number(&rt.frame()), 1, "{way}");
    }
}

/// The list of what is loaded is read without a lock: no thread that the child has not got keeps it
/// waiting.
#[test]
fn a_child_sees_what_is_loaded_while_others_load() {
    // Mach-O modules have Apple's way of asking.
    if is_bridged() {
        return;
    }
    let (rt, shop, _turn) = start("fork-walks");
    let source = "#define _GNU_SOURCE
                  #include <link.h>
                  static int one(struct dl_phdr_info *info, size_t size, void *count) { ++*(int *)count; return 0; }
                  int objects(void) { int count = 0; dl_iterate_phdr(one, &count); return count; }";
    load(rt, &shop.module("walker", 1, source));
    let versions = [1, 2].map(|n| version(&shop, n));
    /// Ends the other threads, also when the test fails.
    struct End<'o>(&'o AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _end = End(&over);
        scope.spawn(|| {
            for round in (0..2).cycle().take_while(|_| !over.load(Ordering::Relaxed)) {
                load(rt, &versions[round]);
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    assert!(walker::objects(&rt.frame()) > 1);
                }
            });
        }
        for _ in 0..100 {
            let child = fork();
            if child == 0 {
                // SAFETY: ends the child if it waits for ever.
                unsafe { libc::alarm(20) };
                exit(walker::objects(&rt.frame()) > 1);
            }
            ends_well(child, "a walk");
        }
    });
}

/// `_dl_find_object` is for unwinders, and these run in handlers of signals: of a thread that is in
/// the midst of the same call, or of a load.
#[test]
fn a_handler_asks_where_code_is() {
    if is_bridged() {
        return;
    }
    let (rt, shop, _turn) = start("signal-walks");
    let source = "#define _GNU_SOURCE
                  #include <signal.h>
                  #include <string.h>
                  #include <sys/time.h>
                  struct found { unsigned long long flags; void *start, *end, *map, *frames; unsigned long long rest[7]; };
                  extern int _dl_find_object(void *, struct found *) __attribute__((weak));
                  static volatile long handled;
                  static int find(void *where) { struct found found; return _dl_find_object(where, &found); }
                  static void on_signal(int number) { find((void *)strlen); find((void *)on_signal); handled++; }
                  void begin(void) {
                      struct sigaction action;
                      struct itimerval often = { { 0, 100 }, { 0, 100 } };
                      memset(&action, 0, sizeof action);
                      action.sa_handler = on_signal;
                      action.sa_flags = SA_RESTART;
                      if (!_dl_find_object) { handled = -1; return; }
                      sigaction(SIGPROF, &action, 0);
                      setitimer(ITIMER_PROF, &often, 0);
                  }
                  static void end(void) {
                      struct itimerval never = { { 0, 0 }, { 0, 0 } };
                      setitimer(ITIMER_PROF, &never, 0);
                      signal(SIGPROF, SIG_IGN);
                  }
                  long look(long times) {
                      if (handled == -1) return -1;
                      for (long n = 0; n < times; n++) find((void *)look);
                      if (times < 0) end();
                      return handled;
                  }";
    load(rt, &shop.module("signalled", 1, source));
    let versions = [1, 2].map(|n| version(&shop, n));
    // A deadlock would last for ever.
    // SAFETY: takes a number.
    unsafe { libc::alarm(120) };
    signalled::begin(&rt.frame());
    let mut round = 0;
    let handled = loop {
        let handled = signalled::look(&rt.frame(), 20_000);
        load(rt, &versions[round % 2]);
        round += 1;
        // -1: a C library without the function.
        if handled == -1 || (handled > 200 && round > 50) {
            break handled;
        }
    };
    assert!(handled == -1 || handled > 200);
    signalled::look(&rt.frame(), -1);
    // SAFETY: as above.
    unsafe { libc::alarm(0) };
}
