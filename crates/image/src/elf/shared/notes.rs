//! Where a shared object says something of itself: segments of notes (PT_NOTE), because its sections are not loaded.

use super::super::note::Declared;
use super::malformed;
use super::segments::Layout;
use crate::Error;
use object::LittleEndian as LE;
use object::elf;
use object::read::elf::ProgramHeader;

/// What its notes say. Linkers do not let segments of notes overlap; here they must not be longer than the file together, because then
/// none is read again and again.
pub(super) fn find<'data>(layout: &Layout<'data>, file_length: u64) -> Result<Declared<'data>, Error> {
    let mut declared = Declared::default();
    let mut unread = file_length;
    for header in layout.headers.iter().filter(|header| header.p_type(LE) == elf::PT_NOTE) {
        let (address, size) = (header.p_vaddr(LE), header.p_filesz(LE));
        // Those that are not loaded may not have been read either.
        let Some(notes) = layout.file(address, size) else { continue };
        let overlap = || malformed("program header table", "segments of notes overlap", address);
        unread = unread.checked_sub(size).ok_or_else(overlap)?;
        declared.read(notes, header.p_align(LE))?;
    }
    Ok(declared)
}
