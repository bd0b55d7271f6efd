//! What modules say of themselves with runtime_module.h: their name, their version, what they need,
//! and the hooks.

mod support;

use std::ffi::{CStr, c_char};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use midflight::{Error, LoadOptions, Runtime, Source};
use support::{Workshop, this_test};

midflight::module! {
    unsafe mod serving { safe fn number() -> i32; }
    unsafe mod bystander { safe fn other() -> i32; }
}

/// What the modules said, in that order.
static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

extern "C" fn say(text: *const c_char) {
    // SAFETY: modules give literals.
    let text = unsafe { CStr::from_ptr(text) }.to_str().unwrap().to_owned();
    SAID.lock().unwrap_or_else(PoisonError::into_inner).push(text);
}

/// What was said since the last question.
fn said() -> Vec<String> {
    std::mem::take(&mut SAID.lock().unwrap_or_else(PoisonError::into_inner))
}

fn start(name: &str) -> (Runtime, Workshop, std::sync::MutexGuard<'static, ()>) {
    let started = support::start(name);
    said();
    started
}

const INCLUDE: &str = concat!("-I", env!("CARGO_MANIFEST_DIR"), "/include");

fn says() -> String {
    format!("-DSAY(text)=((void (*)(const char *)){}ul)(text)", say as *const () as usize)
}

/// A module that says when it begins and when it ends, and whose `module_init` returns this. C, and
/// C++ too.
fn telling(name: &str, code: i32, rest: &str) -> String {
    format!(
        r#"#include "runtime_module.h"
        RUNTIME_MODULE("{name}", "1.{code}-Wörter")
        {rest}
        __attribute__((constructor)) static void begin(void) {{ SAY("{name} begins"); }}
        __attribute__((destructor)) static void end(void) {{ SAY("{name} ends"); }}
        int module_init(void) {{ SAY("{name} init"); return {code}; }}
        void module_shutdown(void) {{ SAY("{name} shutdown"); }}"#
    )
}

/// The shared object of that, in a file that has another name.
fn module(shop: &Workshop, number: u32, source: &str) -> PathBuf {
    shop.module_for(std::env::consts::ARCH, "file", number, source, &[INCLUDE, &says()])
}

/// Loads, and returns what was published: names and what the modules say is their version.
fn load_all(
    rt: Runtime,
    sources: impl IntoIterator<Item = impl Into<Source>>,
) -> Result<Vec<(String, Option<String>)>, Error> {
    // SAFETY: the tests' modules have the functions as declared above.
    let published = unsafe { rt.load_all(sources) }?;
    Ok(published.modules.into_iter().map(|module| (module.name, module.declared)).collect())
}

fn unload(rt: Runtime, modules: &[&str]) {
    for module in modules {
        rt.unload(module).unwrap();
    }
    let left = rt.collect().unwrap();
    assert_eq!((left.retained, left.busy, left.old_bytes), (0, 0, 0));
}

fn names(modules: &[(String, Option<String>)]) -> Vec<&str> {
    modules.iter().map(|(name, _)| &**name).collect()
}

#[test]
fn the_notes_name_comes_before_the_files_and_after_the_hosts() {
    let (rt, shop, _turn) = start("names");
    let source = telling("noted", 0, "");
    let path = module(&shop, 1, &source);
    assert_eq!(load_all(rt, [&path]).unwrap(), [("noted".into(), Some("1.0-Wörter".into()))]);
    assert_eq!(said(), ["noted begins", "noted init"]);
    unload(rt, &["noted"]);
    assert_eq!(said(), ["noted shutdown", "noted ends"]);

    let object = shop.object("file.c", &source, &["-fPIC", INCLUDE, &says()]);
    assert_eq!(names(&load_all(rt, [Source::linked("given", [&object])]).unwrap()), ["given"]);
    unload(rt, &["given"]);
    // Without a note the file names it, and says no version.
    let plain = shop.module("plain", 1, "int f(void) { return 1; }");
    assert_eq!(load_all(rt, [&plain]).unwrap(), [("plain".into(), None)]);
    unload(rt, &["plain"]);
}

#[test]
fn object_files_and_archives_and_hidden_symbols() {
    let (rt, shop, _turn) = start("kinds");
    let says = says();
    let arguments = |more: &[&'static str]| {
        let mut all = vec!["-fPIC", INCLUDE];
        all.extend(more);
        all
    };
    let source = telling("kind", 0, "");
    let object = |file: &str, more: &[&'static str]| {
        let mut arguments = arguments(more);
        arguments.push(&says);
        shop.object(file, &source, &arguments)
    };
    let plain = object("plain.c", &[]);
    let hidden = object("hidden.c", &["-fvisibility=hidden", "-O2", "-ffunction-sections"]);
    let debug = object("debug.c", &["-g", "-O0"]);
    let archive = shop.archive("libarchive.a", &[&plain]);
    let strip: &[&str] =
        if support::is_macho() { &["-Wl,-dead_strip"] } else { &["-Wl,--gc-sections", "-s"] };
    let hidden_object = shop.module_for(
        std::env::consts::ARCH,
        "hidden",
        1,
        &source,
        &[&[INCLUDE, &says, "-fvisibility=hidden", "-ffunction-sections"], strip].concat(),
    );
    let lto = shop.module_for(std::env::consts::ARCH, "lto", 1, &source, &[INCLUDE, &says, "-flto"]);
    let cpp = shop.cpp("cpp", 1, &source, &[INCLUDE, &says, "-fvisibility=hidden", "-std=c++17"]);
    for path in [plain, hidden, debug, archive, hidden_object, lto, cpp] {
        assert_eq!(load_all(rt, [&path]).unwrap(), [("kind".into(), Some("1.0-Wörter".into()))], "{path:?}");
        unload(rt, &["kind"]);
        assert_eq!(said(), ["kind begins", "kind init", "kind shutdown", "kind ends"], "{path:?}");
    }
}

#[test]
fn what_is_needed_must_be_there() {
    let (rt, shop, _turn) = start("needs");
    let user = module(&shop, 1, &telling("needs_user", 0, r#"RUNTIME_MODULE_NEEDS("needs_used")"#));
    let used = module(&shop, 2, &telling("needs_used", 0, ""));
    let error = load_all(rt, [&user]).unwrap_err();
    assert!(matches!(&error, Error::MissingModule { needs, .. } if needs == "needs_used"), "{error}");
    assert!(error.to_string().contains(user.to_str().unwrap()), "{error}");
    assert!(said().is_empty(), "none of it ran");

    // In one call, in any order: what is needed begins first, and ends last.
    for paths in [[&user, &used], [&used, &user]] {
        load_all(rt, paths).unwrap();
        assert_eq!(said(), ["needs_used begins", "needs_used init", "needs_user begins", "needs_user init"]);
        let error = rt.unload("needs_used").unwrap_err();
        assert!(matches!(&error, Error::StillImported { by, .. } if *by == ["needs_user"]), "{error}");
        // Both die together, in one collection.
        let inside = rt.frame();
        rt.unload("needs_user").unwrap();
        rt.unload("needs_used").unwrap();
        assert!(said().is_empty(), "somebody may be inside");
        drop(inside);
        assert_eq!(rt.collect().unwrap().old_bytes, 0);
        assert_eq!(
            said(),
            ["needs_user shutdown", "needs_user ends", "needs_used shutdown", "needs_used ends"]
        );
    }
    // Before it; and it may be replaced while it is needed.
    load_all(rt, [&used]).unwrap();
    load_all(rt, [&user]).unwrap();
    load_all(rt, [&used]).unwrap();
    unload(rt, &["needs_user", "needs_used"]);
}

#[test]
fn what_needs_each_other_is_loaded_together() {
    let (rt, shop, _turn) = start("circle");
    let needs = |name: &str, other: &str| {
        telling(name, 0, &format!("RUNTIME_MODULE_NEEDS(\"{other}\") RUNTIME_MODULE_NEEDS(\"{name}\")"))
    };
    let one = module(&shop, 1, &needs("circle_one", "circle_two"));
    let two = module(&shop, 2, &needs("circle_two", "circle_one"));
    assert!(matches!(load_all(rt, [&one]), Err(Error::MissingModule { .. })));
    assert_eq!(names(&load_all(rt, [&one, &two]).unwrap()), ["circle_one", "circle_two"]);
    assert_eq!(said().len(), 4);
    // Neither goes without the other. One that does not need it breaks the circle.
    assert!(matches!(rt.unload("circle_one"), Err(Error::StillImported { .. })));
    assert!(matches!(rt.unload("circle_two"), Err(Error::StillImported { .. })));
    load_all(rt, [module(&shop, 3, &telling("circle_one", 0, ""))]).unwrap();
    unload(rt, &["circle_two", "circle_one"]);
    let shutdowns = said();
    assert_eq!(shutdowns.iter().filter(|text| text.ends_with("shutdown")).count(), 3, "{shutdowns:?}");
    // Or both together.
    load_all(rt, [&one, &two]).unwrap();
    rt.unload_all(["circle_one", "circle_two"]).unwrap();
    unload(rt, &[]);
    assert_eq!(said().len(), 8);
}

#[test]
fn a_version_comes_back_without_its_hooks_and_not_without_what_it_needs() {
    let (rt, shop, _turn) = start("back");
    let user = module(&shop, 1, &telling("back_user", 0, r#"RUNTIME_MODULE_NEEDS("back_used")"#));
    let second = module(&shop, 2, &telling("back_user", 0, ""));
    let used = module(&shop, 3, &telling("back_used", 0, ""));
    load_all(rt, [&user, &used]).unwrap();
    let options = LoadOptions::new().keep_previous(true);
    // SAFETY: nobody calls it.
    unsafe { rt.load_with([&second], &options) }.unwrap();
    said();
    assert_eq!(rt.rollback_module("back_user").unwrap().modules[0].version, 1);
    assert!(matches!(rt.unload("back_used"), Err(Error::StillImported { .. })));
    assert_eq!(rt.rollback_module("back_user").unwrap().modules[0].version, 2);
    rt.unload("back_used").unwrap();
    rt.collect().unwrap();
    assert_eq!(said(), [""; 0], "the version that is kept says that it needs it");
    let error = rt.rollback_module("back_user").unwrap_err();
    assert!(matches!(&error, Error::MissingModule { needs, .. } if needs == "back_used"), "{error}");
    assert_eq!(rt.frame().version("back_user"), Some(2));
    unload(rt, &["back_user"]);
    let said = said();
    assert_eq!(said.len(), 6, "three versions, each once");
    assert_eq!(said[4..], ["back_used shutdown", "back_used ends"], "after the one that needs it");
}

#[test]
fn a_version_that_refuses_is_gone_and_the_old_one_serves_on() {
    let (rt, shop, _turn) = start("refuses");
    let number = |n: i32| format!("int number(void) {{ return {n}; }}");
    let serving = |n: i32, code: i32, rest: &str| {
        module(&shop, n as u32, &telling("serving", code, &format!("{rest} {}", number(n))))
    };
    let first = serving(1, 0, "");
    let other = |n: i32| {
        let source = telling("bystander", 0, &format!("int other(void) {{ return {n}; }}"));
        module(&shop, 100 + n as u32, &source)
    };
    let user = module(&shop, 200, &telling("late", 0, r#"RUNTIME_MODULE_NEEDS("serving")"#));
    load_all(rt, [&first, &other(1)]).unwrap();
    said();
    let generation = rt.frame().generation();
    // What is needed by it is initialised before it, what needs it is never.
    let refusing = serving(2, -7, r#"RUNTIME_MODULE_NEEDS("bystander")"#);
    for _ in 0..3 {
        let error = load_all(rt, [&user, &refusing, &other(2)]).unwrap_err();
        assert!(matches!(&error, Error::Refused { code: -7, path } if *path == refusing), "{error}");
        assert!(error.to_string().contains("-7"), "{error}");
        assert_eq!(
            said(),
            [
                "bystander begins",
                "bystander init",
                "serving begins",
                "serving init",
                "serving ends",
                "bystander shutdown",
                "bystander ends"
            ]
        );
        let frame = rt.frame();
        assert_eq!((serving::number(&frame), bystander::other(&frame)), (1, 1));
        assert_eq!((frame.generation(), frame.version("late")), (generation, None), "nothing was published");
        drop(frame);
        let left = rt.collect().unwrap();
        assert_eq!((left.freed, left.held, left.retained, left.busy, left.old_bytes), (0, 0, 0, 0, 0));
    }
    // A later version is taken, as the second.
    load_all(rt, [serving(3, 0, "")]).unwrap();
    assert_eq!((serving::number(&rt.frame()), rt.frame().version("serving")), (3, Some(2)));
    rt.collect().unwrap();
    assert_eq!(said(), ["serving begins", "serving init", "serving shutdown", "serving ends"]);
    unload(rt, &["serving", "bystander"]);
}

#[test]
fn a_module_that_refuses_at_first_is_not_loaded() {
    let (rt, shop, _turn) = start("first");
    let error = load_all(rt, [module(&shop, 1, &telling("first", 1, ""))]).unwrap_err();
    assert!(matches!(error, Error::Refused { code: 1, .. }), "{error}");
    assert_eq!(said(), ["first begins", "first init", "first ends"]);
    assert!(matches!(rt.symbol("first", "module_init"), Err(Error::NotLoaded { .. })));
    assert_eq!(rt.collect().unwrap().old_bytes, 0);
}

#[test]
fn shutdown_runs_once_for_each_version_when_it_goes() {
    let (rt, shop, _turn) = start("once");
    let versions = [1, 2].map(|n| module(&shop, n, &telling("once", 0, "")));
    load_all(rt, [&versions[0]]).unwrap();
    said();
    for round in 0..6 {
        let inside = rt.frame();
        load_all(rt, [&versions[(round + 1) % 2]]).unwrap();
        rt.collect().unwrap();
        assert_eq!(said(), ["once begins", "once init"], "the old one is still in use");
        drop(inside);
        rt.collect().unwrap();
        rt.collect().unwrap();
        assert_eq!(said(), ["once shutdown", "once ends"], "round {round}");
    }
    unload(rt, &["once"]);
    rt.collect().unwrap();
    assert_eq!(said(), ["once shutdown", "once ends"]);
}

#[test]
fn hooks_alone_and_without_arguments_or_header() {
    let (rt, shop, _turn) = start("alone");
    for (number, hook, expected) in [
        (1, r#"int module_init(void) { SAY("init"); return 0; }"#, &["init"][..]),
        (2, r#"void module_shutdown(void) { SAY("shutdown"); }"#, &["shutdown"]),
        // Names that are not functions, or not seen, are not hooks.
        (3, "int module_init = 5; char module_shutdown[4];", &[]),
        (
            4,
            r#"static int module_init(void) { SAY("static"); return 1; } int (*keep)(void) = module_init;"#,
            &[],
        ),
    ] {
        let path = shop.module_for(std::env::consts::ARCH, "alone", number, hook, &[&says()]);
        assert_eq!(names(&load_all(rt, [&path]).unwrap()), ["alone"]);
        unload(rt, &["alone"]);
        assert_eq!(said(), expected, "{hook}");
    }
}

#[test]
fn a_hook_starts_and_joins_a_thread() {
    let (rt, shop, _turn) = start("thread");
    let source = r#"
        #include <pthread.h>
        #include "runtime_module.h"
        static pthread_t thread;
        static volatile int stop;
        static _Thread_local int mine;
        static void *run(void *nothing) { while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) mine++; return nothing; }
        int module_init(void) { mine = 1; return pthread_create(&thread, 0, run, 0); }
        void module_shutdown(void) {
            __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
            pthread_join(thread, 0);
            SAY("joined");
        }"#;
    let path =
        shop.module_for(std::env::consts::ARCH, "threaded", 1, source, &[INCLUDE, &says(), "-pthread"]);
    for _ in 0..3 {
        load_all(rt, [&path]).unwrap();
        rt.unload("threaded").unwrap();
        let left = rt.collect().unwrap();
        assert_eq!(
            (said(), left.busy),
            (vec!["joined".to_owned()], 0),
            "its thread was over when it was freed"
        );
    }
}

#[test]
fn hooks_in_cpp_throw_what_they_catch() {
    let (rt, shop, _turn) = start("catching");
    let source = r#"
        #include <stdexcept>
        #include "runtime_module.h"
        RUNTIME_MODULE("catching", "2")
        static int thrown() { throw std::runtime_error("caught"); }
        int module_init() { try { return thrown(); } catch (const std::runtime_error &error) { SAY(error.what()); } return 0; }
        void module_shutdown() { try { throw "end"; } catch (const char *text) { SAY(text); } }"#;
    load_all(rt, [shop.cpp("file", 1, source, &[INCLUDE, &says(), "-fvisibility=hidden"])]).unwrap();
    unload(rt, &["catching"]);
    assert_eq!(said(), ["caught", "end"]);
}

/// What the test prints when it is run in a process of its own, which does not end well.
fn end_of(test: &str, child: &str) -> String {
    let output = this_test(test).env(child, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{text}");
    assert!(!text.contains("the hook returned"), "{text}");
    text
}

#[test]
fn an_exception_that_leaves_module_init_ends_the_process() {
    const CHILD: &str = "MIDFLIGHT_TEST_THROWING_INIT";
    let source = "#include \"runtime_module.h\"\nint module_init() { throw 3; }";
    if std::env::var_os(CHILD).is_some() {
        let (rt, shop, _turn) = start("throwing-init");
        _ = load_all(rt, [shop.cpp("throwing", 1, source, &[INCLUDE])]);
        unreachable!("the hook returned");
    }
    let text = end_of("an_exception_that_leaves_module_init_ends_the_process", CHILD);
    assert!(text.contains("an exception left module_init") || text.contains("terminate called"), "{text}");
}

#[test]
fn an_exception_that_leaves_module_shutdown_ends_the_process() {
    const CHILD: &str = "MIDFLIGHT_TEST_THROWING_SHUTDOWN";
    let source = "#include \"runtime_module.h\"\nvoid module_shutdown() { throw 3; }";
    if std::env::var_os(CHILD).is_some() {
        let (rt, shop, _turn) = start("throwing-shutdown");
        load_all(rt, [shop.cpp("throwing", 1, source, &[INCLUDE])]).unwrap();
        _ = rt.unload("throwing");
        _ = rt.collect();
        unreachable!("the hook returned");
    }
    let text = end_of("an_exception_that_leaves_module_shutdown_ends_the_process", CHILD);
    assert!(
        text.contains("an exception left module_shutdown") || text.contains("terminate called"),
        "{text}"
    );
}

/// The note as the header writes it.
const RUST: &str = r#"
const fn note<const N: usize>(kind: u8, text: &[u8]) -> [u8; N] {
    let mut note = [0; N];
    let header = [10, 0, 0, 0, text.len() as u8, 0, 0, 0, kind, 0, 0, 0];
    let (mut at, owner) = (0, b"midflight");
    while at < 12 { note[at] = header[at]; at += 1; }
    while at < 21 { note[at] = owner[at - 12]; at += 1; }
    at = 24;
    while at < 24 + text.len() { note[at] = text[at - 24]; at += 1; }
    note
}
#[used] #[unsafe(link_section = "SECTION")] static NAME: [u8; 32] = note(1, b"rusty\0");
#[used] #[unsafe(link_section = "SECTION")] static VERSION: [u8; 28] = note(2, b"3.0\0");

fn say(text: &std::ffi::CStr) {
    let say: extern "C" fn(*const std::ffi::c_char) = unsafe { std::mem::transmute(ADDRESSusize) };
    say(text.as_ptr());
}
#[unsafe(no_mangle)] extern "C" fn module_init() -> i32 {
    say(c"init");
    std::panic::catch_unwind(|| if CODE > 99 { panic!("99") }).map_or(99, |()| CODE)
}
#[unsafe(no_mangle)] extern "C" fn module_shutdown() { say(c"shutdown"); assert!(CODE == 0); }
"#;

fn rust(shop: &Workshop, code: i32) -> PathBuf {
    let address = (say as *const () as usize).to_string();
    let section =
        if support::is_macho() { "__TEXT,__midflight,regular,no_dead_strip" } else { ".note.midflight" };
    let source =
        RUST.replace("ADDRESS", &address).replace("CODE", &code.to_string()).replace("SECTION", section);
    shop.rust("file", code as u32, &source, &["-O", "-C", "panic=unwind"])
}

#[test]
fn hooks_in_rust() {
    let (rt, shop, _turn) = start("rusty");
    assert_eq!(load_all(rt, [rust(&shop, 0)]).unwrap(), [("rusty".into(), Some("3.0".into()))]);
    for code in [1, 100] {
        let error = load_all(rt, [rust(&shop, code)]).unwrap_err();
        assert!(
            matches!(error, Error::Refused { code: returned, .. } if returned == code.min(99)),
            "{error}"
        );
    }
    unload(rt, &["rusty"]);
    assert_eq!(said(), ["init", "init", "init", "shutdown"]);
}

#[test]
fn damaged_notes_are_refused_by_name() {
    let (rt, shop, _turn) = start("damaged");
    let twice = r#"#include "runtime_module.h"
        RUNTIME_MODULE("twice", "1") RUNTIME_MODULE("twice", "1")"#;
    let two = [1, 2].map(|n| {
        let source = format!(
            "#include \"runtime_module.h\"\nRUNTIME_MODULE(\"two\", \"{n}\") int f{n}(void) {{ return 1; }}"
        );
        shop.object(&format!("two{n}.c"), &source, &["-fPIC", INCLUDE])
    });
    let empty = "#include \"runtime_module.h\"\nRUNTIME_MODULE(\"\", \"1\")";
    for (source, words) in [
        (Source::from(module(&shop, 1, twice)), &["module's name", "is there twice"][..]),
        (Source::linked("two", &two), &["two2.o: ", "is there twice"]),
        (Source::from(module(&shop, 2, empty)), &["module's name", "is empty"]),
    ] {
        let error = load_all(rt, [source]).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
}
