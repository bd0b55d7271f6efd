//! Replace native code in a running process.
//!
//! A module (a shared object from C, C++, Rust or assembly) is read, linked into code memory of our
//! own, published to every thread at once, and unmapped when no thread can be inside it any more.
//! Threads call it through a [`Frame`]: all that is called under one frame, across threads and
//! modules, is of one [generation](Frame::generation).
//!
//! ```no_run
//! midflight::module! {
//!     unsafe mod movement { safe fn step(x: &mut f32, dt: f32); }
//! }
//!
//! fn main() -> Result<(), midflight::Error> {
//!     let rt = midflight::Runtime::start()?;
//!     // SAFETY: libmovement.so exports `void step(float *, float)`, which keeps nothing of what it is given.
//!     unsafe { rt.load("libmovement.so") }?; // again, whenever there is a new one
//!     let mut x = 0.0;
//!     movement::step(&rt.frame(), &mut x, 0.1);
//!     Ok(())
//! }
//! ```
//!
//! ARCHITECTURE.md in the repository has the whole picture; `midflight_dispatch` argues the
//! concurrency.

mod call;
mod code;
mod durable;
mod error;
mod fault;
mod host;
mod module;
mod platform;
mod publish;
mod runtime;
mod state;
mod transaction;

pub use call::checks::Checks;
pub use call::frame::{Frame, SharedFrame};
pub use call::slots::Slot;
pub use code::Backing;
pub use durable::{Durability, JournalOptions};
pub use error::{
    Error, ErrorKind, Failure, FailureCause, FailurePlace, MissingSymbol, NoAdapter, NotCarried, StateLayout,
    StateProblem,
};
pub use fault::{AddressDescription, StaleCalls, Standing, describe_address, explain_address};
pub use midflight_conflict as conflict;
pub use midflight_dispatch::PinnedElsewhere;
pub use midflight_image::{Error as ImageError, NoteProblem, Refusal};
pub use midflight_interface as interface;
pub use midflight_journal as journal;
pub use module::Source;
pub use module::debug::Gdb;
pub use platform::files::ContentHash;
pub use platform::threads::Holder;
pub use publish::load::options::{Carry, ConflictMode, LoadOptions, Progress};
pub use publish::quiescence::FiberStack;
pub use publish::{
    Adapter, Collected, Compatibility, Kept, LoadedVersion, ModuleVersion, Phases, Publication, Quiescence,
    Replaced, Retained, Retired, Unsaid, Until, VersionState,
};
pub use runtime::adapters::AdapterId;
pub use runtime::config::Config;
pub use runtime::conflicts::{Conflicts, ResolverId, SystemState, View};
pub use runtime::events::{Attempt, Event, ModuleRecord, ModuleState, Outcome, Record, Subscription};
pub use runtime::hooks::{HooksId, ReloadHooks, Upcoming};
pub use runtime::process::ProcessUsage;
pub use runtime::statistics::{Statistics, Times};
pub use runtime::{Runtime, print_outcome};
pub use transaction::{Isolation, MergeReport, OperationOptions, Savepoint, Transaction, TransactionOptions};

/// What the [`module!`] macro expands to uses, and the C API. Not for direct use.
#[doc(hidden)]
pub mod private {
    pub use crate::call::checks::{are_on as checks_are_on, longest_frame, report, this_thread};
    pub use crate::call::frame::{end_frames, open_frames, this_opener};
    pub use crate::call::macros::{gives_static, is_static};
    pub use crate::call::slots::DECLARED;
    pub use crate::durable::points as journal_points;
    pub use crate::fault::contain::guarded;
    pub use crate::fault::past::footprint;
    pub use crate::platform::os::fork::is_child;
    pub use crate::platform::os::held::Record;
    pub use crate::publish::quiescence::forget_stack;
    pub use linkme;
}

/// The README's program compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
