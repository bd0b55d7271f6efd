//! Names and their numbers: each name of the link is hashed once, when its file is read.
//!
//! Open addressing with linear probing, at most half full. A table of a million names has no run of
//! occupied places longer than about a hundred (ln n / (load - 1 - ln load)), so whoever needs a
//! thousand steps has chosen names that collide, and is refused instead of being given quadratic
//! time. That is also why this is not a general hash map.

use crate::Error;
use alloc::vec::Vec;

const STEPS: usize = 1024;

#[derive(Clone, Copy)]
struct Bucket {
    hash: u32,
    /// One more than the name's number; 0: nothing is here.
    number: u32,
}

/// Distinct names, numbered from 0 in the order in which they came.
#[derive(Default)]
pub(crate) struct Names<'data> {
    names: Vec<&'data [u8]>,
    /// Empty, or a power of two.
    places: Vec<Bucket>,
}

impl<'data> Names<'data> {
    /// Makes room for so many more.
    pub(crate) fn reserve(&mut self, more: usize) -> Result<(), Error> {
        self.names.reserve(more);
        let wanted = (2 * (self.names.len() + more)).next_power_of_two();
        if wanted <= self.places.len() {
            return Ok(());
        }
        self.places = alloc::vec![Bucket { hash: 0, number: 0 }; wanted];
        for index in 0..self.names.len() {
            let hash = hash(self.names[index]);
            let at = self.probe(hash, self.names[index])?;
            self.places[at] = Bucket { hash, number: index as u32 + 1 };
        }
        Ok(())
    }

    /// The number of a name, which may be new.
    pub(crate) fn number(&mut self, name: &'data [u8]) -> Result<u32, Error> {
        if 2 * (self.names.len() + 1) > self.places.len() {
            self.reserve(self.names.len() + 8)?;
        }
        let hash = hash(name);
        let at = self.probe(hash, name)?;
        if self.places[at].number == 0 {
            self.names.push(name);
            self.places[at] = Bucket { hash, number: self.names.len() as u32 };
        }
        Ok(self.places[at].number - 1)
    }

    pub(crate) fn find(&self, name: &[u8]) -> Option<u32> {
        if self.places.is_empty() {
            return None;
        }
        self.places[self.probe(hash(name), name).ok()?].number.checked_sub(1)
    }

    pub(crate) fn get(&self, number: u32) -> &'data [u8] {
        self.names[number as usize]
    }

    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// Where the name is, or where it is to be put.
    fn probe(&self, hash: u32, name: &[u8]) -> Result<usize, Error> {
        let mask = self.places.len() - 1;
        for step in 0..STEPS {
            let at = (hash as usize).wrapping_add(step) & mask;
            let place = self.places[at];
            let here = |number: u32| self.names[number as usize - 1] == name;
            if place.number == 0 || (place.hash == hash && here(place.number)) {
                return Ok(at);
            }
        }
        Err(Error::Malformed {
            table: "symbol table",
            problem: "its names are made to collide",
            at: hash.into(),
        })
    }
}

/// Eight bytes at a time: the two halves of a product, folded. The constant is the golden ratio's,
/// as in many such hashes.
fn hash(name: &[u8]) -> u32 {
    let mix = |hash: u64, word: u64| {
        let product = u128::from(hash ^ word) * 0x9E37_79B9_7F4A_7C15;
        (product as u64) ^ (product >> 64) as u64
    };
    let (words, rest) = name.as_chunks::<8>();
    let hash = words.iter().fold(name.len() as u64, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    // Some bytes may count twice: to copy what is left, however long that is, would be a call of
    // memcpy.
    let last = match (rest, name.last_chunk(), name.last_chunk(), name.first_chunk()) {
        ([], ..) => 0,
        (_, Some(last), ..) => u64::from_le_bytes(*last),
        (_, None, Some(last), Some(first)) => {
            u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last))
        }
        _ => rest.iter().fold(0, |last, byte| last << 8 | u64::from(*byte)),
    };
    let hash = mix(hash, last);
    (hash ^ (hash >> 32)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::vec::Vec;

    #[test]
    fn each_name_has_one_number() {
        let texts: Vec<String> = (0..5000).map(|index| alloc::format!("name_{index}")).collect();
        let mut names = Names::default();
        assert_eq!(names.find(b"name_0"), None);
        for _ in 0..2 {
            for (index, text) in (0..).zip(&texts) {
                assert_eq!(names.number(text.as_bytes()), Ok(index));
            }
        }
        for (index, text) in (0..).zip(&texts) {
            assert_eq!((names.find(text.as_bytes()), names.get(index)), (Some(index), text.as_bytes()));
        }
        assert_eq!((names.find(b"name_5000"), names.find(b""), names.len()), (None, None, 5000));
    }

    #[test]
    fn every_byte_and_the_length_matter() {
        let mut hashes: Vec<u32> = (0..40).map(|length| hash(&[0; 40][..length])).collect();
        hashes.extend((0..40).map(|at| {
            let mut name = [b'a'; 40];
            name[at] = b'b';
            hash(&name)
        }));
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 80);
    }

    #[test]
    fn names_that_are_made_to_collide_are_refused() {
        let all = (0u32..).map(|index| alloc::format!("{index:x}"));
        let texts: Vec<String> = all.filter(|text| hash(text.as_bytes()) & 0xFFF == 0).take(1100).collect();
        let mut names = Names::default();
        names.reserve(texts.len()).unwrap();
        let refused = texts.iter().position(|text| names.number(text.as_bytes()).is_err());
        assert_eq!(refused, Some(STEPS));
    }
}
