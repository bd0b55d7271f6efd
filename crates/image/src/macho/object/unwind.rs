//! Call frame information for the image: what the files have of it (`__eh_frame`), and what their
//! compact unwind records say.

use super::super::unwind::{Own, compact_unwind, eh_frame};
use super::fixups::{Fixup, Target};
use super::scan::{Of, place};
use super::section::Kind;
use super::symbols::{in_file, own};
use super::{Objects, relocate};
use crate::fixup::{Encoding, From, What};
use crate::linking::definition::Spot;
use crate::linking::section::Part;
use crate::macho::format::malformed;
use crate::source::Site;
use crate::{Error, Host, Unwind};
use alloc::vec::Vec;

/// Bytes of a record, and where its fields are: `compact_unwind_entry` of ld64 and lld. The start
/// of the function (8), its length and the encoding (4 each), the personality routine and what it
/// reads (8 each).
const RECORD: usize = 32;
const PERSONALITY: u64 = 16;
const LSDA: u64 = 24;

const TABLE: &str = "compact unwind records (__compact_unwind)";

/// Whether it is for the personality routine of a compact unwind record.
pub(super) fn is_personality(fixup: &Fixup) -> bool {
    fixup.place % RECORD as u64 == PERSONALITY
}

/// The place so far behind another.
pub(super) fn moved(spot: Spot, by: i64) -> Spot {
    Spot { value: spot.value.wrapping_add_signed(by), ..spot }
}

impl<'data> Objects<'data> {
    /// Makes the section, and a region for it behind all others, because how long it is depends on
    /// where everything is. The layout is complete but for it.
    pub(super) fn add_frames(&mut self, page_size: u64, max_span: u64) -> Result<(), Error> {
        let span = self.layout.memory.span;
        let mut records = Vec::new();
        for (number, linked) in (0..).zip(&self.files) {
            for (index, kind) in (0..).zip(&linked.kinds) {
                if *kind == Kind::CompactUnwind {
                    let of = Of { number, linked, index };
                    let more = self.records(of).map_err(|error| linked.label().blame(error))?;
                    records.extend(more);
                }
            }
        }
        let entries = compact_unwind(&records)?;
        // Behind the image for the moment, where nothing else is: what they hold is relative to
        // their places.
        let mut at = span;
        for index in 0..self.sections.len() {
            if self.sections[index].part() == Some(Part::Frames) {
                self.sections[index].offset = at;
                at = at.saturating_add(self.sections[index].size);
            }
        }
        let frames = self.frames(span, at)?;
        let given = Own { offset: span, section: &frames };
        let section = eh_frame(&entries, (!frames.is_empty()).then_some(given), span, span)?;
        if section.len() <= 4 {
            return Ok(());
        }
        let size = section.len() as u64;
        self.layout.memory.append(size, page_size, max_span)?;
        self.sections[own::UNWIND as usize].offset = span;
        self.layout.unwind = Some(Unwind { offset: span, size, terminated: true });
        self.frames = section;
        Ok(())
    }

    /// The records of one section, of offsets in the image.
    fn records(&self, of: Of<'_, 'data>) -> Result<Vec<u8>, Error> {
        let at = place(of.linked, &self.sections, of.index);
        let mut bytes = at.bytes.to_vec();
        if !bytes.len().is_multiple_of(RECORD) {
            return Err(malformed(TABLE, "it is cut off", bytes.len() as u64));
        }
        let mut described = alloc::vec![false; bytes.len() / RECORD];
        for fixup in at.fixups()? {
            let fixup = fixup?;
            let field = fixup.place % RECORD as u64;
            let word = fixup.howto.encoding == Encoding::Word && fixup.howto.what == What::Address;
            if !word || fixup.minus.is_some() || !matches!(field, 0 | PERSONALITY | LSDA) {
                return Err(malformed(TABLE, "a record is not as compilers write it", fixup.place));
            }
            let offset = if field == PERSONALITY {
                self.personality(of, &fixup)
            } else {
                self.described(of, &fixup, field == 0)
            };
            let offset = offset.ok_or_else(|| of.bad(&fixup, OUTSIDE))?;
            described[fixup.place as usize / RECORD] |= field == 0;
            let start = fixup.place as usize;
            bytes[start..start + 8].copy_from_slice(&offset.to_le_bytes());
        }
        match described.iter().position(|described| !described) {
            Some(record) => Err(malformed(TABLE, "a record is for no function", record as u64)),
            None => Ok(bytes),
        }
    }

    /// The offset of the entry of the global offset table that has the routine's address. The scan
    /// made it.
    fn personality(&self, of: Of<'_, 'data>, fixup: &Fixup) -> Option<u64> {
        let entry = match fixup.target {
            Target::Symbol(symbol) => {
                self.symbols.all[self.symbols.number(of.number, symbol)? as usize].entry
            }
            Target::Section(section) => {
                let spot = Spot { section: of.linked.first_section + section, value: 0 };
                self.table.spot(moved(spot, fixup.addend))?
            }
        };
        Some(self.sections[own::TABLE as usize].offset + 8 * u64::from(entry))
    }

    /// The offset of the code, or of what a language reads about it, in the file itself.
    fn described(&self, of: Of<'_, 'data>, fixup: &Fixup, code: bool) -> Option<u64> {
        let spot = match fixup.target {
            Target::Symbol(symbol) => in_file(of.linked, symbol, &self.sections)?,
            Target::Section(section) => Spot { section: of.linked.first_section + section, value: 0 },
        };
        let section = &self.sections[spot.section as usize];
        let part = section.part().filter(|part| !part.thread_local() && *part != Part::Frames)?;
        let value = spot.value.checked_add_signed(fixup.addend)?;
        let inside = value < section.size && (!code || part == Part::Code);
        inside.then(|| section.offset + value)
    }

    /// The call frame information of all files, relocated for an image at 0.
    fn frames(&self, start: u64, end: u64) -> Result<Vec<u8>, Error> {
        let mut all = Vec::new();
        // The sections are in order, and leave nothing out.
        for section in self.sections.iter().filter(|section| section.part() == Some(Part::Frames)) {
            all.extend_from_slice(section.bytes);
        }
        if all.len() as u64 != end - start {
            return Err(malformed("call frame table (__eh_frame)", "it has changed", end));
        }
        let site = Site { base: 0, host: &Host::default(), bindings: &[] };
        let linking = relocate::Linking::new(self, site);
        for (number, linked) in (0..).zip(&self.files) {
            let sections = (0..).zip(&linked.kinds).filter(|(_, kind)| **kind == Kind::Frames);
            for (index, _) in sections {
                let of = Of { number, linked, index };
                let section = &self.sections[(linked.first_section + index) as usize];
                let relative = (section.offset - start) as usize;
                let memory = &mut all[relative..relative + section.bytes.len()];
                self.check_frames(of)
                    .and_then(|()| linking.section(of, memory))
                    .map_err(|error| linked.label().blame(error))?;
            }
        }
        Ok(all)
    }

    /// Each function must be named by a relocation: the file's own distances are not those in the
    /// image.
    fn check_frames(&self, of: Of<'_, 'data>) -> Result<(), Error> {
        let at = place(of.linked, &self.sections, of.index);
        let mut relocated = Vec::new();
        for fixup in at.fixups()? {
            let fixup = fixup?;
            if fixup.minus.is_none() && fixup.howto.from == From::Zero {
                return Err(of.bad(&fixup, "is given there by its address: only distances are supported"));
            }
            relocated.push(fixup.place);
        }
        relocated.sort_unstable();
        let mut start = 0;
        while let Some([a, b, c, d, e, f, g, h]) =
            at.bytes.get(start..).and_then(|rest| rest.first_chunk::<8>())
        {
            let length = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
            let common = [e, f, g, h].iter().all(|byte| **byte == 0);
            if !common && relocated.binary_search(&(start as u64 + 8)).is_err() {
                return Err(malformed(
                    "call frame table (__eh_frame)",
                    "a function is given without a relocation",
                    start as u64,
                ));
            }
            start = start.saturating_add(4).saturating_add(length);
        }
        Ok(())
    }
}

const OUTSIDE: &str = "is to be described to unwinders, and is not in the file's own code: build it again";
