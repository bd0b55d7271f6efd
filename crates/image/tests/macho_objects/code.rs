//! How code reaches what it names: branches, stubs, the global offset table, and the window that
//! addresses of four bytes leave.

use crate::common::{HOST, MAX_SPAN, bindings, put, u32_at};
use crate::tools::sections;
use crate::{BASE, FAR, NEAR, assemble, compile, host, link, link_at, parse, refused};
use midflight_image::{Error, Image, ImportKind, Machine, Protection, Window};

#[test]
fn near_functions_are_called_directly_and_far_ones_through_stubs() {
    let files = [assemble(".globl _f\n_f: bl _near\nbl _far\nb _far\nbl _far")];
    let linked = link(&files);
    let f = linked.address("f");
    assert_eq!(linked.branch(f), NEAR);
    let stub = linked.branch(f + 4);
    assert_eq!(linked.through_stub(stub), Some(FAR));
    assert_eq!(linked.protection(stub), Some(Protection::ReadExecute));
    assert_eq!([linked.branch(f + 8), linked.branch(f + 12)], [stub; 2], "one for all");
    assert!(linked.image.imports().iter().all(|import| import.kind == ImportKind::Function));
}

#[test]
fn the_edge_of_reach() {
    let files = [assemble(".globl _f\n_f: bl _far")];
    let from = BASE + parse(&files).unwrap().export("f").unwrap().offset;
    let reach = 1u64 << 27;
    for (target, direct) in
        [(from + reach - 4, true), (from + reach, false), (from - reach, true), (from - reach - 4, false)]
    {
        let linked = link_at(parse(&files).unwrap(), BASE, |_| Some(target));
        let callee = linked.branch(from);
        assert_eq!(callee == target, direct, "{target:#x}");
        assert!(direct || linked.through_stub(callee) == Some(target));
    }
}

/// Where `bl` with something added is to go no stub leads.
#[test]
fn a_branch_behind_a_far_function_cannot_be_made() {
    let files = [assemble(".globl _f\n_f: bl _far+8")];
    let linked = link_at(parse(&files).unwrap(), BASE, |_| Some(NEAR));
    assert_eq!(linked.branch(linked.address("f")), NEAR + 8);
    let image = parse(&files).unwrap();
    let mut memory = vec![0; image.span() as usize];
    let error = image.link(BASE, &mut memory, &HOST, &bindings(&image, host)).unwrap_err();
    assert!(error.to_string().contains("ARM64_RELOC_BRANCH26 for symbol `_far`"), "{error}");
}

/// As on macOS: it jumps to 0.
#[test]
fn a_weak_function_that_nobody_defines_is_at_0() {
    let files = [compile(
        "extern int maybe(void) __attribute__((weak_import)); int f(void) { return maybe(); } void *p = maybe;",
        &[],
    )];
    let image = parse(&files).unwrap();
    assert!(image.imports()[0].weak);
    let linked = link_at(image, BASE, |_| None);
    assert_eq!(linked.word("p"), 0);
    let f = linked.address("f");
    let branch =
        (0..8).map(|at| f + 4 * at).find(|at| linked.code_at(*at) & 0x7C00_0000 == 0x1400_0000).unwrap();
    assert_eq!(linked.through_stub(linked.branch(branch)), Some(0));
}

/// The assembler of this clang cannot write addends below 0, but other compilers' can.
#[test]
fn addends_below_0() {
    let mut file = assemble(
        ".globl _f\n_f: adrp x0, _d@PAGE+16\nadd x0, x0, _d@PAGEOFF+16\nldr x1, [x0, _d@PAGEOFF+8]\n.data\n.zero 64\n.globl _d\n\
         .p2align 3\n_d: .quad 0",
    );
    let (start, count) = sections(&file)[0].relocations;
    for entry in (start..start + 8 * count)
        .step_by(8)
        .filter(|at| u32_at(&file.clone(), at + 4) >> 28 == 10)
        .collect::<Vec<_>>()
    {
        let word = u32_at(&file, entry + 4);
        let addend = -i64::from(word & 0xFF_FFFF);
        put(&mut file, entry + 4, &(word & 0xFF00_0000 | addend as u32 & 0xFF_FFFF).to_le_bytes());
    }
    let files = [file];
    let linked = link(&files);
    let (f, d) = (linked.address("f"), linked.address("d"));
    assert_eq!(linked.page(f) + linked.low(f + 4), d - 16);
    assert_eq!(linked.low(f + 8), (d - 8) & 0xFFF);
}

#[test]
fn an_image_is_no_larger_than_may_be() {
    let files = [assemble(
        ".globl _f\n_f: adrp x0, _z@PAGE\nadd x0, x0, _z@PAGEOFF\n.zerofill __DATA,__bss,_a,0x7FFFFFFF,4\n.zerofill \
         __DATA,__bss,_b,0x7FFFFFFF,4\n.zerofill __DATA,__bss,_z,16,4",
    )];
    let inputs = [midflight_image::Input { name: "", bytes: &files[0] }];
    let error = Image::parse_all(&inputs, Machine::Aarch64, 16384, 1 << 32).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    assert!(Image::parse_all(&inputs, Machine::Aarch64, 16384, 1 << 33).is_ok());
}

#[test]
fn exact_windows() {
    for (source, address, expected) in [
        // S + A is a number of 32 bits: whatever the image's address, the host's does or does not
        // fit.
        (".long _host_x + 8", 0xFFFF_FFF7, Some((0, u64::MAX))),
        (".long _host_x + 8", 0xFFFF_FFF8, None),
        (".long _host_x - 8", 7, None),
        (".long _host_x - 8", 8, Some((0, u64::MAX))),
        // The image's own, of which the first page is at 0x4000.
        ("_here: .long _here + 0x1000", 0, Some((0, 0xFFFF_EFFF - 0x4000))),
        ("_here: .long _here - 0x5000", 0, Some((0x1000, u64::from(u32::MAX) + 0x1000))),
        ("_here: .long _here - 0x5000\n.long _here + 0x1000", 0, Some((0x1000, 0xFFFF_AFFF))),
        (".quad _host_x", 0x7F00_0000_0000, Some((0, u64::MAX))),
    ] {
        let files = [assemble(&format!(".data\n.globl _start\n_start: {source}\n"))];
        let image = parse(&files).unwrap();
        assert_eq!(image.export("start").unwrap().offset, 0x4000);
        let window = image.window(&bindings(&image, |_| Some(address)));
        match expected {
            Some((low, high)) => assert_eq!(window, Ok(Window { low, high }), "{source}"),
            None => {
                let error = window.unwrap_err();
                let text = error.to_string();
                assert!(matches!(error, Error::OutOfReach { .. }), "{text}");
                assert!(text.contains("_host_x") && text.contains("ARM64_RELOC_UNSIGNED"), "{text}");
            }
        }
    }
}

#[test]
fn four_bytes_have_what_they_can_hold() {
    let files = [assemble(".data\n.globl _d, _e\n_d: .long _e + 4\n.long 9\n_e: .long _d - 8\n.long 9")];
    let linked = link_at(parse(&files).unwrap(), 0x1000_0000, host);
    let (d, e) = (linked.address("d"), linked.address("e"));
    assert_eq!((linked.word("d"), linked.word("e")), (9 << 32 | (e + 4), 9 << 32 | (d - 8)));
    let mut memory = linked.memory.clone();
    let error = linked.image.link(1 << 32, &mut memory, &HOST, &[]).unwrap_err();
    assert!(matches!(error, Error::Fixup { .. }), "{error}");
}

/// What an opcode is not checked for would be a silent change of some other instruction.
#[test]
fn an_instruction_of_another_kind_is_refused() {
    let source = ".globl _f\n_f: bl _far\nadrp x0, _d@PAGE\nldr x0, [x0, _d@PAGEOFF]\nadrp x0, _far@GOTPAGE\nldr x0, [x0, \
                  _far@GOTPAGEOFF]\n.data\n.p2align 3\n_d: .quad 1";
    let file = assemble(source);
    let code = sections(&file)[0].offset;
    for at in 0..5 {
        for other in [0xD503_201Fu32, 0xB940_0000, 0x9400_0000, 0x9000_0000, 0x1000_0000] {
            let mut file = file.clone();
            let was = u32_at(&file, code + 4 * at);
            // A load of 4 bytes is one that may be there, and needs less alignment.
            let kind = |code: u32| match code {
                _ if code & 0x7C00_0000 == 0x1400_0000 => 0,
                _ if code & 0x9F00_0000 == 0x9000_0000 => 1,
                _ if code & 0x3B00_0000 == 0x3900_0000 => 2,
                _ => 3 + code,
            };
            put(&mut file, code + 4 * at, &other.to_le_bytes());
            let files = [file];
            if kind(other) == kind(was) && !(at == 4 && other == 0xB940_0000) {
                link(&files);
            } else {
                let text = refused(&files);
                assert!(
                    text.contains("ARM64_RELOC_") && text.contains("holds the instruction"),
                    "{at} {text}"
                );
            }
        }
    }
}

#[test]
fn accesses_need_alignment() {
    let file = assemble(
        ".globl _f\n_f: adrp x0, _d@PAGE\nldrb w1, [x0, _d@PAGEOFF+1]\n.data\n.p2align 4\n.globl _d\n_d: .quad 1\n.quad 1",
    );
    let text = sections(&file).swap_remove(0);
    let (start, count) = text.relocations;
    let addend = (start..start + 8 * count).step_by(8).find(|at| u32_at(&file, at + 4) >> 28 == 10).unwrap();
    // LDRB, LDRH, LDR of 4 and 8 bytes; LDR and STR of 16, LDR of 4 to a vector register.
    for (access, align) in [
        (0x3940_0001u32, 1u32),
        (0x7940_0001, 2),
        (0xB940_0001, 4),
        (0xF940_0001, 8),
        (0x3DC0_0001, 16),
        (0x3D80_0001, 16),
        (0xBD40_0001, 4),
    ] {
        for by in 0..16 {
            let mut file = file.clone();
            put(&mut file, text.offset + 4, &access.to_le_bytes());
            let word = u32_at(&file, addend + 4) & 0xFF00_0000 | by;
            put(&mut file, addend + 4, &word.to_le_bytes());
            let files = [file];
            let image = parse(&files).unwrap();
            let mut memory = vec![0; image.span() as usize];
            match image.link(BASE, &mut memory, &HOST, &[]) {
                Ok(()) => assert_eq!(by % align, 0, "{access:#x} {by}"),
                Err(error) => {
                    assert!(by % align != 0, "{access:#x} {by} {error}");
                    assert!(error.to_string().contains("is no multiple of"), "{error}");
                }
            }
        }
    }
}

#[test]
fn the_window_is_anywhere_for_what_compilers_write() {
    let files = [compile(
        "extern int far(int), host_x; int f(int x) { return far(x) + host_x; } int *p = &host_x;",
        &[],
    )];
    let image = Image::parse(&files[0], Machine::Aarch64, 4096, MAX_SPAN).unwrap();
    assert_eq!(image.window(&bindings(&image, host)), Ok(Window::ANYWHERE));
}
