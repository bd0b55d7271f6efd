//! A version: one loaded file of a module, and all that goes when it is freed.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::code::Block;
use crate::os::library::Library;

/// The versions behind a generation, one per loaded module, by name.
pub(crate) type Versions = Vec<Arc<Version>>;

/// A linked module in code memory. Freed with the last generation that it is behind: its destructors run, then its memory
/// goes, then the libraries it needed are closed.
pub(crate) struct Version {
    pub(super) name: Arc<str>,
    pub(super) number: u64,
    pub(super) path: PathBuf,
    /// Addresses of what it exports.
    pub(super) exports: HashMap<Box<str>, Exported>,
    /// The functions of other modules that it calls: (module, symbol).
    pub(super) calls: BTreeSet<(Arc<str>, Box<str>)>,
    pub(super) constructors: Vec<u64>,
    pub(super) destructors: Vec<u64>,
    /// Its constructors have run, so its destructors must.
    pub(super) initialised: AtomicBool,
    // Dropped in this order.
    pub(super) block: Block,
    pub(super) _libraries: Vec<Library>,
}

/// An exported symbol where it was loaded.
#[derive(Clone, Copy)]
pub(crate) struct Exported {
    pub(crate) address: usize,
    pub(crate) function: bool,
}

impl Version {
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn exports(&self, symbol: &str) -> Option<Exported> {
        self.exports.get(symbol).copied()
    }

    pub(crate) fn function(&self, symbol: &str) -> Option<usize> {
        self.exports(symbol).filter(|exported| exported.function).map(|exported| exported.address)
    }

    pub(crate) fn calls(&self) -> impl Iterator<Item = (&str, &str)> {
        self.calls.iter().map(|(module, symbol)| (&**module, &**symbol))
    }

    /// Bytes of code memory.
    pub(crate) fn bytes(&self) -> usize {
        self.block.len()
    }

    /// Runs the constructors, in the order of the gABI ("Initialization and Termination Functions").
    ///
    /// # Safety
    ///
    /// The module is sound, its code was made visible to this core, and this is called once.
    pub(crate) unsafe fn initialise(&self) {
        // Relaxed: only the loading thread, and later Drop, look.
        self.initialised.store(true, Ordering::Relaxed);
        // SAFETY: on all our systems environ points at the environment.
        let environment = unsafe { environ };
        for &constructor in &self.constructors {
            // SAFETY: the image checked that it lies in its code. The arguments are what glibc passes (argc, argv, envp), which
            // the gABI does not require and few constructors read: no program arguments, and the environment.
            unsafe {
                let arguments = [std::ptr::null()];
                let constructor: Constructor = std::mem::transmute(constructor as usize);
                constructor(0, arguments.as_ptr(), environment);
            }
        }
    }
}

type Strings = *const *const std::ffi::c_char;
type Constructor = extern "C" fn(std::ffi::c_int, Strings, Strings);

unsafe extern "C" {
    /// environ(7).
    static environ: Strings;
}

impl Drop for Version {
    fn drop(&mut self) {
        if *self.initialised.get_mut() {
            for &destructor in &self.destructors {
                // SAFETY: the image checked that it lies in its code, which is still mapped; a version is dropped once, when no
                // thread can be inside it.
                unsafe {
                    let destructor: extern "C" fn() = std::mem::transmute(destructor as usize);
                    destructor();
                }
            }
        }
    }
}
