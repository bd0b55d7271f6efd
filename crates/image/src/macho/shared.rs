//! Dylibs and bundles: what a linker made to be loaded.

use super::commands::{Commands, range};
use super::exports::Exports;
use super::fixups::{Builder, Fixups, put};
use super::sections::{CallKind, Extent, Stubs};
use super::segments::Layout;
use super::symbols::SymbolTable;
use super::tls::Variables;
use super::{chained, exports, opcodes, unwind};
use crate::debug::{DebugInfo, Symbols};
use crate::elf::note::Declared;
use crate::macho::format::{DEBUG_OMITTED, Half, Header, LE, Word, malformed, table_of};
use crate::pages::Memory;
use crate::parts;
use crate::source::{Site, Source};
use crate::{Error, Export, Import, ThreadLocals, Unwind, Verbatim};
use alloc::vec::Vec;
use object::macho;

/// A dylib or bundle that has been read and checked. It borrows its tables from the bytes of the
/// file.
pub(crate) struct Shared<'data> {
    commands: Commands<'data>,
    layout: Layout<'data>,
    declared: Declared<'data>,
    variables: Variables,
    exports: Exports,
    fixups: Fixups<'data>,
    symbols: Option<SymbolTable<'data>>,
    frames: Frames,
}

/// Call frame information, made of the compact and the usual one: it is behind everything else.
#[derive(Default)]
struct Frames {
    place: u64,
    bytes: Vec<u8>,
}

impl<'data> Shared<'data> {
    /// Reads and checks the file. Whatever is not supported is refused here, before anything is
    /// mapped.
    pub(super) fn parse(
        bytes: &'data [u8],
        header: &Header,
        page_size: u64,
        max_span: u64,
    ) -> Result<Self, Error> {
        let commands = Commands::parse(bytes, header)?;
        let mut layout = Layout::parse(bytes, &commands, page_size, max_span)?;
        let variables = Variables::parse(&layout)?;
        let symbols = commands.symtab.map(|symtab| SymbolTable::parse(bytes, symtab));
        let exports = match (trie(bytes, &commands)?, &symbols) {
            (Some(trie), _) => Exports::from_trie(trie, &layout, &variables, bytes.len())?,
            (None, Some(Ok(symbols))) => Exports::from_symbols(symbols, &layout, &variables, bytes.len())?,
            (None, Some(Err(error))) => return Err(error.clone()),
            (None, None) => Exports::default(),
        };
        // From here on it is for names only, and damage to it harms nothing else.
        let symbols = symbols.and_then(Result::ok);
        let (libraries, optional) = (commands.libraries.len(), &commands.optional);
        let mut builder = Builder::new(&layout, &exports, &variables, libraries, optional, bytes.len());
        match (commands.chained_fixups, commands.dyld_info) {
            (Some(table), None) => chained::read(table, &layout, &mut builder)?,
            (None, Some(info)) => opcodes::read(bytes, info, &mut builder)?,
            (None, None) => {}
            (Some(_), Some(_)) => {
                return Err(malformed("table of load commands", "it has fix-ups in both forms", 0));
            }
        }
        let called = called(bytes, &commands, &symbols, &layout.sections.stubs);
        let fixups = builder.finish(called)?;
        let declared = declared(&layout)?;
        let frames = frames(&mut layout, page_size, max_span)?;
        Ok(Self { commands, layout, declared, variables, exports, fixups, symbols, frames })
    }

    /// The addresses in a section of the linked image: words, or distances from the header.
    fn calls(
        &self,
        kind: CallKind,
        base: u64,
        memory: &[u8],
        list: &'static str,
        into: &mut Vec<u64>,
    ) -> Result<(), Error> {
        let bias = self.layout.bias(base);
        for calls in self.layout.sections.calls.iter().filter(|calls| calls.kind == kind) {
            let Extent { address, size } = calls.place;
            let outside = malformed("table of sections", "functions to call are outside the image", address);
            let offset = self.layout.offset(address).ok_or(outside.clone())?;
            let bytes = parts::content(&self.layout.verbatim, memory, offset, size);
            if bytes.len() as u64 != size {
                return Err(outside);
            }
            let mut take = |function: u64| match self.layout.sections.is_code(function.wrapping_sub(bias)) {
                true => {
                    into.push(function);
                    Ok(())
                }
                false => Err(Error::EntryOutsideCode { list, address: function }),
            };
            if kind == CallKind::InitOffsets {
                let header = self.layout.header.wrapping_add(bias);
                let offsets = table_of::<Half>(bytes, bytes.len() / 4).iter();
                offsets.map(|offset| header.wrapping_add(offset.get(LE).into())).try_for_each(&mut take)?;
            } else {
                table_of::<Word>(bytes, bytes.len() / 8)
                    .iter()
                    .map(|word| word.get(LE))
                    .try_for_each(&mut take)?;
            }
        }
        Ok(())
    }
}

/// The export trie; empty if nothing is exported, none if the file is so old that its symbol table
/// says that.
fn trie<'data>(bytes: &'data [u8], commands: &Commands<'data>) -> Result<Option<&'data [u8]>, Error> {
    let of_info = |info: &macho::DyldInfoCommand<LE>| {
        range(bytes, info.export_off.get(LE), info.export_size.get(LE), exports::TABLE)
    };
    match commands.exports_trie {
        Some(trie) => Ok(Some(trie)),
        None => commands.dyld_info.map(of_info).transpose(),
    }
}

/// The symbols that stubs jump to.
fn called<'data>(
    bytes: &'data [u8],
    commands: &Commands<'data>,
    symbols: &Option<SymbolTable<'data>>,
    stubs: &[Stubs],
) -> impl Iterator<Item = &'data str> {
    let indirect: &[Half] = commands.dysymtab.map_or(&[], |command| {
        let start = bytes.get(command.indirectsymoff.get(LE) as usize..).unwrap_or_default();
        table_of(start, command.nindirectsyms.get(LE) as usize)
    });
    let of = move |stubs: &Stubs| {
        let rest = indirect.get(stubs.first as usize..).unwrap_or_default();
        &rest[..rest.len().min(usize::try_from(stubs.count).unwrap_or(usize::MAX))]
    };
    // It is only a hint: of a file in which long names are used again and again, not all are read.
    let mut room = bytes.len();
    stubs.iter().flat_map(of).filter_map(move |index| symbols.as_ref()?.name(index.get(LE), &mut room))
}

/// What the module says of itself: notes as in ELF, in a section `__midflight`.
fn declared<'data>(layout: &Layout<'data>) -> Result<Declared<'data>, Error> {
    let mut declared = Declared::default();
    for place in &layout.sections.notes {
        let outside = malformed(
            "table of sections",
            "what the module says of itself is not in the file",
            place.address,
        );
        declared.read(layout.file(place.address, place.size).ok_or(outside)?, 4)?;
    }
    Ok(declared)
}

/// Makes the call frame information, and room for it.
fn frames(layout: &mut Layout<'_>, page_size: u64, max_span: u64) -> Result<Frames, Error> {
    /// What ends the table, and is all of one that describes nothing.
    const TERMINATOR: usize = 4;
    let contents = |place: Extent, table| {
        let bytes = layout.file(place.address, place.size).zip(layout.offset(place.address));
        bytes.ok_or(malformed(table, "it is not in the file", place.address))
    };
    let compact =
        layout.sections.unwind_info.map(|place| contents(place, "compact unwind table (__unwind_info)"));
    let own =
        layout.sections.eh_frame.map(|place| contents(place, "unwind table (__eh_frame)")).transpose()?;
    let entries = match compact.transpose()? {
        Some((section, _)) => {
            let header = layout.offset(layout.header).unwrap_or(0);
            unwind::unwind_info(section, header)?
        }
        None => Vec::new(),
    };
    let place = layout.memory.span;
    let own = own.map(|(section, offset)| unwind::Own { offset, section });
    let bytes = unwind::eh_frame(&entries, own, place, place)?;
    if bytes.len() <= TERMINATOR {
        return Ok(Frames::default());
    }
    layout.memory.append(bytes.len() as u64, page_size, max_span)?;
    Ok(Frames { place, bytes })
}

impl<'data> Source<'data> for Shared<'data> {
    fn soname(&self) -> Option<&'data str> {
        self.commands.id
    }

    fn needed(&self) -> &[&'data str] {
        &self.commands.libraries
    }

    fn optional(&self) -> &[usize] {
        &self.commands.optional
    }

    fn runpath(&self) -> Option<&str> {
        self.commands.runpath.as_deref()
    }

    fn declared(&self) -> &Declared<'data> {
        &self.declared
    }

    fn memory(&self) -> &Memory {
        &self.layout.memory
    }

    fn verbatim(&self) -> &[Verbatim<'data>] {
        &self.layout.verbatim
    }

    fn imports(&self) -> &[Import<'data>] {
        &self.fixups.imports
    }

    fn exports(&self) -> Vec<Export<'_>> {
        self.exports.list(&self.layout, &self.variables)
    }

    fn export(&self, name: &str) -> Option<Export<'_>> {
        self.exports.get(name, &self.layout, &self.variables)
    }

    fn thread_locals(&self) -> Option<ThreadLocals> {
        self.variables.block
    }

    fn unwind(&self) -> Option<Unwind> {
        let Frames { place, bytes } = &self.frames;
        let unwind = Unwind { offset: *place, size: bytes.len() as u64, terminated: true };
        (!bytes.is_empty()).then_some(unwind)
    }

    fn bias(&self, base: u64) -> Option<u64> {
        Some(self.layout.bias(base))
    }

    fn symbols(&self) -> Symbols<'data> {
        self.symbols.as_ref().map(|symbols| symbols.symbols(&self.layout)).unwrap_or_default()
    }

    fn debug(&self, _base: u64) -> DebugInfo<'data> {
        let has = self.symbols.as_ref().is_some_and(SymbolTable::has_debug_map);
        DebugInfo { sections: Vec::new(), omitted: has.then_some(DEBUG_OMITTED) }
    }

    fn link(&self, memory: &mut [u8], Site { base, host, bindings }: Site<'_>) -> Result<(), Error> {
        self.layout.fill(memory);
        self.fixups.apply(&self.layout, base, memory, bindings)?;
        for (descriptor, words) in self.variables.words(host) {
            let outside = malformed("table of thread-local variables", "it is outside the image", descriptor);
            let place = self.layout.offset(descriptor).ok_or(outside)?;
            for (place, word) in (place..).step_by(8).zip(words) {
                put(memory, place, word)?;
            }
        }
        let Frames { place, bytes } = &self.frames;
        let outside = malformed("unwind table", "it is outside the image", *place);
        let to =
            usize::try_from(*place).ok().and_then(|place| memory.get_mut(place..)?.get_mut(..bytes.len()));
        to.ok_or(outside)?.copy_from_slice(bytes);
        Ok(())
    }

    fn init(&self, base: u64, memory: &[u8]) -> Result<Vec<u64>, Error> {
        let mut calls = Vec::new();
        self.calls(CallKind::Init, base, memory, "__mod_init_func", &mut calls)?;
        self.calls(CallKind::InitOffsets, base, memory, "__init_offsets", &mut calls)?;
        Ok(calls)
    }

    fn fini(&self, base: u64, memory: &[u8]) -> Result<Vec<u64>, Error> {
        let mut calls = Vec::new();
        self.calls(CallKind::Term, base, memory, "__mod_term_func", &mut calls)?;
        calls.reverse();
        Ok(calls)
    }
}
