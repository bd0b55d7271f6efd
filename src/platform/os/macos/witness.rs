//! See Linux. Here code is private memory, of which a child has its own copy.

use std::io;

pub(crate) struct Witness;

impl Witness {
    /// # Errors
    ///
    /// None.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self)
    }

    pub(crate) fn is_shared(&self) -> bool {
        false
    }
}
