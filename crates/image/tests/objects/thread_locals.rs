//! Thread-local variables: the block, and what the global offset table has for each model.

use crate::common::{BOTH, HOST, compile_as};
use crate::{BASE, Linked, link_at, object, parse};
use midflight_image::{Binding, Error, ExportKind, ImportKind, Machine, Protection, ThreadLocal};

const SOURCE: &str =
    "__thread long initialised = 5; __thread char zero[40]; __thread long more[3] = {1, 2, 3};
    static __thread long own = 9; extern __thread long theirs; long *p = 0; __thread long **pointer = &p;
    long f(void) { return initialised + zero[3] + more[1] + theirs + own++; }";

/// The dialects of a machine, and whether it uses descriptors.
fn dialects(machine: Machine) -> [(&'static str, bool); 2] {
    match machine {
        Machine::X86_64 => [("-mtls-dialect=gnu", false), ("-mtls-dialect=gnu2", true)],
        Machine::Aarch64 => [("-mtls-dialect=trad", false), ("-mtls-dialect=desc", true)],
    }
}

fn pairs(linked: &Linked<'_>) -> Vec<(u64, u64)> {
    let words: Vec<u64> =
        linked.memory.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
    words.windows(2).map(|pair| (pair[0], pair[1])).collect()
}

#[test]
fn the_block() {
    for machine in BOTH {
        let files = [
            object(machine, SOURCE),
            object(machine, "__thread __attribute__((aligned(64))) char wide[3] = {7};"),
        ];
        let linked = link_at(parse(machine, &files).unwrap(), BASE, |_| Some(BASE));
        let block = linked.image.thread_locals().unwrap();
        assert_eq!((block.align, block.skew, block.offset % 64), (64, 0, 0));
        assert!(
            block.initialised < block.size
                && linked.protection(BASE + block.offset) == Some(Protection::Read)
        );
        let template = &linked.memory[block.offset as usize..][..block.initialised as usize];
        for (name, size, expected) in
            [("initialised", 8, Some(5)), ("zero", 40, None), ("more", 24, Some(1)), ("wide", 3, Some(7))]
        {
            let export = linked.export(name);
            assert_eq!((export.kind, export.size), (ExportKind::ThreadLocal, size), "{name}");
            let at = export.offset as usize;
            match expected {
                Some(expected) => assert_eq!(template[at], expected, "{name}"),
                None => assert!(at >= template.len() && at as u64 + size <= block.size),
            }
        }
        assert_eq!(linked.export("wide").offset % 64, 0);
        // Pointers in the template are relocated there.
        let at = linked.export("pointer").offset as usize;
        assert_eq!(crate::u64_at(template, at), linked.address("p"));
    }
}

#[test]
fn entries_of_each_model() {
    for machine in BOTH {
        for (dialect, descriptors) in dialects(machine) {
            let files = [compile_as(machine, SOURCE, &["-c", "-O1", "-fPIC", dialect])];
            let image = parse(machine, &files).unwrap();
            let theirs = image.imports().iter().find(|import| import.name == "theirs").unwrap();
            assert_eq!(theirs.kind, ImportKind::ThreadLocal);
            for fixed in [None, Some(-0x40)] {
                let bindings: Vec<_> = image
                    .imports()
                    .iter()
                    .map(|import| match import.kind {
                        ImportKind::ThreadLocal => Some(Binding::ThreadLocal(ThreadLocal {
                            module: 9,
                            offset: 0x28,
                            from_thread_pointer: fixed,
                        })),
                        _ => Some(Binding::Address(BASE)),
                    })
                    .collect();
                let mut memory = vec![0; image.span() as usize];
                image.link(BASE, &mut memory, &HOST, &bindings).unwrap();
                let linked = Linked { image: parse(machine, &files).unwrap(), memory, base: BASE };
                let initialised = linked.export("initialised").offset;
                let found = pairs(&linked);
                let expected = match (descriptors, fixed) {
                    (false, _) => [(7, initialised), (9, 0x28)],
                    (true, None) => {
                        [(HOST.tls_dynamic, 7 << 32 | initialised), (HOST.tls_dynamic, 9 << 32 | 0x28)]
                    }
                    (true, Some(fixed)) => {
                        [(HOST.tls_dynamic, 7 << 32 | initialised), (HOST.tls_static, fixed as u64)]
                    }
                };
                for pair in expected {
                    assert!(found.contains(&pair), "{machine} {dialect} {fixed:?} {pair:x?}");
                }
            }
        }
    }
}

#[test]
fn local_dynamic_has_one_entry() {
    let source = "static __thread int a = 1, b = 2, c; int f(void) { return a++ + b++ + c++; }";
    let files = [compile_as(Machine::X86_64, source, &["-c", "-O2", "-fPIC"])];
    let linked = link_at(parse(Machine::X86_64, &files).unwrap(), BASE, |_| Some(BASE));
    assert!(pairs(&linked).contains(&(7, 0)), "the start of the block");
}

#[test]
fn initial_exec_of_others_needs_a_fixed_place() {
    let source = "extern __thread int theirs; int f(void) { return theirs; }";
    for machine in BOTH {
        let files = [compile_as(machine, source, &["-c", "-fPIC", "-ftls-model=initial-exec"])];
        let linked = link_at(parse(machine, &files).unwrap(), BASE, |_| Some(0x30));
        assert!(linked.memory.chunks(8).any(|word| word == 0x30u64.to_le_bytes()));
        let image = parse(machine, &files).unwrap();
        let variable = ThreadLocal { module: 9, offset: 0, from_thread_pointer: None };
        let mut memory = vec![0; image.span() as usize];
        let error =
            image.link(BASE, &mut memory, &HOST, &[Some(Binding::ThreadLocal(variable))]).unwrap_err();
        assert!(matches!(&error, Error::UnusableBinding { symbol, .. } if symbol == "theirs"), "{error}");
    }
}

#[test]
fn what_only_programs_can_do_with_their_own() {
    let source = "__thread int mine = 3; int f(void) { return mine; }";
    for machine in BOTH {
        // Local exec, and initial exec of a variable that another file of the module has.
        let local = [compile_as(machine, source, &["-c", "-fno-pic", "-fno-section-anchors"])];
        let uses = "extern __thread int mine; int g(void) { return mine; }";
        let initial = [
            object(machine, source),
            compile_as(machine, uses, &["-c", "-fPIC", "-ftls-model=initial-exec"]),
        ];
        for files in [&local[..], &initial] {
            let text = parse(machine, files).unwrap_err().to_string();
            assert!(text.contains("`mine`") && text.contains("-fPIC"), "{text}");
        }
    }
}

#[test]
fn a_variable_is_thread_local_in_all_files_or_in_none() {
    for machine in BOTH {
        let files = [
            object(machine, "int x = 1;"),
            object(machine, "extern __thread int x; int f(void) { return x; }"),
        ];
        let text = parse(machine, &files).unwrap_err().to_string();
        assert!(text.contains("1.o: symbol `x`") && text.contains("declare it alike"), "{text}");
        let files = [object(machine, "__thread int x = 1;"), object(machine, "extern int x; int *p = &x;")];
        let text = parse(machine, &files).unwrap_err().to_string();
        assert!(text.contains("1.o: symbol `x`") && text.contains("declare it alike"), "{text}");
    }
}

#[test]
fn the_start_of_the_block_by_a_descriptor() {
    // Several of a file's own variables are found from one place, with each dialect of each
    // compiler.
    let tls = ".section .tdata,\"awT\",%progbits\n.balign 8\none: .8byte 5\ntwo: .8byte 6\n.text\n.globl f\n";
    for (machine, code) in [
        (
            Machine::X86_64,
            "f: leaq _TLS_MODULE_BASE_@TLSDESC(%rip), %rax\ncall *_TLS_MODULE_BASE_@TLSCALL(%rax)
            movq two@DTPOFF(%rax), %rax\nret",
        ),
        (
            Machine::Aarch64,
            "f: adrp x0, :tlsdesc:_TLS_MODULE_BASE_\nldr x1, [x0, :tlsdesc_lo12:_TLS_MODULE_BASE_]
            add x0, x0, :tlsdesc_lo12:_TLS_MODULE_BASE_\n.tlsdesccall _TLS_MODULE_BASE_\nblr x1
            add x0, x0, :dtprel_lo12:two\nret",
        ),
    ] {
        for hidden in ["", ".hidden _TLS_MODULE_BASE_\n"] {
            // A second file with a larger alignment moves the variables, and not the start.
            let files = [
                object(machine, "__thread __attribute__((aligned(64))) char wide[64] = {7};"),
                crate::assembly(machine, &format!("{tls}{hidden}{code}")),
            ];
            let linked = link_at(parse(machine, &files).unwrap(), BASE, |_| None);
            assert!(pairs(&linked).contains(&(HOST.tls_dynamic, 7 << 32)), "{machine}");
            assert!(linked.image.imports().is_empty());
        }
    }
    let source = "static __thread int a = 1, b = 2; int f(void) { return a++ + b++; }";
    let files = [compile_as(Machine::X86_64, source, &["-c", "-O2", "-fPIC", "-mtls-dialect=gnu2"])];
    let linked = link_at(parse(Machine::X86_64, &files).unwrap(), BASE, |_| None);
    assert!(pairs(&linked).contains(&(HOST.tls_dynamic, 7 << 32)), "as gcc does");
}

#[test]
fn common_blocks_of_each_thread() {
    for machine in BOTH {
        let common = |size: u32, align: u32| {
            format!(".globl level\n.type level, %object\n.tls_common level, {size}, {align}\n")
        };
        let source = "extern __thread int level[4]; __thread long own = 3; __thread int zero;
            int f(void) { return level[1]++; } long g(void) { return own + zero; }";
        let files = [
            crate::assembly(machine, &common(8, 4)),
            object(machine, source),
            crate::assembly(machine, &common(16, 32)),
        ];
        let linked = link_at(parse(machine, &files).unwrap(), BASE, |_| Some(BASE));
        let (block, level) = (linked.image.thread_locals().unwrap(), linked.export("level"));
        assert_eq!((level.kind, level.size), (ExportKind::ThreadLocal, 16), "{machine}");
        assert_eq!((level.offset % 32, block.align), (0, 32), "{machine}");
        assert!(level.offset >= block.initialised && level.offset + 16 <= block.size, "begins as zero");
        for other in ["own", "zero"].map(|name| linked.export(name)) {
            assert!(other.offset + other.size <= level.offset || other.offset >= level.offset + 16);
        }
        // A definition with a value comes first, whatever the order.
        let strong = object(machine, "__thread int level[4] = {9};");
        for files in [[strong.clone(), files[0].clone()], [files[0].clone(), strong.clone()]] {
            let linked = link_at(parse(machine, &files).unwrap(), BASE, |_| Some(BASE));
            let level = linked.export("level").offset;
            assert!(level < linked.image.thread_locals().unwrap().initialised, "{machine}");
        }
        // Of each thread here, and of all of them there.
        let files = [files[0].clone(), crate::assembly(machine, ".comm level, 8, 4")];
        let text = parse(machine, &files).unwrap_err().to_string();
        assert!(text.contains("`level`") && text.contains("alike") && !text.contains("corrupt"), "{text}");
    }
}
