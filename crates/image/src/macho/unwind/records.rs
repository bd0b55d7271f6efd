//! `__LD,__compact_unwind` of object files: one record for each function.

use super::Entry;
use crate::Error;
use alloc::vec::Vec;

const TABLE: &str = "compact unwind records (__compact_unwind)";

/// The start (8 bytes), the length and the encoding (4 each), the personality and the LSDA (8
/// each).
const RECORD: usize = 32;

/// Reads the records, relocated as the module's text says.
///
/// # Errors
///
/// If the section is not made of whole records. What they say is looked at by [`super::eh_frame`].
pub(crate) fn compact_unwind(section: &[u8]) -> Result<Vec<Entry>, Error> {
    let (records, rest) = section.as_chunks::<RECORD>();
    if !rest.is_empty() {
        return Err(Error::Malformed { table: TABLE, problem: "it is cut off", at: section.len() as u64 });
    }
    let entry = |record: &[u8; RECORD]| {
        let (words, _) = record.as_chunks::<8>();
        let [function, size_and_encoding, personality, lsda] =
            [0, 1, 2, 3].map(|at| u64::from_le_bytes(words[at]));
        let present = |field: u64| (field != 0).then_some(field);
        Entry {
            function,
            length: size_and_encoding & 0xFFFF_FFFF,
            encoding: (size_and_encoding >> 32) as u32,
            personality: present(personality),
            lsda: present(lsda),
        }
    };
    Ok(records.iter().map(entry).collect())
}
