//! What a publication does besides loading files: modules go, and versions come back. A
//! transaction has all of it in one.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::state::{Next, State};
use crate::Error;
use crate::module::Version;

/// Modules by their names, none of them twice, and none that is loaded by the same publication.
/// What they come to is known behind the runtime's lock.
#[derive(Clone, Debug, Default)]
pub(crate) struct Besides {
    /// Modules that are taken out.
    pub(crate) gone: BTreeSet<Arc<str>>,
    /// Modules whose version before comes back.
    pub(crate) back: BTreeSet<Arc<str>>,
    /// Of the modules that are loaded, those whose replaced version is kept
    /// ([`LoadOptions::keep_previous`](crate::LoadOptions::keep_previous) keeps all).
    pub(crate) keeps: BTreeSet<Arc<str>>,
}

impl Besides {
    /// These modules as the publication makes them.
    ///
    /// # Errors
    ///
    /// If one that is to go is not loaded, or there is no version to come back.
    pub(super) fn find(&self, state: &State) -> Result<Others, Error> {
        let gone = self.gone.iter().map(|name| state.loaded(name).map(|_| (name.clone(), None)));
        let back = self.back.iter().map(|name| Ok((name.clone(), Some(state.previous(name)?))));
        gone.chain(back).collect()
    }
}

/// The modules that change besides, as they become; None: they go.
pub(super) type Others = Next;

/// The versions that come back.
pub(super) fn coming(others: &Others) -> impl Iterator<Item = &Arc<Version>> {
    others.values().flatten()
}
