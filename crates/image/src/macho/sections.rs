//! What each section is for, and what is not supported by its name or type. Apple's
//! <mach-o/loader.h>, at `section_64`.

use super::commands::Section;
use super::segments::Segment;
use crate::error::label;
use crate::macho::format::{LE, malformed};
use crate::{Error, Protection};
use alloc::string::String;
use alloc::vec::Vec;
use object::macho;

const TABLE: &str = "table of sections";

/// Addresses of the file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Extent {
    pub(super) address: u64,
    pub(super) size: u64,
}

impl Extent {
    pub(super) fn end(&self) -> u64 {
        self.address + self.size
    }

    pub(super) fn holds(&self, address: u64) -> bool {
        (self.address..self.end()).contains(&address)
    }
}

/// A section that functions are called from when the module is loaded or unloaded.
#[derive(Clone, Copy)]
pub(super) struct Calls {
    pub(super) kind: CallKind,
    pub(super) place: Extent,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum CallKind {
    /// `S_MOD_INIT_FUNC_POINTERS`: addresses.
    Init,
    /// `S_INIT_FUNC_OFFSETS`: 32-bit distances from the header.
    InitOffsets,
    /// `S_MOD_TERM_FUNC_POINTERS`: addresses.
    Term,
}

/// What thread-local variables begin with.
#[derive(Clone, Copy)]
pub(super) struct Template {
    pub(super) place: Extent,
    /// A power of two.
    pub(super) align: u64,
    /// It has no bytes in the file.
    pub(super) zero: bool,
}

/// `S_SYMBOL_STUBS`: code that jumps to imports.
#[derive(Clone, Copy)]
pub(super) struct Stubs {
    /// How many.
    pub(super) count: u64,
    /// The first one's place in the table of indirect symbols.
    pub(super) first: u32,
}

/// The sections that matter to a loader. None of them overlap, so together they are no larger than
/// the image.
#[derive(Default)]
pub(super) struct Sections {
    all: Vec<Extent>,
    /// With instructions, ascending.
    code: Vec<Extent>,
    /// In the order of the file.
    pub(super) calls: Vec<Calls>,
    pub(super) eh_frame: Option<Extent>,
    pub(super) unwind_info: Option<Extent>,
    /// What the module says of itself (`include/runtime_module.h`).
    pub(super) notes: Vec<Extent>,
    /// `S_THREAD_LOCAL_VARIABLES`: descriptors.
    pub(super) descriptors: Vec<Extent>,
    /// `S_THREAD_LOCAL_VARIABLE_POINTERS`: addresses of descriptors.
    pub(super) variable_pointers: Vec<Extent>,
    pub(super) template: Vec<Template>,
    /// `S_LAZY_SYMBOL_POINTERS`: addresses of functions.
    pub(super) lazy_pointers: Vec<Extent>,
    pub(super) stubs: Vec<Stubs>,
    /// Of the one that is aligned to most; 0 if there is none.
    pub(super) align: u64,
}

impl Sections {
    /// Notes what a section is for, or refuses it.
    pub(super) fn add(
        &mut self,
        segment: &Segment<'_>,
        section: &Section,
        max_span: u64,
    ) -> Result<(), Error> {
        let place = Extent { address: section.addr.get(LE), size: section.size.get(LE) };
        if place.size == 0 || !segment.loaded {
            return Ok(());
        }
        let end = place.address.checked_add(place.size);
        if place.address < segment.address || end.is_none_or(|end| end > segment.end()) {
            return Err(malformed(TABLE, "a section is not inside its segment", place.address));
        }
        let align = 1u64.checked_shl(section.align.get(LE)).unwrap_or(u64::MAX);
        if align > max_span {
            return Err(Error::TooLarge { needed: align, limit: max_span });
        }
        if !place.address.is_multiple_of(align) {
            return Err(malformed(TABLE, "a section is not at a multiple of its alignment", place.address));
        }
        self.align = self.align.max(align);
        self.all.push(place);
        let name = name(&section.sectname);
        let flags = section.flags.get(LE);
        let kind = flags & macho::SECTION_TYPE;
        if let Some(problem) = refusal(&name, &section.segname, kind) {
            return Err(Error::UnsupportedSection { section: label(&name), problem });
        }
        match kind {
            macho::S_THREAD_LOCAL_REGULAR => self.template.push(Template { place, align, zero: false }),
            macho::S_THREAD_LOCAL_ZEROFILL => self.template.push(Template { place, align, zero: true }),
            macho::S_THREAD_LOCAL_VARIABLES => self.descriptors.push(place),
            macho::S_THREAD_LOCAL_VARIABLE_POINTERS => self.variable_pointers.push(place),
            macho::S_MOD_INIT_FUNC_POINTERS => self.calls.push(Calls { kind: CallKind::Init, place }),
            macho::S_INIT_FUNC_OFFSETS => self.calls.push(Calls { kind: CallKind::InitOffsets, place }),
            macho::S_MOD_TERM_FUNC_POINTERS => self.calls.push(Calls { kind: CallKind::Term, place }),
            macho::S_LAZY_SYMBOL_POINTERS => self.lazy_pointers.push(place),
            macho::S_SYMBOL_STUBS => {
                let (each, first) = (section.reserved2.get(LE).max(4), section.reserved1.get(LE));
                self.stubs.push(Stubs { count: place.size / u64::from(each), first });
            }
            _ => {}
        }
        let has_code = flags & (macho::S_ATTR_PURE_INSTRUCTIONS | macho::S_ATTR_SOME_INSTRUCTIONS) != 0;
        if has_code && segment.protection == Some(Protection::ReadExecute) {
            self.code.push(place);
        }
        match &*name {
            "__eh_frame" => self.eh_frame = Some(place),
            "__unwind_info" => self.unwind_info = Some(place),
            "__midflight" => self.notes.push(place),
            _ => {}
        }
        Ok(())
    }

    /// When all have been added.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        for places in [
            &mut self.all,
            &mut self.code,
            &mut self.descriptors,
            &mut self.variable_pointers,
            &mut self.lazy_pointers,
        ] {
            places.sort_unstable();
        }
        match self.all.windows(2).find(|pair| pair[0].end() > pair[1].address) {
            Some(pair) => Err(malformed(TABLE, "sections overlap", pair[1].address)),
            None => Ok(()),
        }
    }

    /// Whether an instruction is there.
    pub(super) fn is_code(&self, address: u64) -> bool {
        address.is_multiple_of(4) && holds(&self.code, address)
    }

    /// Where the section ends that an instruction is in.
    pub(super) fn code_end(&self, address: u64) -> Option<u64> {
        section_of(&self.code, address).map(Extent::end)
    }
}

/// Whether one of them holds an address. They are ascending, and do not overlap.
pub(super) fn holds(places: &[Extent], address: u64) -> bool {
    section_of(places, address).is_some()
}

fn section_of(places: &[Extent], address: u64) -> Option<&Extent> {
    let after = places.partition_point(|place| place.address <= address);
    places.get(after.checked_sub(1)?).filter(|place| place.holds(address))
}

/// Why a section cannot be part of a module.
pub(super) fn refusal(name: &str, segment: &[u8; 16], kind: u32) -> Option<&'static str> {
    Some(match kind {
        _ if name.starts_with("__objc_") || segment.starts_with(b"__OBJC\0") => {
            "is Objective-C's, whose runtime cannot forget a class: keep it out of modules"
        }
        _ if name.starts_with("__swift5_") => {
            "is Swift's, whose runtime cannot forget a type: keep it out of modules"
        }
        macho::S_THREAD_LOCAL_INIT_FUNCTION_POINTERS => {
            "has functions that make thread-local variables, which no compiler writes any more: compile for macOS 11"
        }
        macho::S_INTERPOSING => {
            "puts functions in the place of the process's own, which could not be taken back: keep it in the program"
        }
        _ => return None,
    })
}

/// A name of at most 16 bytes.
pub(super) fn name(bytes: &[u8; 16]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
