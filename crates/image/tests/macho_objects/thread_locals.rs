//! Thread-local variables: the block, and the descriptors that code finds them by.

use crate::common::{HOST, bindings};
use crate::tools::compile_cpp;
use crate::{BASE, assemble, compile, link, parse, refused};
use midflight_image::{Error, ExportKind, Host, Protection};

#[test]
fn descriptors_name_the_module_and_the_place_in_the_block() {
    let files = [
        compile(
            "__thread int a = 0x11; static __thread long b = 0x22; __thread char z[100]; _Alignas(64) __thread int wide = 0x33;
             long *f(void) { return &b; } int *g(void) { return &a; } char *h(void) { return z; }",
            &[],
        ),
        compile("extern __thread int a; int k(void) { return a; } __thread short own = 0x44; short *o(void) { return &own; }", &[]),
    ];
    let linked = link(&files);
    let block = linked.image.thread_locals().unwrap();
    assert_eq!((block.align, block.skew), (64, 0));
    let template = &linked.memory[block.offset as usize..][..block.initialised as usize];
    for (name, value, size) in [("a", 0x11u64, 4), ("wide", 0x33, 4), ("own", 0x44, 2)] {
        let export = linked.export(name);
        assert_eq!(export.kind, ExportKind::ThreadLocal);
        let found = &template[export.offset as usize..][..size];
        assert_eq!(found, &value.to_le_bytes()[..size], "{name}");
    }
    let z = linked.export("z").offset;
    assert!(z >= block.initialised && z + 100 <= block.size, "{z} {block:?}");
    // Both files find the first's by one descriptor, by way of the table.
    let descriptors: Vec<u64> = ["g", "k", "h", "f"]
        .map(|name| {
            let mut at = linked.address(name);
            while linked.code_at(at) & 0x9F00_0000 != 0x9000_0000 {
                at += 4;
            }
            let load = (1..4)
                .map(|n| at + 4 * n)
                .find(|at| linked.code_at(*at) & 0xFFC0_0000 == 0xF940_0000)
                .unwrap();
            linked.word_at(linked.page(at) + linked.low(load))
        })
        .to_vec();
    assert_eq!(descriptors[0], descriptors[1]);
    for (descriptor, offset) in descriptors.iter().zip(["a", "a", "z"].map(|name| linked.export(name).offset))
    {
        let words = [0, 8, 16].map(|at| linked.word_at(descriptor + at));
        assert_eq!(words, [HOST.tlv_thunk, HOST.tls_module << 32 | offset, 0]);
        assert_eq!(linked.protection(*descriptor), Some(Protection::Read), "nobody writes them");
    }
    assert!(linked.image.imports().is_empty(), "{:?}", linked.image.imports());
}

#[test]
fn variables_with_constructors() {
    let files = [compile_cpp(
        "struct thing { thing(); ~thing(); int x; }; thread_local thing t; int f() { return t.x; }",
        &[],
    )];
    let image = parse(&files).unwrap();
    let mut names: Vec<_> = image.imports().iter().map(|import| import.name).collect();
    names.sort();
    assert_eq!(names, ["_ZN5thingC1Ev", "_ZN5thingD1Ev", "_tlv_atexit"]);
    // Others come to it by a function that constructs it first.
    assert_eq!(image.export("_ZTW1t").map(|export| export.kind), Some(ExportKind::Function));
    assert!(image.thread_locals().is_some());
}

#[test]
fn the_image_must_have_a_number() {
    let files = [compile("__thread int a = 1; int f(void) { return a; }", &[])];
    let image = parse(&files).unwrap();
    let mut memory = vec![0; image.span() as usize];
    let host = Host { tls_module: 0, ..HOST };
    let error = image.link(BASE, &mut memory, &host, &bindings(&image, |_| None)).unwrap_err();
    assert!(matches!(error, Error::WrongThreadModule { given: 0 }), "{error}");
}

#[test]
fn what_is_refused() {
    let other = compile("extern __thread int host_t; int f(void) { return host_t; }", &[]);
    assert!(refused(&[other]).contains("thread-local variables of other images are not supported"));
    let plain = [compile("extern __thread int t; int f(void) { return t; }", &[]), compile("int t;", &[])];
    assert!(refused(&plain).contains("is used as a thread-local variable, and is none"));
    let reverse =
        [compile("extern int t; int f(void) { return t; }", &[]), compile("__thread int t = 1;", &[])];
    assert!(refused(&reverse).contains("is used as if it were none"));
    let data = "\n.section __DATA,__thread_data,thread_local_regular\n_v$tlv$init: .quad 1\n";
    let variables = ".section __DATA,__thread_vars,thread_local_variables\n";
    for (source, words) in [
        (format!(".data\n.quad _v$tlv$init{data}"), "is used as if it were none"),
        (format!("{data}{variables}_v: .quad __tlv_bootstrap\n.quad 0"), "it is cut off"),
        (format!("{data}{variables}_v: .quad __tlv_bootstrap\n.quad 0\n.quad 0"), "has no variable"),
        (
            format!("{data}{variables}_v: .quad __tlv_bootstrap\n.quad _v\n.quad 0"),
            "not as compilers write it",
        ),
        (
            format!(".data\n_d: .quad 0\n{variables}_v: .quad __tlv_bootstrap\n.quad 0\n.quad _d"),
            "build it again",
        ),
        (format!("{variables}_v: .quad __tlv_bootstrap\n.quad 0\n.quad _host_x"), "build it again"),
        (
            ".section __DATA,__thread_init,thread_local_init_function_pointers\n.quad 0".to_string(),
            "thread-local",
        ),
    ] {
        let text = refused(&[assemble(&source)]);
        assert!(text.contains(words), "{text}");
    }
}
