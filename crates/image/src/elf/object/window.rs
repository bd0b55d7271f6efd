//! Where the image may be, so that all code reaches what it names directly.

use super::Objects;
use super::scan::Direct;
use super::symbols::own;
use crate::fixup::From;
use crate::linking::definition::{Definition, Spot};
use crate::linking::memory::stub_size;
use crate::{Binding, Error, Window};

/// What a relocation names. Sums of addresses are exact here, in more bits than an address has.
enum Named {
    /// So many bytes from the start of the image.
    Here(i128),
    /// At this address, wherever the image is.
    There(i128),
}

impl Objects<'_> {
    pub(super) fn reach(&self, bindings: &[Option<Binding>]) -> Result<Window, Error> {
        let (mut low, mut high) = (0, i128::from(u64::MAX));
        for direct in &self.direct {
            let named = self.named(direct, bindings);
            let Some((lowest, highest)) = self.limits(direct, &named) else { continue };
            (low, high) = (low.max(lowest), high.min(highest));
            if low > high {
                let linked = &self.files[direct.file as usize];
                return Err(linked.label().blame(Error::OutOfReach {
                    machine: self.machine,
                    r_type: direct.r_type,
                    symbol: linked.file.symbol_label(direct.r_sym),
                    here: matches!(named, Named::Here(_)),
                }));
            }
        }
        // Both are between 0 and the largest address.
        Ok(Window { low: low as u64, high: high as u64 })
    }

    fn named(&self, direct: &Direct, bindings: &[Option<Binding>]) -> Named {
        let symbol = &self.symbols.all[direct.symbol as usize];
        let stub = |number: u32| {
            let stubs = self.sections[own::STUBS as usize].offset;
            Named::Here(i128::from(stubs) + i128::from(number) * stub_size(self.machine) as i128)
        };
        match symbol.definition {
            Definition::Section(Spot { section, value }) => match self.table.stub(symbol) {
                Some(number) if symbol.indirect => stub(number),
                _ => Named::Here(i128::from(self.sections[section as usize].offset) + i128::from(value)),
            },
            Definition::Absolute(value) => Named::There(value.into()),
            Definition::Import(import) => match bindings.get(import as usize) {
                Some(Some(Binding::Address(address))) => {
                    let value = i128::from(*address) + i128::from(direct.addend);
                    let fits = range(direct).is_none_or(|(low, high)| (low..=high).contains(&value));
                    let itself = direct.howto.from == From::Zero && fits;
                    match self.table.stub(symbol) {
                        Some(number) if !itself && self.has_stand_in(direct, symbol) => stub(number),
                        _ => Named::There((*address).into()),
                    }
                }
                _ => match self.symbols.own(direct.symbol) {
                    Definition::Section(Spot { section, value }) => {
                        Named::Here(i128::from(self.sections[section as usize].offset) + i128::from(value))
                    }
                    _ => Named::There(0),
                },
            },
            Definition::Elsewhere | Definition::Gone { .. } => Named::There(0),
        }
    }

    /// The lowest and the highest address of the image at which the relocation's value can be
    /// written; `None`: all.
    fn limits(&self, direct: &Direct, named: &Named) -> Option<(i128, i128)> {
        let (lowest, highest) = range(direct)?;
        let addend = i128::from(direct.addend);
        let page = |address: i128| address & !0xFFF;
        let table = i128::from(self.sections[own::TABLE as usize].offset);
        let place = i128::from(self.place(direct));
        match (named, direct.howto.from) {
            (Named::Here(offset), From::Zero) => Some((lowest - offset - addend, highest - offset - addend)),
            // As far away wherever the image is.
            (Named::Here(_), _) => None,
            (Named::There(address), From::Zero) => {
                // No address of the image helps.
                if (lowest..=highest).contains(&(address + addend)) { None } else { Some((1, 0)) }
            }
            // The image's address, a multiple of its page size, is taken off as a whole.
            (Named::There(address), from) => {
                let distance = match from {
                    From::Page => page(address + addend) - page(place),
                    From::Table => address + addend - table,
                    From::TablePage => address + addend - page(table),
                    From::Place | From::Zero => address + addend - place,
                };
                Some((distance - highest, distance - lowest))
            }
        }
    }
}

fn range(direct: &Direct) -> Option<(i128, i128)> {
    direct.howto.encoding.range().map(|(low, high)| (low.into(), high.into()))
}
