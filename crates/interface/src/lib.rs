//! PLACEHOLDER
#![forbid(unsafe_code)]

mod compare;
mod dwarf;
mod report;
mod text;
mod types;

use dwarf::{Build, Data, Raw, Wanted};
use midflight_image::{Image, Input};
use types::{Id, Types};

pub use midflight_image::{Error, ExportKind, ImportKind, Machine};
pub use report::{Aspect, Difference, Kind, Report, Verdict};

/// What a module's files say of it. It owns all that, and is small: a few hundred kilobytes for a large library.
#[derive(Clone, Debug)]
pub struct Interface {
    machine: Machine,
    /// By name.
    exports: Box<[Export]>,
    imports: Box<[Import]>,
    needed: Box<[Box<str>]>,
    known: Result<Known, &'static str>,
}

/// What only debug information says.
#[derive(Clone, Debug)]
struct Known {
    types: Types,
    data: Box<[Data]>,
}

/// A symbol that the module defines for others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Export {
    /// As the linker knows it (mangled).
    pub name: Box<str>,
    /// What it is.
    pub kind: ExportKind,
    /// In bytes; 0 when the module does not say.
    pub size: u64,
    /// A function's type; of a variable anything.
    described: Option<Id>,
}

/// A symbol that the module uses and does not define.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Import {
    /// As the linker knows it (mangled).
    pub name: Box<str>,
    /// The version that was there when the module was linked, such as `GLIBC_2.17`.
    pub version: Option<Box<str>>,
    /// It may stay undefined.
    pub weak: bool,
    /// What it is known to be.
    pub kind: ImportKind,
}

impl Export {
    /// Whether debug information should say something of it, and does not.
    fn undescribed(&self) -> bool {
        let made_by_tools = match self.kind {
            ExportKind::Function | ExportKind::Indirect => matches!(&*self.name, "_init" | "_fini"),
            // Where sections begin and end.
            ExportKind::Data | ExportKind::ThreadLocal => self.size == 0,
        };
        // Of C++: tables, type information and thunks; guards and temporaries.
        let made_by_compiler = ["_ZT", "_ZGV", "_ZGR"].iter().any(|prefix| self.name.starts_with(prefix));
        self.described.is_none() && !made_by_tools && !made_by_compiler
    }
}

impl Interface {
    /// Reads a shared object, or the object files and archives of one module, as
    /// [`Image::parse_all`] does, and refuses what that refuses. Debug information that is missing, damaged or not supported is
    /// no error: [`has_debug_info`](Self::has_debug_info) and [`Report::reason`] say so.
    pub fn read(files: &[Input<'_>], machine: Machine) -> Result<Self, Error> {
        // Nothing is laid out for memory here: the smallest page, and any size.
        const PAGE_SIZE: u64 = 4096;
        const MAX_SPAN: u64 = 1 << 40;
        Ok(Self::of(&Image::parse_all(files, machine, PAGE_SIZE, MAX_SPAN)?))
    }

    /// As [`read`](Self::read), of a module that has been parsed already; from all of its files' bytes, as what
    /// [`Image::loaded_length`] leaves out is the debug information.
    pub fn of(image: &Image<'_>) -> Self {
        let base = base(image);
        let mut exports = image.exports();
        exports.sort_unstable_by_key(|export| export.name);
        exports.dedup_by_key(|export| export.name);
        let wanted: Vec<Wanted<'_>> = exports
            .iter()
            .map(|export| Wanted {
                name: export.name,
                // Of the others it is where something else is.
                address: matches!(export.kind, ExportKind::Function | ExportKind::Data)
                    .then(|| base.wrapping_add(export.offset)),
                function: matches!(export.kind, ExportKind::Function | ExportKind::Indirect),
            })
            .collect();
        let (known, described) = match describe(image, base, &wanted) {
            Ok((known, described)) => (Ok(known), described),
            Err(reason) => (Err(reason), vec![None; wanted.len()]),
        };
        let export = |(export, described): (&midflight_image::Export<'_>, Option<Id>)| Export {
            name: export.name.into(),
            kind: export.kind,
            size: export.size,
            described,
        };
        let import = |import: &midflight_image::Import<'_>| Import {
            name: import.name.into(),
            version: import.version.map(Into::into),
            weak: import.weak,
            kind: import.kind,
        };
        Self {
            machine: image.machine(),
            exports: exports.iter().zip(described).map(export).collect(),
            imports: image.imports().iter().map(import).collect(),
            needed: image.needed().iter().map(|name| (*name).into()).collect(),
            known,
        }
    }

    /// What the module uses and does not define, in the order of its symbol table.
    pub fn imports(&self) -> impl Iterator<Item = &Import> {
        self.imports.iter()
    }

    /// What it defines for others, by name.
    pub fn exports(&self) -> impl Iterator<Item = &Export> {
        self.exports.iter()
    }

    /// The export of this name.
    pub fn export(&self, name: &str) -> Option<&Export> {
        let at = self.exports.binary_search_by(|export| (*export.name).cmp(name));
        at.ok().map(|at| &self.exports[at])
    }

    /// The libraries that it was linked with, which its imports are looked for in.
    pub fn needed(&self) -> impl Iterator<Item = &str> {
        self.needed.iter().map(|name| &**name)
    }

    /// Whether there is debug information that can be used.
    pub fn has_debug_info(&self) -> bool {
        self.known.is_ok()
    }

    /// Bytes of memory that this takes, about: for who keeps many.
    pub fn memory(&self) -> usize {
        let names: usize = self.exports.iter().map(|export| export.name.len()).sum();
        let imports: usize = self.imports.iter().map(|import| import.name.len()).sum();
        let known = self.known.as_ref().map_or(0, |known| {
            let names: usize = known.data.iter().map(|data| data.name.len()).sum();
            known.types.memory() + size_of_val(&*known.data) + names
        });
        names + imports + known + size_of_val(&*self.exports) + size_of_val(&*self.imports)
    }

    /// How a newer version differs from this one. Of the differences so many are listed.
    pub fn compare(&self, newer: &Interface, limit: usize) -> Report {
        compare::compare(self, newer, limit)
    }
}

/// Where the addresses in debug information are true: a shared object's own numbering, in which nothing has to be moved. Object
/// files have none; anywhere but 0, which stands for what linking drops.
fn base(image: &Image<'_>) -> u64 {
    match image.bias(0) {
        Some(bias) => bias.wrapping_neg(),
        None => image.align().max(1 << 32),
    }
}

fn describe(
    image: &Image<'_>,
    base: u64,
    wanted: &[Wanted<'_>],
) -> Result<(Known, Vec<Option<Id>>), &'static str> {
    let debug = image.debug(base);
    if let Some(reason) = debug.omitted {
        return Err(reason);
    }
    let size: usize = debug.sections.iter().map(|(_, contents)| contents.len()).sum();
    if debug.section(".debug_info").is_empty() {
        return Err("there is none: build the module with -g, and do not strip it");
    }
    let found = Build::new(&Raw::read(&debug)?, size, image.thread_locals().is_some()).find(wanted)?;
    Ok((Known { types: found.types, data: found.data.into() }, found.exports))
}
