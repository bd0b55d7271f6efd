//! Exports found by name in a linked image, where the file's own tables are.
//!
//! A version of a module is asked for few of its exports, and may have thousands: a list of them
//! for each version took a quarter of the time of loading 2,000.

use super::Shared;
use super::hash::GnuHash;
use super::symbols::{Symbol, kind_of};
use super::versions::{Defined, Wanted};
use crate::elf::format::{Half, table_of};
use crate::{ExportKind, Protection};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ffi::CStr;
use core::ops::Range;
use object::LittleEndian as LE;
use object::elf;
use object::read::elf::Sym;

/// Where the tables are: all in one region that nobody writes to, so that they stay what was
/// checked.
#[derive(Clone, Debug)]
pub struct ExportTables {
    region: Range<usize>,
    symbols: Range<usize>,
    strings: Range<usize>,
    versions: Option<Range<usize>>,
    /// The versions that the module defines.
    defined: Box<[Defined]>,
    hash: Range<usize>,
    /// The address that offset 0 of the image has in the file's numbering.
    low: u64,
}

impl ExportTables {
    /// None if the module has no GNU hash table, its tables may change, or they do not say what an
    /// export's address is.
    pub(super) fn of(image: &Shared<'_>) -> Option<Self> {
        if image.exports_indirect {
            return None;
        }
        let (layout, dynamic) = (&image.tables.layout, &image.tables.dynamic);
        let place = |tag| layout.offset(dynamic.get(tag)?);
        let hash = place(elf::DT_GNU_HASH)?;
        let holds = |r: &&crate::Region| {
            // Many linkers for AArch64 put code and tables into one segment.
            r.protection != Protection::ReadWrite && (r.offset..r.offset + r.len).contains(&hash)
        };
        let region = layout.memory.regions.iter().find(holds)?;
        let region =
            usize::try_from(region.offset).ok()?..usize::try_from(region.offset + region.len).ok()?;
        // From the region's start, which is all that `find` is given.
        let within = |start: u64, len: usize| {
            let start = usize::try_from(start).ok()?.checked_sub(region.start)?;
            let end = start.checked_add(len)?;
            (end <= region.len()).then_some(start..end)
        };
        let count = image.tables.symbols.count();
        let versions = match place(elf::DT_VERSYM) {
            Some(start) => Some(within(start, count * 2)?),
            None => None,
        };
        Some(Self {
            symbols: within(place(elf::DT_SYMTAB)?, count * size_of::<Symbol>())?,
            strings: within(place(elf::DT_STRTAB)?, usize::try_from(dynamic.get(elf::DT_STRSZ)?).ok()?)?,
            versions,
            defined: image.tables.symbols.versions.defined.as_slice().into(),
            hash: within(hash, image.tables.symbols.gnu_hash_bytes()?)?,
            low: layout.low(),
            region,
        })
    }

    /// The bytes of the image, from its start, that [`find`](Self::find) reads.
    pub fn region(&self) -> Range<usize> {
        self.region.clone()
    }

    /// What the export of this name (or `name@version`) is, and where from the start of the image.
    /// `tables` is the [`region`](Self::region) of the linked image, and `is_code` says whether
    /// an offset in the image is executable.
    pub fn find(
        &self,
        tables: &[u8],
        symbol: &str,
        is_code: impl Fn(u64) -> bool,
    ) -> Option<(ExportKind, u64)> {
        let symbols = tables.get(self.symbols.clone())?;
        let symbols: &[Symbol] = table_of(symbols, symbols.len() / size_of::<Symbol>());
        let strings = tables.get(self.strings.clone())?;
        let versions = self.versions.clone().and_then(|place| tables.get(place));
        let hash = tables.get(self.hash.clone())?;
        let hash = GnuHash::reopen(table_of::<Half>(hash, hash.len() / 4))?;
        let find = |name: &str, wanted: Wanted| {
            let mut found = None;
            hash.find(name, |index| {
                let index = index as usize;
                let Some(symbol) = symbols.get(index) else { return false };
                let is_wanted = versions.is_none_or(|versions| {
                    let entry = versions.get(2 * index..).and_then(|rest| rest.first_chunk());
                    entry.is_some_and(|entry| wanted.is(u16::from_le_bytes(*entry)))
                });
                let offset = || symbol.st_value(LE).wrapping_sub(self.low);
                let kind = kind_of(symbol, || is_code(offset()))
                    .filter(|_| is_wanted && named(strings, symbol.st_name(LE), name));
                // As where they are listed: what has no code is no function to call.
                let callable = |kind: &ExportKind| *kind != ExportKind::Function || is_code(offset());
                found = kind.filter(callable).map(|kind| {
                    (kind, if kind == ExportKind::ThreadLocal { symbol.st_value(LE) } else { offset() })
                });
                found.is_some()
            });
            found.filter(|_| !name.is_empty())
        };
        find(symbol, Wanted::Default).or_else(|| {
            let (name, wanted) =
                Wanted::of(symbol, &self.defined, |at, version| named(strings, at, version))?;
            find(name, wanted)
        })
    }

    /// The bytes of the [`region`](Self::region), from its start, that [`at`](Self::at) reads.
    pub fn names(&self) -> Range<usize> {
        self.symbols.start.min(self.strings.start)..self.symbols.end.max(self.strings.end)
    }

    /// The names of all that has a place, as far as they are UTF-8. `names` as for
    /// [`at`](Self::at).
    pub fn symbols<'n>(&self, names: &'n [u8]) -> impl Iterator<Item = &'n str> {
        let start = self.names().start;
        let part = |part: &Range<usize>| names.get(part.start - start..part.end - start).unwrap_or_default();
        let (symbols, strings) = (part(&self.symbols), part(&self.strings));
        let symbols: &[Symbol] = table_of(symbols, symbols.len() / size_of::<Symbol>());
        let defined = symbols.iter().filter(|symbol| symbol.st_shndx(LE) != elf::SHN_UNDEF);
        defined.filter_map(|symbol| {
            let name = strings.get(symbol.st_name(LE) as usize..)?;
            let name = &name[..name.iter().position(|byte| *byte == 0)?];
            core::str::from_utf8(name).ok().filter(|name| !name.is_empty())
        })
    }

    /// The name of what an offset in the image is in, and how far from its start. `names` is what
    /// [`names`](Self::names) says, or a copy. Looks at every symbol, and allocates nothing.
    pub fn at<'n>(&self, names: &'n [u8], offset: u64) -> Option<(&'n [u8], u64)> {
        let start = self.names().start;
        let part = |part: &Range<usize>| names.get(part.start - start..part.end - start);
        let symbols = part(&self.symbols)?;
        let strings = part(&self.strings)?;
        let symbols: &[Symbol] = table_of(symbols, symbols.len() / size_of::<Symbol>());
        let distance = |symbol: &Symbol| {
            let distance = offset.checked_sub(symbol.st_value(LE).wrapping_sub(self.low))?;
            let size = symbol.st_size(LE);
            (size == 0 || distance < size).then_some(distance)
        };
        let has_place = |symbol: &&Symbol| {
            symbol.st_shndx(LE) != elf::SHN_UNDEF
                && matches!(
                    symbol.st_type(),
                    elf::STT_NOTYPE | elf::STT_OBJECT | elf::STT_FUNC | elf::STT_GNU_IFUNC
                )
        };
        let near = symbols.iter().filter(has_place).filter_map(|symbol| Some((distance(symbol)?, symbol)));
        let (distance, symbol) = near.min_by_key(|(distance, _)| *distance)?;
        let name = strings.get(symbol.st_name(LE) as usize..)?;
        let name = &name[..name.iter().position(|byte| *byte == 0)?];
        (!name.is_empty()).then_some((name, distance))
    }
}

impl ExportTables {
    /// The functions that are exported, with their offsets in the image and their sizes (0: not
    /// known). `tables` and `is_code` as for [`find`](Self::find). Of a name that has versions,
    /// the one that is found by the name alone.
    pub fn functions<'t>(
        &self,
        tables: &'t [u8],
        is_code: impl Fn(u64) -> bool,
    ) -> Option<Vec<(&'t str, u64, u64)>> {
        let symbols = tables.get(self.symbols.clone())?;
        let symbols: &[Symbol] = table_of(symbols, symbols.len() / size_of::<Symbol>());
        let strings = tables.get(self.strings.clone())?;
        let versions = self.versions.clone().and_then(|place| tables.get(place));
        let function = |(index, symbol): (usize, &Symbol)| {
            let offset = symbol.st_value(LE).wrapping_sub(self.low);
            let entry =
                |versions: &[u8]| Some(u16::from_le_bytes(*versions.get(2 * index..)?.first_chunk()?));
            let is_default =
                versions.is_none_or(|of| entry(of).is_some_and(|entry| Wanted::Default.is(entry)));
            let kind = kind_of(symbol, || is_code(offset));
            if kind != Some(ExportKind::Function) || !is_code(offset) || !is_default {
                return None;
            }
            let name = CStr::from_bytes_until_nul(strings.get(symbol.st_name(LE) as usize..)?).ok()?;
            Some((name.to_str().ok()?, offset, symbol.st_size(LE)))
        };
        Some(symbols.iter().enumerate().filter_map(function).collect())
    }

    /// The name of the symbol that an offset in the image belongs to, and where that begins: as
    /// dladdr(3) tells of shared objects. `tables` as for [`find`](Self::find).
    pub fn nearest<'t>(&self, tables: &'t [u8], offset: u64) -> Option<(&'t CStr, u64)> {
        let symbols = tables.get(self.symbols.clone())?;
        let symbols: &[Symbol] = table_of(symbols, symbols.len() / size_of::<Symbol>());
        let strings = tables.get(self.strings.clone())?;
        let address = offset.wrapping_add(self.low);
        let holds = |symbol: &&Symbol| {
            let (start, size) = (symbol.st_value(LE), symbol.st_size(LE));
            let defined = !matches!(symbol.st_shndx(LE), elf::SHN_UNDEF | elf::SHN_ABS);
            // One without a size is for what follows it.
            let within = start == address || (start < address && (size == 0 || address - start < size));
            defined && within && symbol.st_type() <= elf::STT_FUNC && symbol.st_name(LE) != 0
        };
        let symbol = symbols.iter().filter(holds).max_by_key(|symbol| symbol.st_value(LE))?;
        let name = CStr::from_bytes_until_nul(strings.get(symbol.st_name(LE) as usize..)?).ok()?;
        Some((name, symbol.st_value(LE).wrapping_sub(self.low)))
    }
}

fn named(strings: &[u8], at: u32, name: &str) -> bool {
    let rest = strings.get(at as usize..).and_then(|rest| rest.strip_prefix(name.as_bytes()));
    rest.is_some_and(|rest| rest.first() == Some(&0))
}
