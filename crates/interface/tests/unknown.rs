//! What cannot be told is not called compatible.

mod common;

use common::*;
use midflight_image::Machine;
use midflight_interface::{Interface, Kind, Report, Verdict};

const SOURCE: &str = "struct s { int x; }; static struct s kept; int f(struct s *s) { kept = *s; return s->x; } int g(float x) { return x; }";

fn verdicts(report: &Report) -> [Verdict; 3] {
    [report.links, report.calls, report.state]
}

fn compared(old: &Interface, new: &Interface, reason: &str) -> Report {
    let report = old.compare(new, 10);
    let said = report.reason.clone().unwrap_or_default();
    assert!(!reason.is_empty() && said.contains(reason), "{said}: {reason}\n{report}");
    assert!(report.to_string().contains(&said));
    report
}

const UNKNOWN: [Verdict; 3] = [Verdict::Compatible, Verdict::Unknown, Verdict::Unknown];

#[test]
fn without_debug_information() {
    for build in BUILDS {
        let with = build.interface(&[SOURCE], &[]);
        let stripped = build.interface(&[SOURCE], &["-g0"]);
        assert!(with.has_debug_info() && !stripped.has_debug_info());
        let report =
            compared(&with, &stripped, "the newer version's debug information cannot be used: there is none");
        assert_eq!(verdicts(&report), UNKNOWN, "{build:?}");
        let report = compared(&stripped, &with, "the older version's");
        assert_eq!(verdicts(&report), UNKNOWN, "{build:?}");
        assert_eq!(verdicts(&stripped.compare(&stripped, 10)), UNKNOWN);
        let changed = build.interface(&[&SOURCE.replace("g(", "h(")], &["-g0"]);
        assert_eq!(with.compare(&changed, 10).links, Verdict::Incompatible, "links need none");
    }
}

#[test]
fn in_forms_that_are_not_read() {
    for build in BUILDS {
        let plain = build.interface(&[SOURCE], &[]);
        let forms: &[(&[&str], &str)] = match build.clang {
            false => {
                &[(&["-gsplit-dwarf"], ".dwo"), (&["-gz=zlib", "-Wl,--compress-debug-sections=zlib"], "-gz")]
            }
            true => &[(&["-gsplit-dwarf"], ".dwo")],
        };
        for (flags, reason) in forms {
            // A linker decompresses them.
            let build = if *reason == "-gz" { Build { form: Form::Object, ..build } } else { build };
            let other = build.interface(&[SOURCE], flags);
            assert_eq!(verdicts(&compared(&plain, &other, reason)), UNKNOWN, "{build:?}");
        }
    }
}

#[test]
fn one_unit_without() {
    for build in BUILDS {
        let whole = build.interface(&[SOURCE, "int k(void) { return 1; } int l = 3;"], &[]);
        let part = |other: &str| {
            let build = Build { form: Form::Object, ..build };
            let mut files = build.files(&[SOURCE], &[]);
            files.extend(build.files(&[other], &["-g0"]));
            read(build.machine, &files)
        };
        let partly = part("int k(void) { return 1; } int l = 3;");
        let report = compared(&whole, &partly, "the newer version's debug information does not describe k");
        assert_eq!(verdicts(&report), UNKNOWN, "{build:?}\n{report}");
        let variable = part("int l = 3;");
        let report = compared(&variable, &variable, "does not describe l");
        let only_state = [Verdict::Compatible, Verdict::Compatible, Verdict::Unknown];
        assert_eq!(verdicts(&report), only_state, "{build:?}\n{report}");
        // What is found is said nevertheless, and outweighs what is not known.
        let changed = build
            .interface(&[&SOURCE.replace("int x;", "long x;"), "int k(void) { return 1; } int l = 3;"], &[]);
        let report = partly.compare(&changed, 10);
        assert_eq!(
            verdicts(&report),
            [Verdict::Compatible, Verdict::Incompatible, Verdict::Incompatible],
            "{report}"
        );
        assert!(report.reason.is_some());
    }
}

/// Functions and lines, and no parameters, variables or types.
fn lines_only(build: Build) -> &'static [&'static str] {
    if build.clang { &["-g0", "-gline-tables-only"] } else { &["-g0", "-g1"] }
}

#[test]
fn lines_without_types() {
    for build in BUILDS {
        let whole = build.interface(&[SOURCE], &[]);
        let lines = build.interface(&[SOURCE], lines_only(build));
        let grown = build.interface(&[&SOURCE.replace("int x;", "long id; int x;")], lines_only(build));
        assert!(lines.has_debug_info(), "{build:?}");
        for (old, new) in [(&lines, &grown), (&lines, &lines), (&whole, &grown), (&grown, &whole)] {
            let report =
                compared(old, new, "does not describe f and 1 more exports: of part0.c it has lines and no");
            assert_eq!(verdicts(&report), UNKNOWN, "{build:?}\n{report}");
        }
    }
    // Without the compiler's note of its options too.
    let build = BUILDS[0];
    let lines = build.interface(&[SOURCE], &["-g1", "-gno-record-gcc-switches"]);
    assert_eq!(verdicts(&compared(&lines, &lines, "does not describe f")), UNKNOWN);
    // A module in which nothing has a type is known all the same.
    let bare = "static void own(void) { __asm__(\"\"); } void f(void) { own(); }";
    for build in BUILDS {
        let report = build.interface(&[bare], &[]).compare(&build.interface(&[bare], &[]), 10);
        assert_eq!(
            (verdicts(&report), &report.reason),
            ([Verdict::Compatible; 3], &None),
            "{build:?}\n{report}"
        );
    }
}

#[test]
fn one_unit_with_lines_only() {
    let hidden = "__attribute__((visibility(\"hidden\")))";
    let inner = format!("static long kept; {hidden} int inner(int x) {{ return kept += x; }}");
    let outer = format!("{hidden} int inner(int); int f(int x) {{ return inner(x); }}");
    for build in BUILDS {
        let object = Build { form: Form::Object, ..build };
        let part = |inner_flags: &[&str], outer_flags: &[&str]| {
            let mut files = object.files(&[&inner], inner_flags);
            files.extend(object.files(&[&outer], outer_flags));
            read(build.machine, &files)
        };
        let whole = part(&[], &[]);
        assert_eq!(verdicts(&whole.compare(&whole, 10)), [Verdict::Compatible; 3], "{build:?}");
        let only_state = [Verdict::Compatible, Verdict::Compatible, Verdict::Unknown];
        let lines = part(lines_only(build), &[]);
        for (old, new) in [(&whole, &lines), (&lines, &whole), (&lines, &lines)] {
            let report =
                compared(old, new, "does not have all variables: of part0.c it has lines and no types");
            assert_eq!(verdicts(&report), only_state, "{build:?}\n{report}");
        }
        let exported = part(&[], lines_only(build));
        let report = compared(&exported, &exported, "does not describe f");
        assert_eq!(verdicts(&report), UNKNOWN, "{build:?}\n{report}");
    }
}

/// Units of which the code is in another, which the linker's plugin wrote.
#[test]
fn one_unit_with_lines_only_linked_as_a_whole() {
    let inner = "static long kept; __attribute__((noinline)) int inner(int x) { return kept += x; }";
    let outer = "int inner(int); int f(int x) { return inner(x); }";
    for machine in BOTH {
        let linked = |flags: [&str; 2]| {
            let folder = scratch("lto");
            std::fs::create_dir(&folder).unwrap();
            let gcc =
                if machine == Machine::X86_64 { "x86_64-linux-gnu-gcc" } else { "aarch64-linux-gnu-gcc" };
            let mut objects = Vec::new();
            for (name, source, flag) in [("inner", inner, flags[0]), ("outer", outer, flags[1])] {
                let (file, object) = (folder.join(format!("{name}.c")), folder.join(format!("{name}.o")));
                std::fs::write(&file, source).unwrap();
                let mut compiler = std::process::Command::new(gcc);
                run(compiler.args(["-c", "-O1", "-fPIC", "-flto", flag, "-o"]).args([&object, &file]));
                objects.push(object);
            }
            let output = folder.join("module.so");
            let mut linker = std::process::Command::new(gcc);
            run(linker.args(["-shared", "-nostdlib", "-O1", "-flto", "-o"]).arg(&output).args(objects));
            let bytes = std::fs::read(&output).unwrap();
            let _ = std::fs::remove_dir_all(folder);
            read(machine, &[bytes])
        };
        let whole = linked(["-g", "-g"]);
        assert_eq!(verdicts(&whole.compare(&whole, 10)), [Verdict::Compatible; 3], "{machine:?}");
        for flags in [["-g1", "-g"], ["-g", "-g1"], ["-g1", "-g1"]] {
            let lines = linked(flags);
            let report = lines.compare(&lines, 10);
            assert_eq!(verdicts(&report)[2], Verdict::Unknown, "{machine:?} {flags:?}\n{report}");
        }
    }
}

#[test]
fn assembly_says_nothing_of_parameters() {
    let assembly = ".globl h\n.type h, %function\nh: ret\n.size h, .-h\n";
    for machine in BOTH {
        let build = Build { machine, clang: false, dwarf: "-gdwarf-5", form: Form::Object };
        let mut files = build.files(&[SOURCE], &[]);
        files.extend(build.files(&[assembly], &["-x", "assembler"]));
        let module = read(machine, &files);
        assert_eq!(verdicts(&compared(&module, &module, "does not describe h")), UNKNOWN);
    }
}

#[test]
fn functions_by_another_name_are_described() {
    let source = "static int real(float x) { return x; } int alias(float x) __attribute__((alias(\"real\"))); \
        int strong(long x) { return x; } int weak(long x) __attribute__((weak, alias(\"strong\")));";
    for build in BUILDS {
        let old = build.interface(&[source], &[]);
        let new = build.interface(&[&source.replace("float", "double").replace("long", "int")], &[]);
        let report = old.compare(&new, 10);
        let subjects: Vec<_> = report.differences.iter().map(|difference| &*difference.subject).collect();
        assert_eq!(
            (subjects, &report.reason),
            (vec!["alias", "strong", "weak"], &None),
            "{build:?}\n{report}"
        );
    }
}

#[test]
fn imports_and_what_nobody_defines() {
    let source = "int needed(int); extern int maybe(void) __attribute__((weak)); int f(void) { return needed(maybe ? maybe() : 1); }";
    for build in BUILDS {
        let module = build.interface(&[source], &[]);
        let imports: Vec<_> = module.imports().map(|import| (&*import.name, import.weak)).collect();
        assert_eq!(
            {
                let mut sorted = imports.clone();
                sorted.sort();
                sorted
            },
            [("maybe", true), ("needed", false)]
        );
        let mut report = module.compare(&module, 10);
        assert_eq!((report.links, report.count), (Verdict::Compatible, 0), "{report}");
        let import = |name: &str| module.imports().find(|import| &*import.name == name).unwrap();
        report.unresolved(import("maybe"), "");
        assert_eq!((report.links, report.count), (Verdict::Compatible, 1), "{report}");
        report.unresolved(import("needed"), "libneeded.so");
        report.unresolved(import("needed"), "libneeded.so");
        assert_eq!((report.links, report.count), (Verdict::Incompatible, 2), "{report}");
        assert_eq!(report.differences[0].kind, Kind::ImportUnresolved);
        assert_eq!(
            report.differences[0].to_string(),
            "links: import unresolved: needed: `needs needed of libneeded.so, which nobody defines`"
        );
    }
}

#[test]
fn lists_are_bounded_and_counted() {
    let build = BUILDS[0];
    let source: String = (0..50).map(|index| format!("int f{index}(int x) {{ return x; }}\n")).collect();
    let old = build.interface(&[&source], &[]);
    let new = build.interface(&[&source.replace("(int x)", "(long x)")], &[]);
    let whole = old.compare(&new, 100);
    assert_eq!((whole.count, whole.differences.len()), (50, 50));
    for limit in [0, 1, 10] {
        let report = old.compare(&new, limit);
        assert_eq!((report.count, report.calls), (50, Verdict::Incompatible));
        assert_eq!(report.differences, whole.differences[..limit], "the first ones");
        assert!(report.to_string().ends_with(&format!("and {} more", 50 - limit)));
    }
}

#[test]
fn the_other_machine() {
    let [x86_64, aarch64] = BOTH.map(|machine| Build { machine, ..BUILDS[0] }.interface(&[SOURCE], &[]));
    let report = x86_64.compare(&aarch64, 10);
    assert_eq!(report.links, Verdict::Incompatible, "{report}");
    let wrong = Build { machine: Machine::Aarch64, ..BUILDS[0] }.files(&[SOURCE], &[]);
    let input = midflight_image::Input { name: "wrong.so", bytes: &wrong[0] };
    assert!(Interface::read(&[input], Machine::X86_64).unwrap_err().to_string().contains("AArch64"));
}
