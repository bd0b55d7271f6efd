//! Call frame information (`.eh_frame`) of one file: records, each with its length, up to one of
//! length 0.
//!
//! The records of all files are put together as they are: each refers to others by distances within
//! its own file's, and to code by fix-ups. What must go is each file's end mark (crtend.o has one),
//! because readers stop there. Linux Standard Base, Core, section "Exception Frames".

use crate::Error;
/// The section without its end mark, and whatever follows that.
pub(crate) fn records(section: &[u8]) -> Result<&[u8], Error> {
    let bad = |problem, at: usize| Error::Malformed {
        table: "call frame table (.eh_frame)",
        problem,
        at: at as u64,
    };
    let mut at = 0;
    while at < section.len() {
        let length = section[at..].first_chunk::<4>().ok_or_else(|| bad("a record is cut off", at))?;
        match u32::from_le_bytes(*length) {
            0 => return Ok(&section[..at]),
            // libgcc reads no such record either.
            u32::MAX => return Err(bad("a record is longer than 4 GiB", at)),
            length => {
                let end = at.saturating_add(4).saturating_add(length as usize);
                if end > section.len() {
                    return Err(bad("a record is cut off", at));
                }
                at = end;
            }
        }
    }
    Ok(section)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn up_to_the_end_mark() {
        let record = [4, 0, 0, 0, 1, 2, 3, 4];
        let with = |rest: &[u8]| [&record[..], rest].concat();
        assert_eq!(records(&[]), Ok(&[][..]));
        assert_eq!(records(&with(&[])), Ok(&record[..]));
        assert_eq!(records(&with(&[0, 0, 0, 0])), Ok(&record[..]));
        assert_eq!(records(&with(&[0, 0, 0, 0, 9, 9])), Ok(&record[..]));
        assert_eq!(records(&[0; 4]), Ok(&[][..]));
        for cut in [&[0, 0, 0][..], &[1, 0, 0, 0], &[0xFF, 0xFF, 0xFF, 0x7F, 1], &[0xFF; 64]] {
            assert!(records(&with(cut)).is_err(), "{cut:?}");
        }
    }
}
