//! A file of names and debug information for a module in memory, as gdb's JIT interface takes it.
//!
//! gdb takes every address in it for an absolute one ("JIT Compilation Interface" in its manual,
//! gdb/jit.c): sections that stand for the image's pages are at their run-time addresses and have
//! no contents, but for `.eh_frame`, which it reads from here.

use alloc::vec::Vec;

use object::LittleEndian as LE;
use object::elf::{self, FileHeader64, Ident, SectionHeader64, Sym64};
use object::pod::bytes_of;
use object::{U16, U32, U64};

use super::{DebugInfo, Symbols};
use crate::{Machine, Protection, Region};

/// What the file says.
pub(crate) struct SymbolContents<'a> {
    pub(crate) machine: Machine,
    pub(crate) base: u64,
    pub(crate) regions: &'a [Region],
    /// The call frame information: offset in the image, and contents as linked.
    pub(crate) frames: Option<(u64, &'a [u8])>,
    pub(crate) symbols: &'a Symbols<'a>,
    pub(crate) debug: &'a DebugInfo<'a>,
}

const HEADER: usize = size_of::<FileHeader64<LE>>();

impl SymbolContents<'_> {
    pub(crate) fn write(&self, buffer: Vec<u8>) -> Vec<u8> {
        let mut file = Writer::new(buffer, self.size());
        let mut homes = Vec::with_capacity(self.regions.len());
        for region in self.regions {
            let (name, flags) = match region.protection {
                Protection::ReadExecute => (".text", elf::SHF_ALLOC | elf::SHF_EXECINSTR),
                Protection::ReadWrite => (".data", elf::SHF_ALLOC | elf::SHF_WRITE),
                Protection::Read => continue,
            };
            let section =
                Section { address: self.base + region.offset, flags, ..Section::of(elf::SHT_NOBITS) };
            homes.push((*region, file.pages(name, &section, region.len)));
        }
        if let Some((offset, contents)) = self.frames {
            let section = Section {
                address: self.base + offset,
                flags: elf::SHF_ALLOC,
                ..Section::of(elf::SHT_PROGBITS)
            };
            file.section(".eh_frame", &section, contents);
        }
        for (name, contents) in &self.debug.sections {
            file.section(name, &Section::of(elf::SHT_PROGBITS), contents);
        }
        let names = file.section(".strtab", &Section::of(elf::SHT_STRTAB), &self.symbols.names);
        // Whatever the last name lacks, and the name of those that have none.
        file.extend(&[0]);
        self.write_symbols(&mut file, names, &homes);
        file.finish(self.machine)
    }

    fn size(&self) -> usize {
        let frames = self.frames.map_or(0, |(_, contents)| contents.len());
        let debug: usize = self.debug.sections.iter().map(|(_, contents)| contents.len()).sum();
        let symbols = (self.symbols.symbols.len() + 1) * size_of::<Sym64<LE>>();
        // Headers, section names and padding.
        4096 + frames + debug + self.symbols.names.len() + symbols
    }

    fn write_symbols(&self, file: &mut Writer, names: u16, homes: &[(Region, u16)]) {
        // The one that is there by definition is the only local one.
        let section = Section {
            link: names.into(),
            info: 1,
            entry: size_of::<Sym64<LE>>() as u64,
            ..Section::of(elf::SHT_SYMTAB)
        };
        file.section(".symtab", &section, &[0; size_of::<Sym64<LE>>()]);
        let no_name = self.symbols.names.len() as u32;
        for symbol in &self.symbols.symbols {
            let inside =
                |(region, _): &&(Region, u16)| symbol.offset.wrapping_sub(region.offset) < region.len;
            let home = homes.iter().find(inside).map_or(elf::SHN_ABS, |(_, section)| *section);
            let kind = if symbol.function { elf::STT_FUNC } else { elf::STT_OBJECT };
            let entry = Sym64 {
                st_name: U32::new(LE, symbol.name.min(no_name)),
                st_info: elf::STB_GLOBAL << 4 | kind,
                st_other: elf::STV_DEFAULT,
                st_shndx: U16::new(LE, home),
                st_value: U64::new(LE, self.base + symbol.offset),
                st_size: U64::new(LE, symbol.size),
            };
            file.extend(bytes_of(&entry));
        }
    }
}

/// A section's header, as far as it differs from section to section.
struct Section {
    kind: u32,
    flags: u32,
    address: u64,
    link: u32,
    info: u32,
    entry: u64,
}

impl Section {
    fn of(kind: u32) -> Self {
        Self { kind, flags: 0, address: 0, link: 0, info: 0, entry: 0 }
    }
}

struct Writer {
    bytes: Vec<u8>,
    headers: Vec<SectionHeader64<LE>>,
    names: Vec<u8>,
}

impl Writer {
    fn new(mut bytes: Vec<u8>, size: usize) -> Self {
        bytes.clear();
        bytes.reserve(size);
        bytes.resize(HEADER, 0);
        let mut writer = Self { bytes, headers: Vec::new(), names: Vec::new() };
        // The first section is none.
        writer.push("", &Section::of(elf::SHT_NULL), 0);
        writer.headers[0].sh_offset = U64::new(LE, 0);
        writer
    }

    /// A section that stands for pages. Returns its index.
    fn pages(&mut self, name: &str, section: &Section, size: u64) -> u16 {
        self.push(name, section, size)
    }

    /// A section with contents.
    fn section(&mut self, name: &str, section: &Section, contents: &[u8]) -> u16 {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let index = self.push(name, section, 0);
        self.extend(contents);
        index
    }

    /// More contents of the last section.
    fn extend(&mut self, contents: &[u8]) {
        self.bytes.extend_from_slice(contents);
        if let Some(header) = self.headers.last_mut() {
            header.sh_size = U64::new(LE, header.sh_size.get(LE) + contents.len() as u64);
        }
    }

    fn push(&mut self, name: &str, section: &Section, size: u64) -> u16 {
        self.headers.push(SectionHeader64 {
            sh_name: U32::new(LE, self.names.len() as u32),
            sh_type: U32::new(LE, section.kind),
            sh_flags: U64::new(LE, section.flags.into()),
            sh_addr: U64::new(LE, section.address),
            sh_offset: U64::new(LE, self.bytes.len() as u64),
            sh_size: U64::new(LE, size),
            sh_link: U32::new(LE, section.link),
            sh_info: U32::new(LE, section.info),
            sh_addralign: U64::new(LE, 1),
            sh_entsize: U64::new(LE, section.entry),
        });
        self.names.extend_from_slice(name.as_bytes());
        self.names.push(0);
        (self.headers.len() - 1) as u16
    }

    fn finish(mut self, machine: Machine) -> Vec<u8> {
        let name = ".shstrtab";
        self.names.extend_from_slice(name.as_bytes());
        self.names.push(0);
        let names = core::mem::take(&mut self.names);
        let index = self.section("", &Section::of(elf::SHT_STRTAB), &names);
        self.headers[usize::from(index)].sh_name = U32::new(LE, (names.len() - name.len() - 1) as u32);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let header = FileHeader64 {
            e_ident: Ident {
                magic: elf::ELFMAG,
                class: elf::ELFCLASS64,
                data: elf::ELFDATA2LSB,
                version: elf::EV_CURRENT,
                os_abi: elf::ELFOSABI_SYSV,
                abi_version: 0,
                padding: [0; 7],
            },
            e_type: U16::new(LE, elf::ET_DYN),
            e_machine: U16::new(LE, machine.elf()),
            e_version: U32::new(LE, elf::EV_CURRENT.into()),
            e_entry: U64::new(LE, 0),
            e_phoff: U64::new(LE, 0),
            e_shoff: U64::new(LE, self.bytes.len() as u64),
            e_flags: U32::new(LE, 0),
            e_ehsize: U16::new(LE, HEADER as u16),
            e_phentsize: U16::new(LE, 0),
            e_phnum: U16::new(LE, 0),
            e_shentsize: U16::new(LE, size_of::<SectionHeader64<LE>>() as u16),
            e_shnum: U16::new(LE, self.headers.len() as u16),
            e_shstrndx: U16::new(LE, index),
        };
        self.bytes[..HEADER].copy_from_slice(bytes_of(&header));
        for header in &self.headers {
            self.bytes.extend_from_slice(bytes_of(header));
        }
        self.bytes
    }
}
