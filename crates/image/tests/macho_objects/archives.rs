//! Static archives, as LLVM's and Apple's tools write them.

use crate::common::MAX_SPAN;
use crate::tools::{Scratch, assemble, compile, run};
use midflight_image::{Error, Image, Input, Machine};
use std::process::Command;

fn archive(members: &[(&str, &[u8])], format: &str) -> Vec<u8> {
    let scratch = Scratch::new();
    let mut command = Command::new("llvm-ar-19");
    command.current_dir(scratch.path()).arg(format!("--format={format}")).args(["rcs", "lib.a"]);
    for (name, bytes) in members {
        std::fs::write(scratch.path().join(name), bytes).unwrap();
        command.arg(name);
    }
    run(&mut command);
    std::fs::read(scratch.path().join("lib.a")).unwrap()
}

fn parse<'data>(inputs: &[(&'data str, &'data [u8])]) -> Result<Image<'data>, Error> {
    let inputs: Vec<_> = inputs.iter().map(|(name, bytes)| Input { name, bytes }).collect();
    Image::parse_all(&inputs, Machine::Aarch64, 16384, MAX_SPAN)
}

fn exports(image: &Image<'_>) -> Vec<String> {
    let mut names: Vec<_> = image.exports().iter().map(|export| export.name.to_string()).collect();
    names.sort();
    names
}

#[test]
fn members_are_pulled_as_needed() {
    let a = compile("int b(void); int a(void) { return b() + 1; }", &[]);
    let b = compile("int b(void) { return 2; }", &[]);
    let unused = compile("int unused(void) { return 3; }", &[]);
    let main = compile("int a(void); int main_(void) { return a(); }", &[]);
    let weak =
        compile("extern int b(void) __attribute__((weak_import)); int w(void) { return b ? b() : 0; }", &[]);
    for format in ["darwin", "bsd", "gnu"] {
        let library =
            archive(&[("b.o", &b), ("a_rather_long_name_of_a_member.o", &a), ("unused.o", &unused)], format);
        let image = parse(&[("main.o", &main), ("lib.a", &library)]).unwrap();
        assert_eq!(exports(&image), ["a", "b", "main_"], "{format}");
        // Apple's linkers look for weak imports there too.
        let image = parse(&[("weak.o", &weak), ("lib.a", &library)]).unwrap();
        assert_eq!(exports(&image), ["b", "w"]);
        let image = parse(&[("lib.a", &library)]).unwrap();
        assert_eq!(exports(&image), ["a", "b", "unused"], "alone it is taken whole");
    }
}

#[test]
fn the_first_member_that_defines_a_name() {
    let [one, two] = [1, 2].map(|n| assemble(&format!(".data\n.globl _x\n_x: .quad {n}")));
    let main = assemble(".data\n.globl _use\n_use: .quad _x");
    let library = archive(&[("one.o", &one), ("two.o", &two)], "darwin");
    let image = parse(&[("main.o", &main), ("lib.a", &library)]).unwrap();
    assert_eq!(exports(&image), ["use", "x"]);
    // A member that is needed for another name as well: then the name is there twice.
    let both = assemble(".data\n.globl _x, _y\n_x: .quad 3\n_y: .quad 4");
    let library = archive(&[("one.o", &one), ("both.o", &both)], "darwin");
    let main = assemble(".data\n.globl _use\n_use: .quad _x, _y");
    let error = parse(&[("main.o", &main), ("lib.a", &library)]).map(|_| ()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("lib.a(one.o)") && text.contains("lib.a(both.o)"), "{text}");
}

#[test]
fn errors_name_the_member() {
    let good = compile("int f(void) { return 2; }", &[]);
    let library = archive(&[("good.o", &good), ("text.o", b"not an object file")], "gnu");
    let text = parse(&[("lib.a", &library)]).map(|_| ()).unwrap_err().to_string();
    assert!(text.contains("lib.a(text.o): "), "{text}");
}

#[test]
fn one_member_may_be_named_by_every_name_of_its_aliases() {
    let alias = assemble(".globl _x\n_x = _y");
    let y = assemble(".data\n.globl _y\n_y: .quad 8");
    let library = archive(&[("y.o", &y), ("alias.o", &alias)], "darwin");
    let main = assemble(".data\n.globl _use\n_use: .quad _x");
    let image = parse(&[("main.o", &main), ("lib.a", &library)]).unwrap();
    assert_eq!(exports(&image), ["use", "x", "y"]);
}
