//! Freeing what was replaced.
//!
//! The dispatcher says which generations no thread can be inside. What they kept alive goes when the last generation
//! that holds it goes, unless an address of its module has escaped: a trampoline given to the host may be called outside
//! every frame, where no pin proves anything. Such versions are *retained* until the host says that nobody is inside.

use std::collections::HashSet;
use std::sync::Arc;

use midflight_dispatch::Publisher;

use crate::call::frame::DISPATCH;
use crate::module::{Version, Versions, dependencies_first};
use crate::os::thread;

/// What a collection did, and what is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Collected {
    /// Versions freed: destructors run, memory unmapped.
    pub freed: usize,
    /// Generations that a frame still holds.
    pub held: usize,
    /// Versions kept because an address of their module has escaped.
    pub retained: usize,
    /// Code memory of the retained versions, in bytes.
    pub retained_bytes: usize,
    /// Versions that no frame holds, but threads do: one that the version started goes on, or one is running the version's
    /// exit functions. The next collection looks again.
    pub busy: usize,
}

/// What is retired and not yet free.
#[derive(Default)]
pub(crate) struct Retirement {
    pub(crate) publisher: Publisher<Versions>,
    /// Modules of which an address has escaped, and the modules that those call.
    escaped: HashSet<Arc<str>>,
    /// Replaced and collected, but somebody may be inside.
    pub(crate) retained: Vec<Version>,
    /// A thread that exits was inside when they were to be ended.
    leaving: Vec<Version>,
    /// Ended, but threads that they started go on in them.
    lingering: Vec<Version>,
}

impl Retirement {
    /// Notes that a module can be called outside frames. True if that is new.
    pub(crate) fn escape(&mut self, module: Arc<str>) -> bool {
        self.escaped.insert(module)
    }

    pub(crate) fn has_escaped(&self, module: &str) -> bool {
        self.escaped.contains(module)
    }

    /// Takes out the versions that no frame can be inside any more, for [`Self::bury`]. Retains what may have escaped.
    pub(crate) fn collect(&mut self) -> Vec<Version> {
        // SAFETY: the process's one publisher, behind the runtime's lock.
        let generations = unsafe { DISPATCH.collect(&mut self.publisher) };
        let versions = generations.into_iter().flat_map(|generation| generation.into_payload());
        // Whoever else holds a version is a later generation, which will bring it here again.
        let (retained, free) =
            versions.filter_map(Arc::into_inner).partition(|version| self.has_escaped(version.name()));
        let (retained, mut free): (Vec<_>, Vec<_>) = (retained, free);
        self.retained.extend(retained);
        free.append(&mut self.leaving);
        free
    }

    /// The versions that are kept for whoever may be inside: they call other modules as current ones do.
    pub(crate) fn kept(&self) -> impl Iterator<Item = &Version> {
        self.retained.iter().chain(&self.leaving).chain(&self.lingering)
    }

    /// Frees what only its threads kept, if those are over. Returns how many.
    pub(crate) fn end_lingering(&mut self) -> usize {
        let before = self.lingering.len();
        self.lingering.retain(Version::is_busy);
        before - self.lingering.len()
    }

    /// Takes out the retained versions.
    pub(crate) fn take_retained(&mut self) -> Vec<Version> {
        std::mem::take(&mut self.retained)
    }

    pub(crate) fn report(&self, freed: usize) -> Collected {
        Collected {
            freed,
            held: self.publisher.retired(),
            retained: self.retained.len(),
            retained_bytes: self.retained.iter().map(Version::bytes).sum(),
            busy: self.leaving.len() + self.lingering.len(),
        }
    }

    /// Ends versions that die together: all destructors, callers before those they call, and only then any memory. Keeps
    /// those that threads are inside, and returns how many it freed.
    ///
    /// `table` is where the destructors' calls to other modules go.
    ///
    /// # Safety
    ///
    /// No frame is inside any of them. The table covers all slots, and its targets are mapped.
    pub(crate) unsafe fn bury(&mut self, dying: Vec<Version>, table: &[usize]) -> usize {
        let (dying, leaving): (Vec<_>, Vec<_>) = dying.into_iter().partition(Version::evict);
        self.leaving.extend(leaving);
        if !dying.is_empty() {
            with_table(table, || {
                for version in dependencies_first(&dying).into_iter().rev() {
                    // SAFETY: evicted; the caller's promise; each is in the list once, and never finalised again.
                    unsafe { version.finalise() };
                }
            });
        }
        let (lingering, free): (Vec<_>, Vec<_>) = dying.into_iter().partition(Version::is_busy);
        self.lingering.extend(lingering);
        free.len()
    }
}

/// Runs module code that belongs to no frame: constructors and destructors. What it calls in other modules is looked up in
/// `table`, not in whatever frame this thread may have open.
pub(crate) fn with_table(table: &[usize], run: impl FnOnce()) {
    struct Restore(*const usize);
    impl Drop for Restore {
        fn drop(&mut self) {
            // SAFETY: the block is this thread's own.
            unsafe { thread::block().as_ref() }.table.set(self.0);
        }
    }
    // SAFETY: the block is this thread's own.
    let _restore = Restore(unsafe { thread::block().as_ref() }.table.replace(table.as_ptr()));
    run();
}
