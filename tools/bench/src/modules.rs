//! The modules that are loaded: one small source, built once.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use object::{Object, ObjectSegment, ObjectSymbol};

use crate::Result;

/// How many distinct modules there are in [`many`].
pub(crate) const MANY: usize = 1_000;
/// Functions of [`wide`], and slots that are made of them.
pub(crate) const WIDE: usize = 1_000;
pub(crate) const SLOTS: usize = 100_000;
/// Patches that one process takes.
pub(crate) const PATCHES: usize = 64;

/// `call(x)` is x + VERSION. The other functions are what `subsecond` asks of a patch: `main`, from
/// which it measures distances, and the method that a `HotFn` of a function calls through. That is
/// a Rust function of a thin reference and a tuple of one integer; the compiler passes these as C
/// does.
const SOURCE: &str = "
unsigned long call(unsigned long x) { return x + VERSION; }
unsigned long call_it(const void *function, unsigned long x) { return x + VERSION; }
int main(void) { return 0; }
";

midflight::module! {
    /// The module that is called.
    pub(crate) unsafe mod measured { safe fn call(x: u64) -> u64; }
    /// One of the many, to see that reloading them does something.
    pub(crate) unsafe mod m0000 { safe fn call(x: u64) -> u64; }
}

/// A temporary folder with all of them, which goes when this does.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn build() -> Result<Self> {
        let folder = Folder(env::temp_dir().join(format!("midflight-bench-{}", std::process::id())));
        fs::create_dir_all(&folder.0)?;
        let source = folder.0.join("measured.c");
        fs::write(&source, SOURCE)?;
        for version in [1, 2] {
            let file = version_file(&folder.0, version);
            fs::create_dir_all(many_folder(&folder.0, version))?;
            compile(&source, &file, version)?;
            // They have no SONAME, so that the file's name is the module's.
            for number in 0..MANY {
                fs::copy(&file, many(&folder.0, version, number))?;
            }
        }
        let wide_source = folder.0.join("wide.c");
        let functions =
            (0..WIDE).map(|n| format!("unsigned long w{n}(unsigned long x) {{ return x + {n}; }}\n"));
        fs::write(&wide_source, functions.collect::<String>())?;
        compile(&wide_source, &wide(&folder.0), 1)?;
        for number in 0..PATCHES {
            fs::copy(version_file(&folder.0, patch_version(number)), patch(&folder.0, number))?;
        }
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A leftover in the temporary folder does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn compile(input: &Path, output: &Path, version: u64) -> io::Result<()> {
    fs::create_dir_all(output.parent().expect("it is in a folder"))?;
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".into());
    let mut command = Command::new(&compiler);
    command.args(["-O2", "-fPIC", "-shared", &format!("-DVERSION={version}"), "-o"]).args([output, input]);
    let result = command.output()?;
    if !result.status.success() {
        return Err(io::Error::other(format!("{compiler}: {}", String::from_utf8_lossy(&result.stderr))));
    }
    Ok(())
}

/// A version of the module `measured`: 1 or 2.
pub(crate) fn version_file(folder: &Path, version: u64) -> PathBuf {
    folder.join(format!("version-{version}/libmeasured.so"))
}

fn many_folder(folder: &Path, version: u64) -> PathBuf {
    folder.join(format!("many-{version}"))
}

/// A version of one of the [`MANY`] modules, which all are copies under names of their own.
pub(crate) fn many(folder: &Path, version: u64, number: usize) -> PathBuf {
    many_folder(folder, version).join(format!("libm{number:04}.so"))
}

/// A module of [`WIDE`] functions, w0, w1, ...
pub(crate) fn wide(folder: &Path) -> PathBuf {
    folder.join("libwide.so")
}

/// One of the [`PATCHES`] files that `subsecond` loads: the linker gives it the same library again
/// if it is the same file.
pub(crate) fn patch(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("patch-{number}.so"))
}

/// 2, 1, 2, 1, ...: the first is not what is loaded at the start.
fn patch_version(number: usize) -> u64 {
    2 - number as u64 % 2
}

/// A folder for `hot-lib-reloader`, which writes copies beside the library, with version 1.
pub(crate) fn watched_folder(folder: &Path) -> io::Result<PathBuf> {
    let watched = folder.join(format!("watched-{}", std::process::id()));
    fs::create_dir_all(&watched)?;
    fs::copy(version_file(folder, 1), watched.join("libmeasured.so"))?;
    Ok(watched)
}

/// The address that a file gives a symbol.
pub(crate) fn address(file: &Path, symbol: &str) -> Result<u64> {
    let bytes = fs::read(file)?;
    let file = object::File::parse(&*bytes)?;
    let found = file.dynamic_symbols().find(|s| s.name() == Ok(symbol)).map(|s| s.address());
    found.ok_or_else(|| format!("no symbol `{symbol}`").into())
}

/// Bytes of the pages that a file's own segments occupy.
pub(crate) fn bytes_of_segments(file: &Path, page: u64) -> Result<u64> {
    let bytes = fs::read(file)?;
    let file = object::File::parse(&*bytes)?;
    let pages = file.segments().map(|s| {
        let end = (s.address() + s.size()).next_multiple_of(page);
        end - s.address() / page * page
    });
    Ok(pages.sum())
}
