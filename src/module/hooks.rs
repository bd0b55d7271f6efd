//! The hooks of a module (`include/runtime_module.h`): functions that it exports to be called when
//! it comes and goes.

use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering};

use super::exports::Exports;
use crate::code::Block;
use crate::module::unwind;

const INIT: &str = "module_init";
const SHUTDOWN: &str = "module_shutdown";

/// A version's hooks. It need not have any.
pub(super) struct Hooks {
    /// `int module_init(void)`.
    init: Option<usize>,
    /// `void module_shutdown(void)`.
    shutdown: Option<usize>,
    /// `module_init` returned 0, or there is none: `module_shutdown` is owed.
    accepted: AtomicBool,
}

impl Hooks {
    /// Those among a version's exports. `block` is what it was linked into.
    pub(super) fn of(exports: &Exports, block: &Block) -> Self {
        let function =
            |name| exports.get(name, block).filter(|found| found.function).map(|found| found.address);
        Self { init: function(INIT), shutdown: function(SHUTDOWN), accepted: AtomicBool::new(false) }
    }

    pub(super) fn has_init(&self) -> bool {
        self.init.is_some()
    }

    /// Asks the version whether it can serve. An error is what it returned.
    ///
    /// # Safety
    ///
    /// Its constructors have run, its code may run, and this is called once.
    pub(super) unsafe fn init(&self) -> Result<(), i32> {
        if let Some(init) = self.init {
            // SAFETY: an exported function, of the type that the header declares; the caller
            // vouches for the code.
            let code = unsafe {
                let init: extern "C-unwind" fn() -> c_int = std::mem::transmute(init);
                unwind::contain(INIT, || init())
            };
            if code != 0 {
                return Err(code);
            }
        }
        // Relaxed: who ends the version has it from this thread, by a lock.
        self.accepted.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Tells the version that it ends, if [`Self::init`] accepted.
    ///
    /// # Safety
    ///
    /// Nobody is inside it but threads of its own, its destructors have not run, and this is called
    /// once.
    pub(super) unsafe fn shutdown(&self) {
        if let Some(shutdown) = self.shutdown.filter(|_| self.accepted.load(Ordering::Relaxed)) {
            // SAFETY: as in `init`.
            unsafe {
                let shutdown: extern "C-unwind" fn() = std::mem::transmute(shutdown);
                unwind::contain(SHUTDOWN, || shutdown());
            }
        }
    }
}
