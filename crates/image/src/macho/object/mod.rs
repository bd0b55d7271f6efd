//! Object files (MH_OBJECT), linked here: what a static linker does, into memory.
//!
//! ```text
//! files, archives
//!   -> ../../archive.rs, file.rs   members; each file's tables
//!   -> section.rs                  what each section is
//!   -> resolve.rs                  which definition each name stands for, which members that takes
//!   -> symbols.rs                  all symbols of the link
//!   -> fixups.rs                   a section's relocations, decoded
//!   -> scan.rs, descriptors.rs     each looked at once: imports, thread-local variables,
//!      table.rs                    the global offset table, stubs
//!   -> order.rs                    in which order sections go; ../../linking/layout.rs: where
//!   -> unwind.rs                   what unwinders are told
//!   =  Objects
//!   -> relocate.rs                 where the image may be; the image, for one address
//! ```
//!
//! A definition of the module is bound to directly. What is defined elsewhere is called directly
//! where that is in reach, and otherwise through a stub; addresses of it come from the global
//! offset table. Nothing is relaxed into another instruction, nothing is left out because it is not
//! used, and sections are kept whole: of a weak definition that is not used only the name is gone.

mod debug;
mod descriptors;
mod file;
mod fixups;
mod order;
mod relocate;
mod resolve;
mod scan;
mod section;
mod symbols;
mod table;
mod unwind;

use super::bytes::c_name;
use crate::elf::note::Declared;
use crate::fixup::aarch64;
use crate::linking::calls::Array;
use crate::linking::definition::{Definition, Spot};
use crate::linking::layout::Layout;
use crate::linking::members;
use crate::linking::memory::listed;
use crate::linking::names::Names;
use crate::linking::section::{Part, Section};
use crate::pages::Memory;
use crate::source::{Input, Site, Source};
use crate::{Binding, Error, Export, ExportKind, Import, ThreadLocals, Unwind, Window};
use alloc::vec::Vec;
use descriptors::Descriptor;
use file::File;
use order::Order;
use relocate::Linking;
use resolve::{Global, Linked, Resolver};
use scan::{Direct, Scan};
use section::Kind;
use symbols::{Symbols, kind_of, own};
use table::Table;

/// One or several object files, and the members of archives that they need, laid out as one image.
pub(crate) struct Objects<'data> {
    files: Vec<Linked<'data>>,
    declared: Declared<'data>,
    /// Our own, then those of each file.
    sections: Vec<Section<'data>>,
    names: Names<'data>,
    /// By the number of the name.
    globals: Vec<Global>,
    symbols: Symbols,
    imports: Vec<Import<'data>>,
    table: Table,
    direct: Vec<Direct>,
    /// Ascending by place.
    descriptors: Vec<Descriptor>,
    layout: Layout,
    init: Vec<Array>,
    fini: Vec<Array>,
    /// Call frame information, as it will be in the image.
    frames: Vec<u8>,
}

impl<'data> Objects<'data> {
    /// Reads, resolves and lays out. Whatever is not supported is refused here, before anything is
    /// mapped.
    pub(crate) fn parse(inputs: &[Input<'data>], page_size: u64, max_span: u64) -> Result<Self, Error> {
        let (objects, members) = members::read(inputs, File::parse)?;
        let mut resolver = Resolver::default();
        resolver.sections.extend(own::SECTIONS);
        resolver.resolve(objects, members)?;
        let Resolver { names, globals, commons, files, mut sections, .. } = resolver;

        let declared = declared(&files, &sections)?;
        let order = Order::new(&files, &sections);
        let mut symbols = Symbols::new(&names, &globals, &commons, &files, &mut sections)?;
        for (number, symbol) in (0..globals.len() as u32).zip(&mut symbols.all) {
            if symbol.definition == Definition::Elsewhere
                && let Some(definition) = order.definition(names.get(number), &files, &sections)?
            {
                symbol.definition = definition;
            }
        }
        let mut scan = Scan {
            files: &files,
            sections: &sections,
            symbols: &mut symbols,
            table: Table::default(),
            direct: Vec::new(),
            descriptors: Vec::new(),
        };
        for (number, linked) in (0..).zip(&files) {
            scan.file(number).map_err(|error| linked.label().blame(error))?;
        }
        let Scan { table, direct, descriptors, .. } = scan;
        let imports = scan::imports(&names, &globals, &mut symbols)?;

        // So that the image's start is something of its own, and no entry of the table is there:
        // unwind records take 0 for none.
        sections[own::IMAGE as usize].append(8, 8);
        sections[own::STUBS as usize].append((table.stubs.len() * aarch64::STUB) as u64, 16);
        sections[own::TABLE as usize].append(8 * table.entries.len() as u64, 8);
        let layout = Layout::new(&order.parts, &mut sections, page_size, max_span)?;
        // Sections but for the image's start.
        if sections[1..].iter().all(|section| section.part().is_none() || section.size == 0) {
            return Err(Error::UnsupportedFile {
                found: "neither code nor data",
                advice: "give the object file that has the functions",
            });
        }
        let Order { init, fini, .. } = order;
        let frames = Vec::new();
        let mut objects = Objects {
            files,
            declared,
            sections,
            names,
            globals,
            symbols,
            imports,
            table,
            direct,
            descriptors,
            layout,
            init,
            fini,
            frames,
        };
        objects.add_frames(page_size, max_span)?;
        Ok(objects)
    }

    /// The name as others see it, or `None` if they do not.
    fn exported(&self, number: u32) -> Option<Export<'data>> {
        let global = &self.globals[number as usize];
        // What is no text nobody can ask for.
        let name = c_name(core::str::from_utf8(self.names.get(number)).ok()?)?;
        if global.hidden || self.files.get(global.file as usize).is_none() {
            return None;
        }
        let Definition::Section(spot) = self.symbols.named(number).definition else { return None };
        let section = &self.sections[spot.section as usize];
        let offset = spot.offset(&self.sections);
        let (offset, kind) = match section.part()? {
            // A function that compilers found to be unreachable has no code, and may stand where
            // the code ends.
            Part::Code if !self.is_code(offset) => return None,
            Part::Code => (offset, ExportKind::Function),
            Part::Template | Part::TemplateZero | Part::Frames => return None,
            _ if kind_of(&self.files, spot.section) == Kind::Descriptors => {
                (self.in_block(self.descriptor(spot)?.variable), ExportKind::ThreadLocal)
            }
            _ => (offset, ExportKind::Data),
        };
        Some(Export { name, offset, size: 0, kind })
    }

    fn descriptor(&self, place: Spot) -> Option<&Descriptor> {
        let found = self.descriptors.binary_search_by_key(&place, |descriptor| descriptor.place);
        found.ok().map(|index| &self.descriptors[index])
    }

    fn is_code(&self, offset: u64) -> bool {
        self.layout.code.contains(&offset)
    }

    fn calls(
        &self,
        base: u64,
        memory: &[u8],
        arrays: &[Array],
        list: &'static str,
    ) -> Result<Vec<u64>, Error> {
        listed(arrays, &self.sections, memory, list, |address| {
            self.is_code(address.wrapping_sub(base)) && address.is_multiple_of(4)
        })
    }
}

/// What the notes of the files that the module is made of say.
fn declared<'data>(files: &[Linked<'data>], sections: &[Section<'data>]) -> Result<Declared<'data>, Error> {
    let mut declared = Declared::default();
    for linked in files {
        let own = &sections[linked.first_section as usize..][..linked.kinds.len()];
        for (section, kind) in own.iter().zip(&linked.kinds) {
            if *kind == Kind::Notes {
                declared.read(section.bytes, 4).map_err(|error| linked.label().blame(error))?;
            }
        }
    }
    Ok(declared)
}

impl<'data> Source<'data> for Objects<'data> {
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
        (0..self.globals.len() as u32).filter_map(|number| self.exported(number)).collect()
    }

    fn export(&self, name: &str) -> Option<Export<'_>> {
        self.exported(self.names.find(alloc::format!("_{name}").as_bytes())?)
    }

    fn thread_locals(&self) -> Option<ThreadLocals> {
        self.layout.thread_locals
    }

    fn unwind(&self) -> Option<Unwind> {
        self.layout.unwind
    }

    fn symbols(&self) -> crate::debug::Symbols<'data> {
        self.names_of_all()
    }

    fn debug(&self, _base: u64) -> crate::debug::DebugInfo<'data> {
        self.debug_info()
    }

    fn window(&self, bindings: &[Option<Binding>]) -> Result<Window, Error> {
        relocate::window(self, bindings)
    }

    fn link(&self, memory: &mut [u8], site: Site<'_>) -> Result<(), Error> {
        Linking::new(self, site).write(memory)
    }

    fn init(&self, base: u64, memory: &[u8]) -> Result<Vec<u64>, Error> {
        self.calls(base, memory, &self.init, "__mod_init_func")
    }

    fn fini(&self, base: u64, memory: &[u8]) -> Result<Vec<u64>, Error> {
        let mut calls = self.calls(base, memory, &self.fini, "__mod_term_func")?;
        calls.reverse();
        Ok(calls)
    }
}
