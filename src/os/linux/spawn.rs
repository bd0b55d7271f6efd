//! The functions of asm/*/spawn.s: how modules start threads.

use std::ffi::c_void;

use crate::host::{keys, threads};

#[cfg(target_arch = "aarch64")]
std::arch::global_asm!(
    include_str!("../../../asm/aarch64/spawn.s"),
    pthread_create = sym threads::pthread_create,
    thrd_create = sym threads::thrd_create,
    pthread_key_create = sym keys::pthread_key_create,
    tss_create = sym keys::tss_create,
    arrive = sym threads::arrive,
    arrive_std = sym threads::arrive_std,
    wrap = sym threads::wrap
);
#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    include_str!("../../../asm/x86_64/spawn.s"),
    pthread_create = sym threads::pthread_create,
    thrd_create = sym threads::thrd_create,
    pthread_key_create = sym keys::pthread_key_create,
    tss_create = sym keys::tss_create,
    arrive = sym threads::arrive,
    arrive_std = sym threads::arrive_std,
    wrap = sym threads::wrap,
    options(att_syntax)
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
    /// `std::thread::_M_start_thread`.
    pub(crate) fn midflight_std_start_thread();
    /// Where a thread begins, given what [`threads::arrive`] takes.
    pub(crate) fn midflight_thread_entry(start: *mut c_void) -> *mut c_void;
    /// Where a `std::thread` begins, given what [`threads::arrive_std`] takes.
    pub(crate) fn midflight_std_thread_entry(state: *mut c_void);
}
