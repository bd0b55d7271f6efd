//! Stacks that are no thread's: those of fibers and coroutines, which the host makes, and of which
//! it tells.
//!
//! What is suspended there is on no thread, so a look at the threads does not see it. A pass reads
//! all of these stacks before its first thread and after its last one.
//!
//! Let a fiber have an address of the text when the pass begins. If it is suspended then, the first
//! reading sees it. If it runs, its thread does when it is looked at, unless the fiber was
//! suspended before: then the last reading sees it, if it still is suspended. So what is missed is
//! a fiber that is in the text, is suspended *and* resumed by a thread that was seen, within one
//! pass: that is the contract of [`Runtime::add_stack`](crate::Runtime::add_stack).

use std::fmt;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::platform::os::fork;

/// A stack that passes look at as long as this is there: see
/// [`Runtime::add_stack`](crate::Runtime::add_stack).
///
/// Dropping it waits for a pass that is under way. Then the memory may go.
pub struct FiberStack {
    number: u64,
}

impl fmt::Debug for FiberStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FiberStack").finish_non_exhaustive()
    }
}

/// One of them.
struct Stack {
    number: u64,
    memory: Range<usize>,
    /// Where the host keeps the stack pointer of what is suspended.
    stack_pointer: Option<usize>,
}

/// All of them, which stay as they are while this is there.
pub(super) struct Fibers(MutexGuard<'static, (u64, Vec<Stack>)>);

static ALL: Mutex<(u64, Vec<Stack>)> = Mutex::new((0, Vec::new()));

pub(super) fn all() -> Fibers {
    Fibers(ALL.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Adds one.
///
/// # Safety
///
/// As for [`Runtime::add_stack`](crate::Runtime::add_stack).
pub(crate) unsafe fn add(memory: Range<*const u8>, stack_pointer: Option<NonNull<*const ()>>) -> FiberStack {
    // A child of fork, in which nobody looks, may have the lock as a thread of its parent's held
    // it.
    if fork::is_child() {
        return FiberStack { number: 0 };
    }
    let (count, stacks) = &mut *all().0;
    *count += 1;
    stacks.push(Stack {
        number: *count,
        memory: memory.start.expose_provenance()..memory.end.addr(),
        stack_pointer: stack_pointer.map(|at| at.as_ptr().expose_provenance()),
    });
    FiberStack { number: *count }
}

impl Drop for FiberStack {
    fn drop(&mut self) {
        if self.number != 0 && !fork::is_child() {
            all().0.1.retain(|stack| stack.number != self.number);
        }
    }
}

impl Fibers {
    pub(super) fn is_empty(&self) -> bool {
        self.0.1.is_empty()
    }

    /// Where they are, in the order in which they came.
    pub(super) fn places(&self) -> Box<[Range<usize>]> {
        self.0.1.iter().map(|stack| stack.memory.clone()).collect()
    }

    /// What may be in use of each: from where it was suspended, if the host says that, and all of
    /// it otherwise. Of the one that the caller is on, what it uses itself.
    pub(super) fn in_use(&self, caller: usize, read: impl Fn(usize) -> Option<usize>) -> Vec<Range<usize>> {
        let used = |Stack { memory, stack_pointer, .. }: &Stack| {
            let from = if memory.contains(&caller) { Some(caller) } else { stack_pointer.and_then(&read) };
            from.filter(|from| memory.contains(from)).unwrap_or(memory.start)..memory.end
        };
        self.0.1.iter().map(used).collect()
    }
}
