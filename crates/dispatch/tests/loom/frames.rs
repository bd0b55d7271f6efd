//! Pins, nested pins, frames that are joined and shares that are handed on.

use loom::sync::{Arc, Mutex};
use loom::thread;
use midflight_dispatch::{Barrier, Share};

use super::*;

/// A thread that pins so many times against a publication and its collection.
pub(crate) fn pin<B: Barrier + Sync + 'static>(barrier: B, times: usize) {
    let mut world = World::new(barrier);
    let dispatch = world.dispatch;
    let reader = thread::spawn(move || live_and_read(dispatch, times));
    world.publish();
    world.collect();
    reader.join().unwrap();
    world.end();
}

/// Joins, gives the share back, reads, leaves.
fn work(dispatch: &'static Dispatch<SeqCstFences>, share: Share<'static, Canary>) {
    let thread = register(dispatch);
    {
        // SAFETY: this thread's handle, and a share of this dispatcher.
        let joined = unsafe { dispatch.join(&thread, &share) }.unwrap();
        let number = share.number();
        drop(share);
        assert_eq!(inspect(&joined), number as usize, "one frame, one generation");
    }
    release(thread);
}

/// A frame: one thread opens and shares it, a worker joins it, the opener may leave before the
/// worker has entered.
pub(crate) fn join(collect: impl FnOnce(&mut World<SeqCstFences>)) {
    let mut world = with_fences();
    let dispatch = world.dispatch;
    let opener = thread::spawn(move || {
        let thread = register(dispatch);
        // SAFETY: this thread's handle; a generation is published.
        let frame = unsafe { dispatch.pin(&thread) };
        let share = frame.share();
        let worker = thread::spawn(move || work(dispatch, share));
        drop(frame);
        worker.join().unwrap();
        release(thread);
    });
    world.publish();
    collect(&mut world);
    opener.join().unwrap();
    world.end();
}

/// As [`join`], where the publisher's own thread opened the frame and has left it: only the share
/// holds the generation.
pub(crate) fn join_when_the_opener_has_left(
    work: impl FnOnce(&'static Dispatch<SeqCstFences>, Share<'static, Canary>) + 'static,
) {
    let mut world = with_fences();
    let dispatch = world.dispatch;
    let thread = register(dispatch);
    // SAFETY: this thread's handle; a generation is published.
    let share = unsafe { dispatch.pin(&thread) }.share();
    let worker = thread::spawn(move || work(dispatch, share));
    world.publish();
    world.collect();
    worker.join().unwrap();
    release(thread);
    world.end();
}

pub(crate) fn join_and_work() {
    join_when_the_opener_has_left(work);
}

/// A worker shares the frame that it joined with a second one, and leaves.
fn hand_on() {
    join_when_the_opener_has_left(|dispatch, share| {
        let thread = register(dispatch);
        // SAFETY: this thread's handle, and a share of this dispatcher.
        let joined = unsafe { dispatch.join(&thread, &share) }.unwrap();
        drop(share);
        let second = joined.share();
        let worker = thread::spawn(move || work(dispatch, second));
        inspect(&joined);
        drop(joined);
        worker.join().unwrap();
        release(thread);
    });
}

/// A share that is copied and given back, while a copy of it is joined.
fn copy_shares() {
    join_when_the_opener_has_left(|dispatch, share| {
        let copy = share.clone();
        let other = thread::spawn(move || drop(copy));
        work(dispatch, share);
        other.join().unwrap();
    });
}

/// A thread leaves a frame of its own and joins one of a later generation: its record goes from the
/// first to nothing to the second.
pub(crate) fn join_after_a_pin() {
    let mut world = with_fences();
    let dispatch = world.dispatch;
    let offered = Arc::new(Mutex::new(None::<Share<'static, Canary>>));
    let reader = thread::spawn({
        let offered = offered.clone();
        move || {
            let thread = register(dispatch);
            read(dispatch, &thread, 1);
            let share = offered.lock().unwrap().take();
            if let Some(share) = share {
                // SAFETY: this thread's handle, and a share of this dispatcher.
                let joined = unsafe { dispatch.join(&thread, &share) }.unwrap();
                assert_eq!(inspect(&joined), 1);
            }
            release(thread);
        }
    });
    world.publish();
    let thread = register(dispatch);
    // SAFETY: this thread's handle; a generation is published.
    let share = unsafe { dispatch.pin(&thread) }.share();
    *offered.lock().unwrap() = Some(share);
    world.collect();
    reader.join().unwrap();
    drop(offered.lock().unwrap().take());
    release(thread);
    world.end();
}

/// A thread whose pins were jumped over: two, or one that was a join. Who has jumped says so.
pub(crate) fn jump_out() {
    let mut world = with_fences();
    let dispatch = world.dispatch;
    let reader = thread::spawn(move || {
        let thread = register(dispatch);
        for _ in 0..2 {
            // SAFETY: this thread's handle; a generation is published.
            let pins = unsafe { [dispatch.pin(&thread), dispatch.pin(&thread)] };
            inspect(&pins[1]);
            let generation = pins[0].number();
            std::mem::forget(pins);
            // SAFETY: the dispatcher is there, and nobody uses those pins.
            unsafe {
                // In the midst of the outer one it is still inside.
                thread.end_pins(1);
                let inside = thread.generation().expect("one pin is left");
                assert_eq!(inspect(inside) as u64, generation);
                thread.end_pins(0);
                assert_eq!(thread.depth(), 0);
            }
        }
        release(thread);
    });
    world.publish();
    world.collect();
    reader.join().unwrap();
    world.end();
}

/// As [`join`], of a worker that jumps out: the share that it owed is given back.
fn jump_out_of_a_join() {
    join_when_the_opener_has_left(|dispatch, share| {
        let thread = register(dispatch);
        // SAFETY: this thread's handle, and a share of this dispatcher.
        let joined = unsafe { dispatch.join(&thread, &share) }.unwrap();
        drop(share);
        inspect(&joined);
        std::mem::forget(joined);
        // SAFETY: the dispatcher is there, and nobody uses the pin.
        unsafe { thread.end_pins(0) };
        release(thread);
    });
}

#[test]
fn pins_that_were_jumped_over_end_together() {
    explore(None, jump_out);
}

#[test]
fn a_join_that_was_jumped_over_gives_its_share_back() {
    explore(None, jump_out_of_a_join);
}

#[test]
fn a_pin_keeps_its_generation() {
    explore(None, || pin(SeqCstFences, 1));
}

#[test]
fn a_second_pin_does_not_hide_the_first() {
    explore(None, || pin(SeqCstFences, 2));
}

#[test]
fn a_joined_worker_keeps_the_generation_of_its_frame() {
    explore(None, || join(World::collect));
}

#[test]
fn a_share_alone_keeps_the_generation() {
    explore(None, join_and_work);
}

#[test]
fn a_share_is_handed_on_by_a_worker_that_leaves() {
    explore(None, hand_on);
}

#[test]
fn copies_of_a_share_count() {
    explore(None, copy_shares);
}

#[test]
fn a_join_does_not_hide_the_pin_before_it() {
    explore(None, join_after_a_pin);
}
