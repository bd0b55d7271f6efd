//! Exit functions of the process. The C library keeps them, in its order: so they still run when
//! the process exits. A version's are all registered with one handle, the address where it is,
//! whatever the module gave; by that its retirement has them run or taken back.

use std::ffi::{c_int, c_void};
use std::ptr;

use super::fork_handlers;
use super::ledger::{self, Call, Ledger, Opaque, ledger, run_at_home};
use super::places::{self, Id};
use super::shared_variables;
use crate::platform::os::exit;

type Function = unsafe extern "C" fn(*mut c_void);

/// What the C library keeps for us.
struct Registered {
    version: Id,
    call: Call,
    /// It is `on_exit`'s, which takes the status and then the argument.
    takes_status: bool,
}

/// A function that quick_exit(3) calls.
pub(super) struct QuickExit {
    pub(super) version: Id,
    call: Call,
}

/// The version to which a registration belongs.
pub(super) fn owner(dso: *const c_void, functions: &[usize]) -> Option<Id> {
    places::find(dso.addr()).or_else(|| functions.iter().find_map(|function| places::find(*function)))
}

fn register(
    function: Function,
    argument: *mut c_void,
    dso: *const c_void,
    takes_status: bool,
) -> Option<c_int> {
    let version = owner(dso, &[function as usize])?;
    let handle = {
        let mut ledger = ledger();
        let account = ledger.version(version);
        account.exits += 1;
        account.registers = true;
        account.handle()
    };
    let call = Call { function, argument: Opaque(argument) };
    let registered = Box::into_raw(Box::new(Registered { version, call, takes_status }));
    // SAFETY: `run` takes what is registered here, once.
    let result = unsafe { exit::at_exit(run, registered.cast(), handle) };
    if result != 0 {
        // SAFETY: it was not registered.
        drop(unsafe { Box::from_raw(registered) });
        ledger().version(version).exits -= 1;
    }
    Some(result)
}

/// The C library calls this when the process exits, or for a handle.
///
/// It runs at its version's home: what it calls in other modules is not freed meanwhile. A retiring
/// thread is there already.
unsafe extern "C" fn run(registered: *mut c_void, status: c_int) {
    // SAFETY: from `register`, once.
    let Registered { version, call, takes_status } =
        *unsafe { Box::from_raw(registered.cast::<Registered>()) };
    let exit = || {
        if takes_status {
            // SAFETY: `on_exit` was given a function of this type. The version is there: it has an
            // exit function that has not returned.
            unsafe {
                let function: unsafe extern "C" fn(c_int, *mut c_void) = std::mem::transmute(call.function);
                function(status, call.argument.0);
            }
        } else {
            // SAFETY: as above.
            unsafe { call.run() };
        }
    };
    let retiring = ledger().version(version).evicted.is_some();
    if retiring {
        exit();
    } else {
        ledger::begin(|_| Some(version), |ledger, version| ledger.version(version).leaving += 1);
        run_at_home(version, exit);
        ledger().version(version).leaving -= 1;
    }
    ledger().version(version).exits -= 1;
}

/// `__cxa_atexit`.
pub(super) unsafe extern "C" fn cxa_atexit(
    function: Function,
    argument: *mut c_void,
    dso: *const c_void,
) -> c_int {
    if owner(dso, &[function as usize]).is_some()
        && let Some(done) = shared_variables::register(function as usize, argument)
    {
        return done;
    }
    register(function, argument, dso, false).unwrap_or_else(|| {
        // SAFETY: as the caller asks. One more argument than it takes is passed, and ignored as it
        // is in the C library.
        unsafe { exit::at_exit(std::mem::transmute::<Function, ExitFunction>(function), argument, dso) }
    })
}
type ExitFunction = unsafe extern "C" fn(*mut c_void, c_int);

/// Runs what a version has registered, the latest first, and takes back its handlers of fork.
///
/// # Safety
///
/// Those functions may be called now.
pub(super) unsafe fn finalize(version: Id) {
    let handle = ledger().version(version).handle();
    // SAFETY: the caller promises that the version's functions may be called now.
    unsafe { exit::finalize(handle) };
    fork_handlers::forget(version);
}

/// `__cxa_finalize`, which crt's destructor of a shared object calls.
pub(super) unsafe extern "C" fn cxa_finalize(dso: *const c_void) {
    match places::find(dso.addr()) {
        // SAFETY: as the caller asks.
        Some(version) => unsafe { finalize(version) },
        // SAFETY: as the caller asks.
        None => unsafe { exit::finalize(dso) },
    }
}

/// atexit(3). Shared objects bring their own (crt's), which calls `__cxa_atexit`; object files
/// import it.
pub(super) unsafe extern "C" fn atexit(function: Function) -> c_int {
    // SAFETY: as the caller asks: a function that takes nothing takes an argument as well.
    unsafe { cxa_atexit(function, ptr::null_mut(), ptr::null()) }
}

/// on_exit(3), which in glibc itself is never taken back.
pub(super) unsafe extern "C" fn on_exit(function: Function, argument: *mut c_void) -> c_int {
    register(function, argument, ptr::null(), true).unwrap_or_else(|| {
        // SAFETY: as the caller asks.
        unsafe { exit::on_exit(function, argument) }
    })
}

/// `__cxa_at_quick_exit`. The C library cannot take these back, so it has one function of ours for
/// all.
pub(super) unsafe extern "C" fn cxa_at_quick_exit(function: Function, dso: *const c_void) -> c_int {
    let Some(version) = owner(dso, &[function as usize]) else {
        // SAFETY: as the caller asks: a function that takes nothing.
        return exit::at_quick_exit(unsafe {
            std::mem::transmute::<Function, extern "C" fn(*mut c_void)>(function)
        });
    };
    let call = Call { function, argument: Opaque(ptr::null_mut()) };
    let first = {
        let mut ledger = ledger();
        ledger.quick_exits.push(QuickExit { version, call });
        !std::mem::replace(&mut ledger.runs_quick_exits, true)
    };
    if first { exit::at_quick_exit(run_quick_exits) } else { 0 }
}

/// at_quick_exit(3), as object files import it.
pub(super) unsafe extern "C" fn at_quick_exit(function: Function) -> c_int {
    // SAFETY: as the caller asks.
    unsafe { cxa_at_quick_exit(function, ptr::null()) }
}

extern "C" fn run_quick_exits(_: *mut c_void) {
    loop {
        let next = |ledger: &Ledger| ledger.quick_exits.last().map(|exit| exit.version);
        let begun = ledger::begin(next, |ledger, version| {
            let account = ledger.version(version);
            account.exits += 1;
            account.leaving += 1;
            ledger.quick_exits.pop()
        });
        let Some(QuickExit { version, call }) = begun.flatten() else { return };
        // SAFETY: the version is there: it has an exit function running.
        run_at_home(version, || unsafe { call.run() });
        let mut ledger = ledger();
        let account = ledger.version(version);
        account.exits -= 1;
        account.leaving -= 1;
    }
}
