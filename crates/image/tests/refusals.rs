//! Whatever is not supported is refused, before anything is written, with an error that says what
//! and why.

mod common;

use common::refused::*;
use common::*;
use midflight_image::{Error, Host, Image, Machine, Refusal};

#[test]
fn other_kinds_of_files() {
    for (bytes, name) in [
        (&b""[..], "empty"),
        (b"\x7FEL", "first bytes"),
        (b"BC\xC0\xDE", "bitcode"),
        (b"MZ\x90\0", "Windows"),
        (b"#!/bin/sh\n", "script"),
        (b"/* GNU ld script */", "linker script"),
        (b"INPUT(libx.so.1 -ly)", "linker script"),
        (&[0; 4096], "zeros"),
        (b"once upon a time", "something else"),
    ] {
        let error = refusal(bytes, Machine::X86_64);
        assert!(matches!(error, Error::NotElf { .. }), "{error:?}");
        says(&error, &[name, "-shared"]);
    }
}

#[test]
fn other_machines() {
    let error = refusal(&good(Machine::Aarch64), Machine::X86_64);
    assert_eq!(error, Error::WrongMachine { found: 183, expected: Machine::X86_64 });
    says(&error, &["built for AArch64, and this process is x86-64", "x86_64-linux-gnu-gcc"]);
    let error = refusal(&good(Machine::X86_64), Machine::Aarch64);
    says(&error, &["built for x86-64, and this process is AArch64", "aarch64-linux-gnu-gcc"]);
    for (number, name) in [(243, "RISC-V"), (3, "32-bit x86"), (9999, "machine number 9999")] {
        says(&damaged(Machine::X86_64, |m| put(m, 18, &u16::to_le_bytes(number))), &[name]);
    }
}

#[test]
fn other_classes_and_systems() {
    for machine in BOTH {
        for (at, value, words) in [
            (4, 1, "32-bit"),
            (5, 2, "big-endian"),
            (7, 9, "FreeBSD"),
            (7, 77, "another operating system"),
            (4, 7, "unknown class"),
            (5, 7, "unknown byte order"),
            (6, 2, "unknown version"),
            (20, 9, "unknown version"),
        ] {
            says(&damaged(machine, |m| m[at] = value), &[words]);
        }
    }
}

#[test]
fn other_kinds_of_elf_files() {
    for machine in BOTH {
        let source = "int f(void) { return 1; } int _start(void) { return f(); }";
        let build = |flags: &[&str]| refusal(&compile_as(machine, source, flags), machine);
        let fixed = build(&["-nostdlib", "-no-pie", "-static"]);
        assert_eq!(fixed, Error::NotSharedObject { e_type: 2 });
        says(&fixed, &["executable", "-fPIC"]);
        let error = build(&["-nostdlib", "-fPIE", "-pie"]);
        assert_eq!(error, Error::PieExecutable);
        says(&error, &["-shared", "-pie"]);
        assert_eq!(build(&["-nostdlib", "-fPIE", "-static-pie"]), Error::PieExecutable);
        says(&damaged(machine, |m| m[16] = 4), &["core dump"]);
        says(&damaged(machine, |m| m[16] = 9), &["type 9"]);
    }
}

#[test]
fn no_dynamic_table() {
    for machine in BOTH {
        let error = damaged(machine, |m| {
            let at = program_headers(m, 2)[0];
            put(m, at, &[0; 4]);
        });
        assert_eq!(error, Error::NoDynamicTable);
        says(&error, &["PT_DYNAMIC"]);
    }
}

#[test]
fn writable_code() {
    for machine in BOTH {
        let error = damaged(machine, |m| {
            let text = program_headers(m, 1).into_iter().find(|at| m[at + 4] & 1 != 0).unwrap();
            m[text + 4] |= 2;
        });
        assert!(matches!(error, Error::WritableExecutable { .. }));
        says(&error, &["writable and executable"]);
        // And as a linker makes it. (Its segments are also aligned too little.)
        let omagic = compile(machine, "int x = 1; int f(void) { return x; }", &["-Wl,-N"]);
        let error = refusal(&omagic, machine);
        assert!(matches!(error, Error::WritableExecutable { .. } | Error::SegmentAlign { .. }), "{error:?}");
    }
}

#[test]
fn executable_stack() {
    for machine in BOTH {
        let error = refusal(&rich(machine, &["-Wl,-z,execstack"]), machine);
        assert_eq!(error, Error::ExecutableStack);
        says(&error, &["note.GNU-stack", "-Wl,-z,noexecstack"]);
    }
}

#[test]
fn too_large() {
    for machine in BOTH {
        let big = compile(machine, "char big[100 << 20];", &[]);
        let error = refusal(&big, machine);
        assert!(matches!(error, Error::TooLarge { needed: 104_857_600.., limit: MAX_SPAN }), "{error:?}");
        assert!(Image::parse(&big, machine, 4096, 1 << 30).is_ok(), "the caller decides");
    }
}

#[test]
fn pages_of_two_protections() {
    for machine in BOTH {
        // Everything 4 KiB apart, and announced as aligned to 64 KiB.
        let mut bytes = rich(machine, &["-Wl,-z,max-page-size=4096"]);
        let loads = program_headers(&bytes, 1);
        assert!(loads.len() > 1);
        for at in loads {
            let address = u64_at(&bytes, at + 16);
            put64(&mut bytes, at + 8, address);
            put64(&mut bytes, at + 48, 0x1_0000);
        }
        bytes.resize(0x2_0000, 0);
        let error = refusal_at(&bytes, machine, 65536);
        assert!(matches!(error, Error::SharedPage { .. }), "{error:?}");
        says(&error, &["-Wl,-z,max-page-size=65536"]);
    }
}

#[test]
fn text_relocations() {
    for machine in BOTH {
        // A pointer in the code itself, as code that is not position-independent has.
        let source = ".text\n.globl f\nf:\n.quad elsewhere\n.section .note.GNU-stack,\"\",%progbits\n";
        let flags = ["-shared", "-nostdlib", "-x", "assembler", "-Wl,-z,notext", "-Wl,-soname,x"];
        let mut bytes = compile_as(machine, source, &flags);
        let error = refusal(&bytes, machine);
        assert_eq!(error, Error::TextRelocation { offset: 0, symbol: String::new() });
        says(&error, &["-fPIC"]);
        // Not announced: found at the place.
        for (tag, replaced) in [(22, 0x6FFF_FF01), (30, 0x6FFF_FF02)] {
            if let Some(at) = dynamic(&bytes, tag) {
                put64(&mut bytes, at, replaced);
            }
        }
        let error = refusal(&bytes, machine);
        assert!(
            matches!(&error, Error::TextRelocation { offset: 1.., symbol } if symbol == "elsewhere"),
            "{error:?}"
        );
        says(&error, &["elsewhere", "-Wl,-z,text"]);
    }
}

#[test]
fn unsupported_relocations() {
    for machine in BOTH {
        let refused: &[(u32, Refusal, &str)] = match machine {
            Machine::X86_64 => &[
                (5, Refusal::Copy, "R_X86_64_COPY"),
                (21, Refusal::NotDynamic, "R_X86_64_DTPOFF32"),
                (23, Refusal::NotDynamic, "R_X86_64_TPOFF32"),
                (2, Refusal::NotDynamic, "R_X86_64_PC32"),
                (10, Refusal::NotDynamic, "R_X86_64_32"),
                (38, Refusal::NotDynamic, "R_X86_64_RELATIVE64"),
                (12345, Refusal::Unknown, "x86-64 relocation type 12345"),
            ],
            Machine::Aarch64 => &[
                (1024, Refusal::Copy, "R_AARCH64_COPY"),
                (541, Refusal::NotDynamic, "R_AARCH64_TLSIE_ADR_GOTTPREL_PAGE21"),
                (283, Refusal::NotDynamic, "R_AARCH64_CALL26"),
                (258, Refusal::NotDynamic, "R_AARCH64_ABS32"),
                (12345, Refusal::Unknown, "AArch64 relocation type 12345"),
            ],
        };
        for (number, why, name) in refused {
            let mut place = 0;
            let error = damaged(machine, |m| {
                let at = relocation(m, types(machine)[3]);
                place = u64_at(m, at);
                put(m, at + 8, &number.to_le_bytes());
            });
            let Error::UnsupportedRelocation { machine: of, r_type, refusal, symbol, offset } = &error else {
                panic!("{error:?}");
            };
            assert_eq!((*of, r_type, refusal, *offset), (machine, number, why, place));
            assert!(!symbol.is_empty());
            says(&error, &[name, &format!("`{symbol}`"), &format!("{place:#x}")]);
        }
        // Placeholders are not refused.
        let mut bytes = good(machine);
        let at = relocation(&bytes, types(machine)[1]);
        put(&mut bytes, at + 8, &0u32.to_le_bytes());
        assert!(Image::parse(&bytes, machine, 4096, MAX_SPAN).is_ok());
    }
}

#[test]
fn unsupported_dynamic_entries() {
    for machine in BOTH {
        for (tag, name) in [
            (17, "DT_REL"),
            (0x6000_000F, "DT_ANDROID_REL"),
            (0x6000_0011, "DT_ANDROID_RELA"),
            (0x6FFF_E000, "DT_ANDROID_RELR"),
            (0x7FFF_FFFF, "DT_FILTER"),
            (0x7FFF_FFFD, "DT_AUXILIARY"),
        ] {
            let error = damaged(machine, |m| plant_dynamic(m, tag, 8));
            assert!(matches!(error, Error::UnsupportedDynamic { tag, .. } if tag == name), "{error:?}");
            says(&error, &[name]);
        }
        says(&damaged(machine, |m| set_dynamic(m, 20, 17)), &["DT_PLTREL = DT_REL"]);
        malformed(&damaged(machine, |m| set_dynamic(m, 20, 5)), "DT_PLTREL names no kind");
        let error = damaged(machine, |m| plant_dynamic(m, 22, 0));
        assert!(matches!(error, Error::TextRelocation { .. }));
        let error = damaged(machine, |m| plant_dynamic(m, 30, 4));
        assert!(matches!(error, Error::TextRelocation { .. }));
        assert_eq!(damaged(machine, |m| plant_dynamic(m, 0x6FFF_FFFB, 0x0800_0000)), Error::PieExecutable);
    }
}

#[test]
fn calls_outside_the_code() {
    for machine in BOTH {
        for (tag, list) in [(12, "DT_INIT"), (13, "DT_FINI")] {
            let error = damaged(machine, |m| {
                let data = dynamic_value(m, 25);
                set_dynamic(m, tag, data);
            });
            assert!(matches!(error, Error::EntryOutsideCode { list: l, .. } if l == list), "{error:?}");
            says(&error, &[list]);
        }
        if machine == Machine::Aarch64 {
            let error = damaged(machine, |m| {
                let init = dynamic_value(m, 12);
                set_dynamic(m, 12, init + 2);
            });
            assert!(matches!(error, Error::EntryOutsideCode { .. }), "instructions are aligned to 4");
        }
        // In the arrays it shows after linking: an entry that the host answers for.
        let source = "void host(void); int x; \
            __attribute__((section(\".init_array\"))) void *at_load = host; \
            __attribute__((section(\".fini_array\"))) void *at_unload = &x;";
        let bytes = compile(machine, source, &[]);
        let image = Image::parse(&bytes, machine, 4096, MAX_SPAN).unwrap();
        let mut memory = vec![0; image.span() as usize];
        let base = 0x10_0000;
        link(&image, base, &mut memory, |_| Some(0x4242)).unwrap();
        let init = image.init(base, &memory).unwrap_err();
        assert_eq!(init, Error::EntryOutsideCode { list: "DT_INIT_ARRAY", address: 0x4242 });
        let x = base + image.export("x").unwrap().offset;
        let fini = image.fini(base, &memory);
        assert_eq!(fini, Err(Error::EntryOutsideCode { list: "DT_FINI_ARRAY", address: x }));
    }
}

#[test]
fn wrong_memory_and_wrong_addresses() {
    for machine in BOTH {
        let bytes = good(machine);
        let image = Image::parse(&bytes, machine, 4096, MAX_SPAN).unwrap();
        let span = image.span();
        let mut memory = vec![0; span as usize + 4096];
        let nobody = &bindings(&image, |_| Some(0x4242))[..];
        let host = &Host::default();
        for given in [0, span - 1, span + 4096] {
            let expected = Error::WrongMemory { expected: span, given };
            let memory = &mut memory[..given as usize];
            assert_eq!(image.link(0, memory, host, nobody), Err(expected.clone()));
            assert_eq!(image.init(0, memory), Err(expected.clone()));
            assert_eq!(image.fini(0, memory), Err(expected));
        }
        let memory = &mut memory[..span as usize];
        for base in [1, 2048, image.align() / 2, 0u64.wrapping_sub(image.align()), u64::MAX] {
            let expected = Error::WrongBase { base, align: image.align() };
            assert_eq!(image.link(base, memory, host, nobody), Err(expected.clone()), "{base:#x}");
            assert_eq!(image.init(base, memory), Err(expected));
        }
        let (expected, given) = (nobody.len(), nobody.len() - 1);
        let one_less = image.link(0, memory, host, &nobody[1..]);
        assert_eq!(one_less, Err(Error::WrongBindings { expected, given }));
        assert!(memory.iter().all(|byte| *byte == 0), "nothing was written");
    }
}

#[test]
fn messages_stay_short() {
    let long = "x".repeat(100_000);
    for machine in BOTH {
        let source = format!("int {long}(void); int f(void) {{ return {long}(); }}");
        let mut bytes = compile(machine, &source, &[]);
        let at = relocation(&bytes, types(machine)[3]);
        put(&mut bytes, at + 8, &12345u32.to_le_bytes());
        says(&refusal(&bytes, machine), &["xxx..."]);
    }
}
