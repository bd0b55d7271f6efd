//! Modules: from a file to a version that can be called.
//!
//! `file` reads and names it, `needed` finds the modules and libraries that it names, `stage` binds
//! its imports and links it into code memory, `version` is what stands behind a generation.
//! `interfaces` has what files say of themselves, `kept` is how a journal keeps them.

pub(crate) mod debug;
mod exports;
mod file;
mod hooks;
mod indirect;
mod interfaces;
mod kept;
mod lent;
mod needed;
mod phases;
mod remarks;
mod sanitizers;
mod stage;
mod states;
pub(crate) mod unwind;
mod version;

pub use file::Source;
pub(crate) use file::{Extent, ModuleFile};
pub(crate) use file::{file_name, stem};
pub(crate) use interfaces::{Interfaces, Origin, Unread};
pub(crate) use kept::LoadedWith;
pub(crate) use phases::Clock;
pub use phases::Phases;
use remarks::Remark;
pub(crate) use stage::{Code, Found, Libraries, Linked, Meant, Neighbours, Placed, bind, place};
pub(crate) use version::{Unseen, Version, Versions, callers_first, dependencies_first, in_order};
