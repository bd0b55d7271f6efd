//! What is behind the slots: of the next generation, at the homes of versions, and in the live
//! table.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::{Next, State, synchronise_cores};
use crate::Error;
use crate::call::home::{Home, Resident, World};
use crate::call::live::{self, LIVE, MAX_SLOTS};
use crate::module::Version;
use crate::publish::tables::Change;

impl State {
    /// Gives at least `slots` slots their code and their entries in the next table and in the live
    /// one. Whole pages of slots at a time: the entries beyond the last slot are unbound
    /// already when it comes into use.
    pub(super) fn cover_slots(&mut self, slots: u32) -> Result<(), Error> {
        let covered = self.tables.current().len() as u32;
        if slots <= covered {
            return Ok(());
        }
        self.trampolines.grow(&mut self.memory, slots)?;
        synchronise_cores()?;
        let unbound = |slot| self.trampolines.unbound(slot);
        self.tables.extend((covered..self.trampolines.len()).map(unbound));
        live::follow((covered..self.trampolines.len()).map(|slot| (slot, unbound(slot))));
        Ok(())
    }

    /// The index of a slot, which has its code.
    pub(in crate::publish) fn slot(
        &mut self,
        module: &str,
        symbol: &str,
        promised: bool,
    ) -> Result<u32, Error> {
        if self.slots.get(module, symbol).is_none() {
            // With some to spare: who has a frame open meanwhile, and is given the address of a new
            // slot by somebody else, comes to its unbound stub, which says so.
            const SPARE: u32 = 64;
            self.cover_slots((self.slots.len() + 1 + SPARE).min(MAX_SLOTS as u32))?;
        }
        self.slots.insert(module, symbol, promised)
    }

    /// The index of a slot, if it has one.
    pub(in crate::publish) fn slot_of(&self, module: &str, symbol: &str) -> Option<u32> {
        self.slots.get(module, symbol).map(|entry| entry.index)
    }

    /// What is behind the slots of a generation in which `staged` replace what they replace, and
    /// others change besides: their own, and those of the modules they call, some of which may be
    /// new.
    pub(in crate::publish) fn next_bindings(&self, staged: &[Arc<Version>], others: &Next) -> Vec<Change> {
        let mut changes = Vec::new();
        let called = staged.iter().flat_map(|version| version.calls()).map(|(module, _)| module);
        let mut next: BTreeMap<&str, Option<&Arc<Version>>> =
            called.map(|module| (module, self.loaded(module).ok())).collect();
        next.extend(others.iter().map(|(name, version)| (&**name, version.as_ref())));
        next.extend(staged.iter().map(|version| (&**version.name(), Some(version))));
        let adapted: BTreeSet<Arc<str>> =
            next.keys().flat_map(|module| self.layers.adapted_by(module)).collect();
        let find = |module: &str| match next.get(module) {
            Some(version) => version.map(|version| &**version),
            None => self.loaded(module).ok().map(|version| &**version),
        };
        let modules: BTreeSet<&str> =
            next.keys().copied().chain(adapted.iter().map(|name| &**name)).collect();
        modules.into_iter().for_each(|module| self.bind_slots(module, find, &mut changes));
        changes
    }

    /// What is behind the slots of a generation in which only these have changed, and those that go
    /// by way of them.
    pub(super) fn bindings_of(&self, next: &Next) -> Vec<Change> {
        self.next_bindings(&[], next)
    }

    /// Binds a module's slots to what `find` finds, or to nothing.
    fn bind_slots<'v>(
        &self,
        module: &str,
        find: impl Fn(&str) -> Option<&'v Version> + Copy,
        changes: &mut Vec<Change>,
    ) {
        for (symbol, slot) in self.slots.of(module) {
            let target = self.behind(module, symbol, find).map(|(_, target)| target);
            changes.push((slot.index, target.unwrap_or_else(|| self.trampolines.unbound(slot.index))));
        }
    }

    pub(super) fn slot_numbers(&self, module: &str) -> impl Iterator<Item = u32> {
        self.slots.of(module).map(|(_, slot)| slot.index)
    }

    /// The symbols of a module's slots.
    pub(in crate::publish) fn slots_of(&self, module: &str) -> impl Iterator<Item = &str> {
        self.slots.of(module).map(|(symbol, _)| symbol)
    }

    /// Where versions belong among those that `find` finds: what they call there, and what these go
    /// on to.
    pub(in crate::publish) fn homes_of<'v>(
        &self,
        versions: impl IntoIterator<Item = &'v Version>,
        find: impl Fn(&str) -> Option<&'v Version>,
    ) -> impl Iterator<Item = Home> {
        let mut reached: Vec<&Version> = versions.into_iter().collect();
        let count = reached.len();
        let mut numbers: HashMap<&str, usize> =
            reached.iter().enumerate().map(|(at, version)| (&**version.name(), at)).collect();
        let mut places = Vec::with_capacity(count);
        while let Some(&version) = reached.get(places.len()) {
            let mut needed: BTreeMap<&str, &Version> = version
                .dependencies()
                .filter_map(|needed| find(needed).map(|found| (&**found.name(), found)))
                .collect();
            let mut behind = |module: &str, symbol: &str| {
                let (found, target) = self.behind(module, symbol, &find)?;
                needed.insert(found.name(), found);
                Some((self.slots.get(module, symbol)?.index, target))
            };
            let calls: Vec<_> =
                version.calls().filter_map(|(module, symbol)| behind(module, symbol)).collect();
            // What it lacks itself, it cannot be the one to be called for: whoever calls that means
            // another version.
            let is_own = places.len() < count;
            let own = self.slots.of(version.name()).filter(|_| is_own);
            let own = own.filter_map(|(symbol, slot)| match self.layers.wanted(version.name(), symbol) {
                None => Some((slot.index, version.function(symbol)?)),
                Some(_) => behind(version.name(), symbol),
            });
            let own: Vec<_> = own.collect();
            // It needs itself no more than any other does.
            needed.remove(&**version.name());
            let needs = needed.into_iter().map(|(name, found)| {
                *numbers.entry(name).or_insert_with(|| {
                    reached.push(found);
                    reached.len() - 1
                })
            });
            let needs = needs.collect();
            places.push(Resident { key: version.key(), own: own.into(), calls: calls.into(), needs });
        }
        World { places, generation: self.generation }.homes(count)
    }

    /// The order in which the live table follows the changes of a publication. Each change comes
    /// with what was there before.
    ///
    /// Threads call through the live table meanwhile, and none may find a slot unbound that it
    /// needs. So slots that become bound come first: then new code finds all that it calls.
    /// Slots that lose their version come last, and one that an older version still calls is
    /// not unbound at all: it keeps a version for as long as such a caller may run.
    pub(super) fn in_order(&self, changes: Vec<(Change, usize)>, next: &Next) -> Vec<Change> {
        let unbound = |slot: u32| self.trampolines.unbound(slot);
        let (gone, mut changed): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|&((slot, target), _)| target == unbound(slot));
        changed.sort_by_key(|&((slot, _), before)| before != unbound(slot));
        let mut ordered: Vec<Change> = changed.into_iter().map(|(change, _)| change).collect();
        if gone.is_empty() {
            return ordered;
        }
        let replaced = next.keys().filter_map(|name| self.loaded(name).ok()).map(|version| &**version);
        let called = Home::called(self.retirement.remaining().chain(replaced).filter_map(Version::home));
        ordered
            .extend(gone.into_iter().map(|((slot, unbound), _)| (slot, left_behind(slot, &called, unbound))));
        ordered
    }
}

/// What is to be behind a slot of the live table that no current version has: what it has at the
/// latest home of those who may still call it, which keep that. So nobody goes back to what was
/// current before he came.
pub(super) fn left_behind(slot: u32, called: &HashMap<u32, Vec<usize>>, unbound: usize) -> usize {
    let targets = called.get(&slot).map_or(&[][..], Vec::as_slice);
    let now = LIVE.get(slot as usize);
    if targets.contains(&now) { now } else { *targets.last().unwrap_or(&unbound) }
}
