use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use redb::StorageBackend;
use redb::backends::FileBackend;

use super::Disk;
use crate::error::Error;

/// The name of the file that says who has the journal.
const LOCK: &str = "lock";

/// A folder of the file system.
#[derive(Debug)]
pub(crate) struct Real(PathBuf);

impl Real {
    /// The folder, and those above it, are made if they are not there, and synced.
    pub(crate) fn new(folder: &Path) -> io::Result<Self> {
        let folder = std::path::absolute(folder)?;
        let missing: Vec<_> = folder.ancestors().take_while(|above| !above.exists()).collect();
        fs::create_dir_all(&folder)?;
        for made in missing {
            if let Some(above) = made.parent() {
                sync_folder(above)?;
            }
        }
        Ok(Self(folder))
    }

    /// The folder as it is: for reading.
    pub(crate) fn of(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    fn path(&self, name: &str) -> PathBuf {
        // `join("")` would append a separator.
        if name.is_empty() { self.0.clone() } else { self.0.join(name) }
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn none_if_missing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Disk for Real {
    fn store(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(self.path(name))?;
        match FileBackend::new(file) {
            Ok(backend) => Ok(Box::new(backend)),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        none_if_missing(fs::read(self.path(name)))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(self.path(name))?;
        file.write_all(bytes)?;
        file.set_len(bytes.len() as u64)
    }

    fn length(&self, name: &str) -> io::Result<Option<u64>> {
        Ok(none_if_missing(fs::metadata(self.path(name)))?.map(|found| found.len()))
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        // Linux and macOS take any descriptor of the file, also one that was opened later.
        OpenOptions::new().write(true).open(self.path(name))?.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        let path = self.path(folder);
        if !path.exists() {
            fs::create_dir(&path)?;
            sync_folder(&self.0)?;
        }
        let mut found = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let about = entry.metadata()?;
            // What has a name that we would not give is not ours.
            if let (true, Ok(name)) = (about.is_file(), entry.file_name().into_string()) {
                found.push((name, about.len()));
            }
        }
        Ok(found)
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        sync_folder(&self.path(folder))
    }
}

/// That this process has the folder, until it is dropped or the process ends, however that may be.
#[derive(Debug)]
pub(crate) struct Lock {
    _locked: File,
}

impl Lock {
    pub(crate) fn take(folder: &Path) -> Result<Self, Error> {
        let failed = |error: io::Error| Error::io("locking the journal", &error);
        let open =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(folder.join(LOCK));
        let mut file = open.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Who it is makes the message better. That it is locked is known already.
                let process = match file.read_to_string(&mut holder) {
                    Ok(_) => holder.trim().parse().ok(),
                    Err(_) => None,
                };
                return Err(Error::InUse { folder: folder.to_owned(), process });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // Always as long, so that it needs no further room on a disk that is full.
        writeln!(file, "{:10}", std::process::id()).map_err(failed)?;
        Ok(Self { _locked: file })
    }
}
