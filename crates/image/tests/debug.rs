//! Names and debug information, against what the linker writes for the same module at another
//! address.

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use common::*;
use gimli::{AttributeValue, Dwarf, EndianSlice, LittleEndian, Reader as _};
use midflight_image::debug::DebugInfo;
use midflight_image::{Image, Machine};
use object::{Object, ObjectSection, ObjectSymbol};

type Slice<'s> = EndianSlice<'s, LittleEndian>;

/// Where the linker is asked to put the module, and where the image is put.
const BASE: u64 = 0x1234_5000_0000;

const C: &str = "
static int counter; extern int table[10]; int table[10] = { 1, 2 };
__thread int mine = 3;
static __attribute__((noinline)) int inner(int x) { for (int i = 0; i < x; i++) counter += table[i % 10] * mine; return counter; }
int __attribute__((section(\".text.elsewhere\"))) away(int x) { int *here = &table[x]; return inner(*here) + inner(x); }
int step(int x, float y) { int z = inner(x) + (int)y; if (z > 100) { int w = away(z); return w * z; } return z; }
";

const CPP: &str = "
#include <map>
#include <string>
#include <vector>
extern \"C\" __attribute__((visibility(\"hidden\"))) void *__dso_handle = 0;
static std::map<std::string, std::vector<int>> known;
template <class T> struct Kept { T value; ~Kept() { known.clear(); } };
extern \"C\" int step(const char *name, int x) {
    Kept<int> kept{x};
    try { auto &found = known[name]; found.push_back(x); return found.at(x); } catch (...) { return -1; }
}
";

fn parse(module: &[u8], machine: Machine) -> Image<'_> {
    Image::parse(module, machine, 4096, MAX_SPAN).unwrap()
}

/// All that a debugger would compute from debug information: the ranges, locations and addresses of
/// every entry, and all lines.
fn understood(sections: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let section = |id: gimli::SectionId| {
        let bytes = sections.get(id.name()).map_or(&[][..], Vec::as_slice);
        Ok::<_, gimli::Error>(EndianSlice::new(bytes, LittleEndian))
    };
    let dwarf: Dwarf<Slice<'_>> = Dwarf::load(section).unwrap();
    let mut found = Vec::new();
    let mut units = dwarf.units();
    while let Some(header) = units.next().unwrap() {
        let unit = dwarf.unit(header).unwrap();
        let mut entries = unit.entries();
        while let Some((_, entry)) = entries.next_dfs().unwrap() {
            let at = entry.offset().0;
            let mut ranges = dwarf.die_ranges(&unit, entry).unwrap();
            while let Some(range) = ranges.next().unwrap() {
                found.push(format!("{at:#x} {} ranges {:#x}..{:#x}", entry.tag(), range.begin, range.end));
            }
            let mut attributes = entry.attrs();
            while let Some(attribute) = attributes.next().unwrap() {
                let value = attribute.value();
                // The base of a unit that is in several places stands for nothing by itself.
                if let AttributeValue::Addr(address) = value
                    && entry.tag() != gimli::DW_TAG_compile_unit
                {
                    found.push(format!("{at:#x} {} {address:#x}", attribute.name()));
                }
                if let AttributeValue::Exprloc(expression) = &value {
                    found.push(format!("{at:#x} {} {:?}", attribute.name(), expression.0.to_slice()));
                }
                if let Some(mut locations) = dwarf.attr_locations(&unit, value).unwrap() {
                    while let Some(location) = locations.next().unwrap() {
                        let (range, expression) = (location.range, location.data.0.to_slice());
                        found.push(format!(
                            "{at:#x} {} {:#x}..{:#x} {expression:?}",
                            attribute.name(),
                            range.begin,
                            range.end
                        ));
                    }
                }
            }
        }
        if let Some(program) = unit.line_program.clone() {
            let mut rows = program.rows();
            while let Some((_, row)) = rows.next_row().unwrap() {
                found.push(format!("line {:#x} {} {:?}", row.address(), row.file_index(), row.line()));
            }
        }
    }
    found
}

fn of_file(module: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let file = object::File::parse(module).unwrap();
    file.sections()
        .map(|section| (section.name().unwrap().into(), section.data().unwrap().to_vec()))
        .collect()
}

fn of_image(debug: &DebugInfo<'_>) -> BTreeMap<String, Vec<u8>> {
    debug.sections.iter().map(|(name, contents)| (name.to_string(), contents.to_vec())).collect()
}

/// The same object file, linked at 0 and at the base.
fn twice(machine: Machine, source: &str, flags: &[&str]) -> [Vec<u8>; 2] {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let [object, module] =
        ["debug.o", "debug.so"].map(|name| folder.join(format!("{}-{name}", std::process::id())));
    std::fs::write(&object, compile_as(machine, source, &[&["-c", "-fPIC"], flags].concat())).unwrap();
    let linked = [0, BASE].map(|address| {
        let place = format!("-Wl,-Ttext-segment={address:#x}");
        let mut linker = Command::new(compiler(machine));
        linker
            .args(["-shared", "-nostdlib", "-Wl,-z,max-page-size=65536", &place, "-o"])
            .args([&module, &object]);
        assert!(linker.status().unwrap().success(), "{linker:?}");
        std::fs::read(&module).unwrap()
    });
    let _ = (std::fs::remove_file(object), std::fs::remove_file(module));
    linked
}

#[test]
fn every_address_is_what_the_linker_would_have_written() {
    let in_pieces = ["-O2", "-ffunction-sections", "-fno-asynchronous-unwind-tables"];
    for machine in BOTH {
        for (source, language, version, options) in [
            (C, "c", "-gdwarf-3", &["-O0"][..]),
            (C, "c", "-gdwarf-3", &in_pieces),
            (C, "c", "-gdwarf-4", &["-O2"]),
            (C, "c", "-gdwarf-4", &in_pieces),
            (C, "c", "-gdwarf-5", &["-O0"]),
            (C, "c", "-gdwarf-5", &in_pieces),
            (CPP, "c++", "-gdwarf-4", &["-O2"]),
            (CPP, "c++", "-gdwarf-5", &["-O2"]),
        ] {
            let flags = [&["-x", language, "-g", version], options].concat();
            let [module, moved] = twice(machine, source, &flags);
            let debug = parse(&module, machine).debug(BASE);
            assert_eq!(debug.omitted, None);
            let (ours, linkers) = (of_image(&debug), of_file(&moved));
            let (by_us, by_linker) = (understood(&ours), understood(&linkers));
            assert!(by_linker.len() > 50, "{machine} {flags:?}: {by_linker:?}");
            let different = by_us.iter().zip(&by_linker).find(|(ours, linkers)| ours != linkers);
            assert_eq!((different, by_us.len()), (None, by_linker.len()), "{machine} {flags:?}");
            for section in [".debug_line", ".debug_frame", ".debug_str"] {
                assert_eq!(ours.get(section), linkers.get(section), "{machine} {flags:?} {section}");
            }
            // Nothing is moved where nothing has to be.
            let in_place = parse(&moved, machine).debug(BASE);
            assert!(in_place.sections.iter().all(|(name, contents)| linkers[*name] == **contents));
        }
    }
}

#[test]
fn a_symbol_file_leads_from_an_address_to_function_and_line() {
    for machine in BOTH {
        let module = compile(machine, C, &["-g", "-O0", "-Wl,-z,max-page-size=65536"]);
        let image = parse(&module, machine);
        let mut memory = vec![0; image.span() as usize];
        let host = midflight_image::Host {
            tls_module: 1,
            tls_dynamic: 1,
            tls_static: 1,
            tls_undefined: 1,
            tlv_thunk: 1,
        };
        let bindings = vec![Some(midflight_image::Binding::Address(BASE)); image.imports().len()];
        image.link(BASE, &mut memory, &host, &bindings).unwrap();
        let made = image.symbol_file(BASE, &memory, vec![7; 100_000]);
        assert_eq!(made.omitted, None);

        let file = object::File::parse(&*made.bytes).unwrap();
        assert_eq!(file.architecture() == object::Architecture::X86_64, machine == Machine::X86_64);
        let symbol = |name: &str| file.symbols().find(|symbol| symbol.name() == Ok(name)).unwrap();
        let (step, inner) = (symbol("step"), symbol("inner"));
        assert_eq!(step.address(), BASE + image.export("step").unwrap().offset);
        assert!(step.is_definition() && step.kind() == object::SymbolKind::Text && step.size() > 8);
        assert_eq!(symbol("table").kind(), object::SymbolKind::Data);
        assert!(file.symbols().all(|symbol| symbol.name() != Ok("mine")), "its value is no address");
        for function in [&step, &inner] {
            let section = file.section_by_index(function.section_index().unwrap()).unwrap();
            let place = section.address()..section.address() + section.size();
            assert!(section.name() == Ok(".text") && place.contains(&function.address()));
        }

        let lines = image.debug(BASE).lines();
        let line_of = |address| {
            let after = lines.lines.partition_point(|line| line.address <= address);
            let line = lines.lines[after - 1];
            (lines.files[line.file as usize].rsplit('/').next().unwrap().to_owned(), line.line)
        };
        for (function, line) in [(step, 6), (inner, 4)] {
            let (file, found) = line_of(function.address());
            assert!(file.ends_with("module.c") && found == line, "{file}:{found}");
        }

        // The call frame information has the address that it is relative to.
        let section = file.section_by_name(".eh_frame").unwrap();
        let frames = gimli::EhFrame::new(section.data().unwrap(), LittleEndian);
        let bases = gimli::BaseAddresses::default().set_eh_frame(section.address());
        let step = symbol("step").address();
        use gimli::UnwindSection;
        let found =
            frames.fde_for_address(&bases, step, |frames, bases, at| frames.cie_from_offset(bases, at));
        assert_eq!(found.unwrap().initial_address(), step);
    }
}

#[test]
fn a_stripped_module_has_its_dynamic_names() {
    for machine in BOTH {
        let module = compile(machine, C, &["-s", "-Wl,-z,max-page-size=65536"]);
        let image = parse(&module, machine);
        let symbols = image.symbols();
        let mut names: Vec<_> = symbols.symbols.iter().map(|symbol| symbols.name(symbol)).collect();
        names.sort();
        assert_eq!(names, [&b"away"[..], b"step", b"table"]);
        assert_eq!(image.debug(BASE), DebugInfo::default());
        let functions = symbols.functions();
        assert!(functions.iter().all(|function| function.size > 0) && functions.len() == 2);
    }
}

#[test]
fn what_cannot_be_moved_is_left_out_with_a_reason() {
    for machine in BOTH {
        let module = compile(machine, C, &["-g", "-gz=zlib", "-Wl,-z,max-page-size=65536"]);
        let image = parse(&module, machine);
        let debug = image.debug(BASE);
        assert!(debug.sections.is_empty() && debug.omitted.unwrap().contains("compressed"), "{debug:?}");
        assert!(!image.symbols().symbols.is_empty());
    }
}

/// Any bytes do, and the tests must not depend on luck.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

#[test]
fn damaged_debug_information_harms_nothing() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for (machine, source, flags) in [
        (Machine::X86_64, C, ["-x", "c", "-gdwarf-5", "-O2"]),
        (Machine::Aarch64, CPP, ["-x", "c++", "-gdwarf-5", "-O2"]),
        (Machine::X86_64, CPP, ["-x", "c++", "-gdwarf-4", "-O2"]),
    ] {
        let module = compile(machine, source, &[&["-Wl,-z,max-page-size=65536"], &flags[..]].concat());
        let file = object::File::parse(&*module).unwrap();
        let debug = file.sections().filter(|section| section.name().unwrap().starts_with(".debug_"));
        let places: Vec<_> = debug.map(|section| section.file_range().unwrap()).collect();
        let (mut read, mut left_out) = (0, 0);
        for _ in 0..100 {
            let mut bad = module.clone();
            for _ in 0..1 + random.below(8) {
                let (start, size) = places[random.below(places.len())];
                let at = start as usize + random.below(size as usize);
                bad[at] = [0, 1, 0x7F, 0x80, 0xFF, random.below(256) as u8][random.below(6)];
            }
            let image = parse(&bad, machine);
            let debug = image.debug(BASE);
            match debug.omitted {
                None => read += 1,
                Some(_) => left_out += 1,
            }
            debug.lines();
            assert!(image.symbol_file(BASE, &vec![0; image.span() as usize], Vec::new()).bytes.len() > 64);
        }
        assert!(read > 0 && left_out > 0, "{read} {left_out}");
    }
}
