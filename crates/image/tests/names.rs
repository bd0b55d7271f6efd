//! Names of other bytes than UTF-8 in shared objects: names are bytes for whoever loads them.

mod common;

use common::refused::{refusal, says};
use common::{BOTH, HOST, MAX_SPAN, bindings, compile, dynamic_value, file_offset};
use midflight_image::Image;

/// Each `zq` in the table of names as two bytes that are no UTF-8, and hashed anew by nobody: who
/// looks the name up by the hash tables does not find it, and nothing else asks them.
fn renamed(mut module: Vec<u8>) -> Vec<u8> {
    let start = file_offset(&module, dynamic_value(&module, 5));
    let size = dynamic_value(&module, 10) as usize;
    let table = &mut module[start..start + size];
    for at in 0..size - 1 {
        if &table[at..at + 2] == b"zq" {
            table[at..at + 2].copy_from_slice(b"\xC2\xFF");
        }
    }
    module
}

#[test]
fn a_name_that_nobody_asks_for() {
    let source = "int Newzqf(int x) { return x + 1; } int (*p)(int) = Newzqf; int zqvalue; int *q = &zqvalue;
        int f(int x) { return p(x) + *q; }";
    for machine in BOTH {
        let module = renamed(compile(machine, source, &[]));
        let image = Image::parse(&module, machine, 4096, MAX_SPAN).unwrap();
        let names: Vec<_> = image.exports().iter().map(|export| export.name).collect();
        assert!(names.contains(&"f") && names.contains(&"p"), "{machine} {names:?}");
        assert!(!names.iter().any(|name| name.contains("New")), "{machine} {names:?}");
        assert!(image.export("f").is_some() && image.imports().is_empty());
        let mut memory = vec![0; image.span() as usize];
        image.link(0x7F00_0000_0000, &mut memory, &HOST, &bindings(&image, |_| None)).unwrap();
    }
}

#[test]
fn a_name_that_another_image_would_have() {
    for (what, source, flags) in [
        ("Import\\xc2\\xff", "int Importzq(void); int f(void) { return Importzq(); }", vec![]),
        ("lib\\xc2\\xff.so", "int f(void) { return 1; }", vec!["-Wl,-soname,libzq.so"]),
    ] {
        for machine in BOTH {
            let error = refusal(&renamed(compile(machine, source, &flags)), machine);
            says(&error, &[what, "not UTF-8"]);
            assert!(!error.to_string().contains("corrupt"), "{error}");
        }
    }
}
