//! `__TEXT,__unwind_info`: what a linker makes of the records of its files.
//!
//! A header, arrays of encodings and of personality routines, and an index of two levels: pages of
//! functions, ascending by address, each in one of two forms, and for each page the first function.
//! The last row of the index has no page: it says where the last function ends. Functions with an
//! LSDA are in an array of their own.

use super::{Entry, word};
use crate::Error;
use alloc::vec::Vec;

const TABLE: &str = "unwind table (__unwind_info)";

const HEADER: usize = 28;
/// `unwind_info_section_header_index_entry`.
const INDEX_ROW: usize = 12;
/// `unwind_info_section_header_lsda_index_entry`, and `unwind_info_regular_second_level_entry`.
const PAIR: usize = 8;
const REGULAR: u32 = 2;
const COMPRESSED: u32 = 3;

const HAS_LSDA: u32 = 0x4000_0000;
const PERSONALITY: u32 = 0x3000_0000;

/// Reads the table. It counts from the file's header, which is at `header` in the image.
///
/// # Errors
///
/// If the table contradicts itself, or points outside itself. What else it points to is looked at
/// by [`super::eh_frame`].
pub(crate) fn unwind_info(section: &[u8], header: u64) -> Result<Vec<Entry>, Error> {
    if word(TABLE, section, 0)? != 1 {
        return Err(wrong("an unknown version", 0));
    }
    if section.len() < HEADER {
        return Err(wrong("it is cut off", section.len() as u64));
    }
    let array = |field: usize| -> Result<(usize, usize), Error> {
        Ok((word(TABLE, section, field)? as usize, word(TABLE, section, field + 4)? as usize))
    };
    let (encodings, personalities, index) = (array(4)?, array(12)?, array(20)?);
    let info = Info {
        section,
        encodings: rows::<4>(section, encodings.0, encodings.1)?,
        personalities: rows::<4>(section, personalities.0, personalities.1)?,
    };
    let index = rows::<INDEX_ROW>(section, index.0, index.1)?;
    let [first, .., last] = index else { return Ok(Vec::new()) };
    let (lsdas, end) = (field(first, 8) as usize, field(last, 8) as usize);
    let lsdas = rows::<PAIR>(section, lsdas, end.saturating_sub(lsdas) / PAIR)?;
    if !lsdas.is_sorted_by_key(|row| field(row, 0)) {
        return Err(wrong("functions with an LSDA are not in order", end as u64));
    }

    // Four bytes or more are needed for each function. So many that are in several pages would be
    // without bound.
    let most = section.len() / 4;
    let mut functions: Vec<(u32, u32)> = Vec::new();
    let mut entries = Vec::new();
    let mut previous = 0;
    for pair in index.windows(2) {
        let (base, end) = (field(&pair[0], 0), field(&pair[1], 0));
        functions.clear();
        info.page(field(&pair[0], 4) as usize, base, most - entries.len(), &mut functions)?;
        for (at, (function, encoding)) in functions.iter().copied().enumerate() {
            let next = functions.get(at + 1).map_or(end, |(next, _)| *next);
            if function < previous || next < function {
                return Err(wrong("functions are not in order", function.into()));
            }
            previous = function;
            let lsda = (encoding & HAS_LSDA != 0).then(|| {
                let at = lsdas.binary_search_by_key(&function, |row| field(row, 0));
                at.map(|at| header.wrapping_add(field(&lsdas[at], 4).into()))
            });
            let lsda = lsda
                .transpose()
                .map_err(|_| wrong("a function's LSDA is not in its array", function.into()))?;
            let personality = info.personality(encoding, header)?;
            let length = (next - function).into();
            let function = header.wrapping_add(function.into());
            entries.push(Entry { function, length, encoding, personality, lsda });
        }
        if end < previous {
            return Err(wrong("functions are not in order", end.into()));
        }
    }
    Ok(entries)
}

struct Info<'data> {
    section: &'data [u8],
    encodings: &'data [[u8; 4]],
    personalities: &'data [[u8; 4]],
}

impl Info<'_> {
    /// Adds the functions of a page, each with its encoding; at most so many. `base`: what a
    /// compressed one counts from.
    fn page(&self, at: usize, base: u32, most: usize, functions: &mut Vec<(u32, u32)>) -> Result<(), Error> {
        // Of these addresses nothing is known.
        if at == 0 {
            return Ok(());
        }
        let page = self.section.get(at..).ok_or(wrong("a page is outside it", at as u64))?;
        let half =
            |at: usize| word(TABLE, page, at).map(|word| ((word & 0xFFFF) as usize, (word >> 16) as usize));
        let (start, count) = half(4)?;
        if count > most {
            return Err(wrong("it has more functions than it has room for", at as u64));
        }
        match word(TABLE, page, 0)? {
            REGULAR => {
                let rows = rows::<PAIR>(page, start, count)?;
                functions.extend(rows.iter().map(|row| (field(row, 0), field(row, 4))));
            }
            COMPRESSED => {
                let (own, own_count) = half(8)?;
                let own = rows::<4>(page, own, own_count)?;
                for row in rows::<4>(page, start, count)? {
                    let row = field(row, 0);
                    let (function, number) = (base.checked_add(row & 0x00FF_FFFF), (row >> 24) as usize);
                    let encoding = match number.checked_sub(self.encodings.len()) {
                        None => self.encodings.get(number),
                        Some(number) => own.get(number),
                    };
                    let (Some(function), Some(encoding)) = (function, encoding) else {
                        return Err(wrong("a function's address or encoding is not there", at as u64));
                    };
                    functions.push((function, u32::from_le_bytes(*encoding)));
                }
            }
            kind => return Err(wrong("an unknown kind of page", kind.into())),
        }
        Ok(())
    }

    /// The slot of a function's personality routine. They are numbered from 1.
    fn personality(&self, encoding: u32, header: u64) -> Result<Option<u64>, Error> {
        let Some(index) = ((encoding & PERSONALITY) >> 28).checked_sub(1) else { return Ok(None) };
        let slot = self.personalities.get(index as usize);
        let slot = slot.ok_or(wrong("a personality routine is not in its array", encoding.into()))?;
        Ok(Some(header.wrapping_add(u32::from_le_bytes(*slot).into())))
    }
}

/// So many rows of `N` bytes from an offset.
fn rows<const N: usize>(bytes: &[u8], at: usize, count: usize) -> Result<&[[u8; N]], Error> {
    // An array of none may be anywhere.
    if count == 0 {
        return Ok(&[]);
    }
    let rows = bytes.get(at..).map(|rest| rest.as_chunks::<N>().0);
    rows.and_then(|rows| rows.get(..count)).ok_or(wrong("an array is cut off", at as u64))
}

/// A field of a row.
fn field(row: &[u8], at: usize) -> u32 {
    row.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |field| u32::from_le_bytes(*field))
}

fn wrong(problem: &'static str, at: u64) -> Error {
    Error::Malformed { table: TABLE, problem, at }
}
