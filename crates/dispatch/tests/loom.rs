//! The protocol under loom: every interleaving and every value that C11 allows a load to return, for small cases.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p midflight-dispatch --test loom --release`.
//!
//! A generation's payload is a [`Canary`]: a cell that readers read and that the publisher writes to once `collect`
//! has declared the generation free. Loom reports any read that is not ordered before that write, so a protocol that frees too
//! early fails even where this machine's memory would have hidden it.
#![cfg(loom)]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{Ordering, fence};
use loom::thread;
use midflight_dispatch::{Barrier, Dispatcher, Generation, LiveTable, Publisher, SeqCstFences};

/// What a generation keeps alive.
struct Canary {
    number: usize,
    dead: UnsafeCell<bool>,
}

// SAFETY: readers use `with`, the publisher `with_mut` after collect; loom checks that these never race.
unsafe impl Sync for Canary {}

impl Canary {
    fn new(number: usize) -> Self {
        Self { number, dead: UnsafeCell::new(false) }
    }

    fn assert_alive(&self) {
        // SAFETY: loom tracks the access and fails the model if it races with `kill`.
        self.dead.with(|dead| assert!(!unsafe { *dead }, "a pinned generation was freed"));
    }

    fn kill(&self) {
        // SAFETY: as in `assert_alive`.
        self.dead.with_mut(|dead| unsafe { *dead = true });
    }
}

type Dispatch<B> = Dispatcher<Canary, B>;

/// The freed generations are kept to the end of the execution, so that a wrong protocol shows as a failed assertion and
/// never as a crash of the checker.
type Graveyard = Vec<Box<Generation<Canary>>>;

fn publish<B: Barrier>(d: &Dispatch<B>, p: &mut Publisher<Canary>, number: usize) {
    // SAFETY: one publisher per model.
    unsafe { d.publish(p, Box::new([number]), Canary::new(number)) };
}

fn collect<B: Barrier>(d: &Dispatch<B>, p: &mut Publisher<Canary>, graves: &mut Graveyard) {
    // SAFETY: one publisher per model.
    let free = unsafe { d.collect(p) };
    for generation in free {
        generation.payload().kill();
        graves.push(generation);
    }
}

fn started<B: Barrier + Sync + Send + 'static>(barrier: B) -> (Arc<Dispatch<B>>, Publisher<Canary>) {
    let dispatch = Arc::new(Dispatcher::new(barrier));
    let mut publisher = Publisher::new();
    publish(&dispatch, &mut publisher, 0);
    (dispatch, publisher)
}

/// Registers, pins, reads, leaves.
fn read_under_a_pin<B: Barrier>(d: &Dispatch<B>, times: usize) {
    // SAFETY: no table word; this thread only; a generation is published.
    let thread = unsafe { d.register(None) };
    let mut last = 0;
    for _ in 0..times {
        // SAFETY: as above.
        let pin = unsafe { d.pin(&thread) };
        pin.payload().assert_alive();
        let number = pin.payload().number;
        assert_eq!(pin.table(), [number], "the table belongs to the generation");
        assert!(number >= last, "a thread never goes back");
        last = number;
        // SAFETY: as above.
        let nested = unsafe { d.pin(&thread) };
        assert_eq!(nested.payload().number, number, "a nested pin is in the same generation");
        drop(pin);
        nested.payload().assert_alive();
    }
    // SAFETY: the dispatcher is alive, no pin is open.
    unsafe { thread.release() };
}

fn two_readers(dispatch: &Arc<Dispatch<SeqCstFences>>) -> [thread::JoinHandle<()>; 2] {
    [(), ()].map(|()| {
        let dispatch = dispatch.clone();
        thread::spawn(move || read_under_a_pin(&dispatch, 1))
    })
}

fn drain<B: Barrier>(d: &Dispatch<B>, p: &mut Publisher<Canary>, graves: &mut Graveyard) {
    collect(d, p, graves);
    assert_eq!(p.retired(), 0, "with no thread left everything retired is free");
}

fn pin_against_publish_and_collect<B: Barrier + Sync + Send + 'static>(barrier: B, pins: usize) {
    let (dispatch, mut publisher) = started(barrier);
    let reader = thread::spawn({
        let dispatch = dispatch.clone();
        move || read_under_a_pin(&dispatch, pins)
    });
    let mut graves = Graveyard::new();
    publish(&dispatch, &mut publisher, 1);
    collect(&dispatch, &mut publisher, &mut graves);
    reader.join().unwrap();
    drain(&dispatch, &mut publisher, &mut graves);
}

#[test]
fn a_pin_keeps_its_generation() {
    loom::model(|| pin_against_publish_and_collect(SeqCstFences, 1));
}

#[test]
fn a_second_pin_does_not_hide_the_first() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| pin_against_publish_and_collect(SeqCstFences, 2));
}

#[test]
fn two_publications_and_two_readers() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let (dispatch, mut publisher) = started(SeqCstFences);
        let readers = two_readers(&dispatch);
        let mut graves = Graveyard::new();
        for number in 1..=2 {
            publish(&dispatch, &mut publisher, number);
            collect(&dispatch, &mut publisher, &mut graves);
        }
        for reader in readers {
            reader.join().unwrap();
        }
        drain(&dispatch, &mut publisher, &mut graves);
    });
}

/// A frame: one thread opens and shares it, a worker joins it, the opener may leave before the worker has entered.
#[test]
fn a_joined_worker_keeps_the_generation_of_its_frame() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let mut publisher = Publisher::new();
        // A share borrows the dispatcher, and a thread's closure borrows nothing: so it is leaked, and freed at the end.
        let owned = Box::into_raw(Box::new(Dispatcher::new(SeqCstFences)));
        // SAFETY: freed below, when the threads that use it have been joined.
        let dispatch: &'static Dispatch<SeqCstFences> = unsafe { &*owned };
        publish(dispatch, &mut publisher, 0);
        let opener = thread::spawn(move || {
            // SAFETY: no table word; this thread only; a generation is published.
            let thread = unsafe { dispatch.register(None) };
            // SAFETY: as above.
            let frame = unsafe { dispatch.pin(&thread) };
            let share = frame.share();
            let number = frame.payload().number;
            let worker = thread::spawn(move || {
                // SAFETY: no table word; this thread only.
                let thread = unsafe { dispatch.register(None) };
                {
                    // SAFETY: the share comes from a pin of this dispatcher.
                    let joined = unsafe { dispatch.join(&thread, &share) }.unwrap();
                    drop(share);
                    joined.payload().assert_alive();
                    assert_eq!(joined.payload().number, number, "one frame, one generation");
                }
                // SAFETY: the dispatcher is alive, no pin is open.
                unsafe { thread.release() };
            });
            drop(frame);
            worker.join().unwrap();
            // SAFETY: the dispatcher is alive, no pin is open.
            unsafe { thread.release() };
        });
        let mut graves = Graveyard::new();
        publish(dispatch, &mut publisher, 1);
        collect(dispatch, &mut publisher, &mut graves);
        opener.join().unwrap();
        drain(dispatch, &mut publisher, &mut graves);
        // SAFETY: from Box::into_raw above; its users have been joined.
        drop(unsafe { Box::from_raw(owned) });
    });
}

/// A record that one thread gives up and another takes.
#[test]
fn records_pass_from_thread_to_thread() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let (dispatch, mut publisher) = started(SeqCstFences);
        let readers = two_readers(&dispatch);
        for reader in readers {
            reader.join().unwrap();
        }
        let mut graves = Graveyard::new();
        publish(&dispatch, &mut publisher, 1);
        drain(&dispatch, &mut publisher, &mut graves);
    });
}

/// The live table shows what was written before its entry was set: the data half of publication for unpinned calls.
#[test]
fn the_live_table_publishes_what_precedes_it() {
    loom::model(|| {
        let live = Arc::new(LiveTable::<1>::new());
        let linked = Arc::new(UnsafeCell::new(0));
        struct Shared(Arc<UnsafeCell<i32>>);
        // SAFETY: loom checks the accesses.
        unsafe impl Send for Shared {}
        let theirs = Shared(linked.clone());
        let writer = thread::spawn({
            let live = live.clone();
            move || {
                let theirs = theirs;
                // SAFETY: loom tracks the access.
                theirs.0.with_mut(|at| unsafe { *at = 7 });
                live.set(0, 1);
            }
        });
        if live.get(0) == 1 {
            // SAFETY: loom tracks the access.
            assert_eq!(linked.with(|at| unsafe { *at }), 7);
        }
        writer.join().unwrap();
    });
}

/// A barrier that lacks its light half: the pin's store may be seen after its load.
struct NoLightHalf;

// SAFETY: false on purpose; the model below must catch it.
unsafe impl Barrier for NoLightHalf {
    fn light(&self) {}

    fn heavy(&self) -> bool {
        fence(Ordering::SeqCst);
        true
    }
}

/// A barrier that lacks its heavy half: the publisher may read the hazards before its swap is seen.
struct NoHeavyHalf;

// SAFETY: false on purpose; the model below must catch it.
unsafe impl Barrier for NoHeavyHalf {
    fn light(&self) {
        fence(Ordering::SeqCst);
    }

    fn heavy(&self) -> bool {
        true
    }
}

/// Acquire-release fences in place of SeqCst ones: they order everything but a store before a later load.
struct AcqRelFences;

// SAFETY: false on purpose; the model below must catch it.
unsafe impl Barrier for AcqRelFences {
    fn light(&self) {
        fence(Ordering::AcqRel);
    }

    fn heavy(&self) -> bool {
        fence(Ordering::AcqRel);
        true
    }
}

#[test]
#[should_panic]
fn loom_catches_a_missing_light_half() {
    loom::model(|| pin_against_publish_and_collect(NoLightHalf, 1));
}

#[test]
#[should_panic]
fn loom_catches_a_missing_heavy_half() {
    loom::model(|| pin_against_publish_and_collect(NoHeavyHalf, 1));
}

#[test]
#[should_panic]
fn loom_catches_fences_that_are_too_weak() {
    loom::model(|| pin_against_publish_and_collect(AcqRelFences, 1));
}
