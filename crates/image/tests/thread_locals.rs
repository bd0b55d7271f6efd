//! Thread-local variables: the block, the exports and imports, and what relocations write, in each
//! dialect.

mod common;

use common::refused::*;
use common::*;
use midflight_image::{
    Binding, Error, ExportKind, Host, Image, ImportKind, Machine, Refusal, ThreadLocal, ThreadLocals,
};

const BASES: [u64; 2] = [0x100_0000, 0x7F12_3400_0000];

const SOURCE: &str = r#"
    __thread int counter = 5;
    __thread long zeros[4];
    static __thread int one = 9, two;
    extern __thread int theirs;
    extern __thread int maybe __attribute__((weak));
    __attribute__((aligned(64))) __thread char wide[3] = {1, 2, 3};
    int plain;
    __thread int *pointer = &plain;
    int f(void) { return counter++ + zeros[2] + theirs; }
    int g(void) { return one++ + two++; }
    int h(void) { return &maybe ? maybe : -1; }
    char *w(void) { return wide + 2; }
    int **p(void) { return &pointer; }
"#;

/// The two ways to find a variable: `__tls_get_addr`, and descriptors.
fn dialects(machine: Machine) -> [&'static str; 2] {
    match machine {
        Machine::X86_64 => ["-mtls-dialect=gnu", "-mtls-dialect=gnu2"],
        Machine::Aarch64 => ["-mtls-dialect=trad", "-mtls-dialect=desc"],
    }
}

fn resolve(import: &midflight_image::Import<'_>) -> Option<u64> {
    match import.name {
        "theirs" => Some(0x140),
        "__tls_get_addr" => Some(0x7777_0000),
        _ => None,
    }
}

#[test]
fn every_dialect_and_model() {
    for machine in BOTH {
        for dialect in dialects(machine) {
            for flags in [
                &[][..],
                &["-Wl,-z,norelro", "-Wl,--hash-style=sysv"],
                &["-Wl,-z,now", "-Wl,--hash-style=both", "-O0"],
                &["-fno-plt", "-O2"],
            ] {
                let module = compile(machine, SOURCE, &[&[dialect], flags].concat());
                let image = Image::parse(&module, machine, 4096, MAX_SPAN).unwrap();
                let kind = |name: &str| {
                    image.imports().iter().find(|import| import.name == name).map(|import| import.kind)
                };
                assert_eq!(kind("theirs"), Some(ImportKind::ThreadLocal));
                assert_eq!(kind("maybe"), Some(ImportKind::ThreadLocal));
                assert_ne!(kind("__tls_get_addr"), Some(ImportKind::ThreadLocal));
                for base in BASES {
                    check_block(&image, &model::linked(&module, &image, base, resolve), base);
                }
            }
        }
    }
}

/// The template has what the source says, at the places that the exports say.
fn check_block(image: &Image<'_>, memory: &[u8], base: u64) {
    let block = image.thread_locals().unwrap();
    let template = &memory[block.offset as usize..][..block.initialised as usize];
    assert_eq!((block.align, block.skew), (64, 0));
    assert!(block.size >= block.initialised + 36 && block.size < 256, "{block:?}");
    let export = |name: &str, size: u64| {
        let export = image.export(name).unwrap();
        assert_eq!((export.kind, export.size), (ExportKind::ThreadLocal, size), "{name}");
        assert!(export.offset + size <= block.size);
        assert!(image.exports().contains(&export));
        export.offset as usize
    };
    assert_eq!(u32_at(template, export("counter", 4)), 5);
    assert_eq!(template[export("wide", 3)..][..3], [1, 2, 3]);
    assert_eq!(export("wide", 3) % 64, 0);
    assert!(export("zeros", 32) as u64 >= block.initialised);
    // Templates are relocated like all other data.
    let plain = base + image.export("plain").unwrap().offset;
    assert_eq!(u64_at(template, export("pointer", 8)), plain);
}

#[test]
fn local_dynamic() {
    // One look-up of the block for both: a module without a symbol, and offsets in the code.
    let source = "static __thread int one = 9, two; int f(void) { return one++ + two++; }";
    for machine in BOTH {
        for dialect in dialects(machine) {
            let module = compile(machine, source, &[dialect, "-ftls-model=local-dynamic"]);
            let relocations = readelf(&module);
            assert!(relocations.iter().any(|r| r.kind.contains("TLS") || r.kind.contains("DTPMOD")));
            let image = Image::parse(&module, machine, 4096, MAX_SPAN).unwrap();
            assert_eq!(image.thread_locals().unwrap().size, 8);
            model::linked(&module, &image, BASES[0], resolve);
        }
    }
}

#[test]
fn blocks() {
    let block = |source: &str, machine| {
        let module = compile(machine, &format!("{source} int f(void) {{ return x[0]++; }}"), &[]);
        let image = Image::parse(&module, machine, 4096, MAX_SPAN).unwrap();
        let block = image.thread_locals().unwrap();
        assert_eq!(block.offset % block.align, if block.initialised > 0 { block.skew } else { 0 });
        block
    };
    for machine in BOTH {
        let zeros = block("__thread char x[100];", machine);
        assert!(matches!(zeros, ThreadLocals { initialised: 0, size: 100, skew: 0, .. }), "{zeros:?}");
        let some = block("__thread char x[3] = {1}; __thread char y[5];", machine);
        assert_eq!((some.initialised, some.size >= 8), (3, true));
        for align in [64, 4096] {
            let source = format!("__attribute__((aligned({align}))) __thread char x[{align}] = {{1}};");
            let aligned = block(&source, machine);
            assert_eq!((aligned.align, aligned.initialised), (align, align));
        }
        let none = compile(machine, "int f(void) { return 1; }", &[]);
        assert_eq!(Image::parse(&none, machine, 4096, MAX_SPAN).unwrap().thread_locals(), None);
    }
}

#[test]
fn a_block_may_begin_beside_a_multiple_of_its_alignment() {
    // As a linker script may place it; both machines' ld.so keep p_vaddr modulo p_align.
    for machine in BOTH {
        let mut module = compile(machine, SOURCE, &[]);
        let header = program_headers(&module, 7)[0];
        put64(&mut module, header + 48, 1 << 16);
        let image = Image::parse(&module, machine, 4096, MAX_SPAN).unwrap();
        let block = image.thread_locals().unwrap();
        assert_eq!((block.align, block.skew), (1 << 16, u64_at(&module, header + 16) % (1 << 16)));
        assert_ne!(block.skew, 0);
    }
}

#[test]
fn initial_exec_imports() {
    let source = "extern __thread int theirs; extern __thread int maybe __attribute__((weak)); \
        int f(void) { return theirs + maybe; }";
    for machine in BOTH {
        let module = compile(machine, source, &["-ftls-model=initial-exec"]);
        if machine == Machine::X86_64 {
            assert_ne!(dynamic_value(&module, 30) & 0x10, 0, "DF_STATIC_TLS is no reason to refuse it");
        }
        let image = Image::parse(&module, machine, 4096, MAX_SPAN).unwrap();
        assert_eq!(image.thread_locals(), None);
        model::linked(&module, &image, BASES[0], resolve);

        // In a library whose block each thread has somewhere else.
        let anywhere = ThreadLocal { module: 9, offset: 8, from_thread_pointer: None };
        let bindings: Vec<_> = image.imports().iter().map(|_| Some(Binding::ThreadLocal(anywhere))).collect();
        let mut memory = vec![0; image.span() as usize];
        let error = image.link(BASES[0], &mut memory, &HOST, &bindings).unwrap_err();
        assert!(matches!(error, Error::UnusableBinding { .. }), "{error:?}");
        says(&error, &["initial-exec", "-ftls-model=global-dynamic"]);
    }
}

#[test]
fn initial_exec_variables_of_the_module_itself() {
    for machine in BOTH {
        for (source, name) in [
            ("__thread int mine = 3; int f(void) { return mine++; }", "mine"),
            ("static __thread int mine = 3; int f(void) { return mine++; }", ""),
        ] {
            let error = refusal(&compile(machine, source, &["-ftls-model=initial-exec"]), machine);
            let Error::UnsupportedRelocation { refusal: Refusal::InitialExec, symbol, .. } = &error else {
                panic!("{error:?}")
            };
            assert_eq!(symbol, name);
            says(&error, &["initial-exec", "the module itself", "-fPIC -ftls-model=global-dynamic"]);
        }
    }
}

#[test]
fn variables_of_other_images() {
    // Found by module, by descriptors and by `__tls_get_addr`.
    let found = |module, offset| {
        Some(Binding::ThreadLocal(ThreadLocal { module, offset, from_thread_pointer: None }))
    };
    let source =
        "extern __thread int theirs[4]; int f(void) { return theirs[3]; } int *g(void) { return theirs; }";
    for machine in BOTH {
        let [traditional, descriptors] =
            dialects(machine).map(|dialect| compile(machine, source, &[dialect]));
        let link = |module: &[u8], binding| {
            let image = Image::parse(module, machine, 4096, MAX_SPAN).unwrap();
            let mut memory = vec![0; image.span() as usize];
            let bind = |import: &midflight_image::Import<'_>| match import.kind {
                ImportKind::ThreadLocal => binding,
                _ => Some(Binding::Address(0x4000)),
            };
            let bindings: Vec<_> = image.imports().iter().map(bind).collect();
            let low = u64_at(module, program_headers(module, 1)[0] + 16) & !(image.align() - 1);
            let linked = image.link(image.align(), &mut memory, &HOST, &bindings);
            let word = |place: u64| u64_at(&memory, (place - low) as usize);
            linked.map(|()| {
                let uses = readelf(module).into_iter();
                let uses = uses.filter(|r| r.symbol.as_ref().is_some_and(|s| s.name == "theirs"));
                uses.flat_map(|r| [word(r.offset), word(r.offset + 8)]).collect::<Vec<_>>()
            })
        };
        let words = link(&traditional, found(0x1_0000_0001, 0x2_0000_0000)).unwrap();
        assert_eq!((words[0], words[2]), (0x1_0000_0001, 0x2_0000_0000), "no limits");
        assert_eq!(
            link(&descriptors, found(0xFFFF_FFFF, 0xFFFF_FFF0)),
            Ok(vec![HOST.tls_dynamic, 0xFFFF_FFFF_FFFF_FFF0])
        );
        for beyond in [found(1 << 32, 0), found(1, 1 << 32)] {
            let error = link(&descriptors, beyond).unwrap_err();
            assert!(
                matches!(&error, Error::UnusableBinding { symbol, .. } if symbol == "theirs"),
                "{error:?}"
            );
            says(&error, &["32 bits"]);
        }
        for module in [&traditional, &descriptors] {
            let error = link(module, Some(Binding::Address(0x4000))).unwrap_err();
            says(&error, &["`theirs` is thread-local in the module and not where it is defined"]);
        }
    }
}

#[test]
fn an_ordinary_import_is_bound_to_no_thread_local_variable() {
    for machine in BOTH {
        let module = compile(machine, "int e(void); int f(void) { return e(); }", &[]);
        let image = Image::parse(&module, machine, 4096, MAX_SPAN).unwrap();
        let variable = ThreadLocal { module: 9, offset: 8, from_thread_pointer: Some(8) };
        let mut memory = vec![0; image.span() as usize];
        let bindings = [Some(Binding::ThreadLocal(variable))];
        let error = image.link(0, &mut memory, &HOST, &bindings).unwrap_err();
        assert!(matches!(&error, Error::UnusableBinding { symbol, .. } if symbol == "e"), "{error:?}");
        assert!(memory.iter().all(|byte| *byte == 0), "nothing was written");
    }
}

#[test]
fn a_module_number_is_needed_for_a_block() {
    for machine in BOTH {
        let module = compile(machine, SOURCE, &[]);
        let image = Image::parse(&module, machine, 4096, MAX_SPAN).unwrap();
        let bindings = bindings(&image, resolve);
        let mut memory = vec![0; image.span() as usize];
        for given in [0, 1 << 32, u64::MAX] {
            let host = Host { tls_module: given, ..HOST };
            let error = image.link(BASES[0], &mut memory, &host, &bindings).unwrap_err();
            assert_eq!(error, Error::WrongThreadModule { given });
            says(&error, &["2^32 - 1"]);
        }
        for tls_module in [1, u32::MAX.into()] {
            assert_eq!(image.link(BASES[0], &mut memory, &Host { tls_module, ..HOST }, &bindings), Ok(()));
        }
    }
}

#[test]
fn damaged_headers_of_blocks() {
    for machine in BOTH {
        let good = compile(machine, SOURCE, &[]);
        let header = |field: usize, value: u64| {
            let mut module = good.clone();
            let at = program_headers(&module, 7)[0];
            put64(&mut module, at + field, value);
            refusal(&module, machine)
        };
        malformed(&header(40, 1), "more bytes in the file than in memory");
        malformed(&header(48, 3), "no power of two");
        malformed(&header(16, 0x7FFF_0000_0000), "outside the segments");
        malformed(&header(16, u64::MAX), "outside the segments");
        malformed(&header(32, u64::MAX), "more bytes in the file than in memory");
        assert_eq!(header(40, u64::MAX), Error::TooLarge { needed: u64::MAX, limit: MAX_SPAN });
        assert_eq!(header(48, 1 << 40), Error::TooLarge { needed: 1 << 40, limit: MAX_SPAN });
        // All of its variables are gone with the header, or behind its end.
        let error = header(0, 6);
        says(&error, &["no thread-local storage (PT_TLS)"]);
        let size = u64_at(&good, program_headers(&good, 7)[0] + 32);
        assert!(matches!(header(40, size), Error::BadSymbol { .. }), "`zeros` ends outside");
    }
}

/// The numbers of the types that the dialects need: DTPMOD and TLSDESC.
fn dialect_types(machine: Machine) -> [u32; 2] {
    match machine {
        Machine::X86_64 => [16, 36],
        Machine::Aarch64 => [1028, 1031],
    }
}

#[test]
fn damaged_uses() {
    for machine in BOTH {
        for (dialect, r_type) in dialects(machine).into_iter().zip(dialect_types(machine)) {
            let good = compile(machine, SOURCE, &[dialect]);
            let change = |at: usize, value: &[u8]| {
                let mut module = good.clone();
                put(&mut module, at, value);
                refusal(&module, machine)
            };
            let counter = symbol(&good, "counter");
            says(&change(counter + 8, &[0xFF; 8]), &["`counter`", "outside"]);
            says(&change(counter + 16, &[0xFF; 8]), &["`counter`", "ends outside"]);
            let error = change(counter + 4, &[0x11]);
            says(&error, &["`counter`", "is not thread-local, and is used as if it were"]);
            // The reverse: there is a pointer to it.
            says(&change(symbol(&good, "plain") + 4, &[0x16]), &["`plain`", "thread-local"]);

            let at = relocation(&good, r_type);
            let place = u64_at(&good, at);
            malformed(&change(at, &(place + 4).to_le_bytes()), "not aligned");
            malformed(&change(at, &[0xFF; 8]), "outside the segments");
            // Room for one word, where a descriptor needs two.
            let data = *program_headers(&good, 1).last().unwrap();
            let last = (u64_at(&good, data + 16) + u64_at(&good, data + 40) - 8) & !7;
            let mut module = good.clone();
            put64(&mut module, at, last);
            match dialect == dialects(machine)[1] {
                true => malformed(&refusal(&module, machine), "outside the segments"),
                false => assert!(Image::parse(&module, machine, 4096, MAX_SPAN).is_ok()),
            }
        }
    }
}

#[test]
fn descriptors_of_the_module_itself_beyond_32_bits() {
    let source = "static __thread int mine = 3; int *f(void) { return &mine; }";
    for machine in BOTH {
        let good = compile(machine, source, &[dialects(machine)[1]]);
        let addend = relocation(&good, dialect_types(machine)[1]) + 16;
        for (value, fits) in [(u32::MAX as u64, true), (1 << 32, false), (u64::MAX, false)] {
            let mut module = good.clone();
            put64(&mut module, addend, value);
            match fits {
                true => assert!(Image::parse(&module, machine, 4096, MAX_SPAN).is_ok()),
                false => malformed(&refusal(&module, machine), "beyond 32 bits"),
            }
        }
    }
}

#[test]
fn what_gnu_ld_resolves_as_if_it_were_the_program() {
    // On x86-64 it refuses.
    let machine = Machine::Aarch64;
    let source = "static __thread long one = 1; __thread long two; extern __thread long theirs;
        long f(void) { return one++ + two++; }
        #ifdef MIXED
        long g(void) { return theirs; }
        #endif
        ";
    let source = source.replace("\n        #", "\n#");
    for flags in [
        &["-O0"][..],
        &["-O2"],
        &["-O2", "-fpie"],
        &["-O2", "-fno-pie", "-ftls-model=local-exec"],
        &["-O2", "-DMIXED"],
    ] {
        let module = compile_as(machine, &source, &[&["-shared", "-nostdlib"], flags].concat());
        says(&refusal(&module, machine), &["local-exec", "-fPIC"]);
    }
    // Each other way of reaching them, and a thread pointer that is read for those of others.
    for flags in [
        &["-O0", "-fPIC"][..],
        &["-O2", "-fPIC", "-mtls-dialect=trad"],
        &["-O2", "-fPIC", "-mtls-dialect=desc"],
        &["-O2", "-fPIC", "-ftls-model=local-dynamic", "-mtls-dialect=trad"],
        &["-O2", "-fPIC", "-ftls-model=local-dynamic"],
    ] {
        for mixed in ["-UMIXED", "-DMIXED"] {
            let flags = [&["-shared", "-nostdlib", mixed], flags].concat();
            let module = compile_as(machine, &source, &flags);
            assert!(Image::parse(&module, machine, 4096, MAX_SPAN).is_ok(), "{flags:?}");
        }
    }
    let others = "static __thread long one = 1; long *p(void); extern __thread long theirs;
        __attribute__((tls_model(\"initial-exec\"))) extern __thread long fixed; long g(void) { return theirs + fixed; }
        long *address(void) { return &one; }";
    let module = compile_as(machine, others, &["-shared", "-nostdlib", "-O2", "-fPIC"]);
    assert!(Image::parse(&module, machine, 4096, MAX_SPAN).is_ok());
}
