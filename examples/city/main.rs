//! A city of a million agents whose systems are replaced while it runs.
//!
//! Four systems (movement in C, traffic in assembly, economy in C++, needs in Rust), each in three
//! versions that compute differently, are the modules. The host owns the world and steps it 60
//! times a second on all cores; a thread of its own replaces modules all the while, one by one and
//! several at once. At the end it shows that no frame mixed versions, and that a second run, which
//! calls the same versions at the same frames without the runtime, comes to the same world bit for
//! bit.
//!
//!     cargo run --release --example city -- --plot city.svg
//!
//! | file          | what                                                     |
//! |---------------|----------------------------------------------------------|
//! | `systems.rs`  | the modules' declarations, and the schedule of a frame   |
//! | `world.rs`    | the world; `modules/layout.rs` is what modules see of it |
//! | `modules/`    | builds the modules with the system's compilers           |
//! | `crew.rs`     | the worker threads                                       |
//! | `reloader.rs` | the thread that publishes                                |
//! | `timeline.rs` | when it does: the city runs idle and live by turns       |
//! | `live.rs`     | the run itself                                           |
//! | `replay.rs`   | the same frames again, without the runtime               |
//! | `report.rs`, `plot.rs`, `memory.rs`, `options.rs` | what it shows, and how it is asked |

mod crew;
#[path = "modules/layout.rs"]
mod layout;
mod live;
mod memory;
mod modules;
mod options;
mod plot;
mod reloader;
mod replay;
mod report;
mod systems;
mod timeline;
mod world;

use std::error::Error;
use std::process::ExitCode;
use std::{fs, panic, process};

use midflight::Runtime;

use crate::modules::Modules;
use crate::options::{HELP, Options};
use crate::report::Kind;

fn main() -> ExitCode {
    // A lane that unwinds would leave the others waiting for it at a barrier, for ever.
    let show = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        show(info);
        process::abort();
    }));

    match Options::parse().and_then(|options| options.map_or(Ok(None), |options| city(&options).map(Some))) {
        Ok(Some(true)) => ExitCode::SUCCESS,
        Ok(Some(false)) => ExitCode::FAILURE,
        Ok(None) => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("city: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs the city; says whether it met what was asked of it.
fn city(options: &Options) -> Result<bool, Box<dyn Error>> {
    // Files that cannot be written had better be known now than after the run.
    for file in [&options.json, &options.plot].into_iter().flatten() {
        write(file, "")?;
    }
    eprintln!("building the modules");
    let modules = Modules::build()?;
    let given = options.modules.as_deref().map(Modules::built).transpose()?;
    let run = live::run(Runtime::start()?, given.as_ref().unwrap_or(&modules), options)?;

    eprintln!("replaying {} frames without the runtime", run.frames.len());
    let replay = match run.versions() {
        Some(frames) => Some(replay::replay(&modules, &frames, options.agents, options.threads)?),
        None => None,
    };

    let results = run.results(options, replay);
    print!("{results}");
    if let Some(file) = &options.json {
        write(file, &results.json())?;
    }
    if let Some(file) = &options.plot {
        write(file, &plot::svg(&run, &results))?;
    }
    let asked = |kind| match kind {
        Kind::Result => true,
        Kind::Cost => options.check,
        Kind::Time => options.check && options.times,
    };
    Ok(results.checks().iter().all(|check| check.passed || !asked(check.kind)))
}

fn write(file: &std::path::Path, text: &str) -> Result<(), String> {
    fs::write(file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))
}
