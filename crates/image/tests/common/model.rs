//! What linking is to leave in memory, worked out from `readelf`'s reading of the same file.

use super::*;
use midflight_image::Indirect;

/// Links the image with [`link`], and checks every byte of the memory and every indirect place.
pub fn linked<'data>(
    module: &[u8],
    image: &Image<'data>,
    base: u64,
    resolve: impl Fn(&Import<'data>) -> Option<u64>,
) -> Vec<u8> {
    let mut memory = vec![0; image.span() as usize];
    link(image, base, &mut memory, &resolve).unwrap();
    let (expected, indirect) = expected(module, image, base, resolve);
    let first = expected.iter().zip(&memory).position(|(expected, found)| expected != found);
    assert_eq!(first.map(|at| (at, u64_at(&memory, at & !7))), None, "the first byte that differs");
    assert_eq!(image.indirect(), indirect);
    memory
}

/// Memory, and the indirect places in the order of their relocations.
fn expected<'data>(
    module: &[u8],
    image: &Image<'data>,
    base: u64,
    resolve: impl Fn(&Import<'data>) -> Option<u64>,
) -> (Vec<u8>, Vec<Indirect>) {
    let low = u64_at(module, program_headers(module, 1)[0] + 16) & !(image.align() - 1);
    let bias = base.wrapping_sub(low);
    let mut memory = vec![0; image.span() as usize];
    for at in program_headers(module, 1) {
        let [offset, address, size] = [8, 16, 32].map(|field| u64_at(module, at + field) as usize);
        let address = address - low as usize;
        memory[address..address + size].copy_from_slice(&module[offset..offset + size]);
    }
    let mut indirect = Vec::new();
    let relocations = readelf(module);
    assert!(!relocations.is_empty());
    for Relocation { offset, kind, symbol, addend } in relocations {
        let import = |name: &str| image.imports().iter().find(|import| import.name == name).unwrap();
        // Nothing: undefined, and not resolved either.
        let outside = |name: &str| resolve(import(name));
        let sum = |value: u64| value.wrapping_add_signed(addend);
        let place = (offset - low) as usize;
        let mut put = |place: usize, word: u64| put64(&mut memory, place, word);
        // Linkers leave offsets in the addend of an x86-64 JUMP_SLOT.
        let whole = |value: u64| if kind == "R_X86_64_JUMP_SLOT" { value } else { sum(value) };
        match (kind.trim_start_matches("R_X86_64_").trim_start_matches("R_AARCH64_"), symbol) {
            ("NONE", _) => {}
            ("RELATIVE", None) => put(place, sum(bias)),
            ("IRELATIVE", None) => {
                put(place, 0);
                indirect.push(Indirect { place: place as u64, resolver: sum(0) - low, addend: 0 });
            }
            ("64" | "ABS64" | "GLOB_DAT" | "JUMP_SLOT", Some(symbol)) => match symbol.defined {
                Some(value) if symbol.kind == 10 => {
                    put(place, 0);
                    indirect.push(Indirect {
                        place: place as u64,
                        resolver: value - low,
                        addend: whole(0) as i64,
                    });
                }
                Some(value) => put(place, whole(bias.wrapping_add(value))),
                None => put(place, whole(outside(&symbol.name).unwrap_or(0))),
            },
            ("DTPMOD64" | "TLS_DTPMOD64", symbol) => match symbol {
                None | Some(Symbol { defined: Some(_), .. }) => put(place, HOST.tls_module),
                Some(symbol) => put(place, outside(&symbol.name).map_or(0, |_| 9)),
            },
            ("DTPOFF64" | "TLS_DTPREL64", Some(symbol)) => {
                put(place, sum(symbol.defined.unwrap_or_else(|| outside(&symbol.name).unwrap_or(0))));
            }
            ("TPOFF64" | "TLS_TPREL64", Some(symbol)) => {
                put(place, outside(&symbol.name).map_or(0, sum));
            }
            ("TLSDESC", symbol) => {
                let [function, argument] = match symbol.map(|symbol| (symbol.defined, symbol.name)) {
                    None => [HOST.tls_dynamic, HOST.tls_module << 32 | sum(0)],
                    Some((Some(offset), _)) => [HOST.tls_dynamic, HOST.tls_module << 32 | sum(offset)],
                    Some((None, name)) => match outside(&name) {
                        Some(number) => [HOST.tls_static, sum(number)],
                        None => [HOST.tls_undefined, sum(0)],
                    },
                };
                put(place, function);
                put(place + 8, argument);
            }
            other => panic!("{other:?}"),
        }
    }
    (memory, indirect)
}
