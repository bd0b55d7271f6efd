//! What a module in Rust says of itself to midflight. A module that says nothing needs none of it.
//!
//! [`state!`] declares a static that outlives the versions of the module, as `MIDFLIGHT_STATE` of
//! `runtime_module.h` does in C. [`migrate!`] names the function that makes such a state of what a
//! version before has in another layout. docs/state.md says what becomes of state, and
//! docs/rust-modules.md what is so in Rust.
//!
//! This crate goes into the module, and so it has no dependencies, and nothing of the runtime.

mod migration;
mod outlives;
mod state;

pub use migration::{Migration, Refusal};
pub use outlives::Outlives;
pub use state::State;

#[doc(hidden)]
pub use migration::call;
