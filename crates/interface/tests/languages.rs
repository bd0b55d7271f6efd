//! C++ and Rust, type units, and what compilers say alike.

mod common;

use std::process::Command;

use common::*;
use midflight_image::Machine;
use midflight_interface::{Aspect, Kind, Verdict};

const GCC: Build = Build { machine: Machine::X86_64, clang: false, dwarf: "-gdwarf-5", form: Form::Shared };

fn lines(report: &midflight_interface::Report) -> String {
    report.differences.iter().map(|difference| format!("{difference}\n")).collect()
}

const CPP: &str = "//c++
namespace game {
struct Base { virtual int run(int); virtual void stop(); virtual ~Base(); int id; };
class Agent : public Base { public: int run(int) override; static int count; private: int hp; Agent *next; };
int Agent::count = 3;
int Base::run(int x) { return x; }
void Base::stop() {}
Base::~Base() { id = 0; }
template <class... T> int sum(T... all) { int each[] = {(int)all...}; return each[0] + each[1]; }
template int sum<int, float>(int, float);
int Agent::run(int x) { static long calls; calls += x; return hp + (next ? next->id : 0) + calls; }
template <class T> struct Box { T value; };
Box<int> kept;
int look(const Agent &agent, Box<float> box) { return agent.id + (int)box.value; }
}
extern \"C\" int enter(game::Agent *agent) { return agent->run(game::kept.value); }
";

#[test]
fn classes() {
    for build in BUILDS {
        let old = build.interface(&[CPP], &[]);
        let check = |from: &str, to: &str, aspects: [Verdict; 3], expected: &str| {
            assert!(CPP.contains(from));
            let new = build.interface(&[&CPP.replace(from, to)], &[]);
            let report = old.compare(&new, 100);
            assert_eq!([report.links, report.calls, report.state], aspects, "{build:?}\n{report}");
            assert!(lines(&report).contains(expected), "{build:?} {expected}\n{report}");
        };
        // Agents have tables of virtual functions, which are the version's own.
        use Verdict::{Compatible as Yes, Incompatible as No, Unknown as Maybe};
        check("int hp;", "int hp; ", [Yes, Yes, Maybe], "");
        check("int hp;", "long hp;", [Yes, No, No], "class game::Agent: size 32, hp: long at 16");
        check(
            "int id;",
            "short ids; int id;",
            [Yes, No, No],
            "`struct game::Base: size 16, id: int at 8, no ids`",
        );
        check(
            ": public Base",
            ": public virtual Base",
            [No, No, No],
            "base struct game::Base at a place of its own",
        );
        check("virtual void stop();", "virtual void go(); virtual void stop();", [No, No, No], "is number 2");
        check("Box<int> kept", "Box<long> kept", [No, Yes, No], "game::kept");
        check("static int count", "static int count, other", [Yes, Yes, Maybe], "");
        check(
            "static long calls",
            "static int calls",
            [Yes, Yes, No],
            "state: variable changed: game::Agent::run::calls: `long` is now `int`",
        );
        check("T value;", "T value; T old;", [No, No, No], "struct game::Box<float>");
        check("agent.id", "agent.id + 1", [Yes, Yes, Maybe], "");
    }
}

#[test]
fn private_implementations() {
    let source = |inner: &str| {
        format!(
            "//c++\n#line 1 \"api.hpp\"\nclass Impl; class Api {{ public: Api(); int run(); private: Impl *impl; }};\n#line 1 \"part0.cpp\"\n\
            class Impl {{ public: {inner} int x; }}; Api::Api() {{ static Impl one; impl = &one; }} int Api::run() {{ return impl->x; }}"
        )
    };
    for build in BUILDS {
        let [old, new] = ["", "long more;"].map(|inner| build.interface(&[&source(inner)], &[]));
        let report = old.compare(&new, 100);
        assert_eq!(report.verdict(Aspect::Calls), Verdict::Compatible, "{build:?}\n{report}");
        assert_eq!(report.verdict(Aspect::State), Verdict::Incompatible, "{build:?}\n{report}");
        assert!(lines(&report).contains("class Impl: size 16, x: int at 8"), "{build:?}\n{report}");
    }
}

#[test]
fn types_in_units_of_their_own() {
    for dwarf in ["-gdwarf-4", "-gdwarf-5"] {
        for (machine, form) in BOTH.into_iter().zip([Form::Shared, Form::Object]) {
            let build = Build { machine, dwarf, form, ..GCC };
            let plain = build.interface(&[CPP], &[]);
            let apart = build.interface(&[CPP], &["-fdebug-types-section"]);
            let changed = build.interface(&[&CPP.replace("int hp;", "long hp;")], &["-fdebug-types-section"]);
            let report = plain.compare(&apart, 100);
            let reason = report.reason.clone().unwrap_or_default();
            assert!(report.count == 0 && reason.contains("game::Base._vptr"), "{build:?}\n{report}");
            let report = apart.compare(&changed, 100);
            assert!(
                lines(&report).contains("calls: layout changed: class game::Agent"),
                "{build:?}\n{report}"
            );
        }
    }
}

const C: &str = "
    #include <stdarg.h>
    #include <stddef.h>
    enum mood { CALM, ANGRY = 200, LOST = -3 };
    union number { long long i; double d; char bytes[16]; };
    struct agent { struct agent *next; float at[3][2]; unsigned a : 3, b : 12; _Bool alive; enum mood mood; union number n; wchar_t w;
        struct { short x; struct { int deep; }; } inner; int (*call)(struct agent *, va_list); long double ld; void *any[]; };
    typedef struct { unsigned char c; signed char s; char p; } bytes;
    static struct agent *all; bytes some[4]; __thread int mine;
    typedef float vec __attribute__((vector_size(16)));
    vec add(vec a, vec b) { return a + b; }
    int f(struct agent *a, bytes b, const char *text, ...) { all = a; return a->n.i + b.c + mine; }
    double g(size_t n, int x[static 3], void (*done)(int)) { static int calls; calls++; done(x[0]); return n + calls; }
    struct agent h(struct agent a) { a.next = all; return a; }
    float _Complex z(float _Complex z) { return z; }
";

#[test]
fn compilers_and_versions_of_dwarf_agree() {
    for machine in BOTH {
        for (language, source) in [("C", C), ("C++", CPP)] {
            let mut versions = Vec::new();
            for clang in [false, true] {
                for dwarf in ["-gdwarf-4", "-gdwarf-5"] {
                    for form in [Form::Shared, Form::Object, Form::Archive] {
                        let build = Build { machine, clang, dwarf, form };
                        versions.push((build, build.interface(&[source], &[])));
                    }
                }
            }
            let (_, first) = &versions[0];
            for (build, other) in &versions {
                for report in [first.compare(other, 100), other.compare(first, 100)] {
                    // What is exported for C++'s sake is each compiler's own affair.
                    let differ =
                        report.differences.iter().filter(|difference| difference.aspect != Aspect::Links);
                    assert_eq!(differ.count(), 0, "{language} {build:?}\n{report}");
                    // Which is the same for all, too.
                    assert_eq!(report.reason, first.compare(first, 0).reason);
                    let own = if language == "C" { "struct agent.call" } else { "struct game::Base._vptr" };
                    assert!(report.reason.as_ref().is_some_and(|reason| reason.contains(own)), "{report}");
                    let links = report.links == Verdict::Compatible || language == "C++";
                    assert!(links, "{language} {build:?}\n{report}");
                }
            }
        }
    }
}

#[test]
fn rust() {
    let source = "#![no_std] #[panic_handler] fn panic(_: &core::panic::PanicInfo) -> ! { loop {} }
        #[repr(C)] pub struct Agent { x: f32, hp: Option<i32>, next: Option<&'static Agent> }
        static mut COUNT: u32 = 0;
        #[unsafe(no_mangle)] pub extern \"C\" fn step(agent: &mut Agent, dt: f32) -> u32 {
            agent.x += dt; if agent.hp == Some(3) { agent.hp = None; }
            unsafe { COUNT += 1; COUNT } }";
    let compile = |source: &str| {
        let folder = scratch("crate");
        std::fs::create_dir(&folder).unwrap();
        let (input, output) = (folder.join("lib.rs"), folder.join("module.so"));
        std::fs::write(&input, source).unwrap();
        let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        rustc.args([
            "--edition=2024",
            "--crate-type=cdylib",
            "-g",
            "-O",
            "-Cpanic=abort",
            "--crate-name=agents",
        ]);
        // The test may be for another machine than rustc's own.
        rustc.args(["-Clink-arg=-nostdlib", "-Awarnings", "-o"]).arg(&output).arg(&input);
        run(&mut rustc);
        let bytes = std::fs::read(&output).unwrap();
        let _ = std::fs::remove_dir_all(folder);
        // rustc's target is not this test's: it is that of the machine that builds.
        let machine = if bytes[18] == 62 { Machine::X86_64 } else { Machine::Aarch64 };
        read(machine, &[bytes])
    };
    let old = compile(source);
    let same = old.compare(&compile(&source.replace("3)", "4)")), 100);
    let own = same.reason.clone().unwrap_or_default();
    assert!(same.count == 0 && own.contains("Option<&agents::Agent>::Some.__0"), "{same}");
    let report = old.compare(&compile(&source.replace("Option<i32>", "Option<u32>")), 100);
    assert_eq!((report.links, report.calls), (Verdict::Compatible, Verdict::Incompatible), "{report}");
    assert!(lines(&report).contains("Option<u32>::Some: size 8, __0: u32 at 4"), "{report}");
    let report =
        old.compare(&compile(&source.replace("dt: f32", "dt: f64").replace("+= dt", "+= dt as f32")), 100);
    let signature = report.differences.iter().find(|difference| difference.kind == Kind::Signature).unwrap();
    assert_eq!(signature.subject, "step", "{report}");
    let report = old.compare(
        &compile(&source.replace("COUNT: u32", "COUNT: u64").replace("COUNT }", "COUNT as u32 }")),
        100,
    );
    assert_eq!((report.calls, report.state), (Verdict::Compatible, Verdict::Incompatible), "{report}");
    assert!(lines(&report).contains("agents::COUNT: `u32` is now `u64`"), "{report}");
}
