//! Ordinary libraries that modules need: they stay in the process, with whatever they have left in
//! it, and threads of theirs may be in a module.
#![cfg(target_os = "linux")]

mod support;

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use midflight::{Error, Runtime};
use support::*;

midflight::module! {
    unsafe mod needing {
        safe fn start(counters: &'static [AtomicU64; 2]) -> i32;
        safe fn leave(counter: &'static AtomicU64) -> i32;
    }
    unsafe mod lending { safe fn lend(state: &'static AtomicU64) -> i32; }
    unsafe mod parallel { safe fn sum() -> i32; }
}

/// A library that goes on by itself when it was called.
const LIBRARY: &str = "
    #include <pthread.h>
    #include <sched.h>
    static void *count(void *memory) {
        _Atomic unsigned long *counters = memory;
        while (!counters[1]) { counters[0]++; sched_yield(); }
        counters[1] = 2;
        return 0;
    }
    static int begin(void *(*function)(void *), void *argument) {
        pthread_t thread;
        int result = pthread_create(&thread, 0, function, argument);
        return result ? result : pthread_detach(thread);
    }
    int START(unsigned long *counters) { return begin(count, counters); }
    static void end(void *memory) { ++*(_Atomic unsigned long *)memory; }
    int LEAVE(unsigned long *counter) {
        pthread_key_t key;
        int result = pthread_key_create(&key, end);
        return result ? result : pthread_setspecific(key, counter);
    }
    int LEND(void *(*function)(void *), void *argument) { return begin(function, argument); }";

/// The library by this name, which each test has for itself, in `shop`'s folder.
fn library(shop: &Workshop, name: &str) -> PathBuf {
    let path = shop.path(&format!("lib{name}.so"));
    let source = LIBRARY
        .replace("START", &format!("{name}_start"))
        .replace("LEAVE", &format!("{name}_leave"))
        .replace("LEND", &format!("{name}_lend"));
    let input = shop.file(&format!("{name}.c"), source.as_bytes());
    run(host_compiler(std::env::consts::ARCH, false).args(["-shared", "-fPIC", "-o"]).args([&path, &input]));
    path
}

/// A module that needs it.
fn needing(shop: &Workshop, module: &str, version: u32, library: &Path, source: &str) -> PathBuf {
    let folder = library.parent().expect("it is in a folder").display();
    let arguments = [format!("-Wl,-rpath,{folder}"), library.display().to_string()];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    shop.module_for(std::env::consts::ARCH, module, version, source, &arguments)
}

fn load(rt: Runtime, path: impl AsRef<Path>) {
    // SAFETY: the tests' modules have the functions as declared above.
    unsafe { rt.load(path.as_ref()) }.unwrap();
}

fn is_mapped(library: &Path) -> bool {
    mappings().contains(library.to_str().expect("a name in UTF-8"))
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what}");
        thread::yield_now();
    }
}

const NEEDING: &str = "
    int stays_start(unsigned long *), stays_leave(unsigned long *);
    int start(unsigned long *counters) { return stays_start(counters); }
    int leave(unsigned long *counter) { return stays_leave(counter); }";

#[test]
fn a_library_stays_with_its_threads_and_what_it_has_left_in_others() {
    static COUNTERS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
    static ENDED: AtomicU64 = AtomicU64::new(0);
    let (rt, shop, _turn) = start("library-stays");
    if is_macho() {
        return;
    }
    let library = library(&shop, "stays");
    load(rt, needing(&shop, "needing", 1, &library, NEEDING));
    let old = rt.frame();
    assert_eq!(needing::start(&old, &COUNTERS), 0);
    drop(old);
    thread::spawn(move || {
        assert_eq!(needing::leave(&rt.frame(), &ENDED), 0);
        rt.unload("needing").unwrap();
        rt.collect().unwrap();
        // The destructor of the library's key runs in it when this thread is over.
    })
    .join()
    .unwrap();
    assert_eq!(ENDED.load(Ordering::SeqCst), 1);
    assert!(is_mapped(&library));
    let before = COUNTERS[0].load(Ordering::SeqCst);
    wait_until("its thread goes on", || COUNTERS[0].load(Ordering::SeqCst) > before + 1);
    COUNTERS[1].store(1, Ordering::SeqCst);
    wait_until("its thread ends", || COUNTERS[1].load(Ordering::SeqCst) == 2);
}

#[test]
fn a_library_that_the_host_closes_stays_for_what_a_module_had_it_do() {
    static COUNTERS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
    let (rt, shop, _turn) = start("library-of-the-host");
    if is_macho() {
        return;
    }
    let library = library(&shop, "hosts");
    let name = CString::new(library.to_str().unwrap()).unwrap();
    // SAFETY: it has no constructors.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) };
    assert!(!handle.is_null());
    load(rt, needing(&shop, "needing", 2, &library, &NEEDING.replace("stays", "hosts")));
    assert_eq!(needing::start(&rt.frame(), &COUNTERS), 0);
    rt.unload("needing").unwrap();
    rt.collect().unwrap();
    // SAFETY: opened above.
    unsafe { libc::dlclose(handle) };
    let before = COUNTERS[0].load(Ordering::SeqCst);
    wait_until("its thread goes on", || COUNTERS[0].load(Ordering::SeqCst) > before + 1);
    COUNTERS[1].store(1, Ordering::SeqCst);
    wait_until("its thread ends", || COUNTERS[1].load(Ordering::SeqCst) == 2);
}

#[test]
fn a_library_stays_whose_module_was_refused() {
    let (rt, shop, _turn) = start("library-refused");
    if is_macho() {
        return;
    }
    let library = library(&shop, "refused");
    let source = "int refused_start(unsigned long *), nowhere(void);
                  int start(unsigned long *c) { return refused_start(c) + nowhere(); }
                  int leave(unsigned long *c) { return 0; }";
    let module = needing(&shop, "needing", 3, &library, source);
    // SAFETY: it is refused.
    let error = unsafe { rt.load(&module) }.unwrap_err();
    assert!(matches!(error, Error::Unresolved { .. }), "{error}");
    assert!(is_mapped(&library), "its constructors ran, and who knows what they have begun");
}

/// The lent function runs until it is told to end, on the library's thread.
const LENDING: &str = "
    int lends_lend(void *(*)(void *), void *);
    static void *work(void *memory) {
        volatile unsigned long *state = memory;
        *state = 1;
        while (*state != 2) ;
        *state = VERSION + 2;
        return 0;
    }
    int lend(unsigned long *state) { return lends_lend(work, state); }";

#[test]
fn a_version_stays_while_a_librarys_thread_is_in_it() {
    static STATE: AtomicU64 = AtomicU64::new(0);
    let (rt, shop, _turn) = start("library-lends");
    if is_macho() {
        return;
    }
    let library = library(&shop, "lends");
    let version =
        |n: u32| needing(&shop, "lending", n, &library, &LENDING.replace("VERSION", &n.to_string()));
    // On threads of their own, so that no address stays behind on this one's stack, where every
    // word counts.
    let elsewhere = |run: &(dyn Fn() + Sync)| thread::scope(|scope| scope.spawn(run).join().unwrap());
    elsewhere(&|| load(rt, version(1)));
    elsewhere(&|| assert_eq!(lending::lend(&rt.frame(), &STATE), 0));
    wait_until("it is in the module", || STATE.load(Ordering::SeqCst) == 1);
    elsewhere(&|| load(rt, version(2)));
    let left = rt.collect().unwrap();
    assert_eq!((left.freed, left.retained), (0, 1), "nobody has looked at the library's thread");
    let looked = rt.collect_quiescent().unwrap();
    assert_eq!((looked.collected.freed, looked.collected.retained), (0, 1), "{looked:?}");
    STATE.store(2, Ordering::SeqCst);
    wait_until("the old version ends", || STATE.load(Ordering::SeqCst) == 3);
    elsewhere(&|| rt.unload("lending").unwrap());
    // An emulator has a thread that cannot be looked at.
    if !is_emulated() {
        wait_until("nobody is inside", || rt.collect_quiescent().unwrap().collected.retained == 0);
    }
}

#[test]
fn libraries_are_opened_once_however_often_modules_are_replaced() {
    let (rt, shop, _turn) = start("library-flat");
    if is_macho() {
        return;
    }
    let library = library(&shop, "flat");
    let source = NEEDING.replace("stays", "flat");
    let versions = [4, 5].map(|n| needing(&shop, "needing", n, &library, &source));
    let round = |n: usize| {
        load(rt, &versions[n % 2]);
        if n.is_multiple_of(3) {
            rt.unload("needing").unwrap();
        }
        // SAFETY: no thread is inside.
        unsafe { rt.collect_escaped() }.unwrap();
    };
    (0..12).for_each(round);
    let before = count_mappings();
    (0..120).for_each(round);
    assert!(count_mappings() <= before + 2, "{before} mappings became {}", count_mappings());
}

#[test]
fn threads_of_openmp_outlive_the_module_that_had_them_started() {
    let (rt, shop, _turn) = start("openmp");
    let mut compiler = host_compiler(std::env::consts::ARCH, false);
    let found = compiler.arg("-print-file-name=libgomp.so").output().expect("a compiler");
    let found = PathBuf::from(String::from_utf8_lossy(&found.stdout).trim());
    if is_macho() || !found.is_absolute() {
        eprintln!("not tested: the compiler has no OpenMP");
        return;
    }
    let source = |step: u32| {
        format!(
            "int sum(void) {{
                 int sum = 0;
                 #pragma omp parallel for reduction(+ : sum) num_threads(4)
                 for (int i = 0; i < 1000; i++) sum += {step};
                 return sum;
             }}"
        )
    };
    // Of another machine the system's own folders have none.
    let found = found.canonicalize().expect("the compiler has it");
    let runpath = format!("-Wl,-rpath,{}", found.parent().expect("it is in a folder").display());
    let with =
        |n: u32| shop.module_for(std::env::consts::ARCH, "parallel", n, &source(n), &["-fopenmp", &runpath]);
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    for round in 0..3 {
        load(rt, with(1));
        assert_eq!(parallel::sum(&rt.frame()), 1000, "{round}");
        load(rt, with(2));
        assert_eq!(parallel::sum(&rt.frame()), 2000, "{round}");
        rt.unload("parallel").unwrap();
        let left = rt.collect().unwrap();
        assert_eq!((left.held, left.retained), (0, 0), "what is given to OpenMP is over when the call is");
        assert!(threads() > 3, "the pool waits for the next loop");
    }
}
