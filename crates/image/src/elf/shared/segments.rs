//! Segments: where each part of the file goes in memory, and what each page may finally be used
//! for.
//!
//! ELF gABI, chapter 5, "Program Header" and "Program Loading". Segments are copied, not mapped
//! from the file, so nothing of the file that is not in a segment ever reaches memory (a mapping
//! would drag in the rest of its first and last page).

use crate::elf::format::{Header, malformed};
use crate::elf::note::Declared;
use crate::pages::{Memory, Pages};
use crate::{Error, Protection, Region, Verbatim};
use alloc::vec::Vec;
use core::ops::Range;
use object::LittleEndian as LE;
use object::elf;
use object::read::elf::{FileHeader, ProgramHeader};

const TABLE: &str = "program header table";

/// Segments that are shorter are sooner copied than treated apart.
const VERBATIM: usize = 16 << 10;

/// One loadable segment, in the file's own numbering of addresses.
pub(super) struct Segment<'data> {
    address: u64,
    /// Bytes of memory, at least those of the file.
    size: u64,
    file: &'data [u8],
    /// `None`: no access at all.
    protection: Option<Protection>,
}

impl Segment<'_> {
    fn end(&self) -> u64 {
        self.address + self.size
    }

    fn holds(&self, address: u64, len: u64) -> bool {
        let end = address.checked_add(len);
        self.address <= address && end.is_some_and(|end| end <= self.end())
    }
}

/// The memory of an image. All sums below were checked when it was made: no segment's end
/// overflows, nor does it when rounded up to a page.
pub(super) struct Layout<'data> {
    /// The address that offset 0 of the image has in the file's numbering.
    low: u64,
    pub(super) memory: Memory,
    /// Ascending, not overlapping, none empty.
    segments: Vec<Segment<'data>>,
    verbatim: Vec<Verbatim<'data>>,
    page_size: u64,
    pub(super) headers: &'data [elf::ProgramHeader64<LE>],
    /// PT_DYNAMIC: address and size.
    pub(super) dynamic: (u64, u64),
    /// PT_GNU_EH_FRAME: address and size.
    pub(super) eh_frame_header: Option<(u64, u64)>,
    /// PT_TLS.
    pub(super) thread_locals: Option<elf::ProgramHeader64<LE>>,
    /// PT_GNU_RELRO: addresses, as they are in the file.
    relro: Range<u64>,
}

impl<'data> Layout<'data> {
    pub(super) fn parse(
        bytes: &'data [u8],
        header: &Header,
        page_size: u64,
        max_span: u64,
    ) -> Result<Self, Error> {
        if page_size < 4096 || !page_size.is_power_of_two() {
            return Err(Error::BadPageSize { page_size });
        }
        let headers = header
            .program_headers(LE, bytes)
            .map_err(|_| malformed(TABLE, "it does not fit in the file", header.e_phoff(LE)))?;
        let mut align = page_size;
        let mut segments: Vec<Segment<'data>> = Vec::new();
        let mut dynamic = None;
        let mut relro = None;
        let mut eh_frame_header = None;
        let mut thread_locals = None;
        for (index, header) in headers.iter().enumerate() {
            match header.p_type(LE) {
                elf::PT_LOAD => {
                    let Some(segment) = load(bytes, header, page_size, max_span)? else { continue };
                    if segments.last().is_some_and(|last| last.end() > segment.address) {
                        return Err(malformed(
                            TABLE,
                            "segments overlap or are not in order",
                            segment.address,
                        ));
                    }
                    align = align.max(header.p_align(LE));
                    segments.push(segment);
                }
                elf::PT_DYNAMIC => once(&mut dynamic, (header.p_vaddr(LE), header.p_filesz(LE)), index)?,
                elf::PT_GNU_RELRO => once(&mut relro, (header.p_vaddr(LE), header.p_memsz(LE)), index)?,
                elf::PT_GNU_EH_FRAME => {
                    once(&mut eh_frame_header, (header.p_vaddr(LE), header.p_filesz(LE)), index)?;
                }
                elf::PT_TLS => once(&mut thread_locals, *header, index)?,
                // A file without this header has never been asked; no stack is made executable
                // either way.
                elf::PT_GNU_STACK if header.p_flags(LE) & elf::PF_X != 0 => {
                    return Err(Error::ExecutableStack);
                }
                _ => {}
            }
        }
        let dynamic = dynamic.ok_or(Error::NoDynamicTable)?;
        let (Some(first), Some(last)) = (segments.first(), segments.last()) else {
            return Err(malformed(TABLE, "no loadable segment", headers.len() as u64));
        };
        // Down to a multiple of the alignment, not only of the page: `base` is one too, and then
        // every segment is at its p_vaddr modulo its p_align, which is what p_align promises to the
        // code.
        let low = first.address & !(align - 1);
        let span = round_up(last.end(), page_size) - low;
        if span > max_span {
            return Err(Error::TooLarge { needed: span, limit: max_span });
        }
        let regions = regions(&segments, low, page_size, relro)?;
        // Relocations change writable segments only (`uses.rs` sees to that).
        let fixed = |segment: &&Segment<'_>| {
            matches!(segment.protection, Some(Protection::Read | Protection::ReadExecute))
                && segment.file.len() >= VERBATIM
        };
        let part = |segment: &Segment<'data>| Verbatim { offset: segment.address - low, bytes: segment.file };
        let verbatim = segments.iter().filter(fixed).map(part).collect();
        Ok(Layout {
            low,
            memory: Memory { span, align, regions },
            segments,
            verbatim,
            page_size,
            headers,
            dynamic,
            eh_frame_header,
            thread_locals,
            relro: relro.map_or(0..0, |(start, size)| start..start.saturating_add(size)),
        })
    }

    /// The address that offset 0 of the image has in the file's numbering.
    pub(super) fn low(&self) -> u64 {
        self.low
    }

    pub(super) fn verbatim(&self) -> &[Verbatim<'data>] {
        &self.verbatim
    }

    /// The offset in the image of an address of the file; also of the address just behind the
    /// image, which is where linkers put `_end`.
    pub(super) fn offset(&self, address: u64) -> Option<u64> {
        address.checked_sub(self.low).filter(|offset| *offset <= self.memory.span)
    }

    /// What must be added to an address of the file when the image is at `base`.
    pub(super) fn bias(&self, base: u64) -> u64 {
        base.wrapping_sub(self.low)
    }

    fn segment(&self, address: u64, len: u64) -> Option<&Segment<'data>> {
        let after = self.segments.partition_point(|segment| segment.address <= address);
        self.segments.get(after.checked_sub(1)?).filter(|segment| segment.holds(address, len))
    }

    /// For questions about many addresses.
    pub(super) fn nearby(&self) -> Nearby<'_, 'data> {
        Nearby { layout: self, start: 0, size: 0, protection: None }
    }

    /// Whether all of it lies in one segment with this protection.
    pub(super) fn is(&self, protection: Protection, address: u64, len: u64) -> bool {
        self.segment(address, len).is_some_and(|segment| segment.protection == Some(protection))
    }

    /// Whether a variable is there: what can be written, also after relocation.
    pub(super) fn is_variable(&self, address: u64) -> bool {
        self.is(Protection::ReadWrite, address, 1) && !self.relro.contains(&address)
    }

    /// Whether all of it lies in one segment that may be read.
    pub(super) fn readable(&self, address: u64, len: u64) -> bool {
        self.segment(address, len).is_some_and(|segment| segment.protection.is_some())
    }

    /// What the file has from this address to the end of its segment.
    pub(super) fn file_from(&self, address: u64) -> Option<&'data [u8]> {
        let segment = self.segment(address, 0)?;
        segment.file.get(usize::try_from(address - segment.address).ok()?..)
    }

    /// What the file has for these addresses.
    pub(super) fn file(&self, address: u64, len: u64) -> Option<&'data [u8]> {
        self.file_from(address)?.get(..usize::try_from(len).ok()?)
    }

    /// What the file has of each segment with this protection, and its address.
    pub(super) fn contents(&self, protection: Protection) -> impl Iterator<Item = (u64, &'data [u8])> {
        let wanted = self.segments.iter().filter(move |segment| segment.protection == Some(protection));
        wanted.map(|segment| (segment.address, segment.file))
    }

    /// How many zeros follow the segment's bytes from the file, before anything else is.
    pub(super) fn zeros_behind(&self, address: u64) -> u64 {
        let after = self.segments.partition_point(|segment| segment.address <= address);
        let Some(segment) = after.checked_sub(1).and_then(|index| self.segments.get(index)) else { return 0 };
        let page_end = round_up(segment.end(), self.page_size);
        let end = self.segments.get(after).map_or(page_end, |next| next.address.min(page_end));
        end - (segment.address + segment.file.len() as u64)
    }

    /// Copies every segment that is not verbatim to its place.
    pub(super) fn fill(&self, memory: &mut [u8]) {
        let is_verbatim = |segment: &Segment<'_>| {
            let offset = segment.address - self.low;
            self.verbatim.binary_search_by_key(&offset, |part| part.offset).is_ok()
        };
        for segment in self.segments.iter().filter(|segment| !is_verbatim(segment)) {
            let place = usize::try_from(segment.address - self.low)
                .ok()
                .and_then(|start| memory.get_mut(start..)?.get_mut(..segment.file.len()));
            if let Some(place) = place {
                place.copy_from_slice(segment.file);
            }
        }
    }
}

/// See [`Image::loaded_length`](crate::Image::loaded_length).
pub(crate) fn loaded_length(start: &[u8]) -> Option<u64> {
    let header = Header::parse(start).ok().filter(|header| header.e_type(LE) == elf::ET_DYN)?;
    let headers = header.program_headers(LE, start).ok()?;
    for notes in headers.iter().filter(|header| header.p_type(LE) == elf::PT_NOTE) {
        let (offset, len) =
            (usize::try_from(notes.p_offset(LE)).ok()?, usize::try_from(notes.p_filesz(LE)).ok()?);
        let mut declared = Declared::default();
        // Notes that are damaged are found so when the file is read.
        let read = declared.read(start.get(offset..)?.get(..len)?, notes.p_align(LE));
        if read.is_err() || !declared.states.is_empty() {
            return None;
        }
    }
    let loaded = headers.iter().filter(|header| header.p_type(LE) == elf::PT_LOAD);
    loaded.map(|header| header.p_offset(LE).checked_add(header.p_filesz(LE))).try_fold(
        // The headers, which need not be in a segment.
        header.e_phoff(LE).checked_add(size_of_val(headers) as u64)?,
        |length, end| Some(length.max(end?)),
    )
}

/// Finds the segment of an address, which is often that of the address before.
pub(super) struct Nearby<'a, 'data> {
    layout: &'a Layout<'data>,
    /// Of the last segment: its address, its size and its protection. (Not a reference to it, which
    /// would be followed for each of thousands of questions.)
    start: u64,
    size: u64,
    protection: Option<Protection>,
}

impl<'data> Nearby<'_, 'data> {
    /// The protection of the segment that holds all of it, if there is one; `Some(None)` is a
    /// segment without any.
    #[inline]
    pub(super) fn protection(&mut self, address: u64, len: u64) -> Option<Option<Protection>> {
        let offset = address.wrapping_sub(self.start);
        if offset > self.size || len > self.size - offset {
            let segment = self.layout.segment(address, len)?;
            (self.start, self.size, self.protection) = (segment.address, segment.size, segment.protection);
        }
        Some(self.protection)
    }

    #[inline]
    pub(super) fn is(&mut self, protection: Protection, address: u64, len: u64) -> bool {
        self.protection(address, len) == Some(Some(protection))
    }
}

fn once<T>(slot: &mut Option<T>, found: T, index: usize) -> Result<(), Error> {
    match slot.replace(found) {
        None => Ok(()),
        Some(_) => Err(malformed(TABLE, "an entry that says where a table is, is there twice", index as u64)),
    }
}

fn round_up(address: u64, page_size: u64) -> u64 {
    address.div_ceil(page_size) * page_size
}

/// Checks one PT_LOAD by itself. `None`: it is empty.
fn load<'data>(
    bytes: &'data [u8],
    header: &elf::ProgramHeader64<LE>,
    page_size: u64,
    max_span: u64,
) -> Result<Option<Segment<'data>>, Error> {
    let address = header.p_vaddr(LE);
    let (size, file_size) = (header.p_memsz(LE), header.p_filesz(LE));
    if file_size > size {
        return Err(malformed(TABLE, "a segment has more bytes in the file than in memory", address));
    }
    if size == 0 {
        return Ok(None);
    }
    let align = header.p_align(LE);
    if align > 1 && !align.is_power_of_two() {
        return Err(malformed(TABLE, "an alignment is no power of two", align));
    }
    if align < page_size {
        return Err(Error::SegmentAlign { address, align, page_size });
    }
    if align > max_span {
        return Err(Error::TooLarge { needed: align, limit: max_span });
    }
    if address.wrapping_sub(header.p_offset(LE)) & (align - 1) != 0 {
        return Err(malformed(TABLE, "address and file offset differ modulo the alignment", address));
    }
    if address.checked_add(size).and_then(|end| end.checked_next_multiple_of(page_size)).is_none() {
        return Err(malformed(TABLE, "a segment goes past the end of the address space", address));
    }
    let file = usize::try_from(header.p_offset(LE))
        .ok()
        .and_then(|start| bytes.get(start..)?.get(..usize::try_from(file_size).ok()?))
        .ok_or(malformed(TABLE, "a segment goes past the end of the file", header.p_offset(LE)))?;
    let flags = header.p_flags(LE);
    let protection = match (flags & elf::PF_W != 0, flags & elf::PF_X != 0) {
        (true, true) => return Err(Error::WritableExecutable { address }),
        (true, false) => Some(Protection::ReadWrite),
        (false, true) => Some(Protection::ReadExecute),
        (false, false) => (flags & elf::PF_R != 0).then_some(Protection::Read),
    };
    Ok(Some(Segment { address, size, file, protection }))
}

/// The pages of the segments, RELRO cut out of its segment, equal neighbours merged.
fn regions(
    segments: &[Segment<'_>],
    low: u64,
    page_size: u64,
    relro: Option<(u64, u64)>,
) -> Result<Vec<Region>, Error> {
    // As ld.so does (_dl_protect_relro): both ends down, so a last page that is shared with
    // variables stays writable. Linkers start the range at the segment's first byte and end it at a
    // page of their own choice.
    let (mut relro_start, mut relro_end) = (0, 0);
    if let Some((address, size)) = relro.filter(|(_, size)| *size != 0) {
        let outside = malformed(TABLE, "PT_GNU_RELRO is not part of a writable segment", address);
        let end = address.checked_add(size).ok_or(outside.clone())?;
        let holder = segments
            .iter()
            .find(|segment| segment.address <= address && address < segment.end())
            .filter(|segment| segment.protection == Some(Protection::ReadWrite))
            .ok_or(outside.clone())?;
        // Linkers pad the range to the end of a page, of a size that need not be this system's.
        if end > holder.end().checked_next_multiple_of(page_size.max(1 << 16)).unwrap_or(u64::MAX) {
            return Err(outside);
        }
        relro_start = address & !(page_size - 1);
        relro_end = (end & !(page_size - 1)).min(round_up(holder.end(), page_size)).max(relro_start);
    }

    let mut pages = Pages::new(page_size, low);
    for segment in segments {
        let protection = segment.protection;
        let Range { start, end } = pages.of_segment(segment.address, segment.end(), protection)?;
        if protection == Some(Protection::ReadWrite) {
            let [cut_start, cut_end] = [relro_start, relro_end].map(|cut| cut.clamp(start, end));
            pages.add(start..cut_start, protection);
            pages.add(cut_start..cut_end, Some(Protection::Read));
            pages.add(cut_end..end, protection);
        } else {
            pages.add(start..end, protection);
        }
    }
    Ok(pages.into_regions())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::format::table_of;
    use Protection::{Read, ReadExecute, ReadWrite};

    const R: u32 = elf::PF_R;
    const RW: u32 = elf::PF_R | elf::PF_W;
    const RX: u32 = elf::PF_R | elf::PF_X;
    const KIB: u64 = 1024;

    /// Type, flags, address, size in memory, alignment. Segments take their bytes from the file's
    /// start.
    type Entry = (u32, u32, u64, u64, u64);

    fn load(flags: u32, address: u64, size: u64, align: u64) -> Entry {
        (elf::PT_LOAD, flags, address, size, align)
    }

    fn relro(address: u64, size: u64) -> Entry {
        (elf::PT_GNU_RELRO, R, address, size, 1)
    }

    /// A header and a program header table; each segment takes `filled` bytes from the file.
    fn file(entries: &[Entry], filled: u64) -> Vec<u8> {
        let mut bytes = alloc::vec![0; 0x10_0000];
        bytes[32..40].copy_from_slice(&64u64.to_le_bytes()); // e_phoff
        bytes[54..56].copy_from_slice(&56u16.to_le_bytes()); // e_phentsize
        bytes[56..58].copy_from_slice(&(entries.len() as u16 + 1).to_le_bytes());
        let dynamic = (elf::PT_DYNAMIC, R, 0, 0, 8);
        for (index, (kind, flags, address, size, align)) in entries.iter().chain([&dynamic]).enumerate() {
            let at = 64 + 56 * index;
            bytes[at..at + 4].copy_from_slice(&kind.to_le_bytes());
            bytes[at + 4..at + 8].copy_from_slice(&flags.to_le_bytes());
            let offset = if align.is_power_of_two() { address & (align - 1) } else { 0 };
            for (field, value) in
                [offset, *address, *address, filled.min(*size), *size, *align].iter().enumerate()
            {
                bytes[at + 8 + 8 * field..at + 16 + 8 * field].copy_from_slice(&value.to_le_bytes());
            }
        }
        bytes
    }

    fn parse(entries: &[Entry], page_size: u64) -> Result<Vec<(u64, u64, Protection)>, Error> {
        let bytes = file(entries, 16);
        let layout = Layout::parse(&bytes, &table_of::<Header>(&bytes, 1)[0], page_size, 1 << 30)?;
        assert!(layout.memory.align.is_power_of_two() && layout.memory.align >= page_size);
        assert_eq!(layout.memory.span % page_size, 0);
        let mut end = 0;
        for region in &layout.memory.regions {
            assert!(region.offset >= end && region.len > 0);
            assert!(region.offset % page_size == 0 && region.len % page_size == 0);
            end = region.offset + region.len;
            assert!(end <= layout.memory.span);
        }
        Ok(layout.memory.regions.iter().map(|r| (r.offset / KIB, r.len / KIB, r.protection)).collect())
    }

    fn pages(entries: &[Entry], page_size: u64) -> Vec<(u64, u64, Protection)> {
        parse(entries, page_size).unwrap()
    }

    #[test]
    fn one_layout_on_three_page_sizes() {
        // As GNU ld lays a module out with -z max-page-size=65536 on AArch64: RELRO ends on a 4 KiB
        // page.
        let entries = [
            load(RX, 0, 0x4321, 0x1_0000),
            load(RW, 0x1_FD00, 0x5000, 0x1_0000),
            relro(0x1_FD00, 0x2_3000 - 0x1_FD00),
        ];
        assert_eq!(pages(&entries, 4 * KIB), [(0, 20, ReadExecute), (124, 16, Read), (140, 8, ReadWrite)]);
        assert_eq!(pages(&entries, 16 * KIB), [(0, 32, ReadExecute), (112, 16, Read), (128, 32, ReadWrite)]);
        assert_eq!(pages(&entries, 64 * KIB), [(0, 64, ReadExecute), (64, 64, Read), (128, 64, ReadWrite)]);
    }

    #[test]
    fn a_relro_range_of_less_than_a_page_protects_nothing() {
        let entries = [load(RW, 0x1_0200, 0x8000, 0x1_0000), relro(0x1_0200, 0x3000)];
        assert_eq!(pages(&entries, 4 * KIB), [(0, 12, Read), (12, 24, ReadWrite)]);
        assert_eq!(pages(&entries, 16 * KIB), [(0, 48, ReadWrite)]);
    }

    #[test]
    fn relro_must_be_in_a_writable_segment() {
        let layouts = [
            [load(RX, 0, 0x1000, 0x1000), relro(0, 0x1000)],
            [load(RW, 0, 0x1000, 0x1000), relro(0x1000, 0x1000)],
            [load(RW, 0, 0x1000, 0x1000), relro(0, 0x4_0000)],
            [load(RW, 0, 0x1000, 0x1000), relro(0x800, u64::MAX)],
        ];
        for entries in layouts {
            assert!(matches!(parse(&entries, 4096), Err(Error::Malformed { .. })), "{entries:?}");
        }
        // Padded to the end of a page, as linkers do.
        let entries = [load(RW, 0, 0x800, 0x1_0000), relro(0, 0x1_0000)];
        assert_eq!(pages(&entries, 4096), [(0, 4, Read)]);
    }

    #[test]
    fn neighbours_with_one_protection_are_one_region() {
        let entries = [
            load(R, 0, 0x100, 0x1000),
            load(R, 0x100, 0x100, 0x1000),
            load(R, 0x1000, 0x100, 0x1000),
            load(RX, 0x2000, 0x100, 0x1000),
            load(0, 0x3000, 0x100, 0x1000),
            load(RW, 0x4000, 0, 0x1000),
            load(RW, 0x5000, 1, 0x1000),
        ];
        assert_eq!(pages(&entries, 4096), [(0, 8, Read), (8, 4, ReadExecute), (20, 4, ReadWrite)]);
    }

    #[test]
    fn pages_of_two_protections_are_refused() {
        let entries = [load(RX, 0, 0x100, 0x1000), load(RW, 0x800, 0x100, 0x1000)];
        assert_eq!(parse(&entries, 4096), Err(Error::SharedPage { address: 0x800, page_size: 4096 }));
        // Aligned to 64 KiB, and still on one page of that size.
        let entries = [load(RX, 0, 0x100, 0x1_0000), load(RW, 0x4100, 0x100, 0x1_0000)];
        assert!(parse(&entries, 4 * KIB).is_ok());
        assert!(parse(&entries, 16 * KIB).is_ok());
        let refused = Error::SharedPage { address: 0x4100, page_size: 64 * KIB };
        assert_eq!(parse(&entries, 64 * KIB), Err(refused));
    }

    #[test]
    fn alignment_below_a_page_is_refused() {
        let entries = [load(RX, 0x1000, 0x100, 0x1000)];
        assert!(parse(&entries, 4 * KIB).is_ok());
        for page_size in [16 * KIB, 64 * KIB] {
            let refused = Error::SegmentAlign { address: 0x1000, align: 0x1000, page_size };
            assert_eq!(parse(&entries, page_size), Err(refused));
        }
        for align in [0, 1, 8] {
            let refused = Error::SegmentAlign { address: 0x1000, align, page_size: 4096 };
            assert_eq!(parse(&[load(RX, 0x1000, 0x100, align)], 4096), Err(refused));
        }
    }

    #[test]
    fn what_cannot_be() {
        for (entries, why) in [
            (alloc::vec![load(RX, 0x1000, 0x100, 0x3000)], "alignment no power of two"),
            (alloc::vec![load(RX, 0, 0x2000, 0x1000), load(RX, 0x1000, 0x100, 0x1000)], "overlap"),
            (alloc::vec![load(RX, 0x2000, 1, 0x1000), load(RX, 0x1000, 1, 0x1000)], "order"),
            (alloc::vec![load(RX, u64::MAX - 0xFFF, 0x100, 0x1000)], "end rounds up past the end"),
            (alloc::vec![load(RX, u64::MAX - 0xFF, 0x200, 0x100_0000)], "end past the end"),
            (alloc::vec![], "nothing to load"),
        ] {
            assert!(matches!(parse(&entries, 4096), Err(Error::Malformed { .. })), "{why}");
        }
        for page_size in [0, 1, 2048, 4095, 5000, u64::MAX] {
            let refused = parse(&[load(RX, 0, 0x100, 0x1000)], page_size);
            assert_eq!(refused, Err(Error::BadPageSize { page_size }));
        }
        assert!(matches!(parse(&[load(R, 0, 1 << 31, 4096)], 4096), Err(Error::TooLarge { .. })));
        assert!(matches!(parse(&[load(R, 0, 1, 1 << 31)], 4096), Err(Error::TooLarge { .. })));
        // A page size that nothing is aligned to, up to the largest there is.
        assert!(parse(&[load(RX, 0, 0x100, 0x1000)], 1 << 63).is_err());
    }

    #[test]
    fn addresses_keep_their_place_in_a_large_alignment() {
        let bytes = file(&[load(RW, 0x1_2340, 0x100, 0x1_0000), load(RW, 0x3_0000, 0x10, 0x1000)], 16);
        let layout = Layout::parse(&bytes, &table_of::<Header>(&bytes, 1)[0], 4096, 1 << 20).unwrap();
        assert_eq!((layout.memory.align, layout.offset(0x1_2340)), (0x1_0000, Some(0x2340)));
        assert_eq!(layout.memory.span, 0x2_1000);
        assert_eq!((layout.offset(0xFFFF), layout.offset(0x3_1000)), (None, Some(0x2_1000)));
        assert_eq!(layout.offset(0x3_1001), None);
    }

    #[test]
    fn zeros_behind_what_the_file_has() {
        let entries =
            [load(R, 0x1000, 0x20, 0x1000), load(R, 0x1100, 0x100, 0x1000), load(RW, 0x3000, 4, 0x1000)];
        let bytes = file(&entries, 16);
        let layout = Layout::parse(&bytes, &table_of::<Header>(&bytes, 1)[0], 4096, 1 << 20).unwrap();
        // Up to the next segment, or to the end of the page.
        assert_eq!(
            [0x1000, 0x1010, 0x1100, 0x3000].map(|at| layout.zeros_behind(at)),
            [0xF0, 0xF0, 0xEF0, 0xFFC]
        );
        assert_eq!(layout.zeros_behind(0xFFF), 0);
    }

    #[test]
    fn questions_about_addresses() {
        let bytes = file(&[load(RX, 0x1000, 0x100, 0x1000), load(RW, 0x2000, 0x100, 0x1000)], 16);
        let layout = Layout::parse(&bytes, &table_of::<Header>(&bytes, 1)[0], 4096, 1 << 20).unwrap();
        assert!(layout.is(ReadExecute, 0x1000, 0x100) && !layout.is(ReadExecute, 0x1000, 0x101));
        assert!(layout.is(ReadWrite, 0x20F8, 8) && !layout.is(ReadWrite, 0x20F9, 8));
        assert!(!layout.readable(0xFFF, 1) && !layout.readable(0x1100, 1) && !layout.readable(u64::MAX, 8));
        assert_eq!(layout.file(0x2000, 16).map(<[u8]>::len), Some(16));
        assert_eq!((layout.file(0x2000, 17), layout.file(0x2011, 0)), (None, None));
        assert_eq!((layout.file_from(0xFFF), layout.file_from(u64::MAX)), (None, None));
    }
}
