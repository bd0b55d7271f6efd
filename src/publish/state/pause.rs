//! A pause: while the modules of a publication are called by nobody, what is in their variables can
//! be carried over. `call/pause.rs` has the waiting.
//!
//! [`State::pause`] publishes a generation in which the modules' slots are unbound, so that calls
//! wait, and waits itself until all frames of older generations are over. Then nobody is inside the
//! modules, nor comes in. What ends the pause is the publication, or that it is given up: then what
//! was current goes on.
//!
//! Nobody is made to leave: a frame that is held for longer than the pause may take refuses it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Next, State};
use crate::Error;
use crate::call::frame::open_frames;
use crate::call::home::{Change, Home};
use crate::call::{live, pause};
use crate::fault::describe_address;
use crate::module::Version;
use crate::publish::load::Deadline;
use crate::publish::quiescence::{self, Caller};

/// The generation that a pause began with. A frame may be in it.
pub(super) struct Pause {
    /// Its number, which is also that of the publication that ends it.
    generation: u64,
    /// Versions whose calls wait. None: it is over.
    versions: Option<Vec<Arc<Version>>>,
    /// What frames of the generation go on to is noted for these.
    slots: Vec<u32>,
}

/// How long calls wait at most for those that are inside.
pub(in crate::publish) const LONGEST: Duration = Duration::from_secs(1);

impl State {
    /// Has all calls of these modules wait, and returns when nobody is inside their current
    /// versions: then the caller publishes, or gives it up. `after`: what will be behind the slots
    /// then.
    ///
    /// # Errors
    ///
    /// Who is inside after [`LONGEST`] or at the load's deadline, whichever is sooner, or could
    /// come to be at any time. Then no call waits any more.
    pub(in crate::publish) fn pause(
        &mut self,
        modules: &[Arc<str>],
        after: &[Change],
        deadline: &Deadline,
        caller: &Caller<'_>,
    ) -> Result<(), Error> {
        let busy = |by: Vec<String>| Error::Occupied {
            modules: modules.iter().map(|m| m.to_string()).collect(),
            by,
        };
        if !pause::IS_POSSIBLE {
            let what = "variables cannot be carried over on this system yet: load without `carry`, and with states as they are";
            return Err(Error::Unsupported { what: what.into() });
        }
        if open_frames() > 0 {
            return Err(busy(vec!["the calling thread has a frame open".into()]));
        }
        pause::prepare().map_err(|source| Error::CodeMemory { of: "a pause of calls".into(), source })?;
        let longest = Instant::now() + LONGEST;
        let until = deadline.at().map_or(longest, |at| at.min(longest));
        // Frames of an earlier pause go on to what that ended with.
        self.collect(false);
        while self.pause.is_some() {
            if !self.wait(until) {
                return Err(busy(self.inside()));
            }
        }
        loop {
            if modules.iter().any(|module| self.retirement.has_escaped(module)) {
                self.collect_quiescent(caller)?;
            }
            let unattended = self.unattended(modules);
            if unattended.is_empty() {
                break;
            }
            if !self.wait(until) {
                return Err(busy(unattended));
            }
        }
        self.begin_pause(modules, after);
        loop {
            let outside = self.retirement.held().next().is_none();
            let mut because = if outside { self.found_inside(modules, caller)? } else { self.inside() };
            because.extend(self.by_themselves(modules));
            if outside && because.is_empty() {
                return Ok(());
            }
            if !self.wait(until) {
                if !outside {
                    because = self.with_places(because, modules, caller);
                }
                self.give_up_pause();
                return Err(busy(because));
            }
        }
    }

    fn begin_pause(&mut self, modules: &[Arc<str>], after: &[Change]) {
        let without: Next = modules.iter().map(|module| (module.clone(), None)).collect();
        let mut unbound = self.bindings_of(&without);
        let current = self.tables.current();
        // Of other modules, which have adapters in these, only what goes on to those.
        let all: BTreeSet<u32> = modules.iter().flat_map(|module| self.slot_numbers(module)).collect();
        unbound.retain(|(slot, target)| all.contains(slot) || current[*slot as usize] != *target);
        let slots = unbound.iter().map(|&(slot, stub)| (slot, current[slot as usize], stub));
        let before: Vec<Change> =
            slots.filter(|(_, now, stub)| now != stub).map(|(slot, now, _)| (slot, now)).collect();
        // What the new versions lack stays as it is: whoever calls that is told so.
        let after: Vec<Change> = after
            .iter()
            .copied()
            .filter(|&(slot, target)| target != self.trampolines.unbound(slot))
            .collect();
        let generation = self.generation + 1;
        let table = self.tables.with(&unbound);
        pause::begin(generation, table.entries().as_ptr().addr(), &before, &after);
        let slots = before.iter().chain(&after).map(|&(slot, _)| slot).collect();
        let versions: Vec<_> =
            modules.iter().filter_map(|module| self.loaded(module).ok().cloned()).collect();
        self.of_modules(modules).for_each(|version| version.set_waits(true));
        self.pause = Some(Pause { generation, versions: Some(versions), slots });
        self.publish(table, &unbound, Next::new());
        // Also those that older versions call, which do not run.
        live::follow(unbound);
        self.collect(false);
    }

    /// Waits a little for frames to end; false if it is late. (Nobody tells of it: to end a frame
    /// is a store.)
    fn wait(&mut self, until: Instant) -> bool {
        const WHILE: Duration = Duration::from_micros(100);
        if Instant::now() >= until {
            return false;
        }
        std::thread::park_timeout(WHILE);
        self.collect(false);
        true
    }

    /// Who has frames of older generations open.
    fn inside(&self) -> Vec<String> {
        let holders: Vec<_> = self.retirement.holders().iter().map(ToString::to_string).collect();
        if holders.is_empty() { vec!["a frame was shared and is kept".into()] } else { holders }
    }

    /// With the functions of the modules that the threads are in, as far as that can be seen.
    fn with_places(&self, mut by: Vec<String>, modules: &[Arc<str>], caller: &Caller<'_>) -> Vec<String> {
        let ranges: Vec<_> = modules
            .iter()
            .filter_map(|module| self.loaded(module).ok())
            .map(|version| version.range())
            .collect();
        // Where it cannot be looked at threads, the threads are named all the same.
        let Ok(scan) = quiescence::scan(caller, &ranges, quiescence::LIMIT) else { return by };
        for hit in &scan.hits {
            let thread = hit.thread.to_string();
            let place = hit.at.and_then(place);
            if let (Some(one), Some(place)) = (by.iter_mut().find(|one| one.starts_with(&thread)), place) {
                one.push_str(&format!(", in {place}"));
            }
        }
        by
    }

    /// Threads that may be inside of modules that are called outside frames, too.
    fn found_inside(&self, modules: &[Arc<str>], caller: &Caller<'_>) -> Result<Vec<String>, Error> {
        let escaped = modules.iter().filter(|module| self.retirement.has_escaped(module));
        let versions = escaped.filter_map(|module| self.loaded(module).ok()).map(|version| &**version);
        // Older ones may have the same states.
        let older = self.retirement.kept().filter(|version| modules.contains(version.name()));
        let ranges: Vec<_> = versions.chain(older).map(|version| version.range()).collect();
        if ranges.is_empty() {
            return Ok(Vec::new());
        }
        let scan = quiescence::scan(caller, &ranges, quiescence::LIMIT);
        let scan = scan.map_err(|source| Error::Quiescence { source })?;
        let mut found: Vec<String> = scan
            .hits
            .iter()
            .map(|hit| match hit.at.and_then(place) {
                Some(place) => format!("{} may be inside, in {place}", hit.thread),
                None => format!("{} may be inside", hit.thread),
            })
            .collect();
        found.extend(
            scan.suspended.iter().map(|(stack, _)| format!("the fiber at {stack:#x?} may be inside")),
        );
        found.extend(scan.missed.iter().map(|(thread, why)| format!("{thread} {why}")));
        if !scan.complete {
            found.push("threads came and went faster than they could be listed".into());
        }
        Ok(found)
    }

    /// What may run in the modules without being called by the host: threads and handlers of
    /// theirs, and older versions that are still in use and call them.
    fn unattended(&self, modules: &[Arc<str>]) -> Vec<String> {
        let slots = |version: &Version| {
            let called = Home::called(version.home());
            let mut slots = modules.iter().flat_map(|module| self.slots.of(module));
            modules.contains(version.name()) || slots.any(|(_, slot)| called.contains_key(&slot.index))
        };
        let kept = self.retirement.kept();
        let replaced = self.retirement.replaced().map(|(version, _)| version);
        let running = kept.chain(replaced.filter(|version| version.runs_by_itself()));
        let running = running.filter(|version| slots(version));
        let mut found = self.by_themselves(modules);
        found.extend(running.map(|version| format!("{} is still in use", named(version))));
        found
    }

    /// All of their versions that are there: older ones may have the same states.
    fn of_modules(&self, modules: &[Arc<str>]) -> impl Iterator<Item = &Version> {
        let current = modules.iter().filter_map(|module| self.loaded(module).ok()).map(|version| &**version);
        current.chain(self.retirement.remaining().filter(|version| modules.contains(version.name())))
    }

    /// Which of their versions have threads, exit functions that run, or handlers of signals.
    fn by_themselves(&self, modules: &[Arc<str>]) -> Vec<String> {
        let own = self.of_modules(modules).filter(|version| version.runs_by_itself());
        own.map(|version| format!("{} has threads, exit functions or handlers of signals", named(version)))
            .collect()
    }

    /// The number of the generation that the pause that is under way began with.
    pub(super) fn pause_under_way(&self) -> Option<u64> {
        self.pause.as_ref().filter(|pause| pause.versions.is_some()).map(|pause| pause.generation)
    }

    /// Those who wait in a pause, if one is under way, go on in what is about to be published.
    pub(in crate::publish) fn decide_pause(&self) {
        if self.pause_under_way().is_some() {
            pause::PAUSE.decide();
        }
    }

    /// Ends the pause that is under way, if one is.
    pub(in crate::publish) fn end_pause(&mut self) {
        if let Some(versions) = self.pause.as_mut().and_then(|pause| pause.versions.take()) {
            let modules: Vec<_> = versions.iter().map(|version| version.name().clone()).collect();
            self.of_modules(&modules).for_each(|version| version.set_waits(false));
            pause::end();
        }
    }

    /// Ends the pause that is under way, if one is: what was current goes on.
    pub(in crate::publish) fn give_up_pause(&mut self) {
        let Some(Pause { versions: Some(versions), .. }) = &self.pause else { return };
        let next = versions.iter().map(|version| (version.name().clone(), Some(version.clone())));
        let changes = self.bindings_of(&next.collect());
        let table = self.tables.with(&changes);
        self.publish(table, &changes, Next::new());
        self.end_pause();
    }

    /// Notes that no frame is in the last pause's generation, if that is so.
    pub(super) fn forget_pause(&mut self) {
        let Some(Pause { generation, versions: None, .. }) = self.pause else { return };
        // A frame of the publication that ended it keeps it, once that is replaced: the next pause
        // would wait for that frame as well.
        if !self.retirement.held().any(|held| held == generation) {
            let pause = self.pause.take();
            pause::PAUSE.forget(pause.into_iter().flat_map(|pause| pause.slots));
        }
    }
}

/// The function of a module that an address is in.
fn place(address: usize) -> Option<String> {
    describe_address(std::ptr::without_provenance(address), |found| {
        let symbol = found.symbol.map(String::from_utf8_lossy);
        let symbol = symbol.map(|symbol| format!("`{symbol}` of "));
        let version = found.version.map_or(String::new(), |version| format!("version {version} of "));
        format!("{}{version}`{}`", symbol.unwrap_or_default(), found.module)
    })
}

fn named(version: &Version) -> String {
    format!("version {} of `{}`", version.number(), version.name())
}
