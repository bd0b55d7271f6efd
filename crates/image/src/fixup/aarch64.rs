//! AArch64 instructions: the fields that fix-ups fill, and the stub through which far code is
//! reached.
//!
//! ELF for the Arm 64-bit Architecture, section "Relocation": for each field, which instructions
//! have it, which values it takes, and which bits of them. Instruction formats: Arm Architecture
//! Reference Manual, chapter C4.1.

use super::Problem;

/// A field of an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Field {
    /// ADR: within 1 MiB.
    Adr,
    /// ADRP: pages of 4 KiB, within 4 GiB. The one that is not checked is followed by what sets the
    /// upper bits.
    Adrp {
        /// Whether the value must fit.
        checked: bool,
    },
    /// ADD: bits 11 to 0.
    AddLow {
        /// Whether the value must fit.
        checked: bool,
    },
    /// ADD of a number shifted by 12: bits 23 to 12.
    AddHigh,
    /// A load or store at an unsigned offset: bits 11 down to the size of what is accessed.
    Access {
        /// The binary logarithm of that size.
        log2: u8,
        /// Whether the value must fit.
        checked: bool,
    },
    /// LDR of 8 bytes at an unsigned offset: bits 14 to 3.
    Entry,
    /// LDR (literal): within 1 MiB.
    Literal,
    /// TBZ, TBNZ: within 32 KiB.
    TestBranch,
    /// B.cond, CBZ, CBNZ: within 1 MiB.
    ConditionalBranch,
    /// B, BL: within 128 MiB.
    Branch,
    /// MOVZ, MOVK, MOVN: 16 bits.
    Move {
        /// Which 16 bits, from the lowest.
        group: u8,
        /// Which values are taken.
        check: Check,
    },
}

/// Which values a move takes, being the most significant of those that make up a number or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Check {
    /// All: more significant moves follow.
    Nothing,
    /// Numbers from 0.
    Unsigned,
    /// Both signs. The instruction becomes MOVZ or MOVN accordingly.
    Signed,
}

const MOVZ: u32 = 0x4000_0000;

impl Field {
    /// The lowest and the highest value it takes, if there are such.
    pub fn range(self) -> Option<(i64, i64)> {
        let signed = |bits: u32| Some((-(1 << bits), (1 << bits) - 1));
        let unsigned = |bits: u32| Some((0, (1 << bits) - 1));
        match self {
            Field::Adr | Field::Literal | Field::ConditionalBranch => signed(20),
            Field::Adrp { checked: true } => signed(32),
            Field::AddLow { checked: true } | Field::Access { checked: true, .. } => unsigned(12),
            Field::AddHigh => unsigned(24),
            Field::Entry => unsigned(15),
            Field::TestBranch => signed(15),
            Field::Branch => signed(27),
            Field::Move { group: group @ 0..3, check: Check::Unsigned } => {
                unsigned(16 * (u32::from(group) + 1))
            }
            Field::Move { group: group @ 0..3, check: Check::Signed } => signed(16 * (u32::from(group) + 1)),
            Field::Adrp { checked: false }
            | Field::AddLow { checked: false }
            | Field::Access { checked: false, .. }
            | Field::Move { .. } => None,
        }
    }

    /// What the value must be a multiple of. A page's difference always is.
    fn align(self) -> i64 {
        match self {
            Field::Access { log2, .. } => 1 << log2,
            Field::Entry => 8,
            Field::Literal | Field::TestBranch | Field::ConditionalBranch | Field::Branch => 4,
            _ => 1,
        }
    }

    /// What is to be in the place, and the names of it.
    fn expected(self) -> &'static str {
        match self {
            Field::Adr => "ADR",
            Field::Adrp { .. } => "ADRP",
            Field::AddLow { .. } | Field::AddHigh => "ADD (immediate)",
            Field::Access { .. } => "a load or store of the type's size, with an unsigned offset",
            Field::Entry => "LDR of 8 bytes, with an unsigned offset",
            Field::Literal => "LDR (literal)",
            Field::TestBranch => "TBZ or TBNZ",
            Field::ConditionalBranch => "B.cond, CBZ or CBNZ",
            Field::Branch => "B or BL",
            Field::Move { check: Check::Signed, .. } => "MOVZ or MOVN, of the type's 16 bits",
            Field::Move { .. } => "MOVZ or MOVK, of the type's 16 bits",
        }
    }

    fn is_in(self, code: u32) -> bool {
        let is = |mask: u32, bits: u32| code & mask == bits;
        match self {
            Field::Adr => is(0x9F00_0000, 0x1000_0000),
            Field::Adrp { .. } => is(0x9F00_0000, 0x9000_0000),
            // ADD and ADDS of either width.
            Field::AddLow { .. } => is(0x5FC0_0000, 0x1100_0000),
            Field::AddHigh => is(0x5FC0_0000, 0x1140_0000),
            Field::Access { log2, .. } => {
                // The size is in bits 31 and 30; a whole vector register has 0 there and the upper
                // bit of opc set.
                let whole = is(0xC480_0000, 0x0480_0000);
                let size = if whole { 4 } else { code >> 30 };
                is(0x3B00_0000, 0x3900_0000) && size == log2.into()
            }
            Field::Entry => is(0xFFC0_0000, 0xF940_0000),
            Field::Literal => is(0x3B00_0000, 0x1800_0000),
            Field::TestBranch => is(0x7E00_0000, 0x3600_0000),
            Field::ConditionalBranch => is(0xFF00_0000, 0x5400_0000) || is(0x7E00_0000, 0x3400_0000),
            Field::Branch => is(0x7C00_0000, 0x1400_0000),
            Field::Move { group, check } => {
                let opcode = (code >> 29) & 3;
                let known =
                    if check == Check::Signed { matches!(opcode, 0 | 2) } else { matches!(opcode, 2 | 3) };
                is(0x1F80_0000, 0x1280_0000) && known && (code >> 21) & 3 == group.into()
            }
        }
    }

    /// The instruction with the field filled. `value` is in its range and aligned.
    fn filled(self, code: u32, value: i64) -> u32 {
        // The low `bits` of the value from bit `from` on, at bit `at` of the instruction.
        let put = |code: u32, at: u32, bits: u32, from: u32| {
            let mask = ((1u64 << bits) - 1) as u32;
            code & !(mask << at) | ((value >> from) as u32 & mask) << at
        };
        match self {
            Field::Adr => put(put(code, 29, 2, 0), 5, 19, 2),
            Field::Adrp { .. } => put(put(code, 29, 2, 12), 5, 19, 14),
            Field::AddLow { .. } => put(code, 10, 12, 0),
            Field::AddHigh => put(code, 10, 12, 12),
            Field::Access { log2, .. } => put(code, 10, 12 - u32::from(log2), log2.into()) & !upper(log2),
            Field::Entry => put(code, 10, 12, 3),
            Field::Literal | Field::ConditionalBranch => put(code, 5, 19, 2),
            Field::TestBranch => put(code, 5, 14, 2),
            Field::Branch => put(code, 0, 26, 2),
            Field::Move { group, check: Check::Signed } if value < 0 => {
                !put(!code, 5, 16, 16 * u32::from(group)) & !MOVZ
            }
            Field::Move { group, check } => {
                let code = if check == Check::Signed { code | MOVZ } else { code };
                put(code, 5, 16, 16 * u32::from(group))
            }
        }
    }

    /// Checks the instruction and the value, and writes the field.
    pub fn write(self, place: &mut [u8; 4], value: i64) -> Result<(), Problem> {
        let code = u32::from_le_bytes(*place);
        if !self.is_in(code) {
            return Err(Problem::Instruction { found: code, expected: self.expected() });
        }
        super::check_range(self.range(), value)?;
        if value & (self.align() - 1) != 0 {
            return Err(Problem::Misaligned { value, align: self.align() });
        }
        *place = self.filled(code, value).to_le_bytes();
        Ok(())
    }
}

/// The bits of a 12-bit offset field that a scaled offset within a page leaves 0.
fn upper(log2: u8) -> u32 {
    (0xFFF & !(0xFFF >> log2)) << 10
}

/// Bytes of a stub.
pub const STUB: usize = 16;

/// Code for the address `at` that jumps to the address in the word at `entry`. It changes only x16,
/// which the procedure call standard leaves to it, and may be called through a pointer where branch
/// targets are checked (BTI).
pub fn stub(at: u64, entry: u64) -> Result<[u8; STUB], Problem> {
    const BTI_C: u32 = 0xD503_245F;
    const ADRP_X16: u32 = 0x9000_0010;
    const LDR_X16_X16: u32 = 0xF940_0210;
    const BR_X16: u32 = 0xD61F_0200;
    let mut code = [0; STUB];
    for (place, instruction) in code.chunks_exact_mut(4).zip([BTI_C, ADRP_X16, LDR_X16_X16, BR_X16]) {
        place.copy_from_slice(&instruction.to_le_bytes());
    }
    let page = super::page(entry).wrapping_sub(super::page(at.wrapping_add(4)));
    let ([_, adrp, ldr, _], _) = code.as_chunks_mut::<4>() else { return Err(Problem::Place) };
    Field::Adrp { checked: true }.write(adrp, page as i64)?;
    Field::Access { log2: 3, checked: false }.write(ldr, entry as i64)?;
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An instruction that has each field, all of its bits 0.
    const FIELDS: [(Field, u32); 12] = [
        (Field::Adr, 0x1000_0000),
        (Field::Adrp { checked: true }, 0x9000_0000),
        (Field::AddLow { checked: false }, 0x9100_0000),
        (Field::AddHigh, 0x9140_0000),
        (Field::Access { log2: 0, checked: false }, 0x3940_0000),
        (Field::Access { log2: 2, checked: false }, 0xB980_0000),
        (Field::Access { log2: 4, checked: false }, 0x3DC0_0000),
        (Field::Literal, 0x5800_0000),
        (Field::TestBranch, 0xB700_0000),
        (Field::ConditionalBranch, 0x5400_0000),
        (Field::Branch, 0x9400_0000),
        (Field::Move { group: 1, check: Check::Unsigned }, 0xF2A0_0000),
    ];

    #[test]
    fn a_field_is_written_into_an_instruction_that_has_it() {
        for (field, _) in FIELDS {
            for (other, code) in FIELDS {
                let mut place = code.to_le_bytes();
                let written = field.write(&mut place, 0);
                match written {
                    Ok(()) => assert_eq!((other, u32::from_le_bytes(place)), (field, code)),
                    Err(Problem::Instruction { found, .. }) => assert!(found == code && other != field),
                    Err(problem) => panic!("{field:?} {other:?} {problem:?}"),
                }
            }
        }
        // NOP, and the right instruction for another 16 bits.
        for code in [0xD503_201F, 0xF2C0_0000] {
            let field = Field::Move { group: 1, check: Check::Nothing };
            assert!(field.write(&mut u32::to_le_bytes(code), 0).is_err());
        }
    }

    #[test]
    fn what_was_in_the_field_is_gone_and_all_else_is_kept() {
        for (field, code) in FIELDS {
            let filled = |code: u32| {
                let mut place = code.to_le_bytes();
                field.write(&mut place, 0).map(|()| u32::from_le_bytes(place))
            };
            // Any bit that may be set in such an instruction is part of the field, and then
            // cleared, or kept.
            for bit in 0..32 {
                let Ok(after) = filled(code | 1 << bit) else { continue };
                let of_field = [code, code | 1 << bit].map(|code| field.filled(code, -1));
                let expected = if of_field[0] == of_field[1] { code } else { code | 1 << bit };
                assert_eq!(after, expected, "{field:?} bit {bit}");
            }
        }
    }

    #[test]
    fn moves_of_both_signs() {
        let moved = |value: i64, code: u32| {
            let mut place = code.to_le_bytes();
            Field::Move { group: 1, check: Check::Signed }
                .write(&mut place, value)
                .map(|()| u32::from_le_bytes(place))
        };
        const MOVZ_LSL_16: u32 = 0xD2A0_0000;
        const MOVN_LSL_16: u32 = 0x92A0_0000;
        for code in [MOVZ_LSL_16, MOVN_LSL_16] {
            assert_eq!(moved(0x1234_5678, code), Ok(MOVZ_LSL_16 | 0x1234 << 5));
            assert_eq!(moved(!0x1234_5678, code), Ok(MOVN_LSL_16 | 0x1234 << 5));
        }
    }

    #[test]
    fn stubs_lead_to_their_entries() {
        for (at, entry) in [(0x1000, 0x2000), (0x5FFC, 0x1FF8), (0x7F00_0000_0FF0, 0x7F00_0400_0008)] {
            let code = stub(at, entry).unwrap();
            let [adrp, ldr] = [4, 8].map(|at| u32::from_le_bytes(*code[at..].first_chunk().unwrap()));
            let pages = i64::from((adrp >> 5 & 0x7FFFF) << 2 | adrp >> 29 & 3) << 43 >> 43;
            let page = ((at + 4) & !0xFFF).wrapping_add_signed(pages << 12);
            assert_eq!(page + 8 * u64::from(ldr >> 10 & 0xFFF), entry);
        }
        assert!(matches!(stub(0, 1 << 33), Err(Problem::OutOfRange { .. })));
        assert!(matches!(stub(0, 0x1004), Err(Problem::Misaligned { .. })));
    }
}
