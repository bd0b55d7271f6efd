//! What the kernel decides. One folder per system, twins file for file: `memory` (reserve, protect,
//! release), `barrier` (how threads and cores are synchronised), `symbol` (look-up in the process),
//! `thread` (the table word). What they share is in `posix`.

use std::ffi::c_char;

mod posix;
pub(crate) use posix::{fork, held, library, mask};

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::{
    arguments, barrier, changes, exit, fault, guard, imports, key, lease, memory, scope, stop, symbol,
    thread, thread_local, timer, unwind, usage, wait, walk, witness,
};

#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
pub(crate) use macos::{
    arguments, barrier, changes, exit, fault, guard, imports, key, lease, memory, scope, stop, symbol,
    thread, thread_local, unwind, usage, wait, witness,
};

/// Texts and a null pointer, as C has arguments and the environment.
pub(crate) type Strings = *const *const c_char;

/// None. For whoever keeps where they are.
#[cfg(target_os = "linux")]
struct NoStrings([*const c_char; 1]);
#[cfg(target_os = "linux")]
// SAFETY: it holds only a null pointer.
unsafe impl Sync for NoStrings {}
#[cfg(target_os = "linux")]
static NO_STRINGS: NoStrings = NoStrings([std::ptr::null()]);

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
compile_error!("midflight runs on Linux and macOS");
