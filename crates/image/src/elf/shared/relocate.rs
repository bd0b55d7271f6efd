//! Relocations, applied when a module is linked.
//!
//! ELF gABI, chapter 4, "Relocation", and "Relative Relocation Table" for RELR. The types are the
//! machine's (its file under `machine/`), what they write is `fixup.rs` and, of thread-local
//! variables, `tls.rs`.
//!
//! A symbol that the module defines itself is bound to that definition, as with `-Bsymbolic`, and
//! never to one of the same name in the process: a function of a module belongs to its version, and
//! a new version whose calls ended in the host's or in the old version's function would be a mix of
//! two. What a process has once is the exception (`shared_definitions.rs`).

use super::symbols::Definition;
use super::uses::{Own, Uses};
use super::{Tables, tls};
use crate::elf::format::{Word, malformed};
use crate::error::{Refusal, label};
use crate::fixup::{self, Kind, Operands};
use crate::machine::Dynamic as Meaning;
use crate::{Binding, Error, Host, ThreadLocal};
use alloc::string::String;
use object::LittleEndian as LE;
use object::elf;
use object::read::elf::Rela;

pub(super) const TABLE: &str = "relocation table";

pub(super) type Relocation = elf::Rela64<LE>;

impl<'data> Tables<'data> {
    pub(super) fn with_addends(&self) -> impl Iterator<Item = &'data Relocation> + use<'data> {
        self.dynamic.rela.iter().chain(self.dynamic.jmprel)
    }

    pub(super) fn refused(&self, relocation: &Relocation, refusal: Refusal) -> Error {
        Error::UnsupportedRelocation {
            machine: self.machine,
            r_type: relocation.r_type(LE, false),
            refusal,
            symbol: self.label(relocation.r_sym(LE, false)),
            offset: relocation.r_offset(LE),
        }
    }

    /// The name for a message; empty if there is none to be had.
    pub(super) fn label(&self, symbol: u32) -> String {
        if symbol == 0 {
            return String::new();
        }
        let name = self.symbols.get(symbol).and_then(|symbol| self.name(symbol));
        name.map(label).unwrap_or_default()
    }
}

/// All that is known when a module is linked.
pub(super) struct Linking<'a, 'data> {
    pub(super) tables: &'a Tables<'data>,
    pub(super) uses: &'a Uses<'data>,
    /// What is added to an address of the file.
    pub(super) bias: u64,
    pub(super) host: &'a Host,
    pub(super) bindings: &'a [Option<Binding>],
}

impl Linking<'_, '_> {
    /// Writes every fix-up. All have been checked, and `memory` has the segments.
    pub(super) fn apply(&self, memory: &mut [u8]) -> Result<(), Error> {
        let machine = self.tables.machine;
        let no_word = |place| move |_| malformed(TABLE, "a place has no word", place);
        // RELR first, as glibc does. No linker puts both kinds on one place.
        each_relr(self.tables.dynamic.relr, |place| {
            fixup::rebase(self.place(memory, place)?, self.bias).map_err(no_word(place))
        })?;
        for Own { offset, word } in &self.uses.own {
            word_at(memory, *offset)?.copy_from_slice(&word.wrapping_add(self.bias).to_le_bytes());
        }
        for relocation in &self.uses.rest {
            let (place, index) = (relocation.r_offset(LE), relocation.r_sym(LE, false));
            let addend = relocation.r_addend(LE);
            match machine.dynamic(relocation.r_type(LE, false)) {
                Meaning::Nothing | Meaning::Indirect => {}
                Meaning::Apply(kind) => {
                    if let Some(symbol) = self.address(kind, index)? {
                        let operands = Operands { bias: self.bias, symbol, addend };
                        fixup::apply(machine, kind, self.place(memory, place)?, operands)
                            .map_err(no_word(place))?;
                    }
                }
                Meaning::ThreadLocal(kind) => {
                    let words = tls::words(kind, self.variable(index)?, addend, self.host);
                    let (first, second) = words.map_err(|problem| Error::UnusableBinding {
                        symbol: self.tables.label(index),
                        problem,
                    })?;
                    self.put(memory, place, first)?;
                    if let Some(second) = second {
                        self.put(memory, place.wrapping_add(8), second)?;
                    }
                }
                Meaning::Refuse(refusal) => return Err(self.tables.refused(relocation, refusal)),
            }
        }
        // Last, whatever else a damaged file has put there.
        self.uses.indirect.iter().try_for_each(|indirect| {
            word_at(memory, indirect.place)?.fill(0);
            Ok(())
        })
    }

    /// What S is in this process; `None` if code of the module will say.
    fn address(&self, kind: Kind, index: u32) -> Result<Option<u64>, Error> {
        if index == 0 || !kind.uses_symbol() {
            return Ok(Some(0));
        }
        Ok(match self.tables.definition(self.tables.symbols.get(index)?)? {
            Definition::Here(value) => match self.uses.binding(index, self.bindings) {
                Some(Binding::Address(address)) => Some(address),
                Some(Binding::ThreadLocal(_)) | None => Some(self.bias.wrapping_add(value)),
            },
            Definition::Absolute(value) => Some(value),
            Definition::Elsewhere => match self.uses.binding(index, self.bindings) {
                Some(Binding::Address(address)) => Some(address),
                // `Image::link` lets no thread-local variable through to where an address is
                // wanted.
                Some(Binding::ThreadLocal(_)) | None => Some(0),
            },
            Definition::Indirect(_) | Definition::ThreadLocal(_) => None,
        })
    }

    /// The thread-local variable that a symbol stands for; `None` if it is weak and nobody defines
    /// it.
    fn variable(&self, index: u32) -> Result<Option<ThreadLocal>, Error> {
        let own = |offset| ThreadLocal { module: self.host.tls_module, offset, from_thread_pointer: None };
        if index == 0 {
            return Ok(Some(own(0)));
        }
        Ok(match self.tables.definition(self.tables.symbols.get(index)?)? {
            Definition::ThreadLocal(offset) => Some(own(offset)),
            _ => match self.uses.binding(index, self.bindings) {
                Some(Binding::ThreadLocal(variable)) => Some(variable),
                Some(Binding::Address(_)) | None => None,
            },
        })
    }

    fn place<'m>(&self, memory: &'m mut [u8], place: u64) -> Result<&'m mut [u8], Error> {
        word_at(memory, place.wrapping_sub(self.tables.layout.low()))
    }

    fn put(&self, memory: &mut [u8], place: u64, word: u64) -> Result<(), Error> {
        self.place(memory, place)?.copy_from_slice(&word.to_le_bytes());
        Ok(())
    }
}

/// The place at an offset in the image.
fn word_at(memory: &mut [u8], offset: u64) -> Result<&mut [u8], Error> {
    usize::try_from(offset)
        .ok()
        .and_then(|offset| memory.get_mut(offset..)?.get_mut(..Kind::SIZE as usize))
        .ok_or_else(|| malformed(TABLE, "a place is outside the image", offset))
}

/// Each place of a RELR table: an even word is an address, an odd one a bitmap of the 63 words that
/// follow the last place that was covered.
pub(super) fn each_relr(
    table: &[Word],
    mut place: impl FnMut(u64) -> Result<(), Error>,
) -> Result<(), Error> {
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
    use alloc::vec::Vec;

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
