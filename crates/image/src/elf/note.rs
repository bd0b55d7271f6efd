//! What a module says of itself: notes of the owner "midflight" (`include/runtime_module.h`).
//!
//! System V gABI, chapter 5, "Note Section": three words (the lengths of owner and descriptor, the type), the owner, the
//! descriptor, each padded. To 4 bytes, whatever the gABI says of 64-bit files; only `.note.gnu.property` is padded to 8, and
//! linkers put it into a segment of its own (PT_NOTE) that says so.

use super::{Half, table_of};
use crate::Error;
use crate::error::NoteProblem as Problem;
use alloc::vec::Vec;
use object::LittleEndian as LE;

/// With its zero, as owners are written.
const OWNER: &[u8] = b"midflight\0";

/// The owner of what linkers say.
const GNU: &[u8] = b"GNU\0";

/// The section that the notes are in, in object files.
pub(super) const SECTION: &str = ".note.midflight";

/// Three words.
const HEADER: usize = 12;

/// What the notes of a module say.
#[derive(Default)]
pub(crate) struct Declared<'data> {
    pub(crate) name: Option<&'data str>,
    pub(crate) version: Option<&'data str>,
    pub(crate) needs: Vec<&'data str>,
    /// The linker's number for what it wrote: a digest of all of the file.
    pub(crate) build_id: Option<&'data [u8]>,
}

impl<'data> Declared<'data> {
    /// Reads the notes of one segment or section, of which `align` is the alignment. What other owners say is passed over.
    pub(crate) fn read(&mut self, mut notes: &'data [u8], align: u64) -> Result<(), Error> {
        let align = if align == 8 { 8 } else { 4 };
        // A rest without a header, and a note that is cut off inside another owner's, are not ours to judge.
        while let [owner_size, size, n_type] = table_of::<Half>(notes, 3) {
            let [owner_size, size] = [owner_size, size].map(|size| size.get(LE) as usize);
            let n_type = n_type.get(LE);
            let ours = notes[HEADER..].starts_with(OWNER) && owner_size == OWNER.len();
            let start = (HEADER + owner_size).next_multiple_of(align);
            let descriptor = notes.get(start..).and_then(|rest| rest.get(..size));
            if ours {
                let bad = |problem| Error::BadNote { n_type, problem };
                self.take(n_type, descriptor.ok_or(bad(Problem::CutOff))?).map_err(bad)?;
            }
            const BUILD_ID: u32 = 3;
            if n_type == BUILD_ID && owner_size == GNU.len() && notes[HEADER..].starts_with(GNU) {
                self.build_id = self.build_id.or(descriptor.filter(|id| !id.is_empty()));
            }
            // The last one may lack its padding.
            notes =
                descriptor.and_then(|_| notes.get((start + size).next_multiple_of(align)..)).unwrap_or(&[]);
        }
        Ok(())
    }

    fn take(&mut self, n_type: u32, descriptor: &'data [u8]) -> Result<(), Problem> {
        let place = match n_type {
            1 => &mut self.name,
            2 => &mut self.version,
            3 => {
                self.needs.push(not_empty(text(descriptor)?)?);
                return Ok(());
            }
            _ => return Err(Problem::Unknown),
        };
        let text = text(descriptor)?;
        match place.replace(if n_type == 1 { not_empty(text)? } else { text }) {
            None => Ok(()),
            Some(_) => Err(Problem::Twice),
        }
    }
}

fn text(descriptor: &[u8]) -> Result<&str, Problem> {
    let [text @ .., 0] = descriptor else { return Err(Problem::NoEnd) };
    if text.contains(&0) {
        return Err(Problem::SeveralEnds);
    }
    core::str::from_utf8(text).map_err(|_| Problem::NotUtf8)
}

fn not_empty(text: &str) -> Result<&str, Problem> {
    if text.is_empty() { Err(Problem::Empty) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn note(owner: &[u8], n_type: u32, descriptor: &[u8], align: usize) -> Vec<u8> {
        let mut bytes = vec![];
        for word in [owner.len() as u32, descriptor.len() as u32, n_type] {
            bytes.extend(word.to_le_bytes());
        }
        for field in [owner, descriptor] {
            bytes.extend(field);
            bytes.resize(bytes.len().next_multiple_of(align), 0xEE);
        }
        bytes
    }

    fn ours(n_type: u32, descriptor: &[u8]) -> Vec<u8> {
        note(OWNER, n_type, descriptor, 4)
    }

    type Said<'data> = (Option<&'data str>, Option<&'data str>, Vec<&'data str>);

    fn said(notes: &[u8], align: u64) -> Result<Said<'_>, Error> {
        let mut declared = Declared::default();
        declared.read(notes, align)?;
        Ok((declared.name, declared.version, declared.needs))
    }

    fn refused(notes: &[u8]) -> (u32, Problem) {
        match said(notes, 4) {
            Err(Error::BadNote { n_type, problem }) => (n_type, problem),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn among_the_notes_of_others() {
        for align in [4, 8] {
            let notes = [
                note(b"GNU\0", 3, &[7; 20], align),
                note(OWNER, 1, "wörter\0".as_bytes(), align),
                note(b"", 1, b"", align),
                note(OWNER, 3, b"terrain\0", align),
                // Whatever they hold.
                note(b"midflight", 1, b"not ours", align),
                note(b"midflight2\0", 99, &[0xFF; 3], align),
                note(OWNER, 2, b"\0", align),
                note(OWNER, 3, b"sky\0", align),
            ]
            .concat();
            assert_eq!(
                said(&notes, align as u64),
                Ok((Some("wörter"), Some(""), vec!["terrain", "sky"])),
                "{align}"
            );
        }
        for align in [0, 1, 2, 4, 16, u64::MAX] {
            assert_eq!(said(&ours(1, b"name\0"), align), Ok((Some("name"), None, vec![])));
        }
        assert_eq!(said(&[], 4), Ok((None, None, vec![])));
    }

    #[test]
    fn the_first_build_id_that_is_whole_and_not_empty() {
        let id = |notes: &[u8]| {
            let mut declared = Declared::default();
            declared.read(notes, 4).unwrap();
            declared.build_id.map(<[u8]>::to_vec)
        };
        let wrong = [note(b"GNU", 3, &[1; 20], 4), note(b"GNU\0", 5, &[2; 20], 4), note(b"GNU\0", 3, &[], 4)]
            .concat();
        assert_eq!(id(&wrong), None);
        let notes = [wrong, note(b"GNU\0", 3, &[7; 20], 4), note(b"GNU\0", 3, &[8; 20], 4)].concat();
        assert_eq!(id(&notes), Some(vec![7; 20]));
        let cut = note(b"GNU\0", 3, &[7; 20], 4);
        assert_eq!(id(&cut[..cut.len() - 1]), None);
    }

    #[test]
    fn damaged_ones_of_ours() {
        assert_eq!(refused(&ours(1, b"name")), (1, Problem::NoEnd));
        assert_eq!(refused(&ours(1, b"")), (1, Problem::NoEnd));
        assert_eq!(refused(&ours(2, b"1\x002\0")), (2, Problem::SeveralEnds));
        assert_eq!(refused(&ours(3, b"\xFFame\0")), (3, Problem::NotUtf8));
        assert_eq!(refused(&ours(1, b"\0")), (1, Problem::Empty));
        assert_eq!(refused(&ours(3, b"\0")), (3, Problem::Empty));
        assert_eq!(refused(&ours(4, b"name\0")), (4, Problem::Unknown));
        assert_eq!(refused(&[ours(1, b"a\0"), ours(1, b"a\0")].concat()), (1, Problem::Twice));
        assert_eq!(refused(&[ours(2, b"1\0"), ours(2, b"2\0")].concat()), (2, Problem::Twice));
        let mut long = ours(1, b"name\0");
        for size in [9, 1 << 20, u32::MAX - 30, u32::MAX - 3, u32::MAX] {
            long[4..8].copy_from_slice(&size.to_le_bytes());
            assert_eq!(refused(&long), (1, Problem::CutOff), "{size}");
        }
    }

    #[test]
    fn cut_off_anywhere() {
        let notes = [ours(1, b"name\0"), ours(3, b"sky\0")].concat();
        let first = ours(1, b"name\0").len();
        for length in 0..notes.len() {
            let cut = said(&notes[..length], 4);
            match length {
                // The padding of the last note may be missing.
                _ if length < HEADER + OWNER.len() => assert_eq!(cut, Ok((None, None, vec![])), "{length}"),
                29..=31 => assert_eq!(cut, Ok((Some("name"), None, vec![])), "{length}"),
                _ if length < 29 => assert_eq!(refused(&notes[..length]), (1, Problem::CutOff), "{length}"),
                _ if length < first + HEADER + OWNER.len() => {
                    assert_eq!(cut, Ok((Some("name"), None, vec![])), "{length}");
                }
                _ => assert_eq!(refused(&notes[..length]), (3, Problem::CutOff), "{length}"),
            }
        }
        // Another owner's that does not end: nothing can be found behind it.
        let mut other = note(b"GNU\0", 3, &[7; 20], 4);
        other[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(said(&[other, notes].concat(), 4), Ok((None, None, vec![])));
    }
}
