//! No file makes the crate panic, read out of bounds, or take long: damaged modules, and noise.
//!
//! `fuzz/` does the same with coverage feedback; what it finds becomes a test here.

mod common;

use common::*;
use midflight_image::{ExportKind, Image, Machine, Protection, Region};
use proptest::prelude::*;
use std::sync::OnceLock;

const SMALL_SPAN: u64 = 16 << 20;

/// Uses everything that an image offers. Returns whether it could be parsed: then it can be linked.
fn walk(bytes: &[u8], machine: Machine, page_size: u64) -> bool {
    let Ok(image) = Image::parse(bytes, machine, page_size, SMALL_SPAN) else { return false };
    // Damage can make an object file of it.
    if bytes[16..18] != [3, 0] {
        return false;
    }
    assert!(image.span() > 0 && image.span() <= SMALL_SPAN && image.span() % page_size == 0);
    assert!(image.align() <= SMALL_SPAN && image.align().is_power_of_two());
    let mut end = 0;
    for region in image.regions() {
        assert!(region.offset >= end && region.len > 0 && region.offset % page_size == 0);
        end = region.offset + region.len;
    }
    assert!(end <= image.span());
    let block = image.thread_locals();
    if let Some(block) = block {
        assert!(block.align.is_power_of_two() && block.skew < block.align && block.initialised <= block.size);
        assert!(block.offset + block.initialised <= image.span() && block.size <= SMALL_SPAN);
    }
    let protection = |offset: u64| {
        let of = |r: &&Region| (r.offset..r.offset + r.len).contains(&offset);
        image.regions().iter().find(of).map(|region| region.protection)
    };
    for indirect in image.indirect() {
        assert_eq!(protection(indirect.resolver), Some(Protection::ReadExecute));
        assert!(matches!(protection(indirect.place), Some(Protection::Read | Protection::ReadWrite)));
        assert!(indirect.place + 8 <= image.span());
    }
    if let Some(unwind) = image.unwind() {
        assert!(unwind.offset + unwind.size <= image.span());
        let end = (unwind.offset + unwind.size).saturating_sub(1);
        assert!(protection(unwind.offset).is_some() && protection(end).is_some());
    }
    for export in image.exports().iter().take(1000) {
        let of = if export.kind == ExportKind::ThreadLocal { block.unwrap().size } else { image.span() };
        assert!(export.offset + export.size <= of);
        if let Some(found) = image.export(export.name) {
            assert_eq!(found.name, export.name);
        }
    }
    assert!(image.export("no such symbol").is_none());
    let _ = (image.soname(), image.needed().len(), image.runpath(), format!("{image:?}"));
    assert!(image.declared_name().into_iter().chain(image.needs()).all(|name| !name.is_empty()));
    let _ = image.declared_version();

    for base in [0, image.align() * 5, 0x7F00_0000_0000 & !(image.align() - 1)] {
        let mut memory = vec![0; image.span() as usize];
        let linked = link(&image, base, &mut memory, |_| Some(0x4000));
        assert_eq!(linked, Ok(()), "what was accepted can be linked");
        for indirect in image.indirect() {
            assert_eq!(u64_at(&memory, indirect.place as usize), 0, "left to the module");
        }
        if let Some(unwind) = image.unwind().filter(|unwind| unwind.terminated) {
            assert_eq!(u32_at(&memory, (unwind.offset + unwind.size) as usize - 4), 0);
        }
        for calls in [image.init(base, &memory), image.fini(base, &memory)].into_iter().flatten() {
            assert!(calls.iter().all(|call| (base..base + image.span()).contains(call)));
        }
        let nobody = link(&image, base, &mut memory, |_| None);
        assert_eq!(nobody.is_ok(), image.imports().iter().all(|import| import.weak));
    }
    true
}

const TINY: &str = "extern int e(int); int d = 3; int *p = &d; int f(int x) { return e(x) + *p; } \
    __attribute__((constructor)) void up(void) { d++; }";

const THREADS: &str = "__thread int mine = 3, zeros[9]; extern __thread int theirs, maybe __attribute__((weak)); \
    static __thread int one = 1; int *f(void) { return &mine; } int g(void) { return theirs + zeros[3] + one++; } \
    int h(void) { return &maybe ? maybe : -1; } int plain; __thread int *p = &plain;";

const INCLUDE: &str = concat!("-I", env!("CARGO_MANIFEST_DIR"), "/../../include");

const NOTES: &str = "#include \"runtime_module.h\"\nRUNTIME_MODULE(\"name\", \"1\") RUNTIME_MODULE_NEEDS(\"other\") int x = 1;";

const CHOICES: &str = "#include <stdio.h>\n static int one(void) { return 1; } static void *pick(void) { return one; } \
    int chosen(void) __attribute__((ifunc(\"pick\"))); static int own(void) __attribute__((ifunc(\"pick\"))); \
    int (*p[])(void) = {chosen, own}; int f(void) { return chosen() + own() + puts(\"f\"); }";

fn tiny(machine: Machine) -> &'static [u8] {
    static TINY_MODULES: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    let flags = ["-s", "-Wl,-z,max-page-size=4096", "-Wl,-z,noseparate-code", "-Wl,--build-id=none"];
    &TINY_MODULES.get_or_init(|| BOTH.map(|machine| compile(machine, TINY, &flags)))[machine as usize]
}

/// Modules with every table there is.
fn seeds() -> &'static [(Machine, Vec<u8>)] {
    static SEEDS: OnceLock<Vec<(Machine, Vec<u8>)>> = OnceLock::new();
    SEEDS.get_or_init(|| {
        let mut seeds = Vec::new();
        for machine in BOTH {
            seeds.push((machine, rich(machine, &["-s", "-Wl,--hash-style=both"])));
            seeds.push((machine, rich(machine, &["-s", "-Wl,-z,now", "-Wl,-z,max-page-size=65536"])));
            let source =
                "#include <stdio.h>\n#include <math.h>\nint f(double x) { return printf(\"%f\", sin(x)); }";
            seeds.push((machine, compile_as(machine, source, &["-shared", "-fPIC", "-s", "-lm"])));
            let dialects = match machine {
                Machine::X86_64 => ["-mtls-dialect=gnu", "-mtls-dialect=gnu2"],
                Machine::Aarch64 => ["-mtls-dialect=trad", "-mtls-dialect=desc"],
            };
            for dialect in dialects {
                seeds.push((machine, compile(machine, THREADS, &["-s", dialect])));
            }
            seeds.push((machine, compile(machine, NOTES, &["-s", "-Wl,--build-id", INCLUDE])));
            let script = version_script("V1 { global: f; old; local: *; }; V2 { global: chosen; p; } V1;");
            seeds.push((machine, compile_as(machine, CHOICES, &["-shared", "-fPIC", "-s", &script])));
        }
        seeds.push((Machine::X86_64, rich(Machine::X86_64, &["-s", "-Wl,-z,pack-relative-relocs"])));
        seeds
    })
}

/// Where in a module something is decided: the headers, and every table that the dynamic table
/// points to.
fn interesting(bytes: &[u8]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..64 + 56 * u16_at(bytes, 56) as usize).step_by(2).collect();
    let table = u64_at(bytes, program_headers(bytes, 2)[0] + 8) as usize;
    for entry in (table..).step_by(16).take_while(|at| u64_at(bytes, *at) != 0) {
        places.extend([entry, entry + 8, entry + 8]);
        let value = u64_at(bytes, entry + 8);
        if matches!(u64_at(bytes, entry), 4 | 5 | 6 | 7 | 23 | 25 | 26 | 36 | 0x6FFF_FE00..=0x6FFF_FFFF)
            && value > 64
        {
            let holds = |at: &usize| {
                (u64_at(bytes, at + 16)..)
                    .take(1)
                    .all(|start| value >= start && value < start + u64_at(bytes, at + 32))
            };
            if program_headers(bytes, 1).iter().any(holds) {
                let start = file_offset(bytes, value);
                places.extend((start..start + 96).step_by(4).filter(|at| at + 8 <= bytes.len()));
            }
        }
    }
    // The table of functions for unwinders, and notes.
    for header in [0x6474_E550, 4].into_iter().flat_map(|kind| program_headers(bytes, kind)) {
        let start = u64_at(bytes, header + 8) as usize;
        let fields = start..start + u64_at(bytes, header + 32) as usize;
        places.extend(fields.step_by(2).filter(|at| at + 8 <= bytes.len()));
    }
    places
}

#[test]
fn the_seeds_are_good() {
    for (machine, bytes) in seeds() {
        assert!(walk(bytes, *machine, 4096));
    }
    for machine in BOTH {
        assert!(walk(tiny(machine), machine, 4096));
    }
}

#[test]
fn truncated_at_every_length() {
    for machine in BOTH {
        let bytes = tiny(machine);
        // What is loaded ends here; behind it are sections that only debuggers and linkers read.
        let loaded = program_headers(bytes, 1).into_iter();
        let loaded = loaded.map(|at| u64_at(bytes, at + 8) + u64_at(bytes, at + 32)).max().unwrap() as usize;
        for length in 0..bytes.len() {
            let parsed = walk(&bytes[..length], machine, 4096);
            assert_eq!(parsed, length >= loaded, "{machine} at {length}");
        }
    }
}

#[test]
fn every_byte_changed() {
    // The headers and tables of a small module, each byte set to values that tend to matter.
    for machine in BOTH {
        let mut bytes = tiny(machine).to_vec();
        let mut places = interesting(&bytes);
        places.sort_unstable();
        places.dedup();
        for at in places.into_iter().flat_map(|at| at..at + 2) {
            let was = bytes[at];
            for value in [0, 1, 0x7F, 0x80, 0xFF, was ^ 1, was.wrapping_add(8)] {
                bytes[at] = value;
                walk(&bytes, machine, 4096);
            }
            bytes[at] = was;
        }
    }
}

#[test]
fn names_that_share_one_long_string_take_no_quadratic_time() {
    // Each of 40,000 symbols is named by the same megabyte: 40 GB to compare, were names measured
    // one by one.
    let source = "int anchor = 1; int table[400000] = {1}; int *p = &anchor;";
    for machine in BOTH {
        let mut bytes = compile(machine, source, &["-Wl,--hash-style=sysv", "-Wl,-z,norelro"]);
        let image = Image::parse(&bytes, machine, 4096, SMALL_SPAN).unwrap();
        let offset = image.export("table").unwrap().offset;
        drop(image);
        let place = file_offset(&bytes, offset);
        let (count, symbols, strings, hash) = (40_000usize, offset, offset + 1_000_000, offset + 1_300_000);
        let end = place + 1_000_000;
        let anchor = file_offset(&bytes, dynamic_value(&bytes, 6)) + 24;
        let mut symbol = bytes[anchor..anchor + 24].to_vec();
        put(&mut symbol, 0, &1u32.to_le_bytes());
        // An object in the image, whichever symbol it was.
        put(&mut symbol, 4, &[0x11, 0, 1, 0]);
        put64(&mut symbol, 8, offset);
        put64(&mut symbol, 16, 4);
        for index in 1..count {
            put(&mut bytes, place + 24 * index, &symbol);
        }
        bytes[end..end + 300_000].fill(b'x');
        put(&mut bytes, end, &[0]);
        put(&mut bytes, end + 299_999, &[0]);
        // One bucket, whose chain is every symbol.
        let table = end + 300_000;
        for (at, value) in [1, count as u32, 1, 0].into_iter().chain((2..count as u32).chain([0])).enumerate()
        {
            put(&mut bytes, table + 4 * at, &value.to_le_bytes());
        }
        for (tag, value) in [(6, symbols), (5, strings), (10, 300_000), (4, hash)] {
            set_dynamic(&mut bytes, tag, value);
        }
        let clock = common::clock::Clock::start();
        let image = Image::parse(&bytes, machine, 4096, SMALL_SPAN).unwrap();
        assert_eq!(image.exports().len(), count - 1);
        assert_eq!(image.export("x"), None);
        assert_eq!(image.exports()[0].name.len(), 299_998);
        clock.within(10.0);
    }
}

fn numbers() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (0u32..64, -9i64..9).prop_map(|(bit, near)| (1u64 << bit).wrapping_add_signed(near)),
        0u64..0x8000,
        Just(u64::MAX),
    ]
}

#[derive(Clone, Debug)]
enum Damage {
    Flip(prop::sample::Index, u8),
    Number(prop::sample::Index, u64, usize),
    Cut(prop::sample::Index),
    Move { from: prop::sample::Index, to: prop::sample::Index, length: usize },
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        3 => (index(), any::<u8>()).prop_map(|(at, with)| Damage::Flip(at, with)),
        6 => (index(), numbers(), prop::sample::select(vec![1usize, 2, 4, 8]))
            .prop_map(|(at, number, size)| Damage::Number(at, number, size)),
        1 => index().prop_map(Damage::Cut),
        2 => (index(), index(), 1usize..256).prop_map(|(from, to, length)| Damage::Move { from, to, length }),
    ]
}

fn apply(bytes: &mut Vec<u8>, places: &[usize], damage: &Damage) {
    if bytes.is_empty() {
        return;
    }
    match damage {
        Damage::Flip(at, with) => {
            let at = at.index(bytes.len());
            bytes[at] ^= with;
        }
        Damage::Number(at, number, size) => {
            let at = *at.get(places);
            if at + size <= bytes.len() {
                put(bytes, at, &number.to_le_bytes()[..*size]);
            }
        }
        Damage::Cut(at) => bytes.truncate(at.index(bytes.len())),
        Damage::Move { from, to, length } => {
            let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
            let length = (*length).min(bytes.len() - from.max(to));
            bytes.copy_within(from..from + length, to);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_modules(
        seed in 0..seeds().len(),
        damages in prop::collection::vec(damage(), 1..6),
        page_size in prop::sample::select(vec![4096u64, 16384, 65536]),
    ) {
        let (machine, bytes) = &seeds()[seed];
        let places = interesting(bytes);
        let mut bytes = bytes.clone();
        for damage in &damages {
            apply(&mut bytes, &places, damage);
        }
        walk(&bytes, *machine, page_size);
    }

    #[test]
    fn noise(bytes in prop::collection::vec(any::<u8>(), 0..2048), page_size: u64) {
        for machine in BOTH {
            walk(&bytes, machine, 4096);
            // Behind a header that lets it through.
            let mut module = tiny(machine)[..64].to_vec();
            module.extend(&bytes);
            walk(&module, machine, 4096);
            let _ = Image::parse(tiny(machine), machine, page_size, u64::MAX);
        }
    }
}
