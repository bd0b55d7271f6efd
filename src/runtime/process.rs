//! What the process uses.

use std::io;
use std::time::Duration;

use crate::platform::os::usage;

/// What the process uses, the host's share included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ProcessUsage {
    /// Resident memory, in bytes.
    pub resident: u64,
    /// Threads, those of the runtime included.
    pub threads: u32,
    /// CPU time of all threads since the process's start, those that are over included.
    pub cpu: Duration,
}

impl ProcessUsage {
    /// Asks the kernel: some ten microseconds.
    ///
    /// # Errors
    ///
    /// If it does not say; on Linux if /proc is not mounted.
    pub fn now() -> io::Result<Self> {
        let (resident, threads) = usage::memory_and_threads()?;
        Ok(Self { resident, threads, cpu: usage::cpu()? })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::time::Instant;

    use super::*;

    #[test]
    fn what_is_used_is_seen() {
        const SIZE: u64 = 64 << 20;
        let before = ProcessUsage::now().unwrap();
        let memory = vec![1_u8; SIZE as usize];
        let meet = Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    meet.wait();
                    meet.wait();
                });
            }
            meet.wait();
            let busy = Instant::now();
            while busy.elapsed() < Duration::from_millis(50) {}
            let now = ProcessUsage::now().unwrap();
            // Other tests come and go meanwhile, with threads and memory of theirs.
            assert!(now.resident >= before.resident + SIZE * 3 / 4, "{before:?} {now:?}");
            assert!(now.threads >= 4, "{now:?}");
            // Another process may have had the core for most of the time.
            assert!(now.cpu > before.cpu + Duration::from_millis(5), "{before:?} {now:?}");
            meet.wait();
        });
        assert_eq!(memory[1 << 20], 1);
    }
}
