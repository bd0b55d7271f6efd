//! How the runtime works.

use crate::code::Backing;

/// How the runtime works; all defaults are right for production.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Config {
    /// How code is written before it executes.
    pub backing: Backing,
    /// Order pins and publications by fences even where the kernel has membarrier: dearer pins, no system calls.
    pub force_fences: bool,
}
