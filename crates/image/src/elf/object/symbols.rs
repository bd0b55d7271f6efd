//! The symbols of the link: those that files share, by the number of their name, then each file's
//! own.

use super::file::Home;
use super::resolve::{Common, Global, Linked, Rank};
use crate::Error;
use crate::linking::definition::{Definition, Spot, Used};
use crate::linking::names::Names;
use crate::linking::section::{Part, Section, State};
use crate::shared_definitions::{ALLOCATORS, is_of_class, is_repeatable};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use object::LittleEndian as LE;
use object::elf;
use object::read::elf::Sym;

/// No slots.
pub(super) const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
pub(super) struct Symbol {
    pub(super) definition: Definition,
    /// Its address is what the function that it names returns (STT_GNU_IFUNC).
    pub(super) indirect: bool,
    /// It is in a section of thread-local variables.
    pub(super) thread_local: bool,
    /// Of an import: how it is used.
    pub(super) used: Used,
    /// Its address is used, and not only to call it.
    pub(super) addressed: bool,
    /// Which slots it has in the global offset table, by index in a list of such.
    pub(super) slots: u32,
}

impl Symbol {
    /// A place in the image, and nothing else about it.
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        matches!(self.definition, Definition::Section(_)) && !self.indirect && !self.thread_local
    }

    fn new(definition: Definition, indirect: bool) -> Self {
        let (thread_local, used, addressed) = (false, Used::No, false);
        Symbol { definition, indirect, thread_local, used, addressed, slots: NONE }
    }
}

/// Sections of our own, at the start of those of the link.
pub(super) mod own {
    use crate::linking::section::{Part, Section};

    /// The start of the image.
    pub(in crate::elf::object) const IMAGE: u32 = 0;
    pub(in crate::elf::object) const STUBS: u32 = 1;
    pub(in crate::elf::object) const TABLE: u32 = 2;
    /// Where variables that begin as zero begin.
    pub(in crate::elf::object) const ZERO: u32 = 3;
    /// Common blocks.
    pub(in crate::elf::object) const COMMON: u32 = 4;
    /// Where the thread-local variables begin.
    pub(in crate::elf::object) const TEMPLATE: u32 = 5;
    /// The end of the image.
    pub(in crate::elf::object) const END: u32 = 6;
    /// Common blocks that are thread-local.
    pub(in crate::elf::object) const THREAD_COMMON: u32 = 7;
    /// Accesses that were moved (`erratum.rs`).
    pub(in crate::elf::object) const VENEERS: u32 = 8;
    /// The end of the code, stubs and veneers included.
    pub(in crate::elf::object) const CODE_END: u32 = 9;
    /// Where variables begin.
    pub(in crate::elf::object) const DATA: u32 = 10;
    pub(in crate::elf::object) const COUNT: u32 = SECTIONS.len() as u32;

    pub(in crate::elf::object) const SECTIONS: [Section<'static>; 11] = [
        Section::own(Part::Constants),
        Section::own(Part::Stubs),
        Section::own(Part::Table),
        Section::own(Part::Zero),
        Section::own(Part::Zero),
        Section::own(Part::Template),
        Section::own(Part::Zero),
        Section::own(Part::TemplateZero),
        Section::own(Part::Stubs),
        Section::own(Part::Stubs),
        Section::own(Part::Variables),
    ];
}

/// The symbols of the link.
#[derive(Default)]
pub(super) struct Symbols {
    pub(super) all: Vec<Symbol>,
    /// For each file, the number of its symbol 0, were it in the list.
    first: Vec<u32>,
    /// Where the module has what is an import because the process has it once, by the number of the
    /// name.
    pub(super) shared: BTreeMap<u32, Definition>,
}

impl Symbols {
    /// Also makes room for the common blocks.
    pub(super) fn new(
        globals: &[Global],
        commons: &BTreeMap<u32, Common>,
        files: &[Linked<'_>],
        sections: &mut [Section<'_>],
    ) -> Result<Self, Error> {
        let locals: usize = files.iter().map(|linked| linked.file.first_global).sum();
        let mut all = Vec::with_capacity(globals.len() + locals);
        for (number, global) in (0..).zip(globals) {
            let Some(linked) = files.get(global.file as usize) else {
                // A hidden name that may stay undefined is nobody else's business.
                let nothing = global.hidden() && !global.required;
                let definition = if nothing { Definition::Absolute(0) } else { Definition::Elsewhere };
                all.push(Symbol::new(definition, false));
                continue;
            };
            all.push(match global.rank {
                Rank::Common => {
                    let Common { size, align, thread_local } = commons[&number];
                    let section = if thread_local { own::THREAD_COMMON } else { own::COMMON };
                    let value = sections[section as usize].append(size, align);
                    let definition = Definition::Section(Spot { section, value });
                    Symbol { thread_local, ..Symbol::new(definition, false) }
                }
                _ => symbol(linked, global.symbol, sections).map_err(|error| linked.label().blame(error))?,
            });
        }
        let mut first = Vec::with_capacity(files.len());
        for linked in files {
            first.push(all.len() as u32);
            for index in 0..linked.file.first_global as u32 {
                all.push(symbol(linked, index, sections).map_err(|error| linked.label().blame(error))?);
            }
        }
        Ok(Symbols { all, first, shared: BTreeMap::new() })
    }

    /// Makes an import of what the process has once, if it has it (`shared_definitions.rs`).
    pub(super) fn share(
        &mut self,
        names: &Names<'_>,
        globals: &[Global],
        files: &[Linked<'_>],
        sections: &[Section<'_>],
    ) {
        let entry =
            |global: &Global| Some(&files.get(global.file as usize)?.file.symbols[global.symbol as usize]);
        let part = |symbol: &Symbol| match symbol.definition {
            Definition::Section(Spot { section, .. }) => sections[section as usize].part(),
            _ => None,
        };
        let mut shared = Vec::new();
        for ((number, global), symbol) in (0..).zip(globals).zip(&self.all) {
            if matches!(part(symbol), Some(Part::Variables | Part::Zero))
                && let Some(entry) = entry(global)
                && entry.st_type() == elf::STT_OBJECT
                && is_repeatable(entry.st_bind(), global.visibility)
                && !is_of_class(names.get(number))
            {
                shared.push(number);
            }
        }
        for name in ALLOCATORS {
            if let Some(number) = names.find(name.as_bytes())
                && let Some(global) = globals.get(number as usize)
                && global.visibility == elf::STV_DEFAULT
                && part(&self.all[number as usize]) == Some(Part::Code)
                && entry(global).is_some_and(|entry| entry.st_type() == elf::STT_FUNC)
            {
                shared.push(number);
            }
        }
        for number in shared {
            let symbol = &mut self.all[number as usize];
            self.shared.insert(number, symbol.definition);
            symbol.definition = Definition::Elsewhere;
        }
    }

    /// Where the module has it, whoever else does.
    pub(super) fn own(&self, number: u32) -> Definition {
        let definition = self.all[number as usize].definition;
        match definition {
            Definition::Import(_) => self.shared.get(&number).copied().unwrap_or(definition),
            _ => definition,
        }
    }

    /// The number of a file's symbol.
    pub(super) fn number(&self, file: u32, linked: &Linked<'_>, symbol: u32) -> Option<u32> {
        match (symbol as usize).checked_sub(linked.file.first_global) {
            Some(global) => linked.globals.get(global).copied(),
            None => Some(self.first[file as usize] + symbol),
        }
    }

    /// The file of a symbol that only it sees, and which of the file's symbols that is.
    pub(super) fn local(&self, number: u32) -> (usize, u32) {
        let file = self.first.partition_point(|first| *first <= number).saturating_sub(1);
        (file, number.saturating_sub(self.first.get(file).copied().unwrap_or(number)))
    }
}

/// A symbol that its file defines, or symbol 0.
#[inline]
fn symbol(linked: &Linked<'_>, index: u32, sections: &[Section<'_>]) -> Result<Symbol, Error> {
    let entry = &linked.file.symbols[index as usize];
    let value = entry.st_value(LE);
    let mut thread_local = false;
    let definition = match linked.file.home(index)? {
        // Symbol 0, which stands for no symbol.
        Home::Undefined => Definition::Absolute(0),
        Home::Absolute => Definition::Absolute(value),
        Home::Common => Definition::Gone { discarded: false },
        Home::Section(section) => {
            let section = linked.first_section + section;
            match sections[section as usize].state {
                State::Kept(part) => {
                    thread_local = part.thread_local();
                    Definition::Section(Spot { section, value })
                }
                State::Discarded => Definition::Gone { discarded: true },
                State::NotLoaded => Definition::Gone { discarded: false },
            }
        }
    };
    let indirect = entry.st_type() == elf::STT_GNU_IFUNC;
    Ok(Symbol { thread_local, ..Symbol::new(definition, indirect) })
}
