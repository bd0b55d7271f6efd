//! Whether a word may be an address of the text that is searched for.

use std::io;
use std::ops::Range;

/// Ranges of text, to be found by address.
pub(super) struct Text {
    /// By address, each with its number in the list it came from. None overlap.
    ranges: Box<[(usize, usize, usize)]>,
    /// The bits of an address that count.
    mask: usize,
}

impl Text {
    /// `highest` is an address that none of the process's memory is above.
    ///
    /// Bits above those of every address are ignored: a signed return address (AArch64, FEAT_PAuth)
    /// has its signature there, and a pointer may carry a tag (TBI, MTE, or one of the
    /// program's own). Signatures start at the size of the address space, which is at least that of
    /// the highest address in use; so no configuration of the kernel has to be known.
    pub(super) fn new(ranges: &[Range<usize>], highest: usize) -> io::Result<Self> {
        let mut ranges: Box<[_]> =
            ranges.iter().enumerate().map(|(index, range)| (range.start, range.end, index)).collect();
        ranges.sort_unstable();
        let apart = ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0);
        if !apart || ranges.iter().any(|range| range.0 >= range.1) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "ranges of text overlap, or are empty"));
        }
        let highest = ranges.last().map_or(highest, |last| highest.max(last.1));
        Ok(Self { ranges, mask: usize::MAX.checked_shr(highest.leading_zeros()).unwrap_or(0) })
    }

    /// An address without what does not count.
    pub(super) fn plain(&self, word: usize) -> usize {
        word & self.mask
    }

    pub(super) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// The ranges that a word may point into, by their numbers. The address right behind a range
    /// counts as well: a call that does not return, at the end of a function, leaves it.
    pub(super) fn find(&self, word: usize) -> impl Iterator<Item = usize> {
        let word = word & self.mask;
        let after = self.ranges.partition_point(|range| range.0 <= word);
        // It may be the end of one and the start of the next.
        let near = self.ranges[..after].iter().rev().take(2);
        near.filter(move |range| word <= range.1).map(|range| range.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_may_be_addresses() {
        let find = |text: &Text, word: usize| text.find(word).collect::<Vec<_>>();
        let ranges = [0x7f00_0000_2000..0x7f00_0000_3000, 0x1000..0x1800, 0x7f00_0000_1000..0x7f00_0000_2000];
        let text = Text::new(&ranges, 0x7fff_ffff_f000).unwrap();
        assert_eq!(text.len(), 3);
        assert_eq!(find(&text, 0xfff), [0_usize; 0]);
        assert_eq!(find(&text, 0x1000), [1]);
        assert_eq!(find(&text, 0x17ff), [1]);
        // A return address behind a call that does not return; and where two ranges meet.
        assert_eq!(find(&text, 0x1800), [1]);
        assert_eq!(find(&text, 0x1801), [0_usize; 0]);
        assert_eq!(find(&text, 0x7f00_0000_2000), [0, 2]);
        assert_eq!(find(&text, 0x7f00_0000_2001), [0]);
        assert_eq!(find(&text, 0x7f00_0000_3001), [0_usize; 0]);
        assert_eq!(find(&text, 0x6f00_0000_1004), [0_usize; 0]);
        // Signed and tagged: any bits above an address space of 47 bits, and of 39 and 52 when it
        // is as large.
        assert_eq!(find(&text, 0x1004 | 0xABCD_8000 << 32), [1]);
        let small = Text::new(std::slice::from_ref(&ranges[1]), 0x7f_ffff_f000).unwrap();
        assert_eq!(find(&small, 0x1004 | 0x80 << 32), [0]);
        assert_eq!(find(&small, 0x1004 | 0x40 << 32), [0_usize; 0]);
        let large = Text::new(std::slice::from_ref(&ranges[1]), 0xF_FFFF_FFFF_F000).unwrap();
        assert_eq!(find(&large, 0x1004 | 0x10_0000 << 32), [0]);
        assert_eq!(find(&large, 0x1004 | 0x8_0000 << 32), [0_usize; 0]);
        assert!(find(&Text::new(&[], 0).unwrap(), 0).is_empty());
        assert!(Text::new(&[0x1000..0x2000, 0x1800..0x1900], 1 << 47).is_err());
        assert!(Text::new(std::slice::from_ref(&(0x1000..0x1000)), 1 << 47).is_err());
    }
}
