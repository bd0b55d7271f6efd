//! membarrier(2) as what it is: the reader runs no fence of its own, and the publisher has the
//! reader's core run one, wherever in its program that is.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering, fence};
use loom::thread;
use midflight_dispatch::weaken::{Step, weaken};
use midflight_dispatch::{Barrier, LiveTable};

use super::live::Linked;
use super::*;

/// The core that the one reader runs on.
#[derive(Default)]
struct Core {
    requested: AtomicBool,
    done: AtomicBool,
    /// The reader is over: what the scheduler runs in its place has a barrier in between.
    idle: AtomicBool,
}

impl Core {
    /// Between two instructions of the reader: where an interrupt may come.
    fn instruction(&self) {
        if self.requested.load(Ordering::Acquire) {
            self.requested.store(false, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            self.done.store(true, Ordering::Release);
        }
    }

    fn end(&self) {
        fence(Ordering::SeqCst);
        self.idle.store(true, Ordering::Release);
    }

    fn interrupt(&self) {
        fence(Ordering::SeqCst);
        self.requested.store(true, Ordering::Release);
        while !self.done.swap(false, Ordering::Acquire) && !self.idle.load(Ordering::Acquire) {
            thread::yield_now();
        }
        fence(Ordering::SeqCst);
    }
}

struct Membarrier(Arc<Core>);

// SAFETY: the heavy half has the reader's core run a fence between two of its instructions.
unsafe impl Barrier for Membarrier {
    fn light(&self) {
        self.0.instruction();
    }

    fn heavy(&self) -> bool {
        self.0.interrupt();
        true
    }
}

/// Interrupts, but goes on before the core has taken it.
struct Hasty(Arc<Core>);

// SAFETY: false on purpose.
unsafe impl Barrier for Hasty {
    fn light(&self) {
        self.0.instruction();
    }

    fn heavy(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.requested.store(true, Ordering::Release);
        true
    }
}

fn pin<B: Barrier + Sync + 'static>(barrier: impl FnOnce(Arc<Core>) -> B) {
    let core = Arc::new(Core::default());
    let mut world = World::new(barrier(core.clone()));
    let dispatch = world.dispatch;
    let reader = thread::spawn({
        let core = core.clone();
        move || {
            let thread = register(dispatch);
            core.instruction();
            // SAFETY: this thread's handle; a generation is published. (The light half is one more
            // instruction.)
            let pin = unsafe { dispatch.pin(&thread) };
            core.instruction();
            inspect(&pin);
            drop(pin);
            core.instruction();
            release(thread);
            core.end();
        }
    });
    world.publish();
    world.collect();
    reader.join().unwrap();
    world.end();
}

pub(crate) fn pin_with_membarrier() {
    pin(Membarrier);
}

pub(crate) fn pin_with_a_hasty_publisher() {
    pin(Hasty);
}

/// A trampoline outside frames, whose load of its entry is a plain one: what the publisher wrote
/// before it synchronised the cores is there, whatever the orderings of the live table are.
fn call_unpinned(synchronise: impl FnOnce(&Core) + 'static) {
    weaken(Step::L2, Ordering::Relaxed);
    let core = Arc::new(Core::default());
    let live = Arc::new(LiveTable::<1>::new());
    let linked = Arc::new(Linked::new());
    let publisher = thread::spawn({
        let (core, live, linked) = (core.clone(), live.clone(), linked.clone());
        move || {
            linked.write();
            synchronise(&core);
            live.set(0, 1);
        }
    });
    core.instruction();
    let target = live.get(0);
    core.instruction();
    if target == 1 {
        linked.check();
    }
    core.end();
    publisher.join().unwrap();
}

pub(crate) fn call_without_synchronised_cores() {
    call_unpinned(|_| ());
}

#[test]
fn a_pin_without_a_fence_of_its_own_keeps_its_generation() {
    explore(None, pin_with_membarrier);
}

#[test]
fn an_unpinned_call_sees_what_came_before_the_synchronisation_of_cores() {
    // On a thread of its own: what is weakened is so for the thread that explores.
    std::thread::spawn(|| explore(None, || call_unpinned(Core::interrupt))).join().unwrap();
}
