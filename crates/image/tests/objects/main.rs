//! Object files and archives from real compilers, for both machines: what becomes of them, without
//! running any of it.

#[path = "../common/mod.rs"]
mod common;

mod archives;
mod code;
mod debug;
mod hostile;
mod layout;
mod refusals;
mod symbols;
mod thread_locals;

use common::{HOST, MAX_SPAN, bindings, compile_as, u32_at, u64_at};
use midflight_image::{Error, Export, Image, Import, Input, Machine, Protection, Region};

const BASE: u64 = 0x7F12_3456_0000;

/// Compiles C as position-independent code.
fn object(machine: Machine, source: &str) -> Vec<u8> {
    compile_as(machine, source, &["-c", "-fPIC"])
}

fn assembly(machine: Machine, source: &str) -> Vec<u8> {
    compile_as(machine, source, &["-c", "-x", "assembler"])
}

/// The files get the names `0.o`, `1.o` and so on.
fn parse(machine: Machine, files: &[Vec<u8>]) -> Result<Image<'_>, Error> {
    const NAMES: [&str; 6] = ["0.o", "1.o", "2.o", "3.o", "4.o", "5.o"];
    let inputs: Vec<_> = NAMES.iter().zip(files).map(|(name, bytes)| Input { name, bytes }).collect();
    Image::parse_all(&inputs, machine, 4096, MAX_SPAN)
}

/// What the module's imports stand for: functions far away or near, by name.
fn host(import: &Import<'_>) -> Option<u64> {
    match import.name {
        "far" => Some(0x1234_5678_9ABC),
        "near" => Some(BASE + 0x10_0000),
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

fn link(machine: Machine, files: &[Vec<u8>]) -> Linked<'_> {
    link_at(parse(machine, files).unwrap(), BASE, host)
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

    fn protection(&self, address: u64) -> Option<Protection> {
        let offset = address.checked_sub(self.base)?;
        let of = |r: &&Region| (r.offset..r.offset + r.len).contains(&offset);
        self.image.regions().iter().find(of).map(|region| region.protection)
    }

    /// Where the `n`th direct call or jump of a function goes.
    fn callee(&self, machine: Machine, function: &str, n: usize) -> u64 {
        let export = self.export(function);
        let (start, code) =
            (export.offset as usize, &self.memory[export.offset as usize..][..export.size as usize]);
        let mut found = match machine {
            Machine::X86_64 => (0..code.len() - 4)
                .filter(|at| matches!(code[*at], 0xE8 | 0xE9))
                .map(|at| (at + 5, u32_at(code, at + 1) as i32 as i64))
                .collect::<Vec<_>>(),
            Machine::Aarch64 => (0..code.len())
                .step_by(4)
                .map(|at| (at, u32_at(code, at)))
                .filter(|(_, code)| code & 0x7C00_0000 == 0x1400_0000)
                .map(|(at, code)| (at, i64::from((code << 6) as i32 >> 4)))
                .collect(),
        };
        assert!(n < found.len(), "{machine} {function} {code:x?}");
        let (from, distance) = found.swap_remove(n);
        (self.base + (start + from) as u64).wrapping_add_signed(distance)
    }

    /// Where a stub at an address jumps to; `None` if there is none.
    fn through_stub(&self, machine: Machine, address: u64) -> Option<u64> {
        let at = usize::try_from(address.checked_sub(self.base)?).ok()?;
        let code = self.memory.get(at..at + 16)?;
        let entry = match machine {
            Machine::X86_64 => {
                let jump = code[..2] == [0xFF, 0x25];
                jump.then(|| (address + 6).wrapping_add_signed(u32_at(code, 2) as i32 as i64))?
            }
            Machine::Aarch64 => {
                let [bti, adrp, ldr, br] = [0, 4, 8, 12].map(|at| u32_at(code, at));
                let stub = bti == 0xD503_245F && adrp & 0x9F00_001F == 0x9000_0010 && br == 0xD61F_0200;
                let page = i64::from((adrp >> 5 & 0x7FFFF) << 2 | adrp >> 29 & 3) << 43 >> 31;
                let page = ((address + 4) & !0xFFF).wrapping_add_signed(page);
                (stub && ldr & 0xFFC0_03FF == 0xF940_0210).then(|| page + 8 * u64::from(ldr >> 10 & 0xFFF))?
            }
        };
        assert_eq!(self.protection(entry), Some(Protection::Read), "entries are read-only once linked");
        Some(self.word_at(entry))
    }
}
