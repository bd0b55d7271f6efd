//! Indirect functions (GNU ifunc): what code of the module is to choose, once it can run.

mod common;

use common::refused::*;
use common::*;
use midflight_image::{ExportKind, Image, Machine, Protection};

const SOURCE: &str = r#"
    static int one(void) { return 1; }
    static void *pick(void) { return one; }
    int chosen(void) __attribute__((ifunc("pick")));
    static int own(void) __attribute__((ifunc("pick")));
    __attribute__((visibility("hidden"))) int hidden(void) __attribute__((ifunc("pick")));
    int outside(void);
    int (*to_chosen)(void) = chosen;
    int (*to_own)(void) = own;
    int (*const to_hidden)(void) = hidden;
    struct __attribute__((packed)) { char tag; int (*pointer)(void); } packed = {1, own};
    int f(void) { return chosen() + own() + hidden() + outside(); }
"#;

#[test]
fn every_way_to_use_one() {
    for machine in BOTH {
        for flags in [
            &[][..],
            &["-fno-plt"],
            &["-Wl,-z,now"],
            &["-Wl,-z,norelro", "-Wl,--hash-style=sysv"],
            &["-O0", "-Wl,-z,lazy"],
        ] {
            let module = compile(machine, SOURCE, flags);
            let image = Image::parse(&module, machine, 4096, MAX_SPAN).unwrap();
            let export = image.export("chosen").unwrap();
            assert_eq!(export.kind, ExportKind::Indirect);
            assert!(image.exports().contains(&export) && image.export("hidden").is_none());
            // Four in data, and at least one for each that is called.
            assert!(image.indirect().len() >= 7, "{:?}", image.indirect());
            let protection = |offset: u64| {
                let of = |r: &&midflight_image::Region| (r.offset..r.offset + r.len).contains(&offset);
                image.regions().iter().find(of).unwrap().protection
            };
            for indirect in image.indirect() {
                assert_eq!((indirect.resolver, indirect.addend), (export.offset, 0));
                assert_eq!(protection(indirect.resolver), Protection::ReadExecute);
                assert_ne!(protection(indirect.place), Protection::ReadExecute);
            }
            let packed = image.export("packed").unwrap().offset + 1;
            assert!(image.indirect().iter().any(|indirect| indirect.place == packed));
            for base in [0x10_0000, 0x7F12_3450_0000] {
                let memory = model::linked(&module, &image, base, |_| Some(0x4000));
                assert!(image.init(base, &memory).is_ok());
            }
        }
    }
}

/// A module with one pointer to an indirect function, in data or for code.
fn one_use(machine: Machine, source: &str) -> Vec<u8> {
    let source = format!(
        "static int one(void) {{ return 1; }} static void *pick(void) {{ return one; }} \
         int chosen(void) __attribute__((ifunc(\"pick\"))); {source}"
    );
    compile(machine, &source, &["-fno-plt"])
}

#[test]
fn addends() {
    let uses = ["int (*p)(void) = chosen;", "void *f(void) { return chosen; }"];
    for machine in BOTH {
        let [_, absolute, glob_dat, _] = types(machine);
        for (source, r_type) in uses.into_iter().zip([absolute, glob_dat]) {
            let mut module = one_use(machine, source);
            let at = relocation(&module, r_type);
            put64(&mut module, at + 16, 24);
            let image = Image::parse(&module, machine, 4096, MAX_SPAN).unwrap();
            // AMD64 defines the entry of the global offset table as the address alone.
            let ignored = machine == Machine::X86_64 && r_type == glob_dat;
            let place = u64_at(&module, at) - u64_at(&module, program_headers(&module, 1)[0] + 16);
            let indirect = image.indirect().iter().find(|indirect| indirect.place == place);
            assert_eq!(indirect.unwrap().addend, if ignored { 0 } else { 24 });
        }
    }
}

#[test]
fn what_chooses_must_be_a_function_of_the_module() {
    for machine in BOTH {
        let good = one_use(machine, "int variable; int (*p)(void) = chosen;");
        let data = u64_at(&good, symbol(&good, "variable") + 8);
        for value in [data, 0x7FFF_0000_0000, u64::MAX] {
            let mut module = good.clone();
            let at = symbol(&module, "chosen");
            put64(&mut module, at + 8, value);
            says(&refusal(&module, machine), &["`chosen`", "chosen by a function outside the module's code"]);
        }
        let irelative = if machine == Machine::X86_64 { 37 } else { 1032 };
        let good = compile(machine, SOURCE, &[]);
        let change = |field: usize, value: u64| {
            let mut module = good.clone();
            let at = relocation(&module, irelative);
            put64(&mut module, at + field, value);
            refusal(&module, machine)
        };
        for resolver in [data, 0x7FFF_0000_0000, u64::MAX] {
            malformed(&change(16, resolver), "chosen by what is no function of the module");
        }
        malformed(&change(0, 0x7FFF_0000_0000), "outside the segments");
        let text = u64_at(&good, symbol(&good, "f") + 8);
        let error = change(0, text);
        assert!(matches!(error, midflight_image::Error::TextRelocation { .. }), "{error:?}");
    }
}

/// Found by fuzzing: two relocations for one place, of which the later is an ordinary pointer.
#[test]
fn a_place_that_is_relocated_twice_is_still_left_to_the_code() {
    for machine in BOTH {
        let [relative, ..] = types(machine);
        let source = "static int (*volatile p)(void) = chosen; static int x, *volatile q = &x; int f(void) { return p() + *q; }";
        let mut module = one_use(machine, source);
        let place = {
            let image = Image::parse(&module, machine, 4096, MAX_SPAN).unwrap();
            image.indirect()[0].place + u64_at(&module, program_headers(&module, 1)[0] + 16)
        };
        let at = relocation(&module, relative);
        put64(&mut module, at, place);
        let image = Image::parse(&module, machine, 4096, MAX_SPAN).unwrap();
        let mut memory = vec![0; image.span() as usize];
        link(&image, 0x10_0000, &mut memory, |_| Some(0x4000)).unwrap();
        assert!(image.indirect().iter().all(|indirect| u64_at(&memory, indirect.place as usize) == 0));
    }
}
