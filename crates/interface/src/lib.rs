//! What a native module's file says of itself, and how two versions of it differ.
//!
//! Before a module is replaced in a running process there are three questions, and an answer to one
//! of them is no answer to another. So a [`Report`] has three verdicts, which are never merged:
//!
//! * **links**: will everything that found its symbols in the older version find them in the newer
//!   one? That is a question of the symbol table: exports that are gone, functions that have become
//!   variables or the reverse, variables that have another size (who was linked with the older one
//!   may have set memory aside for it). New exports are said, and break nothing. Imports that
//!   nobody defines are known to who links, who adds them by [`Report::unresolved`].
//! * **calls**: does code that was compiled against the older version call the newer one rightly?
//!   That takes debug information: the parameters and the result of each exported function, and the
//!   structures in them as far as callers can see into them.
//! * **state**: does the newer version find its data as it expects them, where the older one has
//!   left them? That is every type that the module's own variables lead to (those of files and of
//!   functions too), and that its exported functions are given or give back, to any depth and
//!   whether callers can see into it or not. A library can keep the first two promises in every
//!   release and break this one each time: a program that is started anew with zstd 1.5.6 in place
//!   of 1.5.5 works as before, and a context that was made by the one and is used by the other is
//!   misread. Only a hot reload asks this question.
//!
//! # What is compared
//!
//! Types are compared by what they are, not by what they are called: kind, size, encoding (so
//! signedness), the members with names, offsets, bit fields and types, bases and the places of
//! virtual functions, array bounds, values of enumerations, what pointers point to, and the
//! parameters of functions that are called back. Typedefs, `const` and `volatile`, the order of
//! declarations, the names of structures with members in sight, `long` against `long long` of the
//! same size, and which compiler it was do not matter. A member that has only been renamed is a
//! difference: where it is now another thing, nothing else would tell.
//!
//! A structure that has changed is named once for each question, however many functions and
//! structures lead to it, together with the first that does. What contains it is named only if it
//! has changed itself, in size or in where its members are.
//!
//! Some differences are listed and break nothing ([`Difference::compatible`]): exports and
//! variables that are new, variables that are gone, names that an enumeration has gained, tables of
//! constants that have grown. A name that an enumeration has lost breaks state, as data may hold
//! its value; callers who pass the value are refused as with any other that is not known, so it
//! does not break calls, unless its number now means something else.
//!
//! # What callers can see
//!
//! A structure that is passed or returned by value, or is part of one, is seen. Of one that is
//! pointed to, debug information does not say whether its definition was in a header that callers
//! include. It is taken to be opaque, and compared by name only, if one of these holds in the older
//! version, which callers were compiled against:
//!
//! 1. The pointer is to a typedef that is in another file than the definition of the structure
//!    (`typedef struct ZSTD_CCtx_s ZSTD_CCtx;` in `zstd.h`, the structure in an internal header).
//! 2. Some unit of the module does with a declaration of it, without the definition (`struct
//!    internal_state` of zlib, which `zlib.h` declares and `deflate.h` defines). Not counted are
//!    C++ units by clang, which leaves definitions out of debug information that the source has.
//! 3. A structure in a header points to it, and it is defined in the compiled source itself (`class
//!    Impl` of C++).
//!
//! All others are seen. The rule can be wrong, and then errs in *calls* alone: *state* looks into
//! everything that can be reached. Nothing that changed is lost; it is found under the other
//! question.
//!
//! # What is not known
//!
//! Where debug information is missing, damaged, compressed or in other files (`-gsplit-dwarf`,
//! dwz), for a whole version or for one exported function, calls and state are
//! [`Verdict::Unknown`], never compatible, and [`Report::reason`] says why. For an exported
//! variable it is state alone. An
//! incompatibility that is found nevertheless outweighs that.
//!
//! Where it has lines and no types (`-g1`, `-gline-tables-only`) the same holds; of one unit of
//! several, for what that unit exports and for state, as it may have variables.
//!
//! State may also hold addresses of the version that made it: of functions and tables of virtual
//! ones (C++ and Rust's `dyn`), or through pointers to what is constant, such as texts. What is
//! laid out as before then leads into a version that may be gone, whatever has changed. So state
//! that is reached and may hold one is unknown, and the reason names the first member; not looked
//! at are parameters and results themselves, which last no longer than a frame, and constants,
//! which belong to their version.
//!
//! And some things no debug information says, so that no verdict speaks of them: macros, and inline
//! functions that callers have copies of; what a function does, and what the numbers it takes mean;
//! what is behind `void *` and in arrays of bytes that are used as storage; which member of a union
//! is the active one; how much follows a flexible array member; variables that the optimizer has
//! taken apart, and those of static libraries that were compiled without debug information and
//! export nothing. Of thread-local variables inside functions gcc does not say on AArch64 that they
//! are any.
//!
//! Of C++ two more. Inline functions and instances of templates are exported by every module that
//! has them, and count as removed by a version that does without, though who used one may have a
//! copy of its own. And compilers differ in what they call the members of closures, so that the
//! same source by gcc and by clang differs where closures are reached. And of classes that clang
//! leaves undefined in all of a module's units, as their virtual functions are elsewhere, nothing
//! is known but the name.
//!
//! # How it is read
//!
//! ```text
//! files -> midflight_image::Image     exports, imports; debug information with its relocations applied
//!       -> dwarf/units.rs             units, their abbreviations and files
//!       -> dwarf/entries.rs           all entries once, from front to back: types by offset, parts with their types
//!       -> dwarf/build.rs             what exports and variables lead to: typedefs left out, declarations joined with definitions
//!       -> dwarf/merge.rs             each type once
//!       =  Interface                  owned and small; what a cache keeps of each version
//!       -> compare.rs                 two of them, pair by pair from the same roots
//!       -> own.rs                     whether what the older one leaves may lead into it
//!       =  Report
//! ```
//!
//! DWARF 4 and 5 of C, C++ and Rust, type units included. Files may be hostile: nothing recurses by
//! what they say, each byte of debug information is read a bounded number of times, and a
//! comparison takes a number of steps that is in proportion to both files, after which it answers
//! that it cannot tell.
#![forbid(unsafe_code)]

mod compare;
mod dwarf;
mod functions;
mod layouts;
mod own;
mod places;
mod report;
mod text;
mod types;
mod variables;

use dwarf::{Build, Data, Found, Raw, Wanted};
use midflight_image::{Image, Input, Protection};
use places::Places;
use types::{Id, Types};

pub use functions::{ChangedFunctions, LinkedCode};
pub use midflight_image::{Error, ExportKind, ImportKind, Machine};
pub use midflight_migrate::{Layouts, TypeId};
pub use report::{Aspect, Difference, Kind, Report, Verdict};
pub use variables::{Variable, VariablePlace, Variables};

/// What a module's files say of it. It owns all that, and is small: a few hundred kilobytes for a
/// large library.
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
    places: Places,
    /// The source of a unit that has lines only.
    untyped: Option<Box<str>>,
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
    /// Of a function, the type that the module was compiled with, if it was one.
    signature: Option<Box<str>>,
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
    /// [`Image::parse_all`] does, and refuses what that refuses. Debug information that is missing,
    /// damaged or not supported is no error: [`has_debug_info`](Self::has_debug_info) and
    /// [`Report::reason`] say so.
    pub fn read(files: &[Input<'_>], machine: Machine) -> Result<Self, Error> {
        // Nothing is laid out for memory here: the smallest page, and any size.
        const PAGE_SIZE: u64 = 4096;
        const MAX_SPAN: u64 = 1 << 40;
        Ok(Self::of(&Image::parse_all(files, machine, PAGE_SIZE, MAX_SPAN)?))
    }

    /// As [`read`](Self::read), of a module that has been parsed already; from all of its files'
    /// bytes, as what [`Image::loaded_length`] leaves out is the debug information.
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
        let used: Vec<_> = image.imports().iter().filter(|import| import.own.is_none()).collect();
        let names: Vec<&str> = used.iter().map(|import| import.name).collect();
        let (known, described, signatures) = match describe(image, base, &wanted, &names) {
            Ok((known, described, declared)) => {
                let signature = |ids: Vec<Id>| known.types.signature_of_all(&ids).map(String::into_boxed_str);
                let signatures = declared.into_iter().map(signature).collect();
                (Ok(known), described, signatures)
            }
            Err(reason) => (Err(reason), vec![None; wanted.len()], vec![None; names.len()]),
        };
        let export = |(export, described): (&midflight_image::Export<'_>, Option<Id>)| Export {
            name: export.name.into(),
            kind: export.kind,
            size: export.size,
            described,
        };
        let import = |(import, signature): (&midflight_image::Import<'_>, Option<Box<str>>)| Import {
            name: import.name.into(),
            version: import.version.map(Into::into),
            weak: import.weak,
            kind: import.kind,
            signature,
        };
        Self {
            machine: image.machine(),
            exports: exports.iter().zip(described).map(export).collect(),
            imports: used.into_iter().zip(signatures).map(import).collect(),
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

    /// The type of a function that it defines for others, as C writes it: `int (int)`. Const and
    /// typedefs are left out, and of structures there is only the name. None if debug information
    /// does not say, or if it is too long to be said whole.
    pub fn signature(&self, export: &str) -> Option<String> {
        let at = self.exports.binary_search_by(|of| (*of.name).cmp(export)).ok()?;
        let types = &self.known.as_ref().ok()?.types;
        types.signature(self.exports[at].described?)
    }

    /// The type that the module was compiled with of a function that it calls and does not define,
    /// as [`signature`](Self::signature) has it. None if debug information does not say, or if its
    /// units do not agree about it. Of units without any, nothing is known.
    pub fn expected_signature(&self, import: &str) -> Option<&str> {
        let mut all = self.imports.iter().filter(|of| *of.name == *import).map(|of| of.signature.as_deref());
        let first = all.next()??;
        all.all(|other| other == Some(first)).then_some(first)
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
            known.types.memory() + known.places.memory() + size_of_val(&*known.data) + names
        });
        names + imports + known + size_of_val(&*self.exports) + size_of_val(&*self.imports)
    }

    /// Where in the source an export or a type of this name is declared: the file, without its
    /// folder, and the line. The name is as a [`Difference::subject`] has it. None if debug
    /// information does not say.
    pub fn place(&self, name: &str) -> Option<(&str, u32)> {
        let Known { types, places, .. } = self.known.as_ref().ok()?;
        match self.exports.binary_search_by(|export| (*export.name).cmp(name)) {
            Ok(at) => places.get(&places.exports, at),
            Err(_) => types.called(name).find_map(|id| places.get(&places.types, id as usize)),
        }
    }

    /// How the structures, unions and enumerations of this name are laid out, one level deep: the
    /// same text for the same layout, whichever module it is of. The name is as a
    /// [`Difference::subject`] has it. None if there is none, or if debug information does not
    /// say.
    pub fn layout(&self, name: &str) -> Option<String> {
        self.known.as_ref().ok()?.types.layout(name)
    }

    /// How a newer version differs from this one. Of the differences so many are listed.
    pub fn compare(&self, newer: &Interface, limit: usize) -> Report {
        compare::compare(self, newer, limit)
    }
}

/// Where the addresses in debug information are true: a shared object's own numbering, in which
/// nothing has to be moved. Object files have none; anywhere but 0, which stands for what linking
/// drops.
fn base(image: &Image<'_>) -> u64 {
    match image.bias(0) {
        Some(bias) => bias.wrapping_neg(),
        None => image.align().max(1 << 32),
    }
}

/// What is known; of each export what it is; of each import what it is declared as.
type Described = (Known, Vec<Option<Id>>, Vec<Vec<Id>>);

fn describe(
    image: &Image<'_>,
    base: u64,
    wanted: &[Wanted<'_>],
    imports: &[&str],
) -> Result<Described, &'static str> {
    let found = find(image, base, wanted, imports)?;
    let mut data: Vec<Data> = found.data.into_iter().map(|placed| placed.data).collect();
    data.dedup();
    Ok((
        Known { types: found.types, data: data.into(), places: found.places, untyped: found.untyped },
        found.exports,
        found.imports,
    ))
}

/// What the debug information says, of the exports that are wanted and of all variables.
fn find(
    image: &Image<'_>,
    base: u64,
    wanted: &[Wanted<'_>],
    imports: &[&str],
) -> Result<Found, &'static str> {
    let debug = image.debug(base);
    if let Some(reason) = debug.omitted {
        return Err(reason);
    }

    let size: usize = debug.sections.iter().map(|(_, contents)| contents.len()).sum();
    if debug.section(".debug_info").is_empty() {
        return Err("there is none: build the module with -g, and do not strip it");
    }
    let is_read_only = |address: u64| {
        let offset = address.wrapping_sub(base);
        let region = image.regions().iter().find(|region| offset.wrapping_sub(region.offset) < region.len);
        region.is_some_and(|region| region.protection != Protection::ReadWrite)
    };
    Build::new(&Raw::read(&debug)?, size, image.thread_locals().is_some(), &is_read_only)
        .find(wanted, imports)
}
