//! How the runtime works.

use std::path::PathBuf;

use crate::code::Backing;

/// How the runtime works; all defaults are right for production.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Config {
    /// How code is written before it executes.
    pub backing: Backing,
    /// Order pins and publications by fences even where the kernel has membarrier: dearer pins, no system calls.
    pub force_fences: bool,
    /// How many publications can be taken back: their generations can be had [again](crate::Runtime::rollback) at once, because what they
    /// replaced is kept as it was. 0 by default: what is replaced ends when nobody is inside it any more.
    pub history: usize,
    /// Bytes of code memory that all versions may have, old ones included. What would go past it is refused with
    /// [`Error::MemoryLimit`](crate::Error::MemoryLimit), after history has been forgotten as far as need be. No limit by default.
    pub max_memory: Option<usize>,
    /// When gdb is told the names and lines of what is loaded.
    pub gdb: Gdb,
    /// Write the names of what is loaded to `/tmp/perf-PID.map`, for perf. Off by default. Code is then backed by
    /// [`Backing::WriteOnce`], since perf asks such a map about anonymous memory only.
    pub perf_map: bool,
    /// Write all code that is loaded, with names and lines, to `jit-PID.dump` in this folder, for `perf inject --jit`.
    /// Off by default.
    pub jitdump: Option<PathBuf>,
}

/// When gdb is told the names and lines of what is loaded. Telling it takes a copy of a module's symbols and debug
/// information with the addresses they have here: 8 % of the time of loading a small module without any, and 1.6 ms for
/// each MiB of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Gdb {
    /// From when it is attached: it then waits for new symbol files by a breakpoint, which is seen. What was loaded
    /// before it came is told at its next reload.
    #[default]
    WhenAttached,
    /// Always: for programs that it is attached to later, and for debuggers that leave no breakpoint in memory
    /// (emulators' gdb servers).
    Always,
    /// Never.
    Never,
}
