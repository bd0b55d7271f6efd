//! How code memory is best written: private pages changed by mprotect, or a memfd that is written
//! and then mapped; on macOS, which has no memfd, MAP_JIT.
//!
//! `cargo bench -p midflight-benches --bench code_memory` prints, for each way, what a reload costs
//! the thread that makes it, and what it costs a thread on the other core that does nothing but
//! open frames and call the module: the sum of its gaps of 0.5 to 100 us. Interrupts (the TLB
//! shoot-downs of mprotect and munmap, membarrier) are of that length; what is longer is the
//! scheduler giving the core to somebody else. Each run is a process of its own, since a
//! runtime's backing is chosen at its start; the ways alternate, so that a drift of the machine
//! meets all of them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use midflight::{Backing, Config, Runtime};

midflight::module! {
    unsafe mod measured { safe fn call(x: u64) -> u64; }
}

const RELOADS: u32 = 2_000;
const PERIOD: Duration = Duration::from_millis(1);
const ROUNDS: usize = 3;
/// Gaps in ns between two calls of the reader that count as interrupts; its own loop takes some 60
/// ns.
const INTERRUPT: std::ops::Range<u64> = 500..100_000;

fn main() {
    if let Ok(way) = std::env::var("MIDFLIGHT_BENCH_WAY") {
        return measure(&way, &std::env::var("MIDFLIGHT_BENCH_FOLDER").expect("set by the parent"));
    }
    let folder = std::env::temp_dir().join(format!("midflight-code-memory-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the modules");
    build(&folder, "small", "unsigned long call(unsigned long x) { return x + 1; }");
    let functions: String = (0..2000)
        .map(|i| format!("static unsigned long f{i}(unsigned long x) {{ return x * {i} + 7; }}"))
        .collect();
    let table: String = (0..2000).map(|i| format!("f{i},")).collect();
    let large = format!(
        "{functions} static unsigned long (*table[])(unsigned long) = {{ {table} }};
         static const char ballast[200000] = {{ 1 }};
         unsigned long call(unsigned long x) {{ return table[x % 2000](x) + ballast[x % 200000]; }}"
    );
    build(&folder, "large", &large);
    println!(
        "{RELOADS} reloads, one each {PERIOD:?}, {ROUNDS} runs of each way in turn; medians of the runs"
    );
    let heading = |columns: [&str; 5]| {
        let [way, columns @ ..] = columns;
        println!("{way:18}{}", columns.map(|column| format!("{column:>24}")).concat());
    };
    heading(["", "stage p50, us", "stage p99, us", "reader loses, ns/reload", "and idle, ns/period"]);
    let ways = if cfg!(target_os = "macos") {
        ["write-once small", "toggled small", "write-once large", "toggled large"]
    } else {
        ["write-once small", "memfd small", "write-once large", "memfd large"]
    };
    let mut runs = vec![Vec::new(); ways.len()];
    for _ in 0..ROUNDS {
        for (way, runs) in ways.iter().zip(&mut runs) {
            runs.push(child(way, &folder));
        }
    }
    for (way, runs) in ways.iter().zip(runs) {
        let median = |column: usize| {
            let mut values: Vec<f64> = runs.iter().map(|run| run[column]).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let figures = [median(0), median(1), median(2), median(3)].map(|figure| format!("{figure:.1}"));
        heading([way, &figures[0], &figures[1], &figures[2], &figures[3]]);
    }
    let _ = std::fs::remove_dir_all(&folder);
}

/// The module's, as linkers take it.
const NAME: &str = if cfg!(target_os = "macos") {
    "-Wl,-install_name,libmeasured.dylib"
} else {
    "-Wl,-soname,libmeasured.so"
};

fn build(folder: &Path, name: &str, source: &str) {
    let (input, output) = (folder.join(format!("{name}.c")), folder.join(format!("{name}.so")));
    std::fs::write(&input, source).expect("writing the module's source");
    let status = Command::new("cc")
        .args(["-O2", "-fPIC", "-shared", NAME, "-o"])
        .args([&output, &input])
        .status()
        .expect("a C compiler");
    assert!(status.success());
}

fn child(way: &str, folder: &PathBuf) -> Vec<f64> {
    let output = Command::new(std::env::current_exe().expect("this program"))
        .envs([("MIDFLIGHT_BENCH_WAY", way)])
        .env("MIDFLIGHT_BENCH_FOLDER", folder)
        .output()
        .expect("starting a run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("figures");
    text.split_whitespace().map(|figure| figure.parse().expect("a figure")).collect()
}

/// One run: prints stage p50 and p99 in us, ns lost per reload beyond idling, ns lost per period
/// idle.
fn measure(way: &str, folder: &str) {
    let (backing, size) = way.split_once(' ').expect("way and size");
    let mut config = Config::default();
    config.backing = match backing {
        "memfd" => Backing::Memfd,
        "toggled" => Backing::Toggled,
        _ => Backing::WriteOnce,
    };
    let rt = Runtime::start_with(config).expect("the runtime");
    let path = Path::new(folder).join(format!("{size}.so"));
    // SAFETY: `call` is as declared.
    let load = || unsafe { rt.load(&path) }.expect("the module");
    load();

    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let pin = |core: usize| cores.get(core).is_none_or(|&core| core_affinity::set_for_current(core));
    let (stop, lost) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(1);
            let mut last = Instant::now();
            let mut x = 0;
            while !stop.load(Ordering::Relaxed) {
                x = measured::call(&rt.frame(), x);
                let now = Instant::now();
                let gap = (now - last).as_nanos() as u64;
                if INTERRUPT.contains(&gap) {
                    lost.fetch_add(gap, Ordering::Relaxed);
                }
                last = now;
            }
            std::hint::black_box(x);
        });
        pin(0);
        let phase = |work: &mut dyn FnMut()| {
            lost.store(0, Ordering::Relaxed);
            let begin = Instant::now();
            for reload in 1..=RELOADS {
                work();
                std::thread::sleep((PERIOD * reload).saturating_sub(begin.elapsed()));
            }
            lost.load(Ordering::Relaxed) as f64 / f64::from(RELOADS)
        };
        let idle = phase(&mut || ());
        let mut stages = Vec::with_capacity(RELOADS as usize);
        let busy = phase(&mut || stages.push(load().stage.as_nanos() as f64 / 1e3));
        stop.store(true, Ordering::Relaxed);
        stages.sort_by(f64::total_cmp);
        let percentile = |p: usize| stages[(stages.len() - 1) * p / 100];
        println!("{} {} {} {}", percentile(50), percentile(99), busy - idle, idle);
    });
}
