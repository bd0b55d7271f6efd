//! What cannot be part of a module is refused by name, before anything is mapped.

use crate::common::{MAX_SPAN, put, u32_at};
use crate::tools::{Scratch, assemble, compile, run, sections};
use crate::{parse, refused};
use midflight_image::{Error, Image, Input, Machine};
use std::process::Command;

fn refusal(source: &str) -> String {
    refused(&[assemble(source)])
}

#[test]
fn sections_by_name() {
    for (source, words) in [
        (".section __DATA,__objc_classlist\n.quad 0", "Objective-C"),
        (".section __TEXT,__swift5_types\n.quad 0", "Swift"),
        (".section __DATA,__interpose,interposing\n.quad 0", "own"),
        (".section __DATA,__code,regular,pure_instructions\nnop", "code among variables"),
        (".section __DATA,__got,non_lazy_symbol_pointers\n.indirect_symbol _x\n.quad 0", "before arm64"),
    ] {
        let text = refusal(source);
        assert!(text.contains(words) && text.contains("section `__"), "{text}");
    }
}

#[test]
fn symbols_by_name() {
    let text = refusal(".globl _f\n.symbol_resolver _f\n_f: ret");
    assert!(text.contains("`_f`") && text.contains("symbol_resolver"), "{text}");
    let text = refusal(".data\n.quad nameless");
    assert!(text.contains("`nameless`") && text.contains("underscore"), "{text}");
    let text = refusal(".globl _f\n_f: adrp x0, _host_x@PAGE\nadd x0, x0, _host_x@PAGEOFF");
    assert!(text.contains("`_host_x`") && text.contains("@GOTPAGE"), "{text}");
    let text = refusal(".globl _n\n_n = 7\n_f: adrp x0, _n@PAGE");
    assert!(text.contains("`_n`") && text.contains("is a number"), "{text}");
}

/// The relocation entry number `index` of a section, changed.
fn with_relocation(
    file: &[u8],
    section: usize,
    index: usize,
    change: impl Fn(u32, u32) -> (u32, u32),
) -> Vec<u8> {
    let mut file = file.to_vec();
    let at = sections(&file)[section].relocations.0 + 8 * index;
    let (place, info) = change(u32_at(&file, at), u32_at(&file, at + 4));
    put(&mut file, at, &place.to_le_bytes());
    put(&mut file, at + 4, &info.to_le_bytes());
    file
}

const PC_RELATIVE: u32 = 1 << 24;
const EXTERN: u32 = 1 << 27;

#[test]
fn relocations_of_another_form() {
    let code = assemble(".globl _f\n_f: bl _far");
    let data = assemble(".data\n.globl _d\n_d: .quad _far");
    let of_type = |kind: u32| move |place: u32, info: u32| (place, info & 0x0FFF_FFFF | kind << 28);
    for (file, words) in [
        (with_relocation(&code, 0, 0, |place, info| (place | 0x8000_0000, info)), "scattered"),
        (with_relocation(&code, 0, 0, |place, info| (place, info & !PC_RELATIVE)), "form"),
        (with_relocation(&code, 0, 0, |place, info| (place, info & !EXTERN)), "form"),
        (with_relocation(&code, 0, 0, |place, info| (place, info | 1 << 25)), "form"),
        (with_relocation(&code, 0, 0, |place, info| (place + 2, info)), "multiple"),
        (with_relocation(&code, 0, 0, |place, info| (place + 4, info)), "outside"),
        (with_relocation(&code, 0, 0, |_, info| (0x7FFF_FFFC, info)), "outside"),
        (with_relocation(&code, 0, 0, |place, info| (place, info | 0x00FF_FFFF)), "not there"),
        (with_relocation(&code, 0, 0, of_type(11)), "ARM64_RELOC_AUTHENTICATED_POINTER"),
        (with_relocation(&code, 0, 0, of_type(12)), "is not supported"),
        (with_relocation(&code, 0, 0, of_type(15)), "is not supported"),
        (with_relocation(&code, 0, 0, of_type(5)), "GOT_LOAD_PAGE21"),
        (with_relocation(&code, 0, 0, of_type(1)), "form"),
        (with_relocation(&data, 1, 0, of_type(1)), "second"),
        (with_relocation(&data, 1, 0, |_, info| (0, info & !(3 << 25))), "form"),
        (with_relocation(&data, 1, 0, |_, info| (1, info)), "outside"),
        (with_relocation(&data, 1, 0, |place, info| (place, info & !EXTERN & 0xFF00_0000)), "not there"),
        (with_relocation(&data, 1, 0, |place, info| (place, info & !EXTERN & 0xFF00_0000 | 3)), "not there"),
    ] {
        let text = refused(&[file]);
        assert!(text.contains(words), "{words}: {text}");
    }
    let difference = assemble(".data\n.globl _d\n_d: .quad 1\n.quad _d - _e\n_e: .quad 2");
    let text = refused(&[with_relocation(&difference, 1, 1, |place, info| (place - 8, info))]);
    assert!(text.contains("second"), "{text}");
    let text =
        refused(&[with_relocation(&difference, 1, 1, |place, info| (place, info & !(3 << 25) | 2 << 25))]);
    assert!(text.contains("one half"), "{text}");
    let addend = assemble(".globl _f\n_f: adrp x0, _d@PAGE+4\nadd x0, x0, _d@PAGEOFF+4\n.data\n_d: .quad 1");
    // ADDEND, PAGEOFF12, ADDEND, PAGE21.
    let text = refused(&[with_relocation(&addend, 0, 3, of_type(5))]);
    assert!(text.contains("ARM64_RELOC_GOT_LOAD_PAGE21") && text.contains("addend"), "{text}");
}

#[test]
fn differences_to_what_is_elsewhere() {
    let mut file = assemble(".data\n.globl _d\n_d: .quad _d - _e\n.quad _host_x\n_e: .quad 2");
    // The first of the pair names the import.
    let at = sections(&file)[1].relocations;
    let entries: Vec<_> = (0..at.1).map(|index| at.0 + 8 * index).collect();
    let import = entries
        .iter()
        .map(|at| u32_at(&file, at + 4))
        .find(|info| info >> 28 == 0 && info & 0xFF_FFFF != 0)
        .unwrap();
    let pair = *entries.iter().find(|at| u32_at(&file, **at + 4) >> 28 == 1).unwrap();
    let symbol = entries
        .iter()
        .find(|at| u32_at(&file, **at) == 8)
        .map(|at| u32_at(&file, at + 4) & 0xFF_FFFF)
        .unwrap();
    let info = u32_at(&file, pair + 4) & 0xFF00_0000 | symbol;
    put(&mut file, pair + 4, &info.to_le_bytes());
    assert!(import & EXTERN != 0);
    assert!(refused(&[file]).contains("part of a difference"));
}

#[test]
fn other_files() {
    let good = compile("int f(void) { return 1; }", &[]);
    let scratch = Scratch::new();
    let (object, library) = (scratch.path().join("f.o"), scratch.path().join("f.dylib"));
    std::fs::write(&object, &good).unwrap();
    run(Command::new("ld64.lld-19")
        .args(["-dylib", "-arch", "arm64", "-platform_version", "macos", "11.0", "11.0", "-o"])
        .args([&library, &object]));
    let library = std::fs::read(library).unwrap();
    let text = refused(&[good.clone(), library]);
    assert!(text.starts_with("1.o: ") && text.contains("linked"), "{text}");
    let text = refused(&[good.clone(), b"\x7FELF and so on".to_vec()]);
    assert!(text.starts_with("1.o: "), "{text}");
    let mut intel = good.clone();
    put(&mut intel, 4, &0x0100_0007u32.to_le_bytes());
    assert!(refused(&[intel]).contains("x86-64"));
    let mut signed = good.clone();
    put(&mut signed, 8, &2u32.to_le_bytes());
    assert!(refused(&[signed]).contains("arm64e"));
    let inputs = [Input { name: "", bytes: &good }];
    let error = Image::parse_all(&inputs, Machine::X86_64, 4096, MAX_SPAN).unwrap_err();
    assert!(matches!(error, Error::WrongMachine { .. }), "{error}");
    for page_size in [0, 2048, 5000] {
        let error = Image::parse_all(&inputs, Machine::Aarch64, page_size, MAX_SPAN).unwrap_err();
        assert!(matches!(error, Error::BadPageSize { .. }), "{error}");
    }
    assert!(refused(&[assemble("")]).contains("neither code nor data"));
    assert!(parse(&[good]).is_ok());
}

#[test]
fn what_is_too_large() {
    for source in [
        ".zerofill __DATA,__bss,_z,0x7000000,4",
        ".comm _z, 0x7000000, 4",
        ".data\n.p2align 15\n.zerofill __DATA,__bss,_z,8,15",
    ] {
        let file = assemble(source);
        let inputs = [Input { name: "", bytes: &file }];
        let error = Image::parse_all(&inputs, Machine::Aarch64, 4096, 16 << 10).unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    }
}
