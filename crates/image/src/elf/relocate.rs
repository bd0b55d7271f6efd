//! Relocations: looked at once when a module is parsed, applied when it is linked.
//!
//! ELF gABI, chapter 4, "Relocation", and "Relative Relocation Table" for RELR. The types are the machine's (its
//! file under `machine/`), what they write is `fixup.rs`.
//!
//! A symbol that the module defines itself is bound to that definition, as with `-Bsymbolic`, and never to one of
//! the same name in the process: a function of a module belongs to its version, and a new version whose
//! calls ended in the host's or in the old version's function would be a mix of two.

use super::dynamic::Dynamic;
use super::segments::Layout;
use super::symbols::{Definition, Symbols};
use super::{Word, malformed};
use crate::error::label;
use crate::fixup::{self, Kind, Operands};
use crate::machine::Dynamic as Meaning;
use crate::{Error, Import, Machine, Protection};
use alloc::string::String;
use alloc::vec::Vec;
use object::LittleEndian as LE;
use object::elf;
use object::read::elf::{Rela, Sym};

/// An import, with its index in the symbol table.
pub(super) struct Used<'data> {
    symbol: u32,
    pub(super) import: Import<'data>,
}

/// What relocating works on.
pub(super) struct Relocations<'a, 'data> {
    pub(super) machine: Machine,
    pub(super) layout: &'a Layout<'data>,
    pub(super) dynamic: &'a Dynamic<'data>,
    pub(super) symbols: &'a Symbols<'data>,
}

impl<'a, 'data> Relocations<'a, 'data> {
    /// Looks at every relocation, and returns the imports they name, by index in the symbol table.
    pub(super) fn check(&self) -> Result<Vec<Used<'data>>, Error> {
        // Symbol, and whether it is called through the procedure linkage table.
        let mut used: Vec<(u32, bool)> = Vec::new();
        for relocation in self.with_addends() {
            let Some(kind) = self.kind(relocation)? else { continue };
            self.check_place(relocation.r_offset(LE), kind, relocation.r_sym(LE, false))?;
            let symbol = relocation.r_sym(LE, false);
            if kind.uses_symbol() && symbol != 0 {
                let definition = self.symbols.definition(self.layout, self.dynamic, symbol)?;
                if matches!(definition, Definition::Elsewhere) {
                    used.push((symbol, kind == Kind::JumpSlot));
                }
            }
        }
        each_relr(self.dynamic.relr, |place| self.check_place(place, Kind::Relative, 0))?;

        // A symbol's uses one after the other, that in the linkage table first.
        used.sort_unstable_by_key(|(symbol, called)| (*symbol, !called));
        used.dedup_by_key(|(symbol, _)| *symbol);
        used.into_iter().map(|(symbol, called)| self.import(symbol, called)).collect()
    }

    /// Writes every fix-up. `check` has passed, and `memory` has the segments.
    pub(super) fn apply(
        &self,
        base: u64,
        memory: &mut [u8],
        used: &[Used<'data>],
        resolve: &mut dyn FnMut(&Import<'data>) -> Option<u64>,
    ) -> Result<(), Error> {
        let addresses = resolve_all(used, resolve)?;
        let bias = self.layout.bias(base);
        // RELR first, as glibc does. No linker puts both kinds on one place.
        each_relr(self.dynamic.relr, |place| {
            let done = fixup::rebase(self.place(memory, place)?, bias);
            done.map_err(|_| malformed("RELR table", "a place has no word", place))
        })?;
        for relocation in self.with_addends() {
            let Some(kind) = self.kind(relocation)? else { continue };
            let index = relocation.r_sym(LE, false);
            let symbol = if kind.uses_symbol() && index != 0 {
                match self.symbols.definition(self.layout, self.dynamic, index)? {
                    Definition::Here(value) => bias.wrapping_add(value),
                    Definition::Absolute(value) => value,
                    Definition::Elsewhere => {
                        let at = used.binary_search_by_key(&index, |used| used.symbol);
                        let at =
                            at.map_err(|_| malformed("relocation table", "it has changed", index.into()))?;
                        addresses[at]
                    }
                }
            } else {
                0
            };
            let place = relocation.r_offset(LE);
            let operands = Operands { bias, symbol, addend: relocation.r_addend(LE) };
            fixup::apply(self.machine, kind, self.place(memory, place)?, operands)
                .map_err(|_| malformed("relocation table", "a place has no word", place))?;
        }
        Ok(())
    }

    fn with_addends(&self) -> impl Iterator<Item = &'data elf::Rela64<LE>> + use<'data> {
        self.dynamic.rela.iter().chain(self.dynamic.jmprel)
    }

    fn kind(&self, relocation: &elf::Rela64<LE>) -> Result<Option<Kind>, Error> {
        let r_type = relocation.r_type(LE, false);
        match self.machine.dynamic(r_type) {
            Meaning::Nothing => Ok(None),
            Meaning::Apply(kind) => Ok(Some(kind)),
            Meaning::Refuse(refusal) => Err(Error::UnsupportedRelocation {
                machine: self.machine,
                r_type,
                refusal,
                symbol: self.name(relocation.r_sym(LE, false)),
                offset: relocation.r_offset(LE),
            }),
        }
    }

    /// The name for a message; empty if there is none to be had.
    fn name(&self, symbol: u32) -> String {
        if symbol == 0 {
            return String::new();
        }
        let name = self.symbols.get(symbol).and_then(|symbol| self.dynamic.strings.get(symbol.st_name(LE)));
        name.map(label).unwrap_or_default()
    }

    fn check_place(&self, place: u64, kind: Kind, symbol: u32) -> Result<(), Error> {
        if self.layout.is(Protection::ReadWrite, place, Kind::SIZE) {
            if place.is_multiple_of(kind.place_align()) {
                return Ok(());
            }
            return Err(malformed("relocation table", "an entry for code to load is not aligned", place));
        }
        if self.layout.contains(place, Kind::SIZE) {
            return Err(Error::TextRelocation { offset: place, symbol: self.name(symbol) });
        }
        Err(malformed("relocation table", "a place is outside the segments", place))
    }

    fn place<'m>(&self, memory: &'m mut [u8], place: u64) -> Result<&'m mut [u8], Error> {
        self.layout
            .offset(place)
            .and_then(|offset| usize::try_from(offset).ok())
            .and_then(|offset| memory.get_mut(offset..)?.get_mut(..Kind::SIZE as usize))
            .ok_or_else(|| malformed("relocation table", "a place is outside the image", place))
    }

    fn import(&self, index: u32, called: bool) -> Result<Used<'data>, Error> {
        let symbol = self.symbols.get(index)?;
        let name = self.dynamic.strings.get(symbol.st_name(LE))?;
        if name.is_empty() {
            return Err(malformed("symbol table", "an undefined symbol has no name", index.into()));
        }
        let import = Import {
            name,
            version: self.symbols.versions.of_import(index)?,
            weak: symbol.st_bind() == elf::STB_WEAK,
            function: called || matches!(symbol.st_type(), elf::STT_FUNC | elf::STT_GNU_IFUNC),
        };
        Ok(Used { symbol: index, import })
    }
}

/// The address of each import, or the list of all that are missing.
fn resolve_all<'data>(
    used: &[Used<'data>],
    resolve: &mut dyn FnMut(&Import<'data>) -> Option<u64>,
) -> Result<Vec<u64>, Error> {
    // Symbols may share one long name; a list of their copies must not outgrow what a person reads.
    const LIMIT: usize = 1 << 20;
    let (mut names, mut length, mut omitted) = (Vec::new(), 0, 0);
    let mut addresses = Vec::with_capacity(used.len());
    for Used { import, .. } in used {
        let address = resolve(import);
        if address.is_none() && !import.weak {
            length += import.name.len() + size_of::<String>();
            if length <= LIMIT {
                names.push(String::from(import.name));
            } else {
                length = LIMIT;
                omitted += 1;
            }
        }
        addresses.push(address.unwrap_or(0));
    }
    if names.is_empty() && omitted == 0 {
        Ok(addresses)
    } else {
        Err(Error::UnresolvedImport { names, omitted })
    }
}

/// Each place of a RELR table: an even word is an address, an odd one a bitmap of the 63 words that follow the
/// last place that was covered.
fn each_relr(table: &[Word], mut place: impl FnMut(u64) -> Result<(), Error>) -> Result<(), Error> {
    const TABLE: &str = "RELR table";
    let outside = |at| malformed(TABLE, "a place is past the end of the address space", at);
    let mut next: Option<u64> = None;
    for (index, word) in table.iter().enumerate() {
        let word = word.get(LE);
        if word & 1 == 0 {
            place(word)?;
            next = Some(word.checked_add(8).ok_or(outside(word))?);
            continue;
        }
        let first = next.ok_or(malformed(TABLE, "a bitmap comes before any address", index as u64))?;
        let mut bits = word >> 1;
        while bits != 0 {
            let bit = u64::from(bits.trailing_zeros());
            place(first.checked_add(8 * bit).ok_or(outside(first))?)?;
            bits &= bits - 1;
        }
        next = Some(first.checked_add(63 * 8).ok_or(outside(first))?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(table: &[u64]) -> Result<Vec<u64>, Error> {
        let table: Vec<Word> = table.iter().map(|word| Word::new(LE, *word)).collect();
        let mut places = Vec::new();
        each_relr(&table, |place| {
            places.push(place);
            Ok(())
        })?;
        Ok(places)
    }

    #[test]
    fn relr_addresses_and_bitmaps() {
        assert_eq!(places(&[]), Ok(alloc::vec![]));
        assert_eq!(places(&[0x1000, 0x2000]), Ok(alloc::vec![0x1000, 0x2000]));
        // Bits 1 and 3: the first and third word after the address; the next bitmap is 63 words on.
        let second = 0x1008 + 63 * 8;
        assert_eq!(
            places(&[0x1000, 0b1011, 0b101, 0x3000]),
            Ok(alloc::vec![0x1000, 0x1008, 0x1018, second + 8, 0x3000])
        );
        assert_eq!(places(&[0x1000, u64::MAX]).unwrap().last(), Some(&(0x1008 + 62 * 8)));
        assert_eq!(places(&[0x1000, 1, 3]), Ok(alloc::vec![0x1000, second]));
    }

    #[test]
    fn relr_that_goes_nowhere() {
        assert!(places(&[3]).is_err(), "a bitmap first");
        assert!(places(&[u64::MAX - 1]).is_err(), "an address at the end");
        assert!(places(&[u64::MAX - 15, 3]).is_err(), "a bitmap at the end");
        assert!(places(&[u64::MAX - 15, 1]).is_err(), "an empty bitmap at the end");
    }
}
