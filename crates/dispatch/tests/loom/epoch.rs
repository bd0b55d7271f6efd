//! Cores synchronised by the readers: the code epoch.

use core::cell::Cell;

use loom::sync::Arc;
use loom::sync::atomic::{Ordering, fence};
use loom::thread;
use midflight_dispatch::{Barrier, CodeEpoch};

use super::live::Linked;
use super::*;

struct Epochs {
    /// What the light half does. Where the kernel has membarrier, and no synchronisation of cores:
    /// nothing.
    light: fn(),
    epoch: Arc<CodeEpoch>,
    /// What the one reader has caught up with.
    caught_up: Arc<std::sync::atomic::AtomicUsize>,
}

// SAFETY: SeqCst fences on both sides; or no collection runs while threads pin.
unsafe impl Barrier for Epochs {
    fn light(&self) {
        (self.light)();
    }

    fn heavy(&self) -> bool {
        fence(Ordering::SeqCst);
        true
    }

    fn entered(&self, seen: &Cell<usize>) {
        self.epoch.catch_up(seen, || ());
        self.caught_up.store(seen.get(), std::sync::atomic::Ordering::Relaxed);
    }
}

/// Generation n is published when the epoch is n + 1: whoever is inside it has caught up with that.
fn pin_and_look(light: fn()) {
    explore(None, move || {
        let epoch = Arc::new(CodeEpoch::new());
        let caught_up = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let mut world = World::new(Epochs { light, epoch: epoch.clone(), caught_up: caught_up.clone() });
        let dispatch = world.dispatch;
        let reader = thread::spawn(move || {
            let thread = register(dispatch);
            for _ in 0..2 {
                // SAFETY: this thread's handle; a generation is published.
                let pin = unsafe { dispatch.pin(&thread) };
                let caught_up = caught_up.load(std::sync::atomic::Ordering::Relaxed);
                assert!(caught_up > pin.payload().number, "its generation's code is not seen yet");
            }
            release(thread);
        });
        epoch.advance();
        world.publish();
        reader.join().unwrap();
        world.end();
    });
}

#[test]
fn who_is_inside_a_generation_has_caught_up_with_its_code() {
    pin_and_look(|| fence(Ordering::SeqCst));
}

#[test]
fn who_pins_without_a_fence_has_caught_up_as_well() {
    pin_and_look(|| ());
}

/// Who sees that the epoch has moved sees the code for which it moved.
pub(crate) fn advance_and_catch_up() {
    let epoch = Arc::new(CodeEpoch::new());
    let linked = Arc::new(Linked::new());
    let publisher = thread::spawn({
        let (epoch, linked) = (epoch.clone(), linked.clone());
        move || {
            linked.write();
            epoch.advance();
        }
    });
    epoch.catch_up(&Cell::new(1), || linked.check());
    publisher.join().unwrap();
}

#[test]
fn the_epoch_publishes_what_precedes_it() {
    loom::model(advance_and_catch_up);
}
