//! The protocol with one thing wrong: a model must notice, else it proves nothing about that thing.

use loom::sync::atomic::{Ordering, fence};
use midflight_dispatch::Barrier;
use midflight_dispatch::weaken::{Step, weaken};

use super::*;

/// A barrier that lacks its light half: the pin's store may be seen after its load.
struct NoLightHalf;

// SAFETY: false on purpose.
unsafe impl Barrier for NoLightHalf {
    fn light(&self) {}

    fn heavy(&self) -> bool {
        fence(Ordering::SeqCst);
        true
    }
}

/// A barrier that lacks its heavy half: the publisher may read the hazards before its swap is seen.
struct NoHeavyHalf;

// SAFETY: false on purpose.
unsafe impl Barrier for NoHeavyHalf {
    fn light(&self) {
        fence(Ordering::SeqCst);
    }

    fn heavy(&self) -> bool {
        true
    }
}

/// Acquire-release fences in place of SeqCst ones: they order everything but a store before a later
/// load.
struct AcqRelFences;

// SAFETY: false on purpose.
unsafe impl Barrier for AcqRelFences {
    fn light(&self) {
        fence(Ordering::AcqRel);
    }

    fn heavy(&self) -> bool {
        fence(Ordering::AcqRel);
        true
    }
}

/// That the model fails, and because of memory: a race, or something freed that is in use.
fn caught(name: &str, prepare: impl FnOnce() + Send + 'static, model: fn()) -> bool {
    let explored = std::thread::spawn(move || {
        prepare();
        explore(None, model);
    });
    let Err(panic) = explored.join() else { return false };
    let said = panic.downcast_ref::<String>().map(String::as_str);
    let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
    let of_memory = ["Causality violation", "somebody is inside", "its generation's", "same generation"];
    assert!(of_memory.iter().any(|expected| said.contains(expected)), "{name}: {said}");
    true
}

/// R4 and P1 are looked at where the pin has no fence: a SeqCst fence after the guess makes up for
/// either.
#[test]
fn every_weakened_ordering_is_caught() {
    use Ordering::{Acquire, Relaxed};
    let one_pin = || frames::pin(SeqCstFences, 1);
    let two_pins = || frames::pin(SeqCstFences, 2);
    let table: [(Step, Ordering, fn()); 26] = [
        (Step::R1, Relaxed, two_pins),
        (Step::R4, Relaxed, membarrier::pin_with_membarrier),
        (Step::J1, Relaxed, frames::join_after_a_pin),
        (Step::X1, Relaxed, one_pin),
        (Step::S2, Relaxed, frames::join_and_work),
        (Step::P1, Relaxed, membarrier::pin_with_membarrier),
        (Step::P1, Acquire, membarrier::pin_with_membarrier),
        (Step::P3, Relaxed, one_pin),
        (Step::P4, Relaxed, frames::join_and_work),
        (Step::T1, Relaxed, one_pin),
        (Step::T2, Relaxed, one_pin),
        (Step::T3, Relaxed, threads::birth_and_death),
        (Step::T4, Relaxed, threads::birth_and_death),
        (Step::L1, Relaxed, live::set_and_get),
        (Step::L2, Relaxed, live::set_and_get),
        (Step::E1, Relaxed, epoch::advance_and_catch_up),
        (Step::E2, Relaxed, epoch::advance_and_catch_up),
        (Step::A1, Relaxed, part::claimed),
        (Step::A2, Relaxed, part::claimed),
        (Step::X1, Relaxed, frames::jump_out),
        (Step::W2, Relaxed, pause::unbound_for_good),
        (Step::W5, Relaxed, pause::unbound_for_good),
        (Step::W3, Relaxed, pause::decided),
        (Step::W7, Relaxed, pause::decided),
        (Step::W4, Relaxed, pause::frame_and_pause),
        (Step::W6, Relaxed, pause::frame_and_pause),
    ];
    let missed: Vec<_> = table
        .into_iter()
        .filter(|&(step, ordering, model)| {
            !caught(&format!("{step:?}"), move || weaken(step, ordering), model)
        })
        .map(|(step, ordering, ..)| (step, ordering))
        .collect();
    assert_eq!(missed, [], "weakened and not noticed");
}

/// A thread that is kept between taking its part and learning of which pass joins another.
#[test]
fn a_part_that_is_taken_before_its_pass_is_known_is_caught() {
    assert!(caught("taken first", || (), part::claimed_first));
}

#[test]
fn every_broken_barrier_is_caught() {
    let table: [(&str, fn()); 5] = [
        ("no light half", || frames::pin(NoLightHalf, 1)),
        ("no heavy half", || frames::pin(NoHeavyHalf, 1)),
        ("acquire-release fences", || frames::pin(AcqRelFences, 1)),
        ("a publisher that does not wait for the core", membarrier::pin_with_a_hasty_publisher),
        ("no synchronisation of cores", membarrier::call_without_synchronised_cores),
    ];
    for (name, model) in table {
        assert!(caught(name, || (), model), "{name}: not noticed");
    }
}

/// Collects with P4 before P3.
fn counts_first() {
    frames::join(|world| {
        // SAFETY: false on purpose.
        let free = unsafe { world.dispatch.collect_counts_first(&mut world.publisher) };
        world.bury(free);
    });
}

fn join_without_a_count() {
    frames::join_when_the_opener_has_left(|dispatch, share| {
        let thread = register(dispatch);
        // SAFETY: false on purpose.
        let joined = unsafe { dispatch.join_uncounted(&thread, &share) };
        drop(share);
        inspect(&joined);
        drop(joined);
        release(thread);
    });
}

fn record_given_up_under_a_pin() {
    // SAFETY: false on purpose.
    threads::exit_under_a_pin(|thread| unsafe { thread.release_under_pin() });
}

#[test]
fn every_step_out_of_place_is_caught() {
    let table: [(&str, fn()); 10] = [
        ("a home that is noted late", homes::noted_late),
        ("a home that is asked for early", homes::asked_early),
        ("a home that is asked for once", homes::asked_once),
        ("a home whose changes are not counted", homes::not_counted),
        ("a decision after the publication", pause::decided_too_late),
        ("a pause that copies before all have left", pause::frame_and_hasty_pause),
        ("one look at whether this is a child", pause::unbound_and_not_looked_again),
        ("counts read before hazards", counts_first),
        ("a join without a count", join_without_a_count),
        ("a record given up under a pin", record_given_up_under_a_pin),
    ];
    for (name, model) in table {
        assert!(caught(name, || (), model), "{name}: not noticed");
    }
}
