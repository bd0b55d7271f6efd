//! Symbol versions: which version of an import was there when the module was linked, and which
//! definitions are old ones.
//!
//! Linux Standard Base, Core, chapter "Symbol Versioning"; glibc writes and reads the same.
//! DT_VERSYM has a number for each symbol; DT_VERNEED (of imports) and DT_VERDEF (of what the
//! module defines) say what the numbers mean. The module's own definitions are found by their plain
//! names, which stand for the default versions, and as `name@version`.

use super::dynamic::Dynamic;
use super::segments::Layout;
use crate::Error;
use crate::elf::format::{malformed, table_of};
use alloc::vec::Vec;
use object::LittleEndian as LE;
use object::elf;

const TABLE: &str = "version table";

type Number = object::U16<LE>;

pub(super) struct Versions<'data> {
    /// One for each symbol, or none at all.
    numbers: Option<&'data [Number]>,
    /// Sorted by number.
    names: Vec<(u16, &'data str)>,
    /// Those that the module defines. Sorted by number.
    pub(super) defined: Vec<Defined>,
}

/// A version that the module defines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Defined {
    number: u16,
    /// Where the name is in the string table.
    name: u32,
}

/// Which definition of a name is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wanted {
    /// What a plain name finds: not one that is kept for old users only.
    Default,
    /// The one of this number; None: of a version that the module does not define.
    Version(Option<u16>),
}

impl Wanted {
    /// What `name@version` asks for, and the name. `is` compares a version's name.
    pub(super) fn of<'s>(
        symbol: &'s str,
        defined: &[Defined],
        is: impl Fn(u32, &str) -> bool,
    ) -> Option<(&'s str, Self)> {
        let (name, version) = symbol.split_once('@').filter(|(name, _)| !name.is_empty())?;
        let found = defined.iter().find(|defined| is(defined.name, version));
        Some((name, Self::Version(found.map(|defined| defined.number))))
    }

    /// Whether that is a definition with this entry of the version table, as ld.so decides
    /// (elf/dl-lookup.c, `check_match`): one that has no version serves for all.
    pub(super) fn is(self, entry: u16) -> bool {
        let (number, hidden) = (entry & elf::VERSYM_VERSION, entry & elf::VERSYM_HIDDEN != 0);
        match self {
            Self::Version(Some(wanted)) if number == wanted => true,
            Self::Version(_) => !hidden && number <= elf::VER_NDX_GLOBAL,
            Self::Default => !hidden,
        }
    }
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
        let mut reader = Reader { layout, dynamic, names: Vec::new(), defined: Vec::new() };
        let list = |address, count| match (dynamic.get(address), dynamic.get(count).unwrap_or(0)) {
            (None, 0) => Ok(None),
            (None, count) => Err(malformed(TABLE, "a list of versions has a length and no address", count)),
            (Some(address), _) if numbers.is_none() => {
                Err(malformed(TABLE, "there are versions and no symbol has one", address))
            }
            (Some(address), count) => Ok(Some((address, count))),
        };
        if let Some((address, count)) = list(elf::DT_VERNEED, elf::DT_VERNEEDNUM)? {
            reader.needed(address, count)?;
        }
        if let Some((address, count)) = list(elf::DT_VERDEF, elf::DT_VERDEFNUM)? {
            reader.defined(address, count)?;
        }
        let Reader { mut names, mut defined, .. } = reader;
        defined.sort_unstable_by_key(|defined| defined.number);
        names.sort_unstable_by_key(|(number, _)| *number);
        match names.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(malformed(TABLE, "two versions have one number", pair[0].0.into())),
            None => Ok(Versions { numbers, names, defined }),
        }
    }

    /// Whether there is a number for each of so many symbols.
    pub(super) fn cover(&self, symbols: u32) -> bool {
        self.numbers.is_none_or(|numbers| numbers.len() as u64 >= symbols.into())
    }

    /// The version that an undefined symbol is to have. It may be one of the module's own, if a
    /// version script names the symbol: ld.so looks for that version too.
    pub(super) fn of_import(&self, symbol: u32) -> Result<Option<&'data str>, Error> {
        let Some(numbers) = self.numbers else { return Ok(None) };
        let number = numbers.get(symbol as usize);
        let number = number.ok_or(malformed(TABLE, "a symbol has no entry", symbol.into()))?.get(LE);
        match number & elf::VERSYM_VERSION {
            elf::VER_NDX_LOCAL | elf::VER_NDX_GLOBAL => Ok(None),
            number => match self.names.binary_search_by_key(&number, |(number, _)| *number) {
                Ok(at) => Ok(Some(self.names[at].1)),
                Err(_) => Err(malformed(TABLE, "a symbol has a version that is not listed", number.into())),
            },
        }
    }

    /// The version that a definition has; None: it has none, and serves for all.
    pub(super) fn of_definition(&self, symbol: u32) -> Option<(Wanted, &'data str)> {
        let number = self.numbers?.get(symbol as usize)?.get(LE) & elf::VERSYM_VERSION;
        self.defined.binary_search_by_key(&number, |defined| defined.number).ok()?;
        let at = self.names.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        Some((Wanted::Version(Some(number)), self.names[at].1))
    }

    /// How a definition is found: by its plain name, or by its version alone; None: in no way.
    pub(super) fn found_by(&self, symbol: u32) -> Option<Wanted> {
        match self.are(Wanted::Default, symbol) {
            true => Some(Wanted::Default),
            false => self.of_definition(symbol).map(|(wanted, _)| wanted),
        }
    }

    /// Whether a definition is the one that is asked for.
    pub(super) fn are(&self, wanted: Wanted, symbol: u32) -> bool {
        let entry = self.numbers.and_then(|numbers| numbers.get(symbol as usize));
        entry.is_none_or(|entry| wanted.is(entry.get(LE)))
    }
}

struct Reader<'a, 'data> {
    layout: &'a Layout<'data>,
    dynamic: &'a Dynamic<'data>,
    names: Vec<(u16, &'data str)>,
    defined: Vec<Defined>,
}

impl<'data> Reader<'_, 'data> {
    /// Each library that versions are needed of, each of its versions.
    fn needed(&mut self, mut address: u64, count: u64) -> Result<(), Error> {
        for left in (0..count).rev() {
            let file: &elf::Verneed<LE> = self.at(address)?;
            current(file.vn_version.get(LE), elf::VER_NEED_CURRENT)?;
            if file.vn_cnt.get(LE) == 0 {
                return Err(malformed(TABLE, "a library of which no version is needed", address));
            }
            let mut entry = advance(address, file.vn_aux.get(LE))?;
            for left in (0..file.vn_cnt.get(LE)).rev() {
                let version: &elf::Vernaux<LE> = self.at(entry)?;
                self.push(version.vna_other.get(LE), version.vna_name.get(LE))?;
                if left > 0 {
                    entry = advance(entry, version.vna_next.get(LE))?;
                }
            }
            if left > 0 {
                address = advance(address, file.vn_next.get(LE))?;
            }
        }
        Ok(())
    }

    /// Each version that the module defines. Of its names the first is its own, and the rest those
    /// it inherits from.
    fn defined(&mut self, mut address: u64, count: u64) -> Result<(), Error> {
        for left in (0..count).rev() {
            let version: &elf::Verdef<LE> = self.at(address)?;
            current(version.vd_version.get(LE), elf::VER_DEF_CURRENT)?;
            if version.vd_cnt.get(LE) == 0 {
                return Err(malformed(TABLE, "a version without a name", address));
            }
            let name: &elf::Verdaux<LE> = self.at(advance(address, version.vd_aux.get(LE))?)?;
            let (number, name) = (version.vd_ndx.get(LE), name.vda_name.get(LE));
            self.push(number, name)?;
            // The first is the name of the file, and that of symbols without a version.
            if version.vd_flags.get(LE) & elf::VER_FLG_BASE == 0 {
                self.defined.push(Defined { number: number & elf::VERSYM_VERSION, name });
            }
            if left > 0 {
                address = advance(address, version.vd_next.get(LE))?;
            }
        }
        Ok(())
    }

    fn push(&mut self, number: u16, name: u32) -> Result<(), Error> {
        // The 15 bits of a number bound every loop, however the lists are entangled.
        if self.names.len() > elf::VERSYM_VERSION.into() {
            return Err(malformed(TABLE, "more versions than there are numbers", number.into()));
        }
        self.names.push((number & elf::VERSYM_VERSION, self.dynamic.strings.text(name)?));
        Ok(())
    }

    fn at<T: object::Pod>(&self, address: u64) -> Result<&'data T, Error> {
        let bytes = self.layout.file(address, size_of::<T>() as u64);
        let entry = bytes.and_then(|bytes| table_of(bytes, 1).first());
        entry.ok_or(malformed(TABLE, "an entry is outside the segments", address))
    }
}

fn current(format: u16, known: u16) -> Result<(), Error> {
    if format == known { Ok(()) } else { Err(malformed(TABLE, "an unknown format", format.into())) }
}

fn advance(address: u64, by: u32) -> Result<u64, Error> {
    let next = address.checked_add(by.into()).filter(|_| by != 0);
    next.ok_or(malformed(TABLE, "a list of versions ends early", address))
}
