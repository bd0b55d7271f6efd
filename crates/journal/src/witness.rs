//! The witness: what the store was when it was last written, and what has happened since. It is
//! written without a sync at each step of a transaction, so it outlives the process but perhaps not
//! the machine; every [`SYNC_EVERY`] commits it is synced.
//!
//! There are three files. A new witness is written over the file that is neither the latest nor the
//! one that was synced last. So when the process is killed while it writes, the latest is whole;
//! and when the machine stops, the synced one is.

use std::io;
use std::sync::Arc;

use crate::codec::{Coded, Read, Unreadable, read_list, write_list};
use crate::disk::Watched;
use crate::error::Error;
use crate::record::Record;
use crate::state::State;
use crate::store::FORMAT;

/// The names of the files.
pub(crate) const FILES: [&str; 3] = ["witness.0", "witness.1", "witness.2"];
/// How many commits of the store the witness may be behind after the machine has stopped.
pub(crate) const SYNC_EVERY: u64 = 64;

const MAGIC: &[u8; 8] = b"midfl-w\n";
/// Magic, format, length and digest stand before the rest.
const HEAD: usize = 8 + 8 + 8 + 32;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Witness {
    /// How many were written before: the latest has the highest.
    pub(crate) count: u64,
    /// How many commits the store has.
    pub(crate) generation: u64,
    /// The sequence of the latest record that is in the store.
    pub(crate) stored: u64,
    /// How long the store is.
    pub(crate) store_bytes: u64,
    /// What it all comes to, with what is pending.
    pub(crate) state: State,
    /// Records that are not yet in the store.
    pub(crate) pending: Vec<Record>,
}

impl Coded for Witness {
    fn write(&self, to: &mut Vec<u8>) {
        self.count.write(to);
        self.generation.write(to);
        self.stored.write(to);
        self.store_bytes.write(to);
        self.state.write(to);
        write_list(&self.pending, to);
    }

    fn read(from: &mut &[u8]) -> Read<Self> {
        Ok(Self {
            count: u64::read(from)?,
            generation: u64::read(from)?,
            stored: u64::read(from)?,
            store_bytes: u64::read(from)?,
            state: State::read(from)?,
            pending: read_list(from, u32::MAX as usize)?,
        })
    }
}

/// Why a file has no witness.
#[derive(Debug)]
pub(crate) enum NoWitness {
    Unreadable,
    Newer(u64),
}

impl From<Unreadable> for NoWitness {
    fn from(_: Unreadable) -> Self {
        Self::Unreadable
    }
}

impl Witness {
    pub(crate) fn to_file(&self) -> Vec<u8> {
        Self::sealed(&self.to_bytes())
    }

    pub(crate) fn sealed(body: &[u8]) -> Vec<u8> {
        let mut file = Vec::with_capacity(HEAD + body.len());
        file.extend_from_slice(MAGIC);
        FORMAT.write(&mut file);
        (body.len() as u64).write(&mut file);
        file.extend_from_slice(digest(FORMAT, body).as_bytes());
        file.extend_from_slice(body);
        file
    }

    /// What is behind it in the file is of a longer one before.
    pub(crate) fn from_file(mut file: &[u8]) -> Result<Self, NoWitness> {
        let magic = file.split_off(..MAGIC.len()).ok_or(NoWitness::Unreadable)?;
        if magic != MAGIC {
            return Err(NoWitness::Unreadable);
        }
        let format = u64::read(&mut file)?;
        let length = usize::try_from(u64::read(&mut file)?).map_err(|_| NoWitness::Unreadable)?;
        let expected = file.split_off(..32).ok_or(NoWitness::Unreadable)?;
        let body = file.get(..length).ok_or(NoWitness::Unreadable)?;
        if digest(format, body).as_bytes() != expected {
            return Err(NoWitness::Unreadable);
        }
        // Only now: a torn file is no newer one.
        if format > FORMAT {
            return Err(NoWitness::Newer(format));
        }
        Ok(Self::from_bytes(body)?)
    }
}

fn digest(format: u64, body: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&format.to_le_bytes()).update(body);
    hasher.finalize()
}

/// Which of the files is which.
#[derive(Debug)]
pub(crate) struct Files {
    disk: Arc<Watched>,
    count: u64,
    latest: usize,
    synced: usize,
    /// At which generation it was synced last.
    synced_at: u64,
}

impl Files {
    /// The latest witness of the disk, if there is one that can be read.
    pub(crate) fn read(disk: &Watched) -> Result<Option<Witness>, Error> {
        let mut latest: Option<Witness> = None;
        for name in FILES {
            let bytes =
                disk.read(name).map_err(|error| Error::io("reading the journal's witness", &error))?;
            match bytes.as_deref().map(Witness::from_file) {
                Some(Ok(found)) if latest.as_ref().is_none_or(|latest| latest.count < found.count) => {
                    latest = Some(found);
                }
                Some(Err(NoWitness::Newer(found))) => {
                    return Err(Error::NewerFormat { found, known: FORMAT });
                }
                Some(Ok(_) | Err(NoWitness::Unreadable)) | None => {}
            }
        }
        Ok(latest)
    }

    /// Goes on behind the latest witness. All three files are there and synced afterwards, and the
    /// one that has `witness` is the latest.
    pub(crate) fn begin(disk: Arc<Watched>, mut witness: Witness) -> io::Result<Self> {
        let mut latest = None;
        for (at, name) in FILES.into_iter().enumerate() {
            if let Some(Ok(found)) = disk.read(name)?.as_deref().map(Witness::from_file)
                && latest.is_none_or(|(_, count)| count < found.count)
            {
                latest = Some((at, found.count));
            }
        }
        let (last, count) = latest.unwrap_or((FILES.len() - 1, 0));
        // One after the other, the latest that was there at the end: one of them is whole always.
        let mut at = last;
        witness.count = count;
        for _ in FILES {
            at = (at + 1) % FILES.len();
            witness.count += 1;
            disk.write(FILES[at], &witness.to_file())?;
            disk.sync(FILES[at])?;
        }
        disk.sync_folder("")?;
        Ok(Self { disk, count: witness.count, latest: at, synced: at, synced_at: witness.generation })
    }

    /// Writes it, without a sync unless it is time for one, or `now`.
    pub(crate) fn write(&mut self, mut witness: Witness, now: bool) -> io::Result<()> {
        let free = (0..FILES.len()).find(|at| *at != self.latest && *at != self.synced);
        let at = free.expect("two of three files are taken at most");
        // Also if it fails: what was written of it must not pass for the next one.
        self.count += 1;
        witness.count = self.count;
        self.disk.write(FILES[at], &witness.to_file())?;
        self.latest = at;
        if now || witness.generation >= self.synced_at + SYNC_EVERY {
            self.disk.sync(FILES[at])?;
            self.synced = at;
            self.synced_at = witness.generation;
        }
        Ok(())
    }
}
