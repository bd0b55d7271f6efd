//! The symbols of the link: those that files share, by the number of their name, then each file's
//! own.

use super::file::Home;
use super::resolve::{Common, Global, Linked, Rank, bad, is_own, nowhere};
use super::section::Kind;
use crate::Error;
use crate::error::label;
use crate::linking::definition::{Definition, Spot, Used};
use crate::linking::names::Names;
use crate::linking::section::{Section, State};
use crate::macho::format::LE;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

pub(super) const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
pub(super) struct Symbol {
    pub(super) definition: Definition,
    pub(super) used: Used,
    /// The number of its entry of the global offset table, if it has one, and of its stub.
    pub(super) entry: u32,
    pub(super) stub: u32,
}

impl Symbol {
    fn new(definition: Definition) -> Self {
        Symbol { definition, used: Used::No, entry: NONE, stub: NONE }
    }
}

/// Sections of our own, at the start of those of the link.
pub(super) mod own {
    use crate::linking::section::{Part, Section};

    /// The start of the image.
    pub(in crate::macho::object) const IMAGE: u32 = 0;
    pub(in crate::macho::object) const STUBS: u32 = 1;
    /// The global offset table.
    pub(in crate::macho::object) const TABLE: u32 = 2;
    /// Common blocks.
    pub(in crate::macho::object) const COMMON: u32 = 3;
    /// Call frame information that is made of compact unwind information.
    pub(in crate::macho::object) const UNWIND: u32 = 4;

    pub(in crate::macho::object) const SECTIONS: [Section<'static>; 5] = [
        Section::own(Part::Constants),
        Section::own(Part::Stubs),
        Section::own(Part::Table),
        Section::own(Part::Zero),
        Section::own(Part::Frames),
    ];
}

/// The symbols of the link.
pub(super) struct Symbols {
    pub(super) all: Vec<Symbol>,
    /// For each file, the numbers of its symbols; `NONE` for what is only for debuggers.
    numbers: Vec<Vec<u32>>,
    /// For each name, the symbol that it stands for: another name's, if it is an alias.
    named: Vec<u32>,
}

impl Symbols {
    /// Also makes room for the common blocks.
    pub(super) fn new(
        names: &Names<'_>,
        globals: &[Global],
        commons: &BTreeMap<u32, Common>,
        files: &[Linked<'_>],
        sections: &mut [Section<'_>],
    ) -> Result<Self, Error> {
        let mut all = Vec::with_capacity(globals.len());
        for (number, global) in (0..).zip(globals) {
            let definition = match (files.get(global.file as usize), commons.get(&number)) {
                (None, _) => Definition::Elsewhere,
                (_, Some(Common { size, align })) if global.rank == Rank::Common => {
                    let value = sections[own::COMMON as usize].append(*size, *align);
                    Definition::Section(Spot { section: own::COMMON, value })
                }
                (Some(linked), _) => definition(linked, global.symbol, sections)
                    .map_err(|error| linked.label().blame(error))?
                    .unwrap_or(Definition::Elsewhere),
            };
            all.push(Symbol::new(definition));
        }
        let named = named(names, globals, files)?;
        let mut numbers = Vec::with_capacity(files.len());
        for linked in files {
            let mut own = alloc::vec![NONE; linked.file.symbols.len()];
            for (index, number) in &linked.shared {
                own[*index as usize] = named[*number as usize];
            }
            for (index, symbol) in (0..).zip(linked.file.symbols) {
                if is_own(symbol) {
                    let definition = definition(linked, index, sections);
                    let definition = definition.and_then(|found| found.ok_or_else(|| nowhere(index)));
                    let definition = definition.map_err(|error| linked.label().blame(error))?;
                    own[index as usize] = all.len() as u32;
                    all.push(Symbol::new(definition));
                }
            }
            numbers.push(own);
        }
        Ok(Symbols { all, numbers, named })
    }

    /// The number of a file's symbol.
    pub(super) fn number(&self, file: u32, symbol: u32) -> Option<u32> {
        let number = *self.numbers.get(file as usize)?.get(symbol as usize)?;
        (number != NONE).then_some(number)
    }

    /// What a name stands for.
    pub(super) fn named(&self, name: u32) -> &Symbol {
        &self.all[self.named[name as usize] as usize]
    }
}

/// For each name, the one that it stands for: itself, unless it is an alias.
fn named(names: &Names<'_>, globals: &[Global], files: &[Linked<'_>]) -> Result<Vec<u32>, Error> {
    let mut named: Vec<u32> = (0..globals.len() as u32).collect();
    let mut aliases = Vec::new();
    for (number, global) in (0..).zip(globals) {
        if let Some(linked) = files.get(global.file as usize)
            && linked.file.home(global.symbol)? == Home::Alias
        {
            let original = linked.file.original(&linked.file.symbols[global.symbol as usize])?;
            named[number as usize] = names.find(original).unwrap_or(number);
            aliases.push(number);
        }
    }
    for alias in aliases {
        let mut path = Vec::new();
        let mut at = alias;
        let original = loop {
            let next = named[at as usize];
            let is_alias = files.get(globals[at as usize].file as usize).is_some_and(|linked| {
                linked.file.home(globals[at as usize].symbol).is_ok_and(|home| home == Home::Alias)
            });
            if !is_alias {
                break at;
            }
            path.push(at);
            if next == at || path.len() > globals.len() {
                return Err(Error::UnsupportedSymbol {
                    symbol: label(names.get(alias)),
                    problem: "is an alias for itself: define one of the names that it goes by",
                });
            }
            at = next;
        };
        // So that no path is gone twice: what is one step from its original is found at once.
        path.into_iter().for_each(|at| named[at as usize] = original);
    }
    Ok(named)
}

/// What a file's symbol stands for; `None` if it is not defined there, or an alias.
fn definition(
    linked: &Linked<'_>,
    index: u32,
    sections: &[Section<'_>],
) -> Result<Option<Definition>, Error> {
    let symbol = &linked.file.symbols[index as usize];
    Ok(Some(match linked.file.home(index)? {
        Home::Undefined | Home::Common | Home::Alias => return Ok(None),
        Home::Absolute => Definition::Absolute(symbol.n_value.get(LE)),
        Home::Section(section) => {
            let number = linked.first_section + section;
            if matches!(sections[number as usize].state, State::NotLoaded | State::Discarded) {
                return Ok(Some(Definition::Gone { discarded: false }));
            }
            let value = linked.file.within(symbol, section);
            let value = value.ok_or_else(|| bad(linked, symbol, "is outside its section"))?;
            Definition::Section(Spot { section: number, value })
        }
    }))
}

/// Where the file itself has a symbol, whatever others have under its name.
pub(super) fn in_file(linked: &Linked<'_>, index: u32, sections: &[Section<'_>]) -> Option<Spot> {
    match definition(linked, index, sections) {
        Ok(Some(Definition::Section(spot))) => Some(spot),
        _ => None,
    }
}

/// The file that a section is of, by its number; its place there; and its kind.
pub(super) fn kind_of(files: &[Linked<'_>], section: u32) -> Kind {
    let after = files.partition_point(|linked| linked.first_section <= section);
    let linked = after.checked_sub(1).and_then(|file| files.get(file));
    let kind = linked.and_then(|linked| linked.kinds.get((section - linked.first_section) as usize));
    kind.copied().unwrap_or(Kind::Plain)
}
