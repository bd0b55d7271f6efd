//! The threads that pin, each with the word in which it shows what it holds.

use alloc::boxed::Box;
use core::cell;
use core::marker::PhantomData;
use core::ptr::{self, NonNull};

use crossbeam_utils::CachePadded;

use crate::generation::Generation;
use crate::primitive::{AtomicBool, AtomicPtr, Cell, Ordering, ordering};

/// A thread's own two words, which live in its thread-local storage. Only the thread touches them.
#[repr(C)]
#[derive(Debug)]
pub struct ThreadBlock {
    /// What trampolines read: entry 0 of the pinned generation's table, else of the live table.
    pub table: cell::Cell<*const usize>,
    /// The thread's [`ThreadHandle`] as a word; None before its first pin and after its release.
    pub record: cell::Cell<Option<NonNull<()>>>,
}

/// A thread's record. Allocated once, reused by later threads, freed with the dispatcher: the publisher may read
/// `hazard` at any time, also of a thread that is just exiting, so it cannot live in the thread's own storage.
pub(crate) struct Record<P> {
    /// The generation this thread may be inside, null outside every pin.
    pub(crate) hazard: AtomicPtr<Generation<P>>,
    /// Whether a thread owns the record.
    claimed: AtomicBool,
    /// The list behind it; written before the record is published, constant afterwards.
    next: *const CachePadded<Record<P>>,
    /// Owner only: pins open on this thread.
    pub(crate) depth: Cell<usize>,
    /// Owner only: the outermost pin was a join and owes the generation one share.
    pub(crate) joined: Cell<bool>,
    /// Owner only: where its thread-local words are.
    pub(crate) block: Cell<Option<NonNull<ThreadBlock>>>,
    /// Owner only: the table word's value outside every pin.
    pub(crate) outer: Cell<*const usize>,
    /// Owner only: the thread is exiting with a pin open; the end of its last pin gives the record up.
    pub(crate) abandoned: Cell<bool>,
}

impl<P> Record<P> {
    /// Lets other threads have the record. No pin is open.
    pub(crate) fn give_up(&self) {
        if let Some(block) = self.block.take() {
            // SAFETY: `register`'s caller vouched for the block while the thread has the record.
            unsafe { block.as_ref() }.record.set(None);
        }
        self.abandoned.set(false);
        // T3. Release: partner of T4.
        self.claimed.store(false, ordering!(T3, Release));
    }
}

/// A lock-free list that only grows; its length is the greatest number of threads that pinned at one time.
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

    pub(crate) fn claim(&self, block: Option<NonNull<ThreadBlock>>) -> ThreadHandle<P> {
        let record = self.reuse().unwrap_or_else(|| self.push());
        record.block.set(block);
        let handle = ThreadHandle { record: NonNull::from(record) };
        if let Some(block) = block {
            // SAFETY: `register`'s caller vouched for the block.
            unsafe { block.as_ref() }.record.set(Some(handle.record.cast()));
        }
        handle
    }

    fn reuse(&self) -> Option<&CachePadded<Record<P>>> {
        self.iter().find(|record| {
            // T4. Acquire on success: partner of T3. Release first: the owner-only cells are ours to use, and all that the last
            // owner did comes before our first R1. Claim first: it fails and we look further.
            record.claimed.compare_exchange(false, true, ordering!(T4, Acquire), Ordering::Relaxed).is_ok()
        })
    }

    fn push(&self) -> &CachePadded<Record<P>> {
        let record = Box::leak(Box::new(CachePadded::new(Record {
            hazard: AtomicPtr::new(ptr::null_mut()),
            claimed: AtomicBool::new(true),
            next: ptr::null(),
            depth: Cell::new(0),
            joined: Cell::new(false),
            block: Cell::new(None),
            outer: Cell::new(ptr::null()),
            abandoned: Cell::new(false),
        })));
        // Relaxed: only a guess, which T1 confirms.
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            record.next = head;
            // T1. Release: partner of T2. Push first: the walker sees a whole record, and by it those behind it (every change of
            // the head is a read-modify-write, so each push goes on the releases before it). Walk first: it does not see the
            // record, and its thread's next validation (R3) sees the publication that walks.
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
            // SAFETY: every pointer in the list came from Box::leak in `push`, and records are freed only by Drop, which
            // has the registry to itself.
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
            // SAFETY: from Box::leak in `push`, each once in the list; &mut self says nobody walks it.
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
    /// `raw` is in the [`ThreadBlock::record`] of this thread, put there by a dispatcher of the same `P`.
    #[inline]
    pub unsafe fn from_raw(raw: NonNull<()>) -> Self {
        Self { record: raw.cast() }
    }

    /// Gives the record up for other threads, as a thread does when it exits. If a pin is still open, when the last pin
    /// ends. One that never ends (its guard was forgotten) keeps the record and its generation for ever: what a leaked
    /// pin protects may still be in use.
    ///
    /// # Safety
    ///
    /// The dispatcher is alive, and this thread makes no new outermost pin through this handle or a copy of it.
    pub unsafe fn release(self) {
        // SAFETY: the dispatcher is alive, so its records are.
        let record = unsafe { self.record.as_ref() };
        if record.depth.get() == 0 {
            record.give_up();
        } else {
            record.abandoned.set(true);
        }
    }

    /// Has the end of this thread's next outermost pin give the record up: for a thread that is too far in its exit to
    /// call [`Self::release`].
    ///
    /// # Safety
    ///
    /// The dispatcher is alive.
    pub unsafe fn give_up_after_pin(&self) {
        // SAFETY: the dispatcher is alive, so its records are.
        unsafe { self.record.as_ref() }.abandoned.set(true);
    }

    /// Runs module code that belongs to no pin with a table of its own in the thread's word, whatever pin is open. Pins may begin
    /// and end meanwhile, in any order: one that is open afterwards has its table in the word, and its end puts back what was
    /// there before all this.
    ///
    /// # Safety
    ///
    /// `block` is the calling thread's, and its record is of a dispatcher of this `P`. The table is there until `run` returns.
    pub unsafe fn with_table(block: NonNull<ThreadBlock>, table: *const usize, run: impl FnOnce()) {
        struct Restore<P> {
            block: NonNull<ThreadBlock>,
            outside: *const usize,
            _of: PhantomData<P>,
        }
        impl<P> Drop for Restore<P> {
            fn drop(&mut self) {
                // SAFETY: the caller's promise.
                let (word, pinned) = unsafe { (&self.block.as_ref().table, pinned_record::<P>(self.block)) };
                match pinned {
                    Some(record) => {
                        record.outer.set(self.outside);
                        // SAFETY: the thread is inside it. Relaxed: our own store.
                        word.set(unsafe { &*record.hazard.load(Ordering::Relaxed) }.table().as_ptr());
                    }
                    None => word.set(self.outside),
                }
            }
        }
        /// The block's record, if a pin is open on the thread.
        ///
        /// # Safety
        ///
        /// As for `with_table`.
        unsafe fn pinned_record<'r, P>(block: NonNull<ThreadBlock>) -> Option<&'r Record<P>> {
            // SAFETY: the caller's promise; records live as long as the dispatcher.
            let record = unsafe { block.as_ref().record.get()?.cast::<CachePadded<Record<P>>>().as_ref() };
            (record.depth.get() > 0).then_some(record)
        }
        // SAFETY: the caller's promise.
        let (word, pinned) = unsafe { (&block.as_ref().table, pinned_record::<P>(block)) };
        let outside = match pinned {
            Some(record) => record.outer.replace(table),
            None => word.get(),
        };
        let _restore = Restore::<P> { block, outside, _of: PhantomData };
        word.set(table);
        run();
    }

    #[inline]
    pub(crate) fn record(&self) -> NonNull<CachePadded<Record<P>>> {
        self.record
    }
}
