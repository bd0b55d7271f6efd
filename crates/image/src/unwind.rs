//! Call frame information (`.eh_frame`), by which unwinders find a function's caller.
//!
//! The format is the LSB's (Core Specification, "Exception Frames"). libgcc goes from record to
//! record until one of length 0, believes every word, and aborts on functions that two sections
//! describe; so it gets only what was checked here.

use core::ops::Range;

use alloc::vec::Vec;

use crate::Error;

/// Checks a section as it was linked for `address`, terminator or not, and counts the functions
/// that it describes: each is in `code`, which are addresses too.
pub fn check(section: &[u8], address: u64, code: Range<u64>) -> Result<usize, Error> {
    let mut functions = 0;
    let visit = |field, start: u64, place, encoding| {
        let Field::Function { size } = field else { return Ok(()) };
        // The linker's mark of a function that it has discarded.
        if start == 0 {
            return Ok(());
        }
        let start = absolute(start, encoding, address, place);
        let end = start.checked_add(size).filter(|end| *end <= code.end);
        if start < code.start || end.is_none() {
            return Err(("it describes a function outside the module", place));
        }
        functions += 1;
        Ok(())
    };
    walk(section, visit).map_err(malformed)?;
    Ok(functions)
}

/// The address that a bare value stands for, in a section at `address`.
fn absolute(value: u64, encoding: u8, address: u64, place: usize) -> u64 {
    let pc_relative = encoding & APPLICATION == PC_RELATIVE;
    if pc_relative { value.wrapping_add(address.wrapping_add(place as u64)) } else { value }
}

/// The functions that a section at `address` describes, each as (start, end), and where its records
/// end: at its terminator, or with it.
pub fn functions(section: &[u8], address: u64) -> Result<(Vec<Range<u64>>, usize), Error> {
    let mut functions = Vec::new();
    let visit = |field, start: u64, place, encoding| {
        let Field::Function { size } = field else { return Ok(()) };
        if start == 0 {
            return Ok(());
        }
        let start = absolute(start, encoding, address, place);
        let end =
            start.checked_add(size).ok_or(("a function goes past the end of the address space", place))?;
        functions.push(start..end);
        Ok(())
    };
    let end = walk(section, visit).map_err(malformed)?;
    Ok((functions, end))
}

/// Makes a copy of a section right for an address that is `by` bytes above the original's.
pub fn shift(copy: &mut [u8], by: i64) -> Result<(), Error> {
    let mut places = Vec::new();
    let visit = |_, value, place, encoding| {
        match encoding & APPLICATION {
            ABSOLUTE => {}
            // Zero stands for nothing there, whatever it is relative to.
            PC_RELATIVE if value == 0 => {}
            PC_RELATIVE => places.push((place, encoding)),
            _ => return Err(("an address is relative to what cannot be known", place)),
        }
        Ok(())
    };
    walk(copy, visit).map_err(malformed)?;
    places
        .into_iter()
        .try_for_each(|(place, encoding)| shift_one(copy, place, encoding, by))
        .map_err(malformed)
}

fn shift_one(copy: &mut [u8], place: usize, encoding: u8, by: i64) -> Result<(), Fault> {
    let value = read(copy, place, encoding)?.wrapping_sub(by as u64);
    let width = width(encoding)?;
    copy[place..place + width].copy_from_slice(&value.to_le_bytes()[..width]);
    if read(copy, place, encoding)? == value {
        Ok(())
    } else {
        Err(("the copy is too far from its code", place))
    }
}

/// What is wrong, and where in the section. Small, because it is returned for every word that is
/// read.
type Fault = (&'static str, usize);

fn malformed((problem, at): Fault) -> Error {
    Error::Malformed { table: "unwind table (.eh_frame)", problem, at: at as u64 }
}

// Pointer encodings, DW_EH_PE_*: how wide (the low four bits, of which 8 says signed), relative to
// what, and by way of a pointer or not.
const WIDTH: u8 = 0x07;
const SIGNED: u8 = 0x08;
const FORMAT: u8 = SIGNED | WIDTH;
const APPLICATION: u8 = 0x70;
const ABSOLUTE: u8 = 0x00;
const PC_RELATIVE: u8 = 0x10;
const INDIRECT: u8 = 0x80;
const OMITTED: u8 = 0xFF;
/// Signed, four bytes, relative to its place.
const USUAL: u8 = PC_RELATIVE | SIGNED | 3;

/// Bytes of a pointer.
fn width(encoding: u8) -> Result<usize, Fault> {
    match encoding & FORMAT {
        0 | 4 | 0xC => Ok(8),
        2 | 0xA => Ok(2),
        3 | 0xB => Ok(4),
        // LEB128, which no compiler uses here, and what libgcc ends the process at.
        _ => Err(("an unknown encoding of addresses", encoding.into())),
    }
}

/// The encoding of an address whose width and place are enough to read it.
fn known(encoding: u8, place: usize) -> Result<u8, Fault> {
    width(encoding)?;
    match encoding & APPLICATION {
        ABSOLUTE | PC_RELATIVE => Ok(encoding),
        _ => Err(("an unknown encoding of addresses", place)),
    }
}

/// The bare value of a pointer, before what it is relative to is added.
fn read(section: &[u8], place: usize, encoding: u8) -> Result<u64, Fault> {
    let rest = section.get(place..).unwrap_or_default();
    let signed = encoding & SIGNED != 0;
    let value = match width(encoding)? {
        2 => rest
            .first_chunk()
            .map(|b| if signed { i16::from_le_bytes(*b) as u64 } else { u16::from_le_bytes(*b).into() }),
        4 => rest
            .first_chunk()
            .map(|b| if signed { i32::from_le_bytes(*b) as u64 } else { u32::from_le_bytes(*b).into() }),
        _ => rest.first_chunk().map(|b| u64::from_le_bytes(*b)),
    };
    value.ok_or(("an address is cut off", place))
}

/// What an address in the section is.
enum Field {
    /// Where a function begins.
    Function {
        /// In bytes.
        size: u64,
    },
    /// Of its personality routine, or of the table that this reads.
    Language,
}

/// What the functions that refer to it have in common.
#[derive(Clone, Copy)]
struct Common {
    /// Of the record.
    place: usize,
    functions: u8,
    /// None: its functions have no augmentation data.
    tables: Option<u8>,
}

/// Calls `visit` with each address that the section holds: what it is, its bare value, where it is,
/// how it is encoded. Returns where the records end.
fn walk(
    section: &[u8],
    mut visit: impl FnMut(Field, u64, usize, u8) -> Result<(), Fault>,
) -> Result<usize, Fault> {
    // Ascending by place.
    let mut commons: Vec<Common> = Vec::new();
    let mut at = 0;
    while let Some(length) = word(section, at) {
        // Nearly all are of functions, as compilers write them, of the common record that is the
        // last so far.
        if let Some(last) = commons.last()
            && let Some((function, size)) = usual(section, at, *last)
        {
            visit(Field::Function { size }, function, at + 8, USUAL)?;
            at += 4 + length as usize;
            continue;
        }
        if length == 0 {
            return Ok(at);
        }
        let start = at + 4;
        // 0xFFFF_FFFF would announce a 64-bit length, which libgcc does not read.
        let end = start.checked_add(length as usize).filter(|end| *end <= section.len() && length < u32::MAX);
        let end = end.ok_or(("a record goes past its end", at))?;
        let record = &section[..end];
        let id = word(record, start).ok_or(("a record is too short", at))?;
        if id == 0 {
            commons.push(common(record, at, &mut visit)?);
        } else {
            let place = start.wrapping_sub(id as usize);
            let found = match commons.last() {
                Some(last) if last.place == place => Some(*last),
                _ => commons.binary_search_by_key(&place, |common| common.place).ok().map(|at| commons[at]),
            };
            let common = found.ok_or(("a function refers to no common record", at))?;
            function(record, start + 4, common, &mut visit)?;
        }
        at = end;
    }
    if at == section.len() { Ok(at) } else { Err(("a record is cut off", at)) }
}

/// The bare start and the size of the function that the record at `at` describes, if it is as
/// compilers write nearly all: whole, of this common record, of known widths, with nothing that a
/// language reads. (By itself, because there is one for every function: 2 ns for each, and not 5.)
#[inline]
fn usual(section: &[u8], at: usize, common: Common) -> Option<(u64, u64)> {
    const LEN: usize = 17;
    let rest = section.get(at..)?;
    let record: &[u8; LEN] = rest.first_chunk()?;
    let word = |at: usize| u32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]]);
    let length = word(0) as usize;
    let whole = length >= LEN - 4 && length <= rest.len() - 4;
    // Its second word is how far the common record is before it. No data: the augmentation's length
    // is 0.
    let plain = word(4) as usize == (at + 4).wrapping_sub(common.place) && record[16] == 0;
    let known = common.functions == USUAL && common.tables.is_some();
    (whole && plain && known).then_some((word(8) as i32 as u64, word(12).into()))
}

/// A record that describes a function (FDE), from behind its pointer to the common record.
fn function(
    record: &[u8],
    at: usize,
    common: Common,
    visit: &mut impl FnMut(Field, u64, usize, u8) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let wide = width(common.functions)?;
    let size = read(record, at + wide, common.functions & WIDTH)?;
    visit(Field::Function { size }, read(record, at, common.functions)?, at, common.functions)?;
    let Some(tables) = common.tables else { return Ok(()) };
    let mut data = Bytes { record, at: at + 2 * wide };
    let end = data.block()?;
    if tables != OMITTED && data.at < end {
        visit(Field::Language, read(&record[..end], data.at, tables)?, data.at, tables)?;
    }
    Ok(())
}

/// A common record (CIE) that begins at `place`.
fn common(
    record: &[u8],
    place: usize,
    visit: &mut impl FnMut(Field, u64, usize, u8) -> Result<(), Fault>,
) -> Result<Common, Fault> {
    let mut data = Bytes { record, at: place + 8 };
    let version = data.byte()?;
    if !matches!(version, 1 | 3) {
        return Err(("an unknown version", place));
    }
    let augmentation = data.at;
    while data.byte()? != 0 {}
    let augmentation = &record[augmentation..data.at - 1];
    // Code and data alignment, and the column of the return address.
    data.leb()?;
    data.leb()?;
    if version == 1 {
        data.byte().map(|_| ())?
    } else {
        data.leb().map(|_| ())?
    };
    let mut common = Common { place, functions: ABSOLUTE, tables: None };
    // libgcc looks for R by itself, and not behind letters that it does not know there: what it
    // would read in two ways it does not get.
    let mut looked_at = true;
    match augmentation {
        [] => {}
        [b'z', letters @ ..] => {
            common.tables = Some(OMITTED);
            data.block()?;
            for letter in letters {
                match letter {
                    b'R' if looked_at => {
                        common.functions = known(data.byte()?, place)?;
                        looked_at = false;
                    }
                    b'L' => {
                        common.tables = Some(match data.byte()? {
                            OMITTED => OMITTED,
                            encoding => known(encoding, place)?,
                        });
                    }
                    b'P' => {
                        let encoding = known(data.byte()?, place)?;
                        visit(Field::Language, read(record, data.at, encoding)?, data.at, encoding)?;
                        data.at += width(encoding)?;
                    }
                    // Signal frames, and functions that sign or tag return addresses: no data.
                    b'S' | b'B' | b'G' => looked_at = false,
                    _ => return Err(("an unknown augmentation", place)),
                }
            }
        }
        _ => return Err(("an unknown augmentation", place)),
    }
    if common.functions & INDIRECT != 0 {
        return Err(("an unknown encoding of addresses", place));
    }
    Ok(common)
}

fn word(section: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*section.get(at..)?.first_chunk()?))
}

/// Reads what has no fixed width.
struct Bytes<'s> {
    record: &'s [u8],
    at: usize,
}

impl Bytes<'_> {
    fn byte(&mut self) -> Result<u8, Fault> {
        let byte = *self.record.get(self.at).ok_or(("a record is too short", self.at))?;
        self.at += 1;
        Ok(byte)
    }

    /// A LEB128 number. What is beyond 64 bits is lost.
    fn leb(&mut self) -> Result<u64, Fault> {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F).checked_shl(shift).unwrap_or(0);
            shift += 7;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
    }

    /// The end of a block of bytes, of which the length comes first.
    fn block(&mut self) -> Result<usize, Fault> {
        let length = self.leb()?;
        let end = usize::try_from(length).ok().and_then(|length| self.at.checked_add(length));
        end.filter(|end| *end <= self.record.len()).ok_or(("a record is too short", self.at))
    }
}
