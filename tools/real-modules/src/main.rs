//! Real libraries as modules: built as shared objects, object files and archives, loaded by
//! midflight, made to work, and compared with the same code loaded by dlopen. See
//! scripts/real-modules.
//!
//! The program plays two parts. Natively it builds everything (`build`) and prints a line for each
//! case; for each case it starts the program that was built for the target, under an emulator if
//! need be, which loads and works (`case`). So a crash is one case's failure.

mod build;
mod case;
mod libraries;
mod sources;

use std::error::Error;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Output};
use std::time::{Duration, Instant};

use crate::build::{Build, Case};

const HELP: &str = "\
usage: real-modules --arch ARCH --runner COMMAND --rust-modules FOLDER --out FOLDER [--only NAME]... [--all]
  --arch ARCH            x86_64 or aarch64
  --runner COMMAND       starts this program as built for ARCH
  --rust-modules FOLDER  has librust.so and librust.a for ARCH
  --out FOLDER           where builds are kept
  --only NAME            this library only; may be repeated
  --extra                further libraries too
  --macho HEADERS        those that can be, as Mach-O for Apple's platforms, compiled against these headers; ARCH is aarch64
  --quick                as one compiler and one set of flags have it only, and with less work
";

struct Options {
    arch: String,
    runner: String,
    rust_modules: PathBuf,
    out: PathBuf,
    only: Vec<String>,
    extra: bool,
    quick: bool,
    macho: Option<PathBuf>,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let result = if arguments.nth(1).as_deref() == Some("case") {
        case::run(arguments).map(|numbers| {
            println!("{numbers}");
            true
        })
    } else {
        check()
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("real-modules: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Option<Options>, Box<dyn Error>> {
    use lexopt::prelude::*;
    let (mut arch, mut runner, mut rust_modules, mut out) = (None, None, None, None);
    let (mut only, mut extra, mut quick, mut macho) = (Vec::new(), false, false, None);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("arch") => arch = Some(parser.value()?.string()?),
            Long("runner") => runner = Some(parser.value()?.string()?),
            Long("rust-modules") => rust_modules = Some(parser.value()?.into()),
            Long("out") => out = Some(parser.value()?.into()),
            Long("only") => only.push(parser.value()?.string()?),
            Long("extra") => extra = true,
            Long("macho") => macho = Some(parser.value()?.into()),
            Long("quick") => quick = true,
            Short('h') | Long("help") => return Ok(None),
            other => return Err(other.unexpected().into()),
        }
    }
    let missing = || "--arch, --runner, --rust-modules and --out are needed; see --help";
    Ok(Some(Options {
        arch: arch.ok_or_else(missing)?,
        runner: runner.ok_or_else(missing)?,
        rust_modules: rust_modules.ok_or_else(missing)?,
        out: out.ok_or_else(missing)?,
        only,
        extra,
        quick,
        macho,
    }))
}

/// Whether all cases pass.
fn check() -> Result<bool, Box<dyn Error>> {
    let Some(options) = options()? else {
        print!("{HELP}");
        return Ok(true);
    };
    let packages = sources::find()?;
    let (mut passed, mut failed) = (0, 0);
    let libraries: Vec<_> =
        if options.macho.is_some() { libraries::macho().collect() } else { libraries::all().collect() };
    for library in libraries {
        let chosen = options.only.iter().any(|name| name == library.name);
        if !chosen && (!options.only.is_empty() || library.extra && !options.extra) {
            continue;
        }
        let (arch, macho) = (&options.arch, options.macho.as_deref());
        let build = Build::new(&library, &packages, arch, &options.out, &options.rust_modules, macho)?;
        for case in build.cases(options.quick) {
            let mut outcome = run(&options, &build, &case)?;
            if let Some(phrases) = (library.refused)(&options.arch, &case) {
                outcome = refused(outcome, phrases);
            }
            let (word, what) = match &outcome {
                Ok(numbers) => ("pass", numbers),
                Err(why) => ("FAIL", why),
            };
            println!(
                "{word}  {:8} {:10} {:9} {:32} {what}",
                options.arch,
                library.name,
                case.form,
                case.variant()
            );
            *if outcome.is_ok() { &mut passed } else { &mut failed } += 1;
        }
    }
    println!("{}: {passed} passed, {failed} failed", options.arch);
    Ok(failed == 0 && passed > 0)
}

/// A case that cannot be loaded passes if it was refused, with all that must be said.
fn refused(outcome: Result<String, String>, phrases: &[&str]) -> Result<String, String> {
    match outcome {
        Err(why) if phrases.iter().all(|phrase| why.contains(phrase)) => {
            let message = why.rsplit(": /").next().unwrap_or(&why);
            Ok(format!("refused, as it must be: {}", message.rsplit('/').next().unwrap_or(message)))
        }
        Err(why) => Err(why),
        Ok(numbers) => Err(format!("was not refused: {numbers}")),
    }
}

/// Starts the target's program on one case. The inner result is what it says, or why it failed.
fn run(options: &Options, build: &Build, case: &Case) -> Result<Result<String, String>, Box<dyn Error>> {
    /// Under an emulator, with a build at -O0.
    const LIMIT: Duration = Duration::from_secs(600);
    let mut words = options.runner.split_whitespace();
    let mut command = Command::new(words.next().ok_or("--runner is empty")?);
    command.args(words).arg("case").arg(build.library.name).arg(&build.work).arg(&build.reference);
    command.arg(&build.sources).arg(build.scripts()).args(build.files(case)?);
    let begin = Instant::now();
    // A child that hangs is ended by the kernel.
    let mut timed = Command::new("timeout");
    if options.quick {
        timed.env(case::QUICK, "1");
    }
    timed
        .arg("--kill-after=5")
        .arg(LIMIT.as_secs().to_string())
        .arg(command.get_program())
        .args(command.get_args());
    let Output { status, stdout, stderr } = timed.output()?;
    let line = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        lines.join(" | ")
    };
    if status.success() {
        return Ok(Ok(format!("{}, {:.1} s", line(&stdout), begin.elapsed().as_secs_f64())));
    }
    let why = if status.code() == Some(124) {
        format!("still running after {LIMIT:?}")
    } else {
        status.to_string()
    };
    Ok(Err(format!("{why}: {}", line(&stderr))))
}
