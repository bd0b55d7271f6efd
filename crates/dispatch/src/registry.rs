//! The threads that pin, each with the word in which it shows what it holds.

use alloc::boxed::Box;
use core::cell;
use core::marker::PhantomData;
use core::ptr::{self, NonNull};

use crossbeam_utils::CachePadded;

use crate::generation::Generation;
use crate::primitive::{AtomicBool, AtomicPtr, AtomicU32, Cell, Ordering, ordering};

/// A thread's own two words, which live in its thread-local storage. Only the thread touches them.
#[repr(C)]
#[derive(Debug)]
pub struct ThreadBlock {
    /// What trampolines read: entry 0 of the pinned generation's table, else of the live table.
    pub table: cell::Cell<*const usize>,
    /// The thread's [`ThreadHandle`] as a word; None before its first pin and after its release.
    pub record: cell::Cell<Option<NonNull<()>>>,
}

impl ThreadBlock {
    /// Has the thread's trampolines call through the table.
    #[inline]
    pub(crate) fn call_through(&self, table: *const usize) {
        // A signal handler that calls modules may run before this, as anywhere: the models have it
        // run here.
        #[cfg(loom)]
        crate::weaken::interrupt();
        self.table.set(table);
    }
}

/// A thread's record. Allocated once, reused by later threads, freed with the dispatcher: the
/// publisher may read `hazard` at any time, also of a thread that is just exiting, so it cannot
/// live in the thread's own storage.
pub(crate) struct Record<P> {
    /// The generation this thread may be inside, null outside every pin.
    pub(crate) hazard: AtomicPtr<Generation<P>>,
    /// Owner only: zero while the thread has at most one pin, an ordinary one, whose end then has
    /// nothing else to look at. Else [`NESTED`] for each pin but one, and the bits that say
    /// what the end of the last one owes.
    pub(crate) extra: Cell<usize>,
    /// Owner only: where its thread-local words are. Means nothing while nobody owns the record.
    pub(crate) block: Cell<NonNull<ThreadBlock>>,
    /// Owner only: the table word's value outside every pin.
    pub(crate) outer: Cell<*const usize>,
    /// Owner only: the barrier's, see `Barrier::entered`.
    pub(crate) synchronised: cell::Cell<usize>,
    /// What reports call the thread by that owns the record.
    pub(crate) owner: AtomicU32,
    /// Whether a thread owns the record.
    claimed: AtomicBool,
    /// The list behind it; written before the record is published, constant afterwards.
    next: *const CachePadded<Record<P>>,
}

/// In [`Record::extra`]: the pin was a join, and its end gives a share back.
pub(crate) const JOINED: usize = 1;
/// In [`Record::extra`]: the thread is exiting, and the end of its last pin gives the record up.
pub(crate) const ABANDONED: usize = 2;
/// In [`Record::extra`]: one more pin than one.
pub(crate) const NESTED: usize = 4;

impl<P> Record<P> {
    /// Whether the owner is inside a generation.
    #[inline]
    pub(crate) fn is_pinned(&self) -> bool {
        // Relaxed: our own store.
        !self.hazard.load(Ordering::Relaxed).is_null()
    }

    /// Lets other threads have the record. No pin is open.
    pub(crate) fn give_up(&self) {
        // SAFETY: `register`'s caller vouched for the block while the thread has the record.
        unsafe { self.block.get().as_ref() }.record.set(None);
        self.extra.set(0);
        // T3. Release: partner of T4.
        self.claimed.store(false, ordering!(T3, Release));
    }
}

/// A lock-free list that only grows; its length is the greatest number of threads that pinned at
/// one time.
pub(crate) struct Registry<P> {
    head: AtomicPtr<CachePadded<Record<P>>>,
}

impl<P> Registry<P> {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Self { head: AtomicPtr::new(ptr::null_mut()) }
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self { head: AtomicPtr::new(ptr::null_mut()) }
    }

    /// # Safety
    ///
    /// As for [`crate::Dispatcher::register`].
    pub(crate) unsafe fn claim(&self, block: NonNull<ThreadBlock>, owner: u32) -> ThreadHandle<P> {
        let record = self.reuse().unwrap_or_else(|| self.push());
        // Relaxed: for reports.
        record.owner.store(owner, Ordering::Relaxed);
        let handle = ThreadHandle { record: NonNull::from(record) };
        // SAFETY: the caller promises that the block is valid on this thread.
        let words = unsafe { block.as_ref() };
        record.block.set(block);
        record.outer.set(words.table.get());
        // What the record's last owner has done was done on that thread.
        record.synchronised.set(0);
        words.record.set(Some(handle.record.cast()));
        handle
    }

    fn reuse(&self) -> Option<&CachePadded<Record<P>>> {
        self.iter().find(|record| {
            // T4. Acquire on success: partner of T3. Release first: the owner-only cells are ours
            // to use, and all that the last owner did comes before our first R1. Claim first: it
            // fails and we look further.
            record.claimed.compare_exchange(false, true, ordering!(T4, Acquire), Ordering::Relaxed).is_ok()
        })
    }

    fn push(&self) -> &CachePadded<Record<P>> {
        let record = Box::leak(Box::new(CachePadded::new(Record {
            hazard: AtomicPtr::new(ptr::null_mut()),
            extra: Cell::new(0),
            block: Cell::new(NonNull::dangling()),
            outer: Cell::new(ptr::null()),
            synchronised: cell::Cell::new(0),
            owner: AtomicU32::new(0),
            claimed: AtomicBool::new(true),
            next: ptr::null(),
        })));
        // Relaxed: only a guess, which T1 confirms.
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            record.next = head;
            // T1. Release: partner of T2. Push first: the walker sees a whole record, and by it
            // those behind it (every change of the head is a read-modify-write, so each push goes
            // on the releases before it). Walk first: it does not see the record, and its thread's
            // next validation (R3) sees the publication that walks.
            match self.head.compare_exchange_weak(head, record, ordering!(T1, Release), Ordering::Relaxed) {
                Ok(_) => return record,
                Err(now) => head = now,
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &CachePadded<Record<P>>> {
        // T2. Acquire: partner of T1.
        let mut at: *const CachePadded<Record<P>> = self.head.load(ordering!(T2, Acquire));
        core::iter::from_fn(move || {
            // SAFETY: every pointer in the list came from Box::leak in `push`, and records are
            // freed only by Drop, which has the registry to itself.
            let record = unsafe { at.as_ref() }?;
            at = record.next;
            Some(record)
        })
    }
}

impl<P> Drop for Registry<P> {
    fn drop(&mut self) {
        // Relaxed: &mut self says that nobody else is here.
        let mut at = self.head.load(Ordering::Relaxed).cast_const();
        while !at.is_null() {
            // SAFETY: from Box::leak in `push`, each once in the list; &mut self says nobody walks
            // it.
            let record = unsafe { Box::from_raw(at.cast_mut()) };
            at = record.next;
        }
    }
}

/// A thread's claim on its record. Belongs to the thread that made it (not Send, not Sync).
pub struct ThreadHandle<P> {
    record: NonNull<CachePadded<Record<P>>>,
}

impl<P> ThreadHandle<P> {
    /// The handle back from its word.
    ///
    /// # Safety
    ///
    /// `raw` is in the [`ThreadBlock::record`] of this thread, put there by a dispatcher of the
    /// same `P`.
    #[inline]
    pub unsafe fn from_raw(raw: NonNull<()>) -> Self {
        Self { record: raw.cast() }
    }

    /// Gives the record up for other threads, as a thread does when it exits. If a pin is still
    /// open, when the last pin ends. One that never ends (its guard was forgotten) keeps the
    /// record and its generation for ever: what a leaked pin protects may still be in use.
    ///
    /// # Safety
    ///
    /// The dispatcher is alive, and this thread makes no new outermost pin through this handle or a
    /// copy of it.
    pub unsafe fn release(self) {
        // SAFETY: the dispatcher is alive, so its records are.
        let record = unsafe { self.record.as_ref() };
        if record.is_pinned() {
            record.extra.set(record.extra.get() | ABANDONED);
        } else {
            record.give_up();
        }
    }

    /// The generation that this thread is inside.
    ///
    /// # Safety
    ///
    /// The dispatcher is alive. The thread's pins do not end while the answer is used.
    pub unsafe fn generation(&self) -> Option<&Generation<P>> {
        // SAFETY: the dispatcher is alive, so its records are. Relaxed: our own store.
        let generation = unsafe { self.record.as_ref() }.hazard.load(Ordering::Relaxed);
        // SAFETY: a pin holds it, which does not end meanwhile.
        unsafe { generation.as_ref() }
    }

    /// Has the end of this thread's next outermost pin give the record up: for a thread that is too
    /// far in its exit to call [`Self::release`].
    ///
    /// # Safety
    ///
    /// The dispatcher is alive.
    pub unsafe fn give_up_after_pin(&self) {
        // SAFETY: the dispatcher is alive, so its records are.
        let record = unsafe { self.record.as_ref() };
        record.extra.set(record.extra.get() | ABANDONED);
    }

    /// Runs module code that belongs to no pin with a table of its own in the thread's word,
    /// whatever pin is open. Pins may begin and end meanwhile, in any order: one that is open
    /// afterwards has its table in the word, and its end puts back what was there before all
    /// this.
    ///
    /// # Safety
    ///
    /// `block` is the calling thread's, and its record is of a dispatcher of this `P`. The table is
    /// there until `run` returns.
    pub unsafe fn with_table(block: NonNull<ThreadBlock>, table: *const usize, run: impl FnOnce()) {
        struct Restore<P> {
            block: NonNull<ThreadBlock>,
            outside: *const usize,
            _of: PhantomData<P>,
        }
        impl<P> Drop for Restore<P> {
            fn drop(&mut self) {
                // SAFETY: the caller of `with_table` promises that the block is this thread's, of a
                // dispatcher of this `P`.
                let (block, record) = unsafe { parts::<P>(self.block) };
                let mut table = self.outside;
                if let Some(record) = record {
                    record.outer.set(self.outside);
                    if record.is_pinned() {
                        // SAFETY: the thread is inside it. Relaxed: our own store.
                        table = unsafe { &*record.hazard.load(Ordering::Relaxed) }.table().as_ptr();
                    }
                }
                block.call_through(table);
            }
        }
        // SAFETY: the caller promises that the block is this thread's, of a dispatcher of this `P`.
        let (words, record) = unsafe { parts::<P>(block) };
        let outside = record.map_or(words.table.get(), |record| record.outer.replace(table));
        let _restore = Restore::<P> { block, outside, _of: PhantomData };
        words.call_through(table);
        run();
    }

    /// Sets what the thread's word holds outside every pin: at once, or when the last pin that is
    /// open ends.
    ///
    /// # Safety
    ///
    /// `block` is the calling thread's, and its record, if it has one, is of a dispatcher of this
    /// `P`. The table is there until the thread ends, or another is set.
    pub unsafe fn set_outer(block: NonNull<ThreadBlock>, table: *const usize) {
        // SAFETY: the caller promises that the block is this thread's, of a dispatcher of this `P`.
        let (block, record) = unsafe { parts::<P>(block) };
        if let Some(record) = record {
            record.outer.set(table);
            if record.is_pinned() {
                return;
            }
        }
        block.call_through(table);
    }

    #[inline]
    pub(crate) fn record(&self) -> NonNull<CachePadded<Record<P>>> {
        self.record
    }
}

/// A thread's block, and its record, if it has one.
///
/// # Safety
///
/// The block is the calling thread's, and its record is of a dispatcher of this `P`.
unsafe fn parts<'r, P>(block: NonNull<ThreadBlock>) -> (&'r ThreadBlock, Option<&'r Record<P>>) {
    // SAFETY: the caller promises that the block is this thread's, of a dispatcher of this `P`;
    // records live as long as the dispatcher.
    unsafe {
        let block = block.as_ref();
        let record = block.record.get().map(|record| &**record.cast::<CachePadded<_>>().as_ref());
        (block, record)
    }
}
