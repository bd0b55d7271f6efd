//! Pin, share, publish, collect. R1 to T4 are the steps that docs/dispatch.md argues.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use core::num::NonZero;
use core::ops::Deref;
use core::ptr::{self, NonNull};

use crossbeam_utils::CachePadded;

use crate::barrier::Barrier;
use crate::generation::Generation;
use crate::primitive::{AtomicPtr, Ordering, ordering, step_fence};
use crate::registry::{ABANDONED, JOINED, NESTED, Record, Registry, ThreadBlock, ThreadHandle};

/// ThreadSanitizer does not know fences: where it looks on (`--cfg tsan`), this load stands for the
/// fence R4 too.
const R3: Ordering = if cfg!(tsan) { Ordering::Acquire } else { Ordering::Relaxed };

/// The current generation and the threads that may be inside one.
pub struct Dispatcher<P, B> {
    /// On a line of its own: every pin reads it, every publication writes it, nothing else shares
    /// its fate.
    current: CachePadded<AtomicPtr<Generation<P>>>,
    pub(crate) threads: Registry<P>,
    pub(crate) barrier: B,
}

// SAFETY: generations are reached from many threads (P: Sync) and dropped on the publisher's (P:
// Send); the records' owner-only cells are touched by the owning thread alone, since a ThreadHandle
// is neither Send nor Sync.
unsafe impl<P: Send + Sync, B: Sync> Sync for Dispatcher<P, B> {}
// SAFETY: as for Sync; the dispatcher owns its records and its current generation.
unsafe impl<P: Send + Sync, B: Send> Send for Dispatcher<P, B> {}

/// The right to publish and collect, one per dispatcher, and the generations that are retired but
/// not yet free.
pub struct Publisher<P> {
    pub(crate) retired: Vec<NonNull<Generation<P>>>,
    /// Scratch for the hazards seen by a collection.
    seen: Vec<*mut Generation<P>>,
}

// SAFETY: it owns the retired generations as boxes in all but name; P: Send lets them be dropped on
// another thread, and P: Sync is needed because pinned threads may still read them.
unsafe impl<P: Send + Sync> Send for Publisher<P> {}

impl<P> Publisher<P> {
    /// A publisher that has retired nothing.
    pub const fn new() -> Self {
        Self { retired: Vec::new(), seen: Vec::new() }
    }

    /// The numbers of the generations that are retired and still held by a pin, a share, or for
    /// want of a collection; ascending.
    pub fn retired(&self) -> impl ExactSizeIterator<Item = u64> + '_ {
        // SAFETY: retired and not yet freed.
        self.retired.iter().map(|generation| unsafe { generation.as_ref() }.number())
    }
}

impl<P> Default for Publisher<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P, B: Barrier> Dispatcher<P, B> {
    /// A dispatcher with no generation yet: publish one before the first pin.
    #[cfg(not(loom))]
    pub const fn new(barrier: B) -> Self {
        Self { current: CachePadded::new(AtomicPtr::new(ptr::null_mut())), threads: Registry::new(), barrier }
    }

    /// As under the real atomics, but not const.
    #[cfg(loom)]
    pub fn new(barrier: B) -> Self {
        Self { current: CachePadded::new(AtomicPtr::new(ptr::null_mut())), threads: Registry::new(), barrier }
    }

    /// Claims a record for the calling thread, which has none. `block` is the thread's own words,
    /// `owner` the number that [`Self::holders`] calls it by.
    ///
    /// # Safety
    ///
    /// `block` stays valid on this thread until the record is given up.
    pub unsafe fn register(&self, block: NonNull<ThreadBlock>, owner: u32) -> ThreadHandle<P> {
        // SAFETY: the caller promises that the block is valid on this thread until the record is
        // given up.
        unsafe { self.threads.claim(block, owner) }
    }

    /// Enters the current generation, or the one that this thread is already inside.
    ///
    /// Lock-free: it starts again only if a publication came between its two loads.
    ///
    /// # Safety
    ///
    /// `thread` was made by this dispatcher on the calling thread, and a generation has been
    /// published.
    #[inline]
    pub unsafe fn pin(&self, thread: &ThreadHandle<P>) -> Pin<'_, P> {
        let record = thread.record();
        // SAFETY: the handle is of this dispatcher, whose records live as long as it.
        let r = unsafe { record.as_ref() };
        // Relaxed: our own store.
        let mut generation = r.hazard.load(Ordering::Relaxed);
        if generation.is_null() {
            // Relaxed: only a guess, never dereferenced before R3 confirms it.
            generation = self.current.load(Ordering::Relaxed);
            loop {
                // R1. Release: partner of the acquire in P3. It keeps the *previous* pin's accesses
                // before this store too, so that a publisher that reads this value knows the thread
                // has left what it held before.
                r.hazard.store(generation, ordering!(R1, Release));
                // R2, partner P2: of R3 and P3 at least one sees the other side's store.
                self.barrier.light();
                // R3, partner of the swap P1. Load first: we see the older generation, and our
                // hazard is seen by P3. Swap first: we see the newer one. Relaxed, with R4 behind
                // it: AArch64 keeps an acquiring load (LDAR) behind the releasing store
                // above (STLR), which is the wait that R2 is there to avoid.
                let now = self.current.load(R3);
                if now == generation {
                    break;
                }
                seldom();
                generation = now;
            }
            // R4. Acquire: with R3 the partner of P1. We see the table it published whole.
            step_fence!(R4, Acquire);
            self.barrier.entered(&r.synchronised);
            // SAFETY: validated by R3, so P4 of its retirement sees our hazard until `leave`.
            unsafe { enter(r, generation) };
        } else {
            seldom();
            r.extra.set(r.extra.get() + NESTED);
        }
        // SAFETY: not null: the caller says that a generation has been published.
        let generation = unsafe { NonNull::new_unchecked(generation) };
        Pin { record, generation, _dispatcher: PhantomData }
    }

    /// Enters the generation that another thread shares.
    ///
    /// # Errors
    ///
    /// If this thread is already inside a different generation: one thread is in one generation at
    /// a time.
    ///
    /// # Safety
    ///
    /// `thread` was made by this dispatcher on the calling thread, and `share` comes from a pin of
    /// this dispatcher.
    #[inline]
    pub unsafe fn join(
        &self,
        thread: &ThreadHandle<P>,
        share: &Share<P>,
    ) -> Result<Pin<'_, P>, PinnedElsewhere> {
        let record = thread.record();
        // SAFETY: the handle is of this dispatcher, whose records live as long as it.
        let r = unsafe { record.as_ref() };
        let shared = share.generation.as_ptr();
        // Relaxed: our own store.
        let inside = r.hazard.load(Ordering::Relaxed);
        if inside.is_null() {
            // The share that we now owe is what protects the generation until `leave`; the hazard
            // is only what nested pins and the last one's end read it back from, hence no barrier
            // here.
            core::mem::forget(share.clone());
            // Added, not OR-ed: that is compiled to a store of one byte, for which the pin's end,
            // which loads the whole word, waits.
            r.extra.set(r.extra.get() + JOINED);
            // J1. Release: partner of P3, for the previous pin's accesses, as in R1.
            r.hazard.store(shared, ordering!(J1, Release));
            self.barrier.entered(&r.synchronised);
            // SAFETY: the share counted above keeps it alive until `leave`.
            unsafe { enter(r, shared) };
        } else if inside == shared {
            r.extra.set(r.extra.get() + NESTED);
        } else {
            // SAFETY: this thread is pinned inside it.
            let inside = unsafe { &*inside }.number();
            return Err(PinnedElsewhere { inside, shared: share.number() });
        }
        Ok(Pin { record, generation: share.generation, _dispatcher: PhantomData })
    }

    /// The generation after the current one, for [`Self::publish`].
    ///
    /// # Safety
    ///
    /// `publisher` is the only one that publishes to this dispatcher.
    pub unsafe fn prepare(
        &self,
        publisher: &mut Publisher<P>,
        table: Vec<usize>,
        payload: P,
    ) -> Box<Generation<P>> {
        // SAFETY: as the caller promises.
        unsafe { self.prepare_as(publisher, table, payload, false) }
    }

    /// As [`Self::prepare`], of a generation that stands in for the one after it until that is
    /// published: both have the same number.
    ///
    /// # Safety
    ///
    /// As for [`Self::prepare`].
    pub unsafe fn prepare_stand_in(
        &self,
        publisher: &mut Publisher<P>,
        table: Vec<usize>,
        payload: P,
    ) -> Box<Generation<P>> {
        // SAFETY: as the caller promises.
        unsafe { self.prepare_as(publisher, table, payload, true) }
    }

    unsafe fn prepare_as(
        &self,
        publisher: &mut Publisher<P>,
        table: Vec<usize>,
        payload: P,
        stands_in: bool,
    ) -> Box<Generation<P>> {
        publisher.retired.reserve(1);
        // Relaxed: the publisher is the only writer, so this is its own last store.
        let before = self.current.load(Ordering::Relaxed);
        // SAFETY: the current generation is freed only after a swap, and only the publisher swaps.
        let number = unsafe { before.as_ref() }.map_or(0, |g| g.number() + u64::from(!g.stands_in));
        Box::new(Generation::new(number, stands_in, table, payload))
    }

    /// Makes a new generation current for all threads at once and retires the one before it.
    /// Returns its number.
    ///
    /// What the table's addresses point at must be visible to every core's instruction fetch
    /// *before* this is called. The old generation's memory goes in a later [`Self::collect`].
    ///
    /// # Safety
    ///
    /// `publisher` is the only one that publishes to this dispatcher, and nothing was published
    /// since `new` was prepared.
    pub unsafe fn publish(&self, publisher: &mut Publisher<P>, new: Box<Generation<P>>) -> u64 {
        let (number, new) = (new.number(), Box::into_raw(new));
        // P1. Release: partner of R3. Swap first: whoever reads it has the generation whole. R3
        // first: its thread goes on in the old one, and shows it to P3. No acquire: what comes back
        // is a publisher's own store.
        let old = self.current.swap(new, ordering!(P1, Release));
        if let Some(old) = NonNull::new(old) {
            publisher.retired.push(old);
        }
        number
    }

    /// Takes out the retired generations that no thread can be inside any more. The caller drops
    /// them where it suits.
    ///
    /// # Safety
    ///
    /// `publisher` is the only one that publishes to this dispatcher.
    pub unsafe fn collect(&self, publisher: &mut Publisher<P>) -> Vec<Box<Generation<P>>> {
        let mut free = Vec::new();
        if publisher.retired.is_empty() {
            return free;
        }
        let Publisher { retired, seen } = publisher;
        // P2, partner R2.
        if !self.barrier.heavy() {
            return free;
        }
        // P3. Acquire: partner of the releases in R1, J1 and X1. Leave first: all that the thread
        // did inside, its shares included, is visible before the count below and the free. Load
        // first: the hazard keeps it.
        let hazards = self.threads.iter().map(|record| record.hazard.load(ordering!(P3, Acquire)));
        seen.clear();
        seen.extend(hazards.filter(|hazard| !hazard.is_null()));
        free.reserve(retired.len());
        retired.retain(|&generation| {
            // P4. Acquire: partner of S2, and after P3: only then does zero stay zero.
            // SAFETY: retired and not yet freed.
            let shares = unsafe { generation.as_ref() }.shares.load(ordering!(P4, Acquire));
            let held = shares != 0 || seen.contains(&generation.as_ptr());
            if !held {
                // SAFETY: from Box::into_raw in `publish`, no longer current, and nobody holds it
                // (docs/dispatch.md, theorem 1).
                free.push(unsafe { Box::from_raw(generation.as_ptr()) });
            }
            held
        });
        free
    }
}

impl<P, B> Dispatcher<P, B> {
    /// The threads that may be inside retired generations, by their owners' numbers, and the
    /// generations'. For reports: a thread may have left, or not entered yet. A generation
    /// without one is held by a share.
    pub fn holders(&self, publisher: &Publisher<P>) -> Vec<(u32, u64)> {
        // Relaxed: nothing is done with what the answer names.
        let records = self.threads.iter().map(|r| (&r.owner, r.hazard.load(Ordering::Relaxed)));
        let holders = records.filter_map(|(owner, hazard)| {
            let retired = publisher.retired.iter().find(|retired| retired.as_ptr() == hazard)?;
            // SAFETY: retired and not yet freed.
            Some((owner.load(Ordering::Relaxed), unsafe { retired.as_ref() }.number()))
        });
        holders.collect()
    }
}

impl<P, B> Drop for Dispatcher<P, B> {
    fn drop(&mut self) {
        // Relaxed: &mut self says that nobody else is here.
        let current = self.current.load(Ordering::Relaxed);
        if !current.is_null() {
            // SAFETY: from Box::into_raw in `publish`; pins and shares borrow the dispatcher, so
            // there are none.
            drop(unsafe { Box::from_raw(current) });
        }
    }
}

/// Lets trampolines on this thread call through `generation`.
///
/// # Safety
///
/// `generation` is alive until the matching `leave`, and `record` belongs to this thread.
#[inline]
unsafe fn enter<P>(record: &Record<P>, generation: *mut Generation<P>) {
    // SAFETY: `register`'s caller vouched for the block; the generation is alive as our caller
    // says.
    unsafe { record.block.get().as_ref().call_through((*generation).table().as_ptr()) };
}

/// The last pin's end, but for what it owes: out of the table, then out of the hazard.
#[inline]
fn leave<P>(record: &Record<P>) {
    // SAFETY: `register`'s caller vouched for the block.
    unsafe { record.block.get().as_ref() }.call_through(record.outer.get());
    // X1. Release: partner of P3. After the table word: whatever runs on this thread finds it valid
    // (a signal handler).
    record.hazard.store(ptr::null_mut(), ordering!(X1, Release));
}

/// Has the compiler put what follows behind what is done often, which then is without a jump. A
/// frame of C jumps three times less for it.
#[cold]
#[inline]
fn seldom() {}

/// As [`leave`], for a pin that was a join, or of a thread that has exited meanwhile.
#[cold]
fn leave_and_settle<P>(record: &Record<P>) {
    let owed = record.extra.replace(0);
    // Relaxed: our own store.
    let generation = record.hazard.load(Ordering::Relaxed);
    leave(record);
    if owed & JOINED != 0 {
        // SAFETY: the share that `join` took keeps it alive until this decrement.
        drop(Share { generation: unsafe { NonNull::new_unchecked(generation) }, _dispatcher: PhantomData });
    }
    if owed & ABANDONED != 0 {
        record.give_up();
    }
}

/// A thread inside a generation. Ends when the last of a thread's pins is dropped, in whichever
/// order.
pub struct Pin<'d, P> {
    record: NonNull<CachePadded<Record<P>>>,
    /// What the record's hazard names, for calls that do not wait for that store.
    generation: NonNull<Generation<P>>,
    _dispatcher: PhantomData<&'d P>,
}

impl<'d, P> Pin<'d, P> {
    /// What tells its thread from all others that are pinned: where the thread's record is, which
    /// is what [`ThreadBlock::record`] has.
    #[inline]
    pub fn thread(&self) -> NonZero<usize> {
        self.record.addr()
    }

    /// What [`thread`](Self::thread) would say of a place that may hold no pin: whatever is there.
    ///
    /// # Safety
    ///
    /// The place is aligned, readable and initialised, and nobody changes it meanwhile.
    #[inline]
    pub unsafe fn thread_in(place: *const Self) -> usize {
        // SAFETY: as the caller promises; an address is as large as a number, and any is one.
        unsafe { (&raw const (*place).record).cast::<usize>().read() }
    }

    /// Lets other threads join this generation.
    #[inline]
    pub fn share(&self) -> Share<'d, P> {
        // Relaxed: a count is raised only by someone who keeps the generation alive already; the
        // partner that frees it learns of the raise through this thread's later release in `leave`.
        self.shares.fetch_add(1, Ordering::Relaxed);
        Share { generation: NonNull::from(&**self), _dispatcher: PhantomData }
    }
}

impl<P> Deref for Pin<'_, P> {
    type Target = Generation<P>;

    #[inline]
    fn deref(&self) -> &Generation<P> {
        // SAFETY: the thread is inside it until the last of its pins ends.
        unsafe { self.generation.as_ref() }
    }
}

impl<P> Drop for Pin<'_, P> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the record lives as long as the dispatcher that the pin borrows.
        let r = unsafe { self.record.as_ref() };
        let extra = r.extra.get();
        if extra == 0 {
            leave(r);
        } else if extra >= NESTED {
            seldom();
            r.extra.set(extra - NESTED);
        } else {
            leave_and_settle(r);
        }
    }
}

impl<P> ThreadHandle<P> {
    /// How many pins the thread has open.
    ///
    /// # Safety
    ///
    /// The dispatcher is alive.
    pub unsafe fn depth(&self) -> usize {
        let record = self.record();
        // SAFETY: the dispatcher is alive, so its records are.
        let r = unsafe { record.as_ref() };
        if r.is_pinned() { r.extra.get() / NESTED + 1 } else { 0 }
    }

    /// Ends the pins that the thread has opened since it had `depth` of them open, if there are
    /// any.
    ///
    /// # Safety
    ///
    /// The dispatcher is alive. Those pins are not used and not dropped any more.
    pub unsafe fn end_pins(&self, depth: usize) {
        // SAFETY: the caller promises that the dispatcher is alive.
        if unsafe { self.depth() } <= depth {
            return;
        }
        let record = self.record();
        // SAFETY: as above.
        let r = unsafe { record.as_ref() };
        match depth {
            0 => leave_and_settle(r),
            _ => r.extra.set(r.extra.get() % NESTED + (depth - 1) * NESTED),
        }
    }
}

/// A counted hold on a generation, with which another thread can [`Dispatcher::join`] it.
pub struct Share<'d, P> {
    generation: NonNull<Generation<P>>,
    _dispatcher: PhantomData<&'d P>,
}

// SAFETY: a share is a counted reference: other threads read the generation (P: Sync); it is
// dropped by the publisher.
unsafe impl<P: Send + Sync> Send for Share<'_, P> {}
// SAFETY: as for Send; all it does through & is count and read.
unsafe impl<P: Send + Sync> Sync for Share<'_, P> {}

impl<P> Share<'_, P> {
    /// The number of the shared generation.
    pub fn number(&self) -> u64 {
        // SAFETY: the share keeps the generation alive.
        unsafe { self.generation.as_ref() }.number()
    }
}

impl<P> Clone for Share<'_, P> {
    fn clone(&self) -> Self {
        // Relaxed: we hold one, so the count cannot be zero now, and ours is given back with a
        // release.
        // SAFETY: the share keeps the generation alive.
        unsafe { self.generation.as_ref() }.shares.fetch_add(1, Ordering::Relaxed);
        Self { generation: self.generation, _dispatcher: PhantomData }
    }
}

impl<P> Drop for Share<'_, P> {
    fn drop(&mut self) {
        // S2. Release: partner of P4. Drop first: the publisher sees zero and all that was done
        // under the share. Load first: it sees the count and keeps the generation.
        // SAFETY: the share keeps the generation alive up to this decrement and is not used after
        // it.
        unsafe { self.generation.as_ref() }.shares.fetch_sub(1, ordering!(S2, Release));
    }
}

/// A thread tried to join one generation while inside another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinnedElsewhere {
    /// The generation the thread is inside.
    pub inside: u64,
    /// The generation it was asked to join.
    pub shared: u64,
}

impl fmt::Display for PinnedElsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inside, shared } = self;
        write!(
            f,
            "this thread is inside generation {inside} and cannot join generation {shared}: drop its frame first"
        )
    }
}

impl core::error::Error for PinnedElsewhere {}
