//! Which definition a name stands for.

use crate::common::BOTH;
use crate::{BASE, assembly, link, link_at, object, parse};
use midflight_image::{Error, ExportKind, Image, ImportKind, Machine, Protection};

/// The word at `p` of the second file, which points to `x` or to `x` of the first.
fn pointed(machine: Machine, first: &str, second: &str) -> (u64, u64) {
    let files = [object(machine, first), object(machine, &format!("{second} int *p = &x;"))];
    let linked = link(machine, &files);
    (linked.word("p"), linked.address("x"))
}

#[test]
fn strong_before_common_before_weak() {
    const WEAK: &str = "__attribute__((weak)) int x = 1, weak_size[1];";
    for machine in BOTH {
        for (first, second, size) in [
            ("int x[3] = {7};", "extern int x;", 12),
            ("int x[3] = {7};", "__attribute__((weak)) int x;", 12),
            ("__attribute__((weak)) int x = 1;", "extern int x;", 4),
            ("__attribute__((weak)) int x = 1;", "__attribute__((weak)) int x = 2;", 4),
            ("__attribute__((common)) int x[50];", "__attribute__((weak)) int x = 2;", 200),
            (WEAK, "__attribute__((common)) int x;", 4),
            ("__attribute__((common)) int x[50];", "__attribute__((common)) int x;", 200),
            ("__attribute__((common)) int x[2];", "int x = 5;", 4),
        ] {
            let (pointer, address) = pointed(machine, first, second);
            assert_eq!(pointer, address, "{machine} {first} {second}");
            let files = [object(machine, first), object(machine, &format!("{second} int *p = (int *)&x;"))];
            let reversed: Vec<_> = files.iter().rev().cloned().collect();
            for files in [files.to_vec(), reversed] {
                let export = link(machine, &files).export("x").size;
                // Which of two weak definitions it is depends on the order; they have one size
                // here.
                assert_eq!(export, size, "{machine} {first} {second}");
            }
        }
        let linked_strong =
            [object(machine, "__attribute__((weak)) long x = 1;"), object(machine, "long x = 2;")];
        assert_eq!(link(machine, &linked_strong).word("x"), 2, "{machine}");
        let first_weak = [1, 2].map(|n| object(machine, &format!("__attribute__((weak)) long x = {n};")));
        assert_eq!(link(machine, &first_weak).word("x"), 1, "{machine}");
    }
}

#[test]
fn common_blocks_are_zero_and_aligned() {
    for machine in BOTH {
        let files = [
            assembly(machine, ".comm a, 3, 1\n.comm b, 40, 32\n.comm c, 5, 4096"),
            assembly(machine, ".comm a, 8, 8\n.data\n.globl pointer\npointer: .8byte b"),
        ];
        let linked = link(machine, &files);
        for (name, size, align) in [("a", 8, 8), ("b", 40, 32), ("c", 5, 4096)] {
            let export = linked.export(name);
            assert_eq!(
                (export.size, export.offset % align, export.kind),
                (size, 0, ExportKind::Data),
                "{name}"
            );
            assert_eq!(linked.protection(BASE + export.offset), Some(Protection::ReadWrite));
            assert!(linked.memory[export.offset as usize..][..size as usize].iter().all(|byte| *byte == 0));
        }
        assert_eq!(linked.word("pointer"), linked.address("b"));
    }
}

#[test]
fn two_strong_definitions_name_both_files() {
    for machine in BOTH {
        let files = [object(machine, "int x = 1;"), object(machine, "int y;"), object(machine, "int x = 2;")];
        let error = parse(machine, &files).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("`x`") && text.contains("`0.o`") && text.contains("`2.o`"), "{text}");
    }
}

#[test]
fn visibility() {
    let source = "__attribute__((visibility(\"hidden\"))) int hidden = 1;
        __attribute__((visibility(\"internal\"))) int internal = 2;
        __attribute__((visibility(\"protected\"))) int guarded = 3;
        int shown = 4, other = 5; static int own = 6;";
    for machine in BOTH {
        // A file that declares it hidden hides it for all.
        let uses = "extern int other __attribute__((visibility(\"hidden\"))); extern int hidden;
            int *p[] = {&other, &hidden};";
        let files = [object(machine, source), object(machine, uses)];
        let linked = link(machine, &files);
        let mut exports: Vec<_> = linked.image.exports().iter().map(|export| export.name).collect();
        exports.sort_unstable();
        assert_eq!(exports, ["guarded", "p", "shown"], "{machine}");
        assert!(linked.image.export("hidden").is_none() && linked.image.export("own").is_none());
        assert_eq!(linked.protection(linked.word("p")), Some(Protection::ReadWrite));
    }
}

#[test]
fn what_is_hidden_must_be_there_unless_it_is_weak() {
    for machine in BOTH {
        let hidden = "extern int x __attribute__((visibility(\"hidden\"))); int *p = &x;";
        let files = [object(machine, hidden)];
        let text = parse(machine, &files).unwrap_err().to_string();
        assert!(text.contains("`x`") && text.contains("hidden"), "{text}");
        let files = [object(machine, &hidden.replace("visibility", "weak, visibility"))];
        let linked = link(machine, &files);
        assert_eq!((linked.word("p"), linked.image.imports().len()), (0, 0));
    }
}

#[test]
fn imports_are_what_relocations_name() {
    let source = "extern int host_call(int), unused(int), far(int); extern int host_value;
        extern int maybe(void) __attribute__((weak)); extern __thread int host_thread;
        int f(int x) { return host_call(x) + host_value + (maybe ? maybe() : 0) + host_thread; }
        int (*p)(int) = far;";
    for machine in BOTH {
        let files = [object(machine, source)];
        let image = parse(machine, &files).unwrap();
        let find = |name| *image.imports().iter().find(|import| import.name == name).unwrap();
        assert_eq!((find("host_call").kind, find("host_call").weak), (ImportKind::Function, false));
        assert_eq!((find("host_value").kind, find("host_value").weak), (ImportKind::Unknown, false));
        assert_eq!((find("maybe").kind, find("maybe").weak), (ImportKind::Function, true));
        assert_eq!(find("host_thread").kind, ImportKind::ThreadLocal);
        assert_eq!(find("far").kind, ImportKind::Unknown);
        assert!(!image.imports().iter().any(|import| import.name == "unused"));
        // Required by one file, weak for another.
        let weak = "extern int maybe(void) __attribute__((weak)); int (*q)(void) = maybe;";
        let files =
            [object(machine, weak), object(machine, "extern int maybe(void); int (*r)(void) = maybe;")];
        let image = parse(machine, &files).unwrap();
        assert_eq!(
            image.imports().iter().map(|import| (import.name, import.weak)).collect::<Vec<_>>(),
            [("maybe", false)]
        );
    }
}

#[test]
fn versions() {
    for machine in BOTH {
        let files = [
            assembly(
                machine,
                ".data\n.globl a, b, q\na: .8byte 1\nb: .8byte 2\n.symver a, x@V1\n.symver b, x@@V2
                .symver other, far@GLIBC_2.17\nq: .8byte other",
            ),
            object(machine, "extern long x; long *p = &x;"),
        ];
        let linked = link(machine, &files);
        assert_eq!(linked.word("p"), linked.address("b"), "{machine}: the default version");
        assert_eq!(linked.address("x"), linked.address("b"));
        assert!(linked.image.export("x@V1").is_none() && linked.image.export("x@@V2").is_none());
        let import = linked.image.imports()[0];
        assert_eq!((import.name, import.version), ("far", Some("GLIBC_2.17")));
        assert_eq!(linked.word("q"), 0x1234_5678_9ABC);
    }
}

#[test]
fn of_equal_groups_the_first() {
    let source =
        "template <class T> struct Box { T value; virtual T get() { return value; } virtual ~Box() {} };
        inline int counter() { static int n = 40; return ++n; }
        extern \"C\" int FUNCTION(int x) { Box<int> *box = new Box<int>(); return box->get() + counter(); }";
    for machine in BOTH {
        let files = ["one", "two"].map(|function| {
            let define = format!("-DFUNCTION={function}");
            crate::common::compile_as(machine, source, &["-c", "-fPIC", "-x", "c++", &define])
        });
        let alone: Vec<_> = files
            .iter()
            .map(|file| Image::parse(file, machine, 4096, 1 << 20).unwrap().exports().len())
            .collect();
        let image = parse(machine, &files).unwrap();
        // All but the one function of its own.
        assert_eq!(image.exports().len(), alone[0] + 1, "{machine} {alone:?}");
        let frames = |image: &Image<'_>| image.unwind().unwrap().size;
        let both = frames(&image) - 4;
        let each: u64 =
            files.iter().map(|file| frames(&Image::parse(file, machine, 4096, 1 << 20).unwrap()) - 4).sum();
        assert_eq!(both, each, "records of what was discarded stay");
        // And say that they are of nothing: checked as an unwinder reads them.
        let linked = link_at(parse(machine, &files).unwrap(), BASE, |_| Some(0x5555_0000_1000));
        let unwind = linked.image.unwind().unwrap();
        let section = &linked.memory[unwind.offset as usize..][..unwind.size as usize];
        let code = linked
            .image
            .regions()
            .iter()
            .find(|region| region.protection == Protection::ReadExecute)
            .unwrap();
        let code = BASE + code.offset..BASE + code.offset + code.len;
        let functions = midflight_image::unwind::check(section, BASE + unwind.offset, code).unwrap();
        let kept = linked.image.symbols().functions().len();
        assert_eq!(functions, kept, "{machine}");
    }
}

/// What compilers wrote before there were groups, and some assembly has still.
#[test]
fn of_sections_that_a_link_has_once_the_first() {
    let source = |number: u32, user: &str| {
        format!(
            ".section .gnu.linkonce.t.f,\"ax\",%progbits\n.globl f\n.type f, %function\nf: .4byte {number}\n
             .section .gnu.linkonce.r.f,\"a\",%progbits\n.globl table\ntable: .8byte {number}\n
             .data\n.globl {user}\n{user}: .8byte f"
        )
    };
    for machine in BOTH {
        let files = [assembly(machine, &source(1, "p")), assembly(machine, &source(2, "q"))];
        let linked = link(machine, &files);
        assert_eq!(linked.word("table"), 1);
        assert_eq!([linked.word("p"), linked.word("q")], [linked.address("f"); 2]);
    }
}

#[test]
fn code_may_not_refer_to_what_was_discarded() {
    let group = |body: &str| {
        format!(
            ".section .text.f,\"axG\",%progbits,f,comdat\n.weak f\nf: .4byte 0\n.Linside: .4byte 0\n{body}"
        )
    };
    for machine in BOTH {
        let refers = group(".data\n.globl p\np: .8byte .Linside");
        let files = [assembly(machine, &group("")), assembly(machine, &refers)];
        let Err(Error::InFile { file, error }) = parse(machine, &files) else { panic!() };
        assert_eq!(file, "1.o");
        assert!(matches!(*error, Error::BadReference { ref section, .. } if section == ".data"), "{error}");
        // By the name of the group it is the other file's.
        let files = [
            assembly(machine, &group("")),
            assembly(machine, &refers.replace("p: .8byte .Linside", "p: .8byte f")),
        ];
        let linked = link(machine, &files);
        assert_eq!(linked.word("p"), linked.address("f"));
    }
}

#[test]
fn sets_have_bounds() {
    let source = |n: i32, name: &str| {
        format!("__attribute__((section(\"set\"))) long {name} = {n}; extern long __start_set[], __stop_set[];
            long *bounds_{name}[] = {{__start_set, __stop_set}}; extern int __start_other[] __attribute__((weak));
            int *none_{name} = __start_other;")
    };
    for machine in BOTH {
        let files = [
            object(machine, &source(5, "a")),
            object(machine, "long between = 1;"),
            object(machine, &source(6, "b")),
        ];
        let linked = link(machine, &files);
        let start = linked.word("bounds_a");
        assert_eq!(linked.word("bounds_b"), start);
        assert_eq!(linked.word_at(linked.address("bounds_a") + 8), start + 16);
        assert_eq!([linked.word_at(start), linked.word_at(start + 8)], [5, 6], "{machine}");
        assert_eq!(linked.word("none_a"), 0, "no such section: a weak import");
    }
}

#[test]
fn names_that_linkers_define() {
    for machine in BOTH {
        let source = "extern char __dso_handle __attribute__((visibility(\"hidden\")));
            extern char _end[], __bss_start[];
            char *names[] = {&__dso_handle, _end, __bss_start}; int zero[99]; int one = 1;";
        let files = [object(machine, source)];
        let linked = link(machine, &files);
        assert_eq!(linked.word("names"), BASE);
        assert_eq!(linked.word_at(linked.address("names") + 8), BASE + linked.image.span());
        let zero = linked.word_at(linked.address("names") + 16);
        assert!(
            zero > linked.address("one") && (zero..zero + 64).contains(&linked.address("zero")),
            "{zero:x}"
        );
        assert!(linked.image.imports().is_empty());
        // A file's own definition comes first.
        let files = [object(machine, "char _end[3] = {1}; char *p = _end;")];
        let linked = link(machine, &files);
        assert_eq!(linked.word("p"), linked.address("_end"));
    }
}

#[test]
fn functions_without_code() {
    // `__builtin_unreachable` and nothing else; a label behind the last instruction.
    for machine in BOTH {
        let source = ".text\n.globl f, g, end\n.type f, %function\n.type g, %function\nf: .4byte 0
            .size f, 4\ng:\n.size g, 0\nend:
            .data\n.globl p\np: .8byte g";
        let files = [assembly(machine, source)];
        let linked = link(machine, &files);
        assert_eq!(linked.word("p"), linked.address("f") + 4);
        assert_eq!(linked.address("end"), linked.address("g"));
        // Where the code's last page is full, they are nowhere.
        let files = [assembly(machine, &source.replace("f: .4byte 0", "f: .4byte 0\n.zero 4092"))];
        let image = parse(machine, &files).unwrap();
        assert!(image.export("g").is_none() && image.export("f").is_some());
    }
}

#[test]
fn large_common_blocks() {
    let flags = ["-c", "-fPIC", "-mcmodel=medium", "-fcommon"];
    let file = crate::common::compile_as(
        Machine::X86_64,
        "char large[200000]; char *f(void) { return large; }",
        &flags,
    );
    let image = Image::parse(&file, Machine::X86_64, 4096, 1 << 20).unwrap();
    assert_eq!(image.export("large").unwrap().size, 200_000);
}

/// The file, with each `zq` in it as a byte that is no UTF-8 by itself, and a letter.
fn renamed(mut file: Vec<u8>) -> Vec<u8> {
    for at in 0..file.len() - 1 {
        if &file[at..at + 2] == b"zq" {
            file[at] = 0xC2;
        }
    }
    file
}

#[test]
fn names_are_bytes() {
    for machine in BOTH {
        // Of symbols, of a group and of a section; used within a file and by another one.
        let defines = renamed(assembly(
            machine,
            ".section .text.zq,\"axG\",%progbits,grzq,comdat\n.globl f, Newzqf\n.type f, %function
            .type Newzqf, %function\nf:\nNewzqf: .8byte 0\n.size f, 8\n.size Newzqf, 8
            .data\n.globl p\np: .8byte Newzqf",
        ));
        let uses = renamed(assembly(machine, ".data\n.globl q\nq: .8byte Newzqf"));
        let linked_files = [defines, uses];
        let linked = link(machine, &linked_files);
        assert_eq!([linked.word("p"), linked.word("q")], [linked.address("f"); 2], "{machine}");
        // Two are one name only if all bytes are.
        assert!(linked.image.exports().iter().all(|export| !export.name.starts_with("New")));
        let names: Vec<_> = linked.image.symbols().symbols.iter().map(|symbol| symbol.offset).collect();
        assert_eq!(names.len(), 2, "debuggers see them");
        // Nothing between images can have such a name: said as what it is.
        let alone = [linked_files[1].clone()];
        let text = parse(machine, &alone).unwrap_err().to_string();
        assert!(text.contains("`New\\xc2qf`"), "{text}");
        assert!(text.contains("UTF-8") && !text.contains("corrupt"), "{text}");
    }
}

#[test]
fn names_without_underscores_and_of_other_linkers() {
    let bounds = [
        "etext",
        "_etext",
        "__etext",
        "edata",
        "_edata",
        "end",
        "_end",
        "__end__",
        "__bss_start",
        "__bss_start__",
        "_bss_end__",
        "__bss_end__",
        "__data_start",
        "__executable_start",
    ];
    for hidden in ["", "__attribute__((visibility(\"hidden\")))"] {
        for machine in BOTH {
            let declared: String =
                bounds.iter().map(|name| format!("extern char {name}[] {hidden};")).collect();
            let source = format!(
                "{declared} char *names[] = {{{}}}; int zero[99]; int one = 1; extern int far(void);
                int code(void) {{ return far() + 1; }}",
                bounds.join(", ")
            );
            let files = [object(machine, &source)];
            let linked = link(machine, &files);
            assert_eq!(linked.image.imports().iter().map(|import| import.name).collect::<Vec<_>>(), ["far"]);
            let value = |name: &str| {
                let at = bounds.iter().position(|bound| *bound == name).unwrap();
                linked.word_at(linked.address("names") + 8 * at as u64)
            };
            for (one, same) in [
                ("etext", "_etext"),
                ("etext", "__etext"),
                ("edata", "_edata"),
                ("end", "_end"),
                ("edata", "__bss_start"),
                ("edata", "__bss_start__"),
                ("end", "__end__"),
                ("end", "_bss_end__"),
                ("end", "__bss_end__"),
            ] {
                assert_eq!(value(one), value(same), "{machine} {one} {same}");
            }
            assert_eq!(value("__executable_start"), BASE);
            let code = linked.export("code");
            // Behind the stub too, which is code.
            let stub = linked.callee(machine, "code", 0);
            assert!(linked.through_stub(machine, stub).is_some());
            assert!(value("etext") >= BASE + code.offset + code.size && value("etext") > stub, "{machine}");
            assert_eq!(linked.protection(value("etext") - 1), Some(Protection::ReadExecute), "{machine}");
            assert!(value("__data_start") <= linked.address("one") && linked.address("one") < value("edata"));
            assert!(value("edata") <= linked.address("zero") && linked.address("zero") < value("end"));
            // None of them is the module's own, for others.
            assert!(bounds.iter().all(|name| linked.image.export(name).is_none()));
        }
    }
}

#[test]
fn tables_that_only_linkers_write() {
    for machine in BOTH {
        for name in ["__ehdr_start", "_DYNAMIC", "__GNU_EH_FRAME_HDR"] {
            for attribute in ["", "__attribute__((visibility(\"hidden\")))"] {
                let source = format!("extern char {name}[] {attribute}; char *p = {name};");
                let files = [object(machine, &source)];
                let text = parse(machine, &files).unwrap_err().to_string();
                assert!(text.contains(name) && text.contains("-shared"), "{text}");
                // Who can do without it does.
                let files = [object(machine, &format!("#pragma weak {name}\n{source}"))];
                let linked = link(machine, &files);
                assert_eq!((linked.word("p"), linked.image.imports().len()), (0, 0), "{machine} {name}");
            }
        }
    }
}

#[test]
fn bounds_of_what_is_called() {
    for machine in BOTH {
        let bounds = "extern char __init_array_start[], __init_array_end[], __fini_array_start[],
            __fini_array_end[], __preinit_array_start[], __preinit_array_end[];
            char *bounds[] = {__init_array_start, __init_array_end, __fini_array_start, __fini_array_end,
                __preinit_array_start, __preinit_array_end};";
        let calls = "static volatile int n; __attribute__((constructor)) void a(void) { n++; }
            __attribute__((constructor(101))) void b(void) { n++; }
            __attribute__((destructor)) void c(void) { n++; } int *const relocated = (int *)&a;";
        let files = [
            object(machine, calls),
            object(machine, bounds),
            object(machine, &calls.replace("void ", "static void ").replace("relocated", "again")),
        ];
        let linked = link(machine, &files);
        let word = |n: u64| linked.word_at(linked.address("bounds") + 8 * n);
        let listed =
            |from: u64, to: u64| -> Vec<u64> { (from..to).step_by(8).map(|at| linked.word_at(at)).collect() };
        // In the order in which they are called.
        let init = linked.image.init(BASE, &linked.memory).unwrap();
        assert_eq!((listed(word(0), word(1)), init.len()), (init, 4), "{machine}");
        let mut fini = linked.image.fini(BASE, &linked.memory).unwrap();
        fini.reverse();
        assert_eq!((listed(word(2), word(3)), fini.len()), (fini, 2), "{machine}");
        assert_eq!(word(4), word(5), "none");
        let files = [object(machine, bounds)];
        let linked = link(machine, &files);
        let word = |n: u64| linked.word_at(linked.address("bounds") + 8 * n);
        assert!([0, 2, 4].iter().all(|n| word(*n) == word(n + 1)), "{machine}: empty");
    }
}

#[test]
fn sections_of_newer_tools() {
    for machine in BOTH {
        let source = ".text\n.globl f\n.type f, %function\nf: .4byte 0\n.size f, 4
            .section .sframe,\"a\",%0x6ffffff4\n.4byte f - .
            .section .llvm_addrsig,\"e\",%0x6fff4c03\n.byte 0
            .section .llvm_bb_addr_map,\"o\",%0x6fff4c0a,.text\n.8byte f
            .section .deplibs,\"MS\",%0x6fff4c04,1\n.asciz \"m\"
            .section .attributes,\"\",%0x6ffffff5\n.byte 'A'
            .section .processor,\"\",%0x70000003\n.byte 'A'
            .section .application,\"\",%0x80000001\n.8byte f
            .section .left_out,\"ae\",%progbits\n.8byte f
            .section .system,\"aw\",%0x60000001\n.globl s\n.type s, %object\ns: .8byte f\n.size s, 8";
        let files = [assembly(machine, source)];
        let linked = link(machine, &files);
        // What a system adds is loaded like any other; the rest is for tools.
        assert_eq!(linked.word("s"), linked.address("f"), "{machine}");
        assert_eq!(linked.protection(linked.address("s")), Some(Protection::ReadWrite));
        let regions = linked.image.regions();
        assert_eq!(regions.len(), 2, "{machine}: no constants {regions:?}");
    }
}
