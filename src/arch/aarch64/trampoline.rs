//! Trampolines: stable addresses that jump to what the calling thread's table holds for a slot. That there is always a table,
//! whatever the thread is doing, is the lemma of docs/dispatch.md.
//!
//! Only x16 and x17 are touched, which every AArch64 call may clobber (AAPCS64, "intra-procedure-call scratch
//! registers"); arguments, the indirect result register x8 and the link register pass through. `br x16` may land on
//! `bti c`.

use crate::arch::Stub;

const BTI_C: u32 = 0xd503_245f;
const MRS_X16_TPIDR_EL0: u32 = 0xd53b_d050;
const BR_X16: u32 = 0xd61f_0200;
/// `udf #0`: where control can never come.
const UDF: u32 = 0;

/// `ldr x16, [x16, #offset]`, offset a multiple of 8 below 32768.
const fn ldr_x16_x16(offset: u32) -> u32 {
    0xf940_0210 | (offset / 8) << 10
}

/// `mov w17, #value`, in two instructions.
const fn mov_w17(value: u32) -> [u32; 2] {
    [0x5280_0011 | (value & 0xffff) << 5, 0x72a0_0011 | (value >> 16) << 5]
}

/// The trampoline of a slot. `table_offset` is the table word's distance from TPIDR_EL0 in bytes.
///
/// None if the word is out of reach: AArch64's static TLS lies above the thread pointer, and 16 MiB of it are addressed.
pub(crate) fn encode(slot: u32, table_offset: i64) -> Option<Stub> {
    let offset = u32::try_from(table_offset).ok().filter(|o| o % 8 == 0 && *o < 1 << 24)?;
    let mut code = Code::new();
    code.push(BTI_C);
    code.push(MRS_X16_TPIDR_EL0);
    if offset >= 1 << 15 {
        // add x16, x16, #(offset >> 12), lsl #12
        code.push(0x9140_0210 | (offset >> 12) << 10);
        code.push(ldr_x16_x16(offset & 0xfff));
    } else {
        code.push(ldr_x16_x16(offset));
    }
    if slot < 4096 {
        code.push(ldr_x16_x16(slot * 8));
    } else {
        mov_w17(slot).into_iter().for_each(|i| code.push(i));
        // ldr x16, [x16, x17, lsl #3]
        code.push(0xf871_7a10);
    }
    code.push(BR_X16);
    Some(code.finish())
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

#[cfg(all(target_arch = "aarch64", not(target_os = "macos")))]
std::arch::global_asm!(include_str!("../../../asm/aarch64/unbound.s"), report = sym crate::call::trampolines::report_unbound);

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
        assert_eq!(words(encode(3, 16).unwrap()), five, "five instructions, two loads");
        assert_eq!(words(encode(4095, 32760).unwrap())[2..4], [0xf97f_fe10, 0xf97f_fe10]);
        let far = [
            0xd503_245f, // bti c
            0xd53b_d050, // mrs x16, tpidr_el0
            0x9140_2210, // add x16, x16, #8, lsl #12
            0xf940_0610, // ldr x16, [x16, #8]
            0x5280_0031, // mov w17, #1
            0x72a0_0031, // movk w17, #1, lsl #16
            0xf871_7a10, // ldr x16, [x16, x17, lsl #3]
            0xd61f_0200, // br  x16
        ];
        assert_eq!(words(encode(0x1_0001, 0x8008).unwrap()), far);
    }

    #[test]
    fn a_table_word_out_of_reach_is_refused() {
        assert_eq!(encode(0, 1 << 24), None);
        assert_eq!(encode(0, -8), None);
        assert_eq!(encode(0, 12), None);
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
