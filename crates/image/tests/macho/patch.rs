//! A pair of tweezers: where things are in a thin Mach-O file.

use super::common::{put, u32_at, u64_at};

pub(crate) const SEGMENT: u32 = 0x19;
pub(crate) const SYMTAB: u32 = 2;
pub(crate) const UUID: u32 = 0x1B;
pub(crate) const DYLD_INFO: u32 = 0x8000_0022;
pub(crate) const TRIE: u32 = 0x8000_0033;
pub(crate) const CHAINED: u32 = 0x8000_0034;

/// Where each load command of a kind begins.
pub(crate) fn commands(bytes: &[u8], kind: u32) -> Vec<usize> {
    let (mut at, mut found) = (32, Vec::new());
    for _ in 0..u32_at(bytes, 16) {
        if u32_at(bytes, at) == kind {
            found.push(at);
        }
        at += u32_at(bytes, at + 4) as usize;
    }
    found
}

pub(crate) fn command(bytes: &[u8], kind: u32) -> usize {
    *commands(bytes, kind).first().unwrap_or_else(|| panic!("no load command {kind:#x}"))
}

fn named(bytes: &[u8], at: usize, name: &str) -> bool {
    bytes[at..at + 16].split(|byte| *byte == 0).next() == Some(name.as_bytes())
}

/// Where a segment's load command begins.
pub(crate) fn segment(bytes: &[u8], name: &str) -> usize {
    let all = commands(bytes, SEGMENT).into_iter();
    all.into_iter().find(|at| named(bytes, at + 8, name)).unwrap_or_else(|| panic!("no segment {name}"))
}

/// Where a section's header begins.
pub(crate) fn section(bytes: &[u8], name: &str) -> usize {
    let of = |at: usize| (0..u32_at(bytes, at + 64) as usize).map(move |index| at + 72 + 80 * index);
    let mut all = commands(bytes, SEGMENT).into_iter().flat_map(of);
    all.find(|at| named(bytes, *at, name)).unwrap_or_else(|| panic!("no section {name}"))
}

/// Where in the file the table of LC_DYLD_CHAINED_FIXUPS or of LC_DYLD_EXPORTS_TRIE begins.
pub(crate) fn table(bytes: &[u8], kind: u32) -> usize {
    u32_at(bytes, command(bytes, kind) + 8) as usize
}

/// In LC_DYLD_INFO: where the rebase, bind, weak bind and lazy bind opcodes are said to be, and the
/// export trie.
pub(crate) const REBASES: usize = 8;
pub(crate) const BINDS: usize = 16;
pub(crate) const WEAK: usize = 24;
pub(crate) const LAZY: usize = 32;
pub(crate) const EXPORTS: usize = 40;

/// Puts opcodes in the place of those of a table.
pub(crate) fn opcodes(bytes: &mut Vec<u8>, table: usize, code: &[u8]) {
    let at = command(bytes, DYLD_INFO) + table;
    // Behind everything, so that there is room for any number.
    let start = bytes.len() as u32;
    put(bytes, at, &start.to_le_bytes());
    put(bytes, at + 4, &(code.len() as u32).to_le_bytes());
    bytes.extend(code);
}

/// A universal file of such parts: (cputype, cpusubtype, contents).
pub(crate) fn universal(wide: bool, parts: &[(u32, u32, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let magic: u32 = if wide { 0xCAFE_BABF } else { 0xCAFE_BABE };
    bytes.extend(magic.to_be_bytes());
    bytes.extend((parts.len() as u32).to_be_bytes());
    let mut at = 0x4000u64;
    for (cputype, cpusubtype, contents) in parts {
        bytes.extend(cputype.to_be_bytes());
        bytes.extend(cpusubtype.to_be_bytes());
        for word in [at, contents.len() as u64] {
            match wide {
                true => bytes.extend(word.to_be_bytes()),
                false => bytes.extend((word as u32).to_be_bytes()),
            }
        }
        bytes.extend(14u32.to_be_bytes());
        if wide {
            bytes.extend([0; 4]);
        }
        at = (at + contents.len() as u64).next_multiple_of(0x4000);
    }
    for (_, _, contents) in parts {
        bytes.resize(bytes.len().next_multiple_of(0x4000), 0);
        bytes.extend(*contents);
    }
    bytes
}

/// The number of a segment, by which fix-ups name it.
pub(crate) fn segment_index(bytes: &[u8], name: &str) -> u8 {
    let at = segment(bytes, name);
    commands(bytes, SEGMENT).iter().position(|other| *other == at).unwrap() as u8
}

/// The address of a segment.
pub(crate) fn address(bytes: &[u8], name: &str) -> u64 {
    u64_at(bytes, segment(bytes, name) + 24)
}
