//! Having the calls of modules wait, while what they would work with is carried over.
//!
//! A pause begins with a generation in which the modules' slots are unbound. Where an unbound
//! slot's stub ends (asm/*/unbound.s), a thread waits until the pause is over. So whoever opens a
//! frame meanwhile, or calls outside of frames, comes to none of the versions; and who was inside
//! before leaves in his own time. docs/dispatch.md has the argument ("Pauses"), and
//! `midflight_dispatch::Pause` the words.
//!
//! A publisher has one pause at a time, and none while a frame of the last one's generation is
//! open.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;

use midflight_dispatch::{Begin, Pause};

use crate::call::home::Change;
use crate::call::live::MAX_SLOTS;
use crate::platform::os::{thread, wait};

pub(crate) static PAUSE: Pause<MAX_SLOTS> = Pause::new();

/// Whether calls can be had to wait on this system.
pub(crate) const IS_POSSIBLE: bool = wait::IS_POSSIBLE;

/// The word that threads wait for. Made for the first pause, and there for ever.
static WORD: OnceLock<&'static AtomicU32> = OnceLock::new();

/// Makes what the first pause needs.
pub(crate) fn prepare() -> std::io::Result<()> {
    if WORD.get().is_none() {
        // Behind the runtime's lock: nobody else makes one.
        let _ = WORD.set(wait::word()?);
    }
    Ok(())
}

/// From now on threads that come to an unbound slot wait, but for this one. `number`: of no earlier
/// pause. `table`: of the generation that is about to be published. `before` and `after`: what is
/// behind the slots now, and what will be if all goes well.
pub(crate) fn begin(number: u64, table: usize, before: &[Change], after: &[Change]) {
    let wait = WORD.get().expect("prepared");
    PAUSE.begin(&Begin { wait, pauser: this_thread(), number: number as usize, table, before, after });
}

/// Has all go on that wait. No slot is unbound for the pause any more, but in its own generation.
pub(crate) fn end() {
    PAUSE.end();
    if let Some(word) = WORD.get() {
        wait::wake_all(word);
    }
}

/// Whether a pause of another thread's is under way.
pub(crate) fn is_under_way() -> bool {
    PAUSE.waits().is_some() && !PAUSE.is_pauser(this_thread())
}

/// Waits until no pause of another thread's is under way: for what would begin to run code of
/// modules without a call through a slot, or has to know what the pause ends with.
pub(crate) fn wait_until_over() {
    while let Some(word) = PAUSE.waits().filter(|_| !PAUSE.is_pauser(this_thread())) {
        wait::wait(word);
    }
}

fn this_thread() -> usize {
    thread::block().addr().get()
}
