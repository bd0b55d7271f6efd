//! Stopping the threads of this process. The way on macOS is thread_suspend and thread_get_state, which are to come with the Mach-O
//! loader; until then it refuses.

use std::io;
use std::sync::Arc;
use std::time::Instant;

pub(crate) use crate::os::posix::stop::{Answer, BATCH, Condition, Look, Stopped};

fn refused<T>() -> io::Result<T> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "macOS: whether a thread is inside old code cannot be seen yet; say so with collect_escaped",
    ))
}

/// Linux only.
pub(crate) fn stop(_threads: &[i32], _look: Arc<dyn Look>, _until: Instant) -> io::Result<Vec<Answer>> {
    refused()
}

/// Its registers are not needed: no pass comes to look at them.
pub(crate) fn with_registers_saved<T>(run: impl FnOnce(&Stopped) -> T) -> T {
    run(&Stopped { registers: 0..0, stack_pointer: 0, red_zone: 0, thread_pointer: 0, in_handler: false })
}

/// Nobody is asked for it.
pub(crate) fn is_in_handler() -> bool {
    false
}

/// No thread is known by a number.
pub(crate) fn gettid() -> i32 {
    0
}

/// As [`gettid`].
pub(crate) fn is_main(_thread: i32) -> bool {
    false
}

/// Linux only.
pub(crate) fn threads() -> io::Result<Vec<i32>> {
    refused()
}

/// Linux only.
pub(crate) fn are_all(_threads: &[i32]) -> io::Result<bool> {
    refused()
}

/// Linux only.
pub(crate) fn mappings() -> io::Result<String> {
    refused()
}

/// No thread is known by a number.
pub(crate) fn name(_thread: i32) -> String {
    String::new()
}

/// As [`name`].
pub(crate) fn condition(_thread: i32) -> Condition {
    Condition::Unknown
}
