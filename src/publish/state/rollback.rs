//! Publishing versions again that were current once.

use std::sync::Arc;
use std::time::Instant;

use super::{Before, Next, Published, State};
use crate::Error;
use crate::durable::{Committed, Durability};
use crate::module::{Phases, Version};
use crate::publish::publication::{ModuleVersion, Publication, described};

impl State {
    /// See [`crate::Runtime::rollback`].
    pub(crate) fn rollback(&mut self, generation: u64, recorded: bool) -> Result<Publication, Error> {
        let begin = Instant::now();
        let Some(next) = self.history.modules_of(generation) else {
            let (oldest, current) = (self.history.oldest().unwrap_or(self.generation), self.generation);
            return Err(Error::NotInHistory { generation, oldest, current });
        };
        self.republish(next, begin, recorded, true).map(|(publication, _)| publication)
    }

    /// See [`crate::Runtime::rollback_module`].
    pub(crate) fn rollback_module(&mut self, module: &str, recorded: bool) -> Result<Publication, Error> {
        let begin = Instant::now();
        let previous = self.previous(module)?;
        let next = Next::from([(previous.name().clone(), Some(previous))]);
        let (publication, before) = self.republish(next, begin, recorded, true)?;
        self.keep_previous(before);
        Ok(publication)
    }

    /// The version that was kept of a module that is loaded.
    pub(in crate::publish) fn previous(&self, module: &str) -> Result<Arc<Version>, Error> {
        let current = self.loaded(module)?;
        let previous = self.modules.get(module).and_then(|module| module.previous.clone());
        // It may have come back already, by a rollback of all.
        let previous = previous.filter(|previous| !Arc::ptr_eq(previous, current));
        previous.ok_or_else(|| Error::NoPreviousVersion { module: module.into() })
    }

    /// Publishes versions again that were current once. Returns what they replaced, too. `commits`:
    /// to the journal first; else who calls takes back there what they replace.
    pub(in crate::publish) fn republish(
        &mut self,
        mut next: Next,
        begin: Instant,
        recorded: bool,
        commits: bool,
    ) -> Result<(Publication, Before), Error> {
        // What has come back already stays: it is not replaced by itself.
        next.retain(|name, version| {
            self.loaded(name).ok().map(Arc::as_ptr) != version.as_ref().map(Arc::as_ptr)
        });
        let versions = || next.values().flatten();
        versions().try_for_each(|version| self.check_version(version, &next))?;
        versions().try_for_each(|version| self.check_calls(version, &next))?;
        self.check_ranges_again(&next)?;
        self.check_adapted(&next)?;
        // What those call that stay is there: they have not changed since.
        let changes = self.bindings_of(&next);
        let committed = match commits {
            true => self.commit(&next, Durability::Durable)?,
            false => Committed::nothing(),
        };
        let table = self.tables.with(&changes);
        let names: Vec<_> = next.keys().cloned().collect();
        let versions: Vec<_> = versions().cloned().collect();
        let Published { generation, at, publish, before, .. } = self.publish(table, &changes, next);
        committed.applied();
        let modules = versions.iter().map(|version| described(version, &before, recorded)).collect();
        let gone = before.iter().filter(|(name, _)| self.loaded(name).is_err());
        let gone = gone.filter_map(|(_, gone)| gone.as_deref());
        let gone = gone.map(ModuleVersion::of).collect();
        self.follow_escapes(&names);
        let (stage, phases) = (at - begin, Phases::default());
        let (back, carried, anew) = (Vec::new(), Vec::new(), Vec::new());
        let publication =
            Publication { generation, stage, publish, phases, modules, back, gone, carried, anew };
        Ok((publication, before))
    }

    /// Forgets what was kept of a module that is or was loaded.
    pub(in crate::publish) fn forget_previous_of(&mut self, module: &str) {
        self.modules.get_mut(module).expect("it was loaded").previous = None;
    }

    /// Keeps what was replaced for [`rollback_module`](Self::rollback_module).
    pub(in crate::publish) fn keep_previous(&mut self, before: Before) {
        for (name, replaced) in before {
            let module = self.modules.get_mut(&name).expect("it was published");
            module.previous = replaced.or(module.previous.take());
        }
    }
}
