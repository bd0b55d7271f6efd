//! Damaged tables: an error or other entries, and never more memory than they are worth.

use crate::compact::{Own, compact_unwind, eh_frame, unwind_info};
use crate::tools::{Folder, OBJECTS, link, section, span};
use crate::{Error, Numbers, forms, unwind};

const SPAN: u64 = 0x10_0000;

/// Bytes that may come out for what went in: a record and a common one for each four bytes of
/// table, and the copy.
fn most(table: &[u8], own: &[u8]) -> usize {
    96 * (table.len() / 4 + own.len() / 16 + 1) + own.len()
}

/// Whether the table was taken.
fn try_all(table: &[u8], own: Option<Own<'_>>) -> bool {
    let Ok(entries) = unwind_info(table, 0) else { return false };
    assert!(entries.len() <= table.len() / 4);
    let Ok(section) = eh_frame(&entries, own, SPAN, SPAN) else { return false };
    assert!(section.len() <= most(table, own.map_or(&[], |own| own.section)));
    // What is made is what the unwinder may have.
    unwind::check(&section, SPAN, 0..SPAN).is_ok()
}

#[test]
fn damaged_tables() {
    let mut numbers = Numbers(0x2545_F491_4F6C_DD1D);
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..200 {
        let good = forms::table(&mut numbers);
        assert!(try_all(&good, None));
        for _ in 0..60 {
            let mut bad = good.clone();
            for _ in 0..=numbers.below(3) {
                let at = numbers.below(bad.len() as u64) as usize;
                match numbers.below(4) {
                    0 => bad[at] = numbers.next() as u8,
                    1 => bad[at] ^= 1 << numbers.below(8),
                    2 => bad[at] = [0, 1, 0x7F, 0x80, 0xFF][numbers.below(5) as usize],
                    _ => bad.truncate(at.max(1)),
                }
            }
            if try_all(&bad, None) { taken += 1 } else { refused += 1 }
        }
        for end in 0..good.len().min(100) {
            assert!(!try_all(&good[..end], None) || end >= 28);
        }
    }
    assert!(taken > 1000 && refused > 1000, "{taken} {refused}");
}

#[test]
fn damaged_files() {
    let folder = Folder::new("hostile");
    let path = folder.join("good.dylib");
    let objects: Vec<_> = OBJECTS.all.iter().map(|compiled| &*compiled.object).rev().take(4).collect();
    link(&objects, &[], &path);
    let file = std::fs::read(&path).unwrap();
    let (table, _) = section(&file, "__unwind_info").unwrap();
    let (records, offset) = section(&file, "__eh_frame").unwrap();
    assert!(span(&file) < SPAN && try_all(table, Some(Own { offset, section: records })));
    let mut numbers = Numbers(0xD1B5_4A32_D192_ED03);
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..4000 {
        let (mut table, mut records) = (table.to_vec(), records.to_vec());
        for _ in 0..=numbers.below(2) {
            let bytes = if numbers.below(2) == 0 { &mut table } else { &mut records };
            let at = numbers.below(bytes.len() as u64) as usize;
            bytes[at] = numbers.next() as u8;
        }
        let own = Own { offset, section: &records };
        if try_all(&table, Some(own)) { taken += 1 } else { refused += 1 }
    }
    assert!(taken > 100 && refused > 100, "{taken} {refused}");
}

/// A page of many functions that the index names over and over.
#[test]
fn a_page_is_counted_as_often_as_it_is_used() {
    let (pages, functions) = (2000u32, 2000u32);
    let page_at = 28 + 12 * (pages + 1);
    let mut table: Vec<u32> = vec![1, 0, 0, 0, 0, 28, pages + 1];
    for page in 0..pages {
        table.extend([page * functions, page_at, 0]);
    }
    table.extend([pages * functions, 0, 0, 3, functions << 16 | 12, 1 << 16 | (12 + 4 * functions)]);
    table.extend(0..functions);
    table.push(0x0400_0000);
    let bytes: Vec<u8> = table.into_iter().flat_map(u32::to_le_bytes).collect();
    let error = unwind_info(&bytes, 0).unwrap_err();
    assert!(error.to_string().contains("more functions than it has room for"), "{error}");
}

#[test]
fn object_files_records() {
    assert!(compact_unwind(&[0; 31]).is_err());
    let record = |function: u64, length: u32, encoding: u32, personality: u64, lsda: u64| {
        let mut record = function.to_le_bytes().to_vec();
        record.extend(length.to_le_bytes());
        record.extend(encoding.to_le_bytes());
        record.extend(personality.to_le_bytes());
        record.extend(lsda.to_le_bytes());
        record
    };
    let refusal = |records: &[Vec<u8>]| -> Error {
        let entries = compact_unwind(&records.concat()).unwrap();
        eh_frame(&entries, None, 0x4000, 0x4000).unwrap_err()
    };
    for (records, problem) in [
        (vec![record(0x3FFC, 8, 0x0400_0000, 0, 0)], "outside the image"),
        (vec![record(u64::MAX, 8, 0x0400_0000, 0, 0)], "outside the image"),
        (vec![record(0, 8, 0x0400_0000, 0x3FFC, 0)], "slot or an LSDA is outside"),
        (vec![record(0, 8, 0x0400_0000, u64::MAX, 0)], "slot or an LSDA is outside"),
        (vec![record(0, 8, 0x0400_0000, 0, 0x4000)], "slot or an LSDA is outside"),
        (vec![record(0, 8, 0x0400_0000, 0, 0), record(4, 8, 0, 0, 0)], "overlap"),
        (vec![record(0, 8, 0x0300_0000, 0, 0)], "not in __eh_frame"),
        (vec![record(0, 8, 0x0500_0000, 0, 0)], "arm64e"),
        (vec![record(0, 8, 0x0700_0000, 0, 0)], "unknown encoding"),
    ] {
        let error = refusal(&records);
        assert!(error.to_string().contains(problem), "{problem}: {error}");
    }
}
