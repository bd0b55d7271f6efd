//! Symbols of shared objects that stand where something ends: without code, without size, behind
//! the last byte.

mod common;

use common::refused::{refusal, says};
use common::{BOTH, HOST, MAX_SPAN, bindings, compile_as, put64, symbol, u64_at};
use midflight_image::{ExportKind, Image, Machine, Protection};

fn linked(machine: Machine, source: &str, flags: &[&str]) -> Vec<u8> {
    compile_as(machine, source, &[&["-shared", "-nostdlib", "-x", "assembler"], flags].concat())
}

/// `never` has no instructions and `code_end` is a label: both stand where the code ends.
const SOURCE: &str = ".text\n.globl f, never, code_end\n.type f, %function\n.type never, %function
    .type code_end, %function\nf: .4byte 0, 0\n.size f, 8\nnever:\n.size never, 0\ncode_end:
    .data\n.globl p, last\np: .8byte never, code_end\n.type last, %object\nlast:\n.size last, 0
    .section .tbss,\"awT\",%nobits\n.globl t, t_end\n.type t, %object\n.type t_end, %object
    t: .zero 8\nt_end:\n.size t, 8";

#[test]
fn where_the_code_ends() {
    for machine in BOTH {
        // With the code's segment as the last, and so without a page behind it either.
        for flags in [&[][..], &["-Wl,-z,noseparate-code"], &["-Wl,-z,separate-code"]] {
            let module = linked(machine, SOURCE, flags);
            let image = Image::parse(&module, machine, 4096, MAX_SPAN).unwrap();
            let kind = |name| image.export(name).map(|export| export.kind);
            assert_eq!(kind("f"), Some(ExportKind::Function), "{machine} {flags:?}");
            assert_eq!(kind("last"), Some(ExportKind::Data), "{machine} {flags:?}");
            assert_eq!(kind("t_end"), Some(ExportKind::ThreadLocal), "{machine} {flags:?}");
            let mut memory = vec![0; image.span() as usize];
            let base = 0x7F00_0000_0000;
            image.link(base, &mut memory, &HOST, &bindings(&image, |_| None)).unwrap();
            let offset = |name| {
                image
                    .export(name)
                    .unwrap_or_else(|| panic!("{name} {:x?} {:x?}", image.exports(), image.regions()))
                    .offset
            };
            let end = base + offset("f") + 8;
            let p = offset("p") as usize;
            assert_eq!([u64_at(&memory, p), u64_at(&memory, p + 8)], [end; 2], "{machine} {flags:?}");
            // Whether there is a byte of code at that place depends on the linker; both ways of
            // asking agree.
            let code = image.regions().iter().filter(|region| region.protection == Protection::ReadExecute);
            let code: Vec<_> = code.map(|region| region.offset..region.offset + region.len).collect();
            let Some(tables) = image.export_tables() else { continue };
            let is_code = |offset| code.iter().any(|run| run.contains(&offset));
            for name in ["f", "p", "last", "nothing"] {
                let found = tables.find(&memory[tables.region()], name, is_code);
                assert_eq!(found, image.export(name).map(|export| (export.kind, export.offset)), "{name}");
            }
            assert!(image.export("never").is_none_or(|export| export.size == 0));
        }
    }
}

#[test]
fn a_function_with_a_size_is_somewhere() {
    for machine in BOTH {
        let mut module = linked(machine, SOURCE, &[]);
        let never = symbol(&module, "never");
        put64(&mut module, never + 16, 4);
        let p = symbol(&module, "p");
        let elsewhere = u64_at(&module, p + 8);
        put64(&mut module, never + 8, elsewhere);
        says(&refusal(&module, machine), &["`never`", "function outside the module's code"]);
        // Without one nobody can call it, wherever it is: it is left out, as ld.so would have a
        // caller find nothing to run.
        put64(&mut module, never + 16, 0);
        let image = Image::parse(&module, machine, 4096, MAX_SPAN).unwrap();
        assert!(image.export("never").is_none() && image.export("f").is_some());
    }
}
