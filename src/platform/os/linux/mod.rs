//! Linux. Kernel files are named where a fact rests on one.

pub(crate) mod arguments;
pub(crate) mod barrier;
pub(crate) mod changes;
pub(crate) mod exit;
pub(crate) mod fault;
mod gaps;
pub(crate) mod guard;
pub(crate) mod imports;
pub(crate) mod key;
pub(crate) mod lease;
pub(crate) mod memory;
pub(crate) mod scope;
pub(crate) mod stop;
pub(crate) mod symbol;
mod tasks;
pub(crate) mod thread;
pub(crate) mod thread_local;
pub(crate) mod timer;
pub(crate) mod unwind;
pub(crate) mod usage;
pub(crate) mod wait;
pub(crate) mod walk;
pub(crate) mod witness;
