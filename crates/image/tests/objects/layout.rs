//! Where things go, and what is called when.

use crate::common::{BOTH, MAX_SPAN, compile_as};
use crate::{BASE, assembly, link, object, parse};
use midflight_image::{Error, Image, Machine, Protection};
use std::process::Command;

const MIXED: &str = "int code(int x) { return x + 1; } const int constant[5] = {1}; int variable[3] = {2}, zero[3000];
    extern int host_x; int *const relocated = &host_x; static const char text[] = \"text\"; const char *p = text;";

#[test]
fn three_runs_of_pages() {
    for machine in BOTH {
        let files = [object(machine, MIXED)];
        for page_size in [4096, 16384, 65536] {
            let image = Image::parse(&files[0], machine, page_size, MAX_SPAN).unwrap();
            let regions: Vec<_> = image.regions().iter().map(|region| region.protection).collect();
            assert_eq!(regions, [Protection::Read, Protection::ReadExecute, Protection::ReadWrite]);
            let mut end = 0;
            for region in image.regions() {
                assert_eq!((region.offset, region.len % page_size), (end, 0), "{page_size}");
                end += region.len;
            }
            let pages = [1, 1, 12_100u64.div_ceil(page_size)].iter().sum::<u64>();
            assert_eq!((image.span(), image.align()), (pages * page_size, page_size));
        }
        let linked = link(machine, &files);
        for (name, protection) in [
            ("code", Protection::ReadExecute),
            ("constant", Protection::Read),
            ("relocated", Protection::Read),
            ("variable", Protection::ReadWrite),
            ("zero", Protection::ReadWrite),
        ] {
            assert_eq!(linked.protection(linked.address(name)), Some(protection), "{name}");
        }
        assert_eq!(linked.protection(linked.word("p")), Some(Protection::Read));
        assert_eq!(&linked.memory[(linked.word("p") - BASE) as usize..][..5], b"text\0");
    }
}

#[test]
fn only_what_is_there_takes_pages() {
    for machine in BOTH {
        let only_code = assembly(machine, ".text\n.globl f\nf: .4byte 0");
        let image = Image::parse(&only_code, machine, 4096, MAX_SPAN).unwrap();
        assert_eq!((image.span(), image.regions().len(), image.unwind()), (4096, 1, None));
        let nothing = assembly(machine, ".section .comment\n.4byte 0");
        let error = Image::parse(&nothing, machine, 4096, MAX_SPAN).unwrap_err();
        assert!(matches!(error, Error::UnsupportedFile { .. }), "{error}");
    }
}

#[test]
fn alignments_are_kept() {
    for machine in BOTH {
        let source = "char a = 1; __attribute__((aligned(64))) char b[64] = {1}; char c = 2;
            __attribute__((aligned(32768))) char d = 3; __attribute__((aligned(128))) char e;";
        let sections =
            compile_as(machine, source, &["-c", "-fPIC", "-fdata-sections", "-ffunction-sections"]);
        let image = Image::parse(&sections, machine, 4096, MAX_SPAN).unwrap();
        assert_eq!(image.align(), 32768);
        for (name, align) in [("b", 64), ("d", 32768), ("e", 128)] {
            assert_eq!(image.export(name).unwrap().offset % align, 0, "{name}");
        }
        let error = Image::parse(&sections, machine, 4096, 30_000).unwrap_err();
        assert!(matches!(error, Error::TooLarge { limit: 30_000, .. }), "{error}");
    }
}

#[test]
fn an_image_has_a_limit() {
    for machine in BOTH {
        let zeros = object(machine, "char zeros[1 << 30];");
        let image = Image::parse(&zeros, machine, 4096, 2 << 30).unwrap();
        assert_eq!(image.span(), 1 << 30);
        let error = Image::parse(&zeros, machine, 4096, MAX_SPAN).unwrap_err();
        assert!(matches!(error, Error::TooLarge { limit: MAX_SPAN, .. }), "{error}");
        for page_size in [0, 2048, 4097, 1 << 63] {
            assert!(Image::parse(&zeros, machine, page_size, MAX_SPAN).is_err(), "{page_size}");
        }
    }
}

/// Constructors and destructors whose names say when they are called, in several files and kinds of
/// section.
const CALLS: [&str; 2] = [
    "__attribute__((constructor)) void a_last(void) {} __attribute__((constructor(300))) void a_300(void) {}
     __attribute__((constructor(101))) void a_101(void) {} __attribute__((destructor)) void a_end(void) {}
     __attribute__((destructor(200))) void a_200(void) {}",
    "__attribute__((constructor(101))) void b_101(void) {} __attribute__((constructor)) void b_last(void) {}
     __attribute__((destructor(200))) void b_200(void) {} __attribute__((destructor(500))) void b_500(void) {}
     void c_1(void) {} void c_2(void) {} void c_3(void) {} void d_1(void) {} void d_2(void) {}
     __asm__(\".section .ctors,\\\"aw\\\",%progbits\\n.8byte c_1, c_2\\n\"
             \".section .ctors.65400,\\\"aw\\\",%progbits\\n.8byte c_3\\n\"
             \".section .dtors,\\\"aw\\\",%progbits\\n.8byte d_1, d_2\\n.text\");",
];

/// The names of the functions in an array that GNU ld has put together.
fn by_ld(machine: Machine, files: &[Vec<u8>], array: &str) -> Vec<String> {
    let folder = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let path = |name: &str| folder.join(format!("{}-{machine}{array}-{name}", std::process::id()));
    let (ld, inputs, output) = match machine {
        Machine::X86_64 => ("x86_64-linux-gnu-ld", ["a.o", "b.o"].map(path), path("out")),
        Machine::Aarch64 => ("aarch64-linux-gnu-ld", ["a.o", "b.o"].map(path), path("out")),
    };
    for (input, file) in inputs.iter().zip(files) {
        std::fs::write(input, file).unwrap();
    }
    let done = Command::new(ld).args(["-e", "0", "-o"]).arg(&output).args(&inputs).status().unwrap();
    assert!(done.success());
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).arg(&output).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let names: Vec<(u64, String)> = run("nm", &[])
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            Some((address, words.nth(1)?.to_string()))
        })
        .collect();
    let dump = run("readelf", &["-x", array]);
    let bytes: Vec<u8> = dump
        .lines()
        .filter_map(|line| line.trim().strip_prefix("0x"))
        .flat_map(|line| {
            line.split_whitespace().skip(1).take(4).filter(|word| word.len() == 8).collect::<Vec<_>>()
        })
        .flat_map(|word| (0..4).map(move |at| u8::from_str_radix(&word[2 * at..][..2], 16).unwrap()))
        .collect();
    for file in inputs.iter().chain([&output]) {
        let _ = std::fs::remove_file(file);
    }
    let name = |word: &[u8]| {
        let address = u64::from_le_bytes(word.try_into().unwrap());
        names
            .iter()
            .find(|(at, name)| *at == address && name.contains('_') && !name.starts_with('_'))
            .unwrap()
            .1
            .clone()
    };
    bytes.chunks_exact(8).map(name).collect()
}

#[test]
fn calls_are_in_the_order_of_gnu_ld() {
    for machine in BOTH {
        let files = CALLS.map(|source| object(machine, source));
        let linked = link(machine, &files);
        let name = |address: &u64| {
            let exports = linked.image.exports();
            exports.iter().find(|export| BASE + export.offset == *address).unwrap().name.to_string()
        };
        let init = linked.image.init(BASE, &linked.memory).unwrap();
        assert_eq!(
            init.iter().map(name).collect::<Vec<_>>(),
            by_ld(machine, &files, ".init_array"),
            "{machine}"
        );
        assert_eq!(init.iter().map(name).take(3).collect::<Vec<_>>(), ["a_101", "b_101", "c_3"]);
        let mut fini = linked.image.fini(BASE, &linked.memory).unwrap();
        fini.reverse();
        assert_eq!(
            fini.iter().map(name).collect::<Vec<_>>(),
            by_ld(machine, &files, ".fini_array"),
            "{machine}"
        );
    }
}

#[test]
fn calls_must_be_of_the_modules_own_code() {
    for machine in BOTH {
        let source = ".section .init_array,\"aw\",%init_array\n.8byte far\n.text\n.globl f\nf: .4byte 0";
        let files = [assembly(machine, source)];
        let linked = link(machine, &files);
        let error = linked.image.init(BASE, &linked.memory).unwrap_err();
        assert_eq!(error, Error::EntryOutsideCode { list: ".init_array", address: 0x1234_5678_9ABC });
    }
}

#[test]
fn call_frame_information_is_one_table() {
    for machine in BOTH {
        let end = assembly(machine, ".section .eh_frame,\"a\",%progbits\n.4byte 0");
        let functions = ["int f(int x) { return x; }", "int g(int x) { return x; }"];
        let [f, g] = functions.map(|source| object(machine, source));
        // The end mark of a start file in the middle, and one of our own at the end.
        let files = [f, end, g];
        let linked = link(machine, &files);
        let unwind = linked.image.unwind().unwrap();
        assert!(unwind.terminated);
        let section = &linked.memory[unwind.offset as usize..][..unwind.size as usize];
        let code = linked
            .image
            .regions()
            .iter()
            .find(|region| region.protection == Protection::ReadExecute)
            .unwrap();
        let code = BASE + code.offset..BASE + code.offset + code.len;
        assert_eq!(midflight_image::unwind::check(section, BASE + unwind.offset, code), Ok(2), "{machine}");
        assert_eq!(linked.protection(BASE + unwind.offset), Some(Protection::Read));
    }
}

#[test]
fn code_is_not_at_the_start() {
    // See `Part` in section.rs: an unwinder may overlook a function at a multiple of 4 GiB.
    for machine in BOTH {
        let files = [object(machine, "int f(int x) { return x; }")];
        assert!(parse(machine, &files).unwrap().export("f").unwrap().offset > 0);
    }
}
