//! The command line.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};

pub(crate) const HELP: &str = "\
A city whose systems are replaced while it runs.

Usage: city [OPTIONS]

  --agents N            people in the city [1000000]
  --seconds S           seconds with reloads, which take turns with as many without [4]
  --reload-every-ms M   time between publications [50]
  --threads T           lanes that share the work of a frame [the number of cores]
  --modules FOLDER      load SYSTEM-VERSION.so or .dylib of this folder, in place of those built here, which the
                        replay still has: both must come to the same city
  --json FILE           write the results as JSON
  --plot FILE           write a picture of all frames and publications, as SVG
  --check               fail for any requirement that is missed, not only for a wrong result
  --no-times            leave the times out of the verdict (for an emulator, or a busy machine)
  --help                show this

The modules are built with the C compiler that MIDFLIGHT_CC or CC names, else cc.";

/// What to run.
pub(crate) struct Options {
    pub(crate) agents: u32,
    pub(crate) seconds: u32,
    pub(crate) reload_every: Duration,
    pub(crate) threads: u32,
    pub(crate) modules: Option<PathBuf>,
    pub(crate) json: Option<PathBuf>,
    pub(crate) plot: Option<PathBuf>,
    pub(crate) check: bool,
    pub(crate) times: bool,
}

impl Options {
    /// Reads the command line; `None` when help was asked for.
    pub(crate) fn parse() -> Result<Option<Self>, Box<dyn Error>> {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        let mut options = Options {
            agents: 1_000_000,
            seconds: 4,
            reload_every: Duration::from_millis(50),
            threads: cores.min(*THREADS.end()),
            modules: None,
            json: None,
            plot: None,
            check: false,
            times: true,
        };
        let mut parser = Parser::from_env();
        while let Some(arg) = parser.next()? {
            match arg {
                Arg::Long("agents") => options.agents = number(&mut parser, "--agents", AGENTS)?,
                Arg::Long("seconds") => options.seconds = number(&mut parser, "--seconds", 1..=3600)?,
                Arg::Long("reload-every-ms") => {
                    let every = number(&mut parser, "--reload-every-ms", 1..=60_000)?;
                    options.reload_every = Duration::from_millis(every.into());
                }
                Arg::Long("threads") => options.threads = number(&mut parser, "--threads", THREADS)?,
                Arg::Long("modules") => options.modules = Some(parser.value()?.into()),
                Arg::Long("json") => options.json = Some(parser.value()?.into()),
                Arg::Long("plot") => options.plot = Some(parser.value()?.into()),
                Arg::Long("check") => options.check = true,
                Arg::Long("no-times") => options.times = false,
                Arg::Long("help") | Arg::Short('h') => return Ok(None),
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(Some(options))
    }
}

/// Enough agents for every lane to have some in every frame; few enough for a market's books to
/// stay in range.
const AGENTS: Range = 1024..=50_000_000;
/// Each lane must have a district of its own to start with.
const THREADS: Range = 1..=64;

type Range = std::ops::RangeInclusive<u32>;

fn number(parser: &mut Parser, name: &str, range: Range) -> Result<u32, Box<dyn Error>> {
    let value = parser.value()?;
    let number: u32 = value.parse().map_err(|error| format!("{name}: {error}"))?;
    if !range.contains(&number) {
        return Err(format!("{name} is {number}; it takes {} to {}", range.start(), range.end()).into());
    }
    Ok(number)
}
