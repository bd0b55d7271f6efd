//! Trampolines: stable addresses that jump to what the calling thread's table holds for a slot.
//! That there is always a table, whatever the thread is doing, is the lemma of docs/dispatch.md.
//!
//! Only x16 and x17 are touched, which every AArch64 call may clobber (AAPCS64,
//! "intra-procedure-call scratch registers"); arguments, the indirect result register x8 and the
//! link register pass through. `br x16` may land on `bti c`.

#[cfg_attr(not(target_os = "macos"), allow(dead_code, reason = "macOS's; encoded and tested everywhere"))]
pub(crate) mod apple;

use crate::platform::arch::{CHECKED_CODE, OUTSIDE, Stub};

const BTI_C: u32 = 0xd503_245f;
const MRS_X16_TPIDR_EL0: u32 = 0xd53b_d050;
/// `cbz x16, . + 4`
const CBZ_X16_NEXT: u32 = 0xb400_0030;
const ISB: u32 = 0xd503_3fdf;
const BR_X16: u32 = 0xd61f_0200;
/// `udf #0`: where control can never come.
const UDF: u32 = 0;

/// `ldr x16, [x16, #offset]`, offset a multiple of 8 below 32768.
const fn ldr_x16_x16(offset: u32) -> u32 {
    0xf940_0210 | (offset / 8) << 10
}

/// `add x16, x16, #offset`, offset a multiple of 4096 below 2^24.
const fn add_x16_x16(offset: u32) -> u32 {
    0x9140_0210 | (offset >> 12) << 10
}

/// `mov w17, #value`, in two instructions.
const fn mov_w17(value: u32) -> [u32; 2] {
    [0x5280_0011 | (value & 0xffff) << 5, 0x72a0_0011 | (value >> 16) << 5]
}

/// The trampoline of a slot on this system. `table_offset` is the table word's distance from the
/// thread register in bytes, `live` the live table's address, `synchronise` as in
/// [`encode_static`].
pub(crate) fn encode(slot: u32, table_offset: i64, live: u64, synchronise: bool) -> Option<Stub> {
    #[cfg(target_os = "macos")]
    return apple::encode(slot, table_offset, live, synchronise);
    #[cfg(not(target_os = "macos"))]
    {
        // The table word is never null here.
        let _ = live;
        encode_static(slot, table_offset, synchronise)
    }
}

/// The trampoline of a slot where the table word is in static TLS. `table_offset` is the table
/// word's distance from TPIDR_EL0 in bytes.
///
/// `synchronise`: the kernel does not have other cores discard what they have fetched, so whoever
/// calls does it. The branch on the target, which goes to the next instruction either way, keeps
/// the `ISB` behind the load: together they order all that follows, data included (Arm ARM, B2.3,
/// "Dependency-ordered-before": an instruction fetched behind an ISB behind a branch that depends
/// on the load).
///
/// None if the word is out of reach: AArch64's static TLS lies above the thread pointer, and 16 MiB
/// of it are addressed, 32 KiB with `synchronise`, which leaves no room for another instruction.
fn encode_static(slot: u32, table_offset: i64, synchronise: bool) -> Option<Stub> {
    let reach = if synchronise { 1 << 15 } else { 1 << 24 };
    let offset = u32::try_from(table_offset).ok().filter(|o| o % 8 == 0 && *o < reach)?;
    let entry = slot.checked_mul(8).filter(|entry| *entry < 1 << 24)?;
    let mut code = Code::new();
    code.push(BTI_C);
    code.push(MRS_X16_TPIDR_EL0);
    for word in [offset, entry] {
        if word < 1 << 15 {
            code.push(ldr_x16_x16(word));
        } else {
            code.push(add_x16_x16(word));
            code.push(ldr_x16_x16(word & 0xfff));
        }
    }
    if synchronise {
        code.push(CBZ_X16_NEXT);
        code.push(ISB);
    }
    code.push(BR_X16);
    Some(code.finish())
}

/// As [`encode`], of a trampoline that goes to `handler` instead where the thread's table is the
/// live one: outside every frame.
pub(crate) fn encode_checked(
    slot: u32,
    table_offset: i64,
    live: u64,
    handler: u64,
    synchronise: bool,
) -> Option<[u8; CHECKED_CODE]> {
    #[cfg(target_os = "macos")]
    let table = apple::load_table(table_offset)?;
    #[cfg(not(target_os = "macos"))]
    let table = load_table(table_offset)?;
    checked(table, slot, live, handler, synchronise)
}

/// The instructions that load the table word, where it is in static TLS.
fn load_table(table_offset: i64) -> Option<Vec<u32>> {
    let offset = u32::try_from(table_offset).ok().filter(|o| o % 8 == 0 && *o < 1 << 24)?;
    let mut words = vec![BTI_C, MRS_X16_TPIDR_EL0];
    words.extend(load_x16(offset));
    Some(words)
}

/// `ldr x16, [x16, #offset]`, offset a multiple of 8 below 2^24.
fn load_x16(offset: u32) -> Vec<u32> {
    match offset {
        0..0x8000 => vec![ldr_x16_x16(offset)],
        _ => vec![add_x16_x16(offset), ldr_x16_x16(offset & 0xfff)],
    }
}

/// `words` loads the table word. One of null, where that can be, stands for the live table.
fn checked(
    mut words: Vec<u32>,
    slot: u32,
    live: u64,
    handler: u64,
    synchronise: bool,
) -> Option<[u8; CHECKED_CODE]> {
    /// In words.
    const LITERALS: usize = CHECKED_CODE / 4 - 4;
    const CMP_X16_X17: u32 = 0xeb11_021f;
    // `cbz x16`, `b.eq`, `ldr x17` and `ldr x16`, with the distance in words to be added.
    let [to_null, to_live, load_x17, load_literal] = [0xb400_0010, 0x5400_0000, 0x5800_0011, 0x5800_0010];
    let at = |instruction: u32, from: usize, to: usize| instruction | ((to - from) as u32) << 5;
    let entry = slot.checked_mul(8).filter(|entry| *entry < 1 << 24)?;
    let branches = words.len()..words.len() + 4;
    words.extend([0; 4]);
    words.extend(load_x16(entry));
    if synchronise {
        words.extend([CBZ_X16_NEXT, ISB]);
    }
    words.push(BR_X16);
    let outside = words.len();
    words.extend(mov_w17(slot | OUTSIDE));
    words.push(at(load_literal, words.len(), LITERALS + 2));
    words.push(BR_X16);
    let start = branches.start;
    words[start] = at(to_null, start, outside);
    words[start + 1] = at(load_x17, start + 1, LITERALS);
    words[start + 2] = CMP_X16_X17;
    words[start + 3] = at(to_live, start + 3, outside);

    let mut code = [0; CHECKED_CODE];
    for (place, word) in code.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    code[LITERALS * 4..][..8].copy_from_slice(&live.to_le_bytes());
    code[LITERALS * 4 + 8..].copy_from_slice(&handler.to_le_bytes());
    Some(code)
}

/// What an unbound slot's entry points at: hands the slot's number in w17 to `handler`.
pub(crate) fn encode_unbound(slot: u32, handler: u64) -> Stub {
    let mut code = Code::new();
    code.push(BTI_C);
    mov_w17(slot).into_iter().for_each(|i| code.push(i));
    // ldr x16, the literal three instructions on
    code.push(0x5800_0070);
    code.push(BR_X16);
    code.push(UDF);
    code.push(handler as u32);
    code.push((handler >> 32) as u32);
    code.finish()
}

struct Code {
    bytes: Stub,
    len: usize,
}

impl Code {
    fn new() -> Self {
        Self { bytes: [0; size_of::<Stub>()], len: 0 }
    }

    fn push(&mut self, instruction: u32) {
        self.bytes[self.len..self.len + 4].copy_from_slice(&instruction.to_le_bytes());
        self.len += 4;
    }

    fn finish(self) -> Stub {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The instructions up to the first that is zero.
    fn words(stub: Stub) -> Vec<u32> {
        stub.chunks_exact(4)
            .map(|w| u32::from_le_bytes(w.try_into().unwrap()))
            .take_while(|&w| w != UDF)
            .collect()
    }

    /// Expected values are what GNU as writes for the text beside them.
    #[test]
    fn trampolines_are_what_the_assembler_writes() {
        let five = [
            0xd503_245f, // bti c
            0xd53b_d050, // mrs x16, tpidr_el0
            0xf940_0a10, // ldr x16, [x16, #16]
            0xf940_0e10, // ldr x16, [x16, #24]
            0xd61f_0200, // br  x16
        ];
        assert_eq!(words(encode_static(3, 16, false).unwrap()), five, "five instructions, two loads");
        assert_eq!(words(encode_static(4095, 32760, false).unwrap())[2..4], [0xf97f_fe10, 0xf97f_fe10]);
        let far = [
            0xd503_245f, // bti c
            0xd53b_d050, // mrs x16, tpidr_el0
            0x9140_2210, // add x16, x16, #8, lsl #12
            0xf940_0610, // ldr x16, [x16, #8]
            0x9142_0210, // add x16, x16, #128, lsl #12
            0xf940_0610, // ldr x16, [x16, #8]
            0xd61f_0200, // br  x16
        ];
        assert_eq!(words(encode_static(0x1_0001, 0x8008, false).unwrap()), far);
        let synchronising = [
            0xd503_245f, // bti c
            0xd53b_d050, // mrs x16, tpidr_el0
            0xf940_0a10, // ldr x16, [x16, #16]
            0x9142_0210, // add x16, x16, #128, lsl #12
            0xf940_0610, // ldr x16, [x16, #8]
            0xb400_0030, // cbz x16, . + 4
            0xd503_3fdf, // isb
            0xd61f_0200, // br  x16
        ];
        assert_eq!(words(encode_static(0x1_0001, 16, true).unwrap()), synchronising);
    }

    /// As above, with the literals' labels at 112 and 120.
    #[test]
    fn checked_trampolines_are_what_the_assembler_writes() {
        let code = |slot, synchronise| {
            checked(load_table(16).unwrap(), slot, 0x1122_3344_5566_7788, 0x99, synchronise).unwrap()
        };
        let words = |code: [u8; CHECKED_CODE]| {
            code.chunks_exact(4).map(|w| u32::from_le_bytes(w.try_into().unwrap())).collect::<Vec<_>>()
        };
        let near = [
            0xd503_245f, // bti c
            0xd53b_d050, // mrs x16, tpidr_el0
            0xf940_0a10, // ldr x16, [x16, #16]
            0xb400_00d0, // cbz x16, outside
            0x5800_0311, // ldr x17, live
            0xeb11_021f, // cmp x16, x17
            0x5400_0060, // b.eq outside
            0xf940_0e10, // ldr x16, [x16, #24]
            0xd61f_0200, // br x16
            0x5280_0071, // outside: mov w17, #3
            0x72b0_0011, // movk w17, #0x8000, lsl #16
            0x5800_0270, // ldr x16, handler
            0xd61f_0200, // br x16
            0,
        ];
        assert_eq!(words(code(3, false))[..14], near);
        let far = [
            0xd503_245f, // bti c
            0xd53b_d050, // mrs x16, tpidr_el0
            0xf940_0a10, // ldr x16, [x16, #16]
            0xb400_0130, // cbz x16, outside
            0x5800_0311, // ldr x17, live
            0xeb11_021f, // cmp x16, x17
            0x5400_00c0, // b.eq outside
            0x9142_0210, // add x16, x16, #128, lsl #12
            0xf940_0610, // ldr x16, [x16, #8]
            0xb400_0030, // cbz x16, . + 4
            0xd503_3fdf, // isb
            0xd61f_0200, // br x16
            0x5280_0031, // outside: mov w17, #1
            0x72b0_0031, // movk w17, #0x8001, lsl #16
            0x5800_0210, // ldr x16, handler
            0xd61f_0200, // br x16
            0,
        ];
        assert_eq!(words(code(0x1_0001, true))[..17], far);
        assert_eq!(words(code(3, false))[28..], [0x5566_7788, 0x1122_3344, 0x99, 0]);
        assert_eq!(load_table(-8), None);
    }

    #[test]
    fn a_table_word_out_of_reach_is_refused() {
        assert_eq!(encode_static(0, 1 << 24, false), None);
        assert_eq!(encode_static(0, -8, false), None);
        assert_eq!(encode_static(0, 12, false), None);
        assert_eq!(encode_static(0, 1 << 15, true), None);
        assert_eq!(encode_static(1 << 21, 16, false), None);
    }

    #[test]
    fn unbound_stubs_are_what_the_assembler_writes() {
        let stub = encode_unbound(0x2_0001, 0x1122_3344_5566_7788);
        let expected = [
            0xd503_245f, // bti c
            0x5280_0031, // mov w17, #1
            0x72a0_0051, // movk w17, #2, lsl #16
            0x5800_0070, // ldr x16, . + 12
            0xd61f_0200, // br  x16
        ];
        assert_eq!(words(stub), expected);
        assert_eq!(stub[24..], 0x1122_3344_5566_7788_u64.to_le_bytes());
    }
}
