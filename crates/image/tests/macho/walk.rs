//! Uses everything that an image of a Mach-O file offers, and checks that every answer is in range.
//! For the tests here and for `fuzz/`.

use midflight_image::{
    Binding, ExportKind, Format, Host, Image, Import, ImportKind, Machine, Protection, Region, unwind,
};

pub(crate) const MAX_SPAN: u64 = 16 << 20;

const HOST: Host =
    Host { tls_module: 7, tls_dynamic: 0xD000, tls_static: 0x5000, tls_undefined: 0xE000, tlv_thunk: 0x7000 };

/// Whether it could be parsed: then it can be linked.
pub(crate) fn walk(bytes: &[u8], page_size: u64) -> bool {
    let image = match Image::parse(bytes, Machine::Aarch64, page_size, MAX_SPAN) {
        Ok(image) => image,
        Err(error) => {
            assert!(error.to_string().len() < 4096);
            return false;
        }
    };
    // Object files have tests and a fuzz target of their own.
    const MH_OBJECT: [u8; 4] = [1, 0, 0, 0];
    if image.format() != Format::MachO || bytes[12..16] == MH_OBJECT {
        return false;
    }
    ask(&image, page_size);
    let span = image.span();
    for base in [0, image.align() * 5, 0x7F00_0000_0000 & !(image.align() - 1)] {
        let mut memory = vec![0; span as usize];
        let everything: Vec<_> = image.imports().iter().map(|_| Some(Binding::Address(0x4000))).collect();
        let linked = image.link(base, &mut memory, &HOST, &everything);
        assert!(linked.is_ok(), "what was accepted can be linked: {linked:?}");
        let mut rest = vec![0; memory.len()];
        assert!(image.link_rest(base, &mut rest, &HOST, &everything).is_ok());
        for calls in [image.init(base, &rest), image.fini(base, &rest)].into_iter().flatten() {
            assert!(calls.iter().all(|call| (base..base + span).contains(call)));
        }
        for part in image.verbatim() {
            rest[part.offset as usize..][..part.bytes.len()].copy_from_slice(part.bytes);
        }
        assert!(rest == memory, "it is the same, whoever writes the verbatim parts");
        if let Some(unwind) = image.unwind() {
            let section = image.content(&memory, unwind.offset, unwind.size);
            assert_eq!(section.len() as u64, unwind.size);
            assert!(section.ends_with(&[0; 4]) || !unwind.terminated);
            let _ = unwind::check(section, base + unwind.offset, base..base + span);
        }
        let nothing = vec![None; image.imports().len()];
        let nobody = image.link(base, &mut memory, &HOST, &nothing);
        assert_eq!(nobody.is_ok(), image.imports().iter().all(|import| import.weak));
    }
    let symbols = image.symbols();
    for symbol in symbols.symbols.iter().take(256) {
        assert!(symbol.offset <= span);
        let _ = symbols.name(symbol);
    }
    true
}

/// Every answer is within the image, or within its thread-local block.
fn ask(image: &Image<'_>, page_size: u64) {
    let span = image.span();
    assert!(span > 0 && span <= MAX_SPAN && span.is_multiple_of(page_size));
    assert!(image.align() <= MAX_SPAN && image.align().is_power_of_two());
    let mut end = 0;
    for region in image.regions() {
        assert!(region.offset >= end && region.len > 0);
        assert!(region.offset.is_multiple_of(page_size) && region.len.is_multiple_of(page_size));
        end = region.offset + region.len;
    }
    assert!(end <= span);
    let protection = |offset: u64| {
        let of = |r: &&Region| (r.offset..r.offset + r.len).contains(&offset);
        image.regions().iter().find(of).map(|region| region.protection)
    };
    for part in image.verbatim() {
        let last = part.offset + part.bytes.len() as u64 - 1;
        assert!(matches!(protection(last), Some(Protection::Read | Protection::ReadExecute)));
        assert_eq!(protection(part.offset), protection(last));
    }
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
        if export.kind == ExportKind::Function {
            assert_eq!(protection(export.offset), Some(Protection::ReadExecute));
        }
        assert_eq!(image.export(export.name), Some(export));
    }
    // The fuzzer comes to write the name that it sees compared.
    assert!(image.export("no such symbol").is_none_or(|found| found.name == "no such symbol"));
    let imported = |import: &Import<'_>| (import.name.to_string(), import.from);
    let mut imports: Vec<_> = image.imports().iter().map(imported).collect();
    imports.sort_unstable();
    let count = imports.len();
    imports.dedup();
    assert_eq!(imports.len(), count, "each is there once");
    assert!(image.imports().iter().all(|import| import.kind != ImportKind::ThreadLocal));
    assert!(image.indirect().is_empty() && image.export_tables().is_none());
    let _ = (image.soname(), image.needed().len(), image.runpath(), format!("{image:?}"));
    assert!(image.declared_name().into_iter().chain(image.needs()).all(|name| !name.is_empty()));
    let _ = image.declared_version();
    if let Some(unwind) = image.unwind() {
        assert!(unwind.offset + unwind.size <= span && protection(unwind.offset).is_some());
    }
}
