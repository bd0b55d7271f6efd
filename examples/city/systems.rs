//! The city's four systems, and the schedule of a frame.
//!
//! A frame has three stages with a barrier after each:
//!
//! | stage     | work                                      | reads what others wrote              |
//! |-----------|-------------------------------------------|--------------------------------------|
//! | agents    | needs, movement and trade, agent by agent | last frame's speed limits and prices |
//! | districts | gather by row, settle by district         | the lanes' partial sums              |
//! | streets   | spread by row                             | the neighbouring rows' load          |
//!
//! Within a stage every element has one writer, and sums over the lanes are sums of integers, so
//! the result does not depend on who does what. Work is handed out in chunks: each lane starts with
//! a chunk of its own, so that it runs every system in every frame, and then takes what is left.
//! While a lane is without a core (the reloader may have it), the others do its share, and only the
//! chunk in its hands waits.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::crew::Barrier;
use crate::world::{DISTRICTS, GRID, Slice, StepReport, World};

// All of them are unsafe for the same reason: they follow the world's pointers, and write what is
// the slice's. So no two may run at the same time for slices that overlap, and what one reads must
// be there.

midflight::module! {
    /// Moves the agents and counts them by cell (C).
    pub mod movement {
        pub unsafe fn step(slice: &Slice, world: &World, report: &mut StepReport);
    }
}
midflight::module! {
    /// Turns the counts into density and speed limits (assembly).
    pub mod traffic {
        pub unsafe fn gather(slice: &Slice, world: &World, report: &mut StepReport);
        pub unsafe fn spread(slice: &Slice, world: &World, report: &mut StepReport);
    }
}
midflight::module! {
    /// Wages, meals, taxes and prices (C++, with exceptions).
    pub mod economy {
        pub unsafe fn trade(slice: &Slice, world: &World, report: &mut StepReport);
        pub unsafe fn settle(slice: &Slice, world: &World, report: &mut StepReport);
    }
}
midflight::module! {
    /// Hunger, energy, and where they send an agent (Rust).
    pub mod needs {
        pub unsafe fn step(slice: &Slice, world: &World, report: &mut StepReport);
    }
}

/// The systems by name, in the order in which the tables of this program hold them.
pub(crate) const SYSTEMS: [&str; 4] = ["movement", "traffic", "economy", "needs"];
/// Versions that each system comes in, counted from 1.
pub(crate) const VERSIONS: usize = 3;

/// One version of each system, in the order of [`SYSTEMS`].
pub(crate) type VersionSet = [u8; SYSTEMS.len()];

/// The calls that make up a frame.
#[derive(Clone, Copy)]
pub(crate) enum Call {
    Move,
    Gather,
    Spread,
    Trade,
    Settle,
    Need,
}

impl Call {
    pub(crate) const ALL: [Call; 6] =
        [Call::Move, Call::Gather, Call::Spread, Call::Trade, Call::Settle, Call::Need];

    /// The system that serves the call, as an index into [`SYSTEMS`], and its function's name.
    pub(crate) fn target(self) -> (usize, &'static str) {
        match self {
            Call::Move => (0, "step"),
            Call::Gather => (1, "gather"),
            Call::Spread => (1, "spread"),
            Call::Trade => (2, "trade"),
            Call::Settle => (2, "settle"),
            Call::Need => (3, "step"),
        }
    }
}

/// What one lane ran in one frame: the generation it was in, and for each call the version that the
/// code itself reported. Zero where nothing ran, [`Ran::MIXED`] where two chunks met different
/// versions.
#[derive(Clone, Copy, Default, PartialEq)]
pub(crate) struct Ran {
    pub(crate) generation: u64,
    versions: [u8; Call::ALL.len()],
}

impl Ran {
    const MIXED: u8 = u8::MAX;

    fn note(&mut self, call: Call, version: u32) {
        let version = u8::try_from(version).unwrap_or(Self::MIXED);
        let seen = &mut self.versions[call as usize];
        *seen = if *seen == 0 || *seen == version { version } else { Self::MIXED };
    }

    /// The version of each system, if all calls of one system met the same.
    pub(crate) fn set(&self) -> Option<VersionSet> {
        let mut set = VersionSet::default();
        for call in Call::ALL {
            let (version, system) = (self.versions[call as usize], call.target().0);
            let known = (1..=VERSIONS as u8).contains(&version);
            if !known || (set[system] != 0 && set[system] != version) {
                return None;
            }
            set[system] = version;
        }
        Some(set)
    }
}

/// How a frame's work is shared among the lanes.
pub(crate) struct Schedule {
    lanes: u32,
    /// Next chunk of each kind of work, for whoever asks first.
    next: [AtomicU32; 4],
    barrier: Barrier,
}

impl Schedule {
    pub(crate) fn new(lanes: u32) -> Self {
        Schedule { lanes, next: Default::default(), barrier: Barrier::new(lanes) }
    }

    /// Makes ready for a frame: the first chunks belong to the lanes.
    pub(crate) fn reset(&self) {
        for next in &self.next {
            // Relaxed: the crew's gate, which the lanes pass after this, orders it.
            next.store(self.lanes, Relaxed);
        }
    }

    /// Runs one lane's part of a frame. `call` makes a call into the module that serves it.
    pub(crate) fn run(
        &self,
        lane: u32,
        tick: u32,
        world: &World,
        call: impl Fn(Call, &Slice, &World, &mut StepReport),
    ) -> Ran {
        let mut ran = Ran::default();
        let mut run = |calls: &[Call], Range { start: first, end }: Range<u32>| {
            for &which in calls {
                let mut report = StepReport::default();
                call(which, &Slice { first, end, lane, tick }, world, &mut report);
                ran.note(which, report.version);
            }
        };

        self.chunks(0, lane, world.agents, |range| run(&[Call::Need, Call::Move, Call::Trade], range));
        self.barrier.wait();
        self.chunks(1, lane, GRID as u32, |range| run(&[Call::Gather], range));
        self.chunks(2, lane, DISTRICTS as u32, |range| run(&[Call::Settle], range));
        self.barrier.wait();
        self.chunks(3, lane, GRID as u32, |range| run(&[Call::Spread], range));
        self.barrier.wait();
        ran
    }

    fn chunks(&self, work: usize, lane: u32, total: u32, mut run: impl FnMut(Range<u32>)) {
        // About 32 chunks a lane, 4 where there is little to share out.
        let share = total / self.lanes;
        let size = (share / if share > 1024 { 32 } else { 4 }).max(1);
        let mut chunk = lane;
        while let Some(first) = chunk.checked_mul(size).filter(|&first| first < total) {
            run(first..total.min(first.saturating_add(size)));
            // Relaxed: it only has to be unique; the barriers order the work itself.
            chunk = self.next[work].fetch_add(1, Relaxed);
        }
    }
}
