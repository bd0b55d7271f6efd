//! Which ELF file it is.

use super::format::{Header, malformed, table_of};
use crate::{Error, Machine};
use ::object::LittleEndian as LE;
use ::object::elf;
use ::object::read::elf::FileHeader;

/// What kind of ELF file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FileType {
    /// ET_DYN.
    Shared,
    /// ET_REL.
    Object,
}

/// Checks that this is a file that we can link: ELF gABI, chapter 4, "ELF Identification".
pub(crate) fn identify(bytes: &[u8], machine: Machine) -> Result<(&Header, FileType), Error> {
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
        elf::ET_DYN => Ok((header, FileType::Shared)),
        elf::ET_REL => Ok((header, FileType::Object)),
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
