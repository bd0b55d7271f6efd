//! Which definition each name stands for, and which members of archives are needed for that.
//!
//! ELF gABI, chapter 4, "Symbol Table", with what GNU ld and lld agree on beyond it: a strong
//! definition before a common block before a weak definition, of common blocks the largest; and of
//! a group of sections (COMDAT) the first. Of sections that are marked so by their names, which GNU
//! ld alone knows, the first too.

use super::file::{File, Group, Home};
use super::section;
use crate::elf::format::malformed;
use crate::error::label;
use crate::linking::label::{Label, duplicate};
use crate::linking::members::{self, NONE, Resolve};
use crate::linking::names::Names;
use crate::linking::section::{Part, Section, State};
use crate::{Error, Machine};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use object::LittleEndian as LE;
use object::elf;
use object::read::elf::{SectionHeader as _, Sym};

/// How a name is defined; the later prevails.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Rank {
    Undefined,
    Weak,
    Common,
    Strong,
}

/// What is known of a name that files share. Kept small: a file may have many, and the memory costs
/// more than the work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Global {
    pub(super) rank: Rank,
    /// The defining file and the symbol in it, if there is one.
    pub(super) file: u32,
    pub(super) symbol: u32,
    /// The most constraining that any file gives it.
    pub(super) visibility: u8,
    /// Some file cannot do without it.
    pub(super) required: bool,
    /// What a file that uses it says that it is.
    pub(super) kind: u8,
    /// Whether a file has the group of this name.
    grouped: bool,
    /// The first archive member that defines it.
    offered: u32,
    /// The first that does so with a value, and not weakly.
    offered_strongly: u32,
}

impl Global {
    const NEW: Global = Global {
        rank: Rank::Undefined,
        file: NONE,
        symbol: 0,
        visibility: elf::STV_DEFAULT,
        required: false,
        kind: elf::STT_NOTYPE,
        grouped: false,
        offered: NONE,
        offered_strongly: NONE,
    };

    pub(super) fn hidden(&self) -> bool {
        matches!(self.visibility, elf::STV_HIDDEN | elf::STV_INTERNAL)
    }
}

/// A common block, as large and as aligned as any file wants it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Common {
    pub(super) size: u64,
    pub(super) align: u64,
    /// Each thread has its own: Fortran's THREADPRIVATE.
    pub(super) thread_local: bool,
}

/// A file of the link.
pub(super) struct Linked<'data> {
    pub(super) file: File<'data>,
    /// The numbers of its global symbols' names, in their order.
    pub(super) globals: Vec<u32>,
    /// The number of its first section among the sections of the link.
    pub(super) first_section: u32,
}

impl<'data> Linked<'data> {
    pub(super) fn label(&self) -> Label<'data> {
        self.file.label
    }
}

/// A file that may become part of the link.
pub(super) struct Candidate<'data> {
    file: File<'data>,
    globals: Vec<u32>,
}

/// A definition that a file has for others.
struct Defined {
    /// The number of the name.
    name: u32,
    rank: Rank,
    /// Of a strong one: the file's section that it is in.
    section: Option<u32>,
}

pub(super) struct Resolver<'data> {
    machine: Machine,
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

    /// Gives the names of a file's global symbols their numbers.
    fn read(&mut self, file: File<'data>) -> Result<Candidate<'data>, Error> {
        let mut globals = Vec::with_capacity(file.symbols.len() - file.first_global);
        let names = file.globals().try_for_each(|global| {
            let name = global?;
            if name == b"__gnu_lto_slim" {
                return Err(Error::UnsupportedFile {
                    found: "an object file without code, for link-time optimisation",
                    advice: "compile with -fno-lto or -ffat-lto-objects",
                });
            }
            let name = if file.versioned { key(name) } else { name };
            globals.push(self.names.number(name)?);
            Ok(())
        });
        names.map_err(|error| file.label.blame(error))?;
        self.globals.resize(self.names.len(), Global::NEW);
        Ok(Candidate { file, globals })
    }

    fn only_repeats(&self, candidate: &Candidate<'data>) -> Result<bool, Error> {
        let Candidate { file, globals } = candidate;
        let number = |signature: u32| globals.get((signature as usize).checked_sub(file.first_global)?);
        let taken = |group: &&Group<'_>| {
            number(group.signature).is_some_and(|name| self.globals[*name as usize].grouped)
        };
        let members = file.groups.iter().filter(taken).flat_map(|group| group.members);
        let mut discarded: BTreeSet<u32> = members.map(|member| member.get(LE)).collect();
        for &(section, name) in &file.once {
            if self.names.find(name).is_some_and(|name| self.globals[name as usize].grouped) {
                discarded.insert(section);
            }
        }
        let mut repeats = false;
        for definition in Self::definitions(candidate) {
            let Defined { name, rank, section } = definition?;
            if section.is_some_and(|section| discarded.contains(&section)) {
                continue;
            }
            let before = self.globals[name as usize].rank;
            if before < rank {
                return Ok(false);
            }
            repeats |= rank == Rank::Strong;
        }
        Ok(repeats)
    }

    fn offer(&mut self, candidate: &Candidate<'data>, number: u32) -> Result<(), Error> {
        for definition in Self::definitions(candidate) {
            let Defined { name, rank, .. } = definition?;
            let global = &mut self.globals[name as usize];
            global.offered = global.offered.min(number);
            if rank == Rank::Strong {
                global.offered_strongly = global.offered_strongly.min(number);
            }
        }
        Ok(())
    }

    fn add(&mut self, candidate: Candidate<'data>) -> Result<(), Error> {
        let label = candidate.file.label;
        let linked = Linked {
            file: candidate.file,
            globals: candidate.globals,
            first_section: self.sections.len() as u32,
        };
        let added = self.add_sections(&linked).and_then(|()| self.add_symbols(&linked));
        added.map_err(|error| label.blame(error))?;
        self.files.push(linked);
        Ok(())
    }

    /// A common block is needed too, if a member defines it with a value (Fortran's BLOCK DATA): so
    /// GNU ld and lld.
    fn offered(&self, needed: usize) -> Option<u32> {
        let global = &self.globals[*self.wanted.get(needed)? as usize];
        Some(match global.rank {
            Rank::Undefined => global.offered,
            Rank::Common => global.offered_strongly,
            Rank::Weak | Rank::Strong => NONE,
        })
    }
}

impl<'data> Resolver<'data> {
    /// With sections of the link's own.
    pub(super) fn new(machine: Machine, sections: Vec<Section<'data>>) -> Self {
        Self {
            machine,
            names: Names::default(),
            globals: Vec::new(),
            commons: BTreeMap::new(),
            files: Vec::new(),
            sections,
            wanted: Vec::new(),
        }
    }

    /// Makes `objects` the files of the link, and of `members` what is needed.
    pub(super) fn resolve(
        &mut self,
        objects: Vec<File<'data>>,
        members: Vec<File<'data>>,
    ) -> Result<(), Error> {
        let all = objects.iter().chain(&members);
        self.names.reserve(
            all.map(|file| file.symbols.len() - file.first_global + file.groups.len() + file.once.len())
                .sum(),
        )?;
        members::resolve(self, objects, members)?;
        self.wanted = Vec::new();
        Ok(())
    }

    /// What the file defines for others.
    fn definitions<'a>(candidate: &'a Candidate<'data>) -> impl Iterator<Item = Result<Defined, Error>> + 'a {
        let Candidate { file, globals } = candidate;
        (file.first_global as u32..).zip(globals).filter_map(|(index, global)| {
            let (rank, section) = match file.home(index) {
                Ok(Home::Undefined) => return None,
                Ok(Home::Common) => (Rank::Common, None),
                Ok(_) if file.symbols[index as usize].st_bind() == elf::STB_WEAK => (Rank::Weak, None),
                Ok(Home::Section(section)) => (Rank::Strong, Some(section)),
                Ok(Home::Absolute) => (Rank::Strong, None),
                Err(error) => return Some(Err(file.label.blame(error))),
            };
            Some(Ok(Defined { name: *global, rank, section }))
        })
    }

    fn add_sections(&mut self, linked: &Linked<'data>) -> Result<(), Error> {
        let file = &linked.file;
        let first = self.sections.len();
        self.sections.reserve(file.sections.len());
        for header in file.sections {
            self.sections.push(section::read(file, header, self.machine)?);
        }
        for group in &file.groups {
            let name = self.signature(linked, group.signature)?;
            if core::mem::replace(&mut self.globals[name as usize].grouped, true) {
                for member in group.members {
                    self.sections[first + member.get(LE) as usize].state = State::Discarded;
                }
            }
        }
        for &(section, name) in &file.once {
            let name = self.names.number(name)?;
            self.globals.resize(self.names.len(), Global::NEW);
            if core::mem::replace(&mut self.globals[name as usize].grouped, true) {
                self.sections[first + section as usize].state = State::Discarded;
            }
        }
        // What is about a section goes with it.
        for (index, header) in file.sections.iter().enumerate() {
            if header.sh_flags(LE) & u64::from(elf::SHF_LINK_ORDER) != 0 {
                let about = header.sh_link(LE) as usize;
                let about = self.sections[first..].get(about);
                let about = about.ok_or_else(|| {
                    malformed("section header table", "a section is about none", index as u64)
                })?;
                if about.state == State::Discarded {
                    self.sections[first + index].state = State::Discarded;
                }
            }
        }
        Ok(())
    }

    /// The number of the name that a group has: that of a symbol, or of the section that the symbol
    /// stands for.
    fn signature(&mut self, linked: &Linked<'data>, symbol: u32) -> Result<u32, Error> {
        let file = &linked.file;
        if let Some(global) = (symbol as usize).checked_sub(file.first_global) {
            return Ok(linked.globals[global]);
        }
        let entry = &file.symbols[symbol as usize];
        let name = match file.home(symbol)? {
            Home::Section(section) if entry.st_type() == elf::STT_SECTION => {
                file.section_bytes(&file.sections[section as usize])?
            }
            _ => file.symbol_name(entry)?,
        };
        let number = self.names.number(name)?;
        self.globals.resize(self.names.len(), Global::NEW);
        Ok(number)
    }

    fn add_symbols(&mut self, linked: &Linked<'data>) -> Result<(), Error> {
        let file = &linked.file;
        for (index, name) in (file.first_global as u32..).zip(&linked.globals) {
            let symbol = &file.symbols[index as usize];
            let weak = match symbol.st_bind() {
                elf::STB_GLOBAL | elf::STB_GNU_UNIQUE => false,
                elf::STB_WEAK => true,
                _ => {
                    return Err(malformed(
                        "symbol table",
                        "a local symbol is among the global ones",
                        index.into(),
                    ));
                }
            };
            let home = match file.home(index)? {
                Home::Section(section) => {
                    let section = &self.sections[(linked.first_section + section) as usize];
                    match section.state {
                        State::Kept(_) => {
                            check(section, symbol).map_err(|problem| self.bad(*name, problem, symbol))?;
                            Home::Section(0)
                        }
                        // Its place is taken by the definition that is used.
                        State::Discarded => Home::Undefined,
                        // Nothing that is loaded can mean it; as `__gnu_lto_v1`, it may be there
                        // for tools.
                        State::NotLoaded => continue,
                    }
                }
                home => home,
            };
            let global = &mut self.globals[*name as usize];
            global.visibility = constrained(global.visibility, symbol.st_visibility());
            match home {
                Home::Undefined => {
                    if global.kind == elf::STT_NOTYPE {
                        global.kind = symbol.st_type();
                    }
                    if !weak {
                        global.required = true;
                        if global.rank == Rank::Undefined {
                            self.wanted.push(*name);
                        }
                    }
                }
                Home::Common => self.add_common(linked, *name, index)?,
                Home::Absolute | Home::Section(_) => {
                    let rank = if weak { Rank::Weak } else { Rank::Strong };
                    self.define(linked, *name, index, rank)?;
                }
            }
        }
        Ok(())
    }

    fn define(&mut self, linked: &Linked<'data>, name: u32, index: u32, rank: Rank) -> Result<(), Error> {
        let file = self.files.len() as u32;
        let global = &mut self.globals[name as usize];
        if rank == Rank::Strong && global.rank == Rank::Strong {
            let symbols = linked.file.symbols;
            let place =
                |index: u32| (symbols[index as usize].st_shndx(LE), symbols[index as usize].st_value(LE));
            // `.symver` leaves a symbol there twice, with a version and without.
            if global.file == file && place(global.symbol) == place(index) {
                return Ok(());
            }
            let first = self.files.get(global.file as usize).unwrap_or(linked);
            return Err(duplicate(self.names.get(name), first.label(), linked.label()));
        }
        if rank > global.rank {
            (global.rank, global.file, global.symbol) = (rank, file, index);
        }
        Ok(())
    }

    fn add_common(&mut self, linked: &Linked<'data>, name: u32, index: u32) -> Result<(), Error> {
        let symbol = &linked.file.symbols[index as usize];
        let align = symbol.st_value(LE).max(1);
        let thread_local = symbol.st_type() == elf::STT_TLS;
        if !align.is_power_of_two() {
            return Err(self.bad(name, "is a common block whose alignment is no power of two", symbol));
        }
        if self.globals[name as usize].rank < Rank::Strong {
            self.wanted.push(name);
            let common = self.commons.entry(name).or_insert(Common { size: 0, align: 1, thread_local });
            if common.thread_local != thread_local {
                return Err(Error::UnsupportedSymbol { symbol: label(self.names.get(name)), problem: ALIKE });
            }
            common.size = common.size.max(symbol.st_size(LE));
            common.align = common.align.max(align);
        }
        self.define(linked, name, index, Rank::Common)
    }

    fn bad(&self, name: u32, problem: &'static str, symbol: &super::file::Symbol) -> Error {
        Error::BadSymbol { symbol: label(self.names.get(name)), problem, value: symbol.st_value(LE) }
    }
}

const ALIKE: &str =
    "is a common block that is thread-local in one file and not in another: declare it alike everywhere";

/// Whether a symbol lies within its section.
fn check(section: &Section<'_>, symbol: &super::file::Symbol) -> Result<(), &'static str> {
    let end = symbol.st_value(LE).checked_add(symbol.st_size(LE));
    if end.is_none_or(|end| end > section.size) {
        return Err("ends outside its section");
    }
    let thread_local = section.part().is_some_and(Part::thread_local);
    if thread_local != (symbol.st_type() == elf::STT_TLS) {
        return Err("is thread-local and its section is not, or the other way round");
    }
    Ok(())
}

/// Hidden constrains more than protected, and that more than default; internal is hidden here.
fn constrained(one: u8, other: u8) -> u8 {
    match (one, other) {
        (elf::STV_DEFAULT, other) | (other, elf::STV_DEFAULT) => other,
        (one, other) => one.min(other),
    }
}

/// The name that a symbol goes by: `name@@version` is the default version of `name`, and
/// `name@version` another symbol.
fn key(name: &[u8]) -> &[u8] {
    match split(name) {
        Some((plain, [b'@', ..])) => plain,
        _ => name,
    }
}

/// A name without its version, and that version.
pub(super) fn unversioned(name: &[u8]) -> (&[u8], Option<&[u8]>) {
    match split(name) {
        Some((plain, version)) => (plain, Some(version)),
        None => (name, None),
    }
}

/// What is before the first `@`, and what is behind it, if there is anything before it.
fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = name.iter().position(|byte| *byte == b'@').filter(|at| *at > 0)?;
    Some((&name[..at], &name[at + 1..]))
}
