//! What a module asks of the processor: program properties, and signed pointers.

mod common;

use common::refused::{refusal, says};
use common::{BOTH, MAX_SPAN, compile_as, plant_dynamic, put, relocation};
use midflight_image::{Error, Image, Input, Machine};

/// A section of program properties: each a type and its data.
fn properties(list: &[(u32, &[u32])]) -> String {
    let body: String = list
        .iter()
        .map(|(kind, data)| {
            let words: String = data.iter().map(|word| format!(".long {word}\n")).collect();
            format!(".long {kind}, {}\n{words}.balign 8\n", 4 * data.len())
        })
        .collect();
    format!(
        ".section .note.gnu.property,\"a\",%note\n.balign 8\n.long 4, 2f - 1f, 5\n.asciz \"GNU\"\n1:\n{body}2:\n"
    )
}

const CODE: &str = ".text\n.globl f\n.type f, %function\nf: .4byte 0\n.size f, 4\n";

fn object(machine: Machine, list: &[(u32, &[u32])], code: &str) -> Vec<u8> {
    compile_as(machine, &format!("{}{code}", properties(list)), &["-c", "-x", "assembler"])
}

fn shared(machine: Machine, list: &[(u32, &[u32])]) -> Vec<u8> {
    let source = format!("{}{CODE}", properties(list));
    let flags = ["-shared", "-nostdlib", "-x", "assembler", "-Wl,-soname,libx.so"];
    compile_as(machine, &source, &flags)
}

const NEEDED: u32 = 0xC000_8002;
const USED: u32 = 0xC001_0002;

#[test]
fn levels_of_the_processor() {
    let machine = Machine::X86_64;
    for make in [shared, |machine, list: &[(u32, &[u32])]| object(machine, list, CODE)] {
        for (needed, has, missing) in [
            (1, 1, 0),
            (1, 0xF, 0),
            (0b10, 1, 0b10),
            (0b1111, 0b0111, 0b1000),
            (0b0111, 0b0111, 0),
            (0x100, 0xF, 0x100),
        ] {
            let file = make(machine, &[(NEEDED, &[needed])]);
            let image = Image::parse(&file, machine, 4096, MAX_SPAN).unwrap();
            let expected = if missing == 0 { Ok(()) } else { Err(Error::ProcessorLevel { missing }) };
            assert_eq!(image.check_processor(has), expected, "{needed:#b} {has:#b}");
        }
        // What was used where it was there is no need; and among others.
        let file = make(machine, &[(USED, &[0xF]), (NEEDED, &[3])]);
        let image = Image::parse(&file, machine, 4096, MAX_SPAN).unwrap();
        assert_eq!(image.check_processor(3), Ok(()));
        let text = image.check_processor(1).unwrap_err().to_string();
        assert!(text.contains("x86-64-v2") && text.contains("-march"), "{text}");
        // A damaged list says nothing, as for glibc.
        let file = make(machine, &[(NEEDED, &[])]);
        assert!(Image::parse(&file, machine, 4096, MAX_SPAN).unwrap().check_processor(0).is_ok());
    }
    for (missing, name) in [(1, "baseline"), (4, "x86-64-v3"), (8, "x86-64-v4"), (0x100, "level 8")] {
        let text = Error::ProcessorLevel { missing }.to_string();
        assert!(text.contains(name), "{text}");
    }
    // Of several files all must be there.
    let files = [1, 4].map(|level| {
        object(machine, &[(NEEDED, &[level])], &format!(".weak f\n{CODE}").replace(".globl f\n", ""))
    });
    let inputs: Vec<_> = files.iter().map(|bytes| Input { name: "file.o", bytes }).collect();
    let image = Image::parse_all(&inputs, machine, 4096, MAX_SPAN).unwrap();
    assert_eq!(image.check_processor(1), Err(Error::ProcessorLevel { missing: 4 }));
    // The number is another machine's.
    let file = shared(Machine::Aarch64, &[(NEEDED, &[8])]);
    assert!(Image::parse(&file, Machine::Aarch64, 4096, MAX_SPAN).unwrap().check_processor(0).is_ok());
}

#[test]
fn guarded_code() {
    const AND: u32 = 0xC000_0000;
    let guarded = |machine, files: &[Vec<u8>]| {
        let inputs: Vec<_> = files.iter().map(|bytes| Input { name: "file.o", bytes }).collect();
        Image::parse_all(&inputs, machine, 4096, MAX_SPAN).unwrap().is_guarded()
    };
    let machine = Machine::Aarch64;
    for (list, expected) in
        [(&[(AND, &[1u32][..])][..], true), (&[(AND, &[3])], true), (&[(AND, &[2])], false)]
    {
        assert_eq!(guarded(machine, &[shared(machine, list)]), expected, "{list:?}");
        assert_eq!(guarded(machine, &[object(machine, list, CODE)]), expected, "{list:?}");
    }
    // Of several files those that have code decide, and all of them.
    let with = object(machine, &[(AND, &[1])], CODE);
    let data = compile_as(machine, "int x = 1;", &["-c", "-fPIC"]);
    let without = compile_as(machine, "int g(void) { return 1; }", &["-c", "-fPIC"]);
    assert!(guarded(machine, &[with.clone(), data.clone()]));
    assert!(!guarded(machine, &[with, data, without]));
    assert!(!guarded(Machine::X86_64, &[shared(Machine::X86_64, &[(AND, &[1])])]));
}

#[test]
fn signed_pointers() {
    let machine = Machine::Aarch64;
    let signed: &[(u32, &[u32])] = &[(0xC000_0001, &[0x1000_0002, 0, 5, 0])];
    for file in [shared(machine, signed), object(machine, signed, CODE)] {
        says(&refusal(&file, machine), &["signed pointers", "FEATURE_PAUTH"]);
    }
    // Neither a platform nor a version: there is nothing of the kind.
    let none = shared(machine, &[(0xC000_0001, &[0, 0, 0, 0])]);
    assert!(Image::parse(&none, machine, 4096, MAX_SPAN).is_ok());
    // The packed table, which a loader that does not know its tag would leave as it is.
    for tag in [0x7000_0012, 0x7000_0011] {
        let mut file = shared(machine, &[]);
        plant_dynamic(&mut file, tag, 0x200);
        says(&refusal(&file, machine), &["signed pointers", "DT_AARCH64_AUTH_RELR"]);
        // Of x86-64 the numbers mean nothing.
        let mut file = shared(Machine::X86_64, &[]);
        plant_dynamic(&mut file, tag, 0x200);
        assert!(Image::parse(&file, Machine::X86_64, 4096, MAX_SPAN).is_ok());
    }
    // By relocations, in shared objects and in object files.
    let source = "extern int x; int *p = &x; static int y; int *q = &y;";
    for (r_type, name) in [
        (0x244u32, "R_AARCH64_AUTH_ABS64"),
        (0x411, "R_AARCH64_AUTH_RELATIVE"),
        (0x412, "R_AARCH64_AUTH_GLOB_DAT"),
        (0x413, "R_AARCH64_AUTH_TLSDESC"),
        (0x414, "R_AARCH64_AUTH_IRELATIVE"),
        (0x811B, "type 33051"),
    ] {
        let mut file = compile_as(machine, source, &["-shared", "-fPIC", "-nostdlib"]);
        let at = relocation(&file, 257);
        put(&mut file, at + 8, &r_type.to_le_bytes());
        says(&refusal(&file, machine), &[name, "signed pointer"]);
        let mut file = compile_as(machine, source, &["-c", "-fPIC"]);
        let word = 257u32.to_le_bytes();
        let at = file.windows(8).position(|bytes| bytes[..4] == word && bytes[4] != 0).unwrap();
        put(&mut file, at, &r_type.to_le_bytes());
        says(&refusal(&file, machine), &[name, "signed pointer"]);
    }
}

#[test]
fn entries_that_change_what_loading_means() {
    for machine in BOTH {
        let file = |flags: &[&str]| {
            let flags = [&["-shared", "-fPIC", "-nostdlib", "-Wl,-soname,libx.so"], flags].concat();
            compile_as(machine, "int f(void) { return 1; }", &flags)
        };
        says(&refusal(&file(&["-Wl,-z,nodlopen"]), machine), &["DF_1_NOOPEN", "-z nodlopen"]);
        // What is about lazy binding, landing pads of the PLT, tags of memory, auditing and
        // prelinking changes nothing here.
        for tag in
            [0x7000_0000u64, 0x7000_0001, 0x7000_0005, 0x7000_0009, 0x6FFF_FEFB, 0x6FFF_FEFC, 0x6FFF_FDF5]
        {
            let mut module = file(&[]);
            plant_dynamic(&mut module, tag, 1);
            assert!(Image::parse(&module, machine, 4096, MAX_SPAN).is_ok(), "{machine} {tag:#x}");
        }
        let mut module = file(&[]);
        plant_dynamic(&mut module, 0x7000_0003, 1);
        let parsed = Image::parse(&module, machine, 4096, MAX_SPAN);
        match machine {
            Machine::Aarch64 => says(&parsed.unwrap_err(), &["DT_AARCH64_PAC_PLT", "-z pac-plt"]),
            Machine::X86_64 => assert!(parsed.is_ok()),
        }
    }
}
