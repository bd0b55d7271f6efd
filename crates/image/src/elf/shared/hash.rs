//! The hash tables that find a symbol by name, and tell how many symbols there are.
//!
//! DT_HASH: ELF gABI, chapter 5, "Hash Table". DT_GNU_HASH: no standard has it; it is what GNU ld
//! writes and glibc reads (dl-lookup.c), a bloom filter in front of buckets whose chains hold the
//! hashes themselves.
//!
//! `object` has both, but its lookups divide by a bucket count of zero and index an empty bloom
//! filter, so on bytes that nobody has vouched for they can panic.

use super::segments::Layout;
use crate::Error;
use crate::elf::format::{Half, Word, malformed, table_of};
use core::ops::Range;
use object::LittleEndian as LE;

/// DT_HASH. All its fields are 32 bits wide on both machines.
pub(super) struct SysvHash<'data> {
    buckets: &'data [Half],
    chains: &'data [Half],
}

impl<'data> SysvHash<'data> {
    const TABLE: &'static str = "SysV hash table";

    pub(super) fn parse(layout: &Layout<'data>, address: u64) -> Result<Self, Error> {
        let broken = |problem| malformed(Self::TABLE, problem, address);
        let bytes = layout.file_from(address).ok_or(broken("it is outside the segments"))?;
        let [buckets, chains, rest @ ..] = table_of::<Half>(bytes, bytes.len() / 4) else {
            return Err(broken("its header is cut off"));
        };
        let (buckets, chains) = (buckets.get(LE) as usize, chains.get(LE) as usize);
        if buckets == 0 {
            return Err(broken("it has no buckets"));
        }
        let cut = broken("its buckets or chains are cut off");
        let (buckets, rest) = rest.split_at_checked(buckets).ok_or(cut.clone())?;
        Ok(SysvHash { buckets, chains: rest.get(..chains).ok_or(cut)? })
    }

    /// The chain table has an entry for each symbol.
    pub(super) fn symbols(&self) -> u32 {
        self.chains.len() as u32
    }

    /// The first symbol on the name's chain that `is_it` accepts.
    pub(super) fn find(&self, name: &str, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let bucket = sysv_hash(name) as usize % self.buckets.len();
        let mut index = self.buckets[bucket].get(LE);
        // A chain that is not a ring cannot be longer than the table.
        for _ in 0..self.chains.len() {
            let next = self.chains.get(index as usize).filter(|_| index != 0)?;
            if is_it(index) {
                return Some(index);
            }
            index = next.get(LE);
        }
        None
    }
}

/// DT_GNU_HASH.
pub(super) struct GnuHash<'data> {
    /// The first symbol that is in the table; those before it are not for others.
    base: u32,
    shift: u32,
    bloom: &'data [Word],
    buckets: &'data [Half],
    /// From `base` on: the symbol's hash, its lowest bit set on the last of a chain.
    hashes: &'data [Half],
}

impl<'data> GnuHash<'data> {
    const TABLE: &'static str = "GNU hash table";

    pub(super) fn parse(layout: &Layout<'data>, address: u64) -> Result<Self, Error> {
        let broken = |problem| malformed(Self::TABLE, problem, address);
        let bytes = layout.file_from(address).ok_or(broken("it is outside the segments"))?;
        let [buckets, base, bloom, shift, rest @ ..] = table_of::<Half>(bytes, bytes.len() / 4) else {
            return Err(broken("its header is cut off"));
        };
        let (buckets, bloom) = (buckets.get(LE) as usize, bloom.get(LE) as usize);
        if buckets == 0 {
            return Err(broken("it has no buckets"));
        }
        // glibc masks instead of dividing, so any other size would find other words.
        if !bloom.is_power_of_two() {
            return Err(broken("the size of its bloom filter is no power of two"));
        }
        let cut = broken("its filter or buckets are cut off");
        let (filter, _) =
            bloom.checked_mul(2).and_then(|halves| rest.split_at_checked(halves)).ok_or(cut.clone())?;
        let (buckets, hashes) = rest[filter.len()..].split_at_checked(buckets).ok_or(cut)?;
        // `bytes` starts 16 bytes before the filter, and was long enough for it.
        let bloom = table_of::<Word>(&bytes[16..], bloom);
        let mut table = GnuHash { base: base.get(LE), shift: shift.get(LE), bloom, buckets, hashes };
        let last = table.last().ok_or(broken("a chain starts outside it or does not end"))?;
        table.hashes = &hashes[..last];
        let indices = u32::try_from(last).ok().and_then(|last| table.base.checked_add(last));
        indices.map(|_| table).ok_or(broken("a chain starts outside it or does not end"))
    }

    /// Bytes from the header to the last hash.
    pub(super) fn bytes(&self) -> usize {
        16 + 8 * self.bloom.len() + 4 * (self.buckets.len() + self.hashes.len())
    }

    /// A table that has been parsed elsewhere and is these [`bytes`](Self::bytes).
    pub(super) fn reopen(table: &'data [Half]) -> Option<Self> {
        let [buckets, base, bloom, shift, rest @ ..] = table else { return None };
        let filter = (bloom.get(LE) as usize).checked_mul(2).filter(|halves| *halves > 0)?;
        let (filter, rest) = rest.split_at_checked(filter)?;
        let (buckets, hashes) = rest.split_at_checked(buckets.get(LE) as usize)?;
        let bloom = table_of::<Word>(object::pod::bytes_of_slice(filter), filter.len() / 2);
        (!buckets.is_empty()).then_some(GnuHash {
            base: base.get(LE),
            shift: shift.get(LE),
            bloom,
            buckets,
            hashes,
        })
    }

    /// How many hashes there are, which is written nowhere: up to the end of the last chain.
    fn last(&self) -> Option<usize> {
        let mut last = 0;
        for bucket in self.buckets {
            match bucket.get(LE) {
                0 => {}
                start => last = last.max(start.checked_sub(self.base)? as usize + 1),
            }
        }
        let Some(start) = last.checked_sub(1) else { return Some(0) };
        Some(last + self.hashes.get(start..)?.iter().position(|hash| hash.get(LE) & 1 != 0)?)
    }

    /// The symbols that it lists. Where there are any, the last is the symbol table's.
    pub(super) fn symbols(&self) -> Range<u32> {
        self.base..self.base + self.hashes.len() as u32
    }

    /// The first symbol on the name's chain that `is_it` accepts.
    pub(super) fn find(&self, name: &str, is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.find_hashed(gnu_hash(name), is_it)
    }

    /// As [`find`](Self::find), of a name that has this [`gnu_hash`].
    pub(super) fn find_hashed(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let word = self.bloom[(hash / 64) as usize & (self.bloom.len() - 1)].get(LE);
        // A shift of 32 or more is no machine instruction's business: glibc shifts by the lowest
        // five bits.
        let mask = 1 << (hash % 64) | 1 << ((hash >> (self.shift % 32)) % 64);
        if word & mask != mask {
            return None;
        }
        let start = self.buckets[hash as usize % self.buckets.len()].get(LE).checked_sub(self.base)?;
        for (at, value) in self.hashes.get(start as usize..)?.iter().enumerate() {
            let value = value.get(LE);
            let index = self.base.checked_add(start)?.checked_add(u32::try_from(at).ok()?)?;
            if value | 1 == hash | 1 && is_it(index) {
                return Some(index);
            }
            if value & 1 != 0 {
                break;
            }
        }
        None
    }
}

fn sysv_hash(name: &str) -> u32 {
    name.bytes().fold(0, |hash: u32, byte| {
        let hash = (hash << 4).wrapping_add(byte.into());
        let high = hash & 0xf000_0000;
        (hash ^ high >> 24) & !high
    })
}

/// Of glibc, dl-new-hash.h.
pub(super) const fn gnu_hash(name: &str) -> u32 {
    let (mut hash, mut at) = (5381_u32, 0);
    while at < name.len() {
        hash = hash.wrapping_mul(33).wrapping_add(name.as_bytes()[at] as u32);
        at += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_of_known_names() {
        // From the description of each hash, and checked against `object`'s.
        for (name, sysv, gnu) in [
            ("", 0, 0x1505),
            ("printf", 0x077905a6, 0x156b2bb8),
            ("exit", 0x0006cf04, 0x7c967e3f),
            ("syscall", 0x0b09985c, 0xbac212a0),
        ] {
            assert_eq!((sysv_hash(name), gnu_hash(name)), (sysv, gnu), "{name}");
            assert_eq!(sysv_hash(name), object::elf::hash(name.as_bytes()));
            assert_eq!(gnu_hash(name), object::elf::gnu_hash(name.as_bytes()));
        }
    }
}
