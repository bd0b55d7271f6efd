//! What becomes of ordinary variables: the choice of a reload, and the one for all others.

use std::ffi::c_int;
use std::sync::atomic::{AtomicI32, Ordering};

use midflight::Carry;

use super::Given;
use crate::errors::{Failure, Outcome, guarded};
use crate::gate::Call;

/// A `hot_reload_carry_t`: the choice of reloads that have none of their own. Relaxed: a reload
/// takes it as it finds it.
static DEFAULT: AtomicI32 = AtomicI32::new(NOTHING);

const NOTHING: i32 = 1;

/// `hot_reload_carry_t`. None: the default.
pub(super) fn read(carry: i32, what: &str) -> Outcome<Option<Carry>> {
    match carry {
        0 => Ok(None),
        NOTHING => Ok(Some(Carry::Nothing)),
        2 => Ok(Some(Carry::Possible)),
        3 => Ok(Some(Carry::All)),
        none => Err(Failure::argument(format!("{what} is {none}, which is none of hot_reload_carry_t"))),
    }
}

/// The choice of reloads that have none of their own.
pub(crate) fn default() -> Carry {
    // What is stored was read once.
    read(DEFAULT.load(Ordering::Relaxed), "carry").ok().flatten().unwrap_or_default()
}

/// The choice of a reload of these modules.
pub(super) fn of(modules: &[Given]) -> Outcome<Carry> {
    let chosen = modules.iter().enumerate().find_map(|(at, given)| Some((at, given.carry?)));
    let Some((first, chosen)) = chosen else { return Ok(default()) };
    let other = modules.iter().position(|given| given.carry.is_some_and(|carry| carry != chosen));
    match other {
        None => Ok(chosen),
        Some(other) => Err(Failure::argument(format!(
            "sources[{first}] and sources[{other}] ask for different things in carry: one choice holds for all that is \
             loaded together; leave it 0 in the others, or load them one after the other"
        ))),
    }
}

/// `hot_reload_set_carry()`.
#[unsafe(no_mangle)]
pub extern "C" fn hot_reload_set_carry(carry: i32) -> c_int {
    guarded(|| {
        let _call = Call::begin()?;
        let chosen = read(carry, "carry")?;
        DEFAULT.store(if chosen.is_some() { carry } else { NOTHING }, Ordering::Relaxed);
        Ok(())
    })
}
