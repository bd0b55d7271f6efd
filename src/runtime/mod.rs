//! The runtime: everything that an engine asks of it. `loading` is how modules come and go, `hooks`
//! who is asked and told of it, `watching` what does so by itself.

pub(crate) mod adapters;
pub(crate) mod config;
pub(crate) mod conflicts;
pub(crate) mod events;
pub(crate) mod hooks;
pub(crate) mod intentions;
mod loading;
pub(crate) mod process;
mod restoring;
pub(crate) mod statistics;
mod wanted;
pub(crate) mod watch;
mod watching;

use std::cell::Cell;
use std::fmt;
use std::ops::Range;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::call::checks;
use crate::call::frame::Frame;
use crate::module::debug::Observers;
use crate::platform::os::guard::Closed;
use crate::platform::os::{barrier, fork};
use crate::publish::load::{Loader, told_figures};
use crate::publish::quiescence;
use crate::publish::{Departure, State};
use crate::runtime::events::Events;
use crate::runtime::statistics::Recorder;
use crate::{
    Checks, Collected, Config, Error, Event, FiberStack, Holder, LoadedVersion, ModuleVersion, Quiescence,
    StaleCalls, Statistics, Subscription, fault,
};
use conflicts::Resolutions;
use hooks::Hooks;
pub(crate) use wanted::{Files, Tried, Wanted};
use watching::Watches;
pub use watching::print_outcome;

/// The process's runtime. Slots, trampolines and the threads' table words are the process's, so
/// every handle is the same runtime, and it stays until the process ends.
#[derive(Clone, Copy)]
pub struct Runtime {
    pub(crate) shared: &'static Shared,
}

// A panic, of a callback or in a module's function, leaves the runtime whole: what a load has begun
// is undone, and no lock stays taken (tests/callback_panics.rs).
impl UnwindSafe for Runtime {}
impl RefUnwindSafe for Runtime {}

/// What all handles and threads share.
pub(crate) struct Shared {
    state: Mutex<State>,
    pub(crate) loader: Loader,
    recorder: Mutex<Recorder>,
    events: Events,
    pub(crate) watches: Watches,
    hooks: Hooks,
    pub(crate) resolutions: Resolutions,
    /// One thread at a time opens or closes the journal.
    restoring: Mutex<()>,
    page_size: usize,
    /// A module can be called outside frames, so its old versions are looked for. Relaxed: each
    /// thread's stack is its own matter.
    escaped: AtomicBool,
}

static STARTED: Mutex<Option<Runtime>> = Mutex::new(None);

thread_local! {
    /// This thread is in the midst of a load or holds the state: a constructor, a destructor, a
    /// library's initialiser or a progress callback may be running on it.
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

impl Runtime {
    /// Starts the runtime with its defaults, or returns the one that is running.
    ///
    /// # Errors
    ///
    /// If the system cannot give it memory to execute code in, or is not supported.
    pub fn start() -> Result<Self, Error> {
        Self::start_with(Config::default())
    }

    /// Starts the runtime. One that is running already keeps the configuration it was started with,
    /// but for its journal.
    ///
    /// With a [journal](Config::journal) the modules that were committed last are loaded, in one
    /// publication, out of the journal: what has become of their files does not matter. Each has the
    /// name, the libraries and the options that it was loaded with, and counts its versions anew. A
    /// runtime that runs without a journal, as after [`shutdown`](Self::shutdown), opens it as long
    /// as no module is loaded. If it has this journal already, nothing happens.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start); if the configuration asks for what this system cannot do.
    /// [`Error::Journal`] if the journal cannot be opened, [`Error::NotRestored`] if a module of it
    /// cannot be loaded. Then nothing of it is loaded, the journal is closed and as it was, and the
    /// runtime has none.
    pub fn start_with(config: Config) -> Result<Self, Error> {
        let journal = config.journal.clone();
        let runtime = Self::start_without_journal(config)?;
        if let Some(journal) = journal {
            runtime.open_journal(&journal)?;
        }
        Ok(runtime)
    }

    fn start_without_journal(config: Config) -> Result<Self, Error> {
        let mut started = STARTED.lock();
        if let Some(runtime) = *started {
            return Ok(runtime);
        }
        let config = config.forced()?;
        checks::start(config.checks, config.longest_frame, config.hold_back)?;
        fork::watch();
        fault::set_reported(config.stale_calls == StaleCalls::Reported);
        barrier::start(config.force_fences);
        let loader = Loader::new(Observers::new(config.gdb, config.perf_map, config.jitdump.as_deref())?);
        let state = State::new(config.code_memory()?, config.history, config.max_memory)?;
        let page_size = state.page_size();
        let shared = Shared {
            state: Mutex::new(state),
            loader,
            recorder: Mutex::default(),
            events: Events::default(),
            watches: Watches::new(),
            hooks: Hooks::default(),
            resolutions: Resolutions::default(),
            restoring: Mutex::default(),
            page_size,
            escaped: AtomicBool::new(false),
        };
        let runtime = Self { shared: Box::leak(Box::new(shared)) };
        *started = Some(runtime);
        Ok(runtime)
    }

    /// Opens a frame on this thread, in the current generation (or in that of the frame it is
    /// already inside).
    ///
    /// Some nanoseconds, and never waits.
    #[inline]
    pub fn frame(&self) -> Frame {
        // SAFETY: `start` published the first generation.
        unsafe { Frame::open() }
    }

    /// The address of a module's function, for C or for whoever cannot hold a frame: a trampoline,
    /// which calls the frame's version on a thread that is inside a frame, else the current
    /// one. Stable for the life of the process, whatever is loaded, replaced or unloaded.
    ///
    /// From the first such call on, replaced versions of this module, and of the modules that it
    /// calls, are retained: no frame says who is inside them.
    /// [`collect_quiescent`](Self::collect_quiescent) finds out and frees them, and
    /// [`collect_escaped`](Self::collect_escaped) does on the caller's word.
    ///
    /// Of an ELF function that has versions, `name@version` is one of them.
    ///
    /// Call it only from frames opened after this returned, or outside frames.
    ///
    /// # Errors
    ///
    /// If the module is not loaded or has no such function; if this thread is inside a frame that
    /// is older than the function.
    pub fn symbol(&self, module: &str, symbol: &str) -> Result<NonNull<()>, Error> {
        self.trampoline(module, symbol, true)
    }

    /// As [`symbol`](Self::symbol), with the caller's word that the address is called only by
    /// threads that are inside a frame. Old versions are then freed as those of modules are
    /// that never gave out an address.
    ///
    /// In [checked mode](Config::checks) the address is another one, and a call outside every frame
    /// ends the process with the function's name.
    ///
    /// # Errors
    ///
    /// As for [`symbol`](Self::symbol).
    pub fn frame_symbol(&self, module: &str, symbol: &str) -> Result<NonNull<()>, Error> {
        self.trampoline(module, symbol, false)
    }

    fn trampoline(&self, module: &str, symbol: &str, escapes: bool) -> Result<NonNull<()>, Error> {
        let mut state = self.lock()?;
        let trampoline = state.symbol(module, symbol, escapes)?;
        state.tidy();
        if escapes {
            self.shared.escaped.store(true, Ordering::Relaxed);
        }
        drop(state);
        self.forget_stack();
        Ok(NonNull::new(trampoline as *mut ()).expect("code is not at address 0"))
    }

    /// Frees what was replaced and what no thread can be inside any more. Loading does so too; an
    /// engine that loads seldom calls this to have the memory back earlier. Destructors of what
    /// is freed run in this call.
    ///
    /// # Errors
    ///
    /// If called from a module's constructor or destructor, or in a forked child.
    pub fn collect(&self) -> Result<Collected, Error> {
        Ok(self.lock()?.collect(false))
    }

    /// Frees also those retained versions that no thread has an address of: looks at all threads of
    /// the process to find out.
    ///
    /// Each thread is stopped by a signal while it reads its registers and its stack, word by word:
    /// some microseconds ([`Quiescence::longest_stop`] says how long). A real-time signal is
    /// used that nobody else does. System calls that a signal interrupts whatever is asked for
    /// (`poll`, `nanosleep`, [signal(7)] has the list) fail with EINTR in the host's threads. A
    /// thread that blocks the signal, or does not run within 20 ms, may be inside: then nothing is
    /// freed. Loading does this when [`Config::max_memory`] is reached.
    ///
    /// Pointers in memory are not seen. A module that leaves addresses of its own there must be
    /// [retained](Self::retain).
    ///
    /// [signal(7)]: https://man7.org/linux/man-pages/man7/signal.7.html
    ///
    /// # Errors
    ///
    /// As for [`collect`](Self::collect); if the system has no means to look at threads.
    pub fn collect_quiescent(&self) -> Result<Quiescence, Error> {
        #[inline(never)]
        fn look(runtime: &Runtime) -> Result<Quiescence, Error> {
            quiescence::outside(|caller| runtime.lock()?.collect_quiescent(caller))
        }
        let quiescence = look(self);
        self.forget_stack();
        quiescence
    }

    /// Has [`collect_quiescent`](Self::collect_quiescent) look at the stack of a fiber or coroutine
    /// too, as long as the result is there: what is suspended on it is on no thread. Without
    /// this an old version goes although a fiber is suspended in it, and the fiber ends the process
    /// when it is resumed; unless the module is [retained](Self::retain).
    ///
    /// `memory` is the whole stack. Parts of it that cannot be read, such as guard pages, are left
    /// out. A word of it that looks like an address of an old version keeps that version. This
    /// includes words that were left there by calls which are over. So tell where the stack in
    /// use begins, if you can: `stack_pointer` is the word in which the host keeps the stack
    /// pointer of the suspended fiber. Then only what is above it is read.
    ///
    /// What a switch saves elsewhere is told of as another such memory: in a `ucontext_t`, that is
    /// the place where the fiber goes on. Reading takes about a nanosecond for a word.
    ///
    /// A thread that is on such a stack is looked at like others; its own stack is read wholly
    /// then.
    ///
    /// # Safety
    ///
    /// Until the result is dropped the memory stays mapped as it is, where it can be read, and so
    /// does the word. While `collect_quiescent` is called, or a load that looks for old
    /// versions, no fiber that is inside an old version is both suspended and resumed: call it
    /// where fibers stand still, as between frames.
    pub unsafe fn add_stack(
        &self,
        memory: Range<*const u8>,
        stack_pointer: Option<NonNull<*const ()>>,
    ) -> FiberStack {
        // SAFETY: the caller promises that the memory and the word stay, and when fibers stand
        // still.
        unsafe { quiescence::add_stack(memory, stack_pointer) }
    }

    /// Has this thread's stack forget what addresses a call has put there, if addresses of modules
    /// are looked for at all.
    #[inline]
    fn forget_stack(&self) {
        if self.shared.escaped.load(Ordering::Relaxed) {
            quiescence::forget_stack();
        }
    }

    /// Retains the versions of a module that are replaced from now on, until
    /// [`collect_escaped`](Self::collect_escaped) frees them on the caller's word: for modules
    /// that leave addresses of their own where no frame reaches and nobody looks, as
    /// callbacks that the host or a library keeps.
    ///
    /// # Errors
    ///
    /// If the module is not loaded.
    pub fn retain(&self, module: &str) -> Result<(), Error> {
        self.lock()?.retain(module)
    }

    /// Changes [`Config::checks`], unless the environment says what is checked. Addresses that were
    /// given out stay as they are.
    pub fn set_checks(&self, checks: Checks) {
        checks::set(checks);
    }

    /// Changes [`Config::stale_calls`]. A handler that was installed stays, and says nothing.
    pub fn set_stale_calls(&self, calls: StaleCalls) {
        fault::set_reported(calls == StaleCalls::Reported);
    }

    /// Frees the retained versions as well.
    ///
    /// # Errors
    ///
    /// As for [`collect`](Self::collect).
    ///
    /// # Safety
    ///
    /// No thread is inside a replaced version of one of the following modules, or has a return
    /// address or any other pointer into one:
    ///
    /// - a module of which [`symbol`](Self::symbol) was taken;
    /// - a module that is [retained](Self::retain);
    /// - a module that needs a library which starts threads (the log says so when it is loaded);
    /// - a module that has installed handlers of signals;
    /// - a module that one of these calls.
    pub unsafe fn collect_escaped(&self) -> Result<Collected, Error> {
        Ok(self.lock()?.collect(true))
    }

    /// The threads that are inside frames of generations that were replaced, and so keep what only
    /// those have. A thread that is parked in a frame holds one generation, and no publication
    /// waits for it.
    ///
    /// # Errors
    ///
    /// As for [`collect`](Self::collect).
    pub fn holders(&self) -> Result<Vec<Holder>, Error> {
        Ok(self.lock()?.retirement.holders())
    }

    /// Whether publications carry the cost of the pins' fences (membarrier), or each pin its own.
    pub fn is_asymmetric(&self) -> bool {
        barrier::is_asymmetric()
    }

    /// The modules that are loaded, by name.
    ///
    /// # Errors
    ///
    /// As for [`collect`](Self::collect).
    pub fn modules(&self) -> Result<Vec<ModuleVersion>, Error> {
        Ok(self.lock()?.loaded_modules())
    }

    /// All versions that are in memory, by module and number: what is current, and what was
    /// replaced and why it is still there.
    ///
    /// # Errors
    ///
    /// As for [`collect`](Self::collect).
    pub fn versions(&self) -> Result<Vec<LoadedVersion>, Error> {
        Ok(self.lock()?.inventory())
    }

    /// How the loads since the start, or the last [`shutdown`](Self::shutdown), went. May be asked
    /// from a load's [`progress`](crate::LoadOptions::progress): what is loaded is then as that
    /// load found it, and from 100 on as it left it.
    ///
    /// # Errors
    ///
    /// As for [`collect`](Self::collect).
    pub fn statistics(&self) -> Result<Statistics, Error> {
        let loader = &self.shared.loader;
        let mut statistics = self.shared.recorder.lock().statistics();
        (statistics.cache_hits, statistics.cache_misses) = loader.interfaces.counts();
        statistics.watched = self.shared.watches.len();
        statistics.add(match told_figures() {
            // The load that tells may have the state itself.
            Some(figures) => figures,
            None => self.lock()?.figures(),
        });
        Ok(statistics)
    }

    /// Tells `subscriber` of everything that happens to modules, until the result is dropped: see
    /// [`Event`], and [`Record`](crate::Record) for what a load has come to.
    ///
    /// It is called on the thread where it happened, once that is done and the runtime's lock is
    /// free, before whoever asked for it is told. It may call everything of the runtime, and
    /// what that does is told in turn, to it too; except for the refusal of a load that
    /// was begun in the midst of another ([`Error::Reentered`]), where it is in that midst as well.
    /// Of two threads either may tell first: generations say what came first. If it panics, the
    /// panic hook and the log say so, and everything else goes on. A load that ends by the
    /// panic of its own progress callback before it was published is told of as nothing.
    ///
    /// As long as somebody has subscribed, loads read all of their files and hash them (about 1
    /// GB/s), and compare the code of exported functions with that of the version before.
    pub fn subscribe(&self, subscriber: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Subscription {
        self.shared.events.subscribe(Arc::new(subscriber))
    }

    /// Tells of something that has happened. With no lock.
    fn tell(&self, event: &Event<'_>) {
        self.shared.recorder.lock().note(event);
        self.shared.resolutions.note(event);
        self.shared.events.tell(event);
    }

    fn tell_departures(&self, departures: &[Departure]) {
        for departure in departures {
            self.tell(&match departure {
                Departure::Retained(retained) => Event::Retained(retained),
                Departure::Retired(retired) => Event::Retired(retired),
            });
        }
    }

    /// Changes [`Config::max_memory`].
    ///
    /// # Errors
    ///
    /// As for [`collect`](Self::collect).
    pub fn set_max_memory(&self, bytes: Option<usize>) -> Result<(), Error> {
        self.lock()?.set_max_memory(bytes);
        Ok(())
    }

    /// How many threads stage loads with [`LoadOptions::threads`](crate::LoadOptions::threads):
    /// they are started at the first such load. 0: as many as there are cores, at most 4, which
    /// is the default.
    pub fn set_threads(&self, threads: usize) {
        self.shared.loader.crew.set_threads(threads);
    }

    /// How many loads may be under way at once: others wait, within their time-out. None, the
    /// default: any number.
    pub fn set_concurrency(&self, loads: Option<usize>) {
        self.shared.loader.gate.set_limit(loads);
    }

    /// Whether to look for old versions that nobody is inside after each load, as
    /// [`collect_quiescent`](Self::collect_quiescent) does. Off by default.
    pub fn set_eager_collection(&self, eager: bool) {
        self.shared.loader.eager.store(eager, Ordering::Relaxed);
    }

    /// Whether to keep of each version that is loaded from now on what
    /// [`compatibility`](Self::compatibility) needs: a copy of its file, until it is
    /// asked for the first time. Off by default: then the file is read again when that is asked,
    /// and if it has been overwritten by then, the verdicts are unknown. Loads that are
    /// validated keep what is needed in any case.
    pub fn set_keep_files(&self, keep: bool) {
        self.shared.loader.keep_files.store(keep, Ordering::Relaxed);
    }

    /// Ends all watches, joins the runtime's threads, unloads all modules, frees what nobody is
    /// inside, and forgets the statistics. The runtime can be used again.
    ///
    /// A journal is closed before that: what was loaded stays committed, and comes back when the
    /// runtime is [started](Self::start_with) with it. What is loaded until then is not committed.
    ///
    /// # Errors
    ///
    /// As for [`collect`](Self::collect). An old version that cannot be freed yet stays in memory,
    /// with what it calls.
    pub fn shutdown(&self) -> Result<(), Error> {
        drop(Busy::enter()?);
        let watched = self.shared.watches.stop();
        watched.iter().for_each(|path| self.tell(&Event::Unwatched { path }));
        self.shared.loader.crew.stop();
        self.shared.hooks.clear();
        self.shared.resolutions.clear();
        let closed = self.close_journal();
        let unloaded = quiescence::outside(|caller| {
            let mut state = self.lock()?;
            // Old versions that are retained may call modules that are to go.
            state.collect_quiescent(caller)?;
            let names: Vec<String> = state.loaded_modules().into_iter().map(|module| module.name).collect();
            let unloaded = state.unload(names.iter().map(String::as_str));
            state.layers.clear();
            self.shared.loader.adapts.store(false, Ordering::Relaxed);
            let before = state.retirement.departed();
            state.look_for_held_frames(Duration::ZERO);
            let collected = state.collect_quiescent(caller);
            state.end(before, unloaded.as_ref().ok().and_then(unloading));
            collected.and_then(|_| unloaded.map(drop))
        });
        *self.shared.recorder.lock() = Recorder::default();
        self.shared.loader.interfaces.clear();
        let stopped = unloaded.and(closed);
        self.tell(&Event::Stopped { error: stopped.as_ref().err() });
        stopped
    }

    pub(crate) fn lock(&self) -> Result<Guard, Error> {
        let busy = Busy::enter()?;
        Ok(Guard { runtime: *self, held: Some((self.shared.state.lock(), busy)) })
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").finish_non_exhaustive()
    }
}

/// The event of an unloading, if there was anything to unload.
fn unloading((generation, modules): &(u64, Vec<ModuleVersion>)) -> Option<Event<'_>> {
    (!modules.is_empty()).then_some(Event::Unloaded { modules, generation: *generation })
}

/// The state, and the mark on this thread that it has it. Who lets go of it tells what has happened
/// meanwhile.
pub(crate) struct Guard {
    runtime: Runtime,
    /// None once it was let go of. The state goes first.
    held: Option<(MutexGuard<'static, State>, Busy)>,
}

impl Guard {
    /// Lets go of the state, and tells what has happened: so many departures, the event, and then
    /// the other departures.
    fn end(mut self, before: usize, event: Option<Event<'_>>) {
        let runtime = self.runtime;
        let departures = self.let_go();
        let (before, after) = departures.split_at(before);
        runtime.tell_departures(before);
        event.iter().for_each(|event| runtime.tell(event));
        runtime.tell_departures(after);
    }

    fn let_go(&mut self) -> Vec<Departure> {
        self.held.take().map_or_else(Vec::new, |(mut state, _busy)| state.retirement.take_departures())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let departures = self.let_go();
        self.runtime.tell_departures(&departures);
    }
}

impl std::ops::Deref for Guard {
    type Target = State;
    fn deref(&self) -> &State {
        &self.held.as_ref().expect("it is there until it is let go of").0
    }
}

impl std::ops::DerefMut for Guard {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.held.as_mut().expect("it is there until it is let go of").0
    }
}

/// The mark on a thread that it is in the midst of something of the runtime's.
///
/// It has locks then: a guarded call in which it was asked must not be left from within.
struct Busy(#[allow(dead_code, reason = "it is there to be dropped")] Closed);

impl Busy {
    fn enter() -> Result<Self, Error> {
        // Another thread may have held the lock when the process was forked, and its frames are
        // here without it.
        if fork::is_child() {
            return Err(Error::Forked);
        }
        match BUSY.replace(true) {
            true => Err(Error::Reentered),
            false => Ok(Self(Closed::new())),
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        BUSY.set(false);
    }
}
