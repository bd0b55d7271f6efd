//! A module that has everything that must be given back: thread-locals with destructors, static
//! objects, exceptions, threads of its own, and threads of the host that come and go; loaded,
//! called, replaced and unloaded many times. Its own process and a single test, so that nothing
//! else maps or allocates meanwhile.
//!
//! `scripts/soak-loader` runs it over 100,000 cycles, and under a leak checker.
//!
//! On Linux only: it asks glibc's allocator and /proc what is in use.

#![cfg(target_os = "linux")]

mod support;

use std::sync::mpsc;
use std::thread;

use midflight::Runtime;
use support::{Workshop, count_mappings, is_emulated, mappings};

/// What the module counts in the host.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Counts {
    statics_made: u64,
    statics_destroyed: u64,
    thread_locals_made: u64,
    thread_locals_destroyed: u64,
    caught: u64,
}

midflight::module! {
    mod cycled { unsafe fn work(counts: *mut Counts, depth: i32) -> i32; }
}

const SOURCE: &str = r#"
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

struct Counts { unsigned long statics_made, statics_destroyed, thread_locals_made, thread_locals_destroyed, caught; };

static void add(unsigned long &count) { __atomic_fetch_add(&count, 1, __ATOMIC_RELAXED); }

struct Static {
    Counts *counts;
    std::vector<std::string> data = std::vector<std::string>(20, "long enough to be on the heap");
    explicit Static(Counts *counts) : counts(counts) { add(counts->statics_made); }
    ~Static() { add(counts->statics_destroyed); }
};

struct PerThread {
    Counts *counts = nullptr;
    std::string data = std::string(200, 'x');
    ~PerThread() { if (counts) add(counts->thread_locals_destroyed); }
};
static thread_local PerThread per_thread;
static thread_local char zeros[5000];

static int fall(int depth) {
    std::string here(100, 'y');
    if (depth == 0) throw std::runtime_error(here);
    return fall(depth - 1) + (int)here.size();
}

static int once(Counts *counts, int depth) {
    static Static object(counts);
    if (!per_thread.counts) {
        per_thread.counts = counts;
        add(counts->thread_locals_made);
    }
    if (zeros[VERSION] != 0) return -1;
    try {
        return fall(depth);
    } catch (const std::exception &error) {
        add(counts->caught);
        return VERSION + (int)std::string(error.what()).size();
    }
}

extern "C" int work(Counts *counts, int depth) {
    int here = once(counts, depth), there = 0;
    std::thread([&] { there = once(counts, depth); }).join();
    return here == there ? here : -1;
}
"#;

/// Cycles before the first measurement: the heap, and under QEMU the translated code, have found
/// their size.
const WARM: usize = 1_000;

#[test]
fn nothing_grows_and_everything_is_destroyed() {
    let cycles = std::env::var("MIDFLIGHT_CYCLES").map_or(2_000, |cycles| cycles.parse().expect("a number"));
    // One arena, which is the one that mallinfo2 reports.
    // SAFETY: no other thread is here yet.
    assert_eq!(unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) }, 1);
    let shop = Workshop::new("cycles");
    let versions = [0, 1].map(|n| {
        let version = format!("-DVERSION={n}");
        shop.cpp("cycled", n, SOURCE, &["-pthread", &version])
    });
    let rt = Runtime::start().unwrap();
    let counts = Box::into_raw(Box::new(Counts::default()));
    let call = move |counts: *mut Counts, cycle: usize| {
        let version = cycle as i32 % 2;
        // Each thread is inside of a frame of its own.
        // SAFETY: the counts are never freed, and only atomics touch them.
        assert_eq!(unsafe { cycled::work(&rt.frame(), counts, cycle as i32 % 7) }, version + 100);
    };

    // A thread that outlives every version: its thread-locals go when the version does.
    let (send, receive) = mpsc::sync_channel::<(usize, usize)>(0);
    let (done, wait) = mpsc::sync_channel(0);
    let stays = thread::spawn(move || {
        for (counts, cycle) in receive {
            call(counts as *mut Counts, cycle);
            done.send(()).expect("the test waits");
        }
    });

    let mut warm = None;
    for cycle in 0..cycles {
        if cycle == WARM {
            warm = Some(measure());
        }
        // SAFETY: as declared, and the module keeps no address.
        unsafe { rt.load(&versions[cycle % 2]) }.unwrap();
        call(counts, cycle);
        send.send((counts as usize, cycle)).expect("the thread stays");
        wait.recv().expect("the thread stays");
        let address = counts as usize;
        thread::spawn(move || call(address as *mut Counts, cycle)).join().expect("no panic");
        if cycle % 10 == 9 {
            rt.unload("cycled").unwrap();
        }
    }
    if rt.unload("cycled").is_ok() {
        assert_ne!(cycles % 10, 0);
    }
    let left = rt.collect().unwrap();
    assert_eq!((left.held, left.retained, left.busy), (0, 0, 0), "{left:?}");
    drop(send);

    // Per cycle: three threads of the host, and one of the module for each.
    let (cycles, threads) = (cycles as u64, 6 * cycles as u64);
    // SAFETY: nobody writes any more: the module is gone.
    let counted = unsafe { *Box::from_raw(counts) };
    let expected = Counts {
        statics_made: cycles,
        statics_destroyed: cycles,
        thread_locals_made: threads,
        thread_locals_destroyed: threads,
        caught: threads,
    };
    assert_eq!(counted, expected);

    let (warm, end) = (warm.expect("more cycles than warm up"), measure());
    println!("after {WARM} cycles: {warm:?}\nafter {cycles}: {end:?}");
    stays.join().expect("no panic");
    assert!(end.mappings <= warm.mappings, "{warm:?} to {end:?}\n{}", mappings());
    // The C library counts what its caches for threads hold; that varies by some kilobytes, but not
    // with the cycles.
    assert!(end.heap <= warm.heap + 16 * 1024, "{warm:?} to {end:?}");
    // Under QEMU the process's memory holds the emulator's translations too, which are evicted by
    // size alone.
    if !is_emulated() {
        assert!(end.resident <= warm.resident + 512 * 1024, "{warm:?} to {end:?}");
    }
}

/// What the process has: mappings, bytes of the heap in use (the runtime's and the modules'), bytes
/// of memory.
#[derive(Clone, Copy, Debug)]
struct Footprint {
    mappings: usize,
    heap: usize,
    resident: usize,
}

fn measure() -> Footprint {
    // The first is thrown away: reading /proc allocates.
    let _ = (count_mappings(), resident());
    // SAFETY: it only reads.
    let heap = unsafe { libc::mallinfo2() };
    Footprint { mappings: count_mappings(), heap: heap.uordblks + heap.hblkhd, resident: resident() }
}

fn resident() -> usize {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").expect("/proc is mounted");
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).expect("smaps_rollup has Rss");
    line.split_whitespace().next().and_then(|kib| kib.parse::<usize>().ok()).expect("a number of kB") * 1024
}
