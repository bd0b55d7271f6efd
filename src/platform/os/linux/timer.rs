//! Timers of the process as the kernel knows them: timer_create(2).
//!
//! What the C library calls a timer is, for one that starts threads, a piece of its memory:
//! deleted, it is the next timer's. The kernel counts (posix_timer_add() in
//! kernel/time/posix-timers.c), so that no number comes again before all have been given.

use std::ffi::c_int;

/// A timer's number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number(c_int);

/// The number of a timer that the C library has just made, to start threads. None if the kernel
/// does not list timers (CONFIG_CHECKPOINT_RESTORE), or the C library is not one that has itself
/// told by the address behind the handle.
pub(crate) fn number(handle: libc::timer_t) -> Option<Number> {
    listed(&std::fs::read_to_string("/proc/self/timers").ok()?, handle.addr())
}

/// By proc_pid_timers(5). An emulator's are those of the machine that it runs on, and mean nothing
/// to [`delete`].
fn listed(list: &str, handle: usize) -> Option<Number> {
    // glibc marks the handles that are addresses by a bit, and has the address shifted
    // (timer_to_timerid() in kernel-posix-timers.h); before 2.30 it had the address itself.
    let is_its = |value: usize| value == handle || value == handle << 1;
    let mut number = None;
    for line in list.lines() {
        if let Some(id) = line.strip_prefix("ID: ") {
            number = id.parse().ok();
        } else if let Some(signal) = line.strip_prefix("signal: ") {
            let (_, value) = signal.split_once('/')?;
            if usize::from_str_radix(value, 16).is_ok_and(is_its) {
                return number.map(Number);
            }
        }
    }
    None
}

/// Deletes it, and returns whether it was there still. What the C library has of it stays, some
/// hundred bytes: it cannot be told of it but by a handle, which may be another's by now.
pub(crate) fn delete(number: Number) -> bool {
    // SAFETY: a number is all that the call takes. If it is no timer's, it says so.
    unsafe { libc::syscall(libc::SYS_timer_delete, number.0) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_is_found_by_the_address_behind_its_handle() {
        let list = "ID: 3\nsignal: 32/000055cb303bf460\nnotify: signal/tid.4473\nClockID: 1\n\
                    ID: 7\nsignal: 32/000055cb303c0ac0\nnotify: signal/tid.4473\nClockID: 1\n";
        let number = |handle| listed(list, handle).map(|number| number.0);
        assert_eq!(number(1 << 63 | 0x55cb_303c_0ac0 >> 1), Some(7));
        assert_eq!(number(0x55cb_303b_f460), Some(3));
        assert_eq!(number(0), None);
        assert_eq!(listed("", 0).map(|number| number.0), None);
    }
}
