//! The versions there are, for code in modules that looks for code by address.

use std::ffi::{CString, OsStr, c_char};
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use midflight_image::{ExportTables, Protection, Region};

use super::dynamic::Scope;
use crate::code::Block;
use crate::platform::files::Identity;
use crate::platform::lockless::Lockless;

/// The versions there are, and how many have come and gone: who caches what was found compares the
/// two. It is never changed: who adds or removes a version makes another list, most of whose chunks
/// are the one's before.
#[derive(Clone, Default)]
struct List {
    /// By address, and none is empty.
    chunks: Vec<Arc<Vec<Arc<Object>>>>,
    added: u64,
    removed: u64,
}

/// How many versions a chunk has at most: so many are copied when one is added.
const CHUNK: usize = 128;

/// The list as it is now.
static LIST: Lockless<List> = Lockless::new();

impl List {
    /// Which chunk has this address, or is the last before it.
    fn chunk(&self, base: u64) -> usize {
        self.chunks.partition_point(|chunk| chunk[0].base <= base).saturating_sub(1)
    }

    fn add(&mut self, object: Arc<Object>) {
        self.added += 1;
        if self.chunks.is_empty() {
            self.chunks.push(Arc::new(vec![object]));
            return;
        }
        let at = self.chunk(object.base);
        let mut chunk = Vec::clone(&self.chunks[at]);
        chunk.insert(chunk.partition_point(|other| other.base <= object.base), object);
        let rest = (chunk.len() > CHUNK).then(|| chunk.split_off(CHUNK / 2));
        self.chunks[at] = Arc::new(chunk);
        if let Some(rest) = rest {
            self.chunks.insert(at + 1, Arc::new(rest));
        }
    }

    fn remove(&mut self, object: &Arc<Object>) {
        self.removed += 1;
        let at = self.chunk(object.base);
        let mut chunk = Vec::clone(&self.chunks[at]);
        chunk.retain(|other| !Arc::ptr_eq(other, object));
        match chunk.is_empty() {
            true => drop(self.chunks.remove(at)),
            false => self.chunks[at] = Arc::new(chunk),
        }
    }

    fn find(&self, address: u64) -> Option<&Object> {
        let chunk = self.chunks.get(self.chunk(address))?;
        let after = chunk.partition_point(|object| object.base <= address);
        chunk.get(after.checked_sub(1)?).map(|object| &**object).filter(|object| object.contains(address))
    }
}

/// What there is in a version by name.
pub(crate) trait Names: Send + Sync {
    /// The name of what an address is in, and how far from its start. Must be async-signal-safe.
    fn at(&self, address: u64) -> Option<(&[u8], u64)>;
    /// How much memory it takes.
    fn bytes(&self) -> usize;
}

/// What of a version's exports is known, once that is.
enum Named {
    /// By the tables in its memory.
    InPlace,
    Listed(Arc<dyn Names>),
}

/// How current a version is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Standing {
    /// It is being loaded.
    Coming,
    Current,
    /// It was replaced, or its module unloaded.
    Old,
}

/// A version as a loader would describe it.
pub(crate) struct Object {
    /// Where the image is, and what must be added to the addresses of its file.
    pub(crate) base: u64,
    pub(crate) bias: u64,
    pub(crate) regions: Box<[Region]>,
    pub(crate) frames: Option<FrameHeader>,
    pub(crate) file: FileOnDisk,
    /// How what it exports is found in its memory.
    pub(crate) exports: Option<ExportTables>,
    /// What its code reaches by names, if it asks.
    pub(crate) scope: Option<Arc<Scope>>,
    named: OnceLock<Named>,
    /// Relaxed: a figure by itself, of which who reads it knows that it may change.
    standing: AtomicU8,
}

impl Object {
    pub(crate) fn new(
        [base, bias]: [u64; 2],
        regions: Box<[Region]>,
        frames: Option<FrameHeader>,
        file: FileOnDisk,
        exports: Option<ExportTables>,
    ) -> Self {
        let (named, standing) = (OnceLock::new(), AtomicU8::new(Standing::Coming as u8));
        Self { base, bias, regions, frames, file, exports, scope: None, named, standing }
    }

    pub(crate) fn standing(&self) -> Standing {
        let all = [Standing::Coming, Standing::Current, Standing::Old];
        all[usize::from(self.standing.load(Ordering::Relaxed))]
    }

    /// The name of what an address is in, and how far from its start. Only for who [`find`]s it:
    /// its memory stays as long. Async-signal-safe.
    pub(crate) fn name_at(&self, address: u64) -> Option<(&[u8], u64)> {
        match self.named.get()? {
            Named::InPlace => {
                let tables = self.exports.as_ref()?;
                let (region, names) = (tables.region(), tables.names());
                let start =
                    std::ptr::with_exposed_provenance(self.base as usize + region.start + names.start);
                // SAFETY: the image says that this is in a region that is only read. It was linked
                // before `named` was set, and its memory does not go while somebody reads the list
                // (`free`).
                let names = unsafe { std::slice::from_raw_parts(start, names.len()) };
                tables.at(names, address - self.base)
            }
            Named::Listed(list) => list.at(address),
        }
    }
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

/// A header for call frame information, as PT_GNU_EH_FRAME leads to: only where the section is. The
/// linker's own has a table of the functions as well; without one, they are gone through in order.
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
    path: CString,
    /// None if no single file has the image's addresses.
    identity: Option<Identity>,
    module: Arc<str>,
    version: u64,
}

impl FileOnDisk {
    pub(crate) fn new(path: &Path, identity: Option<Identity>, module: Arc<str>, version: u64) -> Self {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
        // No file has a name with a NUL.
        let path = CString::new(path.into_os_string().into_vec()).unwrap_or_default();
        Self { path, identity, module, version }
    }

    pub(crate) fn module(&self) -> &str {
        &self.module
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// The path, whatever is there by now.
    pub(crate) fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.path.to_bytes()))
    }

    /// The path, as long as this is there.
    pub(crate) fn path(&self) -> *const c_char {
        self.path.as_ptr()
    }

    /// The path, if the file is still the one that was loaded: another file's names would be wrong
    /// ones. Otherwise what is no path, and not empty, which would stand for the executable.
    pub(super) fn name(&self) -> CString {
        let is_there = || {
            std::fs::metadata(OsStr::from_bytes(self.path.to_bytes())).is_ok_and(|now| {
                self.identity.is_some_and(|identity| identity.is_as_written(Identity::from(&now)))
            })
        };
        let path = self.identity.map(|_| self.path.clone());
        let otherwise = || CString::new(format!("midflight: {} {}", self.module, self.version));
        path.filter(|_| is_there()).or_else(|| otherwise().ok()).unwrap_or_else(|| c"midflight".into())
    }
}

impl Object {
    /// Whether an offset from its base is in code.
    pub(crate) fn is_code(&self, offset: u64) -> bool {
        let code = |region: &&Region| region.protection == Protection::ReadExecute;
        self.regions.iter().filter(code).any(|region| offset.wrapping_sub(region.offset) < region.len)
    }

    /// Whether an address is in one of its regions.
    pub(crate) fn contains(&self, address: u64) -> bool {
        let offset = address.wrapping_sub(self.base);
        self.regions.iter().any(|region| offset.wrapping_sub(region.offset) < region.len)
    }
}

/// A version that is in the list, until this is dropped.
pub(crate) struct Registered {
    object: Arc<Object>,
    /// How many there had been when it came.
    pub(crate) number: u64,
}

impl Registered {
    pub(crate) fn new(object: Object) -> Self {
        let object = Arc::new(object);
        let mut number = 0;
        LIST.change(|list| {
            list.add(object.clone());
            number = list.added;
        });
        Self { object, number }
    }

    /// It is linked, and its memory has the names of what it exports: in the file's own tables, or
    /// in this list.
    pub(crate) fn set_names(&self, listed: Option<Arc<dyn Names>>) {
        let named = listed.map_or(Named::InPlace, Named::Listed);
        self.object.named.get_or_init(|| named);
    }

    pub(crate) fn set_standing(&self, standing: Standing) {
        self.object.standing.store(standing as u8, Ordering::Relaxed);
    }

    /// What must be added to the addresses of its file.
    pub(crate) fn bias(&self) -> u64 {
        self.object.bias
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        LIST.change(|list| list.remove(&self.object));
    }
}

/// The list as it is now. Nobody calls code of others while he is counted as a reader.
pub(super) fn snapshot() -> (Vec<Arc<Object>>, u64, u64) {
    LIST.with(|list| {
        let Some(list) = list else { return (Vec::new(), 0, 0) };
        (list.chunks.iter().flat_map(|chunk| chunk.iter().cloned()).collect(), list.added, list.removed)
    })
}

/// Memory of versions that went while somebody read the list.
static WAITING: Mutex<Vec<Block>> = Mutex::new(Vec::new());

/// Frees the memory of a version that is not in the list any more. Who reads the list meanwhile may
/// have found it there before, and be reading its names: then it stays until the next version goes.
/// Nobody waits for a reader, who may be a handler that interrupts this.
///
/// # Safety
///
/// As for [`Block::free`], but for who reads the list.
pub(crate) unsafe fn free(block: Block) {
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    waiting.push(block);
    if !LIST.is_read() {
        // SAFETY: the caller promises it of all others, and readers that could have found it are
        // gone.
        waiting.drain(..).for_each(|block| unsafe { block.free() });
    }
}

/// What a reader notes of the version that an address is in. Async-signal-safe, if `note` is.
pub(crate) fn find<T>(address: u64, note: impl FnOnce(&Object) -> T) -> Option<T> {
    LIST.with(|list| list?.find(address).map(note))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(base: u64) -> Object {
        let regions = [Region { offset: 0, len: 0x1000, protection: Protection::ReadExecute }];
        let file = FileOnDisk::new(Path::new("object"), None, "object".into(), base);
        Object::new([base, base], regions.into(), None, file, None)
    }

    fn found(address: u64) -> Option<u64> {
        find(address, |object| object.base)
    }

    /// Far from what other tests of this process load.
    const FIRST: u64 = 1 << 60;

    #[test]
    fn objects_are_found_while_they_are_registered() {
        let place = |n: u64| FIRST + n * 0x2000;
        let mut registered: Vec<_> = (0..1000_u64).map(|n| (n * 7 + 3) % 1000).collect();
        registered.dedup();
        let mut registered: Vec<_> =
            registered.into_iter().map(|n| (n, Registered::new(object(place(n))))).collect();
        for n in 0..1000 {
            assert_eq!(found(place(n)), Some(place(n)));
            assert_eq!(found(place(n) + 0xfff), Some(place(n)));
            assert_eq!(found(place(n) + 0x1000), None);
        }
        assert_eq!(found(FIRST - 1), None);
        let bases: Vec<u64> = snapshot().0.iter().map(|object| object.base).collect();
        assert!(bases.is_sorted());
        while let Some((n, one)) = registered.pop() {
            drop(one);
            assert_eq!(found(place(n)), None);
            assert!(registered.iter().step_by(100).all(|(n, _)| found(place(*n)) == Some(place(*n))));
        }
    }
}
