//! Tables that lld does not write: pages with whole rows, pages of both kinds, empty ones, many
//! encodings.

use std::collections::BTreeMap;

use crate::Numbers;
use crate::compact::unwind_info;
use crate::tools::{Folder, Printed, objdump, section};

fn put(bytes: &mut Vec<u8>, words: impl IntoIterator<Item = u32>) {
    bytes.extend(words.into_iter().flat_map(u32::to_le_bytes));
}

/// A table of random functions.
pub(crate) fn table(numbers: &mut Numbers) -> Vec<u8> {
    let personalities: Vec<u32> = (0..numbers.below(4)).map(|at| 0x9000 + 8 * at as u32).collect();
    let common: Vec<u32> = (0..numbers.below(20)).map(|at| 0x0400_0000 | at as u32).collect();
    let (mut function, mut lsdas) = (0x400, BTreeMap::new());
    let mut pages = Vec::new();
    for _ in 0..numbers.below(6) {
        let (base, compressed) = (function, numbers.below(2) == 0);
        let mut rows = Vec::new();
        for _ in 0..numbers.below(40) {
            let mut encoding = 0x0200_0000 | (numbers.below(16) as u32) << 12;
            if !common.is_empty() && numbers.below(2) == 0 {
                encoding = common[numbers.below(common.len() as u64) as usize];
            }
            if !personalities.is_empty() && numbers.below(4) == 0 {
                encoding |= 0x4000_0000 | (1 + numbers.below(personalities.len() as u64) as u32) << 28;
                lsdas.insert(function, 0xA000 + 16 * lsdas.len() as u32);
            }
            rows.push((function, encoding));
            function += 4 + 4 * numbers.below(100) as u32;
        }
        pages.push((base, compressed, rows));
    }

    let (encodings_at, lsda_rows) = (28, lsdas.len());
    let personalities_at = encodings_at + 4 * common.len() as u32;
    let index_at = personalities_at + 4 * personalities.len() as u32;
    let lsdas_at = index_at + 12 * (pages.len() as u32 + 1);
    let pages_at = lsdas_at + 8 * lsda_rows as u32;
    let mut bytes = Vec::new();
    let header =
        [1, encodings_at, common.len() as u32, personalities_at, personalities.len() as u32, index_at];
    put(&mut bytes, header.into_iter().chain([pages.len() as u32 + 1]));
    put(&mut bytes, common.iter().copied().chain(personalities.iter().copied()));
    let (mut behind, mut index) = (Vec::new(), Vec::new());
    for (base, compressed, rows) in &pages {
        let before = lsdas.range(..base).count() as u32;
        index.extend([*base, pages_at + behind.len() as u32, lsdas_at + 8 * before]);
        if *compressed {
            let mut own: Vec<u32> = Vec::new();
            let number = |(function, encoding): &(u32, u32)| {
                let known = common.iter().chain(&own).position(|known| known == encoding);
                let number = known.unwrap_or_else(|| {
                    own.push(*encoding);
                    common.len() + own.len() - 1
                });
                (number as u32) << 24 | (function - base)
            };
            let rows: Vec<u32> = rows.iter().map(number).collect();
            let (start, count) = (12, rows.len() as u32);
            let own_at = start + 4 * count;
            put(&mut behind, [3, count << 16 | start, (own.len() as u32) << 16 | own_at]);
            put(&mut behind, rows.into_iter().chain(own));
        } else {
            put(&mut behind, [2, (rows.len() as u32) << 16 | 8]);
            put(&mut behind, rows.iter().flat_map(|(function, encoding)| [*function, *encoding]));
        }
    }
    index.extend([function, 0, lsdas_at + 8 * lsda_rows as u32]);
    put(&mut bytes, index);
    put(&mut bytes, lsdas.iter().flat_map(|(function, lsda)| [*function, *lsda]));
    bytes.extend(behind);
    bytes
}

/// A bundle with this section and nothing else: Apple's <mach-o/loader.h>.
fn file(table: &[u8]) -> Vec<u8> {
    let (size, offset) = (table.len() as u64, 32 + 72 + 80);
    let mut bytes = Vec::new();
    put(&mut bytes, [0xFEED_FACF, 0x0100_000C, 0, 8, 1, 72 + 80, 0, 0]);
    let name = |bytes: &mut Vec<u8>, name: &str| {
        bytes.extend(name.bytes().chain(std::iter::repeat(0)).take(16));
    };
    put(&mut bytes, [0x19, 72 + 80]);
    name(&mut bytes, "__TEXT");
    bytes.extend([0, offset + size, 0, offset + size].map(u64::to_le_bytes).as_flattened());
    put(&mut bytes, [5, 5, 1, 0]);
    name(&mut bytes, "__unwind_info");
    name(&mut bytes, "__TEXT");
    bytes.extend([offset, size].map(u64::to_le_bytes).as_flattened());
    put(&mut bytes, [offset as u32, 2, 0, 0, 0, 0, 0, 0]);
    bytes.extend_from_slice(table);
    bytes
}

#[test]
fn tables_of_every_form() {
    let folder = Folder::new("forms");
    let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15);
    let (mut entries, mut with_lsda) = (0, 0);
    for _ in 0..60 {
        let file = file(&table(&mut numbers));
        let path = folder.join("made.bundle");
        std::fs::write(&path, &file).unwrap();
        let text = objdump(&path);
        let (table, _) = section(&file, "__unwind_info").unwrap();
        let found = unwind_info(table, 0).unwrap();
        assert_eq!(found, Printed::of(&text).entries(), "{text}");
        entries += found.len();
        with_lsda += found.iter().filter(|entry| entry.lsda.is_some()).count();
    }
    assert!(entries > 1000 && with_lsda > 50, "{entries} {with_lsda}");
}
