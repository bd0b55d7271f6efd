//! No object file or archive makes the crate panic, read out of bounds, or take long: damaged
//! files, and noise.

use crate::common::{HOST, bindings, put, u32_at};
use crate::generate;
use crate::tools::{Scratch, assemble, commands, compile, compile_cpp, run, sections};
use midflight_image::{Error, Image, Input, Machine};
use proptest::prelude::*;
use std::process::Command;
use std::sync::OnceLock;

const SPAN: u64 = 1 << 20;

/// Uses everything that an image offers. Returns whether it could be parsed.
fn walk(files: &[&[u8]], page_size: u64) -> bool {
    let inputs: Vec<_> = files.iter().map(|bytes| Input { name: "file", bytes }).collect();
    let image = match Image::parse_all(&inputs, Machine::Aarch64, page_size, SPAN) {
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
        assert!(export.offset <= image.span().max(image.thread_locals().map_or(0, |block| block.size)));
        assert_eq!(image.export(export.name), Some(export));
    }
    assert!(image.export("no such symbol").is_none());
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
            if let Some(unwind) = image.unwind() {
                let section = &memory[unwind.offset as usize..][..unwind.size as usize];
                let _ =
                    midflight_image::unwind::check(section, base + unwind.offset, base..base + image.span());
            }
        }
        let _ = (image.symbols(), image.debug(base));
    }
    let weak = image.imports().iter().all(|import| import.weak);
    let nobody = image.link(image.align(), &mut memory, &HOST, &vec![None; image.imports().len()]);
    assert!(weak || matches!(nobody, Err(Error::UnresolvedImport { .. })));
    true
}

const RICH: &str = "extern \"C\" int far(int); extern int host_x; extern int maybe() __attribute__((weak_import)); int d = 3; int *p = \
    &d, *q = &host_x; static __thread int t = 3; __thread char z[9]; struct guard { guard(); ~guard(); }; static guard global;
    inline int shared(int x) { static int n; return n += x; }
    int f(int x) { guard g; try { return far(x) + *p + t++ + shared(x) + (maybe ? maybe() : 0); } catch (int e) { return e + z[x]; } }";

/// With addends, differences, pointers to the table, records of their own, aliases, the bounds of a
/// section.
fn assembly() -> String {
    let frames = "_odd:\n.cfi_startproc\nsub sp, sp, #32\n.cfi_def_cfa_offset 32\n.cfi_def_cfa w20, 16\nret\n.cfi_endproc\n";
    let more =
        ".globl _alias\n_alias = _near\n.data\n.quad section$start$__DATA$__data\n.long _d0\n.long 7\n";
    format!(".text\n{frames}{more}{}", generate::source(77, false))
}

fn seeds() -> &'static [Vec<u8>] {
    static SEEDS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    SEEDS.get_or_init(|| {
        vec![
            compile_cpp(RICH, &[]),
            assemble(&assembly()),
            compile("int x; int *f(int a) { return &x + a; }", &["-g", "-O0"]),
        ]
    })
}

/// Where something is decided: the header, the load commands, and the start of every table.
fn interesting(bytes: &[u8]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..32).step_by(2).collect();
    for (command, at, size) in commands(bytes) {
        places.extend((at..at + size).step_by(4));
        if command == 2 {
            let (symbols, count) = (u32_at(bytes, at + 8) as usize, u32_at(bytes, at + 12) as usize);
            let names = u32_at(bytes, at + 16) as usize;
            for entry in (0..count.min(60)).map(|index| symbols + 16 * index) {
                places.extend([0, 4, 5, 6, 8, 12].map(|field| entry + field));
            }
            places.extend(names..names + 20);
        }
    }
    for section in sections(bytes) {
        let (start, count) = section.relocations;
        places.extend((start..start + 8 * count.min(60)).flat_map(|at| (at % 8 != 3).then_some(at)));
        let tables = ["__eh_frame", "__compact_unwind", "__thread_vars", "__mod_init_func"];
        if tables.iter().any(|name| section.name.ends_with(name)) {
            places.extend((section.offset..section.offset + (section.size as usize).min(240)).step_by(4));
        }
    }
    places.retain(|at| at + 8 <= bytes.len());
    places
}

#[test]
fn the_seeds_are_good() {
    for bytes in seeds() {
        assert!(walk(&[bytes], 4096));
    }
}

#[test]
fn truncated_at_every_length() {
    for bytes in &seeds()[..2] {
        for length in (0..bytes.len()).step_by(7) {
            assert!(!walk(&[&bytes[..length]], 4096), "the names are at the end");
        }
    }
}

#[test]
fn every_byte_of_the_tables_changed() {
    for bytes in &seeds()[..2] {
        let mut bytes = bytes.clone();
        for at in interesting(&bytes) {
            let was = bytes[at];
            for value in [0, 1, 0x7F, 0x80, 0xFF, was ^ 1, was.wrapping_add(8)] {
                bytes[at] = value;
                walk(&[&bytes], 4096);
            }
            bytes[at] = was;
        }
    }
}

/// A relocation's first word is its place; of the second, 24 bits are a symbol's or a section's
/// number, and bit 27 says which.
#[test]
fn relocations_that_name_what_is_not_there() {
    for bytes in seeds() {
        let mut bytes = bytes.clone();
        for section in sections(&bytes) {
            let (start, count) = section.relocations;
            for at in (start..start + 8 * count).step_by(8).map(|at| at + 4) {
                let was = u32_at(&bytes, at);
                for number in [0, 1, 0xFF, 0xFFFF, 0xFF_FFFF] {
                    for kind in [was & 0xFF00_0000, was & 0xFF00_0000 ^ 1 << 27] {
                        put(&mut bytes, at, &(kind | number).to_le_bytes());
                        let loaded = walk(&[&bytes], 4096);
                        let is_addend = was >> 28 == 10;
                        let is_debug = section.name.starts_with("__DWARF");
                        assert!(
                            !loaded || number < 0xFFFF || is_addend || is_debug,
                            "{} {at:#x}",
                            section.name
                        );
                    }
                }
                put(&mut bytes, at, &was.to_le_bytes());
            }
        }
    }
}

fn quickly<T>(work: impl FnOnce() -> T) -> T {
    let clock = crate::common::clock::Clock::start();
    let result = work();
    clock.within(10.0);
    result
}

fn parse(bytes: &[u8]) -> Result<(), Error> {
    Image::parse(bytes, Machine::Aarch64, 4096, SPAN).map(|_| ())
}

#[test]
fn one_table_for_all_sections() {
    // Each section says that the same megabyte is its relocations.
    let mut bytes =
        assemble(&(0..200).map(|index| format!(".section __DATA,__s{index}\n.quad 1\n")).collect::<String>());
    let start = bytes.len();
    bytes.extend(vec![0; 1 << 20]);
    for section in sections(&bytes.clone()) {
        put(&mut bytes, section.header + 56, &(start as u32).to_le_bytes());
        put(&mut bytes, section.header + 60, &(1u32 << 17).to_le_bytes());
    }
    let error = quickly(|| parse(&bytes).unwrap_err());
    assert!(matches!(error, Error::Malformed { problem, .. } if problem.contains("overlap")), "{error}");
}

/// Where the names begin, and how many bytes they are.
fn names(bytes: &[u8]) -> (usize, usize) {
    let (_, at, _) = commands(bytes).into_iter().find(|command| command.0 == 2).unwrap();
    (u32_at(bytes, at + 16) as usize, u32_at(bytes, at + 20) as usize)
}

#[test]
fn one_name_for_all_symbols() {
    let names_of_all: String =
        (0..40_000).map(|index| format!(".globl _s{index}\n_s{index} = {index}\n")).collect();
    let mut bytes = assemble(&format!("{names_of_all}.data\n.4byte 1"));
    let (start, size) = names(&bytes);
    bytes[start + 1..start + size - 1].fill(b'x');
    let error = quickly(|| parse(&bytes).unwrap_err());
    assert!(matches!(error, Error::Malformed { table: "symbol table", .. }), "{error}");
}

#[test]
fn long_chains_of_aliases() {
    let chain: String =
        (0..30_000).map(|index| format!(".globl _s{index}\n_s{index} = _s{}\n", index + 1)).collect();
    // In any order: the assembler follows aliases of what it has seen.
    let bytes = assemble(&format!(".data\n.quad _s0\n{chain}"));
    quickly(|| parse(&bytes)).unwrap();
}

#[test]
fn archives_that_are_pulled_backwards() {
    // Each member needs the one before it.
    let scratch = Scratch::new();
    let mut command = Command::new("llvm-ar-19");
    command.current_dir(scratch.path()).args(["--format=darwin", "rcs", "lib.a"]);
    let template = assemble(".data\n.globl _s7\n_s7: .quad _s8");
    const MEMBERS: u32 = 1500;
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
        let file = format!("{index}.o");
        std::fs::write(scratch.path().join(&file), contents).unwrap();
        command.arg(file);
    }
    run(&mut command);
    let bytes = std::fs::read(scratch.path().join("lib.a")).unwrap();
    let main = assemble(".data\n.quad _AA");
    let inputs = [Input { name: "main.o", bytes: &main }, Input { name: "lib.a", bytes: &bytes }];
    let image = quickly(|| Image::parse_all(&inputs, Machine::Aarch64, 4096, 64 << 20)).unwrap();
    assert_eq!(image.exports().len(), MEMBERS as usize);
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
        let bytes = &seeds()[seed];
        let places = interesting(bytes);
        let mut bytes = bytes.clone();
        for (at, number, size) in &damages {
            put(&mut bytes, *at.get(&places), &number.to_le_bytes()[..1usize << size]);
        }
        let other = &seeds()[seed];
        if twice { walk(&[other, &bytes], page_size) } else { walk(&[&bytes], page_size) };
    }

    #[test]
    fn noise(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        let mut file = seeds()[0][..32].to_vec();
        file.extend(&bytes);
        walk(&[&file], 4096);
        let mut archive = b"!<arch>\n".to_vec();
        archive.extend(&bytes);
        walk(&[&seeds()[0], &archive], 4096);
    }
}
