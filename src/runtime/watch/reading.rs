//! One attempt to read a complete version of a file.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::route::is_missing;
use super::{Contents, Settle};
use crate::platform::buffers::Buffer;
use crate::platform::files::{ContentHash, Identity};
use crate::platform::os::lease::{self, Leased};
use crate::platform::{buffers, files};

/// What came of it.
pub(super) enum Attempt {
    /// There is no file.
    Missing,
    /// Somebody has it open for writing; and as what it was found, if that is known.
    Written(Option<Held>),
    /// Nobody can say whether it is being written. If it is the same a debounce later, it is not.
    Doubtful(Stamp),
    /// Nobody was writing it.
    Complete(Contents),
    Failed(io::Error),
}

/// How a file was found that somebody has open for writing: as long as that stays, he is not at
/// work on it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    size: u64,
    modified: (i64, i64),
}

/// What a reading found, to be compared with the next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    digest: ContentHash,
    size: u64,
    modified: (i64, i64),
    /// Device and inode.
    file: (u64, u64),
}

impl Stamp {
    fn new(digest: ContentHash, of: &Metadata) -> Self {
        Self { digest, size: of.len(), modified: (of.mtime(), of.mtime_nsec()), file: (of.dev(), of.ino()) }
    }
}

/// Reads the file. `last` is the content that needs no second look, `before` what a reading found
/// at least a debounce ago.
pub(super) fn attempt(
    path: &Path,
    settle: &Settle,
    last: Option<ContentHash>,
    before: Option<Stamp>,
) -> Attempt {
    match read(path, settle, last, before) {
        Ok(attempt) => attempt,
        Err(error) if is_missing(&error) => Attempt::Missing,
        // A lease of somebody else's, which he is asked to give back.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Attempt::Written(None),
        // It became shorter than it was.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Attempt::Written(None),
        Err(error) => Attempt::Failed(error),
    }
}

fn read(
    path: &Path,
    settle: &Settle,
    last: Option<ContentHash>,
    before: Option<Stamp>,
) -> io::Result<Attempt> {
    let (held, metadata) = files::open(path)?;
    let file = held.get()?;
    // Before the lease, which is to be short: the memory may have to be faulted in.
    let mut buffer = buffers::take(length(&metadata)?)?;
    let leased = if settle.leases {
        lease::read(file, || {
            // It may have grown before the lease.
            let length = length(&file.metadata()?)?;
            if length > buffer.len() {
                buffer = buffers::take(length)?;
            }
            buffer.truncate(length);
            let mut file = file;
            file.read_exact(&mut buffer)?;
            // What was read is another's, if the program has closed this one meanwhile.
            held.get().map(drop)
        })
    } else {
        Ok(Leased::Unavailable)
    };
    match leased {
        Ok(Leased::Unwritten(())) => {
            let digest = ContentHash::of(&buffer);
            // A link or a touch may have come since: then it is not known by this any more.
            let identity = Identity::from(&metadata);
            Ok(Attempt::Complete(Contents { bytes: buffer, digest, identity }))
        }
        Ok(Leased::Unavailable) => twice(file, &metadata, buffer, last, before),
        Ok(Leased::Written) => {
            let now = file.metadata()?;
            Ok(Attempt::Written(Some(Held { size: now.len(), modified: (now.mtime(), now.mtime_nsec()) })))
        }
        Err(error) => Err(error),
    }
}

/// Without a lease: complete if it was the same before.
fn twice(
    mut file: &File,
    metadata: &Metadata,
    mut buffer: Buffer,
    last: Option<ContentHash>,
    before: Option<Stamp>,
) -> io::Result<Attempt> {
    file.read_exact(&mut buffer)?;
    let after = file.metadata()?;
    let digest = ContentHash::of(&buffer);
    let stamp = Stamp::new(digest, &after);
    if Stamp::new(digest, metadata) == stamp && (before == Some(stamp) || last == Some(digest)) {
        return Ok(Attempt::Complete(Contents { bytes: buffer, digest, identity: Identity::from(&after) }));
    }
    Ok(Attempt::Doubtful(stamp))
}

fn length(metadata: &Metadata) -> io::Result<usize> {
    // ELF's own tables number with 32 bits.
    match u32::try_from(metadata.len()) {
        Ok(length) => Ok(length as usize),
        Err(_) => Err(io::ErrorKind::FileTooLarge.into()),
    }
}
