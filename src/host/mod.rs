//! What modules are given in place of the C library's own, so that an unloaded module leaves
//! nothing behind in threads and in the process: thread-local variables, exit functions of threads
//! and of the process, keys, threads.
//!
//! A version is a [`Tenant`] here. `ledger` has what is noted of versions and threads, `places`
//! says which version an address is in. `thread` is what is noted of one thread, and its end.

pub(crate) mod apple_abi;
pub(crate) mod blocks;
pub(crate) mod dynamic;
mod ends;
mod fork_handlers;
#[cfg(target_os = "linux")]
pub(crate) mod iterate;
pub(crate) mod keys;
mod ledger;
#[cfg_attr(target_os = "macos", allow(dead_code, reason = "nobody walks over all of them on macOS yet"))]
pub(crate) mod loaded;
#[cfg(target_os = "linux")]
pub(crate) mod notifications;
#[cfg(all(target_arch = "aarch64", target_os = "linux"))]
mod outline_atomics;
pub(crate) mod places;
mod process_exits;
pub(crate) mod shared_std;
mod shared_variables;
pub(crate) mod signals;
mod spawn;
mod tenant;
mod thread;
mod thread_exits;
pub(crate) mod thread_locals;
pub(crate) mod threads;

pub(crate) use tenant::Tenant;

use crate::call::home::Home;
use crate::platform::os::thread_local;

/// Takes the list of versions whose first thread is new since this was asked last.
pub(crate) fn take_new_with_threads() -> Vec<places::Id> {
    std::mem::take(&mut ledger::ledger().new_with_threads)
}

/// The homes at which exit functions are running, of versions that have come back since, too.
pub(crate) fn homes_in_use() -> Vec<Home> {
    ledger::ledger().homes_in_use.clone()
}

/// The function that a module's import of this name binds to before the process's own, which
/// `process` finds.
pub(crate) fn symbol(name: &str, process: impl FnOnce() -> Option<u64>) -> Option<u64> {
    let function = match name {
        "__tls_get_addr" => thread_local::midflight_tls_get_addr as *const (),
        "__cxa_thread_atexit_impl" | "__cxa_thread_atexit" => thread_exits::register as *const (),
        name if shared_std::registers_destructor(name) => shared_std::register as *const (),
        "_tlv_atexit" => thread_exits::tlv_atexit as *const (),
        "__cxa_atexit" => process_exits::cxa_atexit as *const (),
        "__cxa_finalize" => process_exits::cxa_finalize as *const (),
        "atexit" => process_exits::atexit as *const (),
        "on_exit" => process_exits::on_exit as *const (),
        "abort" => ends::abort as *const (),
        #[cfg(target_os = "linux")]
        "__assert_fail" => ends::assert_fail as *const (),
        "exit" => ends::exit as *const (),
        "_exit" | "_Exit" => ends::exit_at_once as *const (),
        #[cfg(target_os = "linux")]
        "quick_exit" => ends::quick_exit as *const (),
        "__cxa_at_quick_exit" => process_exits::cxa_at_quick_exit as *const (),
        "at_quick_exit" => process_exits::at_quick_exit as *const (),
        "__register_atfork" => fork_handlers::register_atfork as *const (),
        "pthread_atfork" => fork_handlers::pthread_atfork as *const (),
        #[cfg(target_os = "linux")]
        "timer_create" => spawn::midflight_timer_create as *const (),
        #[cfg(target_os = "linux")]
        "timer_delete" => notifications::timer_delete as *const (),
        #[cfg(target_os = "linux")]
        "mq_notify" => spawn::midflight_mq_notify as *const (),
        #[cfg(target_os = "linux")]
        "getaddrinfo_a" => notifications::getaddrinfo_a_is(process()?) as *const (),
        "pthread_create" => spawn::midflight_pthread_create as *const (),
        "thrd_create" => spawn::midflight_thrd_create as *const (),
        threads::STD_START_THREAD => threads::std_start_thread(process()?) as *const (),
        "pthread_key_create" | "__pthread_key_create" => spawn::midflight_pthread_key_create as *const (),
        "pthread_key_delete" => keys::pthread_key_delete as *const (),
        "pthread_setspecific" => keys::pthread_setspecific as *const (),
        "tss_create" => spawn::midflight_tss_create as *const (),
        "tss_delete" => keys::tss_delete as *const (),
        "tss_set" => keys::tss_set as *const (),
        #[cfg(target_os = "linux")]
        "dl_iterate_phdr" => iterate::dl_iterate_phdr as *const (),
        #[cfg(target_os = "linux")]
        "_dl_find_object" => iterate::dl_find_object as *const (),
        #[cfg(all(target_arch = "aarch64", target_os = "linux"))]
        name if name.starts_with("__aarch64_") => return outline_atomics::find(name),
        _ => return None,
    };
    Some(function as u64)
}
