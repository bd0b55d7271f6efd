//! The functions of asm/aarch64/spawn_macos.s: how modules start threads. C11's threads and libstdc++'s `std::thread` are there for hosts that bring
//! them; the system has neither, and libc++'s `std::thread` calls `pthread_create` from the module.

use std::ffi::c_void;

use crate::host::{dynamic, keys, threads};

std::arch::global_asm!(
    include_str!("../../../asm/aarch64/spawn_macos.s"),
    pthread_create = sym threads::pthread_create,
    thrd_create = sym threads::thrd_create,
    pthread_key_create = sym keys::pthread_key_create,
    tss_create = sym keys::tss_create,
    dlsym = sym dynamic::dlsym,
    dlvsym = sym dynamic::dlvsym,
    dlopen = sym dynamic::dlopen,
    dladdr = sym dynamic::dladdr,
    arrive = sym threads::arrive,
    arrive_std = sym threads::arrive_std,
    wrap = sym threads::wrap
);
unsafe extern "C" {
    /// Passes on to [`threads::pthread_create`], with its caller.
    pub(crate) fn midflight_pthread_create();
    /// Passes on to [`threads::thrd_create`], with its caller.
    pub(crate) fn midflight_thrd_create();
    /// Passes on to [`keys::pthread_key_create`], with its caller.
    pub(crate) fn midflight_pthread_key_create();
    /// Passes on to [`keys::tss_create`], with its caller.
    pub(crate) fn midflight_tss_create();
    /// Passes on to [`dynamic::dlsym`], with its caller.
    pub(crate) fn midflight_dlsym();
    /// Passes on to [`dynamic::dlvsym`], with its caller.
    pub(crate) fn midflight_dlvsym();
    /// Passes on to [`dynamic::dlopen`], with its caller.
    pub(crate) fn midflight_dlopen();
    /// Passes on to [`dynamic::dladdr`], with its caller.
    pub(crate) fn midflight_dladdr();
    /// `std::thread::_M_start_thread`.
    pub(crate) fn midflight_std_start_thread();
    /// Where a thread begins, given what [`threads::arrive`] takes.
    pub(crate) fn midflight_thread_entry(start: *mut c_void) -> *mut c_void;
    /// Where a `std::thread` begins, given what [`threads::arrive_std`] takes.
    pub(crate) fn midflight_std_thread_entry(state: *mut c_void);
}
