//! Ordinary variables that are carried over to the version that replaces theirs.
#![cfg(target_os = "linux")]

mod support;

use std::path::PathBuf;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use midflight::{Carry, Error, ErrorKind, LoadOptions, Publication, Runtime, Source};
use support::{Workshop, start};

midflight::module! {
    unsafe mod keeper {
        safe fn next() -> i64;
        safe fn number() -> i32;
        safe fn look(what: i32) -> i64;
    }
    unsafe mod other { safe fn other_number() -> i32; }
    unsafe mod outer { safe fn count() -> i64; }
}

fn build(shop: &Workshop, module: &str, number: i32, source: &str) -> PathBuf {
    let define = format!("-DNUMBER={number}");
    let arguments = ["-g", "-fno-toplevel-reorder", &define];
    let arguments = if support::is_macho() { &arguments[..1] } else { &arguments[..] };
    let source =
        if support::is_macho() { format!("#define NUMBER {number}\n{source}") } else { source.into() };
    shop.module_for(std::env::consts::ARCH, module, number as u32, &source, arguments)
}

fn load(rt: Runtime, source: impl Into<Source>, carry: Carry) -> Result<Publication, Error> {
    // SAFETY: the tests' modules have the functions as declared above.
    unsafe { rt.load_with([source], &LoadOptions::new().carry(carry)) }
}

fn looks(rt: Runtime, what: i32) -> i64 {
    keeper::look(&rt.frame(), what)
}

fn unload(rt: Runtime, module: &str) {
    rt.unload(module).unwrap();
    let left = rt.collect().unwrap();
    assert_eq!((left.retained, left.busy, left.old_bytes), (0, 0, 0));
}

/// Dylibs keep their debug information in object files.
fn is_without_debug_information() -> bool {
    support::is_macho()
}

const KEEPER: &str = r#"
    struct node { struct node *next; long value; };
    static struct node nodes[3];
    static struct node *first;
    static long count = 100;
    static const long limit = NUMBER;
    static double half = 0.5;
    MORE
    long next(void) {
        static long calls;
        nodes[0].value = ++count;
        nodes[0].next = &nodes[2];
        first = nodes;
        half += 1;
        return ++calls;
    }
    int number(void) { return NUMBER; }
    long look(int what) {
        switch (what) {
        case 0: return count;
        case 1: return first == &nodes[0] && nodes[0].next == &nodes[2] ? first->value : -1;
        case 2: return limit;
        case 3: return (long)(half * 2);
        default: return LOOK;
        }
    }
"#;

fn keeper(shop: &Workshop, number: i32, more: &str, look: &str) -> PathBuf {
    build(shop, "keeper", number, &KEEPER.replace("MORE", more).replace("LOOK", look))
}

#[test]
fn values_go_on_and_pointers_to_them_lead_to_the_new_ones() {
    if is_without_debug_information() {
        return;
    }
    let (rt, shop, _turn) = start("carry");
    for carry in [Carry::All, Carry::Possible] {
        load(rt, keeper(&shop, 1, "", "0"), carry).unwrap();
        assert_eq!([1, 2].map(|_| keeper::next(&rt.frame())), [1, 2]);
        // What is new begins with its initial value.
        let published = load(rt, keeper(&shop, 2, "static long more = 7;", "more++"), carry).unwrap();
        assert_eq!(published.anew, []);
        assert_eq!(keeper::number(&rt.frame()), 2);
        assert_eq!([0, 1, 2, 3, 4].map(|what| looks(rt, what)), [102, 102, 2, 5, 7]);
        assert_eq!(keeper::next(&rt.frame()), 3);
        // Again, and what is gone is gone.
        load(rt, keeper(&shop, 3, "", "0"), carry).unwrap();
        assert_eq!([0, 1, 2, 3].map(|what| looks(rt, what)), [103, 103, 3, 7]);
        // Without it all begins anew.
        load(rt, keeper(&shop, 4, "", "0"), Carry::Nothing).unwrap();
        assert_eq!([0, 1, 2, 3].map(|what| looks(rt, what)), [100, -1, 4, 1]);
        unload(rt, "keeper");
    }
}

#[test]
fn what_cannot_go_on_is_listed_and_begins_anew_or_refuses_the_load() {
    if is_without_debug_information() {
        return;
    }
    let (rt, shop, _turn) = start("carry-left");
    let with = |number, members: &str| {
        let more = format!(
            "static struct pair {{ {members} }} pair = {{1, 2}};
             static const char *text = \"old\";
             static int (*callback)(void);
             static long **deep;
             static __thread long each = 5;
             int number(void);"
        );
        let source = KEEPER.replace("MORE", &more);
        let source = source.replace(
            "return ++calls;",
            "pair.a = 40; text = \"text\"; callback = number; static long *to; to = &calls; deep = &to; each = 9;
             { static int twice; twice++; } { static int twice; twice--; }
             return ++calls;",
        );
        let look = "pair.a + (text[0] == 'o' ? 1000 : 0) + (callback ? 1 : 0) + (deep && **deep ? 2 : 0) + each * 100000";
        build(&shop, "keeper", number, &source.replace("LOOK", look))
    };
    load(rt, with(1, "int a, b;"), Carry::All).unwrap();
    assert_eq!(keeper::next(&rt.frame()), 1);
    assert_eq!(looks(rt, 4), 900_000 + 40 + 1 + 2);
    let new = with(2, "long a, b;");
    let refused = load(rt, &new, Carry::All).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Incompatible);
    let text = refused.to_string();
    for part in
        ["`pair`", "struct pair, 8 bytes: 0 a (int32_t), 4 b (int32_t)", "struct pair, 16 bytes", "`each`"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!((keeper::number(&rt.frame()), looks(rt, 0)), (1, 101));
    let published = load(rt, &new, Carry::Possible).unwrap();
    let mut left: Vec<(&str, &str)> =
        published.anew.iter().map(|one| (&*one.variable, &*one.reason)).collect();
    left.sort_unstable();
    let names: Vec<&str> = left.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["callback", "each", "next::twice", "pair", "text"], "{left:#?}");
    assert!(left[0].1.contains("an address of the old version"), "{left:?}");
    // The others went on, `deep` through another that did.
    assert_eq!(looks(rt, 0), 101);
    assert_eq!(looks(rt, 4), 500_000 + 1 + 1000 + 2);
    unload(rt, "keeper");
}

#[test]
fn without_what_tells_the_layouts_nothing_goes_on() {
    let (rt, shop, _turn) = start("carry-unknown");
    load(rt, keeper(&shop, 1, "", "0"), Carry::Nothing).unwrap();
    let error = load(rt, keeper(&shop, 2, "", "0"), Carry::All).unwrap_err();
    assert!(error.to_string().contains("load that with `carry`, too"), "{error}");
    assert_eq!(keeper::number(&rt.frame()), 1);
    let published = load(rt, keeper(&shop, 2, "", "0"), Carry::Possible).unwrap();
    assert_eq!((published.anew.len(), &*published.anew[0].variable), (1, ""));
    unload(rt, "keeper");
    let bare =
        shop.module("keeper", 3, &KEEPER.replace("MORE", "").replace("LOOK", "0").replace("NUMBER", "3"));
    load(rt, &bare, Carry::All).unwrap();
    let error = load(rt, &bare, Carry::All).unwrap_err();
    assert!(matches!(&error, Error::NotCarried { variables } if variables.len() == 1), "{error}");
    assert!(error.to_string().contains("no debug information to go by"), "{error}");
    unload(rt, "keeper");
}

#[test]
fn who_holds_a_frame_is_waited_for_and_then_named() {
    if is_without_debug_information() {
        return;
    }
    let (rt, shop, _turn) = start("carry-held");
    load(rt, keeper(&shop, 1, "", "0"), Carry::All).unwrap();
    let paths = [2, 3].map(|number| keeper(&shop, number, "", "0"));
    // On the loading thread it would wait for itself.
    let frame = rt.frame();
    let error = load(rt, &paths[0], Carry::All).unwrap_err();
    assert!(error.to_string().contains("the calling thread has a frame open"), "{error}");
    drop(frame);
    let opened = Barrier::new(2);
    thread::scope(|scope| {
        // Closed, too, if the test does not hold.
        let (done, is_done) = mpsc::channel::<()>();
        let opened = &opened;
        let holder = scope.spawn(move || {
            let frame = rt.frame();
            opened.wait();
            assert!(is_done.recv().is_err());
            (keeper::next(&frame), keeper::number(&frame))
        });
        opened.wait();
        let error = load(rt, &paths[0], Carry::All).unwrap_err();
        let Error::Occupied { modules, by } = &error else { panic!("{error}") };
        assert_eq!((&modules[..], by.len()), (&["keeper".to_owned()][..], 1), "{error}");
        assert_eq!(error.kind(), ErrorKind::Timeout);
        // All goes on as before.
        assert_eq!((keeper::next(&rt.frame()), keeper::number(&rt.frame())), (1, 1));
        drop(done);
        assert_eq!(holder.join().unwrap(), (2, 1));
    });
    load(rt, &paths[1], Carry::All).unwrap();
    assert_eq!((keeper::number(&rt.frame()), looks(rt, 0), keeper::next(&rt.frame())), (3, 102, 3));
    unload(rt, "keeper");
}

const COUNTER: &str = r#"
    static long count;
    long next(void) { return __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED); }
    int number(void) { return NUMBER; }
    long look(int what) { return count; }
"#;

/// Says that it is over, whether the test holds or not.
struct AtEnd<'s>(&'s AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Threads count while the module is replaced again and again: no count is lost, and none comes
/// twice. `call` counts once, and returns what it came to;
/// `total` says that without counting.
fn count_on(
    rt: Runtime,
    paths: &[PathBuf],
    rounds: usize,
    least: usize,
    call: impl Fn() -> i64 + Sync,
    total: impl Fn() -> i64,
) {
    const THREADS: usize = 3;
    let (stop, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    let ready = Barrier::new(THREADS + 1);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut last = 0;
                ready.wait();
                // Relaxed: only counts; joining the threads orders the rest.
                while !stop.load(Ordering::Relaxed) {
                    let now = call();
                    assert!(now > last, "{now} after {last}");
                    last = now;
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        ready.wait();
        let _stop = AtEnd(&stop);
        let (mut replaced, mut refused) = (0, Vec::new());
        for path in paths.iter().cycle().take(rounds) {
            match load(rt, path, Carry::All) {
                Ok(_) => replaced += 1,
                // The machine may be too busy for all to leave in time.
                Err(Error::Occupied { by, .. }) => refused.push(by),
                Err(error) => panic!("{error}"),
            }
        }
        assert!(replaced >= least, "{replaced} of {rounds}: {refused:#?}");
    });
    assert_eq!(total() as u64, calls.into_inner());
}

#[test]
fn no_update_is_lost_and_no_frame_is_a_mix_while_threads_call() {
    if is_without_debug_information() {
        return;
    }
    let (rt, shop, _turn) = start("carry-frames");
    let paths = [1, 2].map(|number| build(&shop, "keeper", number, COUNTER));
    let others = [1, 2].map(|number| {
        build(&shop, "other", number, "int other_number(void) { static int calls; calls++; return NUMBER; }")
    });
    load(rt, &paths[0], Carry::All).unwrap();
    load(rt, &others[0], Carry::Nothing).unwrap();
    let one_version = || {
        let frame = rt.frame();
        let number = keeper::number(&frame);
        let now = keeper::next(&frame);
        assert_eq!(keeper::number(&frame), number);
        now
    };
    count_on(rt, &paths, 60, 30, one_version, || looks(rt, 0));
    unload(rt, "keeper");
    unload(rt, "other");
}

#[test]
fn calls_outside_frames_wait_too() {
    // Under an emulator no look at the threads is complete.
    if is_without_debug_information() || support::is_emulated() {
        return;
    }
    let (rt, shop, _turn) = start("carry-outside");
    let source = format!("{COUNTER} long count(void) {{ return look(0); }}")
        .replace("static long count", "static long counted");
    let source = source.replace("&count,", "&counted,").replace("return count;", "return counted;");
    let paths = [1, 2].map(|number| build(&shop, "outer", number, &source));
    load(rt, &paths[0], Carry::All).unwrap();
    // SAFETY: of the type that the module's function has.
    let next: extern "C" fn() -> i64 = unsafe { std::mem::transmute(rt.symbol("outer", "next").unwrap()) };
    // Words that are left on a stack may look like addresses of a version: then a load is refused,
    // and the next one may be too. With four busy loops beside it all twelve were carried over.
    count_on(rt, &paths, 12, 6, || next(), || outer::count(&rt.frame()));
    rt.unload("outer").unwrap();
    // SAFETY: the threads are over.
    assert_eq!(unsafe { rt.collect_escaped() }.unwrap().old_bytes, 0);
}

#[test]
fn a_module_with_threads_of_its_own_is_not_left_by_them() {
    if is_without_debug_information() {
        return;
    }
    let (rt, shop, _turn) = start("carry-threads");
    let source = r#"
        #include <pthread.h>
        #include <sched.h>
        static int stop;
        static pthread_t thread;
        static void *run(void *argument) {
            while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) sched_yield();
            return argument;
        }
        long next(void) { return pthread_create(&thread, 0, run, 0); }
        int number(void) { return NUMBER; }
        long look(int what) {
            __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
            return pthread_join(thread, 0);
        }
    "#;
    let paths = [1, 2].map(|number| build(&shop, "keeper", number, source));
    load(rt, &paths[0], Carry::All).unwrap();
    assert_eq!(keeper::next(&rt.frame()), 0);
    let error = load(rt, &paths[1], Carry::All).unwrap_err();
    assert!(error.to_string().contains("version 1 of `keeper` has threads"), "{error}");
    assert_eq!((looks(rt, 0), keeper::number(&rt.frame())), (0, 1));
    load(rt, &paths[1], Carry::All).unwrap();
    assert_eq!(keeper::number(&rt.frame()), 2);
    unload(rt, "keeper");
}

#[test]
fn objects_with_constructors_begin_anew_and_what_is_made_at_first_use_stays_made() {
    if is_without_debug_information() {
        return;
    }
    let (rt, shop, _turn) = start("carry-cpp");
    let source = |number: i32| {
        format!(
            "struct made {{ long x; made() : x(30) {{}} }};
             static made object;
             struct plain {{ long x; }};
             static plain data = {{4}};
             static long compute() {{ return 500; }}
             static long &used() {{ static long value = compute(); return value; }}
             long computed = compute();
             extern \"C\" {{
             long next() {{ object.x++; data.x++; computed++; return ++used(); }}
             int number() {{ return {number}; }}
             long look(int what) {{ return what == 0 ? object.x : what == 1 ? data.x : what == 2 ? used() : computed; }}
             }}"
        )
    };
    let paths = [1, 2].map(|number| shop.cpp("keeper", number as u32, &source(number), &["-g"]));
    load(rt, &paths[0], Carry::Possible).unwrap();
    assert_eq!(keeper::next(&rt.frame()), 501);
    let published = load(rt, &paths[1], Carry::Possible).unwrap();
    let names: Vec<_> = published.anew.iter().map(|one| &*one.variable).collect();
    assert_eq!(names, ["object"], "{:?}", published.anew);
    assert!(published.anew[0].reason.contains("a constructor or a destructor"));
    assert_eq!([0, 1, 2, 3].map(|what| looks(rt, what)), [30, 5, 501, 501]);
    unload(rt, "keeper");
}

#[test]
fn what_of_cpp_begins_anew_is_listed_and_calls_the_new_code() {
    if is_without_debug_information() {
        return;
    }
    let (rt, shop, _turn) = start("carry-classes");
    let source = |number: i32| {
        format!(
            "#include <string>
             struct shape {{ virtual long area() {{ return {number}; }} long side = 3; }};
             static shape object;
             static shape *made = &object;
             static std::string text = \"first\";
             static std::string &lazy() {{ static std::string value = \"lazy\"; return value; }}
             static thread_local long each = 5;
             static long plain = 1;
             extern \"C\" {{
             long next() {{ object.side++; text += '!'; lazy() += '!'; each++; return ++plain; }}
             int number() {{ return {number}; }}
             long look(int what) {{
                 switch (what) {{
                 case 0: return made->area() * 10 + made->side;
                 case 1: return text.size();
                 case 2: return lazy().size();
                 case 3: return each;
                 default: return plain;
                 }}
             }}
             }}"
        )
    };
    let paths = [1, 2].map(|number| shop.cpp("keeper", number as u32, &source(number), &["-g"]));
    load(rt, &paths[0], Carry::Possible).unwrap();
    assert_eq!(keeper::next(&rt.frame()), 2);
    assert_eq!([0, 1, 2, 3, 4].map(|what| looks(rt, what)), [14, 6, 5, 6, 2]);
    let refused = load(rt, &paths[1], Carry::All).unwrap_err();
    assert!(matches!(refused, Error::NotCarried { .. }), "{refused}");
    assert_eq!([0, 1, 2, 3, 4].map(|what| looks(rt, what)), [14, 6, 5, 6, 2]);
    let published = load(rt, &paths[1], Carry::Possible).unwrap();
    for listed in ["object", "text", "value", "each"] {
        let is_it = |name: &str| name == listed || name.ends_with(&format!("::{listed}"));
        assert!(published.anew.iter().any(|one| is_it(&one.variable)), "{listed}: {:#?}", published.anew);
    }
    // All of them are the new version's, and the ordinary number went on.
    assert_eq!([0, 1, 2, 3, 4].map(|what| looks(rt, what)), [23, 5, 4, 5, 2]);
    unload(rt, "keeper");
}
