//! Frames, as C has them.

use std::cell::Cell;
use std::ffi::c_int;
use std::mem::offset_of;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use midflight::{ErrorKind, Frame};

use crate::errors::{Failure, failed};
use crate::runtime_types::RuntimeFrame;
use crate::{checked, gate};

/// What `runtime_frame_t` holds: the frame is there while the seal is whole.
#[repr(C)]
pub(crate) struct Sealed {
    /// [`seal_of`] the frame's address, and the thread's number; 0 if it is not open. Of a frame that is [`checked`], another. An atomic, because a thread
    /// that joins looks at it.
    pub(crate) seal: AtomicU64,
    pub(crate) frame: Frame,
}

const _: () = assert!(
    size_of::<Sealed>() == size_of::<RuntimeFrame>() && align_of::<Sealed>() == align_of::<RuntimeFrame>()
);
const _: () = assert!(offset_of!(Sealed, seal) == 0);

thread_local! {
    /// This thread's number, from 1: no other ever has it. 0 until it is asked for. No destructor: there to the thread's end.
    static THREAD: Cell<u64> = const { Cell::new(0) };
}
static THREADS: AtomicU64 = AtomicU64::new(0);

#[inline]
pub(crate) fn thread() -> u64 {
    match THREAD.get() {
        0 => number_thread(),
        number => number,
    }
}

#[cold]
#[inline(never)]
fn number_thread() -> u64 {
    // Relaxed: only that numbers differ counts. Who knows of a thread's frame has its number from the frame's seal, and then sees
    // here that it was given out: coherence of one variable, and the seal's Acquire.
    let number = THREADS.fetch_add(1, Ordering::Relaxed) + 1;
    THREAD.set(number);
    number
}

/// Whether a thread has had this number.
pub(crate) fn is_thread(number: u64) -> bool {
    // Relaxed: see `number_thread`.
    (1..=THREADS.load(Ordering::Relaxed)).contains(&number)
}

/// What a frame's seal is with thread 0. Multiplied, so that frames at neighbouring addresses differ in all bits: a copy's seal is not one
/// of another thread's.
#[inline]
pub(crate) fn seal_of(frame: *const Sealed) -> u64 {
    (frame.addr() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x6d69_6466_6c69_6768
}

// Out of line, so that frames that begin and end as they should have few registers to save.
#[cold]
#[inline(never)]
pub(crate) fn no_runtime() -> c_int {
    failed(gate::not_running())
}

#[cold]
#[inline(never)]
fn bad_frame(frame: *const RuntimeFrame) -> c_int {
    let what = if frame.is_null() { "NULL" } else { "not aligned to 8 bytes" };
    failed(Failure::argument(format!("frame is {what}")))
}

#[cold]
#[inline(never)]
pub(crate) fn wrong_frame(message: &str) -> c_int {
    failed(Failure::new(ErrorKind::WrongFrame, message))
}

#[inline]
fn is_place(frame: *const RuntimeFrame) -> bool {
    !frame.is_null() && frame.is_aligned()
}

/// Puts a frame of this thread where C wants it.
///
/// A [`Frame`] may not be sent: here it lies in memory that other threads reach. But it is moved out again (and so ended) only by
/// [`runtime_frame_end`] on a thread whose number is in the seal, which is this one; [`runtime_frame_join`] only looks at it; and
/// nobody can copy it, because a seal is that of one address.
///
/// # Safety
///
/// `to` is a place for a frame, and the caller's.
#[inline]
pub(crate) unsafe fn seal(to: *mut RuntimeFrame, frame: Frame) {
    let to = to.cast::<Sealed>();
    // SAFETY: the caller promises that `to` is a place for a frame.
    unsafe { seal_as(to, frame, seal_of(to).wrapping_add(thread())) };
}

/// # Safety
///
/// As for [`seal`].
#[inline]
pub(crate) unsafe fn seal_as(to: *mut Sealed, frame: Frame, seal: u64) {
    // SAFETY: as large as the place, and aligned as it is.
    unsafe {
        (&raw mut (*to).frame).write(frame);
        // Release: the partner is the Acquire in `runtime_frame_join`, which then finds the frame.
        (*to).seal.store(seal, Ordering::Release);
    }
}

/// `runtime_frame_begin()`.
///
/// # Safety
///
/// `frame` is a `runtime_frame_t` that is not open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn runtime_frame_begin(frame: *mut RuntimeFrame) -> c_int {
    if !is_place(frame) {
        return bad_frame(frame);
    }
    let Some(runtime) = gate::running() else {
        // SAFETY: the caller promises that this is a place for a frame.
        return unsafe { checked::begin(frame) };
    };
    // SAFETY: a place for a frame.
    unsafe { seal(frame, runtime.frame()) };
    0
}

/// `runtime_frame_join()`.
///
/// # Safety
///
/// `frame` is a `runtime_frame_t` that is not open; `other` is one, which stays open until this returns if it is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn runtime_frame_join(frame: *mut RuntimeFrame, other: *const RuntimeFrame) -> c_int {
    if !is_place(frame) {
        return bad_frame(frame);
    }
    if !is_place(other) {
        return bad_frame(other);
    }
    let is_checked = gate::running_checked().is_some();
    if !is_checked && gate::running().is_none() {
        return no_runtime();
    }
    let other = other.cast::<Sealed>();
    // SAFETY: the caller's word that it is one. Acquire: the partner is the Release in `seal`.
    let seal = unsafe { (*other).seal.load(Ordering::Acquire) };
    if !is_thread(seal.wrapping_sub(seal_of(other))) && checked::opener(other, seal).is_none() {
        return wrong_frame(
            "the frame to join is not open: its runtime_frame_begin() failed, it has ended, or it is a copy of a frame",
        );
    }
    // SAFETY: it is open, and stays so until this returned (the caller's word, the header's demand): its opener keeps the generation until
    // then, so that it can be counted as shared. Nothing writes the frame meanwhile.
    let shared = unsafe { (*other).frame.share() };
    match shared.join() {
        Ok(joined) => {
            // SAFETY: a place for a frame.
            unsafe {
                match is_checked {
                    true => return checked::put(frame, joined),
                    false => self::seal(frame, joined),
                }
            }
            0
        }
        Err(elsewhere) => wrong_frame(&elsewhere.to_string()),
    }
}

/// `runtime_frame_end()`.
///
/// # Safety
///
/// `frame` is a `runtime_frame_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn runtime_frame_end(frame: *mut RuntimeFrame) -> c_int {
    if !is_place(frame) {
        return bad_frame(frame);
    }
    let sealed = frame.cast::<Sealed>();
    // Relaxed: only what this thread wrote there itself is taken for a seal.
    // SAFETY: the caller's word that it is one.
    let seal = unsafe { (*sealed).seal.load(Ordering::Relaxed) };
    if seal != seal_of(sealed).wrapping_add(thread()) {
        // SAFETY: the caller passes a `runtime_frame_t`.
        return unsafe { checked::end(sealed, seal) };
    }
    // SAFETY: this thread sealed a frame at this address and has not ended it.
    unsafe {
        (*sealed).seal.store(0, Ordering::Relaxed);
        ptr::drop_in_place(&raw mut (*sealed).frame);
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seals_of_neighbours_differ_in_more_than_a_threads_number() {
        for distance in [8_usize, 16, 32, 40, 64, 4096, 1 << 20, 1 << 32] {
            let at = 0x7fff_1234_5678_usize;
            let seal = seal_of(ptr::without_provenance(at));
            let opener = (seal + 1).wrapping_sub(seal_of(ptr::without_provenance(at + distance)));
            assert!(opener > 1 << 32, "{distance}");
        }
        assert_ne!(seal_of(ptr::without_provenance(at_zero())), 0);
    }

    fn at_zero() -> usize {
        0
    }
}
