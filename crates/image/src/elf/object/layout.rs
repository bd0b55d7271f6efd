//! In which order sections go, and what linkers define of it.

use super::resolve::Linked;
use super::symbols::own;
use crate::Error;
use crate::error::label;
use crate::linking::calls::{Array, Calls};
use crate::linking::definition::{Definition, Spot};
use crate::linking::layout::Parts;
use crate::linking::section::{Part, Role, Section, State};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// What code finds several of its own thread-local variables from.
pub(super) const BLOCK: &str = "_TLS_MODULE_BASE_";

/// The sections of the link that are kept, in the order in which they will stand, each part by
/// itself.
#[derive(Default)]
pub(super) struct Order<'data> {
    pub(super) parts: Parts,
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
                        continue;
                    }
                }
                order.add(index, section);
            }
        }
        let sets = core::mem::take(&mut order.sets);
        for (name, set) in &sets {
            let part = common_part(name, set, sections)?;
            for index in set {
                sections[*index as usize].state = State::Kept(part);
                order.add(*index, &sections[*index as usize]);
            }
        }
        order.sets = sets;
        for (list, sorted) in [(&mut order.init, &mut init), (&mut order.fini, &mut fini)] {
            sorted.sort_by_key(|(priority, _)| *priority);
            list.extend(sorted.iter().map(|(_, array)| *array));
        }
        // Those of a kind stand together, so that they have bounds.
        let arrays: Vec<u32> = order.init.iter().chain(&order.fini).map(|array| array.section).collect();
        arrays.into_iter().for_each(|index| order.add(index, &sections[index as usize]));
        Ok(order)
    }

    fn add(&mut self, index: u32, section: &Section<'_>) {
        if let Some(part) = section.part() {
            self.parts[part as usize].push(index);
        }
    }

    /// What a name stands for that linkers define where no file does: those that GNU ld's script
    /// for shared objects has, and lld beyond it.
    pub(super) fn definition(&self, name: &[u8], sections: &[Section<'_>]) -> Option<Definition> {
        let name = core::str::from_utf8(name).ok()?;
        let section = match name {
            // What a module's destructors are registered under.
            "__dso_handle" => own::IMAGE,
            "_GLOBAL_OFFSET_TABLE_" => own::TABLE,
            BLOCK => own::TEMPLATE,
            "__executable_start" => own::IMAGE,
            "etext" | "_etext" | "__etext" => own::CODE_END,
            "__data_start" => own::DATA,
            "edata" | "_edata" | "__bss_start" | "__bss_start__" => own::ZERO,
            "end" | "_end" | "__end__" | "_bss_end__" | "__bss_end__" => own::END,
            // Before any library's constructors are only a program's.
            "__preinit_array_start" | "__preinit_array_end" => own::IMAGE,
            "__init_array_start" => return Some(first(&self.init)),
            "__init_array_end" => return Some(last(&self.init, sections)),
            "__fini_array_start" => return Some(first(&self.fini)),
            "__fini_array_end" => return Some(last(&self.fini, sections)),
            _ if !name.starts_with("__st") => return None,
            _ => {
                if let Some(set) = name.strip_prefix("__start_").and_then(|name| self.sets.get(name)) {
                    return Some(Definition::Section(Spot { section: *set.first()?, value: 0 }));
                }
                let set = name.strip_prefix("__stop_").and_then(|name| self.sets.get(name))?;
                let section = *set.last()?;
                return Some(Definition::Section(Spot { section, value: sections[section as usize].size }));
            }
        };
        Some(Definition::Section(Spot { section, value: 0 }))
    }
}

/// Whether a name is that of a linker's own table, of which an image that is linked here has none.
pub(super) fn is_table_of_linkers(name: &[u8]) -> bool {
    matches!(name, b"__ehdr_start" | b"_DYNAMIC" | b"__GNU_EH_FRAME_HDR")
}

/// Where a list of arrays begins; one that is empty is at the start of the image.
fn first(list: &[Array]) -> Definition {
    Definition::Section(Spot { section: list.first().map_or(own::IMAGE, |array| array.section), value: 0 })
}

/// Where it ends.
fn last(list: &[Array], sections: &[Section<'_>]) -> Definition {
    let section = list.last().map_or(own::IMAGE, |array| array.section);
    Definition::Section(Spot { section, value: sections[section as usize].size })
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
