//! Freeing what was replaced.
//!
//! The dispatcher says which generations no thread can be inside. What they kept alive goes when the last generation
//! that holds it goes, unless an address of its module has escaped: a trampoline given to the host may be called outside
//! every frame, where no pin proves anything. Such versions are *retained* until the host says that nobody is inside.

use std::collections::HashSet;
use std::sync::Arc;

use midflight_dispatch::Publisher;

use crate::frame::DISPATCH;
use crate::module::{Version, Versions};

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
}

/// What is retired and not yet free.
#[derive(Default)]
pub(crate) struct Retirement {
    pub(crate) publisher: Publisher<Versions>,
    /// Modules of which an address has escaped, and the modules that those call.
    escaped: HashSet<Arc<str>>,
    retained: Vec<Version>,
}

impl Retirement {
    /// Notes that a module can be called outside frames. True if that is new.
    pub(crate) fn escape(&mut self, module: Arc<str>) -> bool {
        self.escaped.insert(module)
    }

    pub(crate) fn has_escaped(&self, module: &str) -> bool {
        self.escaped.contains(module)
    }

    /// Takes out what can be freed now. The caller drops it where a destructor may run.
    pub(crate) fn collect(&mut self) -> (Vec<Version>, Collected) {
        // SAFETY: the process's one publisher, behind the runtime's lock.
        let generations = unsafe { DISPATCH.collect(&mut self.publisher) };
        let mut free = Vec::new();
        for version in generations.into_iter().flat_map(|generation| generation.into_payload()) {
            // Whoever else holds it is a later generation, which will bring it here again.
            let Some(version) = Arc::into_inner(version) else { continue };
            if self.has_escaped(version.name()) { self.retained.push(version) } else { free.push(version) }
        }
        let report = self.report(free.len());
        (free, report)
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
        }
    }
}
