//! Parts that stay as they are in the file, and files of which no more is read than is loaded.

mod common;

use common::*;
use midflight_image::{Image, Protection};

const BASE: u64 = 0x7F12_3456_0000;

/// Long tables and constants, code, and variables that are relocated.
fn module(machine: midflight_image::Machine) -> Vec<u8> {
    let functions: String = (0..600).map(|i| format!("int f{i}(int x) {{ return x * {i}; }}\n")).collect();
    let table: String = (0..600).map(|i| format!("f{i},")).collect();
    let source = format!(
        "{functions} static int (*const table[])(int) = {{ {table} }};
         int variable = 5; static const char constants[40000] = {{ 1, 2, 3 }};
         __attribute__((constructor)) static void begin(void) {{ variable++; }}
         int call(int i) {{ return table[i](variable) + constants[i]; }}"
    );
    compile(machine, &source, &[])
}

#[test]
fn what_is_linked_is_the_same_whoever_writes_the_verbatim_parts() {
    for machine in BOTH {
        let bytes = module(machine);
        let image = Image::parse(&bytes, machine, 4096, MAX_SPAN).unwrap();
        assert!(!image.verbatim().is_empty());
        let mut whole = vec![0; image.span() as usize];
        link(&image, BASE, &mut whole, |_| None).unwrap();

        // Whatever was there before in the verbatim parts is neither read nor written.
        let mut rest = vec![0; image.span() as usize];
        let mut end = 0;
        for part in image.verbatim() {
            let range = part.offset as usize..part.offset as usize + part.bytes.len();
            assert!(part.offset >= end, "in order");
            end = range.end as u64;
            let holds = |offset: u64| offset <= part.offset && part.offset < image.span();
            let region = image.regions().iter().rfind(|region| holds(region.offset)).unwrap();
            assert!(end <= region.offset + region.len && region.protection != Protection::ReadWrite);
            rest[range].fill(0xA5);
        }
        image.link_rest(BASE, &mut rest, &HOST, &[]).unwrap();
        assert_eq!(image.init(BASE, &rest), image.init(BASE, &whole));
        assert!(!image.init(BASE, &rest).unwrap().is_empty());
        for part in image.verbatim() {
            let (start, len) = (part.offset as usize, part.bytes.len());
            assert!(rest[start..start + len].iter().all(|byte| *byte == 0xA5), "left alone");
            let content = image.content(&rest, part.offset + 1, u64::MAX);
            assert_eq!(content, &part.bytes[1..], "to the end of the part");
            rest[start..start + len].copy_from_slice(part.bytes);
        }
        assert!(rest == whole, "{machine}");
        let variable = image.export("variable").unwrap();
        assert_eq!(image.content(&rest, variable.offset, 4), 5i32.to_le_bytes());
        assert_eq!(image.content(&rest, image.span() + 1, 4), [0; 0]);
    }
}

#[test]
fn the_loaded_length_of_a_file_is_all_that_loading_reads() {
    for machine in BOTH {
        let bytes = module(machine);
        let length = Image::loaded_length(&bytes[..4096]).unwrap() as usize;
        assert!(length < bytes.len(), "section headers, at least, are behind it");
        let linked = |bytes: &[u8]| {
            let image = Image::parse(bytes, machine, 4096, MAX_SPAN).unwrap();
            let mut memory = vec![0; image.span() as usize];
            link(&image, BASE, &mut memory, |_| None).unwrap();
            (memory, image.exports().len(), image.regions().to_vec())
        };
        assert!(linked(&bytes[..length]) == linked(&bytes), "{machine}");
        assert!(Image::parse(&bytes[..length - 1], machine, 4096, MAX_SPAN).is_err(), "{machine}");
    }
}

#[test]
fn of_what_is_no_shared_object_all_is_read() {
    for machine in BOTH {
        let object = compile_as(machine, "int f(void) { return 1; }", &["-c", "-fPIC"]);
        assert_eq!(Image::loaded_length(&object), None);
        let shared = compile(machine, "int f(void) { return 1; }", &[]);
        // Program headers that are cut off or go past the end of the address space.
        assert_eq!(Image::loaded_length(&shared[..100]), None);
        let mut endless = shared.clone();
        for header in 0..u16::from_le_bytes([shared[56], shared[57]]) as usize {
            endless[64 + 56 * header + 32..][..8].fill(0xFF); // p_filesz
        }
        assert_eq!(Image::loaded_length(&endless), None);
    }
    assert_eq!(Image::loaded_length(b"!<arch>\n"), None);
    assert_eq!(Image::loaded_length(&[]), None);
}
