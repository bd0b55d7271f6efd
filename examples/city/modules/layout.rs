//! The structures of `city.h` in Rust, for the host and for modules in Rust. The assertions at the
//! end hold the two files together.

use std::mem::{offset_of, size_of};

/// Cells along one side of the map.
pub(crate) const GRID: usize = 256;

/// A share of one system's work, and the lane (worker thread) that does it.
#[repr(C)]
pub(crate) struct Slice {
    pub(crate) first: u32,
    pub(crate) end: u32,
    pub(crate) lane: u32,
    pub(crate) tick: u32,
}

/// Where a module writes its version: the constant that its own code carries.
#[repr(C)]
#[derive(Default)]
pub(crate) struct StepReport {
    pub(crate) version: u32,
}

/// The arrays as the modules see them; `city.h` says what each one holds.
#[repr(C)]
pub(crate) struct World {
    pub(crate) counts: *mut u32,
    pub(crate) load: *mut f32,
    pub(crate) density: *mut f32,
    pub(crate) limit: *mut f32,
    pub(crate) lanes: u32,
    pub(crate) agents: u32,
    pub(crate) per_jam: f32,
    pub(crate) supply: i32,

    pub(crate) x: *mut f32,
    pub(crate) y: *mut f32,
    pub(crate) vx: *mut f32,
    pub(crate) vy: *mut f32,
    pub(crate) home: *mut u32,
    pub(crate) work: *mut u32,
    pub(crate) hunger: *mut f32,
    pub(crate) energy: *mut f32,
    pub(crate) money: *mut i32,
    pub(crate) errand: *mut u32,

    pub(crate) demand: *mut i32,
    pub(crate) tax: *mut i32,
    pub(crate) price: *mut i32,
    pub(crate) stock: *mut i32,
    pub(crate) treasury: *mut i64,
}

// The offsets that city.h gives to assembly, and the whole size as a check on the rest.
const _: () = {
    assert!(offset_of!(Slice, first) == 0 && offset_of!(Slice, end) == 4 && size_of::<Slice>() == 16);
    assert!(offset_of!(StepReport, version) == 0);
    assert!(offset_of!(World, counts) == 0 && offset_of!(World, load) == 8);
    assert!(offset_of!(World, density) == 16 && offset_of!(World, limit) == 24);
    assert!(offset_of!(World, lanes) == 32 && offset_of!(World, per_jam) == 40);
    assert!(offset_of!(World, x) == 48 && size_of::<World>() == 168);
};
