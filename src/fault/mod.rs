//! Faults that are explained: a thread came to an address of a version that is gone, by a pointer
//! that was kept past the frame in which it was had.
//!
//! Text that was freed is traps or inaccessible, and data as it was or inaccessible, until the
//! pages are in use again. The fault's handler (`os::fault`) says on stderr what was there, and
//! then the process ends as it would have. Nothing here takes a lock or allocates.

#[cfg(target_os = "linux")]
mod catch;
pub(crate) mod contain;
mod describe;
mod names;
pub(crate) mod past;

use std::fmt::{self, Write};
use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::call::trampolines;
use crate::host::loaded;
use crate::platform::os::fault::{self, Fault};

/// Whether stderr is told of a call into a version that is gone when it traps: which function of
/// which version of which module it was, replaced when, and what to do. Then the process ends as it
/// would have.
///
/// Before the first version is freed, a handler is installed for SIGILL, SIGTRAP, SIGSEGV and
/// SIGBUS. It goes on to the program's, which were there before, or ends the process by the same
/// signal. A program that wants its handlers alone has [`explain_address`]
/// for them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum StaleCalls {
    /// It is told.
    #[default]
    Reported,
    /// No handler is installed.
    Unreported,
}

pub use describe::{AddressDescription, Standing, describe_address};

/// Whether faults are to be explained by themselves. Relaxed: a handler that has been installed
/// looks again.
static REPORTED: AtomicBool = AtomicBool::new(true);

/// See [`crate::Runtime::set_stale_calls`].
pub(crate) fn set_reported(reported: bool) {
    REPORTED.store(reported, Ordering::Relaxed);
}

/// Before the first version goes: from then on there is something to explain.
pub(crate) fn prepare() {
    if REPORTED.load(Ordering::Relaxed)
        && let Err(error) = fault::watch(report)
    {
        tracing::warn!(%error, "calls into versions that are gone cannot be reported");
    }
}

/// What a fault at an address is, if it is of a version that is gone.
fn explain<T>(address: usize, is_unmapped: bool, tell: impl FnOnce(&past::At<'_>) -> T) -> Option<T> {
    // Pages are used again.
    if loaded::find(address as u64, |_| ()).is_some() || trampolines::find(address).is_some() {
        return None;
    }
    // Where the address space has been given back, somebody else may have taken it.
    past::find(address, |at| (at.past.is_ours() || is_unmapped).then(|| tell(at))).flatten()
}

/// In the handler of a fault.
fn report(fault: &Fault) {
    if !REPORTED.load(Ordering::Relaxed) {
        return;
    }
    explain(fault.address, fault.is_unmapped, |at| {
        let mut name = [0; 16];
        let (thread, length) = fault::this_thread(&mut name);
        let name = std::str::from_utf8(&name[..length]).unwrap_or_default();
        let what = if fault.is_fetch { "call" } else { "access" };
        let mut to = Stderr::new();
        // A stderr that cannot be written to is one that nobody reads.
        let _ = writeln!(
            to,
            "midflight: stale {what} by thread {thread} `{name}`: {:#x} was {at}\nmidflight: {ADVICE}",
            fault.address
        );
        to.flush();
    });
}

const ADVICE: &str = "an address of that version was kept: in an object with virtual functions, a std::function, a callback, a `dyn` object, \
a variable, or one for frames that was called outside of them. Make such things anew after a reload; ask hot_reload_symbol() or \
Runtime::symbol() for addresses that may be called anywhere; or keep old versions by hot_reload_retain() or Runtime::retain(). \
docs/debugging.md, \"Addresses that outlive their version\", has more";

/// What there was at an address of a version that is gone, in one line: which symbol of which
/// version of which module, and when it was replaced and freed. False, and nothing written, if no
/// version is known that was there, or another is there now.
///
/// For the host's own handlers of faults: the address is that of the instruction for SIGILL and
/// SIGTRAP, and `si_addr` for SIGSEGV and SIGBUS. Async-signal-safe, if writing to `text` is. The
/// latest 128 versions are known.
///
/// # Errors
///
/// Those of `text`.
pub fn explain_address(address: *const (), text: &mut impl Write) -> Result<bool, fmt::Error> {
    match explain(address.addr(), true, |at| write!(text, "{:#x} was {at}", address.addr())) {
        Some(written) => written.map(|()| true),
        None => Ok(false),
    }
}

/// Small, for it is on alternate stacks.
const LINE: usize = 512;

/// Standard error without its lock.
struct Stderr {
    line: [u8; LINE],
    length: usize,
}

impl Stderr {
    fn new() -> Self {
        Self { line: [0; LINE], length: 0 }
    }

    fn flush(&mut self) {
        // SAFETY: borrowed as it is, whatever it leads to, and not closed.
        let stderr = ManuallyDrop::new(unsafe { File::from_raw_fd(libc::STDERR_FILENO) });
        let _ = std::io::Write::write_all(&mut &*stderr, &self.line[..self.length]);
        self.length = 0;
    }
}

impl Write for Stderr {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.as_bytes().chunks(LINE) {
            if self.length + piece.len() > LINE {
                self.flush();
            }
            self.line[self.length..][..piece.len()].copy_from_slice(piece);
            self.length += piece.len();
        }
        Ok(())
    }
}
