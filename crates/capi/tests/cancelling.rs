//! A thread that is cancelled while it is in a function of the API.

#![cfg(target_os = "linux")]

mod support;

use std::ffi::{CString, c_int, c_void};
use std::sync::atomic::{AtomicU32, Ordering};

use midflight_c::hot_reload::*;
use support::*;

static LOADS: AtomicU32 = AtomicU32::new(0);

unsafe extern "C" {
    fn pthread_cancel(thread: libc::pthread_t) -> c_int;
}
unsafe extern "C-unwind" {
    fn pthread_testcancel();
}

/// Loads until it is cancelled: between two calls, where nothing here is left to be dropped.
unsafe extern "C-unwind" fn loads(path: *mut c_void) -> *mut c_void {
    loop {
        // SAFETY: a path that outlives the thread.
        let code = unsafe { hot_reload_module(path.cast(), std::ptr::null()) };
        LOADS.fetch_add(u32::from(code == 0), Ordering::Relaxed);
        // SAFETY: the thread may end here.
        unsafe { pthread_testcancel() };
    }
}

#[test]
fn a_thread_is_cancelled_after_the_call_and_not_in_it() {
    let session = start("cancelled");
    let path: CString = c(session.module("cancelled", 1, &returns(3)));
    for round in 1..=10 {
        let before = LOADS.load(Ordering::Relaxed);
        // SAFETY: pthread_create(3), whose threads may be unwound by their being cancelled, and so
        // may this function.
        unsafe {
            let start: extern "C" fn(*mut c_void) -> *mut c_void =
                std::mem::transmute(loads as unsafe extern "C-unwind" fn(*mut c_void) -> *mut c_void);
            let (mut thread, mut result) = (std::mem::zeroed(), std::ptr::null_mut());
            assert_eq!(
                libc::pthread_create(&mut thread, std::ptr::null(), start, path.as_ptr() as *mut c_void),
                0
            );
            while LOADS.load(Ordering::Relaxed) < before + round {
                std::thread::yield_now();
            }
            assert_eq!(pthread_cancel(thread), 0);
            assert_eq!(libc::pthread_join(thread, &mut result), 0);
            // PTHREAD_CANCELED
            assert_eq!(result.addr(), usize::MAX);
        }
        ok(reload(session.module("cancelled", 1, &returns(3))));
        assert_eq!(call(c"cancelled", c"value"), 3);
    }
}
