//! What is called when the module comes and goes: arrays of function addresses.

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Calls {
    Init,
    Fini,
}

/// A section of function addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Array {
    /// Its index among the sections of the link.
    pub(crate) section: u32,
    pub(crate) backwards: bool,
}

/// When a section's entries are called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Turn {
    pub(crate) calls: Calls,
    /// Lower is earlier on the way in.
    pub(crate) priority: u32,
    pub(crate) backwards: bool,
}

/// Later than any number.
pub(crate) const LAST: u32 = u32::MAX;
