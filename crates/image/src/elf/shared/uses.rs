//! Relocations, looked at once when a module is parsed: whether each can be applied, what they use,
//! and what of them is settled already.

use super::relocate::{Relocation, TABLE, each_relr};
use super::segments::Nearby;
use super::symbols::{Definition, Exported};
use super::{Tables, tls};
use crate::elf::format::malformed;
use crate::error::{NOT_TEXT, Refusal, label};
use crate::fixup::{self, Kind, Operands};
use crate::machine::{Dynamic as Meaning, ThreadKind};
use crate::{Binding, Error, Import, ImportKind, Indirect, Lookup, Machine, Protection};
use alloc::vec::Vec;
use object::LittleEndian as LE;
use object::elf;
use object::read::elf::Rela;

/// What the relocations come to: pointers into the module itself, which most are and which need
/// nothing but its address, and the rest.
pub(super) struct Uses<'data> {
    pub(super) own: Vec<Own>,
    pub(super) rest: Vec<&'data Relocation>,
    /// In the order of the symbol table.
    pub(super) imports: Vec<Import<'data>>,
    /// For each symbol up to the last import, where in `imports` it is, or [`NONE`].
    import_of: Vec<u32>,
    pub(super) indirect: Vec<Indirect>,
    /// Some are about thread-local variables.
    pub(super) thread_locals: bool,
}

const NONE: u32 = u32::MAX;

/// A pointer into the module itself.
#[derive(Clone, Copy)]
pub(super) struct Own {
    /// Of the place, in the image.
    pub(super) offset: u64,
    /// What the bias is added to.
    pub(super) word: u64,
}

impl<'data> Uses<'data> {
    pub(super) fn parse(tables: &Tables<'data>, exported: &Exported) -> Result<Self, Error> {
        let mut check = Check {
            tables,
            exported,
            nearby: tables.layout.nearby(),
            own: Vec::with_capacity(tables.with_addends().count()),
            rest: Vec::new(),
            used: alloc::vec![Use::default(); tables.symbols.count()],
            indirect: Vec::new(),
            thread_locals: false,
        };
        let mut meanings = Meanings::of(tables.machine);
        for relocation in tables.with_addends() {
            check.relocation(relocation, meanings.get(relocation))?;
        }
        each_relr(tables.dynamic.relr, |place| check.place(place, Kind::SIZE, 1, 0))?;

        let last = check.used.iter().rposition(Use::is_one);
        let mut import_of = alloc::vec![NONE; last.map_or(0, |last| last + 1)];
        let mut imports = Vec::new();
        for ((index, import), used) in (0..).zip(&mut import_of).zip(&check.used) {
            if used.is_one() {
                *import = imports.len() as u32;
                imports.push(import_of_symbol(tables, exported, index, *used)?);
            }
        }
        let Check { own, rest, indirect, thread_locals, .. } = check;
        Ok(Uses { own, rest, imports, import_of, indirect, thread_locals })
    }

    /// What a symbol stands for that is an import.
    pub(super) fn binding(&self, symbol: u32, bindings: &[Option<Binding>]) -> Option<Binding> {
        let import = self.import_of.get(symbol as usize).filter(|import| **import != NONE)?;
        bindings[*import as usize]
    }
}

/// How a symbol is used that is an import.
#[derive(Clone, Copy, Default)]
struct Use {
    ordinary: bool,
    thread_local: bool,
    /// Through the procedure linkage table.
    called: bool,
    /// In another way.
    addressed: bool,
}

impl Use {
    fn is_one(&self) -> bool {
        self.ordinary || self.thread_local
    }
}

/// What relocations mean, of which most are of the type of the one before.
struct Meanings {
    machine: Machine,
    last: (u32, Meaning),
}

impl Meanings {
    fn of(machine: Machine) -> Self {
        Self { machine, last: (0, machine.dynamic(0)) }
    }

    #[inline]
    fn get(&mut self, relocation: &Relocation) -> Meaning {
        let r_type = relocation.r_type(LE, false);
        if r_type != self.last.0 {
            self.last = (r_type, self.machine.dynamic(r_type));
        }
        self.last.1
    }
}

struct Check<'a, 'data> {
    tables: &'a Tables<'data>,
    exported: &'a Exported,
    nearby: Nearby<'a, 'data>,
    own: Vec<Own>,
    rest: Vec<&'data Relocation>,
    /// For each symbol.
    used: Vec<Use>,
    indirect: Vec<Indirect>,
    thread_locals: bool,
}

impl<'data> Check<'_, 'data> {
    #[inline]
    fn relocation(&mut self, relocation: &'data Relocation, meaning: Meaning) -> Result<(), Error> {
        let (place, index) = (relocation.r_offset(LE), relocation.r_sym(LE, false));
        if let Meaning::Apply(kind) = meaning {
            self.place(place, Kind::SIZE, kind.place_align(), index)?;
            if let Some(symbol) = self.own_address(kind, index)? {
                let operands = Operands { bias: 0, symbol, addend: relocation.r_addend(LE) };
                let word = fixup::value(self.tables.machine, kind, operands);
                self.own.push(Own { offset: place - self.tables.layout.low(), word });
                return Ok(());
            }
        }
        self.rest.push(relocation);
        match meaning {
            Meaning::Nothing => Ok(()),
            Meaning::Apply(kind) if kind.uses_symbol() && index != 0 => self.symbol(relocation, kind),
            Meaning::Apply(_) => Ok(()),
            Meaning::Indirect => {
                self.place(place, Kind::SIZE, 1, index)?;
                self.indirect(place, relocation.r_addend(LE) as u64, 0)
            }
            Meaning::ThreadLocal(kind) => {
                self.thread_locals = true;
                let len = if kind == ThreadKind::Descriptor { 16 } else { 8 };
                self.place(place, len, 8, index)?;
                self.variable(relocation, kind)
            }
            Meaning::Refuse(refusal) => Err(self.tables.refused(relocation, refusal)),
        }
    }

    /// The address in the file of what a relocation points at, if that is in the module: 0 where it
    /// has no symbol.
    #[inline]
    fn own_address(&self, kind: Kind, index: u32) -> Result<Option<u64>, Error> {
        match (kind.uses_symbol(), index) {
            (false, _) => Ok(Some(0)),
            (true, 0) => Ok(None),
            (true, _) => match self.exported.function(index) {
                None => {
                    let symbol = self.tables.symbols.get(index)?;
                    let ordinary = self.tables.ordinary(symbol);
                    Ok(ordinary.filter(|_| !self.tables.is_shared(self.exported, index, symbol)))
                }
                found => Ok(found),
            },
        }
    }

    /// `align` is a power of two.
    #[inline]
    fn place(&mut self, place: u64, len: u64, align: u64, symbol: u32) -> Result<(), Error> {
        let protection = self.nearby.protection(place, len);
        // Not by a division: there are thousands of places.
        if protection == Some(Some(Protection::ReadWrite)) && place & (align - 1) == 0 {
            return Ok(());
        }
        Err(match protection {
            None => malformed(TABLE, "a place is outside the segments", place),
            Some(Some(Protection::ReadWrite)) => {
                malformed(TABLE, "an entry for code to load is not aligned", place)
            }
            Some(_) => Error::TextRelocation { offset: place, symbol: self.tables.label(symbol) },
        })
    }

    /// The symbol of a relocation that wants its address.
    fn symbol(&mut self, relocation: &Relocation, kind: Kind) -> Result<(), Error> {
        let index = relocation.r_sym(LE, false);
        let symbol = self.tables.symbols.get(index)?;
        match self.tables.definition(symbol)? {
            Definition::Here(_) if self.tables.is_shared(self.exported, index, symbol) => {
                self.used[index as usize].ordinary = true;
                Ok(())
            }
            Definition::Here(_) | Definition::Absolute(_) => Ok(()),
            Definition::Indirect(resolver) => {
                // What the sum has besides the symbol.
                let only = Operands { addend: relocation.r_addend(LE), ..Operands::default() };
                let addend = fixup::value(self.tables.machine, kind, only) as i64;
                self.indirect(relocation.r_offset(LE), resolver, addend)
            }
            Definition::Elsewhere if symbol.st_type() != elf::STT_TLS => {
                let used = &mut self.used[index as usize];
                used.ordinary = true;
                used.called |= kind == Kind::JumpSlot;
                used.addressed |= kind != Kind::JumpSlot;
                Ok(())
            }
            Definition::Elsewhere | Definition::ThreadLocal(_) => {
                Err(self.tables.bad(symbol, "is thread-local, and its address is used as if it were not"))
            }
        }
    }

    fn indirect(&mut self, place: u64, resolver: u64, addend: i64) -> Result<(), Error> {
        let outside =
            malformed(TABLE, "an address is to be chosen by what is no function of the module", resolver);
        let offsets = (self.tables.layout.offset(place), self.tables.layout.offset(resolver));
        let (Some(place), Some(offset)) = offsets else { return Err(outside) };
        if !self.tables.is_function(resolver) {
            return Err(outside);
        }
        self.indirect.push(Indirect { place, resolver: offset, addend });
        Ok(())
    }

    /// The symbol of a relocation about a thread-local variable.
    fn variable(&mut self, relocation: &Relocation, kind: ThreadKind) -> Result<(), Error> {
        let index = relocation.r_sym(LE, false);
        // Without a symbol it is about the module's own block.
        let mut offset = 0;
        if index != 0 {
            let symbol = self.tables.symbols.get(index)?;
            offset = match self.tables.definition(symbol)? {
                Definition::ThreadLocal(offset) => offset,
                Definition::Elsewhere => {
                    self.used[index as usize].thread_local = true;
                    return Ok(());
                }
                _ => return Err(self.tables.bad(symbol, "is not thread-local, and is used as if it were")),
            };
        }
        if self.tables.thread_locals.is_none() {
            let problem = "the module's thread-local storage is used, and there is none (PT_TLS)";
            return Err(malformed(TABLE, problem, relocation.r_offset(LE)));
        }
        match kind {
            ThreadKind::FromThreadPointer => Err(self.tables.refused(relocation, Refusal::InitialExec)),
            ThreadKind::Descriptor if !tls::fits_descriptor(offset, relocation.r_addend(LE)) => {
                Err(malformed(
                    TABLE,
                    "an offset in thread-local storage is beyond 32 bits",
                    relocation.r_offset(LE),
                ))
            }
            _ => Ok(()),
        }
    }
}

fn import_of_symbol<'data>(
    tables: &Tables<'data>,
    exported: &Exported,
    index: u32,
    used: Use,
) -> Result<Import<'data>, Error> {
    let symbol = tables.symbols.get(index)?;
    let own = tables.is_shared(exported, index, symbol).then(|| symbol.st_size.get(LE));
    let name = tables.name(symbol)?;
    if name.is_empty() {
        return Err(malformed("symbol table", "an undefined symbol has no name", index.into()));
    }
    if used.thread_local && used.ordinary {
        return Err(tables.bad(symbol, "is used both as a thread-local variable and as an ordinary one"));
    }
    let text = core::str::from_utf8(name);
    Ok(Import {
        name: text.map_err(|_| Error::UnsupportedSymbol { symbol: label(name), problem: NOT_TEXT })?,
        version: tables.symbols.versions.of_import(index)?,
        weak: symbol.st_bind() == elf::STB_WEAK || own.is_some(),
        kind: match symbol.st_type() {
            _ if used.thread_local => ImportKind::ThreadLocal,
            elf::STT_FUNC | elf::STT_GNU_IFUNC => ImportKind::Function,
            _ if used.called => ImportKind::Function,
            elf::STT_OBJECT | elf::STT_COMMON => ImportKind::Data,
            _ => ImportKind::Unknown,
        },
        addressed: used.addressed,
        from: Lookup::Anywhere,
        own,
    })
}
