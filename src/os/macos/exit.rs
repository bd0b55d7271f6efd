//! What the system's libraries run at the end of a thread and of the process, and at forks: libdyld, Libc.

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::mem::ManuallyDrop;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

unsafe extern "C" {
    /// mach-o/dyld_priv.h, which no SDK has; the compiler's `thread_local` in C++ and Rust's standard library call it.
    fn _tlv_atexit(function: unsafe extern "C" fn(*mut c_void), argument: *mut c_void);
    /// Itanium C++ ABI, 3.3.6.3. Libc passes the argument alone.
    fn __cxa_atexit(
        function: unsafe extern "C" fn(*mut c_void, c_int),
        argument: *mut c_void,
        dso: *const c_void,
    ) -> c_int;
    fn __cxa_finalize(dso: *const c_void);
}

/// Has a function called when this thread exits, before those that were registered earlier. dyld does so in the destructor of a key that it
/// makes at the process's start (libdyld/ThreadLocalVariables.cpp), so before those of keys that are made later.
///
/// # Safety
///
/// The function may be called with the argument then.
pub(crate) unsafe fn at_thread_exit(
    function: unsafe extern "C" fn(*mut c_void),
    argument: *mut c_void,
    _dso: Option<*const c_void>,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { _tlv_atexit(function, argument) };
    0
}

/// Has a function called when the process exits, or when `finalize` is called for its handle. The status that it is passed
/// means nothing.
///
/// # Safety
///
/// The function may be called with the argument then.
pub(crate) unsafe fn at_exit(
    function: unsafe extern "C" fn(*mut c_void, c_int),
    argument: *mut c_void,
    dso: *const c_void,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { __cxa_atexit(function, argument, dso) }
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
    // SAFETY: the caller's promise. Libc compares the handle itself, which is the address of no image (stdlib/FreeBSD/atexit.c).
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

/// macOS cannot take handlers of fork back, so it has three of ours, which call these. Locked during forks: no other thread takes one
/// back in the midst of one, and the child has them whole.
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
    static WATCH: Once = Once::new();
    // SAFETY: the functions stay for the life of the process.
    WATCH.call_once(|| unsafe {
        libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child));
    });
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
