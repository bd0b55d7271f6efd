//! The city's world: every agent, street and price, owned by the host.
//!
//! The world is passed to each call, so a module has no state of its own that must outlast a call,
//! and nothing has to be carried over when it is replaced.

use std::mem::size_of;
use std::ops::Deref;

pub(crate) use crate::layout::{GRID, Slice, StepReport, World};

/// Districts of the map.
pub(crate) const DISTRICTS: usize = 16 * 16;
/// Cells of border around `load`, so that the modules' stencils need no special case at the edge.
const BORDER_ROWS: usize = 2;
const BORDER_COLUMNS: usize = 4;

// SAFETY: a `World` is a description of arrays, and only the modules follow its pointers. The
// schedule in systems.rs gives every element one writer between two barriers, and nobody else reads
// it meanwhile.
unsafe impl Send for World {}
// SAFETY: as above.
unsafe impl Sync for World {}

/// A world and the memory behind it.
pub(crate) struct City {
    world: World,
    memory: Memory,
}

impl City {
    /// A city of `agents`, for `lanes` worker threads. Equal arguments make equal cities, and the
    /// number of lanes has no part in what happens in it.
    pub(crate) fn new(agents: u32, lanes: u32) -> Self {
        let mut memory = Memory::default();
        let (n, cells, lane_count) = (agents as usize, GRID * GRID, lanes as usize);
        let stride = GRID + 2 * BORDER_COLUMNS;

        // One agent is made at a time, from a random sequence of its own; the arrays are then
        // filled from it.
        let person = |i: usize| Person::new(i as u64);
        let load = memory.array((GRID + 2 * BORDER_ROWS) * stride, |_| 0f32);

        let world = World {
            // SAFETY: the border is part of the array, so cell (0, 0) lies inside it.
            load: unsafe { load.add(BORDER_ROWS * stride + BORDER_COLUMNS) },
            density: memory.array(cells, |_| 0f32),
            limit: memory.array(cells, |_| 8f32),
            lanes,
            agents,
            // Streets jam at four times the mean number of agents in a cell.
            per_jam: cells as f32 / (4.0 * agents as f32),
            // An agent eats about every 10 s, which is 600 steps; supply is in 1/256 of a meal, and
            // 256 is also the number of districts.
            supply: (agents / 600).max(1) as i32,
            x: memory.array(n, |i| person(i).at.0),
            y: memory.array(n, |i| person(i).at.1),
            vx: memory.array(n, |_| 0f32),
            vy: memory.array(n, |_| 0f32),
            home: memory.array(n, |i| person(i).home),
            work: memory.array(n, |i| person(i).work),
            hunger: memory.array(n, |i| person(i).hunger),
            energy: memory.array(n, |i| person(i).energy),
            money: memory.array(n, |i| person(i).money),
            errand: memory.array(n, |i| person(i).errand),
            price: memory.array(DISTRICTS, |_| 400i32),
            stock: memory.array(DISTRICTS, |_| 0i32),
            treasury: memory.array(DISTRICTS, |_| 0i64),
            counts: memory.partials(lane_count * cells),
            demand: memory.partials(lane_count * DISTRICTS),
            tax: memory.partials(lane_count * DISTRICTS),
        };
        City { world, memory }
    }

    /// A hash of every bit of every array, in a fixed order. The lanes' partial sums are no part of
    /// it: they are empty between frames.
    pub(crate) fn checksum(&mut self) -> u64 {
        self.memory.checksum()
    }
}

impl Deref for City {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

/// Every array of a world, as raw memory: the modules write it through the pointers in [`World`],
/// so no Rust reference to it exists while they run.
#[derive(Default)]
struct Memory {
    /// What the checksum covers, in this order.
    state: Vec<*mut [u64]>,
    partials: Vec<*mut [u64]>,
}

// SAFETY: the pointers own their memory, as the boxes would that they were made from.
unsafe impl Send for Memory {}
// SAFETY: a shared `Memory` gives no access to what it owns.
unsafe impl Sync for Memory {}

impl Memory {
    /// A new array, touched throughout so that no page fault is left for the frames.
    fn array<T>(&mut self, len: usize, fill: impl Fn(usize) -> T) -> *mut T {
        let words = Box::into_raw(vec![0u64; (len * size_of::<T>()).div_ceil(8)].into_boxed_slice());
        let first = words.cast::<T>();
        for i in 0..len {
            // SAFETY: the array has room for `len` values of T, whose alignment is at most that of
            // a u64.
            unsafe { first.add(i).write(fill(i)) };
        }
        self.state.push(words);
        first
    }

    /// A zeroed array that the checksum leaves out.
    fn partials<T: Default>(&mut self, len: usize) -> *mut T {
        let first = self.array(len, |_| T::default());
        self.partials.extend(self.state.pop());
        first
    }

    fn checksum(&mut self) -> u64 {
        let mut hash = 0x9e37_79b9_7f4a_7c15u64;
        for &array in &self.state {
            // SAFETY: the array is ours, initialised throughout, and no frame runs while `self` is
            // borrowed.
            for &word in unsafe { &*array } {
                hash = (hash ^ word).wrapping_mul(0xd6e8_feb8_6659_fd93).rotate_left(29);
            }
        }
        hash
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        for array in self.state.drain(..).chain(self.partials.drain(..)) {
            // SAFETY: each pointer came from `Box::into_raw` and is given back once.
            drop(unsafe { Box::from_raw(array) });
        }
    }
}

/// One agent at the start of the day.
struct Person {
    at: (f32, f32),
    home: u32,
    work: u32,
    hunger: f32,
    energy: f32,
    money: i32,
    errand: u32,
}

impl Person {
    fn new(index: u64) -> Self {
        // SplitMix64 (Steele, Lea and Flood 2014), seeded by the agent's number.
        let mut seed = index.wrapping_mul(0xa076_1d64_78bd_642f);
        let mut random = move || {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = seed;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) as u32
        };
        let unit = |r: u32| (r >> 8) as f32 / (1 << 24) as f32;
        let place = |r: u32| unit(r) * (GRID as f32 - 1.0) + 0.5;

        let at = (place(random()), place(random()));
        let home = cell(at.0, at.1);
        // Work is downtown: the mean of four random places gathers around the middle of the map.
        let mut downtown = || (place(random()) + place(random()) + place(random()) + place(random())) / 4.0;
        let work = cell(downtown(), downtown());
        Person {
            at,
            home,
            work,
            hunger: unit(random()) * 0.5,
            energy: unit(random()),
            money: (random() % 10_000) as i32,
            errand: random() % 2,
        }
    }
}

fn cell(x: f32, y: f32) -> u32 {
    y as u32 * GRID as u32 + x as u32
}
