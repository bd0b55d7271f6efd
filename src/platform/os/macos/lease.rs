//! macOS has no leases.

use std::fs::File;
use std::io;

/// See Linux.
#[derive(Debug)]
#[allow(dead_code, reason = "only Linux knows")]
pub(crate) enum Leased<T> {
    /// Nobody had the file open for writing, from before the reading until after it.
    Unwritten(T),
    /// Somebody has.
    Written,
    /// The file's system grants no leases, or not to us.
    Unavailable,
}

/// Always unavailable.
pub(crate) fn read<T>(_file: &File, _read: impl FnOnce() -> io::Result<T>) -> io::Result<Leased<T>> {
    Ok(Leased::Unavailable)
}
