//! What a process has after many reloads, with four threads calling all the while.

use std::fs;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use midflight::Runtime;

use crate::Result;
use crate::loaded::load;
use crate::memory::smaps_rollup;
use crate::modules::{self, measured};
use crate::worker::Samples;

const CALLERS: usize = 4;
/// From here on nothing may grow.
const WARM: usize = 1_000;

/// Stops the callers between two frames, so that what is measured does not depend on which versions
/// they happen to be inside.
struct Gate {
    closed: AtomicBool,
    over: AtomicBool,
    /// The callers and the publisher: all are between frames; and again, when they may go on.
    met: Barrier,
}

/// At 1,000 reloads and ten times on the way to all of them: how many there were, RSS in KiB,
/// mappings, generations and versions that are not free.
pub(crate) fn measure(folder: &Path, reloads: usize) -> Result<Samples> {
    let rt = Runtime::start()?;
    let files = [1, 2].map(|version| modules::version_file(folder, version));
    load(rt, &files[0])?;
    let gate =
        Gate { closed: AtomicBool::new(false), over: AtomicBool::new(false), met: Barrier::new(CALLERS + 1) };
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| call(rt, &gate));
        }
        let samples = publish(rt, &files.each_ref().map(|f| f.as_path()), reloads, &gate);
        // Also when it failed: the callers must end. Release: with their acquire, over is seen with
        // closed.
        gate.over.store(true, Ordering::Relaxed);
        gate.closed.store(true, Ordering::Release);
        gate.met.wait();
        samples
    })
}

fn call(rt: Runtime, gate: &Gate) {
    loop {
        // Acquire: the partner of closing.
        if gate.closed.load(Ordering::Acquire) {
            gate.met.wait();
            if gate.over.load(Ordering::Relaxed) {
                return;
            }
            gate.met.wait();
        }
        let frame = &rt.frame();
        let x = (0..100).fold(0, |x, _| measured::call(frame, x));
        assert!(x == 100 || x == 200, "a frame is of one version");
    }
}

fn publish(rt: Runtime, files: &[&Path; 2], reloads: usize, gate: &Gate) -> Result<Samples> {
    let mut samples = Samples::new();
    let begin = Instant::now();
    for number in 1..=reloads {
        load(rt, files[number % 2])?;
        if number != WARM && number % (reloads / 10) != 0 {
            continue;
        }
        gate.closed.store(true, Ordering::Release);
        gate.met.wait();
        // Which place the current version has depends on how many others were held when it came.
        // Some reloads with nobody inside any, an even number, and it is where it is with nothing
        // held.
        for again in 1..=4 {
            load(rt, files[(number + again) % 2])?;
        }
        let left = rt.collect()?;
        // The first measurement is thrown away: reading /proc allocates.
        let _ = (smaps_rollup("Rss")?, mappings()?);
        let (resident, mappings) = (smaps_rollup("Rss")? / 1024, mappings()?);
        // Before they are let go on; nobody reads it meanwhile.
        gate.closed.store(false, Ordering::Relaxed);
        gate.met.wait();
        let seconds = begin.elapsed().as_secs_f64();
        let held = left.held + left.retained + left.busy;
        eprintln!(
            "{number} reloads, {seconds:.0} s: RSS {resident} KiB, {mappings} mappings, {} bytes retired, {held} generations or \
             versions not free",
            left.old_bytes
        );
        for (name, value) in
            [("reloads", number), ("resident", resident as usize), ("mappings", mappings), ("held", held)]
        {
            samples.entry(name.into()).or_default().push(value as f64);
        }
    }
    samples.insert("seconds".into(), vec![begin.elapsed().as_secs_f64()]);
    Ok(samples)
}

fn mappings() -> Result<usize> {
    Ok(fs::read_to_string("/proc/self/maps")?.lines().count())
}
