//! How the runtime works.

use std::path::PathBuf;

use crate::code::Backing;

/// How the runtime works; all defaults are right for production.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Config {
    /// How code is written before it executes.
    pub backing: Backing,
    /// Order pins and publications by fences even where the kernel has membarrier: dearer pins, no system calls.
    pub force_fences: bool,
    /// Tell gdb the names and lines of what is loaded, whether it is there already or comes later. On by default: it costs a
    /// module without debug information some microseconds, and 1.6 ms and the memory for each MiB of such information.
    pub gdb: bool,
    /// Write the names of what is loaded to `/tmp/perf-PID.map`, for perf. Off by default. Code is then backed by
    /// [`Backing::WriteOnce`], since perf asks such a map about anonymous memory only.
    pub perf_map: bool,
    /// Write all code that is loaded, with names and lines, to `jit-PID.dump` in this folder, for `perf inject --jit`. Off by
    /// default.
    pub jitdump: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self { backing: Backing::default(), force_fences: false, gdb: true, perf_map: false, jitdump: None }
    }
}
