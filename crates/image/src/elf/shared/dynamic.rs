//! The dynamic table: what a linker left for the loader.
//!
//! ELF gABI, chapter 5, "Dynamic Section". Addresses in it are the file's own numbering, and every
//! table is found through the segments, never through section headers, which a stripped module need
//! not have.

use super::segments::Layout;
use crate::elf::format::{Word, malformed, table_of};
use crate::linking::strings::Strings;
use crate::{Error, Machine};
use alloc::vec::Vec;
use object::LittleEndian as LE;
use object::elf;
use object::read::elf::Dyn;

const TABLE: &str = "dynamic table";

// RELR is in the gABI since 2018 and not in `object`'s constants.
const DT_RELRSZ: u32 = 35;
const DT_RELR: u32 = 36;
const DT_RELRENT: u32 = 37;
const DT_ANDROID_REL: u32 = 0x6000_000f;
const DT_ANDROID_RELA: u32 = 0x6000_0011;
const DT_ANDROID_RELR: u32 = 0x6fff_e000;

/// Entries that are read here; each may occur once.
const SINGLE: &[u32] = &[
    elf::DT_STRTAB,
    elf::DT_STRSZ,
    elf::DT_SYMTAB,
    elf::DT_SYMENT,
    elf::DT_HASH,
    elf::DT_GNU_HASH,
    elf::DT_VERSYM,
    elf::DT_VERNEED,
    elf::DT_VERNEEDNUM,
    elf::DT_VERDEF,
    elf::DT_VERDEFNUM,
    elf::DT_RELA,
    elf::DT_RELASZ,
    elf::DT_RELAENT,
    elf::DT_JMPREL,
    elf::DT_PLTRELSZ,
    elf::DT_PLTREL,
    DT_RELR,
    DT_RELRSZ,
    DT_RELRENT,
    elf::DT_INIT,
    elf::DT_INIT_ARRAY,
    elf::DT_INIT_ARRAYSZ,
    elf::DT_FINI,
    elf::DT_FINI_ARRAY,
    elf::DT_FINI_ARRAYSZ,
    elf::DT_SONAME,
    elf::DT_RPATH,
    elf::DT_RUNPATH,
    elf::DT_FLAGS,
    elf::DT_FLAGS_1,
];

const NO_REL: &str = "both machines use tables with addends (RELA): use a linker of this platform";
const NO_PACKED: &str = "link without --pack-dyn-relocs=android, or with --pack-dyn-relocs=relr";
const NO_FILTER: &str = "a module answers for its own symbols only: link without --filter and --auxiliary";

const NO_OPEN: &str = "it says that it must be loaded with the program: link without -z nodlopen";
const NO_PAC_PLT: &str =
    "its calls take signed addresses from a table that a loader would have to sign: link without -z pac-plt";

// Each machine gives the numbers from 0x70000000 on meanings of its own. Of AArch64 those matter
// that are here; the others say what a loader that binds everything at once need not know
// (DT_AARCH64_VARIANT_PCS), what is in the program properties as well (DT_AARCH64_BTI_PLT), or how
// memory may be tagged (DT_AARCH64_MEMTAG_*), which code does without. Of x86-64 all are about
// binding lazily (DT_X86_64_PLT, DT_X86_64_PLTSZ, DT_X86_64_PLTENT).
const DT_AARCH64_PAC_PLT: u32 = 0x7000_0003;

/// A packed table of signed pointers, and its size: DT_AARCH64_AUTH_RELR, DT_AARCH64_AUTH_RELRSZ.
const OF_AARCH64: &[u32] = &[0x7000_0012, 0x7000_0011];

/// Entries that change what loading means, and are not supported.
const REFUSED: &[(u32, &str, &str)] = &[
    (elf::DT_REL, "DT_REL", NO_REL),
    (DT_ANDROID_REL, "DT_ANDROID_REL", NO_PACKED),
    (DT_ANDROID_RELA, "DT_ANDROID_RELA", NO_PACKED),
    (DT_ANDROID_RELR, "DT_ANDROID_RELR", NO_PACKED),
    (elf::DT_FILTER, "DT_FILTER", NO_FILTER),
    (elf::DT_AUXILIARY, "DT_AUXILIARY", NO_FILTER),
];

/// A function, or an array of them, that is called when the module comes or goes.
#[derive(Clone, Copy, Default)]
pub(super) struct Calls {
    /// DT_INIT or DT_FINI.
    pub(super) single: Option<u64>,
    /// Address and number of DT_INIT_ARRAY or DT_FINI_ARRAY.
    pub(super) array: (u64, u64),
}

/// The dynamic table, its pointers followed.
pub(super) struct Dynamic<'data> {
    values: Vec<Option<u64>>,
    pub(super) strings: Strings<'data>,
    pub(super) soname: Option<&'data str>,
    pub(super) needed: Vec<&'data str>,
    pub(super) runpath: Option<&'data str>,
    pub(super) rela: &'data [elf::Rela64<LE>],
    pub(super) jmprel: &'data [elf::Rela64<LE>],
    pub(super) relr: &'data [Word],
    pub(super) init: Calls,
    pub(super) fini: Calls,
}

impl<'data> Dynamic<'data> {
    pub(super) fn parse(layout: &Layout<'data>, machine: Machine) -> Result<Self, Error> {
        let (address, size) = layout.dynamic;
        let bytes = layout.file(address, size).ok_or(malformed(TABLE, "it is not in a segment", address))?;
        let entries: &[elf::Dyn64<LE>] = table_of(bytes, bytes.len() / size_of::<elf::Dyn64<LE>>());
        let end = entries.iter().position(|entry| entry.d_tag(LE) == u64::from(elf::DT_NULL));
        let entries = &entries[..end.ok_or(malformed(TABLE, "it has no end (DT_NULL)", address))?];

        let mut values: Vec<Option<u64>> = alloc::vec![None; SINGLE.len()];
        for entry in entries {
            let Ok(tag) = u32::try_from(entry.d_tag(LE)) else { continue };
            if let Some(index) = SINGLE.iter().position(|known| *known == tag)
                && values[index].replace(entry.d_val(LE)).is_some()
            {
                return Err(malformed(TABLE, "an entry is there twice", tag.into()));
            }
            let own = if machine == Machine::Aarch64 { OF_AARCH64 } else { &[] };
            if own.contains(&tag) {
                return Err(Error::SignedPointers { found: "DT_AARCH64_AUTH_RELR" });
            }
            if machine == Machine::Aarch64 && tag == DT_AARCH64_PAC_PLT {
                return Err(Error::UnsupportedDynamic { tag: "DT_AARCH64_PAC_PLT", advice: NO_PAC_PLT });
            }
            if let Some((_, tag, advice)) = REFUSED.iter().find(|(refused, ..)| *refused == tag) {
                return Err(Error::UnsupportedDynamic { tag, advice });
            }
            if tag == elf::DT_TEXTREL {
                return Err(Error::TextRelocation { offset: 0, symbol: Default::default() });
            }
        }
        let get = |tag| value(&values, tag);
        let flags = get(elf::DT_FLAGS).unwrap_or(0);
        if flags & u64::from(elf::DF_TEXTREL) != 0 {
            return Err(Error::TextRelocation { offset: 0, symbol: Default::default() });
        }
        let flags_1 = get(elf::DT_FLAGS_1).unwrap_or(0);
        if flags_1 & u64::from(elf::DF_1_PIE) != 0 {
            return Err(Error::PieExecutable);
        }
        // As ld.so: what is marked so works only if it is there from the start.
        if flags_1 & u64::from(elf::DF_1_NOOPEN) != 0 {
            return Err(Error::UnsupportedDynamic { tag: "DF_1_NOOPEN", advice: NO_OPEN });
        }

        let (Some(text), Some(length)) = (get(elf::DT_STRTAB), get(elf::DT_STRSZ)) else {
            return Err(malformed(TABLE, "no string table (DT_STRTAB, DT_STRSZ)", address));
        };
        let text = layout.file(text, length);
        let strings = Strings::parse(text.ok_or(malformed(TABLE, "the string table is outside", length))?)?;
        let name = |at: u64| match u32::try_from(at) {
            Ok(at) => strings.text(at),
            Err(_) => Err(malformed(TABLE, "a name is outside the string table", at)),
        };
        let soname = get(elf::DT_SONAME).map(name).transpose()?;
        // As ld.so: the older entry counts only where there is no newer one.
        let runpath = get(elf::DT_RUNPATH).or(get(elf::DT_RPATH)).map(name).transpose()?;
        let needed = entries.iter().filter(|entry| entry.d_tag(LE) == u64::from(elf::DT_NEEDED));
        let needed = needed.map(|entry| name(entry.d_val(LE))).collect::<Result<_, _>>()?;

        match get(elf::DT_PLTREL) {
            Some(kind) if kind == u64::from(elf::DT_REL) => {
                return Err(Error::UnsupportedDynamic { tag: "DT_PLTREL = DT_REL", advice: NO_REL });
            }
            Some(kind) if kind != u64::from(elf::DT_RELA) => {
                return Err(malformed(TABLE, "DT_PLTREL names no kind of table", kind));
            }
            _ => {}
        }
        // The entry size of DT_JMPREL is not in the file: it is that of the kind that DT_PLTREL
        // names.
        let rela = (elf::DT_RELA, elf::DT_RELASZ, Some(elf::DT_RELAENT));
        let relr = (DT_RELR, DT_RELRSZ, Some(DT_RELRENT));
        Ok(Dynamic {
            rela: table(layout, &values, rela)?,
            jmprel: table(layout, &values, (elf::DT_JMPREL, elf::DT_PLTRELSZ, None))?,
            relr: table(layout, &values, relr)?,
            init: Calls {
                single: get(elf::DT_INIT),
                array: array(layout, &values, (elf::DT_INIT_ARRAY, elf::DT_INIT_ARRAYSZ, None))?,
            },
            fini: Calls {
                single: get(elf::DT_FINI),
                array: array(layout, &values, (elf::DT_FINI_ARRAY, elf::DT_FINI_ARRAYSZ, None))?,
            },
            soname,
            needed,
            runpath,
            strings,
            values,
        })
    }

    pub(super) fn get(&self, tag: u32) -> Option<u64> {
        value(&self.values, tag)
    }
}

fn value(values: &[Option<u64>], tag: u32) -> Option<u64> {
    values[SINGLE.iter().position(|known| *known == tag)?]
}

/// Address, size in bytes, and size of an entry.
type Tags = (u32, u32, Option<u32>);

fn table<'data, T: object::Pod>(
    layout: &Layout<'data>,
    values: &[Option<u64>],
    (address_tag, size_tag, entry_tag): Tags,
) -> Result<&'data [T], Error> {
    let entry = size_of::<T>() as u64;
    let (address, size) = (value(values, address_tag), value(values, size_tag).unwrap_or(0));
    if size == 0 {
        return Ok(&[]);
    }
    let address = address.ok_or(malformed(TABLE, "a table has a size and no address", size_tag.into()))?;
    if entry_tag.is_some_and(|tag| value(values, tag) != Some(entry)) {
        return Err(malformed(TABLE, "a table's entries have the wrong size", address_tag.into()));
    }
    if size % entry != 0 {
        return Err(malformed(TABLE, "a table ends inside an entry", address_tag.into()));
    }
    let bytes = layout.file(address, size);
    let bytes = bytes.ok_or(malformed(TABLE, "a table is outside the segments", address))?;
    Ok(table_of(bytes, bytes.len() / size_of::<T>()))
}

/// An array of function addresses. It must be in the file: then its length is bounded by the
/// file's.
fn array(layout: &Layout<'_>, values: &[Option<u64>], tags: Tags) -> Result<(u64, u64), Error> {
    let entries: &[Word] = table(layout, values, tags)?;
    Ok((value(values, tags.0).unwrap_or(0), entries.len() as u64))
}
