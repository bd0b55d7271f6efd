//! What has to be written when the module is linked, whichever form the file says it in, and what
//! it needs of others for that.

use super::bytes::c_name;
use super::exports::{Definition, Exports};
use super::sections::holds;
use super::segments::Layout;
use super::tls::{BOOTSTRAP, Variables};
use crate::error::label;
use crate::macho::format::malformed;
use crate::shared_definitions::{ALLOCATORS, is_of_class};
use crate::{Binding, Error, Import, ImportKind, Lookup, Protection};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use object::macho;

/// What stubs of lazy binding call, to bind what they jump to. Here everything is bound when code
/// can run, so nobody calls it.
const STUB_BINDER: &str = "dyld_stub_binder";

/// Bytes that a fix-up writes.
pub(super) const SIZE: u64 = 8;

// Where a symbol is looked for, if not in a library, which are numbered from 1.
const SELF: i32 = macho::BIND_SPECIAL_DYLIB_SELF as i32;
const PROGRAM: i32 = macho::BIND_SPECIAL_DYLIB_MAIN_EXECUTABLE as i32;
const FLAT: i32 = macho::BIND_SPECIAL_DYLIB_FLAT_LOOKUP as i32;
pub(super) const WEAK: i32 = macho::BIND_SPECIAL_DYLIB_WEAK_LOOKUP as i32;

/// An address of the module itself.
#[derive(Clone, Copy)]
struct Rebase {
    /// From the start of the image.
    place: u32,
    /// An address of the file, and perhaps a tag in the highest byte.
    target: u64,
}

/// An address of something that has a name.
#[derive(Clone, Copy)]
struct Bind {
    /// From the start of the image.
    place: u32,
    /// Its number.
    symbol: u32,
    addend: i64,
}

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    /// An address of the file.
    Here(u64),
    /// A number, wherever the image is.
    Absolute(u64),
    /// An import, by its index.
    Import(u32),
    /// An import, by its index, or else an address of the file: what a process has once
    /// (`shared_definitions.rs`).
    Shared(u32, u64),
    /// The thunk of a thread-local descriptor.
    Bootstrap,
}

/// Everything that is written, but for thread-local descriptors.
#[derive(Default)]
pub(super) struct Fixups<'data> {
    rebases: Vec<Rebase>,
    /// The last one for a place holds.
    binds: Vec<Bind>,
    targets: Vec<Target>,
    pub(super) imports: Vec<Import<'data>>,
}

impl Fixups<'_> {
    /// Writes them all. `memory` has the segments; they were checked to be in it.
    pub(super) fn apply(
        &self,
        layout: &Layout<'_>,
        base: u64,
        memory: &mut [u8],
        bindings: &[Option<Binding>],
    ) -> Result<(), Error> {
        let bias = layout.bias(base);
        for Rebase { place, target } in &self.rebases {
            put(memory, (*place).into(), target.wrapping_add(bias))?;
        }
        for Bind { place, symbol, addend } in &self.binds {
            let address = match self.targets[*symbol as usize] {
                Target::Here(address) => address.wrapping_add(bias),
                Target::Absolute(value) => value,
                // `Image::link` lets no thread-local variable through to where an address is
                // wanted.
                Target::Import(import) => match bindings[import as usize] {
                    Some(Binding::Address(address)) => address,
                    Some(Binding::ThreadLocal(_)) | None => 0,
                },
                Target::Shared(import, own) => match bindings[import as usize] {
                    Some(Binding::Address(address)) => address,
                    Some(Binding::ThreadLocal(_)) | None => own.wrapping_add(bias),
                },
                Target::Bootstrap => continue,
            };
            put(memory, (*place).into(), address.wrapping_add_signed(*addend))?;
        }
        Ok(())
    }
}

pub(super) fn put(memory: &mut [u8], place: u64, word: u64) -> Result<(), Error> {
    let to = usize::try_from(place).ok().and_then(|place| memory.get_mut(place..)?.first_chunk_mut());
    *to.ok_or_else(|| malformed("table of fix-ups", "a place is outside the image", place))? =
        word.to_le_bytes();
    Ok(())
}

/// Gathers the fix-ups of a file, and checks each.
pub(super) struct Builder<'a, 'data> {
    /// What messages call the table that is being read.
    pub(super) table: &'static str,
    layout: &'a Layout<'data>,
    exports: &'a Exports,
    variables: &'a Variables,
    /// How many there are, and the ordinals of those that may be missing, ascending.
    libraries: usize,
    optional: &'a [usize],
    /// For more fix-ups: no file has more places than bytes, and none is written often.
    room: usize,
    /// By name and where it is looked for.
    symbols: BTreeMap<(&'data str, i32), u32>,
    fixups: Fixups<'data>,
}

/// Where a fix-up writes.
#[derive(Clone, Copy)]
pub(super) struct Site {
    offset: u32,
    address: u64,
    /// What the file has there.
    pub(super) word: u64,
}

impl<'a, 'data> Builder<'a, 'data> {
    pub(super) fn new(
        layout: &'a Layout<'data>,
        exports: &'a Exports,
        variables: &'a Variables,
        libraries: usize,
        optional: &'a [usize],
        file_size: usize,
    ) -> Self {
        let (symbols, fixups) = (BTreeMap::new(), Fixups::default());
        let room = file_size / 4;
        Self { table: "", layout, exports, variables, libraries, optional, room, symbols, fixups }
    }

    pub(super) fn wrong(&self, problem: &'static str, at: u64) -> Error {
        malformed(self.table, problem, at)
    }

    /// The place at an offset of a segment.
    pub(super) fn place(&self, segment: usize, offset: u64) -> Result<Site, Error> {
        let segment = self.layout.segments.get(segment);
        let segment = segment.ok_or_else(|| self.wrong("it names a segment that is not there", offset))?;
        let address = segment.address.wrapping_add(offset);
        if segment.protection.is_some() && segment.loaded && !segment.fixable {
            return Err(Error::TextRelocation { offset: address, symbol: String::new() });
        }
        let word = usize::try_from(offset).ok().and_then(|at| segment.file.get(at..)?.first_chunk());
        let word = word.filter(|_| segment.fixable).map(|word| u64::from_le_bytes(*word));
        let place = self.layout.offset(address).and_then(|offset| u32::try_from(offset).ok());
        match (word, place) {
            (Some(word), Some(offset)) => Ok(Site { offset, address, word }),
            _ => Err(self.wrong("a place is outside the contents of its segment", address)),
        }
    }

    fn count(&mut self, place: Site) -> Result<(), Error> {
        self.room = self
            .room
            .checked_sub(1)
            .ok_or(self.wrong("places are written again and again", place.address))?;
        Ok(())
    }

    /// Which word of a descriptor of a thread-local variable is there: a fix-up has no business in
    /// any but the first.
    fn in_descriptor(&self, place: Site) -> Result<bool, Error> {
        let sections = &self.layout.sections.descriptors;
        if !holds(sections, place.address) && !holds(sections, place.address + (SIZE - 1)) {
            return Ok(false);
        }
        match self.variables.find(place.address) {
            Some(_) => Ok(true),
            None => {
                Err(self.wrong("a place is inside the descriptor of a thread-local variable", place.address))
            }
        }
    }

    /// The address `target` of the file, which may have a tag in its highest byte.
    pub(super) fn rebase(&mut self, place: Site, target: u64) -> Result<(), Error> {
        self.count(place)?;
        if self.in_descriptor(place)? {
            return Err(self.wrong("a thread-local variable is found in an unknown way", place.address));
        }
        self.fixups.rebases.push(Rebase { place: place.offset, target });
        Ok(())
    }

    /// The number of a symbol that is looked for in the library of an ordinal, or in one of the
    /// ways that negative ones stand for.
    pub(super) fn symbol(&mut self, name: &'data str, ordinal: i32, weak: bool) -> Result<u32, Error> {
        // Weak definitions are looked for in everything that is loaded, here as everything else is,
        // but for what a process has once.
        let shared = if ordinal == WEAK { self.shared(name) } else { None };
        let ordinal = if ordinal == WEAK && shared.is_none() { FLAT } else { ordinal };
        if let Some(number) = self.symbols.get(&(name, ordinal)) {
            let number = *number;
            if let Target::Import(import) = self.fixups.targets[number as usize] {
                let weak = weak || self.is_optional(ordinal);
                self.fixups.imports[import as usize].weak &= weak;
            }
            return Ok(number);
        }
        let target = match shared {
            Some(own) => {
                let import = self.fixups.imports.len() as u32;
                self.fixups.imports.push(Import {
                    name: c_name(name).unwrap_or(name),
                    version: None,
                    weak: true,
                    kind: ImportKind::Unknown,
                    addressed: false,
                    from: Lookup::Anywhere,
                    // Mach-O says of no symbol how large it is.
                    own: Some(0),
                });
                Target::Shared(import, own)
            }
            None => self.target(name, ordinal, weak)?,
        };
        let number = self.fixups.targets.len() as u32;
        self.fixups.targets.push(target);
        self.symbols.insert((name, ordinal), number);
        Ok(number)
    }

    /// Where the module has what a process has once.
    fn shared(&self, name: &str) -> Option<u64> {
        let Definition::Here(address) = self.exports.definition(name)? else { return None };
        let plain = c_name(name)?;
        let offset = self.layout.offset(address)?;
        let region =
            self.layout.memory.regions.iter().find(|r| (r.offset..r.offset + r.len).contains(&offset))?;
        let is_shared = match region.protection {
            Protection::ReadWrite => !is_of_class(plain.as_bytes()),
            Protection::ReadExecute => ALLOCATORS.contains(&plain),
            Protection::Read => false,
        };
        is_shared.then_some(address)
    }

    fn is_optional(&self, ordinal: i32) -> bool {
        usize::try_from(ordinal).is_ok_and(|ordinal| self.optional.binary_search(&ordinal).is_ok())
    }

    fn target(&mut self, name: &'data str, ordinal: i32, weak: bool) -> Result<Target, Error> {
        match name {
            "" => return Err(self.wrong("an import has no name", self.fixups.targets.len() as u64)),
            BOOTSTRAP => return Ok(Target::Bootstrap),
            STUB_BINDER => return Ok(Target::Absolute(0)),
            _ => {}
        }
        // A function of a module belongs to its version: what is looked for anywhere is looked for
        // in the module itself first, as with `-Bsymbolic` in ELF.
        if matches!(ordinal, SELF | FLAT)
            && let Some(definition) = self.exports.definition(name)
        {
            return Ok(match definition {
                Definition::Here(address) | Definition::ThreadLocal(address) => Target::Here(address),
                Definition::Absolute(value) => Target::Absolute(value),
            });
        }
        let from = match ordinal {
            SELF if weak => return Ok(Target::Absolute(0)),
            SELF => {
                return Err(Error::BadSymbol {
                    symbol: label(name),
                    problem: "is looked for in the module itself, which does not export it",
                    value: 0,
                });
            }
            PROGRAM => Lookup::Program,
            FLAT => Lookup::Anywhere,
            _ => match usize::try_from(ordinal.wrapping_sub(1)) {
                Ok(library) if library < self.libraries => Lookup::Library(library),
                _ => return Err(self.wrong("it names a library that is not there", ordinal as u64)),
            },
        };
        let weak = weak || self.is_optional(ordinal);
        let import = self.fixups.imports.len() as u32;
        let (name, kind) = (c_name(name).unwrap_or(name), ImportKind::Unknown);
        self.fixups.imports.push(Import {
            name,
            version: None,
            weak,
            kind,
            addressed: false,
            from,
            own: None,
        });
        Ok(Target::Import(import))
    }

    /// The address of a symbol by its number, and `addend` more.
    pub(super) fn bind(&mut self, place: Site, symbol: u32, addend: i64) -> Result<(), Error> {
        self.count(place)?;
        let target = self.fixups.targets[symbol as usize];
        match (self.in_descriptor(place)?, target) {
            // All descriptors are written when the module is linked.
            (true, Target::Bootstrap) => return Ok(()),
            (true, _) => {
                return Err(self.wrong("a thread-local variable is found in an unknown way", place.address));
            }
            (false, Target::Bootstrap) => {
                return Err(Error::UnsupportedSymbol {
                    symbol: label(BOOTSTRAP),
                    problem: "is used outside the descriptors of thread-local variables, which the linker makes: \
                              link with a linker of this platform",
                });
            }
            (false, _) => {}
        }
        if let Target::Import(import) = target {
            let import = &mut self.fixups.imports[import as usize];
            if holds(&self.layout.sections.variable_pointers, place.address) {
                return Err(Error::UnsupportedSymbol {
                    symbol: label(import.name),
                    problem: "is a thread-local variable of another image, which is not supported in Mach-O modules: \
                              reach it by a function of that image",
                });
            }
            if holds(&self.layout.sections.lazy_pointers, place.address) {
                import.kind = ImportKind::Function;
            } else if addend != 0 && import.kind == ImportKind::Unknown {
                import.kind = ImportKind::Data;
            }
        }
        self.fixups.binds.push(Bind { place: place.offset, symbol, addend });
        Ok(())
    }

    /// The places that are written so far, ascending.
    pub(super) fn written(&self) -> Vec<u32> {
        let rebases = self.fixups.rebases.iter().map(|rebase| rebase.place);
        let mut places: Vec<u32> = rebases.chain(self.fixups.binds.iter().map(|bind| bind.place)).collect();
        places.sort_unstable();
        places
    }

    /// As [`bind`](Self::bind) of a weak definition, which may have a place that is in `written`
    /// already: to the module's own definition, or to what was written, or to whatever there
    /// is.
    pub(super) fn coalesce(
        &mut self,
        place: Site,
        name: &'data str,
        weak: bool,
        addend: i64,
        written: &[u32],
    ) -> Result<(), Error> {
        if self.exports.definition(name).is_none() && written.binary_search(&place.offset).is_ok() {
            return self.count(place);
        }
        let symbol = self.symbol(name, WEAK, weak)?;
        self.bind(place, symbol, addend)
    }

    /// `called` are names of functions, as the file has them.
    pub(super) fn finish(mut self, called: impl Iterator<Item = &'data str>) -> Result<Fixups<'data>, Error> {
        let named: BTreeMap<&str, Vec<u32>> = self.by_name();
        for name in called {
            for import in named.get(c_name(name).unwrap_or(name)).into_iter().flatten() {
                self.fixups.imports[*import as usize].kind = ImportKind::Function;
            }
        }
        let clash = named.into_values().find_map(|imports| {
            let mut from: Vec<Lookup> =
                imports.iter().map(|import| self.fixups.imports[*import as usize].from).collect();
            from.sort_unstable();
            from.windows(2).any(|pair| pair[0] == pair[1]).then(|| imports[0])
        });
        match clash {
            None => Ok(self.fixups),
            Some(import) => Err(Error::UnsupportedSymbol {
                symbol: label(self.fixups.imports[import as usize].name),
                problem: "is imported with and without the underscore that C's names have, and there is but one name here: \
                          write it in one way",
            }),
        }
    }

    fn by_name(&self) -> BTreeMap<&'data str, Vec<u32>> {
        let mut named: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        for (index, import) in (0..).zip(&self.fixups.imports) {
            named.entry(import.name).or_default().push(index);
        }
        named
    }
}
