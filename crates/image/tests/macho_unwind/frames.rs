//! The rules of functions: as gimli reads them, as the encoding has them, and as clang's directives
//! state them.

use std::collections::BTreeMap;

use gimli::{
    AArch64, BaseAddresses, CfaRule, CieOrFde, EhFrame, LittleEndian, Pointer, Register, RegisterRule,
    UnwindContext, UnwindSection,
};

use crate::compact::{Entry, compact_unwind, eh_frame};
use crate::tools::{OBJECTS, number, objdump, section};

/// The CFA, and where registers are saved, in bytes from it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Rule {
    pub(crate) cfa: (u16, i64),
    pub(crate) saved: BTreeMap<u16, i64>,
}

impl Rule {
    /// From the text of Apple's header.
    pub(crate) fn of(encoding: u32) -> Self {
        let framed = encoding >> 24 & 15 == 4;
        let mut rule = Self { cfa: (29, 16), saved: BTreeMap::from([(30, -8), (29, -16)]) };
        if !framed {
            rule = Self { cfa: (31, i64::from(encoding >> 12 & 0xFFF) * 16), saved: BTreeMap::new() };
        }
        let mut place = if framed { -24 } else { -8 };
        for (bit, first) in
            [(0, 19), (1, 21), (2, 23), (3, 25), (4, 27), (8, 72), (9, 74), (10, 76), (11, 78)]
        {
            if encoding >> bit & 1 != 0 {
                rule.saved.extend([(first, place), (first + 1, place - 8)]);
                place -= 16;
            }
        }
        rule
    }
}

/// A function's record.
#[derive(PartialEq, Debug)]
pub(crate) struct Record {
    pub(crate) start: u64,
    pub(crate) length: u64,
    pub(crate) personality: Option<Pointer>,
    pub(crate) lsda: Option<Pointer>,
    /// From which address on which rule holds.
    pub(crate) rows: Vec<(u64, Rule)>,
}

/// What gimli reads in a section at this address.
pub(crate) fn read(section: &[u8], address: u64) -> Vec<Record> {
    let mut frames = EhFrame::new(section, LittleEndian);
    frames.set_address_size(8);
    frames.set_vendor(gimli::Vendor::AArch64);
    let bases = BaseAddresses::default().set_eh_frame(address);
    let mut entries = frames.entries(&bases);
    let mut found = Vec::new();
    let mut context = UnwindContext::new();
    while let Some(entry) = entries.next().unwrap() {
        let CieOrFde::Fde(partial) = entry else { continue };
        let fde = partial.parse(|frames, bases, at| frames.cie_from_offset(bases, at)).unwrap();
        assert_eq!(fde.cie().return_address_register(), AArch64::X30);
        let mut table = fde.rows(&frames, &bases, &mut context).unwrap();
        let mut rows = Vec::new();
        while let Some(row) = table.next_row().unwrap() {
            let CfaRule::RegisterAndOffset { register, offset } = row.cfa() else { panic!("{row:?}") };
            let mut rule = Rule { cfa: (register.0, *offset), saved: BTreeMap::new() };
            for (Register(register), saved) in row.registers() {
                match saved {
                    RegisterRule::Offset(offset) => _ = rule.saved.insert(*register, *offset),
                    // Whether the return address is signed.
                    RegisterRule::Constant(signed) => _ = rule.saved.insert(*register, *signed as i64),
                    other => panic!("{other:?}"),
                }
            }
            rows.push((row.start_address(), rule));
        }
        let (start, length) = (fde.initial_address(), fde.len());
        found.push(Record { start, length, personality: fde.personality(), lsda: fde.lsda(), rows });
    }
    found
}

/// What clang's directives come to for each function, in their order.
fn stated(assembly: &str) -> Vec<Rule> {
    let register = |name: &str| -> u16 {
        let (kind, index) = name.split_at(1);
        match (kind, index) {
            (_, "sp") => 31,
            ("w" | "x", index) => index.parse().unwrap(),
            (_, index) => 64 + index.parse::<u16>().unwrap(),
        }
    };
    let mut found: Vec<Rule> = Vec::new();
    for line in assembly.lines() {
        let words: Vec<&str> = line.split([' ', '\t', ',', ';']).filter(|word| !word.is_empty()).collect();
        match words[..] {
            [".cfi_startproc", ..] => found.push(Rule { cfa: (31, 0), saved: BTreeMap::new() }),
            [".cfi_def_cfa", name, offset, ..] => {
                found.last_mut().unwrap().cfa = (register(name), offset.parse().unwrap());
            }
            [".cfi_def_cfa_offset", offset, ..] => {
                found.last_mut().unwrap().cfa.1 = offset.parse().unwrap();
            }
            [".cfi_offset", name, offset, ..] => {
                found.last_mut().unwrap().saved.insert(register(name), offset.parse().unwrap());
            }
            [directive, ..] if directive.starts_with(".cfi_") => {
                let known = [
                    ".cfi_endproc",
                    ".cfi_personality",
                    ".cfi_lsda",
                    ".cfi_negate_ra_state",
                    ".cfi_sections",
                ];
                assert!(known.contains(&directive), "{line}");
            }
            _ => {}
        }
    }
    found
}

#[test]
fn object_files_have_the_rules_that_clang_states() {
    let (mut functions, mut rules) = (0, Vec::new());
    for compiled in &OBJECTS.all {
        let file = std::fs::read(&compiled.object).unwrap();
        let (table, _) = section(&file, "__compact_unwind").unwrap();
        let found = compact_unwind(table).unwrap();
        let text = objdump(&compiled.object);
        let field = |label| -> Vec<u64> { text.lines().filter_map(|line| number(line, label)).collect() };
        assert_eq!(field("start:"), found.iter().map(|entry| entry.function).collect::<Vec<_>>());
        assert_eq!(field("length:"), found.iter().map(|entry| entry.length).collect::<Vec<_>>());
        let encodings = found.iter().map(|entry| u64::from(entry.encoding));
        assert_eq!(field("compact encoding:"), encodings.collect::<Vec<_>>());
        assert_eq!(field("LSDA:"), found.iter().filter_map(|entry| entry.lsda).collect::<Vec<_>>());

        let stated = stated(&compiled.assembly);
        assert_eq!(stated.len(), found.len(), "{}", compiled.source.name);
        for (entry, stated) in found.iter().zip(stated) {
            if entry.encoding >> 24 & 15 == 3 {
                continue;
            }
            let section = eh_frame(&[*entry], None, 0x10_0000, 0x10_0000).unwrap();
            let [record] = &read(&section, 0x10_0000)[..] else { panic!("{entry:x?}") };
            assert_eq!(record.rows, [(entry.function, stated)], "{}: {entry:x?}", compiled.source.name);
            functions += 1;
            rules.push(entry.encoding & 0x0F00_0F1F);
        }
    }
    rules.sort_unstable();
    rules.dedup();
    assert!(functions > 300 && rules.len() > 60, "{functions} {}", rules.len());
}

/// Every set of pairs, and leaves of every size.
#[test]
fn every_encoding() {
    let mut entries = Vec::new();
    for set in 0..512u32 {
        let pairs = (set & 0x1F) | ((set >> 5) << 8);
        let (framed, leaf) = (0x0400_0000 | pairs, 0x0200_0000 | ((set * 8 % 4096) << 12) | pairs);
        for encoding in [framed, leaf] {
            let function = 4 * entries.len() as u64;
            let personality = [None, Some(0x8000), Some(0x8008)][entries.len() % 3];
            let lsda = (set % 2 == 0).then_some(0x9000 + function);
            entries.push(Entry { function, length: 4, encoding, personality, lsda });
        }
    }
    let section = eh_frame(&entries, None, 0x2_0000, 0x2_0000).unwrap();
    let written = read(&section, 0x2_0000);
    assert_eq!(written.len(), entries.len());
    for (record, entry) in written.iter().zip(&entries) {
        assert_eq!((record.start, record.length), (entry.function, entry.length));
        assert_eq!(record.rows, [(entry.function, Rule::of(entry.encoding))]);
        assert_eq!(record.personality, entry.personality.map(Pointer::Indirect));
        assert_eq!(record.lsda, entry.lsda.map(Pointer::Direct));
    }
}

/// A file's own record is kept, and an entry gives the addresses beside it.
#[test]
fn own_records_come_first() {
    let entry =
        |function, length, encoding| Entry { function, length, encoding, personality: None, lsda: None };
    let own = |ranges: &[(u64, u64)]| {
        let entries: Vec<_> = ranges.iter().map(|(from, len)| entry(*from, *len, 0x0400_0001)).collect();
        eh_frame(&entries, None, 0x4000, 0x4000).unwrap()
    };
    let section = own(&[(0x108, 8), (0x120, 0x10), (0x200, 4)]);
    let own = crate::compact::Own { offset: 0x4000, section: &section };
    let entries = [entry(0x200, 4, 0x0300_0040), entry(0x100, 0x30, 0x0200_1000), entry(0x300, 4, 0)];
    let written = eh_frame(&entries, Some(own), 0x8000, 0x8000).unwrap();
    let mut ranges: Vec<_> = read(&written, 0x8000)
        .iter()
        .map(|record| (record.start, record.length, record.rows[0].1.cfa.0))
        .collect();
    ranges.sort_unstable();
    let expected = [(0x100, 8, 31), (0x108, 8, 29), (0x110, 0x10, 31), (0x120, 0x10, 29), (0x200, 4, 29)];
    assert_eq!(ranges, expected);
    // No record is there.
    let missing = eh_frame(&[entry(0x210, 4, 0x0300_0040)], Some(own), 0x8000, 0x8000).unwrap_err();
    assert!(missing.to_string().contains("not in __eh_frame"), "{missing}");
    // Nothing at all is a terminator.
    assert_eq!(eh_frame(&[entry(0, 4, 0)], None, 0x8000, 0x8000).unwrap(), [0; 4]);
}
