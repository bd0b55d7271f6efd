//! Any bytes, as a shared object of either machine on systems of three page sizes: everything an
//! image offers is used. Fails on a panic (overflow checks are on), on memory out of bounds, and on
//! an answer that is out of range.
#![no_main]

use libfuzzer_sys::fuzz_target;
use midflight_image::{
    Binding, ExportKind, Host, Image, Import, ImportKind, Machine, Protection, Region, ThreadLocal,
};

const MAX_SPAN: u64 = 16 << 20;
const HOST: Host =
    Host { tls_module: 7, tls_dynamic: 0xD000, tls_static: 0x5000, tls_undefined: 0xE000, tlv_thunk: 0x7000 };

fuzz_target!(|bytes: &[u8]| {
    // Object files and archives have a target of their own.
    const ET_DYN: [u8; 2] = [3, 0];
    if bytes.get(16..18) != Some(&ET_DYN) {
        return;
    }
    for machine in [Machine::X86_64, Machine::Aarch64] {
        for page_size in [4096, 16384, 65536] {
            walk(bytes, machine, page_size);
        }
    }
});

fn walk(bytes: &[u8], machine: Machine, page_size: u64) {
    let image = match Image::parse(bytes, machine, page_size, MAX_SPAN) {
        Ok(image) => image,
        Err(error) => {
            assert!(error.to_string().len() < 4096);
            return;
        }
    };
    ask(&image, page_size);

    let base = image.align() * 3;
    let mut memory = vec![0; image.span() as usize];
    let found = |from_thread_pointer| {
        move |import: &Import<'_>| {
            Some(match import.kind {
                ImportKind::ThreadLocal => {
                    Binding::ThreadLocal(ThreadLocal { module: 9, offset: 0x40, from_thread_pointer })
                }
                _ => Binding::Address(0x4000),
            })
        }
    };
    let everything: Vec<_> = image.imports().iter().map(found(Some(-0x40))).collect();
    let linked = image.link(base, &mut memory, &HOST, &everything);
    assert!(linked.is_ok(), "what was accepted can be linked: {linked:?}");
    let mut rest = vec![0; memory.len()];
    let linked = image.link_rest(base, &mut rest, &HOST, &everything);
    assert!(linked.is_ok(), "what was accepted can be linked: {linked:?}");
    for part in image.verbatim() {
        rest[part.offset as usize..][..part.bytes.len()].copy_from_slice(part.bytes);
    }
    assert!(rest == memory, "it is the same, whoever writes the verbatim parts");
    for indirect in image.indirect() {
        assert_eq!(word(&memory, indirect.place).to_le_bytes(), [0; 8]);
    }
    if let Some(unwind) = image.unwind().filter(|unwind| unwind.terminated) {
        assert_eq!(word(&memory, unwind.offset + unwind.size - 4) as u32, 0);
    }
    look_up(&image, &memory);
    for calls in [image.init(base, &memory), image.fini(base, &memory)].into_iter().flatten() {
        assert!(calls.iter().all(|call| (base..base + image.span()).contains(call)));
    }
    // Without fixed places for thread-local variables, and without anything.
    let anywhere: Vec<_> = image.imports().iter().map(found(None)).collect();
    if let Err(error) = image.link(base, &mut memory, &HOST, &anywhere) {
        assert!(image.imports().iter().any(|import| import.kind == ImportKind::ThreadLocal), "{error}");
    }
    let nothing = vec![None; image.imports().len()];
    if let Err(error) = image.link(base, &mut memory, &HOST, &nothing) {
        assert!(image.imports().iter().any(|import| !import.weak), "{error}");
    }
}

/// Every answer is within the image, or within its thread-local block.
fn ask(image: &Image<'_>, page_size: u64) {
    let span = image.span();
    assert!(span <= MAX_SPAN && span.is_multiple_of(page_size));
    let mut end = 0;
    for region in image.regions() {
        assert!(region.offset >= end && region.len > 0);
        end = region.offset + region.len;
    }
    assert!(end <= span);
    let protection = |offset: u64| {
        let of = |r: &&Region| (r.offset..r.offset + r.len).contains(&offset);
        image.regions().iter().find(of).map(|region| region.protection)
    };
    let block = image.thread_locals();
    if let Some(block) = block {
        assert!(block.align.is_power_of_two() && block.align <= MAX_SPAN && block.skew < block.align);
        assert!(block.initialised <= block.size && block.size <= MAX_SPAN);
        assert!(block.offset + block.initialised <= span);
    }
    for export in image.exports().into_iter().take(256) {
        let of = match export.kind {
            ExportKind::ThreadLocal => block.expect("a thread-local variable is in a block").size,
            _ => span,
        };
        assert!(export.offset + export.size <= of);
        if matches!(export.kind, ExportKind::Function | ExportKind::Indirect) {
            assert_eq!(protection(export.offset), Some(Protection::ReadExecute));
        }
        // A name may have an `@` in it, and not be in the hash table: then it is another's, in a
        // version.
        if let Some(found) = image.export(export.name) {
            assert!(export.name == found.name || export.name.split('@').next() == Some(found.name));
        }
    }
    // The fuzzer comes to write the name that it sees compared.
    assert!(image.export("no such symbol").is_none_or(|found| found.name == "no such symbol"));
    assert!(image.declared_name().into_iter().chain(image.needs()).all(|name| !name.is_empty()));
    let _ = image.declared_version();
    for indirect in image.indirect().iter().take(256) {
        assert_eq!(protection(indirect.resolver), Some(Protection::ReadExecute));
        assert!(indirect.place + 8 <= span && protection(indirect.place).is_some());
    }
    if let Some(unwind) = image.unwind() {
        assert!(unwind.offset + unwind.size <= span && protection(unwind.offset).is_some());
    }
}

/// What is found in the linked image is what the file lists.
fn look_up(image: &Image<'_>, memory: &[u8]) {
    let Some(tables) = image.export_tables() else { return };
    let (bytes, span) = (&memory[tables.region()], image.span());
    let is_code = |offset: u64| {
        let of = image.regions().iter().find(|region| offset.wrapping_sub(region.offset) < region.len);
        of.is_some_and(|region| region.protection == Protection::ReadExecute)
    };
    let versions = image.versions().into_iter().map(|(export, version)| format!("{}@{version}", export.name));
    let names = image.exports().into_iter().map(|export| export.name.to_owned());
    // Of the seeds, whatever has become of them.
    let others = ["", "@", "no such symbol", "f@V1", "f@V2", "f@V3"].map(str::to_owned);
    for name in versions.chain(names).take(256).chain(others) {
        let listed = image.export(&name).map(|export| (export.kind, export.offset));
        assert_eq!(tables.find(bytes, &name, is_code), listed, "{name:?}");
    }
    for offset in image.regions().iter().flat_map(|region| [region.offset, region.offset + region.len - 1]) {
        let distance = tables.at(&bytes[tables.names()], offset).map_or(0, |(_, distance)| distance);
        let start = tables.nearest(bytes, offset).map_or(0, |(_, start)| start);
        // A symbol of a damaged file may begin below the image.
        assert!(distance < span || offset.checked_sub(distance).is_none());
        assert!(start <= offset || start.wrapping_sub(offset) > span);
    }
}

fn word(memory: &[u8], at: u64) -> u64 {
    let mut word = [0; 8];
    for (byte, from) in word.iter_mut().zip(&memory[at as usize..]) {
        *byte = *from;
    }
    u64::from_le_bytes(word)
}
