//! Constructors get what ld.so passes to those of a library: the program's arguments and its
//! environment.

mod support;

use std::env;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use midflight::{Runtime, Source};
use support::*;

midflight::module! {
    unsafe mod constructed { safe fn count() -> i32; safe fn hash() -> u64; safe fn sees() -> i32; }
    unsafe mod rusty { safe fn count() -> i32; safe fn hash() -> u64; safe fn sees() -> i32; }
}

/// `hash` is FNV-1a of all arguments, each with its 0. `sees` says whether the environment has the
/// variable that the test sets.
const C: &str = r#"
#include <string.h>
static int kept_count, seen;
static unsigned long long kept_hash;
__attribute__((constructor)) static void begin(int count, char **arguments, char **environment) {
    kept_count = count;
    kept_hash = 0xcbf29ce484222325u;
    for (int i = 0; i < count; i++)
        for (const char *at = arguments[i];; at++) {
            kept_hash = (kept_hash ^ (unsigned char)*at) * 0x100000001b3u;
            if (!*at) break;
        }
    if (arguments[count]) kept_count = -1;
    for (; *environment; environment++) seen |= !strcmp(*environment, "MIDFLIGHT_TEST_SEEN=a value");
}
int count(void) { return kept_count; }
unsigned long long hash(void) { return kept_hash; }
int sees(void) { return seen; }
"#;

const RUST: &str = r#"
use std::os::unix::ffi::OsStrExt;

#[unsafe(no_mangle)]
extern "C" fn count() -> i32 {
    std::env::args_os().count() as i32
}

#[unsafe(no_mangle)]
extern "C" fn hash() -> u64 {
    std::env::args_os().fold(0xcbf2_9ce4_8422_2325, |hash, argument| {
        argument.as_bytes().iter().chain(&[0]).fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
    })
}

#[unsafe(no_mangle)]
extern "C" fn sees() -> i32 {
    i32::from(std::env::var_os("MIDFLIGHT_TEST_SEEN").is_some_and(|value| value == "a value"))
}
"#;

fn load(rt: Runtime, source: impl Into<Source>) {
    // SAFETY: the tests' modules have the functions as declared above.
    unsafe { rt.load(source) }.unwrap();
}

/// What each of the modules' forms was given, against what this program was.
fn check() {
    let (rt, shop, _turn) = start("arguments");
    let bytes = env::args_os().flat_map(|argument| [argument.as_bytes(), &[0]].concat());
    let hash = bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let expected = (env::args_os().count() as i32, hash, 1);
    assert!(expected.0 > 0);
    let library = shop.module("constructed", 1, C);
    let object = shop.object("constructed.c", C, &["-fPIC"]);
    for (form, source) in
        [("library", Source::from(library)), ("object", Source::linked("constructed", [object]))]
    {
        load(rt, source);
        let frame = rt.frame();
        let found = (constructed::count(&frame), constructed::hash(&frame), constructed::sees(&frame));
        assert_eq!(found, expected, "{form}");
    }
    if is_bridged() {
        // Linux has not the functions by which Apple's standard library asks.
        return;
    }
    let versions: [PathBuf; 2] = [1, 2].map(|n| shop.rust("rusty", n, RUST, &["-O"]));
    for version in versions {
        load(rt, version);
        let frame = rt.frame();
        assert_eq!((rusty::count(&frame), rusty::hash(&frame), rusty::sees(&frame)), expected);
    }
}

#[test]
fn constructors_get_the_arguments_and_the_environment() {
    const NAME: &str = "constructors_get_the_arguments_and_the_environment";
    const CHILD: &str = "MIDFLIGHT_TEST_ARGUMENTS";
    if env::var_os(CHILD).is_some() {
        // As it is when the module is loaded, not when the program was started.
        // SAFETY: no other thread of this process is in the environment: the harness waits for this
        // test.
        unsafe { env::set_var("MIDFLIGHT_TEST_SEEN", "a value") };
        return check();
    }
    // None of them is a test's name.
    for extra in [&[][..], &[OsStr::new("two words")], &[OsStr::new("-"), OsStr::from_bytes(b"n\xc3\xb6")]] {
        let output = this_test(NAME).args(extra).env(CHILD, "1").output().unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }
}
