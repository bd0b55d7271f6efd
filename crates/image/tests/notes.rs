//! What modules say of themselves, written with `include/runtime_module.h` by the compilers of both
//! machines.

mod common;

use common::refused::*;
use common::*;
use midflight_image::{Error, ExportKind, Image, Input, Machine, NoteProblem};

const INCLUDE: &str = concat!("-I", env!("CARGO_MANIFEST_DIR"), "/../../include");

const SOURCE: &str = r#"#include "runtime_module.h"
    RUNTIME_MODULE("physics", "2.1.0 Wörter")
    RUNTIME_MODULE_NEEDS("terrain")
    RUNTIME_MODULE_NEEDS("sky")
    static int open_;
    int module_init(void) { open_ = 1; return 0; }
    void module_shutdown(void) { open_ = 0; }
    int is_open(void) { return open_; }"#;

type Said<'data> = (Option<&'data str>, Option<&'data str>, Vec<&'data str>);

fn said<'data>(image: &Image<'data>) -> Said<'data> {
    (image.declared_name(), image.declared_version(), image.needs().collect())
}

const ALL: (&str, &str, [&str; 2]) = ("physics", "2.1.0 Wörter", ["terrain", "sky"]);

fn check(bytes: &[u8], machine: Machine, what: &[&str]) {
    let image = Image::parse(bytes, machine, 4096, MAX_SPAN).unwrap();
    assert_eq!(said(&image), (Some(ALL.0), Some(ALL.1), ALL.2.to_vec()), "{machine} {what:?}");
    for hook in ["module_init", "module_shutdown"] {
        let export = image.export(hook).unwrap_or_else(|| panic!("{machine} {what:?}: no {hook}"));
        assert_eq!(export.kind, ExportKind::Function);
    }
}

/// With every warning an error.
const STRICT: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

#[test]
fn in_shared_objects_and_object_files_of_every_way_to_compile() {
    for machine in BOTH {
        for ways in [
            &["-O0", "-std=c11"][..],
            &["-O2", "-std=gnu11", "-flto"],
            &["-O2", "-std=c11", "-fvisibility=hidden", "-ffunction-sections", "-Wl,--gc-sections", "-s"],
            &["-g", "-x", "c++", "-std=c++17"],
            &["-O2", "-x", "c++", "-std=c++11", "-fvisibility=hidden", "-Wl,-z,max-page-size=65536"],
        ] {
            let flags = [&["-shared", "-fPIC", "-nostdlib", INCLUDE], &STRICT[..], ways].concat();
            check(&compile_with(machine, SOURCE, &flags), machine, ways);
            if !ways.contains(&"-flto") {
                let object = [&["-c", "-fPIC", INCLUDE], ways].concat();
                check(&compile_as(machine, SOURCE, &object), machine, &object);
            }
        }
    }
}

#[test]
fn what_debuggers_read_is_not_needed() {
    for machine in BOTH {
        let bytes = compile(machine, SOURCE, &[INCLUDE, "-g"]);
        let loaded = Image::loaded_length(&bytes).unwrap() as usize;
        assert!(loaded < bytes.len());
        check(&bytes[..loaded], machine, &["cut"]);
    }
}

#[test]
fn beside_notes_of_others() {
    // Of another alignment, in the same section even.
    let others = "__asm__(\".pushsection .note.gnu.property,\\\"a\\\",%note\\n .balign 8\\n .long 4, 16, 5\\n .asciz \\\"GNU\\\"\\n\"
        \".long 0xc0000002, 4, 3, 0\\n .balign 8\\n .popsection\\n\");
        __asm__(\".pushsection .note.midflight,\\\"a\\\",%note\\n .balign 4\\n .long 2, 3, 1\\n .ascii \\\"xy\\\\0\\\\0abc\\\\0\\\"\\n .popsection\\n\");
        __asm__(\".pushsection .note.other,\\\"a\\\",%note\\n .balign 4\\n .long 9, 1, 1\\n .ascii \\\"midflight\\\\0\\\\0\\\\0z\\\\0\\\\0\\\\0\\\"\\n .popsection\\n\");";
    for machine in BOTH {
        let source = format!("{others}\n{SOURCE}");
        let flags = [INCLUDE, "-Wl,--build-id"];
        let module = compile(machine, &source, &flags);
        assert!(program_headers(&module, 4).len() >= 2, "segments of two alignments");
        check(&module, machine, &["others"]);
        check(&compile_as(machine, &source, &[INCLUDE, "-c", "-fPIC"]), machine, &["others"]);
        let nothing = compile(machine, "int x = 1;", &["-Wl,--build-id"]);
        let image = Image::parse(&nothing, machine, 4096, MAX_SPAN).unwrap();
        assert_eq!(said(&image), (None, None, vec![]));
    }
}

#[test]
fn of_several_files() {
    for machine in BOTH {
        let object = |source: &str| {
            let source = format!("#include \"runtime_module.h\"\n{source}");
            compile_as(machine, &source, &[INCLUDE, "-c", "-fPIC"])
        };
        let [one, two, three] = [
            "RUNTIME_MODULE(\"whole\", \"1\") RUNTIME_MODULE_NEEDS(\"a\") int f(void) { return 1; }",
            "RUNTIME_MODULE_NEEDS(\"b\") int g(void) { return 1; }",
            "RUNTIME_MODULE(\"whole\", \"1\") int h(void) { return 1; }",
        ]
        .map(object);
        let input = |name, bytes| Input { name, bytes };
        let inputs = [input("one.o", &one), input("two.o", &two)];
        let image = Image::parse_all(&inputs, machine, 4096, MAX_SPAN).unwrap();
        assert_eq!(said(&image), (Some("whole"), Some("1"), vec!["a", "b"]));
        let inputs = [input("one.o", &one), input("three.o", &three)];
        let error = Image::parse_all(&inputs, machine, 4096, MAX_SPAN).unwrap_err();
        says(&error, &["three.o: ", "the module's name", "is there twice", "RUNTIME_MODULE"]);
    }
}

/// Where the note of this type is in the file.
fn note(bytes: &[u8], n_type: u32) -> usize {
    let found = bytes.windows(10).enumerate().filter(|(_, owner)| owner == b"midflight\0");
    let mut notes = found.map(|(at, _)| at - 12);
    notes.find(|at| u32_at(bytes, at + 8) == n_type).expect("a note")
}

#[test]
fn damaged_ones_are_refused_by_name() {
    for machine in BOTH {
        let shared = compile(machine, SOURCE, &[INCLUDE, "-Wl,--build-id=none", "-s"]);
        let object = compile_as(machine, SOURCE, &[INCLUDE, "-c", "-fPIC"]);
        for module in [shared, object] {
            let damaged = |n_type: u32, at: usize, with: &[u8]| {
                let mut bytes = module.clone();
                let note = note(&bytes, n_type);
                put(&mut bytes, note + at, with);
                match refusal(&bytes, machine) {
                    Error::BadNote { n_type, problem } => (n_type, problem),
                    other => panic!("{other:?}"),
                }
            };
            assert_eq!(damaged(1, 24 + 7, b"!"), (1, NoteProblem::NoEnd));
            assert_eq!(damaged(2, 24, b"\0"), (2, NoteProblem::SeveralEnds));
            assert_eq!(damaged(3, 24, b"\xFF"), (3, NoteProblem::NotUtf8));
            assert_eq!(damaged(1, 4, &[0; 4]), (1, NoteProblem::NoEnd));
            assert_eq!(damaged(2, 8, &[1, 0, 0, 0]), (1, NoteProblem::Twice));
            assert_eq!(damaged(3, 8, &[2, 0, 0, 0]), (2, NoteProblem::Twice));
            assert_eq!(damaged(3, 8, &[15, 0, 0, 0]), (15, NoteProblem::Unknown));
            // A name is too short for a state.
            assert_eq!(damaged(3, 8, &[4, 0, 0, 0]), (4, NoteProblem::CutOff));
            assert_eq!(damaged(2, 4, &[0xFF; 4]), (2, NoteProblem::CutOff));
            assert_eq!(damaged(1, 4, &[0, 0, 1, 0]), (1, NoteProblem::CutOff));
        }
    }
}

#[test]
fn one_note_for_sixty_thousand_segments() {
    // Each program header says that all of the file are its notes.
    for machine in BOTH {
        let source = ".section .note.much,\"a\",%note\n.rept 100000\n.long 0, 0, 1\n.endr";
        let mut bytes = compile(machine, source, &["-x", "assembler", "-Wl,-soname,libmuch.so"]);
        let old = u64_at(&bytes, 32) as usize;
        let count = usize::from(u16_at(&bytes, 56));
        let note = program_headers(&bytes, 4).into_iter().max_by_key(|at| u64_at(&bytes, at + 32)).unwrap();
        assert!(u64_at(&bytes, note + 32) >= 1_200_000);
        let note = bytes[note..note + 56].to_vec();
        let table = bytes.len().next_multiple_of(8);
        bytes.resize(table, 0);
        bytes.extend_from_within(old..old + 56 * count);
        for _ in count..60_000 {
            bytes.extend(&note);
        }
        put64(&mut bytes, 32, table as u64);
        put(&mut bytes, 56, &60_000u16.to_le_bytes());
        let clock = common::clock::Clock::start();
        malformed(&Image::parse(&bytes, machine, 4096, MAX_SPAN).unwrap_err(), "segments of notes overlap");
        clock.within(10.0);
    }
}
