//! What modules' symbols stand for: as ld.so has it, and where not, said in the log. Of ELF.

mod support;

use std::ffi::{CString, c_int};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use midflight::{Error, ImageError, Runtime};
use support::Workshop;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// The warnings so far, a line each.
static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Log;

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
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
        warnings().push(line);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn warnings() -> MutexGuard<'static, Vec<String>> {
    WARNINGS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The warnings since this was asked last that have all these words.
fn warned(words: &[&str]) -> usize {
    let said = std::mem::take(&mut *warnings());
    said.iter().filter(|line| words.iter().all(|word| line.contains(word))).count()
}

/// The runtime with nothing loaded, and the log listened to.
fn start(name: &str) -> (Runtime, Workshop, MutexGuard<'static, ()>) {
    static LISTEN: Once = Once::new();
    LISTEN.call_once(|| tracing::subscriber::set_global_default(Log).unwrap());
    let (rt, shop, turn) = support::start(name);
    rt.shutdown().unwrap();
    warnings().clear();
    (rt, shop, turn)
}

fn load(rt: &Runtime, paths: &[&PathBuf]) -> Result<(), Error> {
    // SAFETY: the functions of the tests' modules are as they are called.
    unsafe { rt.load_all(paths) }.map(drop)
}

/// Calls a function of a module without arguments.
fn call(rt: &Runtime, module: &str, function: &str) -> c_int {
    let address = rt.frame_symbol(module, function).unwrap();
    let frame = rt.frame();
    // SAFETY: as declared, in a frame.
    let function: extern "C" fn() -> c_int = unsafe { std::mem::transmute(address.as_ptr()) };
    let answer = function();
    drop(frame);
    answer
}

/// The linker's arguments for who is linked with these libraries, and finds them where they are.
fn with(libraries: &[&Path]) -> Vec<String> {
    let mut arguments = vec!["-Wl,--no-as-needed".to_owned()];
    for library in libraries {
        let folder = library.parent().unwrap().display();
        arguments.extend([library.display().to_string(), format!("-Wl,-rpath,{folder}")]);
    }
    arguments
}

/// A module in C, with more arguments.
fn module(shop: &Workshop, name: &str, version: u32, source: &str, arguments: &[String]) -> PathBuf {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    shop.module_for(std::env::consts::ARCH, name, version, source, &arguments)
}

/// The module `api`, whose function of this name has these versions, oldest first: each returns its number.
fn api(shop: &Workshop, versions: &[u32]) -> PathBuf {
    let number = versions.iter().fold(0, |number, version| 10 * number + version);
    let (mut source, mut script, mut before) = (String::new(), String::new(), String::new());
    for (at, version) in versions.iter().enumerate() {
        let sign = if at + 1 == versions.len() { "@@" } else { "@" };
        source += &format!(
            "__asm__(\".symver api{version},api{sign}API_{version}\");
             int api{version}(void) {{ return {version}; }}\n"
        );
        script += &format!("API_{version} {{ global: api; }} {before};\n");
        before = format!("API_{version}");
    }
    script += "HIDDEN { local: api?; };\n";
    let script = shop.file(&format!("api-{number}.map"), script.as_bytes());
    module(shop, "api", number, &source, &[format!("-Wl,--version-script={}", script.display())])
}

fn client(shop: &Workshop, name: &str, api: &Path) -> PathBuf {
    module(shop, name, 1, "int api(void); int answer(void) { return api(); }", &with(&[api]))
}

#[test]
fn who_was_linked_with_a_version_of_a_function_gets_that_one() {
    let (rt, shop, _turn) = start("versions");
    let [one, two, three] = [&[1][..], &[1, 2], &[1, 2, 3]].map(|versions| api(&shop, versions));
    let [first, second, third] =
        [("first", &one), ("second", &two), ("third", &three)].map(|(name, api)| client(&shop, name, api));
    // One after the other.
    for module in [&two, &first, &second] {
        load(&rt, &[module]).unwrap();
    }
    assert_eq!(["first", "second"].map(|name| call(&rt, name, "answer")), [1, 2]);
    assert_eq!(["api", "api@API_1", "api@API_2"].map(|name| call(&rt, "api", name)), [2, 1, 2]);
    let error = load(&rt, &[&third]).unwrap_err();
    assert!(error.to_string().contains("api@API_3"), "{error}");
    assert!(matches!(error, Error::Image { source: ImageError::UnresolvedImport { .. }, .. }), "{error:?}");
    // They stay with theirs, and those must stay.
    load(&rt, &[&three]).unwrap();
    load(&rt, &[&third]).unwrap();
    assert_eq!(["first", "second", "third"].map(|name| call(&rt, name, "answer")), [1, 2, 3]);
    assert_eq!(call(&rt, "api", "api"), 3);
    let error = load(&rt, &[&api(&shop, &[2, 3])]).unwrap_err();
    assert!(error.to_string().contains("api@API_1"), "{error}");
    // At once.
    rt.shutdown().unwrap();
    load(&rt, &[&first, &three, &third, &second]).unwrap();
    assert_eq!(["first", "second", "third"].map(|name| call(&rt, name, "answer")), [1, 2, 3]);
}

#[test]
fn a_module_without_versions_serves_who_was_linked_with_one() {
    let (rt, shop, _turn) = start("no-versions");
    let first = client(&shop, "first", &api(&shop, &[1]));
    load(&rt, &[&shop.module("api", 1, "int api(void) { return 7; }"), &first]).unwrap();
    assert_eq!(call(&rt, "first", "answer"), 7);
    load(&rt, &[&api(&shop, &[1, 2])]).unwrap();
    assert_eq!(call(&rt, "first", "answer"), 1);
}
