//! Where the image may be, so that all code reaches what it names directly.

use super::Objects;
use super::scan::Direct;
use super::symbols::{Definition, own};
use super::table::stub_size;
use crate::error::label;
use crate::fixup::From;
use crate::{Binding, Error, Window};

impl Objects<'_> {
    pub(super) fn reach(&self, bindings: &[Option<Binding>]) -> Result<Window, Error> {
        let (mut low, mut high) = (0, i128::from(u64::MAX));
        for direct in &self.direct {
            let Some((lowest, highest)) = self.limits(direct, bindings) else { continue };
            (low, high) = (low.max(lowest), high.min(highest));
            if low > high {
                let linked = &self.files[direct.file as usize];
                return Err(linked.label().blame(Error::OutOfReach {
                    machine: self.machine,
                    r_type: direct.r_type,
                    symbol: self.label(direct.symbol),
                    here: matches!(self.symbols.all[direct.symbol as usize].definition, Definition::Section { .. }),
                }));
            }
        }
        // Both are between 0 and the largest address.
        Ok(Window { low: low as u64, high: high as u64 })
    }

    /// The lowest and the highest address of the image at which one relocation's value can be written; all, if `None`. The sums
    /// are exact, in more bits than an address has.
    fn limits(&self, direct: &Direct, bindings: &[Option<Binding>]) -> Option<(i128, i128)> {
        let (lowest, highest) = direct.howto.encoding.range()?;
        let (lowest, highest) = (i128::from(lowest), i128::from(highest));
        let symbol = &self.symbols.all[direct.symbol as usize];
        let addend = i128::from(direct.addend);
        let moving = match symbol.definition {
            Definition::Section { .. } if symbol.indirect => Some(self.stub_offset(direct)),
            Definition::Section { section, value } => {
                Some(i128::from(self.sections[section as usize].offset) + i128::from(value))
            }
            _ => None,
        };
        let fixed = match symbol.definition {
            Definition::Absolute(value) => i128::from(value),
            Definition::Import(import) => match bindings.get(import as usize) {
                Some(Some(Binding::Address(address))) => i128::from(*address),
                _ => 0,
            },
            _ => 0,
        };
        let bound = matches!(symbol.definition, Definition::Import(import) if matches!(bindings.get(import as usize), Some(Some(_))));
        let stand_in = bound && self.has_stand_in(direct, symbol);
        // What the place is from the start of the image; pages are counted in bytes.
        let place = match direct.howto.from {
            From::Zero => {
                let here = match moving {
                    Some(offset) => offset,
                    None if (lowest..=highest).contains(&(fixed + addend)) => return None,
                    None if stand_in => self.stub_offset(direct),
                    // No address of the image helps.
                    None => return Some((1, 0)),
                };
                return Some((lowest - here - addend, highest - here - addend));
            }
            _ if moving.is_some() || stand_in => return None,
            From::Place => i128::from(self.place(direct)),
            From::Page => {
                let page = |offset: i128| offset & !0xFFF;
                let distance = page(fixed + addend) - page(i128::from(self.place(direct)));
                return Some((distance - highest, distance - lowest));
            }
            From::Table => i128::from(self.sections[own::TABLE as usize].offset),
            From::TablePage => i128::from(self.sections[own::TABLE as usize].offset) & !0xFFF,
        };
        let distance = fixed + addend - place;
        Some((distance - highest, distance - lowest))
    }

    fn stub_offset(&self, direct: &Direct) -> i128 {
        let number = self.table.stub(&self.symbols.all[direct.symbol as usize]).unwrap_or(0);
        let stubs = self.sections[own::STUBS as usize].offset;
        i128::from(stubs) + i128::from(number) * stub_size(self.machine) as i128
    }

    fn label(&self, number: u32) -> alloc::string::String {
        if (number as usize) < self.names.len() { label(self.names.get(number)) } else { Default::default() }
    }
}
