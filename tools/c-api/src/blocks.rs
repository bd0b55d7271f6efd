//! The code blocks of docs/runtime-api.md: compiled as they are printed, linked both ways, and run
//! on real modules.

use std::path::{Path, PathBuf};

use crate::bench::{Bench, Compiler, copy, entries, read, remove, run, write};
use crate::checks::Checks;
use crate::documents::{Block, blocks};
use crate::structs::{comparison, has_struct, headers};

/// Names that only one header declares, by how they begin.
const ONLY_IN: [(&str, &[&str]); 5] = [
    (
        "conflict_resolution.h",
        &[
            "resolve_module_conflicts",
            "detect_potential_conflicts",
            "register_conflict_resolver",
            "conflict_info_t",
        ],
    ),
    ("error_recovery.h", &["error_recovery_", "recovery_config_t", "recovery_stats_t"]),
    ("runtime_security.h", &["runtime_security_", "security_config_t", "validation_config_t"]),
    (
        "performance_monitor.h",
        &["performance_monitor_", "performance_metrics_", "performance_alert_", "monitor_config_t"],
    ),
    (
        "enterprise_features.h",
        &[
            "enterprise_init",
            "enterprise_generate",
            "enterprise_create",
            "enterprise_config_t",
            "compliance_standard_t",
        ],
    ),
];

pub(crate) fn check(bench: &Bench, checks: &mut Checks) -> Result<(), String> {
    println!(
        "== docs/runtime-api.md (\"/path/to/\" and \"/system/\" in it are replaced by a temporary folder; nothing else is touched)"
    );
    let modules = Modules::build(bench)?;
    let include = bench.prefix.join("include/midflight");
    let installed = headers(&entries(&include)?)?;
    for (number, block) in (1..).zip(blocks(&read(&bench.root.join("docs/runtime-api.md"))?)) {
        let name = format!("{number:02} {}", block.heading);
        let later: Vec<&str> =
            needs(&block.text).into_iter().filter(|header| !include.join(header).exists()).collect();
        if !later.is_empty() {
            checks.skip(&format!("{name}: needs {}, of a later version", later.join(" ")));
            continue;
        }
        match source(bench, &block, &installed) {
            Ok(source) => check_block(bench, checks, &modules, &name, &block, &source)?,
            Err(why) => checks.fail(&name, &why),
        }
    }
    Ok(())
}

/// The headers that a block needs, by name, but for the one that has all.
fn needs(block: &str) -> Vec<&str> {
    let named = block.lines().filter_map(|line| {
        let (_, name) = line.split_once("#include \"")?;
        name.split_once('"').map(|(name, _)| name).filter(|name| name.ends_with(".h"))
    });
    let mut needed: Vec<&str> = named.filter(|header| *header != "runtime_api.h").collect();
    let words = || block.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    for (header, names) in ONLY_IN {
        if words().any(|word| names.iter().any(|name| word.starts_with(name))) {
            needed.push(header);
        }
    }
    needed.sort_unstable();
    needed.dedup();
    needed
}

/// What has the block in it: its driver, or a comparison with the headers.
fn source(bench: &Bench, block: &Block, headers: &str) -> Result<PathBuf, String> {
    if has_struct(&block.text) {
        let program = comparison(&block.text, headers)
            .map_err(|why| format!("the struct has other fields than the header's\n{why}"))?;
        let file = bench.work.join("struct.c");
        return write(&file, &program).map(|()| file);
    }
    let name = block.heading.to_lowercase().replace([' ', '-'], "_");
    let driver = format!("tests/c-api/{name}.c");
    let file = bench.root.join(&driver);
    if file.exists() { Ok(file) } else { Err(format!("no driver {driver}")) }
}

fn check_block(
    bench: &Bench,
    checks: &mut Checks,
    modules: &Modules<'_>,
    name: &str,
    block: &Block,
    source: &Path,
) -> Result<(), String> {
    let (text, object, program) =
        (bench.work.join("block.c"), bench.work.join("program.o"), bench.work.join("program"));
    write(&text, &with_folder(&block.text, &modules.run))?;
    for compiler in &bench.compilers {
        for standard in ["c11", "gnu11", "c++17"] {
            let is_cpp = standard == "c++17";
            let what = format!("{name}  {} {standard}", compiler.name);
            let mut compile = bench.compiler(compiler, is_cpp);
            compile.args(["-x", if is_cpp { "c++" } else { "c" }, &format!("-std={standard}"), "-O1", "-g"]);
            compile.args(["-Wall", "-Wextra", "-Werror"]).args(quiet(compiler, is_cpp));
            compile
                .arg(format!("-DBLOCK=\"{}\"", text.display()))
                .arg("-I")
                .arg(bench.root.join("tests/c-api"));
            compile.args(bench.cflags()?).arg("-c").arg("-o").arg(&object).arg(source);
            match run(&mut compile) {
                Ok(_) => {}
                Err(said) if is_cpp && said.contains("designator order for field") => {
                    checks.skip(&format!(
                        "{what}: not C++, its designators are not in the order of the fields"
                    ));
                    continue;
                }
                Err(said) => {
                    checks.fail(&format!("{what}  compile"), &said);
                    continue;
                }
            }
            for (kind, is_static) in [("shared", false), ("static", true)] {
                let mut link = bench.compiler(compiler, is_cpp);
                link.arg(&object).arg("-o").arg(&program).arg("-rdynamic").args(bench.libraries(is_static)?);
                match run(&mut link) {
                    Ok(_) => drop(checks.attempt(&format!("{what} {kind}"), || modules.run(&program))),
                    Err(said) => checks.fail(&format!("{what} {kind}  link"), &said),
                }
            }
        }
    }
    Ok(())
}

/// The first "/path/to/" or "/system/" of each line is this folder.
fn with_folder(text: &str, folder: &Path) -> String {
    let folder = format!("{}/", folder.display());
    let replaced = |line: &str| match line.contains("/path/to/") {
        true => line.replacen("/path/to/", &folder, 1),
        false => line.replacen("\"/system/", &format!("\"{folder}"), 1),
    };
    text.lines().map(|line| replaced(line) + "\n").collect()
}

/// What the document's own text makes compilers say is switched off by name:
///
/// - missing-field-initializers, missing-designated-field-initializers (C++ only): its
///   configurations set some fields, as they are meant to;
/// - c++20-designator: C++17 has designated initializers as an extension only;
/// - reorder-init-list (clang): the two configurations of "Troubleshooting" name fields in another
///   order than the struct has.
fn quiet(compiler: &Compiler, is_cpp: bool) -> &'static [&'static str] {
    const ALL: [&str; 4] = [
        "-Wno-missing-field-initializers",
        "-Wno-missing-designated-field-initializers",
        "-Wno-c++20-designator",
        "-Wno-reorder-init-list",
    ];
    match (is_cpp, compiler.name) {
        (false, _) => &[],
        (true, "gcc") => &ALL[..1],
        (true, _) => &ALL,
    }
}

/// The modules that the document's programs load: `1/NAME.so`, `2/NAME.so`.
pub(crate) struct Modules<'b> {
    bench: &'b Bench,
    built: PathBuf,
    /// What the document calls /path/to and /system.
    run: PathBuf,
}

impl<'b> Modules<'b> {
    fn build(bench: &'b Bench) -> Result<Self, String> {
        let modules = Self::of(bench);
        for version in ["1", "2"] {
            let names = ["graphics_module", "physics_engine", "ai_behavior", "monitored_module"];
            for name in names.into_iter().chain(["core", "graphics", "audio"]) {
                modules.one(version, name, version, &[])?;
            }
            modules.one(version, "simulation_core", version, &["-DCALLS=physics_engine"])?;
            modules.one(version, "slow_module", version, &["-DSLOW"])?;
        }
        // Another module in the place of one.
        modules.one("3", "graphics_module", "3", &["-DNAME=other_module"])?;
        // Two that take different types.
        modules.one("4", "graphics_module", "4", &["-DTAKES=int"])?;
        modules.one("5", "graphics_module", "5", &["-DTAKES=double"])?;
        Ok(modules)
    }

    /// Those that were built.
    pub(crate) fn of(bench: &'b Bench) -> Self {
        Self { bench, built: bench.work.join("modules"), run: bench.work.join("run") }
    }

    /// With debug information, so that compatibility can be known.
    fn one(&self, folder: &str, file: &str, version: &str, more: &[&str]) -> Result<(), String> {
        let output = self.bench.folder(&format!("modules/{folder}"))?.join(format!("{file}.so"));
        let mut compile = self.bench.gcc();
        compile.args(["-g", "-O2", "-shared", "-fPIC"]).arg(self.bench.root.join("tests/c-api/module.c"));
        if !more.iter().any(|flag| flag.starts_with("-DNAME=")) {
            compile.arg(format!("-DNAME={file}"));
        }
        run(compile.arg(format!("-DVERSION={version}")).args(more).arg("-o").arg(output)).map(drop)
    }

    /// Runs a program on fresh modules.
    pub(crate) fn run(&self, program: &Path) -> Result<(), String> {
        if self.run.exists() {
            remove(&self.run)?;
        }
        self.bench.folder("run")?;
        run(self.bench.on_machine(program).arg(&self.built).arg(&self.run)).map(drop)
    }
}

/// Copies the files of a folder into another, which is new.
pub(crate) fn copy_files(from: &Path, to: &Path) -> Result<(), String> {
    std::fs::create_dir(to).map_err(|error| format!("{}: {error}", to.display()))?;
    for file in entries(from)? {
        copy(&file, &to.join(file.file_name().unwrap_or_default()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_by_name_and_by_what_only_they_have() {
        assert_eq!(needs("#include \"runtime_api.h\"\nint x = runtime_init(NULL);"), [""; 0]);
        assert_eq!(needs("#include \"a.h\"\n"), ["a.h"]);
        assert_eq!(
            needs("f(error_recovery_init(&c)); security_config_t s;"),
            ["error_recovery.h", "runtime_security.h"]
        );
        assert_eq!(needs("my_error_recovery_init();"), [""; 0]);
    }

    #[test]
    fn one_folder_a_line() {
        assert_eq!(with_folder("a /path/to/b /path/to/c\n", Path::new("/x")), "a /x/b /path/to/c\n");
        assert_eq!(with_folder("f(\"/system/b\") /system/c\n", Path::new("/x")), "f(\"/x/b\") /system/c\n");
    }
}
