//! The global offset table, and the stubs that jump through it. A stub reads the same entry that
//! code reads.

use super::symbols::{NONE, Symbol};
use crate::linking::definition::Spot;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// What an entry has the address of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Entry {
    /// The symbol with this number.
    Symbol(u32),
    Spot(Spot),
}

#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) entries: Vec<Entry>,
    /// Of each stub the number of its entry.
    pub(super) stubs: Vec<u32>,
    spots: BTreeMap<Spot, u32>,
}

impl Table {
    /// Sees to it that there is an entry for a symbol.
    pub(super) fn need(&mut self, number: u32, symbol: &mut Symbol) -> u32 {
        if symbol.entry == NONE {
            symbol.entry = self.append(Entry::Symbol(number));
        }
        symbol.entry
    }

    /// The same for a place that has no name.
    pub(super) fn need_spot(&mut self, spot: Spot) -> u32 {
        if let Some(entry) = self.spots.get(&spot) {
            return *entry;
        }
        let entry = self.append(Entry::Spot(spot));
        self.spots.insert(spot, entry);
        entry
    }

    /// The entry for a place that has no name, if there is one.
    pub(super) fn spot(&self, spot: Spot) -> Option<u32> {
        self.spots.get(&spot).copied()
    }

    /// Sees to it that there is a stub for a symbol.
    pub(super) fn need_stub(&mut self, number: u32, symbol: &mut Symbol) {
        let entry = self.need(number, symbol);
        if symbol.stub == NONE {
            symbol.stub = self.stubs.len() as u32;
            self.stubs.push(entry);
        }
    }

    fn append(&mut self, entry: Entry) -> u32 {
        self.entries.push(entry);
        self.entries.len() as u32 - 1
    }
}
