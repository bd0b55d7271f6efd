//! The protocol on real threads, and the rules that need only one.
#![cfg(not(loom))]

use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use midflight_dispatch::{
    Barrier, CodeEpoch, Dispatcher, LiveTable, Part, PinnedElsewhere, Publisher, SeqCstFences, ThreadBlock,
    ThreadHandle,
};

/// Counts the payloads that are alive.
struct Counted<'c>(&'c AtomicUsize, usize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn block() -> ThreadBlock {
    ThreadBlock { table: Cell::new(std::ptr::null()), record: Cell::new(None) }
}

fn publish<'c>(
    d: &Dispatcher<Counted<'c>, SeqCstFences>,
    p: &mut Publisher<Counted<'c>>,
    alive: &'c AtomicUsize,
    value: usize,
) -> u64 {
    alive.fetch_add(1, Ordering::SeqCst);
    // SAFETY: each test has one publisher.
    unsafe {
        let new = d.prepare(p, vec![value; 4], Counted(alive, value));
        d.publish(p, new)
    }
}

#[test]
fn a_word_follows_the_pin_and_returns_to_the_live_table() {
    let alive = AtomicUsize::new(0);
    let live = [0usize; 4];
    let block = ThreadBlock { table: Cell::new(live.as_ptr()), record: Cell::new(None) };
    let d = Dispatcher::new(SeqCstFences);
    let mut p = Publisher::new();
    assert_eq!(publish(&d, &mut p, &alive, 7), 0);
    // SAFETY: the block outlives the handle; one thread.
    let thread = unsafe { d.register(NonNull::from(&block), 0) };
    {
        // SAFETY: this thread's handle, and a generation is published.
        let outer = unsafe { d.pin(&thread) };
        assert_eq!(block.table.get(), outer.table().as_ptr());
        assert_eq!(publish(&d, &mut p, &alive, 8), 1);
        // SAFETY: as above.
        let inner = unsafe { d.pin(&thread) };
        assert_eq!((inner.number(), inner.table()[3]), (0, 7), "a nested pin stays in the outer generation");
        drop(outer);
        assert_eq!(block.table.get(), inner.table().as_ptr(), "the thread is pinned until its last pin ends");
        // SAFETY: one publisher.
        assert!(unsafe { d.collect(&mut p) }.is_empty());
    }
    assert_eq!(block.table.get(), live.as_ptr());
    // SAFETY: one publisher.
    assert_eq!(unsafe { d.collect(&mut p) }.len(), 1);
    assert_eq!(alive.load(Ordering::SeqCst), 1);
    // SAFETY: as above; and no pin is open at the release.
    unsafe {
        assert_eq!(d.pin(&thread).number(), 1);
        thread.release();
    }
}

/// Constructors run with a table of their own, and may call a host that opens and drops its frames
/// as it likes.
#[test]
fn pins_may_begin_and_end_under_another_table() {
    let alive = AtomicUsize::new(0);
    let (live, other) = ([0usize; 4], [1usize; 4]);
    let block = ThreadBlock { table: Cell::new(live.as_ptr()), record: Cell::new(None) };
    let d = Dispatcher::new(SeqCstFences);
    let mut p = Publisher::new();
    publish(&d, &mut p, &alive, 7);
    let mut kept = None;
    // SAFETY: this thread's block, and tables that outlive the calls.
    let under = |run: &mut dyn FnMut()| unsafe {
        ThreadHandle::<Counted<'_>>::with_table(NonNull::from(&block), other.as_ptr(), || {
            assert_eq!(block.table.get(), other.as_ptr());
            run();
        });
    };
    // SAFETY: the block outlives the handle; one thread; a generation is published.
    let pin = || unsafe {
        let thread = match block.record.get() {
            Some(record) => ThreadHandle::from_raw(record),
            None => d.register(NonNull::from(&block), 0),
        };
        d.pin(&thread)
    };
    under(&mut || ());
    assert_eq!(block.table.get(), live.as_ptr(), "in a thread that never pinned");
    under(&mut || kept = Some(pin()));
    assert_eq!(block.table.get(), kept.as_ref().unwrap().table().as_ptr(), "a pin that began goes on");
    under(&mut || ());
    assert_eq!(block.table.get(), kept.as_ref().unwrap().table().as_ptr(), "a pin that was open is");
    under(&mut || {
        kept = None;
        assert_eq!(block.table.get(), other.as_ptr());
        publish(&d, &mut p, &alive, 8);
        kept = Some(pin());
    });
    assert_eq!(kept.as_ref().unwrap().number(), 1);
    assert_eq!(block.table.get(), kept.as_ref().unwrap().table().as_ptr(), "one after the other");
    under(&mut || kept = None);
    assert_eq!(block.table.get(), live.as_ptr(), "a pin that ended is over");
    under(&mut || kept = Some(pin()));
    kept = None;
    assert_eq!(block.table.get(), live.as_ptr(), "and the end of one that began leaves nothing behind");
    drop(kept);
    // SAFETY: one publisher.
    assert_eq!(unsafe { d.collect(&mut p) }.len(), 1);
}

#[test]
fn a_share_holds_the_generation_and_a_thread_is_in_one_generation_at_a_time() {
    let alive = AtomicUsize::new(0);
    let block = self::block();
    let d = Dispatcher::new(SeqCstFences);
    let mut p = Publisher::new();
    publish(&d, &mut p, &alive, 1);
    // SAFETY: the block outlives the handle; one thread; a generation is published; one publisher;
    // no pin is open at the release.
    unsafe {
        let thread = d.register(NonNull::from(&block), 0);
        let share = d.pin(&thread).share();
        publish(&d, &mut p, &alive, 2);
        assert!(d.collect(&mut p).is_empty(), "a share alone holds it");
        let pin = d.pin(&thread);
        assert_eq!(d.join(&thread, &share).err(), Some(PinnedElsewhere { inside: 1, shared: 0 }));
        drop(pin);
        let joined = d.join(&thread, &share).unwrap();
        drop(share);
        assert_eq!(joined.payload().1, 1);
        assert!(d.collect(&mut p).is_empty(), "the join holds it");
        drop(joined);
        assert!(block.record.get().is_some(), "the thread goes on");
        assert_eq!(d.collect(&mut p).len(), 1);
        thread.release();
    }
}

/// Cores are synchronised by the threads themselves, as where the kernel has no call for it.
struct Epochs<'t> {
    epoch: &'t CodeEpoch,
    synchronised: &'t Cell<usize>,
}

// SAFETY: as SeqCstFences.
unsafe impl Barrier for Epochs<'_> {
    fn light(&self) {
        SeqCstFences.light();
    }

    fn heavy(&self) -> bool {
        SeqCstFences.heavy()
    }

    fn entered(&self, seen: &Cell<usize>) {
        self.epoch.catch_up(seen, || self.synchronised.set(self.synchronised.get() + 1));
    }
}

#[test]
fn a_thread_synchronises_its_core_once_for_each_piece_of_code_whichever_way_it_enters() {
    let (epoch, synchronised) = (CodeEpoch::new(), Cell::new(0));
    let d = Dispatcher::new(Epochs { epoch: &epoch, synchronised: &synchronised });
    let mut p = Publisher::new();
    let (opener, joiner) = (block(), block());
    // SAFETY: the blocks outlive the handles; one thread, which stands for three; a generation is
    // published before the first pin; one publisher.
    unsafe {
        let publish = |p: &mut Publisher<()>| {
            epoch.advance();
            let new = d.prepare(p, vec![], ());
            d.publish(p, new);
        };
        publish(&mut p);
        let first = d.register(NonNull::from(&opener), 0);
        drop(d.pin(&first));
        assert_eq!(synchronised.get(), 1);
        drop(d.pin(&first));
        assert_eq!(synchronised.get(), 1, "there is no code since");
        publish(&mut p);
        let share = d.pin(&first).share();
        assert_eq!(synchronised.get(), 2);
        let second = d.register(NonNull::from(&joiner), 0);
        drop(d.join(&second, &share).unwrap());
        assert_eq!(synchronised.get(), 3, "a thread that joins");
        drop(share);
        second.release();
        // A thread that has the record of one that is gone: what that one did says nothing of its
        // core.
        let third = d.register(NonNull::from(&joiner), 0);
        drop(d.pin(&third));
        assert_eq!(synchronised.get(), 4, "a record that had another owner");
        third.release();
        first.release();
        assert_eq!(d.collect(&mut p).len(), 1);
    }
}

#[test]
fn who_holds_a_retired_generation_is_named() {
    let alive = AtomicUsize::new(0);
    let (one, other) = (block(), block());
    let d = Dispatcher::new(SeqCstFences);
    let mut p = Publisher::new();
    publish(&d, &mut p, &alive, 1);
    // SAFETY: the blocks outlive the handles; one thread, which stands for two; a generation is
    // published; one publisher.
    unsafe {
        let (first, second) = (d.register(NonNull::from(&one), 11), d.register(NonNull::from(&other), 12));
        let old = d.pin(&first);
        assert_eq!(d.holders(&p), [], "it is current");
        publish(&d, &mut p, &alive, 2);
        let new = d.pin(&second);
        assert_eq!(d.holders(&p), [(11, 0)]);
        assert_eq!(p.retired().collect::<Vec<_>>(), [0]);
        assert_eq!((old.share().number(), new.share().number()), (0, 1));
        let elsewhere = d.join(&first, &new.share()).err().unwrap().to_string();
        assert!(elsewhere.contains("generation 0") && elsewhere.contains("generation 1"), "{elsewhere}");
        drop((old, new));
        first.release();
        second.release();
        assert_eq!(d.collect(&mut p).len(), 1);
    }
}

#[test]
fn the_live_table_has_what_was_set() {
    let table = LiveTable::<3>::new();
    table.set(1, 7);
    assert_eq!([0, 1, 2].map(|slot| table.get(slot)), [0, 7, 0]);
    // SAFETY: within the table, which nobody changes.
    assert_eq!(unsafe { *table.as_ptr().add(1) }, 7);
}

/// A thread that is asked twice: each answer is of the pass that asked.
#[test]
fn a_part_is_taken_once_and_only_in_its_pass() {
    let (mut first, mut second) = (1, 2);
    let part = Part::<i32>::new();
    assert_eq!(part.claim(1), None, "nobody asked");
    part.ask(1, &raw mut first);
    assert!(part.is_waiting(1) && !part.has_answered(1));
    assert_eq!(part.claim(2), None, "not that pass");
    assert_eq!(part.claim(1), Some(&raw mut first));
    assert!(!part.is_waiting(1) && !part.has_answered(1));
    assert_eq!(part.claim(1), None, "it is taken");
    assert!(!part.give_up(1), "it is taken");
    part.answered(1);
    assert!(part.has_answered(1) && !part.has_answered(2));

    part.ask(2, &raw mut second);
    assert!(!part.has_answered(1) && !part.has_answered(2));
    assert!(!part.give_up(1), "that pass is over");
    assert!(part.give_up(2));
    assert!(!part.is_waiting(2));
    assert_eq!(part.claim(2), None, "it was given up");

    part.ask(3, &raw mut second);
    assert_eq!(part.claim(3), Some(&raw mut second));
    part.leave_behind(3);
    part.answered(3);
    assert!(!part.has_answered(3), "nobody waits for it any more");
    part.ask(4, &raw mut first);
    part.leave_behind(4);
    assert!(part.is_waiting(4), "only who has taken it is left behind");
}

#[test]
fn a_record_released_under_a_pin_is_given_up_when_the_pin_ends() {
    let alive = AtomicUsize::new(0);
    let block = self::block();
    let d = Dispatcher::new(SeqCstFences);
    let mut p = Publisher::new();
    publish(&d, &mut p, &alive, 1);
    // SAFETY: the block outlives the handle; one thread; a generation is published; one publisher.
    unsafe {
        let thread = d.register(NonNull::from(&block), 0);
        let record = block.record.get();
        let pin = d.pin(&thread);
        thread.release();
        assert_eq!(block.record.get(), record, "still this thread's");
        publish(&d, &mut p, &alive, 2);
        assert!(d.collect(&mut p).is_empty(), "and still protecting");
        drop(pin);
        assert_eq!(block.record.get(), None);
        assert_eq!(d.collect(&mut p).len(), 1);
        d.register(NonNull::from(&block), 0);
        assert_eq!(block.record.get(), record, "the record is used again");
    }
}

#[test]
fn the_end_of_the_last_pin_settles_all_that_the_thread_owes() {
    let alive = AtomicUsize::new(0);
    let (opener, joiner) = (block(), block());
    let d = Dispatcher::new(SeqCstFences);
    let mut p = Publisher::new();
    publish(&d, &mut p, &alive, 1);
    // SAFETY: the blocks outlive the handles; one thread, which stands for two; a generation is
    // published; one publisher.
    unsafe {
        let thread = d.register(NonNull::from(&opener), 0);
        let share = d.pin(&thread).share();
        thread.release();
        publish(&d, &mut p, &alive, 2);
        let thread = d.register(NonNull::from(&joiner), 0);
        // As of a thread whose exit has come too far to say so later.
        thread.give_up_after_pin();
        let joined = d.join(&thread, &share).unwrap();
        drop(share);
        let (nested, again) = (d.pin(&thread), d.pin(&thread));
        assert_eq!((nested.number(), again.number()), (0, 0));
        drop(joined);
        drop(again);
        assert!(joiner.record.get().is_some());
        assert!(d.collect(&mut p).is_empty(), "the last pin is open");
        drop(nested);
        assert_eq!(d.collect(&mut p).len(), 1, "the join's share is given back");
        assert_eq!(joiner.record.get(), None, "and the record given up");
        let thread = d.register(NonNull::from(&joiner), 0);
        assert_eq!(d.pin(&thread).number(), 1);
        assert!(joiner.record.get().is_some(), "nothing is left over for the record's next owner");
        thread.release();
    }
}

#[test]
fn a_forgotten_pin_holds_its_generation_for_ever_and_frees_nothing_too_early() {
    let alive = AtomicUsize::new(0);
    let block = self::block();
    let d = Dispatcher::new(SeqCstFences);
    let mut p = Publisher::new();
    publish(&d, &mut p, &alive, 1);
    // SAFETY: the blocks outlive the handles, each of which stays on its thread; a generation is
    // published; one publisher.
    unsafe {
        let thread = d.register(NonNull::from(&block), 0);
        std::mem::forget(d.pin(&thread));
        thread.release();
        publish(&d, &mut p, &alive, 2);
        let block = self::block();
        let other = d.register(NonNull::from(&block), 0);
        assert_eq!(d.pin(&other).number(), 1, "the leaked record is not reused");
        assert!(d.collect(&mut p).is_empty());
        other.release();
    }
}

#[test]
fn forgotten_pins_are_ended_as_if_they_had_been_dropped() {
    let alive = AtomicUsize::new(0);
    let live = [0usize; 4];
    let block = ThreadBlock { table: Cell::new(live.as_ptr()), record: Cell::new(None) };
    let d = Dispatcher::new(SeqCstFences);
    let mut p = Publisher::new();
    publish(&d, &mut p, &alive, 0);
    // SAFETY: the block outlives the handle; one thread; one publisher. The pins that are ended are
    // not used.
    unsafe {
        let thread = d.register(NonNull::from(&block), 0);
        assert_eq!(thread.depth(), 0);
        thread.end_pins(0);
        for joins in [false, true] {
            let first = d.pin(&thread);
            let share = first.share();
            if joins {
                drop(first);
                std::mem::forget(d.join(&thread, &share).unwrap());
            } else {
                std::mem::forget(first);
            }
            let kept = d.pin(&thread);
            (0..3).for_each(|_| std::mem::forget(d.pin(&thread)));
            assert_eq!(thread.depth(), 5);
            thread.end_pins(7);
            thread.end_pins(2);
            assert_eq!((thread.depth(), block.table.get()), (2, kept.table().as_ptr()));
            drop(kept);
            assert_eq!(thread.depth(), 1);
            let number = publish(&d, &mut p, &alive, 1);
            drop(share);
            assert!(d.collect(&mut p).is_empty());
            thread.end_pins(0);
            assert_eq!((thread.depth(), block.table.get()), (0, live.as_ptr()));
            assert_eq!(d.collect(&mut p).len(), 1);
            assert_eq!(d.pin(&thread).number(), number);
        }
        thread.release();
    }
}

#[test]
fn readers_on_real_threads_never_see_a_freed_or_mixed_generation() {
    const PUBLICATIONS: usize = if cfg!(miri) { 20 } else { 20_000 };
    let alive = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let d = Dispatcher::new(SeqCstFences);
    let mut p = Publisher::new();
    publish(&d, &mut p, &alive, 0);
    let pins: usize = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let block = block();
                    // SAFETY: the block outlives the handle; this thread only; a generation is
                    // published; no pin is open at the release.
                    unsafe {
                        let thread = d.register(NonNull::from(&block), 0);
                        let mut pins = 0;
                        while !stop.load(Ordering::Relaxed) {
                            let pin = d.pin(&thread);
                            let value = pin.payload().1;
                            assert!(pin.table().iter().all(|&entry| entry == value));
                            pins += 1;
                        }
                        thread.release();
                        pins
                    }
                })
            })
            .collect();
        for value in 1..=PUBLICATIONS {
            publish(&d, &mut p, &alive, value);
            // SAFETY: one publisher.
            drop(unsafe { d.collect(&mut p) });
            assert!(
                alive.load(Ordering::SeqCst) <= 1 + 3 + 1,
                "at most one retired generation per reader is held"
            );
        }
        stop.store(true, Ordering::Relaxed);
        readers.into_iter().map(|r| r.join().unwrap()).sum()
    });
    assert!(pins > 0);
    // SAFETY: one publisher.
    drop(unsafe { d.collect(&mut p) });
    assert_eq!(alive.load(Ordering::SeqCst), 1, "everything but the current generation is gone");
}
