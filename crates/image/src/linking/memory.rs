//! Writing into the memory of an image, and reading what was written.

use super::calls::Array;
use super::section::Section;
use crate::fixup::{aarch64, x86_64};
use crate::{Error, Machine};
use alloc::vec::Vec;

/// So many bytes of the memory, from an offset on.
pub(crate) fn at(memory: &mut [u8], offset: u64, size: usize) -> Result<&mut [u8], Error> {
    let start = usize::try_from(offset).ok();
    let place = start.and_then(|start| memory.get_mut(start..)?.get_mut(..size));
    place.ok_or(outside("a section is outside the image", offset))
}

fn outside(problem: &'static str, at: u64) -> Error {
    Error::Malformed { table: "table of sections", problem, at }
}

/// How many bytes a jump to code that is far away takes.
pub(crate) fn stub_size(machine: Machine) -> usize {
    match machine {
        Machine::X86_64 => x86_64::STUB,
        Machine::Aarch64 => aarch64::STUB,
    }
}

/// Writes the jumps to code that is far away from an offset on, for the image at `base`. `entries`
/// are the addresses of where each has its target from.
pub(crate) fn write_stubs(
    memory: &mut [u8],
    machine: Machine,
    base: u64,
    offset: u64,
    entries: impl Iterator<Item = u64>,
) -> Result<(), Error> {
    let (needed, size) = (memory.len() as u64, stub_size(machine));
    let too_large = |_| Error::TooLarge { needed, limit: i32::MAX as u64 };
    for (offset, entry) in (offset..).step_by(size).zip(entries) {
        let (address, code) = (base.wrapping_add(offset), at(memory, offset, size)?);
        match machine {
            Machine::X86_64 => code.copy_from_slice(&x86_64::stub(address, entry).map_err(too_large)?),
            Machine::Aarch64 => code.copy_from_slice(&aarch64::stub(address, entry).map_err(too_large)?),
        }
    }
    Ok(())
}

/// The addresses in arrays of functions, as linked. `list` is what the format calls them.
pub(crate) fn listed(
    arrays: &[Array],
    sections: &[Section<'_>],
    memory: &[u8],
    list: &'static str,
    is_function: impl Fn(u64) -> bool,
) -> Result<Vec<u64>, Error> {
    let mut calls = Vec::new();
    for array in arrays {
        let section = &sections[array.section as usize];
        let bytes = usize::try_from(section.offset).ok();
        let bytes = bytes.and_then(|start| memory.get(start..)?.get(..section.bytes.len()));
        let words = bytes.ok_or(outside("an array is outside the image", 0))?.as_chunks().0;
        let from = calls.len();
        for address in words.iter().map(|word| u64::from_le_bytes(*word)) {
            // Start files bracket the older kind of array with these.
            if array.backwards && matches!(address, 0 | u64::MAX) {
                continue;
            }
            if !is_function(address) {
                return Err(Error::EntryOutsideCode { list, address });
            }
            calls.push(address);
        }
        if array.backwards {
            calls[from..].reverse();
        }
    }
    Ok(calls)
}
