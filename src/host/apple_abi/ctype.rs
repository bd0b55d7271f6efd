//! Apple's <ctype.h> is inline functions that read a table, `_DefaultRuneLocale`. This is that of
//! the C locale; in every other one Linux's own functions have other answers, for bytes from 128 on
//! only.

use std::ffi::{c_char, c_int, c_ulong, c_void};
use std::ptr::null;

// _CTYPE_* of Apple's <_ctype.h>. The low four bits are a digit's value.
const ALPHA: u32 = 0x100;
const CONTROL: u32 = 0x200;
const DIGIT: u32 = 0x400;
const GRAPH: u32 = 0x800;
const LOWER: u32 = 0x1000;
const PUNCT: u32 = 0x2000;
const SPACE: u32 = 0x4000;
const UPPER: u32 = 0x8000;
const HEX: u32 = 0x1_0000;
const BLANK: u32 = 0x2_0000;
const PRINT: u32 = 0x4_0000;
/// It takes one column.
const COLUMN: u32 = 0x4000_0000;

/// `_RuneRange` of Apple's <runetype.h>.
#[repr(C)]
struct Range {
    count: c_int,
    entries: *const c_void,
}

/// `_RuneLocale` of Apple's <runetype.h>.
#[repr(C)]
pub(super) struct Runes {
    magic: [u8; 8],
    encoding: [u8; 32],
    /// How characters are read and written: never called from outside Apple's library.
    functions: [*const c_void; 2],
    invalid: c_int,
    pub(super) types: [u32; 256],
    pub(super) lower: [c_int; 256],
    pub(super) upper: [c_int; 256],
    /// What is beyond 255: nothing.
    beyond: [Range; 3],
    variable: *const c_void,
    variable_len: c_int,
    class_count: c_int,
    classes: *const c_char,
}

// SAFETY: it is constant, and its pointers are null.
unsafe impl Sync for Runes {}

/// `_DefaultRuneLocale`.
pub(super) static RUNES: Runes = {
    let (mut types, mut lower, mut upper) = ([0; 256], [0; 256], [0; 256]);
    let mut at = 0;
    while at < 256 {
        types[at] = of(at as u8);
        lower[at] = (at as u8).to_ascii_lowercase() as c_int;
        upper[at] = (at as u8).to_ascii_uppercase() as c_int;
        at += 1;
    }
    let mut encoding = [0; 32];
    [encoding[0], encoding[1], encoding[2], encoding[3]] = *b"NONE";
    Runes {
        magic: *b"RuneMagA",
        encoding,
        functions: [null(); 2],
        invalid: 0xFFFD,
        types,
        lower,
        upper,
        beyond: [const { Range { count: 0, entries: null() } }; 3],
        variable: null(),
        variable_len: 0,
        class_count: 0,
        classes: null(),
    }
};

/// What a character is in the C locale.
const fn of(byte: u8) -> u32 {
    let value = match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        b'A'..=b'F' => byte - b'A' + 10,
        _ => 0,
    };
    let hex = if byte.is_ascii_hexdigit() { HEX } else { 0 };
    let class = match byte {
        b'0'..=b'9' => DIGIT | GRAPH | PRINT | COLUMN,
        b'a'..=b'z' => ALPHA | LOWER | GRAPH | PRINT | COLUMN,
        b'A'..=b'Z' => ALPHA | UPPER | GRAPH | PRINT | COLUMN,
        b' ' => SPACE | BLANK | PRINT | COLUMN,
        b'\t' => SPACE | BLANK | CONTROL,
        b'\n' | 0x0B | 0x0C | b'\r' => SPACE | CONTROL,
        0..=0x1F | 0x7F => CONTROL,
        0x80.. => 0,
        _ => PUNCT | GRAPH | PRINT | COLUMN,
    };
    class | hex | value as u32
}

/// `__maskrune` of Apple's <_ctype.h>: those of the types in `mask` that a character has.
pub(super) extern "C" fn maskrune(character: c_int, mask: c_ulong) -> c_int {
    let types = usize::try_from(character).ok().and_then(|at| RUNES.types.get(at)).copied().unwrap_or(0);
    (types & mask as u32) as c_int
}
