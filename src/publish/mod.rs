//! How code is replaced: `state` is the next generation in the making, `publication` what making it current did,
//! `retirement` the end of what it replaced.

mod publication;
mod retirement;
mod state;

pub use publication::{ModuleVersion, Phases, Publication};
pub use retirement::Collected;
pub(crate) use state::State;
