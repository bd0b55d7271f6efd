//! What a module defines and a process has once: the process's, if it has it.

mod common;

use common::*;
use midflight_image::{Image, ImportKind};

/// Pointers to definitions of each kind, in the order of [`NAMES`].
const SOURCE: &str = r#"
    #define WEAK __attribute__((weak))
    WEAK int variable = 1, zero;
    __asm__(".pushsection .data\n.globl unique\n.type unique, %gnu_unique_object\n.size unique, 8\n"
            "unique: .8byte 7\n.popsection");
    extern long unique;
    WEAK __thread int of_thread = 3;
    WEAK const int constant = 4;
    WEAK void *const relocated = (void *)&constant;
    WEAK void *_ZTV1C[2] = {0, 0};
    WEAK __attribute__((visibility("hidden"))) int hidden = 5;
    int strong = 6;
    WEAK int function(void) { return 1; }
    void *malloc(unsigned long size) { return (void *)size; }
    static void *volatile sink;
    void use(void) {
        sink = &variable; sink = &zero; sink = &unique; sink = &of_thread; sink = (void *)&constant;
        sink = (void *)&relocated; sink = _ZTV1C; sink = &hidden; sink = &strong; sink = function; sink = malloc;
    }
    void *pointers[4] = {&variable, &zero, &unique, malloc};
"#;

#[test]
fn variables_that_may_be_repeated_and_allocators_are_shared_and_nothing_else() {
    for machine in BOTH {
        let shared = compile(machine, SOURCE, &[]);
        let loose = compile(machine, SOURCE, &["-Wl,-z,norelro", "-Wl,--hash-style=sysv"]);
        let object = compile_with(machine, SOURCE, &["-fPIC", "-c"]);
        // Without RELRO nothing tells a constant that is relocated from a variable.
        for (module, relro) in [(&shared, true), (&loose, false), (&object, true)] {
            let image = Image::parse(module, machine, 4096, MAX_SPAN).unwrap();
            let mut own: Vec<_> =
                image.imports().iter().filter_map(|i| Some((i.name, i.kind, i.own?))).collect();
            own.retain(|(name, ..)| relro || *name != "relocated");
            own.sort_by_key(|(name, ..)| *name);
            let expected = [
                ("malloc", ImportKind::Function),
                ("unique", ImportKind::Data),
                ("variable", ImportKind::Data),
                ("zero", ImportKind::Data),
            ];
            assert_eq!(
                own.iter().map(|(name, kind, _)| (*name, *kind)).collect::<Vec<_>>(),
                expected,
                "{machine}"
            );
            let sizes: Vec<_> = own[1..].iter().map(|(.., size)| *size).collect();
            assert_eq!(sizes, [8, 4, 4], "{machine}");
            // The module has them still.
            let base = 0x7F00_0000_0000;
            let here = ["variable", "zero", "unique", "malloc"]
                .map(|name| base + image.export(name).unwrap().offset);
            let there = |name| 0x7FFF_0000_0000 + name as u64;
            let pointers = image.export("pointers").unwrap().offset as usize;
            for (found, given) in [(false, here), (true, [0x10, 0x20, 0x30, 0x40].map(there))] {
                let mut memory = vec![0; image.span() as usize];
                let resolve = |import: &midflight_image::Import<'_>| {
                    let names = ["variable", "zero", "unique", "malloc"];
                    match names.iter().position(|name| *name == import.name) {
                        Some(at) => found.then(|| given[at]),
                        None => import.own.is_none().then_some(1),
                    }
                };
                link(&image, base, &mut memory, resolve).unwrap();
                let linked = [0, 1, 2, 3].map(|at| u64_at(&memory, pointers + 8 * at));
                assert_eq!(linked, given, "{machine} {found}");
            }
        }
    }
}
