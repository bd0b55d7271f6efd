//! Addresses in range lists and location lists.

use alloc::vec::Vec;

use gimli::{
    Encoding, LocationLists, LocationListsOffset, RangeLists, RangeListsOffset, RawLocListEntry,
    RawRngListEntry,
};

use super::places::{Addresses, Places};
use super::relocate::addresses_in;

/// A list that an entry refers to.
#[derive(Clone, Copy)]
pub(super) struct List {
    pub(super) offset: usize,
    pub(super) encoding: Encoding,
    /// The entry's unit has a base address, to which bare pairs are relative.
    pub(super) has_base: bool,
}

/// The section that a list is in: of up to version 4, or from 5 on.
fn section<'s>(sections: &'s [Addresses<'s>; 2], list: &List) -> &'s Addresses<'s> {
    &sections[usize::from(list.encoding.version >= 5)]
}

/// How many entries there can be: lists do not overlap, and an entry takes a byte at least.
fn entries(sections: &[Addresses<'_>; 2]) -> usize {
    sections[0].bytes.len() + sections[1].bytes.len()
}

fn distinct(lists: &mut Vec<List>) -> &[List] {
    let key = |list: &List| (list.encoding.version >= 5, list.offset);
    lists.sort_unstable_by_key(key);
    lists.dedup_by_key(|list| key(list));
    lists
}

fn spend(entries: &mut usize) -> gimli::Result<()> {
    *entries = entries.checked_sub(1).ok_or(gimli::Error::OffsetOutOfBounds)?;
    Ok(())
}

/// What the pairs of a list of up to version 4 are relative to: a base that is moved, or nothing.
struct Pairs<'p> {
    relative: bool,
    places: &'p Places,
}

impl Pairs<'_> {
    /// A new base was read: an address, or 0 to say that addresses follow.
    fn base(&mut self, address: u64) {
        self.relative = address != 0;
    }

    /// A pair was read, and noted since there were `before` places.
    fn pair(&self, before: usize) {
        if self.relative {
            self.places.forget(before);
        }
    }
}

/// `.debug_ranges` and `.debug_rnglists`.
pub(super) fn ranges(sections: &[Addresses<'_>; 2], lists: &mut Vec<List>) -> gimli::Result<()> {
    let reader = RangeLists::new(sections[0].reader().into(), sections[1].reader().into());
    let mut left = entries(sections);
    for list in distinct(lists) {
        let places = &section(sections, list).places;
        let mut pairs = Pairs { relative: list.has_base, places };
        let mut entries = reader.raw_ranges(RangeListsOffset(list.offset), list.encoding)?;
        loop {
            let before = places.len();
            spend(&mut left)?;
            match entries.next()? {
                None => break,
                Some(RawRngListEntry::BaseAddress { addr }) => pairs.base(addr),
                Some(RawRngListEntry::AddressOrOffsetPair { .. }) => pairs.pair(before),
                Some(_) => {}
            }
        }
    }
    Ok(())
}

/// `.debug_loc` and `.debug_loclists`.
pub(super) fn locations(sections: &[Addresses<'_>; 2], lists: &mut Vec<List>) -> gimli::Result<()> {
    let reader = LocationLists::new(sections[0].reader().into(), sections[1].reader().into());
    let mut left = entries(sections);
    for list in distinct(lists) {
        let places = &section(sections, list).places;
        let mut pairs = Pairs { relative: list.has_base, places };
        let mut entries = reader.raw_locations(LocationListsOffset(list.offset), list.encoding)?;
        loop {
            let before = places.len();
            spend(&mut left)?;
            let expression = match entries.next()? {
                None => break,
                Some(RawLocListEntry::BaseAddress { addr }) => {
                    pairs.base(addr);
                    continue;
                }
                Some(RawLocListEntry::BaseAddressx { .. }) => continue,
                Some(RawLocListEntry::AddressOrOffsetPair { data, .. }) => {
                    pairs.pair(before);
                    data
                }
                Some(
                    RawLocListEntry::StartxEndx { data, .. }
                    | RawLocListEntry::StartxLength { data, .. }
                    | RawLocListEntry::OffsetPair { data, .. }
                    | RawLocListEntry::DefaultLocation { data }
                    | RawLocListEntry::StartEnd { data, .. }
                    | RawLocListEntry::StartLength { data, .. },
                ) => data,
            };
            addresses_in(expression, list.encoding, places);
        }
    }
    Ok(())
}
