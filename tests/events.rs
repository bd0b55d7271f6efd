//! One event for each thing that has happened, in order.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use midflight::{Error, ErrorKind, LoadOptions, ModuleState, Outcome, Record, Runtime, Subscription, Until};
use support::heard::{Heard, ONE, TWO, file, load, load_with, text};
use support::looks::{elsewhere, look};
use support::{is_emulated, is_macho, start};

midflight::module! {
    unsafe mod declared { safe fn there() -> i32; }
}

#[test]
fn each_thing_that_happens_to_a_module_is_told_once() {
    let (rt, shop, _turn) = start("each");
    let (heard, _subscription) = Heard::new(rt);
    let (one, two) = (shop.module("single", 1, ONE), shop.module("single", 2, TWO));
    load(rt, &one).unwrap();
    assert_eq!(heard.told(), ["published single 1"]);
    load(rt, &two).unwrap();
    assert_eq!(heard.told(), ["published single 2 for 1", "gone single 1"]);
    load(rt, &two).unwrap();
    assert_eq!(heard.told(), ["published single 3 for 2", "gone single 2"]);
    rt.collect().unwrap();
    assert_eq!(heard.told(), [""; 0]);
    // A frame that is open keeps it: it goes when somebody looks.
    let frame = rt.frame();
    rt.unload("single").unwrap();
    assert_eq!(heard.told(), ["unloaded single 3"]);
    drop(frame);
    rt.collect().unwrap();
    assert_eq!(heard.told(), ["gone single 3"]);
    rt.unload("single").unwrap_err();
    rt.dry_run([&one], &LoadOptions::default()).unwrap();
    rt.unload_all([""; 0]).unwrap();
    assert_eq!(heard.told(), [""; 0]);
}

/// The step, the file, the options; the error, the module's name as far as it is known by then, and
/// whether the file was read.
type Case<'c> = (&'c str, PathBuf, &'c LoadOptions<'c>, ErrorKind, Option<&'c str>, bool);

#[test]
fn a_refusal_is_told_once_at_each_step() {
    let (rt, shop, _turn) = start("steps");
    load(rt, shop.module("steady", 1, ONE)).unwrap();
    load(rt, shop.module("declared", 1, "int there(void) { return 1; }")).unwrap();
    let (heard, _subscription) = Heard::new(rt);
    let include = concat!("-I", env!("CARGO_MANIFEST_DIR"), "/include");
    let noted = |name, version, rest: &str| {
        let source = format!("#include \"runtime_module.h\"\n{rest}\n{ONE}");
        shop.module_for(std::env::consts::ARCH, name, version, &source, &[include])
    };
    let expired = LoadOptions::new().timeout(Duration::ZERO);
    let plain = LoadOptions::default();
    let cases: [Case<'_>; 7] = [
        ("reading", shop.path("nowhere.so"), &plain, ErrorKind::Io, None, false),
        ("parsing", shop.file("libsteady.so", b"no module"), &plain, ErrorKind::InvalidModule, None, true),
        ("its time", shop.module("steady", 2, TWO), &expired, ErrorKind::Timeout, None, true),
        (
            "needs",
            noted("steady", 3, "RUNTIME_MODULE_NEEDS(\"nobody\")"),
            &plain,
            ErrorKind::Unresolved,
            Some("steady"),
            true,
        ),
        (
            "linking",
            shop.module(
                "steady",
                4,
                "int nobody_has_this(void); int value(void) { return nobody_has_this(); }",
            ),
            &plain,
            ErrorKind::Unresolved,
            Some("steady"),
            true,
        ),
        (
            "promises",
            shop.module("declared", 5, ONE),
            &plain,
            ErrorKind::Incompatible,
            Some("declared"),
            true,
        ),
        (
            "initialising",
            noted("steady", 6, "int module_init(void) { return 7; }"),
            &plain,
            ErrorKind::Refused,
            Some("steady"),
            true,
        ),
    ];
    for (step, path, options, kind, module, is_read) in cases {
        let generation = rt.frame().generation();
        let error = load_with(rt, &path, options).expect_err(step);
        assert_eq!(heard.told(), [format!("refused 1: {kind:?}")], "{step}");
        let record = heard.record();
        assert_eq!((record.outcome, record.generation), (Outcome::Refused, None), "{step}");
        assert_eq!(record.error, Some((kind, error.to_string())), "{step}");
        let [of] = &record.modules[..] else { panic!("{step}: {record:#?}") };
        assert_eq!((of.module.as_deref(), of.path.as_deref()), (module, Some(&*path)), "{step}");
        assert_eq!((of.version, of.state), (None, ModuleState::Untouched), "{step}");
        // What it got to is known, and no more.
        assert_eq!(of.content.is_some(), is_read, "{step}");
        assert_eq!(of.before.as_ref().map(|before| before.version), module.map(|_| 1), "{step}");
        assert_eq!(rt.frame().generation(), generation, "{step}");
    }
    // SAFETY: nothing is loaded.
    let nothing = unsafe { rt.load_all([""; 0]) };
    assert!(matches!(nothing, Err(Error::NoFiles)));
    assert_eq!(heard.told(), ["refused 0: InvalidArgument"]);
    rt.unload_all(["steady", "declared"]).unwrap();
}

#[test]
fn several_modules_of_one_load_are_one_event() {
    let (rt, shop, _turn) = start("several");
    let (heard, _subscription) = Heard::new(rt);
    let both = [shop.module("left", 1, ONE), shop.module("right", 1, ONE)];
    // SAFETY: as for `load_with`.
    unsafe { rt.load_all(&both) }.unwrap();
    assert_eq!(heard.told(), ["published left 1 and right 1"]);
    heard.records.lock().unwrap().clear();
    let bad = [shop.module("left", 2, TWO), shop.file("libright.so", b"bad")];
    // SAFETY: as above.
    unsafe { rt.load_all(&bad) }.unwrap_err();
    assert_eq!(heard.told(), ["refused 2: InvalidModule"]);
    let paths: Vec<_> = heard.record().modules.into_iter().map(|module| module.path.unwrap()).collect();
    assert_eq!(paths, bad);
    rt.unload_all(["left", "right"]).unwrap();
    let told = heard.told();
    assert_eq!(told[0], "unloaded left 1 and right 1");
    assert_eq!(told.len(), 3, "{told:?}");
}

#[test]
fn a_rollback_is_told_as_one_and_not_as_a_load() {
    let (rt, shop, _turn) = start("back");
    let (heard, _subscription) = Heard::new(rt);
    let keep = LoadOptions::new().keep_previous(true);
    load_with(rt, shop.module("backed", 1, ONE), &keep).unwrap();
    load_with(rt, shop.module("backed", 2, TWO), &keep).unwrap();
    assert_eq!(heard.told(), ["published backed 1", "published backed 2 for 1"]);
    heard.records.lock().unwrap().clear();
    let before = rt.statistics().unwrap();
    let generation = rt.rollback_module("backed").unwrap().generation;
    assert_eq!(heard.told(), ["back backed 1 for 2"]);
    let record = heard.record();
    assert_eq!((record.outcome, record.generation), (Outcome::RolledBack, Some(generation)));
    assert_eq!((record.error, record.modules[0].state), (None, ModuleState::AsLeft));
    assert!(is_macho() || record.modules[0].functions().unwrap().changed == ["value"]);
    rt.rollback(u64::MAX).unwrap_err();
    assert_eq!(heard.told(), ["not back: NoPreviousVersion"]);
    assert_eq!(heard.record().outcome, Outcome::Refused);
    let after = rt.statistics().unwrap();
    assert_eq!((after.loaded, after.failed), (before.loaded, before.failed), "they are no loads");
    rt.unload("backed").unwrap();
}

/// Its constructor changes the code of a function, which nobody calls.
fn scribbler(shop: &support::Workshop, version: u32) -> PathBuf {
    // SAFETY: takes a number.
    let page_size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let source = format!(
        "#include <stdint.h>
         #include <sys/mman.h>
         __attribute__((noinline, used)) int target(void) {{ return 77; }}
         __attribute__((constructor)) static void scribble(void) {{
             uintptr_t size = {page_size}, page = (uintptr_t)target / size * size;
             mprotect((void *)page, size, PROT_READ | PROT_WRITE);
             *(volatile unsigned char *)target ^= 1;
             mprotect((void *)page, size, PROT_READ | PROT_EXEC);
         }}"
    );
    let separate: &[&str] = if is_macho() { &[] } else { &["-Wl,-z,separate-code"] };
    let aligned = format!("-falign-functions={page_size}");
    let arguments = [&[&*aligned], separate].concat();
    shop.module_for(std::env::consts::ARCH, "scribbled", version, &source, &arguments)
}

#[test]
fn damage_is_told_as_what_has_come_of_it() {
    let (rt, shop, _turn) = start("damage");
    load(rt, shop.module("scribbled", 1, "int target(void) { return 77; }")).unwrap();
    let (heard, _subscription) = Heard::new(rt);
    let verify = LoadOptions::new().verify(true).rollback_on_failure(true);
    load_with(rt, scribbler(&shop, 2), &verify).unwrap_err();
    assert_eq!(
        heard.told(),
        ["back scribbled 1 for 2 after scribbled 2 for 1: Integrity", "gone scribbled 2"]
    );
    let record = heard.record();
    assert_eq!((record.outcome, record.modules[0].version), (Outcome::RolledBack, Some(1)));
    assert_eq!(record.error.unwrap().0, ErrorKind::Integrity);
    assert_eq!(record.generation, Some(rt.frame().generation()));

    let stay = verify.rollback_on_failure(false);
    load_with(rt, scribbler(&shop, 3), &stay).unwrap_err();
    assert_eq!(heard.told(), ["damaged scribbled 3 for 1", "gone scribbled 1"]);
    let record = heard.record();
    assert_eq!((record.outcome, record.generation), (Outcome::Damaged, Some(rt.frame().generation())));
    rt.unload("scribbled").unwrap();
}

#[test]
fn what_is_kept_is_told_once_and_so_is_its_end() {
    let (rt, shop, _turn) = start("kept");
    load(rt, shop.module("escaping", 1, ONE)).unwrap();
    load(rt, shop.module("opaque", 1, ONE)).unwrap();
    elsewhere(|| assert!(rt.symbol("escaping", "value").is_ok()));
    rt.retain("opaque").unwrap();
    let (heard, _subscription) = Heard::new(rt);
    load(rt, shop.module("escaping", 2, TWO)).unwrap();
    assert_eq!(heard.told(), ["published escaping 2 for 1", "kept escaping 1 until Look"]);
    load(rt, shop.module("opaque", 2, TWO)).unwrap();
    assert_eq!(heard.told(), ["published opaque 2 for 1", "kept opaque 1 until Word"]);
    rt.collect().unwrap();
    assert_eq!(heard.told(), [""; 0]);
    let mut gone = Vec::new();
    // No look finds out anything under an emulator.
    if !is_emulated() {
        look(rt, |quiescence| quiescence.kept.is_empty());
        gone = heard.told();
        assert_eq!(gone, ["gone escaping 1"]);
    }
    // SAFETY: nobody calls them.
    unsafe { rt.collect_escaped() }.unwrap();
    gone.extend(heard.told());
    gone.sort();
    assert_eq!(gone, ["gone escaping 1", "gone opaque 1"]);
    rt.unload_all(["escaping", "opaque"]).unwrap();
    // SAFETY: as above.
    unsafe { rt.collect_escaped() }.unwrap();
    let mut told = heard.told();
    assert_eq!(told.remove(0), "unloaded escaping 2 and opaque 2");
    told.sort();
    let all = [
        "gone escaping 2".to_owned(),
        "gone opaque 2".to_owned(),
        format!("kept escaping 2 until {:?}", Until::Look),
        format!("kept opaque 2 until {:?}", Until::Word),
    ];
    assert_eq!(told, all);
}

/// The events of one thread, as they come.
fn coming(rt: Runtime) -> (Receiver<(String, Option<Record>)>, Subscription) {
    let (tell, told) = channel();
    // Whoever hears no more is at the end of its test.
    let subscription = rt.subscribe(move |event| drop(tell.send((text(event), Record::of(event)))));
    (told, subscription)
}

#[test]
fn a_watch_is_told_from_its_beginning_to_its_end() {
    let (rt, shop, _turn) = start("watch");
    let versions = [shop.module("seen", 1, ONE), shop.module("seen", 2, TWO)];
    let bytes = versions.map(|path| std::fs::read(path).unwrap());
    let watched = shop.file("seen.so", &bytes[0]);
    // Before anybody subscribes: the watch finds out what that held.
    load(rt, &watched).unwrap();
    let (told, _subscription) = coming(rt);
    let next = || told.recv_timeout(Duration::from_secs(60)).expect("it is told");
    let write = |bytes: &[u8]| {
        let new = shop.file("new", bytes);
        std::fs::rename(new, &watched).unwrap();
    };
    // SAFETY: as for `load_with`.
    unsafe { rt.watch(&watched, &LoadOptions::default(), |_, _| {}) }.unwrap();
    assert_eq!(next().0, "watched seen.so");

    write(&bytes[1]);
    let (text, record) = next();
    assert_eq!(text, "published by a watch seen 2 for 1");
    let record = record.unwrap();
    assert!(record.watched && record.outcome == Outcome::Published, "{record:#?}");
    assert_eq!(record.modules[0].is_unchanged(), Some(false), "what was loaded before the watch is known");
    assert_eq!(next().0, "gone seen 1");

    // One that is refused; then what is loaded already is there again.
    write(b"bad");
    let (text, record) = next();
    assert_eq!(text, "refused 1: InvalidModule");
    assert!(record.unwrap().watched);
    write(&bytes[1]);
    let (text, record) = next();
    assert_eq!(text, "published by a watch seen 3 for 2");
    assert_eq!(record.unwrap().modules[0].is_unchanged(), Some(true));
    assert_eq!(next().0, "gone seen 2");

    // It cannot be read: a folder is in its place.
    std::fs::remove_file(&watched).unwrap();
    std::fs::create_dir(&watched).unwrap();
    assert_eq!(next().0, "failed seen.so");
    rt.unwatch(&watched).unwrap();
    assert_eq!(next().0, "unwatched seen.so");
    rt.unwatch(&watched).unwrap_err();
    rt.unload("seen").unwrap();
    assert_eq!([next().0, next().0], ["unloaded seen 3", "gone seen 3"]);
    assert!(told.try_recv().is_err(), "and nothing else");
}

#[test]
fn a_subscriber_that_panics_disturbs_nothing() {
    let (rt, shop, _turn) = start("panics");
    let panicking = rt.subscribe(|_| panic!("as the test wants it"));
    let (heard, _subscription) = Heard::new(rt);
    load(rt, shop.module("calm", 1, ONE)).unwrap();
    load(rt, shop.module("calm", 2, TWO)).unwrap();
    assert_eq!(heard.told(), ["published calm 1", "published calm 2 for 1", "gone calm 1"]);
    drop(panicking);
    rt.unload("calm").unwrap();
    assert_eq!(heard.told(), ["unloaded calm 2", "gone calm 2"]);
}

#[test]
fn a_progress_callback_that_panics_by_the_end_hides_nothing() {
    let (rt, shop, _turn) = start("progress");
    let (heard, _subscription) = Heard::new(rt);
    let before = rt.statistics().unwrap().loaded;
    for (version, panics_at) in [(1, 90), (2, 100)] {
        let path = shop.module("progressing", version, ONE);
        let progress = move |_: &Path, percent| assert_ne!(percent, panics_at, "as the test wants it");
        let options = LoadOptions::new().progress(&progress);
        catch_unwind(AssertUnwindSafe(|| load_with(rt, &path, &options))).unwrap_err();
    }
    assert_eq!(heard.told(), ["published progressing 1"]);
    assert_eq!(rt.statistics().unwrap().loaded, before + 1);
    rt.unload("progressing").unwrap();
}

#[test]
fn a_subscriber_may_call_the_runtime() {
    let (rt, shop, _turn) = start("calls");
    let follower = shop.module("follower", 1, ONE);
    let (heard, _subscription) = Heard::new(rt);
    let calls = rt.subscribe(move |event| {
        if text(event) == "published leader 1" {
            load(rt, &follower).unwrap();
            assert_eq!(rt.modules().unwrap().len(), 2);
            rt.collect_quiescent().unwrap();
        }
    });
    load(rt, shop.module("leader", 1, ONE)).unwrap();
    assert_eq!(heard.told(), ["published leader 1", "published follower 1"]);
    drop(calls);
    rt.unload_all(["leader", "follower"]).unwrap();
}

/// The runtime, for a constructor.
static PATH: Mutex<Option<PathBuf>> = Mutex::new(None);

extern "C" fn load_again() {
    let path = PATH.lock().unwrap().clone().unwrap();
    let error = load(Runtime::start().unwrap(), path).unwrap_err();
    assert!(matches!(error, Error::Reentered), "{error}");
}

#[test]
fn a_load_in_the_midst_of_another_is_refused_and_told_first() {
    let (rt, shop, _turn) = start("midst");
    let (heard, _subscription) = Heard::new(rt);
    let busy = rt.subscribe(move |event| {
        if text(event).starts_with("refused") {
            assert!(matches!(rt.collect(), Err(Error::Reentered)));
        }
    });
    *PATH.lock().unwrap() = Some(shop.module("inner", 1, ONE));
    let source = format!(
        "__attribute__((constructor)) static void begin(void) {{ ((void (*)(void)){}ul)(); }} {ONE}",
        load_again as *const () as usize
    );
    load(rt, shop.module("outer", 1, &source)).unwrap();
    assert_eq!(heard.told(), ["refused 1: Busy", "published outer 1"]);
    drop(busy);
    rt.unload("outer").unwrap();
}

/// What is to be watched, for a constructor.
static WATCHED: Mutex<Option<PathBuf>> = Mutex::new(None);

extern "C" fn watch_elsewhere() {
    let path = WATCHED.lock().unwrap().clone().unwrap();
    // SAFETY: as for `load_with`.
    elsewhere(|| unsafe { Runtime::start().unwrap().watch(path, &LoadOptions::default(), |_, _| {}) })
        .unwrap();
}

#[test]
fn a_watch_begins_while_another_thread_loads() {
    let (rt, shop, _turn) = start("waits");
    let (heard, _subscription) = Heard::new(rt);
    let path = shop.module("awaited", 1, ONE);
    *WATCHED.lock().unwrap() = Some(path.clone());
    let source = format!(
        "__attribute__((constructor)) static void begin(void) {{ ((void (*)(void)){}ul)(); }} {ONE}",
        watch_elsewhere as *const () as usize
    );
    load(rt, shop.module("waiting", 1, &source)).unwrap();
    assert_eq!(heard.told(), [&format!("watched {}", file(&path)), "published waiting 1"]);
    rt.unwatch(&path).unwrap();
    rt.unload("waiting").unwrap();
}

#[test]
fn a_shutdown_tells_all_that_it_ends() {
    let (rt, shop, _turn) = start("shutdown");
    let path = shop.module("last", 1, ONE);
    load(rt, &path).unwrap();
    let (heard, _subscription) = Heard::new(rt);
    // SAFETY: as for `load_with`.
    unsafe { rt.watch(&path, &LoadOptions::default(), |_, _| {}) }.unwrap();
    rt.shutdown().unwrap();
    let name = file(&path);
    let expected = [
        &format!("watched {name}"),
        &format!("unwatched {name}"),
        "unloaded last 1",
        "gone last 1",
        "stopped true",
    ];
    assert_eq!(heard.told(), expected);
}
