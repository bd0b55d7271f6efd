//! What open transactions intend: the one thing that transactions know of each other. Who looks for
//! conflicts is told of it, and [`ReadUncommitted`](crate::Isolation::ReadUncommitted) reads it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

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
pub(crate) struct Intentions {
    pub(crate) id: u64,
}

impl Intentions {
    pub(crate) fn new() -> Self {
        let id = NUMBER.fetch_add(1, Ordering::Relaxed);
        OPEN.lock().insert(id, Vec::new());
        Self { id }
    }

    /// States another one.
    pub(crate) fn push(&self, module: Arc<str>, becomes: Option<u64>) {
        let order = NUMBER.fetch_add(1, Ordering::Relaxed);
        if let Some(intentions) = OPEN.lock().get_mut(&self.id) {
            intentions.push(Intention { order, module, becomes });
        }
    }

    /// States these, and takes back all others.
    pub(crate) fn replace(&self, intended: impl Iterator<Item = (Arc<str>, Option<u64>)>) {
        self.truncate(0);
        intended.for_each(|(module, becomes)| self.push(module, becomes));
    }

    /// Takes back all but the first so many.
    pub(crate) fn truncate(&self, count: usize) {
        if let Some(intentions) = OPEN.lock().get_mut(&self.id) {
            intentions.truncate(count);
        }
    }

    /// Makes of modules what all open transactions intend, in the order in which they said so.
    pub(crate) fn apply_all(&self, modules: &mut BTreeMap<Arc<str>, u64>) {
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

/// The modules that open transactions are about to change, and in what words a user knows them;
/// but for one of these.
pub(crate) fn others(but: Option<u64>) -> Vec<(String, String)> {
    let open = OPEN.lock();
    let others = open.iter().filter(|(id, _)| Some(**id) != but);
    let modules = others.flat_map(|(id, intentions)| intentions.iter().map(move |of| (id, &of.module)));
    modules.map(|(id, module)| (module.to_string(), format!("transaction {id}"))).collect()
}

impl Drop for Intentions {
    fn drop(&mut self) {
        // Of a forked child nobody asks, and another thread may have had the lock at the fork.
        if !fork::is_child() {
            OPEN.lock().remove(&self.id);
        }
    }
}
