//! No file makes the reader panic, read out of bounds, or take long: damaged modules.

use super::common::{put, u32_at, u64_at};
use super::generate::{Numbers, module};
use super::patch::{CHAINED, DYLD_INFO, SEGMENT, SYMTAB, TRIE, commands};
use super::tools::{DYLIB, Folder, compile, link};
use super::walk::walk;
use std::sync::OnceLock;

const TINY: &str = "extern int e(int); __thread int t = 5; int d = 3; int *p = &d; int f(int x) { return e(x) + *p + t; } \
    __attribute__((constructor)) void up(void) { d++; } __attribute__((weak)) int w(void) { return e(d); }";

/// Modules with every table there is, small where each length or byte is tried.
fn seeds() -> &'static [Vec<u8>] {
    static SEEDS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    SEEDS.get_or_init(|| {
        let folder = Folder::new();
        let output = folder.path("module.dylib");
        let mut objects = vec![compile(&folder, "tiny.c", TINY, &[])];
        objects.extend([2, 3, 6].map(|seed| compile(&folder, &format!("{seed}.s"), &module(seed), &[])));
        let mut seeds = Vec::new();
        for object in &objects {
            for flags in
                [&["-fixup_chains"][..], &["-no_fixup_chains"], &["-flat_namespace", "-init_offsets"]]
            {
                seeds.push(link(&output, &[object], "11.0", &[DYLIB, flags].concat()));
            }
        }
        seeds
    })
}

/// Where in a file something is decided: the load commands, and every table that they point to.
fn interesting(bytes: &[u8]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..32 + u32_at(bytes, 20) as usize).step_by(4).collect();
    let mut table = |start: u32, size: u32| {
        let (start, end) = (start as usize, start as usize + size.min(400) as usize);
        places.extend((start..end).filter(|at| at + 8 <= bytes.len()));
    };
    for at in [CHAINED, TRIE].into_iter().flat_map(|kind| commands(bytes, kind)) {
        table(u32_at(bytes, at + 8), u32_at(bytes, at + 12));
    }
    for at in commands(bytes, DYLD_INFO) {
        (8..48).step_by(8).for_each(|field| table(u32_at(bytes, at + field), u32_at(bytes, at + field + 4)));
    }
    for at in commands(bytes, SYMTAB) {
        table(u32_at(bytes, at + 8), 16 * u32_at(bytes, at + 12));
    }
    for at in commands(bytes, SEGMENT) {
        for section in (0..u32_at(bytes, at + 64) as usize).map(|index| at + 72 + 80 * index) {
            table(u32_at(bytes, section + 48), (u64_at(bytes, section + 40) as u32).min(128));
        }
    }
    places
}

#[test]
fn the_seeds_are_good() {
    for bytes in seeds() {
        assert!(walk(bytes, 4096) && walk(bytes, 16384));
        // Segments are 16 KiB apart.
        assert!(!walk(bytes, 65536));
    }
}

#[test]
fn truncated() {
    for bytes in &seeds()[..2] {
        // What is loaded is before the tables.
        let headers = 0..32 + u32_at(bytes, 20) as usize + 64;
        let tables = commands(bytes, SEGMENT).last().map_or(0, |at| u64_at(bytes, at + 40) as usize);
        let rest = (headers.end..tables).step_by(997).chain(tables..bytes.len());
        for length in headers.chain(rest) {
            assert!(!walk(&bytes[..length], 4096), "at {length}");
        }
    }
}

#[test]
fn every_byte_changed() {
    for bytes in &seeds()[..2] {
        let mut bytes = bytes.clone();
        let mut places: Vec<usize> = interesting(&bytes).into_iter().flat_map(|at| at..at + 2).collect();
        places.sort_unstable();
        places.dedup();
        for at in places.into_iter().step_by(if cfg!(debug_assertions) { 3 } else { 1 }) {
            let was = bytes[at];
            for value in [0, 1, 0x80, 0xFF, was ^ 1, was.wrapping_add(8)] {
                bytes[at] = value;
                walk(&bytes, 4096);
            }
            bytes[at] = was;
        }
    }
}

#[test]
fn several_places_changed() {
    let numbers = &mut Numbers::new(1);
    let mut parsed = 0;
    for round in 0..4000 {
        let seed = &seeds()[round % seeds().len()];
        let places = interesting(seed);
        let mut bytes = seed.clone();
        for _ in 0..1 + numbers.below(4) {
            let at = places[numbers.below(places.len() as u64) as usize];
            let small = numbers.below(256);
            let value = match numbers.below(6) {
                0 => u64::MAX - small,
                1 => small << 56,
                2 => u64_at(&bytes, at).wrapping_add(small).wrapping_sub(128),
                3 => 1 << numbers.below(64),
                4 => numbers.below(bytes.len() as u64),
                _ => small,
            };
            let width = [1, 2, 4, 8][numbers.below(4) as usize];
            put(&mut bytes, at, &value.to_le_bytes()[..width]);
        }
        parsed += usize::from(walk(&bytes, [4096, 16384][round % 2]));
    }
    // Not all damage is seen, and not all is fatal: both are tried.
    assert!((200..3800).contains(&parsed), "{parsed}");
}
