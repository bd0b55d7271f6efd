//! Modules: from a file to a version that can be called.
//!
//! `file` reads and names it, `stage` binds its imports and links it into code memory, `version` is what stands behind a generation.

mod exports;
mod file;
mod indirect;
mod phases;
mod stage;
mod version;

pub(crate) use file::ModuleFile;
pub use file::Source;
pub(crate) use phases::Clock;
pub use phases::Phases;
pub(crate) use stage::{Found, Neighbours, bind, link};
pub(crate) use version::{Version, Versions, dependencies_first};
