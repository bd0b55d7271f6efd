//! Threads that wait for a word: not here yet, as `asm/aarch64/unbound_macos.s` does not.

use std::sync::atomic::AtomicU32;

/// Whether it waits here.
pub(crate) const IS_POSSIBLE: bool = false;

/// Wakes all that wait for a word: nobody does.
pub(crate) fn wake_all(_: &AtomicU32) {}
