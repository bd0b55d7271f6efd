//! How code reaches what it names: branches, stubs, the global offset table, and the window that
//! code without any leaves.

use crate::common::{BOTH, HOST, MAX_SPAN, bindings, compile_as, put, u32_at};
use crate::{BASE, Linked, assembly, host, link, link_at, object, parse};
use midflight_image::{Error, Image, ImportKind, Indirect, Machine, Protection, Window};

const FAR: u64 = 0x1234_5678_9ABC;
const LOW: u64 = 0x1000_0000;

#[test]
fn near_functions_are_called_directly_and_far_ones_through_stubs() {
    let source = "extern int near(int), far(int); int f(int x) { return near(x) + far(x) + 1; }
        int tail(int x) { return far(x); }";
    for machine in BOTH {
        let files = [compile_as(machine, source, &["-c", "-O2", "-fPIC"])];
        let linked = link(machine, &files);
        let calls = [0, 1].map(|n| linked.callee(machine, "f", n));
        let near = BASE + 0x10_0000;
        assert!(calls.contains(&near), "{machine} {calls:x?}");
        let stub = calls.into_iter().find(|call| *call != near).unwrap();
        assert_eq!(linked.through_stub(machine, stub), Some(FAR));
        assert_eq!(linked.protection(stub), Some(Protection::ReadExecute));
        assert_eq!(linked.callee(machine, "tail", 0), stub, "one for all calls");
    }
}

#[test]
fn the_edge_of_reach() {
    for machine in BOTH {
        let (source, reach, step) = match machine {
            Machine::X86_64 => {
                (".text\n.globl f\n.type f, %function\n.size f, 5\nf: call far@PLT", 1u64 << 31, 1)
            }
            Machine::Aarch64 => (".text\n.globl f\n.type f, %function\n.size f, 4\nf: bl far", 1 << 27, 4),
        };
        let files = [assembly(machine, source)];
        // Counted from the call, or from behind it.
        let from = BASE
            + parse(machine, &files).unwrap().export("f").unwrap().offset
            + if step == 1 { 5 } else { 0 };
        for (target, direct) in [
            (from + reach - step, true),
            (from + reach, false),
            (from - reach, true),
            (from - reach - step, false),
        ] {
            let linked = link_at(parse(machine, &files).unwrap(), BASE, |_| Some(target));
            let callee = linked.callee(machine, "f", 0);
            assert_eq!(callee == target, direct, "{machine} {target:#x}");
            assert!(direct || linked.through_stub(machine, callee) == Some(target));
        }
    }
}

#[test]
fn addresses_come_from_the_table() {
    let source =
        "extern int far(int), host_x; int (*f(void))(int) { return far; } int *g(void) { return &host_x; }
        __attribute__((visibility(\"hidden\"))) int own = 3; int h(void) { return own; }";
    for machine in BOTH {
        let files = [object(machine, source)];
        let linked = link(machine, &files);
        // Both addresses are in the part that is read-only once linked, and nowhere else.
        let words = |wanted: u64| linked.memory.chunks(8).position(|word| word == wanted.to_le_bytes());
        for wanted in [FAR, 0x5555_0000_1000] {
            let at = BASE + 8 * words(wanted).expect("an entry") as u64;
            assert_eq!(linked.protection(at), Some(Protection::Read));
        }
        assert_eq!(
            words(
                BASE + linked.image.symbols().symbols.iter().find(|symbol| !symbol.function).unwrap().offset
            ),
            None
        );
    }
}

/// x86-64 code without the table: everything within the low 2 GiB.
#[test]
fn absolute_32_bit_addresses_need_low_memory() {
    let source = "int x[4]; int *f(void) { return x + 1; } int g(int i) { return x[i]; }
        int (*h(void))(int) { return g; }";
    let file = compile_as(Machine::X86_64, source, &["-c", "-O2", "-fno-pic", "-fno-pie"]);
    let image = Image::parse(&file, Machine::X86_64, 4096, MAX_SPAN).unwrap();
    let window = image.window(&[]).unwrap();
    // The highest: the end of what any of them names is below 2^31.
    assert!(window.low == 0 && window.high < 1 << 31 && window.high + image.span() > 1 << 31, "{window:x?}");
    let base = window.high & !4095;
    let mut memory = vec![0; image.span() as usize];
    image.link(base, &mut memory, &HOST, &[]).unwrap();
    let error = image.link(1 << 31, &mut memory, &HOST, &[]).unwrap_err();
    assert!(matches!(&error, Error::Fixup { symbol, .. } if symbol == "x"), "{error}");
    assert!(error.to_string().contains("-fPIC"), "{error}");
}

#[test]
fn exact_windows() {
    for (machine, source, address, expected) in [
        // S + A - P is a signed number of 32 bits; the place is at 4 in the first page.
        (
            Machine::X86_64,
            ".long 0\n.long host_x - .",
            0x7F00_0000_0000u64,
            Some((0x7F00_0000_0000 - 4 - 0x7FFF_FFFF, 0x7F00_0000_0000 - 4 + 0x8000_0000)),
        ),
        (
            Machine::Aarch64,
            ".word 0\n.word host_x - .",
            0x7F00_0000_0000,
            Some((0x7F00_0000_0000 - 4 - 0x7FFF_FFFF, 0x7F00_0000_0000 - 4 + 0x8000_0000)),
        ),
        // S + A is a number of 32 bits: whatever the image's address, the host's does or does not
        // fit.
        (Machine::X86_64, ".long host_x + 8", 0xFFFF_FFF7, Some((0, u64::MAX))),
        (Machine::X86_64, ".long host_x + 8", 0xFFFF_FFF8, None),
        // The image's own.
        (Machine::X86_64, "here: .long here + 0x1000", 0, Some((0, 0xFFFF_EFFF))),
        (Machine::X86_64, "here: .long here - 0x1000", 0, Some((0x1000, 0x1_0000_0FFF))),
        // Two that have no address in common.
        (Machine::X86_64, "here: .long here\n.long host_x - .", 0x7F00_0000_0000, None),
    ] {
        let file = assembly(machine, &format!(".data\n.globl start\nstart: {source}"));
        let image = Image::parse(&file, machine, 4096, MAX_SPAN).unwrap();
        let window = image.window(&bindings(&image, |_| Some(address)));
        match expected {
            Some((low, high)) => assert_eq!(window, Ok(Window { low, high }), "{source}"),
            None => {
                let error = window.unwrap_err();
                let text = error.to_string();
                assert!(matches!(error, Error::OutOfReach { .. }) && text.contains("-fPIC"), "{text}");
            }
        }
    }
}

#[test]
fn adrp_reaches_4_gib_of_pages() {
    let machine = Machine::Aarch64;
    let source = ".text\n.globl f\n.zero 4092\nf: adrp x0, host_x\nadd x0, x0, :lo12:host_x";
    let files = [assembly(machine, source)];
    let image = parse(machine, &files).unwrap();
    let (place, address) = (image.export("f").unwrap().offset & !0xFFF, 0x7F00_0000_0123u64);
    let window = image.window(&bindings(&image, |_| Some(address))).unwrap();
    let middle = (address & !0xFFF) - place;
    assert_eq!(window, Window { low: middle - 0xFFFF_FFFF, high: middle + 0x1_0000_0000 });
    for (base, fits) in [
        (middle - 0xFFFF_F000, true),
        (middle + 0x1_0000_0000, true),
        (middle + 0x1_0000_1000, false),
        (middle - 0x1_0000_0000, false),
    ] {
        let mut memory = vec![0; image.span() as usize];
        let linked = image.link(base, &mut memory, &HOST, &bindings(&image, |_| Some(address)));
        assert_eq!(linked.is_ok(), fits, "{base:#x} {linked:?}");
    }
}

#[test]
fn variables_out_of_reach_are_named() {
    for (machine, flags) in [(Machine::X86_64, "-fPIE"), (Machine::Aarch64, "-fno-pic")] {
        let source = "extern int host_x; int f(void) { return host_x; }
            extern int host_y; int g(void) { return host_y; }";
        let files = [compile_as(machine, source, &["-c", flags]), object(machine, "int z;")];
        let image = parse(machine, &files).unwrap();
        let apart = bindings(&image, |import| {
            Some(if import.name == "host_x" { 0x7F00_0000_0000 } else { 0x5500_0000_0000 })
        });
        let text = image.window(&apart).unwrap_err().to_string();
        assert!(text.contains("0.o: ") && text.contains("`host_y`") && text.contains("-fPIC"), "{text}");
        let together = bindings(&image, |_| Some(0x7F00_0000_0000));
        let window = image.window(&together).unwrap();
        assert!(window.low > 0x7E00_0000_0000 && window.high < 0x7F02_0000_0000, "{window:x?}");
    }
}

/// A function of which code takes the address without the table: its stub stands for it, everywhere
/// in the module.
#[test]
fn a_stub_is_the_functions_address_where_code_reaches_no_further() {
    for machine in BOTH {
        let direct = match machine {
            Machine::X86_64 => {
                ".globl taken\n.text\ntaken: leaq far(%rip), %rax\ncall far@PLT\nmovq far@GOTPCREL(%rip), %rcx"
            }
            Machine::Aarch64 => {
                ".globl taken\n.text\ntaken: adrp x0, far\nadd x0, x0, :lo12:far\nbl far
                 adrp x1, :got:far\nldr x1, [x1, :got_lo12:far]"
            }
        };
        let files = [assembly(machine, &format!("{direct}\n.data\n.globl p\np: .8byte far"))];
        let image = parse(machine, &files).unwrap();
        assert_eq!(image.imports()[0].kind, ImportKind::Function);
        let linked = link_at(image, BASE, host);
        let stub = linked.word("p");
        assert_eq!(linked.through_stub(machine, stub), Some(FAR), "{machine} {stub:x}");
        let words =
            |wanted: u64| linked.memory.chunks(8).filter(|word| **word == wanted.to_le_bytes()).count();
        assert_eq!(
            (words(stub), words(FAR)),
            (2, 1),
            "the variable and the table say the stub, and the stub's entry the function"
        );
        // In reach, the function itself.
        let near = BASE + 0x10_0000;
        let linked = link_at(parse(machine, &files).unwrap(), BASE, |_| Some(near));
        assert_eq!(linked.word("p"), near);
    }
}

#[test]
fn a_stub_stands_for_a_function_in_low_memory() {
    // `mov $far, %edi`, and calls: no -fPIC.
    let source = "extern int far(int); int (*f(void))(int) { return far; } int g(int x) { return far(x); }";
    let file = compile_as(Machine::X86_64, source, &["-c", "-O2", "-fno-pic", "-fno-pie"]);
    let image = Image::parse(&file, Machine::X86_64, 4096, MAX_SPAN).unwrap();
    let window = image.window(&bindings(&image, host)).unwrap();
    assert!(window.high < 1 << 32, "{window:x?}");
    let linked = link_at(image, LOW, host);
    let at = linked.export("f").offset as usize;
    assert_eq!(linked.memory[at], 0xB8);
    let stub = u64::from(crate::u32_at(&linked.memory, at + 1));
    assert_eq!(linked.through_stub(Machine::X86_64, stub), Some(FAR));
}

#[test]
fn a_weak_function_that_is_not_there() {
    let source =
        "extern int maybe(void) __attribute__((weak)); int f(void) { return maybe ? maybe() + 1 : 0; }
        int (*p)(void) = maybe;";
    for machine in BOTH {
        let files = [object(machine, source)];
        let linked = link_at(parse(machine, &files).unwrap(), BASE, |_| None);
        assert_eq!(linked.word("p"), 0);
        let callee = linked.callee(machine, "f", 0);
        match machine {
            Machine::X86_64 => assert_eq!(linked.through_stub(machine, callee), Some(0)),
            // The call is none: it goes on behind itself.
            Machine::Aarch64 => {
                let function = linked.export("f");
                let within = callee - BASE - function.offset;
                let before = crate::u32_at(&linked.memory, (callee - BASE) as usize - 4);
                assert!(within < function.size && before == 0x9400_0001, "{before:x}");
            }
        }
    }
}

#[test]
fn short_branches_to_far_functions() {
    let machine = Machine::Aarch64;
    let source =
        ".text\n.globl f\n.type f, %function\n.size f, 12\nf: cbz x0, far\ntbz x0, #3, far\nb.eq far";
    let files = [assembly(machine, source)];
    let linked = link(machine, &files);
    let at = linked.export("f").offset as usize;
    let [cbz, tbz, beq] = [0, 4, 8].map(|offset| crate::u32_at(&linked.memory, at + offset));
    for (offset, distance) in [(0, cbz >> 5 & 0x7FFFF), (4, tbz >> 5 & 0x3FFF), (8, beq >> 5 & 0x7FFFF)] {
        let stub = linked.address("f") + offset + 4 * u64::from(distance);
        assert_eq!(linked.through_stub(machine, stub), Some(FAR));
    }
    // The stubs are behind the code: 32 KiB of it are too much for `tbz`, and said to be.
    let long = assembly(machine, &format!("{source}\n.zero 40000"));
    let image = Image::parse(&long, machine, 4096, MAX_SPAN).unwrap();
    let mut memory = vec![0; image.span() as usize];
    let error = image.link(BASE, &mut memory, &HOST, &bindings(&image, host)).unwrap_err();
    assert!(error.to_string().contains("R_AARCH64_TSTBR14 for symbol `far`"), "{error}");
}

#[test]
fn indirect_functions() {
    let source = "static int one(void) { return 1; } static void *pick(void) { return one; }
        int chosen(void) __attribute__((ifunc(\"pick\"))); static int own(void) __attribute__((ifunc(\"pick\")));
        int (*p)(void) = chosen; int (*q)(void) = own; int f(void) { return chosen() + own() + 1; }
        int (*g(void))(void) { return chosen; }";
    for machine in BOTH {
        let files = [object(machine, source)];
        let linked = link(machine, &files);
        let indirect: Vec<Indirect> = linked.image.indirect().to_vec();
        assert_eq!(indirect.len(), 2, "one entry for each");
        let resolver = linked.image.symbols().functions();
        for (name, call) in [("p", 0), ("q", 1)] {
            let stub = linked.word(name);
            assert_eq!(linked.through_stub(machine, stub), Some(0), "not known yet");
            assert!((0..2).any(|call| linked.callee(machine, "f", call) == stub), "{machine} {name} {call}");
        }
        for Indirect { place, resolver: at, addend } in indirect {
            assert_eq!((addend, linked.protection(BASE + place)), (0, Some(Protection::Read)));
            assert!(resolver.iter().any(|symbol| symbol.offset == at));
        }
        assert_eq!(linked.export("chosen").kind, midflight_image::ExportKind::Indirect);
    }
}

#[test]
fn loads_from_the_table_that_need_not() {
    let machine = Machine::X86_64;
    let source =
        "extern int own(int); extern int x; int (*f(void))(int) { return own; } int *g(void) { return &x; }
        int h(int i) { return own(i); } int k(int i) { return own(i) + 1; }";
    let files = [
        compile_as(machine, source, &["-c", "-O2", "-fPIC", "-fno-plt"]),
        object(machine, "int own(int i) { return i; } int x = 1;"),
    ];
    let linked = link(machine, &files);
    for (function, symbol) in [("f", "own"), ("g", "x")] {
        let (at, address) = (linked.export(function).offset as usize, linked.address(function));
        assert_eq!(linked.memory[at..at + 3], [0x48, 0x8D, 0x05], "lea");
        let distance = crate::u32_at(&linked.memory, at + 3) as i32;
        assert_eq!((address + 7).wrapping_add_signed(distance.into()), linked.address(symbol));
    }
    assert_eq!(linked.callee(machine, "h", 0), linked.address("own"));
    assert_eq!(linked.callee(machine, "k", 0), linked.address("own"));
    // No entry is left.
    let words = |wanted: u64| linked.memory.chunks(8).filter(|word| **word == wanted.to_le_bytes()).count();
    assert_eq!((words(linked.address("own")), words(linked.address("x"))), (0, 0));
}

#[test]
fn the_table_by_name() {
    let machine = Machine::X86_64;
    // The large code model: everything is relative to the table.
    let source = "extern int far(int); static int own[3] = {1, 2, 3}; extern int host_x;
        int f(int i) { return far(own[i]) + host_x; }";
    let files = [compile_as(machine, source, &["-c", "-O2", "-fPIC", "-mcmodel=large"])];
    let linked = link(machine, &files);
    assert_eq!(linked.image.imports().len(), 2);
    let words = |wanted: u64| linked.memory.chunks(8).any(|word| *word == wanted.to_le_bytes());
    assert!(words(0x5555_0000_1000), "an entry for the variable");
}

/// What a table of distances to functions has at its `n`th word, as the address that it leads to.
fn distance(linked: &Linked<'_>, table: &str, n: u64) -> u64 {
    let at = linked.export(table).offset + 4 * n;
    let distance = u32_at(&linked.memory, at as usize) as i32;
    (linked.base + linked.export(table).offset).wrapping_add_signed(distance.into())
}

#[test]
fn distances_to_functions_in_data() {
    // As in relative vtables: from the start of the table, so each with an addend of its own, and
    // one that is negative.
    for machine in BOTH {
        let word = |symbol: &str, addend: i64| match machine {
            Machine::X86_64 => format!(".long {symbol}@PLT + {addend}\n"),
            Machine::Aarch64 => format!(".word {symbol} + {addend} - .\n"),
        };
        let rows: String = [("far", 0), ("far", 4), ("near", 8), ("own", 12), ("far", 16), ("maybe", 20)]
            .map(|(symbol, addend)| word(symbol, addend))
            .concat();
        for section in [".section .rodata", ".data", ".text"] {
            let source = format!(
                "{section}\n.globl table\n.balign 4\n.type table, %object\ntable:\n{rows}.size table, 24
                .text\n.balign 4\n.globl own\n.type own, %function\nown: .4byte 0\n.size own, 4\n.weak maybe"
            );
            let mut file = assembly(machine, &source);
            if machine == Machine::Aarch64 {
                // GNU as has no word for it: R_AARCH64_PREL32 becomes R_AARCH64_PLT32.
                let of_one =
                    |at: &usize| u32_at(&file, *at) == 261 && (1..32).contains(&u32_at(&file, at + 4));
                let found: Vec<_> = (0..file.len() - 8).step_by(8).filter(of_one).collect();
                // The assembler has settled `own` itself, where it is in the same section.
                assert!(found.len() >= 5);
                found.into_iter().for_each(|at| put(&mut file, at, &314u32.to_le_bytes()));
            }
            let files = [file];
            let linked = link(machine, &files);
            let stub = distance(&linked, "table", 0);
            assert_eq!(linked.through_stub(machine, stub), Some(0x1234_5678_9ABC), "{machine} {section}");
            // One function, one stub, whatever the addend.
            assert_eq!([1, 4].map(|n| distance(&linked, "table", n)), [stub; 2], "{machine} {section}");
            assert_eq!(distance(&linked, "table", 2), BASE + 0x10_0000, "{machine} {section}");
            assert_eq!(distance(&linked, "table", 3), linked.address("own"), "{machine} {section}");
            let nobody = distance(&linked, "table", 5);
            assert_eq!(linked.through_stub(machine, nobody), Some(0), "as through a linker's stub");
            assert!(linked.image.imports().iter().all(|import| import.kind == ImportKind::Function));
        }
    }
}

#[test]
fn jumps_into_far_functions_are_refused() {
    for (machine, source) in [
        (Machine::X86_64, "jmp far@PLT + 8"),
        (Machine::Aarch64, "b far + 8"),
        (Machine::X86_64, "jne far@PLT + 8"),
    ] {
        let files = [assembly(machine, &format!(".text\n.globl f\nf: {source}\n"))];
        let image = parse(machine, &files).unwrap();
        let mut memory = vec![0; image.span() as usize];
        let bindings = bindings(&image, host);
        let error = image.link(BASE, &mut memory, &HOST, &bindings).unwrap_err();
        assert!(matches!(error, Error::Fixup { .. }), "{error}");
    }
}

/// The words of a function from where it begins.
fn words(linked: &Linked<'_>, name: &str, count: usize) -> Vec<u32> {
    let start = linked.export(name).offset as usize;
    (0..count).map(|at| u32_at(&linked.memory, start + 4 * at)).collect()
}

#[test]
fn what_the_cortex_a53_has_wrong() {
    // Erratum 843419: an ADRP in the last words of a page, an access, and one by the ADRP's
    // register.
    let machine = Machine::Aarch64;
    let sequence = |skip: u32, between: &str, variable: &str| {
        format!(
            ".text\n.p2align 12\n.skip {skip}\n.globl f\n.type f, %function
            f: adrp x0, {variable}\nstr x1, [x2]\n{between}ldr x3, [x0, :lo12:{variable}]\nret\n.size f, . - f
            .data\n.balign 8\n.globl near\n.hidden near\nnear: .8byte 5\n"
        )
    };
    let is = |word: u32, mask: u32, value: u32| word & mask == value;
    for (skip, between, at) in [(0xFF8u32, "", 2), (0xFFC, "", 2), (0xFF8, "nop\n", 3), (0xFFC, "nop\n", 3)] {
        // The module's own variable is near enough for an ADR.
        let files = [assembly(machine, &sequence(skip, between, "near"))];
        let linked = link(machine, &files);
        let code = words(&linked, "f", at + 2);
        assert!(is(code[0], 0x9F00_001F, 0x1000_0000), "{skip:#x} {code:x?}");
        assert!(is(code[at], 0xFFC0_03FF, 0xF940_0003), "the access stays: {code:x?}");
        let field = i64::from((code[0] >> 5 & 0x7FFFF) << 2 | code[0] >> 29 & 3) << 43 >> 43;
        let page = linked.address("f").wrapping_add_signed(field);
        let value = linked.word_at(page + 8 * u64::from(code[at] >> 10 & 0xFFF));
        assert_eq!((page & 0xFFF, value), (0, 5), "the same address as before");
        // A host's is not.
        let files = [assembly(machine, &sequence(skip, between, "host_far"))];
        let far =
            |import: &midflight_image::Import<'_>| (import.name == "host_far").then_some(BASE + 0x1000_0008);
        let linked = link_at(parse(machine, &files).unwrap(), BASE, far);
        let code = words(&linked, "f", at + 2);
        assert!(is(code[0], 0x9F00_001F, 0x9000_0000), "{code:x?}");
        let veneer = linked.callee(machine, "f", 0);
        assert_eq!(linked.protection(veneer), Some(Protection::ReadExecute));
        let moved = (veneer - BASE) as usize;
        let [access, back] = [0, 4].map(|by| u32_at(&linked.memory, moved + by));
        assert_eq!(access, 0xF940_0403, "ldr x3, [x0, #8]");
        let distance = i64::from((back << 6) as i32 >> 4);
        let after = linked.address("f") + 4 * at as u64 + 4;
        assert_eq!((veneer + 4).wrapping_add_signed(distance), after, "and on behind it");
    }
    // Elsewhere in a page, without the access between, and in data among code, nothing is changed.
    for source in [
        sequence(0xFF4, "", "near"),
        sequence(0xFF8, "", "near").replace("str x1, [x2]", "nop"),
        sequence(0xFF8, "", "near").replace("f: adrp x0, near\n", "f: .word 0x90000000\n"),
    ] {
        let files = [assembly(machine, &source)];
        let linked = link(machine, &files);
        assert!(is(words(&linked, "f", 1)[0], 0x9F00_001F, 0x9000_0000), "{source}");
    }
}
