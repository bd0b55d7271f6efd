//! What is written for each relocation type, against what GNU ld and lld write for the same object
//! file: every supported type of both machines, at both sides of every limit and alignment.
//!
//! Where the two linkers differ from each other, the ABI documents decide; [`KNOWN`] lists where a
//! linker differs from those.

#[path = "../common/mod.rs"]
mod common;
mod linker;

use common::{BOTH, u64_at};
use linker::{Case, Linked, Linker, STEP, place};
use midflight_image::Machine::{self, Aarch64, X86_64};
use midflight_image::fixup::aarch64::{Check, Field};
use midflight_image::fixup::x86_64::Load;
use midflight_image::fixup::{Encoding, From, Howto, Problem, Slot, What};
use std::collections::{BTreeMap, BTreeSet};

const TEXT: u64 = 0x1000_0000;
const TABLE: u64 = 0x2000_0000;

/// What a linker does that we do not do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Differs {
    /// It writes what we refuse.
    Lenient,
    /// It refuses what we write.
    Strict,
    /// It writes something else.
    Otherwise,
}

use Differs::{Lenient, Otherwise, Strict};
use Linker::{Gnu, Lld};

/// Types, who, and how. Each must occur.
const KNOWN: &[(&str, Linker, Differs)] = &[
    // BFD lets some fields hold what fits only after wrapping around: -256 in a byte. The AMD64
    // supplement says nothing of overflow here; lld refuses as we do.
    ("R_X86_64_8", Gnu, Lenient),
    ("R_X86_64_16", Gnu, Lenient),
    ("R_X86_64_PC16", Gnu, Lenient),
    ("R_X86_64_GOTPC32_TLSDESC", Gnu, Lenient),
    // Arm: -2^31 <= X < 2^32, and the same for 16 bits. BFD takes only what is unsigned.
    ("R_AARCH64_ABS32", Gnu, Strict),
    ("R_AARCH64_ABS16", Gnu, Strict),
    // Arm: -2^31 <= X < 2^31 for what is relative to the place. lld also takes what is unsigned.
    ("R_AARCH64_PREL32", Lld, Lenient),
    ("R_AARCH64_PREL16", Lld, Lenient),
    // Arm: all offsets are multiples of 4. These are cut off.
    ("R_AARCH64_TSTBR14", Gnu, Lenient),
    ("R_AARCH64_TSTBR14", Lld, Lenient),
    ("R_AARCH64_CONDBR19", Gnu, Lenient),
    // BFD does not check the range of what leads to the table, but for a few types.
    ("R_AARCH64_ADR_GOT_PAGE", Gnu, Lenient),
    ("R_AARCH64_TLSGD_ADR_PREL21", Gnu, Lenient),
    ("R_AARCH64_TLSGD_ADR_PAGE21", Gnu, Lenient),
    ("R_AARCH64_TLSIE_ADR_GOTTPREL_PAGE21", Gnu, Lenient),
    ("R_AARCH64_TLSIE_LD_GOTTPREL_PREL19", Gnu, Lenient),
    ("R_AARCH64_TLSDESC_ADR_PREL21", Gnu, Lenient),
    ("R_AARCH64_TLSDESC_LD_PREL19", Gnu, Lenient),
    // Arm: MOVN where X is negative. BFD takes only what is unsigned.
    ("R_AARCH64_TLSLD_MOVW_DTPREL_G2", Gnu, Strict),
    ("R_AARCH64_TLSLD_MOVW_DTPREL_G1", Gnu, Strict),
    ("R_AARCH64_TLSLD_MOVW_DTPREL_G0", Gnu, Strict),
    // Arm: 0 <= X < 2^15.
    ("R_AARCH64_LD64_GOTPAGE_LO15", Lld, Lenient),
    // Arm: MOVN where X is negative. The MOVZ that lld leaves gives the same number once the MOVKs
    // have run.
    ("R_AARCH64_MOVW_PREL_G3", Lld, Otherwise),
    // The supplement says nothing of overflow; a size is unsigned. lld checks for a signed number.
    ("R_X86_64_SIZE32", Lld, Lenient),
    ("R_X86_64_SIZE32", Lld, Strict),
    // Beyond reach both make stubs, as we do; but not in an encoder.
    ("R_AARCH64_CALL26", Gnu, Lenient),
    ("R_AARCH64_CALL26", Lld, Lenient),
    ("R_AARCH64_JUMP26", Gnu, Lenient),
    ("R_AARCH64_JUMP26", Lld, Lenient),
    ("R_AARCH64_PLT32", Lld, Lenient),
    ("R_AARCH64_PLT32", Lld, Otherwise),
];

/// Types that a linker does not know at all; a star stands for any end of a name. What both do not
/// know has the sums and the fields of others that they do.
const UNKNOWN: &[(&str, Linker)] = &[
    ("R_X86_64_GOTPCREL64", Lld),
    ("R_X86_64_GOTPLT64", Lld),
    // In data only, where it is for debuggers.
    ("R_X86_64_DTPOFF64", Gnu),
    ("R_AARCH64_PLT32", Gnu),
    ("R_AARCH64_GOTPCREL32", Gnu),
    ("R_AARCH64_GOTREL*", Gnu),
    ("R_AARCH64_GOTREL*", Lld),
    ("R_AARCH64_MOVW_GOTOFF_*", Lld),
    ("R_AARCH64_MOVW_GOTOFF_G0", Gnu),
    ("R_AARCH64_MOVW_GOTOFF_G1_NC", Gnu),
    ("R_AARCH64_MOVW_GOTOFF_G2*", Gnu),
    ("R_AARCH64_MOVW_GOTOFF_G3", Gnu),
    ("R_AARCH64_LD64_GOTOFF_LO15", Lld),
    ("R_AARCH64_TLSGD_*", Lld),
    ("R_AARCH64_TLSLD_*", Lld),
    ("R_AARCH64_TLSLD_MOVW_G*", Gnu),
    ("R_AARCH64_TLSLD_LD_PREL19", Gnu),
    ("R_AARCH64_TLSLD_LDST128*", Gnu),
    ("R_AARCH64_TLS_DTPREL", Gnu),
    ("R_AARCH64_TLS_DTPREL", Lld),
    ("R_AARCH64_TLSIE_MOVW*", Lld),
    ("R_AARCH64_TLSIE_LD_GOTTPREL_PREL19", Lld),
    ("R_AARCH64_TLSDESC_LD_PREL19", Lld),
    ("R_AARCH64_TLSDESC_ADR_PREL21", Lld),
    ("R_AARCH64_TLSDESC_OFF*", Lld),
];

/// Numbers near which a limit may be, and around each those that an alignment lets through or not.
fn edges() -> Vec<i64> {
    let mut edges = vec![0];
    for bit in [7, 8, 12, 15, 16, 20, 21, 24, 27, 28, 31, 32, 33, 47, 48, 62] {
        for near in [-4096, -16, -8, -4, -2, -1, 0, 1, 2, 4, 8] {
            edges.extend([(1i64 << bit) + near, -(1i64 << bit) + near]);
        }
    }
    edges.sort_unstable();
    edges.dedup();
    edges
}

/// The supported types of a machine for which `wanted` holds, and which this linker knows.
fn types(machine: Machine, linker: Linker, wanted: impl Fn(Howto) -> bool) -> Vec<(u32, Howto)> {
    let all = (0..2048).filter_map(|r_type| Some((r_type, machine.howto(r_type)?)));
    let is = |pattern: &str, name: &str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    };
    let unknown = |name: &str| UNKNOWN.iter().any(|(pattern, who)| is(pattern, name) && *who == linker);
    let known = all.filter(|(r_type, _)| !unknown(name(machine, *r_type)));
    known.filter(|(_, howto)| wanted(*howto)).collect()
}

fn name(machine: Machine, r_type: u32) -> &'static str {
    machine.relocation_name(r_type).unwrap()
}

/// What a compiler would have left in the place.
fn unfilled(r_type: u32, encoding: Encoding) -> Vec<u8> {
    const JUMP26: u32 = 282;
    let instruction: u32 = match encoding {
        Encoding::Field(field) => match field {
            Field::Adr => 0x1000_0000,
            Field::Adrp { .. } => 0x9000_0000,
            Field::AddLow { .. } => 0x9100_0000,
            Field::AddHigh => 0x9140_0000,
            Field::Access { log2: 4, .. } => 0x3DC0_0000,
            Field::Access { log2, .. } => 0x3940_0000 | u32::from(log2) << 30,
            Field::Entry => 0xF940_0000,
            Field::Literal => 0x5800_0000,
            Field::TestBranch => 0x3600_0000,
            Field::ConditionalBranch => 0x5400_0000,
            Field::Branch if r_type == JUMP26 => 0x1400_0000,
            Field::Branch => 0x9400_0000,
            Field::Move { group, check: Check::Nothing } => 0xF280_0000 | u32::from(group) << 21,
            Field::Move { group, .. } => 0xD280_0000 | u32::from(group) << 21,
        },
        data => return vec![0; data.size()],
    };
    instruction.to_le_bytes().to_vec()
}

fn case(r_type: u32, howto: Howto, symbol: &str, addend: i64) -> Case {
    Case { r_type, place: unfilled(r_type, howto.encoding), symbol: symbol.to_string(), addend }
}

/// One case for each value that is on an edge, reached by the addend. `what` and `table` are as in
/// [`Howto::value`].
fn at_edges(cases: &mut Vec<Case>, r_type: u32, howto: Howto, symbol: &str, what: u64, table: u64) {
    for value in edges() {
        let from = match howto.from {
            From::Zero => 0,
            From::Place | From::Page => place(TEXT, cases.len()),
            From::Table => table,
            From::TablePage => table & !0xFFF,
        };
        let addend = value.wrapping_add_unsigned(from).wrapping_sub_unsigned(what);
        cases.push(case(r_type, howto, symbol, addend));
    }
}

/// Which of the differences that are known have been seen.
#[derive(Default)]
struct Seen(BTreeSet<usize>);

impl Seen {
    /// Compares what a linker wrote for each case with what we write.
    fn compare(
        &mut self,
        (machine, linker): (Machine, Linker),
        cases: &[Case],
        linked: &Linked,
        text: u64,
        terms: impl Fn(&Case, Howto) -> (u64, u64),
    ) {
        let mut wrong = BTreeMap::new();
        for (index, case) in cases.iter().enumerate() {
            let howto = machine.howto(case.r_type).unwrap();
            let (what, table) = terms(case, howto);
            let value = howto.value(what, case.addend, place(text, index), table);
            let mut ours = case.place.clone();
            let result: Result<(), Problem> = howto.encoding.write(&mut ours, value);
            let differs = match (result, linked.written.get(&index)) {
                (Ok(()), Some(theirs)) if ours == *theirs => continue,
                (Err(_), None) => continue,
                (Err(_), Some(_)) => Lenient,
                (Ok(()), None) => Strict,
                (Ok(()), Some(_)) => Otherwise,
            };
            let name = name(machine, case.r_type);
            match KNOWN.iter().position(|known| *known == (name, linker, differs)) {
                Some(known) => _ = self.0.insert(known),
                None => {
                    let ours = result.map(|()| ours);
                    let theirs = linked.written.get(&index);
                    let text =
                        format!("{value:#x} at {:#x}: {ours:x?} here, {theirs:x?} there", place(text, index));
                    let (count, _) = wrong.entry((name, differs)).or_insert((0, text));
                    *count += 1;
                }
            }
        }
        assert!(wrong.is_empty(), "{linker:?}, {} cases: {wrong:#?}", cases.len());
    }

    /// Fails if a difference that is listed for one of these types has not been seen.
    fn all(&self, machine: Machine, linker: Linker, types: &[(u32, Howto)]) {
        for (index, (listed, who, differs)) in KNOWN.iter().enumerate() {
            if *who == linker && types.iter().any(|(r_type, _)| name(machine, *r_type) == *listed) {
                assert!(self.0.contains(&index), "{listed}: {linker:?} is not {differs:?}");
            }
        }
    }
}

#[test]
fn symbols() {
    const SYMBOL: u64 = 0x1234_5678;
    for (machine, linker) in both() {
        let about =
            |howto: Howto| matches!(howto.what, What::Address | What::Branch) && howto.from != From::Table;
        let types = types(machine, linker, about);
        let mut cases = Vec::new();
        for (r_type, howto) in &types {
            at_edges(&mut cases, *r_type, *howto, "s", SYMBOL, 0);
        }
        let linked =
            linker::link(machine, linker, &cases, "", TEXT, &["--no-relax", "--defsym=s=0x12345678"]);
        let mut seen = Seen::default();
        seen.compare((machine, linker), &cases, &linked, TEXT, |_, _| (SYMBOL, 0));
        seen.all(machine, linker, &types);
    }
}

/// The symbol's size, the global offset table, and what is relative to that.
#[test]
fn sizes_and_the_table() {
    const SIZE: u64 = 0x1234;
    let variable = ".data\n.globl sized\n.type sized, %object\n.size sized, 0x1234\nsized: .zero 0x1234\n";
    for (machine, linker) in both() {
        let about = |howto: Howto| {
            matches!(howto.what, What::Size | What::Table)
                || howto.from == From::Table && matches!(howto.what, What::Address | What::Branch)
        };
        let types = types(machine, linker, about);
        if types.is_empty() {
            continue;
        }
        let rest = variable.to_string() + uses_the_table(machine);
        // The first link says where the table and the variable are.
        let flags = [
            "--no-relax",
            "--section-start=.got=0x20000000",
            "--section-start=.got.plt=0x20010000",
            "-Tdata=0x30000000",
        ];
        let mut linked = linker::link(machine, linker, &[], &rest, TEXT, &flags);
        let terms = |linked: &Linked, howto: Howto| {
            let table = linked.symbols["_GLOBAL_OFFSET_TABLE_"];
            let what = match howto.what {
                What::Size => SIZE,
                What::Table => table,
                _ => linked.symbols["sized"],
            };
            (what, table)
        };
        let mut cases = Vec::new();
        for (r_type, howto) in &types {
            let symbol = if howto.what == What::Table { "_GLOBAL_OFFSET_TABLE_" } else { "sized" };
            let (what, table) = terms(&linked, *howto);
            at_edges(&mut cases, *r_type, *howto, symbol, what, table);
        }
        let again = linker::link(machine, linker, &cases, &rest, TEXT, &flags);
        assert_eq!(again.symbols["_GLOBAL_OFFSET_TABLE_"], linked.symbols["_GLOBAL_OFFSET_TABLE_"]);
        linked = again;
        let mut seen = Seen::default();
        seen.compare((machine, linker), &cases, &linked, TEXT, |_, howto| terms(&linked, howto));
        seen.all(machine, linker, &types);
    }
}

/// Code that makes a linker say where the table is.
fn uses_the_table(machine: Machine) -> &'static str {
    match machine {
        X86_64 => ".section .text.extra,\"ax\"\nleaq _GLOBAL_OFFSET_TABLE_(%rip), %rax\n",
        Aarch64 => ".section .debug_extra,\"\",%progbits\n.8byte _GLOBAL_OFFSET_TABLE_\n",
    }
}

fn both() -> impl Iterator<Item = (Machine, Linker)> {
    BOTH.into_iter().flat_map(|machine| Linker::ALL.map(|linker| (machine, linker)))
}

/// Compares all types that are about `slot`. x86-64 reaches the edges by the addend; AArch64, which
/// has none here, by where the text is. `symbols` are enough to fill the table to the edges of what
/// an offset in it can be.
fn compare_entries(
    (machine, linker): (Machine, Linker),
    slot: Slot,
    symbols: &[String],
    rest: &str,
    script: &str,
    flags: &[&str],
    find: impl Fn(&Linked, &str) -> u64,
) {
    let types = types(machine, linker, |howto| howto.what == What::Entry(slot));
    // One that is never refused, so that there is an entry in any case.
    let never = types.iter().find(|(_, howto)| howto.encoding.range().is_none());
    let Some((any, any_howto)) = never.or(types.first()).copied() else { return };
    let flags = [
        &[
            "--no-relax",
            "-znorelro",
            "--section-start=.got=0x20000000",
            "--section-start=.got.plt=0x28000000",
        ],
        flags,
    ]
    .concat();
    let rest = rest.to_string() + uses_the_table(machine);
    let mut seen = Seen::default();
    let texts = match machine {
        X86_64 => vec![TEXT],
        Aarch64 => around_the_table(),
    };
    for text in texts {
        let link = |cases: &[Case]| linker::link_with(machine, linker, cases, &rest, script, text, &flags);
        // Every symbol gets an entry; those near the ends of what 12 and 15 bits can be are used by
        // every type.
        let symbols = if text == TEXT { symbols } else { &symbols[..1] };
        let mut cases: Vec<Case> = symbols.iter().map(|symbol| case(any, any_howto, symbol, 0)).collect();
        for (r_type, howto) in &types {
            let near = (0..8).chain(504..520).chain(4088..4104).filter_map(|index| symbols.get(index));
            cases.extend(near.map(|symbol| case(*r_type, *howto, symbol, 0)));
        }
        if machine == X86_64 {
            let linked = link(&cases);
            cases.clear();
            for (r_type, howto) in &types {
                let entry = find(&linked, &symbols[0]);
                at_edges(
                    &mut cases,
                    *r_type,
                    *howto,
                    &symbols[0],
                    entry,
                    linked.symbols["_GLOBAL_OFFSET_TABLE_"],
                );
            }
        } else if text != TEXT {
            cases = (0..16).flat_map(|_| cases.clone()).collect();
        }
        let linked = link(&cases);
        let table = linked.symbols["_GLOBAL_OFFSET_TABLE_"];
        seen.compare((machine, linker), &cases, &linked, text, |case, _| {
            (find(&linked, &case.symbol), table)
        });
    }
    seen.all(machine, linker, &types);
}

/// Addresses of a text that goes from one side of a limit of an AArch64 type to the other, the
/// table being in the middle.
fn around_the_table() -> Vec<u64> {
    let near = [1u64 << 20, 1 << 31].into_iter().flat_map(|reach| [TABLE.wrapping_sub(reach), TABLE + reach]);
    let texts = near.chain([TABLE + (1 << 32) + 4096]).map(|text| text.wrapping_sub(64 * STEP));
    [TEXT].into_iter().chain(texts.filter(|text| *text < 1 << 47)).collect()
}

#[test]
fn entries() {
    for (machine, linker) in both() {
        // Each symbol has an address that nothing else in the table looks like. Assemblers would
        // put it into the addend.
        let address = |symbol: &str| 0x1234_0000_0000 + 16 * symbol[1..].parse::<u64>().unwrap();
        let count = if machine == X86_64 { 1 } else { 4104 };
        let symbols: Vec<String> = (0..count).map(|index| format!("s{index}")).collect();
        let script: String =
            symbols.iter().map(|symbol| format!("{symbol} = {:#x};\n", address(symbol))).collect();
        compare_entries((machine, linker), Slot::Address, &symbols, "", &script, &[], |linked, symbol| {
            let (start, entries) = linked.section(".got").unwrap();
            let wanted = address(symbol).to_le_bytes();
            start + 8 * entries.chunks(8).position(|entry| entry == wanted).expect("an entry") as u64
        });
    }
}

/// In a shared object, where no linker turns one thread-local model into another. What an entry is
/// for is in its dynamic relocation.
#[test]
fn thread_locals() {
    let rest = ".section .tdata,\"awT\",%progbits\n.globl v\n.type v,%object\nv: .zero 64\n";
    for (machine, linker) in both() {
        let [module, fixed, descriptor] = match machine {
            X86_64 => [16, 18, 36],
            Aarch64 => [1028, 1030, 1031],
        };
        // One by one, because GNU ld gives all accesses to a variable the model of the simplest.
        for (slot, r_type) in [
            (Slot::General, module),
            (Slot::Local, module),
            (Slot::Initial, fixed),
            (Slot::Descriptor, descriptor),
        ] {
            compare_entries(
                (machine, linker),
                slot,
                &["v".to_string()],
                rest,
                "",
                &["-shared"],
                |linked, _| {
                    let dynamic = linked.dynamic();
                    let entry = dynamic.iter().find(|(_, found, _)| *found == r_type);
                    entry.unwrap_or_else(|| panic!("no {r_type} in {dynamic:x?}")).0
                },
            );
        }

        let types = types(machine, linker, |howto| howto.what == What::BlockOffset);
        let mut cases = Vec::new();
        for (r_type, howto) in &types {
            at_edges(&mut cases, *r_type, *howto, "v", 0, 0);
        }
        let hidden = rest.replace(".globl v\n", "");
        let linked = linker::link(machine, linker, &cases, &hidden, TEXT, &["-shared", "--no-relax"]);
        let mut seen = Seen::default();
        seen.compare((machine, linker), &cases, &linked, TEXT, |_, _| (0, 0));
        seen.all(machine, linker, &types);
    }
}

/// Loads from the table that become something better, as whole instructions with every register.
#[test]
fn relaxed_loads() {
    let registers: [[&str; 16]; 2] = [
        [
            "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
            "r14", "r15",
        ],
        [
            "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "r8d", "r9d", "r10d", "r11d", "r12d",
            "r13d", "r14d", "r15d",
        ],
    ];
    let mut source = String::from(".text\n.balign 16\n.zero 16\n");
    let mut count = 1;
    for (register, width) in
        registers.into_iter().zip(["q", "l"]).flat_map(|(all, width)| all.map(|it| (it, width)))
    {
        source += &format!("mov{width} here@GOTPCREL(%rip), %{register}\n.balign 16\n");
        count += 1;
    }
    for instruction in ["call *", "jmp *", "cmpq %rax, ", "testq %rcx, ", "addq ", "pushq "] {
        let tail = if instruction == "addq " { ", %rdx" } else { "" };
        source += &format!("{instruction}here@GOTPCREL(%rip){tail}\n.balign 16\n");
        count += 1;
    }
    source += ".globl here\n.hidden here\n.type here, @function\nhere: ret\n.balign 16\n";
    let object = common::compile_as(X86_64, &source, &["-c", "-x", "assembler"]);
    let (_, unrelaxed, size) = linker::section(&object, ".text").unwrap();
    let unrelaxed = &object[unrelaxed..unrelaxed + size];
    let (_, table, size) = linker::section(&object, ".rela.text").unwrap();
    let places: Vec<usize> =
        (table..table + size).step_by(24).map(|at| u64_at(&object, at) as usize).collect();
    assert_eq!(places.len(), count - 1);
    for linker in Linker::ALL {
        let file = linker::run(X86_64, linker, &object, "", &["-shared", "-Ttext=0x10000000"]).unwrap();
        let (address, theirs, size) = linker::section(&file, ".text").unwrap();
        let theirs = &file[theirs..theirs + size];
        let here = linker::symbols(&file)["here"];
        let mut relaxed = 0;
        for place in &places {
            let mut ours = unrelaxed.to_vec();
            let around = place & !15..(place | 15) + 1;
            let Some(load) = Load::at(&ours, *place) else {
                // Only the displacement differs: it still leads to the table.
                let kept = [around.start..*place, place + 4..around.end];
                assert!(kept.into_iter().all(|range| ours[range.clone()] == theirs[range]));
                continue;
            };
            load.relax(&mut ours, *place, here.wrapping_sub(address + *place as u64 + 4) as i64).unwrap();
            assert_eq!(ours[around.clone()], theirs[around.clone()], "{linker:?} {load:?} at {place:#x}");
            relaxed += 1;
        }
        assert_eq!(relaxed, 32 + 2);
    }
}

/// Types that neither linker knows: the ABI document's operation and field, one by one.
#[test]
fn what_no_linker_knows() {
    let movw = |group, check| Encoding::Field(Field::Move { group, check });
    let (table, local) = (What::Entry(Slot::Address), What::Entry(Slot::Local));
    let pair = |checked| Encoding::Field(Field::Access { log2: 4, checked });
    let expected = [
        ("R_AARCH64_MOVW_GOTOFF_G0", table, From::Table, movw(0, Check::Signed)),
        ("R_AARCH64_MOVW_GOTOFF_G1_NC", table, From::Table, movw(1, Check::Nothing)),
        ("R_AARCH64_MOVW_GOTOFF_G2", table, From::Table, movw(2, Check::Signed)),
        ("R_AARCH64_MOVW_GOTOFF_G2_NC", table, From::Table, movw(2, Check::Nothing)),
        ("R_AARCH64_MOVW_GOTOFF_G3", table, From::Table, movw(3, Check::Signed)),
        ("R_AARCH64_GOTREL64", What::Address, From::Table, Encoding::Word),
        ("R_AARCH64_GOTREL32", What::Address, From::Table, Encoding::Signed(4)),
        ("R_AARCH64_TLSLD_MOVW_G1", local, From::Table, movw(1, Check::Signed)),
        ("R_AARCH64_TLSLD_MOVW_G0_NC", local, From::Table, movw(0, Check::Nothing)),
        ("R_AARCH64_TLSLD_LD_PREL19", local, From::Place, Encoding::Field(Field::Literal)),
        ("R_AARCH64_TLSLD_LDST128_DTPREL_LO12", What::BlockOffset, From::Zero, pair(true)),
        ("R_AARCH64_TLSLD_LDST128_DTPREL_LO12_NC", What::BlockOffset, From::Zero, pair(false)),
        ("R_AARCH64_TLS_DTPREL", What::BlockOffset, From::Zero, Encoding::Word),
    ];
    for machine in BOTH {
        let known = |linker| types(machine, linker, |_| true);
        let all = (0..2048).filter_map(|r_type| Some((r_type, machine.howto(r_type)?)));
        let nobody: Vec<_> = all
            .filter(|it| Linker::ALL.into_iter().all(|linker| !known(linker).contains(it)))
            .map(|(r_type, howto)| (name(machine, r_type), howto.what, howto.from, howto.encoding))
            .collect();
        assert_eq!(nobody, if machine == X86_64 { vec![] } else { expected.to_vec() });
    }
}
