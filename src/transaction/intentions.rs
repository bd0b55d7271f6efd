//! What open transactions intend: the one thing that transactions know of each other, and only
//! [`ReadUncommitted`](super::Isolation::ReadUncommitted) asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::reads::Modules;
use crate::platform::os::fork;

/// What open transactions would make of modules, by the transactions' numbers. Nothing else is
/// locked or called while this is.
static OPEN: Mutex<BTreeMap<u64, Vec<Intention>>> = Mutex::new(BTreeMap::new());
/// Of transactions and of intentions. Relaxed: they are to differ, and nothing is read by them.
static NUMBER: AtomicU64 = AtomicU64::new(1);

/// What a transaction would make of a module.
#[derive(Debug)]
struct Intention {
    /// Greater than those that were stated before.
    order: u64,
    module: Arc<str>,
    /// The number of its version; None: not loaded.
    becomes: Option<u64>,
}

/// The intentions of one transaction, as long as it is open.
#[derive(Debug)]
pub(super) struct Intentions {
    pub(super) id: u64,
}

impl Intentions {
    pub(super) fn new() -> Self {
        let id = NUMBER.fetch_add(1, Ordering::Relaxed);
        OPEN.lock().insert(id, Vec::new());
        Self { id }
    }

    /// States another one.
    pub(super) fn push(&self, module: Arc<str>, becomes: Option<u64>) {
        let order = NUMBER.fetch_add(1, Ordering::Relaxed);
        if let Some(intentions) = OPEN.lock().get_mut(&self.id) {
            intentions.push(Intention { order, module, becomes });
        }
    }

    /// Takes back all but the first so many.
    pub(super) fn truncate(&self, count: usize) {
        if let Some(intentions) = OPEN.lock().get_mut(&self.id) {
            intentions.truncate(count);
        }
    }

    /// Makes of modules what all open transactions intend, in the order in which they said so.
    pub(super) fn apply_all(&self, modules: &mut Modules) {
        let open = OPEN.lock();
        let mut all: Vec<_> = open.values().flatten().collect();
        all.sort_unstable_by_key(|intention| intention.order);
        for intention in all {
            match intention.becomes {
                Some(version) => modules.insert(intention.module.clone(), version),
                None => modules.remove(&intention.module),
            };
        }
    }
}

impl Drop for Intentions {
    fn drop(&mut self) {
        // Of a forked child nobody asks, and another thread may have had the lock at the fork.
        if !fork::is_child() {
            OPEN.lock().remove(&self.id);
        }
    }
}
