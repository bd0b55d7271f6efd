//! What Linux and macOS share.

pub(crate) mod fault;
pub(crate) mod fork;
pub(crate) mod gaps;
pub(crate) mod held;
pub(crate) mod library;
pub(crate) mod mask;
pub(crate) mod memory;
pub(crate) mod stop;
pub(crate) mod usage;
