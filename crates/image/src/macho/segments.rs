//! Segments: where each part of the file goes in memory, and what each page may finally be used
//! for.
//!
//! Apple's <mach-o/loader.h>: `segment_command_64`. Segments are copied, not mapped from the file.
//! `__LINKEDIT` is not part of the image: it has tables for loaders, which no code reads.

use super::commands::Commands;
use super::sections::Sections;
use crate::macho::format::{LE, malformed};
use crate::pages::{Memory, Pages};
use crate::{Error, Protection, Verbatim};
use alloc::vec::Vec;
use object::macho;

const TABLE: &str = "table of segments";

/// Segments that are shorter are sooner copied than treated apart.
const VERBATIM: usize = 16 << 10;

/// What code may assume of a segment's address, whatever the page size: `adrp` counts in 4 KiB.
const SMALLEST_PAGE: u64 = 4096;

/// One segment, in the file's own numbering of addresses.
#[derive(Clone, Copy)]
pub(super) struct Segment<'data> {
    pub(super) address: u64,
    /// Bytes of memory, at least those of the file.
    pub(super) size: u64,
    pub(super) file: &'data [u8],
    /// Of the finished image; `None`: no access at all.
    pub(super) protection: Option<Protection>,
    /// Whether fix-ups may write to it.
    pub(super) fixable: bool,
    /// It is in memory.
    pub(super) loaded: bool,
}

impl Segment<'_> {
    pub(super) fn end(&self) -> u64 {
        self.address + self.size
    }
}

/// The memory of an image. All sums were checked when it was made: no segment's end overflows, nor
/// when rounded up to a page.
pub(super) struct Layout<'data> {
    /// In the order of the file, by which fix-ups number them.
    pub(super) segments: Vec<Segment<'data>>,
    /// Those that are loaded and not empty, ascending and not overlapping.
    ordered: Vec<Segment<'data>>,
    /// The address that offset 0 of the image has in the file's numbering.
    low: u64,
    /// The address of the file's header, from which exports and chained fix-ups are counted.
    pub(super) header: u64,
    pub(super) memory: Memory,
    pub(super) verbatim: Vec<Verbatim<'data>>,
    pub(super) sections: Sections,
}

impl<'data> Layout<'data> {
    pub(super) fn parse(
        bytes: &'data [u8],
        commands: &Commands<'data>,
        page_size: u64,
        max_span: u64,
    ) -> Result<Self, Error> {
        if page_size < SMALLEST_PAGE || !page_size.is_power_of_two() {
            return Err(Error::BadPageSize { page_size });
        }
        let mut layout = Layout {
            segments: Vec::with_capacity(commands.segments.len()),
            ordered: Vec::new(),
            low: 0,
            header: 0,
            memory: Memory::new(page_size),
            verbatim: Vec::new(),
            sections: Sections::default(),
        };
        let mut header = None;
        for (command, sections) in &commands.segments {
            let segment = segment(bytes, command, page_size)?;
            if command.fileoff.get(LE) == 0 && !segment.file.is_empty() && header.replace(segment).is_some() {
                return Err(malformed(TABLE, "two segments have the file's header", segment.address));
            }
            for section in *sections {
                layout.sections.add(&segment, section, max_span)?;
            }
            layout.segments.push(segment);
        }
        layout.sections.finish()?;
        layout.memory.align = layout.memory.align.max(layout.sections.align);
        let mut ordered: Vec<_> =
            layout.segments.iter().copied().filter(|segment| segment.loaded && segment.size != 0).collect();
        ordered.sort_unstable_by_key(|segment| segment.address);
        if let Some(pair) = ordered.windows(2).find(|pair| pair[0].end() > pair[1].address) {
            return Err(malformed(TABLE, "segments overlap", pair[1].address));
        }
        let (Some(first), Some(last)) = (ordered.first(), ordered.last()) else {
            return Err(malformed(TABLE, "no segment has anything to load", commands.segments.len() as u64));
        };
        // Exports and chained fix-ups are counted from there, upwards.
        let header = header.filter(|header| header.address == first.address);
        let header =
            header.ok_or(malformed(TABLE, "the first one has not the file's header", first.address))?;
        layout.header = header.address;
        layout.low = first.address & !(layout.memory.align - 1);
        layout.memory.span = last.end().next_multiple_of(page_size) - layout.low;
        // Places in the image are counted in 32 bits.
        let limit = max_span.min(u32::MAX.into());
        if layout.memory.span > limit {
            return Err(Error::TooLarge { needed: layout.memory.span, limit });
        }
        let mut pages = Pages::new(page_size, layout.low);
        for segment in &ordered {
            let of = pages.of_segment(segment.address, segment.end(), segment.protection)?;
            pages.add(of, segment.protection);
        }
        layout.memory.regions = pages.into_regions();
        let part =
            |segment: &Segment<'data>| Verbatim { offset: segment.address - layout.low, bytes: segment.file };
        layout.verbatim = ordered.iter().filter(|segment| is_verbatim(segment)).map(part).collect();
        layout.ordered = ordered;
        Ok(layout)
    }

    /// What must be added to an address of the file when the image is at `base`.
    pub(super) fn bias(&self, base: u64) -> u64 {
        base.wrapping_sub(self.low)
    }

    /// The offset in the image of an address of the file; also of the address just behind the
    /// image.
    pub(super) fn offset(&self, address: u64) -> Option<u64> {
        address.checked_sub(self.low).filter(|offset| *offset <= self.memory.span)
    }

    /// Where the section of instructions ends that an offset in the image is in; the offset itself
    /// if it is in none.
    pub(super) fn code_end(&self, offset: u64) -> u64 {
        self.sections.code_end(self.low + offset).map_or(offset, |end| end - self.low)
    }

    /// What the file has for these addresses, if all of it can be read in the finished image.
    pub(super) fn file(&self, address: u64, len: u64) -> Option<&'data [u8]> {
        let segment = self.segment(address, len).filter(|segment| segment.protection.is_some())?;
        let rest = segment.file.get(usize::try_from(address - segment.address).ok()?..)?;
        rest.get(..usize::try_from(len).ok()?)
    }

    fn segment(&self, address: u64, len: u64) -> Option<&Segment<'data>> {
        let end = address.checked_add(len)?;
        let after = self.ordered.partition_point(|segment| segment.address <= address);
        let segment = self.ordered.get(after.checked_sub(1)?)?;
        (address < segment.end() && end <= segment.end()).then_some(segment)
    }

    /// Whether all of it is in one segment that may be read.
    pub(super) fn readable(&self, address: u64, len: u64) -> bool {
        self.segment(address, len).is_some_and(|segment| segment.protection.is_some())
    }

    /// What the file has for these addresses, if it may be changed when the module is linked.
    pub(super) fn fixable(&self, address: u64, len: u64) -> Option<&'data [u8]> {
        self.segment(address, len).filter(|segment| segment.fixable)?;
        self.file(address, len)
    }

    /// Copies every segment that is not verbatim to its place.
    pub(super) fn fill(&self, memory: &mut [u8]) {
        for segment in self.segments.iter().filter(|segment| segment.loaded && !is_verbatim(segment)) {
            let place = usize::try_from(segment.address - self.low)
                .ok()
                .and_then(|start| memory.get_mut(start..)?.get_mut(..segment.file.len()));
            if let Some(place) = place {
                place.copy_from_slice(segment.file);
            }
        }
    }
}

/// Fix-ups change others only.
fn is_verbatim(segment: &Segment<'_>) -> bool {
    let fixed = matches!(segment.protection, Some(Protection::Read | Protection::ReadExecute));
    fixed && !segment.fixable && segment.loaded && segment.file.len() >= VERBATIM
}

/// Checks one segment by itself.
fn segment<'data>(
    bytes: &'data [u8],
    command: &macho::SegmentCommand64<LE>,
    page_size: u64,
) -> Result<Segment<'data>, Error> {
    let (address, size) = (command.vmaddr.get(LE), command.vmsize.get(LE));
    let (offset, file_size) = (command.fileoff.get(LE), command.filesize.get(LE));
    if file_size > size {
        return Err(malformed(TABLE, "a segment has more bytes in the file than in memory", address));
    }
    if !address.is_multiple_of(SMALLEST_PAGE) {
        return Err(malformed(TABLE, "a segment does not begin on a page", address));
    }
    if address.checked_add(size).and_then(|end| end.checked_next_multiple_of(page_size)).is_none() {
        return Err(malformed(TABLE, "a segment goes past the end of the address space", address));
    }
    let file = usize::try_from(offset)
        .ok()
        .and_then(|start| bytes.get(start..)?.get(..usize::try_from(file_size).ok()?))
        .ok_or(malformed(TABLE, "a segment goes past the end of the file", offset))?;
    let (initial, most) = (command.initprot.get(LE), command.maxprot.get(LE));
    if initial & !most != 0 {
        return Err(malformed(TABLE, "a segment's protection is more than its most (maxprot)", address));
    }
    let flags = command.flags.get(LE);
    if flags & macho::SG_PROTECTED_VERSION_1 != 0 {
        return Err(Error::UnsupportedDynamic {
            tag: "SG_PROTECTED_VERSION_1",
            advice: "the code is encrypted: build the module from its sources",
        });
    }
    let [readable, writable, executable] =
        [macho::VM_PROT_READ, macho::VM_PROT_WRITE, macho::VM_PROT_EXECUTE].map(|bit| initial & bit != 0);
    let protection = match (writable, executable) {
        (true, true) => return Err(Error::WritableExecutable { address }),
        // As dyld does when fix-ups are done: <mach-o/loader.h> on SG_READ_ONLY.
        (true, false) if flags & macho::SG_READ_ONLY != 0 => Some(Protection::Read),
        (true, false) => Some(Protection::ReadWrite),
        (false, true) => Some(Protection::ReadExecute),
        (false, false) => readable.then_some(Protection::Read),
    };
    let loaded = !command.segname.starts_with(b"__LINKEDIT\0");
    Ok(Segment { address, size, file, protection, fixable: writable && loaded, loaded })
}
