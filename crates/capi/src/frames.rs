//! Frames, as C has them.

use std::ffi::c_int;
use std::mem::offset_of;
use std::num::NonZero;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use midflight::private::this_opener;
use midflight::{ErrorKind, Frame};

use crate::errors::{Failure, failed};
use crate::runtime_types::RuntimeFrame;
use crate::{checked, gate};

/// What `runtime_frame_t` holds: the frame is there while the seal is whole.
#[repr(C)]
pub(crate) struct Sealed {
    /// [`seal_of`] the frame; 0 if it is not open. Of a frame that is [`checked`], another. An
    /// atomic, because a thread that joins looks at it.
    pub(crate) seal: AtomicU64,
    pub(crate) frame: Frame,
}

const _: () = assert!(
    size_of::<Sealed>() == size_of::<RuntimeFrame>() && align_of::<Sealed>() == align_of::<RuntimeFrame>()
);
const _: () = assert!(offset_of!(Sealed, seal) == 0);

/// The seal of an open frame at this address, of this thread: a copy is at another address, and
/// another thread is another. The address is turned round by half, so that the sum of a copy and
/// another thread is not that of the original: what tells threads apart are addresses too, whose
/// upper halves hardly differ.
#[inline]
pub(crate) fn seal_of(frame: *const Sealed, opener: usize) -> u64 {
    (frame.addr() as u64).rotate_left(32) ^ opener as u64
}

/// The seal that a frame at this address has on this thread, if it is open; no frame has it on a
/// thread without any.
#[inline]
pub(crate) fn own_seal(frame: *const Sealed) -> u64 {
    seal_of(frame, this_opener().map_or(0, NonZero::get))
}

/// Who has opened the frame at this address that has this seal; None if it is not open.
///
/// # Safety
///
/// It is a `runtime_frame_t`, which nobody changes.
pub(crate) unsafe fn opener(frame: *const Sealed, seal: u64) -> Option<usize> {
    // Its opener may be just about to seal it.
    if seal == 0 {
        return None;
    }
    // SAFETY: the caller promises that it is one and that nobody changes it. What is there is
    // believed if the seal says the same.
    let opener = unsafe { Frame::thread_in(&raw const (*frame).frame) };
    (opener != 0 && seal_of(frame, opener) == seal).then_some(opener)
}

// Out of line, so that frames that begin and end as they should have few registers to save.
#[cold]
#[inline(never)]
pub(crate) fn no_runtime() -> c_int {
    failed(gate::not_running())
}

#[cold]
#[inline(never)]
extern "C" fn bad_frame(frame: *const RuntimeFrame) -> c_int {
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
/// A [`Frame`] may not be sent: here it lies in memory that other threads reach. But it is moved
/// out again (and so ended) only by [`runtime_frame_end`] on the thread that is in the seal, which
/// is this one; [`runtime_frame_join`] only looks at it; and nobody can copy it, because a seal is
/// that of one address.
///
/// # Safety
///
/// `to` is a place for a frame, and the caller's.
#[inline]
pub(crate) unsafe fn seal(to: *mut RuntimeFrame, frame: Frame) {
    let to = to.cast::<Sealed>();
    // SAFETY: the caller promises that `to` is a place for a frame.
    unsafe {
        let seal = seal_of(to, frame.thread().get());
        seal_as(to, frame, seal);
    }
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
    if !gate::is_unchecked() {
        // SAFETY: the caller promises that this is a place for a frame.
        return unsafe { checked::begin(frame) };
    }
    // SAFETY: the runtime runs, so it has published a generation.
    let Some(opened) = (unsafe { Frame::open_again() }) else {
        // SAFETY: the caller promises that this is a place for a frame.
        return unsafe { begin_first(frame) };
    };
    // SAFETY: a place for a frame.
    unsafe { seal(frame, opened) };
    0
}

/// A thread's first frame. Out of line, as are the other ways that are not often gone: what is left
/// calls nothing, and so saves no registers: a frame takes twice the time that Rust's inlined one
/// does, where it took three times.
///
/// # Safety
///
/// A place for a frame.
#[cold]
#[inline(never)]
unsafe extern "C" fn begin_first(frame: *mut RuntimeFrame) -> c_int {
    let Some(runtime) = gate::running() else { return no_runtime() };
    // SAFETY: the caller promises that this is a place for a frame.
    unsafe { seal(frame, runtime.frame()) };
    0
}

/// `runtime_frame_join()`.
///
/// # Safety
///
/// `frame` is a `runtime_frame_t` that is not open; `other` is one, which stays open until this
/// returns if it is.
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
    // SAFETY: as above; it is not ended before this returned.
    if unsafe { opener(other, seal).or_else(|| checked::opener(other, seal)) }.is_none() {
        return wrong_frame(
            "the frame to join is not open: its runtime_frame_begin() failed, it has ended, or it is a copy of a frame",
        );
    }
    // SAFETY: it is open, and stays so until this returned (the caller's word, the header's
    // demand): its opener keeps the generation until then, so that it can be counted as shared.
    // Nothing writes the frame meanwhile.
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
    if seal != own_seal(sealed) {
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
    fn a_copy_is_sealed_for_no_thread() {
        let at = 0x7fff_1234_5678_usize;
        let records = (0..1 << 12).map(|record| 0x55d0_1111_2200_usize + record * 128);
        let seal = seal_of(ptr::without_provenance(at), 0x55d0_1111_2200);
        assert_ne!(seal, 0);
        for record in records.chain([0]) {
            for distance in [8_usize, 16, 32, 40, 64, 128, 256, 4096, 1 << 20, 1 << 32] {
                assert_ne!(
                    seal_of(ptr::without_provenance(at + distance), record),
                    seal,
                    "{record:x} {distance}"
                );
            }
        }
    }
}
