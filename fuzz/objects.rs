//! What the targets for object files have in common. Files are separated by a line of its own, so
//! that a seed is what `cat` makes of some files. Fails on a panic (overflow checks are on), on
//! memory out of bounds, and on an answer that is out of range.

use midflight_image::{
    Binding, ExportKind, Host, Image, Import, ImportKind, Input, Machine, Protection, Region, ThreadLocal,
};

const SEPARATOR: &[u8] = b"\n=next=\n";
const MAX_SPAN: u64 = 1 << 20;
const HOST: Host =
    Host { tls_module: 7, tls_dynamic: 0xD000, tls_static: 0x5000, tls_undefined: 0xE000, tlv_thunk: 0x7000 };

/// The bytes as files of each machine, on systems of two page sizes.
pub fn objects(bytes: &[u8], machines: &[Machine]) {
    let mut files = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(SEPARATOR.len()).position(|window| window == SEPARATOR) {
        files.push(&rest[..at]);
        rest = &rest[at + SEPARATOR.len()..];
    }
    files.push(rest);
    let inputs: Vec<_> = files.into_iter().map(|bytes| Input { name: "file", bytes }).collect();
    for machine in machines {
        for page_size in [4096, 65536] {
            walk(&inputs, *machine, page_size);
        }
    }
}

fn walk(inputs: &[Input<'_>], machine: Machine, page_size: u64) {
    let image = match Image::parse_all(inputs, machine, page_size, MAX_SPAN) {
        Ok(image) => image,
        Err(error) => {
            assert!(error.to_string().len() < 4096);
            return;
        }
    };
    ask(&image, page_size);
    let found = |address| {
        move |import: &Import<'_>| {
            Some(match import.kind {
                ImportKind::ThreadLocal => Binding::ThreadLocal(ThreadLocal {
                    module: 9,
                    offset: 0x40,
                    from_thread_pointer: Some(-0x40),
                }),
                _ => Binding::Address(address),
            })
        }
    };
    let mut memory = vec![0; image.span() as usize];
    for (address, plausible) in
        [(0x4000, 0x1_0000), (0x7F12_3456_7890, 0x7F12_0000_0000), (8, 0x10_0000_0000)]
    {
        let bindings: Vec<_> = image.imports().iter().map(found(address)).collect();
        let window = image.window(&bindings);
        let inside = window.as_ref().map(|window| u64::clamp(plausible, window.low, window.high));
        let base = inside.unwrap_or(plausible) / image.align() * image.align();
        memory.fill(0);
        let linked = image.link(base, &mut memory, &HOST, &bindings);
        if let Err(error) = &linked {
            assert!(error.to_string().len() < 4096);
            continue;
        }
        for calls in [image.init(base, &memory), image.fini(base, &memory)].into_iter().flatten() {
            assert!(calls.iter().all(|call| (base..base + image.span()).contains(call)));
        }
    }
    let nothing = vec![None; image.imports().len()];
    let _ = (image.window(&nothing), image.link(image.align(), &mut memory, &HOST, &nothing));
}

/// Every answer is within the image, or within its thread-local block.
fn ask(image: &Image<'_>, page_size: u64) {
    let span = image.span();
    assert!(span > 0 && span <= MAX_SPAN && span.is_multiple_of(page_size));
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
            ExportKind::ThreadLocal => block.map_or(0, |block| block.size),
            _ => span,
        };
        assert!(export.offset + export.size <= of);
        if matches!(export.kind, ExportKind::Function | ExportKind::Indirect) {
            assert_eq!(protection(export.offset), Some(Protection::ReadExecute));
        }
        assert_eq!(image.export(export.name), Some(export));
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
