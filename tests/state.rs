//! State that modules declare (`MIDFLIGHT_STATE` of runtime_module.h), over their versions.

mod support;

use std::path::PathBuf;

use midflight::{Error, ErrorKind, Runtime, Source, StateProblem};
use support::{Workshop, start};

const INCLUDE: &str = concat!("-I", env!("CARGO_MANIFEST_DIR"), "/include");

midflight::module! {
    unsafe mod counting {
        safe fn next() -> i32;
        safe fn place() -> usize;
        safe fn number() -> i32;
    }
}

/// A version of a module that counts in a state, from 10 on. C, and C++ too.
fn source(number: i32, fields: &str, schema: &str) -> String {
    format!(
        r#"#include "runtime_module.h"
        RUNTIME_MODULE("counting", "{number}")
        struct world {{ {fields} }};
        MIDFLIGHT_STATE(struct world, world, {schema}) = {{10}};
        MIDFLIGHT_STATE(unsigned long, ticks, 0);
        #ifdef __cplusplus
        extern "C" {{
        #endif
        int next(void) {{ ticks++; return ++world.agents; }}
        unsigned long place(void) {{ return (unsigned long)&world; }}
        int number(void) {{ return {number}; }}
        #ifdef __cplusplus
        }}
        #endif
        "#
    )
}

const FIELDS: &str = "int agents; int rest[1000];";

fn shared(shop: &Workshop, number: i32, fields: &str, schema: &str) -> PathBuf {
    let source = source(number, fields, schema);
    shop.module_for(std::env::consts::ARCH, "counting", number as u32, &source, &[INCLUDE])
}

fn load(rt: Runtime, source: impl Into<Source>) -> Result<(), Error> {
    // SAFETY: the tests' modules have the functions as declared above.
    unsafe { rt.load(source) }.map(|_| ())
}

/// A call in a frame of its own.
fn calls() -> (i32, usize, i32) {
    let frame = Runtime::start().unwrap().frame();
    (counting::next(&frame), counting::place(&frame), counting::number(&frame))
}

fn unload(rt: Runtime) {
    rt.unload("counting").unwrap();
    let left = rt.collect().unwrap();
    assert_eq!((left.retained, left.busy, left.old_bytes), (0, 0, 0));
}

/// Loads versions one after the other: each goes on where the one before stopped, at the same
/// address; and what is loaded after an unload begins anew.
fn go_on(rt: Runtime, versions: impl IntoIterator<Item = PathBuf>) {
    let (mut count, mut place) = (10, None);
    for (version, path) in (1..).zip(versions) {
        load(rt, Source::linked("counting", [path])).unwrap();
        let (next, at, number) = calls();
        count += 1;
        assert_eq!((next, number), (count, version));
        assert_eq!(*place.get_or_insert(at), at);
        assert_eq!(rt.collect().unwrap().old_bytes, 0);
    }
    assert!(count > 11, "several versions were loaded");
    unload(rt);
}

#[test]
fn a_state_keeps_its_address_and_its_value_when_its_module_is_replaced() {
    let (rt, shop, _turn) = start("state-kept");
    go_on(rt, (1..=3).map(|number| shared(&shop, number, FIELDS, "1")));
    // Begins anew.
    go_on(rt, (1..=2).map(|number| shared(&shop, number, FIELDS, "1")));
}

#[test]
fn in_object_files_and_in_cpp_and_from_one_kind_of_file_to_the_other() {
    let (rt, shop, _turn) = start("state-kinds");
    for arguments in [&["-fPIC"][..], &["-fPIC", "-O2", "-fvisibility=hidden"], &["-fPIE"]] {
        let arguments: Vec<&str> = arguments.iter().copied().chain([INCLUDE]).collect();
        let object = |number: i32| {
            let file = format!("{number}-{}.c", arguments.len());
            // Exported whatever the compiler hides.
            let source = source(number, FIELDS, "1");
            let source = format!("#pragma GCC visibility push(default)\n{source}");
            shop.object(&file, &source, &arguments)
        };
        go_on(rt, (1..=2).map(object));
    }
    let cpp = shop.cpp("counting", 2, &source(2, FIELDS, "1"), &[INCLUDE]);
    let object = shop.object("3.cpp", &source(3, FIELDS, "1"), &["-fPIC", INCLUDE]);
    go_on(rt, [shared(&shop, 1, FIELDS, "1"), cpp, object]);
}

#[test]
fn a_frame_of_the_older_version_and_a_newer_one_share_the_state() {
    let (rt, shop, _turn) = start("state-frames");
    load(rt, shared(&shop, 1, FIELDS, "1")).unwrap();
    let before = rt.frame();
    assert_eq!((counting::next(&before), counting::number(&before)), (11, 1));
    load(rt, shared(&shop, 2, FIELDS, "1")).unwrap();
    let newer = std::thread::scope(|scope| scope.spawn(calls).join().unwrap());
    assert_eq!((newer.0, newer.2), (12, 2));
    assert_eq!((counting::next(&before), counting::number(&before)), (13, 1));
    assert_eq!(counting::place(&before), newer.1);
    drop(before);
    unload(rt);
}

#[test]
fn a_rollback_has_the_state_as_it_is() {
    let (rt, shop, _turn) = start("state-rollback");
    load(rt, shared(&shop, 1, FIELDS, "1")).unwrap();
    let (_, place, _) = calls();
    let options = midflight::LoadOptions::new().keep_previous(true);
    // SAFETY: as in `load`.
    unsafe { rt.load_with([shared(&shop, 2, FIELDS, "1")], &options) }.unwrap();
    assert_eq!(calls(), (12, place, 2));
    rt.rollback_module("counting").unwrap();
    assert_eq!(calls(), (13, place, 1));
    unload(rt);
}

#[test]
fn what_a_module_refuses_or_lacks_leaves_the_state_as_it_was() {
    let (rt, shop, _turn) = start("state-refused");
    load(rt, shared(&shop, 1, FIELDS, "1")).unwrap();
    let (_, place, _) = calls();
    let refuses = format!("{}\nint module_init(void) {{ return 7; }}", source(2, FIELDS, "1"));
    let refuses = shop.module_for(std::env::consts::ARCH, "counting", 2, &refuses, &[INCLUDE]);
    assert!(matches!(load(rt, refuses), Err(Error::Refused { code: 7, .. })));
    assert_eq!(calls(), (12, place, 1));
    unload(rt);
}

#[test]
fn another_layout_that_nothing_carries_over_is_refused_with_both_in_the_message() {
    let (rt, shop, _turn) = start("state-layout");
    load(rt, shared(&shop, 1, FIELDS, "1")).unwrap();
    let larger = "int agents; int rest[1001];";
    for (number, fields, schema) in [(2, FIELDS, "2"), (3, larger, "1")] {
        let path = shared(&shop, number, fields, schema);
        let error = load(rt, &path).unwrap_err();
        let Error::State { state, problem: StateProblem::Changed { before, now, obstacles }, .. } = &error
        else {
            panic!("{error}");
        };
        assert_eq!((&**state, error.kind(), &obstacles[..]), ("world", ErrorKind::Incompatible, &[][..]));
        let text = error.to_string();
        assert!(text.contains(&before.to_string()) && text.contains(&now.to_string()), "{text}");
        assert!(text.contains("Without debug information"), "{text}");
        assert_eq!((before.schema, now.schema.to_string().as_str()), (1, schema));
        // Nothing has happened.
        assert_eq!(calls().2, 1);
        let rehearsed = rt.dry_run([path], &midflight::LoadOptions::new());
        assert!(matches!(rehearsed, Err(Error::State { .. })), "{rehearsed:?}");
    }
    unload(rt);
    load(rt, shared(&shop, 3, larger, "1")).unwrap();
    assert_eq!(calls().0, 11);
    unload(rt);
}

/// As [`shared`], with debug information.
#[cfg(target_os = "linux")]
fn described(shop: &Workshop, number: i32, fields: &str, schema: &str) -> PathBuf {
    let source = source(number, fields, schema).replace("= {10}", "= {.agents = 10, FIRST}");
    let first = if fields.contains("health") { ".health = 75" } else { "" };
    let source = source.replace("FIRST", first);
    let folder = 100 + number as u32;
    shop.module_for(std::env::consts::ARCH, "counting", folder, &source, &[INCLUDE, "-g"])
}

#[cfg(target_os = "linux")]
#[test]
fn another_layout_is_carried_over_by_both_versions_debug_information() {
    if support::is_macho() {
        return;
    }
    let (rt, shop, _turn) = start("state-plan");
    // The same size and schema: debug information says that it is another.
    let old = described(&shop, 1, "int agents; short rest[4]; long gone;", "1");
    let new = described(&shop, 2, "long more; int health; int rest[6]; long agents;", "1");
    load(rt, old).unwrap();
    let (_, before, _) = calls();
    rt.dry_run([&new], &midflight::LoadOptions::new()).unwrap();
    let options = midflight::LoadOptions::new().keep_previous(true);
    // SAFETY: as in `load`.
    unsafe { rt.load_with([&new], &options) }.unwrap();
    let (next, after, number) = calls();
    assert_eq!((next, number), (12, 2));
    assert_ne!(before, after);
    // SAFETY: the state's second member, which nobody writes.
    let health = unsafe { std::ptr::with_exposed_provenance::<i32>(after + 8).read() };
    assert_eq!(health, 75, "what is new has its first value");
    // The older version has what it had when it was replaced.
    rt.rollback_module("counting").unwrap();
    assert_eq!(calls(), (12, before, 1));
    unload(rt);
}

#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_planned_is_refused_by_member() {
    if support::is_macho() {
        return;
    }
    let (rt, shop, _turn) = start("state-obstacles");
    load(rt, described(&shop, 1, "int agents; long wide;", "1")).unwrap();
    let error = load(rt, described(&shop, 2, "int agents; short wide;", "1")).unwrap_err();
    let text = error.to_string();
    for part in ["`wide`: it has 16 bits where it had 64", "8 wide (int64_t)", "4 wide (int16_t)"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!((calls().0, calls().2), (11, 1));
    unload(rt);
}

#[cfg(target_os = "linux")]
#[test]
fn a_module_makes_its_state_itself_and_may_refuse() {
    let (rt, shop, _turn) = start("state-hook");
    load(rt, shared(&shop, 1, FIELDS, "1")).unwrap();
    let migrating = |number: i32, result: &str| {
        let hook = format!(
            "int module_migrate_state(const char *state, const void *from, unsigned long old_size, unsigned schema,
                                      void *to, unsigned long new_size) {{
                 if (state[0] != 'w' || schema != 1 || old_size != 4004 || new_size != sizeof world) return -9;
                 ((struct world *)to)->agents = 1000 + ((const struct world *)from)->agents;
                 return {result};
             }}"
        );
        let source = source(number, "int agents; char name[8];", "2") + &hook;
        shop.module_for(std::env::consts::ARCH, "counting", number as u32, &source, &[INCLUDE])
    };
    assert_eq!(calls().0, 11);
    let error = load(rt, migrating(2, "7")).unwrap_err();
    assert!(
        matches!(error, Error::State { problem: StateProblem::NotMigrated { code: 7 }, .. })
            && error.kind() == ErrorKind::Refused,
        "{error}"
    );
    assert_eq!((calls().0, calls().2), (12, 1));
    load(rt, migrating(3, "0")).unwrap();
    assert_eq!((calls().0, calls().2), (1014, 3));
    unload(rt);
}

#[cfg(target_os = "linux")]
#[test]
fn a_variable_that_the_module_reaches_by_itself_is_refused() {
    let (rt, shop, _turn) = start("state-bound");
    if support::is_macho() {
        return;
    }
    let source = source(1, FIELDS, "1");
    let list = shop.file("list", b"{ global: next; place; number; local: *; };");
    let hidden = format!("-Wl,--version-script={}", list.display());
    for (number, argument) in [(1, "-Wl,-Bsymbolic"), (2, &hidden)] {
        let path = shop.module_for(std::env::consts::ARCH, "counting", number, &source, &[INCLUDE, argument]);
        let error = load(rt, &path).unwrap_err();
        assert!(matches!(error, Error::State { problem: StateProblem::OutOfReach, .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::InvalidModule);
    }
}

#[test]
fn no_memory_is_left_when_the_module_is_gone() {
    let (rt, shop, _turn) = start("state-memory");
    let states = || support::mappings().lines().filter(|line| line.contains("midflight: state")).count();
    let paths = [1, 2].map(|number| shared(&shop, number, FIELDS, "1"));
    let live = || {
        for path in paths.iter().cycle().take(40) {
            load(rt, path).unwrap();
            rt.collect().unwrap();
            if cfg!(target_os = "linux") && !support::is_forced("page-size=65536") {
                assert!(states() <= 2, "{}", support::mappings());
            }
        }
        unload(rt);
        assert_eq!(states(), 0);
    };
    // The first time there is code memory to be had, which stays.
    live();
    let before = support::count_mappings();
    live();
    let after = support::count_mappings();
    assert!(after <= before + 4, "{before}, then {after}:\n{}", support::mappings());
}

#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
#[test]
fn in_mach_o_too() {
    let Some((rt, shop, _turn)) = support::start_macho("state-macho") else { return };
    let source = |number| {
        let source = source(number, FIELDS, "1");
        source.replace("#include \"runtime_module.h\"", include_str!("../include/runtime_module.h"))
    };
    go_on(rt, (1..=2).map(|number| shop.macho("counting", number as u32, &source(number), &[])));
    // Object files of Mach-O have such variables for themselves.
    let object = shop.macho_object("1.c", &source(1), &[]);
    let refused = load(rt, Source::linked("counting", [object]));
    assert!(matches!(refused, Err(Error::State { problem: StateProblem::OutOfReach, .. })), "{refused:?}");
    let other = shop.macho(
        "counting",
        3,
        &source(1).replace("(struct world, world, 1)", "(struct world, world, 2)"),
        &[],
    );
    load(rt, shop.macho("counting", 4, &source(1), &[])).unwrap();
    assert!(matches!(load(rt, other), Err(Error::State { problem: StateProblem::Changed { .. }, .. })));
    unload(rt);
}
