//! Threads in the midst of something.

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::thread::JoinHandle;

use crate::platform::os::stop;

/// What a thread that waits says, and what it is told: `ready` and `go`, where the assembly finds
/// them.
#[repr(C)]
#[derive(Default)]
pub(super) struct Flags {
    ready: AtomicU32,
    go: AtomicU32,
}

impl Flags {
    pub(super) fn is_ready(&self) {
        // Release and Acquire: whoever sees it sees what the thread did before.
        self.ready.store(1, Ordering::Release);
    }

    pub(super) fn may_go(&self) -> bool {
        self.go.load(Ordering::Acquire) != 0
    }

    pub(super) fn wait(&self) {
        while self.go.load(Ordering::Acquire) == 0 {
            std::hint::spin_loop();
        }
    }
}

/// A thread that is in the middle of something until it is dropped.
pub(super) struct Busy {
    pub(super) id: i32,
    flags: Arc<Flags>,
    thread: Option<JoinHandle<()>>,
}

impl Busy {
    pub(super) fn new(run: impl FnOnce(&Flags) + Send + 'static) -> Self {
        let (flags, id) = (Arc::new(Flags::default()), Arc::new(AtomicI32::new(0)));
        let (theirs, its) = (flags.clone(), id.clone());
        let thread = std::thread::Builder::new().name("busy".into()).spawn(move || {
            its.store(stop::gettid(), Ordering::Relaxed);
            run(&theirs);
        });
        let thread = Some(thread.unwrap());
        while flags.ready.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        Self { id: id.load(Ordering::Relaxed), flags, thread }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.flags.go.store(1, Ordering::Release);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Where {
    Stack,
    RedZone,
    Register,
    Vector,
}

/// Spins with `hidden ^ flip` in one place, and nothing else of it anywhere.
#[cfg(target_arch = "x86_64")]
pub(super) fn hold(place: Where, flags: &Flags, hidden: usize, flip: usize) {
    use std::arch::asm;
    macro_rules! spin {
        ($before:literal, $after:literal) => {
            // SAFETY: writes what it names as written, the first flag, and memory below the stack
            // pointer, which it may.
            unsafe {
                asm!(
                    "xor r12, {flip}",
                    $before,
                    "mov dword ptr [{flags}], 1",
                    "2:",
                    "pause",
                    "cmp dword ptr [{flags} + 4], 0",
                    "je 2b",
                    $after,
                    "xor r12d, r12d",
                    inout("r12") hidden => _, flip = in(reg) flip, flags = in(reg) flags, out("xmm7") _,
                )
            }
        };
    }
    match place {
        Where::Stack => spin!("push r12; xor r12d, r12d", "pop r12"),
        Where::RedZone => spin!("mov [rsp - 128], r12; xor r12d, r12d", "mov [rsp - 128], r12"),
        Where::Register => spin!("", ""),
        Where::Vector => spin!("movq xmm7, r12; pslldq xmm7, 8; xor r12d, r12d", "pxor xmm7, xmm7"),
    }
}

/// As above.
#[cfg(target_arch = "aarch64")]
pub(super) fn hold(place: Where, flags: &Flags, hidden: usize, flip: usize) {
    use std::arch::asm;
    macro_rules! spin {
        ($before:literal, $after:literal) => {
            // SAFETY: writes what it names as written, the first flag, and memory below the stack
            // pointer, which it may.
            unsafe {
                asm!(
                    "eor x20, x20, {flip}",
                    $before,
                    "mov w9, #1",
                    "str w9, [{flags}]",
                    "2:",
                    "yield",
                    "ldr w9, [{flags}, #4]",
                    "cbz w9, 2b",
                    $after,
                    "mov x20, #0",
                    inout("x20") hidden => _, flip = in(reg) flip, flags = in(reg) flags, out("v9") _, out("x9") _,
                )
            }
        };
    }
    match place {
        Where::Stack => spin!("str x20, [sp, #-16]!; mov x20, #0", "add sp, sp, #16"),
        Where::RedZone => unreachable!("the ABI has none"),
        Where::Register => spin!("", ""),
        Where::Vector => spin!("ins v9.d[1], x20; mov x20, #0", "movi v9.2d, #0"),
    }
}

/// Takes the calling thread's alternate stack away, which the standard library gave it: signals
/// come where it is.
pub(super) fn without_alternate_stack(run: impl FnOnce()) {
    let none = libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
    let mut before = none;
    // SAFETY: the old one is as it was afterwards.
    unsafe { libc::sigaltstack(&none, &mut before) };
    run();
    // SAFETY: as above.
    unsafe { libc::sigaltstack(&before, ptr::null_mut()) };
}

/// Threads that are parked until this is dropped.
pub(super) struct Parked {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Parked {
    pub(super) fn new(count: usize) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let thread = |over: Arc<AtomicBool>| {
            move || {
                while !over.load(Ordering::Relaxed) {
                    std::thread::park();
                }
            }
        };
        let small = || std::thread::Builder::new().stack_size(1 << 16);
        let threads = (0..count).map(|_| small().spawn(thread(over.clone())).unwrap()).collect();
        Self { over, threads }
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}
