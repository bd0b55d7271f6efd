//! Recovery points of threads: the words that say which is the innermost, the way in and back
//! (asm/*/guard.s), and the stack on which a thread's faults are handled.

use std::cell::{Cell, UnsafeCell};
use std::ffi::{c_int, c_void};
use std::io;
use std::mem::{MaybeUninit, offset_of};
use std::ptr::{self, NonNull};

use crate::platform::arch::context::{PAD_REGISTERS, RECORD, Record};
use crate::platform::os::linux::memory;
use crate::platform::os::posix::memory as pages;

/// A thread's words, as laid out in asm/*/guard.s.
#[repr(C)]
pub(crate) struct Words {
    /// The innermost recovery point; null if there is none.
    pub(crate) top: Cell<*mut Record>,
    /// What the thread has for faults; null before its first recovery point.
    prepared: Cell<*const Prepared>,
}

/// The calling thread's words. Async-signal-safe: they are in static thread-local storage.
#[inline(always)]
pub(crate) fn words() -> NonNull<Words> {
    let at: *mut Words;
    // SAFETY: reads the thread pointer and the GOT entry that holds the words' offset from it;
    // both are constant for a thread, so `pure` and `nomem` hold.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        std::arch::asm!(
            "mov {at}, qword ptr fs:[0]",
            "add {at}, qword ptr [rip + midflight_guards@GOTTPOFF]",
            at = out(reg) at,
            options(pure, nomem, nostack)
        );
        #[cfg(target_arch = "aarch64")]
        std::arch::asm!(
            "mrs {at}, tpidr_el0",
            "adrp {offset}, :gottprel:midflight_guards",
            "ldr {offset}, [{offset}, :gottprel_lo12:midflight_guards]",
            "add {at}, {at}, {offset}",
            at = out(reg) at,
            offset = out(reg) _,
            options(pure, nomem, nostack, preserves_flags)
        );
        NonNull::new_unchecked(at)
    }
}

/// How a call in a recovery point ended.
#[repr(C)]
pub(crate) struct Outcome {
    /// What the landing pad was given.
    pub(crate) word: usize,
    /// [`RETURNED`], or what the pad was reached by.
    pub(crate) why: usize,
}

pub(crate) const RETURNED: usize = 0;
/// A fault: [`Prepared::caught`] has it.
pub(crate) const FAULT: usize = 1;
/// An exception, whose address the word is.
pub(crate) const EXCEPTION: usize = 2;
/// The code has called abort(3), or what calls it.
pub(crate) const ABORT: usize = 3;
/// The code has called exit(3) with this word.
pub(crate) const EXIT: usize = 4;

/// What is run in a recovery point.
pub(crate) type Run = unsafe extern "C-unwind" fn(*mut c_void);

unsafe extern "C-unwind" {
    // A thread that is cancelled or ends is unwound through it.
    fn midflight_guard(run: Run, argument: *mut c_void, top: *const Cell<*mut Record>) -> Outcome;
}
unsafe extern "C" {
    fn midflight_land(record: *mut Record, word: usize, why: usize) -> !;
    fn midflight_landing();
}

macro_rules! assemble {
    ($arch:literal, $($more:tt)*) => {
        std::arch::global_asm!(
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/asm/", $arch, "/macros.s")),
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/asm/", $arch, "/guard.s")),
            "midflight_done",
            personality = sym personality,
            size = const RECORD,
            previous = const offset_of!(Record, previous),
            top = const offset_of!(Record, top),
            mark = const offset_of!(Record, mark),
            shadow = const offset_of!(Record, shadow),
            modes = const offset_of!(Record, modes),
            $($more)*
        );
    };
}
#[cfg(target_arch = "x86_64")]
assemble!("x86_64", options(att_syntax));
#[cfg(target_arch = "aarch64")]
assemble!("aarch64", saved = const offset_of!(Record, saved));

/// Calls `run(argument)` with a recovery point.
///
/// # Safety
///
/// `run` may be called so, and left at any instruction that is contained. The thread is prepared.
#[inline(always)]
pub(crate) unsafe fn enter(run: Run, argument: *mut c_void) -> Outcome {
    // SAFETY: the words are this thread's own, and are there as long as it is; the caller promises
    // the rest.
    unsafe { midflight_guard(run, argument, &raw const (*words().as_ptr()).top) }
}

/// Where an interrupted thread is sent, with the record's address as its stack pointer.
pub(crate) fn landing() -> usize {
    midflight_landing as *const () as usize
}

/// The calling thread's innermost recovery point, if `stack_pointer` is below it and it was not left
/// by a jump: null if not, or if this is a child of fork that has its parent's. Async-signal-safe.
pub(crate) fn innermost(stack_pointer: usize) -> *mut Record {
    // SAFETY: the words are this thread's own.
    let top = unsafe { words().as_ref() }.top.get();
    let is_here = || Prepared::get().is_some_and(|prepared| prepared.process.get() == process());
    // SAFETY: above the stack pointer, on the same stack: fibers are not switched in a guarded call.
    let is_whole = || unsafe { (*top).mark } == top.addr();
    match !top.is_null() && stack_pointer < top.addr() && is_here() && is_whole() {
        true => top,
        false => ptr::null_mut(),
    }
}

/// Whether [`leave`] would leave something: not in a handler on an alternate stack, which nobody
/// may jump out of.
pub(crate) fn is_open() -> bool {
    let here = 0_u8;
    let in_handler = || alternate_stack().is_ok_and(|stack| stack.ss_flags & libc::SS_ONSTACK != 0);
    !innermost((&raw const here).addr()).is_null() && !in_handler()
}

/// Leaves everything up to the thread's innermost recovery point. Returns if [none is
/// open](is_open).
///
/// # Safety
///
/// What is left may be left.
pub(crate) unsafe fn leave(word: usize, why: usize) {
    if is_open() {
        // SAFETY: the words are this thread's own. A recovery point that was not left: it is above
        // this function's frame. The caller promises the rest.
        unsafe { midflight_land(words().as_ref().top.get(), word, why) };
    }
}

fn process() -> libc::pid_t {
    // SAFETY: takes nothing.
    unsafe { libc::getpid() }
}

/// In a child of fork: the calls that its parent had under way are its parent's. New ones are its
/// own.
pub(crate) fn in_child() {
    // SAFETY: the words are this thread's own.
    unsafe { words().as_ref() }.top.set(ptr::null_mut());
    if let Some(prepared) = Prepared::get() {
        prepared.process.set(process());
    }
}

/// No recovery point counts until this is dropped: what is under way must not be left.
pub(crate) struct Closed(*mut Record);

impl Closed {
    pub(crate) fn new() -> Self {
        // SAFETY: the words are this thread's own.
        Self(unsafe { words().as_ref() }.top.replace(ptr::null_mut()))
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        // SAFETY: as above. Made and dropped on one thread, as a raw pointer is not Send.
        unsafe { words().as_ref() }.top.set(self.0);
    }
}

/// A fault as its handler has seen it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Caught {
    pub(crate) signal: c_int,
    pub(crate) code: c_int,
    /// Of the memory that was accessed, or of the instruction.
    pub(crate) address: usize,
    /// The instruction of a module's that failed, or called what failed.
    pub(crate) place: usize,
    /// It was the stack that had no more room.
    pub(crate) is_stack_overflow: bool,
}

/// What a thread has for faults.
pub(crate) struct Prepared {
    caught: UnsafeCell<Caught>,
    /// Whose thread it is: a child of fork has this memory, too.
    process: Cell<libc::pid_t>,
    /// The alternate stack, if it is ours.
    stack: Option<(NonNull<u8>, usize)>,
}

/// How much of an alternate stack our handler needs beside what the kernel puts there.
const HANDLER: usize = 4 << 10;
const STACK: usize = 64 << 10;

impl Prepared {
    /// The calling thread's.
    #[inline(always)]
    pub(crate) fn get() -> Option<&'static Self> {
        // SAFETY: the words are this thread's own; what is there stays until the thread ends, and
        // so does whoever asks.
        unsafe { words().as_ref().prepared.get().as_ref() }
    }

    /// Prepares the calling thread.
    ///
    /// # Errors
    ///
    /// If the system gives no memory, the thread's own alternate stack is too small, or the thread
    /// is ending.
    #[cold]
    pub(crate) fn make() -> io::Result<()> {
        let stack = alternate_stack()?;
        let least = minimum() + HANDLER;
        let own = if stack.ss_flags & libc::SS_DISABLE != 0 {
            Some(set_alternate_stack(least.next_multiple_of(STACK))?)
        } else if stack.ss_size < least {
            return Err(io::Error::other(format!(
                "the thread's alternate signal stack has {} bytes: give it {least}, or none (sigaltstack)",
                stack.ss_size
            )));
        } else {
            None
        };
        let prepared =
            Box::new(Self { caught: UnsafeCell::default(), process: Cell::new(process()), stack: own });
        OWNED
            .try_with(|owned| {
                // SAFETY: the words are this thread's own.
                unsafe { words().as_ref() }.prepared.set(&raw const *prepared);
                *owned.0.borrow_mut() = Some(prepared);
            })
            .map_err(|_| io::Error::other("the thread is ending"))
    }

    /// What the handler has seen last on this thread.
    pub(crate) fn caught(&self) -> Caught {
        // SAFETY: only this thread has it, and its handler writes it only in a recovery point,
        // which this is not.
        unsafe { *self.caught.get() }
    }

    /// In the handler.
    pub(crate) fn catch(&self, caught: Caught) {
        // SAFETY: only this thread has it, and nobody reads it in a recovery point.
        unsafe { *self.caught.get() = caught };
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        let Some((base, len)) = self.stack else { return };
        if alternate_stack().is_ok_and(|now| now.ss_sp.addr() == base.as_ptr().addr() + pages::page_size()) {
            // SAFETY: plain numbers.
            let none = libc::stack_t {
                ss_flags: libc::SS_DISABLE,
                ..unsafe { MaybeUninit::zeroed().assume_init() }
            };
            // SAFETY: no handler runs on it: this is not one.
            unsafe { libc::sigaltstack(&raw const none, ptr::null_mut()) };
        }
        // SAFETY: ours, and nobody's stack any more.
        unsafe { libc::munmap(base.as_ptr().cast(), len) };
    }
}

/// Takes what a thread has away when it ends.
struct Owned(std::cell::RefCell<Option<Box<Prepared>>>);

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the words are this thread's own.
        unsafe { words().as_ref() }.prepared.set(ptr::null());
    }
}

thread_local! {
    static OWNED: Owned = const { Owned(std::cell::RefCell::new(None)) };
}

/// How much the kernel puts on a stack for a handler, at most.
fn minimum() -> usize {
    const AT_MINSIGSTKSZ: libc::c_ulong = 51;
    // SAFETY: no preconditions. 0 if the kernel does not say.
    (unsafe { libc::getauxval(AT_MINSIGSTKSZ) } as usize).max(libc::MINSIGSTKSZ)
}

fn alternate_stack() -> io::Result<libc::stack_t> {
    let mut stack = MaybeUninit::uninit();
    // SAFETY: room for one, and nothing is changed.
    match unsafe { libc::sigaltstack(ptr::null(), stack.as_mut_ptr()) } {
        // SAFETY: written by the kernel.
        0 => Ok(unsafe { stack.assume_init() }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives the calling thread an alternate stack with an inaccessible page below. Returns the whole.
fn set_alternate_stack(size: usize) -> io::Result<(NonNull<u8>, usize)> {
    let page = pages::page_size();
    let len = size.next_multiple_of(page) + page;
    let base = pages::map_anywhere(len)?;
    memory::name(base, len, "midflight: faults");
    // SAFETY: all within what was just mapped.
    let set = unsafe {
        let stack = libc::stack_t { ss_sp: base.as_ptr().add(page).cast(), ss_flags: 0, ss_size: len - page };
        libc::mprotect(base.as_ptr().cast(), page, libc::PROT_NONE) == 0
            && libc::sigaltstack(&raw const stack, ptr::null_mut()) == 0
    };
    if set {
        return Ok((base, len));
    }
    let error = io::Error::last_os_error();
    // SAFETY: just mapped, and nobody's.
    unsafe { libc::munmap(base.as_ptr().cast(), len) };
    Err(error)
}

unsafe extern "C" {
    fn _Unwind_GetCFA(context: *mut c_void) -> usize;
    fn _Unwind_SetGR(context: *mut c_void, register: c_int, value: usize);
    fn _Unwind_SetIP(context: *mut c_void, value: usize);
}

/// Has exceptions that come to a recovery point go on at its landing pad (Itanium C++ ABI:
/// Exception Handling, 1.6). Threads that are cancelled or end pass through, and the recovery point
/// is over.
unsafe extern "C" fn personality(
    _version: c_int,
    actions: c_int,
    _class: u64,
    exception: *mut c_void,
    context: *mut c_void,
) -> c_int {
    const SEARCH: c_int = 1;
    const HANDLER: c_int = 4;
    const HANDLER_FOUND: c_int = 6;
    const INSTALL_CONTEXT: c_int = 7;
    const CONTINUE_UNWIND: c_int = 8;
    if actions & SEARCH != 0 {
        return HANDLER_FOUND;
    }
    // SAFETY: the context is the unwinder's, of a frame of midflight_guard, whose stack pointer is
    // its record's address.
    unsafe {
        if actions & HANDLER != 0 {
            _Unwind_SetGR(context, PAD_REGISTERS[0], exception.expose_provenance());
            _Unwind_SetGR(context, PAD_REGISTERS[1], EXCEPTION);
            _Unwind_SetIP(context, landing());
            return INSTALL_CONTEXT;
        }
        let record = ptr::with_exposed_provenance_mut::<Record>(_Unwind_GetCFA(context));
        if (*record).mark == record.addr() {
            (*(*record).top).set((*record).previous);
        }
    }
    CONTINUE_UNWIND
}

/// Ends an exception that was caught by a recovery point.
///
/// # Safety
///
/// It is one, and nobody uses it any more.
pub(crate) unsafe fn end_exception(exception: usize) -> ExceptionKind {
    unsafe extern "C" {
        fn _Unwind_DeleteException(exception: *mut c_void);
    }
    const CPP: u64 = u64::from_be_bytes(*b"GNUCC++\0");
    const CPP_DEPENDENT: u64 = u64::from_be_bytes(*b"GNUCC++\x01");
    const CLANG_CPP: u64 = u64::from_be_bytes(*b"CLNGC++\0");
    const RUST: u64 = u64::from_be_bytes(*b"MOZ\0RUST");
    let exception = ptr::with_exposed_provenance_mut::<c_void>(exception);
    // SAFETY: the caller's promise: it begins with its class (Itanium ABI, 1.2.1).
    match unsafe { exception.cast::<u64>().read() } {
        // Its standard library alone may free it, and counts it for ever.
        RUST => ExceptionKind::Rust,
        CPP | CPP_DEPENDENT | CLANG_CPP => {
            // As a catch clause would: it counts what is caught, and calls the destructor.
            let find = |name: &std::ffi::CStr| {
                // SAFETY: a name.
                let function = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
                (!function.is_null()).then_some(function)
            };
            if let (Some(begin), Some(end)) = (find(c"__cxa_begin_catch"), find(c"__cxa_end_catch")) {
                // SAFETY: the C++ ABI's functions, of these types.
                unsafe {
                    let begin: unsafe extern "C" fn(*mut c_void) -> *mut c_void = std::mem::transmute(begin);
                    let end: unsafe extern "C-unwind" fn() = std::mem::transmute(end);
                    begin(exception);
                    end();
                }
            } else {
                // SAFETY: the caller's promise.
                unsafe { _Unwind_DeleteException(exception) };
            }
            ExceptionKind::Cpp
        }
        _ => {
            // SAFETY: as above.
            unsafe { _Unwind_DeleteException(exception) };
            ExceptionKind::Other
        }
    }
}

/// Whose an exception is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ExceptionKind {
    Cpp,
    Rust,
    Other,
}
