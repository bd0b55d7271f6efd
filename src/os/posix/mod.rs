//! What Linux and macOS share.

pub(crate) mod fork;
pub(crate) mod library;
pub(crate) mod memory;
