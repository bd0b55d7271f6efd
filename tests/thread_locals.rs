//! Thread-local variables of modules: each thread's own, gone with the thread and with the version.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Barrier, mpsc};

use midflight::Runtime;
use support::{Workshop, is_emulated, start};

midflight::module! {
    unsafe mod counter {
        safe fn bump() -> i32;
        safe fn place() -> usize;
        safe fn is_zero() -> i32;
    }
    unsafe mod aligned { safe fn check() -> i32; }
    unsafe mod values { safe fn first() -> i32; safe fn set(to: i32); }
    unsafe mod user { safe fn value() -> i32; safe fn is_same() -> i32; }
    unsafe mod weak { safe fn undefined() -> usize; }
}

/// How compilers ask for thread-local variables: by function, by descriptor. In Mach-O there is one
/// way.
fn dialects() -> &'static [&'static str] {
    if support::is_macho() {
        &["-O2"]
    } else if cfg!(target_arch = "x86_64") {
        &["-mtls-dialect=gnu", "-mtls-dialect=gnu2"]
    } else {
        &["-mtls-dialect=trad", "-mtls-dialect=desc"]
    }
}

fn load(rt: Runtime, path: &Path) {
    // SAFETY: the tests' modules have the functions as declared above.
    unsafe { rt.load(path) }.unwrap();
}

/// A module in a dialect.
fn module(shop: &Workshop, name: &str, version: u32, source: &str, arguments: &[&str]) -> PathBuf {
    shop.module_for(std::env::consts::ARCH, name, version, source, arguments)
}

/// Unloads, and has everything freed.
fn unload(rt: Runtime, name: &str) {
    rt.unload(name).unwrap();
    let left = rt.collect().unwrap();
    assert_eq!((left.held, left.busy), (0, 0));
}

/// The bytes that the process has, but for what is known of versions that are gone: that has a
/// bound of its own, and grows when one is loaded where none was.
fn allocated() -> usize {
    ALLOCATED.load(Ordering::Relaxed) - midflight::private::footprint()
}

/// Counts the bytes that the process has, the runtime's included.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator, which is one.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const COUNTER: &str = "
    __thread int counter = 7;
    __thread char zero[1000];
    static __thread long hidden = 40;
    int bump(void) { hidden += 1; return ++counter + (int)hidden; }
    unsigned long place(void) { return (unsigned long)&counter; }
    int is_zero(void) { for (int i = 0; i < 1000; i++) if (zero[i]) return 0; zero[999] = 1; return 1; }";

#[test]
fn each_thread_has_its_own_from_the_modules_initial_values() {
    let (rt, shop, _turn) = start("own");
    for (version, dialect) in (1..).zip(dialects()) {
        load(rt, &module(&shop, "counter", version, COUNTER, &[dialect]));
        let all_have_theirs = Barrier::new(4);
        let run = || {
            assert_eq!(counter::is_zero(&rt.frame()), 1);
            for round in 1..100 {
                assert_eq!(counter::bump(&rt.frame()), 47 + 2 * round, "{dialect}");
            }
            assert_eq!(counter::is_zero(&rt.frame()), 0);
            all_have_theirs.wait();
            counter::place(&rt.frame())
        };
        let places: std::collections::BTreeSet<usize> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(places.len(), 4);
    }
}

#[test]
fn a_new_version_has_new_variables_and_the_old_keeps_its_own() {
    let (rt, shop, _turn) = start("reload");
    let source = |initial: i32| {
        format!(
            "__thread int variable = {initial};
             int first(void) {{ return variable; }} void set(int to) {{ variable = to; }}"
        )
    };
    load(rt, &shop.module("values", 1, &source(10)));
    values::set(&rt.frame(), 11);
    let old = rt.frame();
    load(rt, &shop.module("values", 2, &source(20)));
    assert_eq!(values::first(&old), 11);
    let shared = old.share();
    std::thread::spawn(move || {
        let old = shared.join().unwrap();
        assert_eq!(values::first(&old), 10, "another thread, the old version's initial value");
        drop((old, shared));
        assert_eq!(values::first(&rt.frame()), 20);
        values::set(&rt.frame(), 22);
        assert_eq!(values::first(&rt.frame()), 22);
    })
    .join()
    .unwrap();
    drop(old);
    assert_eq!(values::first(&rt.frame()), 20);
    unload(rt, "values");
}

#[test]
fn alignment_is_kept() {
    let (rt, shop, _turn) = start("aligned");
    for (version, (dialect, align)) in
        (1..).zip(dialects().iter().flat_map(|d| [16, 4096, 1 << 16].map(|a| (d, a))))
    {
        let source = format!(
            "__thread char byte = 3;
             __thread char block[{align}] __attribute__((aligned({align}))) = {{ 5, 6 }};
             __thread char after[100];
             int check(void) {{
                 return (unsigned long)block % {align} == 0 && byte == 3 && block[1] == 6 && !block[2] && !after[99];
             }}"
        );
        load(rt, &module(&shop, "aligned", version, &source, &[dialect]));
        let check = || assert_eq!(aligned::check(&rt.frame()), 1, "{dialect} {align}");
        check();
        std::thread::scope(|scope| (0..3).for_each(|_| drop(scope.spawn(check))));
    }
}

#[test]
fn many_modules_and_many_threads() {
    let (rt, shop, _turn) = start("many");
    // One file; its name patched.
    let bytes =
        std::fs::read(module(&shop, "thread_000", 1, COUNTER, &dialects()[dialects().len() - 1..])).unwrap();
    let rename = |bytes: &mut Vec<u8>, name: &str| {
        let (old, new) = (support::library_name("thread_000"), support::library_name(name));
        let at = bytes.windows(old.len()).position(|window| window == old.as_bytes()).unwrap();
        bytes[at..at + old.len()].copy_from_slice(new.as_bytes());
    };
    // A prime, so that each step width visits all.
    let names: Vec<String> = (0..149).map(|n| format!("thread_{n:03}")).collect();
    let bumps: Vec<extern "C" fn() -> i32> = names
        .iter()
        .map(|name| {
            let mut bytes = bytes.clone();
            rename(&mut bytes, name);
            load(rt, &shop.file(name, &bytes));
            // SAFETY: as declared for `counter`.
            unsafe { std::mem::transmute(rt.symbol(name, "bump").unwrap()) }
        })
        .collect();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let bumps = &bumps;
            scope.spawn(move || {
                for round in 1..=3 {
                    // Each thread in another order, so that their tables grow differently.
                    for step in 0..bumps.len() {
                        let at = (31 + step * (thread + 1)) % bumps.len();
                        assert_eq!(bumps[at](), 47 + 2 * round, "thread {thread}, module {at}");
                    }
                }
            });
        }
    });
    names.iter().for_each(|name| rt.unload(name).unwrap());
    // SAFETY: the threads are over, and nothing else was given the addresses.
    let left = unsafe { rt.collect_escaped() }.unwrap();
    assert_eq!((left.held, left.retained, left.busy), (0, 0, 0));
}

#[test]
fn threads_come_and_go_before_and_after_an_unload() {
    let (rt, shop, _turn) = start("come_and_go");
    let path = shop.module("counter", 9, COUNTER);
    let big = "__thread char big[300000] = { 1 };
               int first(void) { return big[0]; } void set(int to) { big[1] = to; }";
    let big = shop.module("values", 9, big);
    // Threads that stay over all cycles, with variables of every version that they have met.
    let (asks, threads): (Vec<_>, Vec<_>) = (0..3)
        .map(|_| {
            let (ask, asked) = mpsc::channel::<mpsc::Sender<()>>();
            let thread = std::thread::spawn(move || {
                for done in asked {
                    let frame = rt.frame();
                    assert_eq!((counter::bump(&frame), values::first(&frame)), (49, 1));
                    drop(frame);
                    done.send(()).unwrap();
                }
            });
            (ask, thread)
        })
        .unzip();
    let cycle = || {
        load(rt, &path);
        load(rt, &big);
        std::thread::scope(|scope| {
            scope.spawn(|| assert_eq!((counter::bump(&rt.frame()), values::first(&rt.frame())), (49, 1)));
            for ask in &asks {
                let (done, when) = mpsc::channel();
                ask.send(done).unwrap();
                when.recv().unwrap();
            }
        });
        unload(rt, "counter");
        unload(rt, "values");
    };
    let cycles = if is_emulated() { 200 } else { 1000 };
    (0..50).for_each(|_| cycle());
    let before = allocated();
    (0..cycles).for_each(|_| cycle());
    let after = allocated();
    assert!(after < before + 1000, "{before} to {after} bytes in {cycles} cycles");
    drop(asks);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_load_that_fails_leaves_nothing() {
    let (rt, shop, _turn) = start("fails");
    // It has variables, and lacks what is declared of it above.
    let path = shop.module("counter", 10, "__thread int counter = 7; int bump(void) { return ++counter; }");
    // SAFETY: it is refused.
    let refused = || unsafe { rt.load(&path) }.unwrap_err();
    // Until as many buffers are kept for later as ever are.
    (0..10).for_each(|_| drop(refused()));
    let before = allocated();
    (0..100).for_each(|_| drop(refused()));
    let after = allocated();
    assert!(after < before + 1000, "{before} to {after} bytes");
}

/// The C library destroys values of keys in rounds, after the thread's exit functions. What a
/// module has in the thread stays meanwhile, and what comes new goes too.
#[test]
fn variables_are_there_while_keys_are_destroyed() {
    let (rt, shop, _turn) = start("late");
    load(rt, &shop.module("counter", 11, COUNTER));
    static RESULTS: std::sync::Mutex<Vec<i32>> = std::sync::Mutex::new(Vec::new());
    static KEY: std::sync::OnceLock<libc::pthread_key_t> = std::sync::OnceLock::new();
    fn set(rounds: usize) {
        // SAFETY: a key, and a number for it.
        unsafe { libc::pthread_setspecific(*KEY.get().unwrap(), std::ptr::without_provenance(rounds)) };
    }
    extern "C" fn destroy(rounds: *mut libc::c_void) {
        RESULTS.lock().unwrap().push(counter::bump(&Runtime::start().unwrap().frame()));
        if rounds.addr() > 1 {
            set(rounds.addr() - 1);
        }
    }
    KEY.get_or_init(|| {
        let mut key = 0;
        // SAFETY: writes the key.
        assert_eq!(unsafe { libc::pthread_key_create(&mut key, Some(destroy)) }, 0);
        key
    });
    let thread = |uses_before: bool| {
        std::thread::spawn(move || {
            set(3);
            if uses_before {
                counter::bump(&rt.frame());
            }
        })
        .join()
        .unwrap();
        std::mem::take(&mut *RESULTS.lock().unwrap())
    };
    assert_eq!(thread(true), [51, 53, 55], "the thread's own in all rounds");
    // Without a use before, nobody knows in which round the first is, and what it made goes in the
    // next.
    let late = thread(false);
    assert!(late.len() == 3 && late[0] == 49, "{late:?}");
    let before = allocated();
    (0..100).for_each(|_| drop((thread(true), thread(false))));
    let after = allocated();
    assert!(after < before + 1000, "{before} to {after} bytes");
    unload(rt, "counter");
}

#[test]
fn a_forked_child_has_its_own() {
    let (rt, shop, _turn) = start("forked");
    load(rt, &shop.module("counter", 12, COUNTER));
    let fork = move || {
        // SAFETY: the child calls the module, and ends; at the latest in 20 seconds.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::alarm(20);
                libc::_exit(if counter::bump(&rt.frame()) == 49 { 0 } else { 1 });
            }
            let mut status = -1;
            libc::waitpid(child, &mut status, 0) == child && status == 0
        }
    };
    let forks = if is_emulated() { 50 } else { 400 };
    let stop = AtomicBool::new(false);
    let works = std::thread::scope(|scope| {
        // Others that are in the middle of their first use when the process forks.
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::thread::spawn(move || counter::bump(&rt.frame())).join().unwrap();
                }
            });
        }
        // From threads that have not used the module, as their children then have not.
        let works = (0..forks).all(|_| std::thread::spawn(fork).join().unwrap());
        stop.store(true, Ordering::Relaxed);
        works
    });
    assert!(works);
    unload(rt, "counter");
}

/// Variables of libraries, of nobody, and of other modules. In ELF only: macOS tells nobody where a
/// library's are, and linkers for it refuse the others.
#[cfg(target_os = "linux")]
mod of_others {
    use super::*;
    use midflight::Error;

    const LIBRARY: &str = "__thread int before = 1; __thread int theirs = 33;
    unsigned long address_of_theirs(void) { return (unsigned long)&theirs; }";

    const USER: &str = "extern __thread int theirs; unsigned long address_of_theirs(void);
    int value(void) { return theirs; }
    int is_same(void) { return (unsigned long)&theirs == address_of_theirs(); }";

    /// A library that is open until the end of the test. The module has it by DT_NEEDED, which
    /// names it alone.
    struct Library {
        path: PathBuf,
        handle: *mut libc::c_void,
    }

    impl Library {
        fn open(shop: &Workshop, name: &str, arguments: &[&str]) -> Self {
            let path = module(shop, name, 1, LIBRARY, arguments);
            let c_path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
            // SAFETY: a library without constructors.
            let handle = unsafe { libc::dlopen(c_path.as_ptr(), libc::RTLD_NOW) };
            assert!(!handle.is_null());
            Self { path, handle }
        }
    }

    impl Drop for Library {
        fn drop(&mut self) {
            // SAFETY: opened above.
            unsafe { libc::dlclose(self.handle) };
        }
    }

    #[test]
    fn variables_of_libraries_are_the_libraries_own() {
        let (rt, shop, _turn) = start("libraries");
        // With functions alone its storage is dynamic; glibc makes it static, if there is room, for
        // descriptors of AArch64 and for code that reads at a fixed place.
        let dynamic = Library::open(&shop, "dynamic_storage", &[dialects()[0]]);
        let fixed = Library::open(&shop, "static_storage", &["-ftls-model=initial-exec"]);
        let mut version = 0;
        let mut uses = |library: &Library, arguments: &[&str]| {
            version += 1;
            let arguments: Vec<&str> =
                arguments.iter().copied().chain([library.path.to_str().unwrap()]).collect();
            load(rt, &module(&shop, "user", version, USER, &arguments));
            let check = || {
                let frame = rt.frame();
                assert_eq!((user::value(&frame), user::is_same(&frame)), (33, 1), "{arguments:?}");
            };
            check();
            std::thread::scope(|scope| drop(scope.spawn(check)));
        };
        for dialect in dialects() {
            uses(&dynamic, &[dialect]);
            uses(&fixed, &[dialect]);
        }
        uses(&fixed, &["-ftls-model=initial-exec"]);
        let model = ["-ftls-model=initial-exec", dynamic.path.to_str().unwrap()];
        // SAFETY: it is refused.
        let error = unsafe { rt.load(module(&shop, "user", 99, USER, &model)) }.unwrap_err().to_string();
        assert!(error.contains("`theirs`"), "{error}");
        unload(rt, "user");
    }

    #[test]
    fn a_weak_variable_that_nobody_has_is_at_null() {
        let (rt, shop, _turn) = start("weak");
        let source = "extern __thread int nowhere __attribute__((weak));
                  unsigned long undefined(void) { return (unsigned long)&nowhere; }";
        load(rt, &module(&shop, "weak", 1, source, &[dialects()[1]]));
        assert_eq!(weak::undefined(&rt.frame()), 0);
        unload(rt, "weak");
    }

    #[test]
    fn a_variable_of_another_module_is_refused() {
        let (rt, shop, _turn) = start("neighbour");
        load(rt, &shop.module("neighbour", 1, LIBRARY));
        // SAFETY: it is refused.
        let error = unsafe { rt.load(shop.module("user", 100, USER)) }.unwrap_err();
        assert!(
            matches!(&error, Error::DataImport { symbol, module, .. } if symbol == "theirs" && module == "neighbour"),
            "{error}"
        );
        unload(rt, "neighbour");
    }
}
