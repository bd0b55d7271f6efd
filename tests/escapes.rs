//! Modules that are called outside of frames: what is replaced of those, and of what they call,
//! stays until somebody has looked.

mod support;

use std::ffi::c_int;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use midflight::Runtime;
use support::{Workshop, start};

midflight::module! {
    unsafe mod starting { safe fn begin(go: &'static AtomicI32) -> c_int; }
}

fn load(rt: Runtime, path: PathBuf) {
    // SAFETY: the functions are as they are declared and called.
    unsafe { rt.load(path) }.unwrap();
}

/// A module with a function of the same name, which returns the version.
fn named(shop: &Workshop, name: &str, version: u32) -> PathBuf {
    shop.module(name, version, &format!("int {name}(void) {{ return {version}; }}"))
}

fn calling(shop: &Workshop, version: u32, called: &str) -> PathBuf {
    let source = format!("int {called}(void); int through(void) {{ return {called}(); }}");
    shop.module("calling", version, &source)
}

fn retained(rt: Runtime) -> usize {
    rt.collect().unwrap().retained
}

#[test]
fn what_is_called_outside_of_frames_keeps_what_it_calls() {
    let (rt, shop, _turn) = start("escapes");
    load(rt, named(&shop, "called", 1));
    load(rt, calling(&shop, 1, "called"));
    load(rt, named(&shop, "called", 2));
    assert_eq!(retained(rt), 0, "it is called in frames only");
    rt.symbol("calling", "through").unwrap();
    load(rt, named(&shop, "called", 3));
    assert_eq!(retained(rt), 1);
    // A new version calls another module.
    load(rt, named(&shop, "other", 1));
    load(rt, calling(&shop, 2, "other"));
    assert_eq!(retained(rt), 2);
    load(rt, named(&shop, "other", 2));
    assert_eq!(retained(rt), 3);
    // SAFETY: nobody called any of them.
    let left = unsafe { rt.collect_escaped() }.unwrap();
    assert_eq!((left.freed, left.retained), (3, 0));
    rt.unload_all(["calling", "called", "other"]).unwrap();
}

#[test]
fn a_thread_of_a_module_keeps_what_it_calls() {
    static GO: AtomicI32 = AtomicI32::new(0);
    let (rt, shop, _turn) = start("thread-escapes");
    let source = "
        #include <pthread.h>
        #include <sched.h>
        int used(void);
        static void *run(void *go) {
            while (!*(_Atomic int *)go) sched_yield();
            used();
            return 0;
        }
        int begin(_Atomic int *go) {
            pthread_t thread;
            return pthread_create(&thread, 0, run, go) || pthread_detach(thread);
        }";
    load(rt, named(&shop, "used", 1));
    load(rt, shop.module("starting", 1, source));
    assert_eq!(starting::begin(&rt.frame(), &GO), 0);
    load(rt, named(&shop, "used", 2));
    assert_eq!(retained(rt), 1, "the thread may be in it");
    GO.store(1, Ordering::SeqCst);
    rt.unload_all(["starting", "used"]).unwrap();
    let begin = Instant::now();
    // SAFETY: the thread calls as long as its version is there.
    while unsafe { rt.collect_escaped() }.unwrap().old_bytes > 0 {
        assert!(begin.elapsed() < Duration::from_secs(60));
        std::thread::yield_now();
    }
}
