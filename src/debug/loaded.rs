//! The versions there are, for code in modules that looks for code by address.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::Metadata;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use midflight_image::{Protection, Region};

/// The versions there are, and how many have come and gone: who caches what was found compares the two.
struct Loaded {
    /// By address.
    objects: BTreeMap<u64, Arc<Object>>,
    added: u64,
    removed: u64,
}

static LOADED: Mutex<Loaded> = Mutex::new(Loaded { objects: BTreeMap::new(), added: 0, removed: 0 });

/// A version as a loader would describe it.
pub(crate) struct Object {
    /// Where the image is, and what must be added to the addresses of its file.
    pub(crate) base: u64,
    pub(crate) bias: u64,
    pub(crate) regions: Box<[Region]>,
    pub(crate) frames: Option<FrameHeader>,
    pub(crate) file: FileOnDisk,
}

impl Object {
    /// From the first of its executable pages to the end of the last.
    pub(crate) fn code(&self) -> Range<usize> {
        let executable = self.regions.iter().filter(|region| region.protection == Protection::ReadExecute);
        let place = |region: &Region| {
            let start = (self.base + region.offset) as usize;
            start..start + region.len as usize
        };
        executable.map(place).reduce(|all, next| all.start..next.end).unwrap_or(0..0)
    }
}

/// A header for call frame information, as PT_GNU_EH_FRAME leads to: only where the section is. The linker's own has a
/// table of the functions as well; without one, they are gone through in order.
#[repr(C, packed)]
pub(crate) struct FrameHeader {
    version: u8,
    section_encoding: u8,
    count_encoding: u8,
    table_encoding: u8,
    section: u64,
}

impl FrameHeader {
    pub(crate) fn new(section: u64) -> Self {
        // DW_EH_PE_absptr and DW_EH_PE_omit.
        Self { version: 1, section_encoding: 0x00, count_encoding: 0xFF, table_encoding: 0xFF, section }
    }
}

/// The file of a version, and which one it was when it was read.
pub(crate) struct FileOnDisk {
    path: PathBuf,
    /// None if no single file has the image's addresses.
    identity: Option<Identity>,
    module: Arc<str>,
    version: u64,
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

impl FileOnDisk {
    pub(crate) fn new(path: &Path, identity: Option<Identity>, module: Arc<str>, version: u64) -> Self {
        Self { path: std::path::absolute(path).unwrap_or_else(|_| path.into()), identity, module, version }
    }

    /// The path, if the file is still the one that was loaded: another file's names would be wrong ones. Otherwise what
    /// is no path, and not empty, which would stand for the executable.
    pub(super) fn name(&self) -> CString {
        let is_there = || {
            std::fs::metadata(&self.path).is_ok_and(|now| {
                Some(Identity::from(&now).as_written()) == self.identity.map(Identity::as_written)
            })
        };
        let path = self.identity.and_then(|_| CString::new(self.path.as_os_str().as_bytes()).ok());
        let otherwise = || CString::new(format!("midflight: {} {}", self.module, self.version));
        path.filter(|_| is_there()).or_else(|| otherwise().ok()).unwrap_or_else(|| c"midflight".into())
    }
}

impl Object {
    /// Whether an address is in one of its regions.
    pub(super) fn contains(&self, address: u64) -> bool {
        let offset = address.wrapping_sub(self.base);
        self.regions.iter().any(|region| offset.wrapping_sub(region.offset) < region.len)
    }
}

/// A version that is in the list, until this is dropped.
pub(crate) struct Registered {
    object: Arc<Object>,
    /// How many there had been when it came.
    pub(super) number: u64,
}

impl Registered {
    pub(crate) fn new(object: Object) -> Self {
        let object = Arc::new(object);
        let mut loaded = lock();
        loaded.objects.insert(object.base, object.clone());
        loaded.added += 1;
        Self { object, number: loaded.added }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut loaded = lock();
        loaded.objects.remove(&self.object.base);
        loaded.removed += 1;
    }
}

/// The list as it is now. Nobody calls code of others under its lock.
pub(super) fn snapshot() -> (Vec<Arc<Object>>, u64, u64) {
    let loaded = lock();
    (loaded.objects.values().cloned().collect(), loaded.added, loaded.removed)
}

/// The version that an address is in.
pub(super) fn find(address: u64) -> Option<Arc<Object>> {
    let loaded = lock();
    let (_, object) = loaded.objects.range(..=address).next_back()?;
    object.contains(address).then(|| object.clone())
}

fn lock() -> MutexGuard<'static, Loaded> {
    LOADED.lock().unwrap_or_else(PoisonError::into_inner)
}
