//! The live table: the data half of publication for calls outside frames.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use midflight_dispatch::LiveTable;

/// What a version's code reads: written when it is linked.
pub(crate) struct Linked(UnsafeCell<i32>);

// SAFETY: loom checks the accesses.
unsafe impl Sync for Linked {}

impl Linked {
    pub(crate) fn new() -> Self {
        Self(UnsafeCell::new(0))
    }

    pub(crate) fn write(&self) {
        // SAFETY: loom tracks the access.
        self.0.with_mut(|at| unsafe { *at = 7 });
    }

    pub(crate) fn check(&self) {
        // SAFETY: loom tracks the access.
        assert_eq!(self.0.with(|at| unsafe { *at }), 7);
    }
}

/// Whoever reads an entry with [`LiveTable::get`] sees what was written before it was set.
pub(crate) fn set_and_get() {
    let live = Arc::new(LiveTable::<1>::new());
    let linked = Arc::new(Linked::new());
    let publisher = thread::spawn({
        let (live, linked) = (live.clone(), linked.clone());
        move || {
            linked.write();
            live.set(0, 1);
        }
    });
    if live.get(0) == 1 {
        linked.check();
    }
    publisher.join().unwrap();
}

#[test]
fn the_live_table_publishes_what_precedes_it() {
    loom::model(set_and_get);
}
