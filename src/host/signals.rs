//! Handlers of signals that modules have installed (sigaction(2)). The kernel says which there are:
//! a module may have had a library install one, and it may be another module, or the host, that
//! takes it back.

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr;

use super::places::{self, Id};

/// Functions by which modules install them.
const INSTALL: [&str; 6] = ["sigaction", "signal", "__sysv_signal", "bsd_signal", "ssignal", "sigset"];

/// Whether a module that imports this may install handlers.
pub(crate) fn installs(import: &str) -> bool {
    INSTALL.contains(&import)
}

/// The signals whose handlers are in versions, and in which.
pub(crate) fn handlers() -> impl Iterator<Item = (c_int, Id)> {
    (1..=LAST).filter_map(|signal| {
        let mut action = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: changes nothing, and writes what is there. Numbers that are no signal's, or the C
        // library's own, are an error.
        let action = unsafe {
            (libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) == 0).then(|| action.assume_init())
        };
        Some((signal, places::find(action?.sa_sigaction)?))
    })
}

/// The last signal.
#[cfg(target_os = "linux")]
const LAST: c_int = 64;
#[cfg(not(target_os = "linux"))]
const LAST: c_int = 31;
