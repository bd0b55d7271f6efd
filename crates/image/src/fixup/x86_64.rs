//! x86-64 instructions: what a load from the global offset table becomes when the symbol turns out
//! to be near, and the stub through which far code is reached.
//!
//! System V ABI, AMD64 Architecture Processor Supplement, section B.2 "Optimize GOTPCRELX
//! Relocations".

use super::{Encoding, Problem};

/// An instruction that reads an address from the global offset table and need not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Load {
    /// `mov symbol@GOTPCREL(%rip), %reg`: becomes `lea symbol(%rip), %reg`.
    Move,
    /// `call *symbol@GOTPCREL(%rip)`: becomes `addr32 call symbol`, which is as long.
    Call,
    /// `jmp *symbol@GOTPCREL(%rip)`: becomes `jmp symbol; nop`.
    Jump,
}

impl Load {
    /// The instruction whose displacement is at `place`. Others than these three (`cmp`, `test`,
    /// ...) stay as they are: without the table they would need an absolute address.
    pub fn at(code: &[u8], place: usize) -> Option<Load> {
        let before: [u8; 2] = code.get(place.checked_sub(2)?..place)?.try_into().ok()?;
        match before {
            [0xFF, 0x15] => Some(Load::Call),
            [0xFF, 0x25] => Some(Load::Jump),
            // Any register, and nothing but the displacement: mod 0, r/m 5.
            [0x8B, modrm] if modrm & 0xC7 == 0x05 => Some(Load::Move),
            _ => None,
        }
    }

    /// Rewrites it. `distance` is that of the symbol from the end of the displacement, as it was.
    pub fn relax(self, code: &mut [u8], place: usize, distance: i64) -> Result<(), Problem> {
        let start = place.checked_sub(2).ok_or(Problem::Place)?;
        let whole = code.get_mut(start..).and_then(|rest| rest.get_mut(..6)).ok_or(Problem::Place)?;
        let number = |place: &mut [u8], value| Encoding::Signed(4).write(place, value);
        match self {
            Load::Move => {
                number(&mut whole[2..], distance)?;
                whole[0] = 0x8D;
            }
            Load::Call => {
                number(&mut whole[2..], distance)?;
                whole[..2].copy_from_slice(&[0x67, 0xE8]);
            }
            Load::Jump => {
                // One byte shorter, so its end is one byte further from the symbol.
                number(&mut whole[1..5], distance.wrapping_add(1))?;
                whole[0] = 0xE9;
                whole[5] = 0x90;
            }
        }
        Ok(())
    }
}

/// Whether the displacement at `place` is that of a direct call or jump. Before binutils 2.31,
/// assemblers gave them the type of any other displacement. No instruction that addresses memory
/// has these bytes there: r/m 5 with mod 0 is none of them.
pub fn is_branch(code: &[u8], place: usize) -> bool {
    let before = |by: usize| place.checked_sub(by).and_then(|at| code.get(at)).copied();
    match before(1) {
        Some(0xE8 | 0xE9) => true,
        Some(0x80..=0x8F) => before(2) == Some(0x0F),
        _ => false,
    }
}

/// Bytes of a stub.
pub const STUB: usize = 8;

/// Code for the address `at` that jumps to the address in the word at `entry`. It changes no
/// register.
pub fn stub(at: u64, entry: u64) -> Result<[u8; STUB], Problem> {
    // jmp *entry(%rip), and two breakpoints that are never reached.
    let mut code = [0xFF, 0x25, 0, 0, 0, 0, 0xCC, 0xCC];
    let end = at.wrapping_add(6);
    Encoding::Signed(4).write(&mut code[2..6], entry.wrapping_sub(end) as i64)?;
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_are_known_by_the_two_bytes_before_the_displacement() {
        for (code, load) in [
            ([0x48, 0x8B, 0x05], Some(Load::Move)),
            ([0x4C, 0x8B, 0x3D], Some(Load::Move)),
            ([0x90, 0xFF, 0x15], Some(Load::Call)),
            ([0x90, 0xFF, 0x25], Some(Load::Jump)),
            // To a register plus a displacement, a comparison, a push.
            ([0x48, 0x8B, 0x87], None),
            ([0x48, 0x3B, 0x05], None),
            ([0x90, 0xFF, 0x35], None),
        ] {
            assert_eq!(Load::at(&code, 3), load, "{code:x?}");
        }
        assert_eq!((Load::at(&[0x8B], 1), Load::at(&[0x8B, 5], 9)), (None, None));
    }

    #[test]
    fn relaxing_needs_room_and_reach() {
        let mut code = [0x48, 0x8B, 0x05, 0, 0, 0, 0];
        assert_eq!(Load::Move.relax(&mut code, 3, 0x1234), Ok(()));
        assert_eq!(code, [0x48, 0x8D, 0x05, 0x34, 0x12, 0, 0]);
        assert!(Load::Move.relax(&mut code, 3, 1 << 31).is_err());
        assert_eq!(
            (Load::Call.relax(&mut code, 1, 0), Load::Call.relax(&mut code, 4, 0)),
            (Err(Problem::Place), Err(Problem::Place))
        );
        let mut jump = [0xFF, 0x25, 0, 0, 0, 0];
        assert_eq!(Load::Jump.relax(&mut jump, 2, -6), Ok(()));
        assert_eq!(jump, [0xE9, 0xFB, 0xFF, 0xFF, 0xFF, 0x90]);
        assert!(Load::Jump.relax(&mut jump, 2, i64::MAX).is_err());
    }

    #[test]
    fn branches_and_displacements_that_are_none() {
        for (code, branch) in [
            (&[0xE8][..], true),
            (&[0x90, 0xE9], true),
            (&[0x0F, 0x84], true),
            (&[0x90, 0x84], false),
            (&[0x8D, 0x05], false),
            (&[], false),
        ] {
            assert_eq!(is_branch(code, code.len()), branch, "{code:x?}");
        }
    }

    #[test]
    fn stubs_lead_to_their_entries() {
        assert_eq!(stub(0x1000, 0x2000), Ok([0xFF, 0x25, 0xFA, 0x0F, 0, 0, 0xCC, 0xCC]));
        assert!(matches!(stub(0, 1 << 32), Err(Problem::OutOfRange { .. })));
    }
}
