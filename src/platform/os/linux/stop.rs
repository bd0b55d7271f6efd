//! Stopping each thread of this process for a moment, by a signal: rt_tgsigqueueinfo(2), signal(7).
//!
//! A stopped thread looks at itself: its handler calls [`Look::look`] with the place of its
//! registers and its stack, and goes on when that returns. So how long it is stopped does not
//! depend on when the thread that asked gets to run.
//!
//! The signal is a real-time one that nobody uses: it has its default action, and of those it is
//! the one that the fewest threads block, the highest of several. Who waits for a signal without a
//! handler (sigwaitinfo, signalfd) has it blocked in all threads. A thread that blocks it is not
//! sent one before it does not any more: so no program ever receives one of ours, and none is left
//! pending. If the program takes the signal for itself, another is chosen. Its handler stays for
//! the life of the process: a thread may block it between the look and the sending, and the default
//! action of a signal that comes late would end the process. The handler runs on the
//! thread's alternate stack where there is one (SA_ONSTACK), because stacks of fibers and of other
//! languages' threads may have no room for the kernel's frame; it needs some 300 bytes itself.
//! System calls go on afterwards (SA_RESTART), but for those that signal(7) lists: poll, select,
//! epoll_wait, nanosleep, sigwaitinfo, System V semaphores and messages, sockets with a time-out.
//! They fail with EINTR.

use std::ffi::{c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use midflight_dispatch::Part;

use super::tasks::{self, condition_for, is_alive};
pub(crate) use super::tasks::{Memory, are_all, gettid, is_main, mappings, name, threads};
pub(crate) use crate::platform::os::posix::stop::{
    Answer, BATCH, Condition, Look, Stopped, is_in_handler, with_registers_saved,
};

/// How far below its stack pointer a function may keep values (System V ABI, x86-64: 3.2.2).
/// AArch64's ABI for Linux has none, but Apple's has as much, and its modules run here.
const RED_ZONE: usize = 128;

/// The threads of a pass, by their places in the list that was asked for.
static PARTS: [Part<Pass>; BATCH] = [const { Part::new() }; BATCH];

struct Pass {
    look: Arc<dyn Look>,
    /// How long each was stopped, in nanoseconds. Relaxed: written before the answer, and read
    /// after it.
    stopped: Box<[AtomicU64]>,
    /// How many are to answer yet: a futex.
    left: AtomicU32,
}

/// What the one pass at a time needs of those before.
struct Turn {
    pass: usize,
    signal: Option<c_int>,
    /// Passes that threads were in the midst of when they were given up.
    left_behind: Vec<LeftBehind>,
}

static TURN: Mutex<Turn> = Mutex::new(Turn { pass: 0, signal: None, left_behind: Vec::new() });

/// A pass that is over for who asked, but not for a thread that is looking: from `Box::into_raw`.
struct LeftBehind(*mut Pass);

// SAFETY: a pass is for threads to share (`Look` demands it), and this is the right to free it,
// which any thread may have.
unsafe impl Send for LeftBehind {}

impl LeftBehind {
    /// Whether a thread is still in it. Acquire: who looked has left the pass, but for the address
    /// that it wakes (`Pass::leave`).
    fn is_in_use(&self) -> bool {
        // SAFETY: it is not freed before this is dropped.
        unsafe { &*self.0 }.left.load(Ordering::Acquire) != 0
    }
}

impl Drop for LeftBehind {
    fn drop(&mut self) {
        // SAFETY: from Box::into_raw. All that took their parts have left, and nobody else will: it
        // is dropped only when it
        // is not in use.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

/// Stops each of these threads of the process, at most [`BATCH`], and not the calling one. Waits
/// until all have looked, or `until`.
pub(crate) fn stop(threads: &[i32], look: Arc<dyn Look>, until: Instant) -> io::Result<Vec<Answer>> {
    let mut turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let signal = turn.signal(threads)?;
    turn.left_behind.retain(LeftBehind::is_in_use);
    turn.pass += 1;
    let number = turn.pass;
    let parts = PARTS.get(..threads.len()).ok_or(io::ErrorKind::InvalidInput)?;
    let pass = Box::into_raw(Box::new(Pass {
        look,
        stopped: threads.iter().map(|_| AtomicU64::new(0)).collect(),
        left: AtomicU32::new(threads.len() as u32),
    }));
    // SAFETY: freed when nobody else uses it (`LeftBehind`): not before the end of this, which has
    // the turn.
    let running = unsafe { &*pass };
    let mut answers = vec![None; threads.len()];
    let mut sent = vec![false; threads.len()];
    let give_up = |index: usize| {
        let given_up = parts[index].give_up(number);
        if given_up {
            running.left.fetch_sub(1, Ordering::Relaxed);
        }
        given_up
    };
    // Asks a thread, unless it blocks the signal now.
    let ask = |index: usize, sent: &mut [bool], answers: &mut [Option<Answer>]| {
        let thread = threads[index];
        if tasks::blocks(thread, signal) {
            return;
        }
        sent[index] = true;
        if let Err(error) = send(thread, signal, (number << 16 | index) as u64) {
            // Nobody takes the part.
            give_up(index);
            let gone = error.raw_os_error() == Some(libc::ESRCH);
            answers[index] = Some(if gone { Answer::Gone } else { Answer::Unsent });
        }
    };
    for (index, part) in parts.iter().enumerate() {
        part.ask(number, pass);
        ask(index, &mut sent, &mut answers);
    }
    // A thread that is looking is done soon, unless the scheduler or a debugger keeps it: it has as
    // much time again.
    let limit = until.saturating_duration_since(Instant::now());
    for patience in [until, until + limit] {
        while running.wait(patience) {
            for (index, &thread) in threads.iter().enumerate() {
                if answers[index].is_some() || !parts[index].is_waiting(number) {
                    continue;
                }
                let never = if !is_alive(thread) {
                    Some(Answer::Gone)
                } else {
                    (condition_for(thread, Some(signal)) == Condition::NoCode).then_some(Answer::NoCode)
                };
                if never.is_some() && give_up(index) {
                    answers[index] = never;
                } else if !sent[index] {
                    ask(index, &mut sent, &mut answers);
                }
            }
        }
        for (index, answer) in answers.iter_mut().enumerate() {
            if answer.is_none() && give_up(index) {
                *answer = Some(Answer::Silent);
            }
        }
    }
    let answers = answers.into_iter().enumerate().map(|(index, answer)| {
        answer.unwrap_or_else(|| {
            if parts[index].has_answered(number) {
                return Answer::Looked(Duration::from_nanos(running.stopped[index].load(Ordering::Relaxed)));
            }
            parts[index].leave_behind(number);
            Answer::Silent
        })
    });
    let answers = answers.collect();
    // A thread that is in the midst of looking reads the pass whenever it goes on.
    turn.left_behind.push(LeftBehind(pass));
    turn.left_behind.retain(LeftBehind::is_in_use);
    Ok(answers)
}

impl Pass {
    /// Waits a while for those that are left; false if there are none, or it is late.
    fn wait(&self, until: Instant) -> bool {
        /// After so long it is seen whether a thread has ended without an answer.
        const WHILE: Duration = Duration::from_millis(1);
        // Acquire: see `stop`.
        let left = self.left.load(Ordering::Acquire);
        let time = until.saturating_duration_since(Instant::now()).min(WHILE);
        if left == 0 || time.is_zero() {
            return false;
        }
        let time = libc::timespec { tv_sec: 0, tv_nsec: time.subsec_nanos().into() };
        // SAFETY: the word and the time are there throughout. However it ends, the caller looks
        // again.
        unsafe {
            let wait = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
            libc::syscall(libc::SYS_futex, self.left.as_ptr(), wait, left, &raw const time);
        }
        true
    }

    /// A thread has looked.
    ///
    /// # Safety
    ///
    /// Called once by each thread that took its part, which does not use the pass afterwards.
    unsafe fn leave(pass: *const Self) {
        // SAFETY: it is there as long as this thread is counted. The address that is woken may have
        // gone since: that wakes nobody, or somebody who looks again, as every user of a futex
        // must.
        unsafe {
            let left = &raw const (*pass).left;
            // Release: before the pass is freed (`stop`).
            if (*left).fetch_sub(1, Ordering::Release) == 1 {
                libc::syscall(libc::SYS_futex, left, libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1);
            }
        }
    }
}

impl Turn {
    /// The signal. Another one is chosen in two cases. Somebody has put a handler in the place of
    /// ours. Or somebody waits for the signal without a handler: such a program has its threads
    /// block the signal (of the thread that waits the kernel says otherwise), and fewer threads
    /// block another one.
    fn signal(&mut self, asked: &[i32]) -> io::Result<c_int> {
        let ours = self.signal.filter(|&signal| {
            action(signal, None).is_ok_and(|now| now.sa_sigaction == handler().sa_sigaction)
        });
        if let Some(signal) = ours
            && !asked.iter().chain([&gettid()]).any(|&thread| tasks::blocks(thread, signal))
        {
            return Ok(signal);
        }
        // A thread that blocks most of them tells nothing of one.
        let realtime: u64 = (libc::SIGRTMIN()..=libc::SIGRTMAX()).map(tasks::bit).sum();
        let tells = |mask: &u64| 2 * (mask & realtime).count_ones() < realtime.count_ones();
        let masks: Vec<u64> = threads()?.into_iter().filter_map(tasks::blocked).filter(tells).collect();
        let blocking = |signal: c_int| masks.iter().filter(|&&mask| mask & tasks::bit(signal) != 0).count();
        let mut candidates: Vec<c_int> = (libc::SIGRTMIN()..=libc::SIGRTMAX()).rev().collect();
        // Stable: the highest first of those that as many block.
        candidates.sort_by_key(|&signal| blocking(signal));
        for signal in candidates {
            // None that is left is blocked by fewer.
            if let Some(ours) = ours
                && blocking(ours) <= blocking(signal)
            {
                return Ok(ours);
            }
            let is_free = |action: &libc::sigaction| action.sa_sigaction == libc::SIG_DFL;
            if !action(signal, None).is_ok_and(|now| is_free(&now)) {
                continue;
            }
            let before = action(signal, Some(&handler()))?;
            // Somebody else took it in between; or an emulator has no such signal, and says so only
            // now.
            let unusable = !is_free(&before)
                || send(gettid(), signal, u64::MAX).is_err_and(|e| e.raw_os_error() == Some(libc::EINVAL));
            if unusable {
                action(signal, Some(&before))?;
                continue;
            }
            self.signal = Some(signal);
            return Ok(signal);
        }
        ours.ok_or_else(|| {
            io::Error::other(
                "all real-time signals are in use: leave one to midflight, with its default action",
            )
        })
    }
}

/// The signal that passes use, once there was one.
#[cfg(test)]
pub(crate) fn signal() -> Option<c_int> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner).signal
}

fn handler() -> libc::sigaction {
    // SAFETY: plain numbers, for which 0 is right where nothing else is said.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = on_signal as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: the set is writable. No other handler makes the stop longer.
    unsafe { libc::sigfillset(&mut action.sa_mask) };
    action
}

fn action(signal: c_int, new: Option<&libc::sigaction>) -> io::Result<libc::sigaction> {
    let mut old = MaybeUninit::zeroed();
    // SAFETY: null or an action, and room for one. A new one is `handler`, which may run at any
    // time, or what was there before.
    match unsafe { libc::sigaction(signal, new.map_or(ptr::null(), ptr::from_ref), old.as_mut_ptr()) } {
        // SAFETY: written by the kernel.
        0 => Ok(unsafe { old.assume_init() }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `siginfo_t` of a queued signal: libc gives no way to fill it in.
#[repr(C)]
struct Queued {
    signal: c_int,
    errno: c_int,
    code: c_int,
    padding: c_int,
    pid: i32,
    uid: u32,
    value: u64,
    rest: [u64; 12],
}

const _: () = assert!(size_of::<Queued>() == size_of::<libc::siginfo_t>());

fn send(thread: i32, signal: c_int, value: u64) -> io::Result<()> {
    let (pid, code) = (std::process::id() as i32, libc::SI_QUEUE);
    // SAFETY: takes no pointers.
    let uid = unsafe { libc::getuid() };
    let info = Queued { signal, errno: 0, code, padding: 0, pid, uid, value, rest: [0; 12] };
    // SAFETY: a siginfo_t for a queued signal. It goes to a thread of this process, where
    // `on_signal` awaits it.
    match unsafe { libc::syscall(libc::SYS_rt_tgsigqueueinfo, pid, thread, signal, &raw const info) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The signal has come. Only what is async-signal-safe; nothing here fails, and errno is as it was.
extern "C" fn on_signal(_: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let began = now();
    // SAFETY: the calling thread's own.
    let errno = unsafe { *libc::__errno_location() };
    // SAFETY: the kernel's record, with sender and value if it was queued. Any number may be in
    // there: others can send it too.
    let (ours, value) = unsafe {
        let queued = (*info).si_code == libc::SI_QUEUE && (*info).si_pid() == libc::getpid();
        (queued, (*info).si_value().sival_ptr as u64)
    };
    let (number, index) = ((value >> 16) as usize, (value & 0xFFFF) as usize);
    // A signal of a pass that is over finds another number, or the part given up.
    let part = PARTS.get(index).filter(|_| ours);
    if let Some((part, pass)) = part.and_then(|part| Some((part, part.claim(number)?))) {
        // SAFETY: `stop` keeps the pass until this thread has left it, once. The context is the
        // kernel's.
        unsafe {
            (*pass).look.look(index, &interrupted(info as usize, context.cast()));
            (*pass).stopped[index].store(now().saturating_sub(began).max(1), Ordering::Relaxed);
            part.answered(number);
            Pass::leave(pass);
        }
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// Nanoseconds of a clock that only goes on.
fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: room for the time. It is async-signal-safe.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// What a handler interrupted.
///
/// The kernel pushes every register, general, vector and what else the processor has, onto the
/// stack that the handler runs on (`rt_sigframe` of arch/x86/include/asm/sigframe.h and
/// arch/arm64/kernel/signal.c). The lowest of what it pushes is the information or the context;
/// below are the handler's own frames.
///
/// # Safety
///
/// The addresses that a handler was given.
unsafe fn interrupted(info: usize, context: *const libc::ucontext_t) -> Stopped {
    // SAFETY: the caller has these addresses from the kernel, as a handler's arguments.
    let (machine, alternate) = unsafe { (&(*context).uc_mcontext, &(*context).uc_stack) };
    #[cfg(target_arch = "x86_64")]
    let stack_pointer = machine.gregs[libc::REG_RSP as usize] as usize;
    #[cfg(target_arch = "aarch64")]
    let stack_pointer = machine.sp as usize;
    let alternate = alternate.ss_sp as usize..alternate.ss_sp as usize + alternate.ss_size;
    let start = info.min(context as usize);
    Stopped {
        // The pushed frame is right below the interrupted one (and its red zone), or is all that is
        // on the alternate stack.
        registers: start..if alternate.contains(&start) { alternate.end } else { stack_pointer.max(start) },
        stack_pointer,
        red_zone: RED_ZONE,
        thread_pointer: thread_pointer(),
        // Stacks grow down from the end: an empty one's pointer is there.
        in_handler: stack_pointer > alternate.start && stack_pointer <= alternate.end,
    }
}

/// The calling thread's thread pointer.
pub(crate) fn thread_pointer() -> usize {
    let thread_pointer: usize;
    // SAFETY: reads the thread pointer; on x86-64 the ABI keeps a copy of it at %fs:0.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        std::arch::asm!("mov {}, qword ptr fs:[0]", out(reg) thread_pointer, options(pure, readonly, nostack));
        #[cfg(target_arch = "aarch64")]
        std::arch::asm!("mrs {}, tpidr_el0", out(reg) thread_pointer, options(pure, nomem, nostack));
    }
    thread_pointer
}

/// What keeps a thread from answering, as far as can be seen.
pub(crate) fn condition(thread: i32) -> Condition {
    condition_for(thread, TURN.lock().unwrap_or_else(PoisonError::into_inner).signal)
}
