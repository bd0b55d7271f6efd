//! The types of functions that a module defines, and of those that it was compiled to call.

mod common;

use common::*;

const CALLER: &str = "typedef int number; struct body; number twice(const number); int print(char *, ...); \
    int step(struct body *); int open(); \
    int run(struct body *b) { return twice(1) + print(\"\", 1) + step(b) + open(2); }";

#[test]
fn callers_and_functions_say_the_same() {
    let defines = "struct body { int id; }; int twice(int x) { return x; } int step(struct body *b) { return b->id; } \
        int print(char *s, ...) { return *s; } int open(void) { return 1; } int table[4];";
    for build in BUILDS {
        let callee = build.interface(&[defines], &[]);
        let caller = build.interface(&[CALLER], &["-O1"]);
        for (function, signature) in
            [("twice", "int (int)"), ("step", "int (struct body *)"), ("print", "int (char *, ...)")]
        {
            assert_eq!(callee.signature(function).as_deref(), Some(signature), "{build:?}");
            assert_eq!(caller.expected_signature(function), Some(signature), "{build:?} {function}");
            // clang says it where it has optimized, as debuggers are told of call sites then.
            let plain = build.interface(&[CALLER], &["-O0"]);
            let expected = (!build.clang).then_some(signature);
            assert_eq!(plain.expected_signature(function), expected, "{build:?} {function}");
        }
        assert_eq!(callee.signature("table"), None, "a variable has none");
        // It does not say with what it is to be called.
        assert_eq!(caller.expected_signature("open"), None, "{build:?}");
        for unknown in ["run", "absent", ""] {
            assert_eq!(caller.expected_signature(unknown), None, "{build:?} {unknown}");
        }
    }
}

#[test]
fn what_is_not_known_is_not_said() {
    let build = BUILDS[0];
    let uses = |parameter: &str, name: &str| {
        format!("int twice({parameter}); int {name}({parameter} x) {{ return twice(x); }}")
    };
    let said = |sources: &[&str], options: &[&str]| {
        let interface = build.interface(sources, options);
        interface.expected_signature("twice").map(str::to_owned)
    };
    let (int, again, long) = (uses("int", "a"), uses("int", "b"), uses("long", "c"));
    assert_eq!(said(&[&int, &again], &[]).as_deref(), Some("int (int)"));
    assert_eq!(said(&[&int, &long], &[]), None, "units that do not agree");
    assert_eq!(said(&[&int], &["-g0"]), None);
    assert_eq!(said(&[&int], &["-g1"]), None, "lines only");
    // So many parameters that a text of them is cut.
    let many = vec!["struct a_name_that_is_rather_long *"; 20].join(", ");
    let long = format!("struct a_name_that_is_rather_long; int f({many}); int f({many});");
    let defines = format!("{long} int g(void) {{ return 1; }}");
    assert_eq!(build.interface(&[&defines], &[]).signature("f"), None);
    let names: Vec<_> = (0..20).map(|at| format!("struct a_name_that_is_rather_long *p{at}")).collect();
    let defines = format!("int f({}) {{ return 1; }}", names.join(", "));
    assert_eq!(build.interface(&[&defines], &["-w"]).signature("f"), None);
}

#[test]
fn methods_are_found_by_their_symbols() {
    let source = "//c++\nstruct C { int a; int f(int); }; int use(C &c) { return c.f(1); }";
    let interface = BUILDS[0].interface(&[source], &[]);
    let signature = interface.expected_signature("_ZN1C1fEi").map(str::to_owned);
    assert_eq!(signature.as_deref(), Some("int (struct C *, int)"));
}
