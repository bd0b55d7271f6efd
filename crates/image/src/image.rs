//! The image: what every kind of file becomes.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::debug::{DebugInfo, SymbolContents, SymbolFile, Symbols};
use crate::elf::shared::ExportTables;
use crate::error::label;
use crate::parts::content;
use crate::source::{Format, Site, Source};
use crate::{
    Binding, DeclaredState, Error, Export, Host, Import, ImportKind, Indirect, Machine, Region, ThreadLocals,
    Unwind, Verbatim, Window,
};

/// A module that has been read and checked. It borrows its tables from the bytes of its files.
pub struct Image<'data> {
    machine: Machine,
    format: Format,
    source: Box<dyn Source<'data> + Send + Sync + 'data>,
}

impl core::fmt::Debug for Image<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Image")
            .field("machine", &self.machine)
            .field("format", &self.format)
            .field("soname", &self.soname())
            .field("span", &self.span())
            .finish_non_exhaustive()
    }
}

impl<'data> Image<'data> {
    pub(crate) fn new(
        machine: Machine,
        format: Format,
        source: Box<dyn Source<'data> + Send + Sync + 'data>,
    ) -> Self {
        Self { machine, format, source }
    }

    /// The instruction set it was parsed for.
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// The format of its files.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The name the module was given when it was linked (`-soname`; of Mach-O `-install_name`,
    /// without `@rpath/`).
    pub fn soname(&self) -> Option<&'data str> {
        self.source.soname()
    }

    /// The libraries it was linked with, in that order (of Mach-O the install names, without
    /// `@rpath/`).
    pub fn needed(&self) -> &[&'data str] {
        self.source.needed()
    }

    /// Whether the library of this index of [`needed`](Self::needed) may be missing, and all that
    /// is imported from it with it (Mach-O's LC_LOAD_WEAK_DYLIB).
    pub fn is_optional(&self, index: usize) -> bool {
        self.source.optional().binary_search(&(index + 1)).is_ok()
    }

    /// Where it wants those libraries looked for first (DT_RUNPATH, else DT_RPATH; of Mach-O every
    /// LC_RPATH): folders separated by colons, in which `$ORIGIN` is the module's own.
    pub fn runpath(&self) -> Option<&str> {
        self.source.runpath()
    }

    /// Whether it is where the needs of those libraries are looked for as well (DT_RPATH).
    pub fn is_runpath_inherited(&self) -> bool {
        self.source.is_runpath_inherited()
    }

    /// The name that the module gives itself in a note (`include/runtime_module.h`); never empty.
    pub fn declared_name(&self) -> Option<&'data str> {
        self.source.declared().name
    }

    /// The version that the module says it is, in the same way. Any text.
    pub fn declared_version(&self) -> Option<&'data str> {
        self.source.declared().version
    }

    /// The number that the linker gave the file for what is in it, debug information included
    /// (`--build-id`). Two files of one number are copies, unless one was changed by another
    /// tool.
    pub fn build_id(&self) -> Option<&'data [u8]> {
        self.source.declared().build_id
    }

    /// The modules that it says it needs, in the same way: names, none empty, some perhaps twice.
    pub fn needs(&self) -> impl Iterator<Item = &'data str> {
        self.source.declared().needs.iter().copied()
    }

    /// Which versions will do of modules that it needs, in the same way: (module, range), neither
    /// empty.
    pub fn ranges(&self) -> impl Iterator<Item = (&'data str, &'data str)> {
        self.source.declared().ranges.iter().copied()
    }

    /// Resources that it says are its alone, in the same way: names, none empty.
    pub fn exclusive(&self) -> impl Iterator<Item = &'data str> {
        self.source.declared().exclusive.iter().copied()
    }

    /// The variables that it says are to outlive its versions, in the same way, each once.
    pub fn states(&self) -> &[DeclaredState<'data>] {
        &self.source.declared().states
    }

    /// Whether a processor can run it, as far as the module says: glibc refuses what asks for more,
    /// too.
    ///
    /// `levels` are those of x86-64 that the processor has, the first in the lowest bit: the
    /// baseline, v2, v3, v4. Of AArch64 nothing of the kind is said.
    pub fn check_processor(&self, levels: u32) -> Result<(), Error> {
        match self.source.properties().x86_levels & !levels {
            0 => Ok(()),
            missing => Err(Error::ProcessorLevel { missing }),
        }
    }

    /// Whether all code of it has landing pads for indirect branches, so that its pages may be
    /// guarded (PROT_BTI).
    pub fn is_guarded(&self) -> bool {
        const BTI: u32 = 1;
        self.machine == Machine::Aarch64 && self.source.properties().aarch64_features & BTI != 0
    }

    /// Bytes of memory the image takes, a multiple of the page size.
    ///
    /// Offset 0 is the page of the lowest segment, or the multiple of [`align`](Self::align) below
    /// it where a segment is aligned to more than a page.
    pub fn span(&self) -> u64 {
        self.source.memory().span
    }

    /// What the image's address must be a multiple of: a power of two, at least the page size.
    pub fn align(&self) -> u64 {
        self.source.memory().align
    }

    /// The finished image's protections, in order and not overlapping. What is in none of them
    /// stays inaccessible. Data that is read-only after relocation counts as
    /// [`Protection::Read`](crate::Protection::Read).
    pub fn regions(&self) -> &[Region] {
        &self.source.memory().regions
    }

    /// The long parts that linking leaves as they are in the file, in order: for
    /// [`link_rest`](Self::link_rest).
    pub fn verbatim(&self) -> &[Verbatim<'data>] {
        self.source.verbatim()
    }

    /// The undefined symbols that relocations name, each once, in the order of the symbol table; of
    /// Mach-O each once for each way in which it is looked for.
    pub fn imports(&self) -> &[Import<'data>] {
        self.source.imports()
    }

    /// What the module defines for others, in the order of the symbol table.
    ///
    /// A shared object without a hash table (DT_GNU_HASH or DT_HASH) exports nothing, as for any
    /// loader. Of Mach-O names are without their first underscore, and numbers that are no
    /// addresses (absolute symbols) are left out.
    pub fn exports(&self) -> Vec<Export<'_>> {
        self.source.exports()
    }

    /// The export of this name, in its default version; or in another: `name@version`, as tools
    /// write it, is that version of an ELF symbol, or one that has none.
    pub fn export(&self, name: &str) -> Option<Export<'_>> {
        self.source.export(name)
    }

    /// What it exports in a version, default or not, each with that. The others serve for all.
    pub fn versions(&self) -> Vec<(Export<'_>, &str)> {
        self.source.versions()
    }

    /// Whether its exports may have other versions than the default, for [`export`](Self::export).
    pub fn defines_versions(&self) -> bool {
        self.source.defines_versions()
    }

    /// How to find exports in the linked image, without its files. None if the image has not what
    /// that needs: then [`exports`](Self::exports) lists them.
    pub fn export_tables(&self) -> Option<ExportTables> {
        self.source.export_tables()
    }

    /// Its thread-local variables.
    pub fn thread_locals(&self) -> Option<ThreadLocals> {
        self.source.thread_locals()
    }

    /// Its call frame information.
    pub fn unwind(&self) -> Option<Unwind> {
        self.source.unwind()
    }

    /// The places that [`link`](Self::link) leaves to code of the image. They are in regions that
    /// are [`ReadWrite`](crate::Protection::ReadWrite) or, being read-only after relocation,
    /// [`Read`](crate::Protection::Read).
    pub fn indirect(&self) -> &[Indirect] {
        self.source.indirect()
    }

    /// Whether code of the image chooses an address, be it one of [`indirect`](Self::indirect) or
    /// that of an export ([`ExportKind::Indirect`](crate::ExportKind::Indirect)).
    pub fn chooses(&self) -> bool {
        self.source.chooses()
    }

    /// What must be added to the addresses in its file when it is at `base`; None if no file has
    /// them.
    pub fn bias(&self, base: u64) -> Option<u64> {
        self.source.bias(base)
    }

    /// The names of its functions and variables: all that the file has, exported or not.
    pub fn symbols(&self) -> Symbols<'data> {
        self.source.symbols()
    }

    /// Its debug information, made true for the address `base`. Takes time in proportion to
    /// the debug information. What is wrong with that information is said, and harms nothing else.
    pub fn debug(&self, base: u64) -> DebugInfo<'data> {
        self.source.debug(base)
    }

    /// A file of all that for a debugger that knows nothing of the image: in ELF, for the image at
    /// `base`, of which `memory` is as linked. Written over what is in `buffer`.
    pub fn symbol_file(&self, base: u64, memory: &[u8], buffer: Vec<u8>) -> SymbolFile {
        let (symbols, debug) = (self.symbols(), self.debug(base));
        let frames = self.unwind().and_then(|unwind| {
            let rest = memory.get(usize::try_from(unwind.offset).ok()?..)?;
            Some((unwind.offset, rest.get(..usize::try_from(unwind.size).ok()?)?))
        });
        let contents = SymbolContents {
            machine: self.machine,
            base,
            regions: self.regions(),
            frames,
            symbols: &symbols,
            debug: &debug,
        };
        SymbolFile { bytes: contents.write(buffer), omitted: debug.omitted }
    }

    /// Where the image must be, given what its imports stand for: code that was not compiled as
    /// position-independent reaches so far and no further.
    pub fn window(&self, bindings: &[Option<Binding>]) -> Result<Window, Error> {
        self.source.window(bindings)
    }

    /// Writes the segments and every fix-up into `memory`, which is to execute at the address
    /// `base`.
    ///
    /// `memory` has [`span`](Self::span) bytes, all zero: what the file does not fill is left as it
    /// is. `bindings` says what the [`imports`](Self::imports) stand for, in their order; a
    /// weak one that is missing has the address 0. When this fails, `memory` may be half
    /// written, and must not be executed.
    pub fn link(
        &self,
        base: u64,
        memory: &mut [u8],
        host: &Host,
        bindings: &[Option<Binding>],
    ) -> Result<(), Error> {
        self.check_memory(base, memory)?;
        for part in self.verbatim() {
            // In the image, as the length of the memory is.
            memory[part.offset as usize..][..part.bytes.len()].copy_from_slice(part.bytes);
        }
        self.link_rest(base, memory, host, bindings)
    }

    /// As [`link`](Self::link), but for the [`verbatim`](Self::verbatim) parts: `memory` is left
    /// there as it is, whatever that be. For who writes those to where they belong from the
    /// file, and saves a copy of most of a module.
    pub fn link_rest(
        &self,
        base: u64,
        memory: &mut [u8],
        host: &Host,
        bindings: &[Option<Binding>],
    ) -> Result<(), Error> {
        self.check_memory(base, memory)?;
        if self.thread_locals().is_some() && !(1..=u32::MAX.into()).contains(&host.tls_module) {
            return Err(Error::WrongThreadModule { given: host.tls_module });
        }
        self.check_bindings(bindings)?;
        self.source.link(memory, Site { base, host, bindings })
    }

    /// What the linked image has from an offset on: of a verbatim part what the file has, and
    /// otherwise what is in `memory`, as [`link_rest`](Self::link_rest) left it. No more than
    /// `len` bytes; fewer where a verbatim part ends, which zeros follow.
    pub fn content<'m>(&self, memory: &'m [u8], offset: u64, len: u64) -> &'m [u8]
    where
        'data: 'm,
    {
        content(self.verbatim(), memory, offset, len)
    }

    /// The addresses to call when the module has been loaded, in that order: DT_INIT, then
    /// DT_INIT_ARRAY (of Mach-O what is in `__mod_init_func` and `__init_offsets`), as read
    /// from the linked `memory`. Each is in an executable segment of the image.
    pub fn init(&self, base: u64, memory: &[u8]) -> Result<Vec<u64>, Error> {
        self.check_memory(base, memory)?;
        self.source.init(base, memory)
    }

    /// The addresses to call before the module is unloaded, in that order: DT_FINI_ARRAY backwards,
    /// then DT_FINI (of Mach-O what is in `__mod_term_func`, backwards).
    pub fn fini(&self, base: u64, memory: &[u8]) -> Result<Vec<u64>, Error> {
        self.check_memory(base, memory)?;
        self.source.fini(base, memory)
    }

    fn check_memory(&self, base: u64, memory: &[u8]) -> Result<(), Error> {
        let (span, align) = (self.span(), self.align());
        if memory.len() as u64 != span {
            return Err(Error::WrongMemory { expected: span, given: memory.len() as u64 });
        }
        if !base.is_multiple_of(align) || base.checked_add(span).is_none() {
            return Err(Error::WrongBase { base, align });
        }
        Ok(())
    }

    /// Or the list of all that are missing, or the first that is of the wrong kind.
    fn check_bindings(&self, bindings: &[Option<Binding>]) -> Result<(), Error> {
        let imports = self.imports();
        if imports.len() != bindings.len() {
            return Err(Error::WrongBindings { expected: imports.len(), given: bindings.len() });
        }
        // Symbols may share one long name; a list of their copies must not outgrow what a person
        // reads.
        const LIMIT: usize = 1 << 20;
        let (mut names, mut length, mut omitted) = (Vec::new(), 0, 0);
        for (import, binding) in imports.iter().zip(bindings) {
            if let Some(binding) = binding
                && matches!(binding, Binding::ThreadLocal(_)) != (import.kind == ImportKind::ThreadLocal)
            {
                let problem = match binding {
                    Binding::Address(_) => {
                        "is thread-local in the module and not where it is defined: declare it alike in both"
                    }
                    Binding::ThreadLocal(_) => {
                        "is thread-local where it is defined and not in the module: declare it alike in both"
                    }
                };
                return Err(Error::UnusableBinding { symbol: label(import.name), problem });
            }
            if binding.is_none() && !import.weak {
                let name = import.symbol();
                length += name.len() + size_of::<alloc::string::String>();
                if length <= LIMIT {
                    names.push(name.into_owned());
                } else {
                    length = LIMIT;
                    omitted += 1;
                }
            }
        }
        if names.is_empty() && omitted == 0 {
            Ok(())
        } else {
            Err(Error::UnresolvedImport { names, omitted })
        }
    }
}
