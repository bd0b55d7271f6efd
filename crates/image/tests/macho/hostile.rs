//! Tables that contradict themselves, go in circles or claim more than there is.

use super::common::refused::{malformed, says};
use super::common::{MAX_SPAN, put, put64, u32_at, u64_at};
use super::patch::*;
use super::refusals::{changed, good, refusal};
use midflight_image::{Error, Image, Machine};

/// The good module with opcodes, of which one table has these instead.
fn with_opcodes(table: usize, code: &[u8]) -> Result<(), Error> {
    let [_, mut bytes] = good();
    // The others have nothing, so that only this one is at fault.
    for other in [REBASES, BINDS, WEAK, LAZY] {
        opcodes(&mut bytes, other, if other == table { code } else { &[] });
    }
    Image::parse(&bytes, Machine::Aarch64, 4096, MAX_SPAN).map(drop)
}

fn refused(table: usize, code: &[u8], words: &str) {
    let error = with_opcodes(table, code).expect_err(words);
    says(&error, &[words]);
}

const MINUS_8: [u8; 10] = [0xF8, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1];
/// 2^63.
const MANY: [u8; 10] = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1];

#[test]
fn rebase_opcodes() {
    let data = segment_index(&good()[1], "__DATA");
    let start = [0x11, 0x20 | data, 0];
    let code = |rest: &[u8]| [&start, rest].concat();
    assert_eq!(with_opcodes(REBASES, &code(&[0x51, 0])), Ok(()));
    assert_eq!(with_opcodes(REBASES, &code(&[])), Ok(()), "the table ends as by an opcode");
    refused(REBASES, &[0x11, 0x51], "before any segment");
    refused(REBASES, &[0x11, 0x2F, 0, 0x51], "a segment that is not there");
    refused(
        REBASES,
        &[0x11, 0x20 | segment_index(&good()[1], "__LINKEDIT"), 0, 0x51],
        "outside the contents",
    );
    refused(REBASES, &code(&[0x60, 0xFF, 0xFF, 0xFF, 0x7F]), "outside the contents");
    refused(REBASES, &code(&[&[0x80], &MANY[..], &MINUS_8].concat()), "again and again");
    refused(REBASES, &code(&[&[0x30][..], &MINUS_8, &[0x51]].concat()), "outside the contents");
    refused(REBASES, &code(&[0x60, 0x80]), "cut off");
    refused(REBASES, &code(&[0x90]), "an unknown opcode");
    refused(REBASES, &code(&[0x12, 0x51]), "text relocation");
    refused(REBASES, &code(&[0x17, 0x51]), "an unknown type");
    let text = [0x11, 0x20 | segment_index(&good()[1], "__TEXT"), 0, 0x51];
    assert!(matches!(with_opcodes(REBASES, &text), Err(Error::TextRelocation { .. })));
}

#[test]
fn bind_opcodes() {
    let data = segment_index(&good()[1], "__DATA");
    let start = [b"\x3E\x51\x40_name\0".as_slice(), &[0x70 | data, 0]].concat();
    let code = |rest: &[u8]| [&start, rest].concat();
    assert_eq!(with_opcodes(BINDS, &code(&[0x90, 0])), Ok(()));
    assert_eq!(with_opcodes(LAZY, &code(&[0x90, 0, 0, 0])), Ok(()));
    assert_eq!(with_opcodes(WEAK, &code(&[0x90, 0])), Ok(()));
    refused(BINDS, &[0x51, 0x70 | data, 0, 0x90], "before any symbol");
    refused(BINDS, b"\x51\x40_name\0\x90", "before any segment");
    refused(BINDS, b"\x51\x40_name", "no end");
    refused(BINDS, b"\x51\x40\xFFname\0", "UTF-8");
    refused(BINDS, &code(&[0x13, 0x90]), "a library that is not there");
    refused(BINDS, &code(&[&[0x20][..], &MANY, &[0x90]].concat()), "a library that is not there");
    refused(BINDS, &code(&[0x3A, 0x90]), "a library that is not there");
    refused(BINDS, &code(&[0x10, 0x90]), "does not export it");
    refused(BINDS, &code(&[0xD0]), "arm64e");
    refused(BINDS, &code(&[0xE0]), "an unknown opcode");
    refused(BINDS, &code(&[0x52, 0x90]), "text relocation");
    for table in [BINDS, LAZY, WEAK] {
        refused(table, &code(&[&[0xC0], &MANY[..], &MINUS_8].concat()), "again and again");
        refused(table, &code(&[0xC0, 0xFF, 0xFF, 0xFF, 0x7F, 0]), "outside the contents");
    }
}

#[test]
fn missing_symbols_of_the_module_itself() {
    let data = segment_index(&good()[1], "__DATA");
    // Looked for in the module itself: a weak one is null, and is no import.
    let [_, mut bytes] = good();
    let was = Image::parse(&bytes, Machine::Aarch64, 4096, MAX_SPAN).unwrap().imports().len();
    opcodes(&mut bytes, WEAK, &[]);
    opcodes(&mut bytes, BINDS, &[b"\x10\x51\x41_nobody\0".as_slice(), &[0x70 | data, 0, 0x90]].concat());
    opcodes(&mut bytes, LAZY, &[]);
    let image = Image::parse(&bytes, Machine::Aarch64, 4096, MAX_SPAN).unwrap();
    assert!(was > 0 && image.imports().is_empty());
}

/// The good module with chained fix-ups, with a change in their table, given where that begins.
fn in_chains(change: impl FnOnce(&mut Vec<u8>, usize)) -> Error {
    changed(|m| {
        let at = table(m, CHAINED);
        change(m, at);
    })
}

fn put32(bytes: &mut [u8], at: usize, value: u32) {
    put(bytes, at, &value.to_le_bytes());
}

fn put16(bytes: &mut [u8], at: usize, value: u16) {
    put(bytes, at, &value.to_le_bytes());
}

/// Where the table has what it says of the segment `__DATA`.
fn starts(m: &[u8], at: usize) -> usize {
    let starts = at + u32_at(m, at + 4) as usize;
    starts + u32_at(m, starts + 4 + 4 * usize::from(segment_index(m, "__DATA"))) as usize
}

#[test]
fn chained_fixups() {
    malformed(&in_chains(|m, at| put32(m, at, 1)), "an unknown version");
    says(&in_chains(|m, at| put32(m, at + 24, 1)), &["compressed names"]);
    malformed(&in_chains(|m, at| put32(m, at + 20, 4)), "an unknown format of imports");
    for field in [4, 8, 12] {
        malformed(&in_chains(|m, at| put32(m, at + field, u32::MAX)), "");
    }
    malformed(&in_chains(|m, at| put32(m, at + 16, u32::MAX)), "cut off");
    malformed(&in_chains(|m, at| put32(m, at + 16, 0)), "an import that is not there");
    let segments = |m: &[u8], at: usize| at + u32_at(m, at + 4) as usize;
    malformed(
        &in_chains(|m, at| {
            let list = segments(m, at);
            put32(m, list, u32::MAX);
        }),
        "cut off",
    );
    let in_data = |offset: usize, value: u16| {
        in_chains(|m, at| {
            let place = starts(m, at) + offset;
            put16(m, place, value);
        })
    };
    malformed(&in_data(0, 8), "cut off");
    malformed(&in_data(4, 0), "smaller than any");
    malformed(&in_data(4, 0x3000), "smaller than any");
    malformed(&in_data(8, 4096), "elsewhere");
    malformed(&in_data(20, 0xFFF0), "cut off");
    malformed(&in_data(22, 0x8000), "outside its page");
    malformed(&in_data(22, 0x4000), "outside its page");
    for signed in [1, 7, 9, 12, 13] {
        says(&in_data(6, signed), &["arm64e", "-arch arm64"]);
    }
    for other in [3, 4, 5, 8, 10, 11] {
        says(&in_data(6, other), &["32-bit programs or kernels"]);
    }
    malformed(&in_data(6, 14), "an unknown form");
}

/// The file offset of the first place of a chain in `__DATA`.
fn first_place(m: &[u8]) -> usize {
    let start = starts(m, table(m, CHAINED));
    let page = u32_at(m, start + 22) & 0xFFFF;
    u64_at(m, segment(m, "__DATA") + 40) as usize + page as usize
}

#[test]
fn chains() {
    let with_next = |next: u64| {
        changed(|m| {
            let at = first_place(m);
            let word = u64_at(m, at) & !(0xFFF << 51) | next << 51;
            put64(m, at, word);
        })
    };
    malformed(&with_next(1), "two places overlap");
    malformed(&with_next(0xFFF), "");
    let import = changed(|m| {
        let at = first_place(m);
        put64(m, at, 1 << 63 | 0xFF_FFFF);
    });
    malformed(&import, "an import that is not there");
}

#[test]
fn the_other_form_of_chained_pointers() {
    // Offsets from the header, which is at 0 here: the same numbers.
    let [mut bytes, _] = good();
    let linked = |bytes: &[u8]| {
        let image = Image::parse(bytes, Machine::Aarch64, 4096, MAX_SPAN).unwrap();
        let mut memory = vec![0; image.span() as usize];
        let bindings = super::common::bindings(&image, |_| Some(0x1234_5678));
        image.link(0x4000_0000, &mut memory, &super::common::HOST, &bindings).unwrap();
        memory
    };
    let before = linked(&bytes);
    assert_eq!(address(&bytes, "__TEXT"), 0);
    let at = table(&bytes, CHAINED);
    let list = at + u32_at(&bytes, at + 4) as usize;
    for index in 0..u32_at(&bytes, list) as usize {
        let offset = u32_at(&bytes, list + 4 + 4 * index) as usize;
        if offset != 0 {
            assert_eq!(u32_at(&bytes, list + offset + 6) & 0xFFFF, 2);
            put16(&mut bytes, list + offset + 6, 6);
        }
    }
    assert_eq!(linked(&bytes), before);
}

fn with_trie(trie: &[u8]) -> Result<Vec<String>, Error> {
    let [_, mut bytes] = good();
    for other in [REBASES, BINDS, WEAK, LAZY] {
        opcodes(&mut bytes, other, &[]);
    }
    opcodes(&mut bytes, EXPORTS, trie);
    let image = Image::parse(&bytes, Machine::Aarch64, 4096, MAX_SPAN)?;
    Ok(image.exports().iter().map(|export| export.name.to_string()).collect())
}

#[test]
fn export_tries() {
    assert_eq!(with_trie(&[]).unwrap(), Vec::<String>::new());
    // A root with one edge to a leaf: the header's address.
    assert_eq!(with_trie(b"\0\x01_a\0\x06\x02\0\0\0").unwrap(), ["a"]);
    // One that is no text, which nobody can ask for.
    assert_eq!(with_trie(b"\0\x01\xFF\0\x05\x02\0\0\0").unwrap(), Vec::<String>::new());
    // A name that is no name of C's, and one that is both.
    assert_eq!(with_trie(b"\0\x01b\0\x05\x02\0\0\0").unwrap(), ["b"]);
    assert_eq!(with_trie(b"\0\x02b\0\x09_b\0\x0D\x02\0\0\0\x02\0\0\0").unwrap(), ["b"]);
    for (trie, problem) in [
        (&b"\0\x01_a\0\x00"[..], "overlap"),
        (b"\0\x02_a\0\x0A_b\0\x0A\x02\0\0\0", "overlap"),
        (b"\0\x01_a\0\x63", "outside it"),
        (b"\0\x01_a", "no end"),
        (b"\x7F", "cut off"),
        (b"\0\x01_a\0\x06\x01\0\0\0", "longer than it says"),
        (b"\0\x02_a\0\x0A_a\0\x0E\x02\0\0\0\x02\0\0\0", "defined twice"),
        (b"\0\x01_a\0\x06\x06\0\xFF\xFF\xFF\xFF\x7F\0", "outside the image"),
        (b"\0\x01_a\0\x06\x02\x01\0\0", "no descriptor"),
        (b"\0\x01_a\0\x06\x02\x03\0\0", "not known here"),
        (b"\0\x01_a\0\x06\x02\x40\0\0", "not known here"),
        (b"\0\x01_a\0\x06\x03\x08\x01\0\0", "another library"),
        (b"\0\x01_a\0\x06\x03\x10\0\0\0", "a resolver"),
    ] {
        let error = with_trie(trie).expect_err(problem);
        says(&error, &[problem]);
    }
    // A long name at every step, and a leaf at each: the names would take a thousand times as much
    // as the file.
    let mut trie = Vec::new();
    for _ in 0..80 {
        let edge = [b"_", &[b'x'; 4000][..]].concat();
        let node = trie.len();
        trie.extend(b"\x02\0\0\x01");
        trie.extend(edge);
        trie.push(0);
        // Where the next node begins, in three bytes.
        let next = node + 4 + 4001 + 1 + 3;
        trie.extend([next as u8 | 0x80, (next >> 7) as u8 | 0x80, (next >> 14) as u8]);
    }
    trie.extend(b"\x02\0\0\0");
    says(&with_trie(&trie).map(drop).unwrap_err(), &["made of one another"]);
}

#[test]
fn segments_and_sections() {
    let in_segment = |name: &'static str, field: usize, value: u64| {
        changed(move |m| {
            let at = segment(m, name) + field;
            put64(m, at, value);
        })
    };
    malformed(&in_segment("__DATA", 48, 1 << 40), "more bytes in the file than in memory");
    malformed(&in_segment("__DATA", 40, 1 << 40), "past the end of the file");
    malformed(&in_segment("__DATA", 24, 8), "does not begin on a page");
    malformed(&in_segment("__DATA", 24, 0xFFFF_FFFF_FFFF_F000), "past the end of the address space");
    malformed(&in_segment("__DATA", 24, 0), "");
    malformed(&in_segment("__TEXT", 24, 1 << 30), "");
    let error = in_segment("__DATA", 32, 1 << 40);
    assert!(matches!(error, Error::TooLarge { .. } | Error::Malformed { .. }), "{error:?}");
    let in_section = |field: usize, value: u64| {
        changed(move |m| {
            let at = section(m, "__data") + field;
            put64(m, at, value);
        })
    };
    malformed(&in_section(32, 0), "not inside its segment");
    malformed(&in_section(40, u64::MAX), "not inside its segment");
    malformed(
        &changed(|m| {
            let at = section(m, "__data");
            put32(m, at + 52, 20);
        }),
        "multiple of its alignment",
    );
    let error = changed(|m| {
        let at = section(m, "__data");
        put32(m, at + 52, 63);
    });
    assert!(matches!(error, Error::TooLarge { .. }), "{error:?}");
}

#[test]
fn names_that_are_shared() {
    // Every import has one name, which is as long as the table lets it be.
    let error = {
        let [mut bytes, _] = good();
        let at = table(&bytes, CHAINED);
        let count = 3000u32;
        // A table of its own behind everything.
        let mut made = bytes[at..at + 28].to_vec();
        let starts = u32_at(&bytes, at + 4) as usize;
        let list = bytes[at + starts..at + u32_at(&bytes, at + 8) as usize].to_vec();
        put32(&mut made, 4, 28);
        let import_at = (28 + list.len()).next_multiple_of(4);
        put32(&mut made, 8, import_at as u32);
        put32(&mut made, 12, (import_at + 4 * count as usize) as u32);
        put32(&mut made, 16, count);
        put32(&mut made, 20, 1);
        made.extend(list);
        made.resize(import_at, 0);
        (0..count).for_each(|_| made.extend(0xFEu32.to_le_bytes()));
        made.push(b'_');
        made.resize(made.len() + 5000, b'x');
        made.push(0);
        let command = command(&bytes, CHAINED);
        let end = bytes.len() as u32;
        put32(&mut bytes, command + 8, end);
        put32(&mut bytes, command + 12, made.len() as u32);
        bytes.extend(made);
        refusal(&bytes)
    };
    malformed(&error, "made of one another");
}

#[test]
fn a_file_of_nothing_but_segments() {
    // As many as the span allows, each with a section of descriptors, and every one is looked up.
    const COUNT: usize = 16_000;
    let [good, _] = good();
    let header = &good[..32];
    let mut bytes = header.to_vec();
    put32(&mut bytes, 16, COUNT as u32);
    put32(&mut bytes, 20, 152 * COUNT as u32);
    for index in 0..COUNT {
        let mut command = vec![0; 152];
        put32(&mut command, 0, SEGMENT);
        put32(&mut command, 4, 152);
        let address = 4096 * index as u64;
        put64(&mut command, 24, address);
        put64(&mut command, 32, 4096);
        // The first one has the file's header; the others have zeros.
        put64(&mut command, 40, if index > 0 { 32 + 152 * COUNT as u64 } else { 0 });
        put64(&mut command, 48, 4096);
        put32(&mut command, 56, 3);
        put32(&mut command, 60, 3);
        put32(&mut command, 64, 1);
        put(&mut command, 72, b"__thread_vars");
        put64(&mut command, 72 + 32, address);
        put64(&mut command, 72 + 40, 24);
        put32(&mut command, 72 + 64, if index == 0 { 0x11 } else { 0x13 });
        bytes.extend(command);
    }
    let clock = crate::common::clock::Clock::start();
    bytes.resize(bytes.len() + 4096, 0);
    let image = Image::parse(&bytes, Machine::Aarch64, 4096, MAX_SPAN).unwrap();
    assert!(image.thread_locals().is_some() && image.span() == 4096 * COUNT as u64);
    clock.within(5.0);
}
