//! Threads as reports name them.

use std::fmt;

use crate::platform::os::stop;

/// A thread of the process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Thread {
    pub(crate) id: i32,
    pub(crate) name: String,
}

impl Thread {
    pub(crate) fn new(id: i32) -> Self {
        Self { id, name: stop::name(id) }
    }
}

impl fmt::Display for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thread {} `{}`", self.id, self.name)
    }
}

/// A thread that holds a generation which was replaced, and what only that has: it is inside a
/// frame.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Holder {
    /// The thread: the kernel's number and the name that it was given.
    pub thread: String,
    /// The generation.
    pub generation: u64,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is in generation {}", self.thread, self.generation)
    }
}

/// Whether a user-mode emulator runs the tests: then it has a thread of its own among ours, which
/// blocks all signals, and things take longer.
#[cfg(test)]
pub(crate) fn is_emulated() -> bool {
    std::env::var("MIDFLIGHT_TEST_RUNNER").is_ok_and(|runner| runner.contains("qemu"))
}
