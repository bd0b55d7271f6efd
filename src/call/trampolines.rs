//! The code of the slots: one trampoline and one unbound stub each, a page of slots at a time.
//!
//! A slot's code depends on nothing but its index, so whole pages are written once, before any of
//! their slots is in use.

use std::ops::Range;

use midflight_image::{Protection, Region, Window};

use crate::Error;
use crate::call::checks;
use crate::call::live::LIVE;
#[cfg(target_os = "linux")]
use crate::call::pause;
use crate::call::slots;
use crate::code::{Block, CodeMemory, Shape};
use crate::platform::arch::{self, CHECKED_CODE, OUTSIDE, SLOT_CODE, Stub};
use crate::platform::assemble::assemble;
use crate::platform::lockless::Lockless;
use crate::platform::os::{barrier, thread};

/// Pages of slot code. They stay for the life of the process, as the addresses they give out do.
pub(crate) struct Trampolines {
    pages: Vec<Block>,
    slots_per_page: u32,
    /// Of trampolines that are checked, if any was asked for.
    checked: Vec<Block>,
}

/// A page of slot code, and whose it is.
#[derive(Clone)]
struct Page {
    code: Range<usize>,
    /// The first of its slots.
    first: u32,
    /// Bytes of each.
    each: usize,
}

/// All pages, for who has an address.
static PAGES: Lockless<Vec<Page>> = Lockless::new();

fn note(page: &Block, first: u32, each: usize) {
    let code = page.base()..page.base() + page.len();
    PAGES.change(|pages| pages.push(Page { code, first, each }));
}

/// Whose code there is at an address, and how far from its start. Async-signal-safe.
pub(crate) fn find(address: usize) -> Option<(u32, usize)> {
    PAGES.with(|pages| {
        let page = pages?.iter().find(|page| page.code.contains(&address))?;
        let offset = address - page.code.start;
        Some((page.first + (offset / page.each) as u32, offset % page.each))
    })
}

impl Trampolines {
    /// # Errors
    ///
    /// If no trampoline could reach the threads' table words.
    pub(crate) fn new(memory: &CodeMemory) -> Result<Self, Error> {
        encode(0)?;
        let slots_per_page = (memory.page_size() / SLOT_CODE) as u32;
        Ok(Self { pages: Vec::new(), slots_per_page, checked: Vec::new() })
    }

    /// How many slots have code.
    pub(crate) fn len(&self) -> u32 {
        self.pages.len() as u32 * self.slots_per_page
    }

    /// Writes code for at least `slots` slots. Cores must be synchronised before any of it runs.
    pub(crate) fn grow(&mut self, memory: &mut CodeMemory, slots: u32) -> Result<(), Error> {
        while self.len() < slots {
            let page = self.write_page(memory, self.len())?;
            note(&page, self.len(), SLOT_CODE);
            self.pages.push(page);
        }
        Ok(())
    }

    fn write_page(&self, memory: &mut CodeMemory, first: u32) -> Result<Block, Error> {
        let handler = unbound_handler();
        page(memory, |code| {
            for (slot, code) in (first..).zip(code.chunks_exact_mut(SLOT_CODE)) {
                let (trampoline, unbound) = code.split_at_mut(size_of::<Stub>());
                trampoline.copy_from_slice(&encode(slot)?);
                unbound.copy_from_slice(&arch::trampoline::encode_unbound(slot, handler));
            }
            Ok(())
        })
    }

    /// The slot's stable address for calls inside frames, which reports others
    /// ([`crate::call::checks`]). Cores must be synchronised before it runs.
    pub(crate) fn checked(&mut self, memory: &mut CodeMemory, slot: u32) -> Result<usize, Error> {
        let per_page = (memory.page_size() / CHECKED_CODE) as u32;
        while self.checked.len() as u32 * per_page <= slot {
            let first = self.checked.len() as u32 * per_page;
            let page = page(memory, |code| {
                for (slot, code) in (first..).zip(code.chunks_exact_mut(CHECKED_CODE)) {
                    code.copy_from_slice(&encode_checked(slot)?);
                }
                Ok(())
            })?;
            note(&page, first, CHECKED_CODE);
            self.checked.push(page);
        }
        let page = &self.checked[(slot / per_page) as usize];
        Ok(page.base() + (slot % per_page) as usize * CHECKED_CODE)
    }

    /// The slot's stable address: a function of the type of whatever the slot is bound to.
    pub(crate) fn trampoline(&self, slot: u32) -> usize {
        let page = &self.pages[(slot / self.slots_per_page) as usize];
        page.base() + (slot % self.slots_per_page) as usize * SLOT_CODE
    }

    /// What the slot's entries hold while no version is behind it: reports the call and aborts.
    pub(crate) fn unbound(&self, slot: u32) -> usize {
        self.trampoline(slot) + size_of::<Stub>()
    }
}

/// A page of code.
fn page(memory: &mut CodeMemory, write: impl FnOnce(&mut [u8]) -> Result<(), Error>) -> Result<Block, Error> {
    let failed = |source| Error::CodeMemory { of: "the trampolines".into(), source };
    let page_size = memory.page_size();
    let whole = [Region { offset: 0, len: page_size as u64, protection: Protection::ReadExecute }];
    let shape = Shape {
        len: page_size,
        align: page_size,
        regions: &whole,
        verbatim: &[],
        window: Window::ANYWHERE,
        guarded: false,
    };
    let mut draft = memory.draft(&shape).map_err(failed)?;
    write(draft.bytes())?;
    Ok(draft.seal().map_err(failed)?.into_block())
}

/// The trampoline of a slot in this process.
fn encode(slot: u32) -> Result<Stub, Error> {
    let (offset, live) = (thread::table_offset(), LIVE.as_ptr().addr() as u64);
    arch::trampoline::encode(slot, offset, live, !barrier::is_asymmetric())
        .ok_or(Error::ThreadLocalOutOfReach { offset })
}

/// As above, checked.
fn encode_checked(slot: u32) -> Result<[u8; CHECKED_CODE], Error> {
    let (offset, live) = (thread::table_offset(), LIVE.as_ptr().addr() as u64);
    arch::trampoline::encode_checked(slot, offset, live, unbound_handler(), !barrier::is_asymmetric())
        .ok_or(Error::ThreadLocalOutOfReach { offset })
}

fn unbound_handler() -> u64 {
    unsafe extern "C" {
        // asm/*/unbound.s
        fn midflight_unbound();
    }
    midflight_unbound as *const () as u64
}

assemble!(
    "unbound", report = report_unbound; linux, pause = pause::PAUSE
);

/// Where a call to an unbound slot ends. There is no value to return to the caller and no code to
/// run, so the process stops with the function's name.
///
/// A call outside every frame of what is only called inside ends here, too.
pub(crate) extern "C" fn report_unbound(slot: u32) -> ! {
    if slot & OUTSIDE != 0 {
        checks::outside_frame(slot & !OUTSIDE);
    }
    let name = slots::name(slot).unwrap_or("a function without a name");
    eprintln!(
        "midflight: {name} was called, but no version of its module is loaded: load it before the frame that calls it"
    );
    std::process::abort()
}
