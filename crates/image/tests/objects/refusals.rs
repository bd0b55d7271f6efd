//! What is refused, by name, before anything is mapped; and what the message says to do.

use crate::common::{BOTH, MAX_SPAN, compile, compile_as};
use crate::{assembly, object, parse};
use midflight_image::{Error, Image, Machine};

fn refused(machine: Machine, file: &[u8]) -> String {
    let text = Image::parse(file, machine, 4096, MAX_SPAN).unwrap_err().to_string();
    assert!(text.len() < 1000, "{text}");
    text
}

#[test]
fn sections() {
    for machine in BOTH {
        for (section, words) in [
            (".section .both,\"awx\",%progbits", &["`.both`", "writable and executable"][..]),
            (".section .preinit_array,\"aw\",%preinit_array", &["`.preinit_array`", "constructor"]),
            (".section .init,\"ax\",%progbits", &["`.init`", "crti.o", "constructors"]),
            (".section .fini,\"ax\",%progbits", &["`.fini`", "crti.o"]),
            (".section .odd,\"a\",%0x12345678", &["`.odd`", "type"]),
            (
                ".text\n.4byte 0\n.section .note.GNU-stack,\"x\",%progbits",
                &["executable stack", "noexecstack"],
            ),
        ] {
            let text = refused(machine, &assembly(machine, &format!("{section}\n.4byte 0")));
            for word in words {
                assert!(text.contains(word), "{word}: {text}");
            }
        }
    }
}

#[test]
fn empty_start_file_sections_are_nothing() {
    for machine in BOTH {
        let files = [assembly(
            machine,
            ".section .init,\"ax\",%progbits\n.section .fini,\"ax\",%progbits\n.data\n.4byte 1",
        )];
        assert!(parse(machine, &files).is_ok());
    }
}

#[test]
fn link_time_optimisation() {
    for machine in BOTH {
        let slim = compile_as(machine, "int f(void) { return 1; }", &["-c", "-flto", "-fno-fat-lto-objects"]);
        let text = refused(machine, &slim);
        assert!(text.contains("link-time optimisation") && text.contains("-ffat-lto-objects"), "{text}");
        let fat =
            compile_as(machine, "int f(void) { return 1; }", &["-c", "-fPIC", "-flto", "-ffat-lto-objects"]);
        let image = Image::parse(&fat, machine, 4096, MAX_SPAN).unwrap();
        assert_eq!(image.exports().iter().map(|export| export.name).collect::<Vec<_>>(), ["f"]);
    }
}

#[test]
fn other_files_among_object_files() {
    let machine = Machine::X86_64;
    let own = object(machine, "int f(void) { return 1; }");
    for (other, words) in [
        (compile(machine, "int g(void) { return 1; }", &[]), ["1.o: ", "shared object", "module"]),
        (object(Machine::Aarch64, "int g;"), ["1.o: ", "AArch64", "x86-64"]),
        (b"#!/bin/sh".to_vec(), ["1.o: ", "neither an ELF", "script"]),
        (vec![], ["1.o: ", "neither an ELF", "empty"]),
    ] {
        let files = [own.clone(), other];
        let text = parse(machine, &files).unwrap_err().to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
}

#[test]
fn relocations() {
    for (machine, source, words) in [
        (
            Machine::X86_64,
            ".data\n.reloc ., R_X86_64_COPY, f\n.8byte 0",
            &["R_X86_64_COPY", "`f`", "corrupt"][..],
        ),
        (
            Machine::X86_64,
            ".text\nmovl %fs:v@TPOFF, %eax",
            &["R_X86_64_TPOFF32", "`v`", "local-exec", "-fPIC"],
        ),
        (
            Machine::Aarch64,
            ".text\nadd x0, x0, :tprel_hi12:v",
            &["R_AARCH64_TLSLE_ADD_TPREL_HI12", "`v`", "-fPIC"],
        ),
        (
            Machine::Aarch64,
            ".data\n.reloc ., R_AARCH64_IRELATIVE, f\n.8byte 0",
            &["R_AARCH64_IRELATIVE", "corrupt"],
        ),
        (
            Machine::Aarch64,
            ".text\nadrp x0, :got:f\n.reloc ., R_AARCH64_LD64_GOT_LO12_NC, f+8\nldr x0, [x0]",
            &["R_AARCH64_LD64_GOT_LO12_NC", "`f`", "addend"],
        ),
    ] {
        let text = refused(machine, &assembly(machine, source));
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
}

#[test]
fn values_that_cannot_be_written() {
    for (machine, source, words) in [
        (
            Machine::Aarch64,
            ".text\nldr x0, [x1, :lo12:odd]\n.data\n.byte 0\nodd: .8byte 0",
            &["LDST64", "multiple of 8", "alignment"][..],
        ),
        (
            Machine::Aarch64,
            ".text\n.reloc ., R_AARCH64_CALL26, f\nnop\n.globl f\nf: nop",
            &["CALL26", "`f`", "B or BL", "corrupt"],
        ),
        (
            Machine::X86_64,
            ".text\nf: .byte 0\n.reloc ., R_X86_64_PC8, f-200\n.byte 0",
            &["PC8", "does not fit", "-128 to 127"],
        ),
    ] {
        let files = [assembly(machine, source)];
        let image = parse(machine, &files).unwrap();
        let mut memory = vec![0; image.span() as usize];
        let error = image.link(crate::BASE, &mut memory, &crate::HOST, &[]).unwrap_err();
        assert!(matches!(error, Error::Fixup { .. }), "{error}");
        let text = error.to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
}

#[test]
fn symbols() {
    for machine in BOTH {
        for (source, words) in [
            (
                ".data\n.globl x\n.type x, %object\n.size x, 100\nx: .4byte 0",
                ["`x`", "ends outside its section"],
            ),
            (
                ".data\n.globl f\n.type f, %function\nf: .4byte 0",
                ["`f`", "function outside the module's code"],
            ),
            (
                ".data\n.8byte inside\n.section .note.x,\"\",%note\ninside: .4byte 0",
                ["`.note.x`", "section that is not loaded"],
            ),
        ] {
            let text = refused(machine, &assembly(machine, source));
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
        }
    }
}

#[test]
fn a_module_of_one_file_is_not_named_again() {
    let machine = Machine::X86_64;
    let file = assembly(machine, ".section .both,\"awx\",%progbits\n.4byte 0");
    assert!(matches!(parse(machine, std::slice::from_ref(&file)), Err(Error::UnsupportedSection { .. })));
    let two = [file.clone(), file];
    assert!(matches!(parse(machine, &two), Err(Error::InFile { .. })));
}
