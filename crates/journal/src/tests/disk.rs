//! A disk in memory that keeps what it has promised and nothing else: what was not synced may be
//! there or not, in any order, and in part.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use redb::StorageBackend;

use crate::disk::Disk;

/// Many times what anything here needs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// Numbers that look random, the same for the same seed (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// How a disk ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Crash {
    /// The process is killed: all that it wrote is there.
    Process,
    /// The machine stops, and nothing is there that was not synced.
    Bare,
    /// The machine stops, and of what was not synced some is there: in any order, and torn.
    Torn(u64),
}

#[derive(Clone, Debug)]
enum Write {
    Bytes(u64, Vec<u8>),
    Length(u64),
}

impl Write {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Bytes(offset, bytes) => {
                let (from, end) = (*offset as usize, *offset as usize + bytes.len());
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[from..end].copy_from_slice(bytes);
            }
            Self::Length(length) => to.resize(*length as usize, 0),
        }
    }
}

#[derive(Clone, Debug)]
enum Naming {
    Add(String, usize),
    Rename(String, String),
    Remove(String),
}

impl Naming {
    fn apply(&self, to: &mut BTreeMap<String, usize>) {
        match self {
            Self::Add(name, file) => {
                to.insert(name.clone(), *file);
            }
            Self::Rename(from, name) => {
                if let Some(file) = to.remove(from) {
                    to.insert(name.clone(), file);
                }
            }
            Self::Remove(name) => {
                to.remove(name);
            }
        }
    }
}

#[derive(Clone, Default)]
struct File {
    now: Vec<u8>,
    synced: Vec<u8>,
    since: Vec<Write>,
}

#[derive(Clone, Default)]
struct World {
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    synced: BTreeMap<String, usize>,
    /// As file systems with a journal have it: the names that are there after a crash are those of
    /// some moment since the last sync.
    since: Vec<Naming>,
    syncs: u64,
    crash_at: Option<u64>,
    writes: u64,
    /// The write of this number is done in part, and then the process has ended.
    killed_at: Option<u64>,
    crashed: bool,
    /// How many bytes all files together may have.
    room: Option<u64>,
    /// Not even what is there already may be written over.
    refuses: bool,
    /// The next sync fails; and what it should have written is lost, as on Linux.
    sync_fails: bool,
}

#[derive(Clone)]
pub(crate) struct Simulated(Arc<Mutex<World>>, Arc<Gate>);

/// Where syncs of stores wait, if they shall.
#[derive(Default)]
struct Gate {
    /// Whether it is shut, and whether somebody waits there.
    shut: Mutex<(bool, bool)>,
    changed: Condvar,
}

/// Syncs of stores wait until this is dropped.
pub(crate) struct Held(Arc<Gate>);

impl Held {
    pub(crate) fn wait_until_held(&self) {
        let shut = self.0.shut.lock().unwrap();
        let waited = self.0.changed.wait_timeout_while(shut, DEADLINE, |shut| !shut.1).unwrap();
        assert!(!waited.1.timed_out(), "nobody has come to sync");
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        *self.0.shut.lock().unwrap() = (false, false);
        self.0.changed.notify_all();
    }
}

impl fmt::Debug for Simulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Simulated")
    }
}

fn full() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "no space left on this disk")
}

impl World {
    fn check(&self) -> io::Result<()> {
        if self.crashed { Err(io::Error::other("crashed")) } else { Ok(()) }
    }

    fn file(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn name(&mut self, naming: Naming) {
        naming.apply(&mut self.names);
        self.since.push(naming);
    }

    fn made(&mut self, name: &str) -> usize {
        self.file(name).unwrap_or_else(|_| {
            self.files.push(File::default());
            self.name(Naming::Add(name.to_owned(), self.files.len() - 1));
            self.files.len() - 1
        })
    }

    fn write(&mut self, file: usize, write: Write) -> io::Result<()> {
        self.check()?;
        let end = match &write {
            Write::Bytes(offset, bytes) => offset + bytes.len() as u64,
            Write::Length(length) => *length,
        };
        let more = end.saturating_sub(self.files[file].now.len() as u64);
        let used: u64 = self.names.values().map(|file| self.files[*file].now.len() as u64).sum();
        if self.refuses || more > 0 && self.room.is_some_and(|room| used + more > room) {
            return Err(full());
        }
        self.writes += 1;
        if Some(self.writes) == self.killed_at {
            self.crashed = true;
            if let Write::Bytes(offset, bytes) = write {
                let part = Write::Bytes(offset, bytes[..bytes.len() / 2].to_vec());
                part.apply(&mut self.files[file].now);
                self.files[file].since.push(part);
            }
            return self.check();
        }
        write.apply(&mut self.files[file].now);
        self.files[file].since.push(write);
        Ok(())
    }

    /// Whether this sync happens.
    fn sync(&mut self) -> io::Result<()> {
        self.check()?;
        self.syncs += 1;
        if Some(self.syncs) == self.crash_at {
            self.crashed = true;
            return self.check();
        }
        if std::mem::take(&mut self.sync_fails) {
            return Err(io::Error::other("the disk does not answer"));
        }
        Ok(())
    }

    fn sync_file(&mut self, file: usize) -> io::Result<()> {
        let done = self.sync();
        let file = &mut self.files[file];
        if done.is_ok() {
            file.synced.clone_from(&file.now);
            file.since.clear();
        } else if !self.crashed {
            file.since.clear();
        }
        done
    }
}

impl Simulated {
    pub(crate) fn new() -> Self {
        Self(Arc::default(), Arc::default())
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    /// A disk of its own that has the same.
    pub(crate) fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.world().clone())), Arc::default())
    }

    pub(crate) fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.world().syncs
    }

    /// The sync of this number, counted from now, does not happen, and nothing does after it.
    pub(crate) fn crash_at(&self, sync: u64) {
        let mut world = self.world();
        world.crash_at = Some(world.syncs + sync);
    }

    pub(crate) fn writes(&self) -> u64 {
        self.world().writes
    }

    /// The process ends in the midst of the write of this number, counted from now.
    pub(crate) fn kill_at(&self, write: u64) {
        let mut world = self.world();
        world.killed_at = Some(world.writes + write);
    }

    pub(crate) fn has_crashed(&self) -> bool {
        self.world().crashed
    }

    /// So many bytes more may be written, or any number.
    pub(crate) fn limit(&self, more: Option<u64>) {
        let mut world = self.world();
        let used: u64 = world.names.values().map(|file| world.files[*file].now.len() as u64).sum();
        world.room = more.map(|more| used + more);
    }

    pub(crate) fn refuse(&self, refuses: bool) {
        self.world().refuses = refuses;
    }

    pub(crate) fn fail_next_sync(&self) {
        self.world().sync_fails = true;
    }

    pub(crate) fn hold_syncs(&self) -> Held {
        self.1.shut.lock().unwrap().0 = true;
        Held(Arc::clone(&self.1))
    }

    pub(crate) fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let world = self.world();
        world.file(name).ok().map(|file| world.files[file].now.clone())
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.world().names.keys().cloned().collect()
    }

    /// Somebody else gives the file other contents, or takes it away.
    pub(crate) fn replace(&self, name: &str, bytes: Option<Vec<u8>>) {
        let mut world = self.world();
        match bytes {
            Some(bytes) => {
                let file = world.made(name);
                world.files[file] = File { now: bytes.clone(), synced: bytes, since: Vec::new() };
            }
            None => {
                world.names.remove(name);
            }
        }
        world.synced = world.names.clone();
        world.since.clear();
    }

    /// What is there afterwards.
    pub(crate) fn after(&self, crash: Crash) -> Self {
        let mut world = self.world().clone();
        let mut dice = Dice(match crash {
            Crash::Torn(seed) => seed,
            Crash::Process | Crash::Bare => 0,
        });
        for file in &mut world.files {
            let mut kept = std::mem::take(&mut file.since);
            match crash {
                Crash::Process => {}
                Crash::Bare => kept.clear(),
                Crash::Torn(_) => kept = torn(kept, &mut dice),
            }
            let mut now = std::mem::take(&mut file.synced);
            kept.iter().for_each(|write| write.apply(&mut now));
            *file = File { now: now.clone(), synced: now, since: Vec::new() };
        }
        let count = match crash {
            Crash::Process => world.since.len(),
            Crash::Bare => 0,
            Crash::Torn(_) => dice.below(world.since.len() as u64 + 1) as usize,
        };
        let mut names = world.synced;
        world.since[..count].iter().for_each(|naming| naming.apply(&mut names));
        let files = world.files;
        let world = World { files, names: names.clone(), synced: names, ..World::default() };
        Self(Arc::new(Mutex::new(world)), Arc::default())
    }
}

/// Some of the writes, some of these in part, in any order.
fn torn(writes: Vec<Write>, dice: &mut Dice) -> Vec<Write> {
    let mut kept = Vec::new();
    for write in writes {
        match (dice.below(3), write) {
            (0, _) => {}
            (1, Write::Bytes(offset, bytes)) => {
                // A sector is written or not; but for one, which ends in its midst.
                let cut = dice.below(bytes.len() as u64 + 1) as usize;
                for (at, sector) in bytes.chunks(512).enumerate() {
                    let from = at * 512;
                    let end =
                        if (from..from + sector.len()).contains(&cut) { cut - from } else { sector.len() };
                    if dice.below(2) == 0 && end > 0 {
                        kept.push(Write::Bytes(offset + from as u64, sector[..end].to_vec()));
                    }
                }
            }
            (_, write) => kept.push(write),
        }
    }
    for at in (1..kept.len()).rev() {
        kept.swap(at, dice.below(at as u64 + 1) as usize);
    }
    kept
}

impl Disk for Simulated {
    fn store(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        let mut world = self.world();
        world.check()?;
        let file = world.made(name);
        drop(world);
        Ok(Box::new(Store { disk: self.clone(), file }))
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let world = self.world();
        world.check()?;
        Ok(world.file(name).ok().map(|file| world.files[file].now.clone()))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut world = self.world();
        world.check()?;
        let file = world.made(name);
        world.write(file, Write::Bytes(0, bytes.to_vec()))?;
        world.write(file, Write::Length(bytes.len() as u64))
    }

    fn length(&self, name: &str) -> io::Result<Option<u64>> {
        Ok(self.read(name)?.map(|bytes| bytes.len() as u64))
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        let mut world = self.world();
        let file = world.file(name)?;
        world.sync_file(file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.world();
        world.check()?;
        world.file(from)?;
        world.name(Naming::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.world();
        world.check()?;
        world.file(name)?;
        world.name(Naming::Remove(name.to_owned()));
        Ok(())
    }

    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        let world = self.world();
        world.check()?;
        let inside = |name: &String| name.strip_prefix(folder)?.strip_prefix('/').map(str::to_owned);
        let entry =
            |(name, file): (&String, &usize)| Some((inside(name)?, world.files[*file].now.len() as u64));
        Ok(world.names.iter().filter_map(entry).collect())
    }

    fn sync_folder(&self, _folder: &str) -> io::Result<()> {
        let mut world = self.world();
        world.sync()?;
        world.synced = world.names.clone();
        world.since.clear();
        Ok(())
    }
}

#[derive(Debug)]
struct Store {
    disk: Simulated,
    file: usize,
}

impl StorageBackend for Store {
    fn len(&self) -> io::Result<u64> {
        let world = self.disk.world();
        world.check()?;
        Ok(world.files[self.file].now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let world = self.disk.world();
        world.check()?;
        let from = offset as usize;
        let bytes = world.files[self.file].now.get(from..from + out.len());
        out.copy_from_slice(bytes.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.disk.world().write(self.file, Write::Length(length))
    }

    fn sync_data(&self) -> io::Result<()> {
        let gate = &self.disk.1;
        let mut shut = gate.shut.lock().unwrap();
        if shut.0 {
            shut.1 = true;
            gate.changed.notify_all();
            drop(gate.changed.wait_while(shut, |shut| shut.0).unwrap());
        }
        self.disk.world().sync_file(self.file)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.world().write(self.file, Write::Bytes(offset, bytes.to_vec()))
    }
}

#[test]
fn what_was_not_synced_may_be_lost_and_what_was_is_there() {
    let disk = Simulated::new();
    disk.write("a", &[1; 2000]).unwrap();
    assert_eq!(disk.after(Crash::Bare).names(), [""; 0]);
    assert_eq!(disk.after(Crash::Process).contents("a").unwrap(), [1; 2000]);
    disk.sync("a").unwrap();
    disk.sync_folder("").unwrap();
    disk.write("a", &[2; 2000]).unwrap();
    assert_eq!(disk.after(Crash::Bare).contents("a").unwrap(), [1; 2000]);
    let torn: Vec<_> = (0..50).map(|seed| disk.after(Crash::Torn(seed)).contents("a").unwrap()).collect();
    for wanted in [vec![1; 2000], vec![2; 2000]] {
        assert!(torn.contains(&wanted));
    }
    assert!(torn.iter().any(|bytes| bytes.contains(&1) && bytes.contains(&2)));
}
