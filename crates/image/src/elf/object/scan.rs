//! Every relocation looked at once, before anything is placed: what must be imported, and what the
//! global offset table and the stubs must hold.

use super::file::Rela;
use super::layout::is_table_of_linkers;
use super::resolve::{Global, Linked, unversioned};
use super::symbols::Symbols;
use super::table::Table;
use crate::elf::format::malformed;
use crate::error::{NOT_TEXT, Refusal, label};
use crate::fixup::x86_64::{self, Load};
use crate::fixup::{Encoding, From, Howto, Slot, What};
use crate::linking::definition::{Definition, Used};
use crate::linking::section::{Part, Section};
use crate::machine::Static;
use crate::{Error, Import, ImportKind, Lookup, Machine};
use alloc::vec::Vec;
use object::LittleEndian as LE;
use object::elf;
use object::read::elf::{Rela as _, Sym as _};

const TABLE: &str = "relocation table";

/// A relocation that limits where the image may be: its value depends on that, and not every value
/// can be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Direct {
    pub(super) file: u32,
    /// Its number, and which of the file's symbols it is.
    pub(super) symbol: u32,
    pub(super) r_sym: u32,
    /// The section of the link that the place is in, and where there.
    pub(super) section: u32,
    pub(super) place: u64,
    pub(super) addend: i64,
    pub(super) r_type: u32,
    pub(super) howto: Howto,
}

/// What is worked out of the relocations.
pub(super) struct Scan<'a, 'data> {
    pub(super) machine: Machine,
    pub(super) globals: &'a [Global],
    pub(super) sections: &'a [Section<'data>],
    pub(super) symbols: &'a mut Symbols,
    pub(super) table: Table,
    pub(super) direct: Vec<Direct>,
}

impl<'data> Scan<'_, 'data> {
    pub(super) fn file(&mut self, file: u32, linked: &Linked<'data>) -> Result<(), Error> {
        for relocations in &linked.file.relocations {
            let index = linked.first_section + relocations.section;
            let section = &self.sections[index as usize];
            if section.part().is_none() {
                continue;
            }
            for run in runs(relocations.table) {
                let r_type = run[0].r_type(LE, false);
                let from = |relocation: &Rela| {
                    let (place, addend) = (relocation.r_offset(LE), relocation.r_addend(LE));
                    let r_sym = relocation.r_sym(LE, false);
                    Reference { file, linked, index, section, place, addend, r_type, r_sym }
                };
                let howto = match self.machine.object(r_type) {
                    Static::Nothing => continue,
                    Static::Apply(howto) => howto,
                    Static::Refuse(refusal) => return Err(from(&run[0]).refused(self.machine, refusal)),
                };
                let plain = is_plain(howto);
                for relocation in run {
                    // Most need no other look.
                    if plain
                        && let Some(number) = self.symbols.number(file, linked, relocation.r_sym(LE, false))
                        && self.symbols.all[number as usize].is_plain()
                        && check_place(section, relocation.r_offset(LE), howto).is_ok()
                    {
                        continue;
                    }
                    self.reference(from(relocation), howto)?;
                }
            }
        }
        Ok(())
    }

    /// Looks at one that is not settled by its place.
    #[inline(never)]
    fn reference(&mut self, from: Reference<'_, 'data>, howto: Howto) -> Result<(), Error> {
        let Reference { file, index, section, place, addend, r_type, .. } = from;
        check_place(section, place, howto)?;
        let number = self.symbols.number(file, from.linked, from.r_sym);
        let number = number
            .ok_or_else(|| malformed(TABLE, "it names a symbol that is not there", from.r_sym.into()))?;
        let symbol = &mut self.symbols.all[number as usize];
        let limited = howto.encoding.range().is_some();
        // Elsewhere, and the module has none of its own.
        let elsewhere = symbol.definition == Definition::Elsewhere;
        let nowhere = elsewhere && !self.symbols.shared.contains_key(&number);
        match symbol.definition {
            Definition::Gone { discarded: true } if from.may_dangle() => return Ok(()),
            Definition::Gone { discarded: true } => return Err(from.bad(DISCARDED)),
            Definition::Gone { discarded: false } => {
                return Err(from.bad("is in a section that is not loaded"));
            }
            Definition::Elsewhere if is_table_of_linkers(from.name()) => {
                return Err(from.bad(TABLE_OF_LINKERS));
            }
            Definition::Elsewhere if self.globals[number as usize].hidden() => return Err(from.bad(HIDDEN)),
            _ => {}
        }
        let for_thread_local = matches!(
            howto.what,
            What::BlockOffset | What::Entry(Slot::General | Slot::Local | Slot::Initial | Slot::Descriptor)
        );
        let either = elsewhere || matches!(howto.what, What::Size | What::Table);
        if !either && symbol.thread_local != for_thread_local {
            return Err(from.bad(if for_thread_local { NOT_THREAD_LOCAL } else { THREAD_LOCAL }));
        }
        symbol.used = symbol.used.max(match howto.what {
            _ if for_thread_local => Used::AsThreadLocal,
            What::Size | What::Table => Used::No,
            _ => Used::Somehow,
        });
        match howto.what {
            What::Address | What::Branch => {
                let branch = is_branch(self.machine, section, place, howto);
                // The one function that call frame information names is that which a frame's
                // exceptions go to.
                if branch || section.part() == Some(Part::Frames) {
                    symbol.used = symbol.used.max(Used::AsFunction);
                } else {
                    symbol.addressed = true;
                }
                let fixed = !matches!(symbol.definition, Definition::Section(_));
                if symbol.indirect || (fixed && branch && limited) {
                    self.table.need_stub(number, symbol);
                }
                if limited && !branch && limits(howto.from, symbol.definition) {
                    let (symbol, r_sym, section) = (number, from.r_sym, index);
                    self.direct.push(Direct { file, symbol, r_sym, section, place, addend, r_type, howto });
                }
            }
            What::Entry(slot) => {
                symbol.addressed = true;
                // So that one entry is enough for each symbol; the ABI has ruled out anything else.
                if matches!(howto.encoding, Encoding::Field(_)) && addend != 0 {
                    return Err(from.refused(self.machine, Refusal::Addend));
                }
                if slot == Slot::Local && elsewhere {
                    return Err(from.bad(NOT_HERE));
                }
                if slot == Slot::Initial && !nowhere {
                    return Err(from.refused(self.machine, Refusal::InitialExec));
                }
                if symbol.indirect {
                    self.table.need_stub(number, symbol);
                }
                if relaxed(section, place, r_type, addend, symbol.definition).is_none() {
                    self.table.need(slot, number, symbol);
                }
            }
            What::BlockOffset if elsewhere => return Err(from.bad(NOT_HERE)),
            What::Size if nowhere => return Err(from.bad(NO_SIZE)),
            What::BlockOffset | What::Size | What::Table => {}
        }
        Ok(())
    }
}

/// A relocation, and where it is.
#[derive(Clone, Copy)]
struct Reference<'a, 'data> {
    file: u32,
    linked: &'a Linked<'data>,
    /// The section of the link that it is for.
    index: u32,
    section: &'a Section<'data>,
    place: u64,
    addend: i64,
    r_type: u32,
    r_sym: u32,
}

impl Reference<'_, '_> {
    fn refused(&self, machine: Machine, refusal: Refusal) -> Error {
        let symbol = self.linked.file.symbol_label(self.r_sym);
        Error::UnsupportedRelocation { machine, r_type: self.r_type, refusal, symbol, offset: self.place }
    }

    fn name(&self) -> &[u8] {
        let file = &self.linked.file;
        let symbol = file.symbols.get(self.r_sym as usize);
        symbol.and_then(|symbol| file.symbol_name(symbol).ok()).unwrap_or_default()
    }

    fn bad(&self, problem: &'static str) -> Error {
        let symbol = self.linked.file.symbol_label(self.r_sym);
        Error::BadReference { symbol, section: label(self.section_name()), problem }
    }

    fn section_name(&self) -> &[u8] {
        let header = self.linked.file.sections.get((self.index - self.linked.first_section) as usize);
        header.and_then(|header| self.linked.file.section_bytes(header).ok()).unwrap_or_default()
    }

    /// Whether a reference to what has been discarded may stay, as 0. Readers of call frame
    /// information and of its tables skip it.
    fn may_dangle(&self) -> bool {
        self.section.part() == Some(Part::Frames) || self.section_name().starts_with(b".gcc_except_table")
    }
}

const DISCARDED: &str = "is in a section of which another file's is used: build both files in the same way";
const HIDDEN: &str = "is hidden, and no file of the module defines it: add the one that does";
const TABLE_OF_LINKERS: &str = "is a table that a linker writes into a shared object, and object files that are linked as they are loaded \
                                have none: link the module with -shared";
const NO_SIZE: &str = "is used by its size, and no file of the module defines it: add the one that does";
const NOT_THREAD_LOCAL: &str = "is used as a thread-local variable, and is none: declare it alike everywhere";
const THREAD_LOCAL: &str =
    "is a thread-local variable, and is used as if it were none: declare it alike everywhere";
const NOT_HERE: &str = "is used as a thread-local variable of the module itself, and no file of it defines it: add \
                        the one that does, or declare it without the tls_model attribute";

/// The instruction that need not read the global offset table after all, if it is one.
pub(super) fn relaxed(
    section: &Section<'_>,
    place: u64,
    r_type: u32,
    addend: i64,
    definition: Definition,
) -> Option<Load> {
    let may = matches!(r_type, elf::R_X86_64_GOTPCRELX | elf::R_X86_64_REX_GOTPCRELX);
    let here = matches!(definition, Definition::Section(_));
    if may && here && addend == -4 && section.part() == Some(Part::Code) {
        Load::at(section.bytes, place as usize)
    } else {
        None
    }
}

/// Whether the value is that of the symbol, and not of some place near it: only then can code that
/// jumps there stand for it.
pub(super) fn is_whole(machine: Machine, howto: Howto, addend: i64) -> bool {
    match (machine, howto.from, howto.encoding) {
        // The processor counts from the end of the displacement, which ends the instruction.
        (Machine::X86_64, From::Place, Encoding::Signed(4)) => addend == -4,
        _ => addend == 0,
    }
}

/// Whether a call or jump, or the distance to a function in data, may lead to the symbol's stub
/// instead. Data that asks for that (R_X86_64_PLT32, R_AARCH64_PLT32: relative vtables) has an
/// addend of its own, which whoever reads it takes off again; an instruction's says where it jumps
/// to.
pub(super) fn may_take_stub(
    machine: Machine,
    section: &Section<'_>,
    place: u64,
    howto: Howto,
    addend: i64,
) -> bool {
    let instruction = matches!(howto.encoding, Encoding::Field(_))
        || machine == Machine::X86_64
            && section.part() == Some(Part::Code)
            && x86_64::is_branch(section.bytes, place as usize);
    is_whole(machine, howto, addend) || (howto.what == What::Branch && !instruction)
}

/// Whether it is for a call or a jump.
pub(super) fn is_branch(machine: Machine, section: &Section<'_>, place: u64, howto: Howto) -> bool {
    let displacement =
        machine == Machine::X86_64 && howto.encoding == Encoding::Signed(4) && howto.from == From::Place;
    howto.what == What::Branch
        || displacement
            && section.part() == Some(Part::Code)
            && x86_64::is_branch(section.bytes, place as usize)
}

/// Relocations of one type, which come in runs.
pub(super) fn runs(table: &[Rela]) -> impl Iterator<Item = &[Rela]> {
    table.chunk_by(|one, next| one.r_type(LE, false) == next.r_type(LE, false))
}

/// Whether nothing but the place needs a look, if the symbol is plain too: what most ask for is a
/// distance within the image, which is the same wherever the image is, or a whole word.
fn is_plain(howto: Howto) -> bool {
    matches!(howto.what, What::Address | What::Branch)
        && (howto.from != From::Zero || howto.encoding.range().is_none())
}

/// Whether the value depends on where the image is, or on what an import stands for.
fn limits(from: From, definition: Definition) -> bool {
    match definition {
        Definition::Section(_) => from == From::Zero,
        Definition::Absolute(_) => from != From::Zero,
        Definition::Elsewhere | Definition::Import(_) | Definition::Gone { .. } => true,
    }
}

fn check_place(section: &Section<'_>, place: u64, howto: Howto) -> Result<(), Error> {
    let end = place.checked_add(howto.encoding.size() as u64);
    if end.is_none_or(|end| end > section.bytes.len() as u64) {
        return Err(malformed(TABLE, "a place is outside its section", place));
    }
    if !place.is_multiple_of(howto.encoding.place_align()) {
        return Err(malformed(TABLE, "an instruction is not at a multiple of its size", place));
    }
    Ok(())
}

/// Numbers the imports, and gives those a stub whose address code may have to take for the
/// symbol's.
pub(super) fn imports<'data>(
    name: impl Fn(u32) -> &'data [u8],
    definition: impl Fn(u32) -> &'data elf::Sym64<LE>,
    globals: &[Global],
    symbols: &mut Symbols,
    table: &mut Table,
    direct: &[Direct],
    machine: Machine,
) -> Result<Vec<Import<'data>>, Error> {
    let mut imports = Vec::new();
    for ((number, global), symbol) in (0..).zip(globals).zip(&mut symbols.all) {
        if symbol.definition != Definition::Elsewhere {
            continue;
        }
        let shared = symbols.shared.get(&number);
        if symbol.used == Used::No {
            if let Some(&own) = shared {
                symbol.definition = own;
            }
            continue;
        }
        symbol.definition = Definition::Import(imports.len() as u32);
        let whole = name(number);
        let refused = |_| Error::UnsupportedSymbol { symbol: label(whole), problem: NOT_TEXT };
        let (name, version) = unversioned(whole);
        let name = core::str::from_utf8(name).map_err(refused)?;
        let version = version.map(core::str::from_utf8).transpose().map_err(refused)?;
        let own = shared.map(|_| definition(number));
        let kind = match own.map_or(global.kind, |own| own.st_type()) {
            elf::STT_TLS => ImportKind::ThreadLocal,
            _ if symbol.used == Used::AsThreadLocal => ImportKind::ThreadLocal,
            elf::STT_FUNC | elf::STT_GNU_IFUNC => ImportKind::Function,
            _ if symbol.used == Used::AsFunction => ImportKind::Function,
            elf::STT_OBJECT | elf::STT_COMMON => ImportKind::Data,
            _ => ImportKind::Unknown,
        };
        let weak = !global.required || shared.is_some();
        let (own, addressed) = (own.map(|own| own.st_size(LE)), symbol.addressed);
        imports.push(Import { name, version, weak, kind, addressed, from: Lookup::Anywhere, own });
    }
    for direct in direct {
        let symbol = &mut symbols.all[direct.symbol as usize];
        if let Definition::Import(import) = symbol.definition
            && imports[import as usize].kind == ImportKind::Function
            && is_whole(machine, direct.howto, direct.addend)
        {
            table.need_stub(direct.symbol, symbol);
        }
    }
    Ok(imports)
}
