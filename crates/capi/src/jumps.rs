//! `runtime_core.h`: frames that somebody has jumped out of.

use std::ffi::c_int;

use midflight::ErrorKind;
use midflight::private::{end_frames, open_frames};

use crate::errors::{Failure, guarded};
use crate::{checked, gate};

/// `runtime_frame_depth()`.
#[unsafe(no_mangle)]
pub extern "C" fn runtime_frame_depth() -> u32 {
    open_frames() as u32
}

/// `runtime_frame_unwind()`.
///
/// # Safety
///
/// The frames that this thread has opened since it had `depth` of them open are not ended any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn runtime_frame_unwind(depth: u32) -> c_int {
    guarded(|| {
        if gate::is_inside() {
            let message = "a function of the API was jumped out of, from a callback or a module's constructor, destructor or hook, or has \
                           not returned yet: what it was in the midst of stays so, and its locks stay taken";
            return Err(Failure::new(ErrorKind::Busy, message));
        }
        let open = open_frames();
        if depth as usize > open {
            let message = format!("this thread has {open} frames open, and not {depth}");
            return Err(Failure::new(ErrorKind::WrongFrame, message));
        }
        // SAFETY: the caller promises that frames above this depth are not ended any more.
        unsafe { end_frames(depth as usize) };
        checked::forget(open - depth as usize);
        Ok(())
    })
}
