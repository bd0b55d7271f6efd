//! Thread-local variables: a descriptor for each, three words that code finds the variable by.
//! <mach-o/loader.h>, at `S_THREAD_LOCAL_VARIABLES`, and `struct TLVDescriptor` of dyld.
//!
//! A compiler writes the address of `_tlv_bootstrap`, 0, and the address of the variable's initial
//! contents. What stands there when the image is linked is the host's function, which variable it
//! is to find, and 0: no loader need see it.

use super::fixups::Fixup;
use super::scan::{Of, Scan, place};
use crate::Error;
use crate::fixup::{Encoding, What};
use crate::linking::definition::{Definition, Spot};
use crate::linking::section::Part;
use crate::macho::format::malformed;

/// Bytes.
pub(super) const SIZE: usize = 24;

/// A thread-local variable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Descriptor {
    pub(super) place: Spot,
    /// Its initial contents.
    pub(super) variable: Spot,
}

const TABLE: &str = "table of thread-local variables (__thread_vars)";

impl<'data> Scan<'_, 'data> {
    pub(super) fn read_descriptors(&mut self, of: Of<'_, 'data>) -> Result<(), Error> {
        let section = of.linked.first_section + of.index;
        let bytes = self.sections[section as usize].bytes;
        if !bytes.len().is_multiple_of(SIZE) {
            return Err(malformed(TABLE, "it is cut off", bytes.len() as u64));
        }
        let mut variables = alloc::vec![None; bytes.len() / SIZE];
        for fixup in place(of.linked, self.sections, of.index).fixups()? {
            let fixup = fixup?;
            let (number, word) = (fixup.place as usize / SIZE, fixup.place % SIZE as u64);
            if fixup.howto.encoding != Encoding::Word
                || fixup.howto.what != What::Address
                || fixup.minus.is_some()
                || !matches!(word, 0 | 16)
            {
                return Err(malformed(TABLE, "a descriptor is not as compilers write it", fixup.place));
            }
            // The first word is for the loader's function, whatever it be called.
            if word == 16 && variables[number].replace(self.variable(of, &fixup)?).is_some() {
                return Err(malformed(TABLE, "a descriptor has two variables", fixup.place));
            }
        }
        for (number, variable) in (0..).zip(variables) {
            let value = number * SIZE as u64;
            let variable = variable.ok_or_else(|| malformed(TABLE, "a descriptor has no variable", value))?;
            self.descriptors.push(Descriptor { place: Spot { section, value }, variable });
        }
        Ok(())
    }

    fn variable(&self, of: Of<'_, 'data>, fixup: &Fixup) -> Result<Spot, Error> {
        let (definition, _) = self.find(of, fixup.target)?;
        if let Definition::Section(spot) = definition
            && let section = &self.sections[spot.section as usize]
            && section.part().is_some_and(Part::thread_local)
            && let Some(value) = spot.value.checked_add_signed(fixup.addend)
            && value <= section.size
        {
            return Ok(Spot { value, ..spot });
        }
        Err(of.bad(
            fixup,
            "is what a thread-local variable begins with, and is not among such contents: build it again",
        ))
    }
}
