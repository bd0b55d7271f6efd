//! The engines of examples/c: little longer than the loops without midflight, and their module is
//! rewritten while they run.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use crate::bench::{Bench, copy, read, run};
use crate::checks::{Checks, indented};
use crate::linking::three_frames;

/// Frames of the engine that is rewritten.
const FRAMES: usize = 240;
/// How many it has shown before its module is rewritten; and how many there must be of each.
const SOME: usize = 20;

pub(crate) fn check(bench: &Bench, checks: &mut Checks) -> Result<(), String> {
    println!("== examples/c");
    let folder = bench.root.join("examples/c");
    for language in ["c", "cpp"] {
        let lines =
            |name: &str| Ok::<_, String>(code_lines(&read(&folder.join(format!("{name}.{language}")))?));
        let more = lines("engine")? as isize - lines("plain")? as isize;
        let what = format!("engine.{language} is {more} lines longer than plain.{language} (at most 10)");
        checks.attempt(&what, || if more <= 10 { Ok(()) } else { Err(String::new()) });
    }
    for (file, flags) in [("movement.so", &[][..]), ("movement-back.so", &["-DDIRECTION=-1"])] {
        let mut compile = bench.gcc();
        compile.args(["-O2", "-shared", "-fPIC"]).args(flags).arg(folder.join("movement.c"));
        run(compile.arg("-o").arg(bench.work.join(file)))?;
    }
    for (language, is_cpp) in [("c", false), ("cpp", true)] {
        let compiler = || {
            let mut compiler = if is_cpp { bench.gxx() } else { bench.gcc() };
            compiler.arg("-O2").args(is_cpp.then_some("-std=c++17"));
            compiler
        };
        let (object, plain) = (bench.work.join("plain.o"), bench.work.join("plain"));
        run(compiler().arg("-c").arg("-o").arg(&object).arg(folder.join(format!("plain.{language}"))))?;
        let mut link = bench.gxx();
        link.arg(&object).args(["-x", "c"]).arg(folder.join("movement.c")).arg("-o").arg(&plain);
        run(&mut link)?;
        checks.attempt(&format!("plain.{language} does the same without midflight"), || {
            three_frames(bench, &plain, None)
        });
        let engine = bench.work.join(format!("engine-{language}"));
        let mut link = compiler();
        link.arg(folder.join(format!("engine.{language}"))).arg("-o").arg(&engine).arg("-rdynamic");
        run(link.args(bench.cflags()?).args(bench.libraries(is_cpp)?))?;
        let what = format!("engine.{language} runs the new movement.c once it is rewritten");
        if let Some(said) = checks.attempt(&what, || rewritten(bench, language, &engine)) {
            indented(&said);
        }
    }
    Ok(())
}

/// Lines that are neither empty nor comments.
fn code_lines(text: &str) -> usize {
    text.lines().filter(|line| !line.split("//").next().unwrap_or_default().trim().is_empty()).count()
}

/// The engine's output goes up, and down once the module has been rewritten; it ends by itself
/// after its frames.
fn rewritten(bench: &Bench, name: &str, engine: &Path) -> Result<String, String> {
    let folder = bench.folder(name)?;
    let (module, new, said) = (folder.join("libmovement.so"), folder.join("new"), folder.join("said"));
    copy(&bench.work.join("movement.so"), &module)?;
    let file = File::create(&said).map_err(|error| format!("{}: {error}", said.display()))?;
    let mut process = bench.on_machine(engine);
    process.arg(FRAMES.to_string()).arg(&module).stdout(Stdio::piped()).stderr(file);
    let mut process = process.spawn().map_err(|error| format!("{}: {error}", engine.display()))?;
    let mut shown = Vec::new();
    let output = process.stdout.take().ok_or("no output")?;
    // To its end, whatever comes: then the engine is over, by itself or by the time-out.
    let mut rewrite = Ok(());
    for line in BufReader::new(output).lines() {
        shown.push(line.map_err(|error| format!("the engine's output: {error}"))?);
        if shown.len() == SOME {
            rewrite = copy(&bench.work.join("movement-back.so"), &new)
                .and_then(|()| std::fs::rename(&new, &module).map_err(|error| format!("new: {error}")));
        }
    }
    let status = process.wait().map_err(|error| format!("waiting: {error}"))?;
    let said = read(&said)?;
    rewrite?;
    if !status.success() {
        return Err(format!("{said}the engine ended with {status}"));
    }
    let (up, down) = frames(&shown)?;
    let told = format!("{said}{up} frames up, {down} down");
    if up >= SOME && down >= SOME && up + down == FRAMES { Ok(told) } else { Err(told) }
}

/// How many frames went up, and then down.
fn frames(shown: &[String]) -> Result<(usize, usize), String> {
    let (mut up, mut down, mut last) = (0, 0, f64::NEG_INFINITY);
    for line in shown {
        let number = line.split_whitespace().next().and_then(|number| number.parse::<f64>().ok());
        let number = number.ok_or_else(|| format!("no number: {line}"))?;
        match number < last {
            true => down += 1,
            false if down > 0 => return Err(format!("up again, to {line}, after {down} frames down")),
            false => up += 1,
        }
        last = number;
    }
    Ok((up, down))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_go_up_and_then_down() {
        let of = |lines: &[&str]| frames(&lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["0.1 0.2", "0.2 0.4", "0.1 0.2", "-1.0 3"]), Ok((2, 2)));
        assert!(of(&["0.1", "0.2", "0.1", "0.2"]).is_err());
        assert!(of(&["what"]).is_err());
    }

    #[test]
    fn lines_of_code() {
        assert_eq!(code_lines("// a\n\nint x; // b\n   \n\t}\n"), 2);
    }
}
