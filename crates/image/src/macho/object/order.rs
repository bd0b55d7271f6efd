//! In which order sections go, and what linkers define of it.

use super::file::Header;
use super::resolve::Linked;
use super::symbols::own;
use crate::Error;
use crate::error::label;
use crate::linking::calls::{Array, Calls};
use crate::linking::definition::{Definition, Spot};
use crate::linking::layout::Parts;
use crate::linking::section::{Part, Role, Section};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// A segment's name and a section's, as in the file: each ends with zeros, or has 16 bytes.
type Name = ([u8; 16], [u8; 16]);

/// The sections of the link that are kept, in the order in which they will stand, each part by
/// itself.
pub(super) struct Order {
    pub(super) parts: Parts,
    /// Those of one name, which stand together.
    sets: BTreeMap<Name, Set>,
    /// In the order of their calls.
    pub(super) init: Vec<Array>,
    pub(super) fini: Vec<Array>,
}

struct Set {
    /// In the order in which names come.
    turn: u32,
    first: u32,
    last: u32,
    part: Part,
    /// All are in the same part.
    whole: bool,
}

impl Order {
    pub(super) fn new(files: &[Linked<'_>], sections: &[Section<'_>]) -> Self {
        let mut order =
            Order { parts: Parts::default(), sets: BTreeMap::new(), init: Vec::new(), fini: Vec::new() };
        let mut all: [Vec<(u32, u32)>; Part::ALL.len()] = Default::default();
        for (index, section) in (0..).zip(&own::SECTIONS) {
            // The start of the image is first; common blocks and the like are not among others'
            // either.
            order.add(index, section, 0, &mut all);
        }
        for linked in files {
            for (index, header) in (linked.first_section..).zip(&linked.file.sections) {
                let section = &sections[index as usize];
                let Some(part) = section.part() else { continue };
                let turns = order.sets.len() as u32 + 1;
                let set = order.sets.entry(name(header)).or_insert(Set {
                    turn: turns,
                    first: index,
                    last: index,
                    part,
                    whole: true,
                });
                set.last = index;
                set.whole &= set.part == part;
                let turn = set.turn;
                if let Role::Calls(calls) = section.role {
                    let list = if calls.calls == Calls::Init { &mut order.init } else { &mut order.fini };
                    list.push(Array { section: index, backwards: false });
                }
                order.add(index, section, turn, &mut all);
            }
        }
        for (part, mut list) in order.parts.iter_mut().zip(all) {
            list.sort_by_key(|(turn, _)| *turn);
            part.extend(list.into_iter().map(|(_, index)| index));
        }
        order
    }

    fn add(
        &self,
        index: u32,
        section: &Section<'_>,
        turn: u32,
        all: &mut [Vec<(u32, u32)>; Part::ALL.len()],
    ) {
        // Call frame information goes behind everything else, when its length is known.
        if let Some(part) = section.part().filter(|part| *part != Part::Frames) {
            all[part as usize].push((turn, index));
        }
    }

    /// What a name stands for that linkers define where no file does.
    pub(super) fn definition(
        &self,
        symbol: &[u8],
        files: &[Linked<'_>],
        sections: &[Section<'_>],
    ) -> Result<Option<Definition>, Error> {
        let Ok(symbol) = core::str::from_utf8(symbol) else { return Ok(None) };
        let image = Spot { section: own::IMAGE, value: 0 };
        // What a module's destructors are registered under.
        if symbol == "___dso_handle" {
            return Ok(Some(Definition::Section(image)));
        }
        let bounds = |prefix| Some(symbol.strip_prefix(prefix)?.split_once('$'));
        let (start, found) = match (bounds("section$start$"), bounds("section$end$")) {
            (Some(found), _) => (true, found),
            (_, Some(found)) => (false, found),
            _ => return Ok(None),
        };
        let found = found.and_then(|(segment, section)| Some((padded(segment)?, padded(section)?)));
        let set = found.and_then(|name| self.sets.get(&name));
        // One that no file has is empty.
        let Some(set) = set else { return Ok(Some(Definition::Section(image))) };
        if !set.whole || set.part == Part::Frames {
            let linked = files.iter().rev().find(|linked| linked.first_section <= set.first);
            let section = linked.map(|linked| linked.file.section_label(set.first - linked.first_section));
            return Err(Error::UnsupportedSection {
                section: label(section.unwrap_or_default()),
                problem: "is not of one kind in all files, and code wants its bounds: build the files alike",
            });
        }
        let (section, value) =
            if start { (set.first, 0) } else { (set.last, sections[set.last as usize].size) };
        Ok(Some(Definition::Section(Spot { section, value })))
    }
}

fn name(header: &Header) -> Name {
    (header.segname, header.sectname)
}

fn padded(name: &str) -> Option<[u8; 16]> {
    let mut padded = [0; 16];
    padded.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
    Some(padded)
}
