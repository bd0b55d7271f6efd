//! Slots: process-wide indices for (module, symbol).

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use crate::Error;
use crate::call::live::MAX_SLOTS;

/// A function of a module as the program declares it. Made by [`module!`](crate::module!).
#[derive(Debug)]
pub struct Slot {
    module: &'static str,
    symbol: &'static str,
    debug: bool,
}

/// All that this program declares, gathered by the linker. The first slots are theirs, in this
/// order.
#[doc(hidden)]
#[linkme::distributed_slice]
pub static DECLARED: [&'static Slot];

impl Slot {
    /// A declaration.
    #[doc(hidden)]
    pub const fn new(module: &'static str, symbol: &'static str, debug: bool) -> Self {
        Self { module: plain(module), symbol: plain(symbol), debug }
    }

    /// Whether the crate that declares it is a debug build.
    pub(crate) fn is_of_debug_build(&self) -> bool {
        self.debug
    }
}

/// A raw identifier's name: `r#move` is how Rust writes `move`.
const fn plain(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', ..] => name.split_at(2).1,
        _ => name,
    }
}

/// Slot number to "module::symbol". Apart from the runtime's state, which the calling thread may
/// have locked (a constructor runs while a module is loaded), and read without a lock: names are
/// added, and never change. Each bucket has room for twice as many as the one before.
static NAMES: [OnceLock<Bucket>; BUCKETS] = [const { OnceLock::new() }; BUCKETS];
type Bucket = Box<[OnceLock<Box<str>>]>;
const BUCKETS: usize = MAX_SLOTS.ilog2() as usize + 1;

/// In which bucket the name of a slot is, and where.
fn bucket(slot: u32) -> (usize, usize) {
    let number = slot as usize + 1;
    let bucket = number.ilog2() as usize;
    (bucket, number - (1 << bucket))
}

/// The name of a slot, for messages. Async-signal-safe.
pub(crate) fn name(slot: u32) -> Option<&'static str> {
    let (bucket, at) = bucket(slot);
    NAMES.get(bucket)?.get()?.get(at)?.get().map(|name| &**name)
}

/// Names a slot, once.
fn set_name(slot: u32, name: String) {
    let (bucket, at) = bucket(slot);
    let names = NAMES[bucket].get_or_init(|| (0..1 << bucket).map(|_| OnceLock::new()).collect());
    names[at].get_or_init(|| name.into());
}

/// Every slot of the process. Slots are never given back: a trampoline's address is stable for the
/// process's life.
pub(crate) struct SlotTable {
    modules: HashMap<Arc<str>, ModuleSlots>,
    len: u32,
}

/// A module's slots.
#[derive(Default)]
struct ModuleSlots {
    slots: HashMap<Box<str>, Entry>,
    /// Further slots of symbols that the program declares in several places.
    again: Vec<(Box<str>, Entry)>,
}

/// What is known of one slot.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) index: u32,
    /// The program declared it or was given its address: every version of the module must have it.
    pub(crate) promised: bool,
}

impl SlotTable {
    /// Those of the declarations.
    pub(crate) fn declared() -> Result<Self, Error> {
        let mut made = Self { modules: HashMap::new(), len: 0 };
        for slot in DECLARED {
            let entry = made.add(slot.module, slot.symbol, true)?;
            let symbols = made.modules.entry(slot.module.into()).or_default();
            if symbols.slots.contains_key(slot.symbol) {
                symbols.again.push((slot.symbol.into(), entry));
            } else {
                symbols.slots.insert(slot.symbol.into(), entry);
            }
        }
        Ok(made)
    }

    /// The slot of a symbol, if it has one.
    pub(crate) fn get(&self, module: &str, symbol: &str) -> Option<Entry> {
        self.modules.get(module)?.slots.get(symbol).copied()
    }

    /// The slot of a symbol, made if need be. A promise once made stays.
    pub(crate) fn insert(&mut self, module: &str, symbol: &str, promised: bool) -> Result<u32, Error> {
        if let Some(entry) = self.modules.get_mut(module).and_then(|symbols| symbols.slots.get_mut(symbol)) {
            entry.promised |= promised;
            return Ok(entry.index);
        }
        let entry = self.add(module, symbol, promised)?;
        self.modules.entry(module.into()).or_default().slots.insert(symbol.into(), entry);
        Ok(entry.index)
    }

    /// The next index.
    fn add(&mut self, module: &str, symbol: &str, promised: bool) -> Result<Entry, Error> {
        if self.len as usize >= MAX_SLOTS {
            return Err(Error::TooManySlots { limit: MAX_SLOTS });
        }
        let index = self.len;
        self.len += 1;
        set_name(index, format!("{module}::{symbol}"));
        Ok(Entry { index, promised })
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// The slots of a module, by symbol.
    pub(crate) fn of(&self, module: &str) -> impl Iterator<Item = (&str, Entry)> {
        let symbols = self.modules.get(module).into_iter();
        symbols.flat_map(|ModuleSlots { slots, again }| {
            let again = again.iter().map(|(symbol, entry)| (symbol, entry));
            slots.iter().chain(again).map(|(symbol, entry)| (&**symbol, *entry))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_a_place_for_its_name() {
        let places: std::collections::BTreeSet<_> = (0..MAX_SLOTS as u32).map(bucket).collect();
        assert_eq!(places.len(), MAX_SLOTS);
        assert!(places.iter().all(|(bucket, at)| *bucket < BUCKETS && *at < 1 << bucket));
        assert_eq!((name(MAX_SLOTS as u32), name(u32::MAX - 1)), (None, None));
    }
}
