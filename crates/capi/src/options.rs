//! `runtime_core.h`: what the runtime is started with.

use std::ffi::{c_char, c_int};
use std::sync::{Mutex, PoisonError};

use midflight::{Checks, Config, ErrorKind, Gdb, JournalOptions};

use crate::errors::{Failure, guarded};
use crate::gate;
use crate::pointers::{self, Plain};
use crate::runtime_types::Bool;
use crate::sized::{self, Sized};

/// `runtime_options_t`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the header says what each field is")]
pub struct RuntimeOptions {
    pub struct_size: u32,
    pub gdb: i32,
    pub perf_map: Bool,
    pub reserved: [u8; 7],
    pub jitdump_folder: *const c_char,
    pub journal_folder: *const c_char,
    pub journal_two_phase: Bool,
    pub journal_rebuild: Bool,
    pub journal_reserved: [u8; 6],
}

// SAFETY: numbers, bytes and a pointer.
unsafe impl Plain for RuntimeOptions {}
// SAFETY: as the size says.
unsafe impl Sized for RuntimeOptions {}
const _: () = assert!(size_of::<RuntimeOptions>() == 2 * 4 + 8 + 8 + 8 + 8);

/// What the runtime is started with, or was.
static OPTIONS: Mutex<Option<Config>> = Mutex::new(None);

fn default() -> Config {
    let mut config = Config::default();
    // `runtime_init` says, before there is an address to check.
    config.checks = Checks::Off;
    config
}

/// What the runtime is to be started with.
pub(crate) fn config() -> Config {
    OPTIONS.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_else(default)
}

/// `runtime_set_options()`.
///
/// # Safety
///
/// The argument is what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn runtime_set_options(options: *const RuntimeOptions) -> c_int {
    guarded(|| {
        gate::refuse_child()?;
        let options = sized::read(options, "options")?;
        let mut config = default();
        config.gdb = match options.gdb {
            0 => Gdb::default(),
            1 => Gdb::WhenAttached,
            2 => Gdb::Always,
            3 => Gdb::Never,
            none => return Err(Failure::argument(format!("gdb is {none}, which is none of runtime_gdb_t"))),
        };
        if options.reserved != [0; 7] || options.journal_reserved != [0; 6] {
            return Err(Failure::argument("options: reserved must be 0"));
        }
        config.perf_map = options.perf_map.get();
        if !options.jitdump_folder.is_null() {
            config.jitdump = Some(pointers::path(options.jitdump_folder, "jitdump_folder")?);
        }
        if !options.journal_folder.is_null() {
            let folder = pointers::path(options.journal_folder, "journal_folder")?;
            // SAFETY: the header says that what is in it is loaded, and that nobody else may write there.
            let journal = unsafe { JournalOptions::new(folder) };
            let two_phase = options.journal_two_phase.get();
            config.journal = Some(journal.two_phase(two_phase).rebuild(options.journal_rebuild.get()));
        } else if options.journal_two_phase.get() || options.journal_rebuild.get() {
            return Err(Failure::argument(
                "options: journal_folder is NULL, and something is asked of a journal",
            ));
        }
        let mut kept = OPTIONS.lock().unwrap_or_else(PoisonError::into_inner);
        if gate::was_started() && config != kept.clone().unwrap_or_else(default) {
            let message = "the runtime was started already, and options hold for the process: call runtime_set_options() before the \
                first runtime_init()";
            return Err(Failure::new(ErrorKind::Unsupported, message));
        }
        *kept = Some(config);
        Ok(())
    })
}
