//! What a module's file means, in small.

use super::common::{HOST, MAX_SPAN, bindings, put, u64_at};
use super::patch::{CHAINED, TRIE, command, universal};
use super::refusals::good;
use super::tools::{DYLIB, Folder, compile, dylib, link, run};
use midflight_image::{Binding, ExportKind, Format, Image, ImportKind, Input, Lookup, Machine};
use std::collections::BTreeSet;
use std::process::Command;

fn parse(bytes: &[u8]) -> Image<'_> {
    Image::parse(bytes, Machine::Aarch64, 4096, MAX_SPAN).unwrap()
}

fn linked(image: &Image<'_>, base: u64) -> Vec<u8> {
    let mut memory = vec![0; image.span() as usize];
    image.link(base, &mut memory, &HOST, &bindings(image, |_| Some(0x1234_0000))).unwrap();
    memory
}

#[test]
fn what_it_says_of_itself() {
    let note = |kind: u32, text: &str| {
        format!(
            ".section __TEXT,__midflight,regular,no_dead_strip\n.balign 4\n.long 772f - 771f, 774f - 773f, {kind}\n\
             771: .asciz \"midflight\"\n772: .balign 4\n773: .asciz \"{text}\"\n774: .balign 4\n"
        )
    };
    let source = [note(1, "physics"), note(2, "2.1"), note(3, "terrain"), note(3, "sky")].concat();
    for flags in [&["-dead_strip"][..], &["-no_fixup_chains"]] {
        let bytes = dylib("notes.s", &format!("{source}.text\n.globl _f\n_f: ret\n"), flags);
        let image = parse(&bytes);
        assert_eq!((image.declared_name(), image.declared_version()), (Some("physics"), Some("2.1")));
        assert!(image.needs().eq(["terrain", "sky"]));
    }
}

#[test]
fn universal_files_and_thin_ones_are_the_same() {
    let [bytes, _] = good();
    let image = parse(&bytes);
    for wide in [false, true] {
        let both = universal(wide, &[(0x0100_0007, 3, b"x86"), (0x0100_000C, 0, &bytes)]);
        let other = parse(&both);
        assert_eq!((other.format(), image.format()), (Format::MachO, Format::MachO));
        assert_eq!((other.imports(), other.exports()), (image.imports(), image.exports()));
        assert!(linked(&other, 0x8000) == linked(&image, 0x8000));
        let inputs = [Input { name: "both", bytes: &both }];
        assert!(Image::parse_all(&inputs, Machine::Aarch64, 4096, MAX_SPAN).is_ok());
    }
    assert_eq!(Image::loaded_length(&bytes), None);
}

#[test]
fn names_without_underscore() {
    let source = ".globl _f, g, _both, both\n_f: ret\ng: bl plain\nret\n_both: ret\nboth: ret\n";
    let bytes = dylib("names.s", source, &[]);
    let image = parse(&bytes);
    let names: BTreeSet<_> = image.exports().iter().map(|export| export.name.to_string()).collect();
    assert_eq!(names, ["f", "g", "both"].map(String::from).into());
    // C's own one.
    assert_eq!(image.export("both").unwrap().offset, image.export("f").unwrap().offset + 12);
    assert!(image.export("_f").is_none() && image.export("_g").is_none());
    assert_eq!(image.imports()[0].name, "plain");
}

#[test]
fn what_imports_are() {
    let source = "extern int called(void), data[9], both(void);\n\
         int *p = &data[2]; int (*q)(void) = both; int f(void) { return called() + both() + data[0]; }";
    for form in ["-fixup_chains", "-no_fixup_chains"] {
        let bytes = dylib("kinds.c", source, &[form]);
        let image = parse(&bytes);
        let kind = |name: &str| image.imports().iter().find(|import| import.name == name).unwrap().kind;
        assert_eq!(kind("called"), ImportKind::Function, "{form}");
        assert_eq!(kind("both"), ImportKind::Function, "{form}");
        assert_eq!(kind("data"), ImportKind::Data, "{form}");
        assert!(
            image.imports().iter().all(|import| import.from == Lookup::Anywhere && import.version.is_none())
        );
        assert_eq!(image.imports().len(), 3, "no stub binder");
    }
}

#[test]
fn libraries_that_may_be_missing_and_the_program() {
    let folder = Folder::new();
    let theirs =
        compile(&folder, "theirs.c", "int theirs(void) { return 1; } int main(void) { return 0; }", &[]);
    let [library, program] = ["libtheirs.dylib", "program"].map(|name| folder.path(name));
    link(&library, &[&theirs], "11.0", &[DYLIB, &["-install_name", "@rpath/libtheirs.dylib"]].concat());
    link(&program, &[&theirs], "11.0", &["-execute", "-undefined", "dynamic_lookup"]);
    let object = compile(&folder, "user.c", "int theirs(void); int f(void) { return theirs() + 1; }", &[]);
    let output = folder.path("module");
    for form in ["-fixup_chains", "-no_fixup_chains"] {
        let with = ["-weak_library", library.to_str().unwrap(), form];
        let bytes = link(&output, &[&object], "11.0", &[DYLIB, &with].concat());
        let image = parse(&bytes);
        let import = image.imports()[0];
        assert_eq!((import.name, import.from, import.weak), ("theirs", Lookup::Library(0), true));
        assert_eq!(image.needed(), ["libtheirs.dylib"]);

        let with =
            ["-bundle", "-bundle_loader", program.to_str().unwrap(), "-undefined", "dynamic_lookup", form];
        let bytes = link(&output, &[&object], "11.0", &with);
        let image = parse(&bytes);
        let import = image.imports()[0];
        assert_eq!((import.name, import.from, import.weak), ("theirs", Lookup::Program, false));
        assert_eq!((image.soname(), image.needed().len()), (None, 0));
    }
}

#[test]
fn weak_definitions_are_the_modules_own() {
    let source = "__attribute__((weak)) int soft(void) { return 1; } int (*p)(void) = soft; int f(void) { return soft(); }";
    for form in [&["-fixup_chains"][..], &["-no_fixup_chains"], &["-flat_namespace"]] {
        let bytes = dylib("soft.c", source, form);
        let image = parse(&bytes);
        assert!(image.imports().is_empty(), "{form:?}");
        let (soft, p) = (image.export("soft").unwrap(), image.export("p").unwrap());
        assert_eq!((soft.kind, p.kind), (ExportKind::Function, ExportKind::Data));
        assert_eq!(u64_at(&linked(&image, 0x10000), p.offset as usize), 0x10000 + soft.offset, "{form:?}");
    }
}

#[test]
fn weak_variables_and_allocators_are_the_processs_if_it_has_them() {
    let source = "__attribute__((weak)) int variable = 1; __attribute__((weak)) const int constant = 2;
        __attribute__((weak)) void *_ZTV1C[2]; __attribute__((weak)) void *_Znwm(unsigned long size) { return 0; }
        void *p[] = {&variable, (void *)&constant, _ZTV1C, _Znwm}; int f(void) { return variable; }";
    for form in [&["-fixup_chains"][..], &["-no_fixup_chains"]] {
        let bytes = dylib("shared.c", source, form);
        let image = parse(&bytes);
        let mut names: Vec<_> = image.imports().iter().map(|import| (import.name, import.own)).collect();
        names.sort();
        assert_eq!(names, [("_Znwm", Some(0)), ("variable", Some(0))], "{form:?}");
        let p = image.export("p").unwrap().offset as usize;
        let own = ["variable", "constant", "_ZTV1C", "_Znwm"]
            .map(|name| 0x10000 + image.export(name).unwrap().offset);
        for there in [false, true] {
            let mut memory = vec![0; image.span() as usize];
            let resolve = |import: &midflight_image::Import<'_>| {
                there.then_some(if import.name == "variable" { 0x7000 } else { 0x8000 })
            };
            crate::common::link(&image, 0x10000, &mut memory, resolve).unwrap();
            let expected = if there { [0x7000, own[1], own[2], 0x8000] } else { own };
            assert_eq!([0, 8, 16, 24].map(|at| u64_at(&memory, p + at)), expected, "{form:?}");
        }
    }
}

#[test]
fn missing_weak_imports_are_null() {
    let source = "extern int maybe[9] __attribute__((weak_import)); int *p = maybe, *q = &maybe[2]; int f(void) { return 1; }";
    for form in ["-fixup_chains", "-no_fixup_chains"] {
        let bytes = dylib("maybe.c", source, &[form]);
        let image = parse(&bytes);
        assert!(image.imports().len() == 1 && image.imports()[0].weak);
        let [p, q] = ["p", "q"].map(|name| image.export(name).unwrap().offset as usize);
        let mut memory = vec![0; image.span() as usize];
        image.link(0x10000, &mut memory, &HOST, &[None]).unwrap();
        assert_eq!((u64_at(&memory, p), u64_at(&memory, q)), (0, 8));
        image.link(0x10000, &mut memory, &HOST, &[Some(Binding::Address(0x500))]).unwrap();
        assert_eq!((u64_at(&memory, p), u64_at(&memory, q)), (0x500, 0x508));
    }
}

#[test]
fn exports_of_a_file_without_a_trie() {
    let [mut bytes, _] = good();
    let exports = |image: &Image<'_>| -> BTreeSet<(String, u64)> {
        image.exports().iter().map(|export| (export.name.to_string(), export.offset)).collect()
    };
    let with_trie = exports(&parse(&bytes));
    assert!(!with_trie.is_empty());
    let at = command(&bytes, TRIE);
    // LC_DATA_IN_CODE, of which nothing is read.
    put(&mut bytes, at, &0x29u32.to_le_bytes());
    assert_eq!(exports(&parse(&bytes)), with_trie);
    assert!(command(&bytes, CHAINED) > 0);
}

#[test]
fn names_for_debuggers() {
    let folder = Folder::new();
    let source =
        "static int hidden(int x) { return x + 1; } int (*p)(int) = hidden; static int v = 3; int *q = &v;";
    let object = compile(&folder, "names.c", source, &[]);
    let output = folder.path("names.dylib");
    let bytes = link(&output, &[&object], "11.0", DYLIB);
    let image = parse(&bytes);
    let symbols = image.symbols();
    let name = |symbol| String::from_utf8(symbols.name(symbol).to_vec()).unwrap();
    let found: BTreeSet<_> = symbols.symbols.iter().map(|symbol| (name(symbol), symbol.offset)).collect();
    let listed = run(Command::new("llvm-nm-19").arg("--defined-only").arg(&output));
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words[2].trim_start_matches('_').to_string(), u64::from_str_radix(words[0], 16).unwrap())
    };
    let expected: BTreeSet<_> = listed.lines().map(line).collect();
    assert!(expected.iter().any(|(name, _)| name == "hidden"));
    let trimmed = found.into_iter().map(|(name, at)| (name.trim_start_matches('_').to_string(), at));
    assert_eq!(trimmed.collect::<BTreeSet<_>>(), expected);
    let hidden = symbols.functions().into_iter().find(|symbol| symbols.name(symbol) == b"hidden");
    assert!(hidden.is_some_and(|hidden| hidden.function && hidden.size > 0));
    assert_eq!(image.bias(0x10000), Some(0x10000));
}

#[test]
fn parts_that_stay_as_they_are() {
    // Enough text to be treated apart.
    let source = ".text\n.globl _f\n_f: ret\n.space 40000\n.data\n.globl _p\n_p: .quad _f\n";
    let bytes = dylib("large.s", source, &[]);
    let image = parse(&bytes);
    let [text] = image.verbatim() else { panic!("{:?}", image.verbatim().len()) };
    assert!(text.offset == 0 && text.bytes.len() > 40000);
    let whole = linked(&image, 0x20000);
    let mut rest = vec![0xEE; image.span() as usize];
    image.link_rest(0x20000, &mut rest, &HOST, &[]).unwrap();
    assert!(rest[..text.bytes.len()].iter().all(|byte| *byte == 0xEE));
    assert_eq!(image.content(&rest, 0, 64), &whole[..64]);
}
