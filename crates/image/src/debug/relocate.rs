//! Debug information made true for where the image is: finds every address in DWARF, versions 2 to
//! 5, and moves it.
//!
//! A linker leaves no list of the places, so the information is read as a debugger would, and what
//! is read as an address is noted. Each section is gone through once: hostile information costs no
//! more time than its size accounts for.

use core::ops::Range;

use alloc::vec::Vec;

use gimli::{
    AttributeSpecification, AttributeValue, DebugAbbrev, DebugAbbrevOffset, DebugInfoOffset, Encoding,
    EntriesRaw, Expression, LittleEndian, Operation, Reader as _, constants,
};

use super::lists::{self, List};
use super::places::{Addresses, Places, Reader, Slice};
use super::{DebugInfo, tables};

/// Why debug information is not handed on.
pub(super) const DAMAGED: &str = "it is damaged";
const UNKNOWN: &str = "it is in a version or form of DWARF that is not known";

/// Adds `bias` to every address of the image, which lies at `image` in the file's numbering.
pub(crate) fn relocate(debug: &mut DebugInfo<'_>, image: &Range<u64>, bias: u64) -> Result<(), &'static str> {
    if bias == 0 {
        return Ok(());
    }
    for (name, places) in places(debug, image)? {
        let Some((_, contents)) = debug.sections.iter_mut().find(|(section, _)| *section == name) else {
            continue;
        };
        let contents = contents.to_mut();
        for place in places {
            let word =
                contents.get_mut(place..).and_then(|rest| rest.first_chunk_mut::<8>()).ok_or(DAMAGED)?;
            *word = u64::from_le_bytes(*word).wrapping_add(bias).to_le_bytes();
        }
    }
    Ok(())
}

/// Where the addresses are, by section.
fn places(
    debug: &DebugInfo<'_>,
    image: &Range<u64>,
) -> Result<[(&'static str, Vec<usize>); 8], &'static str> {
    let section = |name| Addresses::of(debug.section(name), image);
    let (info, line) = (section(".debug_info"), section(".debug_line"));
    let ranges = [section(".debug_ranges"), section(".debug_rnglists")];
    let locations = [section(".debug_loc"), section(".debug_loclists")];
    let (table, frame) = (section(".debug_addr"), section(".debug_frame"));

    let mut found = References::default();
    let mut walk = Walk {
        abbreviations: debug.section(".debug_abbrev"),
        info: &info,
        lists: [ranges[1].bytes, locations[1].bytes],
        // Several may take no byte.
        attributes: info.bytes.len().saturating_mul(16),
        found: &mut found,
    };
    walk.units().map_err(reason)?;
    tables::lines(&line, &mut found.lines)?;
    lists::ranges(&ranges, &mut found.ranges).map_err(reason)?;
    lists::locations(&locations, &mut found.locations).map_err(reason)?;
    tables::addresses(&table);
    tables::frames(&frame)?;

    let ([ranges, range_lists], [locations, location_lists]) = (ranges, locations);
    Ok([
        (".debug_info", info.into_places()),
        (".debug_line", line.into_places()),
        (".debug_ranges", ranges.into_places()),
        (".debug_rnglists", range_lists.into_places()),
        (".debug_loc", locations.into_places()),
        (".debug_loclists", location_lists.into_places()),
        (".debug_addr", table.into_places()),
        (".debug_frame", frame.into_places()),
    ])
}

fn reason(error: gimli::Error) -> &'static str {
    use gimli::Error;
    match error {
        Error::UnknownForm(_) | Error::UnknownVersion(_) | Error::UnsupportedAddressSize(_) => UNKNOWN,
        _ => DAMAGED,
    }
}

/// What entries refer to in other sections.
#[derive(Default)]
struct References {
    lines: Vec<usize>,
    ranges: Vec<List>,
    locations: Vec<List>,
}

/// Goes through `.debug_info`.
struct Walk<'s> {
    abbreviations: &'s [u8],
    info: &'s Addresses<'s>,
    /// `.debug_rnglists` and `.debug_loclists`, for what is named by index.
    lists: [&'s [u8]; 2],
    /// How many more attributes may be read.
    attributes: usize,
    found: &'s mut References,
}

/// A unit as its first entry describes it.
struct Unit {
    /// In `.debug_info`.
    start: usize,
    encoding: Encoding,
    /// Where the offsets of its range and location lists are.
    lists: [Option<usize>; 2],
    has_base: bool,
}

impl Walk<'_> {
    /// Units with the same table of abbreviations are taken together, and no table goes past where
    /// another begins: so each byte of them is read once.
    fn units(&mut self) -> gimli::Result<()> {
        let info = gimli::DebugInfo::new(self.info.bytes, LittleEndian);
        let mut units = Vec::new();
        let mut headers = info.units();
        while let Some(header) = headers.next()? {
            if header.address_size() != 8 {
                return Err(gimli::Error::UnsupportedAddressSize(header.address_size()));
            }
            let offset = header.offset().as_debug_info_offset().ok_or(gimli::Error::OffsetOutOfBounds)?;
            units.push((header.debug_abbrev_offset().0, offset.0));
        }
        units.sort_unstable();
        let mut rest = &units[..];
        while let Some(&(table, _)) = rest.first() {
            let (units, others) = rest.split_at(rest.partition_point(|(other, _)| *other == table));
            rest = others;
            let end = others.first().map_or(self.abbreviations.len(), |(next, _)| *next);
            let bytes = self.abbreviations.get(..end).ok_or(gimli::Error::OffsetOutOfBounds)?;
            let abbreviations =
                DebugAbbrev::new(bytes, LittleEndian).abbreviations(DebugAbbrevOffset(table))?;
            for (_, offset) in units {
                let header = info.header_from_offset(DebugInfoOffset(*offset))?;
                let unit =
                    Unit { start: *offset, encoding: header.encoding(), lists: [None; 2], has_base: false };
                self.entries(unit, header.entries_raw(&abbreviations, None)?)?;
            }
        }
        Ok(())
    }

    fn entries(&mut self, mut unit: Unit, mut entries: EntriesRaw<'_, '_, Slice<'_>>) -> gimli::Result<()> {
        let mut first = true;
        while !entries.is_empty() {
            let Some(abbreviation) = entries.read_abbreviation()? else { continue };
            let attributes = abbreviation.attributes();
            self.attributes =
                self.attributes.checked_sub(attributes.len()).ok_or(gimli::Error::TypeMismatch)?;
            if core::mem::take(&mut first) {
                self.first_entry(&mut unit, &mut entries, attributes)?;
                continue;
            }
            let mut done = 0;
            for (at, attribute) in attributes.iter().enumerate().filter(|(_, attribute)| matters(attribute)) {
                entries.skip_attributes(&attributes[done..at])?;
                let (place, value) = read(&unit, &mut entries, attribute)?;
                self.refer(&unit, place, value)?;
                done = at + 1;
            }
            entries.skip_attributes(&attributes[done..])?;
        }
        Ok(())
    }

    /// The unit's own entry says what the others are relative to.
    fn first_entry(
        &mut self,
        unit: &mut Unit,
        entries: &mut EntriesRaw<'_, '_, Slice<'_>>,
        attributes: &[AttributeSpecification],
    ) -> gimli::Result<()> {
        let mut others = Vec::with_capacity(attributes.len());
        for attribute in attributes {
            match (attribute.name(), read(unit, entries, attribute)?) {
                // A unit that is in several places has the base 0, and its lists say addresses. The
                // base is moved and the lists are not, as if they were relative to it: the sums are
                // the same.
                (constants::DW_AT_low_pc, (place, AttributeValue::Addr(base))) => {
                    unit.has_base = true;
                    self.info.places.note_even_zero(place, base);
                }
                (constants::DW_AT_low_pc, _) => unit.has_base = true,
                (_, (_, AttributeValue::DebugRngListsBase(base))) => unit.lists[0] = Some(base.0),
                (_, (_, AttributeValue::DebugLocListsBase(base))) => unit.lists[1] = Some(base.0),
                (_, other) => others.push(other),
            }
        }
        others.into_iter().try_for_each(|(place, value)| self.refer(unit, place, value))
    }

    /// Notes an attribute that is an address, and what it refers to.
    fn refer(&mut self, unit: &Unit, place: usize, value: AttributeValue<Slice<'_>>) -> gimli::Result<()> {
        let list = |offset| List { offset, encoding: unit.encoding, has_base: unit.has_base };
        match value {
            AttributeValue::Addr(address) => self.info.places.note(place, address),
            AttributeValue::DebugLineRef(offset) => self.found.lines.push(offset.0),
            AttributeValue::RangeListsRef(offset) => self.found.ranges.push(list(offset.0)),
            AttributeValue::LocationListsRef(offset) => self.found.locations.push(list(offset.0)),
            AttributeValue::DebugRngListsIndex(index) => {
                self.found.ranges.push(list(self.indexed(unit, 0, index.0)?));
            }
            AttributeValue::DebugLocListsIndex(index) => {
                self.found.locations.push(list(self.indexed(unit, 1, index.0)?));
            }
            AttributeValue::Exprloc(Expression(bytes)) if bytes.contains(&constants::DW_OP_addr.0) => {
                let mut reader = self.info.reader();
                reader.skip(bytes.offset_from(Slice::new(self.info.bytes, LittleEndian)))?;
                reader.truncate(bytes.len())?;
                addresses_in(Expression(reader), unit.encoding, &self.info.places);
            }
            _ => {}
        }
        Ok(())
    }

    /// Where a list is that is named by its index (DWARF 5, 7.28 and 7.29).
    fn indexed(&self, unit: &Unit, kind: usize, index: usize) -> gimli::Result<usize> {
        let word = usize::from(unit.encoding.format.word_size());
        let found = || {
            let base = unit.lists[kind]?;
            let at = index.checked_mul(word)?.checked_add(base)?;
            let bytes = self.lists[kind].get(at..)?.get(..word)?;
            let mut offset = [0; 8];
            offset[..word].copy_from_slice(bytes);
            base.checked_add(usize::try_from(u64::from_le_bytes(offset)).ok()?)
        };
        found().ok_or(gimli::Error::OffsetOutOfBounds)
    }
}

/// Reads an attribute. Its place is that of an address, if it is one.
fn read<'s>(
    unit: &Unit,
    entries: &mut EntriesRaw<'_, '_, Slice<'s>>,
    attribute: &AttributeSpecification,
) -> gimli::Result<(usize, AttributeValue<Slice<'s>>)> {
    if attribute.form() == constants::DW_FORM_indirect {
        // No compiler writes it.
        return Err(gimli::Error::UnknownForm(attribute.form()));
    }
    let place = unit.start + entries.next_offset().0;
    Ok((place, entries.read_attribute(*attribute)?.value()))
}

/// Whether an attribute may hold an address, or refer to some.
fn matters(attribute: &AttributeSpecification) -> bool {
    match attribute.form() {
        constants::DW_FORM_addr
        | constants::DW_FORM_exprloc
        | constants::DW_FORM_block
        | constants::DW_FORM_block1
        | constants::DW_FORM_block2
        | constants::DW_FORM_block4
        | constants::DW_FORM_loclistx
        | constants::DW_FORM_rnglistx
        | constants::DW_FORM_sec_offset
        | constants::DW_FORM_indirect => true,
        // What sections were referred to by, up to version 3.
        constants::DW_FORM_data4 | constants::DW_FORM_data8 => matches!(
            attribute.name(),
            constants::DW_AT_location
                | constants::DW_AT_ranges
                | constants::DW_AT_frame_base
                | constants::DW_AT_data_member_location
                | constants::DW_AT_string_length
                | constants::DW_AT_return_addr
                | constants::DW_AT_static_link
                | constants::DW_AT_use_location
                | constants::DW_AT_vtable_elem_location
        ),
        _ => false,
    }
}

/// Reads an expression, so that the addresses in it are noted. One that cannot be read to its end
/// is left: a debugger will not read it either.
pub(super) fn addresses_in(expression: Expression<Reader<'_>>, encoding: Encoding, places: &Places) {
    let before = places.len();
    let mut operations = expression.operations(encoding);
    while let Ok(Some(operation)) = operations.next() {
        if matches!(operation, Operation::TLS) {
            // It was an offset in a block of thread-local storage.
            places.forget(before);
        }
    }
}
