//! Code of AArch64 that has thread-local variables of its own at a place that only a program's have
//! (local-exec).
//!
//! GNU ld up to 2.40 and later resolves such relocations in a shared object as if it were the
//! program, without a word: none is left, and DF_STATIC_TLS is not set. The code then reads and
//! writes the program's variables. ELF for the Arm 64-bit Architecture, section "Local Exec TLS":
//! the thread pointer, and an offset in two pieces of 12 bits, of which the upper is added by
//! itself. No other way of reaching anything adds a shifted number to the thread pointer. x86-64's
//! linkers refuse it.

use super::segments::Layout;
use crate::{Error, Machine, Protection};

/// How many instructions compilers may put between reading the thread pointer and adding to it.
const APART: usize = 12;

/// Refuses such code. `related`: whether some relocation is about a thread-local variable.
pub(super) fn check(layout: &Layout<'_>, machine: Machine, related: bool) -> Result<(), Error> {
    if machine != Machine::Aarch64 || layout.thread_locals.is_none_or(|header| empty(&header)) {
        return Ok(());
    }
    for (address, code) in layout.contents(Protection::ReadExecute) {
        // Without a single relocation nothing but that can be what the thread pointer is read for.
        let found = if related { find(code, is_added) } else { find(code, |_, _| true) };
        if let Some(offset) = found {
            return Err(Error::LocalExec { address: address.wrapping_add(offset as u64) });
        }
    }
    Ok(())
}

fn empty(header: &object::elf::ProgramHeader64<object::LittleEndian>) -> bool {
    use object::read::elf::ProgramHeader as _;
    header.p_memsz(object::LittleEndian) == 0
}

/// Where the thread pointer is read into a register, and what follows is as `is_it` says.
fn find(code: &[u8], is_it: impl Fn(u32, &[[u8; 4]]) -> bool) -> Option<usize> {
    let (words, _) = code.as_chunks::<4>();
    words.iter().enumerate().find_map(|(index, word)| {
        let word = u32::from_le_bytes(*word);
        // MRS Xt, TPIDR_EL0.
        let reads = word & 0xFFFF_FFE0 == 0xD53B_D040;
        let after = &words[index + 1..words.len().min(index + 1 + APART)];
        (reads && is_it(word & 31, after)).then_some(4 * index)
    })
}

/// Whether a shifted number is added to the register before it gets another value, or code goes
/// elsewhere.
fn is_added(register: u32, after: &[[u8; 4]]) -> bool {
    for word in after.iter().map(|word| u32::from_le_bytes(*word)) {
        // ADD Xd, Xn, #imm, LSL #12.
        if word & 0xFFC0_0000 == 0x9140_0000 && word >> 5 & 31 == register {
            return true;
        }
        // Branches share a group with hints and system registers. What has the register as its
        // first operand nearly always gives it another value.
        let branch = word & 0x1C00_0000 == 0x1400_0000 && word >> 24 != 0xD5;
        if branch || word & 31 == register {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(words: &[u32]) -> Option<usize> {
        let code: alloc::vec::Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        find(&code, is_added)
    }

    const MRS_X1: u32 = 0xD53B_D041;
    const NOP: u32 = 0xD503_201F;
    const ADD_X1_X1_HIGH: u32 = 0x9140_0021;
    const ADD_X0_X1_HIGH: u32 = 0x9140_0020;
    const LDR_X0_X0: u32 = 0xF940_0000;
    const RET: u32 = 0xD65F_03C0;

    #[test]
    fn what_is_added_to_the_thread_pointer() {
        assert_eq!(at(&[NOP, MRS_X1, ADD_X1_X1_HIGH]), Some(4));
        assert_eq!(at(&[MRS_X1, LDR_X0_X0, NOP, ADD_X0_X1_HIGH]), Some(0));
        for other in [
            &[MRS_X1][..],
            &[MRS_X1, RET, ADD_X1_X1_HIGH],
            // ADRP X1; the sum is of something else.
            &[MRS_X1, 0x9000_0001, ADD_X1_X1_HIGH],
            // ADD X0, X1, X0, as after a descriptor, and to what came of that.
            &[MRS_X1, 0x8B00_0020, 0x9140_0000],
            // ADD X0, X1, #16: not shifted.
            &[MRS_X1, 0x9100_4020],
            &[ADD_X1_X1_HIGH],
            &[],
        ] {
            assert_eq!(at(other), None, "{other:x?}");
        }
        assert_eq!(at(&[&[MRS_X1][..], &[NOP; APART], &[ADD_X1_X1_HIGH]].concat()), None);
    }
}
