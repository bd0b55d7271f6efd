//! Where each section goes: three runs of pages (constants, code, variables), as tight as alignments allow.

use super::calls::{Array, Calls};
use super::resolve::Linked;
use super::section::{Part, Role, Section};
use super::symbols::{Definition, own};
use crate::error::label;
use crate::{Error, Protection, Region, ThreadLocals, Unwind};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

/// The sections of the link that are kept, in the order in which they will stand, each part by itself.
#[derive(Default)]
pub(super) struct Order<'data> {
    parts: [Vec<u32>; Part::ALL.len()],
    /// Sections that stand together because of their name.
    sets: BTreeMap<&'data str, Vec<u32>>,
    /// In the order of their calls.
    pub(super) init: Vec<Array>,
    pub(super) fini: Vec<Array>,
}

impl<'data> Order<'data> {
    pub(super) fn new(files: &[Linked<'data>], sections: &mut [Section<'data>]) -> Result<Self, Error> {
        let mut order = Order::default();
        let (mut init, mut fini) = (Vec::new(), Vec::new());
        for (index, section) in (own::IMAGE..own::COUNT).zip(&*sections) {
            order.add(index, section);
        }
        for linked in files {
            for (index, header) in (linked.first_section..).zip(linked.file.sections) {
                let section = &sections[index as usize];
                if section.part().is_none() {
                    continue;
                }
                match section.role {
                    Role::Plain => {}
                    Role::Set => {
                        order.sets.entry(linked.file.section_name(header)?).or_default().push(index);
                        continue;
                    }
                    Role::Calls(turn) => {
                        let list = if turn.calls == Calls::Init { &mut init } else { &mut fini };
                        list.push((turn.priority, Array { section: index, backwards: turn.backwards }));
                    }
                }
                order.add(index, section);
            }
        }
        let sets = core::mem::take(&mut order.sets);
        for (name, set) in &sets {
            let part = common_part(name, set, sections)?;
            for index in set {
                sections[*index as usize].state = super::section::State::Kept(part);
                order.add(*index, &sections[*index as usize]);
            }
        }
        order.sets = sets;
        for (list, sorted) in [(&mut order.init, &mut init), (&mut order.fini, &mut fini)] {
            sorted.sort_by_key(|(priority, _)| *priority);
            list.extend(sorted.iter().map(|(_, array)| *array));
        }
        Ok(order)
    }

    fn add(&mut self, index: u32, section: &Section<'_>) {
        if let Some(part) = section.part() {
            self.parts[part as usize].push(index);
        }
    }

    /// What a name stands for that linkers define where no file does.
    pub(super) fn definition(&self, name: &str, sections: &[Section<'_>]) -> Option<Definition> {
        let section = match name {
            // What a module's destructors are registered under.
            "__dso_handle" => own::IMAGE,
            "_GLOBAL_OFFSET_TABLE_" => own::TABLE,
            // What code finds several of its own thread-local variables from.
            "_TLS_MODULE_BASE_" => own::TEMPLATE,
            "__bss_start" | "_edata" => own::ZERO,
            "_end" => own::END,
            _ if !name.starts_with("__st") => return None,
            _ => {
                if let Some(set) = name.strip_prefix("__start_").and_then(|name| self.sets.get(name)) {
                    return Some(Definition::Section { section: *set.first()?, value: 0 });
                }
                let set = name.strip_prefix("__stop_").and_then(|name| self.sets.get(name))?;
                let section = *set.last()?;
                return Some(Definition::Section { section, value: sections[section as usize].size });
            }
        };
        Some(Definition::Section { section, value: 0 })
    }
}

/// What a set is part of: code if any of it is, else variables if any of it is.
fn common_part(name: &str, set: &[u32], sections: &[Section<'_>]) -> Result<Part, Error> {
    let any = |part| set.iter().any(|index| sections[*index as usize].part() == Some(part));
    let (code, variables) = (any(Part::Code), any(Part::Variables) || any(Part::Zero));
    match (code, variables) {
        (true, true) => Err(Error::UnsupportedSection {
            section: label(name),
            problem: "is code in one file and variables in another: give one of them another name",
        }),
        (true, false) => Ok(Part::Code),
        (false, true) => Ok(Part::Variables),
        (false, false) => Ok(Part::Constants),
    }
}

/// The memory of the image.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) span: u64,
    pub(super) align: u64,
    pub(super) regions: Vec<Region>,
    /// Which of it is code.
    pub(super) code: Range<u64>,
    pub(super) thread_locals: Option<ThreadLocals>,
    pub(super) unwind: Option<Unwind>,
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
    pub(super) fn new(
        order: &Order<'_>,
        sections: &mut [Section<'_>],
        page_size: u64,
        max_span: u64,
    ) -> Result<Self, Error> {
        if page_size < 4096 || !page_size.is_power_of_two() {
            return Err(Error::BadPageSize { page_size });
        }
        let mut layout = Layout {
            span: 0,
            align: page_size,
            regions: Vec::new(),
            code: 0..0,
            thread_locals: None,
            unwind: None,
        };
        // So that no sum of two offsets overflows.
        let max_span = max_span.min(i64::MAX as u64);
        let mut cursor = Cursor { at: 0, limit: max_span };
        for protection in [Protection::Read, Protection::ReadExecute, Protection::ReadWrite] {
            let start = cursor.at;
            for part in Part::ALL.into_iter().filter(|part| part.protection() == protection) {
                let list = &order.parts[part as usize];
                match part {
                    Part::Frames => layout.unwind = frames(&mut cursor, list, sections)?,
                    Part::Template => {
                        let zero = &order.parts[Part::TemplateZero as usize];
                        layout.thread_locals = thread_locals(&mut cursor, list, zero, sections)?;
                    }
                    Part::TemplateZero => {}
                    _ => list.iter().try_for_each(|index| cursor.place(&mut sections[*index as usize]))?,
                }
            }
            if cursor.at > start {
                cursor.align(page_size)?;
                layout.regions.push(Region { offset: start, len: cursor.at - start, protection });
                if protection == Protection::ReadExecute {
                    layout.code = start..cursor.at;
                }
            }
        }
        sections[own::END as usize].offset = cursor.at;
        layout.span = cursor.at;
        let largest = sections.iter().filter(|section| section.part().is_some() && section.size > 0);
        layout.align = largest.map(|section| section.align).fold(page_size, u64::max);
        if layout.align > max_span {
            return Err(Error::TooLarge { needed: layout.align, limit: max_span });
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
    let mut behind = Cursor { at: cursor.at, limit: cursor.limit };
    zero.iter().try_for_each(|index| behind.place(&mut sections[*index as usize]))?;
    Ok(Some(ThreadLocals { offset, initialised, size: behind.at - offset, align, skew: 0 }))
}
