//! What stopping threads is about, on every system.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::time::Duration;

use crate::platform::os::stop::thread_pointer;

/// How many threads are stopped at once.
pub(crate) const BATCH: usize = 256;

/// Where the state of a thread is that does not run.
#[derive(Clone)]
pub(crate) struct Stopped {
    /// Memory that has its registers.
    pub(crate) registers: Range<usize>,
    pub(crate) stack_pointer: usize,
    /// So many bytes below the stack pointer are in use as well.
    pub(crate) red_zone: usize,
    /// In one mapping with the stack, above all that is in use of it: the thread pointer on Linux,
    /// on macOS the stack's end.
    pub(crate) thread_pointer: usize,
    /// The thread was in a handler on its alternate stack: the frames that this interrupted are on
    /// another.
    pub(crate) in_handler: bool,
}

/// What threads do while they are stopped.
pub(crate) trait Look: Send + Sync + 'static {
    /// Called on the thread that is stopped, the `index`-th of those asked for. Must be
    /// async-signal-safe, and need little stack.
    fn look(&self, index: usize, thread: &Stopped);
}

/// What came of stopping a thread.
#[cfg_attr(target_os = "macos", allow(dead_code, reason = "every thread answers there"))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// It was stopped for so long, and looked.
    Looked(Duration),
    /// It is over.
    Gone,
    /// It runs no code of the process: [`Condition::NoCode`].
    NoCode,
    /// It could not be sent the signal: too many are pending (RLIMIT_SIGPENDING).
    Unsent,
    /// It did not look in time, and will not any more.
    Silent,
}

/// What keeps a thread from answering.
#[cfg_attr(target_os = "macos", allow(dead_code, reason = "every thread answers there"))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Condition {
    /// It runs no code of the process any more, or never did (the kernel's own of io_uring, glibc's
    /// for timers).
    NoCode,
    BlocksSignal,
    /// In a system call that no signal interrupts.
    Uninterruptible,
    /// By a debugger, or by SIGSTOP.
    Halted,
    /// Nothing that can be seen.
    Unknown,
}

/// Runs a function, with the state that the calling thread has outside it: what a caller relies on
/// after a call is on its stack and in the registers that are preserved across calls, and those are
/// pushed first.
pub(crate) fn with_registers_saved<F: FnOnce(&Stopped) -> T, T>(run: F) -> T {
    struct Call<F, T> {
        run: Option<F>,
        result: Option<std::thread::Result<T>>,
    }
    unsafe extern "C" fn enter<F: FnOnce(&Stopped) -> T, T>(call: *mut c_void, stack_pointer: usize) {
        // SAFETY: `call` below, which nobody else uses meanwhile.
        let call = unsafe { &mut *call.cast::<Call<F, T>>() };
        let stopped = Stopped {
            registers: stack_pointer..stack_pointer,
            stack_pointer,
            red_zone: 0,
            thread_pointer: thread_pointer(),
            // Who wants to know asks `is_in_handler`: most loads never do.
            in_handler: false,
        };
        // Nothing unwinds through `save_registers`.
        call.result = call.run.take().map(|run| catch_unwind(AssertUnwindSafe(|| run(&stopped))));
    }
    let mut call = Call { run: Some(run), result: None };
    // SAFETY: `enter` is given what it takes, and does not unwind.
    unsafe { save_registers(enter::<F, T>, (&raw mut call).cast()) };
    call.result.expect("it was called").unwrap_or_else(|panic| resume_unwind(panic))
}

/// Whether the calling thread is in a handler on its alternate stack.
pub(crate) fn is_in_handler() -> bool {
    let mut alternate = MaybeUninit::<libc::stack_t>::zeroed();
    // SAFETY: sigaltstack only writes, and not at all if it fails.
    let alternate = unsafe {
        libc::sigaltstack(ptr::null(), alternate.as_mut_ptr());
        alternate.assume_init()
    };
    alternate.ss_flags & libc::SS_ONSTACK != 0
}

/// Pushes the registers that are preserved across calls, and calls the function with the argument
/// and the stack pointer.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
unsafe extern "C" fn save_registers(
    function: unsafe extern "C" fn(*mut c_void, usize),
    argument: *mut c_void,
) {
    std::arch::naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 8",
        "mov rax, rdi",
        "mov rdi, rsi",
        "lea rsi, [rsp + 8]",
        "call rax",
        "add rsp, 48",
        "pop rbp",
        "ret",
    )
}

/// As above.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
unsafe extern "C" fn save_registers(
    function: unsafe extern "C" fn(*mut c_void, usize),
    argument: *mut c_void,
) {
    std::arch::naked_asm!(
        "stp x29, x30, [sp, #-160]!",
        "mov x29, sp",
        "stp x19, x20, [sp, #16]",
        "stp x21, x22, [sp, #32]",
        "stp x23, x24, [sp, #48]",
        "stp x25, x26, [sp, #64]",
        "stp x27, x28, [sp, #80]",
        "stp d8, d9, [sp, #96]",
        "stp d10, d11, [sp, #112]",
        "stp d12, d13, [sp, #128]",
        "stp d14, d15, [sp, #144]",
        "mov x9, x0",
        "mov x0, x1",
        "mov x1, sp",
        "blr x9",
        "ldp x29, x30, [sp], #160",
        "ret",
    )
}
