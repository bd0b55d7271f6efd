//! What the tests share: the runtime, and modules.
#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod heard;
mod kept;
#[cfg(target_os = "linux")]
pub(crate) mod linked;
pub(crate) mod looks;
pub(crate) mod saying;
mod workshop;

use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use midflight::{Error, ImageError, Runtime};
#[allow(unused_imports, reason = "as above")]
pub(crate) use workshop::*;

/// The runtime, a workshop, and this test's turn: a frame that another test of the same binary
/// holds open would keep this one's old code, and what one publishes would move the other's
/// generation.
pub(crate) fn start(name: &str) -> (Runtime, Workshop, MutexGuard<'static, ()>) {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    (Runtime::start().unwrap(), Workshop::new(name), turn)
}

/// As [`start`]. None where Mach-O files are refused: Apple's linkers align segments to 16 KiB, and
/// parts of two with different protections then share a page of 64 KiB.
pub(crate) fn start_macho(name: &str) -> Option<(Runtime, Workshop, MutexGuard<'static, ()>)> {
    let (rt, shop, turn) = start(name);
    if !is_forced("page-size=65536") {
        return Some((rt, shop, turn));
    }
    let module = shop.macho("counter", 1, "static int n; int next(void) { return ++n; }", &[]);
    // SAFETY: it is refused before any of it runs.
    let error = unsafe { rt.load(module) }.unwrap_err();
    assert!(matches!(&error, Error::Image { source: ImageError::SharedPage { .. }, .. }), "{error}");
    None
}

/// This test binary again, to run one test in a process of its own.
pub(crate) fn this_test(name: &str) -> Command {
    let mut command = match std::env::var("MIDFLIGHT_TEST_RUNNER") {
        // Under an emulator a process cannot start another of its own kind by itself.
        Ok(runner) => {
            let mut words = runner.split_whitespace();
            let mut command = Command::new(words.next().expect("a runner"));
            command.args(words).arg(std::env::current_exe().expect("the test's own path"));
            command
        }
        Err(_) => Command::new(std::env::current_exe().expect("the test's own path")),
    };
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]);
    command
}

/// Whether QEMU runs this: then the process has memory of the emulator's, and a thread that blocks
/// every signal, so that no look at the threads is ever complete; and things take longer.
pub(crate) fn is_emulated() -> bool {
    std::env::var("MIDFLIGHT_TEST_RUNNER").is_ok_and(|runner| runner.contains("qemu"))
}

/// What a test prints at the end of the process that [`is_child`] gives it.
pub(crate) const DONE: &str = "all is as it was to be";

/// Runs the test in a process of its own, which ends well and with [`DONE`]: for what is the whole
/// process's, as its descriptors and limits are. True in that process.
pub(crate) fn is_child(test: &str) -> bool {
    const CHILD: &str = "MIDFLIGHT_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let output = this_test(test).env(CHILD, "1").output().expect("this program starts again");
    let said = String::from_utf8_lossy(&output.stdout);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains(DONE), "{:?}\n{said}\n{told}", output.status);
    false
}

/// Whether the run forces a fall-back of this name on the runtime (`Config`, the environment's
/// part).
pub(crate) fn is_forced(fallback: &str) -> bool {
    std::env::var("MIDFLIGHT_FALLBACKS").is_ok_and(|names| names.split(',').any(|name| name == fallback))
}

/// The process's mappings, a line each; on Linux /proc/self/maps.
#[cfg(target_os = "linux")]
pub(crate) fn mappings() -> String {
    std::fs::read_to_string("/proc/self/maps").expect("/proc is mounted")
}

/// The process's mappings, a line each; on Linux /proc/self/maps.
#[cfg(not(target_os = "linux"))]
pub(crate) fn mappings() -> String {
    let regions = region::query_range(std::ptr::null::<u8>(), isize::MAX as usize).expect("a range");
    // Ended by the first error: the iterator would give it for ever.
    let regions: Result<Vec<_>, _> = regions.collect();
    regions.expect("the system tells them").iter().map(|region| format!("{region:?}\n")).collect()
}

/// The number of mappings; under QEMU, where the heap grows by a mapping for every page, only of
/// those that are ours.
pub(crate) fn count_mappings() -> usize {
    mappings().lines().filter(|line| !is_emulated() || line.contains("midflight: code")).count()
}
