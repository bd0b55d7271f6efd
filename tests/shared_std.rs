//! Rust modules with the standard library as a shared library (`-C prefer-dynamic`): it is the
//! library, and not the module, that asks the C library for threads and for the ends of
//! thread-local variables.
#![cfg(target_os = "linux")]

mod support;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use midflight::{Runtime, Until};
use support::heard::Heard;
use support::*;

midflight::module! {
    unsafe mod dynamic {
        safe fn touch(gone: &'static AtomicUsize) -> i32;
        safe fn caught(x: i32) -> i32;
    }
    unsafe mod threaded { safe fn start(done: &'static AtomicUsize); safe fn number() -> i32; }
}

const SOURCE: &str = r#"
use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Noisy(&'static AtomicUsize, i32);
impl Drop for Noisy {
    fn drop(&mut self) {
        assert_eq!(self.1, 2);
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

thread_local! {
    static KEPT: RefCell<Vec<Noisy>> = const { RefCell::new(Vec::new()) };
}

#[unsafe(no_mangle)]
extern "C" fn touch(gone: &'static AtomicUsize) -> i32 {
    KEPT.with_borrow_mut(|kept| {
        kept.push(Noisy(gone, 2));
        kept.len() as i32
    })
}

#[unsafe(no_mangle)]
extern "C" fn caught(x: i32) -> i32 {
    let caught = std::panic::catch_unwind(|| if x < 0 { std::panic::resume_unwind(Box::new(x)) });
    caught.map_or_else(|panic| *panic.downcast::<i32>().unwrap(), |()| 1)
}
"#;

const THREADED: &str = r#"
use std::sync::atomic::{AtomicUsize, Ordering};

#[unsafe(no_mangle)]
extern "C" fn start(done: &'static AtomicUsize) {
    std::thread::spawn(move || {
        while done.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        done.fetch_add(number() as usize, Ordering::SeqCst);
    });
}

#[unsafe(no_mangle)]
extern "C" fn number() -> i32 {
    NUMBER
}
"#;

fn load(rt: Runtime, path: &PathBuf) {
    // SAFETY: the tests' modules have the functions as declared above.
    unsafe { rt.load(path) }.unwrap();
}

/// None where there is no shared standard library for this system.
fn modules(shop: &Workshop, name: &str, source: &str) -> Option<[PathBuf; 2]> {
    let folder = shared_std()?;
    let runpath = format!("link-arg=-Wl,-rpath,{}", folder.display());
    let arguments = ["-O", "-C", "prefer-dynamic", "-C", &runpath];
    Some([1, 2].map(|n| {
        shop.rust(name, n, &format!("{source}\n#[allow(dead_code)]\nconst NUMBER: i32 = {n};"), &arguments)
    }))
}

#[test]
fn thread_local_variables_end_with_their_thread_or_their_version() {
    static GONE: AtomicUsize = AtomicUsize::new(0);
    let (rt, shop, _turn) = start("shared-std");
    let Some(versions) = modules(&shop, "dynamic", SOURCE) else { return };
    load(rt, &versions[0]);
    let gone = || GONE.load(Ordering::SeqCst);
    assert_eq!([dynamic::touch(&rt.frame(), &GONE), dynamic::touch(&rt.frame(), &GONE)], [1, 2]);
    assert_eq!([dynamic::caught(&rt.frame(), 5), dynamic::caught(&rt.frame(), -7)], [1, -7]);

    // A thread that ends while the version is there.
    thread::spawn(move || assert_eq!(dynamic::touch(&rt.frame(), &GONE), 1)).join().unwrap();
    assert_eq!(gone(), 1);

    // One that outlives it.
    let (go, wait) = mpsc::channel::<()>();
    let (touched, ready) = mpsc::channel();
    let outlives = thread::spawn(move || {
        for _ in 0..2 {
            // The frame is over before it is told.
            let count = dynamic::touch(&rt.frame(), &GONE);
            touched.send(count).unwrap();
            wait.recv().unwrap();
        }
    });
    assert_eq!(ready.recv().unwrap(), 1);
    load(rt, &versions[1]);
    let left = rt.collect().unwrap();
    assert_eq!((left.held, left.retained, left.busy), (0, 0, 0));
    assert_eq!(gone(), 4, "this thread's two and the other's went with the version");
    go.send(()).unwrap();
    assert_eq!(ready.recv().unwrap(), 1, "the new version has its own");
    rt.unload("dynamic").unwrap();
    rt.collect().unwrap();
    assert_eq!(gone(), 5);
    go.send(()).unwrap();
    outlives.join().unwrap();
    assert_eq!(gone(), 5);
}

#[test]
fn a_version_whose_threads_nobody_can_count_stays() {
    static DONE: AtomicUsize = AtomicUsize::new(0);
    let (rt, shop, _turn) = start("shared-std-threads");
    let Some(versions) = modules(&shop, "threaded", THREADED) else { return };
    load(rt, &versions[0]);
    threaded::start(&rt.frame(), &DONE);
    let (heard, _subscription) = Heard::new(rt);
    load(rt, &versions[1]);
    assert_eq!(threaded::number(&rt.frame()), 2);
    let before = rt.collect().unwrap();
    let kept = |version| format!("kept threaded {version} until {:?}", Until::Never);
    assert_eq!(heard.told(), ["published threaded 2 for 1".to_owned(), kept(1)]);
    assert_eq!((before.freed, before.busy), (0, 1));
    assert!(before.old_bytes > 0);
    // It is in its version's code now, and then calls that again.
    DONE.store(1, Ordering::SeqCst);
    while DONE.load(Ordering::SeqCst) < 2 {
        thread::yield_now();
    }
    assert_eq!(DONE.load(Ordering::SeqCst), 2);
    rt.unload("threaded").unwrap();
    assert_eq!(rt.collect().unwrap().busy, 2);
    assert_eq!(heard.told(), ["unloaded threaded 2".to_owned(), kept(2)]);
    // Once, whatever the host says and whoever looks.
    // SAFETY: the host has no address of the module's, and its thread is not asked about.
    unsafe { rt.collect_escaped() }.unwrap();
    rt.collect_quiescent().unwrap();
    assert_eq!((rt.collect().unwrap().busy, heard.told()), (2, vec![]));
}
