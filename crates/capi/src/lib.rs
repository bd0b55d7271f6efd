//! The C API of midflight: the functions that `include/` declares, over the crate `midflight`. It
//! holds no logic of its own.
//!
//! One file for each header: [`runtime_types`], [`runtime_core`], [`hot_reload`],
//! [`transaction_manager`], [`conflict_resolution`]; [`options`], [`stacks`] and [`jumps`] are parts
//! of the second, and [`compatibility_layer`] is one of the last. They share `pointers` (what callers give us is checked and copied; `sized` has
//! those structures that grow; `probe` asks the kernel), `errors` (codes, the thread's last message,
//! panics), `gate` (whether the runtime is running, and who is in a call) and `log` (where the
//! events of the runtime go).
//!
//! Rules for every function here:
//!
//! - Panics end in `errors::guarded`: `RUNTIME_ERROR_INTERNAL`, never unwinding into C. Frames
//!   alone do without: they run nothing that panics, and a panic in an `extern "C"` function ends
//!   the process.
//! - No pointer is followed before `pointers` has checked it, and no structure is taken for a Rust
//!   value with invalid patterns: booleans arrive as bytes, enumerations as numbers. Outputs are
//!   zeroed before anything else can fail.
//! - What loads, frees or asks is inside a `gate::Call`, which shutdown waits for. Callbacks are
//!   called inside it, on no lock but the log's; what would wait for the call that the callback is
//!   part of finds that out by `gate` and returns `RUNTIME_ERROR_BUSY`.
//! - A forked child has no other threads, and so no locks that they held: it is refused before a
//!   lock is taken.
//!
//! The comments of the headers are the documentation; here stands only what a maintainer needs
//! besides.

mod checked;
pub mod compatibility_layer;
pub mod conflict_resolution;
mod errors;
mod frames;
mod gate;
pub mod hot_reload;
pub mod jumps;
mod log;
pub mod options;
mod pointers;
mod probe;
pub mod runtime_core;
pub mod runtime_types;
mod sized;
pub mod stacks;
pub mod transaction_manager;
