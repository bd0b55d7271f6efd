//! What stopping threads is about, on every system.

use std::ops::Range;
use std::time::Duration;

/// How many threads are stopped at once.
pub(crate) const BATCH: usize = 256;

/// Where the state of a thread is that does not run.
#[derive(Clone)]
pub(crate) struct Stopped {
    /// Memory that has its registers.
    pub(crate) registers: Range<usize>,
    pub(crate) stack_pointer: usize,
    /// So many bytes below the stack pointer are in use as well.
    pub(crate) red_zone: usize,
    pub(crate) thread_pointer: usize,
    /// The thread was in a handler on its alternate stack: the frames that this interrupted are on another.
    pub(crate) in_handler: bool,
}

/// What threads do while they are stopped.
pub(crate) trait Look: Send + Sync + 'static {
    /// Called on the thread that is stopped, the `index`-th of those asked for. Must be async-signal-safe, and need little stack.
    fn look(&self, index: usize, thread: &Stopped);
}

/// What came of stopping a thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// It was stopped for so long, and looked.
    Looked(Duration),
    /// It is over.
    Gone,
    /// It runs no code of the process: [`Condition::NoCode`].
    NoCode,
    /// It could not be sent the signal: too many are pending (RLIMIT_SIGPENDING).
    Unsent,
    /// It did not look in time, and will not any more.
    Silent,
}

/// What keeps a thread from answering.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Condition {
    /// It runs no code of the process any more, or never did (the kernel's own of io_uring).
    NoCode,
    BlocksSignal,
    /// In a system call that no signal interrupts.
    Uninterruptible,
    /// By a debugger, or by SIGSTOP.
    Halted,
    /// Nothing that can be seen.
    Unknown,
}
