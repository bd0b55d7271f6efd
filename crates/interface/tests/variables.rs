//! The variables of modules with their layouts, from what real compilers write.

mod common;

use common::*;
use midflight_image::{Image, Input, Machine};
use midflight_interface::{Variable, VariablePlace, Variables};

fn variables(machine: Machine, files: &[Vec<u8>]) -> Variables {
    let names: Vec<_> = (0..files.len()).map(|index| format!("{index}.o")).collect();
    let inputs: Vec<_> = names.iter().zip(files).map(|(name, bytes)| Input { name, bytes }).collect();
    let image = Image::parse_all(&inputs, machine, 4096, 1 << 30).unwrap();
    let read = Variables::of(&image).unwrap();
    // Each is where the symbol table has it.
    for export in image.exports().iter().filter(|export| !export.name.starts_with("_Z")) {
        let there = read.at(export.offset).map(|variable| &*variable.name);
        assert!(there.is_none_or(|name| name.ends_with(export.name)), "{}: {there:?}", export.name);
    }
    read
}

#[track_caller]
fn find<'v>(read: &'v Variables, name: &str) -> &'v Variable {
    let mut found = read.variables.iter().filter(|variable| &*variable.name == name);
    let names = || read.variables.iter().map(|variable| &*variable.name).collect::<Vec<_>>();
    let variable = found.next().unwrap_or_else(|| panic!("no {name} in {:?}", names()));
    assert!(found.next().is_none(), "{name} is there once");
    variable
}

fn described(read: &Variables, name: &str) -> String {
    read.layouts.describe(find(read, name).of)
}

#[test]
fn variables_of_c() {
    const SOURCE: &str = "
        struct node { struct node *next; float at[3]; unsigned kind : 3, flag : 1; _Bool on; };
        enum colour { RED, GREEN = 7 };
        struct hidden;
        int counter = 4;
        static struct node nodes[10];
        enum colour colour;
        struct hidden *unknown;
        int (*callback)(int);
        static const int limit = 5;
        const int *where(void) { return &limit; }
        int next(void) { static long calls; nodes[calls % 10].on = 1; return (int)++calls + counter; }
        union { int i; double d; } both;
        long grid[2][3];
        struct node *first(void) { return nodes + (unknown != 0) + (callback != 0) + colour + both.i; }
    ";
    for build in BUILDS {
        let read = variables(build.machine, &build.files(&[SOURCE], &[]));
        assert!(read.untyped.is_none());
        let node = "struct node, 24 bytes: 0 next (struct node *), 8 at (array of 3), 20 kind :3 (uint32_t), \
                    20 flag :1 (uint32_t), 21 on (bool)";
        for (name, source, expected) in [
            ("counter", None, "int32_t, 4 bytes"),
            ("nodes", Some("part0.c"), "array of 10, 240 bytes"),
            ("colour", None, "enum colour, 4 bytes"),
            ("unknown", None, "struct hidden *, 8 bytes"),
            ("callback", None, "pointer to code, 8 bytes"),
            ("next::calls", Some("part0.c"), "int64_t, 8 bytes"),
            ("grid", None, "array of 6, 48 bytes"),
        ] {
            let variable = find(&read, name);
            assert_eq!(described(&read, name), expected, "{build:?}");
            assert_eq!(variable.source.as_deref(), source, "{build:?} {name}");
            assert!(matches!(variable.place, VariablePlace::Image(_)) && !variable.constant, "{name}");
            assert!(!variable.constructed && variable.guard.is_none());
        }
        assert!(find(&read, "limit").constant);
        let both = described(&read, "both");
        assert!(both.ends_with("8 bytes: 0 i (int32_t), 0 d (float of 64 bits)"), "{both}");
        let nodes = find(&read, "nodes");
        let Some(midflight_migrate::Type::Array { element, .. }) = read.layouts.get(nodes.of) else {
            panic!("nodes are an array");
        };
        assert_eq!(read.layouts.describe(*element), node, "{build:?}");
    }
}

#[test]
fn places_are_where_the_variables_are() {
    for build in BUILDS {
        let files = build.files(&["long one = 11; static long two[2] = {22, 33}; long f(int i) { two[i]++; return one + two[i]; }"], &[]);
        let read = variables(build.machine, &files);
        let inputs: Vec<_> = files.iter().map(|bytes| Input { name: "m.o", bytes }).collect();
        let image = Image::parse_all(&inputs, build.machine, 4096, 1 << 30).unwrap();
        let mut memory = vec![0; image.span() as usize];
        let host = midflight_image::Host { tls_module: 1, ..Default::default() };
        let bindings = vec![None; image.imports().len()];
        image.link(image.align().max(1 << 32), &mut memory, &host, &bindings).unwrap();
        for (name, value) in [("one", 11_u64), ("two", 22)] {
            let VariablePlace::Image(offset) = find(&read, name).place else { panic!("{name}") };
            let bytes = &memory[offset as usize..][..8];
            assert_eq!(u64::from_le_bytes(bytes.try_into().unwrap()), value, "{build:?} {name}");
        }
    }
}

#[test]
fn variables_of_cpp() {
    const SOURCE: &str = "//c++
        extern \"C\" int printf(const char *, ...);
        namespace sim {
            struct plain { int x; double y; };
            struct made { int x; made() : x(3) {} };
            struct ended { int x; ~ended() { printf(\"%d\", x); } };
            struct around { plain p; made m[2]; };
            struct shape { virtual int area() { return side; } int side; };
            struct derived : plain { int z; };
            plain p; made m; ended e; around a; shape s; derived d;
            template <class T> struct box { T value; box() : value(1) {} };
            box<int> boxed;
            int compute();
            int counted() { static int count = compute(); return ++count; }
        }
        namespace { int hidden; }
        thread_local int each;
        int *out() { return &hidden; }
        int *other() { return &each; }
    ";
    for build in BUILDS {
        let read = variables(
            build.machine,
            &build.files(&[SOURCE], &["-fno-threadsafe-statics", "-fno-use-cxa-atexit"]),
        );
        for (name, constructed) in [
            ("sim::p", false),
            ("sim::m", true),
            ("sim::e", true),
            ("sim::a", true),
            ("sim::s", false),
            ("sim::d", false),
            ("sim::boxed", true),
            ("sim::counted::count", false),
        ] {
            assert_eq!(find(&read, name).constructed, constructed, "{build:?} {name}");
        }
        assert!(find(&read, "sim::counted::count").guard.is_some(), "{build:?}");
        assert!(find(&read, "sim::p").guard.is_none());
        assert_eq!(find(&read, "each").place, VariablePlace::ThreadLocal, "{build:?}");
        let derived = described(&read, "sim::d");
        assert!(derived.contains("0 struct sim::plain (struct sim::plain), 16 z (int32_t)"), "{derived}");
        let shape = described(&read, "sim::s");
        assert!(shape.contains("0 _vptr (pointer to code), 8 side (int32_t)"), "{shape}");
        assert!(read.variables.iter().any(|variable| variable.name.ends_with("hidden")), "{build:?}");
    }
}

#[test]
fn variables_of_rust() {
    const SOURCE: &str = "#![no_std]
        use core::sync::atomic::AtomicU32;
        pub mod sim {
            use super::*;
            pub static COUNT: AtomicU32 = AtomicU32::new(7);
            pub struct World { pub agents: [u16; 3], pub chosen: Option<u32>, pub on: bool }
            pub static mut WORLD: World = World { agents: [1, 2, 3], chosen: None, on: true };
        }
        #[unsafe(no_mangle)] pub extern \"C\" fn next() -> u32 {
            unsafe { sim::WORLD.agents[0] += 1; }
            sim::COUNT.fetch_add(1, core::sync::atomic::Ordering::Relaxed)
        }
        #[unsafe(no_mangle)] pub extern \"C\" fn world() -> *mut sim::World { &raw mut sim::WORLD }";
    let (input, output) = (scratch("counting.rs"), scratch("counting.o"));
    std::fs::write(&input, SOURCE).unwrap();
    let mut rustc = std::process::Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--edition=2024", "--crate-name=counting", "--crate-type=lib", "-g", "-O", "-Cpanic=abort"]);
    rustc.args(["-Ccodegen-units=1", "--emit=obj", "-Awarnings", "-o"]).arg(&output).arg(&input);
    run(&mut rustc);
    let files = [std::fs::read(&output).unwrap()];
    // rustc's target is not this test's: it is that of the machine that builds.
    let machine = if files[0][18] == 62 { Machine::X86_64 } else { Machine::Aarch64 };
    let read = variables(machine, &files);
    let world = described(&read, "counting::sim::WORLD");
    for part in ["agents (array of 3)", "on (bool)", "chosen ("] {
        assert!(world.contains(part), "{world}");
    }
    assert!(!find(&read, "counting::sim::WORLD").constant && !find(&read, "counting::sim::COUNT").constant);
    assert!(described(&read, "counting::sim::COUNT").contains("4 bytes"));
    let (of, layouts) = (find(&read, "counting::sim::WORLD").of, &read.layouts);
    assert!(layouts.is_alike(of, layouts, of));
}

#[test]
fn layouts_of_two_compilers_and_two_versions_are_alike_or_not() {
    let source = |member: &str| {
        format!(
            "struct item {{ struct item *next; {member} long last; }}; struct item item; struct item *first = &item; \
             int other; int f(void) {{ return first == &item && other; }}"
        )
    };
    let read = |build: Build, member: &str| variables(build.machine, &build.files(&[&source(member)], &[]));
    for build in BUILDS {
        let (old, same) = (read(build, "int x;"), read(BUILDS[0], "int x;"));
        for (member, alike) in [("int y;", false), ("unsigned x;", false), ("int x, z;", false), ("", false)]
        {
            let new = read(build, member);
            for name in ["item", "first"] {
                let (was, is) = (find(&old, name).of, find(&new, name).of);
                assert_eq!(old.layouts.is_alike(was, &new.layouts, is), alike, "{build:?} {name} {member}");
                assert!(old.layouts.is_alike(was, &same.layouts, find(&same, name).of), "{build:?} {name}");
            }
            assert!(old.layouts.is_alike(find(&old, "other").of, &new.layouts, find(&new, "other").of));
        }
    }
}

#[test]
fn without_debug_information_it_is_said_why() {
    let build = BUILDS[0];
    let files = build.files(&["int x; int f(void) { return x; }"], &["-g0"]);
    let inputs = [Input { name: "m.so", bytes: &files[0] }];
    let image = Image::parse_all(&inputs, build.machine, 4096, 1 << 30).unwrap();
    let reason = Variables::of(&image).unwrap_err();
    assert!(reason.contains("build the module with -g"), "{reason}");
    let files = build.files(&["int x; int f(void) { return x; }"], &["-g1"]);
    let read = variables(build.machine, &files);
    assert_eq!(read.untyped.as_deref(), Some("part0.c"));
}
