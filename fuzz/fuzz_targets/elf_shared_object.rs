//! Any bytes, as a module of either machine on systems of three page sizes: everything an image offers is used.
//! Fails on a panic (overflow checks are on), on memory out of bounds, and on an answer that is out of range.
#![no_main]

use libfuzzer_sys::fuzz_target;
use midflight_image::{Image, Machine};

const MAX_SPAN: u64 = 16 << 20;

fuzz_target!(|bytes: &[u8]| {
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
    assert!(image.span() <= MAX_SPAN && image.span().is_multiple_of(page_size));
    let mut end = 0;
    for region in image.regions() {
        assert!(region.offset >= end && region.len > 0);
        end = region.offset + region.len;
    }
    assert!(end <= image.span());
    for export in image.exports().take(256) {
        assert!(export.offset + export.size <= image.span());
        if let Some(found) = image.export(export.name) {
            assert_eq!(found.name, export.name);
        }
    }
    assert!(image.export("no such symbol").is_none());

    let imports: Vec<_> = image.imports().collect();
    let base = image.align() * 3;
    let mut memory = vec![0; image.span() as usize];
    let mut asked = 0;
    let linked = image.link(base, &mut memory, &mut |import| {
        assert_eq!(imports[asked], *import);
        asked += 1;
        Some(0x4000)
    });
    assert_eq!(asked, imports.len());
    assert!(linked.is_ok(), "what was accepted can be linked: {linked:?}");
    for calls in [image.init(base, &memory), image.fini(base, &memory)].into_iter().flatten() {
        assert!(calls.iter().all(|call| (base..base + image.span()).contains(call)));
    }
    if let Err(error) = image.link(base, &mut memory, &mut |_| None) {
        assert!(imports.iter().any(|import| !import.weak), "{error}");
    }
}
