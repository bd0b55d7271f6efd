//! Where a module's call frame information is, against its section header, and damaged headers.

mod common;

use common::refused::*;
use common::*;
use midflight_image::{Image, Machine, Unwind};

const SOURCE: &str = "int e(int); int f(int x) { return e(x) + 1; } int g(int x) { return f(x) * e(x); } \
    static const char text[] = \"behind\"; const char *t(void) { return text; }";

/// Address and size of a section, by its name.
fn section(module: &[u8], name: &str) -> Option<(u64, u64)> {
    let (table, count) = (u64_at(module, 40) as usize, u16_at(module, 60) as usize);
    let header = |index: usize| table + 64 * index;
    let names = u64_at(module, header(u16_at(module, 62) as usize) + 24) as usize;
    let name = format!("{name}\0");
    let is_it = |at: &usize| module[names + u32_at(module, *at) as usize..].starts_with(name.as_bytes());
    let at = (0..count).map(header).find(is_it)?;
    Some((u64_at(module, at + 16), u64_at(module, at + 32)))
}

fn unwind(module: &[u8], machine: Machine) -> Option<Unwind> {
    Image::parse(module, machine, 4096, MAX_SPAN).unwrap().unwind()
}

#[test]
fn with_and_without_a_terminator() {
    for machine in BOTH {
        for flags in
            [&[][..], &["-Wl,-z,noseparate-code"], &["-Wl,--strip-all"], &["-Wl,-z,max-page-size=65536"]]
        {
            // The compiler's start files end it.
            let module = compile_as(machine, SOURCE, &[&["-shared", "-fPIC"], flags].concat());
            let found = unwind(&module, machine).unwrap();
            let (address, size) = section(&module, ".eh_frame").unwrap();
            assert_eq!(found, Unwind { offset: address, size, terminated: true });

            // Without them there is an end if zeros happen to follow.
            let module = compile(machine, SOURCE, flags);
            let found = unwind(&module, machine).unwrap();
            let (address, size) = section(&module, ".eh_frame").unwrap();
            assert_eq!(found.offset, address);
            assert_eq!(found.size, size + if found.terminated { 4 } else { 0 });
            let image = Image::parse(&module, machine, 4096, MAX_SPAN).unwrap();
            let mut memory = vec![0; image.span() as usize];
            link(&image, image.align(), &mut memory, |_| Some(0x4000)).unwrap();
            let behind = u32_at(&memory, (address + size) as usize);
            assert_eq!(behind == 0, found.terminated);
        }
    }
}

#[test]
fn zeros_in_a_writable_segment_are_no_terminator() {
    // They may be another section's words, which relocations fill in.
    for machine in BOTH {
        let mut module = compile_as(machine, SOURCE, &["-shared", "-fPIC", "-Wl,-z,separate-code"]);
        let (address, size) = section(&module, ".eh_frame").unwrap();
        let holds = |at: &usize| {
            let start = u64_at(&module, at + 16);
            (start..start + u64_at(&module, at + 32)).contains(&address)
        };
        let segment = program_headers(&module, 1).into_iter().find(holds).unwrap();
        assert!(unwind(&module, machine).unwrap().terminated);
        put(&mut module, segment + 4, &[6]);
        let expected = Unwind { offset: address, size: size - 4, terminated: false };
        assert_eq!(unwind(&module, machine), Some(expected));
    }
}

#[test]
fn none_at_all() {
    for machine in BOTH {
        let flags = ["-fno-asynchronous-unwind-tables", "-fno-unwind-tables"];
        assert_eq!(unwind(&compile(machine, SOURCE, &flags), machine), None);
        assert_eq!(unwind(&compile(machine, SOURCE, &["-Wl,--no-eh-frame-hdr"]), machine), None);
    }
}

#[test]
fn a_table_without_rows_may_point_anywhere() {
    for machine in BOTH {
        let good = good_one(machine);
        let pointing_to = |address: u64, rows: u32| {
            let mut module = good.module.clone();
            let distance = address.wrapping_sub(good.header_address + 4) as u32;
            put(&mut module, good.header + 1, &[0x1B, 0x03, 0x3B]);
            put(&mut module, good.header + 4, &distance.to_le_bytes());
            put(&mut module, good.header + 8, &rows.to_le_bytes());
            module
        };
        // The start of the file, as mold has it; and outside everything.
        for nowhere in [0, 0x7000_0000, good.header_address.wrapping_sub(1 << 30)] {
            assert_eq!(unwind(&pointing_to(nowhere, 0), machine), None, "{machine} {nowhere:#x}");
            if nowhere != 0 {
                refusal(&pointing_to(nowhere, 1), machine);
            }
        }
        // Records that are there are of use to unwinders that are given them.
        let expected = unwind(&good.module, machine);
        assert_eq!(unwind(&pointing_to(good.records_address, 0), machine), expected);
    }
}

/// A module with a terminator; where its header and its records are, in the file and in its
/// addresses.
struct Good {
    module: Vec<u8>,
    header: usize,
    header_address: u64,
    records: usize,
    records_address: u64,
    size: usize,
}

fn good_one(machine: Machine) -> Good {
    let module = compile_as(machine, SOURCE, &["-shared", "-fPIC"]);
    let (header_address, _) = section(&module, ".eh_frame_hdr").unwrap();
    let (records_address, size) = section(&module, ".eh_frame").unwrap();
    let header = file_offset(&module, header_address);
    let records = file_offset(&module, records_address);
    Good { module, header, header_address, records, records_address, size: size as usize }
}

#[test]
fn other_encodings() {
    for machine in BOTH {
        let good = good_one(machine);
        let (to, from) = (good.records_address, good.header_address);
        let expected = unwind(&good.module, machine);
        // Pointer, count and table: where the table cannot be used, the records are gone through.
        for (encodings, fields) in [
            ([0x3B, 0xFF, 0xFF], ((to - from) as u32).to_le_bytes().to_vec()),
            ([0x1C, 0xFF, 0xFF], (to - from - 4).to_le_bytes().to_vec()),
            ([0x30, 0xFF, 0xFF], (to - from).to_le_bytes().to_vec()),
            ([0x03, 0xFF, 0xFF], (to as u32).to_le_bytes().to_vec()),
            ([0x32, 0x02, 0x3B], [((to - from) as u16).to_le_bytes(), [0, 0]].concat()),
        ] {
            let mut module = good.module.clone();
            put(&mut module, good.header + 1, &encodings);
            put(&mut module, good.header + 4, &fields);
            assert_eq!(unwind(&module, machine), expected, "{encodings:x?}");
        }
    }
}

#[test]
fn damaged_headers() {
    for machine in BOTH {
        let good = good_one(machine);
        let refused = |at: usize, value: &[u8]| {
            let mut module = good.module.clone();
            put(&mut module, good.header + at, value);
            refusal(&module, machine)
        };
        malformed(&refused(0, &[2]), "unknown version");
        malformed(&refused(1, &[0xFF]), "unknown encoding");
        malformed(&refused(1, &[0x01]), "unknown encoding");
        malformed(&refused(1, &[0x9B]), "unknown encoding");
        malformed(&refused(4, &[0, 0, 0, 0x70]), "outside the segments");
        malformed(&refused(8, &[0xFF, 0xFF, 0xFF, 0x7F]), "table is cut off");
        // The rows: a function, and its record.
        malformed(&refused(12 + 4, &[0, 0, 0, 0x70]), "outside the segments");
        let end = (good.records_address + good.size as u64 - 2 - good.header_address) as u32;
        malformed(&refused(12 + 4, &end.to_le_bytes()), "points to no record");
        let header = |field: usize, value: u64| {
            let mut module = good.module.clone();
            let at = program_headers(&module, 0x6474_E550)[0];
            put64(&mut module, at + field, value);
            refusal(&module, machine)
        };
        malformed(&header(16, 0x7FFF_0000_0000), "outside the segments");
        malformed(&header(32, u64::MAX), "outside the segments");
        malformed(&header(32, 3), "cut off");
        malformed(&header(32, 6), "cut off");
        malformed(&header(32, 20), "table is cut off");
    }
}

#[test]
fn damaged_records() {
    for machine in BOTH {
        let good = good_one(machine);
        // The last function's record is the last there is: it refers back to another's.
        let last = good.module[..good.records + good.size - 4].to_vec();
        let mut at = good.records;
        loop {
            let next = at + 4 + u32_at(&last, at) as usize;
            if next >= good.records + good.size - 4 {
                break;
            }
            at = next;
        }
        for back in [4u32, 1 << 20, u32::MAX] {
            let mut module = good.module.clone();
            put(&mut module, at + 4, &back.to_le_bytes());
            malformed(&refusal(&module, machine), "points to no record");
        }
        // Without a terminator it ends where something else begins.
        let mut module = good.module.clone();
        put(&mut module, good.records + good.size - 4, &[0xFF; 4]);
        let found = unwind(&module, machine).unwrap();
        assert_eq!((found.size as usize, found.terminated), (good.size - 4, false));
    }
}
