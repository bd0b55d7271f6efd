//! Object files (ET_REL), linked here: what a static linker does, into memory.
//!
//! ```text
//! files, archives
//!   -> archive.rs, file.rs   members; each file's tables
//!   -> section.rs            what each section is
//!   -> resolve.rs            which definition each name stands for, which members that takes
//!   -> symbols.rs            all symbols of the link
//!   -> scan.rs, table.rs     every relocation looked at once: imports, global offset table, stubs
//!   -> layout.rs             in which order everything goes; ../../linking/layout.rs: where
//!   =  Objects
//!   -> erratum.rs            which instructions a processor has wrong
//!   -> window.rs             where the image may be
//!   -> relocate.rs           the image, for one address
//!   -> debug.rs              the same of what debuggers read
//! ```
//!
//! A definition of the module is bound to directly, as with `-Bsymbolic`. What is defined elsewhere
//! is called directly where that is in reach, and otherwise through a stub; addresses of functions
//! and of variables come from the global offset table where code was compiled for that, and limit
//! where the image may be where it was not.

mod calls;
mod debug;
mod erratum;
mod file;
mod layout;
mod relocate;
mod resolve;
mod scan;
mod section;
mod symbols;
mod table;
mod window;

use super::note::{self, Declared, Properties};
use crate::error::label;
use crate::linking::calls::Array;
use crate::linking::definition::{Definition, Spot};
use crate::linking::layout::Layout;
use crate::linking::members;
use crate::linking::memory::{listed, stub_size};
use crate::linking::names::Names;
use crate::linking::section::{Part, Section};
use crate::pages::Memory;
use crate::source::{Input, Site, Source};
use crate::{Binding, Error, Export, ExportKind, Import, Indirect, Machine, ThreadLocals, Unwind, Window};
use ::object::LittleEndian as LE;
use ::object::elf;
use ::object::read::elf::{SectionHeader as _, Sym};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use erratum::Sequence;
use file::File;
use layout::Order;
use relocate::Linking;
use resolve::{Common, Global, Linked, Rank, Resolver};
use scan::{Direct, Scan};
use symbols::{Symbol, Symbols, own};
use table::Table;

/// One or several object files, and the members of archives that they need, laid out as one image.
pub(crate) struct Objects<'data> {
    machine: Machine,
    files: Vec<Linked<'data>>,
    declared: Declared<'data>,
    properties: Properties,
    /// Our own, then those of each file.
    sections: Vec<Section<'data>>,
    names: Names<'data>,
    /// By the number of the name.
    globals: Vec<Global>,
    commons: BTreeMap<u32, Common>,
    symbols: Symbols,
    imports: Vec<Import<'data>>,
    table: Table,
    direct: Vec<Direct>,
    indirect: Vec<Indirect>,
    errata: Vec<Sequence>,
    layout: Layout,
    init: Vec<Array>,
    fini: Vec<Array>,
}

impl<'data> Objects<'data> {
    /// Reads, resolves and lays out. Whatever is not supported is refused here, before anything is
    /// mapped.
    pub(crate) fn parse(
        inputs: &[Input<'data>],
        machine: Machine,
        page_size: u64,
        max_span: u64,
    ) -> Result<Self, Error> {
        let (objects, members) = members::read(inputs, |label, bytes| File::parse(label, bytes, machine))?;
        let mut resolver = Resolver::new(machine, own::SECTIONS.into());
        resolver.resolve(objects, members)?;
        let Resolver { names, globals, commons, files, mut sections, .. } = resolver;

        let declared = declared(&files, &sections)?;
        let properties = properties(&files, &sections, machine)?;
        let mut order = Order::new(&files, &mut sections)?;
        let mut symbols = Symbols::new(&globals, &commons, &files, &mut sections)?;
        for ((number, global), symbol) in (0..).zip(&globals).zip(&mut symbols.all) {
            if global.rank != Rank::Undefined {
                continue;
            }
            let name = names.get(number);
            if let Some(definition) = order.definition(name, &sections) {
                symbol.definition = definition;
                // Code asks a descriptor for this one.
                symbol.thread_local = name == layout::BLOCK.as_bytes();
            } else if layout::is_table_of_linkers(name) && !global.required {
                symbol.definition = Definition::Absolute(0);
            }
        }
        symbols.share(&names, &globals, &files, &sections);
        let (table, direct) = (Table::new(), Vec::new());
        let mut scan =
            Scan { machine, globals: &globals, sections: &sections, symbols: &mut symbols, table, direct };
        for (number, linked) in (0..).zip(&files) {
            scan.file(number, linked).map_err(|error| linked.label().blame(error))?;
        }
        let Scan { mut table, direct, .. } = scan;
        let name = |number| names.get(number);
        let definition = |number: u32| {
            let Global { file, symbol, .. } = globals[number as usize];
            &files[file as usize].file.symbols[symbol as usize]
        };
        let imports = scan::imports(name, definition, &globals, &mut symbols, &mut table, &direct, machine)?;

        let stubs = (table.stubs.len() * stub_size(machine)) as u64;
        sections[own::STUBS as usize].append(stubs, 16);
        sections[own::TABLE as usize].append(table.size(), 8);
        let mut layout = Layout::new(&order.parts, &mut sections, page_size, max_span)?;
        let errata = if machine == Machine::Aarch64 { erratum::find(&files, &sections) } else { Vec::new() };
        if !errata.is_empty() {
            // Behind all code, so that it stays where it is.
            sections[own::VENEERS as usize].append(erratum::VENEER * errata.len() as u64, 4);
            layout = Layout::new(&order.parts, &mut sections, page_size, max_span)?;
        }
        sections[own::END as usize].offset = layout.memory.span;
        if layout.memory.span == 0 {
            return Err(Error::UnsupportedFile {
                found: "neither code nor data",
                advice: "give the object file that has the functions",
            });
        }
        let (init, fini) = (core::mem::take(&mut order.init), core::mem::take(&mut order.fini));
        let indirect = Vec::new();
        let mut objects = Objects {
            machine,
            files,
            declared,
            properties,
            sections,
            names,
            globals,
            commons,
            symbols,
            imports,
            table,
            direct,
            indirect,
            errata,
            layout,
            init,
            fini,
        };
        objects.indirect = objects.find_indirect()?;
        objects.check_exports()?;
        Ok(objects)
    }

    /// The entries of the global offset table that code of the module fills.
    fn find_indirect(&self) -> Result<Vec<Indirect>, Error> {
        let mut found = Vec::new();
        for stub in &self.table.stubs {
            let Symbol { definition, indirect: true, .. } = self.symbols.all[stub.symbol as usize] else {
                continue;
            };
            let Definition::Section(Spot { section, value }) = definition else { continue };
            let section = &self.sections[section as usize];
            if section.part() != Some(Part::Code) || value >= section.size {
                let problem = "is an indirect function outside the code";
                return Err(Error::BadSymbol { symbol: self.symbol_label(stub.symbol), problem, value });
            }
            let place = self.sections[own::TABLE as usize].offset + 8 * u64::from(stub.word);
            found.push(Indirect { place, resolver: section.offset + value, addend: 0 });
        }
        Ok(found)
    }

    /// A symbol's name for a message.
    fn symbol_label(&self, number: u32) -> String {
        if (number as usize) < self.names.len() {
            return label(self.names.get(number));
        }
        let (file, symbol) = self.symbols.local(number);
        self.files.get(file).map(|linked| linked.file.symbol_label(symbol)).unwrap_or_default()
    }

    /// What a name stands for that others may see, in which section and where there.
    #[inline(always)]
    fn visible(&self, number: u32) -> Option<(ExportKind, &Section<'data>, u64)> {
        let global = &self.globals[number as usize];
        let linked = self.files.get(global.file as usize).filter(|_| !global.hidden())?;
        let Definition::Section(Spot { section, value }) = self.symbols.own(number) else {
            return None;
        };
        if linked.file.versioned && resolve::unversioned(self.names.get(number)).1.is_some() {
            return None;
        }
        let section = &self.sections[section as usize];
        let kind = match linked.file.symbols[global.symbol as usize].st_type() {
            elf::STT_TLS => ExportKind::ThreadLocal,
            elf::STT_GNU_IFUNC => ExportKind::Indirect,
            elf::STT_FUNC => ExportKind::Function,
            // Assembly that does not say `.type name, @function` exports its functions untyped.
            elf::STT_NOTYPE if section.part() == Some(Part::Code) => ExportKind::Function,
            _ => ExportKind::Data,
        };
        Some((kind, section, value))
    }

    /// Refuses what is exported as a function and is none.
    fn check_exports(&self) -> Result<(), Error> {
        for number in 0..self.globals.len() as u32 {
            if let Some((ExportKind::Function | ExportKind::Indirect, section, value)) = self.visible(number)
                && section.part() != Some(Part::Code)
            {
                let problem = "is a function outside the module's code";
                let bad = Error::BadSymbol { symbol: label(self.names.get(number)), problem, value };
                return Err(self.files[self.globals[number as usize].file as usize].label().blame(bad));
            }
        }
        Ok(())
    }

    /// The name as others see it, or `None` if they do not. Inlined, because handing on such
    /// results took most of the time of listing 2,000 of them.
    #[inline(always)]
    fn exported(&self, number: u32) -> Option<Export<'data>> {
        let (kind, section, value) = self.visible(number)?;
        let mut offset = section.offset + value;
        match kind {
            // A function that compilers found to be unreachable has no code, and may stand where
            // the code ends.
            ExportKind::Function | ExportKind::Indirect if !self.is_code(offset) => return None,
            ExportKind::ThreadLocal => offset -= self.sections[own::TEMPLATE as usize].offset,
            _ => {}
        }
        // What is no text nobody can ask for.
        let name = core::str::from_utf8(self.names.get(number)).ok()?;
        Some(Export { name, offset, size: self.size(number), kind })
    }

    /// The size of what a name stands for.
    #[inline]
    fn size(&self, number: u32) -> u64 {
        let global = &self.globals[number as usize];
        match (global.rank, self.files.get(global.file as usize)) {
            (Rank::Common, _) => self.commons[&number].size,
            (_, Some(linked)) => linked.file.symbols[global.symbol as usize].st_size(LE),
            (_, None) => 0,
        }
    }

    /// Where the place of a relocation is, from the start of the image.
    fn place(&self, direct: &Direct) -> u64 {
        self.sections[direct.section as usize].offset + direct.place
    }

    /// Whether the symbol's stub may stand for it.
    fn has_stand_in(&self, direct: &Direct, symbol: &Symbol) -> bool {
        self.table.stub(symbol).is_some() && scan::is_whole(self.machine, direct.howto, direct.addend)
    }

    fn calls(
        &self,
        base: u64,
        memory: &[u8],
        arrays: &[Array],
        list: &'static str,
    ) -> Result<Vec<u64>, Error> {
        listed(arrays, &self.sections, memory, list, |address| {
            self.is_code(address.wrapping_sub(base)) && address.is_multiple_of(self.machine.code_align())
        })
    }

    fn is_code(&self, offset: u64) -> bool {
        self.layout.code.contains(&offset)
    }
}

/// What the notes of the files that the module is made of say. Sections of one file do not overlap:
/// no note is read twice.
fn declared<'data>(files: &[Linked<'data>], sections: &[Section<'data>]) -> Result<Declared<'data>, Error> {
    let mut declared = Declared::default();
    for linked in files {
        let own = &sections[linked.first_section as usize..][..linked.file.sections.len()];
        for (header, section) in linked.file.sections.iter().zip(own) {
            if header.sh_type(LE) == elf::SHT_NOTE
                && section.part().is_some()
                && linked.file.section_name(header).is_ok_and(|name| name == note::SECTION)
            {
                declared
                    .read(section.bytes, header.sh_addralign(LE))
                    .map_err(|error| linked.label().blame(error))?;
            }
        }
    }
    Ok(declared)
}

/// What the files ask of the processor: what any of them needs, and of what code may be run with
/// what all files with code have.
fn properties(files: &[Linked<'_>], sections: &[Section<'_>], machine: Machine) -> Result<Properties, Error> {
    let mut all = Properties { aarch64_features: u32::MAX, ..Properties::default() };
    for linked in files {
        let mut of_file = Properties::default();
        for header in linked.file.sections {
            if header.sh_type(LE) == elf::SHT_NOTE
                && linked.file.section_name(header).is_ok_and(|name| name == ".note.gnu.property")
            {
                let notes = linked.file.contents(header).map_err(|error| linked.label().blame(error))?;
                of_file.read(notes, header.sh_addralign(LE), machine);
            }
        }
        if of_file.signed_pointers {
            let error = Error::SignedPointers { found: "GNU_PROPERTY_AARCH64_FEATURE_PAUTH" };
            return Err(linked.label().blame(error));
        }
        all.x86_levels |= of_file.x86_levels;
        let own = &sections[linked.first_section as usize..][..linked.file.sections.len()];
        if own.iter().any(|section| section.part() == Some(Part::Code) && section.size > 0) {
            all.aarch64_features &= of_file.aarch64_features;
        }
    }
    Ok(all)
}

impl<'data> Source<'data> for Objects<'data> {
    fn properties(&self) -> Properties {
        self.properties
    }

    fn declared(&self) -> &Declared<'data> {
        &self.declared
    }

    fn memory(&self) -> &Memory {
        &self.layout.memory
    }

    fn imports(&self) -> &[Import<'data>] {
        &self.imports
    }

    fn exports(&self) -> Vec<Export<'_>> {
        let mut exports = Vec::with_capacity(self.globals.len());
        for number in 0..self.globals.len() as u32 {
            exports.extend(self.exported(number));
        }
        exports
    }

    fn export(&self, name: &str) -> Option<Export<'_>> {
        self.exported(self.names.find(name.as_bytes())?)
    }

    fn thread_locals(&self) -> Option<ThreadLocals> {
        self.layout.thread_locals
    }

    fn unwind(&self) -> Option<Unwind> {
        self.layout.unwind
    }

    fn indirect(&self) -> &[Indirect] {
        &self.indirect
    }

    fn chooses(&self) -> bool {
        self.symbols.all.iter().any(|symbol| symbol.indirect)
    }

    fn symbols(&self) -> crate::debug::Symbols<'data> {
        self.names_of_all()
    }

    fn debug(&self, base: u64) -> crate::debug::DebugInfo<'data> {
        self.debug_info(base)
    }

    fn window(&self, bindings: &[Option<Binding>]) -> Result<Window, Error> {
        self.reach(bindings)
    }

    fn link(&self, memory: &mut [u8], site: Site<'_>) -> Result<(), Error> {
        Linking::new(self, site).write(memory)
    }

    fn init(&self, base: u64, memory: &[u8]) -> Result<Vec<u64>, Error> {
        self.calls(base, memory, &self.init, ".init_array")
    }

    fn fini(&self, base: u64, memory: &[u8]) -> Result<Vec<u64>, Error> {
        let mut calls = self.calls(base, memory, &self.fini, ".fini_array")?;
        calls.reverse();
        Ok(calls)
    }
}
