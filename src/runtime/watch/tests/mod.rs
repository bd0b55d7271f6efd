//! Files written in all the ways that there are, by threads of this process and by others.

mod callbacks;
mod folders;
#[cfg(target_os = "linux")]
mod leases;
mod rewriting;
mod settling;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::*;
use crate::platform::threads::is_emulated;

/// Time enough for a machine that does much else.
const AMPLE: Duration = Duration::from_secs(20);
/// In which nothing is to happen: many debounces of `quick`.
const QUIET: Duration = Duration::from_millis(150);

/// A folder of the test's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("midflight-watch-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        // As the kernel names it, so that links in the way are those of the test.
        Self(path.canonicalize().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A short debounce, and every file counts as whole.
fn quick() -> Settle {
    Settle {
        debounce: Duration::from_millis(2),
        patience: Duration::from_millis(60),
        held: AMPLE,
        whole: |_| true,
        leases: true,
    }
}

#[derive(Debug, PartialEq)]
enum Told {
    Version(Vec<u8>),
    Failed(io::ErrorKind),
    Panicked(String),
}

fn told(outcome: Outcome) -> Told {
    match outcome {
        Outcome::Version(contents) => {
            assert_eq!(ContentHash::of(&contents.bytes), contents.digest);
            Told::Version(contents.bytes.to_vec())
        }
        Outcome::Failed(error) => Told::Failed(error.kind()),
        Outcome::Panicked(message) => Told::Panicked(message),
    }
}

/// What a callback was told.
struct Log(Receiver<Told>);

impl Log {
    fn new() -> (Sender<Told>, Self) {
        let (sender, receiver) = channel();
        (sender, Self(receiver))
    }

    #[track_caller]
    fn next(&self) -> Told {
        self.0.recv_timeout(AMPLE).expect("something is told")
    }

    #[track_caller]
    fn is_next(&self, bytes: impl AsRef<[u8]>) {
        assert_eq!(self.next(), Told::Version(bytes.as_ref().to_vec()));
    }

    #[track_caller]
    fn is_quiet(&self) {
        assert_eq!(self.0.recv_timeout(QUIET), Err(RecvTimeoutError::Timeout));
    }

    /// The callback goes soon, and is told nothing before.
    #[track_caller]
    fn ends(&self) {
        assert_eq!(self.0.recv_timeout(AMPLE), Err(RecvTimeoutError::Disconnected));
    }

    /// The callback is gone.
    #[track_caller]
    fn is_over(&self) {
        assert_eq!(self.0.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected));
    }
}

impl Watcher {
    /// Watches, and logs what is told.
    fn log(&self, path: &Path, settle: Settle) -> (WatchId, Log) {
        let (sender, log) = Log::new();
        let callback = move |_: &Path, outcome| sender.send(told(outcome)).unwrap();
        (self.watch(path, settle, None, Box::new(callback)).unwrap(), log)
    }

    fn places(&self) -> usize {
        self.running().as_ref().map_or(0, |running| running.shared.places())
    }
}

/// A thread of this process with this name, by its number.
#[cfg(target_os = "linux")]
fn threads_named(name: &str) -> Vec<PathBuf> {
    let is = |task: &PathBuf| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim_end() == name);
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    tasks.filter(is).collect()
}
