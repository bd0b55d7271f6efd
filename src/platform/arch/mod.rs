//! What the instruction set decides. The two folders are twins, file for file, and both are
//! compiled and tested on every host: encoders and plans are pure, and only what executes an
//! instruction is behind a `cfg`.

#[cfg_attr(
    any(not(target_arch = "aarch64"), target_os = "macos"),
    allow(dead_code, reason = "the other instruction set's twin, and what Apple's libraries do instead")
)]
pub(crate) mod aarch64;
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "the other instruction set's twin"))]
pub(crate) mod x86_64;

#[cfg(all(target_arch = "aarch64", target_os = "linux"))]
pub(crate) use aarch64::context;
#[cfg(target_arch = "aarch64")]
pub(crate) use aarch64::{arithmetic, cache, levels, registers, tags, trampoline};
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::{arithmetic, cache, context, levels, registers, tags, trampoline};

#[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
compile_error!("midflight runs on AArch64 and x86-64");

/// A byte that, repeated, is an instruction that traps: `int3`; `udf #0`.
pub(crate) const TRAP: u8 = if cfg!(target_arch = "x86_64") { 0xcc } else { 0 };

/// Bytes for one slot: half of it its trampoline, half its unbound stub. A divisor of every page
/// size. On macOS a trampoline has the live table's address besides.
pub(crate) const SLOT_CODE: usize = if cfg!(target_os = "macos") { 128 } else { 64 };

/// Bytes for a trampoline that is checked.
pub(crate) const CHECKED_CODE: usize = 128;

/// In the number that a stub reports a slot by: it was called outside every frame, and not unbound.
pub(crate) const OUTSIDE: u32 = 1 << 31;

/// Half a slot's code.
pub(crate) type Stub = [u8; SLOT_CODE / 2];
