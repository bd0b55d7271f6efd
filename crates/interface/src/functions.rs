//! Which exported functions are other code in a newer version, by the code itself.
//!
//! A function is the same if its bytes are, and has changed if they are not; but for references:
//! one to something outside of the function is written as a distance, which is another wherever one
//! of the two has moved. Where both lead to the same symbol, or to the same address outside of the
//! module, the reference is the same. Where that cannot be seen (the linker's stubs, constants and
//! variables have no names in memory) the function is *unknown*, and never said to be one or the
//! other. What is said of a function is said of its own code: what it calls may have changed.

use std::collections::BTreeMap;
use std::ops::Range;

use midflight_image::Machine;

/// How the exported functions of two versions differ. The names are as the linker knows them, in
/// order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct ChangedFunctions {
    /// In both, with other code.
    pub changed: Vec<String>,
    /// In the newer only.
    pub added: Vec<String>,
    /// In the older only.
    pub removed: Vec<String>,
    /// In both, and whether they have changed is not known: they refer to what may have moved, or
    /// their file does not say how long they are, as Mach-O never does.
    pub unknown: Vec<String>,
}

/// A linked version, and the functions that it exports.
pub struct LinkedCode<'c> {
    range: Range<u64>,
    functions: BTreeMap<&'c str, (u64, &'c [u8])>,
    by_address: Vec<(u64, &'c str)>,
}

impl<'c> LinkedCode<'c> {
    /// `range` is the addresses that are the version's. Of each function: its name, its address,
    /// and the bytes from there on; none if it is not known how many there are.
    pub fn new(range: Range<u64>, functions: impl IntoIterator<Item = (&'c str, u64, &'c [u8])>) -> Self {
        let functions: BTreeMap<_, _> =
            functions.into_iter().map(|(name, address, code)| (name, (address, code))).collect();
        let mut by_address: Vec<_> = functions.iter().map(|(name, (address, _))| (*address, *name)).collect();
        by_address.sort_unstable();
        Self { range, functions, by_address }
    }

    /// The function that has an address, and how far it is from its start. Of several that begin
    /// where it does, one.
    fn holder(&self, address: u64) -> Option<(&'c str, u64)> {
        let after = self.by_address.partition_point(|(start, _)| *start <= address);
        let (start, _) = self.by_address[after.checked_sub(1)?];
        let first = self.by_address.partition_point(|(other, _)| *other < start);
        let (_, name) = self.by_address[first];
        let (_, code) = self.functions[name];
        (address - start < code.len() as u64).then_some((name, address - start))
    }
}

/// So often each byte of a version is compared at most, on average: aliases are functions of their
/// own.
const MOST_BYTES: u64 = 8;

impl ChangedFunctions {
    /// Of two versions for the same machine.
    pub fn between(machine: Machine, older: &LinkedCode<'_>, newer: &LinkedCode<'_>) -> Self {
        let mut found = Self::default();
        // Functions that overlap, as only a file has them that is made so, are not compared for
        // ever.
        let mut budget = MOST_BYTES.saturating_mul(newer.range.end - newer.range.start);
        for (name, now) in &newer.functions {
            let Some(before) = older.functions.get(name) else {
                found.added.push((*name).into());
                continue;
            };
            let Some(left) = budget.checked_sub(now.1.len() as u64) else {
                found.unknown.push((*name).into());
                continue;
            };
            budget = left;
            let pair = Pair { sides: [(older, *before), (newer, *now)] };
            match pair.compare(machine) {
                Fate::Same => {}
                Fate::Changed => found.changed.push((*name).into()),
                Fate::Unknown => found.unknown.push((*name).into()),
            }
        }
        let removed = older.functions.keys().filter(|name| !newer.functions.contains_key(*name));
        found.removed = removed.map(|name| (*name).into()).collect();
        found
    }

    /// Whether it is known that none was changed, added or removed.
    pub fn are_none(&self) -> bool {
        [&self.changed, &self.added, &self.removed, &self.unknown].iter().all(|names| names.is_empty())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Same,
    Changed,
    Unknown,
}

/// One function in two versions: of each the version, the function's address and its bytes.
struct Pair<'p> {
    sides: [(&'p LinkedCode<'p>, (u64, &'p [u8])); 2],
}

impl Pair<'_> {
    fn compare(&self, machine: Machine) -> Fate {
        let [(_, (_, before)), (_, (_, now))] = self.sides;
        if before.is_empty() || now.is_empty() {
            return Fate::Unknown;
        }
        if before.len() != now.len() {
            return Fate::Changed;
        }
        let mut fate = Fate::Same;
        let mut at = 0;
        while let Some(differs) = (at..now.len()).find(|at| before[*at] != now[*at]) {
            let (end, found) = self.address(at, differs).unwrap_or_else(|| match machine {
                Machine::X86_64 => self.x86_64(at, differs),
                Machine::Aarch64 => self.aarch64(differs & !3),
            });
            match found {
                Fate::Changed => return Fate::Changed,
                Fate::Unknown => fate = Fate::Unknown,
                Fate::Same => {}
            }
            at = end;
        }
        fate
    }

    /// What two references are, given where they lead.
    fn targets(&self, targets: [u64; 2]) -> Fate {
        let [(older, was), (newer, is)] = self.sides;
        let inside =
            |(start, code): (u64, &[u8]), target| (start..start + code.len() as u64).contains(&target);
        let [before, now] = targets;
        // No reference, or one that leads elsewhere in the function.
        if inside(was, before) || inside(is, now) {
            return Fate::Changed;
        }
        let own = [older.range.contains(&before), newer.range.contains(&now)];
        match own {
            [false, false] if before == now => Fate::Same,
            [false, false] => Fate::Changed,
            _ => match (older.holder(before), newer.holder(now)) {
                (Some(before), Some(now)) if before == now => Fate::Same,
                (Some(_), Some(_)) => Fate::Changed,
                _ => Fate::Unknown,
            },
        }
    }

    /// A difference in an address that is written out, as object files that are linked to one place
    /// may have it: both are their versions' own. Returns where it ends.
    fn address(&self, from: usize, differs: usize) -> Option<(usize, Fate)> {
        for width in [8, 4] {
            for at in (differs + 1).saturating_sub(width).max(from)..=differs {
                let addresses = self.sides.map(|(version, (_, code))| {
                    let field = code.get(at..at + width)?;
                    let address = field.iter().rev().fold(0, |address, byte| address << 8 | u64::from(*byte));
                    version.range.contains(&address).then_some(address)
                });
                if let [Some(before), Some(now)] = addresses {
                    return Some((at + width, self.targets([before, now])));
                }
            }
        }
        None
    }

    /// A difference in code for x86-64: it may be in the four bytes of a distance, which follow an
    /// opcode or the byte that says that they are one (Intel SDM, volume 2, 2.2.1.6
    /// "RIP-Relative Addressing"), or in the one of a short jump. Returns where it ends.
    fn x86_64(&self, from: usize, differs: usize) -> (usize, Fate) {
        let code = self.sides.map(|(_, (_, code))| code);
        let start = self.sides.map(|(_, (start, _))| start);
        let is_distance = |at: usize| match code[1][..at] {
            [.., 0x0f, 0x80..=0x8f] | [.., 0xe8 | 0xe9] => true,
            [.., before] => before & 0xc7 == 0x05,
            [] => false,
        };
        let long = |side: usize, at: usize| {
            let field = code[side].get(at..)?.first_chunk()?;
            Some(start[side].wrapping_add(at as u64 + 4).wrapping_add(i32::from_le_bytes(*field) as u64))
        };
        for at in differs.saturating_sub(3).max(from)..=differs {
            if let (true, Some(before), Some(now)) = (is_distance(at), long(0, at), long(1, at)) {
                let fate = self.targets([before, now]);
                if fate != Fate::Changed {
                    return (at + 4, fate);
                }
            }
        }
        let end = differs + 1;
        let short =
            |side: usize| start[side].wrapping_add(end as u64).wrapping_add(code[side][differs] as i8 as u64);
        match code[1][..differs] {
            [.., 0xeb | 0x70..=0x7f] => (end, self.targets([short(0), short(1)])),
            _ => (end, Fate::Changed),
        }
    }

    /// A difference in code for AArch64, in the instruction at an offset. Returns where it ends.
    fn aarch64(&self, at: usize) -> (usize, Fate) {
        let word = |code: &[u8], at: usize| Some(u32::from_le_bytes(*code.get(at..)?.first_chunk()?));
        let [Some(before), Some(now)] = self.sides.map(|(_, (_, code))| word(code, at)) else {
            return (at + 4, Fate::Changed);
        };
        let pc = self.sides.map(|(_, (start, _))| start.wrapping_add(at as u64));
        let both = |mask: u32, is: u32| before & mask == is && now & mask == is;
        let signed = |value: u32, bits: u32| i64::from(((value << (32 - bits)) as i32) >> (32 - bits));
        let differ = before ^ now;
        let in_field = |low: u32, bits: u32| differ & !(((1 << bits) - 1) << low) == 0;
        let leads = |low: u32, bits: u32| {
            let to = |word: u32, pc: u64| pc.wrapping_add((signed(word >> low, bits) * 4) as u64);
            self.targets([to(before, pc[0]), to(now, pc[1])])
        };
        let fate = if both(0x7c00_0000, 0x1400_0000) && in_field(0, 26) {
            // B, BL.
            leads(0, 26)
        } else if (both(0xff00_0000, 0x5400_0000)
            || both(0x7e00_0000, 0x3400_0000)
            || both(0x3b00_0000, 0x1800_0000))
            && in_field(5, 19)
        {
            // B.cond, CBZ and CBNZ, LDR of a literal.
            leads(5, 19)
        } else if both(0x7e00_0000, 0x3600_0000) && in_field(5, 14) {
            // TBZ, TBNZ.
            leads(5, 14)
        } else if both(0x9f00_0000, 0x9000_0000) && differ & 0x1f == 0 {
            // ADRP: a page. What of it is meant, the next instructions say.
            Fate::Unknown
        } else if both(0x9f00_0000, 0x1000_0000) && differ & 0x1f == 0 {
            // ADR.
            let to = |word: u32, pc: u64| {
                pc.wrapping_add(signed((word >> 3 & 0x1f_fffc) | (word >> 29 & 3), 21) as u64)
            };
            self.targets([to(before, pc[0]), to(now, pc[1])])
        } else if (both(0x7f80_0000, 0x1100_0000) || both(0x3b00_0000, 0x3900_0000))
            && in_field(10, 12)
            && self.sides.iter().all(|(_, (_, code))| has_page(&code[..at], now >> 5 & 0x1f))
        {
            // ADD, LDR and STR with what ADRP leaves of an address.
            Fate::Unknown
        } else {
            Fate::Changed
        };
        (at + 4, fate)
    }
}

/// Whether some instruction before is an ADRP into this register.
fn has_page(code: &[u8], register: u32) -> bool {
    let (words, _) = code.as_chunks();
    words
        .iter()
        .map(|word| u32::from_le_bytes(*word))
        .any(|word| word & 0x9f00_001f == 0x9000_0000 | register)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `f` and `g`, at a base; `f` with this code.
    fn version<'c>(base: u64, f: (u64, &'c [u8]), g: (u64, &'c [u8])) -> LinkedCode<'c> {
        LinkedCode::new(base..base + 0x1000, [("f", base + f.0, f.1), ("g", base + g.0, g.1)])
    }

    fn fate_of_f(machine: Machine, older: &LinkedCode<'_>, newer: &LinkedCode<'_>) -> Fate {
        let found = ChangedFunctions::between(machine, older, newer);
        assert!(found.added.is_empty() && found.removed.is_empty(), "{found:?}");
        match (found.changed.contains(&"f".into()), found.unknown.contains(&"f".into())) {
            (false, false) => Fate::Same,
            (true, false) => Fate::Changed,
            (false, true) => Fate::Unknown,
            (true, true) => panic!("{found:?}"),
        }
    }

    const G: &[u8] = &[0xc3, 0xc3, 0xc3, 0xc3];

    fn call(distance: i32) -> Vec<u8> {
        [&[0xe8][..], &distance.to_le_bytes(), &[0xc3]].concat()
    }

    #[test]
    fn x86_64_code_is_the_same_where_it_leads_to_the_same() {
        let fate = |before: (u64, u64, &[u8]), now: (u64, u64, &[u8])| {
            let older = version(0x10_0000, (before.0, before.2), (before.1, G));
            let newer = version(0x20_0000, (now.0, now.2), (now.1, G));
            fate_of_f(Machine::X86_64, &older, &newer)
        };
        let one = [0xb8, 1, 0, 0, 0, 0xc3];
        let two = [0xb8, 2, 0, 0, 0, 0xc3];
        assert_eq!(fate((0, 0x40, &one), (0x10, 0x80, &one)), Fate::Same);
        assert_eq!(fate((0, 0x40, &one), (0, 0x40, &two)), Fate::Changed);
        assert_eq!(fate((0, 0x40, &one), (0, 0x40, &one[..5])), Fate::Changed);
        assert_eq!(fate((0, 0x40, &one), (0, 0x40, &[])), Fate::Unknown, "nobody says how long it is");
        // `g` has moved away from it, and is called as before; a byte further on it is not.
        assert_eq!(fate((0, 0x40, &call(0x40 - 5)), (0, 0x80, &call(0x80 - 5))), Fate::Same);
        assert_eq!(fate((0, 0x40, &call(0x40 - 5)), (0, 0x80, &call(0x81 - 5))), Fate::Changed);
        // Something that has no name.
        assert_eq!(fate((0, 0x40, &call(0x400)), (0, 0x40, &call(0x410))), Fate::Unknown);
        // The process's: the same address, and another.
        let host = |base: i32, at: i32| call(at - base - 5);
        assert_eq!(
            fate((0, 0x40, &host(0x10_0000, 0x90_0000)), (0, 0x40, &host(0x20_0000, 0x90_0000))),
            Fate::Same
        );
        assert_eq!(
            fate((0, 0x40, &host(0x10_0000, 0x90_0000)), (0, 0x40, &host(0x20_0000, 0x90_0008))),
            Fate::Changed
        );
        // `mov 0x400(%rip), %eax`.
        let load = |distance: u8| [0x8b, 0x05, distance, 4, 0, 0, 0xc3];
        assert_eq!(fate((0, 0x40, &load(0)), (0, 0x40, &load(8))), Fate::Unknown);
        // A short jump: out of the function, and within it.
        let jump = |distance: u8| [0xeb, distance, 0xc3];
        assert_eq!(fate((0, 0x40, &jump(0x20)), (0, 0x40, &jump(0x28))), Fate::Unknown);
        assert_eq!(fate((0, 0x40, &jump(0x3e)), (0, 0x48, &jump(0x46))), Fate::Same);
        assert_eq!(fate((0, 0x40, &jump(0)), (0, 0x40, &jump(0xff))), Fate::Changed);
        // An address that is written out: `movabs $g, %rax`; and `mov $g, %eax`.
        let wide = |address: u64| [&[0x48, 0xb8][..], &address.to_le_bytes(), &[0xc3]].concat();
        assert_eq!(fate((0, 0x40, &wide(0x10_0040)), (0, 0x80, &wide(0x20_0080))), Fate::Same);
        assert_eq!(fate((0, 0x40, &wide(0x10_0400)), (0, 0x40, &wide(0x20_0408))), Fate::Unknown);
        assert_eq!(fate((0, 0x40, &wide(0x10_0400)), (0, 0x40, &wide(0x90_0400))), Fate::Changed);
        let narrow = |address: u32| [&[0xb8][..], &address.to_le_bytes(), &[0xc3]].concat();
        assert_eq!(fate((0, 0x40, &narrow(0x10_0040)), (0, 0x80, &narrow(0x20_0080))), Fate::Same);
        // Each difference is looked at.
        let both = |distance: i32, number: u8| [&call(distance)[..], &[0xb8, number, 0, 0, 0]].concat();
        assert_eq!(fate((0, 0x40, &both(0x3b, 1)), (0, 0x80, &both(0x7b, 1))), Fate::Same);
        assert_eq!(fate((0, 0x40, &both(0x3b, 1)), (0, 0x80, &both(0x7b, 2))), Fate::Changed);
        assert_eq!(fate((0, 0x40, &both(0x400, 1)), (0, 0x80, &both(0x404, 2))), Fate::Changed);
    }

    #[test]
    fn aarch64_code_is_the_same_where_it_leads_to_the_same() {
        let code = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        let fate = |before: (u64, &[u32]), now: (u64, &[u32])| {
            let (was, is) = (code(before.1), code(now.1));
            let older = version(0x10_0000, (0, &was), (before.0, G));
            let newer = version(0x20_0000, (0, &is), (now.0, G));
            fate_of_f(Machine::Aarch64, &older, &newer)
        };
        let bl = |distance: i32| 0x9400_0000 | (distance / 4) as u32 & 0x03ff_ffff;
        let (ret, mov) = (0xd65f_03c0, |n: u32| 0x5280_0000 | n << 5);
        assert_eq!(fate((0x40, &[mov(1), ret]), (0x80, &[mov(1), ret])), Fate::Same);
        assert_eq!(fate((0x40, &[mov(1), ret]), (0x40, &[mov(2), ret])), Fate::Changed);
        assert_eq!(fate((0x40, &[bl(0x40), ret]), (0x80, &[bl(0x80), ret])), Fate::Same);
        assert_eq!(fate((0x40, &[bl(0x40), ret]), (0x80, &[bl(0x84), ret])), Fate::Unknown);
        assert_eq!(fate((0x40, &[bl(0x400), ret]), (0x40, &[bl(0x404), ret])), Fate::Unknown);
        // b, in place of bl.
        assert_eq!(fate((0x40, &[bl(0x40), ret]), (0x40, &[0x1400_0010, ret])), Fate::Changed);
        // b.eq, cbz x0, tbz w0 #3, ldr x0 of a literal: out of the function, and within it.
        for (opcode, bits) in [(0x5400_0000, 19), (0xb400_0000, 19), (0x3618_0000, 14), (0x5800_0000, 19)] {
            let to = |distance: i32| opcode | (((distance / 4) as u32 & ((1 << bits) - 1)) << 5);
            assert_eq!(fate((0x40, &[to(0x40), ret]), (0x80, &[to(0x80), ret])), Fate::Same, "{opcode:#x}");
            assert_eq!(
                fate((0x40, &[to(-0x40), ret]), (0x40, &[to(-0x44), ret])),
                Fate::Changed,
                "{opcode:#x}"
            );
            assert_eq!(
                fate((0x40, &[to(0x400), ret]), (0x40, &[to(0x404), ret])),
                Fate::Unknown,
                "{opcode:#x}"
            );
            assert_eq!(fate((0x40, &[to(0), ret]), (0x40, &[to(4), ret])), Fate::Changed, "{opcode:#x}");
            assert_eq!(fate((0x40, &[to(0x40), ret]), (0x40, &[to(0x40) ^ 0x0200_0001, ret])), Fate::Changed);
        }
        // adr x0, to g.
        let adr = |distance: u32| 0x1000_0000 | (distance >> 2) << 5;
        assert_eq!(fate((0x40, &[adr(0x40), ret]), (0x80, &[adr(0x80), ret])), Fate::Same);
        // adrp x0, and add x0, x0, #n: a part of an address, or a number.
        let (adrp, add) = (|n: u32| 0x9000_0000 | n << 29, |n: u32| 0x9100_0000 | n << 10);
        assert_eq!(fate((0x40, &[adrp(1), add(1), ret]), (0x40, &[adrp(2), add(9), ret])), Fate::Unknown);
        assert_eq!(fate((0x40, &[add(1), ret]), (0x40, &[add(9), ret])), Fate::Changed);
        assert_eq!(fate((0x40, &[adrp(1), ret]), (0x40, &[adrp(1) | 1, ret])), Fate::Changed);
    }

    #[test]
    fn what_has_come_and_what_has_gone_is_named() {
        let only = |name| LinkedCode::new(0..0x100, [(name, 0, G)]);
        let found = ChangedFunctions::between(Machine::X86_64, &only("f"), &only("g"));
        assert_eq!((&found.added[..], &found.removed[..]), (&["g".into()][..], &["f".into()][..]));
        assert!(!found.are_none() && found.changed.is_empty() && found.unknown.is_empty());
        assert!(ChangedFunctions::between(Machine::X86_64, &only("f"), &only("f")).are_none());
    }

    #[test]
    fn functions_that_overlap_are_not_compared_for_ever() {
        let code = [0xc3; 0x1000];
        let names: Vec<String> = (0..100).map(|n| format!("f{n:02}")).collect();
        let all = || LinkedCode::new(0..0x1000, names.iter().map(|name| (name.as_str(), 0, &code[..])));
        let found = ChangedFunctions::between(Machine::X86_64, &all(), &all());
        assert_eq!((found.changed.len(), found.unknown.len()), (0, 100 - MOST_BYTES as usize));
    }
}
