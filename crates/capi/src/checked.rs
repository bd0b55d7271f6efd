//! Frames in checked mode: who has opened which, and when. A frame that is begun while it is open,
//! one whose memory was used for something else, one that stays open for long, and one that another
//! thread ends, are reported.
//!
//! A frame that is checked has a seal of its own, and the gate a state: so frames that are not come
//! to nothing in here.

use std::collections::{BTreeMap, HashMap};
use std::ffi::c_int;
use std::num::NonZero;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use midflight::{Checks, Frame, private};

use crate::frames::{self, Sealed, no_runtime, own_seal, seal, seal_as, seal_of, wrong_frame};
use crate::gate;
use crate::runtime_types::RuntimeFrame;

/// Relaxed, both: `runtime_init` is called after what they are about.
static DEBUG_BUILD: AtomicBool = AtomicBool::new(false);
static ASKED: AtomicU8 = AtomicU8::new(UNASKED);
const UNASKED: u8 = 2;

/// A file of the program that starts the runtime is compiled without optimisation and with
/// assertions.
pub(crate) fn note_debug_build() {
    DEBUG_BUILD.store(true, Ordering::Relaxed);
}

/// The program says whether.
pub(crate) fn ask(check: bool) {
    ASKED.store(check.into(), Ordering::Relaxed);
}

/// What the runtime is to do.
pub(crate) fn wanted() -> Checks {
    let on = match ASKED.load(Ordering::Relaxed) {
        UNASKED => DEBUG_BUILD.load(Ordering::Relaxed),
        asked => asked != 0,
    };
    if on { Checks::On } else { Checks::Off }
}

/// A frame that is open.
struct Open {
    /// Which it is of all that there were.
    number: u64,
    thread: usize,
    since: Instant,
}

/// A thread with open frames.
struct Opener {
    name: String,
    depth: usize,
    /// Of the outermost.
    generation: u64,
    since: Instant,
    reported: bool,
}

/// A thread that has so many frames open has forgotten to end some.
const DEEP: usize = 64;

#[derive(Default)]
struct All {
    opened: u64,
    /// By address.
    frames: BTreeMap<usize, Open>,
    threads: HashMap<usize, Opener>,
}

static ALL: Mutex<Option<All>> = Mutex::new(None);

fn lock() -> MutexGuard<'static, Option<All>> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

fn all<'l>(lock: &'l mut MutexGuard<'static, Option<All>>) -> &'l mut All {
    lock.get_or_insert_default()
}

impl All {
    fn name(&self, thread: usize) -> String {
        self.threads.get(&thread).map_or_else(|| "a thread that is over".into(), |opener| opener.name.clone())
    }

    /// Forgets a frame.
    fn close(&mut self, address: usize) {
        let Some(Open { thread, .. }) = self.frames.remove(&address) else { return };
        let Some(opener) = self.threads.get_mut(&thread) else { return };
        opener.depth -= 1;
        if opener.depth == 0 {
            self.threads.remove(&thread);
        }
    }

    /// Notes a frame. Returns what there is to report.
    fn open(&mut self, address: usize, thread: usize, generation: u64) -> Option<String> {
        let now = Instant::now();
        self.opened += 1;
        self.frames.insert(address, Open { number: self.opened, thread, since: now });
        let opener = self.threads.entry(thread).or_insert_with(|| Opener {
            name: private::this_thread(),
            depth: 0,
            generation,
            since: now,
            reported: false,
        });
        opener.depth += 1;
        let age = now - opener.since;
        let is_long = opener.depth > 1 && age >= private::longest_frame();
        if opener.reported || !is_long && opener.depth < DEEP {
            return None;
        }
        opener.reported = true;
        let Opener { name, depth, generation, .. } = opener;
        Some(format!(
            "{name} has been in generation {generation} for {:.1} s, and has {depth} frames open, one in another: until the \
             outermost ends it sees no reload. Is there a way past runtime_frame_end()?",
            age.as_secs_f64()
        ))
    }
}

/// As [`frames::opener`], of a frame that is checked: its seal is the other's complement.
///
/// # Safety
///
/// As for [`frames::opener`].
pub(crate) unsafe fn opener(frame: *const Sealed, seal: u64) -> Option<usize> {
    // SAFETY: the caller's promise is the one that it asks for.
    unsafe { frames::opener(frame, !seal) }
}

/// Begins a frame if the runtime is in checked mode; else it does not run.
///
/// # Safety
///
/// A place for a frame.
#[cold]
#[inline(never)]
pub(crate) unsafe extern "C" fn begin(frame: *mut RuntimeFrame) -> c_int {
    let Some(runtime) = gate::running_checked() else { return no_runtime() };
    // SAFETY: the caller promises that this is a place for a frame.
    unsafe { put(frame, runtime.frame()) }
}

/// Puts a frame of this thread where C wants it, unless one is open there.
///
/// # Safety
///
/// A place for a frame.
pub(crate) unsafe fn put(to: *mut RuntimeFrame, frame: Frame) -> c_int {
    // A thread that the child has not got may have had the lock.
    if gate::is_child() {
        // SAFETY: the caller promises that this is a place for a frame.
        unsafe { seal(to, frame) };
        return 0;
    }
    let (at, this) = (to.cast::<Sealed>(), frame.thread().get());
    let mut lock = lock();
    let all = all(&mut lock);
    let mut reports = Vec::new();
    if let Some(Open { thread, since, .. }) = all.frames.get(&at.addr()) {
        let (name, age) = (all.name(*thread), since.elapsed().as_secs_f64());
        // SAFETY: the caller promises that this is a place for a frame, and so for its seal.
        // Relaxed: the lock orders it, where it is a seal.
        let is_open = unsafe { (*at).seal.load(Ordering::Relaxed) } == !seal_of(at, *thread);
        if is_open {
            drop(lock);
            let what = format!(
                "a frame was begun that is open: {name} opened it {age:.1} s ago and has not ended it. End each frame, on every way out \
                 of the code that began it"
            );
            private::report(format_args!("{what}"));
            return wrong_frame(&what);
        }
        reports.push(format!(
            "a frame that {name} opened {age:.1} s ago was not ended before its memory was used again"
        ));
        // The thread is in it for ever: what it is inside stays counted.
        all.frames.remove(&at.addr());
    }
    reports.extend(all.open(at.addr(), this, frame.generation()));
    // SAFETY: the caller promises that this is a place for a frame.
    unsafe { seal_as(at, frame, !seal_of(at, this)) };
    drop(lock);
    reports.iter().for_each(|report| private::report(format_args!("{report}")));
    0
}

/// Forgets so many frames, the latest that this thread has opened: it has jumped out of them.
pub(crate) fn forget(count: usize) {
    if gate::running_checked().is_none() || gate::is_child() {
        return;
    }
    let this = private::this_opener().map_or(0, NonZero::get);
    let mut lock = lock();
    let all = all(&mut lock);
    for _ in 0..count {
        let own = all.frames.iter().filter(|(_, open)| open.thread == this);
        // Frames that Rust opened are not among them.
        let Some((&latest, _)) = own.max_by_key(|(_, open)| open.number) else { break };
        all.close(latest);
    }
}

/// Ends a frame that is checked, or says what is wrong with it.
///
/// # Safety
///
/// It is a `runtime_frame_t` with this seal, which is not that of a frame of this thread's that is
/// not checked.
#[cold]
#[inline(never)]
pub(crate) unsafe extern "C" fn end(frame: *mut Sealed, seal: u64) -> c_int {
    // SAFETY: as the caller promises.
    match unsafe { opener(frame, seal) } {
        Some(_) if !seal == own_seal(frame) => {
            if !gate::is_child() {
                all(&mut lock()).close(frame.addr());
            }
            // SAFETY: this thread sealed a frame at this address and has not ended it.
            unsafe {
                (*frame).seal.store(0, Ordering::Relaxed);
                ptr::drop_in_place(&raw mut (*frame).frame);
            }
            0
        }
        Some(opener) if !gate::is_child() => {
            let opener = all(&mut lock()).name(opener);
            let what = format!(
                "{} was to end a frame that {opener} has open: a frame ends on the thread that runtime_frame_begin() opened it on",
                private::this_thread()
            );
            private::report(format_args!("{what}"));
            wrong_frame(&what)
        }
        _ => wrong_frame(
            "the frame is not open, or another thread's: end it once, where and on the thread that runtime_frame_begin() opened it",
        ),
    }
}
