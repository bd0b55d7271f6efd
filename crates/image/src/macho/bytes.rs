//! A reader of the variable-length tables: LEB128 numbers and strings that end with a zero.

use crate::Error;
use crate::macho::format::malformed;

/// Reads from the front of a table. What it is asked for behind the end is an error that names the
/// table.
#[derive(Clone)]
pub(super) struct Cursor<'data> {
    table: &'static str,
    bytes: &'data [u8],
    at: usize,
}

impl<'data> Cursor<'data> {
    pub(super) fn new(table: &'static str, bytes: &'data [u8]) -> Self {
        Self { table, bytes, at: 0 }
    }

    /// At an offset of the table, which may be its end.
    pub(super) fn at(table: &'static str, bytes: &'data [u8], at: u64) -> Result<Self, Error> {
        match usize::try_from(at) {
            Ok(at) if at <= bytes.len() => Ok(Self { table, bytes, at }),
            _ => Err(malformed(table, "an offset points outside it", at)),
        }
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub(super) fn wrong(&self, problem: &'static str) -> Error {
        malformed(self.table, problem, self.at as u64)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Error> {
        let byte = *self.bytes.get(self.at).ok_or_else(|| self.wrong("it is cut off"))?;
        self.at += 1;
        Ok(byte)
    }

    pub(super) fn uleb(&mut self) -> Result<u64, Error> {
        let mut value = 0u64;
        for shift in (0..).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7F);
            let room = 64u32.saturating_sub(shift);
            if bits != 0 && (room == 0 || bits.leading_zeros() < 64 - room.min(64)) {
                return Err(self.wrong("a number has more than 64 bits"));
            }
            value |= bits.checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                break;
            }
        }
        Ok(value)
    }

    pub(super) fn sleb(&mut self) -> Result<i64, Error> {
        let mut value = 0i64;
        // Ten bytes hold 64 bits; longer ones are padding that no linker writes.
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            value |= i64::from(byte & 0x7F).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                let unused = 64u32.saturating_sub(shift + 7);
                return Ok(value << unused >> unused);
            }
        }
        Err(self.wrong("a number has more than 64 bits"))
    }

    /// Up to the next zero, which is passed over.
    pub(super) fn string(&mut self) -> Result<&'data [u8], Error> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|byte| *byte == 0);
        let end = end.ok_or_else(|| self.wrong("a name has no end"))?;
        self.at += end + 1;
        Ok(&rest[..end])
    }

    pub(super) fn text(&mut self) -> Result<&'data str, Error> {
        let string = self.string()?;
        core::str::from_utf8(string).map_err(|_| self.wrong("a name is not UTF-8"))
    }
}

/// The name that C has for a symbol: without the underscore that compilers for Apple put before it.
/// None: C cannot say it.
pub(super) fn c_name(symbol: &str) -> Option<&str> {
    symbol.strip_prefix('_').filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uleb(bytes: &[u8]) -> Option<u64> {
        Cursor::new("test", bytes).uleb().ok()
    }

    fn sleb(bytes: &[u8]) -> Option<i64> {
        Cursor::new("test", bytes).sleb().ok()
    }

    #[test]
    fn numbers() {
        assert_eq!(
            [uleb(&[0]), uleb(&[0x7F]), uleb(&[0xE5, 0x8E, 0x26])],
            [Some(0), Some(127), Some(624_485)]
        );
        let most = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1];
        assert_eq!(uleb(&most), Some(u64::MAX));
        assert_eq!(uleb(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0]), Some(0));
        for bad in
            [&most[..9], &[&most[..9], &[2]].concat(), &[&most[..9], &[0x81, 1]].concat(), &[], &[0x80]]
        {
            assert_eq!(uleb(bad), None, "{bad:x?}");
        }
        assert_eq!(
            [sleb(&[0x7F]), sleb(&[0xC0, 0xBB, 0x78]), sleb(&[0x3F])],
            [Some(-1), Some(-123_456), Some(63)]
        );
        let least = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x7F];
        assert_eq!(sleb(&least), Some(i64::MIN));
        assert_eq!([sleb(&[0x80; 11]), sleb(&least[..9])], [None, None]);
    }

    #[test]
    fn strings() {
        let mut cursor = Cursor::new("test", b"_one\0\0\xFF\0two");
        assert_eq!(cursor.text(), Ok("_one"));
        assert_eq!(cursor.text(), Ok(""));
        assert!(cursor.text().is_err());
        assert_eq!(cursor.position(), 8);
        assert!(cursor.string().is_err());
        assert!(Cursor::at("test", b"ab", 2).is_ok_and(|cursor| cursor.is_empty()));
        assert!(Cursor::at("test", b"ab", 3).is_err() && Cursor::at("test", b"ab", u64::MAX).is_err());
    }

    #[test]
    fn names_of_c() {
        assert_eq!(["_f", "__Znwm", "f", "_", ""].map(c_name), [Some("f"), Some("_Znwm"), None, None, None]);
    }
}
