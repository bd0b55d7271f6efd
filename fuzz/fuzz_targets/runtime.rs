//! Any bytes, as the files of two versions of a module, in the real runtime: loaded, called, looked
//! up, unwound through, reloaded, rolled back, unloaded and explained. Files are separated by a
//! line of its own, and so are the versions.
//!
//! Of the module only code is entered whose bytes are known to be harmless (`harmless.rs`): an
//! input of which a load would enter any other is left. What functions do is told from their bytes,
//! and they must do it where the runtime has put them. Fails on a panic or a fault, on an answer
//! that is not what the image says, and on anything that is left behind.
#![no_main]

#[path = "../runtime/asking.rs"]
mod asking;
#[path = "../runtime/harmless.rs"]
mod harmless;
#[path = "../runtime/memory.rs"]
mod memory;
#[path = "../runtime/unwinder.rs"]
mod unwinder;

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::OnceLock;

use harmless::{Does, Trial};
use libfuzzer_sys::{Corpus, fuzz_target};
use midflight::{Error, LoadOptions, Runtime, Source};
use midflight_image::{Export, ExportKind, Host, Image, Input, Machine};

const FILES: &[u8] = b"\n=next=\n";
const VERSIONS: &[u8] = b"\n=newer=\n";
const MOST_FILES: usize = 3;
const MAX_SPAN: u64 = 128 << 20;
/// Libraries that the process has, and a name that only a module has.
const LIBRARIES: [&str; 4] = ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "other.so"];

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let files: Vec<Vec<&[u8]>> =
        split(bytes, VERSIONS).into_iter().map(|version| split(version, FILES)).collect();
    if files.len() > 2 || files.iter().any(|files| files.len() > MOST_FILES) {
        return Corpus::Reject;
    }
    let versions: Option<Vec<Version>> =
        files.iter().enumerate().map(|(number, files)| Version::read(number, files)).collect();
    let Some(versions) = versions else { return Corpus::Reject };
    let rt = runtime();
    let process = unwinder::record(split as *const () as usize);
    live(rt, &versions, process);
    if bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)).is_multiple_of(8) {
        leaves_nothing(|| live(rt, &versions, process));
    }
    Corpus::Keep
});

/// What is left behind is so each time. Lists grow now and then, and names and slots stay that are
/// new.
fn leaves_nothing(live: impl Fn()) {
    const TIMES: usize = 5;
    let mut before = memory::used();
    for _ in 0..TIMES {
        live();
        let after = memory::used();
        if !after.exceeds(&before) {
            return;
        }
        before = after;
    }
    panic!("something is left behind each time: by now {before:?}");
}

fn runtime() -> Runtime {
    Runtime::start().expect("the runtime starts")
}

fn split<'a>(bytes: &'a [u8], separator: &[u8]) -> Vec<&'a [u8]> {
    let (mut parts, mut rest) = (Vec::new(), bytes);
    while let Some(at) = rest.windows(separator.len()).position(|window| window == separator) {
        parts.push(&rest[..at]);
        rest = &rest[at + separator.len()..];
    }
    parts.push(rest);
    parts
}

/// A version whose life is harmless.
struct Version<'f> {
    image: Image<'f>,
    trial: Trial,
    source: Source,
    functions: Vec<Known>,
}

/// A function that does something known.
struct Known {
    /// It is asked for by this.
    name: String,
    /// From the start of the image.
    offset: u64,
    does: Does,
}

impl<'f> Version<'f> {
    fn read(number: usize, files: &[&'f [u8]]) -> Option<Self> {
        let machine = Machine::HOST?;
        let inputs: Vec<_> = files.iter().map(|bytes| Input { name: "file", bytes }).collect();
        let image = Image::parse_all(&inputs, machine, 4096, MAX_SPAN).ok()?;
        let spawns = |name: &str| name.contains("6Thread3new");
        // It would have to stay for ever: nobody knows when its threads are over.
        if image.imports().iter().any(|import| spawns(import.name))
            || !image.needed().iter().all(|library| LIBRARIES.contains(library))
        {
            return None;
        }
        let host = |by: u64| Host {
            tls_module: 7 + by,
            tls_dynamic: 0xD000 + by,
            tls_static: 0x5000,
            tls_undefined: 0xE000,
            tlv_thunk: 0x7000,
        };
        // Twice, far from each other in all that it may depend on: what is not the same is not
        // known.
        let trial = Trial::new(&image, 0x1_0000, 0x4000_0000, host(0))?;
        let other = Trial::new(&image, 0x13_0000, 0x5555_0000, host(1))?;
        let does = |at| {
            let does = harmless::at(&image, &trial.memory, at)?;
            (harmless::at(&image, &other.memory, at) == Some(does)).then_some(does)
        };
        let is_plain = |at| matches!(does(at), Some(Does::Returns | Does::Number(_) | Does::Place(_)));
        let exports = image.exports();
        let old = image.versions();
        let resolvers = image.indirect().iter().map(|indirect| indirect.resolver);
        let all = exports.iter().chain(old.iter().map(|(export, _)| export));
        let chosen = all.filter(|export| export.kind == ExportKind::Indirect);
        let hooks = ["module_init", "module_shutdown"].into_iter().filter_map(|name| image.export(name));
        // A hook may be a function that another one chooses.
        let hooks = hooks.map(|hook| match (hook.kind, does(hook.offset)) {
            (ExportKind::Indirect, Some(Does::Place(chosen))) => Export { offset: chosen, ..hook },
            (ExportKind::Indirect, _) => Export { offset: u64::MAX, ..hook },
            _ => hook,
        });
        let named = chosen.copied().chain(hooks).map(|export| export.offset);
        let mut entered = trial.init.iter().chain(&trial.fini).copied().chain(resolvers).chain(named);
        if (&trial.init, &trial.fini) != (&other.init, &other.fini) || !entered.all(is_plain) {
            return None;
        }
        let is_known = |does: &Does| match *does {
            Does::Calls(place) => trial.import(place).is_some() && trial.import(place) == other.import(place),
            Does::ThreadLocal(place) => {
                trial.descriptor(place).is_some() && trial.descriptor(place) == other.descriptor(place)
            }
            _ => true,
        };
        let versioned = old.iter().map(|(export, version)| format!("{}@{version}", export.name));
        let plain = exports.iter().map(|export| export.name.to_owned());
        let functions = plain.chain(versioned).filter_map(|name| {
            // By its hash another symbol of that name may be found than the one that is listed, or
            // none.
            let offset = image.export(&name).filter(|found| found.kind == ExportKind::Function)?.offset;
            Some(Known { does: does(offset).filter(is_known)?, name, offset })
        });
        let functions = functions.take(24).collect();
        let source = write(number, files);
        Some(Self { image, trial, source, functions })
    }
}

/// Files in memory, which are as they were read until the next input.
fn write(number: usize, files: &[&[u8]]) -> Source {
    static FILES: OnceLock<Vec<File>> = OnceLock::new();
    let all = FILES.get_or_init(|| {
        let file = |_| {
            // SAFETY: a descriptor of its own.
            unsafe { File::from_raw_fd(libc::memfd_create(c"module".as_ptr(), libc::MFD_CLOEXEC)) }
        };
        (0..2 * MOST_FILES).map(file).collect()
    });
    let mut paths = Vec::new();
    for (bytes, mut file) in files.iter().zip(&all[number * MOST_FILES..]) {
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(bytes))
            .expect("there is memory");
        paths.push(format!("/proc/self/fd/{}", file.as_raw_fd()));
    }
    match &paths[..] {
        [one] => Source::from(one),
        several => Source::linked("several", several),
    }
}

/// From the first load to nothing left.
fn live(rt: Runtime, versions: &[Version<'_>], process: Option<(usize, usize)>) {
    let (first, last) = (&versions[0], versions.last().expect("there is one"));
    let verified = LoadOptions::new().verify(true).validate(true).keep_previous(true);
    let mut places = Vec::new();
    let mut kept = None;
    let mut held = Vec::new();
    for (version, options) in [
        (first, LoadOptions::default()),
        (last, verified),
        (first, LoadOptions::new().threads(1)),
        (last, LoadOptions::default()),
    ] {
        let before = modules(rt);
        if let Some(module) = load(rt, version, &options) {
            // A frame that is held goes on with what it has begun with.
            for (_frame, functions) in held.drain(..) {
                let functions: asking::Functions<'_> = functions;
                functions.call();
            }
            let others = if std::ptr::eq(version, last) { &versions[..versions.len() - 1] } else { &[] };
            places = asking::everything(rt, version, others, &module);
            let functions = asking::Functions::of(rt, version, &module);
            held.push((rt.frame(), functions));
            kept = kept.or_else(|| options.keep_previous.then_some(module));
        } else {
            places.clear();
            assert_eq!(modules(rt), before, "what is refused changes nothing");
        }
        assert_eq!(
            unwinder::record(split as *const () as usize),
            process,
            "the host's own is found as before"
        );
    }
    drop(held);
    if let Some(module) = kept {
        told(rt.rollback_module(&module));
    }
    let names: Vec<String> = modules(rt).into_iter().map(|(name, _)| name).collect();
    rt.unload_all(&names).expect("together they can go");
    // What it has seen of a module that may be run by threads of others is by chance.
    rt.collect_quiescent().expect("threads can be looked at");
    // SAFETY: no thread is inside, and nobody goes to an address that is looked up below.
    let left = unsafe { rt.collect_escaped() }.expect("it is not busy");
    assert!((left.retained, left.held, left.busy) == (0, 0, 0), "{left:?}");
    let after = rt.statistics().expect("it is not busy");
    assert_eq!((after.modules, after.current_bytes, after.old_bytes, after.retained_bytes), (0, 0, 0, 0));
    // Those of the latest version: another may have had the pages of those before.
    for place in places {
        let mut text = String::new();
        let known = midflight::explain_address(place as *const (), &mut text).expect("it is text");
        assert!(known && text.len() < 8192, "{text}");
        assert_eq!(unwinder::record(place), None, "it is not found any more");
    }
}

fn modules(rt: Runtime) -> Vec<(String, u64)> {
    let modules = rt.modules().expect("it is not busy");
    modules.into_iter().map(|module| (module.name, module.version)).collect()
}

/// The module's name, if it was loaded.
fn load(rt: Runtime, version: &Version<'_>, options: &LoadOptions<'_>) -> Option<String> {
    // SAFETY: what of it is entered is known.
    let loaded = told(unsafe { rt.load_with([version.source.clone()], options) })?;
    Some(loaded.modules[0].name.clone())
}

/// What is wrong is said in a message that a person can read.
fn told<T>(result: Result<T, Error>) -> Option<T> {
    result.inspect_err(|error| assert!(error.to_string().len() < 2 << 20, "{error}")).ok()
}
