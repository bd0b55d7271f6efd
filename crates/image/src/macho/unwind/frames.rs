//! Writes `.eh_frame`: the Linux Standard Base, Core, "Exception Frames"; DWARF 5, section 6.4.

use core::ops::Range;

use super::encoding::LINK;
use super::{Entry, Frame, Mode, TABLE, mode};
use crate::{Error, unwind};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

// DW_CFA_*.
const DEF_CFA: u8 = 0x0C;
const OFFSET: u8 = 0x80;
const OFFSET_EXTENDED: u8 = 0x05;
// DW_EH_PE_*: four bytes, signed, relative to the place; and by way of a pointer.
const RELATIVE: u8 = 0x1B;
const INDIRECT: u8 = 0x80;

/// The file's own call frame information.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own<'data> {
    /// Of the section in the image.
    pub(crate) offset: u64,
    /// Its contents, with or without a terminator.
    pub(crate) section: &'data [u8],
}

/// The section for `place`. See the module's text for what is given.
///
/// # Errors
///
/// If an encoding is not known, an entry refers to a record that is not there, or something lies
/// outside the image.
pub(crate) fn eh_frame(
    entries: &[Entry],
    own: Option<Own<'_>>,
    place: u64,
    span: u64,
) -> Result<Vec<u8>, Error> {
    let mut writer = Writer { bytes: Vec::new(), place, commons: BTreeMap::new() };
    let mut described: Vec<Range<u64>> = Vec::new();
    if let Some(own) = own {
        let (mut functions, end) = unwind::functions(own.section, own.offset)?;
        functions.sort_unstable_by_key(|function| function.start);
        // Without overlaps, so that there are not more gaps between them than there are records.
        for function in functions {
            match described.last_mut() {
                Some(last) if function.start <= last.end => last.end = last.end.max(function.end),
                _ => described.push(function),
            }
        }
        writer.bytes.extend_from_slice(own.section.get(..end).unwrap_or_default());
        unwind::shift(&mut writer.bytes, place.wrapping_sub(own.offset) as i64)?;
    }
    let mut entries = entries.to_vec();
    entries.sort_by_key(|entry| entry.function);
    let mut previous = 0;
    for entry in &entries {
        let end = entry.function.checked_add(entry.length).filter(|end| *end <= span);
        let end = end.ok_or(wrong("a function is outside the image", entry.function))?;
        if entry.function < previous {
            return Err(wrong("two functions overlap", entry.function));
        }
        previous = end;
        let frame = match mode(entry.encoding)? {
            Mode::Nothing => continue,
            Mode::Dwarf => {
                let at = described.partition_point(|function| function.end <= entry.function);
                if !described.get(at).is_some_and(|function| function.contains(&entry.function)) {
                    return Err(wrong("a function's record is not in __eh_frame", entry.function));
                }
                continue;
            }
            Mode::Rules(frame) => frame,
        };
        let inside = |offset: Option<u64>, size: u64| offset.is_none_or(|at| at < span && size <= span - at);
        if !inside(entry.personality, 8) || !inside(entry.lsda, 1) {
            return Err(wrong(
                "a personality routine's slot or an LSDA is outside the image",
                entry.function,
            ));
        }
        // What lies between the functions that have records of their own.
        let mut start = entry.function;
        let from = described.partition_point(|function| function.end <= start);
        for function in described[from..].iter().take_while(|function| function.start < end) {
            writer.function(entry, frame, start..function.start.max(start))?;
            start = start.max(function.end);
        }
        writer.function(entry, frame, start..end.max(start))?;
    }
    writer.bytes.extend([0; 4]);
    Ok(writer.bytes)
}

fn wrong(problem: &'static str, at: u64) -> Error {
    Error::Malformed { table: TABLE, problem, at }
}

/// What a common record says.
type Common = (Frame, Option<u64>, bool);

struct Writer {
    bytes: Vec<u8>,
    /// Of the first of them.
    place: u64,
    /// Where each is.
    commons: BTreeMap<Common, usize>,
}

impl Writer {
    /// A record for addresses of an entry, if there are any.
    fn function(&mut self, entry: &Entry, frame: Frame, addresses: Range<u64>) -> Result<(), Error> {
        if addresses.is_empty() {
            return Ok(());
        }
        let key = (frame, entry.personality, entry.lsda.is_some());
        let common = match self.commons.get(&key) {
            Some(common) => *common,
            None => {
                let common = self.common(key)?;
                self.commons.insert(key, common);
                common
            }
        };
        let start = self.begin();
        let back = u32::try_from(self.bytes.len() - common).map_err(|_| too_far(addresses.start))?;
        self.bytes.extend(back.to_le_bytes());
        self.relative(addresses.start)?;
        let length = addresses.end - addresses.start;
        let length = u32::try_from(length).map_err(|_| too_far(addresses.start))?;
        self.bytes.extend(length.to_le_bytes());
        match entry.lsda {
            None => self.bytes.push(0),
            Some(lsda) => {
                self.bytes.push(4);
                self.relative(lsda)?;
            }
        }
        self.end(start);
        Ok(())
    }

    /// A common record. Returns where it is.
    fn common(&mut self, (frame, personality, has_lsda): Common) -> Result<usize, Error> {
        let start = self.begin();
        // The identifier, 0, and the version.
        self.bytes.extend([0, 0, 0, 0, 1]);
        let letters: &[u8] = match (personality, has_lsda) {
            (None, false) => b"zR\0",
            (None, true) => b"zLR\0",
            (Some(_), false) => b"zPR\0",
            (Some(_), true) => b"zPLR\0",
        };
        self.bytes.extend(letters);
        // Code in units of 1, data in units of -8 (as SLEB128), and the column of the return
        // address.
        self.bytes.extend([1, 0x78, LINK]);
        let data = 1 + u8::from(has_lsda) + if personality.is_some() { 5 } else { 0 };
        self.bytes.push(data);
        if let Some(slot) = personality {
            self.bytes.push(RELATIVE | INDIRECT);
            self.relative(slot)?;
        }
        if has_lsda {
            self.bytes.push(RELATIVE);
        }
        self.bytes.push(RELATIVE);
        let (register, offset) = frame.cfa();
        self.bytes.extend([DEF_CFA, register]);
        self.uleb(offset);
        for (register, words) in frame.saved() {
            if register < 64 {
                self.bytes.push(OFFSET | register);
            } else {
                self.bytes.extend([OFFSET_EXTENDED, register]);
            }
            self.uleb(words);
        }
        self.end(start);
        Ok(start)
    }

    /// The length comes first, and is known at the end.
    fn begin(&mut self) -> usize {
        let start = self.bytes.len();
        self.bytes.extend([0; 4]);
        start
    }

    /// Fills it up with DW_CFA_nop, which is 0.
    fn end(&mut self, start: usize) {
        let length = (self.bytes.len() - start).next_multiple_of(8);
        self.bytes.resize(start + length, 0);
        self.bytes[start..start + 4].copy_from_slice(&(length as u32 - 4).to_le_bytes());
    }

    /// An address, relative to where it is written.
    fn relative(&mut self, to: u64) -> Result<(), Error> {
        let here = self.place.wrapping_add(self.bytes.len() as u64);
        let distance = i32::try_from(to.wrapping_sub(here) as i64).map_err(|_| too_far(to))?;
        self.bytes.extend(distance.to_le_bytes());
        Ok(())
    }

    fn uleb(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }
}

fn too_far(at: u64) -> Error {
    wrong("the image is too large for its unwind table", at)
}
