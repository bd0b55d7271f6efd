//! AArch64.

pub(crate) mod arithmetic;
pub(crate) mod cache;
pub(crate) mod context;
pub(crate) mod levels;
pub(crate) mod registers;
pub(crate) mod tags;
pub(crate) mod trampoline;
