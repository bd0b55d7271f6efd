//! Trampolines where the table word is a pthread key's: macOS. See src/platform/os/macos/thread.rs.

use super::{BR_X16, CBZ_X16_NEXT, ISB, add_x16_x16, ldr_x16_x16};

/// A trampoline's room: half a slot's of macOS.
pub(crate) const LEN: usize = 64;

const MRS_X16_TPIDRRO_EL0: u32 = 0xd53b_d070;
/// `and x16, x16, #-8`: the register's low bits held the core's number in older systems.
const AND_X16_MINUS_8: u32 = 0x927d_f210;

/// The trampoline of a slot. `key_offset` is the table word's distance from TPIDRRO_EL0 in bytes;
/// `live` the live table's address, which a word of null stands for. `synchronise` as in
/// [`encode`](super::encode); macOS always asks for it.
///
/// No `bti c`: the system has no call that makes a page of a process guarded (sys/mman.h), so
/// nobody asks for landing pads.
///
/// None if the word or the slot is out of reach: 32 KiB and 16 MiB are addressed, and there are 768
/// keys.
pub(crate) fn encode(slot: u32, key_offset: i64, live: u64, synchronise: bool) -> Option<[u8; LEN]> {
    let mut words = load_table(key_offset)?;
    let entry = slot.checked_mul(8).filter(|entry| *entry < 1 << 24)?;
    let to_live = words.len();
    words.push(0);
    if entry < 1 << 15 {
        words.push(ldr_x16_x16(entry));
    } else {
        words.extend([add_x16_x16(entry), ldr_x16_x16(entry & 0xfff)]);
    }
    if synchronise {
        words.extend([CBZ_X16_NEXT, ISB]);
    }
    words.push(BR_X16);
    // cbz x16, to where the live table's address is loaded, and back behind the branch.
    words[to_live] = 0xb400_0010 | ((words.len() - to_live) as u32) << 5;
    // ldr x16, the last two words
    let literal = LEN / 4 - 2;
    words.push(0x5800_0010 | ((literal - words.len()) as u32) << 5);
    let back = (to_live + 1).wrapping_sub(words.len()) as u32;
    words.push(0x1400_0000 | back & 0x03ff_ffff);

    let mut code = [0; LEN];
    for (place, word) in code.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    code[LEN - 8..].copy_from_slice(&live.to_le_bytes());
    Some(code)
}

/// The instructions that load the table word. None if it is out of reach.
pub(crate) fn load_table(key_offset: i64) -> Option<Vec<u32>> {
    let offset = u32::try_from(key_offset).ok().filter(|o| o % 8 == 0 && *o < 1 << 15)?;
    Some(vec![MRS_X16_TPIDRRO_EL0, AND_X16_MINUS_8, ldr_x16_x16(offset)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(code: [u8; LEN]) -> Vec<u32> {
        code.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
    }

    const LIVE: u64 = 0x1122_3344_5566_7788;

    /// Expected values are what llvm-mc writes for the text beside them.
    #[test]
    fn trampolines_are_what_the_assembler_writes() {
        let near = [
            0xd53b_d070, // mrs x16, tpidrro_el0
            0x927d_f210, // and x16, x16, #0xfffffffffffffff8
            0xf944_0610, // ldr x16, [x16, #2056]
            0xb400_00b0, // cbz x16, . + 20
            0xf940_0e10, // ldr x16, [x16, #24]
            0xb400_0030, // cbz x16, . + 4
            0xd503_3fdf, // isb
            0xd61f_0200, // br  x16
            0x5800_00d0, // ldr x16, . + 24
            0x17ff_fffb, // b . - 20
            0,
            0,
            0,
            0,
            0x5566_7788,
            0x1122_3344,
        ];
        assert_eq!(words(encode(3, 2056, LIVE, true).unwrap()), near);
        let far = [
            0xd53b_d070, // mrs x16, tpidrro_el0
            0x927d_f210, // and x16, x16, #0xfffffffffffffff8
            0xf94b_fe10, // ldr x16, [x16, #6136]
            0xb400_00d0, // cbz x16, . + 24
            0x9142_0210, // add x16, x16, #128, lsl #12
            0xf940_0610, // ldr x16, [x16, #8]
            0xb400_0030, // cbz x16, . + 4
            0xd503_3fdf, // isb
            0xd61f_0200, // br  x16
            0x5800_00b0, // ldr x16, . + 20
            0x17ff_fffa, // b . - 24
            0,
            0,
            0,
            0x5566_7788,
            0x1122_3344,
        ];
        assert_eq!(words(encode(0x1_0001, 6136, LIVE, true).unwrap()), far);
        assert_eq!(
            words(encode(3, 2056, LIVE, false).unwrap())[4..7],
            [0xf940_0e10, 0xd61f_0200, 0x5800_0110]
        );
    }

    #[test]
    fn a_table_word_out_of_reach_is_refused() {
        assert_eq!(encode(0, 1 << 15, LIVE, true), None);
        assert_eq!(encode(0, i64::MAX, LIVE, true), None);
        assert_eq!(encode(0, -8, LIVE, true), None);
        assert_eq!(encode(0, 12, LIVE, true), None);
        assert_eq!(encode(1 << 21, 16, LIVE, true), None);
    }

    /// Executed, with the thread register of Linux in the place of Apple's and words of our own
    /// behind it: a word of null calls through the live table, any other through its own.
    #[cfg(all(target_arch = "aarch64", target_os = "linux"))]
    #[test]
    fn null_is_the_live_table() {
        use memmap2::MmapMut;

        extern "C" fn one() -> usize {
            1
        }
        extern "C" fn two() -> usize {
            2
        }
        const MRS_X16_TPIDR_EL0: u32 = 0xd53b_d050;
        for slot in [3_usize, 5000] {
            let mut live = vec![0_usize; slot + 1];
            let mut other = live.clone();
            live[slot] = one as *const () as usize;
            other[slot] = two as *const () as usize;
            let mut key = [0_usize; 2];
            let mut code = words(encode(slot as u32, 8, live.as_ptr() as u64, true).unwrap());
            // The register cannot be set: read what x0 holds instead. mov x16, x0
            assert_eq!(code[0] ^ MRS_X16_TPIDR_EL0, 0x20);
            code[0] = 0xaa00_03f0;
            let mut memory = MmapMut::map_anon(LEN).unwrap();
            for (place, word) in memory.chunks_exact_mut(4).zip(&code) {
                place.copy_from_slice(&word.to_le_bytes());
            }
            let memory = memory.make_exec().unwrap();
            // SAFETY: written, made visible and then executed; the function takes the words'
            // address, and touches x16 alone.
            unsafe {
                crate::platform::arch::cache::publish_code(memory.as_ptr(), LEN);
                let call: extern "C" fn(*const usize) -> usize = std::mem::transmute(memory.as_ptr());
                assert_eq!(call(key.as_ptr()), 1);
                key[1] = other.as_ptr() as usize;
                assert_eq!(call(key.as_ptr()), 2);
            }
        }
    }
}
