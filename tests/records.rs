//! The record of a load: what it says of the files, of the functions and of the variables, and what
//! it does not know.

mod support;

use std::path::{Path, PathBuf};

use midflight::{ContentHash, ModuleState, Outcome, Source};
use support::heard::{Heard, ONE, TWO, load};
use support::{is_macho, start};

#[test]
fn the_record_says_what_the_file_holds_and_what_has_changed() {
    let (rt, shop, _turn) = start("record");
    let (heard, _subscription) = Heard::new(rt);
    let first = "int stays(void) { return 1; } int changes(void) { return 2; } int goes(void) { return 3; }";
    let second =
        "int stays(void) { return 1; } int changes(void) { return 9; } int comes(void) { return 4; }";
    let (one, two) = (shop.module("recorded", 1, first), shop.module("recorded", 2, second));
    let hash = |path: &Path| *blake3::hash(&std::fs::read(path).unwrap()).as_bytes();

    let made = load(rt, &one).unwrap().generation;
    let record = heard.record();
    assert_eq!((record.outcome, record.generation, &record.error), (Outcome::Published, Some(made), &None));
    assert!(!record.watched && !record.took.is_zero());
    let [module] = &record.modules[..] else { panic!("{record:#?}") };
    assert_eq!((module.module.as_deref(), module.path.as_deref()), (Some("recorded"), Some(&*one)));
    assert_eq!((module.version, &module.before, module.state), (Some(1), &None, ModuleState::New));
    assert_eq!(module.content.unwrap().as_bytes(), &hash(&one));
    assert_eq!((module.is_unchanged(), module.functions()), (None, None));

    load(rt, &two).unwrap();
    let record = heard.record();
    let [module] = &record.modules[..] else { panic!("{record:#?}") };
    let before = module.before.as_ref().unwrap();
    assert_eq!((module.version, before.version, module.state), (Some(2), 1, ModuleState::Lost));
    assert_eq!(module.content.unwrap().as_bytes(), &hash(&two));
    assert_eq!(before.content.unwrap().as_bytes(), &hash(&one));
    assert_eq!(module.is_unchanged(), Some(false));
    let functions = module.functions().unwrap();
    assert_eq!((&functions.added[..], &functions.removed[..]), (&["comes".into()][..], &["goes".into()][..]));
    // Mach-O files do not say how long a function is.
    if is_macho() {
        assert_eq!(functions.unknown, ["changes", "stays"]);
    } else {
        assert_eq!((&functions.changed[..], functions.unknown.len()), (&["changes".into()][..], 0));
    }

    // The same bytes in another file: nothing has changed but the variables.
    let copy = shop.file("copy.so", &std::fs::read(&two).unwrap());
    // SAFETY: as for `load_with`.
    unsafe { rt.load(Source::linked("recorded", [&copy])) }.unwrap();
    let record = heard.record();
    let [module] = &record.modules[..] else { panic!("{record:#?}") };
    assert_eq!((module.is_unchanged(), module.state), (Some(true), ModuleState::Lost));
    assert_eq!(module.path.as_deref(), Some(&*copy));
    assert!(is_macho() || module.functions().unwrap().are_none(), "{module:#?}");
    rt.unload("recorded").unwrap();
}

/// Functions that refer to all that may move; the first is other code in each version, and so the
/// others are elsewhere.
fn referring(version: u32) -> String {
    let longer = "x = x * 31 + at[x & 3];".repeat(version as usize);
    format!(
        r#"#include <stdlib.h>
        #include <string.h>
        static int at[4] = {{1, 2, 3, 4}};
        int exported = 5;
        __attribute__((noipa)) int first(int x) {{ {longer} return x; }}
        int reads(void) {{ return at[2]++ + exported; }}
        const char *text(int x) {{ return x ? "one text" : "another text"; }}
        int calls(int x) {{ return first(x) + first(x + 1); }}
        int jumps(int x) {{ return first(x + 3); }}
        static __attribute__((noinline, cold)) int seldom(int x) {{ return abs(x) + at[x & 3]; }}
        int chooses(int x) {{
            if (__builtin_expect(x < 0, 0)) return seldom(x);
            switch (x) {{
            case 0: return at[0]; case 1: return 17; case 2: return abs(x - 9); case 3: return first(x);
            case 4: return exported; case 5: return 3; case 6: return at[3] * 3; default: return x;
            }}
        }}
        int libraries(const char *a) {{ return (int)strlen(a) + atoi(a); }}
        void *pointer(void) {{ return (void *)&calls; }}
        double constant(double x) {{ return x * 3.25 + 1.0 / 3.0; }}
        int alone(int x) {{ return x * 7; }}"#
    )
}

/// Makes a version.
type Build<'b> = Box<dyn Fn(u32) -> PathBuf + 'b>;

#[test]
fn what_has_only_moved_is_not_said_to_have_changed() {
    let (rt, shop, _turn) = start("moved");
    let (heard, _subscription) = Heard::new(rt);
    let object = |version: u32, flag: &str| {
        let name = format!("moved-{version}.c");
        shop.object(&name, &referring(version), &["-O2", flag])
    };
    let ways: [(&str, Build<'_>); 3] = [
        ("shared object", Box::new(|version| shop.module("moved", version, &referring(version)))),
        ("position-independent object", Box::new(|version| object(version, "-fPIC"))),
        ("object", Box::new(|version| object(version, "-fno-pic"))),
    ];
    for (way, build) in ways {
        for version in [1, 2, 9, 9] {
            let path = build(version);
            // SAFETY: as for `load_with`.
            unsafe { rt.load(Source::linked("moved", [path])) }.unwrap();
        }
        let records = std::mem::take(&mut *heard.records.lock().unwrap());
        assert_eq!(records.len(), 4, "{way}");
        for (place, record) in records.iter().enumerate().skip(1) {
            let functions = record.modules[0].functions().unwrap();
            if is_macho() {
                assert!(
                    functions.changed.is_empty() && functions.unknown.len() == 10,
                    "{way}: {functions:?}"
                );
                continue;
            }
            // The last was loaded twice.
            let changed: &[&str] = if place < 3 { &["first"] } else { &[] };
            assert_eq!(functions.changed, changed, "{way}, {place}: {functions:?}");
            assert!(!functions.unknown.contains(&"alone".into()), "{way}, {place}: {functions:?}");
            assert!(functions.added.is_empty() && functions.removed.is_empty(), "{way}: {functions:?}");
        }
        heard.told();
        rt.unload("moved").unwrap();
    }
}

#[test]
fn without_a_subscriber_nothing_is_looked_for_and_nothing_is_guessed() {
    let (rt, shop, _turn) = start("unheard");
    let (one, two) = (shop.module("unheard", 1, ONE), shop.module("unheard", 2, TWO));
    let first = load(rt, &one).unwrap();
    assert_eq!((first.modules[0].content, &first.modules[0].replaced), (None, &None));
    let (heard, subscription) = Heard::new(rt);
    load(rt, &one).unwrap();
    let record = heard.record();
    let module = &record.modules[0];
    assert!(module.content.is_some() && module.before.as_ref().unwrap().content.is_none());
    assert_eq!(module.is_unchanged(), None, "what was loaded before nobody has hashed");
    drop(subscription);
    let last = load(rt, &two).unwrap();
    assert_eq!(heard.told(), [""; 0]);
    let replaced = last.modules[0].replaced.as_ref().unwrap();
    assert!(replaced.version == 2 && replaced.content.is_some() && replaced.functions.is_none());
    assert_eq!((last.modules[0].content, last.modules[0].is_unchanged()), (None, None));
    assert_eq!(rt.modules().unwrap()[0].path, two);
    rt.unload("unheard").unwrap();
}

#[test]
fn the_hash_is_that_of_all_files_of_a_module() {
    let (rt, shop, _turn) = start("objects");
    let (heard, _subscription) = Heard::new(rt);
    let objects = [
        shop.object("a.c", "int a(void) { return 1; }", &[]),
        shop.object("b.c", "int b(void) { return 2; }", &[]),
    ];
    let hash = |objects: &[&PathBuf]| -> ContentHash {
        // SAFETY: as for `load_with`.
        unsafe { rt.load(Source::linked("objects", objects.iter().copied())) }.unwrap();
        heard.record().modules[0].content.unwrap()
    };
    let [a, b] = &objects;
    let alone = hash(&[a]);
    assert_eq!(alone.as_bytes(), blake3::hash(&std::fs::read(a).unwrap()).as_bytes());
    let both = hash(&[a, b]);
    assert_eq!(both, hash(&[a, b]));
    assert!(both != alone && both != hash(&[b, a]));
    rt.unload("objects").unwrap();
}
