//! A bad module is refused by name, and the old version goes on serving.

mod support;

use std::path::Path;

use midflight::{Error, Runtime};
use support::{Workshop, other_machine, start};

midflight::module! {
    unsafe mod steady { safe fn value() -> i32; }
    unsafe mod promised { safe fn kept() -> i32; safe fn dropped() -> i32; }
    unsafe mod user { safe fn use_it() -> i32; }
    unsafe mod used { safe fn helper() -> i32; }
}

const STEADY: &str = "int value(void) { return 1; }";

/// Loads `steady`, then tries to replace it by `bad`, and returns the error's text when nothing has
/// moved.
fn refused(rt: Runtime, shop: &Workshop, bad: &Path) -> String {
    let good = shop.module("steady", 1, STEADY);
    // SAFETY: `value` has the declared type.
    unsafe { rt.load(&good) }.unwrap();
    refused_again(rt, bad)
}

fn refused_again(rt: Runtime, bad: &Path) -> String {
    let before = rt.frame();
    let (generation, version) = (before.generation(), before.version("steady"));
    drop(before);
    // SAFETY: it is refused before any of it runs.
    let error = unsafe { rt.load(bad) }.expect_err("a bad module was loaded");
    let after = rt.frame();
    assert_eq!((after.generation(), after.version("steady")), (generation, version), "nothing was published");
    assert_eq!(steady::value(&after), 1, "the old version goes on serving");
    let text = error.to_string();
    assert!(text.contains(bad.to_str().unwrap()), "the error names the file: {text}");
    text
}

#[test]
fn a_missing_file() {
    let (rt, shop, _turn) = start("missing");
    let text = refused(rt, &shop, &shop.path("libsteady.so"));
    assert!(text.contains("cannot be read") && text.contains("No such file"), "{text}");
}

#[test]
fn a_file_truncated_at_any_length() {
    let (rt, shop, _turn) = start("truncated");
    // Small, because it is loaded once per byte.
    let small = if support::is_macho() {
        &[][..]
    } else {
        &["-nostdlib", "-s", "-Wl,-z,max-page-size=4096", "-Wl,-z,noseparate-code"]
    };
    let source = "static int two = 2; static int *const at = &two; int value(void) { return *at; }";
    let whole = shop.module_for(std::env::consts::ARCH, "steady", 2, source, small);
    let whole = std::fs::read(whole).unwrap();
    let mut texts = std::collections::BTreeSet::new();
    refused(rt, &shop, &shop.file("cut.so", &[]));
    // The section headers and what only they reach are not loaded, so a cut there may leave a whole
    // module. What must hold at every length: an error that names the file, or a version that
    // works.
    let mut loaded = 0;
    for length in 0..whole.len() {
        let cut = shop.file("cut.so", &whole[..length]);
        // SAFETY: if all that is loaded is there, `value` has the declared type.
        match unsafe { rt.load(&cut) } {
            Ok(_) => {
                loaded += 1;
                assert_eq!(steady::value(&rt.frame()), 2, "cut at {length}");
            }
            Err(error) => {
                assert_eq!(loaded, 0, "cut at {length}: shorter cuts loaded, this one is {error}");
                assert_eq!(steady::value(&rt.frame()), 1, "cut at {length}");
                let text = error.to_string();
                assert!(text.contains("cut.so"), "{text}");
                texts.insert(text.split(": ").nth(1).unwrap_or_default().to_owned());
            }
        }
    }
    assert!(texts.len() > 1, "cuts in different places are told apart: {texts:?}");
}

#[test]
fn a_module_of_the_other_architecture() {
    let (rt, shop, _turn) = start("other");
    let bad = shop.module_for(other_machine(), "steady", 1, STEADY, &["-nostdlib"]);
    let text = refused(rt, &shop, &bad);
    let words =
        if support::is_macho() { ["Mach-O file for x86-64", "-arch arm64"] } else { ["AArch64", "x86-64"] };
    assert!(words.iter().all(|word| text.contains(word)), "{text}");
}

#[test]
fn a_module_with_missing_imports() {
    let (rt, shop, _turn) = start("imports");
    let source = "int nobody_has_this(void); extern int nor_this;
                  int value(void) { return nobody_has_this() + nor_this; }";
    let text = refused(rt, &shop, &shop.module("steady", 2, source));
    assert!(text.contains("nobody_has_this") && text.contains("nor_this"), "all are listed: {text}");
}

#[test]
fn a_file_of_random_bytes() {
    let (rt, shop, _turn) = start("random");
    // A xorshift generator: any bytes do, and the test must not depend on luck.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let good = std::fs::read(shop.module("steady", 1, STEADY)).unwrap();
    refused(rt, &shop, &shop.file("noise.so", b"not ELF at all"));
    for round in 0..200 {
        let mut bytes: Vec<u8> = (0..random() % 8192).map(|_| random() as u8).collect();
        if round % 2 == 0 {
            // With a true file header, so that the noise gets further.
            let header = &good[..64.min(good.len())];
            bytes.splice(..header.len().min(bytes.len()), header.iter().copied());
        }
        refused_again(rt, &shop.file("noise.so", &bytes));
    }
}

#[test]
fn a_version_that_lacks_a_declared_function() {
    let (rt, shop, _turn) = start("promised");
    let text =
        refused(rt, &shop, &shop.module("promised", 1, "int kept(void) { return 1; } int dropped = 2;"));
    assert!(text.contains("`dropped`") && !text.contains("`kept`"), "a variable is no function: {text}");
}

#[test]
fn a_version_that_lacks_what_another_module_calls() {
    let (rt, shop, _turn) = start("callers");
    let user = shop.module("user", 1, "extern int extra(void); int use_it(void) { return extra(); }");
    let used = shop.module("used", 1, "int helper(void) { return 1; } int extra(void) { return 5; }");
    // SAFETY: as declared.
    unsafe { rt.load_all([&user, &used]) }.unwrap();
    assert_eq!(user::use_it(&rt.frame()), 5);
    let text = refused(rt, &shop, &shop.module("used", 2, "int helper(void) { return 2; }"));
    assert!(text.contains("`extra`"), "{text}");
    assert_eq!((user::use_it(&rt.frame()), used::helper(&rt.frame())), (5, 1));
}

#[test]
fn a_variable_of_another_module() {
    let (rt, shop, _turn) = start("variables");
    let a = shop.module("has_variable", 1, "int shared_counter = 3;");
    // SAFETY: it has no functions.
    unsafe { rt.load(&a) }.unwrap();
    let b = shop.module("steady", 2, "extern int shared_counter; int value(void) { return shared_counter; }");
    let text = refused(rt, &shop, &b);
    assert!(text.contains("`shared_counter`") && text.contains("`has_variable`"), "{text}");
    // Nor of one that comes with it.
    rt.unload("has_variable").unwrap();
    // SAFETY: it is refused.
    assert_eq!(unsafe { rt.load_all([&a, &b]) }.unwrap_err().to_string(), text);
}

#[test]
fn a_library_that_is_not_there() {
    let (rt, shop, _turn) = start("library");
    // A library to link with, which is then removed.
    let library = shop.module("absent_library", 1, "int from_library(void) { return 1; }");
    let source = "int from_library(void); int value(void) { return from_library(); }";
    let arguments = [library.to_str().unwrap()];
    let bad = shop.module_for(std::env::consts::ARCH, "steady", 2, source, &arguments);
    std::fs::remove_file(&library).unwrap();
    let text = refused(rt, &shop, &bad);
    assert!(text.contains(&support::library_name("absent_library")), "{text}");
}

#[test]
fn one_bad_file_of_several_moves_none() {
    let (rt, shop, _turn) = start("several");
    let steady_two = shop.module("steady", 2, "int value(void) { return 2; }");
    let used = shop.module("used", 9, "int helper(void) { return 9; } int extra(void) { return 9; }");
    let good = shop.module("steady", 1, STEADY);
    // SAFETY: as declared.
    unsafe { rt.load(&good) }.unwrap();
    let generation = rt.frame().generation();
    let bad = shop.file("bad.so", b"\x7fELF");
    // SAFETY: it is refused.
    let error = unsafe { rt.load_all([&steady_two, &used, &bad]) }.unwrap_err();
    assert!(error.to_string().contains("bad.so"), "{error}");
    // SAFETY: it is refused.
    let error = unsafe { rt.load_all([&steady_two, &good]) }.unwrap_err();
    assert!(matches!(&error, Error::DuplicateModule { module, .. } if module == "steady"), "{error}");
    assert_eq!(rt.frame().generation(), generation);
    assert_eq!(steady::value(&rt.frame()), 1);
}

#[test]
fn a_constructor_that_calls_the_runtime() {
    let (rt, shop, _turn) = start("reentered");
    let good = shop.module("steady", 1, STEADY);
    // SAFETY: as declared.
    unsafe { rt.load(&good) }.unwrap();
    // The constructor calls back through a pointer in the environment, the one thing it can reach
    // without an export.
    extern "C" fn back() {
        let error = Runtime::start().unwrap().collect().unwrap_err();
        assert!(matches!(error, Error::Reentered), "{error}");
        REFUSED.store(true, std::sync::atomic::Ordering::Relaxed);
    }
    static REFUSED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    let source = format!(
        "__attribute__((constructor)) static void init(void) {{ ((void (*)(void)){}ul)(); }}",
        back as *const () as usize
    );
    // SAFETY: the constructor calls a function of this process, with its type.
    unsafe { rt.load(shop.module("reentering", 1, &source)) }.unwrap();
    assert!(REFUSED.load(std::sync::atomic::Ordering::Relaxed));
    rt.collect().unwrap();
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_processor_that_this_is_not() {
    let (rt, shop, _turn) = start("processor");
    if support::is_macho() {
        return;
    }
    let needs = |level: u32, version: u32| {
        let note = format!(
            "asm(\".pushsection .note.gnu.property, \\\"a\\\"\\n.balign 8\\n.long 4, 16, 5\\n.asciz \\\"GNU\\\"\\n\"
                \".long 0xc0008002, 4, {level}, 0\\n.popsection\");"
        );
        shop.module("steady", version, &format!("{note} {STEADY}"))
    };
    // No processor has it.
    let text = refused(rt, &shop, &needs(0x100, 2));
    assert!(text.contains("instruction set") && text.contains("level 8"), "{text}");
    // SAFETY: `value` has the declared type.
    unsafe { rt.load(needs(1, 3)) }.unwrap();
    assert_eq!(steady::value(&rt.frame()), 1, "every processor has the baseline");
}

#[test]
fn a_sanitizer_that_comes_too_late() {
    let (rt, shop, _turn) = start("sanitizer");
    if support::is_macho() {
        return;
    }
    // As -fsanitize has it, without its library, which not every machine has.
    let calls = |symbol: &str, version: u32| {
        let source = format!(
            "extern void {symbol}(void); __attribute__((constructor)) static void begin(void) {{ {symbol}(); }} {STEADY}"
        );
        shop.module("steady", version, &source)
    };
    let text = refused(rt, &shop, &calls("__asan_init", 2));
    assert!(text.contains("`__asan_init`") && text.contains("-fsanitize=address"), "{text}");
    for (symbol, flag, version) in
        [("__tsan_init", "thread", 3), ("__hwasan_init", "hwaddress", 4), ("__msan_init", "memory", 5)]
    {
        let text = refused_again(rt, &calls(symbol, version));
        assert!(text.contains(symbol) && text.contains(&format!("-fsanitize={flag}")), "{text}");
    }
    // By the library alone: that of leaks has nothing in the code.
    let leaks = shop.module_for(
        std::env::consts::ARCH,
        "steady",
        6,
        STEADY,
        &["-Wl,--no-as-needed", "-Wl,-z,undefs", "-fsanitize=leak"],
    );
    let text = refused_again(rt, &leaks);
    assert!(text.contains("liblsan") && text.contains("-fsanitize=leak"), "{text}");
    // What may come at any time.
    let undefined = shop.module_for(std::env::consts::ARCH, "steady", 7, STEADY, &["-fsanitize=undefined"]);
    // SAFETY: `value` has the declared type.
    match unsafe { rt.load(&undefined) } {
        Ok(_) => assert_eq!(steady::value(&rt.frame()), 1),
        // Compilers for another machine come without it.
        Err(Error::Library { library, .. }) => assert!(library.starts_with("libubsan"), "{library}"),
        Err(error) => panic!("{error}"),
    }
}
