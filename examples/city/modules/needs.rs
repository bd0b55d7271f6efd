//! Needs: how hungry and how rested an agent is, and so whether it heads for home or for work. The
//! three versions are three ideas of how people tire.
//!
//! Rust with its standard library. What moving costs each agent is worked out first, into a buffer
//! that every thread keeps from call to call, and that is freed when the thread ends or this
//! version goes.

#[allow(dead_code, reason = "the other systems' arrays")]
mod layout;

use std::cell::RefCell;
use std::slice;

use layout::{GRID, Slice, StepReport, World};

/// 1, 2 or 3: set when this is compiled.
const VERSION: u32 = (env!("VERSION").as_bytes()[0] - b'0') as u32;
const _: () = assert!(1 <= VERSION && VERSION <= 3);

/// One fixed step of the simulation, in seconds.
const DT: f32 = 1.0 / 60.0;
/// Of a full stomach, per second.
const HUNGER: f32 = 0.05;
/// Energy spent per second and unit of speed squared.
const EFFORT: f32 = 0.004;
/// 20 seconds.
const DAY: u32 = 1200;

/// Where an agent is heading.
const HOME: u32 = 0;
const WORK: u32 = 1;

thread_local! {
    static EFFORTS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Hunger and energy after a step.
fn tire(hunger: f32, energy: f32, effort: f32, resting: bool, light: f32) -> (f32, f32) {
    let (appetite, gain) = match VERSION {
        // Steady: both change at a constant rate.
        1 => (1.0, if resting { 0.20 } else { -0.02 - effort }),
        // Saturating: the hungry get hungrier slowly, and the last of the energy goes slowest.
        2 => (1.5 * (1.0 - hunger), if resting { 0.35 * (1.0 - energy) } else { -(0.04 + effort) * energy }),
        // Day and night: the hour decides how much rest is worth.
        _ => {
            let dark = 1.0 - light;
            (0.5 + light, if resting { 0.30 * dark + 0.05 } else { -0.05 * dark - effort })
        }
    };
    let within = |value: f32| value.clamp(0.0, 1.0);
    (within(hunger + HUNGER * appetite * DT), within(energy + gain * DT))
}

/// How light it is, from 0 to 1: a triangle wave.
fn light(tick: u32) -> f32 {
    (tick % DAY).abs_diff(DAY / 2) as f32 / (DAY / 2) as f32
}

fn cell_at(x: f32, y: f32) -> u32 {
    y as i32 as u32 * GRID as u32 + x as i32 as u32
}

/// # Safety
///
/// The slice lies within the world's agents, whose arrays nobody else changes there meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn step(slice: &Slice, world: &World, report: &mut StepReport) {
    report.version = VERSION;
    let (first, count) = (slice.first as usize, (slice.end - slice.first) as usize);
    // SAFETY: the caller promises arrays of this length; no two of them overlap.
    let (x, y, vx, vy, home, hunger, energy, errand) = unsafe {
        let real = |array: *mut f32| slice::from_raw_parts(array.add(first), count);
        (
            real(world.x),
            real(world.y),
            real(world.vx),
            real(world.vy),
            slice::from_raw_parts(world.home.add(first), count),
            slice::from_raw_parts_mut(world.hunger.add(first), count),
            slice::from_raw_parts_mut(world.energy.add(first), count),
            slice::from_raw_parts_mut(world.errand.add(first), count),
        )
    };
    let light = light(slice.tick);
    EFFORTS.with_borrow_mut(|efforts| {
        efforts.clear();
        efforts.extend(vx.iter().zip(vy).map(|(vx, vy)| EFFORT * (vx * vx + vy * vy)));
        let efforts = &efforts[..count];
        // No agent's needs depend on another's, so the compiler makes vector code of this.
        for i in 0..count {
            let resting = (errand[i] == HOME) & (cell_at(x[i], y[i]) == home[i]);
            (hunger[i], energy[i]) = tire(hunger[i], energy[i], efforts[i], resting, light);
            // Between the two thresholds an agent keeps to what it was doing.
            let rested = if energy[i] > 0.9 { WORK } else { errand[i] };
            errand[i] = if energy[i] < 0.2 { HOME } else { rested };
        }
    });
}
