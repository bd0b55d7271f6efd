//! Which version an address is in. Reading takes no lock and allocates nothing, so that a signal
//! handler may ask.
//!
//! The answer is of the moment: who acts on it must know that the version stays, as a thread that
//! is inside it does.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A version's number in this process, as low as can be: it is given again when the version is
/// gone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub(crate) struct Id(pub(super) u32);

/// By id, the place of each version: its first page in the upper 36 bits (addresses have 48), its
/// number of pages in the lower 28, 0 if it has none; in one word, so that no reader sees half a
/// change. Chunk n is for 64 << n versions. Chunks stay.
static CHUNKS: [OnceLock<Box<[AtomicU64]>>; 26] = [const { OnceLock::new() }; 26];
const FIRST: usize = 64;

/// How many bits the number of pages has: enough for the largest block (`code::MAX_BLOCK`).
const PAGES: u32 = 28;
const _: () = assert!(crate::code::MAX_BLOCK / PAGE < 1 << PAGES);

/// The smallest page there is: places are multiples of it.
const PAGE: usize = 4096;

/// The version that an address is in.
pub(crate) fn find(address: usize) -> Option<Id> {
    let page = (address / PAGE) as u64;
    // Acquire, here and in `get`: partner of the releases that made the chunk and noted the place.
    let places = CHUNKS.iter().map_while(OnceLock::get).flatten();
    let within = |place: &AtomicU64| {
        let place = place.load(Ordering::Acquire);
        page.wrapping_sub(place >> PAGES) < place & ((1 << PAGES) - 1)
    };
    places.zip(0..).find(|(place, _)| within(place)).map(|(_, id)| Id(id))
}

/// Notes where a version is.
pub(super) fn set(id: Id, base: usize, len: usize) {
    debug_assert!(base.is_multiple_of(PAGE) && len.is_multiple_of(PAGE) && len / PAGE < 1 << PAGES);
    debug_assert!(base < 1 << 48);
    place(id).store((base / PAGE) as u64 * (1 << PAGES) + (len / PAGE) as u64, Ordering::Release);
}

/// Notes that it is no longer there.
pub(super) fn clear(id: Id) {
    place(id).store(0, Ordering::Release);
}

fn place(id: Id) -> &'static AtomicU64 {
    let chunk = (id.0 as usize / FIRST + 1).ilog2() as usize;
    let length = FIRST << chunk;
    let places = CHUNKS[chunk].get_or_init(|| (0..length).map(|_| AtomicU64::new(0)).collect());
    &places[id.0 as usize + FIRST - length]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_while_their_version_is_there() {
        // Ids in three chunks (those before them exist, as ids are given low first), and addresses
        // that no mapping has here, so that no other test is disturbed.
        const HIGH: usize = 1 << 47;
        let versions: Vec<_> = [5000, 5063, 5064, 5300].map(|id| (Id(id), HIGH + id as usize * PAGE)).into();
        (0..5000).for_each(|id| assert!(place(Id(id)).load(Ordering::Relaxed) >> 60 == 0));
        for (id, base) in &versions {
            set(*id, *base, PAGE);
        }
        for (id, base) in &versions {
            assert_eq!(find(*base), Some(*id));
            assert_eq!(find(base + PAGE - 1), Some(*id));
        }
        assert_eq!(find(versions[3].1 + PAGE), None);
        assert_eq!(find(versions[0].1 - 1), None);
        // As long as the largest block.
        set(versions[3].0, versions[3].1, crate::code::MAX_BLOCK);
        assert_eq!(find(versions[3].1 + crate::code::MAX_BLOCK - 1), Some(versions[3].0));
        assert_eq!(find(versions[3].1 + crate::code::MAX_BLOCK), None);
        for (id, _) in &versions {
            clear(*id);
        }
        assert_eq!(find(versions[0].1), None);
        assert_eq!((find(0), find(usize::MAX)), (None, None));
    }

    #[test]
    fn each_id_has_a_place_of_its_own() {
        let places: std::collections::BTreeSet<_> = (0..1000).map(|id| &raw const *place(Id(id))).collect();
        assert_eq!(places.len(), 1000);
    }
}
