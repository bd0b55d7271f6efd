//! Homes: an exit function of a version, which may be replaced and come back meanwhile, calls what
//! its version was made for, and that is there (docs/dispatch.md, theorem 3; `call/home.rs`).
//!
//! A version V calls one of another module. Generation n is made of V and target n, or is without
//! V. V's home is behind a lock (the ledger's), with how often it has changed. Here it is that count
//! alone: V has a home when it is odd. A word with Acquire and Release is less than a lock.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use midflight_dispatch::SeqCstFences;

use super::*;

/// How whoever runs the exit function, and the publisher, may be wrong.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Right,
    /// The home is noted when the generation without V is there already.
    NotedLate,
    /// The home is asked for before a generation is held, and not again.
    AskedEarly,
    /// Only asked for when a generation is held: what was current then may be without V.
    AskedOnce,
    /// It is looked at whether V had a home before, and not how often that has changed.
    NotCounted,
}

/// Generation 0 has V, generation 1 has not; by generation 2 V has come back, if `back`.
fn exit(way: Way, back: bool) {
    let mut world: World<SeqCstFences> = with_fences();
    let dispatch = world.dispatch;
    let moves = Arc::new(AtomicUsize::new(0));
    let is_home = |moves: usize| moves % 2 == 1;
    let exits = thread::spawn({
        let moves = moves.clone();
        move || {
            let thread = register(dispatch);
            let ask = || moves.load(Ordering::Acquire);
            let called = loop {
                let before = ask();
                // SAFETY: this thread's handle; a generation is published.
                let pin = unsafe { dispatch.pin(&thread) };
                let number = inspect(&pin);
                let now = if way == Way::AskedEarly { before } else { ask() };
                if is_home(now) {
                    break 0;
                }
                let changed = match way {
                    Way::AskedOnce => false,
                    Way::NotCounted => is_home(before),
                    _ => now != before,
                };
                if !changed {
                    break number;
                }
            };
            // V calls what its own generations have, and not what there is without it.
            assert_ne!(called, 1, "somebody is inside a generation without the version that runs");
            release(thread);
        }
    });
    if way != Way::NotedLate {
        moves.fetch_add(1, Ordering::Release);
    }
    world.publish();
    if way == Way::NotedLate {
        moves.fetch_add(1, Ordering::Release);
    }
    if back {
        world.publish();
        moves.fetch_add(1, Ordering::Release);
    }
    exits.join().unwrap();
    world.end();
}

pub(crate) fn noted_late() {
    exit(Way::NotedLate, false);
}

pub(crate) fn asked_early() {
    exit(Way::AskedEarly, false);
}

pub(crate) fn asked_once() {
    exit(Way::AskedOnce, true);
}

pub(crate) fn not_counted() {
    exit(Way::NotCounted, true);
}

#[test]
fn an_exit_function_finds_the_home_of_its_version() {
    explore(None, || exit(Way::Right, false));
}

#[test]
fn an_exit_function_finds_the_generation_by_which_its_version_comes_back() {
    explore(Some(3), || exit(Way::Right, true));
}
