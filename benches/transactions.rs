//! What a transaction costs, with a journal and without: `scripts/bench transactions`.
//!
//! Each row is the median of runs that take turns with those that it is compared with. A commit is
//! measured from the beginning of its transaction to its end: reading, linking, the journal, the
//! publication. The journal is in the folder of BENCH_FOLDER, else in the temporary one: what a
//! sync takes is the disk's.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use midflight::{Config, JournalOptions, LoadOptions, Publication, Runtime, TransactionOptions};

midflight::module! {
    unsafe mod m0 { safe fn f0() -> i32; }
}

const MODULES: usize = 16;
const RUNS: usize = 60;
const COMMITTERS: usize = 8;
const WHILE: Duration = Duration::from_secs(2);

fn build(folder: &Path) {
    for version in 1..=2 {
        for module in 0..MODULES {
            let here = folder.join(version.to_string());
            std::fs::create_dir_all(&here).expect("a folder for the modules");
            let source = here.join("module.c");
            std::fs::write(&source, format!("int f{module}(void) {{ return {version}; }}"))
                .expect("a source");
            let done = Command::new(std::env::var_os("CC").unwrap_or("cc".into()))
                .args(["-O2", "-shared", "-fPIC", "-Wl,-z,max-page-size=65536"])
                .arg(format!("-Wl,-soname,libm{module}.so"))
                .arg("-o")
                .arg(file(folder, version, module))
                .arg(&source)
                .status();
            assert!(done.expect("a C compiler").success());
        }
    }
}

fn file(folder: &Path, version: usize, module: usize) -> PathBuf {
    folder.join(version.to_string()).join(format!("libm{module}.so"))
}

fn commit(rt: Runtime, folder: &Path, version: usize, modules: std::ops::Range<usize>) -> Publication {
    let mut tx = rt.transaction(&TransactionOptions::new().rehearse(false)).expect("a transaction");
    for module in modules {
        // SAFETY: the modules have the functions as declared above.
        unsafe { tx.load(file(folder, version, module)) }.expect("it loads");
    }
    tx.commit().expect("it commits").expect("it published")
}

/// The p-th of a hundred.
fn percentile(mut times: Vec<Duration>, p: usize) -> f64 {
    times.sort_unstable();
    times[(times.len() * p / 100).min(times.len() - 1)].as_secs_f64() * 1e6
}

/// Medians of a commit of so many modules, and of the publication in it, in microseconds.
fn commits(rt: Runtime, folder: &Path, modules: usize) -> (f64, f64) {
    let (mut whole, mut publish) = (Vec::new(), Vec::new());
    for run in 0..RUNS {
        let begin = Instant::now();
        let publication = commit(rt, folder, run % 2 + 1, 0..modules);
        whole.push(begin.elapsed());
        publish.push(publication.publish);
    }
    (percentile(whole, 50), percentile(publish, 50))
}

/// Of writing so many bytes to a file that is there, and syncing them.
fn bare_sync(folder: &Path, bytes: usize) -> f64 {
    let data = vec![1; bytes];
    let times = (0..RUNS).map(|_| {
        let mut file = File::create(folder.join("bare")).expect("a file");
        let begin = Instant::now();
        file.write_all(&data).and_then(|()| file.sync_data()).expect("it is written");
        begin.elapsed()
    });
    percentile(times.collect(), 50)
}

/// Commits in a second, of so many threads with a module each.
fn throughput(rt: Runtime, folder: &Path, threads: usize) -> f64 {
    let begin = Instant::now();
    let counts = std::thread::scope(|scope| {
        let committer = |module: usize| {
            scope.spawn(move || {
                let mut count = 0;
                while begin.elapsed() < WHILE {
                    commit(rt, folder, count % 2 + 1, module..module + 1);
                    count += 1;
                }
                count
            })
        };
        let threads: Vec<_> = (0..threads).map(committer).collect();
        threads.into_iter().map(|thread| thread.join().expect("it commits")).sum::<usize>()
    });
    counts as f64 / begin.elapsed().as_secs_f64()
}

/// p99 of a frame with a call in it, of a thread that does nothing else, in nanoseconds.
fn frames(rt: Runtime, meanwhile: impl FnOnce()) -> f64 {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut times = Vec::new();
            // Relaxed: it ends soon enough.
            while !stop.load(Ordering::Relaxed) {
                let begin = Instant::now();
                std::hint::black_box(m0::f0(&rt.frame()));
                times.push(begin.elapsed());
            }
            times
        });
        meanwhile();
        stop.store(true, Ordering::Relaxed);
        percentile(reader.join().expect("it reads"), 99) * 1e3
    })
}

fn row(what: &str, figure: String, goal: &str, met: Option<bool>) {
    let met = met.map_or("", |met| if met { "met" } else { "NOT MET" });
    println!("{what:58}{figure:>16}  {goal:24}{met}");
}

fn main() {
    let folder = std::env::var_os("BENCH_FOLDER").map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = folder.join(format!("midflight-transactions-{}", std::process::id()));
    build(&folder);
    let rt = Runtime::start().expect("it starts");
    let bytes =
        |modules| (0..modules).map(|module| std::fs::metadata(file(&folder, 1, module)).unwrap().len());
    let us = |us: f64| format!("{us:.0} us");

    let sizes = [1, 3, 16];
    commit(rt, &folder, 1, 0..MODULES);
    let staged = sizes.map(|modules| commits(rt, &folder, modules));
    let syncs = sizes.map(|modules| bare_sync(&folder, bytes(modules).sum::<u64>() as usize));
    let (mut swaps, mut rollbacks) = (Vec::new(), Vec::new());
    // SAFETY: as above.
    unsafe { rt.load_with([file(&folder, 1, 0)], &LoadOptions::new().keep_previous(true)) }
        .expect("it loads");
    for _ in 0..RUNS {
        let begin = Instant::now();
        let publication = rt.rollback_module("m0").expect("there is one");
        rollbacks.push(begin.elapsed());
        swaps.push(publication.publish);
    }
    for ((modules, (whole, _)), sync) in sizes.iter().zip(&staged).zip(&syncs) {
        row(&format!("{modules} modules, no journal (staging)"), us(*whole), "", None);
        row("  bare fdatasync of the same bytes", us(*sync), "", None);
    }
    for (name, two_phase, goal) in [("durable", false, 1.5), ("two-phase", true, 2.3)] {
        rt.shutdown().expect("it stops");
        // SAFETY: it has the modules above.
        let journal = unsafe { JournalOptions::new(folder.join(name)) }.two_phase(two_phase);
        Runtime::start_with(Config::new().journal(journal)).expect("it starts");
        commit(rt, &folder, 1, 0..MODULES);
        commit(rt, &folder, 2, 0..MODULES);
        for ((modules, (staged, _)), sync) in sizes.iter().zip(&staged).zip(&syncs) {
            let (whole, publish) = commits(rt, &folder, *modules);
            let ratio = whole / (staged + sync);
            let goal = (*modules == 3).then_some(goal);
            let said = goal.map_or(String::new(), |goal| format!("at most {goal}"));
            row(&format!("{modules} modules, {name}"), us(whole), "", None);
            row(
                "  of staging and a bare fdatasync",
                format!("{ratio:.2}"),
                &said,
                goal.map(|goal| ratio <= goal),
            );
            row(
                "  publication inside it",
                format!("{publish:.1} us"),
                "at most 50 us",
                Some(publish <= 50.0),
            );
        }
        if !two_phase {
            let one = throughput(rt, &folder, 1);
            let many = throughput(rt, &folder, COMMITTERS);
            row("1 committer, durable", format!("{one:.0}/s"), "", None);
            row(&format!("{COMMITTERS} committers, durable"), format!("{many:.0}/s"), "", None);
            row("  of one", format!("{:.2}", many / one), "at least 4", Some(many / one >= 4.0));
            let idle = frames(rt, || std::thread::sleep(WHILE));
            let busy = frames(rt, || _ = throughput(rt, &folder, 1));
            row("reader's frame p99, idle", format!("{idle:.0} ns"), "", None);
            row(
                "  during durable commits, of idle",
                format!("{:.2}", busy / idle),
                "at most 1.10",
                Some(busy / idle <= 1.1),
            );
        }
    }
    let (swap, whole) = (percentile(swaps, 50), percentile(rollbacks, 50));
    row("rollback, no journal", format!("{whole:.1} us"), "at most 20 us", Some(whole <= 20.0));
    row("  publication inside it", format!("{swap:.1} us"), "", None);
    rt.shutdown().expect("it stops");
    std::fs::remove_dir_all(&folder).expect("it is there");
}
