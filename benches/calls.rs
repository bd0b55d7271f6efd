//! What a call costs, by each way of making it, beside a plain call through a pointer from dlopen.
//!
//! `cargo bench -p midflight-benches --bench calls`

use std::ffi::CString;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;

use criterion::{Criterion, criterion_group, criterion_main};
use midflight::Runtime;

midflight::module! {
    unsafe mod called { safe fn next(x: u64) -> u64; }
}

type Next = extern "C" fn(u64) -> u64;

/// The module's, as linkers take it.
const NAME: &str =
    if cfg!(target_os = "macos") { "-Wl,-install_name,libcalled.dylib" } else { "-Wl,-soname,libcalled.so" };

fn build() -> PathBuf {
    let folder = std::env::temp_dir();
    let (input, output) = (folder.join("midflight-bench-calls.c"), folder.join("midflight-bench-calls.so"));
    std::fs::write(&input, "unsigned long next(unsigned long x) { return x + 1; }")
        .expect("writing the module's source");
    let status = Command::new("cc")
        .args(["-O2", "-fPIC", "-shared", NAME, "-o"])
        .args([&output, &input])
        .status()
        .expect("a C compiler");
    assert!(status.success());
    output
}

fn plain_pointer(path: &Path) -> Next {
    let path = CString::new(path.as_os_str().as_encoded_bytes()).expect("no NUL in a path");
    // SAFETY: the module has no constructors of its own, and `next` is as declared.
    unsafe {
        let handle = libc::dlopen(path.as_ptr(), libc::RTLD_NOW);
        assert!(!handle.is_null());
        let address = libc::dlsym(handle, c"next".as_ptr());
        assert!(!address.is_null());
        std::mem::transmute::<*mut libc::c_void, Next>(address)
    }
}

fn calls(c: &mut Criterion) {
    let path = build();
    let rt = Runtime::start().expect("the runtime");
    // SAFETY: `next` is as declared.
    unsafe { rt.load(&path) }.expect("the module");
    let pointer = Box::new(plain_pointer(&path));
    // SAFETY: `next` is as declared.
    let trampoline: Next = unsafe { std::mem::transmute(rt.symbol("called", "next").expect("the function")) };

    let mut group = c.benchmark_group("call");
    let mut x = 0;
    group.bench_function("function pointer in memory", |b| {
        b.iter(|| x = (*black_box(&pointer))(x));
    });
    let frame = rt.frame();
    group.bench_function("in a frame", |b| b.iter(|| x = called::next(black_box(&frame), x)));
    drop(frame);
    group.bench_function("trampoline", |b| b.iter(|| x = black_box(trampoline)(x)));
    black_box(x);
    group.finish();

    let mut group = c.benchmark_group("frame");
    // Looked at by reference: `black_box` of a frame copies it, by a wide load of two narrow stores
    // that no core forwards (10 ns).
    let open_and_close = || {
        black_box(&rt.frame());
    };
    group.bench_function("open and close", |b| b.iter(open_and_close));
    let outer = rt.frame();
    group.bench_function("within a frame", |b| b.iter(open_and_close));
    drop(outer);
    let shared = rt.frame().share();
    let join_and_leave = || {
        black_box(&shared.join());
    };
    group.bench_function("join and leave", |b| b.iter(join_and_leave));
    group.finish();
}

criterion_group!(benches, calls);
criterion_main!(benches);
