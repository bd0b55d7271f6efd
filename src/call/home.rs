//! Where a version belongs: what its code calls, whoever runs it and whenever.
//!
//! A version that is current belongs to the current generation, and calls what is current. A
//! version that is not belongs with those that it was last current with: its *home*. Destructors,
//! exit functions and threads of its own run there, and the versions of its home outlive it.
//! docs/dispatch.md has the argument (theorem 3).

use std::collections::{HashMap, HashSet};
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

use midflight_dispatch::{Generation, ThreadBlock, ThreadHandle};

use crate::call::frame::{DISPATCH, Made};
use crate::call::live::LIVE;
use crate::call::pause;
use crate::platform::arch;
use crate::platform::os::{stop, thread};

/// A slot, and what is behind it.
pub(crate) type Change = (u32, usize);

/// A version, by the order in which versions were linked: the number that it has in its module is
/// another's again if it is not published.
pub(crate) type Key = u64;

/// What a version calls while it is not current, and the versions behind that.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    world: Arc<World>,
    at: usize,
}

/// The versions that a publication replaces, and those that they call, and so on, as they were
/// before it: of each module one. Shared by the homes of what was replaced, so that a publication
/// that replaces many modules notes each once.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) places: Vec<Resident>,
    /// The last generation that had them.
    pub(crate) generation: u64,
}

/// A version in a world.
#[derive(Debug)]
pub(crate) struct Resident {
    pub(crate) key: Key,
    /// What is behind its own slots, if it is one of the replaced.
    pub(crate) own: Box<[Change]>,
    /// What is behind the slots that it calls.
    pub(crate) calls: Box<[Change]>,
    /// The versions that it calls or says that it needs.
    pub(crate) needs: Vec<usize>,
}

impl World {
    /// The homes of its first places.
    pub(crate) fn homes(self, count: usize) -> impl Iterator<Item = Home> {
        let world = Arc::new(self);
        (0..count).map(move |at| Home { world: world.clone(), at })
    }

    /// The places that these need, and so on, themselves included.
    fn reached(&self, from: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let mut seen = vec![false; self.places.len()];
        let mut reached: Vec<usize> = Vec::new();
        let mut add = |at: usize, reached: &mut Vec<usize>| {
            if !std::mem::replace(&mut seen[at], true) {
                reached.push(at);
            }
        };
        from.into_iter().for_each(|at| add(at, &mut reached));
        let mut next = 0;
        while let Some(&at) = reached.get(next) {
            next += 1;
            self.places[at].needs.iter().for_each(|&needed| add(needed, &mut reached));
        }
        reached
    }
}

impl Home {
    /// Whether it is of the same version, in the same world.
    pub(crate) fn is(&self, other: &Home) -> bool {
        Arc::ptr_eq(&self.world, &other.world) && self.at == other.at
    }

    /// What is behind the version's own slots.
    pub(crate) fn own(&self) -> &[Change] {
        &self.world.places[self.at].own
    }

    /// What is behind its own slots, and behind those that it calls and that these go on to.
    pub(crate) fn bindings(&self) -> Vec<Change> {
        let places = self.world.reached([self.at]);
        let calls = places.iter().flat_map(|&at| &self.world.places[at].calls);
        // Its own last: a version is part of its own home.
        calls.chain(self.own()).copied().collect()
    }

    /// What `find` finds among the versions that are part of it. Nothing behind one that has its
    /// home in the same world: that one finds it.
    pub(crate) fn nearest<'h>(&self, find: impl Fn(Key) -> Option<(usize, Option<&'h Home>)>) -> Vec<usize> {
        let places = &self.world.places;
        let (mut found, mut seen) = (Vec::new(), HashSet::new());
        let mut path = places[self.at].needs.clone();
        while let Some(at) = path.pop() {
            if !seen.insert(at) {
                continue;
            }
            let here = find(places[at].key);
            found.extend(here.map(|(number, _)| number));
            let finds_the_rest = |home: &Home| Arc::ptr_eq(&home.world, &self.world);
            if !here.and_then(|(_, home)| home).is_some_and(finds_the_rest) {
                path.extend(&places[at].needs);
            }
        }
        found
    }

    /// The versions that are part of these homes.
    pub(crate) fn needed(homes: impl IntoIterator<Item = Home>) -> HashSet<Key> {
        let mut needed = HashSet::new();
        for (world, from) in by_world(homes) {
            // What only the first of them are themselves, nobody needs.
            let needs = from.iter().flat_map(|&at| world.places[at].needs.iter().copied());
            needed.extend(world.reached(needs).into_iter().map(|at| world.places[at].key));
        }
        needed
    }

    /// What is behind the slots that the versions at these homes call, and that these go on to: the
    /// latest homes' last.
    pub(crate) fn called(homes: impl IntoIterator<Item = Home>) -> HashMap<u32, Vec<usize>> {
        let mut called = HashMap::<_, Vec<_>>::new();
        let mut worlds: Vec<_> = by_world(homes).collect();
        worlds.sort_unstable_by_key(|(world, _)| world.generation);
        for (world, from) in worlds {
            let calls = world.reached(from).into_iter().flat_map(|at| &world.places[at].calls);
            calls.for_each(|&(slot, target)| called.entry(slot).or_default().push(target));
        }
        called
    }
}

/// Where these homes are in each world, so that it is gone through once.
fn by_world(homes: impl IntoIterator<Item = Home>) -> impl Iterator<Item = (Arc<World>, Vec<usize>)> {
    let mut worlds: HashMap<*const World, (Arc<World>, Vec<usize>)> = HashMap::new();
    for Home { world, at } in homes {
        worlds.entry(Arc::as_ptr(&world)).or_insert_with(|| (world, Vec::new())).1.push(at);
    }
    worlds.into_values()
}

/// Runs code of a version at its home, on any thread, whatever frame that has open: what the home
/// has is called from there, and everything else in the current generation, which is held
/// meanwhile.
///
/// `home` says what the home is, and how often it has changed. It is asked when the generation is
/// held. If the version is current in that generation, it has no home, or still has one, which is
/// as good: the home is kept as long as what `home` returned is there. If the version is not current
/// in it, it has a home by now, or has become current again in a later one.
///
/// So `home` is asked before that, too. If nothing has changed between the two and there is no home,
/// the version was current all the time. If something has, another generation is held.
pub(crate) fn at_home<H: Deref<Target = Home>>(home: impl Fn() -> (u64, Option<H>), run: impl FnOnce()) {
    let mut rest = Some(run);
    let mut paused = false;
    while let Some(run) = rest.take() {
        // Outside of every generation: the pause may wait for this one.
        if std::mem::take(&mut paused) {
            pause::wait_until_over();
        }
        let (before, _) = home();
        rest = in_current_generation(|generation| match home() {
            // It has slots that are unbound until the pause is over. Then another is current.
            _ if pause::is_under_way() && pause::PAUSE.is_table(generation.table().as_ptr().addr()) => {
                paused = true;
                Some(run)
            }
            (now, None) if now != before => Some(run),
            (_, None) => {
                with_table(generation.table(), run);
                None
            }
            (_, Some(home)) => {
                let mut table = generation.table().to_vec();
                let bindings = home.bindings();
                // Of a version that is not published yet some slots may be newer than the
                // generation.
                let len = bindings.iter().map(|&(slot, _)| slot as usize + 1).max().unwrap_or(0);
                table.extend((table.len()..len).map(|slot| LIVE.get(slot)));
                for (slot, target) in bindings {
                    table[slot as usize] = target;
                }
                with_table(&table, run);
                None
            }
        });
    }
}

/// Holds the current generation while `run` runs, apart from whatever frame this thread has open:
/// by a record of its own, as another thread would.
fn in_current_generation<R>(run: impl FnOnce(&Generation<Made>) -> R) -> R {
    struct Release(Option<ThreadHandle<Made>>);
    impl Drop for Release {
        fn drop(&mut self) {
            if let Some(handle) = self.0.take() {
                // SAFETY: the dispatcher is static, and the only pin through this handle is over.
                unsafe { handle.release() };
            }
        }
    }
    let block = ThreadBlock { table: std::ptr::null::<usize>().into(), record: None.into() };
    // SAFETY: the block outlives the record's use, which ends with `release`; and so says the order
    // of these variables.
    let handle = unsafe { DISPATCH.register(NonNull::from(&block), stop::gettid() as u32) };
    let release = Release(Some(handle));
    // SAFETY: of this dispatcher, made on this thread. Who has code of a module to run has
    // published a generation.
    let pin = unsafe { DISPATCH.pin(release.0.as_ref().expect("released at the end")) };
    run(&pin)
}

/// What this thread calls through outside every frame, from now on.
pub(crate) fn set_outer_table(table: *const usize) {
    // SAFETY: the block is this thread's own, and its record, if it has one, is of DISPATCH. The
    // caller's table outlives the thread, or another is set before it goes.
    unsafe { ThreadHandle::<Made>::set_outer(thread::block(), table) };
}

/// Runs module code that belongs to no frame with a table of its own: what it calls in other
/// modules is looked up there, not in whatever frame this thread may have open.
pub(crate) fn with_table(table: &[usize], run: impl FnOnce()) {
    // Another thread may have linked it, and without membarrier nothing else has this core discard
    // what was there before.
    arch::cache::synchronise_this_core();
    // SAFETY: the block is this thread's own, and its record, if it has one, is of DISPATCH; the
    // caller's table outlives the call.
    unsafe { ThreadHandle::<Made>::with_table(thread::block(), table.as_ptr(), run) };
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::Runtime;

    /// The generation that was held when it was asked the first time may be older than the version.
    #[test]
    fn a_version_that_becomes_current_meanwhile_runs_in_a_generation_that_is_held_after_that() {
        let _rt = Runtime::start().unwrap();
        let home = Home { world: Arc::new(World { places: Vec::new(), generation: 0 }), at: 0 };
        // It has a home when it is asked first, or is replaced and comes back between the two.
        for first in [Some(&home), None] {
            let (asked, ran) = (Cell::new(0), Cell::new(0));
            let ask = || {
                asked.set(asked.get() + 1);
                (asked.get().min(2), first.filter(|_| asked.get() == 1))
            };
            at_home(ask, || ran.set(asked.get()));
            // Before and after the generation was held, twice.
            assert_eq!((asked.get(), ran.get()), (4, 4));
        }
    }
}
