//! Where a shared object says something of itself: segments of notes (PT_NOTE), because its
//! sections are not loaded.

use super::super::note::{Declared, Properties};
use super::segments::Layout;
use crate::elf::format::malformed;
use crate::{Error, Machine};
use object::LittleEndian as LE;
use object::elf;
use object::read::elf::ProgramHeader;

/// The segment of `.note.gnu.property`.
const PT_GNU_PROPERTY: u32 = 0x6474_E553;

/// What its notes say, of itself and of the processor. Linkers do not let segments of notes
/// overlap; here they must not be longer than the file together, because then none is read again
/// and again.
pub(super) fn find<'data>(
    layout: &Layout<'data>,
    file_length: u64,
    machine: Machine,
) -> Result<(Declared<'data>, Properties), Error> {
    let (mut declared, mut properties) = (Declared::default(), Properties::default());
    let mut unread = file_length;
    for header in layout.headers.iter().filter(|header| header.p_type(LE) == elf::PT_NOTE) {
        let (address, size) = (header.p_vaddr(LE), header.p_filesz(LE));
        // Those that are not loaded may not have been read either.
        let Some(notes) = layout.file(address, size) else { continue };
        let overlap = || malformed("program header table", "segments of notes overlap", address);
        unread = unread.checked_sub(size).ok_or_else(overlap)?;
        declared.read(notes, header.p_align(LE))?;
        properties.read(notes, header.p_align(LE), machine);
    }
    // Most are in a segment of notes too. Linkers write one such header; the first counts.
    let alone = layout.headers.iter().find(|header| header.p_type(LE) == PT_GNU_PROPERTY);
    if let Some(header) = alone
        && let Some(notes) = layout.file(header.p_vaddr(LE), header.p_filesz(LE))
    {
        properties.read(notes, header.p_align(LE), machine);
    }
    Ok((declared, properties))
}
