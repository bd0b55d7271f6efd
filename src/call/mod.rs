//! How a thread calls module code: a frame puts it inside a generation, a slot says which function,
//! and trampolines are for those who need an address. `checks` reports calls and frames that are
//! not as they should be.

pub(crate) mod checks;
pub(crate) mod frame;
pub(crate) mod home;
pub(crate) mod live;
pub(crate) mod macros;
pub(crate) mod pause;
pub(crate) mod slots;
pub(crate) mod trampolines;
pub(crate) mod versions;
