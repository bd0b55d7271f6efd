//! The threads of this process, as the kernel lists them: proc_pid_task(5), proc_pid_status(5),
//! proc_pid_stat(5).

use std::ffi::c_int;
use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};

use crate::platform::os::posix::stop::Condition;

/// The calling thread.
pub(crate) fn gettid() -> i32 {
    // SAFETY: takes nothing.
    unsafe { libc::gettid() }
}

/// The first thread of the process, whose stack the kernel made.
pub(crate) fn is_main(thread: i32) -> bool {
    thread == std::process::id() as i32
}

/// The threads of this process, or some of them: see [`are_all`].
pub(crate) fn threads() -> io::Result<Vec<i32>> {
    let names = fs::read_dir("/proc/self/task")?.map(|entry| Ok(entry?.file_name()));
    let names = names.collect::<io::Result<Vec<_>>>()?;
    Ok(names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect())
}

/// Whether these are all the threads there are. The list ends early if the thread that was read
/// last ends (fs/proc/base.c, `next_tid`). But where so many were there as the directory has links
/// for, and each of these was still there afterwards, there was no other then: the kernel gives an
/// id again only after all others (kernel/pid.c).
pub(crate) fn are_all(threads: &[i32]) -> io::Result<bool> {
    let links = fs::metadata("/proc/self/task")?.nlink();
    Ok(links == threads.len() as u64 + 2 && threads.iter().all(|&thread| is_alive(thread)))
}

pub(super) fn is_alive(thread: i32) -> bool {
    // SAFETY: takes no pointers, and signal 0 is none.
    unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), thread, 0) == 0 }
}

/// The mappings of this process, as proc_pid_maps(5) has them.
pub(crate) fn mappings() -> io::Result<String> {
    fs::read_to_string("/proc/self/maps")
}

/// The memory of this process, as the kernel reads it: proc_pid_mem(5). What cannot be read is an
/// error and no signal, guard pages included that proc_pid_maps(5) does not show
/// (MADV_GUARD_INSTALL).
pub(crate) struct Memory(File);

impl Memory {
    pub(crate) fn open() -> io::Result<Self> {
        File::open("/proc/self/mem").map(Self)
    }

    /// Reads a part, word by aligned word, but for pages that cannot be read.
    pub(crate) fn words(&self, part: Range<usize>, mut see: impl FnMut(usize)) -> io::Result<()> {
        /// The smallest page there is.
        const PAGE: usize = 4096;
        const WORD: usize = size_of::<usize>();
        let mut buffer = vec![0; 16 * PAGE];
        let mut at = part.start & !(WORD - 1);
        while at < part.end {
            let len = buffer.len().min(part.end - at).next_multiple_of(WORD);
            let read = match self.0.read_at(&mut buffer[..len], at as u64) {
                Ok(read) => read & !(WORD - 1),
                Err(error) if matches!(error.raw_os_error(), Some(libc::EIO | libc::EFAULT)) => 0,
                Err(error) => return Err(error),
            };
            for word in buffer[..read].chunks_exact(WORD) {
                see(usize::from_ne_bytes(word.try_into().expect("as long as a word")));
            }
            at = if read > 0 { at + read } else { (at + 1).next_multiple_of(PAGE) };
        }
        Ok(())
    }
}

/// The name of a thread; empty if it is over.
pub(crate) fn name(thread: i32) -> String {
    read(thread, "comm").unwrap_or_default().trim_end().to_owned()
}

/// As far as can be seen, given the signal that it does not answer.
pub(super) fn condition_for(thread: i32, signal: Option<c_int>) -> Condition {
    match read(thread, "status") {
        Ok(status) => match condition_of(&status, &read(thread, "stat").unwrap_or_default(), signal) {
            Condition::BlocksSignal if is_the_timers(thread) => Condition::NoCode,
            condition => condition,
        },
        // ESRCH: it ended after the file was opened.
        Err(error)
            if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) =>
        {
            Condition::NoCode
        }
        Err(_) => Condition::Unknown,
    }
}

/// Whether this is the thread that glibc has for timers with SIGEV_THREAD, for good: it blocks all
/// signals, starts another thread for each timer that runs out
/// (sysdeps/unix/sysv/linux/timer_routines.c), and runs nobody's code. It is known by the system
/// call that it waits in (proc_pid_syscall(5)), for the signal of timers alone, which glibc lets
/// nobody else ask for.
fn is_the_timers(thread: i32) -> bool {
    const SIGTIMER: c_int = 32;
    let Ok(call) = read(thread, "syscall") else { return false };
    let mut call = call.split_whitespace();
    let number = call.next().and_then(|number| number.parse().ok());
    let set = call.next().and_then(|set| usize::from_str_radix(set.strip_prefix("0x")?, 16).ok());
    let (Some(libc::SYS_rt_sigtimedwait), Some(set)) = (number, set) else { return false };
    let mut signals = None;
    let read = Memory::open().and_then(|memory| memory.words(set..set + 8, |word| signals = Some(word)));
    read.is_ok() && signals == Some(bit(SIGTIMER) as usize)
}

/// The signals that a thread blocks; None if it is over.
pub(super) fn blocked(thread: i32) -> Option<u64> {
    Some(blocked_of(&read(thread, "status").ok()?))
}

pub(super) fn blocks(thread: i32, signal: c_int) -> bool {
    blocked(thread).is_some_and(|mask| mask & bit(signal) != 0)
}

/// A signal's place in a mask.
pub(super) fn bit(signal: c_int) -> u64 {
    1 << (signal - 1)
}

fn blocked_of(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

fn condition_of(status: &str, stat: &str, signal: Option<c_int>) -> Condition {
    /// include/linux/sched.h
    const PF_IO_WORKER: u64 = 0x10;
    /// All but SIGKILL and SIGSTOP.
    const ALL: u64 = !(1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1));
    let field = |name: &str| Some(status.lines().find_map(|line| line.strip_prefix(name))?.trim());
    let blocked = blocked_of(status);
    // The second field is the name, in parentheses, which may have some itself. The ninth is the
    // flags.
    let flags = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(6)?.parse::<u64>().ok());
    let of_io_uring = field("Name:").is_some_and(|name| name.starts_with("iou-"))
        && flags.is_some_and(|flags| flags & PF_IO_WORKER != 0)
        && blocked == ALL;
    match field("State:").and_then(|state| state.chars().next()) {
        Some('Z' | 'X') => Condition::NoCode,
        _ if of_io_uring => Condition::NoCode,
        Some('T' | 't') => Condition::Halted,
        _ if signal.is_some_and(|signal| blocked & bit(signal) != 0) => Condition::BlocksSignal,
        Some('D') => Condition::Uninterruptible,
        _ => Condition::Unknown,
    }
}

/// A file of a thread.
fn read(thread: i32, file: &str) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(format!("/proc/self/task/{thread}/{file}"))?.read_to_end(&mut bytes)?;
    // A name may be no UTF-8.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_but_for_what_cannot_be() {
        let words: Vec<usize> = (0..5000).map(|n| n * 0x1_0001).collect();
        let part = words.as_ptr().addr()..words.as_ptr_range().end.addr();
        let memory = Memory::open().unwrap();
        let mut seen = Vec::new();
        memory.words(part.clone(), |word| seen.push(word)).unwrap();
        assert_eq!(seen, words);
        // SAFETY: a mapping of our own, whose second page is made a hole.
        let (len, at) = unsafe {
            let page = libc::sysconf(libc::_SC_PAGESIZE) as usize;
            let (flags, access) =
                (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, libc::PROT_READ | libc::PROT_WRITE);
            let at = libc::mmap(std::ptr::null_mut(), 3 * page, access, flags, -1, 0);
            at.cast::<usize>().write(7);
            at.byte_add(2 * page).cast::<usize>().write(9);
            assert_eq!(libc::munmap(at.byte_add(page), page), 0);
            (page, at)
        };
        let mut seen = Vec::new();
        memory
            .words(at.addr()..at.addr() + 3 * len, |word| seen.extend((word != 0).then_some(word)))
            .unwrap();
        assert_eq!(seen, [7, 9]);
        // SAFETY: mapped above.
        unsafe { libc::munmap(at, 3 * len) };
    }

    #[test]
    fn conditions() {
        const STAT: &str = "1033 (iou-sqp-1) x) S 1006 1006 22409 0 -1 4210768 0 0";
        let of = |name: &str, state: &str, blocked: &str, stat: &str| {
            let status =
                format!("Name:\t{name}\nState:\t{state}\nSigBlk:\t{blocked}\nSigIgn:\tffffffffffffffff\n");
            condition_of(&status, stat, Some(64))
        };
        assert_eq!(of("a", "S (sleeping)", "0000000000010000", STAT), Condition::Unknown);
        assert_eq!(of("a", "R (running)", "8000000000000000", STAT), Condition::BlocksSignal);
        assert_eq!(of("a", "D (disk sleep)", "7fffffffffffffff", STAT), Condition::Uninterruptible);
        assert_eq!(of("a", "t (tracing stop)", "0000000000000000", STAT), Condition::Halted);
        assert_eq!(of("a", "Z (zombie)", "8000000000000000", STAT), Condition::NoCode);
        // A thread of io_uring's is named, flagged and deaf; a thread of the program's may be two
        // of these.
        let other = STAT.replace("4210768", "4210752");
        assert_eq!(of("iou-sqp-1) x", "S (sleeping)", "fffffffffffbfeff", STAT), Condition::NoCode);
        assert_eq!(of("iou-sqp-1) x", "S (sleeping)", "fffffffffffbfeff", &other), Condition::BlocksSignal);
        assert_eq!(of("iou-sqp-1) x", "S (sleeping)", "fffffffe7ffbfeff", STAT), Condition::BlocksSignal);
        assert_eq!(of("sqp", "S (sleeping)", "fffffffffffbfeff", STAT), Condition::BlocksSignal);
        // What cannot be read tells nothing.
        assert_eq!(condition_of("", "", Some(64)), Condition::Unknown);
    }
}
