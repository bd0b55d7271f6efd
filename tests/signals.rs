//! Handlers of signals that modules install: their version stays until they are gone.

mod support;

use std::ffi::c_int;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use midflight::{Collected, Error, LoadOptions, Runtime};
use support::looks::elsewhere;
use support::*;

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

/// `handling`, and the module that its handler calls. `shutdown` is the body of its
/// module_shutdown.
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

fn load<const N: usize>(rt: Runtime, files: [PathBuf; N]) {
    // On a thread of its own, so that no address stays behind on this one's stack, where every word
    // counts.
    std::thread::scope(|scope| {
        // SAFETY: they have no functions that are declared.
        scope.spawn(|| unsafe { rt.load_with(&files, &LoadOptions::default()) }.unwrap()).join().unwrap()
    });
}

fn ignore() {
    // SAFETY: a signal that nothing else here uses.
    unsafe { libc::signal(libc::SIGUSR2, libc::SIG_IGN) };
}

/// Frees all that can be, on the word that no thread is in a handler.
fn vouch(rt: Runtime) -> Collected {
    loop {
        // SAFETY: nobody raises the signal meanwhile.
        let collected = unsafe { rt.collect_escaped() }.unwrap();
        if collected.freed == 0 {
            return collected;
        }
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
    assert!(vouch(rt).old_bytes > 0);
    ignore();
    assert_eq!(vouch(rt).old_bytes, 0);
    rt.shutdown().unwrap();
}

#[test]
fn a_handler_that_is_taken_back_keeps_its_version_until_a_look() {
    let (rt, shop, _turn) = start("signal-taken-back");
    if is_bridged() {
        return;
    }
    rt.shutdown().unwrap();
    // Any number on any stack may look like an address of it: then the next one is looked for.
    let is_seen_to_be_free = || {
        load(rt, versions(&shop, 3, INSTALL, TAKE_BACK));
        assert_eq!(said(), 3);
        load(rt, versions(&shop, 4, "", ""));
        // SAFETY: no thread is in the handler.
        let left = unsafe { rt.collect_escaped() }.unwrap();
        assert_eq!(left.busy, 1, "it was there when the version was ended: {left:?}");
        assert_eq!(said(), 0);
        let begin = Instant::now();
        while rt.collect_quiescent().unwrap().collected.busy > 0 {
            if begin.elapsed() > Duration::from_secs(4) || is_emulated() {
                return false;
            }
        }
        true
    };
    assert!((0..5).any(|_| is_seen_to_be_free()) || is_emulated());
    assert_eq!(vouch(rt).old_bytes, 0);
    rt.shutdown().unwrap();
}

#[test]
fn a_load_that_has_no_room_looks_whether_a_handler_is_over() {
    let (rt, shop, _turn) = start("signal-room");
    if is_bridged() || is_emulated() {
        return;
    }
    rt.shutdown().unwrap();
    let more = shop.module("more", 1, "int more(void) { return 1; }");
    // SAFETY: nothing of it is called.
    let load_more = || elsewhere(|| unsafe { rt.load(&more) }.map(drop));
    // What calls another module is retained, and looked for as that.
    let alone = |version: u32, init: &str, shutdown: &str| {
        let source = format!(
            "#include <signal.h>
             static __attribute__((used)) void handle(int signal) {{ ((void (*)(int)){}ul)({version}); }}
             int module_init(void) {{ {init} return 0; }}
             void module_shutdown(void) {{ {shutdown} }}",
            say as *const () as usize
        );
        shop.module("alone", version, &source)
    };
    let makes_room = || {
        load(rt, [alone(9, INSTALL, TAKE_BACK)]);
        assert_eq!(said(), 9);
        load(rt, [alone(10, "", "")]);
        // SAFETY: no thread is in the handler.
        let left = unsafe { rt.collect_escaped() }.unwrap();
        assert_eq!((left.busy, left.retained), (1, 0), "it was there when the version was ended: {left:?}");
        rt.set_max_memory(Some(1)).unwrap();
        let refused = load_more().unwrap_err();
        let Error::MemoryLimit { needed, current, .. } = refused else { panic!("{refused}") };
        rt.set_max_memory(Some(current + needed)).unwrap();
        let begin = Instant::now();
        let loaded = loop {
            let loaded = load_more().is_ok();
            if loaded || begin.elapsed() > Duration::from_secs(4) {
                break loaded;
            }
        };
        rt.set_max_memory(None).unwrap();
        loaded
    };
    // As above.
    assert!((0..5).any(|_| makes_room()));
    rt.shutdown().unwrap();
    vouch(rt);
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
    assert_eq!(vouch(rt).old_bytes, 0);
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

#[test]
fn what_an_old_versions_handler_calls_is_called_on_any_thread() {
    let (rt, shop, _turn) = start("signal-calls");
    if is_bridged() {
        return;
    }
    rt.shutdown().unwrap();
    load(rt, versions(&shop, 1, INSTALL, ""));
    let alone = shop.module("handling", 2, "int nothing(void) { return 0; }");
    let [used, _] = versions(&shop, 2, "", "");
    load(rt, [used, alone]);
    // No version of `handling` that is current calls it.
    let used = shop.module("used", 3, "int used_id(void) { return 3; }");
    // SAFETY: as declared.
    unsafe { rt.load(&used) }.unwrap();
    assert_eq!(said(), 3);
    let left = rt.collect().unwrap();
    assert_eq!((left.freed, left.retained), (0, 3), "`used` 2 as well: {left:?}");
    ignore();
    rt.shutdown().unwrap();
}
