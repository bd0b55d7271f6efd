//! Tables that contradict themselves, or the file they are in, are errors that say which.

mod common;

use common::refused::*;
use common::*;
use midflight_image::{Error, Image};

#[test]
fn damaged_dynamic_tables() {
    const OUT: u64 = 0x7FFF_FFFF_0000;
    for machine in BOTH {
        malformed(&damaged(machine, |m| plant_dynamic(m, 6, 0)), "twice");
        malformed(&damaged(machine, |m| set_dynamic(m, 14, 1 << 20)), "outside");
        malformed(&damaged(machine, |m| set_dynamic(m, 14, 1 << 40)), "outside the string table");
        for tag in [4, 5, 6, 7, 23, 25, 26, 0x6FFF_FEF5] {
            malformed(&damaged(machine, |m| set_dynamic(m, tag, OUT)), "outside");
        }
        for tag in [8, 2, 27, 28, 10] {
            malformed(&damaged(machine, |m| set_dynamic(m, tag, 24 << 32)), "outside");
        }
        for tag in [8, 2, 27, 28] {
            malformed(&damaged(machine, |m| set_dynamic(m, tag, 25)), "inside an entry");
        }
        malformed(&damaged(machine, |m| set_dynamic(m, 9, 16)), "wrong size");
        malformed(&damaged(machine, |m| set_dynamic(m, 11, 16)), "wrong size");
        for tag in [5, 10, 11, 6, 9] {
            let error = damaged(machine, |m| {
                let at = dynamic(m, tag).unwrap();
                put64(m, at, 0x6FFF_FF00);
            });
            assert!(matches!(error, Error::Malformed { .. }), "{tag}: {error:?}");
        }
        malformed(&damaged(machine, |m| plant_dynamic(m, 35, 8)), "no address");
        malformed(
            &damaged(machine, |m| {
                let at = program_headers(m, 2)[0];
                put64(m, at + 32, 32);
            }),
            "DT_NULL",
        );
        malformed(
            &damaged(machine, |m| {
                let at = program_headers(m, 2)[0];
                put64(m, at + 16, OUT);
            }),
            "not in a segment",
        );
        malformed(&damaged(machine, |m| put64(m, 32, u64::MAX)), "does not fit");
        let first = |field: usize, value: u64| {
            damaged(machine, |m| {
                let at = program_headers(m, 1)[0];
                put64(m, at + field, value);
            })
        };
        malformed(&first(40, 64), "more bytes in the file than in memory");
        malformed(&first(8, 1 << 40), "past the end of the file");
        malformed(&first(8, 8), "differ modulo the alignment");
        malformed(&first(16, 1 << 16 | 1 << 40), "not in order");
        malformed(&damaged(machine, |m| put(m, 54, &[55, 0])), "does not fit");
    }
}

#[test]
fn relocations_out_of_place() {
    for machine in BOTH {
        let [relative, absolute, _, slot] = types(machine);
        for r_type in [relative, absolute, slot] {
            let moved = |to: u64| {
                damaged(machine, |m| {
                    let at = relocation(m, r_type);
                    put64(m, at, to);
                })
            };
            for outside in [u64::MAX, u64::MAX - 7, 0x7FFF_0000_0000] {
                malformed(&moved(outside), "outside the segments");
            }
            // The file header is in a segment that is not writable.
            let error = moved(0);
            assert!(matches!(error, Error::TextRelocation { offset: 0, .. }), "{error:?}");
        }
        malformed(
            &damaged(machine, |m| {
                let at = relocation(m, slot);
                let place = u64_at(m, at);
                put64(m, at, place + 4);
            }),
            "not aligned",
        );
        for r_type in [absolute, slot] {
            let error = damaged(machine, |m| {
                let at = relocation(m, r_type);
                put(m, at + 12, &0xFFFF_FFFFu32.to_le_bytes());
            });
            malformed(&error, "names a symbol that is not in it");
        }
    }
}

#[test]
fn damaged_symbols() {
    for machine in BOTH {
        // The symbol `counter`, changed.
        let change = |field: usize, value: &[u8]| {
            damaged(machine, |m| {
                let at = symbol(m, "counter");
                put(m, at + field, value);
            })
        };
        let far = 0x7FFF_0000_0000u64.to_le_bytes();
        for (field, value, words) in [
            (8, &far[..], "outside the image"),
            (16, &far[..], "ends outside the image"),
            (16, &[0xFF; 8][..], "ends outside the image"),
            (4, &[0x12][..], "function outside the module's code"),
            (4, &[0x1A][..], "chosen by a function outside the module's code"),
            (4, &[0x16][..], "no thread-local storage (PT_TLS)"),
            (6, &0xFFF2u16.to_le_bytes()[..], "common block"),
        ] {
            let error = change(field, value);
            assert!(matches!(&error, Error::BadSymbol { symbol, .. } if symbol == "counter"), "{error:?}");
            says(&error, &["`counter`", words]);
        }
        malformed(&change(0, &[0xFF; 4]), "a name starts outside it");
        let error = change(0, &[0; 4]);
        says(&error, &["without a name"]);
    }
}

#[test]
fn damaged_hash_tables() {
    for machine in BOTH {
        let gnu = |field: usize, value: u32| {
            damaged(machine, |m| {
                let at = file_offset(m, dynamic_value(m, 0x6FFF_FEF5));
                put(m, at + field, &value.to_le_bytes());
            })
        };
        malformed(&gnu(0, 0), "no buckets");
        malformed(&gnu(0, u32::MAX), "cut off");
        malformed(&gnu(4, u32::MAX), "chain starts outside");
        malformed(&gnu(4, 0), "disagree");
        malformed(&gnu(8, 0), "no power of two");
        malformed(&gnu(8, 3), "no power of two");
        malformed(&gnu(8, 1 << 31), "cut off");
        let sysv = |field: usize, value: u32| {
            damaged(machine, |m| {
                let at = file_offset(m, dynamic_value(m, 4));
                put(m, at + field, &value.to_le_bytes());
            })
        };
        malformed(&sysv(0, 0), "no buckets");
        malformed(&sysv(0, u32::MAX), "cut off");
        malformed(&sysv(4, u32::MAX), "cut off");
        malformed(&sysv(4, 1), "disagree");
    }
}

#[test]
fn damaged_versions() {
    for machine in BOTH {
        let bytes = compile_as(
            machine,
            "#include <stdio.h>\nint f(void) { return puts(\"x\"); }",
            &["-shared", "-fPIC", "-Wl,-soname,v.so"],
        );
        let needed = file_offset(&bytes, dynamic_value(&bytes, 0x6FFF_FFFE));
        let refused = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = bytes.clone();
            change(&mut bytes);
            refusal(&bytes, machine)
        };
        malformed(&refused(&|m| put(m, needed, &[9, 0])), "unknown format");
        malformed(&refused(&|m| put(m, needed + 2, &[0, 0])), "no version is needed");
        malformed(&refused(&|m| put(m, needed + 2, &[0xFF, 0xFF])), "ends early");
        malformed(&refused(&|m| put(m, needed + 8, &[0xFF; 4])), "outside the segments");
        malformed(&refused(&|m| put(m, needed + 16 + 6, &[99, 0])), "not listed");
        malformed(&refused(&|m| put(m, needed + 16 + 8, &[0xFF; 4])), "a name starts outside it");
        malformed(&refused(&|m| set_dynamic(m, 0x6FFF_FFFF, 50)), "ends early");
        malformed(&refused(&|m| set_dynamic(m, 0x6FFF_FFFE, u64::MAX)), "outside the segments");
        malformed(&refused(&|m| set_dynamic(m, 0x6FFF_FFF0, u64::MAX)), "outside the segments");
        // The last two bytes of the segment that has the table.
        let load = program_headers(&bytes, 1)[0];
        let end = u64_at(&bytes, load + 16) + u64_at(&bytes, load + 32);
        malformed(&refused(&|m| set_dynamic(m, 0x6FFF_FFF0, end - 2)), "fewer versions than symbols");
        let rename = |m: &mut Vec<u8>, tag| {
            let at = dynamic(m, tag).unwrap();
            put64(m, at, 0x6FFF_FF00);
        };
        malformed(&refused(&|m| rename(m, 0x6FFF_FFF0)), "no symbol has one");
        malformed(&refused(&|m| rename(m, 0x6FFF_FFFE)), "a length and no address");
    }
}

#[test]
fn damaged_definitions_of_versions() {
    for machine in BOTH {
        let script = version_script("V1 { global: f; local: *; }; V2 { global: g; } V1;");
        let bytes = compile(machine, "int f(void) { return 1; } int g(void) { return 2; }", &[&script]);
        let first = file_offset(&bytes, dynamic_value(&bytes, 0x6FFF_FFFC));
        let refused = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = bytes.clone();
            change(&mut bytes);
            refusal(&bytes, machine)
        };
        malformed(&refused(&|m| put(m, first, &[9, 0])), "unknown format");
        malformed(&refused(&|m| put(m, first + 6, &[0, 0])), "a version without a name");
        malformed(&refused(&|m| put(m, first + 12, &[0; 4])), "ends early");
        malformed(&refused(&|m| put(m, first + 12, &[0xFF; 4])), "outside the segments");
        malformed(&refused(&|m| put(m, first + 16, &[0; 4])), "ends early");
        malformed(&refused(&|m| put(m, first + 16, &[0xFF; 4])), "outside the segments");
        malformed(&refused(&|m| put(m, first + 20, &[0xFF; 4])), "a name starts outside it");
        // The second is given the first one's number.
        let second = first + u32_at(&bytes, first + 16) as usize;
        malformed(&refused(&|m| put(m, second + 4, &[1, 0])), "two versions have one number");
        malformed(&refused(&|m| set_dynamic(m, 0x6FFF_FFFD, 50)), "ends early");
        malformed(&refused(&|m| set_dynamic(m, 0x6FFF_FFFC, u64::MAX)), "outside the segments");
        let rename = |m: &mut Vec<u8>, tag| {
            let at = dynamic(m, tag).unwrap();
            put64(m, at, 0x6FFF_FF00);
        };
        malformed(&refused(&|m| rename(m, 0x6FFF_FFF0)), "no symbol has one");
        malformed(&refused(&|m| rename(m, 0x6FFF_FFFC)), "a length and no address");
    }
}

#[test]
fn damaged_string_tables() {
    for machine in BOTH {
        let size = dynamic_value(&good(machine), 10);
        malformed(&damaged(machine, |m| set_dynamic(m, 10, size - 1)), "its last name has no end");
        malformed(&damaged(machine, |m| set_dynamic(m, 10, 0)), "a name starts outside it");
    }
}

#[test]
fn needed_versions_with_one_number() {
    for machine in BOTH {
        let source =
            "#include <stdio.h>\n#include <math.h>\nint f(double x) { return printf(\"%f\", sin(x)); }";
        let mut bytes = compile_as(machine, source, &["-shared", "-fPIC", "-Wl,--no-as-needed", "-lm"]);
        let first = file_offset(&bytes, dynamic_value(&bytes, 0x6FFF_FFFE));
        let second = first + u32_at(&bytes, first + 12) as usize;
        assert_ne!(first, second, "two libraries");
        let number = u16_at(&bytes, first + u32_at(&bytes, first + 8) as usize + 6);
        let entry = second + u32_at(&bytes, second + 8) as usize;
        put(&mut bytes, entry + 6, &number.to_le_bytes());
        malformed(&refusal(&bytes, machine), "two versions have one number");
    }
}

#[test]
fn needed_versions_without_end() {
    // Records that can be read both as a library and as a version of it: 60,000 libraries which
    // share their 65,535 versions. Only the number of numbers there are ends this.
    let source = "struct { short version, count; int file, first, next; } v[70000] = {[0 ... 69999] = {1, -1, 0, 16, 16}}; \
        static int z; void *p = &v, *q = &z; int e(void); int f(void) { return e(); }";
    for machine in BOTH {
        let mut bytes = compile(machine, source, &["-Wl,-soname,endless.so.1"]);
        let export = |image: Image<'_>| image.export("v").unwrap().offset;
        let offset = export(Image::parse(&bytes, machine, 4096, MAX_SPAN).unwrap());
        let numbers = dynamic_value(&bytes, 6);
        plant_dynamic(&mut bytes, 0x6FFF_FFFE, offset);
        for (tag, value) in [(0x6FFF_FFFF, 60_000), (0x6FFF_FFF0, numbers)] {
            // Where the sizes of tables were that this module does without.
            let spare = if tag == 0x6FFF_FFFF { 0x6FFF_FFF9 } else { 3 };
            let at = dynamic(&bytes, spare).unwrap();
            put64(&mut bytes, at, tag);
            put64(&mut bytes, at + 8, value);
        }
        malformed(&refusal(&bytes, machine), "more versions than there are numbers");
    }
}
