//! The files that modules are in: opening what is named as one, whatever it is, and telling it from others.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::platform::os::held::Held;

/// Opens a regular file for reading. Anything else is an error: a FIFO would hold whoever opens or reads it, a device may never end.
pub(crate) fn open(path: &Path) -> io::Result<(Held<File>, Metadata)> {
    // So that a FIFO does not wait for its writer.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    match metadata.is_file() {
        true => Ok((Held::known(file, &metadata), metadata)),
        false => Err(io::Error::other("it is not a regular file")),
    }
}

/// What tells a file from another that has taken its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// When its status was, which no program can set.
    changed: (i64, i64),
}

impl Identity {
    /// Apart from what a link, a new name or other rights change.
    fn as_written(self) -> Self {
        Self { changed: (0, 0), ..self }
    }

    /// Whether it is the same file, as it was written then.
    pub(crate) fn is_as_written(self, other: Self) -> bool {
        self.as_written() == other.as_written()
    }
}

impl From<&Metadata> for Identity {
    fn from(of: &Metadata) -> Self {
        Self {
            device: of.dev(),
            inode: of.ino(),
            size: of.size(),
            modified: (of.mtime(), of.mtime_nsec()),
            changed: (of.ctime(), of.ctime_nsec()),
        }
    }
}
