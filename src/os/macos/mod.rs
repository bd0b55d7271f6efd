//! macOS on Apple Silicon: type-checked here, run nowhere yet. `Runtime::start` refuses it until modules can be Mach-O.

pub(crate) mod barrier;
pub(crate) mod memory;
pub(crate) mod symbol;
pub(crate) mod thread;
