//! Mach-O modules, compiled for arm64-apple-macos, in the AArch64 Linux runtime.
#![cfg(all(target_os = "linux", target_arch = "aarch64"))]

mod support;

use midflight::{Error, Runtime, Source};

midflight::module! {
    unsafe mod counter {
        safe fn next() -> i32;
        safe fn version() -> i32;
        unsafe fn word(at: usize) -> *const u8;
    }
    unsafe mod front { safe fn twice(x: i32) -> i32; }
    unsafe mod back { safe fn back_value() -> i32; }
    unsafe mod flat { safe fn flat_sum(x: i32) -> i32; }
    unsafe mod own { safe fn bump() -> i32; safe fn address() -> usize; safe fn fill(byte: i32) -> i32; }
    unsafe mod thrower { safe fn caught(n: i32) -> i32; }
    unsafe mod parts { safe fn total() -> i32; safe fn begun() -> i32; }
    unsafe mod said { safe fn answer() -> i32; }
    mod texts { unsafe fn text(into: *mut u8, size: usize, n: i32, x: f64) -> i32; }
}

fn load(rt: Runtime, source: impl Into<Source>) {
    // SAFETY: the modules have the functions as declared above.
    unsafe { rt.load(source) }.unwrap();
}

#[test]
fn a_dylib_is_called_replaced_and_unloaded() {
    let Some((rt, shop, _turn)) = support::start_macho("macho") else { return };
    let source = |version: i32| {
        format!(
            "static const char *const words[] = {{ \"zero\", \"one\", \"version {version}\" }};
             static int count = {version} * 100;
             static int *const at = &count;
             int next(void) {{ return ++*at; }}
             int version(void) {{ return {version}; }}
             const char *word(unsigned long at) {{ return words[at]; }}"
        )
    };
    load(rt, shop.macho("counter", 1, &source(1), &[]));
    let frame = rt.frame();
    assert_eq!([counter::next(&frame), counter::next(&frame), counter::version(&frame)], [101, 102, 1]);
    // SAFETY: a string of the module's, which the frame holds.
    let word = unsafe { std::ffi::CStr::from_ptr(counter::word(&frame, 2).cast()) };
    assert_eq!(word, c"version 1");
    load(rt, shop.macho("counter", 2, &source(2), &["-no_fixup_chains"]));
    assert_eq!(counter::version(&frame), 1, "a frame stays in its version");
    drop(frame);
    let frame = rt.frame();
    assert_eq!([counter::next(&frame), counter::version(&frame)], [201, 2]);
    // SAFETY: as above.
    let word = unsafe { std::ffi::CStr::from_ptr(counter::word(&frame, 1).cast()) };
    assert_eq!(word, c"one");
    drop(frame);
    load(rt, shop.macho("counter", 3, &source(3), &["-bundle"]));
    assert_eq!(counter::version(&rt.frame()), 3);
    rt.unload("counter").unwrap();
    let left = rt.collect().unwrap();
    assert_eq!((left.held, left.retained), (0, 0));
}

#[test]
fn what_a_module_says_of_itself_is_read() {
    let Some((rt, shop, _turn)) = support::start_macho("macho-notes") else { return };
    let header = format!("{}/include/runtime_module.h", env!("CARGO_MANIFEST_DIR"));
    let source = format!(
        "#include \"{header}\"
         RUNTIME_MODULE(\"said\", \"2.5\")
         static int ready;
         int module_init(void) {{ ready = 42; return 0; }}
         int answer(void) {{ return ready; }}"
    );
    load(rt, shop.macho("unsaid", 1, &source, &["-dead_strip"]));
    assert_eq!(said::answer(&rt.frame()), 42);
    rt.unload("said").unwrap();
    load(rt, shop.macho_object("said.c", &source, &[]));
    assert_eq!(said::answer(&rt.frame()), 42);
    rt.unload("said").unwrap();
}

#[test]
fn imports_bind_to_the_process_and_to_modules() {
    let Some((rt, shop, _turn)) = support::start_macho("macho-imports") else { return };
    let back = shop.macho("back", 1, "int back_value(void) { return 20; }", &[]);
    // Two-level: linked against the other library, which says where the name is.
    let front = "int back_value(void);
                 void *malloc(unsigned long); void free(void *); void *memcpy(void *, const void *, unsigned long);
                 __attribute__((weak_import)) int nobody_has_this(void);
                 int twice(int x) {
                     if (nobody_has_this) return -1;
                     int *copy = malloc(sizeof x);
                     memcpy(copy, &x, sizeof x);
                     int result = *copy * 2 + back_value();
                     free(copy);
                     return result;
                 }";
    let front = shop.macho("front", 1, front, &[back.to_str().unwrap()]);
    load(rt, &back);
    load(rt, &front);
    assert_eq!(front::twice(&rt.frame(), 4), 28);
    load(rt, shop.macho("back", 2, "int back_value(void) { return 30; }", &[]));
    assert_eq!(front::twice(&rt.frame(), 4), 38, "through the trampoline");
    let flat = "int back_value(void); int flat_sum(int x) { return x + back_value(); }";
    load(rt, shop.macho("flat", 1, flat, &[]));
    assert_eq!(flat::flat_sum(&rt.frame(), 1), 31);
    // What is in that library, and not there, is nowhere.
    let lacking = shop.macho("back", 3, "int other_value(void) { return 1; }", &[]);
    // SAFETY: nothing is loaded.
    let error = unsafe { rt.load(&lacking) }.unwrap_err();
    assert!(
        matches!(&error, Error::MissingFunctions { symbols, .. } if symbols == &["back_value"]),
        "{error}"
    );
    assert_eq!(flat::flat_sum(&rt.frame(), 1), 31);
    for module in ["flat", "front", "back"] {
        rt.unload(module).unwrap();
    }
}

#[test]
fn a_library_that_may_be_missing_may_be_missing() {
    let Some((rt, shop, _turn)) = support::start_macho("macho-optional") else { return };
    let absent = shop.macho("absent", 1, "int in_absent(void) { return 1; }", &[]);
    let source = "__attribute__((weak_import)) int in_absent(void);
                  int flat_sum(int x) { return in_absent ? -1 : x; }";
    let absent = absent.to_str().unwrap();
    load(rt, shop.macho("flat", 1, source, &["-weak_library", absent]));
    assert_eq!(flat::flat_sum(&rt.frame(), 5), 5);
    // One that must be there, and is neither a module nor a library of this system.
    let source = "int in_absent(void); int flat_sum(int x) { return in_absent() + x; }";
    // SAFETY: nothing is loaded.
    let error = unsafe { rt.load(shop.macho("flat", 2, source, &[absent])) }.unwrap_err();
    assert!(matches!(&error, Error::Library { library, .. } if library == "libabsent.dylib"), "{error}");
    rt.unload("flat").unwrap();
}

#[test]
fn thread_locals_are_each_threads_own() {
    let Some((rt, shop, _turn)) = support::start_macho("macho-tlv") else { return };
    let source = "static _Thread_local int count = 7;
                  static _Thread_local char room[300];
                  int bump(void) { return ++count; }
                  unsigned long address(void) { return (unsigned long)&count; }
                  int fill(int byte) {
                      int sum = 0;
                      for (int i = 0; i < 300; i++) { sum += room[i]; room[i] = byte; }
                      return sum;
                  }";
    for version in 1..4 {
        load(rt, shop.macho("own", version, source, &[]));
        let here = own::address(&rt.frame());
        assert_eq!([own::bump(&rt.frame()), own::bump(&rt.frame()), own::fill(&rt.frame(), 2)], [8, 9, 0]);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert_ne!(own::address(&rt.frame()), here);
                assert_eq!([own::bump(&rt.frame()), own::fill(&rt.frame(), 1)], [8, 0]);
                assert_eq!(own::fill(&rt.frame(), 0), 300);
            });
        });
        assert_eq!([own::bump(&rt.frame()), own::fill(&rt.frame(), 0)], [10, 600]);
    }
    rt.unload("own").unwrap();
}

#[test]
fn exceptions_are_caught_in_the_module() {
    let Some((rt, shop, _turn)) = support::start_macho("macho-throw") else { return };
    let source = "struct Counted { int *at; ~Counted() { ++*at; } };
                  __attribute__((noinline)) static void thrower(int n, int *ended) {
                      Counted counted { ended };
                      if (n > 2) throw n;
                      if (n > 1) throw 1.5;
                      ++*ended;
                  }
                  extern \"C\" int caught(int n) {
                      int ended = 0;
                      try { thrower(n, &ended); }
                      catch (int thrown) { return thrown * 10 + ended; }
                      catch (double) { return 1000 + ended; }
                      return ended;
                  }";
    let with_library = |path: std::path::PathBuf| Source::from(path).needs("libstdc++.so.6");
    load(rt, with_library(shop.macho("thrower", 1, source, &["-x", "c++"])));
    assert_eq!([1, 2, 5].map(|n| thrower::caught(&rt.frame(), n)), [2, 1001, 51]);
    let object = shop.macho_object("thrower.cpp", source, &[]);
    load(rt, Source::linked("thrower", [object]).needs("libstdc++.so.6"));
    assert_eq!([1, 2, 5].map(|n| thrower::caught(&rt.frame(), n)), [2, 1001, 51]);
    rt.unload("thrower").unwrap();
}

#[test]
fn object_files_and_archives_are_linked_as_they_are_loaded() {
    let Some((rt, shop, _turn)) = support::start_macho("macho-objects") else { return };
    let main = "extern int part(int); extern int shared; static int ready; static _Thread_local int own = 5;
                __attribute__((constructor)) static void begin(void) { ready = 1; }
                int begun(void) { return ready; }
                int total(void) { return part(1) + shared + own++; }";
    let part =
        |n| format!("int shared = {n}; static int *at = &shared; int part(int x) {{ return x + *at; }}");
    let main = shop.macho_object("main.c", main, &[]);
    let first = shop.macho_object("part1.c", &part(10), &[]);
    load(rt, Source::linked("parts", [&main, &first]));
    assert_eq!(
        [parts::total(&rt.frame()), parts::total(&rt.frame()), parts::begun(&rt.frame())],
        [26, 27, 1]
    );
    let second = shop.macho_object("part2.c", &part(100), &["-O0"]);
    let archive = shop.macho_archive("libpart.a", &[&second]);
    load(rt, Source::linked("parts", [&main, &archive]));
    assert_eq!([parts::total(&rt.frame()), parts::begun(&rt.frame())], [206, 1]);
    rt.unload("parts").unwrap();
}

#[test]
fn variadic_functions_of_the_c_library_are_called_as_linux_calls_them() {
    let Some((rt, shop, _turn)) = support::start_macho("macho-variadic") else { return };
    let source = "int snprintf(char *, unsigned long, const char *, ...);
                  int text(char *into, unsigned long size, int n, double x) {
                      return snprintf(into, size, \"%d %.2f %s %c %lld\", n, x, \"word\", 'c', 1ll << 40);
                  }";
    load(rt, shop.macho("texts", 1, source, &[]));
    let mut text = [0; 64];
    // SAFETY: the text is that long.
    let length = unsafe { texts::text(&rt.frame(), text.as_mut_ptr(), text.len(), 42, 2.5) };
    assert_eq!(&text[..length as usize], b"42 2.50 word c 1099511627776");
    // And those for which that cannot be done are refused by name.
    let refused =
        "int execl(const char *, ...); int text(void) { return execl(\"/bin/true\", \"true\", 0); }";
    // SAFETY: nothing is loaded.
    let error = unsafe { rt.load(shop.macho("texts", 2, refused, &[])) }.unwrap_err();
    assert!(matches!(&error, Error::Convention { symbol, .. } if symbol == "execl"), "{error}");
    rt.unload("texts").unwrap();
}
