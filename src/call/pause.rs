//! Having the calls of modules wait, while what they would work with is carried over.
//!
//! A pause begins with a generation in which the modules' slots are unbound. Where an unbound
//! slot's stub ends (asm/*/unbound.s), a thread waits until the pause is over. So whoever opens a frame
//! meanwhile, or calls outside of frames, comes to none of the versions; and who was inside before
//! leaves in his own time. When the pause is over, threads outside of frames go on to what the live
//! table has. A frame of the pause's own generation goes on to [`FORWARD`], for as long as it is
//! open: so it has one version of each module as all others have.
//!
//! A publisher has one pause at a time, and none while a frame of the last one's generation is
//! open.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use midflight_dispatch::LiveTable;

use crate::call::home::Change;
use crate::call::live::MAX_SLOTS;
use crate::platform::os::wait;

/// 1 while calls wait. Release, where it is written; partner of the acquire and of the barrier in
/// asm/*/unbound.s: who sees it open sees the tables as they were written before that.
pub(crate) static PAUSE: AtomicU32 = AtomicU32::new(0);

/// The table of the generation that the last pause began with, if a frame may be in it. Relaxed:
/// written before the pause ends, or when no frame has that table.
pub(crate) static PAUSED: AtomicUsize = AtomicUsize::new(0);

/// What is behind the slots for the frames of that generation.
pub(crate) static FORWARD: LiveTable<MAX_SLOTS> = LiveTable::new();

/// Whether calls can be had to wait on this system.
pub(crate) const IS_POSSIBLE: bool = wait::IS_POSSIBLE;

/// From now on threads that come to an unbound slot wait.
pub(crate) fn begin() {
    // Release: before any slot is unbound for the pause, which is published with a release as well.
    PAUSE.store(1, Ordering::Release);
}

/// Has all go on: those in frames of the pause's generation, whose table this is, to `targets`.
pub(crate) fn end(table: usize, targets: &[Change]) {
    for &(slot, target) in targets {
        FORWARD.set(slot as usize, target);
    }
    PAUSED.store(table, Ordering::Relaxed);
    // Release: see `PAUSE`.
    PAUSE.store(0, Ordering::Release);
    wait::wake_all(&PAUSE);
}

/// No frame is in the pause's generation any more.
pub(crate) fn forget() {
    PAUSED.store(0, Ordering::Relaxed);
}
