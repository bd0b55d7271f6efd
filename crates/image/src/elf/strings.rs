//! The dynamic string table: names that end in NUL, found by offset.
//!
//! Names may share their ends, and a hostile table may have every symbol name the same megabyte. So the table
//! is checked to be UTF-8 once as a whole, and the end of each name is found in an index: no lookup depends on
//! how long the name is.

use super::malformed;
use crate::Error;
use alloc::vec::Vec;

const TABLE: &str = "string table";

pub(super) struct Strings<'data> {
    text: &'data str,
    /// Where each NUL is, ascending.
    ends: Vec<u32>,
}

impl<'data> Strings<'data> {
    pub(super) fn parse(bytes: &'data [u8]) -> Result<Self, Error> {
        if u32::try_from(bytes.len()).is_err() {
            return Err(malformed(TABLE, "more than 4 GiB", bytes.len() as u64));
        }
        let text = core::str::from_utf8(bytes)
            .map_err(|error| malformed(TABLE, "a name is not UTF-8", error.valid_up_to() as u64))?;
        let nuls = bytes.iter().enumerate().filter(|(_, byte)| **byte == 0);
        Ok(Strings { text, ends: nuls.map(|(at, _)| at as u32).collect() })
    }

    pub(super) fn get(&self, offset: u32) -> Result<&'data str, Error> {
        let end = self.ends.get(self.ends.partition_point(|end| *end < offset));
        let end = *end.ok_or_else(|| malformed(TABLE, "a name starts or ends outside it", offset.into()))?;
        self.text
            .get(offset as usize..end as usize)
            .ok_or_else(|| malformed(TABLE, "a name starts inside a character", offset.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_by_offset() {
        let strings = Strings::parse("\0first\0wörter\0open".as_bytes()).unwrap();
        assert_eq!(strings.get(0), Ok(""));
        assert_eq!(strings.get(1), Ok("first"));
        assert_eq!(strings.get(3), Ok("rst"));
        assert_eq!(strings.get(7), Ok("wörter"));
        // Inside the two bytes of `ö`; a name without its NUL; past the end.
        for outside in [9, 15, 19, 20, u32::MAX] {
            assert!(strings.get(outside).is_err(), "{outside}");
        }
    }

    #[test]
    fn only_utf8() {
        assert_eq!(Strings::parse(b"\0ab\xFF\0").err(), Some(malformed(TABLE, "a name is not UTF-8", 3)));
    }
}
