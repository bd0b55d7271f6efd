//! A version: one loaded file of a module, and all that goes when it is freed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use midflight_image::Protection;

use super::Origin;
use super::exports::{Exported, Exports};
use super::hooks::Hooks;
use super::stage::Code;
use crate::code::Block;
use crate::debug::Registration;
use crate::host::Tenant;
use crate::os::library::Library;
use crate::os::{Strings, arguments};
use crate::unwind;

/// The versions behind a generation, one per loaded module, by name.
pub(crate) type Versions = Vec<Arc<Version>>;

/// A linked module in code memory. When it is dropped its memory goes, then the libraries it needed are closed; its
/// destructors must have run ([`Version::finalise`]).
pub(crate) struct Version {
    pub(super) name: Arc<str>,
    pub(super) number: u64,
    pub(super) path: PathBuf,
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
    /// The version that it says it is, in its note.
    pub(super) declared: Option<Box<str>>,
    /// The modules that it says it needs.
    pub(super) needs: Box<[Box<str>]>,
    /// What later versions are compared with, if that was kept.
    pub(super) origin: OnceLock<Arc<Origin>>,
    // Dropped in this order.
    pub(super) _registration: Registration,
    pub(super) tenant: Tenant,
    pub(super) block: Block,
    pub(super) _libraries: Vec<Library>,
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

    pub(crate) fn exports(&self, symbol: &str) -> Option<Exported> {
        self.exports.get(symbol, &self.block)
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

    /// Whether it depends on a module: calls it, or says that it needs it.
    pub(crate) fn depends_on(&self, module: &str) -> bool {
        self.dependencies().any(|on| on == module)
    }

    /// The modules that it calls and those that it says it needs; some more than once.
    fn dependencies(&self) -> impl Iterator<Item = &str> {
        self.calls().map(|(module, _)| module).chain(self.needs())
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

    /// The addresses that are looked for to know whether a thread is inside: all of it. Who searches counts the one behind as well, which a
    /// call that does not return leaves as its return address; that is another's, a trampoline's perhaps, if the last page has no code.
    pub(crate) fn range(&self) -> std::ops::Range<usize> {
        let (base, len) = (self.block.base(), self.block.len());
        let ends_in_code = self.block.protection(len as u64 - 1) == Some(Protection::ReadExecute);
        base..base + len - usize::from(!ends_in_code)
    }

    /// Bytes of code memory.
    pub(crate) fn bytes(&self) -> usize {
        self.block.len()
    }

    /// Runs the constructors, in the order of the gABI ("Initialization and Termination Functions"), then `module_init`. An exception
    /// that leaves one ends the process.
    ///
    /// # Errors
    ///
    /// What `module_init` returned, if that is not 0: then the version is only to be [finalised](Self::finalise).
    ///
    /// # Safety
    ///
    /// The module is sound, its code was made visible to this core, its calls to other modules have somewhere to go, and
    /// this is called once.
    pub(crate) unsafe fn initialise(&self) -> Result<(), i32> {
        // Relaxed: who finalises has the version from this thread, by a lock.
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
        // SAFETY: the constructors have run; the caller's promise.
        unsafe { self.hooks.init() }
    }

    /// Takes what it left in threads out of them, for [`Self::finalise`]. No frame is inside it any more. False if a thread
    /// that exits is inside it now: then it is too early.
    pub(crate) fn evict(&self) -> bool {
        self.tenant.evict()
    }

    /// Whether threads that it started go on, or its exit functions run: it must not be dropped yet.
    pub(crate) fn is_busy(&self) -> bool {
        self.tenant.is_busy()
    }

    /// Whether threads that nobody knows of may be in it for as long as the process goes on: it
    /// must not be ended.
    pub(crate) fn stays(&self) -> bool {
        self.stays && self.initialised.load(Ordering::Relaxed)
    }

    /// If the constructors ran, runs `module_shutdown` (if the version had not refused), then the destructors: of thread-local variables, its
    /// own, then what it registered.
    ///
    /// # Safety
    ///
    /// It was evicted, its calls to other modules have somewhere to go, and this is called once.
    pub(crate) unsafe fn finalise(&self) {
        if !self.initialised.load(Ordering::Relaxed) {
            return;
        }
        // SAFETY: initialised, evicted, and the caller's promise.
        unsafe { self.hooks.shutdown() };
        // SAFETY: as above.
        unsafe { self.tenant.retire_threads() };
        for &destructor in &self.destructors {
            // SAFETY: the image checked that it lies in its code, which is mapped as long as the version is there.
            unsafe {
                let destructor: extern "C-unwind" fn() = std::mem::transmute(destructor as usize);
                unwind::contain("a destructor", || destructor());
            }
        }
        // SAFETY: as above. A shared object's own destructors have done this already (crt's __do_global_dtors_aux) for what is
        // registered with its handle.
        unsafe { self.tenant.run_exits() };
    }
}

type Constructor = extern "C-unwind" fn(std::ffi::c_int, Strings, Strings);

unsafe extern "C" {
    /// environ(7).
    static environ: Strings;
}

/// The versions in an order in which each comes after those of them that it calls or needs; in a cycle, as given. Constructors run
/// in this order, destructors in its reverse.
pub(crate) fn dependencies_first<'v>(versions: impl IntoIterator<Item = &'v Version>) -> Vec<&'v Version> {
    fn visit<'v>(at: usize, all: &[&'v Version], seen: &mut [bool], order: &mut Vec<&'v Version>) {
        if std::mem::replace(&mut seen[at], true) {
            return;
        }
        for dependency in all[at].dependencies() {
            // Of two versions of a module that die together, either will do.
            if let Some(next) = all.iter().position(|version| &**version.name() == dependency) {
                visit(next, all, seen, order);
            }
        }
        order.push(all[at]);
    }
    let all: Vec<&Version> = versions.into_iter().collect();
    let (mut order, mut seen) = (Vec::with_capacity(all.len()), vec![false; all.len()]);
    for at in 0..all.len() {
        visit(at, &all, &mut seen, &mut order);
    }
    order
}
