//! The C API as an engine meets it: `scripts/c-api [x86_64 | aarch64]` builds and runs this.
//!
//! Installs midflight into a temporary folder and checks, with gcc and clang (19): what the
//! libraries export; the code blocks of docs/runtime-api.md that concern the headers that are
//! there, compiled as they are printed and run on real modules (tests/c-api); the C++ header; every
//! link line of docs/linking.md; the table of codes of docs/c-api.md; the engines of examples/c,
//! whose module is rewritten while they run. One line for each; the exit status says whether one
//! failed. The other machine runs under QEMU.

mod bench;
mod blocks;
mod checks;
mod cpp_header;
mod documents;
mod examples;
mod installed;
mod linking;
mod sanitizers;
mod structs;

use std::process::ExitCode;

use bench::Bench;
use checks::Checks;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arch = match &arguments[..] {
        [] => "x86_64",
        [arch] if arch == "x86_64" || arch == "aarch64" => arch,
        _ => {
            eprintln!("usage: scripts/c-api [x86_64 | aarch64]");
            return ExitCode::from(2);
        }
    };
    let mut checks = Checks::default();
    if let Err(why) = all(arch, &mut checks) {
        eprintln!("c-api: {why}");
        return ExitCode::FAILURE;
    }
    println!("== summary\n{arch}: {} passed, {} failed", checks.passed, checks.failed);
    if checks.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// # Errors
///
/// What keeps the rest from being checked at all.
fn all(arch: &str, checks: &mut Checks) -> Result<(), String> {
    let bench = Bench::set_up(arch)?;
    installed::check(&bench, checks)?;
    blocks::check(&bench, checks)?;
    cpp_header::check(&bench, checks)?;
    linking::check(&bench, checks)?;
    examples::check(&bench, checks)?;
    documents::check(&bench, checks);
    sanitizers::check(&bench, checks)?;
    checks.attempt("moved elsewhere, without libmidflight.so: pkg-config --static --libs midflight", || {
        linking::moved(&bench)
    });
    Ok(())
}
