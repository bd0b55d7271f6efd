//! Workers: processes that measure one thing each, and say what they saw.

use std::collections::BTreeMap;
use std::env::ArgsOs;
use std::io::stdout;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::{Result, calls, engine, frames, memory, publications, reloads, soak};

/// What was measured, by name, in the order of measuring.
pub(crate) type Samples = BTreeMap<String, Vec<f64>>;

/// Measures with the modules of this folder, so much.
type Measure = fn(&Path, usize) -> Result<Samples>;

/// What a worker can measure.
const TASKS: [(&str, Measure); 9] = [
    ("calls", calls::measure),
    ("engine", engine::measure),
    ("reloads", reloads::measure),
    ("publications", publications::measure),
    ("throughput", publications::throughput),
    ("scale", publications::scale),
    ("frames", frames::measure),
    ("soak", soak::measure),
    ("memory", memory::measure),
];

/// In the worker: `TASK FOLDER AMOUNT`.
pub(crate) fn main(arguments: ArgsOs) -> Result<()> {
    let arguments: Vec<_> = arguments.collect();
    let [task, folder, amount] = &arguments[..] else {
        return Err("a worker takes a task, a folder and an amount".into());
    };
    let (_, measure) = TASKS.iter().find(|(name, _)| task == name).ok_or("no such task")?;
    let amount = amount.to_str().ok_or("the amount is not a number")?.parse()?;
    serde_json::to_writer(stdout(), &measure(Path::new(folder), amount)?)?;
    Ok(())
}

/// In the bench: a worker's samples. What it says of its progress goes to the terminal.
pub(crate) fn run(task: &str, folder: &Path, amount: usize) -> Result<Samples> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["worker", task]).arg(folder).arg(amount.to_string()).stderr(Stdio::inherit());
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("{task}: the worker failed ({})", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Keeps this thread, and those it will start, on one core. Cores are counted from the last one,
/// since systems serve most interrupts on the first.
pub(crate) fn stay_on_core(from_last: usize) -> Result<()> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let core = cores.len().checked_sub(1 + from_last).and_then(|at| cores.get(at));
    let core = core.ok_or_else(|| format!("it needs {} cores", from_last + 1))?;
    if core_affinity::set_for_current(*core) { Ok(()) } else { Err("the core cannot be chosen".into()) }
}

/// How long this thread has had a core.
pub(crate) fn time_on_core() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes to the structure, which is there.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "the clock is there");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
