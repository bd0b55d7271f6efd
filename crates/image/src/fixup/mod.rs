//! Fix-ups: what a relocation writes, as pure functions over bytes.
//!
//! A reader of a file format turns its own relocation numbers into a [`Kind`] and calls [`apply`],
//! for what a loader writes, or into a [`Howto`], for what a static linker does. Nothing here knows
//! the host: both instruction sets are encoded, and tested, everywhere.

pub mod aarch64;
mod howto;
pub mod x86_64;

use crate::Machine;
pub use howto::{Encoding, From, Howto, Problem, Slot, What};
use howto::{check_range, page};

/// What is to be written, whatever the machine calls it.
///
/// In the words of the processor supplements: B is how far the image is from the addresses it was
/// linked for, S the address of the symbol, A the addend.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Kind {
    /// B + A: a pointer into the module itself.
    Relative,
    /// S + A: a pointer in data.
    Absolute64,
    /// The entry of a symbol in the global offset table.
    GlobDat,
    /// The entry of a function in the procedure linkage table's part of the global offset table.
    JumpSlot,
}

impl Kind {
    /// Whether S is part of the sum.
    pub fn uses_symbol(self) -> bool {
        !matches!(self, Kind::Relative)
    }

    /// What the address of the place must be a multiple of.
    ///
    /// Entries of the global offset table are loaded by code as whole words. A pointer in data may
    /// be anywhere, as in a packed structure.
    pub fn place_align(self) -> u64 {
        match self {
            Kind::Relative | Kind::Absolute64 => 1,
            Kind::GlobDat | Kind::JumpSlot => 8,
        }
    }

    /// How many bytes are written.
    pub const SIZE: u64 = 8;
}

/// The terms of the sum.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Operands {
    /// B: the address of the image minus the address it was linked for.
    pub bias: u64,
    /// S: the address of the symbol; 0 where there is none.
    pub symbol: u64,
    /// A.
    pub addend: i64,
}

/// The place is not [`Kind::SIZE`] bytes long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WrongPlace;

/// Writes one fix-up. Sums are modulo 2^64, as both supplements define a 64-bit word.
pub fn apply(machine: Machine, kind: Kind, place: &mut [u8], with: Operands) -> Result<(), WrongPlace> {
    let word: &mut [u8; 8] = place.try_into().map_err(|_| WrongPlace)?;
    *word = value(machine, kind, with).to_le_bytes();
    Ok(())
}

/// The sum that [`apply`] writes.
pub(crate) fn value(machine: Machine, kind: Kind, with: Operands) -> u64 {
    match (machine, kind) {
        (_, Kind::Relative) => with.bias.wrapping_add_signed(with.addend),
        (_, Kind::Absolute64) => with.symbol.wrapping_add_signed(with.addend),
        // AMD64 defines these as S alone, and linkers have been seen to leave offsets in the addend
        // of a JUMP_SLOT; Arm defines them as S + A.
        (Machine::X86_64, Kind::GlobDat | Kind::JumpSlot) => with.symbol,
        (Machine::Aarch64, Kind::GlobDat | Kind::JumpSlot) => with.symbol.wrapping_add_signed(with.addend),
    }
}

/// Adds the bias to the word that is already there: a RELR fix-up, whose addend is in its place.
pub fn rebase(place: &mut [u8], bias: u64) -> Result<(), WrongPlace> {
    let word: &mut [u8; 8] = place.try_into().map_err(|_| WrongPlace)?;
    *word = u64::from_le_bytes(*word).wrapping_add(bias).to_le_bytes();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use Machine::{Aarch64, X86_64};

    fn applied(machine: Machine, kind: Kind, with: Operands) -> u64 {
        let mut place = [0xA5; 8];
        apply(machine, kind, &mut place, with).unwrap();
        u64::from_le_bytes(place)
    }

    #[test]
    fn sums_of_both_machines() {
        let with = Operands { bias: 0x10_0000, symbol: 0x7000, addend: -8 };
        for (machine, kind, expected) in [
            (X86_64, Kind::Relative, 0xF_FFF8),
            (Aarch64, Kind::Relative, 0xF_FFF8),
            (X86_64, Kind::Absolute64, 0x6FF8),
            (Aarch64, Kind::Absolute64, 0x6FF8),
            (X86_64, Kind::GlobDat, 0x7000),
            (Aarch64, Kind::GlobDat, 0x6FF8),
            (X86_64, Kind::JumpSlot, 0x7000),
            (Aarch64, Kind::JumpSlot, 0x6FF8),
        ] {
            assert_eq!(applied(machine, kind, with), expected, "{machine} {kind:?}");
        }
    }

    #[test]
    fn words_are_little_endian_on_every_host() {
        let mut place = [0; 8];
        let with = Operands { symbol: 0x0807_0605_0403_0201, ..Operands::default() };
        apply(Aarch64, Kind::GlobDat, &mut place, with).unwrap();
        assert_eq!(place, [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn sums_wrap() {
        let with = Operands { bias: u64::MAX, symbol: u64::MAX, addend: i64::MAX };
        for machine in [X86_64, Aarch64] {
            for kind in [Kind::Relative, Kind::Absolute64, Kind::GlobDat, Kind::JumpSlot] {
                applied(machine, kind, with);
            }
        }
        let mut place = [0xFF; 8];
        rebase(&mut place, 3).unwrap();
        assert_eq!(u64::from_le_bytes(place), 2);
    }

    #[test]
    fn a_place_of_another_size_is_left_alone() {
        for length in [0, 7, 9] {
            let mut place = alloc::vec![0xA5; length];
            assert_eq!(apply(X86_64, Kind::Relative, &mut place, Operands::default()), Err(WrongPlace));
            assert_eq!(rebase(&mut place, 1), Err(WrongPlace));
            assert!(place.iter().all(|byte| *byte == 0xA5));
        }
    }
}
