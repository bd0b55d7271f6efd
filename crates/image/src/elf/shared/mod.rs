//! Shared objects (ET_DYN): what a linker made to be loaded.

mod debug;
mod dynamic;
mod eh_frame;
mod hash;
mod local_exec;
mod lookup;
mod notes;
mod relocate;
mod segments;
mod symbols;
pub(super) mod tls;
mod uses;
mod versions;

use super::note::{Declared, Properties};
use crate::debug::{DebugInfo, Symbols as Names};
use crate::elf::format::{Header, Word, malformed, table_of};
use crate::pages::Memory;
use crate::parts;
use crate::source::{Site, Source};
use crate::{Error, Export, Import, Indirect, Machine, Protection, ThreadLocals, Unwind, Verbatim};
use alloc::vec::Vec;
use debug::Sections;
use dynamic::{Calls, Dynamic};
pub use lookup::ExportTables;
use object::LittleEndian as LE;
use object::elf;
use relocate::Linking;
use segments::Layout;
pub(crate) use segments::loaded_length;
use symbols::DynamicSymbols;
use uses::Uses;

/// A shared object that has been read and checked. It borrows its tables from the bytes of the
/// file.
pub(crate) struct Shared<'data> {
    tables: Tables<'data>,
    uses: Uses<'data>,
    declared: Declared<'data>,
    properties: Properties,
    /// The address of an export is chosen by code.
    exports_indirect: bool,
    unwind: Option<Unwind>,
    sections: Option<Sections<'data>>,
}

/// What symbols and relocations are understood by.
struct Tables<'data> {
    machine: Machine,
    layout: Layout<'data>,
    thread_locals: Option<ThreadLocals>,
    dynamic: Dynamic<'data>,
    symbols: DynamicSymbols<'data>,
}

impl<'data> Shared<'data> {
    /// Reads and checks a shared object. Whatever is not supported is refused here, before anything
    /// is mapped.
    pub(crate) fn parse(
        bytes: &'data [u8],
        header: &Header,
        machine: Machine,
        page_size: u64,
        max_span: u64,
    ) -> Result<Self, Error> {
        let layout = Layout::parse(bytes, header, page_size, max_span)?;
        let (declared, properties) = notes::find(&layout, bytes.len() as u64, machine)?;
        if properties.signed_pointers {
            return Err(Error::SignedPointers { found: "GNU_PROPERTY_AARCH64_FEATURE_PAUTH" });
        }
        let thread_locals = tls::block(&layout, max_span)?;
        let unwind = eh_frame::find(&layout)?;
        let dynamic = Dynamic::parse(&layout, machine)?;
        let symbols = DynamicSymbols::parse(&layout, &dynamic)?;
        let tables = Tables { machine, layout, thread_locals, dynamic, symbols };
        let sections = Sections::parse(bytes, header);
        let exported = tables.check_exports(&declared.states)?;
        let uses = Uses::parse(&tables, &exported)?;
        local_exec::check(&tables.layout, machine, uses.thread_locals)?;
        let image = Shared {
            uses,
            declared,
            properties,
            exports_indirect: exported.indirect,
            unwind,
            sections,
            tables,
        };
        for (list, calls) in [("DT_INIT", image.tables.dynamic.init), ("DT_FINI", image.tables.dynamic.fini)]
        {
            if let Some(address) = calls.single {
                image.check_code(list, address, address)?;
            }
        }
        Ok(image)
    }

    /// `address` is the file's own numbering, `shown` what a message is to show.
    fn check_code(&self, list: &'static str, address: u64, shown: u64) -> Result<(), Error> {
        match self.tables.is_function(address) {
            true => Ok(()),
            false => Err(Error::EntryOutsideCode { list, address: shown }),
        }
    }

    fn single(&self, base: u64, calls: Calls) -> Option<u64> {
        calls.single.map(|address| self.tables.layout.bias(base).wrapping_add(address))
    }

    fn array(
        &self,
        base: u64,
        memory: &[u8],
        calls: Calls,
        list: &'static str,
        into: &mut Vec<u64>,
    ) -> Result<(), Error> {
        let (address, count) = calls.array;
        if count == 0 {
            return Ok(());
        }
        let outside = malformed("dynamic table", "an array of functions is outside the image", address);
        let start = self.tables.layout.offset(address).ok_or(outside.clone())?;
        let count = usize::try_from(count).map_err(|_| outside.clone())?;
        let len = count.saturating_mul(8);
        let words = parts::content(self.tables.layout.verbatim(), memory, start, len as u64);
        let words = Some(words).filter(|words| words.len() == len).ok_or(outside)?;
        for word in table_of::<Word>(words, count) {
            let entry = word.get(LE);
            self.check_code(list, entry.wrapping_sub(self.tables.layout.bias(base)), entry)?;
            into.push(entry);
        }
        Ok(())
    }
}

impl Tables<'_> {
    /// Whether a function can begin at this address of the file.
    fn is_function(&self, address: u64) -> bool {
        self.layout.is(Protection::ReadExecute, address, 1)
            && address.is_multiple_of(self.machine.code_align())
    }
}

impl<'data> Source<'data> for Shared<'data> {
    fn soname(&self) -> Option<&'data str> {
        self.tables.dynamic.soname
    }

    fn needed(&self) -> &[&'data str] {
        &self.tables.dynamic.needed
    }

    fn runpath(&self) -> Option<&str> {
        self.tables.dynamic.runpath
    }

    fn is_runpath_inherited(&self) -> bool {
        self.tables.dynamic.get(elf::DT_RUNPATH).is_none()
    }

    fn declared(&self) -> &Declared<'data> {
        &self.declared
    }

    fn properties(&self) -> Properties {
        self.properties
    }

    fn bias(&self, base: u64) -> Option<u64> {
        Some(self.tables.layout.bias(base))
    }

    fn symbols(&self) -> Names<'data> {
        self.sections.as_ref().and_then(|sections| sections.symbols(&self.tables.layout)).unwrap_or_default()
    }

    fn debug(&self, base: u64) -> DebugInfo<'data> {
        self.sections.as_ref().map(|sections| sections.debug(&self.tables.layout, base)).unwrap_or_default()
    }

    fn memory(&self) -> &Memory {
        &self.tables.layout.memory
    }

    fn verbatim(&self) -> &[Verbatim<'data>] {
        self.tables.layout.verbatim()
    }

    fn imports(&self) -> &[Import<'data>] {
        &self.uses.imports
    }

    fn exports(&self) -> Vec<Export<'_>> {
        self.tables.exports()
    }

    fn export(&self, name: &str) -> Option<Export<'_>> {
        self.tables.export(name)
    }

    fn versions(&self) -> Vec<(Export<'_>, &str)> {
        self.tables.versions()
    }

    fn defines_versions(&self) -> bool {
        !self.tables.symbols.versions.defined.is_empty()
    }

    fn export_tables(&self) -> Option<ExportTables> {
        ExportTables::of(self)
    }

    fn thread_locals(&self) -> Option<ThreadLocals> {
        self.tables.thread_locals
    }

    fn unwind(&self) -> Option<Unwind> {
        self.unwind
    }

    fn indirect(&self) -> &[Indirect] {
        &self.uses.indirect
    }

    fn chooses(&self) -> bool {
        self.exports_indirect || !self.uses.indirect.is_empty()
    }

    fn link(&self, memory: &mut [u8], Site { base, host, bindings }: Site<'_>) -> Result<(), Error> {
        self.tables.layout.fill(memory);
        let bias = self.tables.layout.bias(base);
        Linking { tables: &self.tables, uses: &self.uses, bias, host, bindings }.apply(memory)
    }

    fn init(&self, base: u64, memory: &[u8]) -> Result<Vec<u64>, Error> {
        let mut calls = Vec::new();
        calls.extend(self.single(base, self.tables.dynamic.init));
        self.array(base, memory, self.tables.dynamic.init, "DT_INIT_ARRAY", &mut calls)?;
        Ok(calls)
    }

    fn fini(&self, base: u64, memory: &[u8]) -> Result<Vec<u64>, Error> {
        let mut calls = Vec::new();
        self.array(base, memory, self.tables.dynamic.fini, "DT_FINI_ARRAY", &mut calls)?;
        calls.reverse();
        calls.extend(self.single(base, self.tables.dynamic.fini));
        Ok(calls)
    }
}
