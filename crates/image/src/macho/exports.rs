//! What the module defines for others: the export trie, or the symbol table of a file that has
//! none. Apple's <mach-o/loader.h>, at `dyld_info_command` and `EXPORT_SYMBOL_FLAGS_KIND_MASK`.
//!
//! Names are spelled along the trie's edges, so they are nowhere in the file as a whole: they are
//! kept here.

use super::bytes::{Cursor, c_name};
use super::sections::holds;
use super::segments::Layout;
use super::symbols::SymbolTable;
use super::tls::Variables;
use crate::error::label;
use crate::macho::format::malformed;
use crate::{Error, Export, ExportKind};
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Ordering;
use object::macho;

pub(super) const TABLE: &str = "export trie";

/// What a name stands for in the module itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Definition {
    /// At this address of the file: a function or a variable.
    Here(u64),
    /// The descriptor of a thread-local variable is at this address of the file.
    ThreadLocal(u64),
    /// This number, wherever the image is.
    Absolute(u64),
}

struct Entry {
    /// Where its name is in `names`.
    start: u32,
    end: u32,
    definition: Definition,
}

/// Ascending by name.
#[derive(Default)]
pub(super) struct Exports {
    names: String,
    entries: Vec<Entry>,
    /// For the names, in bytes.
    room: usize,
}

/// How much longer the names may be than the file, of which they share the beginnings.
const MOST: usize = 16;

const REEXPORTED: &str =
    "is exported from another library: link without re-exported symbols, and let others link that library";
const UNKNOWN_KIND: &str =
    "is exported in a way that is not known here: link for macOS 11 with a linker of this platform";

impl Exports {
    fn with_room(file_size: usize) -> Self {
        Self { room: file_size.saturating_mul(MOST).min(u32::MAX as usize), ..Self::default() }
    }

    /// `file_size` bounds how much memory the names may take.
    pub(super) fn from_trie(
        trie: &[u8],
        layout: &Layout<'_>,
        variables: &Variables,
        file_size: usize,
    ) -> Result<Self, Error> {
        let mut exports = Self::with_room(file_size);
        if trie.is_empty() {
            return Ok(exports);
        }
        // Nodes still to be read: where, how long the name is that leads to it, and the last edge
        // of that.
        let mut todo: Vec<(u64, usize, &[u8])> = alloc::vec![(0, 0, &[])];
        let mut name: Vec<u8> = Vec::new();
        let mut read = 0;
        while let Some((at, prefix, edge)) = todo.pop() {
            name.truncate(prefix);
            name.extend_from_slice(edge);
            let mut node = Cursor::at(TABLE, trie, at)?;
            let size = node.uleb()?;
            let terminal = node.position() as u64;
            let after = terminal.checked_add(size).ok_or_else(|| node.wrong("a node goes past its end"))?;
            if size != 0 {
                // What is no text nobody can ask for.
                let text = core::str::from_utf8(&name).ok();
                let definition = terminal_node(&mut node, text.unwrap_or_default(), layout, variables)?;
                if node.position() as u64 > after {
                    return Err(node.wrong("a node is longer than it says"));
                }
                if let Some(text) = text {
                    exports.add(text, definition).map_err(|problem| node.wrong(problem))?;
                }
            }
            let mut children = Cursor::at(TABLE, trie, after)?;
            for _ in 0..children.byte()? {
                let edge = children.string()?;
                todo.push((children.uleb()?, name.len(), edge));
            }
            // No byte belongs to two nodes. So a trie that goes in circles, or shares what its
            // nodes have, ends here.
            read += children.position() - at as usize;
            if read > trie.len() {
                return Err(malformed(TABLE, "its nodes overlap", at));
            }
        }
        exports.sorted(TABLE)
    }

    /// Of a file without a trie, which nothing has linked since macOS 10.6.
    pub(super) fn from_symbols(
        symbols: &SymbolTable<'_>,
        layout: &Layout<'_>,
        variables: &Variables,
        file_size: usize,
    ) -> Result<Self, Error> {
        let mut exports = Self::with_room(file_size);
        for symbol in symbols.exported() {
            let symbol = symbol?;
            let definition = match symbol.kind {
                macho::N_ABS => Definition::Absolute(symbol.value),
                macho::N_SECT => here(symbol.name, symbol.value, layout, variables)?,
                _ => {
                    return Err(Error::UnsupportedSymbol { symbol: label(symbol.name), problem: REEXPORTED });
                }
            };
            exports
                .add(symbol.name, definition)
                .map_err(|problem| malformed("symbol table", problem, symbol.value))?;
        }
        exports.sorted("symbol table")
    }

    fn add(&mut self, name: &str, definition: Definition) -> Result<(), &'static str> {
        if name.len() > self.room - self.names.len() {
            return Err("its names are made of one another");
        }
        let start = self.names.len() as u32;
        self.names.push_str(name);
        self.entries.push(Entry { start, end: self.names.len() as u32, definition });
        Ok(())
    }

    fn sorted(mut self, table: &'static str) -> Result<Self, Error> {
        let names = &self.names;
        let text = |entry: &Entry| &names[entry.start as usize..entry.end as usize];
        self.entries.sort_unstable_by(|one, other| text(one).cmp(text(other)));
        match self.entries.windows(2).position(|pair| text(&pair[0]) == text(&pair[1])) {
            Some(at) => Err(malformed(table, "a name is defined twice", at as u64)),
            None => Ok(self),
        }
    }

    fn name(&self, entry: &Entry) -> &str {
        &self.names[entry.start as usize..entry.end as usize]
    }

    fn find(&self, compare: impl Fn(&str) -> Ordering) -> Option<&Entry> {
        let at = self.entries.binary_search_by(|entry| compare(self.name(entry)));
        at.ok().map(|at| &self.entries[at])
    }

    /// What a symbol stands for, as the file has it.
    pub(super) fn definition(&self, symbol: &str) -> Option<Definition> {
        self.find(|name| name.cmp(symbol)).map(|entry| entry.definition)
    }

    /// What a name of C's stands for.
    fn entry_of_c(&self, name: &str) -> Option<&Entry> {
        self.find(|symbol| symbol.bytes().cmp([b'_'].into_iter().chain(name.bytes())))
    }

    /// What others call it. A symbol without underscore, which only assembly has, is called what it
    /// is, unless C has something of that name.
    fn shown(&self, entry: &Entry) -> Option<&str> {
        let symbol = self.name(entry);
        match c_name(symbol) {
            Some(name) => Some(name),
            None if symbol.is_empty() || symbol == "_" => None,
            None => Some(symbol).filter(|symbol| self.entry_of_c(symbol).is_none()),
        }
    }

    /// As others see it: absolute symbols have no place in the image.
    fn export(&self, entry: &Entry, layout: &Layout<'_>, variables: &Variables) -> Option<Export<'_>> {
        let (offset, kind) = match entry.definition {
            Definition::Absolute(_) => return None,
            Definition::ThreadLocal(descriptor) => {
                (variables.find(descriptor)?.into(), ExportKind::ThreadLocal)
            }
            Definition::Here(address) => {
                let function = layout.sections.is_code(address);
                let kind = if function { ExportKind::Function } else { ExportKind::Data };
                (layout.offset(address)?, kind)
            }
        };
        Some(Export { name: self.shown(entry)?, offset, size: 0, kind })
    }

    pub(super) fn list(&self, layout: &Layout<'_>, variables: &Variables) -> Vec<Export<'_>> {
        self.entries.iter().filter_map(|entry| self.export(entry, layout, variables)).collect()
    }

    /// By the name that others call it.
    pub(super) fn get(&self, name: &str, layout: &Layout<'_>, variables: &Variables) -> Option<Export<'_>> {
        let entry = match self.entry_of_c(name) {
            Some(entry) => entry,
            None => self.find(|symbol| symbol.cmp(name)).filter(|_| c_name(name).is_none())?,
        };
        self.export(entry, layout, variables)
    }
}

/// What is at an address.
fn here(symbol: &str, address: u64, layout: &Layout<'_>, variables: &Variables) -> Result<Definition, Error> {
    let bad = |problem| Err(Error::BadSymbol { symbol: label(symbol), problem, value: address });
    if layout.offset(address).is_none() {
        return bad("is outside the image");
    }
    if holds(&layout.sections.descriptors, address) {
        return match variables.find(address) {
            Some(_) => Ok(Definition::ThreadLocal(address)),
            None => bad("is inside the descriptor of a thread-local variable"),
        };
    }
    Ok(Definition::Here(address))
}

/// What a terminal node says.
fn terminal_node(
    node: &mut Cursor<'_>,
    symbol: &str,
    layout: &Layout<'_>,
    variables: &Variables,
) -> Result<Definition, Error> {
    let refuse = |problem| Err(Error::UnsupportedSymbol { symbol: label(symbol), problem });
    let Ok(flags) = u32::try_from(node.uleb()?) else { return refuse(UNKNOWN_KIND) };
    if flags & macho::EXPORT_SYMBOL_FLAGS_REEXPORT != 0 {
        return refuse(REEXPORTED);
    }
    if flags & macho::EXPORT_SYMBOL_FLAGS_STUB_AND_RESOLVER != 0 {
        return refuse(
            "is chosen by code when it is first used (a resolver): choose by a pointer of the module's own",
        );
    }
    let known = macho::EXPORT_SYMBOL_FLAGS_KIND_MASK | macho::EXPORT_SYMBOL_FLAGS_WEAK_DEFINITION;
    if flags & !known != 0 {
        return refuse(UNKNOWN_KIND);
    }
    let value = node.uleb()?;
    let address = layout.header.wrapping_add(value);
    match flags & macho::EXPORT_SYMBOL_FLAGS_KIND_MASK {
        macho::EXPORT_SYMBOL_FLAGS_KIND_REGULAR => here(symbol, address, layout, variables),
        macho::EXPORT_SYMBOL_FLAGS_KIND_ABSOLUTE => Ok(Definition::Absolute(value)),
        macho::EXPORT_SYMBOL_FLAGS_KIND_THREAD_LOCAL => match here(symbol, address, layout, variables)? {
            Definition::ThreadLocal(descriptor) => Ok(Definition::ThreadLocal(descriptor)),
            _ => Err(Error::BadSymbol {
                symbol: label(symbol),
                problem: "is thread-local, and there is no descriptor of a variable",
                value,
            }),
        },
        _ => refuse(UNKNOWN_KIND),
    }
}
