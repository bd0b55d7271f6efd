//! Trampolines: stable addresses that jump to what the calling thread's table holds for a slot.
//! That there is always a table, whatever the thread is doing, is the lemma of docs/dispatch.md.
//!
//! Only r11 is touched, which a call may clobber and which carries no argument (System V psABI for
//! AMD64, 3.2.3: r10 is the static chain pointer, r11 is free). Each starts with `endbr64` for
//! hosts built with -fcf-protection.

use crate::platform::arch::{CHECKED_CODE, OUTSIDE, Stub};

const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];
/// `int3`: where control can never come.
const INT3: u8 = 0xcc;

/// The trampoline of a slot. `table_offset` is the table word's distance from the thread pointer in
/// bytes. The live table's address it needs nowhere, and there is no instruction for a caller to
/// run: see [`synchronise_this_core`](super::cache::synchronise_this_core).
///
/// None if the word is out of reach: x86-64's static TLS lies below the thread pointer, and 2 GiB
/// of it are addressed.
pub(crate) fn encode(slot: u32, table_offset: i64, _live: u64, _synchronise: bool) -> Option<Stub> {
    let offset = i32::try_from(table_offset).ok()?;
    let entry = i32::try_from(slot.checked_mul(8)?).ok()?;
    Some(assemble(&[
        &ENDBR64,
        // mov r11, fs:[offset]
        &[0x64, 0x4c, 0x8b, 0x1c, 0x25],
        &offset.to_le_bytes(),
        // jmp [r11 + entry]
        &[0x41, 0xff, 0xa3],
        &entry.to_le_bytes(),
    ]))
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
    const LITERALS: usize = CHECKED_CODE - 16;
    let plain = encode(slot, table_offset, live, synchronise)?;
    // The first two instructions of the plain one, and its last.
    let (load, rest) = plain.split_at(13);
    let jump = &rest[..7];
    let to = |at: usize, behind: usize| ((LITERALS + at - behind) as u32).to_le_bytes();
    let mut code = [INT3; CHECKED_CODE];
    fill(
        &mut code,
        &[
            load,
            // cmp r11, [rip + to the first literal]; je over the jump
            &[0x4c, 0x3b, 0x1d],
            &to(0, 20),
            &[0x74, 0x07],
            jump,
            // mov r11d, slot; jmp [rip + to the second literal]
            &[0x41, 0xbb],
            &(slot | OUTSIDE).to_le_bytes(),
            &[0xff, 0x25],
            &to(8, 41),
        ],
    );
    code[LITERALS..][..8].copy_from_slice(&live.to_le_bytes());
    code[LITERALS + 8..].copy_from_slice(&handler.to_le_bytes());
    Some(code)
}

/// What an unbound slot's entry points at: hands the slot's number in r11d to `handler`.
pub(crate) fn encode_unbound(slot: u32, handler: u64) -> Stub {
    assemble(&[
        &ENDBR64,
        // mov r11d, slot
        &[0x41, 0xbb],
        &slot.to_le_bytes(),
        // movabs r10, handler; jmp r10
        &[0x49, 0xba],
        &handler.to_le_bytes(),
        &[0x41, 0xff, 0xe2],
    ])
}

fn assemble(parts: &[&[u8]]) -> Stub {
    let mut stub = [INT3; size_of::<Stub>()];
    fill(&mut stub, parts);
    stub
}

fn fill(code: &mut [u8], parts: &[&[u8]]) {
    let mut at = 0;
    for part in parts {
        code[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values are what GNU as writes for the text beside them (`{disp32}` on the jump).
    #[test]
    fn trampolines_are_what_the_assembler_writes() {
        let expected = [
            0xf3, 0x0f, 0x1e, 0xfa, // endbr64
            0x64, 0x4c, 0x8b, 0x1c, 0x25, 0xf0, 0xff, 0xff, 0xff, // mov %fs:-16, %r11
            0x41, 0xff, 0xa3, 0x18, 0x00, 0x00, 0x00, // jmp *24(%r11)
        ];
        let stub = encode(3, -16, 0, false).unwrap();
        assert_eq!(stub[..20], expected);
        assert!(stub[20..].iter().all(|&b| b == INT3));
        assert_eq!(encode(100_000, -16, 0, true).unwrap()[16..20], 800_000_u32.to_le_bytes());
    }

    /// As above, with the literals' labels at 112 and 120.
    #[test]
    fn checked_trampolines_are_what_the_assembler_writes() {
        let expected = [
            0xf3, 0x0f, 0x1e, 0xfa, // endbr64
            0x64, 0x4c, 0x8b, 0x1c, 0x25, 0xf0, 0xff, 0xff, 0xff, // mov %fs:-16, %r11
            0x4c, 0x3b, 0x1d, 0x5c, 0x00, 0x00, 0x00, // cmp live(%rip), %r11
            0x74, 0x07, // je outside
            0x41, 0xff, 0xa3, 0x18, 0x00, 0x00, 0x00, // jmp *24(%r11)
            0x41, 0xbb, 0x03, 0x00, 0x00, 0x80, // outside: mov $0x80000003, %r11d
            0xff, 0x25, 0x4f, 0x00, 0x00, 0x00, // jmp *handler(%rip)
        ];
        let code = encode_checked(3, -16, 0x1122_3344_5566_7788, 0x99, false).unwrap();
        assert_eq!(code[..41], expected);
        assert!(code[41..112].iter().all(|&byte| byte == INT3));
        assert_eq!(code[112..120], 0x1122_3344_5566_7788_u64.to_le_bytes());
        assert_eq!(code[120..], 0x99_u64.to_le_bytes());
        assert_eq!(encode_checked(0, i64::from(i32::MIN) - 8, 0, 0, false), None);
    }

    #[test]
    fn a_table_word_out_of_reach_is_refused() {
        assert_eq!(encode(0, i64::from(i32::MIN) - 8, 0, false), None);
        assert_eq!(encode(1 << 29, -16, 0, false), None);
    }

    #[test]
    fn unbound_stubs_are_what_the_assembler_writes() {
        let expected = [
            0xf3, 0x0f, 0x1e, 0xfa, // endbr64
            0x41, 0xbb, 0x03, 0x00, 0x00, 0x00, // mov $3, %r11d
            0x49, 0xba, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22,
            0x11, // movabs $0x1122334455667788, %r10
            0x41, 0xff, 0xe2, // jmp *%r10
        ];
        assert_eq!(encode_unbound(3, 0x1122_3344_5566_7788)[..23], expected);
    }
}
