//! Every comparison that midflight is held to, in one run: calls, pins, reloads, publications,
//! frame times and memory, against those who do the same. See scripts/bench.
//!
//! Each measurement is a process of its own (this program, as a worker), because the runtime, the
//! rivals and the memory are the process's. Within a worker those compared take turns, some tens of
//! microseconds or some reloads each, so that a drift of the machine meets all of them. Where it
//! matters how a process happens to lie in memory, several workers are asked.

mod calls;
mod engine;
mod frames;
mod loaded;
mod memory;
mod model;
mod modules;
mod plot;
mod publications;
mod reloads;
mod report;
mod results;
mod soak;
mod worker;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const HELP: &str = "\
Compares midflight with its rivals, and with itself under load.

usage: bench [--quick] [--only PART]... [--soak N] [--json FILE] [--plot FILE] [--call-path FILE]
  --quick            a soak of 20,000 reloads, and fewer blocks of frames
  --only PART        not all, but calls, engine, reloads, publications, throughput, scale, frames, memory or soak
  --soak N           reloads with four threads calling (at least 10,000; default 1000000)
  --json FILE        write the comparisons as JSON
  --plot FILE        draw them, as SVG
  --call-path FILE   the assembly of the crate call-path for AArch64, for the scheduling models
";

/// What is asked for.
pub(crate) struct Options {
    quick: bool,
    only: Vec<String>,
    soak: usize,
    json: Option<PathBuf>,
    plot: Option<PathBuf>,
    call_path: Option<PathBuf>,
}

impl Options {
    fn parse(mut parser: lexopt::Parser) -> Result<Option<Self>> {
        use lexopt::prelude::*;
        let mut options =
            Options { quick: false, only: Vec::new(), soak: 0, json: None, plot: None, call_path: None };
        while let Some(argument) = parser.next()? {
            match argument {
                Long("quick") => options.quick = true,
                Long("only") => {
                    let part = parser.value()?.parse::<String>()?;
                    if !report::SECTIONS.iter().any(|(name, _)| *name == part) {
                        return Err(format!("--only: there is no part `{part}`").into());
                    }
                    options.only.push(part);
                }
                Long("soak") => options.soak = parser.value()?.parse()?,
                Long("json") => options.json = Some(parser.value()?.into()),
                Long("plot") => options.plot = Some(parser.value()?.into()),
                Long("call-path") => options.call_path = Some(parser.value()?.into()),
                Short('h') | Long("help") => return Ok(None),
                other => return Err(other.unexpected().into()),
            }
        }
        if options.soak == 0 {
            options.soak = if options.quick { 20_000 } else { 1_000_000 };
        }
        if options.soak < 10_000 {
            return Err("--soak: less than 10,000 reloads cannot show growth after the first 1,000".into());
        }
        Ok(Some(options))
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let result = if arguments.nth(1).is_some_and(|first| first == "worker") {
        worker::main(arguments).map(|()| true)
    } else {
        run()
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all goals were met.
fn run() -> Result<bool> {
    let Some(options) = Options::parse(lexopt::Parser::from_env())? else {
        print!("{HELP}");
        return Ok(true);
    };
    let folder = modules::Folder::build()?;
    let report = report::Report::measure(&folder, &options)?;
    print!("{report}");
    let failed = |file: &PathBuf, error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    if let Some(file) = &options.json {
        std::fs::write(file, report.json()?).map_err(|error| failed(file, &error))?;
    }
    if let Some(file) = &options.plot {
        plot::draw(file, &report).map_err(|error| failed(file, &error))?;
    }
    Ok(report.met())
}
