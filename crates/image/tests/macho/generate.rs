//! Assembly of any shape, made of numbers.

use std::fmt::Write;

/// A sequence of numbers that is the same in each run.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    pub(crate) fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }
}

/// What the libraries that are linked with define.
pub(crate) const LIBRARY_ONE: &str = "
.globl _one_a, _one_b, _one_data, _shared_weak
.weak_definition _shared_weak
_one_a: ret
_one_b: ret
_shared_weak: ret
.data
_one_data: .quad 1, 2
.subsections_via_symbols
";
pub(crate) const LIBRARY_TWO: &str = "
.globl _two_a, _two_data
_two_a: ret
.data
.p2align 3
_two_data: .quad 1
.subsections_via_symbols
";
const FROM_LIBRARIES: &[&str] = &["_one_a", "_one_b", "_one_data", "_shared_weak", "_two_a", "_two_data"];

/// Addends: those that chained fix-ups have room for in a place, in an import of 32 bits, and in
/// one of 64. Of most files none is beyond the first.
const ADDENDS: [&[i64]; 3] =
    [&[0, 0, 1, 8, 255], &[0, 8, 256, -16, 0x7FFF_FFFF], &[0, -1, 1 << 33, 300, -0x8000_0001]];

/// A module: functions, variables and pointers to them and to what it imports.
pub(crate) fn module(seed: u64) -> String {
    let mut numbers = Numbers::new(seed);
    let mut text = String::new();
    let functions = 1 + numbers.below(12);
    let variables = numbers.below(10);
    let imports = numbers.below(8);
    let addends = ADDENDS[if seed % 7 == 3 { 2 } else { usize::from(seed % 5 == 2) }];
    let n = &mut numbers;
    let mut everything: Vec<String> = Vec::new();
    for index in 0..functions {
        let name = if n.one_in(9) { format!("bare{index}") } else { format!("_f{index}") };
        // At the start of each section there must be a symbol that is nobody else's.
        let _ = writeln!(text, ".text\n.p2align 2\n{}{name}:", visibility(n, &name));
        for _ in 0..n.below(4) {
            let _ = match n.below(3) {
                0 => writeln!(text, "bl _f_import{}", n.below(imports + 1)),
                1 => writeln!(
                    text,
                    "adrp x0, _v_import{0}@GOTPAGE\nldr x0, [x0, _v_import{0}@GOTPAGEOFF]",
                    n.below(imports + 1)
                ),
                _ => writeln!(text, "bl {}", FROM_LIBRARIES[n.below(6) as usize]),
            };
        }
        text.push_str("ret\n");
        everything.push(name);
    }
    for index in 0..imports {
        everything.push(format!("_v_import{index}"));
        if n.one_in(3) {
            let _ = writeln!(text, ".weak_reference _v_import{index}");
            everything.push(format!("_v_import{index}"));
        }
    }
    everything.extend(FROM_LIBRARIES.iter().map(|name| name.to_string()));
    for index in 0..variables {
        let (section, name) = (section(n), format!("_v{index}"));
        let _ = writeln!(text, ".section {section}\n.p2align 3\n{}{name}:", visibility(n, &name));
        everything.push(name);
        for _ in 0..n.below(20) {
            let _ = match n.below(4) {
                0 => writeln!(text, ".quad {}", n.below(1 << 40)),
                // The address of what others define, or of our own.
                _ => {
                    let (name, addend) = (
                        &everything[n.below(everything.len() as u64) as usize],
                        n.below(addends.len() as u64),
                    );
                    let own = ["_f", "_v", "bare"].iter().any(|start| name.starts_with(start))
                        && !name.contains("import");
                    writeln!(
                        text,
                        ".quad {name} + {}",
                        if own { 4 * n.below(3) as i64 } else { addends[addend as usize] }
                    )
                }
            };
        }
        // Distances that only some steps of a chain can go.
        if n.one_in(5) {
            let _ = writeln!(text, ".space {}", 8 * n.below(5000));
        }
        text.push_str(".quad 7\n");
    }
    if n.one_in(3) {
        let _ = writeln!(text, ".globl _zeros\n.zerofill __DATA,__bss,_zeros,{},4", 1 + n.below(100_000));
    }
    if n.one_in(3) {
        text.push_str(".globl _absolute\n_absolute = 0x12345\n");
    }
    calls(&mut text, n, functions, seed);
    if n.one_in(3) {
        thread_locals(&mut text, n);
    }
    if n.one_in(4) {
        note(&mut text, seed);
    }
    text.push_str(".subsections_via_symbols\n");
    text
}

fn visibility(n: &mut Numbers, name: &str) -> String {
    match n.below(6) {
        0 => String::new(),
        1 => format!(".private_extern {name}\n"),
        2 => format!(".globl {name}\n.weak_definition {name}\n"),
        _ => format!(".globl {name}\n"),
    }
}

fn section(n: &mut Numbers) -> String {
    match n.below(6) {
        0 => "__DATA,__const".into(),
        1 => "__DATA_CONST,__mine".into(),
        2 => format!("__MORE{},__data", n.below(3)),
        _ => "__DATA,__data".into(),
    }
}

fn calls(text: &mut String, n: &mut Numbers, functions: u64, seed: u64) {
    for (section, kind) in [("__mod_init_func", "mod_init_funcs"), ("__mod_term_func", "mod_term_funcs")] {
        if n.one_in(2) {
            // At functions of their own, whose names others cannot take.
            for index in 0..3 {
                let _ = writeln!(text, ".text\n.p2align 2\n_own{seed}_{section}{index}: ret");
            }
            let _ = writeln!(text, ".section __DATA,{section},{kind}\n.p2align 3");
            for _ in 0..1 + n.below(functions) {
                let _ = writeln!(text, ".quad _own{seed}_{section}{}", n.below(3));
            }
        }
    }
}

fn thread_locals(text: &mut String, n: &mut Numbers) {
    let (filled, empty) = (n.below(4), n.below(4));
    for index in 0..filled {
        let align = n.below(5);
        let _ = writeln!(text, ".section __DATA,__thread_data,thread_local_regular\n.p2align {align}");
        let _ = writeln!(text, "_t{index}$tlv$init: .long {}\n.space {}", n.below(1000), n.below(40));
    }
    for index in 0..empty {
        let _ = writeln!(text, ".tbss _z{index}$tlv$init, {}, {}", 1 + n.below(50), n.below(5));
    }
    text.push_str(".section __DATA,__thread_vars,thread_local_variables\n.p2align 3\n");
    for name in (0..filled).map(|i| format!("_t{i}")).chain((0..empty).map(|i| format!("_z{i}"))) {
        let _ = writeln!(text, ".globl {name}\n{name}: .quad __tlv_bootstrap, 0, {name}$tlv$init");
    }
}

/// As `include/runtime_module.h` writes it.
fn note(text: &mut String, seed: u64) {
    let _ = writeln!(
        text,
        ".section __TEXT,__midflight,regular,no_dead_strip\n.balign 4\n.long 772f - 771f, 774f - 773f, 1\n\
         771: .asciz \"midflight\"\n772: .balign 4\n773: .asciz \"module{seed}\"\n774: .balign 4"
    );
}
