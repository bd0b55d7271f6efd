//! Whatever is not supported is refused, before anything is written, with an error that says what
//! and why.

use super::common::refused::{malformed, says};
use super::common::{MAX_SPAN, put, u32_at};
use super::generate::{LIBRARY_ONE, module};
use super::patch::*;
use super::tools::{DYLIB, Folder, compile, dylib, link};
use midflight_image::{Error, Image, Machine};
use std::sync::OnceLock;

/// A dylib with chained fix-ups, and one with opcodes.
pub(crate) fn good() -> [Vec<u8>; 2] {
    static GOOD: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    let make = || {
        let folder = Folder::new();
        let object = compile(&folder, "good.s", &module(6), &[]);
        ["-fixup_chains", "-no_fixup_chains"]
            .map(|form| link(&folder.path("good.dylib"), &[&object], "11.0", &[DYLIB, &[form]].concat()))
    };
    GOOD.get_or_init(make).clone()
}

pub(crate) fn refusal(bytes: &[u8]) -> Error {
    let error = Image::parse(bytes, Machine::Aarch64, 4096, MAX_SPAN).expect_err("this is to be refused");
    let text = error.to_string();
    assert!(text.len() < 600 && text.contains(": "), "says what to do: {text}");
    assert!(!text.contains("  ") && !text.ends_with('.'), "{text}");
    error
}

/// The first good module, changed.
pub(crate) fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Error {
    let [mut bytes, _] = good();
    assert!(Image::parse(&bytes, Machine::Aarch64, 4096, MAX_SPAN).is_ok());
    change(&mut bytes);
    refusal(&bytes)
}

fn put32(bytes: &mut [u8], at: usize, value: u32) {
    put(bytes, at, &value.to_le_bytes());
}

#[test]
fn other_machines() {
    let [bytes, _] = good();
    for page_size in [4096, 16384] {
        let error = Image::parse(&bytes, Machine::X86_64, page_size, MAX_SPAN).unwrap_err();
        assert_eq!(error, Error::WrongMachine { found: 183, expected: Machine::X86_64 });
    }
    // Whatever it is for.
    for (cputype, name) in [(0x0100_0007, "x86-64"), (18, "PowerPC")] {
        let [mut other, _] = good();
        put32(&mut other, 4, cputype);
        for bytes in [universal(true, &[(cputype, 3, &other)]), other] {
            let error = Image::parse(&bytes, Machine::X86_64, 4096, MAX_SPAN).expect_err(name);
            says(&error, &["Mach-O", "x86_64-linux-gnu-gcc"]);
        }
    }
    for (cputype, subtype, words) in [
        (0x0100_0007, 3, ["x86-64", "-arch arm64"]),
        (0x0100_000C, 2, ["arm64e", "-arch arm64"]),
        (0x0100_000C, 0x8000_0002, ["arm64e", "pointer authentication"]),
        (0x0200_000C, 1, ["arm64_32", "-arch arm64"]),
        (18, 0, ["another machine", "-arch arm64"]),
    ] {
        let error = changed(|m| {
            put32(m, 4, cputype);
            put32(m, 8, subtype);
        });
        says(&error, &words);
    }
    says(&changed(|m| put32(m, 0, 0xFEED_FACE)), &["32-bit Mach-O"]);
    says(&changed(|m| put32(m, 0, 0xCFFA_EDFE)), &["big-endian Mach-O"]);
}

#[test]
fn other_kinds_of_files() {
    for (kind, words) in [
        (2, "a Mach-O program"),
        (4, "another kind"),
        (9, "a stub of a library"),
        (10, ".dSYM"),
        (11, "kernel"),
        (12, "kernel"),
    ] {
        says(&changed(|m| put32(m, 12, kind)), &[words]);
    }
    malformed(&refusal(b"\xCF\xFA\xED\xFE\x0C\0\0\x01"), "cut off");
    says(&refusal(b"\xCA\xFE\xBA\xBE\0\0\0\x37"), &["class of Java"]);
}

#[test]
fn universal_files() {
    let [bytes, _] = good();
    for wide in [false, true] {
        let fine = universal(wide, &[(0x0100_0007, 3, b"whatever"), (0x0100_000C, 0, &bytes)]);
        assert!(Image::parse(&fine, Machine::Aarch64, 4096, MAX_SPAN).is_ok());
        says(&refusal(&universal(wide, &[(0x0100_0007, 3, &bytes)])), &["x86-64", "-arch arm64"]);
        says(&refusal(&universal(wide, &[(0x0100_0007, 3, &bytes), (0x0100_000C, 2, &bytes)])), &["arm64e"]);
        says(&refusal(&universal(wide, &[])), &["without any part"]);
        says(
            &refusal(&universal(wide, &[(0x0100_000C, 0, b"text, and not what was announced")])),
            &["no Mach-O file"],
        );
        let long = fine.len() - 1;
        malformed(&refusal(&fine[..long]), "past the end of the file");
        malformed(&refusal(&fine[..20]), "cut off");
    }
}

#[test]
fn load_commands() {
    // A command of the same size that a module does without.
    let instead = |kind: u32, words: &[(usize, u32)]| {
        changed(|m| {
            let at = command(m, UUID);
            put32(m, at, kind);
            words.iter().for_each(|(offset, word)| put32(m, at + offset, *word));
        })
    };
    says(&instead(0x2C, &[(16, 1)]), &["LC_ENCRYPTION_INFO_64", "encrypted"]);
    says(&instead(0x8000_0028, &[]), &["a load command of programs"]);
    says(&instead(0x8000_001F, &[(8, 20), (20, 0)]), &["LC_REEXPORT_DYLIB"]);
    says(&instead(0x8000_0077, &[]), &["required"]);
    says(&instead(1, &[]), &["32-bit"]);
    says(&instead(0x1A, &[]), &["LC_ROUTINES_64", "constructor"]);
    malformed(&instead(0x1B, &[(4, 4)]), "wrong size");
    malformed(&instead(0x1B, &[(4, 26)]), "wrong size");
    malformed(&instead(0x1B, &[(4, 1 << 20)]), "wrong size");
    malformed(&instead(CHAINED, &[(8, 0), (12, 0)]), "there twice");
    malformed(&instead(0xC, &[(8, 24)]), "no end");
    malformed(&instead(0xC, &[(8, 25)]), "outside it");
    malformed(&instead(TRIE, &[(8, u32::MAX), (12, 16)]), "past the end of the file");
    malformed(&changed(|m| put32(m, 16, 1 << 20)), "does not fit");
    malformed(&changed(|m| put32(m, 20, 1 << 30)), "does not fit");
}

fn assembled(source: &str) -> Error {
    refusal(&dylib("refused.s", &format!("{source}\n.text\n_f: ret\n"), &[]))
}

#[test]
fn sections() {
    for (section, words) in [
        ("__DATA,__objc_classlist,regular", "Objective-C"),
        ("__DATA,__objc_const", "Objective-C"),
        ("__TEXT,__swift5_types", "Swift"),
        ("__DATA,__interpose,interposing", "taken back"),
        ("__DATA,__thread_init,thread_local_init_function_pointers", "thread-local"),
    ] {
        let error = assembled(&format!(".section {section}\n.p2align 3\n_x: .quad 0, 0, 0, 0\n"));
        assert!(matches!(error, Error::UnsupportedSection { .. }), "{error:?}");
        says(&error, &[words]);
    }
    let thread = |words: &str| {
        assembled(&format!(
            ".section __DATA,__thread_vars,thread_local_variables\n.p2align 3\n_t: .quad __tlv_bootstrap, 0, 8\n{words}\n\
             .section __DATA,__thread_data,thread_local_regular\n.p2align 3\n.quad 1\n"
        ))
    };
    malformed(&thread(""), "outside the block");
    malformed(&thread(".quad 0"), "inside a descriptor");
    let error =
        assembled(".section __DATA,__thread_ptr,thread_local_variable_pointers\n.p2align 3\n.quad _theirs\n");
    assert!(matches!(&error, Error::UnsupportedSymbol { symbol, .. } if symbol == "theirs"), "{error:?}");
    let error = assembled(".data\n.p2align 3\n.quad __tlv_bootstrap\n");
    assert!(
        matches!(&error, Error::UnsupportedSymbol { symbol, .. } if symbol == "__tlv_bootstrap"),
        "{error:?}"
    );
}

#[test]
fn thread_local_variables_of_others() {
    let folder = Folder::new();
    let theirs = compile(&folder, "theirs.c", "__thread int theirs = 1;", &[]);
    let library = folder.path("libtheirs.dylib");
    link(&library, &[&theirs], "11.0", DYLIB);
    let source = "extern __thread int theirs; int f(void) { return theirs; }";
    let object = compile(&folder, "user.c", source, &[]);
    let error = refusal(&link(&folder.path("user.dylib"), &[&object, &library], "11.0", DYLIB));
    assert!(matches!(&error, Error::UnsupportedSymbol { symbol, .. } if symbol == "theirs"), "{error:?}");
    says(&error, &["thread-local variable of another image"]);
}

#[test]
fn protections_and_pages() {
    let writable = |flags: &[&str]| dylib("data.s", ".data\n_x: .quad _x\n.text\n_f: ret\n", flags);
    let error = refusal(&writable(&["-segprot", "__DATA", "rwx", "rwx"]));
    assert!(matches!(error, Error::WritableExecutable { .. }), "{error:?}");
    let [bytes, _] = good();
    let at = |page_size, max_span| Image::parse(&bytes, Machine::Aarch64, page_size, max_span).unwrap_err();
    assert!(matches!(at(65536, MAX_SPAN), Error::SharedPage { page_size: 65536, .. }));
    assert_eq!(at(1000, MAX_SPAN), Error::BadPageSize { page_size: 1000 });
    assert!(matches!(at(4096, 8192), Error::TooLarge { limit: 8192, .. }));
    // Addresses in what is not writable, in either form.
    for mut bytes in good() {
        let protection = segment(&bytes, "__DATA") + 60;
        put32(&mut bytes, protection, 1);
        let error = refusal(&bytes);
        assert!(matches!(error, Error::TextRelocation { .. } | Error::Malformed { .. }), "{error:?}");
    }
}

#[test]
fn symbols() {
    let folder = Folder::new();
    let library = compile(&folder, "one.s", LIBRARY_ONE, &[]);
    let library_path = folder.path("libone.dylib");
    link(&library_path, &[&library], "11.0", &["-dylib", "-install_name", "@rpath/libone.dylib"]);
    let object = compile(&folder, "f.s", ".globl _f\n_f: b _one_a\n", &[]);
    let output = folder.path("module.dylib");
    let path = library_path.to_str().unwrap();
    let whole = link(&output, &[&object], "11.0", &[DYLIB, &["-reexport_library", path]].concat());
    says(&refusal(&whole), &["LC_REEXPORT_DYLIB", "libr"]);

    let both = ".globl _f\n_f: bl _name\nbl name\nret\n";
    let error = refusal(&dylib("both.s", both, &[]));
    assert!(matches!(&error, Error::UnsupportedSymbol { symbol, .. } if symbol == "name"), "{error:?}");
    says(&error, &["with and without the underscore"]);
}

#[test]
fn functions_outside_code() {
    let bytes = dylib(
        "calls.s",
        ".section __DATA,__mod_init_func,mod_init_funcs\n.p2align 3\n.quad _data\n\
         .section __DATA,__mod_term_func,mod_term_funcs\n.p2align 3\n.quad _f + 2\n\
         .data\n.globl _data\n_data: .quad 1\n.text\n.globl _f\n_f: ret\n",
        &["-no_fixup_chains", "-no_data_const"],
    );
    let image = Image::parse(&bytes, Machine::Aarch64, 4096, MAX_SPAN).unwrap();
    let mut memory = vec![0; image.span() as usize];
    image.link(0x10000, &mut memory, &super::common::HOST, &[]).unwrap();
    let error = image.init(0x10000, &memory).unwrap_err();
    assert!(matches!(error, Error::EntryOutsideCode { list: "__mod_init_func", .. }), "{error:?}");
    let error = image.fini(0x10000, &memory).unwrap_err();
    assert!(matches!(error, Error::EntryOutsideCode { list: "__mod_term_func", .. }), "{error:?}");
    assert!(u32_at(&bytes, 12) == 6);
}
