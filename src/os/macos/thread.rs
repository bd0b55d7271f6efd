//! macOS has no static TLS whose offset from the thread register is constant, so the words are an ordinary thread-local
//! and trampolines cannot reach them; `Runtime::start` refuses before any is written.

use std::cell::Cell;
use std::ptr::NonNull;

use midflight_dispatch::ThreadBlock;

use crate::call::live::LIVE;

thread_local! {
    static BLOCK: ThreadBlock = const { ThreadBlock { table: Cell::new(LIVE.as_ptr()), record: Cell::new(None) } };
}

/// The calling thread's block.
#[inline(always)]
pub(crate) fn block() -> NonNull<ThreadBlock> {
    // It has no destructor, so it is reachable as long as the thread runs.
    BLOCK.with(|block| NonNull::from(block))
}

/// No offset is within a trampoline's reach.
pub(crate) fn table_offset() -> i64 {
    i64::MAX
}
