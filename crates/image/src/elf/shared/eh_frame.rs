//! Where the call frame information is: PT_GNU_EH_FRAME has a header that points to it.
//!
//! LSB Core, "Exception Frames". The header says where `.eh_frame` begins. Where it ends only the
//! lengths of its records say, up to a terminator. What the records say is checked by who uses them
//! (`unwind.rs`).
//!
//! A damaged header is an error, and does not make it a module without unwind tables: an exception
//! would end the process.

use super::segments::Layout;
use crate::elf::format::{malformed, table_of};
use crate::{Error, Protection, Unwind};
use object::LittleEndian as LE;

const TABLE: &str = "unwind table header (PT_GNU_EH_FRAME)";

// Pointer encodings: the low four bits are the format, the next three what it is relative to.
const OMIT: u8 = 0xFF;
const PC_RELATIVE: u8 = 0x10;
const DATA_RELATIVE: u8 = 0x30;
const SIGNED_4: u8 = 0x0B;

pub(super) fn find(layout: &Layout<'_>) -> Result<Option<Unwind>, Error> {
    let Some((address, size)) = layout.eh_frame_header.filter(|(_, size)| *size != 0) else {
        return Ok(None);
    };
    let outside = |at| malformed(TABLE, "it is outside the segments, or points outside them", at);
    let bytes = layout.file(address, size).ok_or_else(|| outside(address))?;
    let [version, frame_encoding, count_encoding, table_encoding, ..] = *bytes else {
        return Err(malformed(TABLE, "it is cut off", address));
    };
    if version != 1 {
        return Err(malformed(TABLE, "an unknown version", version.into()));
    }
    let mut reader = Reader { address, bytes, at: 4 };
    let start = reader.pointer(frame_encoding)?;
    let has_table = count_encoding != OMIT && table_encoding == DATA_RELATIVE | SIGNED_4;
    let count = has_table.then(|| reader.pointer(count_encoding)).transpose()?;
    let section = match layout.file_from(start).filter(|_| layout.readable(start, 0)) {
        Some(section) => section,
        // A table without rows is never looked up (libgcc, `_Unwind_IteratePhdrCallback`). mold
        // writes one for a module without records, and it points nowhere.
        None if count == Some(0) => return Ok(None),
        None => return Err(outside(start)),
    };

    // The table has each function's record, so only what is behind the last of them must be gone
    // through: a module of 2,000 functions is parsed in 7 us instead of 12.
    let mut last = None;
    if let Some(count) = count {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let rows: &[[object::I32<LE>; 2]] = table_of(&bytes[reader.at..], count);
        if rows.len() < count {
            return Err(malformed(TABLE, "its table is cut off", address));
        }
        if let Some(highest) = rows.iter().map(|[_, record]| record.get(LE)).max() {
            let record = address.wrapping_add_signed(highest.into());
            let offset = record.checked_sub(start).filter(|offset| *offset < section.len() as u64);
            last = Some(offset.ok_or_else(|| outside(record))? as usize);
        }
    }
    let records = Records { bytes: section, zeros: layout.zeros_behind(start) };
    let from = last.unwrap_or(0);
    let (end, terminated) = records.end(from);
    // A table may be nothing but its terminator, and a record may not.
    if end == from && count == Some(0) {
        return Ok(None);
    }
    if end == from || (end == from + 4 && last.is_some()) {
        return Err(malformed(TABLE, "it points to no record", start + from as u64));
    }
    // Zeros in a writable segment may be another section's, and filled in by relocations.
    let writable = layout.is(Protection::ReadWrite, start, 0);
    let (end, terminated) = if writable && terminated { (end - 4, false) } else { (end, terminated) };
    let offset = layout.offset(start).ok_or_else(|| outside(start))?;
    Ok(Some(Unwind { offset, size: end as u64, terminated }))
}

/// Reads the header's fields one after the other.
struct Reader<'data> {
    address: u64,
    bytes: &'data [u8],
    at: usize,
}

impl Reader<'_> {
    fn pointer(&mut self, encoding: u8) -> Result<u64, Error> {
        let unknown = || malformed(TABLE, "an unknown encoding of addresses", encoding.into());
        let (width, signed) = match encoding & 0x0F {
            0x00 | 0x04 => (8, false),
            0x02 => (2, false),
            0x03 => (4, false),
            0x0A => (2, true),
            0x0B => (4, true),
            0x0C => (8, true),
            // LEB128: no linker can write it, since the header's size must be known before what it
            // points to.
            _ => return Err(unknown()),
        };
        let place = self.address.wrapping_add(self.at as u64);
        let base = match encoding & 0xF0 {
            0 => 0,
            PC_RELATIVE => place,
            DATA_RELATIVE => self.address,
            _ => return Err(unknown()),
        };
        let field = self.bytes.get(self.at..).and_then(|rest| rest.get(..width));
        let field = field.ok_or(malformed(TABLE, "it is cut off", place))?;
        self.at += width;
        let mut word = [0; 8];
        word[..width].copy_from_slice(field);
        let unused = 64 - 8 * width as u32;
        let value = u64::from_le_bytes(word) << unused;
        let value = if signed { (value as i64 >> unused) as u64 } else { value >> unused };
        Ok(base.wrapping_add(value))
    }
}

/// `.eh_frame`, and whatever is behind it in its segment.
struct Records<'data> {
    bytes: &'data [u8],
    /// How many zeros follow in memory.
    zeros: u64,
}

impl Records<'_> {
    /// The end of the table, terminator included, and whether there is one. `at` is where a record
    /// begins.
    ///
    /// A table without a terminator, of a module linked without the compiler's start files, ends
    /// where something begins that is no record.
    fn end(&self, mut at: usize) -> (usize, bool) {
        loop {
            match self.word(at) {
                Some(0) => return (at + 4, true),
                Some(length) if self.is_record(at, length) => at += 4 + length as usize,
                _ => return (at, false),
            }
        }
    }

    /// Each begins with its length and, if it is a function's, how far back its common record is;
    /// that has 0 there.
    fn is_record(&self, at: usize, length: u32) -> bool {
        let end = (at + 4).checked_add(length as usize);
        if length < 4 || end.is_none_or(|end| end > self.bytes.len()) {
            return false;
        }
        match self.word(at + 4) {
            Some(0) => true,
            Some(back) => {
                let common = (at + 4).checked_sub(back as usize);
                common.is_some_and(|common| self.word(common) != Some(0) && self.word(common + 4) == Some(0))
            }
            None => false,
        }
    }

    fn word(&self, at: usize) -> Option<u32> {
        let rest = self.bytes.get(at..)?;
        if let Some(word) = rest.first_chunk() {
            return Some(u32::from_le_bytes(*word));
        }
        let missing = 4 - rest.len();
        let mut word = [0; 4];
        word[..rest.len()].copy_from_slice(rest);
        (missing as u64 <= self.zeros).then_some(u32::from_le_bytes(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// A common record and two functions', 16, 24 and 20 bytes long.
    fn table() -> Vec<u8> {
        let mut bytes = Vec::new();
        for (length, back) in [(12u32, 0u32), (20, 20), (16, 44)] {
            bytes.extend(length.to_le_bytes());
            bytes.extend(back.to_le_bytes());
            bytes.extend(core::iter::repeat_n(0xEE, length as usize - 4));
        }
        bytes
    }

    fn end(behind: &[u8], zeros: u64, at: usize) -> (usize, bool) {
        let bytes = [&table(), behind].concat();
        Records { bytes: &bytes, zeros }.end(at)
    }

    #[test]
    fn tables_with_a_terminator() {
        for at in [0, 16, 40] {
            assert_eq!(end(&[0; 4], 0, at), (64, true));
            assert_eq!(end(&[0, 0, 0, 0, 9, 9, 9, 9], 0, at), (64, true));
        }
        // In the zeros that follow the file's bytes, wholly or in part.
        assert_eq!(end(&[], 4, 0), (64, true));
        assert_eq!(end(&[0, 0], 2, 0), (64, true));
        assert_eq!(Records { bytes: &[0; 4], zeros: 0 }.end(0), (4, true));
    }

    #[test]
    fn tables_without_one() {
        assert_eq!(end(&[], 0, 0), (60, false));
        assert_eq!(end(&[], 3, 0), (60, false));
        assert_eq!(end(&[0, 0, 0], 0, 0), (60, false));
        assert_eq!(end(&[0, 0, 7], 9, 0), (60, false), "no room for a record of that length");
        for behind in [
            &[0xFF, 0xFF, 1, 12][..],        // longer than the segment
            &[4, 0, 0, 0, 3, 0, 0, 0],       // back to no record
            &[4, 0, 0, 0, 0x30, 0, 0, 0],    // back to a function's record
            &[4, 0, 0, 0, 0xFF, 0, 0, 0],    // back to before the table
            &[3, 0, 0, 0, 0, 0, 0, 0],       // too short for an identifier
            &[0xFF, 0xFF, 0xFF, 0xFF, 0, 0], // a 64-bit length
        ] {
            assert_eq!(end(behind, 0, 40), (60, false), "{behind:x?}");
        }
        assert_eq!(end(&[4, 0, 0, 0, 64, 0, 0, 0], 0, 0), (68, false), "and one more");
    }

    #[test]
    fn encodings() {
        let bytes = [0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F];
        let read = |encoding| Reader { address: 0x1000, bytes: &bytes, at: 0 }.pointer(encoding);
        for (encoding, value) in [
            (0x00, 0x7FFF_FFFF_FFFF_FFFE),
            (0x02, 0xFFFE),
            (0x03, 0xFFFF_FFFE),
            (0x04, 0x7FFF_FFFF_FFFF_FFFE),
            (0x12, 0x1_0FFE),
            (0x1A, 0xFFE),
            (0x1B, 0xFFE),
            (0x3B, 0xFFE),
            (0x3C, 0x8000_0000_0000_0FFE),
        ] {
            assert_eq!(read(encoding), Ok(value), "{encoding:#x}");
        }
        for unknown in [0x01, 0x09, 0x1F, 0x2B, 0x4B, 0x5B, 0x9B, 0xFF] {
            assert!(read(unknown).is_err(), "{unknown:#x}");
        }
        // Relative to the field, not to the header.
        let mut later = Reader { address: 0x1000, bytes: &bytes, at: 2 };
        assert_eq!((later.pointer(0x1A), later.pointer(0x3A)), (Ok(0x1001), Ok(0xFFF)));
        assert!(later.pointer(0x03).is_err(), "cut off");
    }
}
