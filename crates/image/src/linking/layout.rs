//! Where each section goes: three runs of pages (constants, code, variables), as tight as
//! alignments allow.

use super::section::{Part, Section};
use crate::pages::Memory;
use crate::{Error, Protection, Region, ThreadLocals, Unwind};
use alloc::vec::Vec;
use core::ops::Range;

/// For each [`Part`] its sections, by their numbers in the link, in the order in which they will
/// stand.
pub(crate) type Parts = [Vec<u32>; Part::ALL.len()];

/// The largest block of thread-local variables. Each thread that uses any of them has the whole.
pub(crate) const LARGEST_BLOCK: u64 = 64 << 20;

/// The memory of the image.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) memory: Memory,
    /// Which of it is code.
    pub(crate) code: Range<u64>,
    pub(crate) thread_locals: Option<ThreadLocals>,
    pub(crate) unwind: Option<Unwind>,
}

/// Where the next section goes.
struct Cursor {
    at: u64,
    limit: u64,
}

impl Cursor {
    fn align(&mut self, align: u64) -> Result<u64, Error> {
        self.to(self.at.checked_next_multiple_of(align).unwrap_or(u64::MAX))
    }

    fn to(&mut self, at: u64) -> Result<u64, Error> {
        self.at = at;
        if at > self.limit { Err(Error::TooLarge { needed: at, limit: self.limit }) } else { Ok(at) }
    }

    fn place(&mut self, section: &mut Section<'_>) -> Result<(), Error> {
        // One that is empty needs no room for its alignment either.
        section.offset = if section.size == 0 { self.at } else { self.align(section.align)? };
        self.to(section.offset.saturating_add(section.size)).map(|_| ())
    }
}

impl Layout {
    /// Gives every section its place. The sizes of all are known.
    pub(crate) fn new(
        parts: &Parts,
        sections: &mut [Section<'_>],
        page_size: u64,
        max_span: u64,
    ) -> Result<Self, Error> {
        if page_size < 4096 || !page_size.is_power_of_two() {
            return Err(Error::BadPageSize { page_size });
        }
        let memory = Memory::new(page_size);
        let mut layout = Layout { memory, code: 0..0, thread_locals: None, unwind: None };
        // So that no sum of two offsets overflows.
        let max_span = max_span.min(i64::MAX as u64);
        let mut cursor = Cursor { at: 0, limit: max_span };
        for protection in [Protection::Read, Protection::ReadExecute, Protection::ReadWrite] {
            let start = cursor.at;
            for part in Part::ALL.into_iter().filter(|part| part.protection() == protection) {
                let list = &parts[part as usize];
                match part {
                    Part::Frames => layout.unwind = frames(&mut cursor, list, sections)?,
                    Part::Template => {
                        let zero = &parts[Part::TemplateZero as usize];
                        layout.thread_locals = thread_locals(&mut cursor, list, zero, sections)?;
                    }
                    Part::TemplateZero => {}
                    _ => list.iter().try_for_each(|index| cursor.place(&mut sections[*index as usize]))?,
                }
            }
            if cursor.at > start {
                cursor.align(page_size)?;
                layout.memory.regions.push(Region { offset: start, len: cursor.at - start, protection });
                if protection == Protection::ReadExecute {
                    layout.code = start..cursor.at;
                }
            }
        }
        layout.memory.span = cursor.at;
        let largest = sections.iter().filter(|section| section.part().is_some() && section.size > 0);
        layout.memory.align = largest.map(|section| section.align).fold(page_size, u64::max);
        if layout.memory.align > max_span {
            return Err(Error::TooLarge { needed: layout.memory.align, limit: max_span });
        }
        Ok(layout)
    }
}

/// The records of all files one after the other, with nothing in between, and an end mark.
fn frames(cursor: &mut Cursor, list: &[u32], sections: &mut [Section<'_>]) -> Result<Option<Unwind>, Error> {
    if list.iter().all(|index| sections[*index as usize].size == 0) {
        return Ok(None);
    }
    let offset = cursor.align(8)?;
    for index in list {
        let section = &mut sections[*index as usize];
        section.offset = cursor.at;
        cursor.to(cursor.at.saturating_add(section.size))?;
    }
    let end = cursor.to(cursor.at.saturating_add(4))?;
    Ok(Some(Unwind { offset, size: end - offset, terminated: true }))
}

/// The template, and behind it, where it takes no room, what begins as zero.
fn thread_locals(
    cursor: &mut Cursor,
    initialised: &[u32],
    zero: &[u32],
    sections: &mut [Section<'_>],
) -> Result<Option<ThreadLocals>, Error> {
    let all = initialised.iter().chain(zero).map(|index| &sections[*index as usize]);
    let (size, align) = all.fold((0u64, 1), |(size, align), section| {
        (size.saturating_add(section.size), section.align.max(align))
    });
    if size == 0 {
        return Ok(None);
    }
    let offset = cursor.align(align)?;
    initialised.iter().try_for_each(|index| cursor.place(&mut sections[*index as usize]))?;
    let initialised = cursor.at - offset;
    let limit = cursor.limit.min(offset.saturating_add(LARGEST_BLOCK));
    let mut behind = Cursor { at: cursor.at, limit };
    zero.iter().try_for_each(|index| behind.place(&mut sections[*index as usize]))?;
    Ok(Some(ThreadLocals { offset, initialised, size: behind.at - offset, align, skew: 0 }))
}
