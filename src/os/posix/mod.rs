//! What Linux and macOS share.

pub(crate) mod fork;
pub(crate) mod library;
pub(crate) mod memory;
#[cfg_attr(target_os = "macos", allow(dead_code, reason = "it refuses there, and so answers nothing"))]
pub(crate) mod stop;
pub(crate) mod usage;
