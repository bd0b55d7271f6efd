//! The symbol table (`nlist_64`): names of functions and variables for debuggers and profilers, and
//! the exports of a file without a trie. Apple's <mach-o/nlist.h>.

use super::commands::range;
use super::segments::Layout;
use crate::Error;
use crate::debug::{Symbol, Symbols};
use crate::macho::format::{LE, malformed, table_of};
use alloc::borrow::Cow;
use alloc::vec::Vec;
use object::macho;

const TABLE: &str = "symbol table (LC_SYMTAB)";

type Nlist = macho::Nlist64<LE>;

pub(super) struct SymbolTable<'data> {
    names: &'data [u8],
    entries: &'data [Nlist],
}

/// A symbol that others may use.
pub(super) struct Exported<'data> {
    pub(super) name: &'data str,
    /// `N_SECT`, `N_ABS` or `N_INDR`.
    pub(super) kind: u8,
    pub(super) value: u64,
}

impl<'data> SymbolTable<'data> {
    pub(super) fn parse(bytes: &'data [u8], symtab: &macho::SymtabCommand<LE>) -> Result<Self, Error> {
        let names = range(bytes, symtab.stroff.get(LE), symtab.strsize.get(LE), TABLE)?;
        let (start, count) = (symtab.symoff.get(LE), symtab.nsyms.get(LE) as usize);
        let entries: &[Nlist] = table_of(bytes.get(start as usize..).unwrap_or_default(), count);
        if entries.len() < count {
            return Err(malformed(TABLE, "it goes past the end of the file", start.into()));
        }
        Ok(Self { names, entries })
    }

    /// The name; `None` if it is no text, which nobody can ask for.
    fn name_of(&self, entry: &Nlist) -> Result<Option<&'data str>, Error> {
        let start = entry.n_strx.get(LE);
        let wrong = |problem| malformed(TABLE, problem, start.into());
        let rest = self.names.get(start as usize..).ok_or(wrong("a name is outside the table of names"))?;
        let end = rest.iter().position(|byte| *byte == 0).ok_or(wrong("a name has no end"))?;
        Ok(core::str::from_utf8(&rest[..end]).ok())
    }

    /// The name of a symbol, if it has one that is not longer than `room`, which is less by it
    /// afterwards.
    pub(super) fn name(&self, index: u32, room: &mut usize) -> Option<&'data str> {
        let start = self.entries.get(index as usize)?.n_strx.get(LE) as usize;
        let rest = self.names.get(start..)?;
        let rest = &rest[..rest.len().min(*room)];
        let end = rest.iter().position(|byte| *byte == 0);
        *room -= end.map_or(rest.len(), |end| end + 1);
        core::str::from_utf8(&rest[..end?]).ok()
    }

    pub(super) fn exported(&self) -> impl Iterator<Item = Result<Exported<'data>, Error>> {
        let visible = |entry: &&Nlist| {
            let others = macho::N_STAB | macho::N_PEXT | macho::N_EXT;
            let kind = entry.n_type & macho::N_TYPE;
            entry.n_type & others == macho::N_EXT
                && matches!(kind, macho::N_SECT | macho::N_ABS | macho::N_INDR)
        };
        self.entries.iter().filter(visible).filter_map(|entry| {
            let (kind, value) = (entry.n_type & macho::N_TYPE, entry.n_value.get(LE));
            let name = self.name_of(entry).transpose()?;
            Some(name.map(|name| Exported { name, kind, value }))
        })
    }

    /// Whether it has a debug map: the object files, which hold the debug information.
    pub(super) fn has_debug_map(&self) -> bool {
        self.entries.iter().any(|entry| entry.n_type == macho::N_OSO)
    }

    /// For debuggers: nothing of it is needed to run the module, so what is damaged is left out,
    /// and harms nothing else.
    pub(super) fn symbols(&self, layout: &Layout<'data>) -> Symbols<'data> {
        let mut symbols = Vec::with_capacity(self.entries.len());
        for entry in self.entries {
            // Not of debug maps, and defined in a section.
            if entry.n_type & macho::N_STAB != 0 || entry.n_type & macho::N_TYPE != macho::N_SECT {
                continue;
            }
            let (name, address) = (entry.n_strx.get(LE), entry.n_value.get(LE));
            let Some(offset) = layout.offset(address) else { continue };
            // C's names have an underscore more in the file.
            let name = name + u32::from(self.names.get(name as usize) == Some(&b'_'));
            symbols.push(Symbol { name, function: layout.sections.is_code(address), offset, size: 0 });
        }
        size_functions(&mut symbols, |offset| layout.code_end(offset));
        Symbols { names: Cow::Borrowed(self.names), symbols }
    }
}

/// The tables have no sizes: a function goes on to the next, or to the end of its section.
pub(super) fn size_functions(symbols: &mut [Symbol], section_end: impl Fn(u64) -> u64) {
    let of_function = |symbol: &&Symbol| symbol.function;
    let mut starts: Vec<u64> = symbols.iter().filter(of_function).map(|symbol| symbol.offset).collect();
    starts.sort_unstable();
    for symbol in symbols.iter_mut().filter(|symbol| symbol.function) {
        let next = starts.get(starts.partition_point(|start| *start <= symbol.offset));
        let end = section_end(symbol.offset);
        symbol.size = next.map_or(end, |next| end.min(*next)) - symbol.offset;
    }
}
