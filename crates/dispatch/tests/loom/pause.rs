//! Pauses: while values are copied nobody is inside, nobody stays waiting, and whoever waited goes
//! on in what the pause came to.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::AtomicU32;
use loom::thread;
use midflight_dispatch::weaken::interrupt_with;
use midflight_dispatch::{Begin, LiveTable, Pause};

use super::*;

// What is behind a slot. A stub is no target.
const STUB: usize = 0;
const OLD: usize = 1;
const NEW: usize = 2;
/// What a thread's table word holds outside frames.
const LIVE: usize = 1000;
const PAUSER: usize = 77;

/// A version's variables.
#[derive(Default)]
struct Variables(UnsafeCell<usize>);

// SAFETY: loom checks the accesses.
unsafe impl Sync for Variables {}

impl Variables {
    /// A call of the version: it reads them. (That it writes would be as bad, and shown as well.)
    fn call(&self) {
        // SAFETY: loom tracks the access.
        self.0.with(|at| unsafe { *at });
    }

    /// The copy: nobody is inside.
    fn touch(&self) {
        // SAFETY: loom tracks the access.
        self.0.with_mut(|at| unsafe { *at += 1 });
    }
}

/// What the models share. Leaked, as a world's dispatcher is.
struct Paused {
    pause: &'static Pause<1>,
    word: &'static AtomicU32,
    live: LiveTable<1>,
    old: Variables,
    new: Variables,
}

impl Paused {
    fn new() -> Arc<Self> {
        let (pause, word) = (Box::leak(Box::new(Pause::new())), Box::leak(Box::new(AtomicU32::new(0))));
        let paused =
            Self { pause, word, live: LiveTable::new(), old: Default::default(), new: Default::default() };
        paused.live.set(0, OLD);
        Arc::new(paused)
    }

    fn call(&self, target: usize) {
        match target {
            OLD => self.old.call(),
            NEW => self.new.call(),
            other => panic!("{other} is no target"),
        }
    }

    fn begin(&self, number: usize, table: usize, before: usize, after: usize) {
        let (before, after) = ([(0, before)], [(0, after)]);
        let begin = Begin { wait: self.word, pauser: PAUSER, number, table, before: &before, after: &after };
        self.pause.begin(&begin);
    }

    /// What a thread outside frames calls, if it came to a stub.
    fn outside(&self) -> Option<Option<usize>> {
        let first = self.live.get(0);
        (first == STUB).then(|| self.pause.target(1, LIVE, 0, || self.live.get(0), |_| thread::yield_now()))
    }

    /// When all threads are over.
    ///
    /// # Safety
    ///
    /// As it says.
    unsafe fn end(&self) {
        // SAFETY: from Box::leak; nobody uses them.
        unsafe {
            drop(Box::from_raw(std::ptr::from_ref(self.pause).cast_mut()));
            drop(Box::from_raw(std::ptr::from_ref(self.word).cast_mut()));
        }
    }
}

/// How the publisher may be wrong.
#[derive(Clone, Copy, PartialEq)]
enum Publisher {
    Right,
    /// It copies without a look at who is inside.
    Hasty,
}

/// A frame against a pause that copies, if nobody is inside, and else is given up.
fn frame(publisher: Publisher) {
    let mut world = with_fences();
    let dispatch = world.dispatch;
    let paused = Paused::new();
    // Generation 0 of the models has one slot, with its number.
    let reader = thread::spawn({
        let paused = paused.clone();
        move || {
            let thread = register(dispatch);
            // SAFETY: this thread's handle; a generation is published.
            let pin = unsafe { dispatch.pin(&thread) };
            let table = pin.table().as_ptr().addr();
            let target = match pin.payload().number {
                0 => OLD,
                // The pause's own.
                1 => {
                    let target = paused.pause.target(1, table, 0, || STUB, |_| thread::yield_now());
                    target.expect("what is behind the slot")
                }
                // It was given up, or not.
                2 => paused.live.get(0),
                _ => unreachable!(),
            };
            paused.call(target);
            drop(pin);
            release(thread);
        }
    });
    let canary = Canary { number: 1, dead: UnsafeCell::new(false) };
    let table = vec![1, 1];
    paused.begin(1, table.as_ptr().addr(), OLD, NEW);
    // SAFETY: the one publisher.
    let number = unsafe {
        let new = dispatch.prepare_stand_in(&mut world.publisher, table, canary);
        dispatch.publish(&mut world.publisher, new)
    };
    world.published += 1;
    assert_eq!(number, 1);
    paused.live.set(0, STUB);
    world.collect();
    let clear = publisher == Publisher::Hasty || world.publisher.retired().len() == 0;
    if clear {
        paused.old.touch();
        paused.new.touch();
        paused.pause.decide();
    }
    paused.live.set(0, if clear { NEW } else { OLD });
    let canary = Canary { number: 2, dead: UnsafeCell::new(false) };
    // SAFETY: as above.
    let number = unsafe {
        let new = dispatch.prepare(&mut world.publisher, vec![2, 2, 2], canary);
        dispatch.publish(&mut world.publisher, new)
    };
    assert_eq!(number, 1, "a pause's generation has the number of that which ends it");
    paused.pause.end();
    reader.join().unwrap();
    world.end();
    // SAFETY: they are.
    unsafe { paused.end() };
}

pub(crate) fn frame_and_pause() {
    frame(Publisher::Right);
}

pub(crate) fn frame_and_hasty_pause() {
    frame(Publisher::Hasty);
}

/// A thread outside frames that finds its slot unbound, against a pause and the next one: it goes
/// on in what the first came to, or the second, and never in what is being copied.
pub(crate) fn outside_frames() {
    let paused = Paused::new();
    let caller = thread::spawn({
        let paused = paused.clone();
        move || {
            if let Some(target) = paused.outside() {
                let target = target.expect("the slot is unbound for a while only");
                assert_eq!(target, NEW, "somebody is inside that which is copied");
                paused.call(target);
            }
        }
    });
    paused.begin(1, 1, OLD, NEW);
    paused.live.set(0, STUB);
    paused.old.touch();
    paused.new.touch();
    paused.pause.decide();
    paused.live.set(0, NEW);
    paused.pause.end();
    caller.join().unwrap();
    // SAFETY: they are.
    unsafe { paused.end() };
}

/// A slot that no version has: who calls it is told so, whatever pauses begin and end, and does not
/// go to what is there for the children of those.
fn unbound(rechecks: bool, pauses: usize) {
    let paused = Paused::new();
    paused.live.set(0, STUB);
    let caller = thread::spawn({
        let paused = paused.clone();
        move || {
            let target = match rechecks {
                true => paused.pause.target(1, LIVE, 0, || STUB, |_| thread::yield_now()),
                false => {
                    paused.pause.target_without_looking_again(1, LIVE, 0, || STUB, |_| thread::yield_now())
                }
            };
            assert_eq!(target, None, "somebody is inside a version as only a child may be");
        }
    });
    for number in 1..=pauses {
        paused.begin(number, number, OLD, NEW);
        paused.pause.end();
    }
    caller.join().unwrap();
    // SAFETY: they are.
    unsafe { paused.end() };
}

pub(crate) fn unbound_for_good() {
    unbound(true, 1);
}

pub(crate) fn unbound_and_not_looked_again() {
    unbound(false, 1);
}

/// A child sees what was done before the decision, if it sees the decision: as whoever loads it.
pub(crate) fn decided() {
    let paused = Paused::new();
    paused.begin(1, 1, OLD, NEW);
    let child = thread::spawn({
        let paused = paused.clone();
        // Its word is 0.
        move || paused.call(paused.pause.target_in_child(1, 0).expect("it was there before the pause"))
    });
    paused.new.touch();
    paused.pause.decide();
    child.join().unwrap();
    // SAFETY: they are.
    unsafe { paused.end() };
}

#[test]
fn nobody_is_inside_by_a_frame_while_values_are_copied() {
    explore(None, frame_and_pause);
}

#[test]
fn who_waits_outside_frames_goes_on_in_what_is_new() {
    explore(None, outside_frames);
}

#[test]
fn an_unbound_slot_stays_unbound() {
    explore(None, unbound_for_good);
    // One pause and then another: without a bound it takes minutes.
    explore(Some(2), || unbound(true, 2));
}

#[test]
fn who_sees_the_decision_sees_what_was_decided_on() {
    explore(None, decided);
}

/// How many children were forked from each.
static FORKS: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];

/// A child has the parent's memory as it is between two steps of the publisher, and the word is 0.
/// Whatever it calls, in frames or outside, by two slots, is of one version.
fn forks(decides_first: bool) {
    /// Of the generation that the pause begins with.
    const TABLE: usize = 7;
    std::thread_local! {
        static PARENT: Cell<Option<&'static Parent>> = const { Cell::new(None) };
    }
    struct Parent {
        pause: Pause<2>,
        word: AtomicU32,
        live: LiveTable<2>,
        /// What frames that are opened now call by: a table, and what it has.
        current: Cell<(usize, [usize; 2])>,
    }
    fn child() {
        let Some(parent) = PARENT.get() else { return };
        let (table, entries) = parent.current.get();
        let mut found = Vec::new();
        for slot in 0..2 {
            let mut places = vec![(table, entries[slot]), (LIVE, parent.live.get(slot))];
            places.extend(parent.pause.is_table(TABLE).then_some((TABLE, STUB)));
            for (table, entry) in places {
                let target = match entry {
                    STUB => parent.pause.target_in_child(table, slot),
                    bound => Some(bound),
                };
                found.push(target.expect("it was bound before the pause, and is so after it"));
            }
        }
        FORKS[found[0]].fetch_add(1, SeqCst);
        assert!(found.iter().all(|target| *target == found[0]), "somebody is inside old and new: {found:?}");
    }
    interrupt_with(child);
    let parent: &'static Parent = Box::leak(Box::new(Parent {
        pause: Pause::new(),
        word: AtomicU32::new(0),
        live: LiveTable::new(),
        current: Cell::new((5, [OLD; 2])),
    }));
    let follow = |target| (0..2).for_each(|slot| parent.live.set(slot, target));
    PARENT.set(None);
    follow(OLD);
    PARENT.set(Some(parent));
    let (before, after) = ([(0, OLD), (1, OLD)], [(0, NEW), (1, NEW)]);
    let (wait, number) = (&parent.word, 1);
    let begin = Begin { wait, pauser: PAUSER, number, table: TABLE, before: &before, after: &after };
    parent.pause.begin(&begin);
    parent.current.set((TABLE, [STUB; 2]));
    follow(STUB);
    if decides_first {
        parent.pause.decide();
    }
    parent.current.set((9, [NEW; 2]));
    follow(NEW);
    if !decides_first {
        parent.pause.decide();
    }
    parent.pause.end();
    // One more step.
    parent.live.get(0);
    PARENT.set(None);
    // SAFETY: from Box::leak.
    drop(unsafe { Box::from_raw(std::ptr::from_ref(parent).cast_mut()) });
}

pub(crate) fn decided_too_late() {
    forks(false);
}

#[test]
fn a_child_is_in_all_of_the_old_or_all_of_the_new() {
    explore(None, || forks(true));
    // Before the decision and after it.
    assert!(FORKS[OLD].load(SeqCst) > 3 && FORKS[NEW].load(SeqCst) > 3);
}
