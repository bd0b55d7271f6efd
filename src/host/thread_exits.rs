//! Exit functions of threads: destructors of C++'s and Rust's thread-local variables.

use std::ffi::{c_int, c_void};

use super::ledger::{self, Call, Ledger, Opaque, ledger, run_at_home};
use super::places::{self, Id};
use super::thread::{self, ThreadId};
use crate::platform::os::exit;

pub(super) struct Exit {
    pub(super) version: Id,
    /// Counts a thread's.
    pub(super) sequence: usize,
    pub(super) call: Call,
}

/// `_tlv_atexit`, by which Mach-O modules do the same (dyld, `threadLocalVariables.c`): it has no
/// handle, and what code by some compilers passes in its place is not to be relied on.
pub(super) unsafe extern "C" fn tlv_atexit(
    function: unsafe extern "C" fn(*mut c_void),
    argument: *mut c_void,
) -> c_int {
    // SAFETY: the caller passes what `_tlv_atexit` asks for: a function for the argument. The
    // function's address tells whose it is.
    unsafe { register(function, argument, std::ptr::null()) }
}

/// `__cxa_thread_atexit_impl` and `__cxa_thread_atexit`.
///
/// They run in the reverse order of their registration, between the C library's own: it is asked
/// for a call each time. But of those that went with their version the calls are left, and are used
/// first; so there are never more of them than there were functions at one time, however often
/// versions are replaced.
pub(super) unsafe extern "C" fn register(
    function: unsafe extern "C" fn(*mut c_void),
    argument: *mut c_void,
    dso: *const c_void,
) -> c_int {
    let of = |address: usize| places::find(address);
    let Some(version) = of(dso.addr()).or_else(|| of(function as usize)) else {
        // SAFETY: as the caller asks.
        return unsafe { exit::at_thread_exit(function, argument, Some(dso)) };
    };
    let id = thread::current();
    let hook = {
        let mut ledger = ledger();
        let thread = ledger.thread(id);
        thread.sequence += 1;
        let call = Call { function, argument: Opaque(argument) };
        thread.exits.push(Exit { version, sequence: thread.sequence, call });
        // In the rounds of keys the C library makes no such calls any more.
        (thread.rounds == 0 && thread.hooks <= thread.exits.len()).then_some(thread.sequence)
    };
    if let Some(sequence) = hook {
        thread::call_leave(id, sequence);
    }
    0
}

/// Runs the calling thread's exit functions from this number on, the latest first, and those that
/// they register.
///
/// Each runs at its version's home: what it calls in other modules is not freed meanwhile.
pub(super) fn run(id: ThreadId, from: usize) {
    loop {
        let next = |ledger: &Ledger| {
            let exit = ledger.threads.get(&id)?.exits.last()?;
            (exit.sequence >= from).then_some(exit.version)
        };
        let begun = ledger::begin(next, |ledger, version| {
            ledger.mark(id, version, true);
            ledger.thread(id).exits.pop()
        });
        let Some(exit) = begun.flatten() else { return };
        // SAFETY: marked, so the version is there.
        run_at_home(exit.version, || unsafe { exit.call.run() });
        ledger().mark(id, exit.version, false);
    }
}
