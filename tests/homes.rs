//! Code of a version runs only where the version belongs: with the versions that it was last
//! current with, whoever runs it.

mod support;

use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use midflight::{Collected, Error, LoadOptions, Runtime};
use support::{Workshop, this_test};

midflight::module! {
    unsafe mod cached { safe fn step() -> c_int; }
    unsafe mod starter { safe fn start() -> c_int; }
}

/// What modules said: version of who says it, and version of what it called.
static SAID: Mutex<Vec<(c_int, c_int)>> = Mutex::new(Vec::new());

extern "C" fn say(who: c_int, called: c_int) {
    SAID.lock().unwrap_or_else(PoisonError::into_inner).push((who, called));
}

fn said() -> Vec<(c_int, c_int)> {
    let mut said = std::mem::take(&mut *SAID.lock().unwrap_or_else(PoisonError::into_inner));
    said.sort_unstable();
    said
}

/// The runtime with nothing loaded or kept.
fn start(name: &str) -> (Runtime, Workshop, MutexGuard<'static, ()>) {
    let (rt, shop, turn) = support::start(name);
    rt.shutdown().unwrap();
    said();
    (rt, shop, turn)
}

/// Loads files as one publication, and keeps what they replace if that is asked for.
fn load(rt: &Runtime, files: [&std::path::PathBuf; 2], keep_previous: bool) {
    let options = LoadOptions::new().keep_previous(keep_previous);
    // SAFETY: the functions are as declared.
    unsafe { rt.load_with(files, &options) }.unwrap();
}

fn word(function: *const ()) -> usize {
    function as usize
}

/// Module `used`, with `used_id` of its version, and what else is given.
fn used(shop: &Workshop, version: c_int, rest: &str) -> std::path::PathBuf {
    let source = format!("int used_id(void) {{ return {version}; }} {rest}");
    shop.module("used", version as u32, &source)
}

/// Module `user`, whose destructor says which version it is and which one of `used` it calls.
fn user(shop: &Workshop, version: c_int) -> std::path::PathBuf {
    let source = format!(
        "int used_id(void);
         int version(void) {{ return {version}; }}
         __attribute__((destructor)) static void end(void) {{
             ((void (*)(int, int)){}ul)({version}, used_id());
         }}",
        word(say as *const ())
    );
    shop.module("user", version as u32, &source)
}

fn pair(shop: &Workshop, version: c_int) -> [std::path::PathBuf; 2] {
    [used(shop, version, ""), user(shop, version)]
}

#[test]
fn versions_that_were_retained_together_end_each_with_its_own() {
    let (rt, shop, _turn) = start("retained");
    let pairs = [1, 2, 3].map(|version| pair(&shop, version));
    load(&rt, pairs[0].each_ref(), false);
    rt.symbol("user", "version").unwrap();
    load(&rt, pairs[1].each_ref(), false);
    load(&rt, pairs[2].each_ref(), false);
    assert_eq!(said(), []);
    // SAFETY: nobody called it.
    let Collected { freed, .. } = unsafe { rt.collect_escaped() }.unwrap();
    assert_eq!((freed, said()), (4, vec![(1, 1), (2, 2)]));
    rt.shutdown().unwrap();
    // SAFETY: as above.
    unsafe { rt.collect_escaped() }.unwrap();
    assert_eq!(said(), [(3, 3)]);
}

#[test]
fn a_version_that_was_kept_ends_with_what_was_replaced_with_it() {
    let (rt, shop, _turn) = start("kept");
    load(&rt, pair(&shop, 1).each_ref(), false);
    load(&rt, pair(&shop, 2).each_ref(), true);
    rt.shutdown().unwrap();
    assert_eq!(said(), [(1, 1), (2, 2)]);
}

#[test]
fn what_a_kept_version_calls_may_be_unloaded_and_outlives_it() {
    let (rt, shop, _turn) = start("unloaded");
    load(&rt, pair(&shop, 1).each_ref(), false);
    let alone = shop.module("user", 2, "int version(void) { return 2; }");
    // SAFETY: as declared.
    unsafe { rt.load_with([&alone], &LoadOptions::new().keep_previous(true)) }.unwrap();
    rt.unload("used").unwrap();
    assert_eq!((rt.collect().unwrap().freed, said()), (0, vec![]));
    // It cannot come back without it.
    assert!(rt.rollback_module("user").is_err());
    rt.shutdown().unwrap();
    assert_eq!(said(), [(1, 1)]);
    assert_eq!(rt.collect().unwrap().old_bytes, 0);
}

#[test]
fn generations_whose_frames_end_together_are_kept_apart() {
    let (rt, shop, _turn) = start("parked");
    load(&rt, pair(&shop, 1).each_ref(), false);
    let first = rt.frame().share();
    load(&rt, pair(&shop, 2).each_ref(), false);
    let second = rt.frame().share();
    load(&rt, pair(&shop, 3).each_ref(), false);
    drop((first, second));
    assert_eq!((rt.collect().unwrap().freed, said()), (4, vec![(1, 1), (2, 2)]));
    rt.shutdown().unwrap();
}

#[test]
fn callers_outside_frames_never_find_a_slot_unbound_that_the_new_version_needs() {
    let (rt, shop, _turn) = start("order");
    // So many slots that the live table takes a while to follow.
    const MANY: usize = 1000;
    let many = |name: &str| {
        (0..MANY).map(|n| format!("int {name}{n}(void) {{ return {n}; }}\n")).collect::<String>()
    };
    let versions = [1, 2, 3, 4, 5, 6].map(|v| {
        let caller = format!("int used_{v}(void); int run(void) {{ return used_{v}(); }} {}", many("caller"));
        let called: String = (1..=6).map(|n| format!("int used_{n}(void) {{ return {n}; }}\n")).collect();
        [shop.module("aaa", v, &caller), shop.module("zzz", v, &called)]
    });
    load(&rt, versions[0].each_ref(), false);
    for n in 0..MANY {
        rt.frame_symbol("aaa", &format!("caller{n}")).unwrap();
    }
    let run = rt.symbol("aaa", "run").unwrap().as_ptr() as usize;
    let (calls, over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // SAFETY: as declared; it may be called anywhere.
            let run: extern "C" fn() -> c_int = unsafe { std::mem::transmute(run) };
            while !over.load(Ordering::Relaxed) {
                assert!((1..=6).contains(&run()));
                calls.fetch_add(1, Ordering::Relaxed);
            }
        });
        for version in &versions[1..] {
            let before = calls.load(Ordering::Relaxed);
            while calls.load(Ordering::Relaxed) < before + 10 {
                std::thread::yield_now();
            }
            load(&rt, version.each_ref(), false);
        }
        over.store(true, Ordering::Relaxed);
    });
    // SAFETY: the thread is gone.
    unsafe { rt.collect_escaped() }.unwrap();
    rt.shutdown().unwrap();
}

/// What was left behind a slot for callers of a version that is kept is not for those of a new one.
#[test]
fn callers_outside_frames_find_what_comes_back_in_the_version_that_brings_it() {
    let (rt, shop, _turn) = start("back");
    const MANY: usize = 1000;
    let many = (0..MANY).map(|n| format!("int caller{n}(void) {{ return {n}; }}\n")).collect::<String>();
    let [with, without, again] = [1, 2, 3].map(|v| {
        let (calls, has) = match v {
            2 => ("0".into(), "int nothing(void) { return 0; }".into()),
            _ => ("used()".to_string(), format!("int used(void) {{ return {v}; }}")),
        };
        let caller = format!("int used(void); int run(void) {{ return {v} * 10 + {calls}; }} {many}");
        [shop.module("aaa", v, &caller), shop.module("zzz", v, &has)]
    });
    load(&rt, with.each_ref(), false);
    for n in 0..MANY {
        rt.frame_symbol("aaa", &format!("caller{n}")).unwrap();
    }
    let run = rt.symbol("aaa", "run").unwrap().as_ptr() as usize;
    // SAFETY: as declared; it may be called anywhere.
    let run: extern "C" fn() -> c_int = unsafe { std::mem::transmute(run) };
    let (last, wrong, over) = (AtomicI32::new(0), AtomicI32::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let now = run();
                if ![11, 20, 33].contains(&now) {
                    wrong.store(now, Ordering::Relaxed);
                }
                last.store(now, Ordering::Relaxed);
            }
        });
        while last.load(Ordering::Relaxed) != 11 {
            std::thread::yield_now();
        }
        for (version, comes_to) in [(&without, 20), (&again, 33)].repeat(4) {
            // The one before is kept, and its callers reach what that called.
            load(&rt, version.each_ref(), true);
            while last.load(Ordering::Relaxed) != comes_to {
                std::thread::yield_now();
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(wrong.load(Ordering::Relaxed), 0);
    // SAFETY: the thread is gone.
    unsafe { rt.collect_escaped() }.unwrap();
    rt.shutdown().unwrap();
}

static INSIDE: AtomicI32 = AtomicI32::new(0);

extern "C" fn wait_inside() {
    INSIDE.store(1, Ordering::SeqCst);
    while INSIDE.load(Ordering::SeqCst) == 1 {
        std::thread::yield_now();
    }
}

#[test]
fn a_call_in_progress_outside_frames_goes_on_to_what_the_next_version_has_not() {
    let (rt, shop, _turn) = start("removed");
    let old = format!(
        "int used_old(int); int run(int n) {{ ((void (*)(void)){}ul)(); return used_old(n); }}",
        word(wait_inside as *const ())
    );
    let old = [shop.module("aaa", 1, &old), shop.module("zzz", 1, "int used_old(int n) { return n + 1; }")];
    let new = [
        shop.module("aaa", 2, "int used_new(int); int run(int n) { return used_new(n); }"),
        shop.module("zzz", 2, "int used_new(int n) { return n + 2; }"),
    ];
    load(&rt, old.each_ref(), false);
    let run = rt.symbol("aaa", "run").unwrap();
    // SAFETY: as declared; it may be called anywhere.
    let run: extern "C" fn(c_int) -> c_int = unsafe { std::mem::transmute(run.as_ptr()) };
    let thread = std::thread::spawn(move || run(10));
    while INSIDE.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    load(&rt, new.each_ref(), false);
    INSIDE.store(2, Ordering::SeqCst);
    assert_eq!((thread.join().unwrap(), run(10)), (11, 12));
    // SAFETY: the thread is gone.
    assert_eq!(unsafe { rt.collect_escaped() }.unwrap().freed, 2);
    rt.shutdown().unwrap();
}

static ARRIVED: AtomicUsize = AtomicUsize::new(0);
static GO_ON: AtomicBool = AtomicBool::new(false);

extern "C" fn wait_with_others() {
    ARRIVED.fetch_add(1, Ordering::SeqCst);
    while !GO_ON.load(Ordering::SeqCst) {
        std::thread::yield_now();
    }
}

/// The version that is behind the slot when it goes is nobody's who is inside.
#[test]
fn calls_in_progress_outside_frames_outlive_the_module_that_they_go_on_to() {
    let (rt, shop, _turn) = start("outlive");
    let user = |version: u32| {
        let source = format!(
            "int used_id(void);
             int run(int n) {{ ((void (*)(void)){}ul)(); return n + used_id(); }}
             int version(void) {{ return {version}; }}",
            word(wait_with_others as *const ())
        );
        shop.module("user", version, &source)
    };
    let mut threads = Vec::new();
    for version in [1, 2] {
        load(&rt, [&used(&shop, version, ""), &user(version as u32)], false);
        let run = rt.symbol("user", "run").unwrap();
        // SAFETY: as declared; it may be called anywhere.
        let run: extern "C" fn(c_int) -> c_int = unsafe { std::mem::transmute(run.as_ptr()) };
        threads.push(std::thread::spawn(move || run(10)));
        while ARRIVED.load(Ordering::SeqCst) < threads.len() {
            std::thread::yield_now();
        }
    }
    load(&rt, [&used(&shop, 3, ""), &user(3)], false);
    rt.shutdown().unwrap();
    GO_ON.store(true, Ordering::SeqCst);
    // The latest that is still there: the second's; or the third, where no look at the threads
    // shows that nobody is in it (an emulator's own cannot be seen). Nobody goes back to what was
    // current before he came.
    let answers: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(answers == [12, 12] || answers == [13, 13], "{answers:?}");
    // SAFETY: the threads are gone.
    assert_eq!(unsafe { rt.collect_escaped() }.unwrap().old_bytes, 0);
}

/// What is not published has the number of what comes after it.
#[test]
fn a_refused_version_whose_thread_goes_on_is_not_taken_for_the_next() {
    let (rt, shop, _turn) = start("refused");
    let called = |version: c_int| {
        let source = format!(
            "static int ready = {version};
             __attribute__((destructor)) static void end(void) {{ ready = 0; }}
             int called_ready(void) {{ return ready; }}"
        );
        shop.module("called", version as u32, &source)
    };
    let caller = |version: c_int| {
        let source = format!(
            "#include <pthread.h>
             int called_ready(void);
             static void say(void) {{ ((void (*)(int, int)){say}ul)({version}, called_ready()); }}
             #if {version} == 1
             static void *run(void *nothing) {{ ((void (*)(void)){wait}ul)(); say(); return nothing; }}
             int module_init(void) {{
                 pthread_t thread;
                 return pthread_create(&thread, 0, run, 0) || pthread_detach(thread) || 1;
             }}
             #else
             __attribute__((destructor)) static void end(void) {{ say(); }}
             #endif
             int version(void) {{ return {version}; }}",
            wait = word(wait_inside as *const ()),
            say = word(say as *const ()),
        );
        shop.module("all", version as u32, &source)
    };
    let versions = [1, 2, 3].map(|version| [called(version), caller(version)]);
    INSIDE.store(0, Ordering::SeqCst);
    // SAFETY: as declared.
    unsafe { rt.load_all(&versions[0]) }.unwrap_err();
    while INSIDE.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    load(&rt, versions[1].each_ref(), false);
    load(&rt, versions[2].each_ref(), true);
    rt.collect().unwrap();
    INSIDE.store(2, Ordering::SeqCst);
    let deadline = Instant::now() + Duration::from_secs(60);
    while SAID.lock().unwrap().is_empty() {
        assert!(Instant::now() < deadline, "the thread says nothing");
        std::thread::yield_now();
    }
    rt.shutdown().unwrap();
    assert_eq!(said(), [(1, 1), (2, 2), (3, 3)]);
}

/// How the version goes in which a thread has left something.
enum Going {
    /// It is kept to be had back.
    Kept,
    /// A frame is open in its generation.
    Framed,
    /// As before, and both modules are unloaded.
    Unloaded,
}

#[test]
fn a_thread_exits_with_what_its_version_called() {
    let (rt, shop, _turn) = start("exits");
    let source = |version: c_int| {
        format!(
            r#"#if {version} == 1
            extern "C" int used_old();
            struct Cache {{ int n = 0; ~Cache() {{ ((void (*)(int, int)){}ul)({version}, used_old()); }} }};
            #else
            struct Cache {{ int n = 0; ~Cache() {{ n = 0; }} }};
            #endif
            thread_local Cache cache;
            extern "C" int step() {{ return ++cache.n; }}"#,
            word(say as *const ())
        )
    };
    let cached = [1, 2].map(|version| shop.cpp("cached", version as u32, &source(version), &[]));
    let used = [used(&shop, 1, "int used_old(void) { return 7; }"), used(&shop, 2, "")];
    for going in [Going::Kept, Going::Framed, Going::Unloaded] {
        load(&rt, [&used[0], &cached[0]], false);
        let meet = Barrier::new(2);
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                assert_eq!(cached::step(&rt.frame()), 1);
                meet.wait();
                meet.wait();
            });
            meet.wait();
            let frame = (!matches!(going, Going::Kept)).then(|| rt.frame());
            match going {
                Going::Unloaded => rt.unload_all(["cached", "used"]).unwrap(),
                _ => load(&rt, [&used[1], &cached[1]], matches!(going, Going::Kept)),
            }
            meet.wait();
            worker.join().unwrap();
            drop(frame);
        });
        assert_eq!(said(), [(1, 7)]);
        rt.shutdown().unwrap();
    }
}

/// It was at another home when that began.
#[test]
fn an_exit_function_that_runs_keeps_what_it_calls_when_its_version_comes_back() {
    let (rt, shop, _turn) = start("comes-back");
    let cached = |version: u32| {
        let source = format!(
            r#"extern "C" int used_id();
            struct Cache {{
                int n = 0;
                ~Cache() {{
                    ((void (*)(void)){}ul)();
                    ((void (*)(int, int)){}ul)({version}, used_id());
                }}
            }};
            thread_local Cache cache;
            extern "C" int step() {{ return ++cache.n; }}"#,
            word(wait_inside as *const ()),
            word(say as *const ())
        );
        shop.cpp("cached", version, &source, &[])
    };
    load(&rt, [&used(&shop, 1, ""), &cached(1)], false);
    INSIDE.store(0, Ordering::SeqCst);
    let touched = Barrier::new(2);
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            assert_eq!(cached::step(&rt.frame()), 1);
            touched.wait();
            touched.wait();
        });
        touched.wait();
        let options = LoadOptions::new().keep_previous(true);
        // SAFETY: as declared.
        unsafe { rt.load_with([&cached(2)], &options) }.unwrap();
        // SAFETY: as declared.
        unsafe { rt.load(used(&shop, 2, "")) }.unwrap();
        touched.wait();
        while INSIDE.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        rt.rollback_module("cached").unwrap();
        assert_eq!(rt.collect().unwrap().freed, 0);
        INSIDE.store(2, Ordering::SeqCst);
        worker.join().unwrap();
    });
    assert_eq!(said(), [(1, 1)]);
    rt.shutdown().unwrap();
}

static STARTED: OnceLock<(Runtime, std::path::PathBuf)> = OnceLock::new();

/// What the host does when a module asks to be replaced. The version after, or a negative number.
extern "C" fn replace_me() -> c_int {
    let (rt, path) = STARTED.get().unwrap();
    // SAFETY: as declared.
    unsafe { rt.load(path) }.map_or(-1, |publication| publication.modules[0].version as c_int)
}

#[test]
fn a_modules_own_thread_keeps_its_variables_when_it_has_its_module_replaced() {
    let (rt, shop, _turn) = start("evicted");
    let source = |version: c_int| {
        format!(
            r#"#include <pthread.h>
            struct Local {{ int *data = new int(42); ~Local() {{ delete data; data = nullptr; }} }};
            static thread_local Local local;
            static void *run(void *) {{
                Local &mine = local;
                int after = ((int (*)(void)){}ul)();
                ((void (*)(int, int)){}ul)({version} * 100 + after, &mine == &local && mine.data ? *mine.data : -1);
                return nullptr;
            }}
            extern "C" int start() {{
                pthread_t thread;
                return pthread_create(&thread, nullptr, run, nullptr) || pthread_detach(thread);
            }}"#,
            word(replace_me as *const ()),
            word(say as *const ())
        )
    };
    let versions = [1, 2].map(|version| shop.cpp("starter", version as u32, &source(version), &["-pthread"]));
    // SAFETY: as declared.
    unsafe { rt.load(&versions[0]) }.unwrap();
    STARTED.set((rt, versions[1].clone())).unwrap();
    assert_eq!(starter::start(&rt.frame()), 0);
    let deadline = Instant::now() + Duration::from_secs(60);
    while SAID.lock().unwrap().is_empty() {
        assert!(Instant::now() < deadline, "the thread says nothing");
        std::thread::yield_now();
    }
    assert_eq!(said(), [(102, 42)]);
    // And when it is over, the version goes.
    while rt.collect().unwrap().old_bytes > 0 {
        assert!(Instant::now() < deadline, "{:?}", rt.collect());
        std::thread::yield_now();
    }
    rt.shutdown().unwrap();
}

#[test]
fn a_modules_own_thread_goes_on_to_call_what_its_version_called() {
    let (rt, shop, _turn) = start("neighbour");
    // Started before its version is published, and not over when it is replaced.
    let source = format!(
        r#"#include <pthread.h>
        int used_old(void);
        static pthread_t thread;
        static volatile int stop;
        static void *run(void *nothing) {{ while (!stop) used_old(); return nothing; }}
        __attribute__((constructor)) static void begin(void) {{ pthread_create(&thread, 0, run, 0); }}
        __attribute__((destructor)) static void end(void) {{
            stop = 1;
            pthread_join(thread, 0);
            ((void (*)(int, int)){}ul)(1, used_old());
        }}
        int version(void) {{ return 1; }}"#,
        word(say as *const ())
    );
    let first = shop.module("user", 1, &source);
    let old = used(&shop, 1, "int used_old(void) { return 7; }");
    let new = [used(&shop, 2, ""), shop.module("user", 2, "int version(void) { return 2; }")];
    for replaced in [true, false] {
        for _ in 0..20 {
            load(&rt, [&old, &first], false);
            if replaced {
                load(&rt, new.each_ref(), false);
            }
            rt.shutdown().unwrap();
            assert_eq!(said(), [(1, 7)]);
        }
    }
    // A version that is replaced while its threads go on: what they call has a version after that,
    // too.
    // SAFETY: its threads were joined.
    assert_eq!(unsafe { rt.collect_escaped() }.unwrap().old_bytes, 0);
}

#[test]
fn an_address_that_is_newer_than_the_frame_is_refused_by_name() {
    let (rt, shop, _turn) = start("newer");
    let frame = rt.frame();
    let file = shop.module("newer", 1, "int number(void) { return 42; }");
    // SAFETY: as declared.
    unsafe { rt.load(file) }.unwrap();
    for asked in [rt.symbol("newer", "number"), rt.frame_symbol("newer", "number")] {
        let error = asked.unwrap_err();
        assert!(
            matches!(&error, Error::NewerThanFrame { module, symbol, frame: generation, .. }
            if module == "newer" && symbol == "number" && *generation == frame.generation()),
            "{error}"
        );
        assert!(error.to_string().contains("end the frame"), "{error}");
    }
    drop(frame);
    let number = rt.frame_symbol("newer", "number").unwrap();
    let _frame = rt.frame();
    // SAFETY: as declared.
    let number: extern "C" fn() -> c_int = unsafe { std::mem::transmute(number.as_ptr()) };
    assert_eq!(number(), 42);
    // One that the frame has is given in it.
    rt.symbol("newer", "number").unwrap();
    rt.shutdown().unwrap();
}

#[test]
fn constructors_come_after_those_of_what_they_reach_by_way_of_what_stays() {
    let (rt, shop, _turn) = start("reached");
    let low = |version: c_int| {
        let source = format!(
            "static int ready;
             __attribute__((constructor)) static void begin(void) {{ ready = {version}; }}
             int low_ready(void) {{ return ready; }}"
        );
        shop.module("low", version as u32, &source)
    };
    let middle = shop.module("middle", 1, "int low_ready(void); int middle(void) { return low_ready(); }");
    let high = format!(
        "int middle(void);
         int high(void) {{ return 1; }}
         __attribute__((constructor)) static void begin(void) {{ ((void (*)(int, int)){}ul)(1, middle()); }}",
        word(say as *const ())
    );
    let high = shop.module("high", 1, &high);
    load(&rt, [&low(1), &middle], false);
    // Not in the order in which they are given, nor by what they call themselves.
    load(&rt, [&high, &low(2)], false);
    assert_eq!(said(), [(1, 2)]);
    rt.shutdown().unwrap();
}

/// A version that came back belongs elsewhere than when another was replaced with it, and what that
/// one calls by way of it outlives it all the same.
#[test]
fn a_kept_version_ends_before_what_it_reaches_by_way_of_one_that_came_back() {
    let (rt, shop, _turn) = start("came-back");
    let low = |version: c_int| {
        let source = format!(
            "static int ready = {version};
             __attribute__((destructor)) static void end(void) {{ ready = 0; }}
             int low_ready(void) {{ return ready; }}"
        );
        shop.module("low", version as u32, &source)
    };
    let middle = |version: u32| {
        let source = "int low_ready(void); int middle(void) { return low_ready(); }";
        shop.module("middle", version, &format!("{source} int middle_{version};"))
    };
    let high = |version: u32| {
        let source = format!(
            "int middle(void);
             int high(void) {{ return {version}; }}
             __attribute__((destructor)) static void end(void) {{
                 ((void (*)(int, int)){}ul)({version}, middle());
             }}",
            word(say as *const ())
        );
        shop.module("high", version, &source)
    };
    load(&rt, [&low(1), &middle(1)], false);
    // SAFETY: as declared.
    unsafe { rt.load(high(1)) }.unwrap();
    load(&rt, [&middle(2), &high(2)], true);
    // SAFETY: as declared.
    unsafe { rt.load(low(2)) }.unwrap();
    rt.rollback_module("middle").unwrap();
    rt.shutdown().unwrap();
    assert_eq!(said(), [(1, 1), (2, 2)]);
}

static CALLED_BACK: AtomicUsize = AtomicUsize::new(0);

/// What a host calls on a module's thread: an address that may be called anywhere.
extern "C" fn call_back() -> c_int {
    // SAFETY: `user`'s function, which may be called anywhere.
    let user: extern "C" fn() -> c_int = unsafe { std::mem::transmute(CALLED_BACK.load(Ordering::SeqCst)) };
    user()
}

/// A version's own slots are its own wherever it belongs; but it cannot be meant by those of
/// functions that it lacks.
#[test]
fn a_replaced_versions_thread_reaches_functions_that_only_the_next_version_has() {
    let (rt, shop, _turn) = start("lacking");
    let first = format!(
        r#"#include <pthread.h>
        static pthread_t thread;
        static void *run(void *nothing) {{
            ((void (*)(void)){wait}ul)();
            ((void (*)(int, int)){say}ul)(1, ((int (*)(void)){back}ul)());
            return nothing;
        }}
        __attribute__((constructor)) static void begin(void) {{ pthread_create(&thread, 0, run, 0); }}
        __attribute__((destructor)) static void end(void) {{
            pthread_join(thread, 0);
            ((void (*)(int, int)){say}ul)(2, ((int (*)(void)){back}ul)());
        }}
        int used_old(void) {{ return 1; }}"#,
        wait = word(wait_inside as *const ()),
        say = word(say as *const ()),
        back = word(call_back as *const ()),
    );
    let first = shop.module("used", 1, &first);
    let user = |called: &str| {
        let source = format!("int {called}(void); int version(void) {{ return {called}(); }}");
        shop.module("user", u32::from(called == "used_new"), &source)
    };
    INSIDE.store(0, Ordering::SeqCst);
    load(&rt, [&first, &user("used_old")], false);
    while INSIDE.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    let address = rt.symbol("user", "version").unwrap();
    CALLED_BACK.store(address.as_ptr() as usize, Ordering::SeqCst);
    let second = shop.module("used", 2, "int used_new(void) { return 2; }");
    load(&rt, [&second, &user("used_new")], false);
    INSIDE.store(2, Ordering::SeqCst);
    // SAFETY: nobody but the thread calls it, and the version waits for that.
    unsafe { rt.collect_escaped() }.unwrap();
    assert_eq!(said(), [(1, 2), (2, 2)]);
    rt.shutdown().unwrap();
}

const CHILD: &str = "MIDFLIGHT_TEST_EXITS_IN_A_FRAME";

/// A process that ends in a frame that is older than the module whose exit function runs.
#[test]
fn exit_functions_run_with_what_their_version_calls_whatever_frame_is_open() {
    if std::env::var_os(CHILD).is_some() {
        let (rt, shop, _turn) = start("exit");
        let frame = rt.frame();
        // It writes itself: at the process's end Rust's output may be gone.
        let saver = r#"#include <unistd.h>
            int used_save(void) { return (int)write(1, "saved\n", 6); }"#;
        let source = "#include <stdlib.h>
            int used_save(void);
            static void bye(void) { used_save(); }
            __attribute__((constructor)) static void begin(void) { atexit(bye); }
            int version(void) { return 1; }";
        let files = [shop.module("zzz", 1, saver), shop.module("goer", 1, source)];
        std::thread::scope(|scope| scope.spawn(|| load(&rt, files.each_ref(), false)).join()).unwrap();
        std::mem::forget(frame);
        drop(shop);
        std::process::exit(0);
    }
    let test = "exit_functions_run_with_what_their_version_calls_whatever_frame_is_open";
    let output = this_test(test).env(CHILD, "1").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("saved\n"), "{output:?}");
}

/// `user`, whose handlers of fork say which version it is and which one of `used` they call.
fn forking(shop: &Workshop, version: c_int) -> std::path::PathBuf {
    let source = format!(
        "#include <pthread.h>
         int used_id(void);
         int version(void) {{ return {version}; }}
         static void at_fork(void) {{ ((void (*)(int, int)){}ul)({version}, used_id()); }}
         __attribute__((constructor)) static void begin(void) {{ pthread_atfork(at_fork, at_fork, at_fork); }}",
        word(say as *const ())
    );
    shop.module("user", version as u32, &source)
}

/// Forks in whatever frame the thread has open. What was said before and in the child, and before
/// and in the parent.
fn fork() -> [Vec<(c_int, c_int)>; 2] {
    let mut pipe = [0; 2];
    // SAFETY: a place for two descriptors.
    assert_eq!(unsafe { libc::pipe(pipe.as_mut_ptr()) }, 0);
    // SAFETY: the child tells what it has, and exits at once.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let said: Vec<u8> = said().into_iter().flat_map(|(who, called)| [who as u8, called as u8]).collect();
        // SAFETY: the pipe made above; no destructors are run.
        unsafe {
            libc::write(pipe[1], said.as_ptr().cast(), said.len());
            libc::_exit(0);
        }
    }
    let (mut bytes, mut status) = ([0_u8; 64], -1);
    // SAFETY: the pipe made above, and a buffer; the child made above.
    let read = unsafe {
        libc::close(pipe[1]);
        libc::waitpid(child, &mut status, 0);
        let read = libc::read(pipe[0], bytes.as_mut_ptr().cast(), bytes.len());
        libc::close(pipe[0]);
        read
    };
    assert_eq!(status, 0);
    let childs = bytes[..read as usize].chunks(2).map(|pair| (pair[0].into(), pair[1].into())).collect();
    [childs, said()]
}

#[test]
fn handlers_of_fork_run_at_home_in_any_frame() {
    let (rt, shop, _turn) = start("forking");
    let pair = |version| [used(&shop, version, ""), forking(&shop, version)];
    load(&rt, pair(1).each_ref(), false);
    let old = rt.frame();
    load(&rt, pair(2).each_ref(), false);
    let both = vec![(1, 1), (1, 1), (2, 2), (2, 2)];
    assert_eq!(fork(), [both.clone(), both.clone()], "in a frame of the old one");
    let share = old.share();
    drop(old);
    let new = rt.frame();
    assert_eq!(fork(), [both.clone(), both.clone()], "in a frame of the new one");
    drop(new);
    assert_eq!(fork(), [both.clone(), both], "outside frames");
    drop(share);
    rt.collect().unwrap();
    let one = vec![(2, 2), (2, 2)];
    assert_eq!(fork(), [one.clone(), one]);
    rt.shutdown().unwrap();
    assert_eq!(fork(), [vec![], vec![]]);
}

#[test]
fn handlers_of_fork_are_registered_as_often_as_modules_are_loaded() {
    let (rt, shop, _turn) = start("forking-often");
    let pairs = [3, 4].map(|version| [used(&shop, version, ""), forking(&shop, version)]);
    for round in 0..200 {
        load(&rt, pairs[round % 2].each_ref(), false);
    }
    assert_eq!(fork()[1], [(4, 4), (4, 4)]);
    rt.shutdown().unwrap();
}

#[test]
fn more_handlers_of_fork_than_there_are_places_are_refused() {
    let (rt, shop, _turn) = start("forking-more");
    let source = "#include <pthread.h>
        static int refused;
        static void nothing(void) {}
        int version(void) { return refused; }
        int module_init(void) {
            for (int i = 0; i < 70; i++) refused += pthread_atfork(nothing, nothing, nothing) != 0;
            return refused == 6 ? 0 : 1;
        }";
    let module = shop.module("user", 9, source);
    for _ in 0..2 {
        // SAFETY: as declared.
        unsafe { rt.load(&module) }.unwrap();
        rt.unload("user").unwrap();
        assert_eq!(rt.collect().unwrap().old_bytes, 0);
    }
}
