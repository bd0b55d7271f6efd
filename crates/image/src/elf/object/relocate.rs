//! Writing the image: the sections, every fix-up, the global offset table and the stubs, for one
//! address.

use super::super::shared::tls;
use super::Objects;
use super::erratum::{self, Mended};
use super::file::Rela;
use super::resolve::Linked;
use super::scan::{self, Direct};
use super::symbols::{NONE, Symbol, own};
use super::table::Entry;
use crate::elf::format::malformed;
use crate::fixup::aarch64::Field;
use crate::fixup::{Encoding, From, Howto, Slot, What};
use crate::linking::definition::Definition;
use crate::linking::memory::{at, stub_size, write_stubs};
use crate::machine::{Static, ThreadKind};
use crate::source::Site;
use crate::{Binding, Error, Host, ThreadLocal};
use alloc::vec::Vec;
use object::LittleEndian as LE;
use object::read::elf::{Rela as _, Sym};

/// What linking for one address works on.
pub(super) struct Linking<'a, 'data> {
    objects: &'a Objects<'data>,
    base: u64,
    /// The address of the global offset table.
    table: u64,
    host: &'a Host,
    bindings: &'a [Option<Binding>],
    /// For each import, whether its stub stands for it, because some code does not reach the
    /// function itself. A function must have one address in all of the module, or comparing
    /// pointers to it would fail.
    by_stub: Vec<bool>,
}

/// What relocations are of: a file, its number, and which section of the link they are for.
#[derive(Clone, Copy)]
struct Of<'a, 'data> {
    file: u32,
    linked: &'a Linked<'data>,
    index: u32,
}

/// What most relocations of data ask for, on both machines: a pointer, and how far away something
/// is.
const POINTER: Howto = Howto { what: What::Address, from: From::Zero, encoding: Encoding::Word };
const DISTANCE: Howto = Howto { what: What::Address, from: From::Place, encoding: Encoding::Signed(4) };

impl<'a, 'data> Linking<'a, 'data> {
    pub(super) fn new(objects: &'a Objects<'data>, Site { base, host, bindings }: Site<'a>) -> Self {
        let table = base.wrapping_add(objects.sections[own::TABLE as usize].offset);
        let by_stub = alloc::vec![false; objects.imports.len()];
        let mut linking = Linking { objects, base, table, host, bindings, by_stub };
        for direct in &objects.direct {
            let symbol = linking.symbol(direct.symbol);
            if let Definition::Import(import) = symbol.definition
                && objects.has_stand_in(direct, symbol)
                && linking.binding(import).is_some()
                && !linking.reaches(direct)
            {
                linking.by_stub[import as usize] = true;
            }
        }
        linking
    }

    fn reaches(&self, direct: &Direct) -> bool {
        let place = self.base.wrapping_add(self.objects.place(direct));
        let value = direct.howto.value(self.target(direct.symbol), direct.addend, place, self.table);
        direct.howto.fits(value)
    }

    pub(super) fn write(&self, memory: &mut [u8]) -> Result<(), Error> {
        for (number, linked) in (0..).zip(&self.objects.files) {
            self.file(number, linked, memory).map_err(|error| linked.label().blame(error))?;
        }
        for (word, entry) in &self.objects.table.entries {
            let (first, second) = self.entry(*entry)?;
            let offset = self.table.wrapping_sub(self.base) + 8 * u64::from(*word);
            at(memory, offset, 8)?.copy_from_slice(&first.to_le_bytes());
            if let Some(second) = second {
                at(memory, offset + 8, 8)?.copy_from_slice(&second.to_le_bytes());
            }
        }
        self.stubs(memory)?;
        self.errata(memory)
    }

    /// Takes apart the sequences that a processor has wrong.
    fn errata(&self, memory: &mut [u8]) -> Result<(), Error> {
        let mut veneer = self.objects.sections[own::VENEERS as usize].offset;
        for sequence in &self.objects.errata {
            let read = |offset| {
                let bytes = memory.get(usize::try_from(offset).ok()?..)?.first_chunk()?;
                Some(u32::from_le_bytes(*bytes))
            };
            let outside = || malformed("section header table", "code is outside the image", sequence.adrp);
            let (adrp, access) = read(sequence.adrp).zip(read(sequence.access)).ok_or_else(outside)?;
            let mended = erratum::mend(adrp, access, *sequence, veneer);
            let limit = 1 << 27;
            let mended = mended.ok_or(Error::TooLarge { needed: self.objects.layout.memory.span, limit })?;
            let mut write = |offset, word: u32| {
                at(memory, offset, 4).map(|place| place.copy_from_slice(&word.to_le_bytes()))
            };
            match mended {
                Mended::Adr(adr) => write(sequence.adrp, adr)?,
                Mended::Moved { branch, veneer: [moved, back] } => {
                    write(veneer, moved)?;
                    write(veneer + 4, back)?;
                    write(sequence.access, branch)?;
                }
            }
            veneer += erratum::VENEER;
        }
        Ok(())
    }

    fn file(&self, number: u32, linked: &Linked<'data>, memory: &mut [u8]) -> Result<(), Error> {
        let first = linked.first_section as usize;
        for section in &self.objects.sections[first..first + linked.file.sections.len()] {
            if section.part().is_some() {
                at(memory, section.offset, section.bytes.len())?.copy_from_slice(section.bytes);
            }
        }
        for relocations in &linked.file.relocations {
            let index = linked.first_section + relocations.section;
            if self.objects.sections[index as usize].part().is_some() {
                for run in scan::runs(relocations.table) {
                    let Static::Apply(howto) = self.objects.machine.object(run[0].r_type(LE, false)) else {
                        continue;
                    };
                    let of = Of { file: number, linked, index };
                    // 2,000 pointers and as many entries of `.eh_frame` take 14 us so, and 38 in
                    // one loop for all types.
                    match howto {
                        POINTER => self.run(of, run, POINTER, memory)?,
                        DISTANCE => self.run(of, run, DISTANCE, memory)?,
                        _ => self.run(of, run, howto, memory)?,
                    }
                }
            }
        }
        Ok(())
    }

    /// Applies relocations of one type. It is compiled for each that the caller names.
    #[inline(always)]
    fn run(
        &self,
        of: Of<'_, 'data>,
        relocations: &[Rela],
        howto: Howto,
        memory: &mut [u8],
    ) -> Result<(), Error> {
        let section = self.objects.sections[of.index as usize].offset;
        let address = matches!(howto.what, What::Address | What::Branch);
        for relocation in relocations {
            if !address || self.plain(of, section, relocation, howto, memory).is_none() {
                self.relocation(of, relocation, howto, memory)?;
            }
        }
        Ok(())
    }

    /// Applies what most relocations are: the address of a place in the image. Or does nothing, if
    /// it is not that or cannot be written.
    #[inline(always)]
    fn plain(
        &self,
        of: Of<'_, 'data>,
        section: u64,
        relocation: &Rela,
        howto: Howto,
        memory: &mut [u8],
    ) -> Option<()> {
        let number = self.objects.symbols.number(of.file, of.linked, relocation.r_sym(LE, false))?;
        let target = self.inside(self.symbol(number))?;
        let offset = section + relocation.r_offset(LE);
        let value = howto.value(target, relocation.r_addend(LE), self.base.wrapping_add(offset), self.table);
        let bytes = memory.get_mut(usize::try_from(offset).ok()?..)?;
        howto.encoding.write(bytes.get_mut(..howto.encoding.size())?, value).ok()
    }

    /// Applies a relocation that the scan has passed.
    #[inline(never)]
    fn relocation(
        &self,
        of: Of<'_, 'data>,
        relocation: &Rela,
        howto: Howto,
        memory: &mut [u8],
    ) -> Result<(), Error> {
        let Of { file, linked, index } = of;
        let (r_type, r_sym) = (relocation.r_type(LE, false), relocation.r_sym(LE, false));
        let (offset, addend) = (relocation.r_offset(LE), relocation.r_addend(LE));
        let machine = self.objects.machine;
        let section = &self.objects.sections[index as usize];
        let number = self.objects.symbols.number(file, linked, r_sym);
        let number = number.ok_or_else(|| malformed("relocation table", "it has changed", offset))?;
        let symbol = self.symbol(number);
        let failed = |problem| {
            let symbol = linked.file.symbol_label(r_sym);
            Error::Fixup { machine, r_type, symbol, offset, problem }
        };
        let place = self.base.wrapping_add(section.offset).wrapping_add(offset);
        let value = |what| howto.value(what, addend, place, self.table);
        let value = match howto.what {
            _ if matches!(symbol.definition, Definition::Gone { .. }) => {
                at(memory, section.offset + offset, howto.encoding.size())?.fill(0);
                return Ok(());
            }
            What::Address | What::Branch => match symbol.definition {
                Definition::Import(_) | Definition::Absolute(_)
                    if scan::is_branch(machine, section, offset, howto) =>
                {
                    let target = self.target(number);
                    let near = value(target);
                    // A call of a weak function that is not there goes on behind the call: ELF for
                    // the Arm 64-bit Architecture, section "Call and Jump relocations".
                    if target == 0 && howto.encoding == Encoding::Field(Field::Branch) {
                        4
                    } else if !howto.fits(near)
                        && scan::may_take_stub(machine, section, offset, howto, addend)
                    {
                        value(self.stub(symbol))
                    } else {
                        near
                    }
                }
                _ => value(self.address(number)),
            },
            What::Size => value(self.size(linked, r_sym, number)),
            What::Table => value(self.table),
            What::BlockOffset => value(self.block_offset(symbol)),
            What::Entry(slot) => match scan::relaxed(section, offset, r_type, addend, symbol.definition) {
                Some(load) => {
                    let code = at(memory, section.offset, section.bytes.len())?;
                    return load.relax(code, offset as usize, value(self.address(number))).map_err(failed);
                }
                None => value(self.slot(slot, symbol)),
            },
        };
        let bytes = at(memory, section.offset + offset, howto.encoding.size())?;
        howto.encoding.write(bytes, value).map_err(failed)
    }

    fn symbol(&self, number: u32) -> &'a Symbol {
        &self.objects.symbols.all[number as usize]
    }

    fn binding(&self, import: u32) -> Option<Binding> {
        self.bindings.get(import as usize).copied().flatten()
    }

    /// What a symbol that is an import stands for.
    fn bound(&self, number: u32, import: u32) -> u64 {
        match self.binding(import) {
            Some(Binding::Address(address)) => address,
            // `Image::link` lets no thread-local variable through to where an address is wanted.
            Some(Binding::ThreadLocal(_)) | None => {
                self.in_section(self.objects.symbols.own(number)).unwrap_or(0)
            }
        }
    }

    /// The symbol itself.
    fn target(&self, number: u32) -> u64 {
        match self.symbol(number).definition {
            Definition::Import(import) => self.bound(number, import),
            _ => self.address(number),
        }
    }

    /// The address of what is in the image and no stub stands for.
    #[inline]
    fn inside(&self, symbol: &Symbol) -> Option<u64> {
        if symbol.indirect { None } else { self.in_section(symbol.definition) }
    }

    #[inline]
    fn in_section(&self, definition: Definition) -> Option<u64> {
        let Definition::Section(spot) = definition else { return None };
        Some(self.base.wrapping_add(spot.offset(&self.objects.sections)))
    }

    /// What code of the module takes for the symbol's address.
    fn address(&self, number: u32) -> u64 {
        let symbol = self.symbol(number);
        if let Some(address) = self.inside(symbol) {
            return address;
        }
        match symbol.definition {
            Definition::Section(_) => self.stub(symbol),
            Definition::Import(import) if self.by_stub[import as usize] => self.stub(symbol),
            Definition::Import(import) => self.bound(number, import),
            Definition::Absolute(value) => value,
            Definition::Elsewhere | Definition::Gone { .. } => 0,
        }
    }

    fn stub(&self, symbol: &Symbol) -> u64 {
        let number = self.objects.table.stub(symbol).unwrap_or(NONE);
        let stubs = self.objects.sections[own::STUBS as usize].offset;
        self.base.wrapping_add(stubs).wrapping_add(u64::from(number) * stub_size(self.objects.machine) as u64)
    }

    /// Where the global offset table has what is needed of the symbol.
    fn slot(&self, slot: Slot, symbol: &Symbol) -> u64 {
        self.table.wrapping_add(8 * u64::from(self.objects.table.word(slot, symbol)))
    }

    fn block_offset(&self, symbol: &Symbol) -> u64 {
        let start = self.objects.sections[own::TEMPLATE as usize].offset;
        match symbol.definition {
            Definition::Section(spot) => spot.offset(&self.objects.sections).wrapping_sub(start),
            _ => 0,
        }
    }

    fn size(&self, linked: &Linked<'data>, r_sym: u32, number: u32) -> u64 {
        if (number as usize) < self.objects.globals.len() {
            return self.objects.size(number);
        }
        linked.file.symbols.get(r_sym as usize).map_or(0, |symbol| symbol.st_size(LE))
    }

    /// The one or two words of an entry of the global offset table.
    fn entry(&self, entry: Entry) -> Result<(u64, Option<u64>), Error> {
        let words = |kind, number| {
            let words = tls::words(kind, self.variable(number), 0, self.host);
            words.map_err(|problem| Error::UnusableBinding {
                symbol: self.objects.symbol_label(number),
                problem,
            })
        };
        Ok(match entry {
            Entry::Address(number) => (self.address(number), None),
            // Code of the module will say.
            Entry::Target(number) if self.symbol(number).indirect => (0, None),
            Entry::Target(number) => (self.target(number), None),
            Entry::General(number) => {
                let (module, _) = words(ThreadKind::Module, number)?;
                let (offset, _) = words(ThreadKind::Offset, number)?;
                (module, Some(offset))
            }
            Entry::Local => (self.host.tls_module, Some(0)),
            Entry::Initial(number) => words(ThreadKind::FromThreadPointer, number)?,
            Entry::Descriptor(number) => words(ThreadKind::Descriptor, number)?,
        })
    }

    /// The thread-local variable that a symbol stands for; `None` if it is weak and nobody defines
    /// it.
    fn variable(&self, number: u32) -> Option<ThreadLocal> {
        let symbol = self.symbol(number);
        match symbol.definition {
            Definition::Import(import) => match self.binding(import) {
                Some(Binding::ThreadLocal(variable)) => Some(variable),
                Some(Binding::Address(_)) | None => None,
            },
            _ => {
                let offset = self.block_offset(symbol);
                Some(ThreadLocal { module: self.host.tls_module, offset, from_thread_pointer: None })
            }
        }
    }

    fn stubs(&self, memory: &mut [u8]) -> Result<(), Error> {
        let offset = self.objects.sections[own::STUBS as usize].offset;
        let stubs = self.objects.table.stubs.iter();
        let entries = stubs.map(|stub| self.table.wrapping_add(8 * u64::from(stub.word)));
        write_stubs(memory, self.objects.machine, self.base, offset, entries)
    }
}
