//! What a version exports, by name.

use std::collections::HashMap;
use std::sync::Arc;

use midflight_image::{Export, ExportKind, ExportTables, Image, Protection};

use crate::code::Block;
use crate::fault::past;
use crate::host::loaded::Names;

/// An exported symbol where it was loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Exported {
    pub(crate) address: usize,
    pub(crate) function: bool,
}

impl Exported {
    fn new(kind: ExportKind, address: usize) -> Self {
        Self { address, function: matches!(kind, ExportKind::Function | ExportKind::Indirect) }
    }
}

/// Finds a version's exports.
pub(crate) enum Exports {
    /// By the file's own tables, in the version's memory.
    InPlace(ExportTables),
    /// By a list, for images that have no such tables.
    Listed(Arc<List>),
}

impl Exports {
    /// `address` says where an export is that is listed.
    pub(crate) fn new(image: &Image<'_>, address: impl FnMut(&Export<'_>) -> u64) -> Self {
        match image.export_tables() {
            Some(tables) => Self::InPlace(tables),
            None => Self::Listed(Arc::new(List::new(image.exports(), image.versions(), address))),
        }
    }

    /// As they are listed, if they are.
    pub(crate) fn listed(&self) -> Option<Arc<dyn Names>> {
        match self {
            Self::InPlace(_) => None,
            Self::Listed(list) => Some(list.clone()),
        }
    }

    /// The names of the exports, for when the block is gone. Few bytes of them are kept, or none.
    pub(crate) fn outlive(self, block: &Block) -> Option<Outlived> {
        let names = match &self {
            Self::InPlace(tables) => block.read_only(tables.region())?.get(tables.names())?,
            Self::Listed(_) => &[],
        };
        let names = (names.len() <= past::BYTES_OF_ONE).then(|| names.into())?;
        let outlived = Outlived { exports: self, names, base: block.base() as u64 };
        (outlived.bytes() <= past::BYTES_OF_ONE).then_some(outlived)
    }

    /// Tells of the symbols that have a word in them.
    pub(crate) fn with_word<'e>(&'e self, word: &str, block: &'e Block, mut tell: impl FnMut(&'e str)) {
        match self {
            Self::InPlace(tables) => {
                let names = block.read_only(tables.region()).and_then(|region| region.get(tables.names()));
                let all = names.into_iter().flat_map(|names| tables.symbols(names));
                all.filter(|symbol| symbol.contains(word)).for_each(tell);
            }
            Self::Listed(list) => {
                let all = (0..list.entries.len()).map(|index| list.name(index));
                all.filter(|symbol| symbol.contains(word)).for_each(&mut tell);
            }
        }
    }

    /// The functions: of each its name, its address, and its code, which is empty if the file does
    /// not say how long it is. None if they cannot be listed.
    pub(crate) fn functions<'b>(&'b self, block: &'b Block) -> Option<Vec<(&'b str, u64, &'b [u8])>> {
        let base = block.base() as u64;
        let code = |address: u64, size: u64| {
            let start = usize::try_from(address.checked_sub(base)?).ok()?;
            block.read_only(start..start.checked_add(usize::try_from(size).ok()?)?)
        };
        let whole = |(name, address, size)| (name, address, code(address, size).unwrap_or_default());
        let functions = match self {
            Self::InPlace(tables) => {
                let is_code = |offset| block.protection(offset) == Some(Protection::ReadExecute);
                let found = tables.functions(block.read_only(tables.region())?, is_code)?;
                found.into_iter().map(|(name, offset, size)| whole((name, base + offset, size))).collect()
            }
            Self::Listed(list) => list.functions().map(whole).collect(),
        };
        Some(functions)
    }

    /// `block` is what the image was linked into.
    pub(crate) fn get(&self, name: &str, block: &Block) -> Option<Exported> {
        match self {
            Self::InPlace(tables) => {
                let is_code = |offset| block.protection(offset) == Some(Protection::ReadExecute);
                let (kind, offset) = tables.find(block.read_only(tables.region())?, name, is_code)?;
                let start = if kind == ExportKind::ThreadLocal { 0 } else { block.base() };
                Some(Exported::new(kind, start + offset as usize))
            }
            Self::Listed(list) => list.get(name),
        }
    }
}

/// The names of a version's exports, when it is gone.
pub(crate) struct Outlived {
    exports: Exports,
    /// A copy of what they are found in.
    names: Box<[u8]>,
    base: u64,
}

impl Names for Outlived {
    fn at(&self, address: u64) -> Option<(&[u8], u64)> {
        match &self.exports {
            Exports::InPlace(tables) => tables.at(&self.names, address.checked_sub(self.base)?),
            Exports::Listed(list) => list.at(address),
        }
    }

    fn bytes(&self) -> usize {
        let listed = match &self.exports {
            Exports::InPlace(_) => 0,
            Exports::Listed(list) => list.bytes(),
        };
        listed + self.names.len()
    }
}

/// Names and addresses, in three allocations whatever their number, and small ones. (A
/// `HashMap<Box<str>, _>` took 150 of the 480 us of loading 1,000 exports.)
#[derive(Default)]
pub(crate) struct List {
    /// All names, one after the other.
    names: String,
    entries: Vec<Entry>,
    /// For each bucket of hashes, the first entry of its chain; their number is a power of two.
    buckets: Vec<u32>,
    /// By name, what has versions, each with that.
    versions: HashMap<Box<str>, Vec<(Box<str>, Exported)>>,
}

struct Entry {
    /// Where the name ends in `names`; it starts where the one before ends.
    end: u32,
    /// The next entry of the chain.
    next: u32,
    /// 0 where nobody says; larger than 4 GiB nothing is.
    size: u32,
    function: bool,
    address: usize,
}

const NONE: u32 = u32::MAX;

impl List {
    /// `versions` are those that have one. `address` says where an export is.
    fn new(
        exports: Vec<Export<'_>>,
        versions: Vec<(Export<'_>, &str)>,
        mut address: impl FnMut(&Export<'_>) -> u64,
    ) -> Self {
        let mut of_name = HashMap::<Box<str>, Vec<_>>::new();
        for (export, version) in versions {
            let exported = Exported::new(export.kind, address(&export) as usize);
            of_name.entry(export.name.into()).or_default().push((version.into(), exported));
        }
        let mut names = String::with_capacity(exports.iter().map(|export| export.name.len()).sum());
        let mut buckets = vec![NONE; exports.len().next_power_of_two()];
        let mask = buckets.len() - 1;
        let entry = |(export, index): (Export<'_>, u32)| {
            let Exported { address, function } = Exported::new(export.kind, address(&export) as usize);
            names.push_str(export.name);
            let next = std::mem::replace(&mut buckets[hash(export.name) & mask], index);
            // A file is far shorter than 4 GiB (MAX_BLOCK), and so are its names.
            Entry { end: names.len() as u32, next, size: export.size as u32, function, address }
        };
        // In place, an entry being smaller than an export: other memory of that size may be new,
        // and costs a page fault for every 4 KiB then (50 of 220 us for 2,000 exports).
        let mut entries: Vec<_> = exports.into_iter().zip(0..).map(entry).collect();
        entries.shrink_to(2 * entries.len());
        Self { names, entries, buckets, versions: of_name }
    }

    fn get(&self, symbol: &str) -> Option<Exported> {
        self.find(symbol).or_else(|| {
            let (name, wanted) = symbol.split_once('@')?;
            match self.versions.get(name) {
                Some(all) => {
                    all.iter().find(|(version, _)| **version == *wanted).map(|(_, exported)| *exported)
                }
                // One that has no version serves for all.
                None => self.find(name),
            }
        })
    }

    fn find(&self, name: &str) -> Option<Exported> {
        let mut at = self.buckets[hash(name) & (self.buckets.len() - 1)];
        while at != NONE {
            let entry = &self.entries[at as usize];
            if self.name(at as usize) == name {
                return Some(Exported { address: entry.address, function: entry.function });
            }
            at = entry.next;
        }
        None
    }

    fn name(&self, index: usize) -> &str {
        let start = index.checked_sub(1).map_or(0, |before| self.entries[before].end);
        &self.names[start as usize..self.entries[index].end as usize]
    }

    /// Of each its name, its address and its size.
    fn functions(&self) -> impl Iterator<Item = (&str, u64, u64)> {
        let functions = self.entries.iter().enumerate().filter(|(_, entry)| entry.function);
        functions.map(|(index, entry)| (self.name(index), entry.address as u64, entry.size.into()))
    }
}

impl Names for List {
    fn at(&self, address: u64) -> Option<(&[u8], u64)> {
        let distance = |entry: &Entry| {
            let distance = address.checked_sub(entry.address as u64)?;
            (entry.size == 0 || distance < entry.size.into()).then_some(distance)
        };
        let near = self.entries.iter().enumerate();
        let near = near.filter_map(|(index, entry)| Some((distance(entry)?, index)));
        let (distance, index) = near.min_by_key(|(distance, _)| *distance)?;
        Some((self.name(index).as_bytes(), distance))
    }

    fn bytes(&self) -> usize {
        self.names.capacity()
            + self.entries.capacity() * size_of::<Entry>()
            + self.buckets.capacity() * size_of::<u32>()
    }
}

/// Eight bytes at a time, those of the end maybe twice: of each product both halves, so that every
/// bit of a name reaches the lowest ones of its hash. Names come from modules that may run code
/// here, so nothing is gained by resisting chosen collisions.
fn hash(name: &str) -> usize {
    let name = name.as_bytes();
    let mix = |hash: u64, word: u64| {
        let product = u128::from(hash ^ word) * 0x9E37_79B9_7F4A_7C15;
        (product as u64) ^ (product >> 64) as u64
    };
    let (words, rest) = name.as_chunks::<8>();
    let hash = words.iter().fold(name.len() as u64, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    let last = match name.last_chunk() {
        Some(last) => u64::from_le_bytes(*last),
        None => rest.iter().fold(0, |last, byte| last << 8 | u64::from(*byte)),
    };
    let hash = mix(hash, last);
    (hash ^ hash >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_name_is_found_and_no_other() {
        let names: Vec<String> = (0..1000).map(|n| format!("f{n}")).collect();
        let export = |(offset, name)| Export {
            name,
            offset: offset as u64,
            size: 0,
            kind: if offset % 2 == 0 { ExportKind::Function } else { ExportKind::Data },
        };
        let exports: Vec<_> = names.iter().map(String::as_str).enumerate().map(export).collect();
        let made = List::new(exports, Vec::new(), |export| 0x1000 + export.offset);
        for (index, name) in names.iter().enumerate() {
            let expected = Exported { address: 0x1000 + index, function: index % 2 == 0 };
            assert_eq!(made.get(name), Some(expected), "{name}");
        }
        assert_eq!((made.get("f1000"), made.get("")), (None, None));
        assert_eq!((made.get("f1@V1"), made.get("f1000@V1")), (made.get("f1"), None));
        assert_eq!(List::new(Vec::new(), Vec::new(), |_| 0).get("f"), None);
    }

    #[test]
    fn alike_names_are_spread() {
        let names: [fn(u32) -> String; 4] = [
            |n| format!("{n}"),
            |n| format!("f{n:03}"),
            |n| format!("{n:03}_which_ends_as_the_others_do"),
            |n| format!("which_begins_as_the_others_do_{n:03}"),
        ];
        for name in names {
            let buckets: BTreeSet<_> = (0..1024).map(|n| hash(&name(n)) & 1023).collect();
            // Numbers drawn by lot leave out one in e.
            assert!(buckets.len() > 550, "{}: {}", name(0), buckets.len());
        }
    }
}
