use std::io;
use std::sync::{Arc, OnceLock};

use redb::StorageBackend;

use super::Disk;
use crate::error::Error;

/// A disk that takes nothing more once a sync has failed. What the system had not written by then
/// may be dropped, and a second sync would say that all is well: so there is no second one.
#[derive(Debug)]
pub(crate) struct Watched {
    disk: Arc<dyn Disk>,
    failed: Arc<OnceLock<String>>,
}

impl Watched {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, failed: Arc::default() }
    }

    /// What the system said of the sync that failed.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failed.get().map(String::as_str)
    }

    /// What an operation has failed with: if a sync has failed, that is it.
    pub(crate) fn error(&self, doing: &'static str, error: &io::Error) -> Error {
        match self.failure() {
            Some(said) => Error::SyncFailed { said: said.to_owned() },
            None => Error::io(doing, error),
        }
    }
}

fn check(failed: &OnceLock<String>) -> io::Result<()> {
    match failed.get() {
        Some(said) => Err(io::Error::other(format!("an earlier sync has failed: {said}"))),
        None => Ok(()),
    }
}

fn watch(failed: &OnceLock<String>, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    check(failed)?;
    sync().inspect_err(|error| {
        failed.get_or_init(|| error.to_string());
    })
}

/// As [`Disk`] has them.
impl Watched {
    pub(crate) fn store(&self, name: &str) -> io::Result<WatchedStore> {
        check(&self.failed)?;
        Ok(WatchedStore { store: self.disk.store(name)?, failed: Arc::clone(&self.failed) })
    }

    pub(crate) fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.disk.read(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        check(&self.failed)?;
        self.disk.write(name, bytes)
    }

    pub(crate) fn length(&self, name: &str) -> io::Result<Option<u64>> {
        self.disk.length(name)
    }

    pub(crate) fn sync(&self, name: &str) -> io::Result<()> {
        watch(&self.failed, || self.disk.sync(name))
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check(&self.failed)?;
        self.disk.rename(from, to)
    }

    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        check(&self.failed)?;
        self.disk.remove(name)
    }

    pub(crate) fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        self.disk.list(folder)
    }

    pub(crate) fn sync_folder(&self, folder: &str) -> io::Result<()> {
        watch(&self.failed, || self.disk.sync_folder(folder))
    }
}

/// The store's file on such a disk. Locks are not passed on: the folder has one for all of it.
#[derive(Debug)]
pub(crate) struct WatchedStore {
    store: Box<dyn StorageBackend>,
    failed: Arc<OnceLock<String>>,
}

impl StorageBackend for WatchedStore {
    fn len(&self) -> io::Result<u64> {
        self.store.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.store.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        check(&self.failed)?;
        self.store.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        watch(&self.failed, || self.store.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        check(&self.failed)?;
        self.store.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.store.close()
    }
}
