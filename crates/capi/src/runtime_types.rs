//! `runtime_types.h`: what all headers share.

use std::ffi::{c_char, c_int};

use crate::errors;
use crate::pointers::Plain;

/// `bool` as C gives it to us: a byte, of which nothing is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct Bool(u8);

impl Bool {
    /// Whatever is not 0 is true.
    pub fn get(self) -> bool {
        self.0 != 0
    }
}

impl From<bool> for Bool {
    fn from(value: bool) -> Self {
        Self(value.into())
    }
}

// SAFETY: a byte.
unsafe impl Plain for Bool {}

/// `runtime_frame_t`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct RuntimeFrame {
    /// A seal, and a [`midflight::Frame`]: see `runtime_core.rs`.
    pub reserved: [u64; 4],
}

/// `get_timestamp_ns()`.
#[unsafe(no_mangle)]
pub extern "C" fn get_timestamp_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the time. It does not fail: the clock exists everywhere, and the address is
    // good.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// `runtime_strerror()`.
#[unsafe(no_mangle)]
pub extern "C" fn runtime_strerror(code: c_int) -> *const c_char {
    errors::text(code).as_ptr()
}

/// `runtime_last_error()`.
#[unsafe(no_mangle)]
pub extern "C" fn runtime_last_error() -> *const c_char {
    errors::last_message()
}
