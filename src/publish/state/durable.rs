//! What is published is committed to the journal first, if there is one.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Next, State};
use crate::Error;
use crate::durable::{Committed, Durability, Durable};

impl State {
    /// From now on what is published is committed there.
    pub(crate) fn set_journal(&mut self, journal: Option<Arc<Durable>>) -> Option<Arc<Durable>> {
        std::mem::replace(&mut self.journal, journal)
    }

    pub(crate) fn journal(&self) -> Option<&Arc<Durable>> {
        self.journal.as_ref()
    }

    /// Commits the set that the next generation has, which `next` leads to. The caller publishes it,
    /// or drops the result.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`]. Nothing may be published then.
    pub(in crate::publish) fn commit(&self, next: &Next, durability: Durability) -> Result<Committed, Error> {
        let Some(journal) = &self.journal else { return Ok(Committed::nothing()) };
        let staying = self.current().filter(|version| !next.contains_key(version.name()));
        let set = staying.chain(next.values().flatten()).map(|version| match version.stored() {
            Some(digest) => Ok((&**version.name(), digest)),
            None => Err(Error::Unsupported {
                what: format!(
                    "version {} of `{}` was loaded before the journal in {} was opened, and is not in it: load its file again",
                    version.number(),
                    version.name(),
                    journal.folder().display()
                ),
            }),
        });
        let set = set.collect::<Result<BTreeMap<_, _>, _>>()?;
        // What was current once has an end.
        let back = |name: &str| {
            next.get(name).and_then(Option::as_ref).is_some_and(|version| version.end().is_some())
        };
        journal.commit(&set, back, durability)
    }
}
