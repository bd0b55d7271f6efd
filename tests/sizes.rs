//! Modules of any size: those that are larger than an arena, and those of which most begins as zero
//! and costs nothing.

mod support;

use midflight::Source;
use support::start;

midflight::module! {
    unsafe mod pool { safe fn touch(at: usize) -> i32; }
    unsafe mod zeros { safe fn touch(at: usize) -> i32; }
    unsafe mod tables { safe fn touch(at: usize) -> i32; }
    unsafe mod objects { safe fn touch(at: usize) -> i32; }
}

/// An array of so many bytes that begins as zero, between variables that do not.
fn source(bytes: usize) -> String {
    format!(
        "static char array[{bytes}]; int before = 40; static int zero; int behind = 1;
        int touch(unsigned long at) {{ array[at] += before + behind + ++zero; return array[at]; }}"
    )
}

/// Pages that are in memory.
fn resident() -> usize {
    let usage = std::fs::read_to_string("/proc/self/statm").expect("/proc is mounted");
    usage.split(' ').nth(1).expect("the second field").parse().expect("a number")
}

/// Loads a version, calls it, and says how many bytes of memory that took.
fn taken(work: impl FnOnce()) -> usize {
    let before = resident();
    work();
    resident().saturating_sub(before) * 4096
}

#[test]
fn what_begins_as_zero_costs_nothing() {
    let (rt, shop, _turn) = start("sizes-zeros");
    let versions: Vec<_> = [(1, 48 << 20), (2, 100 << 20)]
        .map(|(version, bytes)| (shop.module("zeros", version, &source(bytes)), bytes))
        .into();
    let before = support::count_mappings();
    for round in 0..6 {
        let (file, bytes) = &versions[round % 2];
        let used = taken(|| {
            // SAFETY: C code with the declared type.
            unsafe { rt.load(file) }.unwrap();
            let frame = rt.frame();
            assert_eq!(zeros::touch(&frame, bytes - 1), 42, "each version begins as its file says");
            assert_eq!(zeros::touch(&frame, bytes / 2), 43);
        });
        // What copying or looking through the array would have touched is many times this.
        assert!(!cfg!(target_os = "linux") || forced() || used < 8 << 20, "{used} bytes, round {round}");
    }
    rt.unload("zeros").unwrap();
    rt.collect().unwrap();
    assert!(support::count_mappings() <= before + 16, "{}", support::mappings());
}

/// Whether a way is asked for that copies whole modules.
fn forced() -> bool {
    std::env::var("MIDFLIGHT_FALLBACKS").is_ok_and(|names| names.contains("toggled"))
}

#[test]
fn larger_than_an_arena() {
    let (rt, shop, _turn) = start("sizes-large");
    let constants = 80 << 20;
    let tables = format!(
        "const char table[{constants}] = {{7, [{last}] = 9}}; int touch(unsigned long at) {{ return table[at]; }}",
        last = constants - 1
    );
    // SAFETY: C code with the declared types.
    unsafe {
        rt.load(shop.module("tables", 1, &tables)).unwrap();
        rt.load(shop.module("pool", 1, &source(300 << 20))).unwrap();
    }
    let frame = rt.frame();
    assert_eq!([0, constants / 2, constants - 1].map(|at| tables::touch(&frame, at)), [7, 0, 9]);
    assert_eq!(pool::touch(&frame, (300 << 20) - 1), 42);
    drop(frame);
    // One is replaced, and both go.
    // SAFETY: as above.
    unsafe { rt.load(shop.module("pool", 2, &source(200 << 20))).unwrap() };
    assert_eq!(pool::touch(&rt.frame(), 5), 42);
    rt.unload("pool").unwrap();
    rt.unload("tables").unwrap();
    rt.collect().unwrap();
}

#[test]
fn object_files_with_large_arrays() {
    let (rt, shop, _turn) = start("sizes-objects");
    for flags in [&["-O2", "-fPIC"][..], &["-O0", "-fPIC"]] {
        let object = shop.object("large.c", &source(100 << 20), flags);
        // SAFETY: C code with the declared type.
        unsafe { rt.load(Source::linked("objects", [&object])) }.unwrap();
        assert_eq!(objects::touch(&rt.frame(), (100 << 20) - 1), 42);
    }
    rt.unload("objects").unwrap();
    rt.collect().unwrap();
}
