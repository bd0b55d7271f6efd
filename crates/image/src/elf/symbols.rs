//! The dynamic symbol table: what the module defines for others, and what it uses.
//!
//! ELF gABI, chapter 4, "Symbol Table". Nothing says how long the table is: the hash tables do, and where they
//! are empty, only the end of the segment bounds it.

use super::dynamic::Dynamic;
use super::hash::{GnuHash, SysvHash};
use super::segments::Layout;
use super::versions::Versions;
use super::{malformed, table_of};
use crate::error::label;
use crate::{Error, Export, Protection};
use object::LittleEndian as LE;
use object::elf;
use object::read::elf::Sym;

const TABLE: &str = "symbol table";

pub(super) type Symbol = elf::Sym64<LE>;

pub(super) struct Symbols<'data> {
    table: &'data [Symbol],
    /// Those that the hash tables speak of; the rest is reached by relocations only.
    listed: u32,
    gnu: Option<GnuHash<'data>>,
    sysv: Option<SysvHash<'data>>,
    pub(super) versions: Versions<'data>,
}

/// Where a symbol's address comes from.
pub(super) enum Definition {
    /// An address in the file's own numbering, within the image.
    Here(u64),
    /// A number that no image's address is added to.
    Absolute(u64),
    /// Another image or the host.
    Elsewhere,
}

impl<'data> Symbols<'data> {
    pub(super) fn parse(layout: &Layout<'data>, dynamic: &Dynamic<'data>) -> Result<Self, Error> {
        let entry = dynamic.get(elf::DT_SYMENT);
        if entry != Some(size_of::<Symbol>() as u64) {
            return Err(malformed(TABLE, "its entries have the wrong size (DT_SYMENT)", entry.unwrap_or(0)));
        }
        let address = dynamic.get(elf::DT_SYMTAB).ok_or(malformed(TABLE, "there is none (DT_SYMTAB)", 0))?;
        let bytes =
            layout.file_from(address).ok_or(malformed(TABLE, "it is outside the segments", address))?;
        let mut table = table_of::<Symbol>(bytes, bytes.len() / size_of::<Symbol>());
        let gnu = dynamic.get(elf::DT_GNU_HASH).map(|at| GnuHash::parse(layout, at)).transpose()?;
        let sysv = dynamic.get(elf::DT_HASH).map(|at| SysvHash::parse(layout, at)).transpose()?;
        let by_gnu = gnu.as_ref().and_then(GnuHash::symbols);
        let by_sysv = sysv.as_ref().map(SysvHash::symbols);
        if let (Some(gnu), Some(sysv)) = (by_gnu, by_sysv)
            && gnu != sysv
        {
            return Err(malformed(TABLE, "its two hash tables disagree about its length", gnu.into()));
        }
        let listed = by_sysv.or(by_gnu);
        if let Some(listed) = listed {
            let whole = table.get(..listed as usize);
            table = whole.ok_or(malformed(TABLE, "it is shorter than its hash tables say", listed.into()))?;
        }
        let listed = listed.unwrap_or(0);
        let versions = Versions::parse(layout, dynamic)?;
        if !versions.cover(listed) {
            return Err(malformed(TABLE, "there are fewer versions than symbols", listed.into()));
        }
        let symbols = Symbols { table, listed, gnu, sysv, versions };
        for index in 0..symbols.listed {
            symbols.try_export(layout, dynamic, index)?;
        }
        Ok(symbols)
    }

    pub(super) fn get(&self, index: u32) -> Result<&'data Symbol, Error> {
        let symbol = self.table.get(index as usize);
        symbol.ok_or_else(|| malformed(TABLE, "a relocation names a symbol that is not in it", index.into()))
    }

    /// Where the address of a symbol comes from, after checks that hold for every use of it.
    pub(super) fn definition(
        &self,
        layout: &Layout<'data>,
        dynamic: &Dynamic<'data>,
        index: u32,
    ) -> Result<Definition, Error> {
        let symbol = self.get(index)?;
        let value = symbol.st_value(LE);
        let section = symbol.st_shndx(LE);
        // Not reading the name unless it is needed: most symbols are fine.
        let name = || dynamic.strings.get(symbol.st_name(LE)).map(label);
        let bad = |problem| Ok(Error::BadSymbol { symbol: name()?, problem, value });
        match (symbol.st_type(), section) {
            (elf::STT_TLS, _) => Err(Error::ThreadLocal { symbol: name()? }),
            (_, elf::SHN_UNDEF) if symbol.st_bind() == elf::STB_LOCAL => {
                Err(bad("is local and not defined")?)
            }
            (_, elf::SHN_UNDEF) => Ok(Definition::Elsewhere),
            (elf::STT_GNU_IFUNC, _) => Err(Error::IndirectFunction { symbol: name()? }),
            // glibc since 2.28: absolute symbols do not move with the image.
            (_, elf::SHN_ABS) => Ok(Definition::Absolute(value)),
            (_, elf::SHN_COMMON) => Err(bad("is a common block, which only object files have")?),
            _ if layout.offset(value).is_none() => Err(bad("is outside the image")?),
            _ => Ok(Definition::Here(value)),
        }
    }

    /// The symbol as others see it, or `None` if they do not.
    pub(super) fn try_export(
        &self,
        layout: &Layout<'data>,
        dynamic: &Dynamic<'data>,
        index: u32,
    ) -> Result<Option<Export<'data>>, Error> {
        let symbol = self.get(index)?;
        // GNU_UNIQUE (C++ inline variables) would be one for the whole process. In a module that is replaced
        // while it runs that would tie all versions together, so it is an ordinary global here.
        let bound = matches!(symbol.st_bind(), elf::STB_GLOBAL | elf::STB_WEAK | elf::STB_GNU_UNIQUE);
        let visible = matches!(symbol.st_visibility(), elf::STV_DEFAULT | elf::STV_PROTECTED);
        if !bound || !visible || self.versions.hidden(index) {
            return Ok(None);
        }
        let function = match symbol.st_type() {
            elf::STT_FUNC => true,
            elf::STT_NOTYPE | elf::STT_OBJECT | elf::STT_COMMON => false,
            // Refused below if defined here; one that is undefined may never be used.
            elf::STT_TLS | elf::STT_GNU_IFUNC if symbol.st_shndx(LE) != elf::SHN_UNDEF => false,
            _ => return Ok(None),
        };
        // An absolute symbol is no part of the image: linkers define the names of versions that way.
        let Definition::Here(value) = self.definition(layout, dynamic, index)? else { return Ok(None) };
        let name = dynamic.strings.get(symbol.st_name(LE))?;
        let size = symbol.st_size(LE);
        let bad = |problem| Error::BadSymbol { symbol: label(name), problem, value };
        if name.is_empty() {
            return Err(bad("is exported without a name"));
        }
        if function && !layout.is(Protection::ReadExecute, value, 1) {
            return Err(bad("is a function outside the module's code"));
        }
        // Assembly that does not say `.type name, @function` exports its functions untyped.
        let untyped_code =
            symbol.st_type() == elf::STT_NOTYPE && layout.is(Protection::ReadExecute, value, 1);
        let function = function || untyped_code;
        let end = value.checked_add(size).and_then(|end| layout.offset(end));
        if end.is_none() {
            return Err(bad("ends outside the image"));
        }
        let offset = layout.offset(value).ok_or_else(|| bad("is outside the image"))?;
        Ok(Some(Export { name, offset, size, function }))
    }

    pub(super) fn exports<'a>(
        &'a self,
        layout: &'a Layout<'data>,
        dynamic: &'a Dynamic<'data>,
    ) -> impl Iterator<Item = Export<'data>> + 'a {
        // Each was looked at by `parse`, so there is no error to lose.
        (0..self.listed).filter_map(|index| self.try_export(layout, dynamic, index).ok().flatten())
    }

    /// The export of this name, found as ld.so finds it: by the GNU table if there is one, else by the other.
    pub(super) fn export(
        &self,
        layout: &Layout<'data>,
        dynamic: &Dynamic<'data>,
        name: &str,
    ) -> Option<Export<'data>> {
        let mut found = None;
        let is_it = |index| {
            let export = self.try_export(layout, dynamic, index).ok().flatten();
            found = export.filter(|export| export.name == name);
            found.is_some()
        };
        match (&self.gnu, &self.sysv) {
            (Some(gnu), _) => gnu.find(name, is_it),
            (None, Some(sysv)) => sysv.find(name, is_it),
            (None, None) => None,
        };
        found
    }
}
