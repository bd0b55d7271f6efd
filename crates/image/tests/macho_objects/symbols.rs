//! Which definition each name stands for, what is exported and imported, what is where, and what is
//! called when.

use crate::common::{HOST, MAX_SPAN};
use crate::tools::compile_cpp;
use crate::{BASE, Linked, assemble, compile, link, link_at, parse, refused};
use midflight_image::{Error, ExportKind, Image, ImportKind, Machine, Protection};

fn names(linked: &Linked<'_>) -> Vec<String> {
    let mut names: Vec<_> = linked.image.exports().iter().map(|export| export.name.to_string()).collect();
    names.sort();
    names
}

#[test]
fn what_is_exported() {
    let files = [assemble(
        ".globl _f, _d, _hidden, nameless, _soft, _auto\n.private_extern _hidden\n_f: ret\n_hidden: ret\nnameless: ret\n_local: \
         ret\n.weak_definition _soft\n_soft: ret\n.weak_def_can_be_hidden _auto\n_auto: ret\n.data\n_d: .quad _hidden\n.globl \
         _number\n_number = 7\n.comm _c, 8, 3",
    )];
    let linked = link(&files);
    assert_eq!(names(&linked), ["c", "d", "f", "soft"]);
    assert_eq!(linked.export("f").kind, ExportKind::Function);
    assert_eq!([linked.export("d").kind, linked.export("c").kind], [ExportKind::Data; 2]);
    for other in ["_f", "hidden", "nameless", "local", "", "number", "auto"] {
        assert_eq!(linked.image.export(other), None, "{other}");
    }
    assert_eq!(linked.word("d"), linked.address("f") + 4);
    let protections = ["f", "d", "c"].map(|name| linked.protection(linked.address(name)));
    assert_eq!(
        protections,
        [Some(Protection::ReadExecute), Some(Protection::ReadWrite), Some(Protection::ReadWrite)]
    );
    let symbols = linked.image.symbols();
    let all: Vec<_> =
        symbols.symbols.iter().map(|symbol| String::from_utf8_lossy(symbols.name(symbol))).collect();
    assert!(
        ["f", "hidden", "local", "d"].iter().all(|name| all.iter().any(|other| other == name)),
        "{all:?}"
    );
    // From one to the next, or to the end of the section: so profilers find what an address is in.
    let mut functions: Vec<_> = symbols.symbols.iter().filter(|symbol| symbol.function).collect();
    functions.sort_by_key(|symbol| symbol.offset);
    assert!(functions.len() > 2 && functions.iter().all(|symbol| symbol.size >= 4), "{functions:?}");
    assert!(functions.windows(2).all(|two| two[0].offset + two[0].size <= two[1].offset), "{functions:?}");
}

#[test]
fn what_is_imported() {
    let files = [compile(
        "extern int far(int), host_x, host_y; extern int maybe(void) __attribute__((weak_import)); extern int unused;
         int f(int x) { return far(x) + host_x + (maybe ? maybe() : 0); }",
        &[],
    )];
    let image = parse(&files).unwrap();
    let mut imports: Vec<_> =
        image.imports().iter().map(|import| (import.name, import.kind, import.weak)).collect();
    imports.sort_by_key(|import| import.0);
    assert_eq!(
        imports,
        [
            ("far", ImportKind::Function, false),
            ("host_x", ImportKind::Unknown, false),
            ("maybe", ImportKind::Function, true)
        ]
    );
    let mut memory = vec![0; image.span() as usize];
    let error = image.link(BASE, &mut memory, &HOST, &[None; 3]).unwrap_err();
    assert!(matches!(&error, Error::UnresolvedImport { names, .. } if names.len() == 2), "{error}");
}

#[test]
fn strong_before_weak_before_common() {
    let user = assemble(".data\n.globl _use\n_use: .quad _x");
    let common = assemble(".comm _x, 8, 3");
    let weak = assemble(".data\n.globl _x\n.weak_definition _x\n_x: .quad 11");
    let strong = assemble(".data\n.globl _x\n_x: .quad 22");
    for (others, expected) in [
        ([&common, &weak], 11),
        ([&weak, &common], 11),
        ([&weak, &strong], 22),
        ([&strong, &weak], 22),
        ([&common, &strong], 22),
        ([&strong, &common], 22),
        ([&weak, &weak], 11),
        ([&common, &common], 0),
    ] {
        let files: Vec<_> = [&user].into_iter().chain(others).cloned().collect();
        let linked = link(&files);
        assert_eq!(linked.word_at(linked.word("use")), expected);
        assert_eq!(linked.address("x"), linked.word("use"));
    }
    let text = refused(&[user, strong.clone(), strong]);
    assert!(["`_x`", "1.o", "2.o"].iter().all(|part| text.contains(part)), "{text}");
}

#[test]
fn common_blocks_are_as_large_and_as_aligned_as_any_file_wants() {
    let files = [".comm _x, 4, 2", ".comm _x, 100, 1", ".comm _x, 8, 6\n.comm _y, 1, 0"].map(assemble);
    let linked = link(&files);
    let (x, y) = (linked.address("x"), linked.address("y"));
    assert!(x.is_multiple_of(64) && (y >= x + 100 || y < x), "{x:x} {y:x}");
}

#[test]
fn weak_definitions_that_are_not_used_keep_their_own_places() {
    // The same inline function in two files, of which the second's is not used; each file has
    // something of its own beside it.
    let source = |own: &str| {
        format!(
            "inline int shared(int x) {{ static int n; return n += x; }} int {own}(int x) {{ return shared(x); }}
             int (*pointer_{own})(int) = shared;"
        )
    };
    let files = [compile_cpp(&source("a"), &["-O0"]), compile_cpp(&source("b"), &["-O0"])];
    let linked = link(&files);
    let shared = linked.address("_Z6sharedi");
    let pointers = linked.image.exports().iter().filter(|export| export.name.starts_with("pointer_")).count();
    assert_eq!(pointers, 2);
    assert_eq!([linked.word("pointer_a"), linked.word("pointer_b")], [shared; 2]);
}

#[test]
fn private_names_are_shared_by_the_files_only() {
    let files = [
        assemble(".data\n.globl _use\n_use: .quad _inner"),
        assemble(".data\n.globl _inner\n.private_extern _inner\n_inner: .quad 5"),
    ];
    let linked = link(&files);
    assert_eq!((linked.word_at(linked.word("use")), names(&linked)), (5, vec!["use".to_string()]));
}

#[test]
fn aliases() {
    let files = [
        assemble(
            ".globl _one, _two\n_one = _two\n_two = _three\n.globl _outer\n_outer = _host_x\n.data\n.globl _use, _use2\n_use: \
             .quad _one\n_use2: .quad _outer",
        ),
        assemble(".globl _three\n_three: ret"),
    ];
    let linked = link(&files);
    assert_eq!(linked.word("use"), linked.address("three"));
    assert_eq!(linked.address("one"), linked.address("three"));
    assert_eq!(linked.word("use2"), 0x5555_0000_1000);
    assert!(
        linked.image.imports().iter().all(|import| import.name == "host_x"),
        "{:?}",
        linked.image.imports()
    );
    let circle = [
        assemble(".globl _one\n_one = _two\n.data\n.quad _one"),
        assemble(".globl _two\n_two = _three"),
        assemble(".globl _three\n_three = _one"),
    ];
    assert!(refused(&circle).contains("alias for itself"));
}

#[test]
fn what_linkers_define() {
    let files = [
        compile(
            "extern char __dso_handle; void *handle = &__dso_handle;
             extern int first __asm(\"section$start$__DATA$__mine\"), last __asm(\"section$end$__DATA$__mine\");
             __attribute__((section(\"__DATA,__mine\"), used)) static int a = 1; int *bounds[] = {&first, &last};
             extern int none1 __asm(\"section$start$__DATA$__none\"), none2 __asm(\"section$end$__DATA$__none\");
             int *none[] = {&none1, &none2};",
            &[],
        ),
        compile("__attribute__((section(\"__DATA,__mine\"), used)) static int b[2] = {2, 3}; int other = 9;", &[]),
    ];
    let linked = link(&files);
    assert_eq!(linked.word("handle"), BASE);
    let [start, end] = [0, 8].map(|at| linked.word_at(linked.address("bounds") + at));
    let words: Vec<u32> = (start..end).step_by(4).map(|at| linked.code_at(at)).collect();
    assert_eq!(words, [1, 2, 3]);
    let [start, end] = [0, 8].map(|at| linked.word_at(linked.address("none") + at));
    assert_eq!(start, end);
}

#[test]
fn constructors_in_their_order() {
    let source = |names: [&str; 2]| {
        format!(
            ".globl _{0}, _{1}\n_{0}: ret\n_{1}: ret\n.section __DATA,__mod_init_func,mod_init_funcs\n.p2align 3\n.quad _{0}\n.quad \
             _{1}\n.section __DATA,__mod_term_func,mod_term_funcs\n.p2align 3\n.quad _{1}\n.quad _{0}",
            names[0], names[1]
        )
    };
    let files = [assemble(&source(["a", "b"])), assemble(&source(["c", "d"]))];
    let linked = link(&files);
    let init = linked.image.init(BASE, &linked.memory).unwrap();
    assert_eq!(init, ["a", "b", "c", "d"].map(|name| linked.address(name)));
    let fini = linked.image.fini(BASE, &linked.memory).unwrap();
    assert_eq!(fini, ["c", "d", "a", "b"].map(|name| linked.address(name)));
    let bad =
        [assemble(".data\n.globl _d\n_d: .quad 1\n.section __DATA,__mod_init_func,mod_init_funcs\n.quad _d")];
    let linked = link(&bad);
    let error = linked.image.init(BASE, &linked.memory).unwrap_err();
    assert!(matches!(error, Error::EntryOutsideCode { list: "__mod_init_func", .. }), "{error}");
}

#[test]
fn sections_keep_their_alignment_and_protection() {
    let files = [assemble(
        ".globl _f\n_f: ret\n.section __TEXT,__const\n.p2align 8\n.globl _c\n_c: .quad 1\n.cstring\n.globl _s\n_s: .asciz \"text\"\n.section \
         __DATA,__const\n.p2align 5\n.globl _r\n_r: .quad _f\n.data\n.p2align 12\n.globl _d\n_d: .quad 2\n.zerofill \
         __DATA,__bss,_z,8,15\n.globl _z\n.literal8\n.globl _l\n_l: .quad 7",
    )];
    for page_size in [4096, 16384, 65536] {
        let image = Image::parse(&files[0], Machine::Aarch64, page_size, MAX_SPAN).unwrap();
        assert_eq!(image.align(), page_size.max(1 << 15));
        let linked = link_at(image, BASE & !0xFFFF, |_| None);
        for (name, align, protection) in [
            ("f", 4, Protection::ReadExecute),
            ("c", 256, Protection::Read),
            ("s", 1, Protection::Read),
            ("r", 32, Protection::Read),
            ("d", 4096, Protection::ReadWrite),
            ("z", 1 << 15, Protection::ReadWrite),
            ("l", 8, Protection::Read),
        ] {
            let address = linked.address(name);
            assert!(address.is_multiple_of(align), "{name} {address:x}");
            assert_eq!(linked.protection(address), Some(protection), "{name}");
        }
        assert_eq!((linked.word("r"), linked.word("z"), linked.word("l")), (linked.address("f"), 0, 7));
    }
}

#[test]
fn debug_information_is_not_loaded() {
    let files = [compile("int f(int x) { return x * 3; }", &["-g"])];
    let linked = link(&files);
    assert!(linked.image.span() <= 4 * 16384);
    let debug = linked.image.debug(BASE);
    assert!(debug.sections.is_empty() && debug.omitted.is_some());
    assert_eq!(linked.image.declared_name(), None);
}

#[test]
fn what_a_module_says_of_itself() {
    let note = |kind: u32, text: &str| {
        format!(
            ".section __TEXT,__midflight\n.p2align 2\n.long 10, {}, {kind}\n.asciz \"midflight\"\n.p2align 2\n.asciz \
             \"{text}\"\n.p2align 2\n",
            text.len() + 1
        )
    };
    let files = [assemble(&(note(1, "physics") + &note(2, "2.1"))), assemble(&note(3, "terrain"))];
    let image = parse(&files).unwrap();
    assert_eq!((image.declared_name(), image.declared_version()), (Some("physics"), Some("2.1")));
    assert_eq!(image.needs().collect::<Vec<_>>(), ["terrain"]);
    let text = refused(&[assemble(&note(1, "one")), assemble(&note(1, "two"))]);
    assert!(text.starts_with("1.o: the note with the module's name"), "{text}");
}
