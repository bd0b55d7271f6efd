//! Thread-local variables: the module's block, and the descriptors by which code finds a variable
//! in it.
//!
//! A descriptor is three words: a function that code calls with the descriptor's address, a key,
//! and where the variable is in the block. Linkers bind the first to `__tlv_bootstrap` and leave
//! the second 0; a loader puts in what it likes, and the function is to keep all registers but x0,
//! x16, x17 and the flags. (dyld: `threadLocalHelpers.s`, and where `__tlv_bootstrap` is set up.)

use super::segments::Layout;
use crate::macho::format::{LE, Word, malformed, table_of};
use crate::{Error, Host, ThreadLocals};
use alloc::vec::Vec;

const TABLE: &str = "table of thread-local variables (__thread_vars)";

/// What the first word of each descriptor is bound to in the file.
pub(super) const BOOTSTRAP: &str = "__tlv_bootstrap";

/// Of a descriptor.
const SIZE: u64 = 24;

/// The module's thread-local variables.
pub(super) struct Variables {
    pub(super) block: Option<ThreadLocals>,
    /// Where each descriptor is in the file, ascending, and its variable in the block.
    descriptors: Vec<(u64, u32)>,
}

impl Variables {
    pub(super) fn parse(layout: &Layout<'_>) -> Result<Self, Error> {
        let block = block(layout)?;
        let mut descriptors = Vec::new();
        for section in &layout.sections.descriptors {
            let wrong = |problem| malformed(TABLE, problem, section.address);
            let bytes = layout.fixable(section.address, section.size);
            let bytes = bytes.ok_or(wrong("it is not in the file, or cannot be written to"))?;
            let words: &[[Word; 3]] = table_of(bytes, bytes.len() / SIZE as usize);
            if size_of_val(words) != bytes.len() {
                return Err(wrong("it ends inside a descriptor"));
            }
            for (index, [_, _, offset]) in (0..).zip(words) {
                let offset = offset.get(LE);
                let inside = block.is_some_and(|block| offset < block.size);
                match u32::try_from(offset) {
                    Ok(offset) if inside => descriptors.push((section.address + index * SIZE, offset)),
                    _ => return Err(malformed(TABLE, "a variable is outside the block", offset)),
                }
            }
        }
        Ok(Self { block, descriptors })
    }

    /// Where the variable is in the block whose descriptor is at this address of the file.
    pub(super) fn find(&self, descriptor: u64) -> Option<u32> {
        let at = self.descriptors.binary_search_by_key(&descriptor, |(address, _)| *address).ok()?;
        Some(self.descriptors[at].1)
    }

    /// What is written for each descriptor: where in the file's addresses, and the words.
    pub(super) fn words(&self, host: &Host) -> impl Iterator<Item = (u64, [u64; 3])> {
        let (thunk, module) = (host.tlv_thunk, host.tls_module << 32);
        self.descriptors
            .iter()
            .map(move |(address, offset)| (*address, [thunk, module | u64::from(*offset), 0]))
    }
}

/// From the first section of initial contents to the end of the last, as dyld has it.
fn block(layout: &Layout<'_>) -> Result<Option<ThreadLocals>, Error> {
    let template = &layout.sections.template;
    let start = template.iter().map(|part| part.place.address).min();
    let end = template.iter().map(|part| part.place.end()).max();
    let (Some(start), Some(end)) = (start, end) else { return Ok(None) };
    let filled =
        template.iter().filter(|part| !part.zero).map(|part| part.place.end()).max().unwrap_or(start);
    let align = template.iter().map(|part| part.align).max().unwrap_or(1);
    let offset = match filled - start {
        // A block that is all zero has no bytes in the image.
        0 => Some(0),
        // In one segment, so that what is between two of its sections may be read.
        initialised => layout.offset(start).filter(|_| layout.readable(start, initialised)),
    };
    let offset = offset.ok_or(malformed(TABLE, "the initial contents are not in one segment", start))?;
    let (initialised, size) = (filled - start, end - start);
    Ok(Some(ThreadLocals { offset, initialised, size, align, skew: start & (align - 1) }))
}
