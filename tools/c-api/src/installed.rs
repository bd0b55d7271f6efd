//! What is installed: symbols, paths, headers.

use std::path::{Path, PathBuf};

use crate::bench::{Bench, entries, output, read, remove, run, write};
use crate::checks::{Checks, same};

pub(crate) fn check(bench: &Bench, checks: &mut Checks) -> Result<(), String> {
    println!("== installed");
    let headers: Vec<String> =
        headers(&bench.root.join("include"))?.iter().map(|file| read(file)).collect::<Result<_, _>>()?;
    let declared = declared(&headers.concat());
    let count = declared.len();
    let what = format!("libmidflight.so exports the {count} functions of the headers, and nothing else");
    checks.same(&what, &declared, &exported(bench)?);
    checks.same(
        "libmidflight.a offers them, Rust's own symbols, and nothing else",
        &declared,
        &offered(bench)?,
    );
    checks.attempt("nothing that is installed holds a path of this machine", || no_paths(bench));
    checks.attempt("SONAME libmidflight.so.0", || {
        let dynamic = output(bench.tool("readelf").arg("-d").arg(library(bench)))?;
        if dynamic.contains("Library soname: [libmidflight.so.0]") { Ok(()) } else { Err(dynamic) }
    });
    checks.attempt("--destdir: the same files, to be moved to the prefix later", || staged(bench));
    all_headers_compile(bench, checks)
}

fn library(bench: &Bench) -> PathBuf {
    bench.prefix.join("lib/libmidflight.so")
}

fn headers(folder: &Path) -> Result<Vec<PathBuf>, String> {
    Ok(entries(folder)?.into_iter().filter(|file| file.extension().is_some_and(|end| end == "h")).collect())
}

/// The functions that the headers declare, but for what modules define. A declaration begins at a
/// line's beginning, and the line ends with it or with a comma.
fn declared(headers: &str) -> Vec<String> {
    let mut names: Vec<String> = headers.lines().filter_map(declared_by).map(String::from).collect();
    names.retain(|name| !name.starts_with("module_"));
    names.sort();
    names
}

fn declared_by(line: &str) -> Option<&str> {
    if !line.starts_with(|c: char| c.is_ascii_lowercase()) || !line.ends_with([',', ';']) {
        return None;
    }
    line.rmatch_indices('(').find_map(|(end, _)| {
        let before = &line[..end];
        let name =
            before.trim_end_matches(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        (name.ends_with([' ', '*']) && name.len() < end).then(|| &line[name.len()..end])
    })
}

fn exported(bench: &Bench) -> Result<Vec<String>, String> {
    let listed = output(bench.tool("nm").args(["-D", "--defined-only"]).arg(library(bench)))?;
    let mut names: Vec<String> =
        listed.lines().filter_map(|line| line.split_whitespace().nth(2)).map(String::from).collect();
    names.sort();
    Ok(names)
}

/// Symbols of the archive that another file of a program can clash with, but for Rust's own:
/// mangled, its personality, and what its compiler's run-time library emulates.
fn offered(bench: &Bench) -> Result<Vec<String>, String> {
    const RUSTS: [&str; 4] = ["_ZN", "_R", "__emupac_", "__emutls_"];
    let listed = output(bench.tool("readelf").arg("-sW").arg(bench.prefix.join("lib/libmidflight.a")))?;
    let mut names = Vec::new();
    for line in listed.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [_, _, _, _, "GLOBAL" | "WEAK", "DEFAULT", section, name, ..] = words[..]
            && section != "UND"
            && name != "rust_eh_personality"
            && !RUSTS.iter().any(|begin| name.starts_with(begin))
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for entry in entries(folder)? {
        if entry.is_dir() { found.extend(files(&entry)?) } else { found.push(entry) }
    }
    Ok(found)
}

fn no_paths(bench: &Bench) -> Result<(), String> {
    let cargo = std::env::var("CARGO_HOME").or_else(|_| std::env::var("HOME").map(|home| home + "/.cargo"));
    let cargo = cargo.map_err(|error| format!("HOME: {error}"))?;
    let paths = [bench.prefix.display().to_string(), bench.root.display().to_string(), cargo + "/registry"];
    let mut grep = bench.command("grep");
    grep.args(["-rlF"]).args(paths.iter().flat_map(|path| ["-e", path])).arg(&bench.prefix);
    let found = grep.output().map_err(|error| format!("grep: {error}"))?;
    // It found nothing (grep(1), EXIT STATUS).
    if found.status.code() == Some(1) {
        return Ok(());
    }
    Err([&found.stdout[..], &found.stderr].map(String::from_utf8_lossy).concat())
}

fn staged(bench: &Bench) -> Result<(), String> {
    let stage = bench.work.join("stage");
    bench.install(Path::new("/opt/midflight"), &["--destdir".as_ref(), stage.as_os_str()])?;
    let listed = |folder: &Path| -> Result<Vec<String>, String> {
        let name = |file: PathBuf| file.strip_prefix(folder).map(|name| name.display().to_string());
        files(folder)?.into_iter().map(|file| name(file).map_err(|error| error.to_string())).collect()
    };
    let there = stage.join("opt/midflight");
    same(&listed(&bench.prefix)?, &listed(&there)?)?;
    run(bench.command("diff").arg("-r").arg(&bench.prefix).arg(&there))?;
    remove(&stage)
}

fn all_headers_compile(bench: &Bench, checks: &mut Checks) -> Result<(), String> {
    let mut text = String::new();
    for header in headers(&bench.prefix.join("include/midflight"))? {
        text += &format!("#include \"{}\"\n", header.file_name().unwrap_or_default().display());
    }
    let file = bench.work.join("headers.c");
    write(&file, &text)?;
    for (language, standards) in [("c", ["c11", "gnu11"]), ("c++", ["c++17", "c++20"])] {
        for compiler in &bench.compilers {
            for standard in standards {
                let mut compile = bench.compiler(compiler, language == "c++");
                compile.args(["-x", language, &format!("-std={standard}"), "-Wall", "-Wextra", "-Wpedantic"]);
                compile.args(["-Werror", "-fsyntax-only"]).args(bench.cflags()?).arg(&file);
                checks.attempt(&format!("all C headers  {} {standard} -Wpedantic", compiler.name), || {
                    run(&mut compile)
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations() {
        let text = "int plain(void);\nruntime_error_t *pointer(int (*call)(int),\n    int more);\nint module_init(void);\n\
                    static int inside(void) {\ntypedef struct a b;\n#define f(x) x;\nvoid takes(int (*function)(void));\n";
        assert_eq!(declared(text), ["plain", "pointer", "takes"]);
    }
}
