//! The hooks of a module (`include/runtime_module.h`): functions that it exports to be called when
//! it comes and goes.

use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::sync::atomic::{AtomicBool, Ordering};

use super::exports::Exports;
use crate::code::Block;
use crate::module::unwind;
use crate::state::Storage;

const INIT: &str = "module_init";
const SHUTDOWN: &str = "module_shutdown";
/// See `runtime_module.h`.
pub(super) const MIGRATE: &str = "module_migrate_state";

/// A version's hooks. It need not have any.
pub(super) struct Hooks {
    /// `int module_init(void)`.
    init: Option<usize>,
    /// `void module_shutdown(void)`.
    shutdown: Option<usize>,
    /// `module_migrate_state`.
    migrate: Option<usize>,
    /// `module_init` returned 0, or there is none: `module_shutdown` is owed.
    accepted: AtomicBool,
}

impl Hooks {
    /// Those among a version's exports. `block` is what it was linked into.
    pub(super) fn of(exports: &Exports, block: &Block) -> Self {
        let function =
            |name| exports.get(name, block).filter(|found| found.function).map(|found| found.address);
        let migrate = function(MIGRATE);
        Self { init: function(INIT), shutdown: function(SHUTDOWN), migrate, accepted: AtomicBool::new(false) }
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

    /// Has the version make its state of that of an older one. An error is what it returned.
    ///
    /// # Safety
    ///
    /// Its constructors have run and its code may run. Nobody changes the older state, and nobody
    /// else has the newer.
    pub(super) unsafe fn migrate(&self, from: &Storage, to: &Storage) -> Result<(), i32> {
        type Migrate =
            extern "C-unwind" fn(*const c_char, *const c_void, usize, c_uint, *mut c_void, usize) -> c_int;
        let (Some(migrate), Ok(name)) = (self.migrate, CString::new(to.name())) else { return Err(-1) };
        // SAFETY: as in `init`; each state with its own size.
        let code = unsafe {
            let migrate: Migrate = std::mem::transmute(migrate);
            let (old, new) = (from.at().as_ptr().cast(), to.at().as_ptr().cast());
            unwind::contain(MIGRATE, || {
                migrate(name.as_ptr(), old, from.size(), from.schema(), new, to.size())
            })
        };
        if code == 0 { Ok(()) } else { Err(code) }
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
