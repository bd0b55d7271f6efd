//! AArch64.

pub(crate) mod cache;
pub(crate) mod trampoline;
