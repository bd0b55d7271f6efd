//! Static archives: which members become part of the module.

use crate::common::BOTH;
use crate::{BASE, HOST, object};
use midflight_image::{Error, Image, Input, Machine};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An archive of these files, made by GNU ar.
fn archive(members: &[(&str, Vec<u8>)], flags: &str) -> Vec<u8> {
    let members: Vec<_> = members.iter().map(|(name, bytes)| (name.as_bytes(), bytes.clone())).collect();
    archive_of(&members, flags)
}

fn archive_of(members: &[(&[u8], Vec<u8>)], flags: &str) -> Vec<u8> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let unique = format!("{}-{}-archive", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(unique);
    std::fs::create_dir(&folder).unwrap();
    for (name, bytes) in members {
        std::fs::write(folder.join(OsStr::from_bytes(name)), bytes).unwrap();
    }
    let names = members.iter().map(|(name, _)| OsStr::from_bytes(name));
    let done = Command::new("ar").current_dir(&folder).args([flags, "lib.a"]).args(names).status();
    assert!(done.expect("ar is needed for these tests").success());
    let bytes = std::fs::read(folder.join("lib.a")).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    bytes
}

/// A BSD archive: long names stand before the contents.
fn bsd(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, contents) in [("__.SYMDEF", vec![0; 8])].iter().chain(members) {
        let padded = name.len().next_multiple_of(8);
        let size = padded + contents.len();
        bytes.extend(format!("#1/{padded:<13}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, 644).bytes());
        bytes.extend(name.bytes().chain(std::iter::repeat_n(0, padded - name.len())));
        bytes.extend(contents);
        bytes.resize(bytes.len().next_multiple_of(2), b'\n');
    }
    bytes
}

fn parse<'data>(machine: Machine, files: &[(&'data str, &'data [u8])]) -> Result<Image<'data>, Error> {
    let inputs: Vec<_> = files.iter().map(|(name, bytes)| Input { name, bytes }).collect();
    Image::parse_all(&inputs, machine, 4096, 1 << 20)
}

fn exports(image: &Image<'_>) -> Vec<String> {
    let mut names: Vec<_> = image.exports().iter().map(|export| export.name.to_string()).collect();
    names.sort();
    names
}

/// `a` needs `b`, which needs `c`, whose member comes before; nobody needs `d`, and `weak` is asked
/// for weakly only.
fn members(machine: Machine) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("c.o", object(machine, "int c(int x) { return x; }")),
        (
            "a_name_that_is_longer_than_sixteen.o",
            object(machine, "extern int c(int); int b(int x) { return c(x); }"),
        ),
        (
            "d.o",
            object(
                machine,
                "int d(int x) { return x; } int undefined_elsewhere(void);
                int e(void) { return undefined_elsewhere(); }",
            ),
        ),
        ("weak.o", object(machine, "int weak(int x) { return x; }")),
        ("c2.o", object(machine, "int c(int x) { return -x; }")),
    ]
}

const MAIN: &str = "extern int b(int); extern int weak(int) __attribute__((weak));
    int a(int x) { return b(x) + (weak ? weak(x) : 0); }";

#[test]
fn members_that_are_needed() {
    for machine in BOTH {
        let main = object(machine, MAIN);
        for library in
            [archive(&members(machine), "rcs"), archive(&members(machine), "rcS"), bsd(&members(machine))]
        {
            // Wherever the archive stands.
            for files in
                [[("main.o", &main[..]), ("lib.a", &library)], [("lib.a", &library), ("main.o", &main)]]
            {
                let image = parse(machine, &files).unwrap();
                assert_eq!(exports(&image), ["a", "b", "c"], "{machine}");
                assert_eq!(image.imports().iter().map(|import| import.name).collect::<Vec<_>>(), ["weak"]);
                let mut memory = vec![0; image.span() as usize];
                image.link(BASE, &mut memory, &HOST, &[None]).unwrap();
            }
        }
    }
}

#[test]
fn needs_are_met_across_archives_and_by_the_first() {
    for machine in BOTH {
        let main = object(machine, MAIN);
        let first =
            archive(&[("b.o", object(machine, "extern int c(int); int b(int x) { return c(x); }"))], "rcs");
        let second =
            archive(&[("c.o", object(machine, "int c(int x) { return x; } int second = 1;"))], "rcs");
        let third = archive(&[("c.o", object(machine, "int c(int x) { return x; } int third = 1;"))], "rcs");
        let image =
            parse(machine, &[("main.o", &main), ("3.a", &third), ("1.a", &first), ("2.a", &second)]).unwrap();
        assert_eq!(exports(&image), ["a", "b", "c", "third"]);
    }
}

#[test]
fn an_archive_alone_is_whole() {
    for machine in BOTH {
        let quiet =
            object(machine, "static int n; __attribute__((constructor)) static void up(void) { n++; }");
        let mut all = members(machine);
        all.push(("quiet.o", quiet));
        let library = archive(&all, "rcs");
        let image = parse(machine, &[("lib.a", &library)]).unwrap();
        // But for the second definition of `c`, which would bring nothing.
        assert_eq!(exports(&image), ["b", "c", "d", "e", "weak"]);
        assert_eq!(
            image.imports().iter().map(|import| import.name).collect::<Vec<_>>(),
            ["undefined_elsewhere"]
        );
        let mut memory = vec![0; image.span() as usize];
        image.link(BASE, &mut memory, &HOST, &crate::bindings(&image, |_| Some(BASE))).unwrap();
        assert_eq!(image.init(BASE, &memory).unwrap().len(), 1);
    }
}

#[test]
fn messages_name_the_member() {
    for machine in BOTH {
        let mut damaged = object(machine, "int c(int x) { return x; }");
        damaged.truncate(200);
        let main = object(machine, MAIN);
        let library = archive(&[("c.o", damaged)], "rcS");
        let text = parse(machine, &[("main.o", &main), ("lib.a", &library)]).unwrap_err().to_string();
        assert!(text.starts_with("lib.a(c.o): "), "{text}");
    }
}

#[test]
fn members_may_have_names_of_any_bytes() {
    // One that stands in the header, and one in the table of long names.
    const NAMES: [(&[u8], &str); 2] =
        [(b"\xff.o", "\\xff.o"), (b"a_name_of_\xc2q_and_more_bytes.o", "a_name_of_\\xc2q_and_more_bytes.o")];
    for machine in BOTH {
        let main = object(machine, MAIN);
        let [b, c] = ["int c(int); int b(int x) { return c(x); }", "int c(int x) { return x; }"]
            .map(|of| object(machine, of));
        let library = archive_of(&[(NAMES[0].0, b), (NAMES[1].0, c)], "rcs");
        let image = parse(machine, &[("main.o", &main), ("lib.a", &library)]).unwrap();
        assert_eq!(exports(&image), ["a", "b", "c"], "{machine}");
        for (name, said) in NAMES {
            let library = archive_of(&[(name, b"no object file".to_vec())], "rcS");
            let text = parse(machine, &[("main.o", &main), ("lib.a", &library)]).unwrap_err().to_string();
            assert!(text.starts_with(&format!("lib.a({said}): ")), "{text}");
        }
    }
}

#[test]
fn what_is_no_archive_of_object_files() {
    let machine = Machine::X86_64;
    let thin = archive(&members(machine), "rcsT");
    let text = Image::parse(&thin, machine, 4096, 1 << 20).unwrap_err().to_string();
    assert!(text.contains("thin archive") && text.contains("ar cr"), "{text}");
    let bitcode = archive(&[("x.o", b"BC\xC0\xDE0000".to_vec())], "rcS");
    let text = parse(machine, &[("lib.a", &bitcode)]).unwrap_err().to_string();
    assert!(text.contains("lib.a(x.o)") && text.contains("LLVM bitcode"), "{text}");
    let other = archive(&[("x.o", object(Machine::Aarch64, "int x;"))], "rcS");
    let text = parse(machine, &[("lib.a", &other)]).unwrap_err().to_string();
    assert!(text.contains("lib.a(x.o)") && text.contains("AArch64"), "{text}");
    let empty = b"!<arch>\n";
    assert!(Image::parse(empty, machine, 4096, 1 << 20).is_err());
}

#[test]
fn many_members_of_one_long_name() {
    let mut bytes = b"!<arch>\n".to_vec();
    let header =
        |name: &str, size: usize| format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, 644);
    bytes.extend(header("//", 1 << 20).bytes());
    bytes.extend(std::iter::repeat_n(b'x', (1 << 20) - 2).chain(*b"/\n"));
    for _ in 0..10_000 {
        bytes.extend(header("/0", 0).bytes());
    }
    let clock = crate::common::clock::Clock::start();
    let error = Image::parse(&bytes, Machine::X86_64, 4096, 1 << 20).unwrap_err();
    assert!(matches!(error, Error::Malformed { table: "archive", .. }), "{error}");
    clock.within(5.0);
}

#[test]
fn the_best_definition_among_members() {
    const WEAK: &str = "__attribute__((weak)) long x = 1; long *p = &x;";
    for machine in BOTH {
        let strong = object(machine, "long x = 2;");
        let common = crate::assembly(machine, ".comm x, 8, 8");
        let weak = object(machine, WEAK);
        for (members, expected) in [
            (vec![("weak.o", &weak), ("strong.o", &strong)], 2),
            (vec![("strong.o", &strong), ("weak.o", &weak)], 2),
            // A common block begins as zero, and comes before a weak definition.
            (vec![("weak.o", &weak), ("common.o", &common)], 0),
            (vec![("common.o", &common), ("weak.o", &weak)], 0),
            (vec![("common.o", &common), ("weak.o", &weak), ("strong.o", &strong)], 2),
        ] {
            let owned: Vec<_> = members.iter().map(|(name, bytes)| (*name, (*bytes).clone())).collect();
            let library = archive(&owned, "rc");
            let image = parse(machine, &[("lib.a", &library)]).unwrap();
            let linked = crate::link_at(image, BASE, |_| None);
            assert_eq!(linked.word_at(linked.word("p")), expected, "{machine} {:?}", members[0].0);
            assert_eq!(linked.word("p"), linked.address("x"), "{machine}");
        }
        // Of two strong ones a linker would not know; the one that only repeats the first is left
        // out.
        let third = object(machine, "long x = 3;");
        let library = archive(&[("strong.o", strong.clone()), ("third.o", third.clone())], "rc");
        let linked = crate::link_at(parse(machine, &[("lib.a", &library)]).unwrap(), BASE, |_| None);
        assert_eq!(linked.word("x"), 2, "{machine}");
        let more = object(machine, "long x = 3, y = 4;");
        let library = archive(&[("strong.o", strong), ("more.o", more)], "rc");
        let error = parse(machine, &[("lib.a", &library)]).unwrap_err();
        assert!(
            matches!(&error, Error::InFile { error, .. } if matches!(**error, Error::DuplicateSymbol { .. })),
            "{error}"
        );
    }
}

#[test]
fn a_member_with_nothing_new_may_have_constructors() {
    let source = "struct Register { Register(int); }; inline int shared() { static int n; return ++n; }
        template <class T> struct Held { static inline T value = 0; };
        static Register here(shared() + Held<int>::value);";
    for machine in BOTH {
        let one = crate::common::compile_as(machine, source, &["-c", "-fPIC", "-x", "c++", "-std=c++17"]);
        let library = archive(&[("one.o", one.clone()), ("two.o", one)], "rc");
        let image = parse(machine, &[("lib.a", &library)]).unwrap();
        let linked = crate::link_at(image, BASE, |_| Some(BASE));
        assert_eq!(linked.image.init(BASE, &linked.memory).unwrap().len(), 2, "{machine}");
    }
}

#[test]
fn common_blocks_are_given_values_by_members() {
    for machine in BOTH {
        let library = archive(
            &[
                ("other.o", crate::assembly(machine, ".comm x, 8, 8\n.data\n.globl other\nother: .byte 1")),
                ("weak.o", object(machine, "__attribute__((weak)) long x = 1; char weakly;")),
                ("values.o", object(machine, "long x = 7; char values;")),
            ],
            "rc",
        );
        let main = crate::assembly(machine, ".comm x, 8, 8\n.data\n.globl p\np: .8byte x");
        let image = parse(machine, &[("main.o", &main), ("lib.a", &library)]).unwrap();
        assert_eq!(exports(&image), ["p", "values", "x"], "{machine}");
        let linked = crate::link_at(image, BASE, |_| None);
        assert_eq!(linked.word_at(linked.word("p")), 7, "{machine}");
    }
}
