//! Threads that modules start. A version is not freed before they are over: their code is in it,
//! and no frame says so.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use libc::{pthread_attr_t, pthread_t};

use super::keys::THRD_ERROR;
use super::ledger::{Opaque, ledger};
use super::places::{self, Id};
use super::spawn;
use super::thread;
use crate::call::home;

/// What asm/*/spawn.s goes on to when the thread has been noted.
#[repr(C)]
pub(crate) struct Entry {
    function: usize,
    argument: *mut c_void,
}

impl Entry {
    #[cfg(target_os = "linux")]
    pub(super) fn new(function: usize, argument: *mut c_void) -> Self {
        Self { function, argument }
    }
}

/// A thread that is about to begin.
struct Start {
    version: Id,
    function: usize,
    argument: Opaque,
}

/// Notes that the calling thread, which begins, was started by a version. Its end takes that back.
pub(super) fn begin(version: Id) {
    let thread = thread::current();
    let table = {
        let mut ledger = ledger();
        ledger.thread(thread).started_by = Some(version);
        ledger.version(version).table.as_ref().expect("made with its first thread").as_ptr()
    };
    home::set_outer_table(table);
}

/// pthread_create(3), called from `caller`. The function may be the module's or one of a library's
/// that goes on to the module.
pub(crate) unsafe extern "C" fn pthread_create(
    thread: *mut pthread_t,
    attributes: *const pthread_attr_t,
    function: usize,
    argument: *mut c_void,
    caller: usize,
) -> c_int {
    type Function = extern "C" fn(*mut c_void) -> *mut c_void;
    let Some(version) = places::find(function).or_else(|| places::find(caller)) else {
        // SAFETY: as the caller asks.
        return unsafe {
            let function: Function = std::mem::transmute(function);
            libc::pthread_create(thread, attributes, function, argument)
        };
    };
    ledger().add_thread(version);
    let start = Box::into_raw(Box::new(Start { version, function, argument: Opaque(argument) }));
    // SAFETY: as the caller asks; `arrive` takes what is passed here, once.
    let result = unsafe {
        let entry: Function = std::mem::transmute(spawn::midflight_thread_entry as *const ());
        libc::pthread_create(thread, attributes, entry, start.cast())
    };
    if result != 0 {
        // SAFETY: there is no thread that takes it.
        drop(unsafe { Box::from_raw(start) });
        ledger().version(version).threads -= 1;
    }
    result
}

/// A thread of [`pthread_create`] begins.
pub(crate) unsafe extern "C" fn arrive(start: *mut c_void) -> Entry {
    // SAFETY: from `pthread_create`, once.
    let Start { version, function, argument } = *unsafe { Box::from_raw(start.cast::<Start>()) };
    begin(version);
    Entry { function, argument: argument.0 }
}

/// C11's `thrd_create`, called from `caller`. In glibc its threads are POSIX's; of their result
/// `thrd_join` takes the lower half.
pub(crate) unsafe extern "C" fn thrd_create(
    thread: *mut pthread_t,
    function: usize,
    argument: *mut c_void,
    caller: usize,
) -> c_int {
    const THRD_NOMEM: c_int = 3;
    // SAFETY: as the caller asks.
    match unsafe { pthread_create(thread, ptr::null(), function, argument, caller) } {
        0 => 0,
        libc::ENOMEM => THRD_NOMEM,
        _ => THRD_ERROR,
    }
}

/// `std::thread::_M_start_thread(unique_ptr<_State>, void (*)())`, which C++ modules call
/// (libstdc++, GCC 6 and later). It is the library that calls pthread_create then, so the state
/// that it is given is wrapped in one of ours.
pub(super) const STD_START_THREAD: &str =
    "_ZNSt6thread15_M_start_threadESt10unique_ptrINS_6_StateESt14default_deleteIS1_EEPFvvE";

/// The library's function. There is one libstdc++ in a process; it may be closed and opened again
/// elsewhere while no module uses it, so the latest counts.
static START_THREAD: AtomicUsize = AtomicUsize::new(0);

/// Notes the library's function, and returns what modules are given.
pub(super) fn std_start_thread(real: u64) -> unsafe extern "C" fn() {
    // Relaxed: read by code of a module that was linked after this.
    START_THREAD.store(real as usize, Ordering::Relaxed);
    spawn::midflight_std_start_thread
}

/// `std::thread::_State` as the Itanium C++ ABI lays it out: a class with a virtual destructor,
/// which has two entries in the table, and the virtual `_M_run`.
#[repr(C)]
struct State {
    functions: *const Functions,
}
type Functions = [unsafe extern "C" fn(*mut c_void); 3];
const DELETE: usize = 1;
const RUN: usize = 2;

/// A state that goes on to another.
#[repr(C)]
struct Wrapped {
    state: State,
    inner: *mut State,
    version: Id,
    begun: bool,
}

/// Wraps the state that a module, `caller`, starts a `std::thread` with. Returns the library's
/// function.
pub(crate) unsafe extern "C" fn wrap(state: *mut *mut c_void, caller: usize) -> usize {
    static FUNCTIONS: Functions = [destroy, delete, spawn::midflight_std_thread_entry];
    if let Some(version) = places::find(caller) {
        ledger().add_thread(version);
        // SAFETY: the unique_ptr that the module passes, by address as it is not trivial: one
        // pointer, which is not null.
        unsafe {
            let inner = (*state).cast();
            let state_of_ours = State { functions: &raw const FUNCTIONS };
            let wrapped = Wrapped { state: state_of_ours, inner, version, begun: false };
            *state = Box::into_raw(Box::new(wrapped)).cast();
        }
    }
    START_THREAD.load(Ordering::Relaxed)
}

/// The thread begins: `_M_run`, by way of asm/*/spawn.s.
pub(crate) unsafe extern "C" fn arrive_std(state: *mut c_void) -> Entry {
    // SAFETY: from `wrap`, and the library calls it once, before it deletes the state.
    unsafe {
        let wrapped = &mut *state.cast::<Wrapped>();
        begin(wrapped.version);
        wrapped.begun = true;
        Entry { function: (*(*wrapped.inner).functions)[RUN] as usize, argument: wrapped.inner.cast() }
    }
}

/// Of the destructor's two, the one that leaves the memory. The library owns states by pointer
/// only.
unsafe extern "C" fn destroy(_: *mut c_void) {
    unreachable!("std::thread deletes its states");
}

/// `delete state`.
unsafe extern "C" fn delete(state: *mut c_void) {
    // SAFETY: from `wrap`, and deleted once. The inner one was the module's to be deleted so.
    let Wrapped { version, begun, .. } = unsafe {
        let wrapped = Box::from_raw(state.cast::<Wrapped>());
        (*(*wrapped.inner).functions)[DELETE](wrapped.inner.cast());
        *wrapped
    };
    if !begun {
        ledger().version(version).threads -= 1;
    }
}
