//! What the journal asks of a folder on a disk. There are two such folders: the real one, and in
//! the tests one in memory that loses and tears what was not synced.

mod real;
mod watched;

use std::fmt::Debug;
use std::io;

use redb::StorageBackend;

pub(crate) use real::{Lock, Real};
pub(crate) use watched::Watched;

/// A folder, and the folders in it. Names are relative to it, with `/` between.
pub(crate) trait Disk: Debug + Send + Sync {
    /// The file as the store wants it: read and written at any place. It is made if it is not
    /// there.
    fn store(&self, name: &str) -> io::Result<Box<dyn StorageBackend>>;
    /// The whole file, or `None` if it is not there.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;
    /// The file has these bytes from now on, if nothing comes between. It is made if it is not
    /// there.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// How long the file is, or `None` if it is not there.
    fn length(&self, name: &str) -> io::Result<Option<u64>>;
    /// What was written to the file is on the disk when this returns. That it is in its folder is
    /// another matter.
    fn sync(&self, name: &str) -> io::Result<()>;
    /// Another name in one step, also if there was a file of that name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// The file is gone.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// The files of a folder, with their lengths. The folder is made if it is not there.
    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>>;
    /// Which files a folder has is on the disk when this returns.
    fn sync_folder(&self, folder: &str) -> io::Result<()>;
}
