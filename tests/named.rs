//! Functions by the names that their authors gave them, and what is said of those that nobody has.

mod support;

use std::path::Path;

use midflight::{Error, ErrorKind, Runtime};
use support::start;

fn load(rt: Runtime, path: impl AsRef<Path>) -> Result<(), Error> {
    // SAFETY: the modules of this file are sound.
    unsafe { rt.load(path.as_ref()) }.map(drop)
}

fn call(rt: Runtime, module: &str, name: &str) -> Result<i32, Error> {
    let address = rt.frame_symbol(module, name)?;
    // SAFETY: those that are called are of this type, and in a frame.
    let function: extern "C" fn() -> i32 = unsafe { std::mem::transmute(address) };
    let _frame = rt.frame();
    Ok(function())
}

const SHAPES: &str = "
    namespace shapes {
        int count() { return 3; }
        int area() { return 4; }
        int area(int) { return 5; }
        int area(const char *) { return 6; }
        template <class T> T twice(T value) { return 2 * value; }
        template int twice<int>(int);
        struct Box {
            int size() const;
            int operator()();
        };
        int Box::size() const { return 7; }
        int Box::operator()() { return 8; }
    }
    extern \"C\" int plain() { return 9; }
    extern \"C\" int area_of_all() { return 10; }";

#[test]
fn functions_are_found_by_name() {
    let (rt, shop, _turn) = start("named");
    let path = shop.cpp("shapes", 1, SHAPES, &[]);
    load(rt, &path).unwrap();
    for (name, expected) in [
        ("plain", 9),
        ("plain of type FivE", 9),
        ("_ZN6shapes5countEv", 3),
        ("shapes::count", 3),
        ("shapes::count()", 3),
        ("shapes::area()", 4),
        ("shapes::area(int)", 5),
        ("shapes::area( char const * )", 6),
        ("shapes::area of type FivE", 4),
        ("shapes::area of type FiPKcE", 6),
        ("shapes::Box::size", 7),
        ("shapes::Box::size() const", 7),
        ("shapes::Box::size of type MN6shapes3BoxEKFivE", 7),
        ("shapes::Box::operator()", 8),
    ] {
        assert_eq!(
            call(rt, "shapes", name).unwrap_or_else(|error| panic!("{name}: {error}")),
            expected,
            "{name}"
        );
    }
    // It is one function, however it is called.
    let by_name = rt.frame_symbol("shapes", "shapes::twice<int>").unwrap();
    assert_eq!(rt.frame_symbol("shapes", "_ZN6shapes5twiceIiEET_S1_").unwrap(), by_name);

    let error = call(rt, "shapes", "shapes::area").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let expected = "module `shapes` exports several functions `shapes::area`: say which, with its parameters: \
        `shapes::area(char const*)` (_ZN6shapes4areaEPKc), `shapes::area(int)` (_ZN6shapes4areaEi), \
        `shapes::area()` (_ZN6shapes4areaEv)";
    assert_eq!(error.to_string(), expected);
    let error = call(rt, "shapes", "shapes::count of type FifE").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSuchSymbol);
    assert!(error.to_string().ends_with(", but `shapes::count()` (_ZN6shapes5countEv)"), "{error}");
    for nothing in ["shapes::volume", "area", "shapes::area(", "shapes", "::", "()", " of type ", "count"] {
        let error = call(rt, "shapes", nothing).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSuchSymbol, "{nothing}: {error}");
    }

    // What was asked for by name is promised as any other.
    let error = load(rt, shop.cpp("shapes", 2, "int nothing;", &[])).unwrap_err();
    assert!(error.to_string().contains("`shapes::count()` (_ZN6shapes5countEv)"), "{error}");
}

#[test]
fn object_files_have_names_too() {
    let (rt, shop, _turn) = start("named-objects");
    load(rt, shop.object("shapes.cpp", SHAPES, &["-fno-exceptions"])).unwrap();
    assert_eq!(call(rt, "shapes", "shapes::area(int)").unwrap(), 5);
    assert!(call(rt, "shapes", "shapes::area").unwrap_err().to_string().contains("several"));
}

#[test]
fn what_nobody_has_is_said_line_by_line_with_who_may_be_meant() {
    let (rt, shop, _turn) = start("unresolved");
    load(rt, shop.cpp("shapes", 1, SHAPES, &[])).unwrap();
    let user = "
        namespace shapes { int area(double); int volume(); }
        int plain();
        extern \"C\" int strlen_of_nobody(const char *);
        int abs(int, int);
        extern \"C\" int use() {
            return shapes::area(1.0) + shapes::volume() + plain() + strlen_of_nobody(\"\") + abs(1, 2);
        }";
    let path = shop.cpp("user", 1, user, &[]);
    let error = load(rt, &path).unwrap_err();
    assert_eq!((error.kind(), error.path()), (ErrorKind::Unresolved, Some(&*path)));
    let text = error.to_string();
    let mut lines = text.lines();
    let first = lines.next().unwrap();
    assert!(first.contains("nothing defines 5 symbols that it needs. Of each: define it"), "{first}");
    let mut lines: Vec<_> = lines.map(str::trim).collect();
    lines.sort_unstable();
    let areas = ["PKc", "i", "v"].map(|of| format!("_ZN6shapes4areaE{of}"));
    let expected = [
        "`abs(int, int)` (_Z3absii), but the process has `abs` with C linkage: declare it extern \"C\""
            .into(),
        "`plain()` (_Z5plainv), but module `shapes` exports `plain`".into(),
        format!(
            "`shapes::area(double)` (_ZN6shapes4areaEd), but module `shapes` exports `shapes::area(char const*)` ({}), \
             module `shapes` exports `shapes::area(int)` ({}), module `shapes` exports `shapes::area()` ({})",
            areas[0], areas[1], areas[2]
        ),
        "`shapes::volume()` (_ZN6shapes6volumeEv)".into(),
        "`strlen_of_nobody`".into(),
    ];
    assert_eq!(lines, expected, "{text}");

    // A dry run says the same; one symbol is one line.
    assert_eq!(rt.dry_run([&path], &midflight::LoadOptions::default()).unwrap_err().to_string(), text);
    let path = shop.module("one", 1, "int absent(void); int use(void) { return absent(); }");
    let error = load(rt, &path).unwrap_err().to_string();
    let expected = format!("{}: nothing defines `absent`: define it in the module, load", path.display());
    assert!(error.starts_with(&expected) && error.lines().count() == 1, "{error}");

    // And one that was linked with C linkage where C++ is meant.
    let c = shop.module("c", 1, "int area(int); int use(void) { return area(1); }");
    let cpp = shop.cpp("cpp", 1, "int area(int) { return 1; }", &[]);
    load(rt, &cpp).unwrap();
    let error = load(rt, &c).unwrap_err().to_string();
    assert!(error.contains("`area`, but module `cpp` exports `area(int)` (_Z4areai): "), "{error}");
}

/// Many are named, and it does not take forever to say who has something like them.
#[test]
fn a_module_that_lacks_thousands() {
    let (rt, shop, _turn) = start("unresolved-many");
    let declared: String = (0..2000).map(|n| format!("int lacks{n}(void);")).collect();
    let called: String = (0..2000).map(|n| format!(" + lacks{n}()")).collect();
    let path = shop.module("many", 1, &format!("{declared} int use(void) {{ return 0{called}; }}"));
    let error = load(rt, &path).unwrap_err();
    assert!(matches!(&error, Error::Unresolved { symbols, omitted: 1000, .. } if symbols.len() == 1000));
    let text = error.to_string();
    assert!(text.contains("nothing defines 2000 symbols") && text.ends_with("\n  and 1000 more"));
}
