//! Where in the sections the addresses are.

use core::cell::RefCell;
use core::ops::Range;

use alloc::vec::Vec;

use gimli::{EndianSlice, LittleEndian, Relocate, RelocateReader};

/// The places of one section's addresses.
#[derive(Debug)]
pub(super) struct Places {
    /// In the file's numbering.
    image: Range<u64>,
    found: RefCell<Vec<usize>>,
}

impl Places {
    /// Notes a word if it is an address of the image. Linkers mark what they have discarded by 0,
    /// 1, -1 or -2, and such a mark must stay one.
    pub(super) fn note(&self, place: usize, value: u64) {
        if value != 0 {
            self.note_even_zero(place, value);
        }
    }

    /// As [`note`](Self::note), of a word that marks nothing.
    pub(super) fn note_even_zero(&self, place: usize, value: u64) {
        // The end of a range may be the end of the image.
        if self.image.start <= value && value <= self.image.end {
            self.found.borrow_mut().push(place);
        }
    }

    /// How many were noted.
    pub(super) fn len(&self) -> usize {
        self.found.borrow().len()
    }

    /// Takes back what was noted last, down to `len`.
    pub(super) fn forget(&self, len: usize) {
        self.found.borrow_mut().truncate(len);
    }
}

impl Relocate for &Places {
    fn relocate_address(&self, place: usize, value: u64) -> gimli::Result<u64> {
        self.note(place, value);
        Ok(value)
    }

    fn relocate_offset(&self, _: usize, value: usize) -> gimli::Result<usize> {
        Ok(value)
    }
}

pub(super) type Slice<'s> = EndianSlice<'s, LittleEndian>;

/// A reader that notes the addresses it reads.
pub(super) type Reader<'r> = RelocateReader<Slice<'r>, &'r Places>;

/// A section and where its addresses are.
pub(super) struct Addresses<'s> {
    pub(super) bytes: &'s [u8],
    pub(super) places: Places,
}

impl<'s> Addresses<'s> {
    pub(super) fn of(bytes: &'s [u8], image: &Range<u64>) -> Self {
        let places = Places { image: image.clone(), found: RefCell::default() };
        Self { bytes, places }
    }

    pub(super) fn reader(&self) -> Reader<'_> {
        RelocateReader::new(EndianSlice::new(self.bytes, LittleEndian), &self.places)
    }

    /// Each once, so that none is moved twice.
    pub(super) fn into_places(self) -> Vec<usize> {
        let mut found = self.places.found.into_inner();
        found.sort_unstable();
        found.dedup();
        found
    }
}
