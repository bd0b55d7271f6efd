//! Loading, calling, replacing, unloading.

mod support;

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc;

use midflight::{Error, Runtime};
use support::{mappings, start};

midflight::module! {
    unsafe mod first { safe fn answer() -> i32; safe fn add(a: i32, b: i64, c: f32, d: f64) -> f64; }
    unsafe mod pair_a { safe fn left() -> i32; }
    unsafe mod pair_b { safe fn right() -> i32; }
    unsafe mod joined { safe fn number() -> i32; }
    unsafe mod caller { safe fn through() -> i32; safe fn pointer() -> i32; }
    unsafe mod callee { safe fn value() -> i32; }
    unsafe mod lifecycle { safe fn set_log(log: &'static AtomicI32); safe fn constructed() -> i32; }
    unsafe mod gone { safe fn f() -> i32; safe fn place() -> usize; }
    unsafe mod data { safe fn next() -> i32; unsafe fn table(i: i32) -> i32; safe fn big() -> i64; }
    unsafe mod shared { safe fn number() -> i32; }
    unsafe mod assembly { safe fn bare() -> i32; }
}

fn load(rt: Runtime, path: impl AsRef<std::path::Path>) -> midflight::Publication {
    // SAFETY: the tests' modules have the functions as declared above.
    unsafe { rt.load(path) }.unwrap()
}

fn returns(function: &str, value: i32) -> String {
    format!("int {function}(void) {{ return {value}; }}")
}

#[test]
fn a_new_version_serves_from_the_next_frame_on() {
    let (rt, shop, _turn) = start("first");
    let source = |n: i32| {
        format!(
            "int answer(void) {{ return {n}; }}
             double add(int a, long b, float c, double d) {{ return a + b + c + d + {n}; }}"
        )
    };
    let one = load(rt, shop.module("first", 1, &source(1)));
    assert_eq!((one.modules[0].name.as_str(), one.modules[0].version), ("first", 1));
    let old = rt.frame();
    assert_eq!(first::answer(&old), 1);
    assert_eq!(first::add(&old, 1, 2, 0.5, 0.25), 4.75);

    let two = load(rt, shop.module("first", 2, &source(2)));
    assert!(two.generation > one.generation);
    assert_eq!(two.modules[0].version, 2);
    assert_eq!(first::answer(&old), 1, "an open frame stays in its generation");
    assert_eq!(old.version("first"), Some(1));
    assert_eq!(first::answer(&rt.frame()), 1, "and so does a frame within it");
    drop(old);
    let new = rt.frame();
    assert_eq!((first::answer(&new), new.version("first")), (2, Some(2)));
}

#[test]
fn a_publication_is_seen_whole_by_every_frame() {
    let (rt, shop, _turn) = start("pair");
    let versions: Vec<_> = (0..2)
        .map(|n| {
            let a = shop.module("pair_a", n as u32, &returns("left", n));
            let b = shop.module("pair_b", n as u32, &returns("right", n));
            [a, b]
        })
        .collect();
    // SAFETY: as declared.
    unsafe { rt.load_all(&versions[0]) }.unwrap();
    let stop = AtomicBool::new(false);
    let frames: usize = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut frames = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let frame = rt.frame();
                        assert_eq!(pair_a::left(&frame), pair_b::right(&frame));
                        frames += 1;
                    }
                    frames
                })
            })
            .collect();
        for round in 0..200 {
            // SAFETY: as declared.
            unsafe { rt.load_all(&versions[(round + 1) % 2]) }.unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        readers.into_iter().map(|reader| reader.join().unwrap()).sum()
    });
    assert!(frames > 0);
}

#[test]
fn workers_join_the_frame_that_one_thread_opened() {
    let (rt, shop, _turn) = start("joined");
    let [one, two] = [1, 2].map(|n| shop.module("joined", n, &returns("number", n as i32)));
    load(rt, &one);
    let frame = rt.frame();
    let ticket = frame.share();
    load(rt, &two);
    drop(frame);
    std::thread::spawn(move || {
        let outside = rt.frame();
        assert_eq!(joined::number(&outside), 2);
        let refused = ticket.join().unwrap_err();
        assert_eq!((refused.inside, refused.shared), (outside.generation(), ticket.generation()));
        drop(outside);
        let frame = ticket.join().unwrap();
        drop(ticket);
        assert_eq!(joined::number(&frame), 1, "the worker is in the opener's generation");
        assert_eq!(joined::number(&rt.frame()), 1, "and so is a frame within it");
        drop(frame);
        assert_eq!(joined::number(&rt.frame()), 2);
    })
    .join()
    .unwrap();
}

#[test]
fn a_call_between_modules_stays_in_the_callers_generation() {
    let (rt, shop, _turn) = start("calls");
    let caller = "extern int value(void);
                  int through(void) { return 100 + value(); }
                  static int (*at)(void) = value;
                  int pointer(void) { return 200 + at(); }";
    let caller = shop.module("caller", 1, caller);
    let [one, two] = [1, 2].map(|n| shop.module("callee", n, &returns("value", n as i32)));
    // SAFETY: as declared. The caller comes first: the two are linked against each other.
    unsafe { rt.load_all([&caller, &one]) }.unwrap();
    let old = rt.frame();
    load(rt, &two);
    assert_eq!((caller::through(&old), caller::pointer(&old), callee::value(&old)), (101, 201, 1));
    drop(old);
    let new = rt.frame();
    assert_eq!((caller::through(&new), caller::pointer(&new), callee::value(&new)), (102, 202, 2));
    assert_eq!(new.version("caller"), Some(1), "replacing one module does not relink the other");
    drop(new);
    let refused = rt.unload("callee").unwrap_err();
    assert!(matches!(&refused, Error::StillImported { by, .. } if by == &["caller"]), "{refused}");
}

#[test]
fn a_trampoline_follows_publications_outside_frames_and_keeps_still_inside() {
    let (rt, shop, _turn) = start("tramp");
    let [one, two] = [1, 2].map(|n| shop.module("tramp", n, &returns("call", n as i32)));
    load(rt, &one);
    let before = rt.collect().unwrap();
    let address = rt.symbol("tramp", "call").unwrap();
    // SAFETY: the module's `call` has this type.
    let call: extern "C" fn() -> i32 = unsafe { std::mem::transmute(address) };
    assert_eq!(call(), 1);
    let (to_thread, thread_gets) = mpsc::channel::<()>();
    let (from_thread, we_get) = mpsc::channel();
    // A thread that the runtime never sees: it opens no frame.
    let stranger = std::thread::spawn(move || {
        for () in thread_gets {
            from_thread.send(call()).unwrap();
        }
    });
    let ask = || {
        to_thread.send(()).unwrap();
        we_get.recv().unwrap()
    };
    assert_eq!(ask(), 1);
    let frame = rt.frame();
    load(rt, &two);
    assert_eq!(call(), 1, "under a frame, the frame's");
    assert_eq!(ask(), 2, "outside, the current one");
    drop(frame);
    assert_eq!(call(), 2);
    assert_eq!(rt.symbol("tramp", "call").unwrap(), address, "stable");
    let kept = rt.collect().unwrap();
    assert_eq!(kept.retained, before.retained + 1, "an escaped module's old version is kept");
    assert!(kept.retained_bytes > before.retained_bytes);
    drop(to_thread);
    stranger.join().unwrap();
    assert!(matches!(rt.symbol("tramp", "nothing"), Err(Error::NoSuchFunction { .. })));
    assert!(matches!(rt.symbol("nowhere", "call"), Err(Error::NotLoaded { .. })));
}

#[test]
fn constructors_run_before_publication_and_destructors_when_the_version_goes() {
    let (rt, shop, _turn) = start("lifecycle");
    let source = |n: i32| {
        format!(
            "#include <stdlib.h>
             static int *log_at; static int order;
             __attribute__((constructor(101))) static void early(void) {{ order = order * 10 + 1; }}
             __attribute__((constructor(102))) static void late(void) {{ order = order * 10 + 2; }}
             __attribute__((destructor)) static void end(void) {{ if (log_at) *log_at += {n}; }}
             void set_log(int *at) {{ log_at = at; }}
             int constructed(void) {{ return order + (getenv(\"PATH\") ? 100 : 0); }}"
        )
    };
    static LOG: AtomicI32 = AtomicI32::new(0);
    load(rt, shop.module("lifecycle", 1, &source(1)));
    lifecycle::set_log(&rt.frame(), &LOG);
    assert_eq!(lifecycle::constructed(&rt.frame()), 112);
    let frame = rt.frame();
    load(rt, shop.module("lifecycle", 2, &source(20)));
    rt.collect().unwrap();
    assert_eq!(LOG.load(Ordering::Relaxed), 0, "a frame is still inside");
    drop(frame);
    rt.collect().unwrap();
    assert_eq!(LOG.load(Ordering::Relaxed), 1);
    lifecycle::set_log(&rt.frame(), &LOG);
    rt.unload("lifecycle").unwrap();
    rt.collect().unwrap();
    assert_eq!(LOG.load(Ordering::Relaxed), 21);
}

#[test]
fn old_code_is_gone_and_mappings_have_names_and_are_never_writable_and_executable() {
    let (rt, shop, _turn) = start("gone");
    let source = "static int n = 5; int f(void) { return n++; } unsigned long place(void) { return (unsigned long)f; }";
    load(rt, shop.module("gone", 1, source));
    let frame = rt.frame();
    assert_eq!((gone::f(&frame), gone::f(&frame)), (5, 6));
    let old = gone::place(&frame);
    let code = read_own_memory(old as u64, 8).unwrap();
    let maps = mappings();
    // Of anonymous memory only some kernels say a name, and macOS none.
    let anonymous =
        support::is_forced("write-once") || support::is_forced("toggled") || cfg!(target_os = "macos");
    assert!(anonymous || maps.contains("midflight: code"), "{maps}");
    // MAP_JIT says both, and each thread has one at a time.
    if cfg!(target_os = "linux") || !support::is_forced("toggled") {
        let both = if cfg!(target_os = "linux") { "rwx" } else { "READ | WRITE | EXECUTE" };
        let line = maps.lines().find(|line| line.contains(both));
        assert_eq!(line, None);
    }
    drop(frame);
    load(rt, shop.module("gone", 2, &source.replace("n++", "n++ * 2 + (n > 100 ? n : 0)")));
    rt.collect().unwrap();
    // Its pages are unmapped, or inaccessible and empty, or kept for a version of the same shape:
    // then nothing in them can be executed.
    let trap = if cfg!(target_arch = "x86_64") { 0xcc } else { 0 };
    if let Some(left) = read_own_memory(old as u64, 8) {
        // A mapping that is gone may be another's by now.
        let another = support::is_forced("toggled") && left != code;
        assert!(left == [trap; 8] || left == [0; 8] || another, "{left:x?}");
    }
    // The next one takes them, and finds its own variables there.
    load(rt, shop.module("gone", 3, source));
    assert_eq!((gone::f(&rt.frame()), gone::f(&rt.frame())), (5, 6));
    rt.unload("gone").unwrap();
    rt.collect().unwrap();
    assert!(matches!(rt.unload("gone"), Err(Error::NotLoaded { .. })));
    let again = load(rt, shop.module("gone", 4, source));
    assert_eq!(again.modules[0].version, 4, "numbers go on after an unload");
    assert_eq!(gone::f(&rt.frame()), 5);
}

/// What is at an address, or None if nothing is mapped there.
#[cfg(target_os = "macos")]
fn read_own_memory(address: u64, len: usize) -> Option<Vec<u8>> {
    let (mut bytes, mut read) = (vec![0; len], 0);
    // SAFETY: mach/mach_vm.h: writes so many bytes to the buffer, or fails.
    let result = unsafe {
        let task = mach2::traps::mach_task_self();
        let buffer = bytes.as_mut_ptr().expose_provenance() as u64;
        mach2::vm::mach_vm_read_overwrite(task, address, len as u64, buffer, &mut read)
    };
    (result == 0).then_some(bytes)
}

/// What is at an address, or None if nothing is mapped there.
#[cfg(target_os = "linux")]
fn read_own_memory(address: u64, len: usize) -> Option<Vec<u8>> {
    use std::os::unix::fs::FileExt;
    let mut bytes = vec![0; len];
    let memory = std::fs::File::open("/proc/self/mem").expect("/proc is mounted");
    memory.read_exact_at(&mut bytes, address).ok().map(|()| bytes)
}

#[test]
fn data_relocations_and_libc_imports_work() {
    let (rt, shop, _turn) = start("data");
    let source = "#include <string.h>
                  #include <math.h>
                  static int state = 40;
                  static int one(void) { return 1; }
                  static int two(void) { return 2; }
                  static int (*const functions[])(void) = { one, two };
                  static char zeroes[300000];
                  int next(void) { return ++state; }
                  int table(int i) { return functions[i](); }
                  long big(void) {
                      memset(zeroes, 1, sizeof zeroes);
                      long sum = 0;
                      for (unsigned i = 0; i < sizeof zeroes; i++) sum += zeroes[i];
                      return sum + (long)cbrt(27.0 + sum * 0);
                  }";
    // Of the C library on macOS.
    let library: &[&str] = if support::is_macho() { &[] } else { &["-lm"] };
    load(rt, shop.module_for(std::env::consts::ARCH, "data", 1, source, library));
    let frame = rt.frame();
    assert_eq!((data::next(&frame), data::next(&frame)), (41, 42));
    // SAFETY: it has two.
    assert_eq!([0, 1].map(|at| unsafe { data::table(&frame, at) }), [1, 2]);
    assert_eq!(data::big(&frame), 300_003);
}

#[test]
fn assembly_functions_need_no_type() {
    let (rt, shop, _turn) = start("assembly");
    let source = "__asm__(\".text\\n.globl bare\\nbare: .byte 0\\n\"); int unused_bare;";
    let body = if cfg!(target_arch = "x86_64") { "mov $6, %eax\\nret" } else { "mov w0, #6\\nret" };
    let source = source.replace(".byte 0", body);
    load(rt, shop.module("assembly", 1, &source));
    assert_eq!(assembly::bare(&rt.frame()), 6);
}

#[test]
fn handles_are_the_same_runtime_on_every_thread() {
    let (rt, shop, _turn) = start("shared");
    load(rt, shop.module("shared", 1, &returns("number", 7)));
    let other = std::thread::spawn(|| shared::number(&Runtime::start().unwrap().frame()));
    assert_eq!(other.join().unwrap(), 7);
}
