//! macOS on Apple Silicon: type-checked here, run nowhere yet. `Runtime::start` refuses it until modules can be Mach-O.

pub(crate) mod barrier;
pub(crate) mod changes;
pub(crate) mod exit;
pub(crate) mod lease;
pub(crate) mod memory;
pub(crate) mod spawn;
pub(crate) mod stop;
pub(crate) mod symbol;
pub(crate) mod thread;
pub(crate) mod thread_local;
pub(crate) mod usage;
