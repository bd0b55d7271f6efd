//! Erratum 843419 of the Cortex-A53: an ADRP in one of the last two words of a page of 4 KiB, a
//! load or store behind it, and then, at once or after one more instruction, a load or store that
//! has the ADRP's register as its base, may access another address. (ARM-EPM-048406, Cortex-A53
//! MPCore Software Developers Errata Notice.) GNU ld and lld mend it on request
//! (`--fix-cortex-a53-843419`), which compilers for Debian and others make; here it is done always,
//! since it costs nothing where there is no such sequence: the ADRP becomes an ADR where that
//! reaches, and otherwise the access is moved out of the sequence, into a veneer.
//!
//! Where in its page an instruction will be is known from the layout, since images are at multiples
//! of a page.

use super::file::Home;
use super::resolve::Linked;
use crate::linking::section::{Part, Section};
use alloc::vec::Vec;
use object::LittleEndian as LE;
use object::read::elf::Sym;

/// Bytes of a veneer: the access, and a branch back.
pub(super) const VENEER: u64 = 8;

/// A sequence, by offsets in the image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sequence {
    pub(super) adrp: u64,
    pub(super) access: u64,
}

/// Every sequence in the code of the files, which has its places.
pub(super) fn find(files: &[Linked<'_>], sections: &[Section<'_>]) -> Vec<Sequence> {
    let mut found = Vec::new();
    for linked in files {
        let mut marks = None;
        for index in 0..linked.file.sections.len() as u32 {
            let section = &sections[(linked.first_section + index) as usize];
            if section.part() != Some(Part::Code) {
                continue;
            }
            for (adrp, access) in sequences(section.bytes, section.offset) {
                // Data among code (literal pools, jump tables) is told apart by mapping symbols:
                // ELF for the Arm 64-bit Architecture, section "Mapping symbols".
                let marks = marks.get_or_insert_with(|| marks_of(linked));
                if is_code(marks, index, adrp as u64) && is_code(marks, index, access as u64) {
                    let at = |offset: usize| section.offset + offset as u64;
                    found.push(Sequence { adrp: at(adrp), access: at(access) });
                }
            }
        }
    }
    found
}

/// The sequences in code that will be at this offset: where the ADRP is, and the access.
fn sequences(code: &[u8], offset: u64) -> impl Iterator<Item = (usize, usize)> {
    let word = |at: usize| code.get(at..)?.first_chunk().map(|word| u32::from_le_bytes(*word));
    // The first place with this offset in its page, and one for each page.
    let places = move |low: u64| {
        let first = (low.wrapping_sub(offset) & 0xFFF) as usize;
        (first..code.len()).step_by(0x1000)
    };
    places(0xFF8).chain(places(0xFFC)).filter_map(move |at| {
        let adrp = word(at).filter(|word| word & 0x9F00_0000 == 0x9000_0000)?;
        word(at + 4).filter(|word| word & 0x0A00_0000 == 0x0800_0000)?;
        // A load or store with an unsigned offset from that register.
        let is_access = |word: &u32| word & 0x3B00_0000 == 0x3900_0000 && word >> 5 & 31 == adrp & 31;
        [at + 8, at + 12]
            .into_iter()
            .find(|at| word(*at).as_ref().is_some_and(is_access))
            .map(|access| (at, access))
    })
}

/// Where code and data begin: section, offset there, and which it is. Sorted.
type Marks = Vec<(u32, u64, bool)>;

fn marks_of(linked: &Linked<'_>) -> Marks {
    let file = &linked.file;
    let mark = |(index, symbol): (u32, &super::file::Symbol)| {
        let code = match file.symbol_name(symbol).ok()? {
            b"$x" | [b'$', b'x', b'.', ..] => true,
            b"$d" | [b'$', b'd', b'.', ..] => false,
            _ => return None,
        };
        match file.home(index) {
            Ok(Home::Section(section)) => Some((section, symbol.st_value(LE), code)),
            _ => None,
        }
    };
    let mut marks: Marks = (0..).zip(&file.symbols[..file.first_global]).filter_map(mark).collect();
    marks.sort_unstable();
    marks
}

/// Without marks nothing is known to be code, and nothing is changed.
fn is_code(marks: &Marks, section: u32, at: u64) -> bool {
    let before = marks.partition_point(|mark| (mark.0, mark.1) <= (section, at));
    before.checked_sub(1).is_some_and(|last| marks[last].0 == section && marks[last].2)
}

/// What is written for a sequence: at the ADRP, or at the access and in the veneer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mended {
    Adr(u32),
    Moved { branch: u32, veneer: [u32; 2] },
}

/// How a sequence is mended whose instructions are these, once linked. `None`: the veneer is out of
/// reach.
pub(super) fn mend(adrp: u32, access: u32, at: Sequence, veneer: u64) -> Option<Mended> {
    // In pages of 4 KiB, and so in bytes: all of it is signed, 33 bits long.
    let pages = i64::from((adrp >> 5 & 0x7FFFF) << 2 | adrp >> 29 & 3) << 43 >> 43;
    let target = (at.adrp & !0xFFF) as i64 + (pages << 12);
    let distance = target - at.adrp as i64;
    if (-(1 << 20)..1 << 20).contains(&distance) {
        let field = distance as u32;
        return Some(Mended::Adr(0x1000_0000 | adrp & 31 | (field & 3) << 29 | (field >> 2 & 0x7FFFF) << 5));
    }
    let branch = |from: u64, to: u64| {
        let distance = to as i64 - from as i64;
        let reaches = (-(1 << 27)..1 << 27).contains(&distance);
        reaches.then_some(0x1400_0000 | (distance >> 2) as u32 & 0x03FF_FFFF)
    };
    let back = branch(veneer + 4, at.access + 4)?;
    Some(Mended::Moved { branch: branch(at.access, veneer)?, veneer: [access, back] })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADRP_X0: u32 = 0x9000_0000;
    const STR_X1_X2: u32 = 0xF900_0041;
    const NOP: u32 = 0xD503_201F;
    const LDR_X3_X0: u32 = 0xF940_0003;
    const LDR_X3_X4: u32 = 0xF940_0083;

    fn found(words: &[u32], offset: u64) -> Vec<(usize, usize)> {
        let code: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        sequences(&code, offset).collect()
    }

    #[test]
    fn sequences_at_the_end_of_a_page() {
        let three = [ADRP_X0, STR_X1_X2, LDR_X3_X0];
        let four = [ADRP_X0, STR_X1_X2, NOP, LDR_X3_X0];
        for offset in [0xFF8, 0xFFC, 0x5FF8, 0x5FFC] {
            assert_eq!(found(&three, offset), [(0, 8)], "{offset:x}");
            assert_eq!(found(&four, offset), [(0, 12)], "{offset:x}");
        }
        for offset in [0, 0xFF4, 0x1000, 0x7F8] {
            assert_eq!(found(&three, offset), [], "{offset:x}");
        }
        for other in [
            &[ADRP_X0, NOP, LDR_X3_X0][..],
            &[ADRP_X0, STR_X1_X2, LDR_X3_X4, NOP],
            &[NOP, STR_X1_X2, LDR_X3_X0],
            &[ADRP_X0, STR_X1_X2],
            &[ADRP_X0],
            &[],
        ] {
            assert_eq!(found(other, 0xFF8), [], "{other:x?}");
        }
        let long: Vec<u32> = (0..3000).map(|at| if at == 2046 { ADRP_X0 } else { STR_X1_X2 }).collect();
        assert_eq!(found(&[&long[..2048], &[LDR_X3_X0]].concat(), 0), [(2046 * 4, 2048 * 4)]);
    }

    #[test]
    fn near_ones_become_adr_and_far_ones_move() {
        let at = Sequence { adrp: 0x10_0FF8, access: 0x10_1000 };
        // ADRP X0 of the page before, by ADR X0: 0x1FF8 bytes back.
        let back = 0x9000_0000 | 3 << 29 | 0x7FFFF << 5;
        assert_eq!(mend(back, LDR_X3_X0, at, 0x20_0000), Some(Mended::Adr(0x10FF_0040)));
        // Of a page 16 MiB further.
        let far = ADRP_X0 | 0x1000 >> 2 << 5;
        let veneer = [LDR_X3_X0, 0x1400_0000 | ((0x10_1004 - 0x20_0004) >> 2) as u32 & 0x03FF_FFFF];
        let moved = Mended::Moved { branch: 0x1400_0000 | (0x20_0000 - 0x10_1000) >> 2, veneer };
        assert_eq!(mend(far, LDR_X3_X0, at, 0x20_0000), Some(moved));
        assert_eq!(mend(far, LDR_X3_X0, at, 0x10_1000 + (1 << 27)), None);
    }
}
