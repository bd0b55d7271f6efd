//! What is noted of one thread, and its end.
//!
//! A thread's end has two parts (glibc, nptl/pthread_create.c). First the C library calls what
//! `__cxa_thread_atexit_impl` registered; then the destructors of keys, over and over while values
//! are set, four times at most. Thread-local variables outlive both, and so do a module's: the
//! thread's record goes in the last round that our own key has.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ptr;
use std::sync::OnceLock;

use super::blocks::Blocks;
use super::keys;
use super::ledger::{Opaque, ledger, watch_forks};
use super::places::Id;
use super::thread_exits::{self, Exit};
use crate::Error;
use crate::call::live::LIVE;
use crate::call::{frame, home};
use crate::platform::arch::registers;
use crate::platform::os::{exit, thread as os_thread};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct ThreadId(pub(super) u64);

/// A thread in which a module has left something.
#[derive(Default)]
pub(super) struct Thread {
    pub(super) blocks: Blocks,
    /// Exit functions, the latest last.
    pub(super) exits: Vec<Exit>,
    /// How many there were.
    pub(super) sequence: usize,
    /// How many times the C library is going to call `leave`.
    pub(super) hooks: usize,
    /// Its values of modules' keys that have destructors.
    pub(super) values: BTreeMap<libc::pthread_key_t, Opaque>,
    /// The version whose code started it.
    pub(super) started_by: Option<Id>,
    /// The C library has called `leave`.
    leaving: bool,
    /// How many times it has called `end`.
    pub(super) rounds: u32,
}

/// The key whose destructor is `end`.
static KEY: OnceLock<Option<libc::pthread_key_t>> = OnceLock::new();

/// Before any module is linked.
pub(super) fn prepare() -> Result<(), Error> {
    // Once: on a virtual machine the questions to the processor alone take longer than loading a
    // small module.
    let key = KEY.get_or_init(|| {
        registers::prepare();
        watch_forks();
        let mut key = 0;
        // SAFETY: writes the key.
        (unsafe { libc::pthread_key_create(&mut key, Some(end)) } == 0).then_some(key)
    });
    match key {
        Some(_) => Ok(()),
        None => Err(Error::Unsupported {
            what:
                "the process has used up its pthread keys, of which the runtime needs one: start it earlier"
                    .into(),
        }),
    }
}

/// Asks for `end`.
fn call_end() {
    let key = KEY.get().copied().flatten().expect("prepared before any module was linked");
    // SAFETY: our own key.
    let result = unsafe { libc::pthread_setspecific(key, ptr::without_provenance(1)) };
    assert_eq!(result, 0, "no memory for the calling thread's value of a pthread key");
}

/// The calling thread, if it is noted. Numbers begin with 1.
pub(super) fn noted() -> Option<ThreadId> {
    Some(os_thread::noted()).filter(|number| *number != 0).map(ThreadId)
}

/// The calling thread, noted if it is not yet.
pub(super) fn current() -> ThreadId {
    if let Some(thread) = noted() {
        return thread;
    }
    let thread = ledger().enter();
    os_thread::set_noted(thread.0);
    call_leave(thread, 0);
    call_end();
    thread
}

/// Asks for `leave`, for exit functions from this number on.
pub(super) fn call_leave(thread: ThreadId, sequence: usize) {
    ledger().thread(thread).hooks += 1;
    // SAFETY: `leave` takes a number. It fails for want of memory only, and `end` is there then.
    unsafe { exit::at_thread_exit(leave, ptr::without_provenance_mut(sequence), None) };
}

/// The thread exits, and what was registered after the exit function of this number has run.
unsafe extern "C" fn leave(sequence: *mut c_void) {
    let Some(id) = noted() else { return };
    {
        let mut ledger = ledger();
        let thread = ledger.thread(id);
        thread.hooks -= 1;
        thread.leaving = true;
    }
    thread_exits::run(id, sequence.addr());
}

/// How often the C library calls destructors of keys: glibc's and POSIX's least
/// PTHREAD_DESTRUCTOR_ITERATIONS.
pub(super) const ROUNDS: u32 = 4;

/// The thread exits, and its exit functions have run. Destructors of other keys may follow, and may
/// use thread-local variables of modules, so the thread's record stays to the last round. If the
/// first use comes only now, nobody knows which round it is: then the record goes at once, and is
/// made anew if need be.
unsafe extern "C" fn end(_: *mut c_void) {
    let Some(id) = noted() else { return };
    let again = {
        let mut ledger = ledger();
        let thread = ledger.thread(id);
        thread.rounds += 1;
        thread.leaving && thread.rounds < ROUNDS
    };
    // What was registered too late for `leave`.
    thread_exits::run(id, 0);
    keys::run_destructors(id);
    // The frames that these were run in may have a record that nobody else will give back.
    frame::release_record();
    if again {
        return call_end();
    }
    let mut ledger = ledger();
    let gone = ledger.threads.remove(&id).expect("the thread is there");
    gone.blocks.abandon();
    os_thread::set_noted(0);
    if let Some(version) = gone.started_by {
        // The version may go with its last thread, and its table with it.
        home::set_outer_table(LIVE.as_ptr());
        ledger.version(version).threads -= 1;
    }
    drop(ledger);
}
