//! Which definition each name stands for, and which members of archives are needed for that.
//!
//! As ld64 and lld do it: a strong definition before a weak one before a common block, of common
//! blocks the largest, of weak definitions the first. What is defined weakly and not used stays
//! where it is in its section: only its name goes elsewhere.

use super::file::{self, File, Home, Nlist};
use super::section::{self, Kind};
use crate::Error;
use crate::error::label;
use crate::linking::label::{Label, duplicate};
use crate::linking::members::{self, NONE, Resolve};
use crate::linking::names::Names;
use crate::linking::section::{Section, State};
use crate::macho::format::{LE, malformed};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use object::macho;

/// How a name is defined; the later prevails.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Rank {
    Undefined,
    Common,
    Weak,
    Strong,
}

/// What is known of a name that files share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Global {
    pub(super) rank: Rank,
    /// The defining file and the symbol in it, if there is one.
    pub(super) file: u32,
    pub(super) symbol: u32,
    /// Not for other images (private external).
    pub(super) hidden: bool,
    /// Some file cannot do without it.
    pub(super) required: bool,
    /// The first archive member that defines it.
    offered: u32,
}

impl Global {
    const NEW: Global = Global {
        rank: Rank::Undefined,
        file: NONE,
        symbol: 0,
        hidden: false,
        required: false,
        offered: NONE,
    };
}

/// A common block, as large and as aligned as any file wants it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Common {
    pub(super) size: u64,
    pub(super) align: u64,
}

/// A file of the link.
pub(super) struct Linked<'data> {
    pub(super) file: File<'data>,
    /// Its symbols that others see: which, and the numbers of their names.
    pub(super) shared: Vec<(u32, u32)>,
    /// The number of its first section among the sections of the link.
    pub(super) first_section: u32,
    pub(super) kinds: Vec<Kind>,
}

impl<'data> Linked<'data> {
    pub(super) fn label(&self) -> Label<'data> {
        self.file.label
    }
}

/// A file that may become part of the link.
pub(super) struct Candidate<'data> {
    file: File<'data>,
    shared: Vec<(u32, u32)>,
}

#[derive(Default)]
pub(super) struct Resolver<'data> {
    pub(super) names: Names<'data>,
    pub(super) globals: Vec<Global>,
    /// By the number of the name.
    pub(super) commons: BTreeMap<u32, Common>,
    pub(super) files: Vec<Linked<'data>>,
    pub(super) sections: Vec<Section<'data>>,
    /// Names that were needed and not defined when a file came; some have been defined since.
    wanted: Vec<u32>,
}

impl<'data> Resolve for Resolver<'data> {
    type File = File<'data>;
    type Candidate = Candidate<'data>;

    /// Gives the names of a file's shared symbols their numbers.
    fn read(&mut self, file: File<'data>) -> Result<Candidate<'data>, Error> {
        let mut shared = Vec::new();
        let names = file.shared().try_for_each(|symbol| {
            let (index, name) = symbol?;
            shared.push((index, self.names.number(name)?));
            let symbol = &file.symbols[index as usize];
            if symbol.n_type & macho::N_TYPE == macho::N_INDR {
                self.names.number(file.original(symbol)?)?;
            }
            Ok(())
        });
        names.map_err(|error| file.label.blame(error))?;
        self.globals.resize(self.names.len(), Global::NEW);
        Ok(Candidate { file, shared })
    }

    fn only_repeats(&self, candidate: &Candidate<'data>) -> Result<bool, Error> {
        let mut repeats = false;
        for definition in definitions(candidate) {
            let (number, rank) = definition?;
            if self.globals[number as usize].rank < rank {
                return Ok(false);
            }
            repeats |= rank == Rank::Strong;
        }
        Ok(repeats)
    }

    fn offer(&mut self, candidate: &Candidate<'data>, number: u32) -> Result<(), Error> {
        for definition in definitions(candidate) {
            let offered = &mut self.globals[definition?.0 as usize].offered;
            *offered = (*offered).min(number);
        }
        Ok(())
    }

    fn add(&mut self, candidate: Candidate<'data>) -> Result<(), Error> {
        let label = candidate.file.label;
        let mut linked = Linked {
            file: candidate.file,
            shared: candidate.shared,
            first_section: self.sections.len() as u32,
            kinds: Vec::new(),
        };
        let added = self.add_sections(&mut linked).and_then(|()| self.add_symbols(&linked));
        added.map_err(|error| label.blame(error))?;
        self.files.push(linked);
        Ok(())
    }

    fn offered(&self, needed: usize) -> Option<u32> {
        let global = &self.globals[*self.wanted.get(needed)? as usize];
        Some(if global.rank == Rank::Undefined { global.offered } else { NONE })
    }
}

impl<'data> Resolver<'data> {
    /// Makes `objects` the files of the link, and of `members` what is needed.
    pub(super) fn resolve(
        &mut self,
        objects: Vec<File<'data>>,
        members: Vec<File<'data>>,
    ) -> Result<(), Error> {
        self.names.reserve(objects.iter().chain(&members).map(|file| file.symbols.len()).sum())?;
        members::resolve(self, objects, members)?;
        self.wanted = Vec::new();
        Ok(())
    }

    fn add_sections(&mut self, linked: &mut Linked<'data>) -> Result<(), Error> {
        for index in 0..linked.file.sections.len() as u32 {
            let (section, kind) = section::read(&linked.file, index)?;
            self.sections.push(section);
            linked.kinds.push(kind);
        }
        Ok(())
    }

    fn add_symbols(&mut self, linked: &Linked<'data>) -> Result<(), Error> {
        for (index, number) in &linked.shared {
            let symbol = &linked.file.symbols[*index as usize];
            let desc = symbol.n_desc.get(LE);
            match linked.file.home(*index)? {
                Home::Undefined => self.want(*number, desc & macho::N_WEAK_REF == 0),
                Home::Common => self.add_common(linked, *number, *index)?,
                home => {
                    if let Home::Section(section) = home {
                        let number = linked.first_section + section;
                        if self.sections[number as usize].state == State::NotLoaded {
                            // Nothing that is loaded can mean it.
                            continue;
                        }
                        if linked.file.within(symbol, section).is_none() {
                            return Err(bad(linked, symbol, "is outside its section"));
                        }
                    }
                    if desc & macho::N_SYMBOL_RESOLVER != 0 {
                        return Err(Error::UnsupportedSymbol {
                            symbol: linked.file.symbol_label(*index),
                            problem: "is a function that chooses another when it is loaded (.symbol_resolver): call \
                                      that through a pointer",
                        });
                    }
                    if home == Home::Alias {
                        let original = linked.file.original(symbol)?;
                        if let Some(original) = self.names.find(original) {
                            self.want(original, true);
                        }
                    }
                    let rank = if desc & macho::N_WEAK_DEF != 0 { Rank::Weak } else { Rank::Strong };
                    self.define(linked, *number, *index, rank)?;
                }
            }
        }
        Ok(())
    }

    fn want(&mut self, number: u32, required: bool) {
        let global = &mut self.globals[number as usize];
        global.required |= required;
        if global.rank == Rank::Undefined {
            self.wanted.push(number);
        }
    }

    fn define(&mut self, linked: &Linked<'data>, number: u32, index: u32, rank: Rank) -> Result<(), Error> {
        let symbol = &linked.file.symbols[index as usize];
        // `.weak_def_can_be_hidden` sets both.
        let both = macho::N_WEAK_DEF | macho::N_WEAK_REF;
        let can_be_hidden = rank == Rank::Weak && symbol.n_desc.get(LE) & both == both;
        let hidden = symbol.n_type & macho::N_PEXT != 0 || can_be_hidden;
        let global = &mut self.globals[number as usize];
        if rank == Rank::Strong && global.rank == Rank::Strong {
            let first = self.files.get(global.file as usize).unwrap_or(linked);
            return Err(duplicate(self.names.get(number), first.label(), linked.label()));
        }
        if rank > global.rank {
            (global.rank, global.file, global.symbol) = (rank, self.files.len() as u32, index);
            global.hidden = hidden;
        } else if rank == global.rank {
            // They are one: whoever may see any of them may see it.
            global.hidden &= hidden;
        }
        Ok(())
    }

    fn add_common(&mut self, linked: &Linked<'data>, number: u32, index: u32) -> Result<(), Error> {
        let symbol = &linked.file.symbols[index as usize];
        // GET_COMM_ALIGN of <mach-o/nlist.h>: a binary logarithm in four bits.
        let align = 1 << (symbol.n_desc.get(LE) >> 8 & 0x0F);
        if self.globals[number as usize].rank <= Rank::Common {
            let common = self.commons.entry(number).or_insert(Common { size: 0, align: 1 });
            common.size = common.size.max(symbol.n_value.get(LE));
            common.align = common.align.max(align);
        }
        self.define(linked, number, index, Rank::Common)
    }
}

/// The names that the file defines for others, and how.
fn definitions<'a>(candidate: &'a Candidate<'_>) -> impl Iterator<Item = Result<(u32, Rank), Error>> + 'a {
    let Candidate { file, shared } = candidate;
    let weak = |index: u32| file.symbols[index as usize].n_desc.get(LE) & macho::N_WEAK_DEF != 0;
    shared.iter().filter_map(move |(index, number)| match file.home(*index) {
        Ok(Home::Undefined) => None,
        Ok(Home::Common) => Some(Ok((*number, Rank::Common))),
        Ok(_) if weak(*index) => Some(Ok((*number, Rank::Weak))),
        Ok(_) => Some(Ok((*number, Rank::Strong))),
        Err(error) => Some(Err(file.label.blame(error))),
    })
}

pub(super) fn bad(linked: &Linked<'_>, symbol: &Nlist, problem: &'static str) -> Error {
    let name = linked.file.symbol_name(symbol).map(label).unwrap_or_default();
    Error::BadSymbol { symbol: name, problem, value: symbol.n_value.get(LE) }
}

/// The error for a symbol that is local and undefined, or the like.
pub(super) fn nowhere(index: u32) -> Error {
    malformed("symbol table", "a symbol that no other file sees is not defined", index.into())
}

/// Whether a symbol is one of the file's own: not shared, and not for debuggers.
pub(super) fn is_own(symbol: &Nlist) -> bool {
    symbol.n_type & macho::N_STAB == 0 && !file::is_shared(symbol)
}
