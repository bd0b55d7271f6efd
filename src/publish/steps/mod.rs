//! A load behind the runtime's lock, step by step:
//!
//! ```text
//! Checked --stage--> Staged --initialise--> Initialised --publish--> Publication
//! ```
//!
//! [`Checked`] has files that may be loaded, [`Staged`](next::Staged) versions that are linked and
//! known to nobody, [`Initialised`](next::Initialised) those whose constructors have run. From
//! `Staged` on a step owns the versions and the next generation's table: who drops it, by an
//! error or a panic of a callback, abandons the load, and nothing of it was seen ([`next`]).

mod checked;
mod neighbours;
mod next;

pub(crate) use checked::Checked;
pub(super) use neighbours::{Neighbourhood, Trampolines};
pub(crate) use next::{Damage, Done};
