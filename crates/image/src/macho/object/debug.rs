//! Names of all files, for debuggers and profilers. Nothing of it is needed to run the module, so
//! what is damaged here is left out, and harms nothing else.

use super::Objects;
use super::file::Home;
use crate::debug::{DebugInfo, Symbol, Symbols};
use crate::linking::section::Part;
use crate::macho::format::{DEBUG_OMITTED, LE};
use alloc::vec::Vec;
use object::macho;

impl<'data> Objects<'data> {
    /// The functions and variables of all files, exported or not.
    pub(super) fn names_of_all(&self) -> Symbols<'data> {
        let mut all = Symbols::default();
        for linked in &self.files {
            let names = linked.file.names_bytes;
            let Some(first) = all.add_names(names) else { break };
            for (index, entry) in (0..).zip(linked.file.symbols) {
                if entry.n_type & macho::N_STAB != 0 {
                    continue;
                }
                let Ok(Home::Section(section)) = linked.file.home(index) else { continue };
                let start = entry.n_strx.get(LE);
                // C's names have an underscore more here. What begins with another letter (`l`,
                // `L`) is the assembler's.
                if names.get(start as usize) == Some(&b'_')
                    && let Some(value) = linked.file.within(entry, section)
                    && let section = &self.sections[(linked.first_section + section) as usize]
                    && let Some(part) =
                        section.part().filter(|part| !part.thread_local() && *part != Part::Frames)
                    && let Some(name) = first.checked_add(start).and_then(|name| name.checked_add(1))
                {
                    let (function, offset) = (part == Part::Code, section.offset + value);
                    all.symbols.push(Symbol { name, function, offset, size: 0 });
                }
            }
        }
        let code = self.sections.iter().filter(|section| section.part() == Some(Part::Code));
        let mut ends: Vec<(u64, u64)> = code.map(|of| (of.offset, of.offset + of.size)).collect();
        ends.sort_unstable();
        super::super::symbols::size_functions(&mut all.symbols, |offset| {
            let after = ends.partition_point(|(start, _)| *start <= offset);
            ends[..after].last().map_or(offset, |(_, end)| offset.max(*end))
        });
        all
    }

    /// None: see [`DEBUG_OMITTED`].
    pub(super) fn debug_info(&self) -> DebugInfo<'data> {
        let has = self.files.iter().flat_map(|linked| &linked.file.sections);
        let any =
            has.clone().any(|header| header.segname.starts_with(b"__DWARF\0") && header.size.get(LE) != 0);
        DebugInfo { sections: Vec::new(), omitted: any.then_some(DEBUG_OMITTED) }
    }
}
