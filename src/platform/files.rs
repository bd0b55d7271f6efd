//! The files that modules are in: opening what is named as one, whatever it is, and telling it from
//! others.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::platform::buffers;
use crate::platform::os::held::Held;

/// Opens a regular file for reading. Anything else is an error: a FIFO would hold whoever opens or
/// reads it, a device may never end.
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
    /// That of no file.
    pub(crate) fn none() -> Self {
        Self { device: 0, inode: 0, size: 0, modified: (0, 0), changed: (0, 0) }
    }

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

/// BLAKE3 of what a file holds: what `b3sum` prints of it. Of a module of several files, of their
/// hashes one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentHash(pub(crate) [u8; 32]);

impl ContentHash {
    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes).into())
    }

    /// Of a module of these files.
    pub(crate) fn of_all(files: &[Self]) -> Option<Self> {
        match files {
            [] => None,
            [one] => Some(*one),
            several => {
                let mut hasher = blake3::Hasher::new();
                for file in several {
                    hasher.update(&file.0);
                }
                Some(Self(hasher.finalize().into()))
            }
        }
    }

    /// Of what can be read of a file, in pieces: nothing of it is kept.
    pub(crate) fn of_file(mut file: &File) -> io::Result<Self> {
        let mut hasher = blake3::Hasher::new();
        let mut piece = buffers::take(64 << 10)?;
        loop {
            match file.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => drop(hasher.update(&piece[..read])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self(hasher.finalize().into()))
    }
}

/// In hexadecimal, as `b3sum` writes it.
impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
