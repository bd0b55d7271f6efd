//! ELF64 little-endian shared objects.

mod dynamic;
mod hash;
mod relocate;
mod segments;
mod strings;
mod symbols;
mod versions;

use crate::{Error, Export, Import, Machine, Protection, Region};
use alloc::vec::Vec;
use dynamic::{Calls, Dynamic};
use object::LittleEndian as LE;
use object::elf;
use object::read::elf::FileHeader;
use relocate::{Relocations, Used};
use segments::Layout;
use symbols::Symbols;

type Header = elf::FileHeader64<LE>;
type Half = object::U32<LE>;
type Word = object::U64<LE>;

fn malformed(table: &'static str, problem: &'static str, at: u64) -> Error {
    Error::Malformed { table, problem, at }
}

/// The first `count` entries of a table, none if there are not that many bytes.
fn table_of<T: object::Pod>(bytes: &[u8], count: usize) -> &[T] {
    object::pod::slice_from_bytes(bytes, count).map_or(&[], |(table, _)| table)
}

/// A module that has been read and checked. It borrows its tables from the bytes of the file.
pub struct Image<'data> {
    machine: Machine,
    layout: Layout<'data>,
    dynamic: Dynamic<'data>,
    symbols: Symbols<'data>,
    used: Vec<Used<'data>>,
}

impl core::fmt::Debug for Image<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Image")
            .field("machine", &self.machine)
            .field("soname", &self.soname())
            .field("span", &self.span())
            .finish_non_exhaustive()
    }
}

impl<'data> Image<'data> {
    /// Reads and checks a shared object. Whatever is not supported is refused here, before anything is mapped.
    ///
    /// `page_size` is that of the system that will run it. The memory of the image, and its alignment, may be
    /// `max_span` bytes at most.
    pub fn parse(bytes: &'data [u8], machine: Machine, page_size: u64, max_span: u64) -> Result<Self, Error> {
        let header = identify(bytes, machine)?;
        let layout = Layout::parse(bytes, header, page_size, max_span)?;
        let dynamic = Dynamic::parse(&layout)?;
        let symbols = Symbols::parse(&layout, &dynamic)?;
        let relocations = Relocations { machine, layout: &layout, dynamic: &dynamic, symbols: &symbols };
        let used = relocations.check()?;
        let image = Image { machine, layout, dynamic, symbols, used };
        for (list, calls) in [("DT_INIT", image.dynamic.init), ("DT_FINI", image.dynamic.fini)] {
            if let Some(address) = calls.single {
                image.check_code(list, address, address)?;
            }
        }
        Ok(image)
    }

    /// The instruction set it was parsed for.
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// The name the module was given when it was linked (`-soname`).
    pub fn soname(&self) -> Option<&'data str> {
        self.dynamic.soname
    }

    /// The libraries it was linked with, in that order.
    pub fn needed(&self) -> &[&'data str] {
        &self.dynamic.needed
    }

    /// Bytes of memory the image takes, a multiple of the page size.
    ///
    /// Offset 0 is the page of the lowest segment, or the multiple of [`align`](Self::align) below it where a
    /// segment is aligned to more than a page.
    pub fn span(&self) -> u64 {
        self.layout.span()
    }

    /// What the image's address must be a multiple of: a power of two, at least the page size.
    pub fn align(&self) -> u64 {
        self.layout.align()
    }

    /// The finished image's protections, in order and not overlapping. What is in none of them stays
    /// inaccessible. Data that is read-only after relocation counts as [`Protection::Read`].
    pub fn regions(&self) -> &[Region] {
        self.layout.regions()
    }

    /// The undefined symbols that relocations name, each once, in the order of the symbol table.
    pub fn imports(&self) -> impl Iterator<Item = Import<'data>> + '_ {
        self.used.iter().map(|used| used.import)
    }

    /// What the module defines for others, in the order of the symbol table.
    ///
    /// A module without a hash table (DT_GNU_HASH or DT_HASH) exports nothing, as for any loader.
    pub fn exports(&self) -> impl Iterator<Item = Export<'data>> + '_ {
        self.symbols.exports(&self.layout, &self.dynamic)
    }

    /// The export of this name, in its default version.
    pub fn export(&self, name: &str) -> Option<Export<'data>> {
        self.symbols.export(&self.layout, &self.dynamic, name)
    }

    /// Writes the segments and every fix-up into `memory`, which is to execute at the address `base`.
    ///
    /// `memory` has [`span`](Self::span) bytes, all zero: what the file does not fill is left as it is. `resolve` is
    /// asked once for each import, in the order of [`imports`](Self::imports), and for all of them even if one is
    /// missing; a weak one that it does not know has the address 0. When this fails, `memory` may be half
    /// written, and must not be executed.
    pub fn link(
        &self,
        base: u64,
        memory: &mut [u8],
        resolve: &mut dyn FnMut(&Import<'data>) -> Option<u64>,
    ) -> Result<(), Error> {
        self.check_memory(base, memory)?;
        self.layout.fill(memory);
        self.relocations().apply(base, memory, &self.used, resolve)
    }

    /// The addresses to call when the module has been loaded, in that order: DT_INIT, then DT_INIT_ARRAY, as read
    /// from the linked `memory`. Each is in an executable segment of the image.
    pub fn init(&self, base: u64, memory: &[u8]) -> Result<Vec<u64>, Error> {
        self.check_memory(base, memory)?;
        let mut calls = Vec::new();
        calls.extend(self.single(base, self.dynamic.init));
        self.array(base, memory, self.dynamic.init, "DT_INIT_ARRAY", &mut calls)?;
        Ok(calls)
    }

    /// The addresses to call before the module is unloaded, in that order: DT_FINI_ARRAY backwards, then DT_FINI.
    pub fn fini(&self, base: u64, memory: &[u8]) -> Result<Vec<u64>, Error> {
        self.check_memory(base, memory)?;
        let mut calls = Vec::new();
        self.array(base, memory, self.dynamic.fini, "DT_FINI_ARRAY", &mut calls)?;
        calls.reverse();
        calls.extend(self.single(base, self.dynamic.fini));
        Ok(calls)
    }

    fn relocations(&self) -> Relocations<'_, 'data> {
        Relocations {
            machine: self.machine,
            layout: &self.layout,
            dynamic: &self.dynamic,
            symbols: &self.symbols,
        }
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

    /// `address` is the file's own numbering, `shown` what a message is to show.
    fn check_code(&self, list: &'static str, address: u64, shown: u64) -> Result<(), Error> {
        let code = self.layout.is(Protection::ReadExecute, address, 1);
        if code && address.is_multiple_of(self.machine.code_align()) {
            return Ok(());
        }
        Err(Error::EntryOutsideCode { list, address: shown })
    }

    fn single(&self, base: u64, calls: Calls) -> Option<u64> {
        calls.single.map(|address| self.layout.bias(base).wrapping_add(address))
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
        let start = self.layout.offset(address).and_then(|offset| usize::try_from(offset).ok());
        let words = start.and_then(|start| memory.get(start..)).ok_or(outside.clone())?;
        let count = usize::try_from(count).map_err(|_| outside.clone())?;
        let words = words.get(..count.saturating_mul(8)).ok_or(outside)?;
        for word in table_of::<Word>(words, count) {
            let entry = word.get(LE);
            self.check_code(list, entry.wrapping_sub(self.layout.bias(base)), entry)?;
            into.push(entry);
        }
        Ok(())
    }
}

/// Checks that this is a shared object that we can link: ELF gABI, chapter 4, "ELF Identification".
fn identify(bytes: &[u8], machine: Machine) -> Result<&Header, Error> {
    if !bytes.starts_with(&elf::ELFMAG) {
        return Err(Error::NotElf { looks_like: looks_like(bytes) });
    }
    let [header, ..] = table_of::<Header>(bytes, 1) else {
        return Err(malformed("ELF header", "it is cut off", bytes.len() as u64));
    };
    let ident = &header.e_ident;
    match ident.class {
        elf::ELFCLASS64 => {}
        elf::ELFCLASS32 => return Err(Error::WrongClass { found: "32-bit" }),
        other => return Err(malformed("ELF header", "an unknown class", other.into())),
    }
    match ident.data {
        elf::ELFDATA2LSB => {}
        elf::ELFDATA2MSB => return Err(Error::WrongClass { found: "big-endian" }),
        other => return Err(malformed("ELF header", "an unknown byte order", other.into())),
    }
    if ident.version != elf::EV_CURRENT || header.e_version(LE) != elf::EV_CURRENT.into() {
        return Err(malformed("ELF header", "an unknown version", ident.version.into()));
    }
    match ident.os_abi {
        elf::ELFOSABI_SYSV | elf::ELFOSABI_GNU => {}
        elf::ELFOSABI_FREEBSD => return Err(Error::WrongClass { found: "for FreeBSD" }),
        _ => return Err(Error::WrongClass { found: "for another operating system" }),
    }
    if header.e_machine(LE) != machine.elf() {
        return Err(Error::WrongMachine { found: header.e_machine(LE), expected: machine });
    }
    match header.e_type(LE) {
        elf::ET_DYN => Ok(header),
        e_type => Err(Error::NotSharedObject { e_type }),
    }
}

fn looks_like(bytes: &[u8]) -> &'static str {
    match bytes {
        [] => "an empty file",
        [0x7F, b'E', b'L' | b'F', ..] | [0x7F] | [0x7F, b'E'] => "the first bytes of one",
        [0xCF | 0xCE, 0xFA, 0xED, 0xFE, ..] => "a Mach-O file",
        [0xCA, 0xFE, 0xBA, 0xBE, ..] => "a universal Mach-O file",
        [b'!', b'<', b'a', b'r', b'c', b'h', b'>', ..] => "a static library",
        [b'B', b'C', 0xC0, 0xDE, ..] => "LLVM bitcode",
        [b'M', b'Z', ..] => "a Windows file",
        [b'#', b'!', ..] => "a script",
        [b'/', b'*', ..] => "a linker script",
        _ if bytes.starts_with(b"INPUT") || bytes.starts_with(b"GROUP") => "a linker script",
        _ if bytes.iter().take(64).all(|byte| *byte == 0) => "zeros",
        _ => "something else",
    }
}
