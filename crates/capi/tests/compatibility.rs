//! What `hot_reload_check_compatibility` says.

mod support;

use std::path::Path;

use midflight::ErrorKind::{CompatibilityUnknown, Incompatible};
use midflight_c::hot_reload::*;
use support::*;

const UNKNOWN: i32 = 0;
const COMPATIBLE: i32 = 1;
const INCOMPATIBLE: i32 = 2;

fn check(path: &Path) -> (i32, Box<ModuleCompatibility>) {
    let mut info = Box::new(ModuleCompatibility::default());
    // SAFETY: a string, and a place for the answer.
    let code = unsafe { hot_reload_check_compatibility(c(path).as_ptr(), &mut *info) };
    (code, info)
}

fn verdicts(info: &ModuleCompatibility) -> [i32; 3] {
    [info.links, info.calls, info.state]
}

#[cfg(target_os = "linux")]
fn listed(info: &ModuleCompatibility) -> Vec<String> {
    let differences = info.differences[..info.listed_count as usize].iter();
    differences
        .map(|d| {
            let [kind, symbol] = [text(d.kind.as_ptr()), text(d.symbol.as_ptr())];
            format!(
                "{} {} {kind} {symbol}: {} -> {}",
                d.aspect,
                d.breaks.get(),
                text(d.old_value.as_ptr()),
                text(d.new_value.as_ptr())
            )
        })
        .collect()
}

// By ELF's debug information.
#[cfg(target_os = "linux")]
#[test]
fn what_differs_is_listed() {
    let session = start("compatibility");
    let module =
        |version, source: &str| session.module_for(std::env::consts::ARCH, "shape", version, source, &["-g"]);
    let first =
        module(1, "int area(int w, int h) { return w * h; } int edge(void) { return 4; } int table[4];");
    let (code, info) = check(&first);
    ok(code);
    assert!(!info.is_loaded.get() && info.abi_compatible.get());
    assert_eq!(verdicts(&info), [COMPATIBLE; 3]);

    ok(reload(&first));
    let (code, info) = check(&first);
    ok(code);
    assert!(info.is_loaded.get() && info.difference_count == 0, "{:?}", listed(&info));

    let (code, info) = check(&module(
        2,
        "double area(int w, double h) { return w * h; } int table[8]; int angle(void) { return 90; }",
    ));
    let listed = listed(&info);
    fails(code, Incompatible, "area");
    assert!(!info.abi_compatible.get());
    assert_eq!((info.links, info.calls), (INCOMPATIBLE, INCOMPATIBLE), "{listed:?}");
    assert_eq!(
        (info.exports_removed, info.exports_added, info.objects_resized, info.functions_changed),
        (1, 1, 1, 1),
        "{listed:?}"
    );
    assert_eq!(info.difference_count, info.listed_count);
    let of = |start: &str| {
        listed.iter().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}: {listed:?}"))
    };
    of("0 true export removed edge");
    of("0 false export added angle");
    of("0 true size changed table");
    assert!(of("1 true signature changed area").contains("double"), "{listed:?}");
    // The breaking ones come first.
    assert!(listed.iter().map(|line| line.contains(" false ")).is_sorted(), "{listed:?}");
    assert_eq!(statistics().total_reloads, 1);
}

#[test]
fn without_debug_information_it_is_not_known() {
    let session = start("compatibility-unknown");
    ok(reload(session.module("bare", 1, &returns(1))));
    let (code, info) = check(&session.module("bare", 2, &returns(2)));
    fails(code, CompatibilityUnknown, "bare");
    assert_eq!(verdicts(&info), [COMPATIBLE, UNKNOWN, UNKNOWN]);
    assert!(!text(info.unknown_because.as_ptr()).is_empty());
    assert!(!info.abi_compatible.get() && info.is_loaded.get());
}

#[test]
fn an_import_that_nobody_defines() {
    let session = start("compatibility-import");
    let (code, info) =
        check(&session.module("needy", 1, "int absent(void); int value(void) { return absent(); }"));
    fails(code, Incompatible, "absent");
    assert_eq!((info.links, info.imports_unresolved), (INCOMPATIBLE, 1));
}
