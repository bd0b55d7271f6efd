//! What a version exports, by name.

use midflight_image::{Export, ExportKind, ExportTables, Image, Protection};

use crate::code::Block;

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
    Listed(List),
}

impl Exports {
    /// `address` says where an export is that is listed.
    pub(crate) fn new(image: &Image<'_>, address: impl FnMut(&Export<'_>) -> u64) -> Self {
        match image.export_tables() {
            Some(tables) => Self::InPlace(tables),
            None => Self::Listed(List::new(&image.exports(), address)),
        }
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

/// Names and addresses, in three allocations whatever their number. (A `HashMap<Box<str>, _>` took 150 of the 480 us of loading
/// 1,000 exports.)
pub(crate) struct List {
    /// All names, one after the other.
    names: String,
    entries: Vec<Entry>,
    /// For each bucket of hashes, the first entry of its chain; their number is a power of two.
    buckets: Vec<u32>,
}

struct Entry {
    /// Where the name ends in `names`; it starts where the one before ends.
    end: u32,
    hash: u32,
    /// The next entry of the chain.
    next: u32,
    exported: Exported,
}

const NONE: u32 = u32::MAX;

impl List {
    /// `address` says where an export is.
    fn new(exports: &[Export<'_>], mut address: impl FnMut(&Export<'_>) -> u64) -> Self {
        let text = exports.iter().map(|export| export.name.len()).sum();
        let buckets = (exports.len() * 2).next_power_of_two();
        let mut made = Self {
            names: String::with_capacity(text),
            entries: Vec::with_capacity(exports.len()),
            buckets: vec![NONE; buckets],
        };
        for export in exports {
            let exported = Exported::new(export.kind, address(export) as usize);
            made.names.push_str(export.name);
            let hash = hash(export.name);
            let first = &mut made.buckets[hash as usize & (buckets - 1)];
            let next = std::mem::replace(first, made.entries.len() as u32);
            // A file is far shorter than 4 GiB (MAX_BLOCK), and so are its names.
            made.entries.push(Entry { end: made.names.len() as u32, hash, next, exported });
        }
        made
    }

    fn get(&self, name: &str) -> Option<Exported> {
        let hash = hash(name);
        let mut at = self.buckets[hash as usize & (self.buckets.len() - 1)];
        while at != NONE {
            let entry = &self.entries[at as usize];
            if entry.hash == hash && self.name(at as usize) == name {
                return Some(entry.exported);
            }
            at = entry.next;
        }
        None
    }

    fn name(&self, index: usize) -> &str {
        let start = index.checked_sub(1).map_or(0, |before| self.entries[before].end);
        &self.names[start as usize..self.entries[index].end as usize]
    }
}

/// FNV-1a. Names come from modules that may run code here, so nothing is gained by resisting chosen collisions.
fn hash(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_found_and_no_other() {
        let names: Vec<String> = (0..1000).map(|n| format!("f{n}")).collect();
        let export = |(offset, name): (usize, &'static str)| Export {
            name,
            offset: offset as u64,
            size: 0,
            kind: if offset % 2 == 0 { ExportKind::Function } else { ExportKind::Data },
        };
        let leaked = names.iter().map(|name| &*name.clone().leak()).enumerate();
        let exports: Vec<_> = leaked.map(export).collect();
        let made = List::new(&exports, |export| 0x1000 + export.offset);
        for (index, name) in names.iter().enumerate() {
            let expected = Exported { address: 0x1000 + index, function: index % 2 == 0 };
            assert_eq!(made.get(name), Some(expected), "{name}");
        }
        assert_eq!((made.get("f1000"), made.get("")), (None, None));
        assert_eq!(List::new(&[], |_| 0).get("f"), None);
    }
}
