//! Every relocation looked at once, before anything is placed: what must be imported, and what the
//! global offset table and the stubs must hold.

use super::super::bytes::c_name;
use super::descriptors::Descriptor;
use super::fixups::{Fixup, Relocated, Target};
use super::resolve::{Global, Linked};
use super::section::Kind;
use super::symbols::{Symbols, in_file, kind_of};
use super::table::Table;
use crate::error::{NOT_TEXT, label};
use crate::fixup::{Encoding, What};
use crate::linking::definition::{Definition, Spot, Used};
use crate::linking::names::Names;
use crate::linking::section::{Part, Section};
use crate::{Error, Import, ImportKind, Lookup};
use alloc::vec::Vec;

/// A relocation that limits where the image may be: 4 bytes for an address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Direct {
    pub(super) file: u32,
    pub(super) fixup: Fixup,
}

/// What is worked out of the relocations.
pub(super) struct Scan<'a, 'data> {
    pub(super) files: &'a [Linked<'data>],
    pub(super) sections: &'a [Section<'data>],
    pub(super) symbols: &'a mut Symbols,
    pub(super) table: Table,
    pub(super) direct: Vec<Direct>,
    /// Ascending by place.
    pub(super) descriptors: Vec<Descriptor>,
}

/// A section of a file, and where its relocations are.
pub(super) fn place<'a, 'data>(
    linked: &'a Linked<'data>,
    sections: &[Section<'data>],
    index: u32,
) -> Relocated<'a, 'data> {
    let bytes = sections[(linked.first_section + index) as usize].bytes;
    Relocated { file: &linked.file, section: index, bytes }
}

/// A relocation, and where it is.
#[derive(Clone, Copy)]
pub(super) struct Of<'a, 'data> {
    pub(super) number: u32,
    pub(super) linked: &'a Linked<'data>,
    /// The section's place in the file's table.
    pub(super) index: u32,
}

impl Of<'_, '_> {
    pub(super) fn bad(&self, fixup: &Fixup, problem: &'static str) -> Error {
        let file = &self.linked.file;
        let section = label(file.section_label(self.index));
        Error::BadReference { symbol: fixup.symbol_label(file), section, problem }
    }

    /// Whether only the file's own definitions count: what describes code describes that of its own
    /// file, also if another's is used in its place.
    pub(super) fn for_own(&self) -> bool {
        matches!(self.linked.kinds[self.index as usize], Kind::Frames | Kind::CompactUnwind)
    }
}

impl<'data> Scan<'_, 'data> {
    pub(super) fn file(&mut self, number: u32) -> Result<(), Error> {
        let linked = &self.files[number as usize];
        for (index, kind) in (0..).zip(&linked.kinds) {
            let of = Of { number, linked, index };
            let section = &self.sections[(linked.first_section + index) as usize];
            match kind {
                Kind::Descriptors => self.read_descriptors(of)?,
                Kind::CompactUnwind => self.personalities(of)?,
                _ if section.part().is_none() => {}
                _ => {
                    for fixup in place(linked, self.sections, index).fixups()? {
                        self.fixup(of, &fixup?)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// What a relocation's target is, as far as it has no number of its own; and where it is, if it
    /// is in the image.
    pub(super) fn find(&self, of: Of<'_, 'data>, target: Target) -> Result<(Definition, Option<u32>), Error> {
        let linked = of.linked;
        match target {
            Target::Section(section) => {
                let section = linked.first_section + section;
                let spot = Spot { section, value: 0 };
                let loaded = self.sections[section as usize].part().is_some();
                Ok((
                    if loaded { Definition::Section(spot) } else { Definition::Gone { discarded: false } },
                    None,
                ))
            }
            Target::Symbol(index) => {
                let number = self.symbols.number(of.number, index);
                let number = number.ok_or_else(|| {
                    crate::macho::format::malformed(
                        "relocation table",
                        "it names a symbol that is not there",
                        index.into(),
                    )
                })?;
                let own = if of.for_own() { in_file(linked, index, self.sections) } else { None };
                let definition =
                    own.map_or(self.symbols.all[number as usize].definition, Definition::Section);
                Ok((definition, Some(number)))
            }
        }
    }

    fn fixup(&mut self, of: Of<'_, 'data>, fixup: &Fixup) -> Result<(), Error> {
        let (definition, number) = self.find(of, fixup.target)?;
        self.check(of, fixup, definition)?;
        if let Some(minus) = fixup.minus {
            let (minus, _) = self.find(of, Target::Symbol(minus))?;
            let alike = matches!(
                (definition, minus),
                (Definition::Section(_), Definition::Section(_))
                    | (Definition::Absolute(_), Definition::Absolute(_))
            );
            return if alike { Ok(()) } else { Err(of.bad(fixup, DIFFERENCE)) };
        }
        let elsewhere = definition == Definition::Elsewhere;
        let Some(number) = number else {
            if fixup.howto.encoding == Encoding::Unsigned(4) {
                self.direct.push(Direct { file: of.number, fixup: *fixup });
            }
            return Ok(());
        };
        let symbol = &mut self.symbols.all[number as usize];
        symbol.used = symbol.used.max(Used::Somehow);
        match fixup.howto.what {
            What::Entry(_) => {
                self.table.need(number, symbol);
            }
            What::Branch => {
                symbol.used = Used::AsFunction;
                if !matches!(definition, Definition::Section(_)) {
                    self.table.need_stub(number, symbol);
                }
            }
            _ => match fixup.howto.encoding {
                Encoding::Field(_) if elsewhere => return Err(of.bad(fixup, DIRECT)),
                Encoding::Field(_) if matches!(definition, Definition::Absolute(_)) => {
                    return Err(of.bad(fixup, NUMBER));
                }
                Encoding::Unsigned(_) => self.direct.push(Direct { file: of.number, fixup: *fixup }),
                _ => {}
            },
        }
        Ok(())
    }

    /// Whether the target may be used in this way.
    fn check(&self, of: Of<'_, 'data>, fixup: &Fixup, definition: Definition) -> Result<(), Error> {
        let spot = match definition {
            Definition::Section(spot) => spot,
            Definition::Gone { .. } => return Err(of.bad(fixup, "is in a section that is not loaded")),
            Definition::Elsewhere if fixup.for_thread_local() => return Err(of.bad(fixup, NOT_HERE)),
            _ if fixup.for_thread_local() => return Err(of.bad(fixup, NOT_THREAD_LOCAL)),
            _ => return Ok(()),
        };
        let descriptor = kind_of(self.files, spot.section) == Kind::Descriptors;
        let in_block = self.sections[spot.section as usize].part().is_some_and(Part::thread_local);
        if in_block || descriptor != fixup.for_thread_local() {
            let problem = if fixup.for_thread_local() { NOT_THREAD_LOCAL } else { THREAD_LOCAL };
            return Err(of.bad(fixup, problem));
        }
        Ok(())
    }

    /// The entries of the table through which unwinders find personality routines.
    fn personalities(&mut self, of: Of<'_, 'data>) -> Result<(), Error> {
        for fixup in place(of.linked, self.sections, of.index).fixups()? {
            let fixup = fixup?;
            if super::unwind::is_personality(&fixup) {
                self.personality(of, &fixup)?;
            }
        }
        Ok(())
    }

    fn personality(&mut self, of: Of<'_, 'data>, fixup: &Fixup) -> Result<(), Error> {
        let (definition, number) = self.find(of, fixup.target)?;
        self.check(of, fixup, definition)?;
        match (number, definition) {
            (Some(number), _) if fixup.addend == 0 => {
                let symbol = &mut self.symbols.all[number as usize];
                symbol.used = Used::AsFunction;
                self.table.need(number, symbol);
            }
            (None, Definition::Section(spot)) => {
                self.table.need_spot(super::unwind::moved(spot, fixup.addend));
            }
            _ => return Err(of.bad(fixup, "is the personality routine of a function, with something added")),
        }
        Ok(())
    }
}

const DIFFERENCE: &str =
    "is part of a difference of which the other part is elsewhere: both must be in the module";
const DIRECT: &str = "is named directly (@PAGE), and no file of the module defines it: load its address from the global \
                      offset table (@GOTPAGE), as compilers do for what is declared extern and not hidden";
const NUMBER: &str =
    "is a number and no place, and code cannot reach it from its own (@PAGE): load it (@GOTPAGE)";
const NOT_THREAD_LOCAL: &str = "is used as a thread-local variable, and is none: declare it alike everywhere";
pub(super) const THREAD_LOCAL: &str =
    "is a thread-local variable, and is used as if it were none: declare it alike everywhere";
const NOT_HERE: &str = "is a thread-local variable, and no file of the module defines it: thread-local variables of other \
                        images are not supported, so have a function there return its address";

/// Numbers the imports.
pub(super) fn imports<'data>(
    names: &Names<'data>,
    globals: &[Global],
    symbols: &mut Symbols,
) -> Result<Vec<Import<'data>>, Error> {
    let mut imports = Vec::new();
    for ((number, global), symbol) in (0..).zip(globals).zip(&mut symbols.all) {
        if symbol.definition != Definition::Elsewhere || symbol.used == Used::No {
            continue;
        }
        symbol.definition = Definition::Import(imports.len() as u32);
        let name = core::str::from_utf8(names.get(number))
            .map_err(|_| Error::UnsupportedSymbol { symbol: label(names.get(number)), problem: NOT_TEXT })?;
        let name = c_name(name).ok_or_else(|| Error::UnsupportedSymbol {
            symbol: label(names.get(number)),
            problem: "is not defined by any file of the module, and C has no such name, which would begin with an \
                      underscore here: define it, or declare it as C does",
        })?;
        let kind = if symbol.used == Used::AsFunction { ImportKind::Function } else { ImportKind::Unknown };
        let from = Lookup::Anywhere;
        imports.push(Import {
            name,
            version: None,
            weak: !global.required,
            kind,
            addressed: false,
            from,
            own: None,
        });
    }
    Ok(imports)
}
