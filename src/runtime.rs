//! The runtime: load, publish, look up, free.

use std::cell::Cell;
use std::fmt;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::call::frame::Frame;
use crate::os::{barrier, fork};
use crate::publish::State;
use crate::{Collected, Config, Error, Holder, Publication, Quiescence, Source, quiescence};

/// The process's runtime. Slots, trampolines and the threads' table words are the process's, so every handle is
/// the same runtime, and it stays until the process ends.
#[derive(Clone, Copy)]
pub struct Runtime {
    state: &'static Mutex<State>,
}

static STARTED: Mutex<Option<Runtime>> = Mutex::new(None);

thread_local! {
    /// This thread holds the state: a constructor, a destructor or a library's initialiser may be running on it.
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

    /// Starts the runtime. One that is running already keeps the configuration it was started with.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    pub fn start_with(config: Config) -> Result<Self, Error> {
        let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = *started {
            return Ok(runtime);
        }
        if cfg!(target_os = "macos") {
            return Err(Error::Unsupported {
                what: "midflight does not load modules on macOS yet (no Mach-O reader): build the host for Linux".into(),
            });
        }
        fork::watch();
        barrier::start(config.force_fences);
        let state = State::new(config)?;
        let runtime = Self { state: Box::leak(Box::new(Mutex::new(state))) };
        *started = Some(runtime);
        Ok(runtime)
    }

    /// Loads a module, or replaces the version that is loaded, for every frame opened from now on.
    ///
    /// Whatever is wrong with the file is an error, and then the old version goes on serving untouched.
    ///
    /// # Errors
    ///
    /// Says what is wrong with which file, and what to do.
    ///
    /// # Safety
    ///
    /// The module's native code runs in this process: its constructors in this call, its functions when called. The caller
    /// vouches for this version, as for those before,
    ///
    /// - that its code is sound, and its functions have the types with which the program's [`module!`](crate::module!)
    ///   declarations and the other modules call them;
    /// - that no address in it outlives the frame it was had in, or the version is still current when it is used: references
    ///   and function pointers that its functions return (a `&'static` into a module is not static), callbacks that it
    ///   leaves with the host or with libraries. What has [escaped by name](Self::symbol) is excepted, and modules that are
    ///   [retained](Self::retain);
    /// - that threads it starts call what is new in this publication only after it, and no other module that is replaced while they
    ///   are in it: a thread outside frames holds only the version that started it.
    pub unsafe fn load(&self, source: impl Into<Source>) -> Result<Publication, Error> {
        // SAFETY: the caller's promise.
        unsafe { self.load_all([source]) }
    }

    /// Loads or replaces several modules in one publication: every frame sees all of them or none. They may call each other.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load); if one file is wrong, nothing is published.
    ///
    /// # Safety
    ///
    /// As for [`load`](Self::load), of each.
    pub unsafe fn load_all(
        &self,
        sources: impl IntoIterator<Item = impl Into<Source>>,
    ) -> Result<Publication, Error> {
        quiescence::outside(|caller| {
            let mut state = self.lock()?;
            // SAFETY: the caller's promise.
            let published = unsafe { state.load(sources, caller) };
            // What was replaced before may be free by now.
            state.tidy();
            published
        })
    }

    /// Takes a module out. Calls to it from frames opened afterwards abort the process, so its callers go first.
    ///
    /// # Errors
    ///
    /// If it is not loaded, or another loaded module calls it.
    pub fn unload(&self, module: &str) -> Result<(), Error> {
        let mut state = self.lock()?;
        state.unload(module)?;
        state.tidy();
        Ok(())
    }

    /// Publishes an earlier generation's versions again, as a new generation: by one swap, with nothing loaded and no constructor run.
    /// Versions that have come since are replaced by it like any others, and can be had back in the same way.
    ///
    /// How many publications can be taken back says [`Config::history`].
    ///
    /// # Errors
    ///
    /// If history has not got that generation; if a version of it lacks a function that has been
    /// [given out](Self::symbol) since; if a version that is kept calls a module that was not loaded then.
    pub fn rollback(&self, generation: u64) -> Result<Publication, Error> {
        let mut state = self.lock()?;
        let published = state.rollback(generation)?;
        state.tidy();
        Ok(published)
    }

    /// Opens a frame on this thread, in the current generation (or in that of the frame it is already inside).
    ///
    /// Some nanoseconds, and never waits.
    #[inline]
    pub fn frame(&self) -> Frame {
        // SAFETY: `start` published the first generation.
        unsafe { Frame::open() }
    }

    /// The address of a module's function, for C or for whoever cannot hold a frame: a trampoline, which calls the
    /// frame's version on a thread that is inside a frame, else the current one. Stable for the life of the process, whatever is
    /// loaded, replaced or unloaded.
    ///
    /// From the first such call on, replaced versions of this module, and of the modules that it calls, are retained:
    /// no frame says who is inside them. [`collect_quiescent`](Self::collect_quiescent) finds out and frees them, and
    /// [`collect_escaped`](Self::collect_escaped) does on the caller's word.
    ///
    /// Call it only from frames opened after this returned, or outside frames.
    ///
    /// # Errors
    ///
    /// If the module is not loaded or has no such function; on AArch64 if the kernel has no membarrier.
    pub fn symbol(&self, module: &str, symbol: &str) -> Result<NonNull<()>, Error> {
        if cfg!(target_arch = "aarch64") && !self.is_asymmetric() {
            return Err(Error::Unsupported {
                what: "without membarrier (Linux 4.16) a thread outside frames may run stale instructions on AArch64, so \
                       there are no addresses for it: call through frames"
                    .into(),
            });
        }
        let mut state = self.lock()?;
        let trampoline = state.symbol(module, symbol)?;
        state.tidy();
        Ok(NonNull::new(trampoline as *mut ()).expect("code is not at address 0"))
    }

    /// Frees what was replaced and what no thread can be inside any more. Loading does so too; an engine that loads
    /// seldom calls this to have the memory back earlier. Destructors of what is freed run in this call.
    ///
    /// # Errors
    ///
    /// If called from a module's constructor or destructor, or in a forked child.
    pub fn collect(&self) -> Result<Collected, Error> {
        Ok(self.lock()?.collect(false))
    }

    /// Frees also those retained versions that no thread has an address of: looks at all threads of the process to find out.
    ///
    /// Each thread is stopped by a signal while it reads its registers and its stack, word by word: some microseconds
    /// ([`Quiescence::longest_stop`] says how long). A real-time signal is used that nobody else does. System calls that a signal
    /// interrupts whatever is asked for (`poll`, `nanosleep`, [signal(7)] has the list) fail with EINTR in the host's threads. A
    /// thread that blocks the signal, or does not run within 20 ms, may be inside: then nothing is freed. Loading does this when
    /// [`Config::max_memory`] is reached.
    ///
    /// Pointers in memory are not seen. A module that leaves addresses of its own there must be [retained](Self::retain).
    ///
    /// [signal(7)]: https://man7.org/linux/man-pages/man7/signal.7.html
    ///
    /// # Errors
    ///
    /// As for [`collect`](Self::collect); if the system has no means to look at threads.
    pub fn collect_quiescent(&self) -> Result<Quiescence, Error> {
        quiescence::outside(|caller| self.lock()?.collect_quiescent(caller))
    }

    /// Retains the versions of a module that are replaced from now on, until [`collect_escaped`](Self::collect_escaped) frees them
    /// on the caller's word: for modules that leave addresses of their own where no frame reaches and nobody looks, as
    /// callbacks that the host or a library keeps.
    ///
    /// # Errors
    ///
    /// If the module is not loaded.
    pub fn retain(&self, module: &str) -> Result<(), Error> {
        self.lock()?.retain(module)
    }

    /// Frees the retained versions as well.
    ///
    /// # Errors
    ///
    /// As for [`collect`](Self::collect).
    ///
    /// # Safety
    ///
    /// No thread is inside, or has a return address or any other pointer into, a replaced version of a module of which
    /// [`symbol`](Self::symbol) was taken, or that is [retained](Self::retain), or of a module that such a one calls.
    pub unsafe fn collect_escaped(&self) -> Result<Collected, Error> {
        Ok(self.lock()?.collect(true))
    }

    /// The threads that are inside frames of generations that were replaced, and so keep what only those have. A thread that is
    /// parked in a frame holds one generation, and no publication waits for it.
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

    fn lock(&self) -> Result<Guard, Error> {
        // Another thread may have held the lock when the process was forked, and its frames are here without it.
        if fork::is_child() {
            return Err(Error::Forked);
        }
        if BUSY.replace(true) {
            return Err(Error::Reentered);
        }
        // The state is changed only once nothing can fail any more, so a panic before leaves it as it was.
        Ok(Guard { state: self.state.lock().unwrap_or_else(PoisonError::into_inner) })
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").finish_non_exhaustive()
    }
}

/// The state, and the mark on this thread that it has it.
struct Guard {
    state: MutexGuard<'static, State>,
}

impl std::ops::Deref for Guard {
    type Target = State;
    fn deref(&self) -> &State {
        &self.state
    }
}

impl std::ops::DerefMut for Guard {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        BUSY.set(false);
    }
}
