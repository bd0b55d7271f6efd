//! Recovery points: what a guarded call leaves on its stack (asm/x86_64/guard.s), and how an
//! interrupted thread is sent back there.

use std::cell::Cell;

/// What a recovery point is made of, at the stack pointer that it restores. The callee-saved
/// registers are behind it, as they were pushed.
#[repr(C)]
pub(crate) struct Record {
    /// The recovery point around this one; null if there is none.
    pub(crate) previous: *mut Record,
    /// The thread's word that has the innermost.
    pub(crate) top: *const Cell<*mut Record>,
    /// Its own address, as long as it is one.
    pub(crate) mark: usize,
    /// The shadow stack's pointer; 0 if there is none.
    pub(crate) shadow: u64,
    /// MXCSR, and the x87 control word.
    pub(crate) modes: u64,
}

/// With the six registers and the return address, a multiple of 16: the stack is aligned for a call.
pub(crate) const RECORD: usize = size_of::<Record>();
const _: () = assert!((RECORD + 6 * 8 + 8).is_multiple_of(16));

/// The registers in which the landing pad takes its two words, by their DWARF numbers: rax and rdx
/// (System V ABI, "DWARF Register Number Mapping").
#[cfg_attr(target_os = "macos", allow(dead_code, reason = "macOS has no recovery points yet"))]
pub(crate) const PAD_REGISTERS: [i32; 2] = [0, 1];

/// EFLAGS as a function must find them: the direction flag clear (System V ABI, 3.2.1), and so the
/// alignment check, which no compiler expects.
pub(crate) fn flags(before: u64) -> u64 {
    const DIRECTION: u64 = 1 << 10;
    const ALIGNMENT: u64 = 1 << 18;
    before & !(DIRECTION | ALIGNMENT)
}

/// How long an instruction is that calls what is in a register or in memory, and ends at the end of
/// these bytes; and which address it calls, given the registers (by their numbers in instructions)
/// and a way to read what the instruction itself has read. None if no such instruction ends there
/// that calls `target`.
pub(crate) fn calls(
    before: &[u8],
    end: u64,
    registers: &[u64; 16],
    target: u64,
    read: impl Fn(u64) -> Option<u64>,
) -> bool {
    // FF /2 with an optional REX prefix: 2 to 8 bytes, the longest with a SIB byte and a
    // displacement of 32 bits. Legacy prefixes (notrack: 3E) in front do not matter.
    (2..=8).filter(|len| *len <= before.len()).any(|len| {
        let code = &before[before.len() - len..];
        let (rex, code) = match code {
            [rex @ 0x40..=0x4f, rest @ ..] => (*rex, rest),
            code => (0, code),
        };
        let [0xff, form, rest @ ..] = code else { return false };
        if (form >> 3) & 7 != 2 {
            return false;
        }
        let base = usize::from(form & 7) | usize::from(rex & 1) << 3;
        let displacement = |bytes: &[u8]| match *bytes {
            [] => Some(0),
            [byte] => Some(byte as i8 as u64),
            [a, b, c, d] => Some(i32::from_le_bytes([a, b, c, d]) as u64),
            _ => None,
        };
        let size = match form >> 6 {
            3 => return rest.is_empty() && registers[base] == target,
            0 if form & 7 == 5 => 4,
            0 => 0,
            1 => 1,
            _ => 4,
        };
        let address = match form & 7 {
            // Relative to the next instruction.
            5 if form >> 6 == 0 => {
                (rest.len() == 4).then(|| displacement(rest)).flatten().map(|d| end.wrapping_add(d))
            }
            4 => {
                let [sib, rest @ ..] = rest else { return false };
                let index = usize::from(sib >> 3 & 7) | usize::from(rex & 2) << 2;
                let low = usize::from(sib & 7) | usize::from(rex & 1) << 3;
                let (base, size) = match (sib & 7, form >> 6) {
                    (5, 0) => (0, 4),
                    _ => (registers[low], size),
                };
                let index = if index == 4 { 0 } else { registers[index] << (sib >> 6) };
                let whole = rest.len() == size;
                whole.then(|| displacement(rest)).flatten().map(|d| base.wrapping_add(index).wrapping_add(d))
            }
            _ => (rest.len() == size)
                .then(|| displacement(rest))
                .flatten()
                .map(|d| registers[base].wrapping_add(d)),
        };
        address.and_then(&read) == Some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn direction_and_alignment_are_as_functions_expect_them() {
        assert_eq!(flags(0x4_0647), 0x247);
        assert_eq!(flags(0x246), 0x246);
    }

    #[test]
    fn a_call_is_known_by_where_it_goes() {
        let mut registers = [0; 16];
        (registers[0], registers[3], registers[9], registers[12]) = (0x10, 0x2000, 0x4000, 7);
        let read = |address| match address {
            0x2000 => Some(0x77),
            0x2010 => Some(0x88),
            0x2400 => Some(0x99),
            0x1006 => Some(0xaa),
            0x2038 => Some(0xbb),
            _ => None,
        };
        let cases: [(&[u8], u64); 9] = [
            (&[0xff, 0xd0], 0x10),                   // call *%rax
            (&[0x41, 0xff, 0xd4], 7),                // call *%r12
            (&[0xff, 0x13], 0x77),                   // call *(%rbx)
            (&[0xff, 0x53, 0x10], 0x88),             // call *0x10(%rbx)
            (&[0xff, 0x93, 0, 4, 0, 0], 0x99),       // call *0x400(%rbx)
            (&[0xff, 0x15, 6, 0, 0, 0], 0xaa),       // call *6(%rip)
            (&[0x42, 0xff, 0x14, 0xe3], 0xbb),       // call *(%rbx,%r12,8)
            (&[0x42, 0xff, 0x54, 0xe3, 0xd8], 0x88), // call *-0x28(%rbx,%r12,8)
            (&[0x3e, 0xff, 0xd0], 0x10),             // notrack call *%rax
        ];
        for (code, target) in cases {
            let padded = [&[0x90; 6], code].concat();
            assert!(calls(&padded, 0x1000, &registers, target, read), "{code:x?}");
            assert!(!calls(&padded, 0x1000, &registers, target + 1, read), "{code:x?}");
        }
        // A direct call, and a jump.
        assert!(!calls(&[0xe8, 0, 0, 0, 0], 0x1000, &registers, 0x1000, read));
        assert!(!calls(&[0xff, 0xe0], 0x1000, &registers, 0x10, read));
        assert!(!calls(&[], 0x1000, &registers, 0, read));
    }
}
