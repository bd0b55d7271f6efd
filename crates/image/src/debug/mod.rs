//! What a module says about its own code: names and debug information, for debuggers, profilers and
//! reports.

mod lines;
mod lists;
mod places;
mod relocate;
mod symfile;
mod tables;

use alloc::borrow::Cow;
use alloc::vec::Vec;

pub use lines::{Line, Lines};
pub(crate) use relocate::relocate;
pub(crate) use symfile::SymbolContents;

/// The names of a module's functions and variables, exported or not.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Symbols<'data> {
    /// The names, each ended by a zero byte. May hold others.
    pub names: Cow<'data, [u8]>,
    /// In no order.
    pub symbols: Vec<Symbol>,
}

/// A function or a variable of the image.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Symbol {
    /// Where its name begins in [`Symbols::names`], mangled as the compiler wrote it.
    pub name: u32,
    /// Whether it is a function; a variable if not.
    pub function: bool,
    /// From the start of the image.
    pub offset: u64,
    /// In bytes; 0 when the module does not say.
    pub size: u64,
}

impl<'data> Symbols<'data> {
    /// Puts more names behind those that there are. Returns where they begin; nothing if they are
    /// too many to count.
    pub(crate) fn add_names(&mut self, names: &'data [u8]) -> Option<u32> {
        let first = u32::try_from(self.names.len()).ok()?;
        match &mut self.names {
            Cow::Borrowed([]) => self.names = Cow::Borrowed(names),
            some => some.to_mut().extend(names),
        }
        Some(first)
    }

    /// The functions, by address, each under one of its names. One that does not say where it ends
    /// goes on to the next.
    pub fn functions(&self) -> Vec<Symbol> {
        let mut functions: Vec<Symbol> =
            self.symbols.iter().copied().filter(|symbol| symbol.function).collect();
        functions
            .sort_unstable_by_key(|symbol| (symbol.offset, core::cmp::Reverse(symbol.size), symbol.name));
        functions.dedup_by_key(|symbol| symbol.offset);
        for at in 1..functions.len() {
            if functions[at - 1].size == 0 {
                functions[at - 1].size = functions[at].offset - functions[at - 1].offset;
            }
        }
        functions.retain(|symbol| symbol.size != 0);
        functions
    }

    /// The name of one of the symbols; empty if it has none.
    pub fn name(&self, symbol: &Symbol) -> &[u8] {
        let names = self.names.get(symbol.name as usize..).unwrap_or_default();
        names.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

/// A module's debug information (DWARF). Every address in it is where the image is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DebugInfo<'data> {
    /// Those of [`SECTIONS`] that there are, each once: names and contents.
    pub sections: Vec<(&'static str, Cow<'data, [u8]>)>,
    /// Why there are none although the module has debug information.
    pub omitted: Option<&'static str>,
}

/// See [`Image::symbol_file`](crate::Image::symbol_file).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SymbolFile {
    /// An ELF file.
    pub bytes: Vec<u8>,
    /// Why it has no debug information although the module has some.
    pub omitted: Option<&'static str>,
}

impl DebugInfo<'_> {
    /// What is in a section; nothing if it is not there.
    pub fn section(&self, name: &str) -> &[u8] {
        let section = self.sections.iter().find(|(section, _)| *section == name);
        section.map_or(&[], |(_, contents)| contents)
    }
}

/// The sections of debug information that are handed on. Look-up tables (`.debug_aranges`,
/// `.debug_names`, `.gdb_index` and their like) are not: a debugger makes them itself.
pub const SECTIONS: [&str; 15] = [
    ".debug_abbrev",
    ".debug_addr",
    ".debug_frame",
    ".debug_info",
    ".debug_line",
    ".debug_line_str",
    ".debug_loc",
    ".debug_loclists",
    ".debug_macinfo",
    ".debug_macro",
    ".debug_ranges",
    ".debug_rnglists",
    ".debug_str",
    ".debug_str_offsets",
    ".debug_types",
];
