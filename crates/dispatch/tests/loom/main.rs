//! The protocol under loom: every interleaving and every value that C11 allows a load to return,
//! for small cases.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p midflight-dispatch --test loom --release`. Three
//! models of three threads are explored up to a number of preemptions, which [`explore`] is given;
//! all else is exhaustive.
//!
//! A generation's payload is a [`Canary`]: a cell that readers read and that the publisher writes
//! to once `collect` has declared the generation free. Loom reports any read that is not ordered
//! before that write, so a protocol that frees too early fails even where this machine's memory
//! would have hidden it. `broken.rs` shows that each ordering is needed.
#![cfg(loom)]

mod broken;
mod epoch;
mod frames;
mod homes;
mod live;
mod membarrier;
mod part;
mod pause;
mod publications;
mod signals;
mod threads;

use std::cell::Cell;
use std::ptr::{self, NonNull};

use loom::cell::UnsafeCell;
use midflight_dispatch::{
    Barrier, Dispatcher, Generation, Publisher, SeqCstFences, ThreadBlock, ThreadHandle,
};

/// Explores a model with at most so many preemptions; without a bound if there is none.
fn explore(preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(model);
}

/// What a generation keeps alive.
struct Canary {
    number: usize,
    dead: UnsafeCell<bool>,
}

// SAFETY: readers use `with`, the publisher `with_mut` after collect; loom checks that these never
// race.
unsafe impl Sync for Canary {}

impl Canary {
    fn assert_alive(&self) {
        // SAFETY: loom tracks the access and fails the model if it races with `set_dead`.
        self.dead.with(|dead| assert!(!unsafe { *dead }, "a generation was freed that somebody is inside"));
    }

    /// False is written by the publisher before P1, as a version is linked before it is published.
    fn set_dead(&self, now: bool) {
        // SAFETY: as in `assert_alive`.
        self.dead.with_mut(|dead| unsafe { *dead = now });
    }
}

type Dispatch<B> = Dispatcher<Canary, B>;

type Freed = Vec<Box<Generation<Canary>>>;

/// A dispatcher with generation 0. Shares borrow it and a thread's closure borrows nothing, so it
/// is leaked, and freed by [`World::end`]. (A model that fails leaks it.)
struct World<B: 'static> {
    dispatch: &'static Dispatch<B>,
    publisher: Publisher<Canary>,
    published: usize,
    /// What was freed is kept to the end of the execution, so that a wrong protocol shows as a
    /// failed assertion and never as a crash of the checker.
    graves: Freed,
}

impl<B: Barrier> World<B> {
    fn new(barrier: B) -> Self {
        let dispatch = Box::leak(Box::new(Dispatcher::new(barrier)));
        let mut world = Self { dispatch, publisher: Publisher::new(), published: 0, graves: Freed::new() };
        world.publish();
        world
    }

    /// Generation n has a table of n + 1 entries n: tables grow.
    fn publish(&mut self) -> usize {
        let number = self.published;
        self.published += 1;
        let canary = Canary { number, dead: UnsafeCell::new(true) };
        canary.set_dead(false);
        // SAFETY: one publisher per model, or several that take turns.
        let counted = unsafe {
            let table = vec![number; number + 1];
            let new = self.dispatch.prepare(&mut self.publisher, table, canary);
            self.dispatch.publish(&mut self.publisher, new)
        };
        assert_eq!(counted, number as u64);
        number
    }

    fn collect(&mut self) {
        // SAFETY: as in `publish`.
        let free = unsafe { self.dispatch.collect(&mut self.publisher) };
        self.bury(free);
    }

    fn bury(&mut self, free: Freed) {
        for generation in free {
            generation.payload().set_dead(true);
            self.graves.push(generation);
        }
    }

    /// When all threads of the model have been joined.
    fn end(mut self) {
        self.collect();
        assert_eq!(self.publisher.retired().len(), 0, "with no thread left everything retired is free");
        // SAFETY: from Box::leak in `new`; its users have been joined.
        drop(unsafe { Box::from_raw(std::ptr::from_ref(self.dispatch).cast_mut()) });
    }
}

loom::thread_local! {
    static BLOCK: ThreadBlock = ThreadBlock { table: Cell::new(ptr::null()), record: Cell::new(None) };
}

/// Claims a record for the calling thread.
fn register<B: Barrier>(dispatch: &Dispatch<B>) -> ThreadHandle<Canary> {
    // SAFETY: the block is there as long as its thread, whose pins end before it does.
    BLOCK.with(|block| unsafe { dispatch.register(NonNull::from(block), 0) })
}

fn release(thread: ThreadHandle<Canary>) {
    // SAFETY: models free the dispatcher last; this thread pins no more.
    unsafe { thread.release() };
}

/// That the generation is whole and alive. Returns its number.
fn inspect(generation: &Generation<Canary>) -> usize {
    let canary = generation.payload();
    canary.assert_alive();
    assert_eq!(generation.table(), vec![canary.number; canary.number + 1], "a table is its generation's");
    canary.number
}

/// Pins, reads, pins within the pin, leaves; so many times.
fn read<B: Barrier>(dispatch: &Dispatch<B>, thread: &ThreadHandle<Canary>, times: usize) {
    let mut last = 0;
    for _ in 0..times {
        // SAFETY: this thread's handle; a generation is published.
        let pin = unsafe { dispatch.pin(thread) };
        let number = inspect(&pin);
        assert!(number >= last, "a thread that pins never goes back");
        last = number;
        // SAFETY: as above.
        let nested = unsafe { dispatch.pin(thread) };
        drop(pin);
        assert_eq!(inspect(&nested), number, "a nested pin is in the same generation");
    }
}

/// The whole life of a thread that reads.
fn live_and_read<B: Barrier>(dispatch: &Dispatch<B>, times: usize) {
    let thread = register(dispatch);
    read(dispatch, &thread, times);
    release(thread);
}

fn with_fences() -> World<SeqCstFences> {
    World::new(SeqCstFences)
}
