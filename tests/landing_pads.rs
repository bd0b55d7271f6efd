//! AArch64's branch target identification: a module whose code says that it has landing pads runs
//! with them enforced, as under ld.so, and any other runs as it is.
#![cfg(all(target_arch = "aarch64", target_os = "linux"))]

mod support;

use std::os::unix::process::ExitStatusExt;

use midflight::Source;
use support::{start, this_test};

midflight::module! {
    unsafe mod padded { safe fn proper() -> i32; safe fn stray() -> i32; }
}

/// `stray` calls by a pointer what has no landing pad.
const SOURCE: &str = "int without(void); static int with(void) { return 41; }
    asm(\".text\\n.globl without\\n.hidden without\\n.type without, %function\\n\"
        \"without: mov w0, #42\\nret\\n.size without, 8\");
    static int (*volatile good)(void) = with; static int (*volatile bad)(void) = without;
    int proper(void) { return good() + 1; } int stray(void) { return bad(); }";

const GUARDED: &str = "-mbranch-protection=bti";

/// With the variable it is the child, which loads the module that is named by it.
#[test]
fn what_the_module_says_is_enforced() {
    let (rt, shop, _turn) = start("landing-pads");
    if support::is_macho() {
        return;
    }
    if let Ok(path) = std::env::var("MIDFLIGHT_TEST_STRAY") {
        // SAFETY: C code with the declared types; where it goes wrong is what is looked at.
        unsafe { rt.load(Source::linked("padded", [path])) }.unwrap();
        assert_eq!(padded::stray(&rt.frame()), 42);
        return;
    }
    // SAFETY: reads a word that the kernel gave the process.
    let enforced = unsafe { libc::getauxval(libc::AT_HWCAP2) } & 1 << 17 != 0;
    let library = |version, flags: &[&str]| {
        shop.module_for(std::env::consts::ARCH, "padded", version, SOURCE, &[&["-nostdlib"], flags].concat())
    };
    // Code in assembly says nothing, and is part of the same file here, so that the compiler's word
    // counts for it.
    for (file, guarded) in [
        (library(1, &[GUARDED]), true),
        (library(2, &["-mbranch-protection=none"]), false),
        (shop.object("guarded.c", SOURCE, &["-O1", "-fPIC", GUARDED]), true),
        (shop.object("plain.c", SOURCE, &["-O1", "-fPIC", "-mbranch-protection=none"]), false),
    ] {
        // SAFETY: as above; these are loaded over each other, so that one takes the pages of
        // another.
        unsafe { rt.load(Source::linked("padded", [&file])) }.unwrap();
        assert_eq!(padded::proper(&rt.frame()), 42, "{}", file.display());
        let mut child = this_test("what_the_module_says_is_enforced");
        let status = child.env("MIDFLIGHT_TEST_STRAY", &file).output().unwrap().status;
        let expected = if guarded && enforced { Some(libc::SIGILL) } else { None };
        assert_eq!(status.signal(), expected, "{} {status}", file.display());
    }
}
