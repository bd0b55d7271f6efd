//! Handlers of fork that modules register: pthread_atfork(3).
//!
//! They run at their version's home, whatever the thread that forks is in the midst of. The C
//! library calls them with no argument that would say whose they are, so it is given functions of
//! ours, of which each has a place of its own in a list.

use std::ffi::{c_int, c_void};
use std::ptr;

use super::ledger::{self, Ledger, ledger, run_at_home};
use super::places::Id;
use super::process_exits::owner;
use crate::platform::os::exit;

type Handler = Option<unsafe extern "C" fn()>;

/// As many as modules may have at a time.
const PLACES: usize = 64;

/// Before the fork, in the parent, in the child.
type Three<H> = [H; 3];

/// What a version has registered.
pub(super) struct Registered {
    version: Id,
    handlers: Three<Handler>,
}

/// What is registered, by place.
pub(super) type List = [Option<Registered>; PLACES];
pub(super) const NONE: List = [const { None }; PLACES];

unsafe extern "C" fn handler<const PLACE: usize, const WHEN: usize>() {
    run(PLACE, WHEN);
}

const fn of_place<const PLACE: usize>() -> Three<unsafe extern "C" fn()> {
    [handler::<PLACE, 0>, handler::<PLACE, 1>, handler::<PLACE, 2>]
}

macro_rules! of_places {
    ($($place:literal)*) => { [$(of_place::<$place>()),*] };
}

/// What the C library is given.
static OURS: [Three<unsafe extern "C" fn()>; PLACES] = of_places!(
    0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
    32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63
);

/// The version stays while one runs, as it does for exit functions of threads.
fn run(place: usize, when: usize) {
    // None: taken back meanwhile.
    let whose = |ledger: &Ledger| ledger.fork_handlers[place].as_ref().map(|of| of.version);
    let begun = ledger::begin(whose, |ledger, version| {
        let handler = ledger.fork_handlers[place].as_ref()?.handlers[when]?;
        ledger.version(version).leaving += 1;
        Some((version, handler))
    });
    let Some((version, handler)) = begun.flatten() else { return };
    // SAFETY: marked, so the version is there; it has asked for this call.
    run_at_home(version, || unsafe { handler() });
    ledger().version(version).leaving -= 1;
}

/// `__register_atfork`.
pub(super) unsafe extern "C" fn register_atfork(
    prepare: Handler,
    parent: Handler,
    child: Handler,
    dso: *const c_void,
) -> c_int {
    let handlers = [prepare, parent, child];
    let functions: Vec<usize> = handlers.into_iter().flatten().map(|f| f as usize).collect();
    let Some(version) = owner(dso, &functions) else {
        // SAFETY: as the caller asks.
        return unsafe { exit::at_fork(prepare, parent, child, dso) };
    };
    let (place, handle) = {
        let mut ledger = ledger();
        let Some(place) = ledger.fork_handlers.iter().position(Option::is_none) else {
            drop(ledger);
            tracing::warn!(
                "modules have {PLACES} handlers of fork, and no more are taken (pthread_atfork: ENOMEM)"
            );
            return libc::ENOMEM;
        };
        ledger.fork_handlers[place] = Some(Registered { version, handlers });
        let account = ledger.version(version);
        account.registers = true;
        (place, account.handle())
    };
    let ours = |when: usize| handlers[when].map(|_| OURS[place][when]);
    // SAFETY: ours may always be called.
    let result = unsafe { exit::at_fork(ours(0), ours(1), ours(2), handle) };
    if result != 0 {
        ledger().fork_handlers[place] = None;
    }
    result
}

/// pthread_atfork(3). Shared objects bring their own (crt's), which calls `__register_atfork`;
/// object files import it.
pub(super) unsafe extern "C" fn pthread_atfork(prepare: Handler, parent: Handler, child: Handler) -> c_int {
    // SAFETY: as the caller asks.
    unsafe { register_atfork(prepare, parent, child, ptr::null()) }
}

/// A version's are no longer registered: the C library has been told.
pub(super) fn forget(version: Id) {
    let mut ledger = ledger();
    let of_version =
        |place: &&mut Option<Registered>| place.as_ref().is_some_and(|one| one.version == version);
    ledger.fork_handlers.iter_mut().filter(of_version).for_each(|place| *place = None);
}
