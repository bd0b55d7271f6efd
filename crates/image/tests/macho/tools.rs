//! The tools that make the files, and a place for them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A folder that is there as long as this is.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let unique = format!("macho-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(unique);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, contents).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| {
        let tool = command.get_program();
        panic!("{tool:?} is needed for these tests: install clang-19, lld-19 and llvm-19 (scripts/setup does): {error}")
    });
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Compiles C (`.c`), C++ (`.cc`) or assembly (`.s`) to an object file for macOS.
pub(crate) fn compile(folder: &Folder, name: &str, source: &str, flags: &[&str]) -> PathBuf {
    let (source, object) = (folder.write(name, source), folder.path(&format!("{name}.o")));
    let include = concat!(env!("CARGO_MANIFEST_DIR"), "/../../include");
    let mut clang = Command::new("clang-19");
    clang.args(["-target", "arm64-apple-macos11", "-O1", "-w", "-I", include]).args(flags);
    run(clang.arg("-c").arg(source).arg("-o").arg(&object));
    object
}

/// Links object files and libraries.
pub(crate) fn link(output: &Path, inputs: &[&Path], version: &str, flags: &[&str]) -> Vec<u8> {
    let mut linker = Command::new("ld64.lld-19");
    linker.args(["-arch", "arm64", "-platform_version", "macos", version, version, "-o"]).arg(output);
    run(linker.args(flags).args(inputs));
    std::fs::read(output).unwrap()
}

/// What a dylib is linked with, unless a test is about that.
pub(crate) const DYLIB: &[&str] = &["-dylib", "-undefined", "dynamic_lookup"];

/// A dylib of one source.
pub(crate) fn dylib(name: &str, source: &str, flags: &[&str]) -> Vec<u8> {
    let folder = Folder::new();
    let object = compile(&folder, name, source, &[]);
    link(&folder.path("module.dylib"), &[&object], "11.0", &[DYLIB, flags].concat())
}

/// What llvm-objdump prints of a Mach-O file.
pub(crate) fn objdump(file: &Path, what: &[&str]) -> String {
    run(Command::new("llvm-objdump-19").arg("--macho").args(what).arg(file))
}
