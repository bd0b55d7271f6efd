//! The global offset table, and the stubs that jump through it.

use super::symbols::{NONE, Symbol};
use crate::fixup::Slot;
use alloc::vec::Vec;

/// What an entry of the table gets, for the symbol with the number given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Entry {
    /// What the code takes for the symbol's address: its stub's, where that stands for it.
    Address(u32),
    /// Where the symbol's stub jumps to.
    Target(u32),
    /// The image that has the variable, and where it is in that image's block.
    General(u32),
    /// This image, and 0.
    Local,
    /// The variable's offset from the thread pointer.
    Initial(u32),
    /// A resolver and its argument.
    Descriptor(u32),
}

impl Entry {
    fn words(self) -> u32 {
        match self {
            Entry::Address(_) | Entry::Target(_) | Entry::Initial(_) => 1,
            Entry::General(_) | Entry::Local | Entry::Descriptor(_) => 2,
        }
    }
}

/// Code that jumps to a symbol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stub {
    pub(super) symbol: u32,
    /// The word of the table that it reads.
    pub(super) word: u32,
}

/// Where the table has what is needed of a symbol, in words from its start; and which stub is the
/// symbol's.
#[derive(Clone, Copy, Debug)]
struct Slots {
    address: u32,
    general: u32,
    initial: u32,
    descriptor: u32,
    stub: u32,
}

#[derive(Debug)]
pub(super) struct Table {
    /// Each with its first word.
    pub(super) entries: Vec<(u32, Entry)>,
    pub(super) stubs: Vec<Stub>,
    words: u32,
    slots: Vec<Slots>,
    local: u32,
}

impl Table {
    pub(super) fn new() -> Self {
        Table { entries: Vec::new(), stubs: Vec::new(), words: 0, slots: Vec::new(), local: NONE }
    }

    /// Bytes.
    pub(super) fn size(&self) -> u64 {
        8 * u64::from(self.words)
    }

    fn append(&mut self, entry: Entry) -> u32 {
        let word = self.words;
        self.words += entry.words();
        self.entries.push((word, entry));
        word
    }

    fn slots(&mut self, symbol: &mut Symbol) -> &mut Slots {
        if symbol.slots == NONE {
            symbol.slots = self.slots.len() as u32;
            self.slots.push(Slots {
                address: NONE,
                general: NONE,
                initial: NONE,
                descriptor: NONE,
                stub: NONE,
            });
        }
        &mut self.slots[symbol.slots as usize]
    }

    /// Sees to it that there is an entry of this kind for a symbol.
    pub(super) fn need(&mut self, slot: Slot, number: u32, symbol: &mut Symbol) {
        let slots = self.slots(symbol);
        let (word, entry) = match slot {
            Slot::Address => (slots.address, Entry::Address(number)),
            Slot::General => (slots.general, Entry::General(number)),
            Slot::Local => (self.local, Entry::Local),
            Slot::Initial => (slots.initial, Entry::Initial(number)),
            Slot::Descriptor => (slots.descriptor, Entry::Descriptor(number)),
        };
        if word != NONE {
            return;
        }
        let word = self.append(entry);
        let slots = self.slots(symbol);
        *match slot {
            Slot::Address => &mut slots.address,
            Slot::General => &mut slots.general,
            Slot::Local => &mut self.local,
            Slot::Initial => &mut slots.initial,
            Slot::Descriptor => &mut slots.descriptor,
        } = word;
    }

    /// Sees to it that there is a stub for a symbol.
    pub(super) fn need_stub(&mut self, number: u32, symbol: &mut Symbol) {
        if self.slots(symbol).stub == NONE {
            let word = self.append(Entry::Target(number));
            self.slots(symbol).stub = self.stubs.len() as u32;
            self.stubs.push(Stub { symbol: number, word });
        }
    }

    /// The first word that the table has for a symbol. `need` was called for it.
    pub(super) fn word(&self, slot: Slot, symbol: &Symbol) -> u32 {
        match (slot, self.slots.get(symbol.slots as usize)) {
            (Slot::Local, _) => self.local,
            (Slot::Address, Some(slots)) => slots.address,
            (Slot::General, Some(slots)) => slots.general,
            (Slot::Initial, Some(slots)) => slots.initial,
            (Slot::Descriptor, Some(slots)) => slots.descriptor,
            (_, None) => NONE,
        }
    }

    /// The number of a symbol's stub, if it has one.
    pub(super) fn stub(&self, symbol: &Symbol) -> Option<u32> {
        self.slots.get(symbol.slots as usize).map(|slots| slots.stub).filter(|stub| *stub != NONE)
    }
}
