//! Modules of the tests are compiled once, and kept by what they are made of: several legs of the
//! tests run the same tests in other ways (fall-backs, CPUs), and compiling took most of a test's
//! time (60 ms of 75, natively).

use std::ffi::OsStr;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Compiles a file, or has what the same compiler made of the same source. Only for arguments that
/// name no file of the test's own: what such a file holds is in no key.
pub(crate) fn compile(mut compiler: Command, input: &Path, output: &Path, arguments: &[&str]) {
    let kept = folder().join(format!("{:016x}", key(&compiler, input, arguments)));
    if fs::copy(&kept, output).is_ok() {
        return;
    }
    super::run(compiler.arg("-o").args([output, input]).args(arguments));
    // Written beside and renamed: another test may look for it.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed); // Relaxed: only the number is of interest.
    let beside = kept.with_extension(format!("{}-{number}", std::process::id()));
    fs::copy(output, &beside).expect("keeping what was compiled");
    fs::rename(&beside, &kept).expect("keeping what was compiled");
}

/// Under target/, so that it goes with it.
fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("modules");
    fs::create_dir_all(&folder).expect("a folder for what was compiled");
    folder
}

fn key(compiler: &Command, input: &Path, arguments: &[&str]) -> u64 {
    let mut key = DefaultHasher::new();
    file_of(compiler.get_program()).hash(&mut key);
    compiler.get_args().for_each(|argument| argument.hash(&mut key));
    arguments.hash(&mut key);
    // Headers of our own may change; those of the system go with the compiler.
    for folder in arguments.iter().filter_map(|argument| argument.strip_prefix("-I")) {
        let entries = fs::read_dir(folder).expect("a folder of headers");
        let mut files: Vec<_> = entries.map(|entry| entry.expect("a header").path()).collect();
        files.sort();
        files.iter().for_each(|file| fs::read(file).expect("a header").hash(&mut key));
    }
    // The language.
    input.extension().hash(&mut key);
    fs::read(input).expect("the source").hash(&mut key);
    key.finish()
}

/// A compiler: another version of it is another file.
fn file_of(program: &OsStr) -> (PathBuf, u64, Option<std::time::SystemTime>) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find_map(|file| {
        let file = file.canonicalize().ok()?;
        let about = fs::metadata(&file).ok()?;
        Some((file, about.len(), about.modified().ok()))
    });
    found.unwrap_or_else(|| panic!("{program:?} is not here; scripts/setup installs it"))
}
