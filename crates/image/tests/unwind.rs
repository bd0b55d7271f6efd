//! Call frame information: checked, counted, moved; against gimli's reading of it.

mod common;

use common::*;
use gimli::{BaseAddresses, CieOrFde, EhFrame, LittleEndian, UnwindSection};
use midflight_image::{Binding, Error, Host, Image, Machine, unwind};

const CPP: &str = "
struct Counted { int *at; ~Counted() { ++*at; } };
extern \"C\" void may_throw(int);
extern \"C\" int one(int x) { int n = 0; { Counted counted{&n}; may_throw(x); } return n; }
extern \"C\" int two(int x) { try { may_throw(x); } catch (...) { return 1; } return one(x); }
";

const BASE: u64 = 0x5555_0000_0000;

/// The linked image of a module, with where its call frame information is.
fn linked(machine: Machine, flags: &[&str]) -> (Vec<u8>, midflight_image::Unwind) {
    let module = compile(machine, CPP, &[&["-x", "c++", "-Wl,-z,max-page-size=65536"], flags].concat());
    let image = Image::parse(&module, machine, 4096, MAX_SPAN).unwrap();
    let mut memory = vec![0; image.span() as usize];
    let bindings = vec![Some(Binding::Address(BASE)); image.imports().len()];
    image.link(BASE, &mut memory, &Host::default(), &bindings).unwrap();
    (memory, image.unwind().unwrap())
}

/// Each function's address and size, personality routine and table, as gimli reads them.
fn read(section: &[u8], address: u64) -> Vec<String> {
    let mut frames = EhFrame::new(section, LittleEndian);
    frames.set_address_size(8);
    let bases = BaseAddresses::default().set_eh_frame(address);
    let mut entries = frames.entries(&bases);
    let mut found = Vec::new();
    while let Some(entry) = entries.next().unwrap() {
        if let CieOrFde::Fde(partial) = entry {
            let fde = partial.parse(|frames, bases, at| frames.cie_from_offset(bases, at)).unwrap();
            let (start, size) = (fde.initial_address(), fde.len());
            found.push(format!("{start:#x} {size} {:?} {:?}", fde.personality(), fde.lsda()));
        }
    }
    found
}

#[test]
fn every_function_is_counted_and_keeps_its_address_when_the_section_is_copied() {
    for machine in BOTH {
        for flags in [&[][..], &["-O0"], &["-O3", "-g"], &["-fuse-ld=bfd", "-Wl,-z,separate-code"]] {
            let (memory, place) = linked(machine, flags);
            let (at, end) = (place.offset as usize, (place.offset + place.size) as usize);
            let section = &memory[at..end];
            let here = read(section, BASE + place.offset);
            assert!(here.len() >= 2, "{here:?}");
            let code = BASE..BASE + memory.len() as u64;
            assert_eq!(unwind::check(section, BASE + place.offset, code.clone()), Ok(here.len()));
            for by in [0x10_0000, -0x2000_0000, 4] {
                let mut copy = section.to_vec();
                unwind::shift(&mut copy, by).unwrap();
                assert_eq!(read(&copy, (BASE + place.offset).wrapping_add_signed(by)), here);
            }
            let too_far = unwind::shift(&mut section.to_vec(), 1 << 33).unwrap_err();
            assert!(too_far.to_string().contains("too far"), "{too_far}");
            // What it describes is not in this range.
            let elsewhere = unwind::check(section, BASE + place.offset, BASE..BASE + 16).unwrap_err();
            assert!(elsewhere.to_string().contains("outside the module"), "{elsewhere}");
        }
    }
}

#[test]
fn a_damaged_section_is_an_error_and_never_more() {
    let (memory, place) = linked(Machine::X86_64, &[]);
    let (at, end) = (place.offset as usize, (place.offset + place.size) as usize);
    let section = &memory[at..end];
    let code = BASE..BASE + memory.len() as u64;
    let whole = unwind::check(section, BASE + place.offset, code.clone()).unwrap();
    let (mut refused, mut accepted) = (0, 0);
    for place_of_damage in 0..section.len() {
        for value in [0, 1, 4, 0x7F, 0x80, 0xFF] {
            let mut bad = section.to_vec();
            bad[place_of_damage] = value;
            match unwind::check(&bad, BASE + place.offset, code.clone()) {
                Ok(functions) => {
                    assert!(functions <= whole);
                    accepted += 1;
                }
                Err(Error::Malformed { table, .. }) => {
                    assert!(table.contains(".eh_frame"));
                    refused += 1;
                }
                Err(other) => panic!("{other}"),
            }
            let _ = unwind::shift(&mut bad, 4096);
        }
        // Cut off anywhere but between two records.
        let cut = unwind::check(&section[..place_of_damage], BASE + place.offset, code.clone());
        assert!(cut.is_err() || cut.unwrap() <= whole);
    }
    assert!(refused > 100 && accepted > 100, "{refused} {accepted}");
}

#[test]
fn sections_that_say_nothing() {
    assert_eq!(unwind::check(&[], 0, 0..0), Ok(0));
    assert_eq!(unwind::check(&[0; 4], 0, 0..0), Ok(0));
    assert!(unwind::check(&[0xFF; 16], 0, 0..u64::MAX).is_err(), "a 64-bit length");
    assert!(unwind::check(&[1, 0], 0, 0..u64::MAX).is_err(), "a length that is cut off");
}

/// A common record with these letters and their data, and that of a function at `BASE` whose
/// addresses have eight bytes.
fn section(letters: &[u8], data: &[u8]) -> Vec<u8> {
    let record = |id: u32, content: &[u8]| {
        let mut content = content.to_vec();
        content.resize(content.len().next_multiple_of(4), 0);
        [&(content.len() as u32 + 4).to_le_bytes()[..], &id.to_le_bytes(), &content].concat()
    };
    // Version 1; code by 1, data by -8, return address in column 16.
    let common = [&[1], letters, &[0, 1, 0x78, 16, data.len() as u8], data].concat();
    let common = record(0, &common);
    let function = [&BASE.to_le_bytes()[..], &16_u64.to_le_bytes(), &[0]].concat();
    let function = record(common.len() as u32 + 4, &function);
    [common, function, vec![0; 4]].concat()
}

/// libgcc looks for R by itself, from letter to letter, and stops at the first that it does not
/// know there; and it ends the process at an encoding that it does not know.
#[test]
fn what_unwinders_would_read_in_two_ways_is_refused() {
    const PERSONALITY: [u8; 9] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
    let check = |letters: &[u8], data: &[u8]| unwind::check(&section(letters, data), 0, BASE..BASE + 16);
    let with = |first: u8, last: u8| [&[first], &PERSONALITY[1..], &[last]].concat();
    for (letters, data) in [
        (&b"zR"[..], &[0_u8][..]),
        (b"zR", &[4]),
        (b"zR", &[0xC]),
        (b"zRS", &[0]),
        (b"zRB", &[0]),
        (b"zRSBG", &[0]),
        (b"zLR", &[0, 0]),
        (b"zLR", &[0xFF, 0]),
        (b"zPR", &with(0, 0)),
        (b"zPR", &with(0x90, 0)),
        (b"zS", &[]),
    ] {
        assert_eq!(check(letters, data), Ok(1), "{}", String::from_utf8_lossy(letters));
    }
    for (letters, data) in [
        (&b"zSR"[..], &[0][..]),
        (b"zBR", &[0]),
        (b"zGR", &[0]),
        (b"zRR", &[0, 4]),
        // A signed address, and one that is relative to who knows what.
        (b"zR", &[8]),
        (b"zR", &[0x18]),
        (b"zR", &[0x50]),
        // Of a personality routine: aligned, relative to the text, and so on.
        (b"zPR", &with(0x50, 0)),
        (b"zPR", &with(0x20, 0)),
        (b"zPR", &with(0x70, 0)),
        (b"zPR", &with(8, 0)),
        (b"zLR", &[8, 0]),
        (b"zLR", &[0x60, 0]),
    ] {
        let refused = check(letters, data);
        assert!(refused.is_err(), "{} {data:?}: {refused:?}", String::from_utf8_lossy(letters));
    }
}
