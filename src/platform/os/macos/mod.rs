//! macOS on Apple Silicon: type-checked and linked here, run nowhere yet. docs/macos.md says what
//! each function rests on.

pub(crate) mod arguments;
pub(crate) mod barrier;
pub(crate) mod changes;
pub(crate) mod exit;
pub(crate) mod fault;
pub(crate) mod guard;
pub(crate) mod imports;
pub(crate) mod key;
pub(crate) mod lease;
pub(crate) mod memory;
mod regions;
pub(crate) mod scope;
pub(crate) mod stop;
pub(crate) mod symbol;
pub(crate) mod thread;
pub(crate) mod thread_local;
pub(crate) mod unwind;
pub(crate) mod usage;
pub(crate) mod wait;
pub(crate) mod witness;
