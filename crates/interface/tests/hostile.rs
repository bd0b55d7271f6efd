//! No debug information makes the crate panic, or take long: damaged modules, and what no compiler
//! would write.
//!
//! `fuzz/` does the same with coverage feedback; what it finds becomes a test here.

mod common;

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::OnceLock;

use common::*;
use midflight_image::{Input, Machine};
use midflight_interface::Interface;
use object::{Object, ObjectSection};
use proptest::prelude::*;

const RICH: &str = "typedef struct list list; struct list { list *next; unsigned a : 3, b : 9; union { int i; float f; } u; char name[4][2]; };
    enum kind { ONE, TWO = 7 }; static list *all; __thread int mine; static const int table[] = {1, 2, 3};
    int f(list *l, enum kind k, ...) { static list own; all = l; own = *l; return l->a + k + mine; }
    void g(int (*call)(list *), struct list by_value) { call(&by_value); } int *h(int x) { static int calls; return &calls + table[x]; }";
const CPP: &str = "//c++\nnamespace n { struct B { virtual int v(); int x; }; template <class T> struct D : B { T t; int v() override; D *next; }; \
    int B::v() { return x; } template <class T> int D<T>::v() { static T kept; return kept += next->t; } template struct D<int>; }";

/// A module, and where its debug information is.
type Seed = (Machine, Vec<u8>, Vec<Range<usize>>);

fn seeds() -> &'static [Seed] {
    static SEEDS: OnceLock<Vec<Seed>> = OnceLock::new();
    SEEDS.get_or_init(|| {
        let mut seeds = Vec::new();
        for (build, source, flags) in [
            (BUILDS[0], RICH, &[][..]),
            (BUILDS[1], RICH, &["-O0"]),
            (Build { form: Form::Object, ..BUILDS[2] }, RICH, &[]),
            (BUILDS[3], CPP, &[]),
            (BUILDS[0], CPP, &["-fdebug-types-section"]),
            (Build { dwarf: "-gdwarf-4", ..BUILDS[0] }, CPP, &["-fdebug-types-section"]),
        ] {
            let module = build.files(&[source], flags).remove(0);
            assert!(read(build.machine, std::slice::from_ref(&module)).has_debug_info());
            let file = object::File::parse(&*module).unwrap();
            let debug = file
                .sections()
                .filter(|section| section.name().is_ok_and(|name| name.starts_with(".debug_")));
            let places = debug.filter_map(|section| section.file_range());
            let places = places.map(|(start, size)| start as usize..(start + size) as usize).collect();
            seeds.push((build.machine, module, places));
        }
        seeds
    })
}

/// Reads it, and compares it with itself and with another. Returns whether it could be understood.
fn walk(machine: Machine, bytes: &[u8], other: &Interface) -> bool {
    let clock = common::clock::Clock::start();
    let Ok(interface) = Interface::read(&[Input { name: "damaged", bytes }], machine) else { return false };
    let same = interface.compare(&interface, 10);
    assert_eq!(same.count, 0, "{same}");
    for report in [interface.compare(other, 3), other.compare(&interface, 3)] {
        assert!(report.differences.len() <= 3 && report.count >= report.differences.len());
        assert!(report.to_string().len() < 10_000);
    }
    clock.within(60.0);
    interface.has_debug_info()
}

fn damage() -> impl Strategy<Value = (prop::sample::Index, prop::sample::Index, u64, usize)> {
    let number = prop_oneof![any::<u64>(), 0u64..0x100, Just(u64::MAX), (0u32..64).prop_map(|bit| 1 << bit)];
    (
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        number,
        prop::sample::select(vec![1, 1, 2, 4, 8]),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged(seed in 0..6usize, damages in prop::collection::vec(damage(), 1..6)) {
        let (machine, module, places) = &seeds()[seed];
        let mut bytes = module.clone();
        for (section, at, number, size) in &damages {
            let section = &places[section.index(places.len())];
            let at = section.start + at.index(section.len().max(1));
            let end = (at + size).min(bytes.len());
            bytes[at..end].copy_from_slice(&number.to_le_bytes()[..end - at]);
        }
        static WHOLE: OnceLock<Vec<Interface>> = OnceLock::new();
        let whole = WHOLE.get_or_init(|| seeds().iter().map(|(machine, module, _)| read(*machine, std::slice::from_ref(module))).collect());
        walk(*machine, &bytes, &whole[seed]);
    }
}

#[test]
fn some_damage_is_understood_and_some_is_not() {
    // Each byte of the debug information of one module, set to another value.
    let (machine, module, places) = &seeds()[0];
    let whole = read(*machine, std::slice::from_ref(module));
    let (mut understood, mut all) = (0, 0);
    for at in places.iter().flat_map(|place| place.clone().step_by(3)) {
        let mut bytes = module.clone();
        bytes[at] ^= 0x15;
        all += 1;
        understood += usize::from(walk(*machine, &bytes, &whole));
    }
    assert!(understood > all / 10 && understood < all * 99 / 100, "{understood} of {all}");
}

/// Debug information written by hand: types by number, each an entry at its label.
struct Hand {
    text: String,
    next: usize,
}

impl Hand {
    fn new() -> Self {
        let mut abbreviations = String::new();
        // Number, tag, children, and attributes with forms: name (string), type (ref4), size and
        // location (udata), and so on.
        for (number, tag, children, attributes) in [
            (1, 0x11, 1, &[][..]),
            (2, 0x16, 0, &[(0x49, 0x13)]),
            (3, 0x0F, 0, &[(0x49, 0x13)]),
            (4, 0x13, 1, &[(0x03, 0x08), (0x0B, 0x0F)]),
            (5, 0x0D, 0, &[(0x03, 0x0E), (0x49, 0x13), (0x38, 0x0F)]),
            (6, 0x2E, 1, &[(0x3F, 0x19), (0x03, 0x08), (0x11, 0x01)]),
            (7, 0x05, 0, &[(0x49, 0x13)]),
            (8, 0x15, 1, &[(0x49, 0x13)]),
            (9, 0x01, 1, &[(0x49, 0x13)]),
            (10, 0x2E, 0, &[(0x3F, 0x19), (0x47, 0x13)]),
        ] {
            write!(abbreviations, ".uleb128 {number}, {tag:#x}\n.byte {children}\n").unwrap();
            for (name, form) in attributes {
                writeln!(abbreviations, ".uleb128 {name:#x}, {form:#x}").unwrap();
            }
            abbreviations += ".byte 0, 0\n";
        }
        let text = format!(
            ".text\n.globl f\n.type f, %function\nnop\nf: ret\n.size f, .-f\n.section .debug_abbrev,\"\",%progbits\n{abbreviations}.byte 0\n\
            .section .debug_str,\"MS\",%progbits,1\nnames: .fill 1000000, 1, 0x78\n.byte 0\n\
            .section .debug_info,\"\",%progbits\nunit: .long 2f-1f\n1: .short 4\n.long 0\n.byte 8\n.uleb128 1\n"
        );
        Self { text, next: 0 }
    }

    fn line(&mut self, text: &str) {
        self.text += text;
        self.text += "\n";
    }

    fn label(&mut self) -> usize {
        let label = self.next;
        self.next += 1;
        writeln!(self.text, "t{label}:").unwrap();
        label
    }

    /// An entry that refers to the type of this number, which may come later.
    fn to(&mut self, code: u32, target: usize) -> usize {
        let label = self.label();
        writeln!(self.text, ".uleb128 {code}\n.long t{target}-unit").unwrap();
        label
    }

    fn open(&mut self, size: usize) -> usize {
        let label = self.label();
        writeln!(self.text, ".uleb128 4\n.asciz \"s{label}\"\n.uleb128 {size}").unwrap();
        label
    }

    fn member(&mut self, name: usize, target: usize, at: usize) {
        writeln!(self.text, ".uleb128 5\n.long {name}\n.long t{target}-unit\n.uleb128 {at}").unwrap();
    }

    /// The exported function, which takes these types.
    fn finish(mut self, parameters: &[usize]) -> Interface {
        self.line(".uleb128 6\n.asciz \"f\"\n.quad f");
        for parameter in parameters {
            self.to(7, *parameter);
        }
        self.line(".byte 0\n.byte 0\n2:");
        let machine = Machine::X86_64;
        let build = Build { machine, clang: false, dwarf: "-g0", form: Form::Shared };
        let files = build.files(&[&self.text], &["-x", "assembler"]);
        let clock = common::clock::Clock::start();
        let (interface, other) = (read(machine, &files), read(machine, &files));
        assert!(interface.has_debug_info(), "{}", interface.compare(&other, 1));
        let report = interface.compare(&other, 10);
        assert_eq!(report.count, 0, "{report}");
        clock.within(60.0);
        interface
    }
}

#[test]
fn types_that_are_made_of_themselves() {
    let mut hand = Hand::new();
    let mut all = vec![hand.to(2, 0), hand.to(3, 1), hand.to(2, 3), hand.to(2, 2)];
    let array = hand.to(9, hand.next);
    hand.line(".byte 0");
    let structure = hand.open(8);
    hand.member(0, structure, 0);
    hand.line(".byte 0");
    let function = hand.to(8, hand.next);
    hand.to(7, function);
    hand.line(".byte 0");
    let two = hand.next;
    all.extend([array, structure, function, hand.to(3, two + 1), hand.to(2, two)]);
    let circular = hand.next;
    hand.to(10, circular);
    let interface = hand.finish(&all);
    assert!(interface.memory() < 10_000);
}

#[test]
fn structures_deep_inside_each_other() {
    let mut hand = Hand::new();
    let first = hand.open(1);
    for _ in 0..5_000 {
        hand.open(1);
    }
    hand.line(".fill 5001, 1, 0");
    let deepest = hand.next - 1;
    hand.finish(&[first, deepest]);
}

#[test]
fn functions_that_take_functions() {
    // Each takes the next one twice: 2^200 ways through them.
    let mut hand = Hand::new();
    let first = hand.next;
    for _ in 0..200 {
        let at = hand.next;
        hand.to(8, at + 3);
        hand.to(7, at + 3);
        hand.to(7, at + 3);
        hand.line(".byte 0");
    }
    hand.open(1);
    hand.line(".byte 0");
    hand.finish(&[first]);
}

#[test]
fn many_members_that_are_many_functions() {
    let mut hand = Hand::new();
    let function = hand.next;
    hand.to(8, function + 1 + 1500);
    for _ in 0..1500 {
        hand.to(7, function + 1 + 1500);
    }
    hand.line(".byte 0");
    let last = hand.open(1);
    hand.line(".byte 0");
    let pointer = hand.to(3, function);
    assert_eq!(last + 1, pointer);
    let structure = hand.open(8);
    (0..1500).for_each(|at| hand.member(999_990, pointer, at));
    hand.line(".byte 0");
    hand.finish(&[structure]);
}

#[test]
fn long_chains_of_pointers() {
    let mut hand = Hand::new();
    for _ in 0..5_000 {
        let next = hand.next + 1;
        hand.to(3, next);
    }
    hand.open(1);
    hand.line(".byte 0");
    hand.finish(&[0]);
}

#[test]
fn names_that_are_made_of_one_another() {
    let mut hand = Hand::new();
    let structure = hand.open(8);
    (0..2_000).for_each(|at| hand.member(400 * at, structure, at));
    hand.line(".byte 0");
    hand.line(".uleb128 6\n.asciz \"f\"\n.quad f");
    hand.to(7, structure);
    hand.line(".byte 0\n.byte 0\n2:");
    let build = Build { machine: Machine::X86_64, clang: false, dwarf: "-g0", form: Form::Shared };
    let clock = common::clock::Clock::start();
    let interface = read(build.machine, &build.files(&[&hand.text], &["-x", "assembler"]));
    // Of names of a megabyte each only so much is taken.
    assert!(interface.memory() < 20_000_000, "{}", interface.memory());
    clock.within(60.0);
}
