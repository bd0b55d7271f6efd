//! Dylibs: the entries against llvm-objdump's, and the records that are made of them.

use std::path::Path;

use crate::compact::{Entry, Own, eh_frame, unwind_info};
use crate::frames::{self, Rule};
use crate::tools::{Folder, OBJECTS, Printed, link, objdump, section, span};
use crate::{Numbers, unwind};

const FILES: usize = 210;

#[test]
fn dylibs() {
    let folder = Folder::new("linked");
    let objects: Vec<&Path> = OBJECTS.all.iter().map(|compiled| &*compiled.object).collect();
    let mut numbers = Numbers(0x1234_5678_9ABC_DEF1);
    let (mut entries, mut with_lsda, mut own_records, mut folded) = (0, 0, 0, 0);
    for index in 0..FILES {
        // Few and many, so that there is one page and several, and encodings are common and a
        // page's own.
        let one_in = 1 + numbers.below(6);
        let mut some: Vec<&Path> = objects.iter().copied().filter(|_| numbers.below(one_in) == 0).collect();
        if some.is_empty() {
            some.push(objects[index % objects.len()]);
        }
        let at = numbers.below(some.len() as u64) as usize;
        some.rotate_left(at);
        let flags = [&[][..], &["-dead_strip"], &["--icf=all"]][index % 3];
        let path = folder.join(&format!("{index}.dylib"));
        link(&some, flags, &path);
        let file = std::fs::read(&path).unwrap();
        let printed = Printed::of(&objdump(&path)).entries();
        let (table, _) = section(&file, "__unwind_info").unwrap();

        let found = unwind_info(table, 0).unwrap();
        assert_eq!(found, printed, "{some:?}");
        let higher = unwind_info(table, 0x4000).unwrap();
        assert!(higher.iter().zip(&found).all(|(higher, entry)| higher.function == entry.function + 0x4000));

        let own = section(&file, "__eh_frame");
        let own = own.map(|(section, offset)| Own { offset, section });
        let checked = records(&found, own, span(&file));
        entries += found.len();
        with_lsda += found.iter().filter(|entry| entry.lsda.is_some()).count();
        own_records += checked;
        folded += usize::from(some.len() > 1);
        std::fs::remove_file(path).unwrap();
    }
    assert!(
        entries > 10_000 && with_lsda > 500 && own_records > 1000 && folded > 100,
        "{entries} {with_lsda} {own_records}"
    );
}

/// Compares what is written with the entries. Returns how many records were the file's own.
fn records(entries: &[Entry], own: Option<Own<'_>>, span: u64) -> usize {
    let place = span.next_multiple_of(8);
    let section = eh_frame(entries, own, place, span).unwrap();
    let mut written = frames::read(&section, place);
    written.sort_by_key(|record| record.start);
    let at = |start: u64| {
        let index = written.binary_search_by_key(&start, |record| record.start);
        index.ok().map(|index| &written[index])
    };
    assert_eq!(unwind::check(&section, place, 0..span).unwrap(), written.len());
    assert!(section.ends_with(&[0; 4]));
    let own = own.map(|own| frames::read(own.section, own.offset)).unwrap_or_default();
    for record in &own {
        assert_eq!(at(record.start), Some(record));
    }
    let described: Vec<&Entry> =
        entries.iter().filter(|entry| !matches!(entry.encoding >> 24 & 15, 0 | 3)).collect();
    assert_eq!(written.len(), own.len() + described.len());
    let dwarf = entries.iter().filter(|entry| entry.encoding >> 24 & 15 == 3);
    for entry in dwarf {
        assert!(own.iter().any(|record| record.start == entry.function && record.length == entry.length));
    }
    for entry in described {
        let record = at(entry.function).unwrap();
        assert_eq!(record.length, entry.length);
        assert_eq!(record.personality, entry.personality.map(gimli::Pointer::Indirect));
        assert_eq!(record.lsda, entry.lsda.map(gimli::Pointer::Direct));
        assert_eq!(record.rows, [(entry.function, Rule::of(entry.encoding))]);
    }
    own.len()
}
