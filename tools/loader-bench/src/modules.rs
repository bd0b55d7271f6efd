//! The modules that are loaded: built once, the same files for every loader.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

/// Functions of the large module, and entries of its table: as many relocations.
const FUNCTIONS: usize = 2_000;

/// What `call(x)` of a module returns that was loaded just now. The second call of the same copy
/// returns one more, so that a loader which hands out a copy that was there before is found out.
pub(crate) fn expected(x: u64) -> u64 {
    x + 1
}

/// One file to load.
pub(crate) struct Module {
    /// As it is called in the table.
    pub(crate) name: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) object: bool,
    pub(crate) bytes: u64,
    /// Whether the goals are about it.
    pub(crate) goal: bool,
}

/// The built modules, in a temporary folder that goes when this does.
pub(crate) struct Modules {
    folder: PathBuf,
    pub(crate) all: Vec<Module>,
}

impl Modules {
    pub(crate) fn build() -> Result<Self, Box<dyn Error>> {
        let folder = env::temp_dir().join(format!("midflight-loader-bench-{}", std::process::id()));
        let mut modules = Modules { folder, all: Vec::new() };
        for (name, source, goal) in [
            (".so small", small(), true),
            (".so large", large(true), true),
            // The linker has bound the functions already: what is left of the work is reading and
            // adding.
            (".so large, bound", large(false), false),
            (".o small", small(), true),
            (".o large", large(true), true),
        ] {
            let folder = modules.folder.join(name.replace(|c: char| !c.is_alphanumeric(), "-"));
            fs::create_dir_all(&folder)?;
            let input = folder.join("measured.c");
            fs::write(&input, source)?;
            let object = name.starts_with(".o");
            let path = folder.join(if object { "measured.o" } else { "libmeasured.so" });
            compile(&input, &path, object)?;
            let bytes = fs::metadata(&path)?.len();
            modules.all.push(Module { name, path, object, bytes, goal });
        }
        Ok(modules)
    }
}

impl Drop for Modules {
    fn drop(&mut self) {
        // A leftover in the temporary folder does no harm.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// One function, and the counter by which a fresh copy is known.
fn small() -> String {
    "static unsigned long calls; unsigned long call(unsigned long x) { return x + ++calls; }".into()
}

/// 2,000 functions in a table that takes a relocation for each: by name (the functions are
/// exported) or only by place.
fn large(exported: bool) -> String {
    let (linkage, ballast) = if exported { ("", 2_000) } else { ("static", 100_000) };
    let mut source = String::new();
    for i in 0..FUNCTIONS {
        let _ = writeln!(source, "{linkage} unsigned long f{i}(unsigned long x) {{ return x + {i}; }}");
    }
    let table: String = (0..FUNCTIONS).map(|i| format!("f{i},")).collect();
    let _ = writeln!(
        source,
        "static unsigned long calls, (*const table[])(unsigned long) = {{ {table} }};
         static const char ballast[{ballast}] = {{ 0, 1 }};
         unsigned long call(unsigned long x) {{
             unsigned long i = x % {FUNCTIONS};
             return table[i](x) - i + ballast[i ? {ballast} - i : 0] + ++calls;
         }}"
    );
    source
}

fn compile(input: &Path, output: &Path, object: bool) -> io::Result<()> {
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".into());
    let mut command = Command::new(&compiler);
    command.args(["-O2", "-fPIC"]);
    if object {
        // elf_loader has no GOTPCRELX, which the assembler writes by default.
        command.args(["-c", "-Wa,-mrelax-relocations=no"]);
    } else {
        command.args(["-shared", "-Wl,-soname,libmeasured.so"]);
    }
    let result = command.arg("-o").args([output, input]).output()?;
    if !result.status.success() {
        return Err(io::Error::other(format!("{compiler}: {}", String::from_utf8_lossy(&result.stderr))));
    }
    Ok(())
}
