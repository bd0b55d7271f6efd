//! What an encoding says: `UNWIND_ARM64_*` of <mach-o/compact_unwind_encoding.h>.

use super::TABLE;
use crate::Error;

/// `UNWIND_ARM64_MODE_MASK`.
const MODE: u32 = 0x0F00_0000;
/// `UNWIND_ARM64_FRAMELESS_STACK_SIZE_MASK`: in units of 16 bytes.
const STACK_SIZE: u32 = 0x00FF_F000;

/// Pairs in the order in which they are saved, downwards: the bit, and the DWARF numbers of both
/// registers ("DWARF for the Arm 64-bit Architecture": x0 is 0, v0 is 64).
const PAIRS: [(u32, [u8; 2]); 9] = [
    (0x001, [19, 20]),
    (0x002, [21, 22]),
    (0x004, [23, 24]),
    (0x008, [25, 26]),
    (0x010, [27, 28]),
    (0x100, [72, 73]),
    (0x200, [74, 75]),
    (0x400, [76, 77]),
    (0x800, [78, 79]),
];

/// Registers, by their DWARF numbers.
pub(super) const FRAME_POINTER: u8 = 29;
pub(super) const LINK: u8 = 30;
pub(super) const STACK_POINTER: u8 = 31;

/// How a function's caller is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// Not said.
    Nothing,
    /// By a record of `__eh_frame`.
    Dwarf,
    /// By these rules.
    Rules(Frame),
}

/// The rules of a function's frame. The canonical frame address (CFA) is what the stack pointer was
/// at the call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Frame {
    /// The caller's frame pointer and return address are saved right below the CFA, the frame
    /// pointer points to them, and the pairs are below. Bits of pairs.
    Pointer(u32),
    /// The return address is in its register, the CFA so many bytes above the stack pointer, and
    /// pairs right below it.
    Leaf(u32, u32),
}

impl Frame {
    /// What the CFA is counted from, and how far.
    pub(crate) fn cfa(self) -> (u8, u32) {
        match self {
            Frame::Pointer(_) => (FRAME_POINTER, 16),
            Frame::Leaf(size, _) => (STACK_POINTER, size),
        }
    }

    /// The registers that are saved, each with how many words below the CFA.
    ///
    /// (LLVM's libunwind takes a leaf's pairs to be one word higher than clang saves them. No
    /// exception passes through a leaf, so nobody notices there.)
    pub(crate) fn saved(self) -> impl Iterator<Item = (u8, u32)> {
        let (first, pairs) = match self {
            Frame::Pointer(pairs) => (&[LINK, FRAME_POINTER][..], pairs),
            Frame::Leaf(_, pairs) => (&[][..], pairs),
        };
        let pairs = PAIRS.iter().filter(move |(bit, _)| pairs & bit != 0).flat_map(|(_, both)| both);
        first.iter().chain(pairs).copied().zip(1..)
    }
}

/// What an encoding says of the frame. The bits that say something else (begins a function, has an
/// LSDA, which personality) are ignored: the entry has that.
pub(crate) fn mode(encoding: u32) -> Result<Mode, Error> {
    let all = PAIRS.iter().fold(0, |all, (bit, _)| all | bit);
    let rest = encoding & 0x00FF_FFFF;
    let pairs = rest & all;
    match encoding & MODE {
        0 if rest == 0 => Ok(Mode::Nothing),
        0x0200_0000 if rest & !(all | STACK_SIZE) == 0 => {
            let size = 16 * ((rest & STACK_SIZE) >> 12);
            Ok(Mode::Rules(Frame::Leaf(size, pairs)))
        }
        0x0300_0000 => Ok(Mode::Dwarf),
        0x0400_0000 if rest & !all == 0 => Ok(Mode::Rules(Frame::Pointer(pairs))),
        0x0500_0000 => Err(Error::UnsupportedSection {
            section: TABLE.into(),
            problem: "has frames with signed return addresses (UNWIND_ARM64_MODE_FRAME_PAUTH_LR), which are arm64e's: build for \
                      arm64",
        }),
        _ => Err(Error::Malformed {
            table: TABLE,
            problem: "an unknown encoding of a frame",
            at: encoding.into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn rules(encoding: u32) -> Option<Frame> {
        match mode(encoding) {
            Ok(Mode::Rules(frame)) => Some(frame),
            _ => None,
        }
    }

    #[test]
    fn frames_and_leaves() {
        let frame = rules(0x5400_0809).unwrap();
        assert_eq!(frame.cfa(), (29, 16));
        let saved = [(30, 1), (29, 2), (19, 3), (20, 4), (25, 5), (26, 6), (78, 7), (79, 8)];
        assert_eq!(frame.saved().collect::<Vec<_>>(), saved);
        let leaf = rules(0x0200_3103).unwrap();
        assert_eq!(leaf.cfa(), (31, 48));
        let saved = [(19, 1), (20, 2), (21, 3), (22, 4), (72, 5), (73, 6)];
        assert_eq!(leaf.saved().collect::<Vec<_>>(), saved);
        assert_eq!(rules(0x02FF_F000), Some(Frame::Leaf(65_520, 0)));
        assert_eq!(rules(0x0400_0F1F).unwrap().saved().count(), 20);
    }

    #[test]
    fn others() {
        for nothing in [0, 0x8000_0000, 0x7000_0000] {
            assert_eq!(mode(nothing), Ok(Mode::Nothing));
        }
        assert_eq!(mode(0x43FF_FFFF), Ok(Mode::Dwarf));
        // Unknown bits would be unknown registers.
        for unknown in [1, 0x0100_0000, 0x0600_0000, 0x0F00_0000, 0x0400_1000, 0x0400_0020, 0x0200_0040] {
            assert!(matches!(mode(unknown), Err(Error::Malformed { .. })), "{unknown:#x}");
        }
        assert!(matches!(mode(0x0500_0001), Err(Error::UnsupportedSection { .. })));
    }
}
