//! How code is replaced.
//!
//! | | |
//! |---|---|
//! | `candidates` | the files of a load |
//! | `besides` | what a publication does besides loading them |
//! | `carry` | what goes on in the variables of the version that replaces theirs |
//! | `compatibility` | whether they fit what is loaded |
//! | `situation` | what is loaded and about to be, as conflicts are looked for in it |
//! | `steps` | what a load makes of them, one after the other |
//! | `state` | what is loaded, and how that changes |
//! | `tables` | what a generation is made in |
//! | `publication` | what making it current did |
//! | `inventory` | what is in memory, and why |
//! | `history` | how an earlier one is had back |
//! | `retirement` | the end of what was replaced |

mod besides;
mod candidates;
mod carry;
mod compatibility;
mod exporters;
mod held;
mod history;
mod inventory;
mod layers;
mod libraries;
pub(crate) mod load;
mod publication;
pub(crate) mod quiescence;
mod quiescent;
mod retirement;
mod situation;
mod state;
mod steps;
mod tables;

pub(crate) use besides::Besides;
pub(crate) use candidates::{Candidate, Candidates};
pub use compatibility::Compatibility;
pub(crate) use compatibility::{LISTED, Missing, compare};
pub use inventory::{LoadedVersion, VersionState};
pub(crate) use layers::Covered;
pub use layers::{Adapter, Unsaid};
pub use publication::{ModuleVersion, Phases, Publication, Replaced};
pub use quiescent::{Kept, Quiescence};
pub(crate) use retirement::Departure;
pub use retirement::{Collected, Retained, Retired, Until};
pub(crate) use state::State;
pub(crate) use steps::{Checked, Damage, Done};
