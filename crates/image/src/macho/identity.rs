//! Which file it is: thin or universal, of which machine, of which kind. Apple's <mach-o/loader.h>,
//! <mach-o/fat.h> and <mach/machine.h>.

use crate::macho::format::{Header, LE, malformed, table_of};
use crate::{Error, Input, Machine};
use object::macho;

const FAT: &str = "universal header";

/// Whether the file is for this reader: it begins as a Mach-O file does, thin or universal, of any
/// machine.
pub(super) fn is_macho(bytes: &[u8]) -> bool {
    let Some(first) = bytes.first_chunk::<4>() else { return false };
    matches!(
        u32::from_le_bytes(*first),
        macho::MH_MAGIC_64
            | macho::MH_CIGAM_64
            | macho::MH_MAGIC
            | macho::MH_CIGAM
            | macho::FAT_CIGAM
            | macho::FAT_CIGAM_64
    )
}

fn unsupported(found: &'static str, advice: &'static str) -> Error {
    Error::UnsupportedFile { found, advice }
}

const BUILD_ARM64: &str = "build it with -arch arm64";

/// What kind of file it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FileType {
    /// `MH_DYLIB` or `MH_BUNDLE`.
    Shared,
    /// `MH_OBJECT`.
    Object,
}

/// Of a universal file the part for arm64; any other as it is.
pub(super) fn thin(bytes: &[u8]) -> Result<&[u8], Error> {
    match bytes.first_chunk::<4>().map(|magic| u32::from_be_bytes(*magic)) {
        Some(macho::FAT_MAGIC | macho::FAT_MAGIC_64) => slice(bytes),
        _ => Ok(bytes),
    }
}

/// Mach-O is for arm64 only here, whatever else the file may be for.
pub(super) fn wrong_machine(inputs: &[Input<'_>], machine: Machine) -> Error {
    let first = inputs.first().map_or(Ok(&[][..]), |input| thin(input.bytes));
    match first.and_then(|bytes| identify(bytes, machine)) {
        Err(error @ Error::WrongMachine { .. }) => error,
        _ => unsupported(
            "a Mach-O file, and Mach-O modules are for processes on arm64",
            "build it as ELF, with x86_64-linux-gnu-gcc or clang --target=x86_64-linux-gnu",
        ),
    }
}

/// Checks that this is a file that we can link. It is not a universal one.
pub(super) fn identify(bytes: &[u8], machine: Machine) -> Result<(&Header, FileType), Error> {
    match bytes.first_chunk::<4>().map(|magic| u32::from_le_bytes(*magic)) {
        Some(macho::MH_MAGIC_64) => {}
        Some(macho::MH_MAGIC) => return Err(unsupported("a 32-bit Mach-O file", BUILD_ARM64)),
        Some(macho::MH_CIGAM | macho::MH_CIGAM_64) => {
            return Err(unsupported("a big-endian Mach-O file", BUILD_ARM64));
        }
        _ => return Err(unsupported("no Mach-O file", "give Mach-O files for arm64 only, where one is")),
    }
    let [header, ..] = table_of::<Header>(bytes, 1) else {
        return Err(malformed("Mach-O header", "it is cut off", bytes.len() as u64));
    };
    check_cpu(header.cputype.get(LE), header.cpusubtype.get(LE))?;
    if machine != Machine::Aarch64 {
        return Err(Error::WrongMachine { found: object::elf::EM_AARCH64, expected: machine });
    }
    match header.filetype.get(LE) {
        macho::MH_DYLIB | macho::MH_BUNDLE => Ok((header, FileType::Shared)),
        macho::MH_OBJECT => Ok((header, FileType::Object)),
        macho::MH_EXECUTE => {
            Err(unsupported("a Mach-O program, not a module", "link it with -dynamiclib or -bundle"))
        }
        macho::MH_DYLIB_STUB => {
            Err(unsupported("a stub of a library, without its code", "give the library itself"))
        }
        macho::MH_DSYM => {
            Err(unsupported("a file of debug information (.dSYM)", "give the module that it is for"))
        }
        macho::MH_KEXT_BUNDLE | macho::MH_FILESET => {
            Err(unsupported("a part of a kernel", "link the module with -dynamiclib or -bundle"))
        }
        _ => Err(unsupported("another kind of Mach-O file", "link the module with -dynamiclib or -bundle")),
    }
}

fn check_cpu(cputype: u32, cpusubtype: u32) -> Result<(), Error> {
    match (cputype, cpusubtype & !macho::CPU_SUBTYPE_MASK) {
        (macho::CPU_TYPE_ARM64, macho::CPU_SUBTYPE_ARM64E) => Err(unsupported(
            "a Mach-O file for arm64e",
            "its pointers are signed (pointer authentication), which other processes cannot do: build it with -arch arm64",
        )),
        (macho::CPU_TYPE_ARM64, _) => Ok(()),
        (macho::CPU_TYPE_X86_64, _) => Err(unsupported("a Mach-O file for x86-64", BUILD_ARM64)),
        (macho::CPU_TYPE_ARM64_32, _) => Err(unsupported("a Mach-O file for arm64_32", BUILD_ARM64)),
        _ => Err(unsupported("a Mach-O file for another machine", BUILD_ARM64)),
    }
}

/// Of a universal file, the part for arm64.
fn slice(bytes: &[u8]) -> Result<&[u8], Error> {
    let cut_off = malformed(FAT, "it is cut off", bytes.len() as u64);
    let [header, ..] = table_of::<macho::FatHeader>(bytes, 1) else { return Err(cut_off) };
    let count = header.nfat_arch.get(object::BigEndian) as usize;
    let wide = header.magic.get(object::BigEndian) == macho::FAT_MAGIC_64;
    // The compiled classes of Java begin with the same number, and then have a version, of 45 at
    // least.
    const MOST: usize = 44;
    if count > MOST {
        return Err(Error::NotElf { looks_like: "a compiled class of Java" });
    }
    let rest = &bytes[size_of::<macho::FatHeader>()..];
    let be = object::BigEndian;
    // (cputype, cpusubtype, offset, size)
    let parts: alloc::vec::Vec<(u32, u32, u64, u64)> = if wide {
        let parts = table_of::<macho::FatArch64>(rest, count).iter();
        parts
            .map(|part| {
                (part.cputype.get(be), part.cpusubtype.get(be), part.offset.get(be), part.size.get(be))
            })
            .collect()
    } else {
        let parts = table_of::<macho::FatArch32>(rest, count).iter();
        parts
            .map(|part| {
                let (offset, size) = (part.offset.get(be).into(), part.size.get(be).into());
                (part.cputype.get(be), part.cpusubtype.get(be), offset, size)
            })
            .collect()
    };
    if parts.len() != count {
        return Err(cut_off);
    }
    let mut why_not = None;
    for (cputype, cpusubtype, offset, size) in parts {
        match check_cpu(cputype, cpusubtype) {
            Ok(()) => {
                let part = usize::try_from(offset).ok().and_then(|start| bytes.get(start..));
                let part = part.and_then(|part| part.get(..usize::try_from(size).ok()?));
                return part.ok_or(malformed(FAT, "a part goes past the end of the file", offset));
            }
            // Of several reasons that of the part which comes nearest.
            Err(error) if cputype == macho::CPU_TYPE_ARM64 || why_not.is_none() => why_not = Some(error),
            Err(_) => {}
        }
    }
    Err(why_not.unwrap_or(unsupported("a universal file without any part", BUILD_ARM64)))
}
