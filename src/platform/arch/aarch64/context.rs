//! Recovery points: what a guarded call leaves on its stack (asm/aarch64/guard.s), and how an
//! interrupted thread is sent back there.

use std::cell::Cell;

/// What a recovery point is made of, at the stack pointer that it restores.
#[repr(C)]
pub(crate) struct Record {
    /// The recovery point around this one; null if there is none.
    pub(crate) previous: *mut Record,
    /// The thread's word that has the innermost.
    pub(crate) top: *const Cell<*mut Record>,
    /// Its own address, as long as it is one.
    pub(crate) mark: usize,
    /// The guarded control stack's pointer; 0 if there is none.
    pub(crate) shadow: u64,
    /// FPCR.
    pub(crate) modes: u64,
    unused: u64,
    /// x29 and x30, x19 to x28, d8 to d15.
    pub(crate) saved: [u64; 20],
}

/// A multiple of 16, as the stack pointer is.
pub(crate) const RECORD: usize = size_of::<Record>();
const _: () = assert!(RECORD.is_multiple_of(16));

/// The registers in which the landing pad takes its two words, by their DWARF numbers: x0 and x1.
#[cfg_attr(target_os = "macos", allow(dead_code, reason = "macOS has no recovery points yet"))]
pub(crate) const PAD_REGISTERS: [i32; 2] = [0, 1];

/// PSTATE as the landing pad must find it: BTYPE says how the instruction was reached that was
/// interrupted, and would be looked at for the pad (Arm ARM, D8.4, "Effective BTYPE").
pub(crate) fn flags(before: u64) -> u64 {
    const BTYPE: u64 = 3 << 10;
    before & !BTYPE
}

/// Whether an instruction ends at the end of these bytes that calls what is in a register, and goes
/// to `target`.
pub(crate) fn calls(
    before: &[u8],
    _end: u64,
    registers: &[u64; 31],
    target: u64,
    _read: impl Fn(u64) -> Option<u64>,
) -> bool {
    let Some(&[a, b, c, d]) = before.last_chunk::<4>() else { return false };
    let code = u32::from_le_bytes([a, b, c, d]);
    let number = (code >> 5 & 31) as usize;
    // BLR (Arm ARM, C6.2). Those that authenticate fault at themselves.
    code & 0xffff_fc1f == 0xd63f_0000 && registers.get(number) == Some(&target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branch_types_are_forgotten() {
        assert_eq!(flags(0x6000_0c00), 0x6000_0000);
        assert_eq!(flags(0x6000_1000), 0x6000_1000);
    }

    #[test]
    fn a_call_is_known_by_where_it_goes() {
        let mut registers = [0; 31];
        registers[8] = 0x1234;
        let blr_x8 = 0xd63f_0100_u32.to_le_bytes();
        assert!(calls(&blr_x8, 0, &registers, 0x1234, |_| None));
        assert!(!calls(&blr_x8, 0, &registers, 0x1238, |_| None));
        // br x8; bl; blr x31 is none.
        for code in [0xd61f_0100_u32, 0x9400_0000, 0xd63f_03e0] {
            assert!(!calls(&code.to_le_bytes(), 0, &registers, 0x1234, |_| None));
        }
        assert!(!calls(&[0], 0, &registers, 0x1234, |_| None));
    }
}
