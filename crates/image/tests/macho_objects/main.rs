//! Mach-O object files and archives for arm64, from clang: what becomes of them, without running
//! any of it. On every host.

#[path = "../common/mod.rs"]
mod common;

mod archives;
mod code;
mod generate;
mod hostile;
mod oracle;
mod refusals;
mod symbols;
mod thread_locals;
mod tools;
mod unwind;

use common::{HOST, MAX_SPAN, bindings, u64_at};
use midflight_image::{Error, Export, Image, Import, Input, Machine, Protection, Region};
use tools::{assemble, compile};

const BASE: u64 = 0x7F12_3456_0000;
const FAR: u64 = 0x1234_5678_9ABC;
const NEAR: u64 = BASE + 0x10_0000;

/// The files get the names `0.o`, `1.o` and so on.
fn parse(files: &[Vec<u8>]) -> Result<Image<'_>, Error> {
    const NAMES: [&str; 6] = ["0.o", "1.o", "2.o", "3.o", "4.o", "5.o"];
    let inputs: Vec<_> = NAMES.iter().zip(files).map(|(name, bytes)| Input { name, bytes }).collect();
    Image::parse_all(&inputs, Machine::Aarch64, 16384, MAX_SPAN)
}

fn refused(files: &[Vec<u8>]) -> String {
    let error = parse(files).expect_err("this is to be refused");
    let text = error.to_string();
    assert!(
        text.len() < 600 && text.contains(": ") && !text.contains("  ") && !text.ends_with('.'),
        "{text}"
    );
    text
}

/// What the module's imports stand for: functions far away or near, by name.
fn host(import: &Import<'_>) -> Option<u64> {
    match import.name {
        "far" => Some(FAR),
        "near" => Some(NEAR),
        name if name.starts_with("host_") => Some(0x5555_0000_1000),
        _ => None,
    }
}

/// An image and the memory it was linked into.
struct Linked<'data> {
    image: Image<'data>,
    memory: Vec<u8>,
    base: u64,
}

fn link_at(image: Image<'_>, base: u64, resolve: impl Fn(&Import<'_>) -> Option<u64>) -> Linked<'_> {
    let mut memory = vec![0; image.span() as usize];
    let bindings = bindings(&image, resolve);
    let window = image.window(&bindings).unwrap();
    assert!((window.low..=window.high).contains(&base), "{window:x?}");
    image.link(base, &mut memory, &HOST, &bindings).unwrap();
    Linked { image, memory, base }
}

fn link(files: &[Vec<u8>]) -> Linked<'_> {
    link_at(parse(files).unwrap(), BASE, host)
}

impl Linked<'_> {
    fn export(&self, name: &str) -> Export<'_> {
        self.image.export(name).unwrap_or_else(|| panic!("no export {name}: {:?}", self.image.exports()))
    }

    fn address(&self, name: &str) -> u64 {
        self.base + self.export(name).offset
    }

    /// The word at an exported symbol.
    fn word(&self, name: &str) -> u64 {
        u64_at(&self.memory, self.export(name).offset as usize)
    }

    fn word_at(&self, address: u64) -> u64 {
        u64_at(&self.memory, (address - self.base) as usize)
    }

    fn code_at(&self, address: u64) -> u32 {
        common::u32_at(&self.memory, (address - self.base) as usize)
    }

    fn protection(&self, address: u64) -> Option<Protection> {
        let offset = address.checked_sub(self.base)?;
        let of = |r: &&Region| (r.offset..r.offset + r.len).contains(&offset);
        self.image.regions().iter().find(of).map(|region| region.protection)
    }

    /// Where the branch at an address goes.
    fn branch(&self, at: u64) -> u64 {
        let code = self.code_at(at);
        assert_eq!(code & 0x7C00_0000, 0x1400_0000, "{code:#x} at {at:#x}");
        at.wrapping_add_signed(i64::from((code << 6) as i32 >> 4))
    }

    /// The page that the ADRP at an address names.
    fn page(&self, at: u64) -> u64 {
        let code = self.code_at(at);
        assert_eq!(code & 0x9F00_0000, 0x9000_0000, "{code:#x} at {at:#x}");
        let page = i64::from((code >> 5 & 0x7FFFF) << 2 | code >> 29 & 3) << 43 >> 31;
        (at & !0xFFF).wrapping_add_signed(page)
    }

    /// What the instruction at an address adds to a page: an addition, or a load or store of any
    /// size.
    fn low(&self, at: u64) -> u64 {
        let code = self.code_at(at);
        let field = u64::from(code >> 10 & 0xFFF);
        if code & 0x7FC0_0000 == 0x1100_0000 {
            return field;
        }
        assert_eq!(code & 0x3B00_0000, 0x3900_0000, "{code:#x} at {at:#x}");
        let wide = code & 0x0480_0000 == 0x0480_0000 && code >> 30 == 0;
        field << if wide { 4 } else { code >> 30 }
    }

    /// Where a stub at an address jumps to; `None` if there is none.
    fn through_stub(&self, address: u64) -> Option<u64> {
        let at = usize::try_from(address.checked_sub(self.base)?).ok()?;
        self.memory.get(at..at + 16)?;
        let [bti, br] = [0, 12].map(|at| self.code_at(address + at));
        if bti != 0xD503_245F || br != 0xD61F_0200 || self.code_at(address + 4) & 0x1F != 16 {
            return None;
        }
        let entry = self.page(address + 4) + self.low(address + 8);
        assert_eq!(self.protection(entry), Some(Protection::Read), "entries are read-only once linked");
        Some(self.word_at(entry))
    }
}
