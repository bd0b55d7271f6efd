//! How code is replaced: `state` is the next generation in the making, `tables` what it is made in, `publication` what making it
//! current did, `history` how to have an earlier one back, `retirement` the end of what it replaced.

mod exporters;
mod history;
mod publication;
mod quiescent;
mod retirement;
mod state;
mod tables;

pub use publication::{ModuleVersion, Phases, Publication};
pub use quiescent::{Kept, Quiescence};
pub use retirement::{Collected, Holder};
pub(crate) use state::State;
