//! The bytes of modules, by digest. A file is written under another name, synced and renamed: so
//! what has a digest for a name was written whole. It is read into memory and its digest compared,
//! so it does not matter if somebody has overwritten it since. (A map of the file would: who
//! truncates it ends the process that reads there, and what is verified is what is linked.)

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::digest::Digest;
use crate::disk::Watched;
use crate::error::Error;

/// Their folder.
pub(crate) const FOLDER: &str = "modules";
/// What a file that is being written is called.
const UNFINISHED: &str = "new";

fn path(name: &str) -> String {
    format!("{FOLDER}/{name}")
}

#[derive(Debug)]
struct File {
    bytes: u64,
    /// How many [`Stored`] there are of it.
    held: usize,
}

#[derive(Debug)]
pub(crate) struct Modules {
    disk: Arc<Watched>,
    files: Mutex<HashMap<Digest, File>>,
    /// Held by who writes or removes files: `files` is for moments only.
    writing: Mutex<()>,
}

/// Bytes that the journal has. The collector leaves them alone as long as this lives: begin the
/// transaction that names them before you drop it.
#[derive(Debug)]
pub struct Stored {
    digest: Digest,
    modules: Arc<Modules>,
}

impl Stored {
    /// What the bytes are known by.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    pub(crate) fn is_of(&self, modules: &Arc<Modules>) -> bool {
        Arc::ptr_eq(&self.modules, modules)
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        if let Some(file) = self.modules.files().get_mut(&self.digest) {
            file.held -= 1;
        }
    }
}

impl Modules {
    /// Those that are there. What was not finished is removed.
    pub(crate) fn open(disk: Arc<Watched>) -> io::Result<Self> {
        let mut files = HashMap::new();
        for (name, bytes) in disk.list(FOLDER)? {
            match Digest::parse(&name) {
                Some(digest) => {
                    files.insert(digest, File { bytes, held: 0 });
                }
                None if name == UNFINISHED => disk.remove(&path(&name))?,
                // Not ours.
                None => {}
            }
        }
        Ok(Self { disk, files: Mutex::new(files), writing: Mutex::new(()) })
    }

    fn files(&self) -> MutexGuard<'_, HashMap<Digest, File>> {
        // What a thread that panicked has left is whole: each change is one insertion or removal.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writing(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn put(self: &Arc<Self>, bytes: &[u8]) -> Result<Stored, Error> {
        let digest = Digest::of(bytes);
        let _writing = self.writing();
        // What is there already may have been damaged since, and the right bytes are at hand.
        let whole = self.has(digest) && read(&self.disk, digest).is_ok();
        if !whole {
            let failed = |error: io::Error| self.disk.error("writing a module's bytes", &error);
            let unfinished = path(UNFINISHED);
            self.disk.write(&unfinished, bytes).map_err(failed)?;
            self.disk.sync(&unfinished).map_err(failed)?;
            self.disk.rename(&unfinished, &path(&digest.to_string())).map_err(failed)?;
            self.disk.sync_folder(FOLDER).map_err(failed)?;
        }
        match self.files().entry(digest) {
            Entry::Occupied(mut file) => {
                let file = file.get_mut();
                file.bytes = bytes.len() as u64;
                file.held += 1;
            }
            Entry::Vacant(place) => {
                place.insert(File { bytes: bytes.len() as u64, held: 1 });
            }
        }
        Ok(Stored { digest, modules: Arc::clone(self) })
    }

    pub(crate) fn has(&self, digest: Digest) -> bool {
        self.files().contains_key(&digest)
    }

    /// How many bytes all of them have.
    pub(crate) fn total(&self) -> u64 {
        self.files().values().map(|file| file.bytes).sum()
    }

    /// How many bytes this one has.
    pub(crate) fn bytes_of(&self, digest: Digest) -> u64 {
        self.files().get(&digest).map_or(0, |file| file.bytes)
    }

    /// Removes those that are not `named` and not held; and says how many, and their bytes. What
    /// was removed comes back after a crash at most, and is removed again.
    pub(crate) fn remove(&self, named: impl Fn(Digest) -> bool) -> Result<(usize, u64), Error> {
        let _writing = self.writing();
        let is_free = |(digest, file): &(&Digest, &File)| file.held == 0 && !named(**digest);
        let free: Vec<Digest> = self.files().iter().filter(is_free).map(|(digest, _)| *digest).collect();
        let mut removed = (0, 0);
        for digest in free {
            match self.disk.remove(&path(&digest.to_string())) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(self.disk.error("removing a module's bytes", &error)),
            }
            removed.0 += 1;
            removed.1 += self.files().remove(&digest).map_or(0, |file| file.bytes);
        }
        Ok(removed)
    }
}

/// The bytes of this digest, and no others.
pub(crate) fn read(disk: &Watched, digest: Digest) -> Result<Vec<u8>, Error> {
    let read = disk.read(&path(&digest.to_string()));
    let bytes = read.map_err(|error| Error::io("reading a module's bytes", &error))?;
    let bytes = bytes.ok_or(Error::NoBytes(digest))?;
    if Digest::of(&bytes) == digest { Ok(bytes) } else { Err(Error::BytesDamaged(digest)) }
}
