//! The functions of asm/*/spawn.s: what modules' calls go to that depends on who calls, and where
//! threads that modules start begin.
//!
//! On macOS (asm/aarch64/spawn_macos.s) C11's threads and libstdc++'s `std::thread` are there for
//! hosts that bring them: the system has neither, and libc++'s `std::thread` calls `pthread_create`
//! from the module. What only Linux has is missing there.

use std::ffi::c_void;

#[cfg(target_os = "linux")]
use super::notifications;
use super::{dynamic, keys, threads};
use crate::platform::assemble::assemble;

assemble!(
    "spawn",
    pthread_create = threads::pthread_create,
    thrd_create = threads::thrd_create,
    pthread_key_create = keys::pthread_key_create,
    tss_create = keys::tss_create,
    dlsym = dynamic::dlsym,
    dlvsym = dynamic::dlvsym,
    dlopen = dynamic::dlopen,
    dladdr = dynamic::dladdr,
    arrive = threads::arrive,
    arrive_std = threads::arrive_std,
    wrap = threads::wrap;
    linux,
    timer_create = notifications::timer_create,
    mq_notify = notifications::mq_notify,
    getaddrinfo_a = notifications::getaddrinfo_a,
    arrive_notified = notifications::arrive_notified,
);

unsafe extern "C" {
    /// Passes on to [`super::threads::pthread_create`], with its caller.
    pub(super) fn midflight_pthread_create();
    /// Passes on to [`super::threads::thrd_create`], with its caller.
    pub(super) fn midflight_thrd_create();
    /// Passes on to [`super::keys::pthread_key_create`], with its caller.
    pub(super) fn midflight_pthread_key_create();
    /// Passes on to [`super::keys::tss_create`], with its caller.
    pub(super) fn midflight_tss_create();
    #[cfg(target_os = "linux")]
    /// Passes on to [`super::notifications::timer_create`], with its caller.
    pub(super) fn midflight_timer_create();
    #[cfg(target_os = "linux")]
    /// Passes on to [`super::notifications::mq_notify`], with its caller.
    pub(super) fn midflight_mq_notify();
    #[cfg(target_os = "linux")]
    /// Passes on to [`super::notifications::getaddrinfo_a`], with its caller.
    pub(super) fn midflight_getaddrinfo_a();
    /// Passes on to [`super::dynamic::dlsym`], with its caller.
    pub(super) fn midflight_dlsym();
    /// Passes on to [`super::dynamic::dlvsym`], with its caller.
    pub(super) fn midflight_dlvsym();
    /// Passes on to [`super::dynamic::dlopen`], with its caller.
    pub(super) fn midflight_dlopen();
    /// Passes on to [`super::dynamic::dladdr`], with its caller.
    pub(super) fn midflight_dladdr();
    /// `std::thread::_M_start_thread`.
    pub(super) fn midflight_std_start_thread();
    /// Where a thread begins, given what [`super::threads::arrive`] takes.
    pub(super) fn midflight_thread_entry(start: *mut c_void) -> *mut c_void;
    #[cfg(target_os = "linux")]
    /// Where a thread of the C library begins, given a number that
    /// [`super::notifications::arrive_notified`] takes.
    pub(super) fn midflight_notified_entry(number: *mut c_void);
    /// Where a `std::thread` begins, given what [`super::threads::arrive_std`] takes.
    pub(super) fn midflight_std_thread_entry(state: *mut c_void);
}
