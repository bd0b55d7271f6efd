//! What a transaction has read, and whether it is still so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::Error;
use crate::publish::State;

/// The modules that are loaded, and the numbers of their versions.
pub(super) type Modules = BTreeMap<Arc<str>, u64>;

/// What a transaction has read of what is committed.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// What was committed when it began. None: each read is of its own moment, and nothing is
    /// noted.
    pub(super) snapshot: Option<Modules>,
    /// The generation that this was of.
    pub(super) generation: u64,
    /// Modules of which the version was read.
    modules: BTreeSet<Arc<str>>,
    /// Functions that were asked for, and whether they were there.
    functions: BTreeMap<(Arc<str>, Box<str>), bool>,
    /// The list of all modules was read.
    list: bool,
}

impl Reads {
    /// Nothing, of one that begins.
    pub(super) fn since(snapshot: Option<Modules>, generation: u64) -> Self {
        Self { snapshot, generation, ..Self::default() }
    }

    /// The version of a module; None: not loaded.
    pub(super) fn version(&mut self, module: &str, state: &State) -> Option<u64> {
        let Some(snapshot) = &self.snapshot else { return state.version(module) };
        self.modules.insert(module.into());
        snapshot.get(module).copied()
    }

    /// All modules.
    pub(super) fn list(&mut self, state: &State) -> Modules {
        let Some(snapshot) = &self.snapshot else { return state.numbers() };
        self.list = true;
        snapshot.clone()
    }

    /// Whether a module has a function.
    ///
    /// # Errors
    ///
    /// If the version that was there at the beginning is not current any more: nobody knows what it
    /// had.
    pub(super) fn has_function(&mut self, module: &str, symbol: &str, state: &State) -> Result<bool, Error> {
        let Some(snapshot) = &self.snapshot else { return Ok(state.has_function(module, symbol)) };
        let asked = (module.into(), symbol.into());
        if let Some(answer) = self.functions.get(&asked) {
            return Ok(*answer);
        }
        state.check_unchanged(module, snapshot.get(module).copied())?;
        let answer = state.has_function(module, symbol);
        self.functions.insert(asked, answer);
        Ok(answer)
    }

    /// That all of it is still so.
    pub(super) fn check(&self, state: &State) -> Result<(), Error> {
        let Some(snapshot) = &self.snapshot else { return Ok(()) };
        let then = |module: &str| snapshot.get(module).copied();
        self.modules.iter().try_for_each(|module| state.check_unchanged(module, then(module)))?;
        for ((module, symbol), answer) in &self.functions {
            // Of another version the answer may be the same.
            if state.has_function(module, symbol) != *answer {
                state.check_unchanged(module, then(module))?;
            }
        }
        if self.list {
            let now = state.numbers();
            let mut all = snapshot.keys().chain(now.keys());
            all.try_for_each(|module| state.check_unchanged(module, then(module)))?;
        }
        Ok(())
    }
}
