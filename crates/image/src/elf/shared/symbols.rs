//! The dynamic symbol table: what the module defines for others, and what it uses.
//!
//! ELF gABI, chapter 4, "Symbol Table". Nothing says how long the table is: the hash tables do, and
//! where they are empty, only the end of the segment bounds it.

use super::Tables;
use super::dynamic::Dynamic;
use super::hash::{GnuHash, SysvHash, gnu_hash};
use super::segments::{Layout, Nearby};
use super::versions::{Versions, Wanted};
use crate::elf::format::{malformed, table_of};
use crate::elf::note::DeclaredState;
use crate::error::label;
use crate::shared_definitions::{ALLOCATORS, is_of_class, is_repeatable};
use crate::{Error, Export, ExportKind, Protection};
use alloc::vec::Vec;
use core::ops::Range;
use object::LittleEndian as LE;
use object::elf;
use object::read::elf::Sym;

const TABLE: &str = "symbol table";

/// Every module is asked for all of them: computed there they are a twentieth of loading a small
/// one.
const ALLOCATOR_HASHES: [u32; ALLOCATORS.len()] = {
    let (mut hashes, mut at) = ([0; ALLOCATORS.len()], 0);
    while at < hashes.len() {
        hashes[at] = gnu_hash(ALLOCATORS[at]);
        at += 1;
    }
    hashes
};

pub(super) type Symbol = elf::Sym64<LE>;

pub(super) struct DynamicSymbols<'data> {
    table: &'data [Symbol],
    /// Those that the hash table lists: only they can be exports. The rest is reached by
    /// relocations.
    listed: Range<u32>,
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
    /// What the function at this address returns, which is in the image's code (GNU ifunc).
    Indirect(u64),
    /// A place in the module's own thread-local block.
    ThreadLocal(u64),
    /// Another image or the host.
    Elsewhere,
}

impl<'data> DynamicSymbols<'data> {
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
        // A GNU table that lists nothing does not say where the symbols end.
        let by_gnu = gnu.as_ref().map(GnuHash::symbols).filter(|listed| !listed.is_empty());
        let by_sysv = sysv.as_ref().map(SysvHash::symbols);
        if let (Some(gnu), Some(sysv)) = (&by_gnu, by_sysv)
            && gnu.end != sysv
        {
            return Err(malformed(TABLE, "its two hash tables disagree about its length", gnu.end.into()));
        }
        if let Some(length) = by_sysv.or(by_gnu.as_ref().map(|listed| listed.end)) {
            let whole = table.get(..length as usize);
            table = whole.ok_or(malformed(TABLE, "it is shorter than its hash tables say", length.into()))?;
        }
        let listed = match (&gnu, by_sysv) {
            (Some(_), _) => by_gnu.unwrap_or(0..0),
            (None, Some(symbols)) => 0..symbols,
            (None, None) => 0..0,
        };
        let versions = Versions::parse(layout, dynamic)?;
        if !versions.cover(listed.end) {
            return Err(malformed(TABLE, "there are fewer versions than symbols", listed.end.into()));
        }
        Ok(DynamicSymbols { table, listed, gnu, sysv, versions })
    }

    /// Bytes of the GNU hash table, if there is one.
    pub(super) fn gnu_hash_bytes(&self) -> Option<usize> {
        self.gnu.as_ref().map(GnuHash::bytes)
    }

    /// How many symbols relocations can name.
    pub(super) fn count(&self) -> usize {
        self.table.len()
    }

    pub(super) fn get(&self, index: u32) -> Result<&'data Symbol, Error> {
        let symbol = self.table.get(index as usize);
        symbol.ok_or_else(|| malformed(TABLE, "a relocation names a symbol that is not in it", index.into()))
    }
}

/// What a symbol is to others; `None` if they do not see it, whatever its version. `in_code` says
/// whether its value is in an executable segment.
pub(super) fn kind_of(symbol: &Symbol, in_code: impl FnOnce() -> bool) -> Option<ExportKind> {
    // GNU_UNIQUE (C++ inline variables) would be one for the whole process, whoever has it. In a
    // module that is replaced while it runs that would tie all versions together, so it is an
    // ordinary global here, and the process's where that has it.
    let bound = matches!(symbol.st_bind(), elf::STB_GLOBAL | elf::STB_WEAK | elf::STB_GNU_UNIQUE);
    let visible = matches!(symbol.st_visibility(), elf::STV_DEFAULT | elf::STV_PROTECTED);
    // An absolute symbol is no part of the image: linkers define the names of versions that way.
    let defined = !matches!(symbol.st_shndx(LE), elf::SHN_UNDEF | elf::SHN_ABS);
    if !bound || !visible || !defined {
        return None;
    }
    match symbol.st_type() {
        elf::STT_FUNC => Some(ExportKind::Function),
        elf::STT_OBJECT | elf::STT_COMMON => Some(ExportKind::Data),
        // Assembly that does not say `.type name, @function` exports its functions untyped.
        elf::STT_NOTYPE if in_code() => Some(ExportKind::Function),
        elf::STT_NOTYPE => Some(ExportKind::Data),
        elf::STT_TLS => Some(ExportKind::ThreadLocal),
        elf::STT_GNU_IFUNC => Some(ExportKind::Indirect),
        _ => None,
    }
}

/// What has been found of the exports.
pub(super) struct Exported {
    first: u32,
    /// Addresses of ordinary functions in the file's numbering, from the first symbol on that is
    /// listed. (Relocations by name come in another order than the symbols: what they ask of
    /// 2,000 is in half the cache here.)
    functions: Vec<u64>,
    /// The address of one is chosen by code.
    pub(super) indirect: bool,
    /// Those that allocate, and the states that the module declares: others may have them.
    lent: Vec<u32>,
}

impl Exported {
    /// An address that no function has: it would end past the end of the address space.
    const OTHER: u64 = u64::MAX;

    /// The address of an exported function with nothing to ask about.
    #[inline]
    pub(super) fn function(&self, symbol: u32) -> Option<u64> {
        let index = symbol.wrapping_sub(self.first) as usize;
        self.functions.get(index).copied().filter(|address| *address != Self::OTHER)
    }

    fn set_allocator(&mut self, symbol: u32) {
        if let Some(function) = self.functions.get_mut(symbol.wrapping_sub(self.first) as usize) {
            *function = Self::OTHER;
            self.lent.push(symbol);
        }
    }
}

impl<'data> Tables<'data> {
    pub(super) fn name(&self, symbol: &Symbol) -> Result<&'data [u8], Error> {
        self.dynamic.strings.get(symbol.st_name(LE))
    }

    pub(super) fn bad(&self, symbol: &Symbol, problem: &'static str) -> Error {
        match self.name(symbol) {
            Ok(name) => Error::BadSymbol { symbol: label(name), problem, value: symbol.st_value(LE) },
            Err(error) => error,
        }
    }

    /// The address of a symbol that is defined in a section of the image, with nothing to ask
    /// about: what [`definition`](Self::definition) says of most.
    #[inline]
    pub(super) fn ordinary(&self, symbol: &Symbol) -> Option<u64> {
        let plain = symbol.st_type() <= elf::STT_FUNC
            && !matches!(symbol.st_shndx(LE), elf::SHN_UNDEF | elf::SHN_LORESERVE..);
        let value = symbol.st_value(LE);
        (plain && self.layout.offset(value).is_some()).then_some(value)
    }

    /// Where the address of a symbol comes from, after checks that hold for every use of it.
    pub(super) fn definition(&self, symbol: &Symbol) -> Result<Definition, Error> {
        let value = symbol.st_value(LE);
        let bad = |problem| Err(self.bad(symbol, problem));
        match (symbol.st_type(), symbol.st_shndx(LE)) {
            (_, elf::SHN_UNDEF) if symbol.st_bind() == elf::STB_LOCAL => bad("is local and not defined"),
            (_, elf::SHN_UNDEF) => Ok(Definition::Elsewhere),
            (elf::STT_TLS, _) => match self.thread_locals {
                None => bad("is thread-local, and the module has no thread-local storage (PT_TLS)"),
                Some(block) if value > block.size => bad("is outside the module's thread-local storage"),
                Some(_) => Ok(Definition::ThreadLocal(value)),
            },
            // glibc since 2.28: absolute symbols do not move with the image.
            (_, elf::SHN_ABS) => Ok(Definition::Absolute(value)),
            (_, elf::SHN_COMMON) => bad("is a common block, which only object files have"),
            (elf::STT_GNU_IFUNC, _) if self.is_function(value) => Ok(Definition::Indirect(value)),
            (elf::STT_GNU_IFUNC, _) => bad("is chosen by a function outside the module's code"),
            _ if self.layout.offset(value).is_none() => bad("is outside the image"),
            _ => Ok(Definition::Here(value)),
        }
    }

    /// The kind of an export, and its place as [`Export::offset`] has it; `None` if others do not
    /// see the symbol.
    fn visible(
        &self,
        index: u32,
        symbol: &Symbol,
        wanted: Wanted,
        nearby: &mut Nearby<'_, 'data>,
    ) -> Result<Option<(ExportKind, u64)>, Error> {
        let in_code = || nearby.is(Protection::ReadExecute, symbol.st_value(LE), 1);
        let Some(kind) = kind_of(symbol, in_code).filter(|_| self.symbols.versions.are(wanted, index)) else {
            return Ok(None);
        };
        let (offset, end) = match self.definition(symbol)? {
            Definition::Here(address) | Definition::Indirect(address) => {
                (self.layout.offset(address), self.layout.memory.span)
            }
            Definition::ThreadLocal(offset) => {
                (Some(offset), self.thread_locals.map_or(0, |block| block.size))
            }
            Definition::Absolute(_) | Definition::Elsewhere => return Ok(None),
        };
        let bad = |problem| Err(self.bad(symbol, problem));
        if symbol.st_size(LE) == 0
            && kind == ExportKind::Function
            && !nearby.is(Protection::ReadExecute, symbol.st_value(LE), 1)
        {
            // Without code it may stand where the code ends: there is nothing to call.
            return Ok(None);
        }
        let Some(offset) = offset else { return bad("is outside the image") };
        if offset.checked_add(symbol.st_size(LE)).is_none_or(|after| after > end) {
            return bad("ends outside the image");
        }
        if kind == ExportKind::Function && !nearby.is(Protection::ReadExecute, symbol.st_value(LE), 1) {
            return bad("is a function outside the module's code");
        }
        if !self.dynamic.strings.has(symbol.st_name(LE)) {
            return bad("is exported without a name");
        }
        Ok(Some((kind, offset)))
    }

    /// Looks at every export, old versions included. The list of them is made only for who asks for
    /// it: a module that exports 2,000 functions is parsed in 29 us, and with the list in 50.
    pub(super) fn check_exports(&self, states: &[DeclaredState<'_>]) -> Result<Exported, Error> {
        let mut nearby = self.layout.nearby();
        let first = self.symbols.listed.start;
        let mut indirect = false;
        let mut functions = Vec::with_capacity(self.symbols.listed.len());
        let mut lent = Vec::new();
        for index in self.symbols.listed.clone() {
            let symbol = self.symbols.get(index)?;
            // Most are functions with nothing to say about: this is all that the questions below
            // come to for one.
            let ordinary = symbol.st_type() == elf::STT_FUNC
                && !matches!(symbol.st_shndx(LE), elf::SHN_UNDEF | elf::SHN_LORESERVE..)
                && nearby.is(Protection::ReadExecute, symbol.st_value(LE), symbol.st_size(LE).max(1))
                && self.dynamic.strings.has(symbol.st_name(LE));
            functions.push(if ordinary { symbol.st_value(LE) } else { Exported::OTHER });
            if ordinary {
                continue;
            }
            if !states.is_empty() && self.is_state(symbol, states) {
                lent.push(index);
            }
            let Some(wanted) = self.symbols.versions.found_by(index) else { continue };
            let export = self.visible(index, symbol, wanted, &mut nearby)?;
            indirect |= matches!(export, Some((ExportKind::Indirect, _)));
        }
        let mut exported = Exported { first, functions, indirect, lent };
        for (name, hash) in ALLOCATORS.into_iter().zip(ALLOCATOR_HASHES) {
            let is_it = |index| {
                let is_it = self.defines_function(index, name);
                if is_it {
                    exported.set_allocator(index);
                }
                is_it
            };
            match &self.symbols.gnu {
                Some(gnu) => gnu.find_hashed(hash, is_it),
                None => self.symbols.sysv.as_ref().and_then(|sysv| sysv.find(name, is_it)),
            };
        }
        Ok(exported)
    }

    /// Whether a symbol is a state of the module. Rust cannot define one weakly, as C does.
    fn is_state(&self, symbol: &Symbol, states: &[DeclaredState<'_>]) -> bool {
        let defined = !matches!(symbol.st_shndx(LE), elf::SHN_UNDEF | elf::SHN_LORESERVE..);
        let variable = defined && symbol.st_type() == elf::STT_OBJECT;
        let others_see = symbol.st_visibility() == elf::STV_DEFAULT;
        let is_it = |name| states.iter().any(|state| state.name.as_bytes() == name);
        variable && others_see && self.name(symbol).is_ok_and(is_it)
    }

    /// Whether a symbol is a function of the module of this name.
    fn defines_function(&self, index: u32, name: &str) -> bool {
        let Ok(symbol) = self.symbols.get(index) else { return false };
        let defined = !matches!(symbol.st_shndx(LE), elf::SHN_UNDEF | elf::SHN_LORESERVE..);
        let function = defined && symbol.st_type() == elf::STT_FUNC;
        let others_see = symbol.st_visibility() == elf::STV_DEFAULT;
        function && others_see && self.name(symbol) == Ok(name.as_bytes())
    }

    /// Whether a definition of the module is that of the process, if it has one
    /// (`shared_definitions.rs`).
    pub(super) fn is_shared(&self, exported: &Exported, index: u32, symbol: &Symbol) -> bool {
        let variable = || symbol.st_type() == elf::STT_OBJECT && self.layout.is_variable(symbol.st_value(LE));
        let defined = !matches!(symbol.st_shndx(LE), elf::SHN_UNDEF | elf::SHN_LORESERVE..);
        let of_class = || self.name(symbol).is_ok_and(is_of_class);
        let repeated = is_repeatable(symbol.st_bind(), symbol.st_visibility());
        defined && repeated && variable() && !of_class() || exported.lent.contains(&index)
    }

    /// In the order of the symbol table, and of each name the default version.
    pub(super) fn exports(&self) -> Vec<Export<'data>> {
        let mut nearby = self.layout.nearby();
        let mut exports = Vec::with_capacity(self.symbols.listed.len());
        for index in self.symbols.listed.clone() {
            exports.extend(self.listed_export(index, Wanted::Default, &mut nearby));
        }
        exports
    }

    /// Those that have a version, each with that, in the order of the symbol table.
    pub(super) fn versions(&self) -> Vec<(Export<'data>, &'data str)> {
        let mut nearby = self.layout.nearby();
        let version = |index| {
            let (wanted, version) = self.symbols.versions.of_definition(index)?;
            Some((self.listed_export(index, wanted, &mut nearby)?, version))
        };
        self.symbols.listed.clone().filter_map(version).collect()
    }

    fn listed_export(
        &self,
        index: u32,
        wanted: Wanted,
        nearby: &mut Nearby<'_, 'data>,
    ) -> Option<Export<'data>> {
        // `check_exports` has found no error.
        let symbol = self.symbols.get(index).ok()?;
        let (kind, offset) = self.visible(index, symbol, wanted, nearby).ok()??;
        // What is no text nobody can ask for.
        let name = core::str::from_utf8(self.name(symbol).ok()?).ok()?;
        Some(Export { name, offset, size: symbol.st_size(LE), kind })
    }

    /// The export of this name, or `name@version`, found as ld.so finds it: by the GNU table if
    /// there is one, else by the other.
    pub(super) fn export(&self, symbol: &str) -> Option<Export<'data>> {
        let is = |at, version: &str| self.dynamic.strings.get(at) == Ok(version.as_bytes());
        self.version(symbol, Wanted::Default).or_else(|| {
            let (name, wanted) = Wanted::of(symbol, &self.symbols.versions.defined, is)?;
            self.version(name, wanted)
        })
    }

    fn version(&self, name: &str, wanted: Wanted) -> Option<Export<'data>> {
        let mut nearby = self.layout.nearby();
        let mut found = None;
        let is_it = |index| {
            found = self.listed_export(index, wanted, &mut nearby).filter(|export| export.name == name);
            found.is_some()
        };
        self.find(name, is_it);
        found
    }

    /// Has `is_it` look at the symbols that may have this name.
    fn find(&self, name: &str, is_it: impl FnMut(u32) -> bool) {
        match (&self.symbols.gnu, &self.symbols.sysv) {
            (Some(gnu), _) => gnu.find(name, is_it),
            (None, Some(sysv)) => sysv.find(name, is_it),
            (None, None) => None,
        };
    }
}
