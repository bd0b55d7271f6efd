//! Keys of pthread_key_create(3) that modules make. The C library has the keys and the values, and
//! no destructors: those run from here, because a thread that exits must not find one whose module
//! is gone. Rust's standard library needs this.

use std::collections::BTreeMap;
use std::ffi::{c_int, c_void};
use std::ptr;

use libc::pthread_key_t;

use super::ledger::{self, Call, Ledger, Opaque, ledger, run_at_home};
use super::places::{self, Id};
use super::thread::{self, ThreadId};
use crate::platform::os::key::Made;

type Destructor = unsafe extern "C" fn(*mut c_void);

/// A key that a module made.
struct Key {
    version: Id,
    destructor: Option<Destructor>,
    made: Made,
}

/// The keys that modules have made. The host may delete one, of which nobody is told, and may then
/// be given the number for a key of its own.
pub(super) struct Keys(BTreeMap<pthread_key_t, Key>);

impl Keys {
    pub(super) const NONE: Self = Self(BTreeMap::new());

    /// A key that is a module's still.
    fn get(&self, number: pthread_key_t) -> Option<&Key> {
        self.0.get(&number).filter(|key| key.made.is_there())
    }

    fn with_destructor(&self, number: pthread_key_t) -> Option<(Id, Destructor)> {
        self.get(number).and_then(|key| Some((key.version, key.destructor?)))
    }

    /// The destructor of a key, if it is this version's.
    pub(super) fn destructor(&self, number: pthread_key_t, version: Id) -> Option<Destructor> {
        self.with_destructor(number).filter(|(of, _)| *of == version).map(|(_, destructor)| destructor)
    }

    /// Whether this number was given to the version, and to no later one.
    pub(super) fn was_of(&self, number: pthread_key_t, version: Id) -> bool {
        self.0.get(&number).is_some_and(|key| key.version == version)
    }

    /// Strikes out a version's keys. Returns the numbers of those that are there still.
    pub(super) fn remove_all_of(&mut self, version: Id) -> Vec<pthread_key_t> {
        let mut there = Vec::new();
        self.0.retain(|number, key| {
            there.extend((key.version == version && key.made.is_there()).then_some(*number));
            key.version != version
        });
        there
    }
}

/// pthread_key_create(3), called from `caller`.
pub(crate) unsafe extern "C" fn pthread_key_create(
    key: *mut pthread_key_t,
    destructor: Option<Destructor>,
    caller: usize,
) -> c_int {
    let of_destructor = destructor.and_then(|function| places::find(function as usize));
    let Some(version) = of_destructor.or_else(|| places::find(caller)) else {
        // SAFETY: as the caller asks.
        return unsafe { libc::pthread_key_create(key, destructor) };
    };
    // SAFETY: the caller's place for a key.
    let result = unsafe { libc::pthread_key_create(key, None) };
    if result == 0 {
        // SAFETY: just written.
        let number = unsafe { *key };
        let made = Made::now(number);
        let mut ledger = ledger();
        ledger.forget(number);
        ledger.keys.0.insert(number, Key { version, destructor, made });
    }
    result
}

/// pthread_key_delete(3): the values stay what they are, and their destructors do not run.
pub(super) unsafe extern "C" fn pthread_key_delete(key: pthread_key_t) -> c_int {
    ledger().forget(key);
    // SAFETY: as the caller asks.
    unsafe { libc::pthread_key_delete(key) }
}

impl Ledger {
    /// The number is not that module's any more to which it was given.
    fn forget(&mut self, number: pthread_key_t) {
        if self.keys.0.remove(&number).is_some() {
            for thread in self.threads.values_mut() {
                thread.values.remove(&number);
            }
        }
    }
}

/// pthread_setspecific(3).
pub(super) unsafe extern "C" fn pthread_setspecific(key: pthread_key_t, value: *const c_void) -> c_int {
    // SAFETY: as the caller asks.
    let result = unsafe { libc::pthread_setspecific(key, value) };
    if result == 0 && ledger().keys.with_destructor(key).is_some() {
        let thread = thread::current();
        let mut ledger = ledger();
        let values = &mut ledger.thread(thread).values;
        if value.is_null() {
            values.remove(&key);
        } else {
            values.insert(key, Opaque(value.cast_mut()));
        }
    }
    result
}

/// One round of the calling thread's destructors, of each key once.
pub(super) fn run_destructors(id: ThreadId) {
    let keys: Vec<pthread_key_t> = ledger().thread(id).values.keys().copied().collect();
    for key in keys {
        // Somebody may have deleted the key, or the version may have been retired meanwhile.
        let whose = |ledger: &Ledger| ledger.keys.with_destructor(key).map(|(version, _)| version);
        let begun = ledger::begin(whose, |ledger, version| {
            let argument = ledger.thread(id).values.remove(&key)?;
            let (_, function) = ledger.keys.with_destructor(key)?;
            ledger.mark(id, version, true);
            Some((version, Call { function, argument }))
        });
        let Some((version, call)) = begun.flatten() else { continue };
        // SAFETY: marked, so the version is there. POSIX has the value null when its destructor
        // runs.
        run_at_home(version, || unsafe {
            libc::pthread_setspecific(key, ptr::null());
            call.run();
        });
        ledger().mark(id, version, false);
    }
}

/// Errors of C11's functions: threads.h.
pub(super) const THRD_ERROR: c_int = 2;

fn thrd(result: c_int) -> c_int {
    if result == 0 { 0 } else { THRD_ERROR }
}

/// C11's `tss_create`, whose keys are POSIX's in glibc, called from `caller`.
pub(crate) unsafe extern "C" fn tss_create(
    key: *mut pthread_key_t,
    destructor: Option<Destructor>,
    caller: usize,
) -> c_int {
    // SAFETY: as the caller asks.
    thrd(unsafe { pthread_key_create(key, destructor, caller) })
}

/// C11's `tss_delete`.
pub(super) unsafe extern "C" fn tss_delete(key: pthread_key_t) {
    // SAFETY: as the caller asks.
    unsafe { pthread_key_delete(key) };
}

/// C11's `tss_set`.
pub(super) unsafe extern "C" fn tss_set(key: pthread_key_t, value: *const c_void) -> c_int {
    // SAFETY: as the caller asks.
    thrd(unsafe { pthread_setspecific(key, value) })
}
