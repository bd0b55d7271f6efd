//! Loops of one call each. `scripts/bench` has them compiled for AArch64, and gives what the
//! compiler made of their bodies to llvm-mca.

use std::sync::atomic::{AtomicPtr, Ordering};

use midflight::Frame;

midflight::module! {
    unsafe mod called { safe fn next(x: u64) -> u64; }
}

/// In an open frame.
#[unsafe(no_mangle)]
pub fn midflight_call_path_pinned(frame: &Frame, times: usize) -> u64 {
    let mut x = 0;
    for _ in 0..times {
        x = called::next(frame, x);
    }
    x
}

/// Through a function pointer in memory.
///
/// # Safety
///
/// The pointer is one to an `extern "C" fn(u64) -> u64`.
#[unsafe(no_mangle)]
pub unsafe fn midflight_call_path_pointer(pointer: &AtomicPtr<()>, times: usize) -> u64 {
    let mut x = 0;
    for _ in 0..times {
        // Relaxed: nothing is published, nor is it ever run.
        let function = pointer.load(Ordering::Relaxed);
        // SAFETY: the caller's promise.
        x = unsafe { std::mem::transmute::<*mut (), extern "C" fn(u64) -> u64>(function) }(x);
    }
    x
}
