//! The worker threads: a crew that runs one job at a time, all hands together.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::{hint, thread};

/// A barrier that spins for a moment before it parks.
///
/// The lanes of a frame arrive within microseconds of each other, sooner than a parked thread
/// wakes. But a lane may have lost its core, and then the others must give theirs up rather than
/// spin for it.
pub(crate) struct Barrier {
    members: u32,
    arrived: AtomicU32,
    round: AtomicU32,
    lock: Mutex<()>,
    opened: Condvar,
}

impl Barrier {
    /// Some 10 us: a parked thread takes several times as long to wake.
    const SPINS: u32 = 500;

    pub(crate) fn new(members: u32) -> Self {
        Barrier {
            members,
            arrived: AtomicU32::new(0),
            round: AtomicU32::new(0),
            lock: Mutex::new(()),
            opened: Condvar::new(),
        }
    }

    /// Waits until all members are here. What any of them did before is visible to all of them
    /// after.
    pub(crate) fn wait(&self) {
        // Read before arriving: the round cannot end without us.
        let round = self.round.load(Ordering::Relaxed);
        // AcqRel: each arrival passes on what the earlier ones wrote, so that the last has all of
        // it.
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.members {
            self.arrived.store(0, Ordering::Relaxed);
            // Under the lock, so that no member can miss it between its last look and its wait.
            // Release: pairs with the Acquire loads in `waiting`, and carries the reset of
            // `arrived` too.
            let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
            self.round.store(round.wrapping_add(1), Ordering::Release);
            drop(guard);
            self.opened.notify_all();
            return;
        }
        let waiting = || self.round.load(Ordering::Acquire) == round;
        for _ in 0..Self::SPINS {
            if !waiting() {
                return;
            }
            hint::spin_loop();
        }
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while waiting() {
            guard = self.opened.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Keeps the calling thread on a core of its lane's own, where there are enough cores.
///
/// As engines do with their frame threads. Otherwise, whenever another thread wakes on a lane's
/// core, the scheduler may put that lane behind another one for a time slice: frames of twice the
/// length, measured at 6 in 600.
fn settle(lane: u32, lanes: u32) {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    if cores.len() >= lanes as usize {
        // A system that does not let us is merely noisier.
        core_affinity::set_for_current(cores[lane as usize]);
    }
}

/// A crew at work. The caller of [`Crew::run`] is lane 0; the other lanes are threads.
pub(crate) struct Crew<'a, J> {
    gate: &'a Barrier,
    job: &'a Mutex<Option<J>>,
    work: &'a (dyn Fn(u32, &J) + Sync),
}

impl<J: Clone> Crew<'_, J> {
    /// Runs `job` on every lane, and returns when the last one is done.
    pub(crate) fn run(&self, job: J) {
        *lock(self.job) = Some(job.clone());
        self.gate.wait();
        (self.work)(0, &job);
        self.gate.wait();
    }
}

/// Hires threads for all lanes but the caller's own, lets `lead` give them jobs, and sends them
/// home.
///
/// A lane that panics would leave the rest at a barrier for ever; so `main` makes a panic end the
/// process.
pub(crate) fn with_crew<J: Clone + Send, R>(
    lanes: u32,
    work: impl Fn(u32, &J) + Sync,
    lead: impl FnOnce(&Crew<'_, J>) -> R,
) -> R {
    let (gate, job) = (Barrier::new(lanes), Mutex::new(None));
    thread::scope(|scope| {
        for lane in 1..lanes {
            let (gate, job, work) = (&gate, &job, &work);
            let body = move || {
                settle(lane, lanes);
                loop {
                    gate.wait();
                    // Cloned out of the lock, so that the lanes work side by side.
                    let Some(job) = lock(job).clone() else { break };
                    work(lane, &job);
                    drop(job);
                    gate.wait();
                }
            };
            thread::Builder::new()
                .name(format!("lane {lane}"))
                .spawn_scoped(scope, body)
                .expect("the system has a thread for every lane");
        }
        // After the others were made: a thread inherits its maker's cores.
        settle(0, lanes);
        let result = lead(&Crew { gate: &gate, job: &job, work: &work });
        *lock(&job) = None;
        gate.wait();
        result
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
