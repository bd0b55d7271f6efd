//! From the layouts of a state's two versions to a plan that carries its values over.
//!
//! A module that is replaced may lay out its state in another way. What can be carried over is
//! known from both layouts alone: members are the same if they have the same name. [`plan()`] says
//! for each whether it is kept, moved, widened, added or removed; and if a value cannot be carried
//! over without a doubt, which and why. Nothing is executed for that, so it is what a dry run
//! shows. [`Plan::apply`] fills the new state from the old.
//!
//! What is not carried over: numbers into fewer bits, or into none for a sign; what has become
//! another kind of thing; enumerations that have renumbered or lost a name; unions that have
//! changed; arrays that have become shorter. Pointers are kept if what they lead to is laid out as
//! it was, to any depth: that stays where it is. Addresses of code are not, since they are the
//! older version's.
//!
//! The bytes are little-endian, as on both instruction sets.
#![forbid(unsafe_code)]

mod alike;
mod apply;
mod describe;
mod layout;
mod obstacle;
mod plan;

pub use apply::WrongSize;
pub use layout::{Bits, Layouts, Member, Target, Type, TypeId};
pub use obstacle::{Obstacle, Reason};
pub use plan::{Change, Defaults, Plan, State, What, plan};
