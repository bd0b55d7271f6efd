//! One object file: its tables, as far as they can be checked without any other file.
//!
//! ELF gABI, chapter 4. Sections of a file that a compiler wrote do not overlap; here they must
//! not, because then no table is read twice, and all work is in proportion to the size of the file.

use crate::elf::format::{Header, malformed, table_of};
use crate::elf::identity::{FileType, identify};
use crate::linking::label::Label;
use crate::linking::strings::Strings;
use crate::{Error, Machine};
use alloc::string::String;
use alloc::vec::Vec;
use object::LittleEndian as LE;
use object::elf;
use object::read::elf::{FileHeader, SectionHeader as _, Sym};

pub(super) type SectionHeader = elf::SectionHeader64<LE>;
pub(super) type Symbol = elf::Sym64<LE>;
pub(super) type Rela = elf::Rela64<LE>;
type Word = object::U32<LE>;

/// How the names of sections begin that a link has once, for GNU ld.
const ONCE: &[u8] = b".gnu.linkonce.";

/// A section whose name is not UTF-8.
const OTHER: &str = "(not UTF-8)";

const SECTIONS: &str = "section header table";
const SYMBOLS: &str = "symbol table";

/// A common block that may be far away, in the medium and large code models of x86-64. AArch64 has
/// no such number.
const SHN_X86_64_LCOMMON: u16 = 0xFF02;

/// The relocations of one section.
pub(super) struct Relocations<'data> {
    /// The section they are for.
    pub(super) section: u32,
    pub(super) table: &'data [Rela],
}

/// Sections of which the link has only one file's (COMDAT).
pub(super) struct Group<'data> {
    /// The symbol that names it.
    pub(super) signature: u32,
    pub(super) members: &'data [Word],
}

/// Where a symbol is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Home {
    Undefined,
    Absolute,
    Common,
    Section(u32),
}

pub(super) struct File<'data> {
    pub(super) label: Label<'data>,
    bytes: &'data [u8],
    pub(super) sections: &'data [SectionHeader],
    section_names: Strings<'data>,
    pub(super) symbols: &'data [Symbol],
    /// Those from this one on are seen by other files.
    pub(super) first_global: usize,
    /// Section numbers too large for a symbol.
    extended: &'data [Word],
    names: Strings<'data>,
    /// The same.
    pub(super) names_bytes: &'data [u8],
    /// Whether any name may say a version.
    pub(super) versioned: bool,
    pub(super) relocations: Vec<Relocations<'data>>,
    pub(super) groups: Vec<Group<'data>>,
    /// Sections of which the link has only the first file's, by number and name: what there was
    /// before groups.
    pub(super) once: Vec<(u32, &'data [u8])>,
}

impl<'data> File<'data> {
    pub(super) fn parse(label: Label<'data>, bytes: &'data [u8], machine: Machine) -> Result<Self, Error> {
        Self::read(label, bytes, machine).map_err(|error| label.blame(error))
    }

    fn read(label: Label<'data>, bytes: &'data [u8], machine: Machine) -> Result<Self, Error> {
        let (header, sections) = headers(bytes, machine)?;
        let mut file = File {
            label,
            bytes,
            sections,
            section_names: Strings::parse(&[])?,
            symbols: &[],
            first_global: 0,
            extended: &[],
            names: Strings::parse(&[])?,
            names_bytes: &[],
            versioned: false,
            relocations: Vec::new(),
            groups: Vec::new(),
            once: Vec::new(),
        };
        let names =
            header.shstrndx(LE, bytes).map_err(|_| malformed(SECTIONS, "its names are nowhere", 0))?;
        if names != 0 {
            let names = file.string_table(names)?;
            file.section_names = Strings::parse(names)?;
            for (index, section) in (0..).zip(sections) {
                let name = names.get(section.sh_name(LE) as usize..).unwrap_or_default();
                if name.starts_with(ONCE) {
                    file.once.push((index, file.section_bytes(section)?));
                }
            }
        }
        let mut symbol_table = None;
        for (index, section) in (0..).zip(sections) {
            if section.sh_type(LE) == elf::SHT_SYMTAB {
                if symbol_table.replace(index).is_some() {
                    return Err(malformed(SYMBOLS, "there are two", index.into()));
                }
                file.read_symbols(section)?;
            }
        }
        for (index, section) in (0u64..).zip(sections) {
            match section.sh_type(LE) {
                elf::SHT_SYMTAB_SHNDX if Some(section.sh_link(LE)) == symbol_table => {
                    file.extended = file.array(section)?;
                    if file.extended.len() < file.symbols.len() {
                        return Err(malformed(SYMBOLS, "its section numbers are cut off", index));
                    }
                }
                elf::SHT_RELA => file.read_relocations(section, symbol_table)?,
                elf::SHT_REL | elf::SHT_CREL => file.refuse_relocations(section)?,
                elf::SHT_GROUP => file.read_group(section)?,
                _ => {}
            }
        }
        Ok(file)
    }

    fn read_symbols(&mut self, section: &SectionHeader) -> Result<(), Error> {
        self.symbols = self.array(section)?;
        self.first_global = section.sh_info(LE) as usize;
        if self.first_global > self.symbols.len() {
            return Err(malformed(
                SYMBOLS,
                "its first global symbol is outside it",
                section.sh_info(LE).into(),
            ));
        }
        let names = self.string_table(section.sh_link(LE))?;
        self.names = Strings::parse(names)?;
        self.names_bytes = names;
        self.versioned = names.contains(&b'@');
        Ok(())
    }

    fn read_relocations(&mut self, section: &SectionHeader, symbols: Option<u32>) -> Result<(), Error> {
        const TABLE: &str = "relocation table";
        let target = section.sh_info(LE);
        if target == 0 || target as usize >= self.sections.len() {
            return Err(malformed(TABLE, "it is for no section of this file", target.into()));
        }
        let table: &[Rela] = self.array(section)?;
        if Some(section.sh_link(LE)) != symbols && !table.is_empty() {
            return Err(malformed(
                TABLE,
                "its symbols are in no table of this file",
                section.sh_link(LE).into(),
            ));
        }
        self.relocations.push(Relocations { section: target, table });
        Ok(())
    }

    /// Tables of other kinds, unless they are for what is not loaded.
    fn refuse_relocations(&mut self, section: &SectionHeader) -> Result<(), Error> {
        let target = self.sections.get(section.sh_info(LE) as usize);
        let loaded = target.is_some_and(|target| target.sh_flags(LE) & u64::from(elf::SHF_ALLOC) != 0);
        if !loaded || section.sh_size(LE) == 0 {
            return Ok(());
        }
        Err(Error::UnsupportedSection {
            section: crate::error::label(self.section_bytes(section)?),
            problem: if section.sh_type(LE) == elf::SHT_REL {
                "has relocations without addends (SHT_REL), which neither machine uses: build it with a compiler and \
                 an assembler of this platform"
            } else {
                "has relocations in a form that only LLVM knows (SHT_CREL): compile without --crel"
            },
        })
    }

    fn read_group(&mut self, section: &SectionHeader) -> Result<(), Error> {
        const TABLE: &str = "section group";
        let words: &[Word] = self.array(section)?;
        let [flags, members @ ..] = words else {
            return Err(malformed(TABLE, "it has no flags", section.sh_offset(LE)));
        };
        let signature = section.sh_info(LE);
        if signature == 0 || signature as usize >= self.symbols.len() {
            return Err(malformed(
                TABLE,
                "the symbol that names it is outside the symbol table",
                signature.into(),
            ));
        }
        if let Some(outside) = members.iter().find(|member| member.get(LE) as usize >= self.sections.len()) {
            return Err(malformed(TABLE, "a section of it is not in this file", outside.get(LE).into()));
        }
        if flags.get(LE) & elf::GRP_COMDAT != 0 {
            self.groups.push(Group { signature, members });
        }
        Ok(())
    }

    fn string_table(&self, index: u32) -> Result<&'data [u8], Error> {
        match self.sections.get(index as usize) {
            Some(section) if section.sh_type(LE) == elf::SHT_STRTAB => self.contents(section),
            _ => Err(malformed(SECTIONS, "a table of names is none", index.into())),
        }
    }

    /// What the file has of a section.
    pub(super) fn contents(&self, section: &SectionHeader) -> Result<&'data [u8], Error> {
        section
            .data(LE, self.bytes)
            .map_err(|_| malformed(SECTIONS, "a section is outside the file", section.sh_offset(LE)))
    }

    fn array<T: object::Pod>(&self, section: &SectionHeader) -> Result<&'data [T], Error> {
        let bytes = self.contents(section)?;
        let (count, rest) = (bytes.len() / size_of::<T>(), bytes.len() % size_of::<T>());
        if rest != 0 || ![0, size_of::<T>() as u64].contains(&section.sh_entsize(LE)) {
            return Err(malformed(SECTIONS, "a table has entries of another size", section.sh_offset(LE)));
        }
        Ok(table_of(bytes, count))
    }

    /// A section's name, or [`OTHER`] if that is no text: no name that means anything is.
    pub(super) fn section_name(&self, section: &SectionHeader) -> Result<&'data str, Error> {
        let name = self.section_names.get(section.sh_name(LE))?;
        Ok(core::str::from_utf8(name).unwrap_or(OTHER))
    }

    /// The section for a message, and for what is named after it.
    pub(super) fn section_bytes(&self, section: &SectionHeader) -> Result<&'data [u8], Error> {
        self.section_names.get(section.sh_name(LE))
    }

    pub(super) fn symbol_name(&self, symbol: &Symbol) -> Result<&'data [u8], Error> {
        self.names.get(symbol.st_name(LE))
    }

    /// The symbol for a message; a section's has the name of the section.
    pub(super) fn symbol_label(&self, index: u32) -> String {
        let Some(symbol) = self.symbols.get(index as usize) else { return String::new() };
        let name = match (symbol.st_type(), self.home(index)) {
            (elf::STT_SECTION, Ok(Home::Section(section))) => {
                self.section_bytes(&self.sections[section as usize])
            }
            _ => self.symbol_name(symbol),
        };
        name.map(crate::error::label).unwrap_or_default()
    }

    #[inline]
    pub(super) fn home(&self, index: u32) -> Result<Home, Error> {
        self.find_home(index)
            .ok_or_else(|| malformed(SYMBOLS, "a symbol is in no section of this file", index.into()))
    }

    #[inline]
    fn find_home(&self, index: u32) -> Option<Home> {
        let section = match self.symbols.get(index as usize)?.st_shndx(LE) {
            elf::SHN_UNDEF => return Some(Home::Undefined),
            elf::SHN_ABS => return Some(Home::Absolute),
            elf::SHN_COMMON | SHN_X86_64_LCOMMON => return Some(Home::Common),
            elf::SHN_XINDEX => self.extended.get(index as usize)?.get(LE),
            elf::SHN_LORESERVE.. => return None,
            section => section.into(),
        };
        ((section as usize) < self.sections.len()).then_some(Home::Section(section))
    }

    /// The symbols that other files see, with their names. Names may share their ends, so a damaged
    /// file could have each of a million symbols be named by the same megabyte; it is refused
    /// before they are all hashed.
    pub(super) fn globals(&self) -> impl Iterator<Item = Result<&'data [u8], Error>> + '_ {
        let mut budget = 8 * self.names_bytes.len();
        (self.first_global as u32..).zip(&self.symbols[self.first_global..]).map(move |(index, symbol)| {
            let name = self.symbol_name(symbol)?;
            budget = budget
                .checked_sub(name.len())
                .ok_or_else(|| malformed(SYMBOLS, "its names are made of one another", index.into()))?;
            if name.is_empty() {
                return Err(malformed(SYMBOLS, "a symbol that others see has no name", index.into()));
            }
            Ok(name)
        })
    }
}

fn headers(bytes: &[u8], machine: Machine) -> Result<(&Header, &[SectionHeader]), Error> {
    let header = match identify(bytes, machine)? {
        (header, FileType::Object) => header,
        (_, FileType::Shared) => {
            return Err(Error::UnsupportedFile {
                found: "a shared object among object files",
                advice: "a module is one shared object, or object files and archives: load the shared object as \
                         a module of its own",
            });
        }
    };
    let sections = header
        .section_headers(LE, bytes)
        .map_err(|_| malformed(SECTIONS, "it does not fit in the file", header.e_shoff(LE)))?;
    if sections.is_empty() {
        return Err(malformed(SECTIONS, "there is none", header.e_shoff(LE)));
    }
    // Symbols, sections and files are counted in 32 bits.
    let total = sections
        .iter()
        .filter(|section| !matches!(section.sh_type(LE), elf::SHT_NULL | elf::SHT_NOBITS))
        .try_fold(0u64, |total, section| total.checked_add(section.sh_size(LE)));
    match total {
        Some(total) if total <= bytes.len() as u64 && u32::try_from(total).is_ok() => Ok((header, sections)),
        _ => Err(malformed(SECTIONS, "its sections overlap, or are larger than 4 GiB", header.e_shoff(LE))),
    }
}
