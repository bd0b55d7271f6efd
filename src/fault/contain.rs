//! Guarded calls: code of a module is called with a recovery point, and if it fails the call ends by
//! an error. `catch` has what is done about faults.

use std::ffi::c_void;
use std::io;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::call::frame::{end_frames, open_frames};
use crate::error::{Failure, FailureCause, FailurePlace};
use crate::host::loaded;
use crate::platform::os::guard::{self, ExceptionKind, Prepared};

/// Has faults in guarded calls contained from now on.
fn arm() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    super::catch::arm()?;
    Ok(())
}

/// Runs code of a module with a recovery point. `target` is the function that it calls.
///
/// What is left when it fails is not dropped: `call` owns nothing that must be.
///
/// # Safety
///
/// `call` does nothing but call a module's function.
#[inline(always)]
pub unsafe fn guarded<R>(target: *const (), call: impl FnOnce() -> R) -> Result<R, Failure> {
    struct Call<F, R> {
        function: MaybeUninit<F>,
        result: MaybeUninit<R>,
    }
    unsafe extern "C-unwind" fn run<R, F: FnOnce() -> R>(call: *mut c_void) {
        let call = call.cast::<Call<F, R>>();
        // SAFETY: `guarded` gives it, once.
        unsafe {
            let function = (*call).function.assume_init_read();
            (*call).result.write(function());
        }
    }
    fn run_of<R, F: FnOnce() -> R>(_: &F) -> guard::Run {
        run::<R, F>
    }
    if Prepared::get().is_none() {
        prepare().map_err(|error| unguarded(&error, target))?;
    }
    // Relaxed: who does not see it yet enters the version as if it had been earlier.
    if QUARANTINED.load(Ordering::Relaxed) != 0 && is_quarantined(target) {
        return Err(quarantined(target));
    }
    let depth = open_frames();
    let run = run_of::<R, _>(&call);
    let mut call =
        ManuallyDrop::new(Call { function: MaybeUninit::new(call), result: MaybeUninit::uninit() });
    // SAFETY: the thread is prepared. The caller promises what `call` does, which may be left: `run`
    // has nothing to drop.
    let outcome = unsafe { guard::enter(run, (&raw mut *call).cast()) };
    if outcome.why == guard::RETURNED {
        // SAFETY: it returned, and so has written it.
        return Ok(unsafe { call.result.assume_init_read() });
    }
    // SAFETY: what had opened them since was left with all the rest.
    unsafe { end_frames(depth) };
    Err(failed(&outcome, target))
}

#[cold]
fn prepare() -> io::Result<()> {
    arm()?;
    Prepared::make()
}

#[cold]
fn unguarded(error: &io::Error, target: *const ()) -> Failure {
    Failure::new(FailureCause::Unguarded { reason: error.to_string() }, place_of(target.addr()))
}

#[cold]
fn quarantined(target: *const ()) -> Failure {
    Failure::new(FailureCause::Quarantined, place_of(target.addr()))
}

/// What has become of a call that did not return.
#[cold]
fn failed(outcome: &guard::Outcome, target: *const ()) -> Failure {
    let mut place = target.addr();
    let cause = match outcome.why {
        guard::FAULT => {
            let caught = Prepared::get().expect("it was there when the call began").caught();
            place = caught.place;
            FailureCause::Fault {
                signal: caught.signal,
                code: caught.code,
                address: caught.address,
                is_stack_overflow: caught.is_stack_overflow,
            }
        }
        guard::ABORT => FailureCause::Aborted,
        guard::EXIT => FailureCause::Exited { status: outcome.word as i32 },
        _ => {
            // SAFETY: the recovery point's landing pad was given it, and nobody else has it.
            match unsafe { guard::end_exception(outcome.word) } {
                ExceptionKind::Cpp => FailureCause::Exception,
                ExceptionKind::Rust => FailureCause::Panic,
                ExceptionKind::Other => FailureCause::ForeignException,
            }
        }
    };
    quarantine(place);
    let failure = Failure::new(cause, place_of(place));
    tracing::error!("{failure}");
    failure
}

/// Where an address is, in words that outlive the version.
fn place_of(address: usize) -> Option<FailurePlace> {
    loaded::find(address as u64, |object| {
        let name = object.name_at(address as u64);
        FailurePlace {
            module: object.file.module().to_owned(),
            version: object.file.version(),
            path: object.file.as_path().to_owned(),
            symbol: name.map(|(name, _)| String::from_utf8_lossy(name).into_owned()),
            offset: name.map_or(0, |(_, offset)| offset),
            file_address: (address as u64).wrapping_sub(object.bias),
        }
    })
}

/// How many versions have failed and are there.
static QUARANTINED: AtomicUsize = AtomicUsize::new(0);

/// Where they begin.
static FAILED: Mutex<Vec<u64>> = Mutex::new(Vec::new());

fn base_of(address: usize) -> Option<u64> {
    loaded::find(address as u64, |object| object.base)
}

/// Whether the version that an address is in has failed.
#[cold]
fn is_quarantined(target: *const ()) -> bool {
    let Some(base) = base_of(target.addr()) else { return false };
    FAILED.lock().unwrap_or_else(PoisonError::into_inner).contains(&base)
}

/// Notes that the version that an address is in has failed.
fn quarantine(address: usize) {
    let Some(base) = base_of(address) else { return };
    let mut failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner);
    if !failed.contains(&base) {
        failed.push(base);
        QUARANTINED.store(failed.len(), Ordering::Relaxed);
    }
}

/// A version is about to go: another may have its place.
pub(crate) fn forget(base: usize) {
    let mut failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner);
    failed.retain(|other| *other != base as u64);
    QUARANTINED.store(failed.len(), Ordering::Relaxed);
}
