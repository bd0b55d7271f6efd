//! Symbol versions: which version of an import was there when the module was linked.
//!
//! Linux Standard Base, Core, chapter "Symbol Versioning"; glibc writes and reads the same. DT_VERSYM has a
//! number for each symbol, DT_VERNEED says what the numbers mean. What the module itself defines under which
//! version (DT_VERDEF) does not matter here: its own symbols are found by name, in their default version.

use super::dynamic::Dynamic;
use super::segments::Layout;
use super::{malformed, table_of};
use crate::Error;
use alloc::vec::Vec;
use object::LittleEndian as LE;
use object::elf;

const TABLE: &str = "version table";

type Number = object::U16<LE>;

pub(super) struct Versions<'data> {
    /// One for each symbol, or none at all.
    numbers: Option<&'data [Number]>,
    /// Sorted by number.
    needed: Vec<(u16, &'data str)>,
}

impl<'data> Versions<'data> {
    pub(super) fn parse(layout: &Layout<'data>, dynamic: &Dynamic<'data>) -> Result<Self, Error> {
        let numbers = match dynamic.get(elf::DT_VERSYM) {
            None => None,
            Some(address) => {
                let bytes = layout.file_from(address);
                let bytes = bytes.ok_or(malformed(TABLE, "it is outside the segments", address))?;
                Some(table_of(bytes, bytes.len() / 2))
            }
        };
        let mut needed = Vec::new();
        match (dynamic.get(elf::DT_VERNEED), dynamic.get(elf::DT_VERNEEDNUM).unwrap_or(0)) {
            (None, 0) => {}
            (None, count) => {
                return Err(malformed(TABLE, "needed versions have a number and no address", count));
            }
            (Some(address), count) => {
                if numbers.is_none() {
                    return Err(malformed(TABLE, "versions are needed and no symbol has one", address));
                }
                needed = read_needed(layout, dynamic, address, count)?;
            }
        }
        Ok(Versions { numbers, needed })
    }

    /// Whether there is a number for each of so many symbols.
    pub(super) fn cover(&self, symbols: u32) -> bool {
        self.numbers.is_none_or(|numbers| numbers.len() as u64 >= symbols.into())
    }

    /// The version that an undefined symbol is to have.
    pub(super) fn of_import(&self, symbol: u32) -> Result<Option<&'data str>, Error> {
        let Some(numbers) = self.numbers else { return Ok(None) };
        let number = numbers.get(symbol as usize);
        let number = number.ok_or(malformed(TABLE, "a symbol has no entry", symbol.into()))?.get(LE);
        match number & elf::VERSYM_VERSION {
            elf::VER_NDX_LOCAL | elf::VER_NDX_GLOBAL => Ok(None),
            number => match self.needed.binary_search_by_key(&number, |(number, _)| *number) {
                Ok(at) => Ok(Some(self.needed[at].1)),
                Err(_) => Err(malformed(TABLE, "a symbol has a version that is not listed", number.into())),
            },
        }
    }

    /// Whether a definition is an old version that is kept for old users: a plain name does not find it.
    pub(super) fn hidden(&self, symbol: u32) -> bool {
        let number = self.numbers.and_then(|numbers| numbers.get(symbol as usize));
        number.is_some_and(|number| number.get(LE) & elf::VERSYM_HIDDEN != 0)
    }
}

fn read_needed<'data>(
    layout: &Layout<'data>,
    dynamic: &Dynamic<'data>,
    mut address: u64,
    count: u64,
) -> Result<Vec<(u16, &'data str)>, Error> {
    let mut needed: Vec<(u16, &'data str)> = Vec::new();
    let advance = |address: u64, by: u32| {
        let next = address.checked_add(by.into()).filter(|_| by != 0);
        next.ok_or(malformed(TABLE, "the list of needed versions ends early", address))
    };
    for left in (0..count).rev() {
        let file: &elf::Verneed<LE> = at(layout, address)?;
        if file.vn_version.get(LE) != elf::VER_NEED_CURRENT {
            return Err(malformed(TABLE, "an unknown format", file.vn_version.get(LE).into()));
        }
        if file.vn_cnt.get(LE) == 0 {
            return Err(malformed(TABLE, "a library of which no version is needed", address));
        }
        let mut entry = advance(address, file.vn_aux.get(LE))?;
        for left in (0..file.vn_cnt.get(LE)).rev() {
            let version: &elf::Vernaux<LE> = at(layout, entry)?;
            let number = version.vna_other.get(LE) & elf::VERSYM_VERSION;
            // The 15 bits of a number bound both loops, however the lists are entangled.
            if needed.len() > elf::VERSYM_VERSION.into() {
                return Err(malformed(TABLE, "more needed versions than there are numbers", entry));
            }
            needed.push((number, dynamic.strings.get(version.vna_name.get(LE))?));
            if left > 0 {
                entry = advance(entry, version.vna_next.get(LE))?;
            }
        }
        if left > 0 {
            address = advance(address, file.vn_next.get(LE))?;
        }
    }
    needed.sort_unstable_by_key(|(number, _)| *number);
    match needed.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => Err(malformed(TABLE, "two needed versions have one number", pair[0].0.into())),
        None => Ok(needed),
    }
}

fn at<'data, T: object::Pod>(layout: &Layout<'data>, address: u64) -> Result<&'data T, Error> {
    let bytes = layout.file(address, size_of::<T>() as u64);
    let entry = bytes.and_then(|bytes| table_of(bytes, 1).first());
    entry.ok_or(malformed(TABLE, "an entry is outside the segments", address))
}
