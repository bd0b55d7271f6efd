//! A version: one loaded file of a module, and all that goes when it is freed.

use std::collections::{BTreeSet, HashMap};
use std::ffi::c_int;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use midflight_image::{Machine, Protection};
use midflight_interface::{ChangedFunctions, LinkedCode, Variables};
use parking_lot::Mutex;

use super::Origin;
use super::exports::{Exported, Exports};
use super::hooks::Hooks;
use super::stage::Code;
use crate::Error;
use crate::call::home::{Home, Key};
use crate::code::Block;
use crate::error::StateProblem;
use crate::fault::past::{self, End, Past};
use crate::host::Tenant;
use crate::host::loaded::{self, Names, Standing};
use crate::host::places::Id;
use crate::host::signals;
use crate::module::debug::Registration;
use crate::module::unwind;
use crate::platform::arch::arithmetic;
use crate::platform::files::{ContentHash, Identity};
use crate::platform::os::{Strings, arguments};
use crate::state::{Held, How, Migration, Storage};

/// The versions behind a generation, one per loaded module, by name.
pub(crate) type Versions = Vec<Arc<Version>>;

/// A linked module in code memory, which goes by [`free`](Version::free) only: dropped, it stays as
/// it is, since somebody may be inside.
pub(crate) struct Version {
    pub(super) name: Arc<str>,
    pub(super) number: u64,
    pub(super) path: PathBuf,
    /// Of all that its files held, if that is known.
    pub(super) content: OnceLock<ContentHash>,
    /// What who is linked with it calls it.
    pub(super) library: Option<Box<str>>,
    pub(super) debug_omitted: Option<&'static str>,
    /// Addresses of what it exports.
    pub(super) exports: Exports,
    /// The functions of other modules that it calls: (module, symbol).
    pub(super) calls: BTreeSet<(Arc<str>, Box<str>)>,
    pub(super) constructors: Vec<u64>,
    pub(super) destructors: Vec<u64>,
    pub(super) hooks: Hooks,
    /// Its constructors have run, so its destructors must.
    pub(super) initialised: AtomicBool,
    /// Nobody can say when the threads that it starts are over (`host::shared_std`): once
    /// initialised it stays.
    pub(super) stays: bool,
    /// Threads that nobody counts for it may run its functions (`lent`).
    pub(super) lends: bool,
    /// It may install handlers of signals, or have them installed.
    pub(super) handles: bool,
    /// There were some when it was ended: it is free when nobody is inside after they are gone.
    pub(super) handled: AtomicBool,
    /// The version that it says it is, in its note.
    pub(super) declared: Option<Box<str>>,
    /// The modules that it says it needs.
    pub(super) needs: Box<[Box<str>]>,
    /// Of those, which versions will do: (module, range).
    pub(super) ranges: Box<[(Box<str>, Box<str>)]>,
    /// Resources that it says are its alone.
    pub(super) exclusive: Box<[Box<str>]>,
    /// What later versions are compared with, if that was kept.
    pub(super) origin: OnceLock<Arc<Origin>>,
    /// How it ended to be current.
    pub(super) end: Mutex<Option<End>>,
    /// It was said that it is retained.
    pub(super) retained: AtomicBool,
    /// Its variables, if they were asked for; why not, if debug information does not say.
    pub(super) variables: Option<Result<Variables, &'static str>>,
    /// The states that it declares. They go after all that has their addresses.
    pub(super) states: ManuallyDrop<Vec<Held>>,
    pub(super) registration: ManuallyDrop<Registration>,
    pub(super) tenant: ManuallyDrop<Tenant>,
    pub(super) block: ManuallyDrop<Block>,
    pub(super) freed: bool,
}

impl Version {
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn debug_omitted(&self) -> Option<&'static str> {
        self.debug_omitted
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What who is linked with it calls it.
    pub(crate) fn library(&self) -> Option<&str> {
        self.library.as_deref()
    }

    /// The hash of all that its files held, if that is known.
    pub(crate) fn content(&self) -> Option<ContentHash> {
        self.content.get().copied()
    }

    /// Notes the hash of its file, if it is the file that this was made of.
    pub(crate) fn note_content(&self, path: &Path, identity: Identity, hash: ContentHash) {
        if self.origin().is_some_and(|origin| origin.is_file(path, identity)) {
            // It may be known already: then it is the same.
            let _ = self.content.set(hash);
        }
    }

    /// How it ended to be current. None: it is current, or never was.
    pub(crate) fn end(&self) -> Option<End> {
        *self.end.lock()
    }

    /// Whether this is the first time that it is retained.
    pub(crate) fn is_newly_retained(&self) -> bool {
        // Relaxed: behind the runtime's lock.
        !self.retained.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn exports(&self, symbol: &str) -> Option<Exported> {
        self.exports.get(symbol, &self.block)
    }

    /// The symbols of its functions that have a word in them.
    pub(crate) fn functions_with(&self, word: &str) -> Vec<&str> {
        let mut found = Vec::new();
        self.exports.with_word(word, &self.block, |symbol| found.push(symbol));
        found.retain(|symbol| self.function(symbol).is_some());
        found.sort_unstable();
        found.dedup();
        found
    }

    pub(crate) fn function(&self, symbol: &str) -> Option<usize> {
        self.exports(symbol).filter(|exported| exported.function).map(|exported| exported.address)
    }

    pub(crate) fn calls(&self) -> impl Iterator<Item = (&str, &str)> {
        self.calls.iter().map(|(module, symbol)| (&**module, &**symbol))
    }

    /// The version that it says it is.
    pub(crate) fn declared(&self) -> Option<&str> {
        self.declared.as_deref()
    }

    /// The modules that it says it needs.
    pub(crate) fn needs(&self) -> impl Iterator<Item = &str> {
        self.needs.iter().map(|module| &**module)
    }

    /// Of the modules that it needs, which versions will do: (module, range).
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (&str, &str)> {
        self.ranges.iter().map(|(module, range)| (&**module, &**range))
    }

    /// Resources that it says are its alone.
    pub(crate) fn exclusive(&self) -> impl Iterator<Item = &str> {
        self.exclusive.iter().map(|resource| &**resource)
    }

    /// The modules that it calls and those that it says it needs; some more than once.
    pub(crate) fn dependencies(&self) -> impl Iterator<Item = &str> {
        self.calls().map(|(module, _)| module).chain(self.needs())
    }

    /// Whether it has a state in another layout than the version that it replaces.
    pub(crate) fn migrates(&self) -> bool {
        self.states.iter().any(|held| held.migration.lock().is_some())
    }

    /// Makes those states of what the version has that it replaces.
    ///
    /// # Errors
    ///
    /// If the version itself refuses.
    ///
    /// # Safety
    ///
    /// It is initialised, sound, and what it calls is there. Nobody is inside the version that it
    /// replaces, and nobody else has these states.
    pub(crate) unsafe fn migrate(&self) -> Result<(), Error> {
        for held in self.states.iter() {
            // The older storage goes with the older version.
            let Some(Migration { from, how }) = held.migration.lock().take() else { continue };
            let refused = |code| Error::State {
                path: self.path.clone(),
                state: held.storage.name().into(),
                problem: StateProblem::NotMigrated { code },
            };
            match how {
                // SAFETY: the caller's promise.
                How::Plan(plan) => unsafe { Migration::run(&plan, &from, &held.storage) }
                    .unwrap_or_else(|error| unreachable!("both are as their layouts say: {error}")),
                // SAFETY: as above.
                How::Hook => unsafe { self.hooks.migrate(&from, &held.storage) }.map_err(refused)?,
            }
        }
        Ok(())
    }

    /// Its variables, if they were asked for when it was loaded.
    pub(crate) fn variables(&self) -> Option<Result<&Variables, &'static str>> {
        self.variables.as_ref().map(|variables| variables.as_ref().map_err(|reason| *reason))
    }

    /// Where so many bytes from an offset of the image on are, if they can be written.
    pub(crate) fn place(&self, offset: u64, len: usize) -> Option<usize> {
        let regions = self.block.regions().iter();
        let mut writable = regions.filter(|region| region.protection == Protection::ReadWrite);
        let end = offset.checked_add(len as u64)?;
        let is_in = writable.any(|region| region.offset <= offset && end <= region.offset + region.len);
        is_in.then(|| self.block.base() + offset as usize)
    }

    /// Whether threads of its own or handlers of signals may run it at any time.
    pub(crate) fn runs_by_itself(&self) -> bool {
        // Not exit functions that are registered: these run when it ends.
        self.tenant.runs() || self.handled.load(Ordering::Relaxed) || self.handler().is_some()
    }

    /// The memory of a state that it declares.
    pub(crate) fn state(&self, name: &str) -> Option<&Arc<Storage>> {
        self.states.iter().map(|held| &held.storage).find(|storage| storage.name() == name)
    }

    /// Whether [`Self::initialise`] runs code of it.
    pub(crate) fn is_initialised_by_code(&self) -> bool {
        !self.constructors.is_empty() || self.hooks.has_init()
    }

    /// What it was made of, if that was kept.
    pub(crate) fn origin(&self) -> Option<&Arc<Origin>> {
        self.origin.get()
    }

    /// Notes what it was made of, once.
    pub(crate) fn set_origin(&self, origin: Arc<Origin>) {
        self.origin.set(origin).unwrap_or_else(|_| unreachable!("set once, by the load that made it"));
    }

    /// The first byte of its code that is not as it was linked.
    pub(crate) fn differs(&self, code: &Code) -> Option<usize> {
        code.iter().find_map(|(offset, bytes)| self.block.differs(*offset, bytes))
    }

    /// The addresses that are looked for to know whether a thread is inside: the whole image.
    ///
    /// The search also counts the address just behind this range: a last call that never returns
    /// leaves it as its return address. If the last page has no code, there is no such call, and
    /// that address may belong to something else, such as a trampoline. Then the range ends a
    /// byte earlier.
    pub(crate) fn range(&self) -> std::ops::Range<usize> {
        let (base, len) = (self.block.base(), self.block.len());
        let ends_in_code = self.block.protection(len as u64 - 1) == Some(Protection::ReadExecute);
        base..base + len - usize::from(!ends_in_code)
    }

    /// How the functions that it exports differ from those of the version before. None if one of
    /// them cannot list them.
    pub(crate) fn changed_functions(&self, before: &Self) -> Option<ChangedFunctions> {
        let (before, now) = (before.linked_code()?, self.linked_code()?);
        Machine::HOST.map(|machine| ChangedFunctions::between(machine, &before, &now))
    }

    fn linked_code(&self) -> Option<LinkedCode<'_>> {
        let base = self.block.base() as u64;
        let functions = self.exports.functions(&self.block)?;
        Some(LinkedCode::new(base..base + self.block.len() as u64, functions))
    }

    /// Greater than those of versions that were linked before it.
    pub(crate) fn order(&self) -> u64 {
        self.registration.number()
    }

    /// Bytes of code memory.
    pub(crate) fn bytes(&self) -> usize {
        self.block.len()
    }

    /// Runs the constructors, in the order of the gABI ("Initialization and Termination
    /// Functions"), then `module_init`. An exception that leaves one ends the process.
    ///
    /// # Errors
    ///
    /// What `module_init` returned, if that is not 0: then the version is only to be
    /// [finalised](Self::finalise).
    ///
    /// # Safety
    ///
    /// The module is sound, its code was made visible to this core, its calls to other modules have
    /// somewhere to go, and this is called once.
    pub(crate) unsafe fn initialise(&self) -> Result<(), i32> {
        // SAFETY: the caller promises that the module is sound and visible, what it calls is there,
        // and this is the only call.
        arithmetic::kept(|| unsafe { self.run_constructors() })
    }

    /// # Safety
    ///
    /// As for [`initialise`](Self::initialise).
    unsafe fn run_constructors(&self) -> Result<(), i32> {
        // Relaxed: another thread may finalise the version, but the runtime's lock orders that
        // after this.
        self.initialised.store(true, Ordering::Relaxed);
        // SAFETY: on all our systems environ points at the environment.
        let environment = unsafe { environ };
        let (count, arguments) = arguments::arguments();
        for &constructor in &self.constructors {
            // SAFETY: the image checked that it lies in its code. The arguments are what ld.so and
            // dyld pass (argc, argv, envp), which the gABI does not require: Rust's standard
            // library has its `args` from there.
            unsafe {
                let constructor: Constructor = std::mem::transmute(constructor as usize);
                unwind::contain("a constructor", || constructor(count, arguments, environment));
            }
        }
        // SAFETY: the constructors have run; the caller vouches for the module.
        unsafe { self.hooks.init() }
    }

    /// Its key among all versions.
    pub(crate) fn key(&self) -> Key {
        self.order()
    }

    /// Where it belongs from now on. None: it is current.
    pub(crate) fn set_home(&self, home: Option<Home>) {
        self.tenant.set_home(home);
    }

    /// Notes how it ended. None: it is current.
    pub(crate) fn set_end(&self, end: Option<End>) {
        let standing = if end.is_some() { Standing::Old } else { Standing::Current };
        self.registration.loaded.set_standing(standing);
        *self.end.lock() = end;
    }

    /// The first generation without it; None: it is current.
    pub(crate) fn ended_in(&self) -> Option<u64> {
        self.end.lock().map(|end| end.generation)
    }

    /// Where it belongs, if it is not current.
    pub(crate) fn home(&self) -> Option<Home> {
        self.tenant.home()
    }

    /// Whether the host knows it by this id.
    pub(crate) fn is_tenant(&self, id: Id) -> bool {
        self.tenant.is(id)
    }

    /// Takes what it left in threads out of them, for [`Self::finalise`]. No frame is inside it any
    /// more. False if a thread that exits is inside it now: then it is too early.
    pub(crate) fn evict(&self) -> bool {
        self.tenant.evict()
    }

    /// Whether threads that it started go on, its exit functions run, or its handlers of signals
    /// may: it must not be dropped yet.
    pub(crate) fn is_busy(&self) -> bool {
        self.tenant.is_busy() || self.handled.load(Ordering::Relaxed)
    }

    /// Whether it may install handlers of signals.
    pub(crate) fn handles(&self) -> bool {
        self.handles
    }

    /// Whether all that keeps it are handlers of signals, which are gone: a look at all threads
    /// shows if one still runs.
    pub(crate) fn waits_for_look(&self) -> bool {
        // Relaxed, here and above: read and written behind the runtime's lock.
        self.handled.load(Ordering::Relaxed) && !self.tenant.is_busy() && self.handler().is_none()
    }

    /// Nobody is inside, and its handlers are gone.
    pub(crate) fn was_looked_at(&self) {
        self.handled.store(false, Ordering::Relaxed);
    }

    /// A signal of which it has the handler.
    fn handler(&self) -> Option<c_int> {
        if !self.handles {
            return None;
        }
        signals::handlers().find(|(_, id)| self.tenant.is(*id)).map(|(signal, _)| signal)
    }

    /// Whether threads that nobody knows of may be in it for as long as the process goes on: it
    /// must not be ended.
    pub(crate) fn stays(&self) -> bool {
        self.stays && self.initialised.load(Ordering::Relaxed)
    }

    /// Whether threads that nobody counts for it may run its functions: it is called outside
    /// frames.
    pub(crate) fn lends(&self) -> bool {
        self.lends
    }

    /// If the constructors ran, runs `module_shutdown` (if the version had not refused), then the
    /// destructors: of thread-local variables, its own, then what it registered.
    ///
    /// # Safety
    ///
    /// It was evicted, its calls to other modules have somewhere to go, and this is called once.
    pub(crate) unsafe fn finalise(&self) {
        if self.initialised.load(Ordering::Relaxed) {
            // One may run until its handlers are gone, and after that.
            self.handled.store(self.handler().is_some(), Ordering::Relaxed);
            // SAFETY: initialised, and the caller promises that this is the only call.
            arithmetic::kept(|| unsafe { self.run_destructors() });
            if let Some(signal) = self.handler() {
                tracing::warn!(
                    module = &*self.name,
                    version = self.number,
                    signal,
                    "its handler of a signal is still installed, and so it stays in memory: take it back in `module_shutdown`"
                );
            }
        }
    }

    /// # Safety
    ///
    /// As for [`finalise`](Self::finalise), and the version is initialised.
    unsafe fn run_destructors(&self) {
        // SAFETY: initialised, evicted, and the caller vouches for the module.
        unsafe { self.hooks.shutdown() };
        // SAFETY: as above.
        unsafe { self.tenant.retire_threads() };
        for &destructor in &self.destructors {
            // SAFETY: the image checked that it lies in its code, which is mapped as long as the
            // version is there.
            unsafe {
                let destructor: extern "C-unwind" fn() = std::mem::transmute(destructor as usize);
                unwind::contain("a destructor", || destructor());
            }
        }
        // SAFETY: as above. A shared object's own destructors have done this already (crt's
        // __do_global_dtors_aux) for what is registered with its handle.
        unsafe { self.tenant.run_exits() };
        let timers = self.tenant.give_up_timers();
        if timers > 0 {
            tracing::warn!(
                module = &*self.name,
                version = self.number,
                timers,
                "timers that the module had left run nothing any more: delete them in `module_shutdown` or a destructor"
            );
        }
    }
}

impl Version {
    /// Takes its memory away, and what was told of it first. What was where stays known.
    ///
    /// # Safety
    ///
    /// Nobody is inside it or will be. If it was initialised, its destructors have run
    /// ([`finalise`](Self::finalise)), and its threads are over.
    pub(crate) unsafe fn free(mut self) {
        self.freed = true;
        crate::fault::prepare();
        let exports = std::mem::replace(&mut self.exports, Exports::Listed(Arc::default()));
        let names = exports.outlive(&self.block).map(|names| Box::new(names) as Box<dyn Names>);
        past::note(Past {
            module: self.name.clone(),
            number: self.number,
            path: std::mem::take(&mut self.path),
            end: *self.end.get_mut(),
            base: self.block.base(),
            bias: self.registration.loaded.bias(),
            regions: self.block.regions().into(),
            names,
            reservation: self.block.reservation(),
            freed: Instant::now(),
        });
        // SAFETY: each once, as `self` is consumed: unwinders and debuggers forget it and threads'
        // blocks go before the memory does. The caller promises that nobody is inside.
        unsafe {
            ManuallyDrop::drop(&mut self.registration);
            ManuallyDrop::drop(&mut self.tenant);
            loaded::free(ManuallyDrop::take(&mut self.block));
            ManuallyDrop::drop(&mut self.states);
        }
    }
}

impl Drop for Version {
    fn drop(&mut self) {
        if !self.freed {
            tracing::error!(
                module = &*self.name,
                version = self.number,
                "was given up and not freed, so it stays in memory: a fault of midflight's"
            );
        }
    }
}

/// Versions that are linked and that nobody was told of. Dropped, they are freed.
#[derive(Default)]
pub(crate) struct Unseen(pub(crate) Versions);

impl Unseen {
    /// Others are told of them from now on.
    pub(crate) fn into_versions(mut self) -> Versions {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        for version in self.0.drain(..).filter_map(Arc::into_inner) {
            // SAFETY: nobody was told of it, and nothing of it was initialised.
            unsafe { version.free() };
        }
    }
}

type Constructor = extern "C-unwind" fn(c_int, Strings, Strings);

unsafe extern "C" {
    /// environ(7).
    static environ: Strings;
}

/// Puts versions of different modules into the order in which their constructors run: a version
/// comes after all that its home reaches. It does not matter whether the way there leads through
/// versions that are not in the list. Within a cycle the given order stays.
pub(crate) fn dependencies_first<'v>(versions: impl IntoIterator<Item = &'v Version>) -> Vec<&'v Version> {
    let versions: Vec<&Version> = versions.into_iter().collect();
    by_homes(&versions).into_iter().map(|at| versions[at]).collect()
}

/// Puts versions that die together into the order in which their destructors run: a version comes
/// before those that are part of its home. Within a cycle the given order is turned round.
pub(crate) fn callers_first(versions: Vec<Version>) -> Vec<Version> {
    let order = by_homes(&versions.iter().collect::<Vec<_>>());
    let mut versions: Vec<_> = versions.into_iter().map(Some).collect();
    order.into_iter().rev().filter_map(|at| versions[at].take()).collect()
}

/// Places of versions, of each after those of its home.
fn by_homes(versions: &[&Version]) -> Vec<usize> {
    // As nearly always.
    if versions.len() < 2 {
        return (0..versions.len()).collect();
    }
    let places: HashMap<Key, usize> = versions.iter().enumerate().map(|(at, v)| (v.key(), at)).collect();
    let homes: Vec<_> = versions.iter().map(|version| version.home()).collect();
    in_order(versions.len(), |at| {
        let find = |key| places.get(&key).map(|&at| (at, homes[at].as_ref()));
        homes[at].as_ref().map_or(Vec::new(), |home| home.nearest(find)).into_iter()
    })
}

/// Numbers below `count` in an order in which each comes after its dependencies; in a cycle, as
/// they are. Takes as long as there are numbers and dependencies, and a thread's stack does not
/// bound how long a chain of them may be.
pub(crate) fn in_order<D: Iterator<Item = usize>>(
    count: usize,
    dependencies: impl Fn(usize) -> D,
) -> Vec<usize> {
    let (mut order, mut seen) = (Vec::with_capacity(count), vec![false; count]);
    for start in 0..count {
        if std::mem::replace(&mut seen[start], true) {
            continue;
        }
        // Those that are under way, each with its dependencies that were not looked at yet.
        let mut path = vec![(start, dependencies(start))];
        while let Some((at, rest)) = path.last_mut() {
            match rest.find(|next| !seen[*next]) {
                Some(next) => {
                    seen[next] = true;
                    path.push((next, dependencies(next)));
                }
                None => {
                    order.push(*at);
                    path.pop();
                }
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::in_order;

    #[test]
    fn each_comes_after_its_dependencies() {
        let dependencies: [&[usize]; 6] = [&[2, 1], &[3], &[3, 1], &[], &[4, 0], &[5]];
        let order = in_order(6, |at| dependencies[at].iter().copied());
        assert_eq!(order, [3, 1, 2, 0, 4, 5]);
        let cycle: [&[usize]; 3] = [&[1], &[2], &[0]];
        assert_eq!(in_order(3, |at| cycle[at].iter().copied()), [2, 1, 0]);
    }

    #[test]
    fn a_long_chain_is_followed_once_and_on_any_stack() {
        const LENGTH: usize = 200_000;
        let asked = Cell::new(0);
        let order = in_order(LENGTH, |at| {
            asked.set(asked.get() + 1);
            Some(at + 1).filter(|next| *next < LENGTH).into_iter()
        });
        assert!(order.into_iter().eq((0..LENGTH).rev()));
        assert_eq!(asked.get(), LENGTH);
    }
}
