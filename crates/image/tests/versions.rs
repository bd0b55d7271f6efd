//! Symbol versions: those of imports, and those that the module defines.

mod common;

use common::*;
use midflight_image::{ExportKind, Image};

const TWO: &str = "V1 { global: f; local: *; }; V2 { global: f; } V1;";
const BOTH_VERSIONS: &str = r#"
    __asm__(".symver f_old,f@V1"); __asm__(".symver f_new,f@@V2");
    int f_old(void) { return 1; } int f_new(void) { return 2 * f_old(); }
"#;

#[test]
fn only_the_default_version_of_an_export_is_found() {
    for machine in BOTH {
        for style in ["-Wl,--hash-style=sysv", "-Wl,--hash-style=gnu", "-Wl,--hash-style=both"] {
            let module = compile(machine, BOTH_VERSIONS, &[&version_script(TWO), style]);
            let image = Image::parse(&module, machine, 4096, MAX_SPAN).unwrap();
            let all: Vec<_> = image.exports().into_iter().filter(|export| export.name == "f").collect();
            assert_eq!(all.len(), 1);
            assert_eq!(image.export("f"), Some(all[0]));
            // The new one is larger by a call.
            let text = |name: &str| u64_at(&module, symbol(&module, name) + 16);
            assert!(all[0].size >= text("f"), "the new one");
            // The version names themselves are absolute symbols, and no part of the image.
            assert!(image.export("V1").is_none());
            // Each by its version.
            let old = image.export("f@V1").unwrap();
            assert_eq!(
                (old.name, image.export("f@V2"), image.export("f@V3")),
                ("f", image.export("f"), None)
            );
            assert!(old.offset != all[0].offset && image.export("f@").is_none());
            let versions: Vec<_> =
                image.versions().into_iter().filter(|(export, _)| export.name == "f").collect();
            assert_eq!(versions.len(), 2);
            assert!(versions.contains(&(old, "V1")) && versions.contains(&(all[0], "V2")));
            let Some(tables) = image.export_tables() else { continue };
            let mut memory = vec![0; image.span() as usize];
            link(&image, image.align(), &mut memory, |_| None).unwrap();
            for name in ["f", "f@V1", "f@V2", "f@V3"] {
                let found = tables.find(&memory[tables.region()], name, |_| true);
                assert_eq!(found.map(|(_, offset)| offset), image.export(name).map(|export| export.offset));
            }
        }
    }
}

/// A definition that only its version finds is looked at like any other.
#[test]
fn an_old_version_is_checked_as_the_default_is() {
    const CODE: u8 = 2;
    const VARIABLE: u8 = 1;
    for machine in BOTH {
        for style in ["-Wl,--hash-style=sysv", "-Wl,--hash-style=gnu"] {
            let module = compile(machine, BOTH_VERSIONS, &[&version_script(TWO), style]);
            let image = Image::parse(&module, machine, 4096, MAX_SPAN).unwrap();
            let at = |version: &str| image.export(version).unwrap().offset;
            let (table, old) = (symbol(&module, "f"), at("f@V1"));
            let old = (table..).step_by(24).find(|entry| u64_at(&module, entry + 8) == old).unwrap();
            for (kind, address, size) in [
                (CODE, 0x7FFF_FFFF, 4),
                (VARIABLE, 0x7FFF_FFFF, 4),
                (VARIABLE, u64::MAX - 255, 4),
                (VARIABLE, at("f@V1"), 1 << 40),
                (CODE, at("f@V1"), 1 << 40),
            ] {
                let mut bad = module.clone();
                bad[old + 4] = 0x10 | kind;
                put64(&mut bad, old + 8, address);
                put64(&mut bad, old + 16, size);
                let refused = Image::parse(&bad, machine, 4096, MAX_SPAN).unwrap_err().to_string();
                assert!(refused.contains('f') && refused.contains("outside"), "{refused}");
            }
        }
    }
}

/// What it is called by is chosen by code, so the tables do not say it.
#[test]
fn an_old_version_may_be_chosen_by_code() {
    let source = r#"
        __asm__(".symver f_old,f@V1"); __asm__(".symver f_new,f@@V2");
        static int one(void) { return 1; }
        static void *pick(void) { return one; }
        int f_old(void) __attribute__((ifunc("pick")));
        int f_new(void) { return 2; }
    "#;
    for machine in BOTH {
        let module = compile(machine, source, &[&version_script(TWO)]);
        let image = Image::parse(&module, machine, 4096, MAX_SPAN).unwrap();
        assert_eq!(image.export("f@V1").unwrap().kind, ExportKind::Indirect);
        assert_eq!(image.export("f").unwrap().kind, ExportKind::Function);
        assert!(image.chooses() && image.export_tables().is_none());
    }
}

#[test]
fn a_version_that_is_only_kept_is_not_found() {
    let source = r#"__asm__(".symver f_old,f@V1"); int f_old(void) { return 1; } int g(void) { return 2; }"#;
    for machine in BOTH {
        let script = version_script("V1 { global: f; local: *; }; V2 { global: g; } V1;");
        let module = compile(machine, source, &[&script]);
        let image = Image::parse(&module, machine, 4096, MAX_SPAN).unwrap();
        let names: Vec<_> = image.exports().into_iter().map(|export| export.name).collect();
        assert_eq!((names, image.export("f")), (vec!["g"], None));
    }
}

#[test]
fn each_use_is_bound_to_its_own_version() {
    // A pointer to each: the old version is there for the module's own relocations.
    let source = format!("{BOTH_VERSIONS} int (*pointers[2])(void) = {{f_old, f_new}}; int gap;");
    for machine in BOTH {
        let script = version_script("V1 { global: f; pointers; local: *; }; V2 { global: f; } V1;");
        let module = compile(machine, &source, &[&script]);
        let image = Image::parse(&module, machine, 4096, MAX_SPAN).unwrap();
        let mut memory = vec![0; image.span() as usize];
        link(&image, image.align(), &mut memory, |_| None).unwrap();
        let pointers = image.export("pointers").unwrap().offset as usize;
        let [old, new] = [0, 8].map(|at| u64_at(&memory, pointers + at) - image.align());
        assert_eq!(new, image.export("f").unwrap().offset);
        assert!(old != new && old < image.span());
    }
}

#[test]
fn an_import_may_have_a_version_of_the_module_itself() {
    // No linker here makes one, and ld.so takes it.
    for machine in BOTH {
        let script = version_script("V1 { global: f; local: *; };");
        let mut module = compile(machine, "int outside(void); int f(void) { return outside(); }", &[&script]);
        let index = |name| (symbol(&module, name) - file_offset(&module, dynamic_value(&module, 6))) / 24;
        let number = file_offset(&module, dynamic_value(&module, 0x6FFF_FFF0)) + 2 * index("outside");
        put(&mut module, number, &[2, 0]);
        let image = Image::parse(&module, machine, 4096, MAX_SPAN).unwrap();
        let imports: Vec<_> = image.imports().iter().map(|import| (import.name, import.version)).collect();
        assert_eq!(imports, [("outside", Some("V1"))]);
        assert!(image.export("f").is_some() && image.export("outside").is_none());
    }
}

#[test]
fn definitions_and_needs_share_one_numbering() {
    let source = "#include <stdio.h>\nint say(void) { return puts(\"x\"); }";
    for machine in BOTH {
        let script = version_script("V1 { global: say; local: *; }; V2 { };");
        let module = compile_as(machine, source, &["-shared", "-fPIC", &script]);
        let image = Image::parse(&module, machine, 4096, MAX_SPAN).unwrap();
        let oldest = if machine == midflight_image::Machine::X86_64 { "GLIBC_2.2.5" } else { "GLIBC_2.17" };
        let puts = image.imports().iter().find(|import| import.name == "puts").unwrap();
        assert_eq!(puts.version, Some(oldest));
        assert!(image.export("say").is_some());
    }
}
