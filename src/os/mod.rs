//! What the kernel decides. One folder per system, twins file for file: `memory` (reserve, protect, release),
//! `barrier` (how threads and cores are synchronised), `library` (the process's own symbols), `thread` (the table word).

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::{barrier, library, memory, thread};

#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
pub(crate) use macos::{barrier, library, memory, thread};

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
compile_error!("midflight runs on Linux and macOS");
