//! ELF64, little-endian: shared objects, and object files linked here.

mod format;
pub(crate) mod identity;
pub(crate) mod note;
pub(crate) mod object;
pub(crate) mod shared;
