//! What tests share that link modules with each other and with libraries, and read the log. Of ELF.

use std::ffi::{CString, c_int};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use midflight::{Error, Runtime};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::Workshop;

/// What the log has so far, a line each.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Log;

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut line = String::new();
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            line += &format!("{}={value:?} ", field.name());
        });
        lines().push(format!("{} {line}", event.metadata().level()));
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

pub(crate) fn lines() -> MutexGuard<'static, Vec<String>> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many warnings there were, since this was asked last, that have all these words.
pub(crate) fn warned(words: &[&str]) -> usize {
    said("WARN", words)
}

pub(crate) fn said(level: &str, words: &[&str]) -> usize {
    let said = std::mem::take(&mut *lines());
    let said = said.iter().filter(|line| line.starts_with(level));
    said.filter(|line| words.iter().all(|word| line.contains(word))).count()
}

/// The runtime with nothing loaded, and the log listened to.
pub(crate) fn start_logged(name: &str) -> (Runtime, Workshop, MutexGuard<'static, ()>) {
    static LISTEN: Once = Once::new();
    LISTEN.call_once(|| tracing::subscriber::set_global_default(Log).unwrap());
    let (rt, shop, turn) = super::start(name);
    rt.shutdown().unwrap();
    lines().clear();
    (rt, shop, turn)
}

pub(crate) fn load(rt: &Runtime, paths: &[&PathBuf]) -> Result<(), Error> {
    // SAFETY: the functions of the tests' modules are as they are called.
    unsafe { rt.load_all(paths) }.map(drop)
}

/// Loads a library for all to see, as the host's own symbols are.
pub(crate) fn host(library: &Path) {
    let path = CString::new(library.to_str().unwrap()).unwrap();
    // SAFETY: the test's own library.
    assert!(!unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) }.is_null());
}

/// Calls a function of a module without arguments.
pub(crate) fn call(rt: &Runtime, module: &str, function: &str) -> c_int {
    let address = rt.frame_symbol(module, function).unwrap();
    let frame = rt.frame();
    // SAFETY: as declared, in a frame.
    let function: extern "C" fn() -> c_int = unsafe { std::mem::transmute(address.as_ptr()) };
    let answer = function();
    drop(frame);
    answer
}

/// The linker's arguments for who is linked with these libraries, and finds them where they are.
pub(crate) fn with(libraries: &[&Path]) -> Vec<String> {
    let mut arguments = vec!["-Wl,--no-as-needed".to_owned()];
    for library in libraries {
        let folder = library.parent().unwrap().display();
        arguments.extend([library.display().to_string(), format!("-Wl,-rpath,{folder}")]);
    }
    arguments
}

/// A module in C, with more arguments.
pub(crate) fn module(
    shop: &Workshop,
    name: &str,
    version: u32,
    source: &str,
    arguments: &[String],
) -> PathBuf {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    shop.module_for(std::env::consts::ARCH, name, version, source, &arguments)
}

/// A library that is no module: its name is `lib{name}.so` and what `version` adds.
pub(crate) fn library(
    shop: &Workshop,
    name: &str,
    version: &str,
    source: &str,
    arguments: &[String],
) -> PathBuf {
    let file = format!("lib{name}.so{version}");
    let mut arguments = arguments.to_vec();
    arguments.push(format!("-Wl,-soname,{file}"));
    let built = module(shop, &format!("library_{name}"), 1, source, &arguments);
    let path = built.with_file_name(file);
    std::fs::rename(built, &path).unwrap();
    path
}
