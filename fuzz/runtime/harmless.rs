//! What a module would have the processor run, told from its bytes alone. Only code that is known
//! byte for byte is entered.

use midflight_image::{Binding, Host, Image, Import, ImportKind, Protection, ThreadLocal};

/// What a function does whose bytes are known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(target_arch = "aarch64", allow(dead_code, reason = "fewer are known there"))]
pub enum Does {
    /// Returns: what, is in a register that it leaves as it was.
    Returns,
    /// Returns a number.
    Number(u32),
    /// Returns an address, from the start of the image.
    Place(u64),
    /// Calls what stands at this place of the image, with the arguments that it was given, and
    /// returns what that has returned.
    Calls(u64),
    /// Returns how far a thread-local variable is from the thread pointer: its descriptor is at
    /// this place of the image.
    ThreadLocal(u64),
}

/// What the code at an offset of a linked image does, if it is known.
#[cfg(target_arch = "x86_64")]
pub fn at(image: &Image<'_>, memory: &[u8], at: u64) -> Option<Does> {
    let code = code(image, memory, at)?;
    let place = |end: u64, by: [u8; 4]| (at + end).wrapping_add_signed(i32::from_le_bytes(by).into());
    match *code {
        // ret
        [0xC3, ..] => Some(Does::Returns),
        // xor %eax, %eax; ret
        [0x31, 0xC0, 0xC3, ..] => Some(Does::Number(0)),
        // mov $number, %eax; ret
        [0xB8, a, b, c, d, 0xC3, ..] => Some(Does::Number(u32::from_le_bytes([a, b, c, d]))),
        // lea place(%rip), %rax; ret
        [0x48, 0x8D, 0x05, a, b, c, d, 0xC3, ..] => Some(Does::Place(place(7, [a, b, c, d]))),
        // push %rax; call *place(%rip); pop %rcx; ret
        [0x50, 0xFF, 0x15, a, b, c, d, 0x59, 0xC3, ..] => Some(Does::Calls(place(7, [a, b, c, d]))),
        // push %rax; lea place(%rip), %rax; call *(%rax); pop %rcx; ret
        [0x50, 0x48, 0x8D, 0x05, a, b, c, d, 0xFF, 0x10, 0x59, 0xC3, ..] => {
            Some(Does::ThreadLocal(place(8, [a, b, c, d])))
        }
        _ => None,
    }
}

/// What the code at an offset of a linked image does, if it is known.
#[cfg(target_arch = "aarch64")]
pub fn at(image: &Image<'_>, memory: &[u8], at: u64) -> Option<Does> {
    const RET: u32 = 0xD65F_03C0;
    let code = code(image, memory, at)?;
    let word = |index: usize| Some(u32::from_le_bytes(*code.get(4 * index..)?.first_chunk()?));
    let (first, second) = (word(0)?, word(1));
    if !at.is_multiple_of(4) || (first != RET && second != Some(RET)) {
        return None;
    }
    match first {
        RET => Some(Does::Returns),
        // mov w0, #number
        _ if first & 0xFFE0_001F == 0x5280_0000 => Some(Does::Number(first >> 5 & 0xFFFF)),
        // adr x0, place
        _ if first & 0x9F00_001F == 0x1000_0000 => {
            let by = ((first as i32) << 8 >> 11) & !3 | (first >> 29 & 3) as i32;
            Some(Does::Place(at.wrapping_add_signed(by.into())))
        }
        _ => None,
    }
}

/// From an offset to the end of the code that it is in.
fn code<'m>(image: &Image<'_>, memory: &'m [u8], at: u64) -> Option<&'m [u8]> {
    let of = image.regions().iter().find(|region| at.wrapping_sub(region.offset) < region.len)?;
    let is_code = of.protection == Protection::ReadExecute;
    memory.get(at as usize..(of.offset + of.len) as usize).filter(|_| is_code)
}

/// An image linked in memory that nobody runs.
pub struct Trial {
    pub base: u64,
    pub memory: Vec<u8>,
    /// What a load calls, and what an unload calls, from the start of the image.
    pub init: Vec<u64>,
    pub fini: Vec<u64>,
    host: Host,
    first: u64,
}

impl Trial {
    /// Each import has another address: `first`, and so on. None: it cannot be linked so.
    pub fn new(image: &Image<'_>, first: u64, plausible: u64, host: Host) -> Option<Self> {
        let binding = |(index, import): (usize, &Import<'_>)| match import.kind {
            // What a process has once is the module's own here.
            _ if import.own.is_some() => None,
            ImportKind::ThreadLocal => Some(Binding::ThreadLocal(ThreadLocal {
                module: 9,
                offset: 0x40,
                from_thread_pointer: Some(-0x40),
            })),
            _ => Some(Binding::Address(first + STEP * index as u64)),
        };
        let bindings: Vec<_> = image.imports().iter().enumerate().map(binding).collect();
        let window = image.window(&bindings).ok()?;
        let base = plausible.clamp(window.low, window.high) / image.align() * image.align();
        let mut memory = vec![0; image.span() as usize];
        image.link(base, &mut memory, &host, &bindings).ok()?;
        let offsets = |addresses: Vec<u64>| addresses.iter().map(|address| address - base).collect();
        let (init, fini) = (image.init(base, &memory).ok()?, image.fini(base, &memory).ok()?);
        Some(Self { base, memory, init: offsets(init), fini: offsets(fini), host, first })
    }

    pub fn word(&self, at: u64) -> Option<u64> {
        Some(u64::from_le_bytes(*self.memory.get(usize::try_from(at).ok()?..)?.first_chunk()?))
    }

    /// The import whose address is at this place.
    pub fn import(&self, at: u64) -> Option<usize> {
        let distance = self.word(at)?.checked_sub(self.first)?;
        distance.is_multiple_of(STEP).then_some((distance / STEP) as usize)
    }

    /// The thread-local variable whose descriptor is at this place: its offset in the image's
    /// block.
    pub fn descriptor(&self, at: u64) -> Option<u64> {
        let (resolver, argument) = (self.word(at)?, self.word(at.checked_add(8)?)?);
        let is_own = resolver == self.host.tls_dynamic && argument >> 32 == self.host.tls_module;
        is_own.then_some(argument & u64::from(u32::MAX))
    }
}

const STEP: u64 = 16;
