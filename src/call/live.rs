//! The tables of threads outside every frame: the process's live table, and those of versions that
//! have threads of their own.
//!
//! The live table's entries follow each publication (`midflight_dispatch::LiveTable`). A version's
//! own table does as well while the version is current; before and after that it has what the
//! version's home has, and follows in everything else. So a module's threads go on with what their
//! version was made for, however long they take.

use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use midflight_dispatch::LiveTable;

use crate::call::home::{Change, Home};
use crate::platform::os::memory;

/// Slots a process can have: 1 MiB of address space in .bss, of which pages are touched as slots
/// come into use.
pub(crate) const MAX_SLOTS: usize = 1 << 17;

/// Its address is the initial value of every thread's table word.
pub(crate) static LIVE: LiveTable<MAX_SLOTS> = LiveTable::new();

// On macOS a thread's words are in keys: `platform/os/macos/thread.rs`.
#[cfg(target_os = "linux")]
crate::platform::assemble::assemble!("thread", live = LIVE);

/// What follows publications, behind a lock: a new table is a copy that misses none.
static FOLLOWING: Mutex<Following> = Mutex::new(Following { slots: 0, tables: Vec::new() });

struct Following {
    /// The live table has so many entries.
    slots: usize,
    tables: Vec<Weak<OwnTable>>,
}

/// The table of a version's own threads. It is there as long as one of them is.
pub(crate) struct OwnTable {
    table: Mapped,
    /// Slots that do not follow, ascending.
    fixed: Mutex<Vec<u32>>,
}

impl OwnTable {
    /// For the threads of a version with this home.
    pub(crate) fn new(home: Option<&Home>) -> Arc<Self> {
        let mut following = following();
        let own = Arc::new(Self { table: Mapped::new(), fixed: Mutex::default() });
        for slot in 0..following.slots {
            own.table.set(slot, LIVE.get(slot));
        }
        own.fix(home);
        following.tables.retain(|table| table.strong_count() > 0);
        following.tables.push(Arc::downgrade(&own));
        own
    }

    /// What the threads' table word is.
    pub(crate) fn as_ptr(&self) -> *const usize {
        self.table.as_ptr()
    }

    /// The version's home is another one. None: it is current, and follows in everything.
    pub(crate) fn settle(&self, home: Option<&Home>) {
        let _following = following();
        for slot in std::mem::take(&mut *self.fixed()) {
            self.table.set(slot as usize, LIVE.get(slot as usize));
        }
        self.fix(home);
    }

    fn fix(&self, home: Option<&Home>) {
        let Some(home) = home else { return };
        let bindings = home.bindings();
        for &(slot, target) in &bindings {
            self.table.set(slot as usize, target);
        }
        let mut fixed: Vec<u32> = bindings.into_iter().map(|(slot, _)| slot).collect();
        fixed.sort_unstable();
        *self.fixed() = fixed;
    }

    fn fixed(&self) -> MutexGuard<'_, Vec<u32>> {
        self.fixed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A live table in a mapping of its own, of which only pages in use cost memory: most of it is for
/// slots that there will never be.
struct Mapped(NonNull<LiveTable<MAX_SLOTS>>);

// SAFETY: a table is for all threads to read and write (atomics), and its memory belongs to no
// thread.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    const LEN: usize = size_of::<LiveTable<MAX_SLOTS>>();

    fn new() -> Self {
        let made = memory::reserve(Self::LEN).and_then(|at| {
            memory::name(at, Self::LEN, "midflight: a module's threads");
            // SAFETY: our own new reservation.
            unsafe { memory::map_zeroed(at, Self::LEN) }?;
            Ok(at)
        });
        // A module's thread cannot go on without, and pthread_create has no word for it but the one
        // for no memory.
        let at = made
            .unwrap_or_else(|error| panic!("no address space for the table of a module's threads: {error}"));
        Self(at.cast())
    }
}

impl std::ops::Deref for Mapped {
    type Target = LiveTable<MAX_SLOTS>;
    fn deref(&self) -> &Self::Target {
        // SAFETY: mapped, aligned to a page, and zeros are a table.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: as it was reserved. The version's last thread is over, or has another table.
        let freed = unsafe { memory::unreserve(self.0.cast(), Self::LEN) };
        debug_assert!(freed.is_ok(), "{freed:?}");
    }
}

/// Has the live table, and those that follow it, follow a publication, change by change.
pub(crate) fn follow(changes: impl IntoIterator<Item = Change>) {
    let mut following = following();
    let tables: Vec<_> = following.tables.iter().filter_map(Weak::upgrade).collect();
    for (slot, target) in changes {
        following.slots = following.slots.max(slot as usize + 1);
        LIVE.set(slot as usize, target);
        for own in &tables {
            if own.fixed().binary_search(&slot).is_err() {
                own.table.set(slot as usize, target);
            }
        }
    }
}

/// That no table changes.
pub(crate) struct Lock(#[expect(dead_code, reason = "held")] MutexGuard<'static, Following>);

/// Waits until no table is being changed, and keeps it so.
pub(crate) fn lock() -> Lock {
    Lock(following())
}

fn following() -> MutexGuard<'static, Following> {
    FOLLOWING.lock().unwrap_or_else(PoisonError::into_inner)
}
