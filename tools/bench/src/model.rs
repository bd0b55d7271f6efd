//! What scheduling models make of the call paths for AArch64. A model knows neither caches nor
//! branch prediction: it says how many cycles the instructions take at least, on a processor that
//! nothing here was run on.

use std::fmt;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

const CPUS: [&str; 3] = ["apple-m1", "neoverse-n1", "neoverse-v2"];

/// The trampoline of a slot below 4,096, as `src/platform/arch/aarch64/trampoline/mod.rs` encodes
/// it and asserts.
const TRAMPOLINE: &str = "bti c
mrs x16, tpidr_el0
ldr x16, [x16, #16]
ldr x16, [x16, #24]
br x16
";

pub(crate) const HEADING: &str = "\
MODEL, not a measurement: AArch64 call paths by llvm-mca, the emitted loop of one call. `cycles` of a turn when many follow each
other, `latency` of a single turn; the callee is left out. Caches and branch prediction are not modelled.
                                   instructions  loads  cycles  latency";

/// A call path on a processor.
pub(crate) struct Row {
    pub(crate) cpu: &'static str,
    pub(crate) path: &'static str,
    instructions: usize,
    loads: usize,
    pub(crate) cycles: f64,
    latency: f64,
    /// The cycles of the call through a pointer; none for that itself.
    pub(crate) pointer_cycles: Option<f64>,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { cpu, path, instructions, loads, cycles, latency, .. } = self;
        write!(f, "{cpu:12}  {path:20}{instructions:>13}{loads:>7}{cycles:>8.2}{latency:>9}")
    }
}

/// All paths on all processors, or why there is no model.
pub(crate) fn rows(assembly: Option<&Path>) -> Result<Vec<Row>, String> {
    let assembly = assembly.ok_or("no assembly for AArch64 was given")?;
    let assembly =
        fs::read_to_string(assembly).map_err(|error| format!("{}: {error}", assembly.display()))?;
    let lacks = |name: &str| format!("the assembly has no loop with one call in {name}");
    let body = |name: &str| loop_body(&assembly, name).ok_or_else(|| lacks(name));
    let pointer = body("midflight_call_path_pointer")?;
    let pinned = body("midflight_call_path_pinned")?;
    // The call comes to the trampoline, which goes on to the function, which returns behind the
    // call.
    let call = pointer.find("blr").expect("the body has it");
    let behind = call + pointer[call..].find('\n').expect("each line has an end") + 1;
    let trampoline = format!("{}{TRAMPOLINE}{}", &pointer[..behind], &pointer[behind..]);
    let mca = ["llvm-mca-19", "llvm-mca"];
    let runs = |name: &&str| Command::new(name).arg("--version").stdout(Stdio::null()).status().is_ok();
    let mca = mca.into_iter().find(runs).ok_or("llvm-mca is missing (package llvm-19)")?;
    let mut rows = Vec::new();
    for cpu in CPUS {
        let mut pointer_cycles = None;
        for (path, body) in
            [("function pointer", &pointer), ("pinned call", &pinned), ("trampoline", &trampoline)]
        {
            const MANY: usize = 1_000;
            let steady = analyse(mca, cpu, body, MANY)?;
            let once = analyse(mca, cpu, body, 1)?;
            let cycles = steady.cycles / MANY as f64;
            let (instructions, loads, latency) = (once.instructions, once.loads, once.cycles);
            rows.push(Row { cpu, path, instructions, loads, cycles, latency, pointer_cycles });
            pointer_cycles = pointer_cycles.or(Some(cycles));
        }
    }
    Ok(rows)
}

/// The instructions of the loop with the call in a function: from the label before it to the branch
/// back.
fn loop_body(assembly: &str, function: &str) -> Option<String> {
    let lines = assembly.lines().skip_while(|line| line.strip_suffix(':') != Some(function)).skip(1);
    let (mut body, mut called) = (String::new(), false);
    for line in lines.map(str::trim) {
        if line.starts_with(".LBB") {
            if called {
                return None;
            }
            body.clear();
        } else if !line.starts_with('.') && !line.is_empty() && !line.ends_with(':') {
            body.extend([line, "\n"]);
            called |= line.starts_with("blr");
            let branches = line.starts_with("b.") || line.starts_with("cb") || line.starts_with("tb");
            if called && branches {
                return Some(body);
            }
        } else if line.starts_with(".Lfunc_end") {
            break;
        }
    }
    None
}

struct Analysis {
    instructions: usize,
    loads: usize,
    cycles: f64,
}

fn analyse(mca: &str, cpu: &str, body: &str, iterations: usize) -> Result<Analysis, String> {
    let failed = |error: &dyn fmt::Display| format!("{mca}: {error}");
    // Calls have no model but an assumed latency of 100 cycles: one cycle, as other branches.
    let mut child = Command::new(mca)
        .args(["-mtriple=aarch64", "-call-latency=1", "-json", &format!("-mcpu={cpu}")])
        .arg(format!("-iterations={iterations}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(&error))?;
    let mut input = child.stdin.take().expect("it is a pipe");
    input.write_all(body.as_bytes()).map_err(|error| failed(&error))?;
    drop(input);
    let output = child.wait_with_output().map_err(|error| failed(&error))?;
    if !output.status.success() {
        return Err(failed(&String::from_utf8_lossy(&output.stderr)));
    }
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).map_err(|error| failed(&error))?;
    let region = &json["CodeRegions"][0];
    let list = region["InstructionInfoView"]["InstructionList"].as_array();
    let cycles = region["SummaryView"]["TotalCycles"].as_f64();
    let (Some(list), Some(cycles)) = (list, cycles) else {
        return Err(failed(&"its output has no summary"));
    };
    // Hints are said to load and store, to be left where they are.
    let loads = list.iter().filter(|i| i["mayLoad"] == true && i["mayStore"] == false).count();
    Ok(Analysis { instructions: list.len(), loads, cycles })
}
