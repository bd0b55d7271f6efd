//! Names and debug information of several files, put together.

use crate::common::{BOTH, compile_as};
use crate::{BASE, Linked, link, parse, u64_at};

const FILES: [&str; 2] = [
    "static int helper(int x) { return x * 3; } int first(int x) { return helper(x) + helper(x + 1); }
     static int count = 3; int *p = &count;",
    "int second(int x) { return x - 1; } __thread int own = 4;",
];

#[test]
fn names_of_all_functions() {
    for machine in BOTH {
        let files = FILES.map(|source| compile_as(machine, source, &["-c", "-O0", "-fPIC"]));
        let linked = link(machine, &files);
        let symbols = linked.image.symbols();
        for (name, function) in [("helper", true), ("first", true), ("second", true), ("count", false)] {
            let symbol = symbols.symbols.iter().find(|symbol| symbols.name(symbol) == name.as_bytes());
            let symbol = symbol.unwrap_or_else(|| panic!("{name}"));
            assert_eq!((symbol.function, symbol.size > 0), (function, true));
            match name {
                "count" => assert_eq!(linked.word("p"), BASE + symbol.offset),
                "helper" => {}
                exported => assert_eq!(linked.export(exported).offset, symbol.offset),
            }
        }
        assert!(!symbols.symbols.iter().any(|symbol| symbols.name(symbol) == b"own"), "not in the image");
    }
}

/// What `addr2line` would say: the functions that the debug information of a linked file has.
fn addresses(linked: &Linked<'_>) -> Vec<u64> {
    let debug = linked.image.debug(BASE);
    assert_eq!(debug.omitted, None);
    let line = debug.section(".debug_line");
    // DW_LNE_set_address, of 8 bytes.
    let sets = line.windows(11).filter(|window| window[..3] == [0, 9, 2]);
    sets.map(|window| u64_at(window, 3)).collect()
}

#[test]
fn debug_information_is_true_for_the_address() {
    for machine in BOTH {
        let files = FILES.map(|source| compile_as(machine, source, &["-c", "-O0", "-fPIC", "-g"]));
        let linked = link(machine, &files);
        let found = addresses(&linked);
        let symbols = linked.image.symbols();
        let helper = symbols.symbols.iter().find(|symbol| symbols.name(symbol) == b"helper").unwrap();
        assert_eq!(
            found,
            [BASE + helper.offset, linked.address("second")],
            "{machine}: one line table for each file"
        );
        // Names are found at the offsets that the second file's units say: those of its own
        // strings, behind the first's.
        let debug = linked.image.debug(BASE);
        let strings = debug.section(".debug_str");
        let info = debug.section(".debug_info");
        let at = strings.windows(7).position(|window| window == b"second\0").unwrap() as u32;
        assert!(info.windows(4).any(|word| word == at.to_le_bytes()), "{machine}");
        let again = parse(machine, &files).unwrap().debug(BASE + 0x1000);
        assert_ne!(again.section(".debug_line"), debug.section(".debug_line"));
    }
}

#[test]
fn compressed_debug_information_is_left_out_by_name() {
    for machine in BOTH {
        let files = [compile_as(machine, FILES[0], &["-c", "-fPIC", "-g", "-gz=zlib"])];
        let debug = parse(machine, &files).unwrap().debug(BASE);
        assert!(debug.sections.is_empty() && debug.omitted.unwrap().contains("-gz"));
    }
}
