//! Object files and static archives as modules: no linker is run.

mod support;

use midflight::{Error, Runtime, Source};
use support::start;

midflight::module! {
    unsafe mod object {
        safe fn sum(n: i32) -> i64;
        safe fn name(kind: i32) -> usize;
        unsafe fn format(x: f64, into: *mut u8, size: usize) -> i32;
        safe fn count() -> i32;
    }
    unsafe mod several { safe fn answer() -> i32; safe fn order() -> i32; safe fn shared_counter() -> i32; }
    unsafe mod whole { safe fn first() -> i32; safe fn second() -> i32; }
    unsafe mod caller { safe fn twice(x: i32) -> i32; }
    unsafe mod callee { safe fn once(x: i32) -> i32; }
    unsafe mod direct { safe fn where_is_environ() -> usize; }
    unsafe mod large { safe fn spread(i: u32) -> i32; }
    unsafe mod synced { safe fn answer() -> i32; }
    unsafe mod atomics { safe fn bump(by: i64) -> i64; safe fn swap(to: i32) -> i32; }
}

/// What the compilers of this machine write with and without position-independent code, at every
/// level.
const WAYS: [&[&str]; 9] = [
    &["-O0", "-fPIC"],
    &["-O1", "-fPIC"],
    &["-O2", "-fPIC", "-ffunction-sections", "-fdata-sections"],
    &["-O3", "-fPIC", "-g"],
    &["-O2", "-fPIC", "-fno-plt"],
    &["-O2", "-fPIE"],
    &["-O0", "-fno-pie", "-g"],
    &["-O2", "-fno-pie"],
    &["-O3", "-fno-pie", "-ffunction-sections"],
];

const OBJECT: &str = r#"
    #include <math.h>
    #include <stdio.h>
    #include <string.h>
    static const char *const names[] = { "zero", "one", "two", "three" };
    static int calls = 40;
    int weights[] = { 1, 2, 3, 5, 8, 13, 21 };
    extern int absent(void) __attribute__((weak));
    static long long add(long long a, int b) { return a + b; }
    static long long sub(long long a, int b) { return a - b; }
    static long long (*const steps[])(long long, int) = { add, sub };
    long long sum(int n) {
        long long total = 0;
        for (int i = 0; i < n; i++) total = steps[i & 1](total, weights[i % 7]);
        return absent ? absent() : total;
    }
    const char *name(int kind) {
        switch (kind) {
        case 0: return names[0];
        case 1: return "uno";
        case 2: return names[2];
        case 3: return strchr("so three", 't');
        case 4: return "four";
        case 5: return "five";
        default: return "many";
        }
    }
    int format(double x, char *into, unsigned long size) {
        return snprintf(into, size, "%.3f %s", sqrt(x) * 1.5, names[3]);
    }
    int count(void) { return ++calls; }
"#;

fn load(rt: Runtime, source: impl Into<Source>) {
    // SAFETY: the files have the functions as they are declared above.
    unsafe { rt.load(source) }.unwrap();
}

fn text(address: usize) -> String {
    // SAFETY: a C string of the module, which is loaded.
    unsafe { std::ffi::CStr::from_ptr(address as *const _) }.to_str().unwrap().to_owned()
}

#[test]
fn objects_of_every_way_to_compile_run() {
    let (rt, shop, _turn) = start("objects-ways");
    for (number, arguments) in WAYS.iter().enumerate() {
        let object = shop.object(&format!("way{number}.c"), OBJECT, arguments);
        load(rt, Source::linked("object", [object]).needs("libm.so.6"));
        let frame = rt.frame();
        let expected = (0..100).fold(0, |total, i: i64| {
            let weight = [1, 2, 3, 5, 8, 13, 21][i as usize % 7];
            if i % 2 == 0 { total + weight } else { total - weight }
        });
        assert_eq!(object::sum(&frame, 100), expected, "{arguments:?}");
        let names: Vec<_> = (0..7).map(|kind| text(object::name(&frame, kind))).collect();
        assert_eq!(names, ["zero", "uno", "two", "three", "four", "five", "many"], "{arguments:?}");
        let mut line = [0; 32];
        // SAFETY: the line is that long.
        let written = unsafe { object::format(&frame, 2.25, line.as_mut_ptr(), line.len()) };
        assert_eq!(&line[..written as usize], b"2.250 three", "{arguments:?}");
        assert_eq!((object::count(&frame), object::count(&frame)), (41, 42), "{arguments:?}");
    }
}

#[test]
fn several_objects_and_an_archive_are_one_module() {
    let (rt, shop, _turn) = start("objects-several");
    let main = shop.object(
        "main.c",
        "int helper(int); int trail; int answer(void) { return helper(20) + trail; } int order(void) { return trail; }
         __attribute__((constructor(200))) static void second(void) { trail = trail * 10 + 2; }
         __attribute__((constructor(101))) static void first(void) { trail = trail * 10 + 1; }
         __attribute__((constructor)) static void last(void) { trail = trail * 10 + 3; }
         int common_block[4]; int shared_counter(void) { return common_block[3]; }",
        &["-O1", "-fPIC", "-fcommon"],
    );
    let other = shop.object(
        "other.c",
        "int common_block[8]; __attribute__((constructor)) static void set(void) { common_block[3] = 77; }",
        &["-O1", "-fPIC", "-fcommon"],
    );
    let used =
        shop.object("used.c", "int deeper(int); int helper(int x) { return deeper(x) + 1; }", &["-fPIC"]);
    let deeper = shop.object("deeper.c", "int deeper(int x) { return 2 * x; }", &["-fPIC"]);
    // Would not link: nobody defines what it wants. Nobody wants it either.
    let unused =
        shop.object("unused.c", "int nobody(void); int unused(void) { return nobody(); }", &["-fPIC"]);
    let archive = shop.archive("libhelp.a", &[&deeper, &unused, &used]);
    load(rt, Source::linked("several", [&main, &other, &archive]));
    let frame = rt.frame();
    assert_eq!(several::order(&frame), 123);
    assert_eq!(several::answer(&frame), 41 + 123);
    assert_eq!(several::shared_counter(&frame), 77, "common blocks of two files are one");
}

/// gcc calls functions of libgcc.a for these on AArch64, which no linker adds here.
#[test]
fn atomics_need_no_library() {
    let (rt, shop, _turn) = start("objects-atomics");
    let source = "static long counter = 40; static int word = 7;
         long bump(long by) { return __atomic_add_fetch(&counter, by, __ATOMIC_SEQ_CST); }
         int swap(int to) { int old = 7; __atomic_compare_exchange_n(&word, &old, to, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
                            return __atomic_exchange_n(&word, 9, __ATOMIC_RELEASE); }";
    load(rt, shop.object("atomics.c", source, &["-O2", "-fPIC"]));
    let frame = rt.frame();
    assert_eq!((atomics::bump(&frame, 1), atomics::bump(&frame, 1)), (41, 42));
    assert_eq!((atomics::swap(&frame, 8), atomics::swap(&frame, 8)), (8, 9));
}

/// And others for the older builtins, of which each is a full barrier: of every operation and every
/// width.
#[test]
fn older_atomics_need_no_library_either() {
    let (rt, shop, _turn) = start("objects-sync");
    let source = "#include <stdint.h>
        #define CHECK(type) static type v##type = 40; static int check##type(void) {
            v##type = 40; int right = 0;
            right += __sync_fetch_and_add(&v##type, 2) == 40 && v##type == 42;
            right += __sync_fetch_and_sub(&v##type, 1) == 42 && v##type == 41;
            right += __sync_fetch_and_or(&v##type, 2) == 41 && v##type == 43;
            right += __sync_fetch_and_and(&v##type, 42) == 43 && v##type == 42;
            right += __sync_fetch_and_xor(&v##type, 3) == 42 && v##type == 41;
            right += __sync_bool_compare_and_swap(&v##type, 41, 7) && v##type == 7;
            right += __sync_val_compare_and_swap(&v##type, 41, 8) == 7 && v##type == 7;
            right += __sync_lock_test_and_set(&v##type, 9) == 7 && v##type == 9;
            return right; }
        CHECK(int8_t) CHECK(uint16_t) CHECK(int32_t) CHECK(int64_t)
        int answer(void) { return checkint8_t() + checkuint16_t() + checkint32_t() + checkint64_t(); }";
    let source = source.replace(" {\n", " { \\\n").replace(";\n            ", "; \\\n            ");
    load(rt, shop.object("synced.c", &source, &["-O2", "-fPIC"]));
    assert_eq!(synced::answer(&rt.frame()), 32);
}

#[test]
fn an_archive_alone_is_taken_whole() {
    let (rt, shop, _turn) = start("objects-archive");
    let first = shop.object("first.c", "int first(void) { return 1; }", &["-fPIC"]);
    let second =
        shop.object("second.c", "int first(void); int second(void) { return first() + 1; }", &["-fPIC"]);
    let archive = shop.archive("libwhole.a", &[&first, &second]);
    load(rt, &archive);
    assert_eq!((whole::first(&rt.frame()), whole::second(&rt.frame())), (1, 2));
    rt.unload("whole").unwrap();
}

#[test]
fn modules_call_each_other_across_forms() {
    let (rt, shop, _turn) = start("objects-mixed");
    let caller = shop.object(
        "caller.c",
        "int once(int); int twice(int x) { return once(once(x)); }",
        &["-O2", "-fno-pie"],
    );
    let callee = |n: i32| shop.module("callee", n as u32, &format!("int once(int x) {{ return x + {n}; }}"));
    // SAFETY: as declared.
    unsafe { rt.load_all([Source::from(&callee(1)), Source::linked("caller", [&caller])]) }.unwrap();
    assert_eq!(caller::twice(&rt.frame(), 5), 7);
    load(rt, callee(10));
    assert_eq!(caller::twice(&rt.frame(), 5), 25, "replaced without relinking the caller");
}

/// Code that is not position-independent reaches so far and no further: the module is placed where
/// it reaches.
#[test]
fn a_module_is_placed_within_reach_of_what_it_uses_directly() {
    let (rt, shop, _turn) = start("objects-reach");
    let source = "extern char **environ; void *where_is_environ(void) { return &environ; }";
    load(rt, shop.object("direct.c", source, &["-O2", "-fPIE"]));
    unsafe extern "C" {
        static environ: *const u8;
    }
    let expected = &raw const environ as usize;
    assert_eq!(direct::where_is_environ(&rt.frame()), expected);
}

#[test]
fn a_large_object_and_its_reload_give_back_their_memory() {
    let (rt, shop, _turn) = start("objects-large");
    let functions: String = (0..500).map(|i| format!("int f{i}(int x) {{ return x + {i}; }}\n")).collect();
    let table: String = (0..500).map(|i| format!("f{i},")).collect();
    let source = format!(
        "{functions} static int (*const table[])(int) = {{ {table} }}; int spread(unsigned i) {{ return table[i % 500](1); }}"
    );
    let object = shop.object("large.c", &source, &["-O1", "-fPIC"]);
    let before = support::count_mappings();
    for round in 0..50 {
        load(rt, Source::linked("large", [&object]));
        assert_eq!(large::spread(&rt.frame(), 499 + round * 500), 500);
    }
    rt.unload("large").unwrap();
    rt.collect().unwrap();
    assert!(support::count_mappings() <= before + 16, "{}", support::mappings());
}

#[test]
fn what_is_wrong_with_objects_is_said() {
    let (rt, shop, _turn) = start("objects-wrong");
    let one = shop.object("one.c", "int both(void) { return 1; }", &["-fPIC"]);
    let two = shop.object("two.c", "int both(void) { return 2; }", &["-fPIC"]);
    let missing = shop.object("missing.c", "int nobody(void); int f(void) { return nobody(); }", &["-fPIC"]);
    let local = shop.object(
        "local.c",
        "static __thread int mine = 3; int f(void) { return mine++; }",
        &["-fno-pie", "-O1"],
    );
    let message = |source: Source| -> String {
        // SAFETY: refused before anything of it runs.
        match unsafe { rt.load(source) } {
            Err(error @ (Error::Image { .. } | Error::Unresolved { .. })) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let duplicate = message(Source::linked("wrong", [&one, &two]));
    assert!(["both", "one.o", "two.o"].iter().all(|word| duplicate.contains(word)), "{duplicate}");
    let undefined = message(Source::linked("wrong", [&missing]));
    assert!(undefined.contains("nobody"), "{undefined}");
    // Mach-O has one way only to reach thread-local variables, and that one can be linked.
    if support::is_macho() {
        return;
    }
    let thread_local = message(Source::linked("wrong", [&local]));
    assert!(["local.o", "-fPIC"].iter().all(|word| thread_local.contains(word)), "{thread_local}");
}
