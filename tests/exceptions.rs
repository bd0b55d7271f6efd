//! Exceptions: inside a module, between modules, from and to the host, through frames.

mod support;

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};

use midflight::Runtime;
use support::{start, this_test};

midflight::module! {
    unsafe mod inside { safe fn work(case: i32) -> i32; }
    unsafe mod outer { safe fn catches(value: i32) -> i32; safe fn passes(value: i32) -> i32; safe fn alive() -> i32; }
    unsafe mod inner { safe fn throws(value: i32) -> i32; }
    mod leaf { unsafe fn throws_text(text: *const c_char); }
    unsafe mod calls_back { safe fn call(back: extern "C-unwind" fn(i32), value: i32) -> i32; }
    unsafe mod unended { safe fn caught() -> i32; }
    unsafe mod private_unwinder { safe fn caught() -> i32; }
}

fn load(rt: Runtime, paths: &[&Path]) {
    // SAFETY: the tests' modules have the functions as declared above.
    unsafe { rt.load_all(paths) }.unwrap();
}

const INSIDE: &str = r#"
#include <stdexcept>
#include <string>
#include <vector>
static int ended;
struct Counted { ~Counted() { ended++; } };
static int deep(int depth) {
    Counted here;
    if (depth == 0) throw std::runtime_error("deep");
    return deep(depth - 1) + 1;
}
extern "C" int work(int which) {
    switch (which) {
    case 0: try { throw 42; } catch (int value) { return value; }
    case 1: ended = 0; try { return deep(50); } catch (const std::exception &error) {
        return std::string(error.what()) == "deep" ? ended : -1; }
    case 2: try { try { throw 1; } catch (int) { throw; } } catch (int value) { return value + 1; }
    case 3: try { try { throw 1; } catch (int) { throw std::string("other"); } } catch (const std::string &text) {
        return (int)text.size(); }
    case 4: try { return std::vector<int>().at(3); } catch (const std::out_of_range &) { return 7; }
    case 5: try { return ::operator new(~size_t(0) / 4) != nullptr; } catch (const std::bad_alloc &) { return 8; }
    case 6: try { try { throw 1.5; } catch (int) { return -1; } } catch (...) { return 9; }
    }
    return 0;
}"#;

#[test]
fn thrown_and_caught_inside_a_module_before_and_after_reloads() {
    let (rt, shop, _turn) = start("inside");
    let versions = [1, 2].map(|n| shop.cpp("inside", n, INSIDE, &[]));
    for round in 0..20 {
        load(rt, &[&versions[round % 2]]);
        let frame = rt.frame();
        let results: Vec<i32> = (0..7).map(|case| inside::work(&frame, case)).collect();
        assert_eq!(results, [42, 51, 2, 5, 7, 8, 9], "round {round}");
    }
    let left = rt.collect().unwrap();
    assert_eq!((left.held, left.retained), (0, 0), "replaced versions are gone");
}

#[test]
fn threads_throw_while_versions_come_and_go() {
    let (rt, shop, _turn) = start("threads");
    let versions = [1, 2].map(|n| shop.cpp("inside", n, INSIDE, &[]));
    load(rt, &[&versions[0]]);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let throwing = || {
            let mut thrown = 0;
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(inside::work(&rt.frame(), 2), 2);
                thrown += 1;
            }
            thrown
        };
        let threads = [scope.spawn(throwing), scope.spawn(throwing)];
        for round in 0..200 {
            load(rt, &[&versions[round % 2]]);
        }
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            assert!(thread.join().unwrap() > 0);
        }
    });
    assert_eq!(rt.collect().unwrap().held, 0);
}

const OUTER: &str = r#"
#include <stdexcept>
extern "C" int throws(int value);
static int count;
struct Counted { Counted() { count++; } ~Counted() { count--; } };
extern "C" int catches(int value) {
    Counted here;
    try { Counted there; return throws(value); }
    catch (const std::invalid_argument &error) { return -1; }
    catch (int thrown) { return thrown + VERSION; }
}
extern "C" int passes(int value) { Counted here; return throws(value) + 1; }
extern "C" int alive() { return count; }"#;

const INNER: &str = r#"
#include <stdexcept>
extern "C" int throws(int value) {
    if (value == 0) return 0;
    if (value < 0) throw std::invalid_argument("negative");
    throw value + 10 * VERSION;
}"#;

#[test]
fn thrown_by_one_module_and_caught_by_another() {
    let (rt, shop, _turn) = start("between");
    let outer = [1, 2].map(|n| shop.cpp("outer", n, OUTER, &[&format!("-DVERSION={n}")]));
    let inner = [1, 2].map(|n| shop.cpp("inner", n, INNER, &[&format!("-DVERSION={n}")]));
    load(rt, &[&outer[0], &inner[0]]);
    assert_eq!(outer::catches(&rt.frame(), 100), 111);
    let before = rt.frame();
    load(rt, &[&inner[1]]);
    assert_eq!(outer::catches(&before, 100), 111, "the frame's generation");
    drop(before);
    assert_eq!(outer::catches(&rt.frame(), 100), 121);
    load(rt, &[&outer[1]]);
    assert_eq!(outer::catches(&rt.frame(), 100), 122);
    assert_eq!(outer::catches(&rt.frame(), -5), -1, "by the type of its base");
    assert_eq!((outer::catches(&rt.frame(), 0), outer::alive(&rt.frame())), (0, 0));
}

/// C++ of the host: a library that the test loads, since the test itself is in Rust.
struct HostCpp {
    handle: *mut c_void,
}

impl HostCpp {
    fn load(library: &Path) -> Self {
        let path = CString::new(library.to_str().unwrap()).unwrap();
        // SAFETY: the test's own library.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
        assert!(!handle.is_null(), "{library:?}");
        Self { handle }
    }

    /// # Safety
    ///
    /// `F` is the type of the function.
    unsafe fn function<F: Copy>(&self, name: &CStr) -> F {
        // SAFETY: as the caller says.
        unsafe {
            let address = libc::dlsym(self.handle, name.as_ptr());
            assert!(!address.is_null(), "{name:?}");
            std::mem::transmute_copy(&address)
        }
    }
}

const HOST: &str = r#"
#include <exception>
#include <string.h>
extern "C" int host_catches(int (*call)(int), int value) {
    try { return call(value); } catch (int thrown) { return -thrown; }
}
extern "C" int host_catches_text(void (*call)(const char *), const char *text) {
    try { call(text); return -1; } catch (const std::exception &error) { return strcmp(error.what(), text); }
}
extern "C" void host_throws(int value) { throw value; }"#;

#[test]
fn thrown_by_a_module_through_another_into_the_host() {
    let (rt, shop, _turn) = start("host");
    let host = HostCpp::load(&shop.host_cpp(1, HOST));
    // SAFETY: as the source has it.
    let catches: extern "C" fn(*const (), i32) -> i32 = unsafe { host.function(c"host_catches") };
    let outer = shop.cpp("outer", 1, OUTER, &["-DVERSION=1"]);
    let inner = [1, 2].map(|n| shop.cpp("inner", n, INNER, &[&format!("-DVERSION={n}")]));
    load(rt, &[&outer, &inner[0]]);
    let passes = rt.symbol("outer", "passes").unwrap().as_ptr().cast_const();
    assert_eq!(catches(passes, 5), -15);
    load(rt, &[&inner[1]]);
    assert_eq!(catches(passes, 5), -25, "the module that is thrown from was replaced");
    assert_eq!(catches(passes, 0), 1);
    assert_eq!(outer::alive(&rt.frame()), 0, "the destructors of the module in between have run");

    // SAFETY: as the source has it.
    let catches_text: extern "C" fn(*const (), *const c_char) -> i32 =
        unsafe { host.function(c"host_catches_text") };
    let leaf = "#include <stdexcept>\nextern \"C\" void throws_text(const char *text) { throw std::logic_error(text); }";
    load(rt, &[&shop.cpp("leaf", 1, leaf, &[])]);
    let throws = rt.symbol("leaf", "throws_text").unwrap().as_ptr().cast_const();
    assert_eq!(catches_text(throws, c"as the standard has it".as_ptr()), 0);
    // SAFETY: no thread is inside a module.
    unsafe { rt.collect_escaped() }.unwrap();
}

#[test]
fn a_frame_ends_when_an_exception_passes_it() {
    let (rt, shop, _turn) = start("frames");
    let host = HostCpp::load(&shop.host_cpp(2, HOST));
    // SAFETY: as the source has it.
    let catches: extern "C" fn(*const (), i32) -> i32 = unsafe { host.function(c"host_catches") };
    let outer = shop.cpp("outer", 1, OUTER, &["-DVERSION=1"]);
    let inner = [1, 2].map(|n| shop.cpp("inner", n, INNER, &[&format!("-DVERSION={n}")]));
    load(rt, &[&outer, &inner[0]]);

    static DROPPED: AtomicI32 = AtomicI32::new(0);
    struct Dropped;
    impl Drop for Dropped {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
    extern "C-unwind" fn in_a_frame(value: i32) -> i32 {
        let frame = Runtime::start().unwrap().frame();
        let _dropped = Dropped;
        outer::passes(&frame, value)
    }
    for round in 0..10 {
        assert_eq!(catches(in_a_frame as *const (), 5), -15 - 10 * (round % 2));
        assert_eq!(DROPPED.load(Ordering::Relaxed), round + 1);
        // Had the frame not ended, the generation would be held, and this thread's next frame would
        // be in it.
        load(rt, &[&inner[(round as usize + 1) % 2]]);
        assert_eq!(rt.collect().unwrap().held, 0, "round {round}");
    }
}

#[test]
fn thrown_by_the_host_through_a_module() {
    let (rt, shop, _turn) = start("callback");
    let host = HostCpp::load(&shop.host_cpp(3, HOST));
    // SAFETY: as the source has it.
    let throws: extern "C-unwind" fn(i32) = unsafe { host.function(c"host_throws") };
    let source = "extern \"C\" int call(void (*back)(int), int value) {
                      try { back(value); return -1; } catch (int thrown) { return thrown; } }";
    load(rt, &[&shop.cpp("calls_back", 1, source, &[])]);
    assert_eq!(calls_back::call(&rt.frame(), throws, 17), 17);
}

// ELF's: in Mach-O the section's length says where it ends.
#[cfg(target_os = "linux")]
#[test]
fn a_module_without_the_end_of_its_unwind_table() {
    let (rt, shop, _turn) = start("unended");
    let source = "#include <stdexcept>
                  __attribute__((noinline)) static void thrower(int n) { if (n) throw std::runtime_error(\"end\"); }
                  extern \"C\" int caught() { try { thrower(1); return 0; } catch (const std::exception &) { return 3; } }";
    // What ends the table is in one of the compiler's start files.
    let module = shop.cpp("unended", 1, source, &["-nostartfiles"]);
    for _ in 0..10 {
        load(rt, &[&module]);
        assert_eq!(unended::caught(&rt.frame()), 3);
    }
}

// macOS's unwinder cannot be linked into a module.
#[cfg(target_os = "linux")]
#[test]
fn an_unwinder_of_the_modules_own() {
    let (rt, shop, _turn) = start("private");
    let source = "#include <stdexcept>
                  #include <vector>
                  extern \"C\" int caught() { try { return std::vector<int>(1).at(2); } catch (const std::exception &) { return 4; } }";
    let module = shop.cpp("private_unwinder", 1, source, &["-static-libgcc", "-static-libstdc++"]);
    for _ in 0..10 {
        load(rt, &[&module]);
        assert_eq!(private_unwinder::caught(&rt.frame()), 4);
    }
}

#[test]
fn destructors_may_throw_what_they_catch() {
    let (rt, shop, _turn) = start("destructor");
    static CAUGHT: AtomicI32 = AtomicI32::new(0);
    extern "C" fn tell(value: i32) {
        CAUGHT.fetch_add(value, Ordering::Relaxed);
    }
    let source = format!(
        "struct End {{ ~End() {{ try {{ throw 5; }} catch (int value) {{ ((void (*)(int)){}ul)(value); }} }} }} end;",
        tell as *const () as usize
    );
    load(rt, &[&shop.cpp("ending", 1, &source, &[])]);
    rt.unload("ending").unwrap();
    rt.collect().unwrap();
    assert_eq!(CAUGHT.load(Ordering::Relaxed), 5);
}

#[test]
fn a_constructor_that_throws_ends_the_process() {
    const CHILD: &str = "MIDFLIGHT_TEST_THROWING_CONSTRUCTOR";
    let source = "#include <stdexcept>
                  struct Begin { Begin() { throw std::runtime_error(\"thrown at the start\"); } } begin;";
    if std::env::var_os(CHILD).is_some() {
        let (rt, shop, _turn) = start("constructor");
        load(rt, &[&shop.cpp("throwing", 1, source, &[])]);
        unreachable!("the module was loaded");
    }
    let mut child = this_test("a_constructor_that_throws_ends_the_process");
    let output = child.env(CHILD, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(
        text.contains("thrown at the start") || text.contains("an exception left a constructor"),
        "{text}"
    );
    assert!(!text.contains("the module was loaded"), "{text}");
}
