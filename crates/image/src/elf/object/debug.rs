//! Names and debug information of all files, for debuggers: sections of one name put together and
//! made true for one address. Nothing of it is needed to run the module, so what is damaged here is
//! left out, and harms nothing else.

use crate::linking::definition::Definition;
use alloc::borrow::Cow;
use alloc::vec::Vec;

use object::LittleEndian as LE;
use object::elf;
use object::read::elf::{Rela as _, SectionHeader as _, Sym};

use super::Objects;
use super::file::{Home, Rela};
use super::resolve::Linked;
use super::symbols::own;
use crate::debug::{DebugInfo, SECTIONS, Symbol, Symbols};
use crate::fixup::What;
use crate::linking::section::State;
use crate::machine::Static;

type Sections<'data> = Vec<(&'static str, Cow<'data, [u8]>)>;

const DAMAGED: &str = "it is damaged";
const COMPRESSED: &str = "it is compressed: build the module without -gz";

/// A file's section of debug information: where it is among all of that name.
#[derive(Clone, Copy)]
struct Piece {
    /// Index in [`SECTIONS`].
    output: usize,
    offset: usize,
}

impl<'data> Objects<'data> {
    /// The functions and variables of all files, exported or not.
    pub(super) fn names_of_all(&self) -> Symbols<'data> {
        let mut all = Symbols::default();
        for linked in &self.files {
            let names = linked.file.names_bytes;
            let Some(first) = all.add_names(names) else { break };
            for (index, entry) in (0..).zip(linked.file.symbols) {
                let function = match entry.st_type() {
                    elf::STT_FUNC | elf::STT_GNU_IFUNC => true,
                    elf::STT_OBJECT => false,
                    _ => continue,
                };
                if let Ok(Home::Section(section)) = linked.file.home(index)
                    && let section = &self.sections[(linked.first_section + section) as usize]
                    && section.part().is_some()
                    && entry.st_value(LE) <= section.size
                    && let Some(name) = first.checked_add(entry.st_name(LE))
                {
                    let offset = section.offset + entry.st_value(LE);
                    all.symbols.push(Symbol { name, function, offset, size: entry.st_size(LE) });
                }
            }
        }
        all
    }

    /// The debug information, true for the image at `base`.
    pub(super) fn debug_info(&self, base: u64) -> DebugInfo<'data> {
        match self.gather(base) {
            Ok(sections) => DebugInfo { sections, omitted: None },
            Err(reason) => DebugInfo { sections: Vec::new(), omitted: Some(reason) },
        }
    }

    fn gather(&self, base: u64) -> Result<Sections<'data>, &'static str> {
        let mut outputs: [Vec<u8>; SECTIONS.len()] = Default::default();
        let mut pieces: Vec<Option<Piece>> = alloc::vec![None; self.sections.len()];
        for linked in &self.files {
            for (index, header) in (linked.first_section as usize..).zip(linked.file.sections) {
                // No fix-ups for it were read; and another file has it, if it was discarded.
                let absent =
                    header.sh_type(LE) != elf::SHT_PROGBITS || self.sections[index].state != State::NotLoaded;
                let name = linked.file.section_name(header).map_err(|_| DAMAGED)?;
                if absent || !name.starts_with(".debug_") {
                    continue;
                }
                if header.sh_flags(LE) & u64::from(elf::SHF_COMPRESSED) != 0 {
                    return Err(COMPRESSED);
                }
                let Some(output) = SECTIONS.iter().position(|wanted| *wanted == name) else { continue };
                pieces[index] = Some(Piece { output, offset: outputs[output].len() });
                outputs[output].extend(linked.file.contents(header).map_err(|_| DAMAGED)?);
            }
        }
        for (number, linked) in (0..).zip(&self.files) {
            for relocations in &linked.file.relocations {
                if let Some(piece) = pieces[(linked.first_section + relocations.section) as usize] {
                    for relocation in relocations.table {
                        let value = self.debug_value(number, linked, relocation, base, &pieces, piece)?;
                        let Some((value, write)) = value else { continue };
                        let place = usize::try_from(relocation.r_offset(LE)).ok();
                        let place = place.and_then(|place| {
                            let rest = outputs[piece.output].get_mut(piece.offset..)?;
                            rest.get_mut(place..)?.get_mut(..write.size())
                        });
                        write.write(place.ok_or(DAMAGED)?, value).map_err(|_| DAMAGED)?;
                    }
                }
            }
        }
        let found = SECTIONS.into_iter().zip(outputs).filter(|(_, contents)| !contents.is_empty());
        Ok(found.map(|(name, contents)| (name, Cow::Owned(contents))).collect())
    }

    /// What is written for a relocation of debug information, and how; `None` for nothing.
    fn debug_value(
        &self,
        number: u32,
        linked: &Linked<'data>,
        relocation: &Rela,
        base: u64,
        pieces: &[Option<Piece>],
        piece: Piece,
    ) -> Result<Option<(i64, crate::fixup::Encoding)>, &'static str> {
        let r_sym = relocation.r_sym(LE, false);
        let howto = match self.machine.object(relocation.r_type(LE, false)) {
            Static::Nothing => return Ok(None),
            Static::Apply(howto) => howto,
            Static::Refuse(_) => return Err(DAMAGED),
        };
        let symbol = self.symbols.number(number, linked, r_sym).ok_or(DAMAGED)?;
        let gone = match SECTIONS[piece.output] {
            // Two zeros would end a list.
            ".debug_ranges" | ".debug_loc" => 1,
            _ => 0,
        };
        let what = match self.symbols.own(symbol) {
            Definition::Section(spot) => {
                let start = match howto.what {
                    What::BlockOffset => self.sections[own::TEMPLATE as usize].offset,
                    _ => base.wrapping_neg(),
                };
                spot.offset(&self.sections).wrapping_sub(start)
            }
            Definition::Absolute(value) => value,
            // Offsets in other sections of debug information, from the start of what they have been
            // put together to.
            Definition::Gone { .. } => match linked.file.home(r_sym) {
                Ok(Home::Section(section)) => match pieces[(linked.first_section + section) as usize] {
                    Some(piece) => {
                        (piece.offset as u64).wrapping_add(linked.file.symbols[r_sym as usize].st_value(LE))
                    }
                    None => return Ok(Some((gone, howto.encoding))),
                },
                _ => return Ok(Some((gone, howto.encoding))),
            },
            Definition::Import(_) | Definition::Elsewhere => 0,
        };
        let place = (piece.offset as u64).wrapping_add(relocation.r_offset(LE));
        Ok(Some((howto.value(what, relocation.r_addend(LE), place, 0), howto.encoding)))
    }
}
