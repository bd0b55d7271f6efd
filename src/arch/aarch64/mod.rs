//! AArch64.

pub(crate) mod cache;
pub(crate) mod levels;
pub(crate) mod registers;
pub(crate) mod trampoline;
