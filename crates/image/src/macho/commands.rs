//! The load commands: where the tables are, what is asked for. Apple's <mach-o/loader.h>.

use super::bytes::Cursor;
use crate::Error;
use crate::macho::format::{Header, LE, malformed, table_of};
use alloc::string::String;
use alloc::vec::Vec;
use object::macho;

const TABLE: &str = "table of load commands";

pub(super) type SegmentCommand = macho::SegmentCommand64<LE>;
pub(super) type Section = macho::Section64<LE>;

/// What the load commands say. Tables are in the file, and not looked at yet.
#[derive(Default)]
pub(super) struct Commands<'data> {
    /// In the order of the file, which fix-ups number them by.
    pub(super) segments: Vec<(&'data SegmentCommand, &'data [Section])>,
    /// LC_ID_DYLIB.
    pub(super) id: Option<&'data str>,
    /// In the order of the file, which two-level names number from 1.
    pub(super) libraries: Vec<&'data str>,
    /// The numbers, from 1, of those that may be missing (LC_LOAD_WEAK_DYLIB).
    pub(super) optional: Vec<usize>,
    /// LC_RPATH, as one list for ELF's rules.
    pub(super) runpath: Option<String>,
    pub(super) dyld_info: Option<&'data macho::DyldInfoCommand<LE>>,
    pub(super) chained_fixups: Option<&'data [u8]>,
    pub(super) exports_trie: Option<&'data [u8]>,
    pub(super) symtab: Option<&'data macho::SymtabCommand<LE>>,
    pub(super) dysymtab: Option<&'data macho::DysymtabCommand<LE>>,
}

/// A library's name without `@rpath/`: what has no slash is looked for in the run path.
fn library(name: &str) -> &str {
    name.strip_prefix("@rpath/").unwrap_or(name)
}

impl<'data> Commands<'data> {
    pub(super) fn parse(bytes: &'data [u8], header: &Header) -> Result<Self, Error> {
        let cut_off = malformed(TABLE, "it does not fit in the file", header.sizeofcmds.get(LE).into());
        let all = bytes.get(size_of::<Header>()..).ok_or(cut_off.clone())?;
        let mut rest = all.get(..header.sizeofcmds.get(LE) as usize).ok_or(cut_off.clone())?;
        let mut commands = Self::default();
        for index in 0..header.ncmds.get(LE) {
            let [command, ..] = table_of::<macho::LoadCommand<LE>>(rest, 1) else { return Err(cut_off) };
            let size = command.cmdsize.get(LE) as usize;
            let wrong = malformed(TABLE, "a command has a wrong size", index.into());
            if size < size_of::<macho::LoadCommand<LE>>() || !size.is_multiple_of(4) || size > rest.len() {
                return Err(wrong);
            }
            let (this, behind) = rest.split_at(size);
            rest = behind;
            commands.take(bytes, command.cmd.get(LE), this, index)?;
        }
        Ok(commands)
    }

    fn take(&mut self, file: &'data [u8], cmd: u32, this: &'data [u8], index: u32) -> Result<(), Error> {
        let wrong = malformed(TABLE, "a command has a wrong size", index.into());
        let twice = malformed(TABLE, "a command that may be there once is there twice", index.into());
        // A name in a command stands behind its fields.
        let text =
            |offset: macho::LcStr<LE>, table| Cursor::at(table, this, offset.offset.get(LE).into())?.text();
        let unsupported = |tag, advice| Err(Error::UnsupportedDynamic { tag, advice });
        match cmd {
            macho::LC_SEGMENT_64 => {
                let segment: &SegmentCommand = one(this).ok_or(wrong.clone())?;
                let sections = &this[size_of::<SegmentCommand>()..];
                let count = segment.nsects.get(LE) as usize;
                let table = table_of::<Section>(sections, count);
                if table.len() != count {
                    return Err(wrong);
                }
                self.segments.push((segment, table));
            }
            macho::LC_ID_DYLIB => {
                let command: &macho::DylibCommand<LE> = one(this).ok_or(wrong)?;
                let name = text(command.dylib.name, "name of the library (LC_ID_DYLIB)")?;
                set(&mut self.id, library(name), twice)?;
            }
            macho::LC_LOAD_DYLIB
            | macho::LC_LOAD_WEAK_DYLIB
            | macho::LC_LOAD_UPWARD_DYLIB
            | macho::LC_LAZY_LOAD_DYLIB => {
                let command: &macho::DylibCommand<LE> = one(this).ok_or(wrong)?;
                let name = library(text(command.dylib.name, "name of a library (LC_LOAD_DYLIB)")?);
                self.libraries.push(name);
                if cmd == macho::LC_LOAD_WEAK_DYLIB {
                    self.optional.push(self.libraries.len());
                }
            }
            macho::LC_REEXPORT_DYLIB => {
                return unsupported(
                    "LC_REEXPORT_DYLIB",
                    "the symbols of another library are exported as the module's own: link that one with -l, and let others link it",
                );
            }
            macho::LC_RPATH => {
                let command: &macho::RpathCommand<LE> = one(this).ok_or(wrong)?;
                let folder = text(command.path, "run path (LC_RPATH)")?;
                let runpath = self.runpath.get_or_insert_default();
                if !runpath.is_empty() {
                    runpath.push(':');
                }
                match folder.strip_prefix("@loader_path") {
                    Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                        runpath.push_str("$ORIGIN");
                        runpath.push_str(rest);
                    }
                    _ => runpath.push_str(folder),
                }
            }
            macho::LC_DYLD_INFO | macho::LC_DYLD_INFO_ONLY => {
                set(&mut self.dyld_info, one(this).ok_or(wrong)?, twice)?;
            }
            macho::LC_DYLD_CHAINED_FIXUPS | macho::LC_DYLD_EXPORTS_TRIE => {
                let command: &macho::LinkeditDataCommand<LE> = one(this).ok_or(wrong)?;
                let (table, place) = match cmd {
                    macho::LC_DYLD_CHAINED_FIXUPS => (super::chained::TABLE, &mut self.chained_fixups),
                    _ => (super::exports::TABLE, &mut self.exports_trie),
                };
                let range = range(file, command.dataoff.get(LE), command.datasize.get(LE), table)?;
                set(place, range, twice)?;
            }
            macho::LC_SYMTAB => set(&mut self.symtab, one(this).ok_or(wrong)?, twice)?,
            macho::LC_DYSYMTAB => {
                let command: &macho::DysymtabCommand<LE> = one(this).ok_or(wrong)?;
                if command.nextrel.get(LE) != 0 || command.nlocrel.get(LE) != 0 {
                    return unsupported("LC_DYSYMTAB with relocations", "link for macOS 11 or later");
                }
                set(&mut self.dysymtab, command, twice)?;
            }
            macho::LC_ENCRYPTION_INFO | macho::LC_ENCRYPTION_INFO_64 => {
                // The 64-bit command has only padding more.
                let command: &macho::EncryptionInfoCommand32<LE> = one(this).ok_or(wrong)?;
                if command.cryptid.get(LE) != 0 {
                    return unsupported(
                        "LC_ENCRYPTION_INFO_64",
                        "the code is encrypted: build the module from its sources",
                    );
                }
            }
            macho::LC_ROUTINES | macho::LC_ROUTINES_64 => {
                return unsupported(
                    "LC_ROUTINES_64",
                    "link without -init, and make the function a constructor",
                );
            }
            macho::LC_SEGMENT => {
                return unsupported("LC_SEGMENT, of 32-bit files,", "build it with -arch arm64");
            }
            macho::LC_FILESET_ENTRY | macho::LC_UNIXTHREAD | macho::LC_MAIN | macho::LC_LOAD_DYLINKER => {
                return unsupported(
                    "a load command of programs",
                    "link the module with -dynamiclib or -bundle",
                );
            }
            // The system's loader refuses these too.
            _ if cmd & macho::LC_REQ_DYLD != 0 => {
                return Err(Error::UnsupportedDynamic {
                    tag: "a load command that is marked as required and not known here",
                    advice: "link for macOS 11 with a linker of this platform",
                });
            }
            // Build versions, identifiers, signatures, function starts: nothing to link.
            _ => {}
        }
        Ok(())
    }
}

fn one<T: object::Pod>(bytes: &[u8]) -> Option<&T> {
    table_of(bytes, 1).first()
}

fn set<T>(slot: &mut Option<T>, found: T, twice: Error) -> Result<(), Error> {
    match slot.replace(found) {
        None => Ok(()),
        Some(_) => Err(twice),
    }
}

/// A table's bytes in the file.
pub(super) fn range<'data>(
    file: &'data [u8],
    offset: u32,
    size: u32,
    table: &'static str,
) -> Result<&'data [u8], Error> {
    if size == 0 {
        return Ok(&[]);
    }
    let found = file.get(offset as usize..).and_then(|rest| rest.get(..size as usize));
    found.ok_or(malformed(table, "it goes past the end of the file", offset.into()))
}
