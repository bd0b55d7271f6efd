//! Threads that wait for a word: not here yet, as `asm/aarch64/unbound_macos.s` does not.

use std::io;
use std::sync::atomic::AtomicU32;

/// Whether it waits here.
pub(crate) const IS_POSSIBLE: bool = false;

/// See the other systems: here is none.
pub(crate) fn word() -> io::Result<&'static AtomicU32> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Waits while a word is 1: nobody makes it so.
pub(crate) fn wait(_: &AtomicU32) {}

/// Wakes all that wait for a word: nobody does.
pub(crate) fn wake_all(_: &AtomicU32) {}
