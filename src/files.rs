//! Opening what is named as a module's file, whatever it is.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::os::held::Held;

/// Opens a regular file for reading. Anything else is an error: a FIFO would hold whoever opens or reads it, a device may never end.
pub(crate) fn open(path: &Path) -> io::Result<(Held<File>, Metadata)> {
    // So that a FIFO does not wait for its writer.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    match metadata.is_file() {
        true => Ok((Held::new(file)?, metadata)),
        false => Err(io::Error::other("it is not a regular file")),
    }
}
