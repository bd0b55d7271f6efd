//! A thread that is asked by a signal, and is given up, and asked anew.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use midflight_dispatch::Part;

/// A pass: what it is to be asked, and the one answer.
struct Pass {
    number: usize,
    question: UnsafeCell<usize>,
    answer: UnsafeCell<usize>,
}

// SAFETY: one thread asks, one answers; loom checks that the accesses never race.
unsafe impl Sync for Pass {}
// SAFETY: numbers.
unsafe impl Send for Pass {}

impl Pass {
    fn new(number: usize) -> Self {
        Self { number, question: UnsafeCell::new(0), answer: UnsafeCell::new(0) }
    }
}

type Claim = fn(&Part<Pass>, usize) -> Option<*mut Pass>;

/// The first pass is given up at any time; the second asks the same thread, whose signal for the
/// first may come only now.
fn two_passes(claim: Claim) {
    let part = Arc::new(Part::<Pass>::new());
    // The kernel's queue of signals, which is under a lock.
    let sent = Arc::new(AtomicUsize::new(1));
    let passes = Arc::new([Pass::new(1), Pass::new(2)]);
    let place = |number: usize| (&raw const passes[number - 1]).cast_mut();
    let ask = |number: usize| {
        // SAFETY: nobody else has the pass yet.
        passes[number - 1].question.with_mut(|question| unsafe { *question = number });
        part.ask(number, place(number));
    };
    ask(1);
    let asked = thread::spawn({
        let (part, passes, sent) = (part.clone(), passes.clone(), sent.clone());
        move || {
            for number in [1, 2] {
                if sent.load(Ordering::Acquire) < number {
                    break;
                }
                let Some(pass) = claim(&part, number) else { continue };
                // SAFETY: kept by `passes`.
                let pass = unsafe { &*pass };
                assert_eq!(pass.number, number, "somebody is inside a pass of which he has no part");
                // SAFETY: see above.
                let question = pass.question.with(|question| unsafe { *question });
                // SAFETY: as above.
                pass.answer.with_mut(|answer| unsafe { *answer = question });
                part.answered(number);
            }
            drop(passes);
        }
    });
    for number in [1, 2] {
        if number == 2 {
            ask(2);
            sent.store(2, Ordering::Release);
        }
        if !part.give_up(number) {
            match part.has_answered(number) {
                // SAFETY: the thread has answered.
                true => passes[number - 1].answer.with(|answer| assert_eq!(unsafe { *answer }, number)),
                false => part.leave_behind(number),
            }
        }
    }
    asked.join().unwrap();
}

pub(crate) fn claimed() {
    two_passes(Part::claim);
}

pub(crate) fn claimed_first() {
    two_passes(Part::claim_first);
}

#[test]
fn a_thread_answers_in_the_pass_that_asked() {
    loom::model(claimed);
}
