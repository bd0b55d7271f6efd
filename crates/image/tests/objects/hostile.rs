//! No object file or archive makes the crate panic, read out of bounds, or take long: damaged
//! files, and noise.
//!
//! `fuzz/` does the same with coverage feedback; what it finds becomes a test here.

use crate::common::{BOTH, HOST, bindings, compile_as, put, u16_at, u32_at, u64_at};
use crate::{assembly, object};
use midflight_image::{Error, Image, Input, Machine};
use proptest::prelude::*;
use std::sync::OnceLock;

const SPAN: u64 = 1 << 20;

/// Uses everything that an image offers. Returns whether it could be parsed.
fn walk(files: &[&[u8]], machine: Machine, page_size: u64) -> bool {
    let inputs: Vec<_> = files.iter().map(|bytes| Input { name: "file", bytes }).collect();
    let image = match Image::parse_all(&inputs, machine, page_size, SPAN) {
        Ok(image) => image,
        Err(error) => {
            assert!(error.to_string().len() < 4096);
            return false;
        }
    };
    assert!(image.span() > 0 && image.span() <= SPAN && image.span() % page_size == 0);
    let mut end = 0;
    for region in image.regions() {
        assert!(region.offset >= end && region.len > 0 && region.offset % page_size == 0);
        end = region.offset + region.len;
    }
    assert!(end <= image.span());
    for export in image.exports().into_iter().take(1000) {
        assert!(
            export.offset + export.size
                <= image.span().max(image.thread_locals().map_or(0, |block| block.size))
        );
        assert_eq!(image.export(export.name), Some(export));
    }
    assert!(image.export("no such symbol").is_none());
    assert!(image.declared_name().into_iter().chain(image.needs()).all(|name| !name.is_empty()));
    let _ = image.declared_version();
    let mut memory = vec![0; image.span() as usize];
    for address in [0x4000, 0x7F12_3456_7890] {
        let bindings = bindings(&image, |_| Some(address));
        let base = match image.window(&bindings) {
            Ok(window) => 0x7F00_0000_0000u64.clamp(window.low, window.high) / image.align() * image.align(),
            Err(_) => 0x7F00_0000_0000,
        };
        if image.link(base, &mut memory, &HOST, &bindings).is_ok() {
            for calls in [image.init(base, &memory), image.fini(base, &memory)].into_iter().flatten() {
                assert!(calls.iter().all(|call| (base..base + image.span()).contains(call)));
            }
        }
        let _ = (image.symbols(), image.debug(base));
    }
    let weak = image.imports().iter().all(|import| import.weak);
    let nobody = image.link(image.align(), &mut memory, &HOST, &vec![None; image.imports().len()]);
    assert!(weak || matches!(nobody, Err(Error::UnresolvedImport { .. })));
    true
}

const INCLUDE: &str = concat!("-I", env!("CARGO_MANIFEST_DIR"), "/../../include");

const RICH: &str = "#include \"runtime_module.h\"
    RUNTIME_MODULE(\"rich\", \"1\") RUNTIME_MODULE_NEEDS(\"other\") extern int far(int), host_x; extern int maybe(void) __attribute__((weak)); int common[9];
    static __thread int t = 3; int d = 3; int *p = &d, *q = &host_x; extern char __start_set[];
    __attribute__((section(\"set\"))) int m = 1; static int r(void) { return 1; }
    static void *pick(void) { return r; }
    int chosen(void) __attribute__((ifunc(\"pick\"))); char *s = __start_set;
    int f(int x) { return far(x) + *p + t++ + (maybe ? maybe() : 0) + chosen(); }
    __attribute__((constructor(101))) void up(void) { d++; }";

fn seeds() -> &'static [(Machine, Vec<u8>)] {
    static SEEDS: OnceLock<Vec<(Machine, Vec<u8>)>> = OnceLock::new();
    SEEDS.get_or_init(|| {
        let flags: [&[&str]; 3] = [
            &["-c", "-fPIC", "-g"],
            &["-c", "-O2", "-fPIC", "-fno-plt"],
            &["-c", "-fPIC", "-ffunction-sections", "-fdata-sections"],
        ];
        let of =
            |machine, flags: &[&str]| (machine, compile_as(machine, RICH, &[flags, &[INCLUDE]].concat()));
        let each = |machine| flags.map(|flags| of(machine, flags));
        BOTH.into_iter().flat_map(each).collect()
    })
}

/// Where something is decided: the header, the section headers, and the start of every table.
fn interesting(bytes: &[u8]) -> Vec<usize> {
    let table = u64_at(bytes, 40) as usize;
    let mut places: Vec<usize> = (0..64).step_by(2).collect();
    for header in (0..usize::from(u16_at(bytes, 60))).map(|index| table + 64 * index) {
        places.extend((header..header + 64).step_by(4));
        // Groups, symbols, relocations, notes, and what has a format of its own.
        if matches!(u32_at(bytes, header + 4), 1 | 2 | 4 | 7 | 17) {
            let (start, size) = (u64_at(bytes, header + 24) as usize, u64_at(bytes, header + 32) as usize);
            places.extend((start..start + size.min(240)).step_by(4));
        }
    }
    places.retain(|at| at + 8 <= bytes.len());
    places
}

#[test]
fn the_seeds_are_good() {
    for (machine, bytes) in seeds() {
        assert!(walk(&[bytes], *machine, 4096), "{machine}");
    }
}

#[test]
fn truncated_at_every_length() {
    for (machine, bytes) in seeds().iter().step_by(3) {
        for length in (0..bytes.len()).step_by(7) {
            assert!(!walk(&[&bytes[..length]], *machine, 4096), "the section headers are at the end");
        }
    }
}

#[test]
fn every_byte_of_the_tables_changed() {
    for (machine, bytes) in seeds().iter().step_by(3) {
        let mut bytes = bytes.clone();
        for at in interesting(&bytes) {
            let was = bytes[at];
            for value in [0, 1, 0x7F, 0x80, 0xFF, was ^ 1, was.wrapping_add(8)] {
                bytes[at] = value;
                walk(&[&bytes], *machine, 4096);
            }
            bytes[at] = was;
        }
    }
}

/// The file offset of the header of the first section of this type.
fn header(bytes: &[u8], kind: u32) -> usize {
    let table = u64_at(bytes, 40) as usize;
    let mut headers = (0..usize::from(u16_at(bytes, 60))).map(|index| table + 64 * index);
    headers.find(|header| u32_at(bytes, header + 4) == kind).expect("a section of this type")
}

fn quickly(work: impl FnOnce() -> Error) -> Error {
    let clock = crate::common::clock::Clock::start();
    let error = work();
    clock.within(10.0);
    error
}

#[test]
fn one_table_for_a_hundred_thousand_sections() {
    // Each section header says that the same megabyte is its relocations.
    let machine = Machine::X86_64;
    let mut bytes = object(machine, "extern int x; int *p = &x;");
    let (rela, start) = (header(&bytes, 4), bytes.len());
    let table = vec![0; 1 << 20];
    bytes.extend(&table);
    let headers: Vec<u8> = bytes[rela..rela + 64].to_vec();
    let at = bytes.len();
    let count = 60_000u16;
    let old = u64_at(&bytes, 40) as usize;
    let old_count = usize::from(u16_at(&bytes, 60));
    bytes.extend_from_within(old..old + 64 * old_count);
    for _ in old_count..count.into() {
        let mut header = headers.clone();
        put(&mut header, 24, &(start as u64).to_le_bytes());
        put(&mut header, 32, &((table.len() / 24 * 24) as u64).to_le_bytes());
        bytes.extend(header);
    }
    put(&mut bytes, 40, &(at as u64).to_le_bytes());
    put(&mut bytes, 60, &count.to_le_bytes());
    let error = quickly(|| Image::parse(&bytes, machine, 4096, SPAN).unwrap_err());
    assert!(matches!(error, Error::Malformed { problem, .. } if problem.contains("overlap")), "{error}");
}

#[test]
fn one_name_for_a_hundred_thousand_symbols() {
    let machine = Machine::X86_64;
    let names: String = (0..40_000).map(|index| format!(".globl s{index}\n")).collect();
    let mut bytes = assembly(machine, &format!("{names}.data\n.4byte 1"));
    let symbols = header(&bytes, 2);
    let strings = u64_at(&bytes, 40) as usize + 64 * u32_at(&bytes, symbols + 40) as usize;
    // All of the names become one.
    let (start, size) = (u64_at(&bytes, strings + 24) as usize, u64_at(&bytes, strings + 32) as usize);
    bytes[start + 1..start + size - 1].fill(b'x');
    let error = quickly(|| Image::parse(&bytes, machine, 4096, SPAN).unwrap_err());
    assert!(matches!(error, Error::Malformed { table: "symbol table", .. }), "{error}");
}

#[test]
fn archives_that_are_pulled_backwards() {
    // Each member needs the one before it.
    const MEMBERS: u32 = 2400;
    let machine = Machine::X86_64;
    let member = |index: usize| {
        let body = format!(".data\n.globl s{index}\ns{index}: .8byte s{}", index + 1);
        (format!("{index}.o/"), assembly(machine, &body))
    };
    let template = member(7).1;
    let mut bytes = b"!<arch>\n".to_vec();
    for index in (0..MEMBERS).rev() {
        let mut contents = template.clone();
        // Names of one length: `s7` and `s8` become two bytes that count.
        let name = |index: u32| [b'A' + (index / 50) as u8, b'A' + (index % 50) as u8];
        for at in 0..contents.len() - 2 {
            if contents[at..at + 3] == *b"s7\0" {
                contents[at..at + 2].copy_from_slice(&name(index));
            } else if contents[at..at + 3] == *b"s8\0" {
                contents[at..at + 2].copy_from_slice(&name(index + 1));
            }
        }
        let header = format!("{:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", "m.o/", 0, 0, 0, 644, contents.len());
        bytes.extend(header.bytes());
        bytes.extend(contents);
        bytes.resize(bytes.len().next_multiple_of(2), b'\n');
    }
    let main = assembly(machine, ".data\n.8byte AA");
    let inputs = [Input { name: "main.o", bytes: &main }, Input { name: "lib.a", bytes: &bytes }];
    let clock = crate::common::clock::Clock::start();
    let image = Image::parse_all(&inputs, machine, 4096, 64 << 20).unwrap();
    assert_eq!(image.exports().len(), MEMBERS as usize);
    clock.within(20.0);
}

fn numbers() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (0u32..64, -9i64..9).prop_map(|(bit, near)| (1u64 << bit).wrapping_add_signed(near)),
        0u64..0x800,
        Just(u64::MAX),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_objects(
        seed in 0..seeds().len(),
        damages in prop::collection::vec((any::<prop::sample::Index>(), numbers(), 0u32..4), 1..5),
        page_size in prop::sample::select(vec![4096u64, 16384, 65536]),
        twice: bool,
    ) {
        let (machine, bytes) = &seeds()[seed];
        let places = interesting(bytes);
        let mut bytes = bytes.clone();
        for (at, number, size) in &damages {
            put(&mut bytes, *at.get(&places), &number.to_le_bytes()[..1usize << size]);
        }
        let other = &seeds()[seed].1;
        if twice { walk(&[other, &bytes], *machine, page_size) } else { walk(&[&bytes], *machine, page_size) };
    }

    #[test]
    fn noise(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        for machine in BOTH {
            let mut file = seeds().iter().find(|(of, _)| *of == machine).unwrap().1[..64].to_vec();
            file.extend(&bytes);
            walk(&[&file], machine, 4096);
            let mut archive = b"!<arch>\n".to_vec();
            archive.extend(&bytes);
            walk(&[&archive], machine, 4096);
        }
    }
}
