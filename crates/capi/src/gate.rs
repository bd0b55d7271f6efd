//! Whether the runtime is running, who is in a call, and what a thread that is in one may not do.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};

use midflight::{ErrorKind, Runtime};

use crate::errors::{Failure, Outcome};
use crate::{log, options};

const STOPPED: usize = 0;
const RUNNING: usize = 1;
const STOPPING: usize = 2;
/// As [`RUNNING`], in checked mode: a state of its own, so that frames that are not checked look
/// for nothing else.
const CHECKED: usize = 3;
const STATE: usize = 3;
/// One call under way.
const CALL: usize = 4;

/// The state, and above it the number of calls under way.
static GATE: AtomicUsize = AtomicUsize::new(STOPPED);
/// Whether the state is [`RUNNING`], in a word of its own: frames are opened so often that taking
/// it out of [`GATE`] counts.
static UNCHECKED: AtomicBool = AtomicBool::new(false);
/// For who waits for the last call.
static LAST: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
static RUNTIME: OnceLock<Runtime> = OnceLock::new();
static RELOADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// In how many calls this thread is. No destructor: there to the thread's end.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// The runtime, if it is running.
#[inline]
pub(crate) fn running() -> Option<&'static Runtime> {
    // Relaxed: what the runtime has set up comes with RUNTIME, whose `get` acquires; who sees
    // RUNNING too early or too late has raced with the call that changed it, and the runtime itself
    // is there for good.
    match GATE.load(Ordering::Relaxed) & STATE {
        RUNNING => RUNTIME.get(),
        _ => None,
    }
}

/// Whether the runtime is running, and not in checked mode. All that frames need to know.
#[inline]
pub(crate) fn is_unchecked() -> bool {
    // Acquire: the partner is the Release in `open`. What the runtime has set up is there.
    UNCHECKED.load(Ordering::Acquire)
}

/// The runtime, if it is running in checked mode.
pub(crate) fn running_checked() -> Option<&'static Runtime> {
    // Relaxed: see `running`.
    RUNTIME.get().filter(|_| GATE.load(Ordering::Relaxed) & STATE == CHECKED)
}

fn is_running(gate: usize) -> bool {
    matches!(gate & STATE, RUNNING | CHECKED)
}

/// Whether this thread is in a function of the API that has not returned.
pub(crate) fn is_inside() -> bool {
    DEPTH.get() != 0
}

pub(crate) fn is_stopped() -> bool {
    GATE.load(Ordering::Relaxed) & STATE == STOPPED
}

pub(crate) fn is_stopping() -> bool {
    GATE.load(Ordering::Relaxed) & STATE == STOPPING
}

pub(crate) fn is_reloading() -> bool {
    RELOADS.load(Ordering::Relaxed) != 0
}

pub(crate) fn not_running() -> Failure {
    let message = "the runtime is not running: call runtime_init() first (runtime_shutdown() has stopped it, if it ran before)";
    Failure::new(ErrorKind::NotInitialized, message)
}

/// The runtime for what may be asked while it stops, too.
pub(crate) fn runtime() -> Outcome<&'static Runtime> {
    RUNTIME.get().filter(|_| !is_stopped()).ok_or_else(not_running)
}

/// The mark on a thread that it is in a call: in callbacks and module code.
pub(crate) struct Inside;

impl Inside {
    pub(crate) fn new() -> Self {
        DEPTH.set(DEPTH.get() + 1);
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// A call under way: shutdown waits for it.
pub(crate) struct Call {
    pub(crate) runtime: &'static Runtime,
    _inside: Inside,
}

impl Call {
    pub(crate) fn begin() -> Outcome<Self> {
        refuse_child()?;
        refuse_in_log()?;
        // Acquire: the partner is the Release in `open`; what init configured holds for this call.
        let entered = GATE.fetch_update(Ordering::Acquire, Ordering::Relaxed, |gate| {
            is_running(gate).then_some(gate + CALL)
        });
        match (entered, RUNTIME.get()) {
            (Ok(_), Some(runtime)) => Ok(Self { runtime, _inside: Inside::new() }),
            // It runs after it was started, and it stays.
            (Ok(_), None) => unreachable!("a runtime that runs was started"),
            // A callback of a call that is waited for, or a destructor of what is unloaded.
            (Err(gate), _) if gate & STATE == STOPPING && DEPTH.get() != 0 => {
                Err(Failure::new(ErrorKind::Busy, "the runtime is stopping: runtime_shutdown() was called"))
            }
            (Err(_), _) => Err(not_running()),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // Release: the partner is the Acquire load in `close`, which goes on only when this call is
        // over.
        let before = GATE.fetch_sub(CALL, Ordering::Release);
        if before & STATE == STOPPING && before / CALL == 1 {
            // Who waits has this lock between its look at GATE and its sleep: it looks after this,
            // or sleeps and is woken.
            drop(LAST.0.lock().unwrap_or_else(PoisonError::into_inner));
            LAST.1.notify_all();
        }
    }
}

/// A reload under way, for the status.
pub(crate) struct Reload;

impl Reload {
    pub(crate) fn new() -> Self {
        RELOADS.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Reload {
    fn drop(&mut self) {
        RELOADS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Starts the runtime itself, if this is the first time; and opens its journal, if it is to have one
/// and has not.
pub(crate) fn start() -> Outcome<&'static Runtime> {
    // Constructors of what is brought back run in here, which may not call back.
    let inside = Inside::new();
    let runtime = Runtime::start_with(options::config())?;
    drop(inside);
    Ok(RUNTIME.get_or_init(|| runtime))
}

/// Whether it was started at any time.
pub(crate) fn was_started() -> bool {
    RUNTIME.get().is_some()
}

/// Lets calls in. Only one thread at a time opens or closes.
pub(crate) fn open() {
    let state = if midflight::private::checks_are_on() { CHECKED } else { RUNNING };
    // Release, both: the partners are the Acquires in `Call::begin` and `is_unchecked`.
    let _ = GATE.fetch_update(Ordering::Release, Ordering::Relaxed, |gate| Some(gate & !STATE | state));
    UNCHECKED.store(state == RUNNING, Ordering::Release);
}

/// Lets nobody in any more, and waits until all are out.
pub(crate) fn close() -> Outcome {
    let closed = GATE.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |gate| {
        is_running(gate).then_some(gate & !STATE | STOPPING)
    });
    closed.map_err(|_| not_running())?;
    // Relaxed: who opens a frame now has raced with this, and has one.
    UNCHECKED.store(false, Ordering::Relaxed);
    let mut last = LAST.0.lock().unwrap_or_else(PoisonError::into_inner);
    // Acquire: the partner is the Release in the drop of a call.
    while GATE.load(Ordering::Acquire) / CALL != 0 {
        last = LAST.1.wait(last).unwrap_or_else(PoisonError::into_inner);
    }
    Ok(())
}

/// After [`close`], once all is stopped.
pub(crate) fn closed() {
    GATE.store(STOPPED, Ordering::Relaxed);
}

pub(crate) fn is_child() -> bool {
    midflight::private::is_child()
}

/// Before any lock: threads that the child has not got may have had it.
pub(crate) fn refuse_child() -> Outcome {
    match is_child() {
        true => Err(midflight::Error::Forked.into()),
        false => Ok(()),
    }
}

/// The log's callback is called with the log's lock, which every thread wants that has a line to
/// write, whatever lock of the runtime's it has: who asked the runtime for something there would
/// wait for such a thread.
pub(crate) fn refuse_in_log() -> Outcome {
    match log::is_writing() {
        true => {
            let message = "called from the log's callback, which may call get_timestamp_ns() and runtime_strerror() only:                            note the line there, and do the rest when the callback has returned";
            Err(Failure::new(ErrorKind::Busy, message))
        }
        false => Ok(()),
    }
}

/// For what waits for calls, threads or reloads to end: a thread that is in one of them would wait
/// for itself.
pub(crate) fn refuse_inside(function: &str) -> Outcome {
    refuse_child()?;
    if DEPTH.get() != 0 {
        let message = format!(
            "{function}() was called from a callback, or from a module's constructor or destructor: it would wait for the call that \
             this is part of. Call it when that has returned"
        );
        return Err(Failure::new(ErrorKind::Busy, message));
    }
    // Constructors and destructors run on the watching thread as well, where no call of ours is
    // under way.
    match RUNTIME.get() {
        Some(runtime) => runtime.holders().map(drop).map_err(Failure::from),
        None => Ok(()),
    }
}
