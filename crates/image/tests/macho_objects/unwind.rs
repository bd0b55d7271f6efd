//! What unwinders are told: compact unwind records and `__eh_frame` of all files, as one table for
//! the image.

use crate::common::{put, u32_at};
use crate::tools::{assemble, compile, compile_cpp, sections};
use crate::{BASE, Linked, link, refused};
use gimli::{BaseAddresses, CieOrFde, EhFrame, LittleEndian, Pointer, UnwindSection as _};
use midflight_image::Protection;
use std::collections::BTreeMap;

/// A function as it is described.
#[derive(Debug)]
struct Described {
    end: u64,
    /// What the personality's slot holds.
    personality: Option<u64>,
    lsda: Option<u64>,
    instructions: bool,
}

/// By start.
fn read(linked: &Linked<'_>) -> BTreeMap<u64, Described> {
    let unwind = linked.image.unwind().expect("an unwind table");
    let (address, range) =
        (BASE + unwind.offset, unwind.offset as usize..(unwind.offset + unwind.size) as usize);
    let bytes = &linked.memory[range];
    assert!(unwind.terminated && bytes.ends_with(&[0; 4]));
    assert_eq!(linked.protection(address), Some(Protection::Read));
    let code =
        linked.image.regions().iter().find(|region| region.protection == Protection::ReadExecute).unwrap();
    let code = BASE + code.offset..BASE + code.offset + code.len;
    let count = midflight_image::unwind::check(bytes, address, code.clone()).unwrap();
    let mut frames = EhFrame::new(bytes, LittleEndian);
    frames.set_address_size(8);
    let bases = BaseAddresses::default().set_eh_frame(address);
    let (mut entries, mut found) = (frames.entries(&bases), BTreeMap::new());
    while let Some(entry) = entries.next().unwrap() {
        let CieOrFde::Fde(partial) = entry else { continue };
        let record = partial.parse(EhFrame::cie_from_offset).unwrap();
        let (start, end) = (record.initial_address(), record.initial_address() + record.len());
        assert!(code.contains(&start) && end <= code.end, "{start:#x}");
        let through = |pointer| match pointer {
            Pointer::Indirect(slot) => linked.word_at(slot),
            Pointer::Direct(address) => panic!("{address:#x}"),
        };
        let lsda = record.lsda().map(|pointer| match pointer {
            Pointer::Direct(address) => address,
            Pointer::Indirect(slot) => panic!("{slot:#x}"),
        });
        let instructions = instructions(record.instructions(&frames, &bases));
        let described = Described { end, personality: record.personality().map(through), lsda, instructions };
        assert!(found.insert(start, described).is_none(), "twice: {start:#x}");
    }
    assert_eq!(found.len(), count);
    found
}

/// Whether there are any that are more than padding.
fn instructions(mut all: gimli::CallFrameInstructionIter<'_, gimli::EndianSlice<'_, LittleEndian>>) -> bool {
    while let Some(one) = all.next().unwrap() {
        if one != gimli::CallFrameInstruction::Nop {
            return true;
        }
    }
    false
}

/// The address of what need not be exported: what C++ lets a linker hide is hidden here.
fn symbol(linked: &Linked<'_>, name: &str) -> u64 {
    let symbols = linked.image.symbols();
    let found = symbols.symbols.iter().find(|symbol| symbols.name(symbol) == name.as_bytes());
    BASE + found.unwrap_or_else(|| panic!("no symbol {name}")).offset
}

#[test]
fn functions_with_handlers() {
    let source = |name: &str| {
        format!(
            "extern \"C\" int far(int); inline int shared(int x) {{ try {{ return far(x); }} catch (int e) {{ return e; }} }}
             int {name}(int x) {{ try {{ return far(x) + shared(x); }} catch (...) {{ return 1; }} }}
             int plain_{name}(int x) {{ return far(x) + 1; }} int leaf_{name}(int x) {{ return x; }}"
        )
    };
    let files = [compile_cpp(&source("a"), &["-fno-inline"]), compile_cpp(&source("b"), &["-fno-inline"])];
    let inputs = crate::parse(&files).unwrap();
    let linked = crate::link_at(inputs, BASE, |import| Some(import.name.len() as u64 * 0x1000));
    let found = read(&linked);
    for name in ["_Z1ai", "_Z1bi", "_Z6sharedi"] {
        let one = &found[&symbol(&linked, name)];
        assert_eq!(one.personality, Some("__gxx_personality_v0".len() as u64 * 0x1000), "{name}");
        let lsda = one.lsda.unwrap();
        assert_eq!(linked.protection(lsda), Some(Protection::Read));
        // The tables begin by saying that landing pads count from the function's start.
        assert_eq!(linked.code_at(lsda) & 0xFF, 0xFF, "{name}");
        assert!(one.end > symbol(&linked, name));
    }
    for name in ["_Z7plain_ai", "_Z7plain_bi"] {
        let one = &found[&linked.address(name)];
        assert!(one.personality.is_none() && one.lsda.is_none());
    }
    // `shared` is there twice, and both copies are described: one may still be inside the one that
    // is not used.
    let handlers = found.values().filter(|one| one.lsda.is_some()).count();
    assert_eq!(handlers, 4, "{found:x?}");
}

/// The tables that read through the global offset table (`POINTER_TO_GOT`) for types that are
/// caught.
#[test]
fn types_are_found_through_the_table() {
    let files = [compile_cpp(
        "extern \"C\" int far(int); struct mine { int x; }; int f(int x) { try { return far(x); } catch (mine &m) { return m.x; } }",
        &[],
    )];
    let image = crate::parse(&files).unwrap();
    assert!(image.imports().iter().all(|import| !import.name.contains("mine")), "{:?}", image.imports());
    let linked = crate::link_at(image, BASE, |import| Some(import.name.len() as u64 * 0x1000));
    let type_info = symbol(&linked, "_ZTI4mine");
    let entries: Vec<_> = (0..linked.memory.len() / 8)
        .filter(|at| linked.word_at(BASE + 8 * *at as u64) == type_info)
        .collect();
    assert_eq!(entries.len(), 1);
    // One word of the tables leads there.
    let lsda = read(&linked)[&linked.address("_Z1fi")].lsda.unwrap();
    let leads = |at: &u64| {
        at.wrapping_add_signed((linked.code_at(*at) as i32).into()) == BASE + 8 * entries[0] as u64
    };
    assert_eq!((lsda..lsda + 64).step_by(4).filter(leads).count(), 1);
    assert_eq!(linked.word_at(type_info + 8) & !(1 << 63), symbol(&linked, "_ZTS4mine"));
}

/// What compact unwind cannot say: a frame that is found from another register.
const ODD: &str = ".globl _odd, _plain\n_odd:\n.cfi_startproc\n.cfi_personality 155, _host_p\nsub sp, sp, #32\n.cfi_def_cfa_offset 32\nstr x20, [sp, #8]\n.cfi_offset \
    w20, -24\n.cfi_def_cfa w20, 16\nadd sp, sp, #32\nret\n.cfi_endproc\n_plain:\n.cfi_startproc\nstp x29, x30, [sp, #-16]!\nmov x29, \
    sp\n.cfi_def_cfa w29, 16\n.cfi_offset w30, -8\n.cfi_offset w29, -16\nldp x29, x30, [sp], #16\nret\n.cfi_endproc";

#[test]
fn functions_with_records_of_their_own() {
    let file = assemble(ODD);
    assert!(sections(&file).iter().any(|section| section.name == "__TEXT,__eh_frame"));
    let files = [file.clone(), assemble(&ODD.replace("odd", "odd2").replace("plain", "plain2"))];
    let linked = link(&files);
    let found = read(&linked);
    for (name, instructions) in [("odd", true), ("odd2", true), ("plain", false), ("plain2", false)] {
        let one = &found[&linked.address(name)];
        assert_eq!((one.instructions, one.end > linked.address(name)), (instructions, true), "{name}");
        assert_eq!(one.personality, instructions.then_some(0x5555_0000_1000));
    }
    // Without their relocations, the records would be of other addresses.
    let mut file = file;
    let section = sections(&file).into_iter().find(|section| section.name == "__TEXT,__eh_frame").unwrap();
    assert!(section.relocations.1 > 0);
    put(&mut file, section.header + 60, &0u32.to_le_bytes());
    assert!(refused(&[file]).contains("without a relocation"));
}

#[test]
fn nothing_to_say() {
    let files = [assemble(".globl _f\n_f: ret")];
    assert_eq!(link(&files).image.unwind(), None);
    let files = [compile("int f(int x) { return x; } int d = 1;", &["-fomit-frame-pointer"])];
    let linked = link(&files);
    assert!(linked.image.unwind().is_none() || !read(&linked).is_empty());
}

#[test]
fn damaged_records() {
    let file = compile("int far(int); int f(int x) { return far(x) + 1; }", &[]);
    let section =
        sections(&file).into_iter().find(|section| section.name == "__LD,__compact_unwind").unwrap();
    let entry = section.relocations.0;
    let with = |at: usize, value: u32| {
        let mut file = file.clone();
        put(&mut file, at, &value.to_le_bytes());
        file
    };
    for (file, words) in [
        (with(section.header + 60, 0), "for no function"),
        (with(section.header + 40, 24), ""),
        (with(entry, 4), "not as compilers write it"),
        // Of another section: the records' own.
        (with(entry + 4, u32_at(&file, entry + 4) & 0xFF00_0000 | 2), "own code"),
        // Its length.
        (with(section.offset + 8, 0x7FFF_FFFF), ""),
        // Its encoding.
        (with(section.offset + 12, 0x0F00_0000), ""),
        // Where it begins.
        (with(section.offset, 0x7FFF_FFFC), "own code"),
    ] {
        let text = refused(&[file]);
        assert!(text.contains(words), "{text}");
    }
}
