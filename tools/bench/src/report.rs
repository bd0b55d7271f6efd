//! Everything that is measured, beside what it is held to.

use std::fmt;
use std::fs;

use crate::frames::FRAME;
use crate::model;
use crate::modules::{Folder, MANY, PATCHES, SLOTS};
use crate::publications::TOGETHER;
use crate::results::{Comparison, Goal, median};
use crate::worker::{Samples, run};
use crate::{Options, Result};

use Goal::{AtLeast, AtMost, Equal};

/// All comparisons, and what belongs beside them.
pub(crate) struct Report {
    pub(crate) comparisons: Vec<Comparison>,
    notes: Vec<String>,
    model: std::result::Result<Vec<model::Row>, String>,
    /// For the plot: of the workers that measure frames and the soak.
    pub(crate) frames: Samples,
    pub(crate) soak: Samples,
}

type Section = fn(&mut Report, &Folder, &Options) -> Result<()>;

/// The parts of the report, in order.
pub(crate) const SECTIONS: [(&str, Section); 9] = [
    ("calls", Report::calls),
    ("engine", Report::engine),
    ("reloads", Report::reloads),
    ("publications", Report::publications),
    ("throughput", Report::throughput),
    ("scale", Report::scale),
    ("frames", Report::frames),
    ("memory", Report::memory),
    ("soak", Report::soak),
];

impl Report {
    pub(crate) fn measure(folder: &Folder, options: &Options) -> Result<Self> {
        let model = model::rows(options.call_path.as_deref());
        let (frames, soak) = (Samples::new(), Samples::new());
        let mut report = Report { comparisons: Vec::new(), notes: vec![machine()], model, frames, soak };
        if options.quick {
            report.notes.push("--quick: fewer blocks of frames; the soak is short".into());
        }
        let asked = |name: &str| options.only.is_empty() || options.only.iter().any(|part| part == name);
        for (name, section) in SECTIONS.iter().filter(|(name, _)| asked(name)) {
            eprintln!("{name} ...");
            if let Err(error) = section(&mut report, folder, options) {
                report.comparisons.push(Comparison::failed(name));
                report.notes.push(format!("{name}: not measured: {error}"));
            }
        }
        report.add_model();
        Ok(report)
    }

    /// Several processes: where code and tables lie by chance moves such times, by a factor of
    /// three for `subsecond`.
    fn calls(&mut self, folder: &Folder, _: &Options) -> Result<()> {
        let samples = pooled("calls", folder, 9, 180)?;
        let time = |name: &str| of_variants(&samples, name);
        let mut compare = |name: &str, ours: &str, (peer_name, peer): (&str, &str), goal| {
            let compared = Comparison::new(name, "ns", time(ours), (peer_name, time(peer)), goal);
            self.comparisons.push(compared);
        };
        let pointer = ("function pointer in memory", "pointer");
        compare("call through a pinned table", "pinned", pointer, AtMost(1.05));
        compare("trampoline call, unpinned", "trampoline", pointer, AtMost(1.15));
        compare("trampoline call, unpinned", "trampoline", ("linker's stub (PLT)", "stub"), Goal::None);
        compare("call through a pinned table", "pinned", ("direct call", "direct"), Goal::None);
        let epoch = ("crossbeam-epoch pin + unpin", "crossbeam-epoch");
        compare("pin + unpin", "pin", epoch, AtMost(0.20));
        compare("pin + unpin", "pin", ("seize guard", "seize"), Goal::None);
        compare("pin + unpin", "pin", ("arc-swap load", "arc-swap"), Goal::None);
        let subsecond = ("subsecond HotFn call, 2,000 entries", "subsecond");
        compare("typed Rust call", "pinned", subsecond, AtMost(0.25));
        let hot_lib_reloader = ("hot-lib-reloader wrapper call", "hot-lib-reloader");
        compare("typed Rust call", "pinned", hot_lib_reloader, AtMost(0.02));
        Ok(())
    }

    /// From C.
    fn engine(&mut self, folder: &Folder, _: &Options) -> Result<()> {
        let samples = pooled("engine", folder, 9, 180)?;
        let mut compare = |name: &str, unit, ours: f64, peer: (&str, f64), goal| {
            self.comparisons.push(Comparison::new(name, unit, ours, peer, goal));
        };
        let call = |name| of_variants(&samples, name);
        let pointer = ("function pointer in memory, from C", call("pointer"));
        compare("trampoline call, unpinned, from C", "ns", call("trampoline"), pointer, AtMost(1.15));
        compare(
            "frame begin + end from C",
            "ns",
            call("frame C"),
            ("from Rust", call("frame Rust")),
            Goal::None,
        );
        let rust = ("Runtime::load, the same runtime", median(&samples["reload Rust"]));
        compare("hot_reload_module", "us", median(&samples["reload C"]), rust, AtMost(1.05));
        Ok(())
    }

    fn reloads(&mut self, folder: &Folder, _: &Options) -> Result<()> {
        let samples = pooled("reloads", folder, 5, PATCHES)?;
        let time = |name: &str| median(&samples[name]);
        for (peer, name, goal) in [
            ("subsecond", "subsecond::apply_patch", 0.5),
            ("hot-lib-reloader", "hot-lib-reloader update()", 0.1),
        ] {
            let (ours, peer) = (time("midflight"), (name, time(peer)));
            let name = "reload, small prebuilt module, file to published";
            self.comparisons.push(Comparison::new(name, "us", ours, peer, AtMost(goal)));
        }
        Ok(())
    }

    fn publications(&mut self, folder: &Folder, _: &Options) -> Result<()> {
        let samples = pooled("publications", folder, 3, 200)?;
        let time = |name: &str| median(&samples[name]);
        let name = format!("publication of {TOGETHER} modules at once");
        let peer = ("publication of one module", time("one"));
        self.comparisons.push(Comparison::new(name, "us", time("all"), peer, AtMost(1.5)));
        let (ours, peer) = (time("stage all on two threads"), ("on the calling thread", time("stage all")));
        let name = format!("staging {TOGETHER} modules, on two threads");
        self.comparisons.push(Comparison::new(name, "us", ours, peer, Goal::None));
        let (one, all) = (time("stage one"), time("stage all"));
        self.notes.push(format!(
            "staging before the publication: {one:.1} us of one module, {all:.1} us of {TOGETHER}"
        ));
        Ok(())
    }

    fn throughput(&mut self, folder: &Folder, _: &Options) -> Result<()> {
        let samples = run("throughput", folder.path(), 20)?;
        let name = format!("reloads per second, one core, {MANY} modules loaded");
        self.comparisons.push(Comparison::alone(name, "1/s", median(&samples["rate"]), AtLeast(30_000.0)));
        let on_core = median(&samples["rate on core"]);
        self.notes.push(format!("reloads per second of the time that the thread had the core: {on_core:.0}"));
        Ok(())
    }

    /// What else is loaded is to make no difference to a reload.
    fn scale(&mut self, folder: &Folder, _: &Options) -> Result<()> {
        let samples = run("scale", folder.path(), 1_000)?;
        let time = |name: &str| median(&samples[name]);
        for (what, of) in [("reload", "reload"), ("its publication", "publish")] {
            for (beside, name) in [
                (format!("{} modules", MANY), "modules 1000"),
                (format!("{} modules", 10 * MANY), "modules 10000"),
                (format!("that and {SLOTS} slots"), "slots"),
            ] {
                let name = (format!("{what} beside {beside}"), format!("{of} {name}"));
                let alone = ("beside nothing", time(&format!("{of} alone")));
                self.comparisons.push(Comparison::new(name.0, "us", time(&name.1), alone, Goal::None));
            }
        }
        Ok(())
    }

    fn frames(&mut self, folder: &Folder, options: &Options) -> Result<()> {
        let samples = run("frames", folder.path(), if options.quick { 10 } else { 30 })?;
        let rate = median(&samples["reloads with"]);
        let (with, without) = (median(&samples["with"]), median(&samples["without"]));
        let pairs: Vec<_> =
            samples["with"].iter().zip(&samples["without"]).map(|(with, without)| with / without).collect();
        self.notes.push(format!(
            "frames: medians over the p99.9 of {} blocks of each kind, {rate:.0} reloads/s; pair by pair the ratio is {:.3} in the \
             median, {:.3} to {:.3}",
            pairs.len(),
            median(&pairs),
            pairs.iter().copied().fold(f64::INFINITY, f64::min),
            pairs.iter().copied().fold(0.0, f64::max),
        ));
        self.frames = samples;
        if rate < 950.0 {
            return Err(format!("the other core made {rate:.0} reloads/s only").into());
        }
        let (name, peer) = ("frame p99.9 of a reader, 1,000 reloads/s beside it", ("no reloads", without));
        let mut comparison = Comparison::new(name, "us", with, peer, AtMost(1.10));
        if without > 2.0 * FRAME.as_secs_f64() * 1e6 {
            // Where both are the scheduler's time slices, their ratio is 1 whatever reloads do.
            comparison.met = false;
            self.notes.push(
                "frames: not met, since it cannot be told: others had the reader's core too often".into(),
            );
        }
        self.comparisons.push(comparison);
        let on_core = |name: &str| median(&self.frames[name]);
        let peer = ("no reloads", on_core("without, on core"));
        let name = "the same of the reader's own time on its core";
        self.comparisons.push(Comparison::new(name, "us", on_core("with, on core"), peer, Goal::None));
        Ok(())
    }

    fn memory(&mut self, folder: &Folder, _: &Options) -> Result<()> {
        let samples = run("memory", folder.path(), MANY)?;
        let kib = |name: &str| samples[name][0] / 1024.0;
        let beyond = kib("all") - kib("segments");
        let name = "memory of a loaded small module over its segments";
        self.comparisons.push(Comparison::alone(name, "KiB", beyond, AtMost(24.0)));
        self.notes.push(format!(
            "memory of a module: {:.2} KiB ({:.2} anonymous, {:.2} of memory files, {:.2} page tables) less {:.2} of its segments",
            kib("all"),
            kib("anonymous"),
            kib("memory files"),
            kib("page tables"),
            kib("segments"),
        ));
        Ok(())
    }

    fn soak(&mut self, folder: &Folder, options: &Options) -> Result<()> {
        let samples = run("soak", folder.path(), options.soak)?;
        let ends = |name: &str| (samples[name][samples[name].len() - 1], samples[name][0]);
        let peer = "after 1,000 reloads";
        for (what, unit, goal) in [("resident", "KiB", AtMost(1.02)), ("mappings", "", Equal)] {
            let (last, first) = ends(what);
            let what = if what == "resident" { "RSS" } else { what };
            let name = format!("{what} after {} reloads, four threads calling", options.soak);
            self.comparisons.push(Comparison::new(name, unit, last, (peer, first), goal));
        }
        self.notes.push(format!("soak: {} reloads in {:.0} s", options.soak, samples["seconds"][0]));
        self.soak = samples;
        Ok(())
    }

    /// The models' figures, among the comparisons but held to nothing.
    fn add_model(&mut self) {
        for row in self.model.iter().flatten() {
            if let Some(pointer) = row.pointer_cycles {
                let name = format!("MODEL, AArch64 {} (llvm-mca): {}", row.cpu, row.path);
                let peer = ("function pointer in memory", pointer);
                self.comparisons.push(Comparison::new(name, "cycles", row.cycles, peer, Goal::None));
            }
        }
    }

    /// Whether every goal was.
    pub(crate) fn met(&self) -> bool {
        self.comparisons.iter().all(|comparison| comparison.met)
    }

    pub(crate) fn json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(&self.comparisons)? + "\n")
    }
}

/// The samples of several workers, together.
fn pooled(task: &str, folder: &Folder, workers: usize, amount: usize) -> Result<Samples> {
    let mut all = Samples::new();
    for _ in 0..workers {
        for (name, samples) in run(task, folder.path(), amount)? {
            all.entry(name).or_default().extend(samples);
        }
    }
    Ok(all)
}

/// What it ran on, and what else ran.
fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("?");
    format!(
        "{} ({}), {cores} cores; load average when it began: {load}. Only ratios count, and only if nothing else runs",
        model.map_or("a processor", |(_, model)| model),
        std::env::consts::ARCH
    )
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", Comparison::heading())?;
        self.comparisons.iter().try_for_each(|comparison| writeln!(f, "{}", comparison.line()))?;
        writeln!(f)?;
        self.notes.iter().try_for_each(|note| writeln!(f, "{note}"))?;
        writeln!(f, "\n{}", model::HEADING)?;
        match &self.model {
            Ok(rows) => rows.iter().try_for_each(|row| writeln!(f, "{row}")),
            Err(why) => writeln!(f, "not made: {why}"),
        }
    }
}

/// The mean of the variants' medians: a variant that is slow is not outvoted.
fn of_variants(samples: &Samples, name: &str) -> f64 {
    let of = samples.iter().filter(|(key, _)| key.rsplit_once(' ').is_some_and(|(of, _)| of == name));
    let medians: Vec<_> = of.map(|(_, samples)| median(samples)).collect();
    medians.iter().sum::<f64>() / medians.len() as f64
}
