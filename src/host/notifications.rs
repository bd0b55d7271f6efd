//! Functions that the C library calls on threads of its own when something comes about
//! (`SIGEV_THREAD`, sigevent(3type)): a timer, a message, the end of a look-up. Such a thread is
//! the module's as those are that it starts itself.
//!
//! The C library is given a number, and a number is not given again: so what comes when the module
//! has taken it back, or is gone, finds nothing to run.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use libc::{clockid_t, mqd_t, timer_t};

use super::ledger::{self, Ledger, Opaque, ledger};
use super::places::{self, Id};
use super::spawn;
use super::threads::{self, Entry};
use crate::platform::os::timer;

/// glibc's `struct sigevent`, where it asks for a thread.
#[repr(C)]
#[derive(Clone)]
pub(crate) struct Event {
    value: *mut c_void,
    signal: c_int,
    notify: c_int,
    function: usize,
    attributes: *mut c_void,
    rest: [usize; 4],
}
const _: () = assert!(size_of::<Event>() == size_of::<libc::sigevent>());

/// What is to be run.
pub(super) struct Notification {
    version: Id,
    function: usize,
    value: Opaque,
    /// A timer's comes again and again.
    timer: Option<Timer>,
    repeats: bool,
}

/// A timer that was made.
struct Timer {
    /// By which the C library knows it. If the program deletes it, that is another's next.
    handle: Opaque,
    /// By which the kernel does.
    number: Option<timer::Number>,
}

/// Notes what a module asks for. Returns the event that asks for us in its place, and the number.
fn note(event: *const Event, caller: usize, repeats: bool) -> Option<(Event, usize)> {
    // SAFETY: null, or an event, as the caller of these functions asks.
    let event = unsafe { event.as_ref() }.filter(|event| event.notify == libc::SIGEV_THREAD)?;
    let version = places::find(event.function).or_else(|| places::find(caller))?;
    let value = Opaque(event.value);
    let mut ledger = ledger();
    ledger.noted += 1;
    let number = ledger.noted;
    let notification = Notification { version, function: event.function, value, timer: None, repeats };
    ledger.notifications.insert(number, notification);
    let function = spawn::midflight_notified_entry as *const () as usize;
    Some((Event { value: ptr::without_provenance_mut(number), function, ..event.clone() }, number))
}

/// Nothing will come.
fn forget(number: usize) {
    ledger().notifications.remove(&number);
}

/// timer_create(2), called from `caller`.
pub(crate) unsafe extern "C" fn timer_create(
    clock: clockid_t,
    event: *mut Event,
    timer: *mut timer_t,
    caller: usize,
) -> c_int {
    let noted = note(event, caller, true);
    let event = noted.as_ref().map_or(event.cast_const(), |(event, _)| event);
    // SAFETY: as the caller asks; the C library reads the event.
    let result = unsafe { libc::timer_create(clock, event.cast_mut().cast(), timer) };
    if let Some((_, number)) = noted {
        if result != 0 {
            forget(number);
        } else {
            // SAFETY: just written.
            let handle = unsafe { *timer };
            let timer = Timer { handle: Opaque(handle), number: timer::number(handle) };
            if let Some(notification) = ledger().notifications.get_mut(&number) {
                notification.timer = Some(timer);
            }
        }
    }
    result
}

/// timer_delete(2). What has run out and not begun to run does not run any more.
pub(super) unsafe extern "C" fn timer_delete(timer: timer_t) -> c_int {
    ledger()
        .notifications
        .retain(|_, notification| notification.timer.as_ref().is_none_or(|of| of.handle.0 != timer));
    // SAFETY: as the caller asks.
    unsafe { libc::timer_delete(timer) }
}

/// mq_notify(3), called from `caller`.
pub(crate) unsafe extern "C" fn mq_notify(queue: mqd_t, event: *const Event, caller: usize) -> c_int {
    let noted = note(event, caller, false);
    let event = noted.as_ref().map_or(event, |(event, _)| event);
    // SAFETY: as the caller asks; the C library reads the event.
    let result = unsafe { libc::mq_notify(queue, event.cast()) };
    if let Some((_, number)) = noted.filter(|_| result != 0) {
        forget(number);
    }
    result
}

type GetAddrInfo = unsafe extern "C" fn(c_int, *mut *mut c_void, c_int, *const Event) -> c_int;

/// The C library's `getaddrinfo_a`, which older ones have in a library apart (libanl).
static GETADDRINFO_A: AtomicUsize = AtomicUsize::new(0);

/// Notes the C library's function, and returns what modules are given.
pub(super) fn getaddrinfo_a_is(real: u64) -> unsafe extern "C" fn() {
    // Relaxed: read by code of a module that was linked after this.
    GETADDRINFO_A.store(real as usize, Ordering::Relaxed);
    spawn::midflight_getaddrinfo_a
}

/// getaddrinfo_a(3), called from `caller`.
pub(crate) unsafe extern "C" fn getaddrinfo_a(
    mode: c_int,
    list: *mut *mut c_void,
    count: c_int,
    event: *const Event,
    caller: usize,
) -> c_int {
    /// netdb.h. Who waits is not notified.
    const GAI_NOWAIT: c_int = 1;
    let noted = if mode == GAI_NOWAIT { note(event, caller, false) } else { None };
    let event = noted.as_ref().map_or(event, |(event, _)| event);
    // SAFETY: noted before the module was given this; as the caller asks.
    let result = unsafe {
        let real: GetAddrInfo =
            std::mem::transmute(ptr::with_exposed_provenance::<()>(GETADDRINFO_A.load(Ordering::Relaxed)));
        real(mode, list, count, event)
    };
    if let Some((_, number)) = noted.filter(|_| result != 0) {
        forget(number);
    }
    result
}

/// A thread of the C library begins: by way of asm/*/spawn.s, which goes on to what this returns.
pub(crate) unsafe extern "C" fn arrive_notified(number: *mut c_void) -> Entry {
    extern "C" fn nothing(_: *mut c_void) {}
    let number = number.addr();
    let whose = |ledger: &Ledger| ledger.notifications.get(&number).map(|of| of.version);
    let begun = ledger::begin(whose, |ledger, version| {
        let Notification { function, value, repeats, .. } = ledger.notifications.get(&number)?;
        let (function, value, repeats) = (*function, *value, *repeats);
        ledger.add_thread(version);
        if !repeats {
            ledger.notifications.remove(&number);
        }
        Some((version, function, value))
    });
    let Some((version, function, value)) = begun.flatten() else {
        return Entry::new(nothing as *const () as usize, ptr::null_mut());
    };
    threads::begin(version);
    Entry::new(function, value.0)
}

/// Takes back what a version has asked for and has not had. Returns how many timers it had left.
/// One that the kernel does not list goes on, and runs nothing.
pub(super) fn give_up(version: Id) -> usize {
    let mut timers = Vec::new();
    ledger().notifications.retain(|_, notification| {
        let is_its = notification.version == version;
        timers.extend(notification.timer.take_if(|_| is_its));
        !is_its
    });
    // By the kernel's numbers: a handle is another timer's by now, if the program has deleted this
    // one.
    timers.iter().filter(|timer| timer.number.is_none_or(timer::delete)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Tenant;

    /// Nothing comes of it.
    #[test]
    fn what_the_c_library_refuses_is_not_kept() {
        const NO_CLOCK: clockid_t = 99;
        const NO_QUEUE: mqd_t = -1;
        let tenant = Tenant::new(None).unwrap();
        // No code runs there.
        tenant.settle(1 << 47, 4096);
        let (value, attributes) = (ptr::null_mut(), ptr::null_mut());
        let notify = libc::SIGEV_THREAD;
        let mut event = Event { value, signal: 0, notify, function: 1 << 47, attributes, rest: [0; 4] };
        let mut timer: timer_t = ptr::null_mut();
        // SAFETY: both are refused.
        let refused =
            unsafe { [timer_create(NO_CLOCK, &mut event, &mut timer, 0), mq_notify(NO_QUEUE, &event, 0)] };
        assert_eq!(refused, [-1, -1]);
        assert!(ledger().notifications.values().all(|of| !tenant.is(of.version)));
    }
}
