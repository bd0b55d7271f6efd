//! Writing the image: the sections, every fix-up, the global offset table and the stubs, for one
//! address.

use super::Objects;
use super::fixups::Target;
use super::resolve::Linked;
use super::scan::{Direct, Of, place};
use super::section::Kind;
use super::symbols::{NONE, in_file, own};
use super::table::Entry;
use crate::error::label;
use crate::fixup::{What, aarch64};
use crate::linking::definition::{Definition, Spot};
use crate::linking::memory::{at, write_stubs};
use crate::linking::section::Part;
use crate::macho::format::malformed;
use crate::source::Site;
use crate::{Binding, Error, Host, Machine, Window};

/// What linking for one address works on.
pub(super) struct Linking<'a, 'data> {
    objects: &'a Objects<'data>,
    site: Site<'a>,
}

impl<'a, 'data> Linking<'a, 'data> {
    pub(super) fn new(objects: &'a Objects<'data>, site: Site<'a>) -> Self {
        Linking { objects, site }
    }

    pub(super) fn write(&self, memory: &mut [u8]) -> Result<(), Error> {
        for (number, linked) in (0..).zip(&self.objects.files) {
            self.file(number, linked, memory).map_err(|error| linked.label().blame(error))?;
        }
        self.descriptors(memory)?;
        let table = self.objects.sections[own::TABLE as usize].offset;
        for (word, entry) in (0..).zip(&self.objects.table.entries) {
            let address = match entry {
                Entry::Symbol(number) => self.address(self.objects.symbols.all[*number as usize].definition),
                Entry::Spot(spot) => self.spot(*spot),
            };
            at(memory, table + 8 * word, 8)?.copy_from_slice(&address.to_le_bytes());
        }
        self.stubs(memory)?;
        if let Some(unwind) = &self.objects.layout.unwind {
            at(memory, unwind.offset, self.objects.frames.len())?.copy_from_slice(&self.objects.frames);
        }
        Ok(())
    }

    fn file(&self, number: u32, linked: &Linked<'data>, memory: &mut [u8]) -> Result<(), Error> {
        for (index, kind) in (0..).zip(&linked.kinds) {
            let section = &self.objects.sections[(linked.first_section + index) as usize];
            // Frames are there already, in another form, and descriptors are all ours.
            let ours = matches!(kind, Kind::Frames | Kind::Descriptors);
            if section.part().is_none() || section.bytes.is_empty() || ours {
                continue;
            }
            let memory = at(memory, section.offset, section.bytes.len())?;
            memory.copy_from_slice(section.bytes);
            self.section(Of { number, linked, index }, memory)?;
        }
        Ok(())
    }

    /// Applies the relocations of a section, of which `memory` has the bytes.
    pub(super) fn section(&self, of: Of<'_, 'data>, memory: &mut [u8]) -> Result<(), Error> {
        let Of { number, linked, index } = of;
        let objects = self.objects;
        let offset = objects.sections[(linked.first_section + index) as usize].offset;
        let base = self.site.base.wrapping_add(offset);
        let own = of.for_own();
        for fixup in place(linked, &objects.sections, index).fixups()? {
            let fixup = fixup?;
            let address = base.wrapping_add(fixup.place);
            let minus = match fixup.minus {
                Some(minus) => self.address(self.definition(number, linked, Target::Symbol(minus), own)?),
                None => 0,
            };
            let definition = self.definition(number, linked, fixup.target, own)?;
            let value = match fixup.howto.what {
                What::Entry(_) => fixup.value(self.entry(number, fixup.target)?, address, 0),
                What::Branch => {
                    let near = fixup.value(self.address(definition), address, 0);
                    match self.stub(number, fixup.target) {
                        Some(stub) if fixup.addend == 0 && !fixup.howto.fits(near) => {
                            fixup.value(stub, address, 0)
                        }
                        _ => near,
                    }
                }
                _ => fixup.value(self.address(definition), address, minus),
            };
            let bytes = at(memory, fixup.place, fixup.howto.encoding.size())?;
            let written = fixup.howto.encoding.write(bytes, value);
            written.map_err(|problem| fixup.failed(&linked.file, problem))?;
        }
        Ok(())
    }

    /// What a target is, without its addend. The scan has passed it.
    fn definition(
        &self,
        file: u32,
        linked: &Linked<'data>,
        target: Target,
        own: bool,
    ) -> Result<Definition, Error> {
        match target {
            Target::Section(section) => {
                Ok(Definition::Section(Spot { section: linked.first_section + section, value: 0 }))
            }
            Target::Symbol(index) => {
                if own && let Some(spot) = in_file(linked, index, &self.objects.sections) {
                    return Ok(Definition::Section(spot));
                }
                let number = self.objects.symbols.number(file, index).ok_or_else(changed)?;
                Ok(self.objects.symbols.all[number as usize].definition)
            }
        }
    }

    fn spot(&self, spot: Spot) -> u64 {
        self.site.base.wrapping_add(spot.offset(&self.objects.sections))
    }

    fn address(&self, definition: Definition) -> u64 {
        match definition {
            Definition::Section(spot) => self.spot(spot),
            Definition::Absolute(value) => value,
            Definition::Import(import) => match self.site.bindings.get(import as usize) {
                Some(Some(Binding::Address(address))) => *address,
                // `Image::link` lets no thread-local variable through to where an address is
                // wanted.
                _ => 0,
            },
            Definition::Elsewhere | Definition::Gone { .. } => 0,
        }
    }

    /// The address of what the global offset table has for a target.
    fn entry(&self, file: u32, target: Target) -> Result<u64, Error> {
        let Target::Symbol(index) = target else { return Err(changed()) };
        let number = self.objects.symbols.number(file, index).ok_or_else(changed)?;
        let entry = self.objects.symbols.all[number as usize].entry;
        if entry == NONE {
            return Err(changed());
        }
        let table = self.objects.sections[own::TABLE as usize].offset;
        Ok(self.site.base.wrapping_add(table).wrapping_add(8 * u64::from(entry)))
    }

    /// The address of a target's stub, if it has one.
    fn stub(&self, file: u32, target: Target) -> Option<u64> {
        let Target::Symbol(index) = target else { return None };
        let stub = self.objects.symbols.all[self.objects.symbols.number(file, index)? as usize].stub;
        let stubs = self.objects.sections[own::STUBS as usize].offset;
        (stub != NONE)
            .then(|| self.site.base.wrapping_add(stubs).wrapping_add(u64::from(stub) * aarch64::STUB as u64))
    }

    fn stubs(&self, memory: &mut [u8]) -> Result<(), Error> {
        let [stubs, table] = [own::STUBS, own::TABLE].map(|own| self.objects.sections[own as usize].offset);
        let table = self.site.base.wrapping_add(table);
        let entries = self.objects.table.stubs.iter().map(|entry| table.wrapping_add(8 * u64::from(*entry)));
        write_stubs(memory, Machine::Aarch64, self.site.base, stubs, entries)
    }

    fn descriptors(&self, memory: &mut [u8]) -> Result<(), Error> {
        for descriptor in &self.objects.descriptors {
            let offset = self.objects.in_block(descriptor.variable);
            if offset > u32::MAX.into() {
                return Err(Error::TooLarge { needed: offset, limit: u32::MAX.into() });
            }
            let place = descriptor.place.offset(&self.objects.sections);
            let words = [self.site.host.tlv_thunk, self.site.host.tls_module << 32 | offset, 0];
            let memory = at(memory, place, super::descriptors::SIZE)?;
            for (place, word) in memory.chunks_exact_mut(8).zip(words) {
                place.copy_from_slice(&word.to_le_bytes());
            }
        }
        Ok(())
    }
}

/// Where the image may be, so that all addresses of four bytes are ones.
pub(super) fn window(objects: &Objects<'_>, bindings: &[Option<Binding>]) -> Result<Window, Error> {
    let host = Host::default();
    // Sums of addresses are exact here, in more bits than an address has.
    let (mut low, mut high) = (0, i128::from(u64::MAX));
    // As if the image were at 0.
    let linking = Linking::new(objects, Site { base: 0, host: &host, bindings });
    for Direct { file, fixup } in &objects.direct {
        let linked = &objects.files[*file as usize];
        let definition = linking.definition(*file, linked, fixup.target, false)?;
        let sum = i128::from(linking.address(definition)) + i128::from(fixup.addend);
        let here = matches!(definition, Definition::Section(_));
        if here {
            (low, high) = (low.max(-sum), high.min(i128::from(u32::MAX) - sum));
        }
        let fits = (0..=i128::from(u32::MAX)).contains(&sum);
        if low > high || !(here || fits) {
            let symbol = label(fixup.symbol_label(&linked.file));
            let r_type = crate::machine::MACHO + u32::from(fixup.r_type);
            let error = Error::OutOfReach { machine: Machine::Aarch64, r_type, symbol, here };
            return Err(linked.label().blame(error));
        }
    }
    // Both are between 0 and the largest address.
    Ok(Window { low: low as u64, high: high as u64 })
}

impl Objects<'_> {
    /// Where a thread-local variable is in the image's block.
    pub(super) fn in_block(&self, variable: Spot) -> u64 {
        let start = self.layout.thread_locals.map_or(0, |block| block.offset);
        debug_assert!(self.sections[variable.section as usize].part().is_some_and(Part::thread_local));
        variable.offset(&self.sections).wrapping_sub(start)
    }
}

fn changed() -> Error {
    malformed("relocation table", "it has changed", 0)
}
