//! Freeing what was replaced, and the room that code memory may take.

use std::collections::HashMap;

use super::State;
use super::bindings::left_behind;
use crate::Error;
use crate::call::checks;
use crate::call::home::Home;
use crate::call::live::{self, LIVE};
use crate::module::Version;
use crate::publish::quiescence::Caller;
use crate::publish::quiescent::Quiescence;
use crate::publish::retirement::Collected;
use crate::publish::tables::{Change, Tables};

impl State {
    /// Frees the versions that no thread can be inside any more, and the retained ones if the
    /// caller vouches for those.
    pub(crate) fn collect(&mut self, with_retained: bool) -> Collected {
        self.look_for_held_frames(checks::longest_frame());
        self.follow_threads();
        self.follow_handlers();
        if with_retained {
            self.retirement.vouch_for_handlers();
        }
        let ended = self.retirement.end_lingering();
        let mut dying = self.retirement.collect(|table| self.tables.keep(table));
        self.forget_pause();
        if with_retained {
            dying.extend(self.retirement.take_retained());
        }
        // SAFETY: no thread is inside them.
        let freed = ended + unsafe { self.bury(dying) };
        self.retirement.report(freed)
    }

    /// Frees what no thread can be inside any more, if that is worth the barrier that it takes.
    pub(crate) fn tidy(&mut self) {
        if self.retirement.is_worth_collecting() {
            self.collect(false);
        }
    }

    /// As [`collect`](Self::collect), and frees the retained versions of which no thread has an
    /// address.
    pub(crate) fn collect_quiescent(&mut self, caller: &Caller<'_>) -> Result<Quiescence, Error> {
        let before = self.collect(false);
        let taken = self.retirement.take_quiescent(caller);
        let (quiescent, mut report) = taken.map_err(|source| Error::Quiescence { source })?;
        // SAFETY: no thread is inside them: they were replaced and collected before the threads
        // were looked at.
        let freed = before.freed + unsafe { self.bury(quiescent) };
        // Destructors may have taken handlers of signals back, which may still run.
        let freed =
            freed + self.retirement.end_handled(caller).map_err(|source| Error::Quiescence { source })?;
        report.collected = self.retirement.report(freed);
        Ok(report)
    }

    /// Ends versions and frees them, but for those that others need, and returns how many it freed.
    ///
    /// # Safety
    ///
    /// No thread is inside them.
    pub(in crate::publish) unsafe fn bury(&mut self, dying: Vec<Version>) -> usize {
        let dying = self.retirement.release(dying);
        let Self { retirement, tables, trampolines, .. } = self;
        let is_left = |tables: &Tables, &(slot, target): &Change| {
            LIVE.get(slot as usize) == target && tables.current()[slot as usize] != target
        };
        let left = |version: &Version, tables: &Tables| -> Vec<u32> {
            let own = version.home().into_iter().flat_map(|home| home.own().to_vec());
            own.filter(|change| is_left(tables, change)).map(|(slot, _)| slot).collect()
        };
        // Those that call it may be others than those for which it was left.
        let called = match dying.iter().all(|version| left(version, tables).is_empty()) {
            true => HashMap::new(),
            false => Home::called(retirement.remaining().filter_map(Version::home)),
        };
        // What was left bound for callers that are gone now.
        let unbind = |version: &Version, tables: &Tables| {
            let behind = |slot| (slot, left_behind(slot, &called, trampolines.unbound(slot)));
            live::follow(left(version, tables).into_iter().map(behind));
        };
        // SAFETY: the caller promises that no thread is inside them; released.
        unsafe { retirement.bury(dying, tables, unbind) }
    }

    /// Sees to it that so many more bytes of code memory may be used.
    pub(in crate::publish) fn make_room(&mut self, more: usize, caller: &Caller<'_>) -> Result<(), Error> {
        let Some(limit) = self.max_memory else { return Ok(()) };
        let has_room = |state: &Self| state.bytes + state.retirement.bytes() + more <= limit;
        if !has_room(self) {
            self.collect(false);
        }
        while !has_room(self) && self.history.forget() {
            self.collect(false);
        }
        if !has_room(self) {
            self.forget_previous();
            self.collect(false);
        }
        if !has_room(self) {
            self.collect_quiescent(caller)?;
        }
        match has_room(self) {
            true => Ok(()),
            false => Err(self.no_room(limit, more)),
        }
    }

    /// That so many more bytes may be used once all is freed that is not current.
    pub(in crate::publish) fn check_room(&self, more: usize) -> Result<(), Error> {
        match self.max_memory {
            Some(limit) if self.bytes + more > limit => Err(self.no_room(limit, more)),
            _ => Ok(()),
        }
    }

    fn no_room(&self, limit: usize, needed: usize) -> Error {
        let Collected { held, retained, busy, .. } = self.retirement.report(0);
        let (old, holders) = (self.retirement.bytes(), self.retirement.holders());
        Error::MemoryLimit { limit, needed, current: self.bytes, old, held, holders, retained, busy }
    }

    /// Forgets what was kept for [`rollback_module`](Self::rollback_module).
    fn forget_previous(&mut self) {
        self.modules.values_mut().for_each(|module| module.previous = None);
    }
}
