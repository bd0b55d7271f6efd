//! Slots: process-wide indices for (module, symbol).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::Error;
use crate::call::live::MAX_SLOTS;

/// A function of a module as the program declares it. Made by [`module!`](crate::module!).
#[derive(Debug)]
pub struct Slot {
    module: &'static str,
    symbol: &'static str,
    /// 0 until the runtime starts: the slot that is never bound.
    index: AtomicU32,
}

/// All that this program declares, gathered by the linker.
#[doc(hidden)]
#[linkme::distributed_slice]
pub static DECLARED: [&'static Slot];

impl Slot {
    /// A declaration. Has an index once the runtime has started.
    #[doc(hidden)]
    pub const fn new(module: &'static str, symbol: &'static str) -> Self {
        Self { module: plain(module), symbol: plain(symbol), index: AtomicU32::new(0) }
    }

    /// Where it is in every table.
    ///
    /// Relaxed: indices are given before `Runtime::start` returns, and whoever has a frame has a Runtime by a
    /// happens-before edge.
    #[inline(always)]
    pub(crate) fn index(&self) -> usize {
        self.index.load(Ordering::Relaxed) as usize
    }
}

/// A raw identifier's name: `r#move` is how Rust writes `move`.
const fn plain(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', ..] => name.split_at(2).1,
        _ => name,
    }
}

/// Slot number to "module::symbol", for the report on a call to an unbound slot. Apart from the runtime's state, which
/// the calling thread may have locked (a constructor runs while a module is loaded).
static NAMES: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// The name of a slot, for messages.
pub(crate) fn name(slot: u32) -> Option<String> {
    NAMES.read().unwrap_or_else(PoisonError::into_inner).get(slot as usize).cloned()
}

/// Every slot of the process. Slots are never given back: a trampoline's address is stable for the process's life.
pub(crate) struct SlotTable {
    modules: HashMap<Arc<str>, HashMap<Box<str>, Entry>>,
    len: u32,
}

/// What is known of one slot.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) index: u32,
    /// The program declared it or was given its address: every version of the module must have it.
    pub(crate) promised: bool,
}

impl SlotTable {
    /// Only slot 0, which nothing binds.
    pub(crate) fn new() -> Self {
        *NAMES.write().unwrap_or_else(PoisonError::into_inner) =
            vec!["a function declared after the start".into()];
        Self { modules: HashMap::new(), len: 1 }
    }

    /// Gives every declaration its index.
    pub(crate) fn bind_declared(&mut self) -> Result<(), Error> {
        for slot in DECLARED {
            let index = self.insert(slot.module, slot.symbol, true)?;
            slot.index.store(index, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The slot of a symbol, if it has one.
    pub(crate) fn get(&self, module: &str, symbol: &str) -> Option<Entry> {
        self.modules.get(module)?.get(symbol).copied()
    }

    /// The slot of a symbol, made if need be. A promise once made stays.
    pub(crate) fn insert(&mut self, module: &str, symbol: &str, promised: bool) -> Result<u32, Error> {
        if let Some(entry) = self.modules.get_mut(module).and_then(|symbols| symbols.get_mut(symbol)) {
            entry.promised |= promised;
            return Ok(entry.index);
        }
        if self.len as usize >= MAX_SLOTS {
            return Err(Error::TooManySlots { limit: MAX_SLOTS });
        }
        let index = self.len;
        self.len += 1;
        NAMES.write().unwrap_or_else(PoisonError::into_inner).push(format!("{module}::{symbol}"));
        let symbols = self.modules.entry(module.into()).or_default();
        symbols.insert(symbol.into(), Entry { index, promised });
        Ok(index)
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// The slots of a module, by symbol.
    pub(crate) fn of(&self, module: &str) -> impl Iterator<Item = (&str, Entry)> {
        self.modules.get(module).into_iter().flatten().map(|(symbol, entry)| (&**symbol, *entry))
    }
}
