//! What conflicts with what is loaded, before a module is replaced, and what to do about it.
//!
//! A [`Situation`] says what is loaded and what is about to be: names, versions, who calls what, who
//! needs whom, and the [`Report`](midflight_interface::Report) of each candidate against the version
//! that it replaces. [`find()`] answers with a list of [`Conflict`]s, the gravest first. Each says what
//! it is, how grave, where, who is concerned, and what to do, in plain words. docs/conflicts.md has
//! the table.
//!
//! [`decide`] answers what is done about one of them: first those who have registered for that are
//! asked ([`Resolver`]), then the [`Strategy`]. How much a decision is worth is not claimed but
//! counted: [`Outcomes`] has what came of earlier ones.
//!
//! [`merge()`] is for two changes of one set of modules that began with the same.
//!
//! All of it is pure: nothing here reads a file, takes a lock or looks at a clock.
#![forbid(unsafe_code)]

mod conflict;
mod find;
mod merge;
mod outcomes;
mod range;
mod resolve;
mod situation;
mod stored;

pub use conflict::{Conflict, Kind, Place, Severity};
pub use find::find;
pub use merge::{Collision, Merged, merge};
pub use outcomes::{Outcomes, Rate};
pub use range::{Met, met};
pub use resolve::{Action, Answer, Decider, Decision, Request, Resolver, Strategy, decide};
pub use situation::{Candidate, Module, Need, Situation};
pub use stored::NotOutcomes;
