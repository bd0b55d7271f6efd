//! What the kernel decides. One folder per system, twins file for file: `memory` (reserve, protect, release),
//! `barrier` (how threads and cores are synchronised), `symbol` (look-up in the process), `thread` (the table word). What
//! they share is in `posix`.

mod posix;
pub(crate) use posix::{fork, held, library};

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::{
    barrier, changes, exit, lease, memory, spawn, stop, symbol, thread, thread_local, unwind, usage, witness,
};

#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
pub(crate) use macos::{
    barrier, changes, exit, lease, memory, spawn, stop, symbol, thread, thread_local, unwind, usage, witness,
};

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
compile_error!("midflight runs on Linux and macOS");
