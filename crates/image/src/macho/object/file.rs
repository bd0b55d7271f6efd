//! One object file: its tables, as far as they can be checked without any other file.
//!
//! Apple's <mach-o/nlist.h> and <mach-o/reloc.h>. Tables of a file that an assembler wrote do not
//! overlap; here they must not, because then no table is read twice, and all work is in proportion
//! to the size of the file.

use super::super::commands::{self, Commands};
use super::super::identity::{self, FileType};
use super::super::sections::name;
use crate::linking::label::Label;
use crate::linking::strings::Strings;
use crate::macho::format::{LE, malformed, table_of};
use crate::{Error, Machine};
use alloc::string::String;
use alloc::vec::Vec;
use object::macho;

pub(super) use super::super::commands::Section as Header;
pub(super) type Nlist = macho::Nlist64<LE>;
pub(super) type Relocation = macho::Relocation<LE>;

const SYMBOLS: &str = "symbol table";
const SECTIONS: &str = "table of sections";

/// Where a symbol is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Home {
    Undefined,
    Absolute,
    Common,
    /// Where the symbol of another name is, wherever that be.
    Alias,
    /// The section's place in the file's table, from 0.
    Section(u32),
}

pub(super) struct File<'data> {
    pub(super) label: Label<'data>,
    bytes: &'data [u8],
    pub(super) sections: Vec<&'data Header>,
    pub(super) symbols: &'data [Nlist],
    names: Strings<'data>,
    /// The same.
    pub(super) names_bytes: &'data [u8],
}

impl<'data> File<'data> {
    pub(super) fn parse(label: Label<'data>, bytes: &'data [u8]) -> Result<Self, Error> {
        Self::read(label, bytes).map_err(|error| label.blame(error))
    }

    fn read(label: Label<'data>, bytes: &'data [u8]) -> Result<Self, Error> {
        let (header, FileType::Object) = identity::identify(bytes, Machine::Aarch64)? else {
            return Err(Error::UnsupportedFile {
                found: "a linked Mach-O file among object files",
                advice: "a module is one dylib or bundle, or object files and archives: load the linked file as a \
                         module of its own",
            });
        };
        let commands = Commands::parse(bytes, header)?;
        let sections = commands.segments.iter().flat_map(|(_, sections)| sections.iter()).collect();
        let empty = Strings::parse(&[])?;
        let mut file = File { label, bytes, sections, symbols: &[], names: empty, names_bytes: &[] };
        if let Some(symtab) = commands.symtab {
            let names =
                commands::range(bytes, symtab.stroff.get(LE), symtab.strsize.get(LE), "string table")?;
            (file.names, file.names_bytes) = (Strings::parse(names)?, names);
            file.symbols = file.table(symtab.symoff.get(LE), symtab.nsyms.get(LE), SYMBOLS)?;
        }
        file.check_overlap()?;
        Ok(file)
    }

    fn table<T: object::Pod>(
        &self,
        offset: u32,
        count: u32,
        table: &'static str,
    ) -> Result<&'data [T], Error> {
        let rest = self.bytes.get(offset as usize..).unwrap_or_default();
        let entries = table_of(rest, count as usize);
        if entries.len() == count as usize {
            Ok(entries)
        } else {
            Err(malformed(table, "it goes past the end of the file", offset.into()))
        }
    }

    fn check_overlap(&self) -> Result<(), Error> {
        let mut total = (size_of_val(self.symbols) + self.names_bytes.len()) as u64;
        for header in &self.sections {
            let in_file = if is_zero(header) { 0 } else { header.size.get(LE) };
            let relocations = u64::from(header.nreloc.get(LE)) * size_of::<Relocation>() as u64;
            total = total.saturating_add(in_file).saturating_add(relocations);
        }
        // Symbols, sections and files are counted in 32 bits.
        if total <= self.bytes.len() as u64 && u32::try_from(total).is_ok() {
            Ok(())
        } else {
            Err(malformed(SECTIONS, "its sections overlap, or are larger than 4 GiB", total))
        }
    }

    /// What the file has of a section; nothing of one that begins as zero.
    pub(super) fn contents(&self, header: &Header) -> Result<&'data [u8], Error> {
        if is_zero(header) {
            return Ok(&[]);
        }
        let rest = self.bytes.get(header.offset.get(LE) as usize..);
        let size = usize::try_from(header.size.get(LE)).ok();
        rest.and_then(|rest| rest.get(..size?)).ok_or_else(|| {
            malformed(SECTIONS, "a section goes past the end of the file", header.offset.get(LE).into())
        })
    }

    pub(super) fn relocations(&self, header: &Header) -> Result<&'data [Relocation], Error> {
        self.table(header.reloff.get(LE), header.nreloc.get(LE), "relocation table")
    }

    pub(super) fn symbol_name(&self, symbol: &Nlist) -> Result<&'data [u8], Error> {
        self.names.get(symbol.n_strx.get(LE))
    }

    /// The name of what an alias is one for.
    pub(super) fn original(&self, symbol: &Nlist) -> Result<&'data [u8], Error> {
        let value = symbol.n_value.get(LE);
        let name = u32::try_from(value)
            .map_err(|_| malformed(SYMBOLS, "an alias is for a name outside the table", value))?;
        self.names.get(name)
    }

    /// The symbol for a message.
    pub(super) fn symbol_label(&self, index: u32) -> String {
        let symbol = self.symbols.get(index as usize);
        let name = symbol.and_then(|symbol| self.symbol_name(symbol).ok());
        name.map(crate::error::label).unwrap_or_default()
    }

    /// The section for a message, with its segment.
    pub(super) fn section_label(&self, index: u32) -> String {
        match self.sections.get(index as usize) {
            None => String::new(),
            Some(header) => alloc::format!("{},{}", name(&header.segname), name(&header.sectname)),
        }
    }

    #[inline]
    pub(super) fn home(&self, index: u32) -> Result<Home, Error> {
        let bad = |problem| malformed(SYMBOLS, problem, index.into());
        let symbol =
            self.symbols.get(index as usize).ok_or_else(|| bad("a symbol is named that is not there"))?;
        Ok(match symbol.n_type & macho::N_TYPE {
            // An undefined symbol with a value is a common block of that size.
            macho::N_UNDF if is_shared(symbol) && symbol.n_value.get(LE) != 0 => Home::Common,
            macho::N_UNDF => Home::Undefined,
            macho::N_ABS => Home::Absolute,
            macho::N_INDR => Home::Alias,
            macho::N_SECT => match usize::from(symbol.n_sect).checked_sub(1) {
                Some(section) if section < self.sections.len() => Home::Section(section as u32),
                _ => return Err(bad("a symbol is in no section of this file")),
            },
            _ => return Err(bad("a symbol is of an unknown type")),
        })
    }

    /// Where a symbol of a section is in it. Its end is a place too.
    pub(super) fn within(&self, symbol: &Nlist, section: u32) -> Option<u64> {
        let header = self.sections.get(section as usize)?;
        let value = symbol.n_value.get(LE).checked_sub(header.addr.get(LE))?;
        (value <= header.size.get(LE)).then_some(value)
    }

    /// The symbols that other files see, with their numbers and names. Names may share their ends,
    /// so a damaged file could have each of a million symbols be named by the same megabyte; it
    /// is refused before they are all hashed.
    pub(super) fn shared(&self) -> impl Iterator<Item = Result<(u32, &'data [u8]), Error>> + '_ {
        let mut budget = 8 * self.names_bytes.len();
        (0..).zip(self.symbols).filter(|(_, symbol)| is_shared(symbol)).map(move |(index, symbol)| {
            let mut spend = |name: &[u8]| {
                budget = budget.checked_sub(name.len()).ok_or_else(|| {
                    malformed(SYMBOLS, "its names are made of one another", u64::from(index))
                })?;
                Ok(())
            };
            let name = self.symbol_name(symbol)?;
            spend(name)?;
            if name.is_empty() {
                return Err(malformed(SYMBOLS, "a symbol that others see has no name", index.into()));
            }
            if symbol.n_type & macho::N_TYPE == macho::N_INDR {
                spend(self.original(symbol)?)?;
            }
            Ok((index, name))
        })
    }
}

/// Whether other files see the symbol. Those for debuggers mean something else by the same bit.
pub(super) fn is_shared(symbol: &Nlist) -> bool {
    symbol.n_type & macho::N_STAB == 0 && symbol.n_type & macho::N_EXT != 0
}

/// Whether a section begins as zero, and has no bytes in the file.
pub(super) fn is_zero(header: &Header) -> bool {
    matches!(
        header.flags.get(LE) & macho::SECTION_TYPE,
        macho::S_ZEROFILL | macho::S_GB_ZEROFILL | macho::S_THREAD_LOCAL_ZEROFILL
    )
}
