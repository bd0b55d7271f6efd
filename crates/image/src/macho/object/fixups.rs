//! The relocations of a section, decoded: which place, which sum, which bits of it.
//!
//! Apple's <mach-o/reloc.h> and <mach-o/arm64/reloc.h>: addends are in the place, or in a
//! relocation before (ADDEND); a difference takes two (SUBTRACTOR). What a field is checked for
//! beyond that is as in ld64 and lld.

use super::file::{File, Header, Relocation};
use crate::error::{Refusal, label};
use crate::fixup::Encoding::{self, Signed, Word};
use crate::fixup::aarch64::Field;
use crate::fixup::{From, Howto, Problem, Slot, What};
use crate::machine::MACHO;
use crate::macho::format::{LE, malformed};
use crate::{Error, Machine};
use object::macho;

const TABLE: &str = "relocation table";

/// What a relocation refers to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Target {
    /// A symbol of the file.
    Symbol(u32),
    /// A section of the file, from 0; the addend counts from its start.
    Section(u32),
}

/// One relocation, or two that belong together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fixup {
    /// In the section.
    pub(super) place: u64,
    pub(super) r_type: u8,
    pub(super) howto: Howto,
    pub(super) target: Target,
    /// The symbol whose address is taken off.
    pub(super) minus: Option<u32>,
    pub(super) addend: i64,
}

impl Fixup {
    /// Whether it is by a thread-local variable's descriptor.
    pub(super) fn for_thread_local(&self) -> bool {
        matches!(self.r_type, macho::ARM64_RELOC_TLVP_LOAD_PAGE21 | macho::ARM64_RELOC_TLVP_LOAD_PAGEOFF12)
    }

    /// The value, given what the target is, and the addresses of the place and of what is taken
    /// off.
    #[inline]
    pub(super) fn value(&self, target: u64, place: u64, minus: u64) -> i64 {
        let value = self.howto.value(target, self.addend, place, 0).wrapping_sub_unsigned(minus);
        // The instruction has what an address is within its page of 4 KiB.
        if self.howto.encoding == ENTRY { value & 0xFFF } else { value }
    }

    /// The symbol for a message.
    pub(super) fn symbol_label(&self, file: &File<'_>) -> alloc::string::String {
        match self.target {
            Target::Symbol(symbol) => file.symbol_label(symbol),
            Target::Section(section) => file.section_label(section),
        }
    }

    pub(super) fn failed(&self, file: &File<'_>, problem: Problem) -> Error {
        Error::Fixup {
            machine: Machine::Aarch64,
            r_type: MACHO + u32::from(self.r_type),
            symbol: self.symbol_label(file),
            offset: self.place,
            problem,
        }
    }
}

const ENTRY: Encoding = Encoding::Field(Field::Entry);
const ADRP: Encoding = Encoding::Field(Field::Adrp { checked: true });
const BRANCH: Encoding = Encoding::Field(Field::Branch);

/// A section whose relocations are read.
#[derive(Clone, Copy)]
pub(super) struct Relocated<'a, 'data> {
    pub(super) file: &'a File<'data>,
    /// The section's place in the file's table.
    pub(super) section: u32,
    /// What of it is loaded.
    pub(super) bytes: &'data [u8],
}

impl<'a, 'data> Relocated<'a, 'data> {
    pub(super) fn fixups(self) -> Result<Fixups<'a, 'data>, Error> {
        let header = self.header()?;
        Ok(Fixups { of: self, rest: self.file.relocations(header)? })
    }

    fn header(&self) -> Result<&'data Header, Error> {
        let header = self.file.sections.get(self.section as usize).copied();
        header.ok_or_else(|| malformed(TABLE, "it is for no section of this file", self.section.into()))
    }
}

/// The relocations of one section, in the order of the file.
pub(super) struct Fixups<'a, 'data> {
    of: Relocated<'a, 'data>,
    rest: &'data [Relocation],
}

impl Iterator for Fixups<'_, '_> {
    type Item = Result<Fixup, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(self.read(first))
    }
}

impl Fixups<'_, '_> {
    fn read(&mut self, first: &Relocation) -> Result<Fixup, Error> {
        let info = self.info(first)?;
        match info.r_type {
            macho::ARM64_RELOC_ADDEND => {
                if info.r_pcrel || info.r_length != 2 {
                    return Err(shape(&info));
                }
                let second = self.second(&info)?;
                let takes = matches!(
                    second.r_type,
                    macho::ARM64_RELOC_BRANCH26 | macho::ARM64_RELOC_PAGE21 | macho::ARM64_RELOC_PAGEOFF12
                );
                if !takes {
                    return Err(self.refused(&second, Refusal::Addend));
                }
                // 24 bits, signed.
                let addend = (info.r_symbolnum << 8) as i32 >> 8;
                self.decode(&second, None, addend.into())
            }
            macho::ARM64_RELOC_SUBTRACTOR => {
                if info.r_pcrel || !info.r_extern {
                    return Err(shape(&info));
                }
                let second = self.second(&info)?;
                if second.r_type != macho::ARM64_RELOC_UNSIGNED || second.r_length != info.r_length {
                    return Err(malformed(TABLE, "a difference has only one half", info.r_address.into()));
                }
                self.decode(&second, Some(info.r_symbolnum), 0)
            }
            _ => self.decode(&info, None, 0),
        }
    }

    fn info(&self, relocation: &Relocation) -> Result<macho::RelocationInfo, Error> {
        let info = relocation.info(LE);
        // A place is a signed number; one below 0 would say that the rest is in the form of older
        // machines (scattered).
        if info.r_address & macho::R_SCATTERED != 0 {
            return Err(malformed(
                TABLE,
                "it has a relocation of older machines (scattered)",
                info.r_address.into(),
            ));
        }
        Ok(info)
    }

    /// The second of two that belong together.
    fn second(&mut self, first: &macho::RelocationInfo) -> Result<macho::RelocationInfo, Error> {
        let lonely = || malformed(TABLE, "the second of two relocations is missing", first.r_address.into());
        let (second, rest) = self.rest.split_first().ok_or_else(lonely)?;
        self.rest = rest;
        let info = self.info(second)?;
        if info.r_address == first.r_address { Ok(info) } else { Err(lonely()) }
    }

    fn refused(&self, info: &macho::RelocationInfo, refusal: Refusal) -> Error {
        let symbol =
            if info.r_extern { self.of.file.symbol_label(info.r_symbolnum) } else { Default::default() };
        let r_type = MACHO + u32::from(info.r_type);
        let offset = info.r_address.into();
        Error::UnsupportedRelocation { machine: Machine::Aarch64, r_type, refusal, symbol, offset }
    }

    fn decode(&self, info: &macho::RelocationInfo, minus: Option<u32>, addend: i64) -> Result<Fixup, Error> {
        const CODE: (bool, u8, bool) = (true, 2, true);
        const LOW: (bool, u8, bool) = (false, 2, true);
        let entry = What::Entry(Slot::Address);
        let place = u64::from(info.r_address);
        // How the place is written; and whether it may hold an addend.
        let (what, from, encoding, inline) = match (info.r_type, (info.r_pcrel, info.r_length, info.r_extern))
        {
            (macho::ARM64_RELOC_UNSIGNED, (false, 3, _)) => (What::Address, From::Zero, Word, true),
            (macho::ARM64_RELOC_UNSIGNED, (false, 2, _)) => {
                let encoding = if minus.is_some() { Signed(4) } else { Encoding::Unsigned(4) };
                (What::Address, From::Zero, encoding, true)
            }
            (macho::ARM64_RELOC_BRANCH26, CODE) => (What::Branch, From::Place, BRANCH, false),
            (macho::ARM64_RELOC_PAGE21, CODE) => (What::Address, From::Page, ADRP, false),
            (macho::ARM64_RELOC_PAGEOFF12, LOW) => {
                (What::Address, From::Zero, low_bits(self.instruction(place)?), false)
            }
            (macho::ARM64_RELOC_GOT_LOAD_PAGE21 | macho::ARM64_RELOC_TLVP_LOAD_PAGE21, CODE) => {
                (entry, From::Page, ADRP, false)
            }
            (macho::ARM64_RELOC_GOT_LOAD_PAGEOFF12 | macho::ARM64_RELOC_TLVP_LOAD_PAGEOFF12, LOW) => {
                (entry, From::Zero, ENTRY, false)
            }
            // The assembler leaves minus the place's address there, which is no addend: linkers do
            // not look at it.
            (macho::ARM64_RELOC_POINTER_TO_GOT, (true, 2, true)) => (entry, From::Place, Signed(4), false),
            (macho::ARM64_RELOC_POINTER_TO_GOT, (false, 3, true)) => (entry, From::Zero, Word, false),
            (macho::ARM64_RELOC_AUTHENTICATED_POINTER, _) => {
                return Err(Error::BadReference {
                    symbol: self.refused_label(info),
                    section: label(self.of.file.section_label(self.of.section)),
                    problem: "is wanted as a signed pointer (ARM64_RELOC_AUTHENTICATED_POINTER), which other \
                                  processes cannot make: compile with -arch arm64",
                });
            }
            (0..=macho::ARM64_RELOC_ADDEND, _) => return Err(shape(info)),
            _ => return Err(self.refused(info, Refusal::Unknown)),
        };
        if !place.is_multiple_of(encoding.place_align()) {
            return Err(malformed(TABLE, "an instruction is not at a multiple of its size", place));
        }
        let field = self.field(place, encoding.size())?;
        let mut addend = addend;
        if inline {
            addend = match *field {
                [a, b, c, d] => i32::from_le_bytes([a, b, c, d]).into(),
                [a, b, c, d, e, f, g, h] => i64::from_le_bytes([a, b, c, d, e, f, g, h]),
                _ => 0,
            };
        }
        let target = if info.r_extern {
            if info.r_symbolnum as usize >= self.of.file.symbols.len() {
                return Err(malformed(TABLE, "it names a symbol that is not there", info.r_symbolnum.into()));
            }
            Target::Symbol(info.r_symbolnum)
        } else {
            let section = info.r_symbolnum.wrapping_sub(1);
            let header = self.of.file.sections.get(section as usize).ok_or_else(|| {
                malformed(TABLE, "it names a section that is not there", info.r_symbolnum.into())
            })?;
            // What is in the place is an address of the file.
            if addend < 0 && encoding == Encoding::Unsigned(4) {
                addend &= 0xFFFF_FFFF;
            }
            addend = addend.wrapping_sub_unsigned(header.addr.get(LE));
            Target::Section(section)
        };
        let howto = Howto { what, from, encoding };
        let fixup = Fixup { place, r_type: info.r_type, howto, target, minus, addend };
        // Whatever will be written: the instruction must be of the kind.
        if let Encoding::Field(instruction) = encoding {
            let mut copy = self.instruction(place)?.to_le_bytes();
            instruction.write(&mut copy, 0).map_err(|problem| fixup.failed(self.of.file, problem))?;
        }
        Ok(fixup)
    }

    fn refused_label(&self, info: &macho::RelocationInfo) -> alloc::string::String {
        if info.r_extern { self.of.file.symbol_label(info.r_symbolnum) } else { Default::default() }
    }

    fn field(&self, place: u64, size: usize) -> Result<&[u8], Error> {
        let rest = usize::try_from(place).ok().and_then(|place| self.of.bytes.get(place..));
        rest.and_then(|rest| rest.get(..size))
            .ok_or_else(|| malformed(TABLE, "a place is outside its section", place))
    }

    fn instruction(&self, place: u64) -> Result<u32, Error> {
        let field = self.field(place, 4)?;
        Ok(field.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes)))
    }
}

fn shape(info: &macho::RelocationInfo) -> Error {
    malformed(TABLE, "a relocation has not the form that its type asks for", info.r_address.into())
}

/// Where an instruction has the low 12 bits of an address: the relocation does not say whether it
/// adds or accesses memory, nor how much.
fn low_bits(code: u32) -> Encoding {
    let access = code & 0x3B00_0000 == 0x3900_0000;
    Encoding::Field(if access {
        // Of a vector register as a whole the size is 0, and the upper bit of opc is set.
        let whole = code & 0xC480_0000 == 0x0480_0000;
        let log2 = if whole { 4 } else { (code >> 30) as u8 };
        Field::Access { log2, checked: false }
    } else {
        Field::AddLow { checked: false }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_instruction_does_with_the_low_bits() {
        let access = |log2| Encoding::Field(Field::Access { log2, checked: false });
        let add = Encoding::Field(Field::AddLow { checked: false });
        for (code, expected) in [
            (0x9100_0000, add),
            (0x1100_0000, add),
            (0x3940_0000, access(0)),
            (0x7980_0000, access(1)),
            (0xB940_0000, access(2)),
            (0xB980_0000, access(2)),
            (0xF900_0000, access(3)),
            (0xF980_0000, access(3)),
            (0x3D40_0000, access(0)),
            (0x7D40_0000, access(1)),
            (0xBD40_0000, access(2)),
            (0xFD00_0000, access(3)),
            (0x3DC0_0000, access(4)),
            (0x3D80_0000, access(4)),
        ] {
            assert_eq!(low_bits(code), expected, "{code:#x}");
            let mut place = u32::to_le_bytes(code);
            assert_eq!(expected.write(&mut place, 0x1230), Ok(()), "{code:#x}");
        }
    }
}
