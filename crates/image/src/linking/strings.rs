//! A string table: names that end in NUL, found by offset.
//!
//! Names may share their ends, and a hostile table may have every symbol name the same megabyte. So
//! the end of a long name is found in an index: no lookup depends on how long the name is.
//!
//! Names are bytes, as for every linker and loader: whether they are UTF-8 is asked by who needs
//! text.

use crate::Error;
use crate::error::label;
use alloc::vec::Vec;

fn malformed(problem: &'static str, at: u64) -> Error {
    Error::Malformed { table: "string table", problem, at }
}

/// Names shorter than this are read to their end, which is quicker than an index that has all ends:
/// most are.
const BLOCK: usize = 128;

pub(crate) struct Strings<'data> {
    bytes: &'data [u8],
    /// For the start of each block, the first NUL from there on.
    ends: Vec<u32>,
}

impl<'data> Strings<'data> {
    pub(crate) fn parse(bytes: &'data [u8]) -> Result<Self, Error> {
        if u32::try_from(bytes.len()).is_err() {
            return Err(malformed("more than 4 GiB", bytes.len() as u64));
        }
        if bytes.last().is_some_and(|last| *last != 0) {
            return Err(malformed("its last name has no end", bytes.len() as u64));
        }
        let mut end = bytes.len().saturating_sub(1);
        let mut ends = Vec::with_capacity(bytes.len().div_ceil(BLOCK));
        for (index, block) in bytes.chunks(BLOCK).enumerate().rev() {
            end = nul(block).map_or(end, |at| index * BLOCK + at);
            ends.push(end as u32);
        }
        ends.reverse();
        Ok(Strings { bytes, ends })
    }

    /// Whether [`get`](Self::get) finds a name there that is not empty. Its end need not be looked
    /// for.
    pub(crate) fn has(&self, offset: u32) -> bool {
        self.bytes.get(offset as usize).is_some_and(|first| *first != 0)
    }

    pub(crate) fn get(&self, offset: u32) -> Result<&'data [u8], Error> {
        let outside = || malformed("a name starts outside it", offset.into());
        let start = offset as usize;
        let rest = self.bytes.get(start..).filter(|rest| !rest.is_empty()).ok_or_else(outside)?;
        let end = match nul(&rest[..rest.len().min(BLOCK)]) {
            Some(length) => start + length,
            // No NUL up to the next block's start, and more behind: the last byte is one.
            None => *self.ends.get(start / BLOCK + 1).ok_or_else(outside)? as usize,
        };
        self.bytes.get(start..end).ok_or_else(outside)
    }

    /// A name that is wanted as text: of a library, of a version.
    pub(crate) fn text(&self, offset: u32) -> Result<&'data str, Error> {
        let name = self.get(offset)?;
        core::str::from_utf8(name).map_err(|_| Error::UnsupportedName { name: label(name) })
    }
}

fn nul(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_by_offset() {
        let strings = Strings::parse("\0first\0wörter\0".as_bytes()).unwrap();
        assert_eq!(strings.text(0), Ok(""));
        assert_eq!(strings.text(1), Ok("first"));
        assert_eq!(strings.text(3), Ok("rst"));
        assert_eq!(strings.text(7), Ok("wörter"));
        assert_eq!(strings.text(14), Ok(""));
        // Inside the two bytes of `ö`: bytes all the same, and no text.
        assert_eq!(strings.get(9), Ok(&b"\xB6rter"[..]));
        assert_eq!(strings.text(9), Err(Error::UnsupportedName { name: "\\xb6rter".into() }));
        for outside in [15, 16, u32::MAX] {
            assert!(strings.get(outside).is_err(), "{outside}");
        }
        assert!(Strings::parse(b"").unwrap().get(0).is_err());
    }

    #[test]
    fn names_of_every_length() {
        for length in (0..3 * BLOCK).chain([10 * BLOCK]) {
            let mut bytes = alloc::vec![0];
            bytes.extend(core::iter::repeat_n(b'x', length));
            bytes.extend(b"\0next\0");
            let strings = Strings::parse(&bytes).unwrap();
            for start in 0..=length {
                assert_eq!(strings.get(1 + start as u32).map(<[u8]>::len), Ok(length - start));
            }
            assert_eq!(strings.get(length as u32 + 2), Ok(&b"next"[..]));
        }
    }

    #[test]
    fn only_names_that_end() {
        assert_eq!(Strings::parse(b"\0open").err(), Some(malformed("its last name has no end", 5)));
    }
}
