//! What a reader feels: the times of its frames, of always the same work, with and without reloads
//! on another core. Microseconds.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use midflight::Runtime;

use crate::Result;
use crate::loaded::load;
use crate::modules::{self, measured};
use crate::worker::{Samples, stay_on_core, time_on_core};

/// What a frame's work is chosen to take.
pub(crate) const FRAME: Duration = Duration::from_micros(100);
const PERIOD: Duration = Duration::from_millis(1);
/// A block's length: at 10,000 frames a second its p99.9 has 20 frames above it.
const BLOCK: Duration = Duration::from_secs(2);

/// `pairs` blocks with reloads and as many without. For each the p99.9, that of the thread's own
/// time on its core (without what the system gave to others), and the reloads per second; and the
/// percentiles of all frames.
pub(crate) fn measure(folder: &Path, pairs: usize) -> Result<Samples> {
    let rt = Runtime::start()?;
    let files = [1, 2].map(|version| modules::version_file(folder, version));
    load(rt, &files[0])?;
    let done = AtomicU64::new(0);
    let (order, orders) = sync_channel(0);
    thread::scope(|scope| {
        let publisher = scope.spawn(|| reload(rt, &files.each_ref().map(|f| f.as_path()), orders, &done));
        let samples = read(rt, pairs, &order, &done);
        drop(order);
        publisher.join().expect("the publisher does not panic")?;
        samples
    })
}

/// The publisher: for each order, a reload each millisecond until it has lasted that long.
fn reload(rt: Runtime, files: &[&Path; 2], orders: Receiver<Duration>, done: &AtomicU64) -> Result<()> {
    stay_on_core(1)?;
    for time in orders {
        let begin = Instant::now();
        for number in 1.. {
            if begin.elapsed() >= time {
                break;
            }
            load(rt, files[number as usize % 2])?;
            // Relaxed: a count, read when it does not matter how fresh it is.
            done.fetch_add(1, Ordering::Relaxed);
            thread::sleep((PERIOD * number).saturating_sub(begin.elapsed()));
        }
    }
    Ok(())
}

fn read(rt: Runtime, pairs: usize, order: &SyncSender<Duration>, done: &AtomicU64) -> Result<Samples> {
    stay_on_core(0)?;
    let calls = calibrate(rt);
    let mut all = [Vec::new(), Vec::new()];
    let mut samples = Samples::new();
    for block in 0..2 * pairs {
        // With first, without first, with first, ...
        let with = (block + block / 2) % 2 == 0;
        if with {
            order.send(BLOCK).map_err(|_| "the publisher has failed")?;
        }
        let before = done.load(Ordering::Relaxed);
        let begin = Instant::now();
        let (mut times, mut on_core) = (Vec::with_capacity(1 << 16), Vec::with_capacity(1 << 16));
        while begin.elapsed() < BLOCK {
            let before = time_on_core();
            times.push(frame(rt, calls));
            on_core.push((time_on_core() - before).as_secs_f64() * 1e6);
        }
        let rate = (done.load(Ordering::Relaxed) - before) as f64 / begin.elapsed().as_secs_f64();
        let name = if with { "with" } else { "without" };
        all[usize::from(with)].extend_from_slice(&times);
        samples.entry(name.into()).or_default().push(percentile(&mut times, 0.999));
        samples.entry(format!("{name}, on core")).or_default().push(percentile(&mut on_core, 0.999));
        samples.entry(format!("reloads {name}")).or_default().push(rate);
    }
    for (name, times) in ["curve without", "curve with"].into_iter().zip(&mut all) {
        let percentiles = CURVE.map(|p| percentile(times, p));
        samples.insert(name.into(), percentiles.into());
    }
    Ok(samples)
}

/// The percentiles that are drawn.
pub(crate) const CURVE: [f64; 8] = [0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 0.9999, 1.0];

/// One frame, in microseconds.
fn frame(rt: Runtime, calls: u64) -> f64 {
    let begin = Instant::now();
    let frame = &rt.frame();
    let mut x = 0;
    for _ in 0..calls {
        x = measured::call(frame, x);
    }
    let time = begin.elapsed();
    assert!(x == calls || x == 2 * calls, "a frame is of one version");
    time.as_secs_f64() * 1e6
}

/// How many calls take as long as a frame shall: the median of many.
fn calibrate(rt: Runtime) -> u64 {
    const CALLS: u64 = 50_000;
    let mut times: Vec<_> = (0..1_001).map(|_| frame(rt, CALLS)).collect();
    (FRAME.as_secs_f64() * 1e6 / percentile(&mut times, 0.5) * CALLS as f64) as u64
}

fn percentile(times: &mut [f64], p: f64) -> f64 {
    times.sort_by(f64::total_cmp);
    times[((times.len() - 1) as f64 * p) as usize]
}
