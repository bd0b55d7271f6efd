//! What the system's libraries run at the end of a thread and of the process, and at forks:
//! libdyld, Libc.

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

unsafe extern "C" {
    /// mach-o/dyld_priv.h, which no SDK has; the compiler's `thread_local` in C++ and Rust's
    /// standard library call it.
    fn _tlv_atexit(function: unsafe extern "C" fn(*mut c_void), argument: *mut c_void);
    /// Itanium C++ ABI, 3.3.6.3. Libc passes the argument alone.
    fn __cxa_atexit(
        function: unsafe extern "C" fn(*mut c_void, c_int),
        argument: *mut c_void,
        dso: *const c_void,
    ) -> c_int;
    fn __cxa_finalize(dso: *const c_void);
}

/// Has a function called when this thread exits, before those that were registered earlier. dyld
/// does so in the destructor of a key that it makes at the process's start
/// (libdyld/ThreadLocalVariables.cpp), so before those of keys that are made later.
///
/// # Safety
///
/// The function may be called with the argument then.
pub(crate) unsafe fn at_thread_exit(
    function: unsafe extern "C" fn(*mut c_void),
    argument: *mut c_void,
    _dso: Option<*const c_void>,
) -> c_int {
    // SAFETY: the caller promises that the function may be called then.
    unsafe { _tlv_atexit(function, argument) };
    0
}

/// What was registered for the process's end, in order.
struct AtExit {
    function: unsafe extern "C" fn(*mut c_void, c_int),
    argument: usize,
    dso: usize,
}

struct AtExits {
    functions: Vec<AtExit>,
    /// How many calls of [`run_latest`] Libc has in store.
    calls: usize,
}

/// Libc never gives an entry back (stdlib/FreeBSD/atexit.c: `__cxa_finalize` marks it as empty),
/// and looks at all it ever had each time. So it has no more entries of ours than there were
/// functions at a time, and each calls the latest function then: as long as none is taken back that
/// is C's order.
static AT_EXIT: Mutex<AtExits> = Mutex::new(AtExits { functions: Vec::new(), calls: 0 });

fn at_exits() -> MutexGuard<'static, AtExits> {
    AT_EXIT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Libc has taken its entry.
unsafe extern "C" fn run_latest(_: *mut c_void, _: c_int) {
    let latest = {
        let mut at_exits = at_exits();
        at_exits.calls -= 1;
        at_exits.functions.pop()
    };
    // None if it was taken back.
    if let Some(AtExit { function, argument, .. }) = latest {
        // SAFETY: `at_exit` was promised that.
        unsafe { function(ptr::with_exposed_provenance_mut(argument), 0) };
    }
}

/// Has a function called when the process exits, or when `finalize` is called for its handle. The
/// status that it is passed means nothing.
///
/// # Safety
///
/// The function may be called with the argument then.
pub(crate) unsafe fn at_exit(
    function: unsafe extern "C" fn(*mut c_void, c_int),
    argument: *mut c_void,
    dso: *const c_void,
) -> c_int {
    // An image of dyld's, whose functions dyld has Libc run when it is closed: not one of ours.
    let mut image = MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: any address may be asked for, and `image` is written only.
    if dso.is_null() || unsafe { libc::dladdr(dso, image.as_mut_ptr()) } != 0 {
        // SAFETY: the caller promises that the function may be called then.
        return unsafe { __cxa_atexit(function, argument, dso) };
    }
    let mut at_exits = at_exits();
    if at_exits.functions.len() == at_exits.calls {
        // SAFETY: the function stays for the life of the process. Libc calls nothing meanwhile.
        let result = unsafe { __cxa_atexit(run_latest, ptr::null_mut(), ptr::null()) };
        if result != 0 {
            return result;
        }
        at_exits.calls += 1;
    }
    at_exits.functions.push(AtExit { function, argument: argument.expose_provenance(), dso: dso.addr() });
    0
}

/// macOS has no on_exit.
///
/// # Safety
///
/// None needed.
pub(crate) unsafe fn on_exit(_function: unsafe extern "C" fn(*mut c_void), _argument: *mut c_void) -> c_int {
    -1
}

/// macOS has no quick_exit.
pub(crate) fn at_quick_exit(_function: extern "C" fn(*mut c_void)) -> c_int {
    -1
}

/// Runs what was registered with a handle, the latest first, and takes back its handlers of fork.
///
/// # Safety
///
/// Those functions may be called now.
pub(crate) unsafe fn finalize(dso: *const c_void) {
    loop {
        let latest = {
            let functions = &mut at_exits().functions;
            functions.iter().rposition(|one| one.dso == dso.addr()).map(|at| functions.remove(at))
        };
        let Some(AtExit { function, argument, .. }) = latest else { break };
        // SAFETY: the caller promises that the functions of this handle may be called now.
        unsafe { function(ptr::with_exposed_provenance_mut(argument), 0) };
    }
    // SAFETY: as above: what was registered with Libc itself for the handle, by others.
    unsafe { __cxa_finalize(dso) };
    with_handlers(|handlers| handlers.retain(|handler| handler.dso != dso.addr()));
}

type Handler = Option<unsafe extern "C" fn()>;

/// What was registered for forks, in order.
struct AtFork {
    prepare: Handler,
    parent: Handler,
    child: Handler,
    dso: usize,
}

/// macOS cannot take handlers of fork back, so it has three of ours, which call these. Locked
/// during forks: no other thread takes one back in the midst of one, and the child has them whole.
static HANDLERS: Mutex<Vec<AtFork>> = Mutex::new(Vec::new());

thread_local! {
    /// The calling thread is in a fork, and has the lock.
    static HELD: RefCell<Option<ManuallyDrop<MutexGuard<'static, Vec<AtFork>>>>> = const { RefCell::new(None) };
}

/// With the lock, which a handler's thread has already.
fn with_handlers<T>(run: impl FnOnce(&mut Vec<AtFork>) -> T) -> T {
    HELD.with_borrow_mut(|held| match held {
        Some(handlers) => run(handlers),
        None => run(&mut HANDLERS.lock().unwrap_or_else(PoisonError::into_inner)),
    })
}

/// Has functions called around forks, until `finalize` is called for the handle.
///
/// # Safety
///
/// The functions may be called around any fork until then.
pub(crate) unsafe fn at_fork(prepare: Handler, parent: Handler, child: Handler, dso: *const c_void) -> c_int {
    static WATCH: OnceLock<c_int> = OnceLock::new();
    // SAFETY: the functions stay for the life of the process.
    let watched =
        *WATCH.get_or_init(|| unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) });
    if watched != 0 {
        return watched;
    }
    with_handlers(|handlers| handlers.push(AtFork { prepare, parent, child, dso: dso.addr() }));
    0
}

/// POSIX has the latest first.
extern "C" fn before() {
    let handlers = HANDLERS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut at = handlers.len();
    HELD.set(Some(ManuallyDrop::new(handlers)));
    while at > 0 {
        at -= 1;
        call(at, |handler| handler.prepare);
    }
}

fn after(which: impl Fn(&AtFork) -> Handler) {
    for at in 0..with_handlers(|handlers| handlers.len()) {
        call(at, &which);
    }
    drop(HELD.take().map(ManuallyDrop::into_inner));
}

/// Calls one of them: it may register others, or take some back.
fn call(at: usize, which: impl Fn(&AtFork) -> Handler) {
    if let Some(handler) = with_handlers(|handlers| handlers.get(at).and_then(which)) {
        // SAFETY: `at_fork` was promised that.
        unsafe { handler() };
    }
}

extern "C" fn in_parent() {
    after(|handler| handler.parent);
}

extern "C" fn in_child() {
    after(|handler| handler.child);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handles_functions_are_called_once_the_latest_first() {
        static CALLED: Mutex<Vec<usize>> = Mutex::new(Vec::new());
        unsafe extern "C" fn call(argument: *mut c_void, _: c_int) {
            CALLED.lock().unwrap().push(argument.addr());
        }
        let handles = [1_u8, 2].map(Box::new);
        let handle = |of: usize| (&raw const *handles[of]).cast();
        let calls = || at_exits().calls;
        for round in 0..3 {
            for (argument, of) in [(1, 0), (2, 1), (3, 0)] {
                // SAFETY: `call` takes any argument.
                unsafe { assert_eq!(at_exit(call, ptr::without_provenance_mut(argument), handle(of)), 0) };
            }
            assert!(calls() >= 3);
            // SAFETY: as above.
            unsafe {
                finalize(handle(0));
                assert_eq!(*CALLED.lock().unwrap(), [3, 1], "round {round}");
                finalize(handle(0));
                finalize(handle(1));
            }
            assert_eq!(std::mem::take(&mut *CALLED.lock().unwrap()), [3, 1, 2]);
        }
        assert!(at_exits().functions.is_empty());
        assert_eq!(calls(), 3, "no more than there were at a time");
    }
}
