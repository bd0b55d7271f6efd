//! Faults: the signals that the processor's traps become. A handler of ours is told of each, and
//! then all goes on as it would have without it: a handler that was there before is called with the
//! same arguments, the same signals blocked and on the same stack, and where there was none the
//! process ends by the same signal, with the same information and the same program counter. What is
//! sent by somebody (kill, raise) is passed on alike.
//!
//! Nothing can be told where a thread has the signal blocked: the kernel ends the process at once.
//! A handler that the program installs after this one takes its place, and calls it if it calls
//! what was there before.

use std::ffi::{c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

#[cfg(target_os = "linux")]
use crate::platform::os::fault::Trap;
use crate::platform::os::fault::{end_as, errno, program_counter};

/// A fault of the calling thread.
pub(crate) struct Fault {
    /// Of the instruction that trapped, or of what it could not be fetched from, read or written.
    pub(crate) address: usize,
    /// An instruction there was to be executed, not the memory read or written by one elsewhere.
    pub(crate) is_fetch: bool,
    /// Nothing is mapped at the address.
    pub(crate) is_unmapped: bool,
}

/// Told of a fault. It must be async-signal-safe, and need little stack.
pub(crate) type Told = fn(&Fault);

/// Whether a fault is contained: then the thread goes on where the function had it go. It must be
/// async-signal-safe, and need little stack.
#[cfg(target_os = "linux")]
pub(crate) type Contains = fn(&mut Trap<'_>) -> bool;

/// What traps and faults of instructions, and of what they access, become. The last is contained
/// only: it never comes of an address that is stale.
const SIGNALS: [c_int; 5] = [libc::SIGILL, libc::SIGTRAP, libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE];
const WATCHED: usize = 4;

/// `SEGV_MAPERR`, in both systems.
const UNMAPPED: c_int = 1;

/// `SI_KERNEL` of Linux, the greatest code that a fault has; what a program sends has codes below 1
/// there, and 0x10001 on macOS.
const LAST_CODE: c_int = 0x80;

/// What was there before. Relaxed: written before the handler is installed, which is a system call;
/// a thread that ran then may see it late, but no fault of it is one that was to be explained.
struct Previous {
    handler: AtomicUsize,
    flags: AtomicI32,
}

static PREVIOUS: [Previous; SIGNALS.len()] =
    [const { Previous { handler: AtomicUsize::new(libc::SIG_DFL), flags: AtomicI32::new(0) } };
        SIGNALS.len()];

static TOLD: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
#[cfg(target_os = "linux")]
static CONTAINS: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// The signals whose handler was installed: each is once. Who has installed another since has his
/// call ours, or has it replaced.
static INSTALLED: Mutex<[bool; SIGNALS.len()]> = Mutex::new([false; SIGNALS.len()]);

/// Has a function told of every fault from now on, once for the process.
pub(crate) fn watch(told: Told) -> io::Result<()> {
    if !TOLD.swap(told as *mut c_void, Ordering::Relaxed).is_null() {
        return Ok(());
    }
    (0..WATCHED).try_for_each(|at| install(at, false))
}

/// Has a function asked about every fault from now on, once for the process, before anybody is told.
/// Our handler then runs on the threads' alternate stacks, and so do those that it goes on to.
#[cfg(target_os = "linux")]
pub(crate) fn contain(contains: Contains) -> io::Result<()> {
    // Each of the first callers needs the handlers, and nobody's failure is another's success.
    CONTAINS.store(contains as *mut c_void, Ordering::Relaxed);
    (0..SIGNALS.len()).try_for_each(|at| install(at, true))
}

/// A signal of which our handler is not the process's: another was installed after it. Whether that
/// one goes on to ours nobody can say.
#[cfg(target_os = "linux")]
pub(crate) fn replaced() -> Option<c_int> {
    SIGNALS.into_iter().find(|signal| {
        action(*signal, None).is_ok_and(|now| now.sa_sigaction != on_fault as *const () as usize)
    })
}

fn install(at: usize, on_alternate_stack: bool) -> io::Result<()> {
    let (signal, previous) = (SIGNALS[at], &PREVIOUS[at]);
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut before = action(signal, None)?;
    let stack = if on_alternate_stack { libc::SA_ONSTACK } else { 0 };
    if installed[at] {
        // A handler that came after ours may go on to ours: to go on to it in turn would never end.
        if before.sa_sigaction == on_fault as *const () as usize && before.sa_flags & stack != stack {
            before.sa_flags |= stack;
            action(signal, Some(&before))?;
        }
        return Ok(());
    }
    loop {
        previous.handler.store(before.sa_sigaction, Ordering::Relaxed);
        previous.flags.store(before.sa_flags, Ordering::Relaxed);
        let mut ours = before;
        ours.sa_sigaction = on_fault as *const () as usize;
        ours.sa_flags = stack
            | if is_handler(before.sa_sigaction) {
                before.sa_flags & !(libc::SA_RESETHAND | libc::SA_NODEFER) | libc::SA_SIGINFO
            } else {
                // Stacks of fibers and of other languages' threads may have no room for the kernel's
                // frame.
                libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART
            };
        let replaced = action(signal, Some(&ours))?;
        if replaced.sa_sigaction == before.sa_sigaction {
            installed[at] = true;
            return Ok(());
        }
        // Somebody else's has come in between: it is the one to be called.
        before = replaced;
    }
}

fn is_handler(action: usize) -> bool {
    action != libc::SIG_DFL && action != libc::SIG_IGN
}

fn action(signal: c_int, new: Option<&libc::sigaction>) -> io::Result<libc::sigaction> {
    let mut old = MaybeUninit::zeroed();
    // SAFETY: null or an action, and room for one. A new one is `on_fault`, which may run at any
    // time, or the default.
    match unsafe { libc::sigaction(signal, new.map_or(ptr::null(), ptr::from_ref), old.as_mut_ptr()) } {
        // SAFETY: written by the kernel.
        0 => Ok(unsafe { old.assume_init() }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives a signal its default action. Async-signal-safe.
fn set_default(signal: c_int) {
    // SAFETY: plain numbers: the default action, no flags, an empty set.
    let default: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    // It is a signal that can have an action, since it had ours: this cannot fail.
    let _ = action(signal, Some(&default));
}

/// A fault, or a signal that somebody sent. Only what is async-signal-safe; errno is as it was.
extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel's record.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    let is_fault = (1..=LAST_CODE).contains(&code);
    if is_fault {
        // SAFETY: the calling thread's own.
        let errno = unsafe { errno() };
        // SAFETY: as above.
        let before = unsafe { *errno };
        #[cfg(target_os = "linux")]
        // SAFETY: what the kernel gave this handler, which alone has it.
        if unsafe { is_contained(signal, info, context) } {
            // SAFETY: as above.
            unsafe { *errno = before };
            return;
        }
        // SAFETY: the kernel's context.
        let counter = unsafe { program_counter(context) };
        let fault = match signal {
            // What traps on x86-64 is behind.
            libc::SIGTRAP if cfg!(target_arch = "x86_64") => {
                Fault { address: counter.wrapping_sub(1), is_fetch: true, is_unmapped: false }
            }
            libc::SIGTRAP | libc::SIGILL => Fault { address: counter, is_fetch: true, is_unmapped: false },
            _ => {
                let is_unmapped = signal == libc::SIGSEGV && code == UNMAPPED;
                Fault { address, is_fetch: address == counter, is_unmapped }
            }
        };
        let told = TOLD.load(Ordering::Relaxed);
        if !told.is_null() && signal != libc::SIGFPE {
            // SAFETY: `watch` stored a function of this type.
            let told: Told = unsafe { std::mem::transmute(told) };
            told(&fault);
        }
        // SAFETY: as above.
        unsafe { *errno = before };
    }
    // SAFETY: what the kernel gave this handler.
    unsafe { pass_on(signal, info, context, is_fault) };
}

/// Asks whether a fault is contained.
///
/// # Safety
///
/// The arguments are those of a handler, and nobody else has them now.
#[cfg(target_os = "linux")]
unsafe fn is_contained(signal: c_int, info: *const libc::siginfo_t, context: *mut c_void) -> bool {
    let contains = CONTAINS.load(Ordering::Relaxed);
    if contains.is_null() {
        return false;
    }
    // SAFETY: `contain` stored a function of this type; the caller promises the rest.
    unsafe {
        let contains: Contains = std::mem::transmute(contains);
        contains(&mut Trap::new(signal, info, context))
    }
}

/// What would have been without the handler.
///
/// # Safety
///
/// The arguments are those of a handler.
unsafe fn pass_on(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void, is_fault: bool) {
    let Some(at) = SIGNALS.iter().position(|ours| *ours == signal) else { return };
    let flags = PREVIOUS[at].flags.load(Ordering::Relaxed);
    let handler = match flags & libc::SA_RESETHAND {
        0 => PREVIOUS[at].handler.load(Ordering::Relaxed),
        _ => PREVIOUS[at].handler.swap(libc::SIG_DFL, Ordering::Relaxed),
    };
    match handler {
        libc::SIG_IGN if !is_fault => {}
        // A fault cannot be ignored: the kernel ends the process.
        libc::SIG_DFL | libc::SIG_IGN => {
            set_default(signal);
            // SAFETY: the caller has the information from the kernel.
            unsafe { end_as(signal, info, is_fault) };
        }
        handler => {
            if flags & libc::SA_NODEFER != 0 {
                unblock(signal);
            }
            // SAFETY: a handler that was installed takes these arguments, or the first of them. The
            // mask is its own.
            unsafe {
                let handler: extern "C-unwind" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
                    std::mem::transmute(handler);
                handler(signal, info, context);
            }
        }
    }
}

fn unblock(signal: c_int) {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the set is written before it is read. It fails for no signal that there is.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut());
    }
}
