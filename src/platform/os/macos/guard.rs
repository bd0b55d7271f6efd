//! Recovery points of threads: there are none on macOS yet, so no thread can be prepared for one.

use std::ffi::{c_int, c_void};
use std::io;

/// How a call in a recovery point ended.
pub(crate) struct Outcome {
    pub(crate) word: usize,
    pub(crate) why: usize,
}

pub(crate) const RETURNED: usize = 0;
pub(crate) const FAULT: usize = 1;
pub(crate) const ABORT: usize = 3;
pub(crate) const EXIT: usize = 4;

/// What is run in a recovery point.
pub(crate) type Run = unsafe extern "C-unwind" fn(*mut c_void);

/// A fault as its handler has seen it.
#[derive(Clone, Copy)]
pub(crate) struct Caught {
    pub(crate) signal: c_int,
    pub(crate) code: c_int,
    pub(crate) address: usize,
    pub(crate) place: usize,
    pub(crate) is_stack_overflow: bool,
}

/// Whose an exception is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(dead_code, reason = "no exception comes to a recovery point here")]
pub(crate) enum ExceptionKind {
    Cpp,
    Rust,
    Other,
}

/// What a thread has for faults: none has.
pub(crate) enum Prepared {}

impl Prepared {
    pub(crate) fn get() -> Option<&'static Self> {
        None
    }

    pub(crate) fn make() -> io::Result<()> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "macOS has no guarded calls yet: declare the function without `guarded`",
        ))
    }

    pub(crate) fn caught(&self) -> Caught {
        match *self {}
    }
}

/// # Safety
///
/// The thread is prepared: so this is never called.
pub(crate) unsafe fn enter(_: Run, _: *mut c_void) -> Outcome {
    unreachable!("no thread is prepared")
}

/// # Safety
///
/// None: there is nothing to leave.
pub(crate) unsafe fn leave(_: usize, _: usize) {}

/// # Safety
///
/// A recovery point was given it: so this is never called.
pub(crate) unsafe fn end_exception(_: usize) -> ExceptionKind {
    unreachable!("no recovery point was given an exception")
}

/// There are none.
pub(crate) fn in_child() {}

/// No recovery point counts until this is dropped.
pub(crate) struct Closed(std::marker::PhantomData<*const ()>);

impl Closed {
    pub(crate) fn new() -> Self {
        Self(std::marker::PhantomData)
    }
}
