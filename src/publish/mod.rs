//! How code is replaced: `staging` is the next versions in the making, `compatibility` whether they fit, `state` what is loaded and how that
//! changes, `tables` what a generation is made in, `publication` what making it current did, `history` how to have an earlier one back,
//! `retirement` the end of what it replaced.

mod compatibility;
mod exporters;
mod history;
mod publication;
mod quiescent;
mod retirement;
mod staging;
mod state;
mod tables;

pub use compatibility::Compatibility;
pub(crate) use compatibility::{Missing, compare};
pub use publication::{ModuleVersion, Phases, Publication};
pub use quiescent::{Kept, Quiescence};
pub use retirement::{Collected, Holder};
pub(crate) use staging::{Candidate, check_names};
pub(crate) use state::State;
