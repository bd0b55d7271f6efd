//! Handlers of signals that modules install: their version stays until they are gone.

mod support;

use std::ffi::c_int;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use midflight::{Collected, LoadOptions, Runtime};
use support::*;

/// An emulator has a thread of its own among ours, which cannot be looked at: no look is ever clear.
fn is_emulated() -> bool {
    std::env::var_os("MIDFLIGHT_TEST_RUNNER").is_some()
}

/// What the handler said last: the version of the module that it called.
static SAID: AtomicI32 = AtomicI32::new(0);

extern "C" fn say(version: c_int) {
    SAID.store(version, Ordering::SeqCst);
}

/// Runs the handler of SIGUSR2.
fn said() -> c_int {
    SAID.store(0, Ordering::SeqCst);
    // SAFETY: the module's handler calls `say`.
    unsafe { libc::raise(libc::SIGUSR2) };
    SAID.load(Ordering::SeqCst)
}

/// `handling`, and the module that its handler calls. `shutdown` is the body of its module_shutdown.
fn versions(shop: &Workshop, version: c_int, init: &str, shutdown: &str) -> [PathBuf; 2] {
    let used = shop.module("used", version as u32, &format!("int used_id(void) {{ return {version}; }}"));
    let source = format!(
        "#include <signal.h>
         int used_id(void);
         static __attribute__((used)) void handle(int signal) {{ ((void (*)(int)){}ul)(used_id()); }}
         int module_init(void) {{ {init} return 0; }}
         void module_shutdown(void) {{ {shutdown} }}",
        say as *const () as usize
    );
    [used, shop.module("handling", version as u32, &source)]
}

const INSTALL: &str = "struct sigaction action = { .sa_handler = handle }; sigaction(SIGUSR2, &action, 0);";
const TAKE_BACK: &str = "signal(SIGUSR2, SIG_IGN);";

fn load(rt: Runtime, files: [PathBuf; 2]) {
    // On a thread of its own, so that no address stays behind on this one's stack, where every word counts.
    std::thread::scope(|scope| {
        // SAFETY: they have no functions that are declared.
        scope.spawn(|| unsafe { rt.load_with(&files, &LoadOptions::default()) }.unwrap()).join().unwrap()
    });
}

fn ignore() {
    // SAFETY: a signal that nothing else here uses.
    unsafe { libc::signal(libc::SIGUSR2, libc::SIG_IGN) };
}

/// Looks until nothing is left. A look that is late proves nothing.
fn look_until_nothing_is_left(rt: Runtime) {
    let begin = Instant::now();
    loop {
        let Collected { old_bytes, .. } = rt.collect_quiescent().unwrap().collected;
        if old_bytes == 0 {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", rt.collect_quiescent());
    }
}

#[test]
fn a_handler_that_a_module_leaves_keeps_its_version_and_what_it_calls() {
    let (rt, shop, _turn) = start("signal-left");
    if is_bridged() {
        return;
    }
    rt.shutdown().unwrap();
    load(rt, versions(&shop, 1, INSTALL, ""));
    assert_eq!(said(), 1);
    // The handler is the old version's, and outside frames it calls what is current.
    load(rt, versions(&shop, 2, "", ""));
    let left = rt.collect().unwrap();
    assert_eq!((left.freed, left.retained), (0, 2), "the handler may run on any thread");
    assert_eq!(said(), 2);
    // SAFETY: no thread is in the handler.
    let left = unsafe { rt.collect_escaped() }.unwrap();
    assert_eq!(left.busy, 1, "and it may run again: {left:?}");
    assert_eq!(said(), 2);
    // SAFETY: as above.
    assert!(unsafe { rt.collect_escaped() }.unwrap().old_bytes > 0);
    ignore();
    if is_emulated() {
        // SAFETY: as above.
        while unsafe { rt.collect_escaped() }.unwrap().freed > 0 {}
    } else {
        look_until_nothing_is_left(rt);
    }
    assert_eq!(rt.collect().unwrap().old_bytes, 0);
    rt.shutdown().unwrap();
}

#[test]
fn a_handler_that_is_taken_back_keeps_its_version_until_a_look() {
    let (rt, shop, _turn) = start("signal-taken-back");
    if is_bridged() {
        return;
    }
    rt.shutdown().unwrap();
    load(rt, versions(&shop, 3, INSTALL, TAKE_BACK));
    assert_eq!(said(), 3);
    load(rt, versions(&shop, 4, "", ""));
    // SAFETY: no thread is in the handler.
    let left = unsafe { rt.collect_escaped() }.unwrap();
    assert_eq!(left.busy, 1, "it was there when the version was ended: {left:?}");
    assert_eq!(said(), 0);
    if is_emulated() {
        // SAFETY: as above.
        while unsafe { rt.collect_escaped() }.unwrap().freed > 0 {}
    } else {
        look_until_nothing_is_left(rt);
    }
    assert_eq!(rt.collect().unwrap().old_bytes, 0);
    rt.shutdown().unwrap();
}

#[test]
fn a_handler_that_the_next_version_replaces_goes_with_the_first() {
    let (rt, shop, _turn) = start("signal-replaced");
    if is_bridged() {
        return;
    }
    rt.shutdown().unwrap();
    for round in 0..6 {
        load(rt, versions(&shop, 5 + round % 2, INSTALL, ""));
        assert_eq!(said(), 5 + round % 2);
    }
    // SAFETY: no thread is in the handler.
    unsafe { rt.collect_escaped() }.unwrap();
    if !is_emulated() {
        look_until_nothing_is_left(rt);
    }
    ignore();
    rt.shutdown().unwrap();
}

#[test]
fn modules_that_install_none_are_freed_at_once() {
    let (rt, shop, _turn) = start("signal-none");
    if is_bridged() {
        return;
    }
    rt.shutdown().unwrap();
    load(rt, versions(&shop, 7, TAKE_BACK, ""));
    load(rt, versions(&shop, 8, "", ""));
    let left = rt.collect().unwrap();
    assert_eq!((left.held, left.retained, left.busy, left.old_bytes), (0, 0, 0, 0));
    rt.shutdown().unwrap();
}
