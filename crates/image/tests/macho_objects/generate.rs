//! Assembly with every type of relocation, put together at random, the same each time.

use std::fmt::Write as _;

/// Numbers that look random (xorshift).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    fn pick<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len() as u64) as usize]
    }
}

/// Defined in the file; each section has some.
const FUNCTIONS: [&str; 5] = ["_f0", "_f1", "_hidden_f", "_weak_f", "_init"];
const VARIABLES: [&str; 9] =
    ["_d0", "_d1", "_private_d", "_weak_d", "_c0", "_zero", "_common", "_data_const", "_local_d"];
const ELSEWHERE: [&str; 4] = ["_far", "_near", "_host_x", "_maybe"];
const THREAD: [&str; 3] = ["_t0", "_t1", "_t2"];

fn any<'a>(dice: &mut Dice) -> &'a str {
    match dice.below(4) {
        0 => dice.pick(&FUNCTIONS),
        1 => dice.pick(&ELSEWHERE),
        _ => dice.pick(&VARIABLES),
    }
}

/// The source of one file, as for lld or with what only Apple's linker takes too. All of its
/// variables are aligned to 16, so that every access may be of any size.
pub(crate) fn source(seed: u64, lld: bool) -> String {
    let mut dice = Dice::new(seed);
    let mut text =
        String::from(".weak_reference _maybe\n.comm _common, 100, 4\n.zerofill __DATA,__bss,_zero,64,4\n");
    for function in FUNCTIONS {
        let _ = writeln!(text, ".text\n.p2align 2\n.globl {function}");
        match function {
            "_hidden_f" => text.push_str(".private_extern _hidden_f\n"),
            "_weak_f" => text.push_str(".weak_definition _weak_f\n"),
            _ => {}
        }
        let _ = writeln!(text, "{function}:");
        for _ in 0..2 + dice.below(9) {
            instruction(&mut dice, &mut text);
        }
        text.push_str("ret\n");
    }
    let places = [
        (".data", "_d0"),
        (".data", "_d1"),
        (".data", "_private_d"),
        (".data", "_weak_d"),
        (".data", "_local_d"),
        (".section __TEXT,__const", "_c0"),
        (".section __DATA,__const", "_data_const"),
    ];
    for (section, name) in places {
        let _ = writeln!(text, "{section}\n.p2align 4");
        match name {
            "_private_d" => text.push_str(".globl _private_d\n.private_extern _private_d\n"),
            "_weak_d" => text.push_str(".globl _weak_d\n.weak_definition _weak_d\n"),
            "_local_d" => {}
            _ => {
                let _ = writeln!(text, ".globl {name}");
            }
        }
        let _ = writeln!(text, "{name}:");
        for _ in 0..1 + dice.below(6) {
            data(&mut dice, &mut text, lld);
        }
    }
    // Two in the initialised part, one in the other.
    let _ = writeln!(
        text,
        ".section __DATA,__thread_data,thread_local_regular\n.p2align {}\n_t0$tlv$init: .quad 1\n.zero {}\n_t1$tlv$init: \
         .quad 2\n.tbss _t2$tlv$init, {}, {}\n.section __DATA,__thread_vars,thread_local_variables\n.globl _t0\n.globl _t2",
        3 + dice.below(3),
        dice.below(30),
        1 + dice.below(40),
        dice.below(5),
    );
    for name in THREAD {
        let _ = writeln!(text, "{name}: .quad __tlv_bootstrap\n.quad 0\n.quad {name}$tlv$init");
    }
    text.push_str(".section __DATA,__mod_init_func,mod_init_funcs\n.p2align 3\n_inits: .quad _init\n.subsections_via_symbols\n");
    text
}

/// One reference of code, or a few that belong together.
fn instruction(dice: &mut Dice, text: &mut String) {
    let _ = match dice.below(8) {
        0 => writeln!(text, "{} {}", dice.pick(&["bl", "b"]), dice.pick(&FUNCTIONS)),
        1 => writeln!(text, "bl {}+{}", dice.pick(&["_f0", "_init"]), 4 * dice.below(3)),
        2 => writeln!(text, "bl {}", dice.pick(&ELSEWHERE)),
        3 => {
            let (name, bits) = (dice.pick(&VARIABLES), dice.below(22));
            let at = dice.below(1 << bits) & !15;
            let access = dice.pick(&[
                "add x0, x0,",
                "ldrb w1, [x0,",
                "strh w1, [x0,",
                "ldrsw x1, [x0,",
                "str w1, [x0,",
                "ldr x1, [x0,",
                "ldr s1, [x0,",
                "str d1, [x0,",
                "ldr q1, [x0,",
                "prfm pldl1keep, [x0,",
            ]);
            let end = if access.contains('[') { "]" } else { "" };
            // Not below 0, for which this clang writes garbage.
            writeln!(text, "adrp x0, {name}@PAGE+{at}\n{access} {name}@PAGEOFF+{at}{end}")
        }
        4 | 5 => {
            let name = any(dice);
            writeln!(text, "adrp x2, {name}@GOTPAGE\nldr x2, [x2, {name}@GOTPAGEOFF]")
        }
        6 => {
            let name = dice.pick(&THREAD);
            writeln!(text, "adrp x3, {name}@TLVPPAGE\nldr x3, [x3, {name}@TLVPPAGEOFF]")
        }
        _ => writeln!(text, "nop"),
    };
}

/// One or a few words.
fn data(dice: &mut Dice, text: &mut String, lld: bool) {
    let bits = dice.below(31);
    let addend = dice.below(1 << bits) as i64 * if dice.below(2) == 0 { 1 } else { -1 };
    let name = any(dice);
    let here = dice.pick(&["_d0", "_f1", "_local_d", "_c0"]);
    let other = dice.pick(&["_d1", "_f0", "_private_d", "_data_const"]);
    let _ = match dice.below(if lld { 6 } else { 7 }) {
        0 | 1 => writeln!(text, ".quad {name}"),
        2 => writeln!(text, ".quad {name} + {addend}"),
        3 => writeln!(text, ".quad {here} - {other} + {addend}"),
        4 => writeln!(text, ".long {here} - {other} + {}\n.long 7", addend >> 8),
        5 => writeln!(text, ".long {name}@GOT - .\n.long 7"),
        _ => writeln!(text, ".quad {name}@GOT"),
    };
}
