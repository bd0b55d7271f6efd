//! What a module says of itself: notes of the owner "midflight" (`include/runtime_module.h`).
//!
//! System V gABI, chapter 5, "Note Section": three words (the lengths of owner and descriptor, the
//! type), the owner, the descriptor, each padded. To 4 bytes, whatever the gABI says of 64-bit
//! files; only `.note.gnu.property` is padded to 8, and linkers put it into a segment of its own
//! (PT_NOTE) that says so. That one says what the module asks of the processor: Linux Extensions to
//! gABI, "Program Property".

use crate::elf::format::{Half, table_of};
use crate::error::NoteProblem as Problem;
use crate::{Error, Machine};
use alloc::vec::Vec;
use object::LittleEndian as LE;

/// With its zero, as owners are written.
const OWNER: &[u8] = b"midflight\0";

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
    /// Of modules that it needs, which versions will do.
    pub(crate) ranges: Vec<(&'data str, &'data str)>,
    /// Resources that it says are its alone.
    pub(crate) exclusive: Vec<&'data str>,
    pub(crate) states: Vec<DeclaredState<'data>>,
    /// The linker's number for what it wrote: a digest of all of the file.
    pub(crate) build_id: Option<&'data [u8]>,
}

/// A variable that a module says is to outlive its versions (`include/runtime_module.h`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeclaredState<'data> {
    /// Its symbol, which the module defines and exports.
    pub name: &'data str,
    /// The number of its layout, which the module counts.
    pub schema: u32,
    /// Bytes. 0: as large as its symbol says (ELF).
    pub size: u64,
}

impl<'data> DeclaredState<'data> {
    /// Three words, of which the last two are the size, and the name.
    fn of(descriptor: &'data [u8]) -> Result<Self, Problem> {
        let ([schema, low, high], rest) = match table_of::<Half>(descriptor, 3) {
            [schema, low, high] => ([schema, low, high].map(|word| word.get(LE)), &descriptor[HEADER..]),
            _ => return Err(Problem::CutOff),
        };
        // In Mach-O files the name is an array of C, filled up with zeros.
        let end = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let name = not_empty(text(rest.get(..=end).ok_or(Problem::NoEnd)?)?)?;
        Ok(Self { name, schema, size: u64::from(high) << 32 | u64::from(low) })
    }
}

/// What `.note.gnu.property` says, of a module or of one file of it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Properties {
    /// The levels of x86-64 that all of it needs (GNU_PROPERTY_X86_ISA_1_NEEDED), a bit each.
    pub(crate) x86_levels: u32,
    /// How the code of AArch64 may be run (GNU_PROPERTY_AARCH64_FEATURE_1_AND); 0 if nothing is
    /// said.
    pub(crate) aarch64_features: u32,
    /// Pointers are signed (GNU_PROPERTY_AARCH64_FEATURE_PAUTH).
    pub(crate) signed_pointers: bool,
}

const GNU: &[u8] = b"GNU\0";
const NT_GNU_PROPERTY_TYPE_0: u32 = 5;
const X86_ISA_1_NEEDED: u32 = 0xC000_8002;
const AARCH64_FEATURE_1_AND: u32 = 0xC000_0000;
const AARCH64_FEATURE_PAUTH: u32 = 0xC000_0001;

impl Properties {
    /// Adds what the notes of one segment or section say. What is damaged of it is passed over, as
    /// glibc does.
    pub(crate) fn read(&mut self, notes: &[u8], align: u64, machine: Machine) {
        for (owner, n_type, descriptor) in Notes::of(notes, align) {
            if owner != GNU || n_type != NT_GNU_PROPERTY_TYPE_0 {
                continue;
            }
            let mut rest = descriptor.unwrap_or_default();
            while let [kind, size] = table_of::<Half>(rest, 2) {
                let Some(data) = rest[8..].get(..size.get(LE) as usize) else { break };
                let word = data.first_chunk().map_or(0, |word| u32::from_le_bytes(*word));
                match (machine, kind.get(LE)) {
                    (Machine::X86_64, X86_ISA_1_NEEDED) => self.x86_levels |= word,
                    (Machine::Aarch64, AARCH64_FEATURE_1_AND) => self.aarch64_features |= word,
                    // Two numbers, of which 0 and 0 say that there is nothing of the kind.
                    (Machine::Aarch64, AARCH64_FEATURE_PAUTH) => {
                        self.signed_pointers |= data.iter().any(|byte| *byte != 0);
                    }
                    _ => {}
                }
                rest = rest.get((8 + data.len()).next_multiple_of(8)..).unwrap_or_default();
            }
        }
    }
}

/// The notes of one segment or section, of which `align` is the alignment: owner, type, and
/// descriptor if that is whole.
struct Notes<'data> {
    rest: &'data [u8],
    align: usize,
}

impl<'data> Notes<'data> {
    fn of(rest: &'data [u8], align: u64) -> Self {
        Self { rest, align: if align == 8 { 8 } else { 4 } }
    }
}

impl<'data> Iterator for Notes<'data> {
    type Item = (&'data [u8], u32, Option<&'data [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let notes = self.rest;
        // A rest without a header is not ours to judge.
        let [owner_size, size, n_type] = table_of::<Half>(notes, 3) else { return None };
        let [owner_size, size] = [owner_size, size].map(|size| size.get(LE) as usize);
        let owner = notes[HEADER..].get(..owner_size).unwrap_or_default();
        let start = (HEADER + owner_size).next_multiple_of(self.align);
        let descriptor = notes.get(start..).and_then(|rest| rest.get(..size));
        // The last one may lack its padding. Behind one that is cut off nothing can be found.
        self.rest =
            descriptor.and_then(|_| notes.get((start + size).next_multiple_of(self.align)..)).unwrap_or(&[]);
        Some((owner, n_type.get(LE), descriptor))
    }
}

impl<'data> Declared<'data> {
    /// Reads the notes of one segment or section, of which `align` is the alignment. What other
    /// owners say is passed over.
    pub(crate) fn read(&mut self, notes: &'data [u8], align: u64) -> Result<(), Error> {
        for (owner, n_type, descriptor) in Notes::of(notes, align) {
            const BUILD_ID: u32 = 3;
            if owner == OWNER {
                let bad = |problem| Error::BadNote { n_type, problem };
                self.take(n_type, descriptor.ok_or(bad(Problem::CutOff))?).map_err(bad)?;
            } else if owner == GNU && n_type == BUILD_ID {
                self.build_id = self.build_id.or(descriptor.filter(|id| !id.is_empty()));
            }
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
            4 => {
                let state = DeclaredState::of(descriptor)?;
                // Several files of a module may have the header with its declaration.
                return match self.states.iter().find(|other| other.name == state.name) {
                    None => {
                        self.states.push(state);
                        Ok(())
                    }
                    Some(other) if *other == state => Ok(()),
                    Some(_) => Err(Problem::Twice),
                };
            }
            16 => {
                // Two strings, one behind the other.
                let end = descriptor.iter().position(|byte| *byte == 0).ok_or(Problem::NoEnd)?;
                let (module, range) = descriptor.split_at(end + 1);
                let (module, range) = (not_empty(text(module)?)?, not_empty(text(range)?)?);
                self.needs.push(module);
                self.ranges.push((module, range));
                return Ok(());
            }
            17 => {
                self.exclusive.push(not_empty(text(descriptor)?)?);
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
    fn ranges_of_versions_and_resources() {
        let notes = [ours(16, b"terrain\0>=2.1, <3\0"), ours(17, b"audio\0"), ours(3, b"sky\0")].concat();
        let mut declared = Declared::default();
        declared.read(&notes, 4).unwrap();
        assert_eq!(declared.needs, ["terrain", "sky"]);
        assert_eq!((declared.ranges, declared.exclusive), (vec![("terrain", ">=2.1, <3")], vec!["audio"]));
        assert_eq!(refused(&ours(16, b"terrain\0")), (16, Problem::NoEnd));
        assert_eq!(refused(&ours(16, b"terrain")), (16, Problem::NoEnd));
        assert_eq!(refused(&ours(16, b"terrain\0\0")), (16, Problem::Empty));
        assert_eq!(refused(&ours(16, b"\x001\0")), (16, Problem::Empty));
        assert_eq!(refused(&ours(16, b"terrain\x001\x002\0")), (16, Problem::SeveralEnds));
        assert_eq!(refused(&ours(17, b"\0")), (17, Problem::Empty));
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
        assert_eq!(refused(&ours(5, b"name\0")), (5, Problem::Unknown));
        assert_eq!(refused(&[ours(1, b"a\0"), ours(1, b"a\0")].concat()), (1, Problem::Twice));
        assert_eq!(refused(&[ours(2, b"1\0"), ours(2, b"2\0")].concat()), (2, Problem::Twice));
        let mut long = ours(1, b"name\0");
        for size in [9, 1 << 20, u32::MAX - 30, u32::MAX - 3, u32::MAX] {
            long[4..8].copy_from_slice(&size.to_le_bytes());
            assert_eq!(refused(&long), (1, Problem::CutOff), "{size}");
        }
    }

    fn state(schema: u32, size: u64, name: &[u8]) -> Vec<u8> {
        ours(4, &[&schema.to_le_bytes()[..], &size.to_le_bytes(), name].concat())
    }

    #[test]
    fn states_each_with_its_schema_and_its_size() {
        let notes = [state(3, 0, b"world\0"), state(1, 5 << 32 | 7, b"sky\0\0\0\0"), state(3, 0, b"world\0")];
        let notes = notes.concat();
        let mut declared = Declared::default();
        declared.read(&notes, 4).unwrap();
        assert_eq!(
            declared.states,
            [
                DeclaredState { name: "world", schema: 3, size: 0 },
                DeclaredState { name: "sky", schema: 1, size: 5 << 32 | 7 },
            ]
        );
        // Two declarations of one state that differ.
        let differ = [state(3, 0, b"world\0"), state(4, 0, b"world\0")].concat();
        assert_eq!(refused(&differ), (4, Problem::Twice));
        for (wrong, problem) in [
            (ours(4, &[0; 11]), Problem::CutOff),
            (state(1, 0, b""), Problem::NoEnd),
            (state(1, 0, b"\0"), Problem::Empty),
            (state(1, 0, b"sky"), Problem::NoEnd),
            (state(1, 0, b"s\0y\0"), Problem::SeveralEnds),
            (state(1, 0, b"\xFF\0"), Problem::NotUtf8),
        ] {
            assert_eq!(refused(&wrong), (4, problem));
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
