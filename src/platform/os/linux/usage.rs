//! What the process uses: proc_pid_status(5).

use std::io;

pub(crate) use crate::platform::os::posix::usage::cpu;

/// Resident memory in bytes, and the number of threads.
pub(crate) fn memory_and_threads() -> io::Result<(u64, u32)> {
    // Not /proc/self/stat, of which an emulator in user mode makes up most fields.
    let status = std::fs::read("/proc/self/status")?;
    // The process's name is in it, which may be no UTF-8.
    parse(&String::from_utf8_lossy(&status))
        .ok_or_else(|| io::Error::other("/proc/self/status has no VmRSS or no Threads"))
}

fn parse(status: &str) -> Option<(u64, u32)> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes: u64 = field("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok()?;
    Some((kilobytes * 1024, field("Threads:")?.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let status = "Name:\tThreads:\t9\nVmHWM:\t    9000 kB\nVmRSS:\t    1234 kB\nThreads:\t17\n";
        assert_eq!(parse(status), Some((1234 * 1024, 17)));
        assert_eq!(parse("Name:\ta\nThreads:\t17\n"), None);
        assert_eq!(parse("VmRSS:\t 12 MB\nThreads:\t17\n"), None);
    }
}
