//! The link lines of docs/linking.md, each run as it is printed; and installations that were moved.

use std::path::{Path, PathBuf};

use crate::bench::{Bench, entries, output, read, remove, run, write};
use crate::blocks::copy_files;
use crate::checks::Checks;
use crate::documents::section;

/// What the engine prints in three frames.
const THREE_FRAMES: &str = "0.16 0.32\n0.32 0.64\n0.48 0.96\n";

pub(crate) fn check(bench: &Bench, checks: &mut Checks) -> Result<(), String> {
    println!("== docs/linking.md");
    let document = read(&bench.root.join("docs/linking.md"))?;
    let mut module = bench.gcc();
    module.args(["-O2", "-shared", "-fPIC"]).arg(bench.root.join("examples/c/movement.c"));
    run(module.arg("-o").arg(movement(bench)))?;
    if !bench.is_emulated() {
        for compiler in &bench.compilers {
            link_lines(bench, checks, &document, compiler.name);
        }
        let both = ["midflight::static", "midflight::midflight"];
        build_file(bench, checks, &document, ["CMake", "cmake", "CMakeLists.txt"], both);
        let both = ["static: true", "static: false"];
        build_file(bench, checks, &document, ["Meson", "meson", "meson.build"], both);
        module_line(bench, checks, &document);
    } else if bench.arch() == "aarch64" {
        link_lines(bench, checks, &document, "For AArch64, on another machine");
    }
    host_exports(bench, checks)
}

fn movement(bench: &Bench) -> PathBuf {
    bench.work.join("libmovement.so")
}

/// A fresh copy of the example, in which the document's lines are run.
pub(crate) fn fresh(bench: &Bench) -> Result<PathBuf, String> {
    let folder = bench.work.join("link");
    if folder.exists() {
        remove(&folder)?;
    }
    copy_files(&bench.root.join("examples/c"), &folder)?;
    Ok(folder)
}

fn shell(bench: &Bench, folder: &Path, lines: &str) -> Result<(), String> {
    run(bench.command("bash").current_dir(folder).args(["-euo", "pipefail", "-c", lines])).map(drop)
}

/// Runs the loop for three frames.
pub(crate) fn three_frames(bench: &Bench, program: &Path, module: Option<&Path>) -> Result<(), String> {
    let printed = output(bench.on_machine(program).arg("3").args(module))?;
    if printed == THREE_FRAMES { Ok(()) } else { Err(format!("it printed\n{printed}")) }
}

fn link_lines(bench: &Bench, checks: &mut Checks, document: &str, heading: &str) {
    let lines = section(document, heading, "sh");
    if lines.is_empty() {
        checks.fail(&format!("docs/linking.md has no section \"{heading}\" with lines of sh"), "");
    }
    for line in lines.lines() {
        if !line.contains(" engine.c") {
            checks.fail(&format!("{heading}: what is this line: {line}"), "");
            continue;
        }
        checks.attempt(&format!("{heading}: {line}"), || {
            let folder = fresh(bench)?;
            shell(bench, &folder, line)?;
            three_frames(bench, &folder.join("engine"), Some(&movement(bench)))
        });
    }
}

/// The build file as the document has it, and with the other library.
fn build_file(bench: &Bench, checks: &mut Checks, document: &str, names: [&str; 3], both: [&str; 2]) {
    let [heading, language, file] = names;
    let [printed, _] = both;
    for wanted in both {
        checks.attempt(&format!("{heading}: {wanted}"), || {
            let folder = fresh(bench)?;
            let text = section(document, heading, language);
            if !text.contains(printed) {
                return Err(format!("docs/linking.md has no \"{printed}\" in its section {heading}"));
            }
            write(&folder.join(file), &text.replace(printed, wanted))?;
            shell(bench, &folder, &section(document, heading, "sh"))?;
            three_frames(bench, &folder.join("build/engine"), Some(&movement(bench)))
        });
    }
}

/// A module by the options that are installed, in an engine by the first line of gcc's.
fn module_line(bench: &Bench, checks: &mut Checks, document: &str) {
    let line = section(document, "Modules", "sh");
    checks.attempt(&format!("Modules: {}", line.trim_end()), || {
        let folder = fresh(bench)?;
        let engine = section(document, "gcc", "sh");
        shell(bench, &folder, engine.lines().next().ok_or("no line in the section gcc")?)?;
        shell(bench, &folder, &line)?;
        let module = folder.join("libmovement.so");
        three_frames(bench, &folder.join("engine"), Some(&module))?;
        let segments = output(bench.tool("readelf").arg("-lW").arg(&module))?;
        let loads = || segments.lines().filter(|line| line.trim_start().starts_with("LOAD"));
        let wide = loads().all(|line| line.ends_with(" 0x10000"));
        if wide && loads().count() > 0 { Ok(()) } else { Err(segments) }
    });
}

/// A host exports what its modules import from it.
fn host_exports(bench: &Bench, checks: &mut Checks) -> Result<(), String> {
    let source = bench.root.join("tests/c-api/host.c");
    let module = bench.work.join("host_module.so");
    run(bench.gcc().args(["-shared", "-fPIC", "-DMODULE"]).arg(&source).arg("-o").arg(&module))?;
    let host = bench.work.join("host");
    let printed = |link: &[&str], is_static: bool| -> Result<String, String> {
        let mut compile = bench.gcc();
        compile.arg(&source).arg("-o").arg(&host).args(link).args(bench.cflags()?);
        run(compile.args(bench.libraries(is_static)?))?;
        // Without its function the module is refused, by a status as well: what counts is what it
        // printed.
        let made = bench.on_machine(&host).arg(&module).output().map_err(|error| format!("host: {error}"))?;
        Ok(String::from_utf8_lossy(&made.stdout).into_owned())
    };
    for (what, is_static) in [
        (
            "a host with -rdynamic is called by its modules; without, RUNTIME_ERROR_UNRESOLVED names the function (shared)",
            false,
        ),
        ("the same (static)", true),
    ] {
        checks.attempt(what, || {
            let (with, without) = (printed(&["-rdynamic"], is_static)?, printed(&[], is_static)?);
            let called = with.lines().any(|line| line == "42");
            let named = without.lines().any(|line| line.starts_with("-6 ") && line.contains("host_gives"));
            if called && named { Ok(()) } else { Err(with + &without) }
        });
    }
    Ok(())
}

/// Moved as a whole, and without the shared library: then midflight.pc is the static one's as well.
pub(crate) fn moved(bench: &Bench) -> Result<(), String> {
    let elsewhere = bench.work.join("elsewhere");
    std::fs::rename(&bench.prefix, &elsewhere)
        .map_err(|error| format!("{}: {error}", elsewhere.display()))?;
    for file in entries(&elsewhere.join("lib"))? {
        if file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libmidflight.so")) {
            remove(&file)?;
        }
    }
    let mut asked = bench.command("pkg-config");
    asked.env("PKG_CONFIG_PATH", elsewhere.join("lib/pkgconfig"));
    let flags = output(asked.args(["--cflags", "--libs", "--static", "midflight"]))?;
    let folder = fresh(bench)?;
    let mut link = bench.gcc();
    link.current_dir(&folder).args(["engine.c", "-o", "engine", "-rdynamic"]).args(flags.split_whitespace());
    run(&mut link)?;
    three_frames(bench, &folder.join("engine"), Some(&movement(bench)))
}
