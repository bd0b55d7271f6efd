//! The functions of asm/*/spawn.s: what modules' calls go to that depends on who calls.

use std::ffi::c_void;

use crate::host::{dynamic, keys, notifications, threads};

macro_rules! assemble {
    ($source:literal $(, $options:ident)?) => {
        std::arch::global_asm!(
            include_str!($source),
            pthread_create = sym threads::pthread_create,
            thrd_create = sym threads::thrd_create,
            pthread_key_create = sym keys::pthread_key_create,
            tss_create = sym keys::tss_create,
            timer_create = sym notifications::timer_create,
            mq_notify = sym notifications::mq_notify,
            getaddrinfo_a = sym notifications::getaddrinfo_a,
            dlsym = sym dynamic::dlsym,
            dlvsym = sym dynamic::dlvsym,
            dlopen = sym dynamic::dlopen,
            dladdr = sym dynamic::dladdr,
            arrive = sym threads::arrive,
            arrive_std = sym threads::arrive_std,
            arrive_notified = sym notifications::arrive_notified,
            wrap = sym threads::wrap
            $(, options($options))?
        );
    };
}

#[cfg(target_arch = "aarch64")]
assemble!("../../../asm/aarch64/spawn.s");
#[cfg(target_arch = "x86_64")]
assemble!("../../../asm/x86_64/spawn.s", att_syntax);

unsafe extern "C" {
    /// Passes on to [`threads::pthread_create`], with its caller.
    pub(crate) fn midflight_pthread_create();
    /// Passes on to [`threads::thrd_create`], with its caller.
    pub(crate) fn midflight_thrd_create();
    /// Passes on to [`keys::pthread_key_create`], with its caller.
    pub(crate) fn midflight_pthread_key_create();
    /// Passes on to [`keys::tss_create`], with its caller.
    pub(crate) fn midflight_tss_create();
    /// Passes on to [`notifications::timer_create`], with its caller.
    pub(crate) fn midflight_timer_create();
    /// Passes on to [`notifications::mq_notify`], with its caller.
    pub(crate) fn midflight_mq_notify();
    /// Passes on to [`notifications::getaddrinfo_a`], with its caller.
    pub(crate) fn midflight_getaddrinfo_a();
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
    /// Where a thread of the C library begins, given a number that [`notifications::arrive_notified`] takes.
    pub(crate) fn midflight_notified_entry(number: *mut c_void);
    /// Where a `std::thread` begins, given what [`threads::arrive_std`] takes.
    pub(crate) fn midflight_std_thread_entry(state: *mut c_void);
}
