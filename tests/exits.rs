//! What modules leave to be done at the end of threads and of the process, and the threads that
//! they start.

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, mpsc};
use std::time::{Duration, Instant};

use midflight::Runtime;
use support::saying::*;
use support::{Workshop, is_emulated, start};

midflight::module! {
    unsafe mod leaver { safe fn enter(n: u64); }
    unsafe mod objects { safe fn touch() -> u64; }
    unsafe mod at_exit { safe fn nothing(); }
    unsafe mod starter { safe fn start_thread(kind: u32) -> i32; }
    unsafe mod outer { safe fn leave_a_call(); }
    unsafe mod inner { safe fn number() -> u64; }
    unsafe mod forks { safe fn nothing_more(); }
}

/// Collects until nothing is busy. What it waits for is the C library's part in a thread's end,
/// which nobody tells.
fn collect_to_the_end(rt: Runtime) -> usize {
    let (begin, mut freed) = (Instant::now(), 0);
    loop {
        let collected = rt.collect().unwrap();
        freed += collected.freed;
        if collected.busy == 0 {
            return freed;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{collected:?}");
        std::thread::yield_now();
    }
}

const LEAVER: &str = "
    static __thread word mine = 5;
    static void last(void *n) { say(1000 * mine + (word)n); }
    static void done(void *n) {
        say(1000 * mine + (word)n);
        mine += 1;
        if (n == (void *)2) __cxa_thread_atexit_impl(last, (void *)9, &__dso_handle);
    }
    void enter(word n) {
        mine = n;
        for (word i = 1; i <= 3; i++) __cxa_thread_atexit_impl(done, (void *)i, i == 1 ? 0 : &__dso_handle);
    }";

#[test]
fn a_threads_exit_functions_run_in_reverse_before_its_variables_go() {
    let (rt, shop, _turn) = start("thread_exits");
    load(rt, module(&shop, "leaver", 1, LEAVER));
    said();
    std::thread::spawn(move || leaver::enter(&rt.frame(), 20)).join().unwrap();
    assert_eq!(said(), [20_003, 21_002, 22_009, 22_001]);
    unload_wholly(rt, "leaver");
    assert!(said().is_empty());
}

#[test]
fn living_threads_exit_functions_run_at_the_retirement_with_the_threads_variables() {
    let (rt, shop, _turn) = start("retired_exits");
    load(rt, module(&shop, "leaver", 2, LEAVER));
    said();
    leaver::enter(&rt.frame(), 30);
    let (entered, retired) = (Barrier::new(3), Barrier::new(3));
    std::thread::scope(|scope| {
        let (entered, retired) = (&entered, &retired);
        let threads = [40, 50].map(|n| {
            scope.spawn(move || {
                leaver::enter(&rt.frame(), n);
                entered.wait();
                retired.wait();
            })
        });
        entered.wait();
        rt.unload("leaver").unwrap();
        let said_then = said();
        retired.wait();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let of = |n: u64| [3, 1002, 2009, 2001].map(|m| 1000 * n + m).to_vec();
        // The other threads in either order; this one, which retires, last.
        let (one, two) = ([of(40), of(50), of(30)].concat(), [of(50), of(40), of(30)].concat());
        assert!(said_then == one || said_then == two, "{said_then:?}");
    });
    assert!(said().is_empty(), "each ran once");
}

#[test]
fn a_version_is_not_freed_while_a_thread_runs_its_exit_functions() {
    let (rt, shop, _turn) = start("leaving");
    let source = "static void done(void *n) { if (n == (void *)6) wait_for_host(); say((word)n); }
                  void enter(word n) { __cxa_thread_atexit_impl(done, (void *)n, &__dso_handle); }";
    load(rt, module(&shop, "leaver", 3, source));
    said();
    let old = rt.frame();
    let (entered, wait_for_entered) = mpsc::channel();
    let (go, stay) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        leaver::enter(&rt.frame(), 6);
        entered.send(()).unwrap();
        stay.recv().unwrap_err();
    });
    wait_for_entered.recv().unwrap();
    leaver::enter(&old, 7);
    // The thread exits when its version is the old one, which only this thread's frame holds.
    load(rt, module(&shop, "leaver", 4, source));
    drop(go);
    wait_for_waiting(1);
    drop(old);
    let busy = rt.collect().unwrap();
    assert_eq!((busy.freed, busy.busy), (0, 1));
    assert!(said().is_empty());
    open_gate(1);
    thread.join().unwrap();
    assert_eq!(collect_to_the_end(rt), 1);
    assert_eq!(said(), [6, 7]);
    unload_wholly(rt, "leaver");
}

#[test]
fn functions_for_the_end_of_the_process_run_at_the_retirement() {
    let (rt, shop, _turn) = start("process_exits");
    let source = "static void one(void) { say(1); }
                  static void with(void *n) { say((word)n); if (n == (void *)3) __cxa_atexit(with, (void *)4, &__dso_handle); }
                  static void status(int status, void *n) { say((word)n + status); }
                  #ifdef __APPLE__
                  // Not of its C library: the same by what there is.
                  static void of_status(void *n) { status(0, n); }
                  static int on_exit(void (*function)(int, void *), void *n) { return __cxa_atexit(of_status, n, &__dso_handle); }
                  #else
                  int on_exit(void (*)(int, void *), void *);
                  #endif
                  void nothing(void) {}
                  __attribute__((constructor)) static void begin(void) {
                      atexit(one);
                      __cxa_atexit(with, (void *)2, 0);
                      __cxa_atexit(with, (void *)3, &__dso_handle);
                      on_exit(status, (void *)5);
                  }
                  __attribute__((destructor)) static void end(void) { say(6); atexit(one); }";
    load(rt, module(&shop, "at_exit", 1, source));
    said();
    unload_wholly(rt, "at_exit");
    assert_eq!(said(), [6, 1, 5, 3, 4, 2, 1]);
}

/// crt's part of the C library is in shared objects, and not in object files.
#[test]
#[cfg(target_os = "linux")]
fn functions_that_object_files_leave_run_once() {
    let (rt, shop, _turn) = start("object_exits");
    if support::is_macho() {
        return;
    }
    let source = "
        static void end(void) { say(1); }
        static void quick(void) { say(2); }
        static void before(void) { say(3); }
        void nothing(void) {}
        __attribute__((constructor)) static void begin(void) {
            if (atexit(end) || at_quick_exit(quick) || pthread_atfork(before, 0, 0)) abort();
        }";
    load(rt, shop.object("at_exit.c", &(prelude() + source), &["-fPIC"]));
    said();
    let fork = || {
        // SAFETY: the child exits at once, and is waited for.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::_exit(0);
            }
            assert_eq!(libc::waitpid(child, std::ptr::null_mut(), 0), child);
        }
    };
    fork();
    assert_eq!(said(), [3]);
    unload_wholly(rt, "at_exit");
    fork();
    assert_eq!(said(), [1]);
}

/// As the C++ runtime's own may.
#[test]
fn a_module_may_have_its_exit_functions_run_early() {
    let (rt, shop, _turn) = start("early_exits");
    let source = "void __cxa_finalize(void *);
                  static void one(void *n) { say((word)n); }
                  __attribute__((constructor)) static void begin(void) { __cxa_atexit(one, (void *)1, &__dso_handle); }
                  void nothing(void) { __cxa_finalize(&__dso_handle); }";
    load(rt, module(&shop, "at_exit", 2, source));
    said();
    at_exit::nothing(&rt.frame());
    assert_eq!(said(), [1]);
    unload_wholly(rt, "at_exit");
    assert!(said().is_empty(), "each ran once");
}

const OBJECTS: &str = "
    struct Named {
        word n;
        Named(word n) : n(n) { say(n); }
        ~Named() { say(n + 1); }
    };
    static Named process(20);
    thread_local Named thread(10);
    extern \"C\" word touch() {
        static Named local(30);
        thread_local Named second(50);
        return process.n + thread.n + local.n + second.n;
    }";

#[test]
fn objects_of_cpp_are_destroyed_with_their_thread_and_their_version() {
    let (rt, shop, _turn) = start("objects");
    said();
    load(rt, module_of_cpp(&shop, "objects", OBJECTS));
    assert_eq!(said(), [20]);
    assert_eq!(objects::touch(&rt.frame()), 110);
    assert_eq!(said(), [30, 50, 10]);
    std::thread::spawn(move || objects::touch(&rt.frame())).join().unwrap();
    assert_eq!(said(), [50, 10, 11, 51]);
    let (touched, wait) = mpsc::channel();
    let (go, stay) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        objects::touch(&rt.frame());
        touched.send(()).unwrap();
        stay.recv().unwrap_err();
    });
    wait.recv().unwrap();
    said();
    unload_wholly(rt, "objects");
    assert_eq!(said(), [11, 51, 11, 51, 31, 21], "two threads', then the process's");
    drop(go);
    thread.join().unwrap();
    assert!(said().is_empty());
}

const STARTER: &str = "
    #include <unistd.h>
    static __thread int mine = 3;
    static void done(void *n) { say(mine); }
    static void run(void) {
        mine += 1;
        __cxa_thread_atexit_impl(done, 0, &__dso_handle);
        wait_for_host();
    }
    static void *plain(void *n) { run(); say((word)n); return 0; }
    static void *exits(void *n) { run(); say((word)n); pthread_exit(0); }
    static void clean(void *n) { say((word)n); }
    static void *cancelled(void *n) {
        run();
        pthread_cleanup_push(clean, n);
        for (;;) pause();
        pthread_cleanup_pop(0);
        return 0;
    }
    static int standard(void *n) { run(); say((word)n); return 7; }
    int start_thread(unsigned kind) {
        pthread_t thread;
        thrd_t other;
        int result;
        switch (kind) {
        case 0: return pthread_create(&thread, 0, plain, (void *)100) || pthread_detach(thread);
        case 1: return pthread_create(&thread, 0, exits, (void *)101) || pthread_detach(thread);
        case 2: return pthread_create(&thread, 0, cancelled, (void *)102) || pthread_cancel(thread) || pthread_detach(thread);
        case 3: return thrd_create(&other, standard, (void *)103) || thrd_detach(other);
        case 4: return thrd_create(&other, standard, (void *)104) || thrd_join(other, &result) || result != 7;
        #ifndef NO_ATTRIBUTES
        default: {
            // More stack than there can be.
            pthread_attr_t attributes;
            pthread_attr_init(&attributes);
            pthread_attr_setstacksize(&attributes, (word)1 << 50);
            return pthread_create(&thread, &attributes, plain, 0) == 0;
        }
        #endif
        }
    }";

#[test]
fn a_thread_that_a_module_started_may_outlive_its_unload() {
    let (rt, shop, _turn) = start("started");
    // Apple's pthread_cleanup_push writes into Apple's pthread_t.
    for kind in (0..4).filter(|kind| *kind != 2 || !support::is_bridged()) {
        load(rt, module(&shop, "starter", kind + 1, STARTER));
        said();
        assert_eq!(starter::start_thread(&rt.frame(), kind), 0);
        wait_for_waiting(1);
        let busy = unload(rt, "starter");
        assert_eq!((busy.freed, busy.busy), (0, 1), "kind {kind}");
        assert!(said().is_empty());
        open_gate(1);
        assert_eq!(collect_to_the_end(rt), 1);
        assert_eq!(said(), [100 + u64::from(kind), 4], "kind {kind}");
    }
}

/// Loads what has nothing to do with it, until that has freed all that is old.
fn load_others_to_the_end(rt: Runtime, shop: &Workshop) {
    let (begin, other) =
        (Instant::now(), module(shop, "unrelated", 1, "word nothing_of_it(void) { return 1; }"));
    while rt.statistics().unwrap().old_bytes > 0 {
        assert!(begin.elapsed() < Duration::from_secs(60));
        // The first time nothing is replaced.
        load(rt, &other);
    }
    rt.unload("unrelated").unwrap();
}

#[test]
fn a_load_frees_what_threads_have_left_by_then() {
    let (rt, shop, _turn) = start("left_by_then");
    // Its own thread; and another that runs an exit function of it.
    load(rt, module(&shop, "starter", 10, STARTER));
    said();
    assert_eq!(starter::start_thread(&rt.frame(), 0), 0);
    wait_for_waiting(1);
    assert_eq!(unload(rt, "starter").busy, 1);
    open_gate(1);
    load_others_to_the_end(rt, &shop);
    let source = "static void done(void *n) { wait_for_host(); say((word)n); }
                  void enter(word n) { __cxa_thread_atexit_impl(done, (void *)n, &__dso_handle); }";
    load(rt, module(&shop, "leaver", 10, source));
    said();
    let (entered, wait_for_entered) = mpsc::channel();
    let (go, stay) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        leaver::enter(&rt.frame(), 7);
        entered.send(()).unwrap();
        stay.recv().unwrap_err();
    });
    wait_for_entered.recv().unwrap();
    let old = rt.frame();
    rt.unload("leaver").unwrap();
    drop(go);
    wait_for_waiting(1);
    drop(old);
    assert_eq!(rt.collect().unwrap().busy, 1);
    open_gate(1);
    thread.join().unwrap();
    load_others_to_the_end(rt, &shop);
    assert_eq!(said(), [7]);
}

#[test]
fn threads_that_were_joined_or_never_began_hold_nothing() {
    let (rt, shop, _turn) = start("joined");
    load(rt, module(&shop, "starter", 9, STARTER));
    open_gate(1);
    said();
    assert_eq!(starter::start_thread(&rt.frame(), 4), 0);
    assert_eq!(said(), [104, 4]);
    if !support::is_bridged() {
        assert_eq!(starter::start_thread(&rt.frame(), 5), 0);
    }
    rt.unload("starter").unwrap();
    collect_to_the_end(rt);
}

#[test]
fn a_thread_of_cpp_may_outlive_its_unload() {
    let (rt, shop, _turn) = start("std_thread");
    let source = "
        struct Owned { word n; Owned(word n) : n(n) {} Owned(Owned &&o) : n(o.n) { o.n = 0; } ~Owned() { if (n) say(n + 2); } };
        thread_local Owned mine(60);
        extern \"C\" int start_thread(unsigned kind) {
            std::thread thread([](Owned owned) { wait_for_host(); say(owned.n + mine.n); }, Owned(8));
            if (kind) thread.join(); else thread.detach();
            return 0;
        }";
    load(rt, module_of_cpp(&shop, "starter", source));
    open_gate(1);
    said();
    starter::start_thread(&rt.frame(), 1);
    assert_eq!(said(), [68, 10, 62]);
    starter::start_thread(&rt.frame(), 0);
    wait_for_waiting(1);
    let busy = unload(rt, "starter");
    assert_eq!((busy.freed, busy.busy), (0, 1));
    open_gate(1);
    assert_eq!(collect_to_the_end(rt), 1);
    assert_eq!(said(), [68, 10, 62]);
}

#[test]
fn exit_functions_call_other_modules() {
    let (rt, shop, _turn) = start("calls");
    let [one, two] =
        [1, 2].map(|n| module(&shop, "inner", n, &format!("word number(void) {{ return {n}; }}")));
    let outer = "word number(void);
                 static void done(void *n) { say((word)n + number()); }
                 void leave_a_call(void) { __cxa_thread_atexit_impl(done, (void *)10, &__dso_handle); }
                 static void end(void) { say(20 + number()); }
                 __attribute__((constructor)) static void begin(void) { atexit(end); }";
    load(rt, &one);
    load(rt, module(&shop, "outer", 1, outer));
    said();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            outer::leave_a_call(&rt.frame());
            load(rt, &two);
        });
        thread.join().unwrap();
    });
    assert_eq!(said(), [12], "the current version's");
    let inside = rt.frame();
    outer::leave_a_call(&inside);
    rt.unload("outer").unwrap();
    rt.unload("inner").unwrap();
    drop(inside);
    rt.collect().unwrap();
    assert_eq!(said(), [12, 22], "the version's that dies with it");

    // A thread exits when both are replaced, and not free. What it has called goes with the rest.
    load(rt, &one);
    load(rt, module(&shop, "outer", 2, outer));
    let inside = rt.frame();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            outer::leave_a_call(&rt.frame());
            load(rt, module(&shop, "outer", 3, outer));
            load(rt, &two);
        });
        thread.join().unwrap();
    });
    assert_eq!(said(), [11]);
    drop(inside);
    let left = rt.collect().unwrap();
    assert_eq!((said(), left.freed, left.old_bytes), (vec![21], 2, 0));
    rt.unload_all(["outer", "inner"]).unwrap();
}

#[test]
fn handlers_of_fork_go_with_their_version() {
    let (rt, shop, _turn) = start("forks");
    let source = "
        static void before(void) { say(1); }
        static void parent(void) { say(2); }
        static void child(void) { say(3); }
        void nothing_more(void) {}
        __attribute__((constructor)) static void begin(void) { pthread_atfork(before, parent, child); }";
    let with_crt = module(&shop, "forks", 1, source);
    // Nothing of crt's calls __cxa_finalize here, nor has the handle. (macOS has no crt; its linker
    // makes the handle.)
    let bare =
        prelude() + source + "\n__attribute__((visibility(\"hidden\"))) void *__dso_handle = &__dso_handle;";
    let bare = || shop.module_for(std::env::consts::ARCH, "forks", 2, &bare, &["-nostartfiles"]);
    let bare = (!support::is_macho()).then(bare);
    let fork = || {
        // SAFETY: the child exits at once.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: as above.
            unsafe { libc::_exit(0) };
        }
        let mut status = -1;
        // SAFETY: waits for the child made above.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0);
    };
    for path in [Some(with_crt), bare].into_iter().flatten() {
        load(rt, path);
        said();
        fork();
        assert_eq!(said(), [1, 2]);
        unload_wholly(rt, "forks");
        fork();
        assert!(said().is_empty());
    }
}

/// However threads and versions come and go, each object is made and destroyed once, with its own
/// thread's variables.
#[test]
fn every_object_is_destroyed_once() {
    static BORN: AtomicU64 = AtomicU64::new(0);
    static DEAD: AtomicU64 = AtomicU64::new(0);
    extern "C" fn born() {
        BORN.fetch_add(1, Ordering::Relaxed);
    }
    extern "C" fn dead(right: u64) {
        assert_eq!(right, 1, "another thread's variables");
        DEAD.fetch_add(1, Ordering::Relaxed);
    }
    let (rt, shop, _turn) = start("once");
    let source = format!(
        "static thread_local word mark;
         struct Object {{
             Object *self;
             word mine;
             Object(word mine) : self(this), mine(mine) {{ mark = mine; ((void (*)()){born}ul)(); }}
             ~Object() {{ ((void (*)(word)){dead}ul)(self == this && mark == mine); }}
         }};
         extern \"C\" void enter(word n) {{ static thread_local Object object(n); (void)object; }}",
        born = born as *const () as usize,
        dead = dead as *const () as usize,
    );
    let path = module_of_cpp(&shop, "leaver", &source);
    let count = if is_emulated() { 60 } else { 300 };
    load(rt, &path);
    let stop = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        for worker in 0..3 {
            scope.spawn(move || {
                for n in (worker..).step_by(3) {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    scope.spawn(move || leaver::enter(&rt.frame(), n)).join().unwrap();
                    leaver::enter(&rt.frame(), 1_000_000 + worker);
                }
            });
        }
        // The threads may come late.
        let mut loads = 0;
        while loads < count || BORN.load(Ordering::Relaxed) <= count {
            load(rt, &path);
            loads += 1;
        }
        stop.store(true, Ordering::Relaxed);
    });
    rt.unload("leaver").unwrap();
    collect_to_the_end(rt);
    assert_eq!(DEAD.load(Ordering::Relaxed), BORN.load(Ordering::Relaxed));
}
