//! Apple's compact unwind information for arm64, turned into the call frame information
//! (`.eh_frame`) that unwinders on Linux read.
//!
//! Apple's <mach-o/compact_unwind_encoding.h> says what is in the tables. A function has one
//! encoding of 32 bits, which says where its frame is and which registers are saved there, as if
//! its prologue had run from the first instruction on. So it is true at calls, which is all that
//! exceptions need.
//!
//! ```text
//! info.rs     __TEXT,__unwind_info of dylibs and bundles  -> Entry
//! records.rs  __LD,__compact_unwind of object files       -> Entry
//! encoding.rs an encoding                                 -> Frame: the rules
//! frames.rs   Entry, and the file's own __eh_frame        -> .eh_frame
//! ```
//!
//! # How it is called
//!
//! All addresses are **offsets in the image**, so nothing depends on where it will be: what is
//! written is relative to its own place. Call it when the layout is known, as often as needed;
//! bytes come out that go to the image as they are.
//!
//! Of a **dylib or bundle**:
//!
//! 1. [`unwind_info`]`(section, header)`: the contents of `__TEXT,__unwind_info`, and the offset of
//!    the file's header (`mach_header_64`), which the table counts from. Without such a section: no
//!    entries.
//! 2. [`eh_frame`]`(&entries, own, place, span)`. `own`: the contents of `__TEXT,__eh_frame` and
//!    its offset, if there is one. `place`: where the result will be, a multiple of 8; behind
//!    everything else, because its length is known only then. `span`: all that the tables may point
//!    to is below it: the length of the image without the result.
//!
//! An entry's personality routine is given by the slot that holds its address: the linker made one
//! in `__got`, and the image's fix-ups fill it.
//!
//! Of **object files**, when every section has its offset:
//!
//! 1. Apply the relocations of each file's `__LD,__compact_unwind` as if the image were at 0, so
//!    that each field is an offset; but have the personality field's relocation give the offset of
//!    *the slot in the image's table of addresses* (GOT) for its symbol, and make that slot as for
//!    ARM64_RELOC_GOT_LOAD_PAGE21. 0 in that field or in that of the LSDA: none. Leave out records
//!    of functions that are not in the image (coalesced weak definitions). Then
//!    [`compact_unwind`]`(section)`; put the entries of all files one after the other.
//! 2. Relocate the files' `__TEXT,__eh_frame` likewise and give them to [`eh_frame`] as one
//!    section: without the end marks of all but the last, if they have any. Its personality
//!    routines are indirect and relative to their place (0x9B), through the same slots.
//!
//! The result is whole: it ends with a terminator, and is to be `Unwind { offset: place, size: its
//! length, terminated: true }`, in a region that is readable. It describes nothing if all that it
//! has is the terminator (4 bytes): then there need be no unwind tables.
//!
//! # What comes out
//!
//! - The file's own records, all of them, moved to the new place. They are exact at every
//!   instruction, so where one is, no record is made from an entry for the same addresses. Entries
//!   of mode DWARF say no more than that there is one.
//! - For every other entry a record (FDE) without instructions, and for each combination of
//!   encoding, personality and "has an LSDA" one common record (CIE), which has the rules. Entries
//!   with encoding 0 say that nothing is known: nothing is written.
//!
//! What is not known of the encoding is refused, and so is what points outside the image. No input
//! makes this panic or take more memory than a small multiple of the tables' size.

mod encoding;
mod frames;
mod info;
mod records;

use crate::Error;

use encoding::{Frame, Mode, mode};
pub(crate) use frames::{Own, eh_frame};
pub(crate) use info::unwind_info;
pub(crate) use records::compact_unwind;

/// What errors call an entry's table, whichever it came from.
const TABLE: &str = "compact unwind information";

/// Addresses with one encoding: a function, or several that follow each other and have nothing that
/// a language reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    /// Where it begins: an offset in the image.
    pub(crate) function: u64,
    /// In bytes.
    pub(crate) length: u64,
    /// `compact_unwind_encoding_t`.
    pub(crate) encoding: u32,
    /// The offset of the slot that will hold the address of the personality routine.
    pub(crate) personality: Option<u64>,
    /// The offset of what that routine reads (language specific data area).
    pub(crate) lsda: Option<u64>,
}

/// The field of four bytes at an offset of a table.
fn word(table: &'static str, bytes: &[u8], at: usize) -> Result<u32, Error> {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
    let field = field.ok_or(Error::Malformed { table, problem: "it is cut off", at: at as u64 })?;
    Ok(u32::from_le_bytes(*field))
}
