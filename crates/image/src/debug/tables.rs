//! Addresses in the tables that are read without the entries of `.debug_info`.

use alloc::vec::Vec;

use gimli::{LittleEndian, Reader, constants};

use super::places::{Addresses, Slice};
use super::relocate::DAMAGED;

/// `.debug_line`, of which `programs` are referred to. Their tables of names are not read.
pub(super) fn lines(section: &Addresses<'_>, programs: &mut Vec<usize>) -> Result<(), &'static str> {
    programs.sort_unstable();
    programs.dedup();
    let mut end = 0;
    for &offset in programs.iter() {
        // Programs do not overlap, so no byte is read twice.
        if offset < end {
            return Err(DAMAGED);
        }
        end = line_program(section, offset).map_err(|_| DAMAGED)?;
    }
    Ok(())
}

/// Returns where the program ends. DWARF 5, 6.2; the header up to its tables is alike in all
/// versions.
fn line_program(section: &Addresses<'_>, offset: usize) -> gimli::Result<usize> {
    let whole = Slice::new(section.bytes, LittleEndian);
    let mut rest = whole;
    rest.skip(offset)?;
    let (length, format) = rest.read_initial_length()?;
    let mut program = rest.split(length)?;
    let version = program.read_u16()?;
    if version >= 5 {
        // The sizes of an address and of a segment selector.
        program.skip(2)?;
    }
    let header = program.read_length(format)?;
    let mut header = program.split(header)?;
    // Instruction length, operations per instruction (from version 4 on), is_stmt, line base, line
    // range.
    header.skip(if version >= 4 { 5 } else { 4 })?;
    let first_special = header.read_u8()?;
    let operands = header.split(usize::from(first_special.saturating_sub(1)))?;
    while !program.is_empty() {
        match program.read_u8()? {
            0 => {
                let length = program.read_uleb128()?;
                let mut instruction = program.split(usize::try_from(length).unwrap_or(usize::MAX))?;
                if length == 9 && instruction.read_u8()? == constants::DW_LNE_set_address.0 {
                    let place = instruction.offset_from(whole);
                    section.places.note(place, instruction.read_u64()?);
                }
            }
            opcode if opcode >= first_special => {}
            opcode if opcode == constants::DW_LNS_fixed_advance_pc.0 => program.skip(2)?,
            opcode => {
                for _ in 0..operands.slice()[usize::from(opcode) - 1] {
                    program.skip_leb128()?;
                }
            }
        }
    }
    Ok(program.offset_from(whole))
}

/// `.debug_addr`: contributions with a header, and before version 5 (a GNU extension) only words.
pub(super) fn addresses(section: &Addresses<'_>) {
    let whole = Slice::new(section.bytes, LittleEndian);
    let mut rest = whole;
    while !rest.is_empty() {
        let mut words = contribution(&mut rest).unwrap_or_else(|_| core::mem::take(&mut rest));
        loop {
            let place = words.offset_from(whole);
            let Ok(value) = words.read_u64() else { break };
            section.places.note(place, value);
        }
    }
}

fn contribution<'s>(rest: &mut Slice<'s>) -> gimli::Result<Slice<'s>> {
    let mut after = *rest;
    let (length, _) = after.read_initial_length()?;
    let mut words = after.split(length)?;
    let (version, address_size, selector_size) = (words.read_u16()?, words.read_u8()?, words.read_u8()?);
    if (version, address_size, selector_size) != (5, 8, 0) {
        return Err(gimli::Error::UnknownVersion(version.into()));
    }
    *rest = after;
    Ok(words)
}

/// `.debug_frame`: a function's address is the word behind its record's length and reference to the
/// common record.
pub(super) fn frames(section: &Addresses<'_>) -> Result<(), &'static str> {
    let whole = Slice::new(section.bytes, LittleEndian);
    let mut rest = whole;
    while !rest.is_empty() {
        frame(section, whole, &mut rest).map_err(|_| DAMAGED)?;
    }
    Ok(())
}

fn frame(section: &Addresses<'_>, whole: Slice<'_>, rest: &mut Slice<'_>) -> gimli::Result<()> {
    let (length, format) = rest.read_initial_length()?;
    let mut record = rest.split(length)?;
    let is_common = match format {
        gimli::Format::Dwarf32 => record.read_u32()? == u32::MAX,
        gimli::Format::Dwarf64 => record.read_u64()? == u64::MAX,
    };
    if !is_common {
        let place = record.offset_from(whole);
        section.places.note(place, record.read_u64()?);
    }
    Ok(())
}
