//! What the options of a load do, and what may be asked of the runtime besides.

mod support;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use midflight::{Error, ErrorKind, LoadOptions, Runtime};
use support::Workshop;

/// As [`support::start`], with nothing loaded.
fn start(name: &str) -> (Runtime, Workshop, MutexGuard<'static, ()>) {
    let (rt, shop, turn) = support::start(name);
    rt.shutdown().unwrap();
    (rt, shop, turn)
}

fn version(shop: &Workshop, module: &str, version: u32) -> PathBuf {
    shop.module(
        module,
        version,
        &format!(
            "static int calls; int number(void) {{ return {version}; }} int count(void) {{ return ++calls; }}"
        ),
    )
}

/// Calls a function of a module in the current generation.
fn call(rt: Runtime, module: &str, symbol: &str) -> i32 {
    let address = rt.frame_symbol(module, symbol).unwrap();
    let _frame = rt.frame();
    // SAFETY: the tests' functions have this type, and the thread is inside a frame.
    unsafe { std::mem::transmute::<*mut (), extern "C" fn() -> i32>(address.as_ptr())() }
}

fn load(rt: Runtime, path: &Path, options: &LoadOptions<'_>) -> Result<midflight::Publication, Error> {
    // SAFETY: the tests' modules are sound.
    unsafe { rt.load_with([path], options) }
}

#[test]
fn a_load_that_takes_too_long_is_given_up_and_nothing_has_moved() {
    let (rt, shop, _turn) = start("timeout");
    load(rt, &version(&shop, "slow", 1), &LoadOptions::default()).unwrap();
    let slow = shop.module(
        "slow",
        2,
        "#include <unistd.h>
         int number(void) { return 2; }
         __attribute__((constructor)) static void begin(void) { usleep(50000); }",
    );
    let options = LoadOptions::new().timeout(Duration::from_millis(20));
    assert_eq!(call(rt, "slow", "number"), 1);
    let before = rt.frame().generation();
    let error = load(rt, &slow, &options).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string()),
        (ErrorKind::Timeout, "Hot-reload timeout after 20ms".into())
    );
    assert_eq!((call(rt, "slow", "number"), rt.frame().generation()), (1, before));
    let options = options.timeout(Duration::from_secs(60));
    load(rt, &slow, &options).unwrap();
    assert_eq!(call(rt, "slow", "number"), 2);
}

#[test]
fn waiting_for_a_turn_counts_and_ends() {
    let (rt, shop, _turn) = start("turns");
    let path = version(&shop, "turns", 1);
    // What holds its turn until it is told: a load in its progress callback.
    let (inside, go_on) = (AtomicBool::new(false), AtomicBool::new(false));
    let hold = |_: &Path, percent: u32| {
        inside.store(true, Ordering::Release);
        while percent == 20 && !go_on.load(Ordering::Acquire) {
            thread::yield_now();
        }
    };
    rt.set_concurrency(Some(1));
    thread::scope(|scope| {
        let holder = scope.spawn(|| {
            load(rt, &path, &LoadOptions::new().progress(&hold)).unwrap();
        });
        while !inside.load(Ordering::Acquire) {
            thread::yield_now();
        }
        let options = LoadOptions::new().timeout(Duration::from_millis(20));
        let begin = Instant::now();
        assert!(matches!(load(rt, &path, &options), Err(Error::Timeout { .. })));
        assert!(begin.elapsed() >= Duration::from_millis(20));
        // Two at once are no trouble where they are allowed: the second overtakes.
        rt.set_concurrency(Some(2));
        let overtaking = load(rt, &path, &LoadOptions::default());
        go_on.store(true, Ordering::Release);
        overtaking.unwrap();
        holder.join().unwrap();
    });
    rt.set_concurrency(None);
}

#[test]
fn progress_is_monotone_and_ends_at_a_hundred() {
    let (rt, shop, _turn) = start("progress");
    let paths = [version(&shop, "first", 1), version(&shop, "second", 1)];
    let told = Mutex::new(Vec::new());
    let progress = |path: &Path, percent| {
        told.lock().unwrap().push((path.to_owned(), percent));
        // SAFETY: it is refused.
        let nested = unsafe { rt.load(path) };
        assert!(matches!(nested, Err(Error::Reentered)), "the runtime is busy");
    };
    let options = LoadOptions::new().progress(&progress);
    // SAFETY: the tests' modules are sound.
    unsafe { rt.load_with(&paths, &options) }.unwrap();
    let told = std::mem::take(&mut *told.lock().unwrap());
    for path in &paths {
        let percents: Vec<u32> =
            told.iter().filter(|(of, _)| of == path).map(|(_, percent)| *percent).collect();
        assert!(percents.is_sorted() && percents.len() > 3, "{percents:?}");
        assert_eq!(percents.last(), Some(&100));
    }
    let bad = shop.file("libbad.so", b"no module");
    let told = Mutex::new(Vec::new());
    let progress = |_: &Path, percent| told.lock().unwrap().push(percent);
    load(rt, &bad, &LoadOptions::new().progress(&progress)).unwrap_err();
    assert!(!told.into_inner().unwrap().contains(&100), "only what is published is at its end");
}

#[test]
fn a_module_goes_back_and_forth_by_itself_and_its_variables_are_as_they_were() {
    let (rt, shop, _turn) = start("previous");
    let keep = LoadOptions::new().keep_previous(true);
    load(rt, &version(&shop, "back", 1), &keep).unwrap();
    assert_eq!(rt.rollback_module("back").unwrap_err().kind(), ErrorKind::NoPreviousVersion);
    assert_eq!((call(rt, "back", "count"), call(rt, "back", "count")), (1, 2));
    load(rt, &version(&shop, "back", 2), &keep).unwrap();
    load(rt, &version(&shop, "other", 1), &LoadOptions::default()).unwrap();
    assert_eq!((call(rt, "back", "number"), call(rt, "back", "count")), (2, 1));
    for round in 0..3 {
        rt.rollback_module("back").unwrap();
        assert_eq!((call(rt, "back", "number"), call(rt, "back", "count")), (1, 3 + round));
        rt.rollback_module("back").unwrap();
        assert_eq!((call(rt, "back", "number"), call(rt, "back", "count")), (2, 2 + round));
    }
    // One is kept, not all.
    for number in 3..10 {
        load(rt, &version(&shop, "back", number), &keep).unwrap();
    }
    rt.collect().unwrap();
    let statistics = rt.statistics().unwrap();
    let each = statistics.current_bytes / statistics.modules;
    assert!((1..=each * 2).contains(&statistics.old_bytes), "{statistics:?}");
    rt.unload("back").unwrap();
    rt.collect().unwrap();
    assert_eq!(rt.statistics().unwrap().old_bytes, 0, "an unloaded module keeps nothing");
    assert_eq!(rt.rollback_module("back").unwrap_err().kind(), ErrorKind::NotLoaded);
}

#[test]
fn a_version_that_lacks_what_is_called_by_now_does_not_come_back() {
    let (rt, shop, _turn) = start("lacking");
    let keep = LoadOptions::new().keep_previous(true);
    load(rt, &version(&shop, "grown", 1), &keep).unwrap();
    let grown = shop.module("grown", 2, "int number(void) { return 2; } int added(void) { return 20; }");
    load(rt, &grown, &keep).unwrap();
    let caller = shop.module("uses", 1, "int added(void); int through(void) { return added(); }");
    load(rt, &caller, &keep).unwrap();
    let error = rt.rollback_module("grown").unwrap_err();
    assert!(error.kind() == ErrorKind::Incompatible && error.to_string().contains("`added`"), "{error}");
    assert_eq!((call(rt, "grown", "number"), call(rt, "uses", "through")), (2, 20));
}

/// Its constructor changes the code of a function.
fn scribbler(shop: &Workshop, number: u32) -> PathBuf {
    // SAFETY: takes a number.
    let page_size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let source = format!(
        "#include <stdint.h>
         #include <sys/mman.h>
         int number(void) {{ return {number}; }}
         __attribute__((noinline, used)) int target(void) {{ return 77; }}
         __attribute__((constructor)) static void scribble(void) {{
             uintptr_t size = {page_size}, page = (uintptr_t)target / size * size;
             mprotect((void *)page, size, PROT_READ | PROT_WRITE);
             *(volatile unsigned char *)target ^= 1;
             mprotect((void *)page, size, PROT_READ | PROT_EXEC);
         }}"
    );
    // Its code in pages of its own, so that what is called meanwhile is not in them.
    let separate: &[&str] = if support::is_macho() { &[] } else { &["-Wl,-z,separate-code"] };
    let aligned = format!("-falign-functions={page_size}");
    let arguments = [&[&*aligned], separate].concat();
    shop.module_for(std::env::consts::ARCH, "scribbler", number, &source, &arguments)
}

#[test]
fn code_that_is_not_what_was_linked_is_seen_and_rolled_back() {
    let (rt, shop, _turn) = start("verify");
    let verify = LoadOptions::new().verify(true).rollback_on_failure(true);
    load(rt, &version(&shop, "scribbler", 1), &verify).unwrap();
    let before = rt.statistics().unwrap();
    let error = load(rt, &scribbler(&shop, 2), &verify).unwrap_err();
    assert!(matches!(error, Error::Integrity { rolled_back: true, .. }), "{error}");
    assert_eq!(call(rt, "scribbler", "number"), 1);
    let after = rt.statistics().unwrap();
    assert_eq!((after.failed, after.rolled_back), (before.failed + 1, before.rolled_back + 1));
    // Without verification nobody sees it; with it and no rollback, the new version stays and the
    // error says so.
    load(rt, &scribbler(&shop, 3), &LoadOptions::default()).unwrap();
    let stay = verify.rollback_on_failure(false);
    let error = load(rt, &scribbler(&shop, 4), &stay).unwrap_err();
    assert!(matches!(error, Error::Integrity { rolled_back: false, .. }), "{error}");
    assert_eq!(call(rt, "scribbler", "number"), 4);
    // A first version that fails is gone again.
    rt.unload("scribbler").unwrap();
    load(rt, &scribbler(&shop, 5), &verify).unwrap_err();
    assert!(rt.modules().unwrap().iter().all(|module| module.name != "scribbler"));
}

#[test]
fn a_dry_run_says_what_a_load_would_and_runs_nothing() {
    let (rt, shop, _turn) = start("dry");
    static RAN: AtomicBool = AtomicBool::new(false);
    extern "C" fn ran() {
        RAN.store(true, Ordering::Relaxed);
    }
    load(rt, &version(&shop, "dry", 1), &LoadOptions::default()).unwrap();
    assert_eq!(call(rt, "dry", "number"), 1);
    let run = format!("((void (*)(void)){}ul)()", ran as *const () as usize);
    let good = shop.module(
        "dry",
        2,
        &format!(
            "int number(void) {{ return 2; }} int count(void) {{ return 2; }}
             __attribute__((constructor)) static void begin(void) {{ {run}; }}
             static int chosen(void) {{ return 5; }}
             static int (*choose(void))(void) {{ {run}; return chosen; }}
             int indirect(void) __attribute__((ifunc(\"choose\")));"
        ),
    );
    let before = (rt.frame().generation(), rt.statistics().unwrap().loaded);
    for _ in 0..2 {
        rt.dry_run([&good], &LoadOptions::default()).unwrap();
    }
    for (name, source, kind) in [
        ("unresolved", "int nobody(void); int number(void) { return nobody(); }", ErrorKind::Unresolved),
        ("lacking", "int another(void) { return 0; }", ErrorKind::Incompatible),
    ] {
        let bad = shop.module(if name == "lacking" { "dry" } else { name }, 3, source);
        let dry = rt.dry_run([&bad], &LoadOptions::default()).unwrap_err();
        assert_eq!(
            (dry.kind(), dry.to_string()),
            (kind, load(rt, &bad, &LoadOptions::default()).unwrap_err().to_string())
        );
    }
    assert_eq!(before, (rt.frame().generation(), rt.statistics().unwrap().loaded));
    assert!(!RAN.load(Ordering::Relaxed), "neither constructor nor chooser");
    assert_eq!(call(rt, "dry", "number"), 1);
    load(rt, &good, &LoadOptions::default()).unwrap();
    assert!(RAN.load(Ordering::Relaxed));
}

/// Addresses are stable for the life of the process, so each is one less for those that come to
/// something.
#[test]
fn a_dry_run_takes_no_address_for_what_it_would_call() {
    let (rt, shop, _turn) = start("dry-slots");
    let functions = |count: u32| (0..count).map(|n| format!("int called{n}(void) {{ return {n}; }}\n"));
    let called = shop.module("called", 1, &functions(40).collect::<String>());
    let calls: String = (1..38)
        .map(|n| format!("int called{n}(void); int calls{n}(void) {{ return called{n}(); }}\n"))
        .collect();
    let address = |symbol| rt.frame_symbol("called", symbol).unwrap().addr().get();
    load(rt, &called, &LoadOptions::default()).unwrap();
    let first = address("called0");
    for caller in [shop.module("caller", 1, &calls), shop.object("callers.c", &calls, &[])] {
        rt.dry_run([&caller], &LoadOptions::default()).unwrap();
        rt.dry_run([&caller, &called], &LoadOptions::default()).unwrap();
    }
    let (next, last) = (address("called38"), address("called39"));
    assert_eq!(next - first, last - next, "one comes after the other");
    // What was run dry loads.
    load(rt, &shop.object("callers.c", &calls, &[]), &LoadOptions::default()).unwrap();
    assert_eq!(call(rt, "callers", "calls37"), 37);
}

#[test]
fn a_dry_run_knows_what_loaded_modules_call() {
    let (rt, shop, _turn) = start("dry-callers");
    let user = shop.module("dry_user", 1, "int extra(void); int use_it(void) { return extra(); }");
    let used = |version: u32, source: &str| shop.module("dry_used", version, source);
    let whole = used(1, "int extra(void) { return 1; } int other(void) { return 1; }");
    // SAFETY: of the tests' own.
    unsafe { rt.load_all([&user, &whole]) }.unwrap();
    let lacks_it = used(2, "int other(void) { return 2; }");
    let dry = rt.dry_run([&lacks_it], &LoadOptions::default()).unwrap_err();
    assert!(matches!(&dry, Error::MissingFunctions { symbols, .. } if symbols[..] == ["extra"]), "{dry}");
    assert_eq!(dry.to_string(), load(rt, &lacks_it, &LoadOptions::default()).unwrap_err().to_string());
    // What nobody calls may go, and so may what is called by those only that come along.
    let lacks_other = used(3, "int extra(void) { return 3; }");
    rt.dry_run([&lacks_other], &LoadOptions::default()).unwrap();
    let without = shop.module("dry_user", 2, "int use_it(void) { return 0; }");
    rt.dry_run([&without, &lacks_it], &LoadOptions::default()).unwrap();
    rt.unload_all(["dry_user", "dry_used"]).unwrap();
}

/// Sixteen modules that call each other around; the generation that each says it is of is its
/// file's.
fn ring(shop: &Workshop, number: u32) -> Vec<PathBuf> {
    let module = |at: usize| {
        let next = (at + 1) % 16;
        let source = format!(
            "int number{next}(void); int number{at}(void) {{ return {number}; }} int sum{at}(int n) {{ return n ? {number} + ((int (*)(int))0 == 0 ? number{next}() : 0) : {number}; }}"
        );
        shop.module(&format!("ring{at}"), number, &source)
    };
    (0..16).map(module).collect()
}

#[test]
fn sixteen_are_staged_side_by_side_and_all_or_none_are_published() {
    let (rt, shop, _turn) = start("ring");
    rt.set_threads(4);
    let options = LoadOptions::new().threads(4).verify(true);
    let (first, second) = (ring(&shop, 1), ring(&shop, 2));
    // SAFETY: the tests' modules are sound, here and below.
    let load_all = |paths: &[PathBuf], options: &LoadOptions<'_>| unsafe { rt.load_with(paths, options) };
    let published = load_all(&first, &options).unwrap();
    let names: Vec<_> = published.modules.iter().map(|module| module.name.clone()).collect();
    assert_eq!(names, (0..16).map(|at| format!("ring{at}")).collect::<Vec<_>>());
    let numbers =
        || (0..16).map(|at| call(rt, &format!("ring{at}"), &format!("number{at}"))).collect::<Vec<_>>();
    assert_eq!(numbers(), [1; 16]);
    // The last is bad: in none of these ways has any moved.
    let before = rt.modules().unwrap();
    let bad = [
        shop.file("libring15.so", b"no module"),
        shop.module("ring15", 3, "int nobody(void); int number15(void) { return nobody(); }"),
        shop.module("ring15", 4, "int number15(void) { return 4; } int module_init(void) { return -7; }"),
        shop.path("missing/libring15.so"),
    ];
    for bad in bad {
        let mut paths = second.clone();
        paths[15] = bad.clone();
        for threads in [0, 2, 4, 100] {
            let error = load_all(&paths, &options.threads(threads)).unwrap_err();
            assert_eq!(error.path(), Some(&*bad), "{error}");
        }
        assert_eq!(rt.modules().unwrap(), before);
        assert_eq!(numbers(), [1; 16]);
    }
    load_all(&second, &options).unwrap();
    assert_eq!(numbers(), [2; 16]);
    // Around in a ring they all call each other: one cannot go, all can.
    assert!(matches!(rt.unload("ring3"), Err(Error::StillImported { .. })));
    rt.unload_all(names).unwrap();
    assert!(rt.modules().unwrap().iter().all(|module| !module.name.starts_with("ring")));
    rt.set_threads(0);
}

#[test]
fn an_address_for_frames_only_keeps_nothing() {
    let (rt, shop, _turn) = start("frames-only");
    load(rt, &version(&shop, "framed", 1), &LoadOptions::default()).unwrap();
    assert_eq!(call(rt, "framed", "number"), 1);
    load(rt, &version(&shop, "framed", 2), &LoadOptions::default()).unwrap();
    assert_eq!(call(rt, "framed", "number"), 2);
    let left = rt.collect().unwrap();
    assert_eq!((left.retained, left.old_bytes), (0, 0));
    assert_eq!(rt.frame_symbol("framed", "absent").unwrap_err().kind(), ErrorKind::NoSuchSymbol);
    assert_eq!(rt.frame_symbol("absent", "number").unwrap_err().kind(), ErrorKind::NotLoaded);
}

#[test]
fn after_a_shutdown_everything_is_gone_and_can_come_again() {
    let (rt, shop, _turn) = start("shutdown");
    let keep = LoadOptions::new().keep_previous(true);
    for number in 1..=3 {
        load(rt, &version(&shop, "ended", number), &keep).unwrap();
    }
    let caller = shop.module("caller", 1, "int number(void); int through(void) { return number(); }");
    load(rt, &caller, &keep).unwrap();
    rt.shutdown().unwrap();
    let statistics = rt.statistics().unwrap();
    assert_eq!((statistics.modules, statistics.current_bytes, statistics.old_bytes), (0, 0, 0));
    assert_eq!((statistics.loaded, statistics.reload.count), (0, 0));
    rt.shutdown().unwrap();
    load(rt, &version(&shop, "ended", 4), &keep).unwrap();
    assert_eq!(call(rt, "ended", "number"), 4);
    assert_eq!(rt.statistics().unwrap().loaded, 1);
}
