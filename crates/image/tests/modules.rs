//! Modules from real compilers and linkers, for both machines: what an image says of them, and the
//! memory that linking leaves, against `readelf`'s reading of the same file.

mod common;

use common::*;
use midflight_image::{Error, Export, ExportKind, Image, Import, ImportKind, Machine, Protection};
use std::collections::BTreeMap;

const BASES: [u64; 3] = [0x1_0000, 0x7F12_3456_0000, 0xFFFF_8000_0000_0000];

/// A host that knows two names.
fn host(import: &Import<'_>) -> Option<u64> {
    match import.name {
        "host_add" => Some(0x1234_5678_9ABC),
        "host_value" => Some(0x5555_0000_1110),
        _ => None,
    }
}

fn linked(image: &Image<'_>, base: u64) -> Vec<u8> {
    let mut memory = vec![0; image.span() as usize];
    link(image, base, &mut memory, host).unwrap();
    memory
}

fn word(image: &Image<'_>, memory: &[u8], name: &str) -> u64 {
    u64_at(memory, image.export(name).unwrap().offset as usize)
}

fn check_regions(image: &Image<'_>, page_size: u64) {
    let mut end = 0;
    for region in image.regions() {
        assert!(region.offset >= end && region.len > 0, "{:?}", image.regions());
        assert_eq!((region.offset % page_size, region.len % page_size), (0, 0));
        end = region.offset + region.len;
    }
    assert!(end <= image.span());
    assert!(image.align() >= page_size && image.align().is_power_of_two());
}

fn protection(image: &Image<'_>, export: &Export<'_>) -> Protection {
    let of = |r: &&midflight_image::Region| (r.offset..r.offset + r.len).contains(&export.offset);
    image.regions().iter().find(of).expect("an export is in some region").protection
}

fn check_rich(machine: Machine, module: &[u8], page_size: u64) {
    let image = Image::parse(module, machine, page_size, MAX_SPAN).unwrap();
    assert_eq!((image.machine(), image.soname()), (machine, Some("librich.so.1")));
    assert!(image.needed().is_empty());
    check_regions(&image, page_size);

    let exports: BTreeMap<&str, Export<'_>> =
        image.exports().into_iter().map(|export| (export.name, export)).collect();
    for name in ["own_add", "guarded", "soft", "step", "begin", "end", "up1", "up2", "down1", "down2"] {
        let export = exports[name];
        assert!(export.kind == ExportKind::Function && export.size > 0, "{name}");
        assert_eq!(protection(&image, &export), Protection::ReadExecute, "{name}");
    }
    for (name, size) in [("counter", 4), ("zeroed", 20_000), ("table", 16), ("to_host", 8), ("packed", 9)] {
        let export = exports[name];
        assert!(export.kind == ExportKind::Data && export.size == size, "{name}");
        assert_eq!(protection(&image, &export), Protection::ReadWrite, "{name}");
    }
    for hidden in ["not_exported", "hidden", "host_add", "maybe", ""] {
        assert!(!exports.contains_key(hidden) && image.export(hidden).is_none(), "{hidden}");
    }
    for (name, export) in &exports {
        assert_eq!(image.export(name), Some(*export), "found by name");
        assert_eq!(image.export(&format!("{name}_")), None);
    }

    let imports: BTreeMap<&str, &Import<'_>> =
        image.imports().iter().map(|import| (import.name, import)).collect();
    assert_eq!(
        imports.keys().copied().collect::<Vec<_>>(),
        ["host_add", "host_value", "maybe", "maybe_value"]
    );
    assert_eq!(image.imports().len(), 4, "each once");
    assert_eq!(imports["host_add"].kind, ImportKind::Function);
    assert_eq!(imports["host_value"].kind, ImportKind::Unknown);
    assert!(imports["maybe"].weak && imports["maybe_value"].weak && !imports["host_add"].weak);
    assert!(imports.values().all(|import| import.version.is_none()));

    for base in BASES {
        let memory = model::linked(module, &image, base, host);
        let at = |name: &str| base + exports[name].offset;
        assert_eq!(word(&image, &memory, "to_counter"), at("counter"));
        assert_eq!(word(&image, &memory, "to_third"), at("table") + 8);
        assert_eq!(word(&image, &memory, "to_host"), 0x5555_0000_1110);
        assert_eq!(word(&image, &memory, "past_host"), 0x5555_0000_1128);
        assert_eq!(word(&image, &memory, "to_add"), 0x1234_5678_9ABC);
        assert_eq!(word(&image, &memory, "calls"), at("own_add"), "bound to its own");
        assert_eq!(word(&image, &memory, "to_maybe"), 0, "weak");
        assert_eq!(word(&image, &memory, "to_maybe_value"), 0, "weak");
        assert_eq!(u64_at(&memory, exports["packed"].offset as usize + 1), at("counter"));
        let hidden = (word(&image, &memory, "to_hidden") - base) as usize;
        assert_eq!(u32_at(&memory, hidden), 9);
        let name = (word(&image, &memory, "names") - base) as usize;
        assert_eq!(&memory[name..name + 4], b"one\0");
        assert!(memory[exports["zeroed"].offset as usize..][..20_000].iter().all(|byte| *byte == 0));

        assert_eq!(image.init(base, &memory), Ok(["begin", "up1", "up2"].map(at).to_vec()));
        assert_eq!(image.fini(base, &memory), Ok(["down2", "down1", "end"].map(at).to_vec()));
    }
}

#[test]
fn hash_styles() {
    for machine in BOTH {
        for style in ["-Wl,--hash-style=sysv", "-Wl,--hash-style=gnu", "-Wl,--hash-style=both"] {
            check_rich(machine, &rich(machine, &[style]), 4096);
        }
    }
}

#[test]
fn link_modes() {
    for machine in BOTH {
        for flags in [
            &["-Wl,-z,now", "-Wl,-z,relro"][..],
            &["-Wl,-z,lazy", "-Wl,-z,norelro"],
            &["-Wl,-Bsymbolic"],
            &["-fvisibility=default", "-ffunction-sections", "-Wl,-z,separate-code"],
            &["-Wl,-z,noseparate-code"],
            &["-Wl,-z,nocombreloc"],
            &["-Wl,--strip-all"],
            &["-Wl,-Ttext-segment=0x200000"],
        ] {
            check_rich(machine, &rich(machine, flags), 4096);
        }
    }
}

#[test]
fn page_sizes() {
    for machine in BOTH {
        let wide = rich(machine, &["-Wl,-z,max-page-size=65536"]);
        for page_size in [4096, 16384, 65536] {
            check_rich(machine, &wide, page_size);
        }
        let narrow = rich(machine, &["-Wl,-z,max-page-size=4096"]);
        check_rich(machine, &narrow, 4096);
        for page_size in [16384, 65536] {
            let refused = Image::parse(&narrow, machine, page_size, MAX_SPAN).unwrap_err();
            assert!(matches!(refused, Error::SegmentAlign { .. }));
            assert!(refused.to_string().contains("-Wl,-z,max-page-size=65536"), "{refused}");
        }
    }
}

#[test]
fn relro_is_read_only_in_the_finished_image() {
    let narrow = &["-Wl,-z,relro,-z,now,-z,max-page-size=4096"];
    let wide = &["-Wl,-z,relro,-z,now,-z,max-page-size=65536,-z,common-page-size=65536"];
    for machine in BOTH {
        for (page_size, flags) in [(4096, narrow), (65536, wide)] {
            let module = rich(machine, flags);
            let image = Image::parse(&module, machine, page_size, MAX_SPAN).unwrap();
            assert_eq!(protection(&image, &image.export("names").unwrap()), Protection::Read);
            assert_eq!(protection(&image, &image.export("counter").unwrap()), Protection::ReadWrite);
        }
    }
}

#[test]
fn without_a_linkage_table_functions_are_not_known_as_such() {
    for machine in BOTH {
        let source = "int f(int); int g(int x) { return f(x) + 1; }";
        let known = |flags: &[&str]| {
            let module = compile(machine, source, flags);
            let image = Image::parse(&module, machine, 4096, MAX_SPAN).unwrap();
            image.imports()[0].kind
        };
        assert_eq!(known(&[]), ImportKind::Function);
        assert_eq!(known(&["-fno-plt"]), ImportKind::Unknown);
    }
}

#[test]
fn a_module_with_libraries() {
    let source = r#"
        #include <stdio.h>
        #include <stdlib.h>
        #include <math.h>
        int log_line(double x) { return printf("%f\n", sqrt(x + rand())); }
        FILE **where = &stderr;
    "#;
    for machine in BOTH {
        let module = compile_as(
            machine,
            source,
            &["-shared", "-fPIC", "-fno-builtin", "-Wl,--no-as-needed", "-lm", "-Wl,-soname,log.so"],
        );
        let image = Image::parse(&module, machine, 4096, MAX_SPAN).unwrap();
        assert!(image.needed().contains(&"libc.so.6") && image.needed().contains(&"libm.so.6"));
        let oldest = if machine == Machine::X86_64 { "GLIBC_2.2.5" } else { "GLIBC_2.17" };
        let imports: BTreeMap<&str, &Import<'_>> = image.imports().iter().map(|i| (i.name, i)).collect();
        for name in ["printf", "rand", "sqrt", "stderr"] {
            let kind = if name == "stderr" { ImportKind::Data } else { ImportKind::Function };
            let import = imports[name];
            assert_eq!((import.version, import.weak, import.kind), (Some(oldest), false, kind), "{name}");
        }
        // What the compiler's own start files bring along.
        assert!(imports["__cxa_finalize"].weak && imports["_ITM_registerTMCloneTable"].weak);
        assert_eq!(imports["__gmon_start__"].version, None);

        let base = 0x4000_0000;
        let mut memory = vec![0; image.span() as usize];
        let mut asked = Vec::new();
        let done = link(&image, base, &mut memory, |import| {
            asked.push(import.name);
            (!import.weak).then_some(0xF000 + asked.len() as u64)
        });
        assert_eq!(done, Ok(()));
        assert_eq!(asked, image.imports().iter().map(|import| import.name).collect::<Vec<_>>());
        let stderr = asked.iter().position(|name| *name == "stderr").unwrap() as u64;
        assert_eq!(word(&image, &memory, "where"), 0xF001 + stderr);
        // _init of crti, frame_dummy; __do_global_dtors_aux, _fini of crti.
        assert_eq!(image.init(base, &memory).unwrap().len(), 2);
        assert_eq!(image.fini(base, &memory).unwrap().len(), 2);
    }
}

#[test]
fn where_libraries_are_looked_for() {
    for machine in BOTH {
        let build = |flags: &[&str]| compile(machine, "int f(void) { return 1; }", flags);
        let runpath = |module: &[u8]| {
            let image = Image::parse(module, machine, 4096, MAX_SPAN).unwrap();
            image.runpath().map(str::to_string)
        };
        let folders = Some("$ORIGIN/lib:/opt/lib".to_string());
        let rpath = "-Wl,-rpath,$ORIGIN/lib:/opt/lib";
        assert_eq!(runpath(&build(&[])), None);
        assert_eq!(runpath(&build(&[rpath, "-Wl,--enable-new-dtags"])), folders);
        let mut old = build(&[rpath, "-Wl,--disable-new-dtags", "-Wl,-soname,other"]);
        assert_eq!(runpath(&old), folders);
        // The newer entry counts where there are both.
        let soname = dynamic_value(&old, 14);
        plant_dynamic(&mut old, 29, soname);
        assert_eq!(runpath(&old), Some("other".to_string()));
    }
}

#[test]
fn all_missing_imports_are_named_at_once() {
    for machine in BOTH {
        let module = compile(
            machine,
            "int a(void), b(void); extern int c; __attribute__((weak)) int d(void); \
             int f(void) { return a() + b() + c + d(); }",
            &[],
        );
        let image = Image::parse(&module, machine, 4096, MAX_SPAN).unwrap();
        let mut memory = vec![0; image.span() as usize];
        let error = link(&image, 0, &mut memory, |i| (i.name == "b").then_some(1)).unwrap_err();
        let Error::UnresolvedImport { mut names, omitted: 0 } = error.clone() else { panic!("{error}") };
        names.sort();
        assert_eq!(names, ["a", "c"]);
        assert!(error.to_string().contains("`a`") && error.to_string().contains("`c`"), "{error}");
    }
}

#[test]
fn a_list_of_missing_imports_has_an_end() {
    let names: Vec<String> = (0..200).map(|index| format!("{}{index}", "x".repeat(10_000))).collect();
    let declared: String = names.iter().map(|name| format!("int {name}(void);")).collect();
    let called: String = names.iter().map(|name| format!("+{name}()")).collect();
    let source = format!("{declared} int f(void) {{ return 0 {called}; }}");
    for machine in BOTH {
        let module = compile(machine, &source, &[]);
        let image = Image::parse(&module, machine, 4096, MAX_SPAN).unwrap();
        let mut memory = vec![0; image.span() as usize];
        let error = link(&image, 0, &mut memory, |_| None).unwrap_err();
        let Error::UnresolvedImport { names, omitted } = &error else { panic!("{error:?}") };
        assert!(names.len() > 50 && *omitted > 50 && names.len() + omitted == 200);
        assert!(error.to_string().contains(&format!("and {omitted} more")));
    }
}

#[test]
fn absolute_symbols_do_not_move_with_the_image() {
    for machine in BOTH {
        let mut module = rich(machine, &[]);
        let at = symbol(&module, "counter");
        put(&mut module, at + 6, &0xFFF1u16.to_le_bytes());
        put64(&mut module, at + 8, 0x1234);
        let image = Image::parse(&module, machine, 4096, MAX_SPAN).unwrap();
        assert_eq!(image.export("counter"), None, "no part of the image");
        for base in BASES {
            assert_eq!(word(&image, &linked(&image, base), "to_counter"), 0x1234);
        }
    }
}

#[test]
fn relr_from_a_linker() {
    // binutils 2.40 packs for x86-64 only; the other machine's table is made by hand below.
    let flags = ["-Wl,-z,pack-relative-relocs"];
    let module = rich(Machine::X86_64, &flags);
    assert!(dynamic(&module, 36).is_some(), "the linker knows DT_RELR");
    let image = Image::parse(&module, Machine::X86_64, 4096, MAX_SPAN).unwrap();
    for base in BASES {
        let memory = linked(&image, base);
        let at = |name: &str| base + image.export(name).unwrap().offset;
        assert_eq!(word(&image, &memory, "to_counter"), at("counter"));
        let hidden = (word(&image, &memory, "to_hidden") - base) as usize;
        assert_eq!(u32_at(&memory, hidden), 9);
        assert_eq!(image.init(base, &memory), Ok(["begin", "up1", "up2"].map(at).to_vec()));
    }
}

#[test]
fn relr_says_the_same_as_rela() {
    let source = "static int v[200]; \
        #define P(n) &v[n], &v[n + 1], (int *)0, &v[n + 2],\n\
        int *pointers[] = { P(0) P(3) P(6) P(9) P(12) P(15) P(18) P(21) P(24) P(27) P(30) P(33) P(36) P(39) \
        P(42) P(45) P(48) P(51) P(54) P(57) P(60) P(63) P(66) P(69) P(72) P(75) P(78) P(81) P(84) P(87) }; \
        int gap[3000] = {1}; int *last = &v[199];"
        .replace("#define", "\n#define");
    for machine in BOTH {
        let plain = compile(machine, &source, &["-Wl,-z,norelro"]);
        let packed = pack(plain.clone());
        let images = [&plain, &packed].map(|module| Image::parse(module, machine, 4096, MAX_SPAN).unwrap());
        for base in BASES {
            let [expected, found] = [&images[0], &images[1]].map(|image| linked(image, base));
            for name in ["pointers", "last"] {
                let export = images[0].export(name).unwrap();
                let range = export.offset as usize..(export.offset + export.size) as usize;
                assert_eq!(expected[range.clone()], found[range], "{machine} {name}");
                assert!(word(&images[1], &found, name) > base);
            }
        }
    }
}

/// Rewrites a module whose every relocation is RELATIVE to have a RELR table instead, in the same
/// place.
fn pack(mut module: Vec<u8>) -> Vec<u8> {
    let table = file_offset(&module, dynamic_value(&module, 7));
    let size = dynamic_value(&module, 8) as usize;
    let mut places = Vec::new();
    for at in (table..table + size).step_by(24) {
        let (place, addend) = (u64_at(&module, at), u64_at(&module, at + 16));
        let offset = file_offset(&module, place);
        put64(&mut module, offset, addend);
        places.push(place);
    }
    places.sort_unstable();
    let mut words = Vec::new();
    let mut rest = &places[..];
    while let [first, more @ ..] = rest {
        words.push(*first);
        let (mut start, mut left) = (first + 8, more);
        loop {
            let covered = left.iter().take_while(|place| **place < start + 63 * 8).count();
            if covered == 0 {
                break;
            }
            words.push(left[..covered].iter().fold(1, |bits, place| bits | 2 << ((place - start) / 8)));
            (start, left) = (start + 63 * 8, &left[covered..]);
        }
        rest = left;
    }
    assert!(words.len() > 2 && words.len() < places.len() / 4, "packed: {words:x?}");
    for (index, word) in words.iter().enumerate() {
        put64(&mut module, table + 8 * index, *word);
    }
    for (old, new, value) in [(7, 36, None), (8, 35, Some(8 * words.len() as u64)), (9, 37, Some(8))] {
        let at = dynamic(&module, old).unwrap();
        put64(&mut module, at, new);
        if let Some(value) = value {
            put64(&mut module, at + 8, value);
        }
    }
    module
}

#[test]
fn without_a_hash_table_there_are_imports_and_no_exports() {
    for machine in BOTH {
        let mut module = rich(machine, &["-Wl,--hash-style=sysv"]);
        let at = dynamic(&module, 4).unwrap();
        put64(&mut module, at, 0x6FFF_0000);
        let image = Image::parse(&module, machine, 4096, MAX_SPAN).unwrap();
        assert_eq!((image.exports().len(), image.export("step")), (0, None));
        assert_eq!(image.imports().len(), 4);
        let memory = linked(&image, 0x1_0000);
        assert_eq!(image.init(0x1_0000, &memory).unwrap().len(), 3);
    }
}

#[test]
fn symbols_that_no_hash_table_lists() {
    // Nothing is exported, so the GNU table is empty and does not say how many symbols there are.
    let source = "extern int e, f(int); __attribute__((constructor)) static void up(void) { e = f(e); }";
    for machine in BOTH {
        let module = compile(machine, source, &["-Wl,--hash-style=gnu"]);
        let image = Image::parse(&module, machine, 4096, MAX_SPAN).unwrap();
        assert_eq!((image.exports().len(), image.export("e"), image.export("")), (0, None, None));
        let mut names: Vec<_> = image.imports().iter().map(|import| import.name).collect();
        names.sort_unstable();
        assert_eq!(names, ["e", "f"]);
        let base = image.align();
        let memory = model::linked(&module, &image, base, |_| Some(0x8000));
        assert_eq!(image.init(base, &memory).unwrap().len(), 1);
    }
}

#[test]
fn what_the_hash_table_does_not_list_is_no_export() {
    for machine in BOTH {
        let mut module = rich(machine, &["-Wl,--hash-style=gnu"]);
        // An import is before all that is listed. Defined, it is still not found by its name.
        let (import, own) = (symbol(&module, "host_value"), symbol(&module, "counter"));
        module.copy_within(own + 4..own + 24, import + 4);
        let image = Image::parse(&module, machine, 4096, MAX_SPAN).unwrap();
        assert_eq!(image.export("host_value"), None);
        assert!(image.exports().iter().all(|export| export.name != "host_value"));
        let memory = linked(&image, BASES[0]);
        assert_eq!(word(&image, &memory, "to_host"), word(&image, &memory, "to_counter"));
    }
}

#[test]
fn a_large_alignment_is_kept() {
    for machine in BOTH {
        let module = compile(
            machine,
            "__attribute__((aligned(262144))) int wide = 5; int *at = &wide;",
            &["-Wl,-z,max-page-size=65536"],
        );
        let image = Image::parse(&module, machine, 4096, MAX_SPAN).unwrap();
        assert!(image.align() >= 262_144);
        let base = 3 * image.align();
        let memory = linked(&image, base);
        assert_eq!(word(&image, &memory, "at") % 262_144, 0);
        assert_eq!(u32_at(&memory, (word(&image, &memory, "at") - base) as usize), 5);
    }
}
