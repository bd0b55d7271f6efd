//! The generations before the current one that can be had back at once: their versions are kept,
//! constructors run and all.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::module::Version;

/// What one publication replaced.
struct Step {
    /// The generation that it made.
    made: u64,
    /// The modules that it changed, as they were before; None: not loaded.
    before: Vec<(Arc<str>, Option<Arc<Version>>)>,
}

/// The latest publications.
pub(crate) struct History {
    limit: usize,
    /// Oldest first. Each made the generation after the one before.
    steps: VecDeque<Step>,
}

impl History {
    /// Remembers so many publications.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, steps: VecDeque::new() }
    }

    /// Remembers a publication. What it forgets for that may be free.
    pub(crate) fn push(&mut self, made: u64, before: &[(Arc<str>, Option<Arc<Version>>)]) {
        if self.limit == 0 {
            return;
        }
        if self.steps.len() == self.limit {
            self.steps.pop_front();
        }
        self.steps.push_back(Step { made, before: before.to_vec() });
    }

    /// Forgets the oldest publication. False if there is none.
    pub(crate) fn forget(&mut self) -> bool {
        self.steps.pop_front().is_some()
    }

    /// Whether a version is remembered.
    pub(crate) fn has(&self, version: &Version) -> bool {
        let before = self.steps.iter().flat_map(|step| &step.before);
        before.filter_map(|(_, before)| before.as_deref()).any(|before| std::ptr::eq(before, version))
    }

    /// The versions of a module that are remembered.
    pub(crate) fn versions_of(&self, module: &str) -> impl Iterator<Item = Arc<Version>> {
        let before = self.steps.iter().flat_map(|step| &step.before);
        before.filter(move |(name, _)| **name == *module).filter_map(|(_, version)| version.clone())
    }

    /// The oldest generation that can be had back.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.steps.front().map(|step| step.made - 1)
    }

    /// How the modules were in that generation which have changed since. None if it cannot be had
    /// back.
    pub(crate) fn modules_of(&self, generation: u64) -> Option<BTreeMap<Arc<str>, Option<Arc<Version>>>> {
        let since = self.steps.iter().position(|step| step.made - 1 == generation)?;
        let mut modules = BTreeMap::new();
        // Back from the latest: of several changes to a module the earliest stays.
        for step in self.steps.range(since..).rev() {
            modules.extend(step.before.iter().cloned());
        }
        Some(modules)
    }
}
