//! Times of loading, calling once, unloading and freeing a module: midflight against dlopen and the
//! `elf_loader` crate.
//!
//! The loaders take turns, some loads each, so that a drift of the machine meets all of them alike.
//! The modules are built once and are not written again, so their files are in the page cache. See
//! scripts/loader-bench.

mod loaders;
mod modules;
mod phases;
mod report;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use crate::loaders::{DynamicLinker, ElfLoader, Midflight, Peer};
use crate::modules::{Module, Modules, expected};
use crate::report::{Outcome, Report};

const HELP: &str = "\
Compares the times of loading, calling, unloading and freeing a module.

usage: loader-bench [--rounds N] [--json FILE]
  --rounds N    loads of each module by each loader (at least 200; default 1000)
  --json FILE   write the comparisons as JSON
";

/// Loads of one module by one loader in a row. Long enough that each finds the caches as it left
/// them itself, short enough that a drift of the machine meets all of them.
const BLOCK: usize = 20;

struct Options {
    rounds: usize,
    json: Option<PathBuf>,
}

impl Options {
    fn parse() -> Result<Option<Self>, Box<dyn Error>> {
        use lexopt::prelude::*;
        let mut options = Options { rounds: 1000, json: None };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("rounds") => options.rounds = parser.value()?.parse()?,
                Long("json") => options.json = Some(parser.value()?.into()),
                Short('h') | Long("help") => return Ok(None),
                other => return Err(other.unexpected().into()),
            }
        }
        if options.rounds < 200 {
            return Err("--rounds: a median of less than 200 loads says little".into());
        }
        Ok(Some(options))
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("loader-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all goals were met.
fn run() -> Result<bool, Box<dyn Error>> {
    let Some(options) = Options::parse()? else {
        print!("{HELP}");
        return Ok(true);
    };
    let modules = Modules::build()?;
    let rt = midflight::Runtime::start()?;
    let mut peers: [Box<dyn Peer>; 3] =
        [Box::new(Midflight(rt)), Box::new(DynamicLinker), Box::new(ElfLoader::new()?)];
    let mut report = Report::new(&modules.all, peers.each_ref().map(|peer| peer.name()));
    for block in 0..options.rounds.div_ceil(BLOCK) {
        for (at, module) in modules.all.iter().enumerate() {
            // Each in turn is the first.
            for next in 0..peers.len() {
                let peer = (block + next) % peers.len();
                for x in 0..BLOCK as u64 {
                    if let Some(outcome) = measure(&mut *peers[peer], module, x) {
                        report.add(at, peer, outcome);
                    }
                }
            }
        }
    }
    print!("{report}{}", phases::Table::measure(rt, &modules.all, options.rounds));
    if let Some(file) = &options.json {
        std::fs::write(file, report.json()).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(report.met())
}

/// One load, in microseconds. None if the loader does not take such files.
fn measure(peer: &mut dyn Peer, module: &Module, x: u64) -> Option<Outcome> {
    if !peer.takes(module) {
        return None;
    }
    let begin = Instant::now();
    let result = peer.cycle(module, x);
    let time = begin.elapsed();
    Some(match result {
        Ok(y) if y == expected(x) => Ok(time.as_secs_f64() * 1e6),
        Ok(y) => {
            Err(format!("call({x}) returned {y}, not {}: not freshly loaded, or wrongly linked", expected(x)))
        }
        Err(error) => Err(error.to_string()),
    })
}
