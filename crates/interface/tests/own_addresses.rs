//! State that may hold addresses of the version that made it is not called compatible, whatever has
//! changed.

mod common;

use common::*;
use midflight_interface::Verdict::{self, Compatible, Incompatible, Unknown};

/// What the state's verdict is when nothing has changed, and why.
#[track_caller]
fn check(source: &str, expected: Option<&str>) {
    for build in BUILDS {
        let module = build.interface(&[source], &[]);
        let report = module.compare(&module, 10);
        let state = if expected.is_some() { Unknown } else { Compatible };
        assert_eq!((report.calls, report.state, report.count), (Compatible, state, 0), "{build:?}\n{report}");
        let reason = report.reason.clone().unwrap_or_default();
        assert!(reason.contains(expected.unwrap_or_default()), "{build:?}: {expected:?}\n{report}");
        assert_eq!(reason.is_empty(), expected.is_none());
    }
}

#[test]
fn functions_that_are_called_back() {
    let with = |members: &str| {
        format!(
            "struct ops {{ {members} }}; struct s {{ struct ops *ops; }}; int f(struct s *s) {{ return !s->ops; }}"
        )
    };
    check(&with("int x;"), None);
    check(
        &with("int x; int (*call)(int);"),
        Some("struct ops.call (the address of a function; reached from f)"),
    );
    check(&with("int (**calls)(int);"), Some("struct ops.calls"));
    check(&with("int (*calls[2][3])(int);"), Some("struct ops.calls"));
    check(&with("union { long x; void (*call)(void); } u;"), Some("struct ops.u.call"));
    check(&with("struct { struct { void (*call)(void); } in; } in[3];"), Some(".call"));
    check(
        "typedef int call(int); static call *current; int f(int x) { return current ? current(x) : 0; } void set(call *to) { current = to; }",
        Some("current (the address of a function)"),
    );
    // A parameter by itself is no state.
    check("int f(int (*call)(int)) { return call(1); }", None);
    check("struct by_value { int (*call)(int); }; int f(struct by_value v) { return v.call(1); }", None);
    check(
        "struct kept { int (*call)(int); }; struct kept f(void) { struct kept k = {0}; return k; }",
        Some("struct kept.call"),
    );
    check(
        "struct in { void (*call)(void); }; struct by_value { struct in *in; }; int f(struct by_value v) { return !v.in; }",
        Some("struct in.call"),
    );
}

#[test]
fn pointers_to_what_may_be_a_constant() {
    let of = |member: &str| format!("struct s {{ int x; {member} }}; int f(struct s *s) {{ return s->x; }}");
    check(&of("char *text;"), None);
    check(&of("void *any; struct s *next; char bytes[4];"), None);
    check(&of("char *const text;"), None);
    check(
        &of("const char *text;"),
        Some("struct s.text (the address of what may be a constant; reached from f)"),
    );
    check(&of("const char *texts[4];"), Some("struct s.texts"));
    check(&of("const char **texts;"), Some("struct s.texts"));
    check(&of("const void *any;"), Some("struct s.any"));
    check(&of("union { int x; const struct s *s; } u;"), Some("struct s.u.s"));
    check("const char *f(const char *text) { return text; }", None);
}

#[test]
fn variables_and_constants() {
    let uses = "int f(int x) { return name[x] != 0; }";
    check(
        &format!("static const char *name; void set(const char *to) {{ name = to; }} {uses}"),
        Some("name (the address of what may be a constant)"),
    );
    check(&format!("static const char *const name = \"text\"; {uses}"), None);
    check(
        "static const struct { const char *name; int (*call)(int); } all[2] = {{\"a\"}, {\"b\"}}; int f(int x) { return all[x].name[0]; }",
        None,
    );
    // It leads to what is none.
    check(
        "struct s { int (*call)(int); }; static struct s one; static struct s *const it = &one; int f(int x) { return it->call ? 0 : x; } void set(int (*to)(int)) { one.call = to; }",
        Some("struct s.call"),
    );
    check(
        "static __thread const char *last; int f(const char *x) { int was = last == x; last = x; return was; }",
        Some("last"),
    );
}

#[test]
fn what_cplusplus_has_of_them() {
    let object = |members: &str| {
        format!(
            "//c++\nstruct Other {{ int x; int run(); }}; {members}
             extern \"C\" Holder *make() {{ static Holder *kept; return kept; }} extern \"C\" int use(Holder *h) {{ Holder other(*h); return &other != h; }}"
        )
    };
    check(&object("struct Holder { int x; };"), None);
    check(&object("struct Holder { int Other::*member; };"), None);
    check(&object("struct Holder { int (Other::*call)(); };"), Some("Holder.call"));
    check(&object("struct Holder { const int &to; };"), Some("Holder.to"));
    check(&object("struct Holder { int &to; };"), None);
    // By gcc and by clang, whatever they call it.
    for class in [
        "struct Holder { int x; virtual int run() { return x; } };",
        "struct Base { virtual int run() { return 1; } }; struct Holder : Base { int x; };",
        "struct Base { int x; }; struct Holder : virtual Base { int y; };",
        "struct In { virtual int run() { return 1; } }; In one; template <class T> struct Box { T *value; }; struct Holder { Box<In> box[2]; };",
    ] {
        check(&object(class), Some("._vptr (the address of a table of virtual functions"));
    }
}

#[test]
fn the_library_of_cplusplus() {
    for (member, expected) in [
        (
            "std::vector<int> held; std::string text; std::map<int, std::string> map; std::unique_ptr<int> one;",
            None,
        ),
        ("std::function<int(int)> held;", Some("the address of a function")),
        ("std::vector<std::function<int(int)>> held;", Some("the address of a function")),
        ("std::map<int, std::string_view> held;", Some("the address of what may be a constant")),
        ("std::shared_ptr<int> held;", Some("_vptr")),
        ("std::list<const char *> held;", Some("the address of what may be a constant")),
        ("std::unordered_map<int, int (*)(int)> held;", Some("the address of a function")),
        ("std::set<int> held; std::list<long> list; std::unordered_map<int, std::string> map;", None),
    ] {
        let source = format!(
            "//c++\n#include <functional>\n#include <list>\n#include <map>\n#include <set>\n#include <unordered_map>\n#include <memory>\n#include <string>\n#include <string_view>\n#include <vector>
             struct Holder {{ {member} }}; extern \"C\" int use(Holder *h) {{ Holder other(std::move(*h)); return &other != h; }}"
        );
        // Both machines' libraries are there for gcc.
        for build in &BUILDS[..2] {
            let build = Build { form: Form::Object, ..*build };
            let module = build.interface(&[&source], &["-std=c++17", "-frtti", "-fexceptions"]);
            let report = module.compare(&module, 10);
            let reason = report.reason.clone().unwrap_or_default();
            match expected {
                None => assert_eq!((report.state, &*reason), (Compatible, ""), "{member}\n{report}"),
                Some(expected) => {
                    assert_eq!(report.state, Unknown, "{member}\n{report}");
                    assert!(reason.contains(expected), "{member}\n{report}");
                }
            }
        }
    }
}

#[test]
fn what_rust_has_of_them() {
    let compile = |member: &str| {
        let source = format!(
            "#![no_std] extern crate alloc;
             pub trait Run {{ fn run(&self) -> u32; }}
             pub struct Held {{ x: u32, held: {member} }}
             #[unsafe(no_mangle)] pub extern \"C\" fn step(held: &mut Held) -> u32 {{ held.x += 1; held.x }}"
        );
        let folder = scratch("crate");
        std::fs::create_dir(&folder).unwrap();
        let (input, output) = (folder.join("lib.rs"), folder.join("module.o"));
        std::fs::write(&input, source).unwrap();
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let mut rustc = std::process::Command::new(rustc);
        rustc.args(["--edition=2024", "--crate-type=lib", "-g", "-O", "-Cpanic=abort", "-Ccodegen-units=1"]);
        rustc.args(["--emit=obj", "-Awarnings", "-o"]).arg(&output).arg(&input);
        run(&mut rustc);
        let bytes = std::fs::read(&output).unwrap();
        let _ = std::fs::remove_dir_all(folder);
        let x86_64 = bytes[18] == 62;
        let machine =
            if x86_64 { midflight_image::Machine::X86_64 } else { midflight_image::Machine::Aarch64 };
        read(machine, &[bytes])
    };
    for (member, expected) in [
        ("(u8, [u64; 3])", None),
        ("alloc::vec::Vec<u32>", None),
        ("Option<alloc::boxed::Box<u32>>", None),
        ("&'static mut u32", None),
        ("&'static u32", Some("held")),
        ("&'static str", Some("&str")),
        ("alloc::vec::Vec<&'static [u32]>", Some("&[u32]")),
        ("fn(u32) -> u32", Some("the address of a function")),
        ("Option<fn(u32) -> u32>", Some("the address of a function")),
        ("alloc::boxed::Box<dyn Run>", Some("vtable")),
        ("alloc::vec::Vec<alloc::rc::Rc<dyn Run>>", Some("vtable")),
    ] {
        let module = compile(member);
        let report = module.compare(&module, 10);
        let reason = report.reason.clone().unwrap_or_default();
        match expected {
            None => assert_eq!((report.state, &*reason), (Compatible, ""), "{member}\n{report}"),
            Some(expected) => {
                assert_eq!((report.calls, report.state), (Compatible, Unknown), "{member}\n{report}");
                assert!(reason.contains(expected), "{member}\n{report}");
            }
        }
    }
}

/// Containers of nodes have no member that leads to what is in them.
#[test]
fn layouts_in_containers_are_compared() {
    let source = |member: &str| {
        format!(
            "//c++\n#include <map>\nstruct Agent {{ int x; {member} }}; struct Holder {{ std::map<int, Agent> agents; }};
             extern \"C\" int use(Holder *h) {{ return h->agents.size(); }}"
        )
    };
    for build in &BUILDS[..2] {
        let build = Build { form: Form::Object, ..*build };
        let [old, new] = ["", "long y;"].map(|member| build.interface(&[&source(member)], &[]));
        assert_eq!(old.compare(&old, 10).state, Compatible);
        let report = old.compare(&new, 10);
        assert_eq!(report.state, Incompatible, "{report}");
        assert!(report.to_string().contains("struct Agent: size 16"), "{report}");
    }
}

#[test]
fn what_has_changed_outweighs_it() {
    let source = "struct s { const char *text; int x; }; int f(struct s *s) { return s->x; }";
    for build in BUILDS {
        let old = build.interface(&[source], &[]);
        let report = old.compare(&build.interface(&[&source.replace("int x;", "long x;")], &[]), 10);
        assert_eq!(report.state, Incompatible, "{build:?}\n{report}");
        // What the newer version has of its own is no matter of the older one's state.
        let plain = build.interface(&[&source.replace("const ", "")], &[]);
        assert_eq!(plain.compare(&old, 10).state, Verdict::Compatible);
        assert_eq!(old.compare(&plain, 10).state, Unknown);
    }
}
