//! Passes over real threads. One test at a time: what one does to a thread, another's pass would
//! find.

#![cfg_attr(
    target_os = "macos",
    allow(dead_code, unused_imports, reason = "what only the tests with signals need")
)]

#[cfg(target_os = "linux")]
mod signals;
mod threads;

use std::arch::naked_asm;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::*;
use crate::platform::threads::is_emulated;
use threads::{Busy, Flags, Parked, Where, hold, without_alternate_stack};

/// Time enough for a machine that does much else.
const AMPLE: Duration = Duration::from_secs(2);

fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

static TEXT: [u8; 1 << 13] = [0; 1 << 13];

/// Text that nobody uses, for what `n` stands for: another for each thing that a test does, since a
/// stack that was a thread's before, with what that left there, is the next one's.
fn text(n: usize) -> Range<usize> {
    let start = (&raw const TEXT).addr() + 64 * n;
    start + 1..start + 63
}

/// An address in that text, in disguise, and never seen without.
fn hidden(n: usize) -> usize {
    black_box(!(&raw const TEXT).addr()) - (64 * n + 8)
}

fn pass(ranges: impl FnOnce() -> Vec<Range<usize>>) -> Scan {
    outside(|caller| scan(caller, &ranges(), AMPLE)).unwrap()
}

fn hits(scan: &Scan, thread: i32) -> Vec<usize> {
    assert!(scan.complete, "{scan:?}");
    assert_eq!(why(scan, thread), None, "{scan:?}");
    scan.hits.iter().filter(|hit| hit.thread.id == thread).map(|hit| hit.range).collect()
}

fn why(scan: &Scan, thread: i32) -> Option<Why> {
    scan.missed.iter().find(|(missed, _)| missed.id == thread).map(|&(_, why)| why)
}

#[test]
fn addresses_are_found_wherever_a_thread_has_them() {
    let _alone = alone();
    let mut fresh = 32..;
    for place in [Where::Stack, Where::RedZone, Where::Register, Where::Vector] {
        if place == Where::RedZone && cfg!(target_arch = "aarch64") {
            continue;
        }
        for (flip, alternate) in [(!0, true), (!0, false), (0, true), (0, false)] {
            let n = fresh.next().unwrap();
            let busy = Busy::new(move |flags| match alternate {
                true => hold(place, flags, hidden(n), flip),
                false => without_alternate_stack(|| hold(place, flags, hidden(n), flip)),
            });
            let scan = pass(|| vec![text(0), text(n), text(63)]);
            // The other way round it holds the disguise only.
            let expected: &[usize] = if flip == 0 { &[] } else { &[1] };
            assert_eq!(hits(&scan, busy.id), expected, "{place:?} {flip:#x} {alternate} {scan:?}");
            assert!(scan.threads >= 2 && scan.longest_stop > Duration::ZERO, "{scan:?}");
            assert_eq!(scan.is_clear(1), flip == 0 && !is_emulated(), "{scan:?}");
        }
    }
}

/// Calls the function with the argument from within itself, and nothing else.
#[unsafe(naked)]
unsafe extern "C" fn call_within(function: extern "C" fn(&Flags), argument: &Flags) {
    #[cfg(target_arch = "x86_64")]
    naked_asm!("push rbp", "mov rax, rdi", "mov rdi, rsi", "call rax", "pop rbp", "ret");
    #[cfg(target_arch = "aarch64")]
    naked_asm!(
        "stp x29, x30, [sp, #-16]!",
        "mov x2, x0",
        "mov x0, x1",
        "blr x2",
        "ldp x29, x30, [sp], #16",
        "ret"
    );
}

#[test]
fn a_thread_inside_code_is_found_by_its_return_address() {
    extern "C" fn park(flags: &Flags) {
        flags.is_ready();
        flags.wait();
    }
    let _alone = alone();
    // Its own address may be in a register; none in the middle can be.
    const MIDDLE: Range<usize> = 4..if cfg!(target_arch = "x86_64") { 11 } else { 24 };
    let code = || {
        let start = call_within as *const () as usize;
        vec![start + MIDDLE.start..start + MIDDLE.end, text(2)]
    };
    let busy = Busy::new(|flags| {
        // SAFETY: passes the argument on.
        unsafe { call_within(park, flags) }
    });
    assert_eq!(hits(&pass(code), busy.id), [0]);
    let id = busy.id;
    drop(busy);
    let after = pass(code);
    assert!(after.hits.is_empty() && hits(&after, id).is_empty(), "{after:?}");
}

#[test]
fn without_an_address_anywhere_text_is_clear() {
    let _alone = alone();
    let idle: Vec<_> = (0..3)
        .map(|_| {
            Busy::new(|flags| {
                flags.is_ready();
                flags.wait();
            })
        })
        .collect();
    let scan = pass(|| (64..128).map(text).collect());
    assert!(idle.iter().all(|busy| hits(&scan, busy.id).is_empty()), "{scan:?}");
    assert!(scan.threads > 3);
    if is_emulated() {
        assert_eq!(
            scan.missed.iter().map(|missed| missed.1).collect::<Vec<_>>(),
            [Why::BlocksSignal],
            "{scan:?}"
        );
    } else {
        assert!((0..64).all(|range| scan.is_clear(range)), "{scan:?}");
    }
}

#[test]
fn the_calling_thread_is_looked_at_outside_of_the_pass() {
    let _alone = alone();
    let this = stop::gettid();
    let inside = pass(|| {
        // It is on the stack, below.
        black_box(Cell::new(text(5).start));
        vec![text(5)]
    });
    assert_eq!(hits(&inside, this), [0_usize; 0]);
    let on_stack = black_box(Cell::new(text(6).start + 3));
    assert_eq!(hits(&pass(|| vec![text(5), text(6)]), this), [1]);
    black_box(on_stack.replace(0));
    #[cfg(target_arch = "x86_64")]
    fn with_register(run: extern "C" fn(), hidden: usize) {
        // SAFETY: a call, with a value in a register that it preserves, and the stack aligned as
        // before.
        unsafe {
            std::arch::asm!("not r13", "call {}", "xor r13d, r13d", in(reg) run, inout("r13") hidden => _, clobber_abi("C"));
        }
    }
    #[cfg(target_arch = "aarch64")]
    fn with_register(run: extern "C" fn(), hidden: usize) {
        // SAFETY: as above.
        unsafe {
            std::arch::asm!("mvn x22, x22", "blr {}", "mov x22, #0", in(reg) run, inout("x22") hidden => _, clobber_abi("C"));
        }
    }
    extern "C" fn in_register() {
        assert_eq!(hits(&pass(|| vec![text(7)]), stop::gettid()), [0]);
    }
    extern "C" fn not_in_register() {
        assert_eq!(hits(&pass(|| vec![text(8)]), stop::gettid()), [0_usize; 0]);
    }
    with_register(in_register, hidden(7));
    with_register(not_in_register, hidden(8) ^ 1 << 40);
}

#[cfg(target_os = "linux")]
#[test]
fn a_thread_that_blocks_the_signal_is_missed() {
    let _alone = alone();
    let busy = Busy::new(|flags| {
        signals::block_all();
        flags.is_ready();
        flags.wait();
    });
    let scan = pass(|| vec![text(10)]);
    assert_eq!(why(&scan, busy.id), Some(Why::BlocksSignal), "{scan:?}");
    assert!(!scan.is_clear(0) && scan.missed.iter().any(|(thread, _)| thread.name == "busy"), "{scan:?}");
    // The next does not wait for it.
    let begun = Instant::now();
    let again = pass(|| vec![text(10)]);
    assert_eq!(why(&again, busy.id), Some(Why::BlocksSignal), "{again:?}");
    assert!(begun.elapsed() < AMPLE / 2, "{:?}", begun.elapsed());
    // And its end takes the signals that wait for it along.
    drop(busy);
    let after = pass(|| vec![text(10)]);
    assert!(is_emulated() || after.missed.is_empty(), "{after:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_handler_on_an_alternate_stack_is_missed() {
    static FLAGS: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn handler(_: c_int) {
        let flags: *const Flags = ptr::with_exposed_provenance(FLAGS.load(Ordering::Relaxed));
        // SAFETY: the thread that raised the signal has them.
        let flags = unsafe { &*flags };
        flags.is_ready();
        flags.wait();
    }
    let _alone = alone();
    let busy = Busy::new(|flags| {
        FLAGS.store(ptr::from_ref(flags).expose_provenance(), Ordering::Relaxed);
        // The standard library gives its threads an alternate stack.
        // SAFETY: a handler of the right type, and plain numbers.
        unsafe {
            let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
            action.sa_sigaction = handler as *const () as usize;
            action.sa_flags = libc::SA_ONSTACK;
            assert_eq!(libc::sigaction(libc::SIGUSR2, &action, ptr::null_mut()), 0);
            libc::pthread_kill(libc::pthread_self(), libc::SIGUSR2);
        }
    });
    assert_eq!(why(&pass(|| vec![text(11)]), busy.id), Some(Why::InHandler));
}

#[test]
fn a_thread_on_another_stack_is_missed() {
    /// Spins on the stack that ends at `top`.
    #[unsafe(naked)]
    unsafe extern "C" fn on_stack(top: *mut c_void, flags: &Flags) {
        #[cfg(target_arch = "x86_64")]
        naked_asm!(
            "mov rax, rsp",
            "mov rsp, rdi",
            "mov dword ptr [rsi], 1",
            "2:",
            "pause",
            "cmp dword ptr [rsi + 4], 0",
            "je 2b",
            "mov rsp, rax",
            "ret"
        );
        #[cfg(target_arch = "aarch64")]
        naked_asm!(
            "mov x9, sp",
            "mov sp, x0",
            "mov w10, #1",
            "str w10, [x1]",
            "2:",
            "yield",
            "ldr w10, [x1, #4]",
            "cbz w10, 2b",
            "mov sp, x9",
            "ret"
        );
    }
    // Without an alternate stack the signal's frame goes where the thread is, with one it does not.
    for alternate in [true, false] {
        let _alone = alone();
        let busy = Busy::new(move |flags| {
            let mut stack = vec![0_u128; 1 << 14];
            // SAFETY: enough of a stack for a signal's frame.
            let mut run = || unsafe { on_stack(stack.as_mut_ptr_range().end.cast(), flags) };
            if alternate { run() } else { without_alternate_stack(run) }
        });
        let scan = pass(|| vec![text(12)]);
        assert_eq!(why(&scan, busy.id), Some(Why::OtherStack), "{scan:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn threads_that_run_no_code_are_not_missed() {
    let _alone = alone();
    // struct io_uring_params, whose third word is the flags: IORING_SETUP_SQPOLL makes a thread of
    // the kernel's.
    let mut parameters = [0_u32; 30];
    parameters[2] = 1 << 1;
    // SAFETY: room for the parameters.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 4, parameters.as_mut_ptr()) };
    if ring < 0 {
        println!("no io_uring here, so its threads are not tried: {}", std::io::Error::last_os_error());
        return;
    }
    let begun = Instant::now();
    let scan = pass(|| vec![text(15)]);
    assert!(scan.is_clear(0), "{scan:?}");
    assert!(begun.elapsed() < AMPLE / 2, "{:?}", begun.elapsed());
    assert!(pass(|| vec![text(15)]).is_clear(0));
    // SAFETY: ours.
    unsafe { libc::close(ring as c_int) };
}

#[test]
fn threads_that_come_and_go() {
    let _alone = alone();
    let over = Arc::new(AtomicBool::new(false));
    let spawners: Vec<_> = (0..2)
        .map(|_| {
            let over = over.clone();
            std::thread::spawn(move || {
                let mut spawned = 0_u32;
                while !over.load(Ordering::Relaxed) {
                    let threads: Vec<_> = (0..8).map(|n| std::thread::spawn(move || black_box(n))).collect();
                    spawned += threads.into_iter().map(|thread| thread.join().is_ok() as u32).sum::<u32>();
                }
                spawned
            })
        })
        .collect();
    let busy = Busy::new(|flags| hold(Where::Register, flags, hidden(20), !0));
    const PASSES: usize = 200;
    let (mut complete, mut times) = (0, Vec::with_capacity(PASSES));
    for _ in 0..PASSES {
        let begun = Instant::now();
        let scan = outside(|caller| scan(caller, &[text(20)], LIMIT)).unwrap();
        times.push(begun.elapsed());
        complete += usize::from(scan.complete);
        // Whatever else it saw: the text is in use.
        assert!(!scan.is_clear(0), "{scan:?}");
        let found = scan.hits.iter().any(|hit| hit.thread.id == busy.id);
        assert!(found || !scan.complete || why(&scan, busy.id).is_some(), "{scan:?}");
    }
    over.store(true, Ordering::Relaxed);
    let spawned: u32 = spawners.into_iter().map(|thread| thread.join().unwrap()).sum();
    times.sort_unstable();
    let (middle, slowest) = (times[PASSES / 2], times[PASSES - 1]);
    println!(
        "{PASSES} passes during {spawned} threads: {complete} complete, the middle one {middle:?}, the slowest {slowest:?}"
    );
    assert!(spawned > 100);
    // Twice the limit at most, and what the scheduler adds: to one of them that may be anything.
    assert!(middle < Duration::from_secs(5), "{middle:?}");
    assert_eq!(hits(&pass(|| vec![text(20)]), busy.id), [0]);
}

#[test]
fn four_and_fifty_threads() {
    let _alone = alone();
    for count in [4, 50] {
        let _parked = Parked::new(count);
        let measured = (0..51).map(|_| {
            let begun = Instant::now();
            let scan = pass(|| vec![text(21)]);
            assert!(scan.complete && scan.threads > count && scan.hits.is_empty(), "{scan:?}");
            (begun.elapsed(), scan.longest_stop)
        });
        let (mut passes, mut stops): (Vec<_>, Vec<_>) = measured.unzip();
        passes.sort();
        stops.sort();
        println!(
            "{count} threads: a pass takes {:?}, at most {:?}; its longest stop is {:?}, at most {:?}",
            passes[25], passes[50], stops[25], stops[50]
        );
    }
}

#[test]
fn more_threads_than_are_stopped_at_once() {
    let _alone = alone();
    let _parked = Parked::new(stop::BATCH + 10);
    let busy = Busy::new(|flags| hold(Where::Vector, flags, hidden(23), !0));
    // On a busy machine the time of one pass may not be enough for all of them.
    let mut passes = std::iter::repeat_with(|| pass(|| vec![text(23)])).take(30);
    let scan = passes.find(|scan| scan.threads > stop::BATCH + 10 && scan.complete).expect("one sees all");
    assert_eq!(hits(&scan, busy.id), [0]);
}

#[test]
fn a_deep_stack() {
    let _alone = alone();
    // The address is at the far end.
    let busy = Busy::new(|flags| {
        let outermost = black_box(Cell::new(!hidden(24)));
        let mut used = [0_usize; (1 << 20) / size_of::<usize>()];
        black_box(&mut used);
        flags.is_ready();
        flags.wait();
        black_box((outermost, used[0]));
    });
    let scan = pass(|| vec![text(24)]);
    assert_eq!(hits(&scan, busy.id), [0]);
    println!("with 1 MiB of stack in use: {:?}", scan.longest_stop);
}

/// A stack with memory tags, one variable on which has another than the stack pointer:
/// `-fsanitize=memtag-stack` makes such.
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
#[test]
fn a_stack_with_tags_is_read() {
    const PR_SET_TAGGED_ADDR_CTRL: c_int = 55;
    /// Tagged addresses, faults that are synchronous, all tags but 0.
    const CONTROL: usize = 1 | 1 << 1 | 0xfffe << 3;
    const PROT_MTE: c_int = 0x20;
    let _alone = alone();
    // SAFETY: getauxval(3) has no preconditions.
    if unsafe { libc::getauxval(libc::AT_HWCAP2) } & 1 << 18 == 0 {
        println!("no memory tags here");
        return;
    }
    let busy = Busy::new(|flags| {
        let local = black_box([0_u8; 128]);
        let page = crate::platform::os::memory::page_size();
        let place = (&raw const local).addr().next_multiple_of(16);
        let start = (&raw const local).addr() & !(page - 1);
        // SAFETY: this thread's own stack, on which nothing but the variable gets a tag, and loses
        // it again; the variable is not used.
        unsafe {
            assert_eq!(libc::prctl(PR_SET_TAGGED_ADDR_CTRL, CONTROL, 0, 0, 0), 0);
            let protection = libc::PROT_READ | libc::PROT_WRITE | PROT_MTE;
            assert_eq!(libc::mprotect(start as *mut c_void, 2 * page, protection), 0);
            // `irg x10, x9` and `st2g x10, [x10]`, then `st2g x9, [x9]`, as an assembler for older
            // processors takes them.
            std::arch::asm!(".inst 0x9adf112a", ".inst 0xd9a0094a", in("x9") place, out("x10") _);
            flags.is_ready();
            flags.wait();
            std::arch::asm!(".inst 0xd9a00929", in("x9") place);
        }
        black_box(local);
    });
    let scan = pass(|| vec![text(30)]);
    assert_eq!(hits(&scan, busy.id), [0; 0], "{scan:?}");
}
