//! Whether bytes are all of a module's file.

use object::LittleEndian as LE;
use object::elf::FileHeader64;
use object::read::archive::ArchiveFile;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};

/// Whether everything that an ELF file's or an archive's tables say is in the file, is. No more
/// than that: the loader reads it thoroughly, and says what is wrong. `false` for anything else.
pub(super) fn is_whole(bytes: &[u8]) -> bool {
    // On an error there is no saying.
    elf(bytes).or_else(|| archive(bytes)).unwrap_or(false)
}

/// `None` if it is not the start of an ELF file.
fn elf(bytes: &[u8]) -> Option<bool> {
    let header = FileHeader64::<LE>::parse(bytes).ok()?;
    let whole = || {
        let segments = header.program_headers(LE, bytes).ok()?;
        segments.iter().try_for_each(|segment| segment.data(LE, bytes).ok().map(drop))?;
        let sections = header.section_headers(LE, bytes).ok()?;
        sections.iter().try_for_each(|section| section.data(LE, bytes).ok().map(drop))?;
        // No tables at all is what a header looks like that is not filled in yet.
        Some(!segments.is_empty() || !sections.is_empty())
    };
    Some(whole().unwrap_or(false))
}

/// `None` if it is not the start of an archive.
fn archive(bytes: &[u8]) -> Option<bool> {
    let archive = ArchiveFile::parse(bytes).ok()?;
    let thin = archive.is_thin();
    let whole = archive.members().all(|member| member.is_ok_and(|m| thin || m.data(bytes).is_ok()));
    Some(whole)
}
