//! Modules linked as `linker/` says, by GNU ld and lld, where pages have 64 KiB.

#![cfg(target_os = "linux")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use midflight::{Config, Runtime};
use support::{Workshop, mappings};

midflight::module! {
    unsafe mod linked {
        safe fn counted() -> i32;
        safe fn caught(value: i32) -> i32;
        safe fn local() -> i32;
        safe fn table() -> usize;
        safe fn constant() -> usize;
        safe fn variable() -> usize;
    }
}

const LINKER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/linker");
const PAGE: usize = 65536;

/// Something for every part of the layout.
const SOURCE: &str = r#"
    #include "runtime_module.h"
    RUNTIME_MODULE("linked", "1")
    #define SHOWN extern "C" __attribute__((visibility("default")))
    static int begun, zeros[5];
    static volatile int started = 3;
    static thread_local volatile int initial = 4, none;
    struct Begins { Begins() { begun = started; } ~Begins() { zeros[0] = 1; } };
    static Begins begins;
    static __attribute__((noinline)) void fails(int value) { if (value) throw value; }
    SHOWN int counted(void) { return begun + zeros[1]++; }
    SHOWN int caught(int value) { try { fails(value); } catch (int thrown) { return thrown + 1; } return 0; }
    SHOWN int local(void) { return initial + none++; }
    extern "C" __attribute__((visibility("hidden"))) int (*const both[])(void) = {counted, local};
    SHOWN unsigned long table(void) { return (unsigned long)both; }
    static const char text[] = "constant";
    SHOWN unsigned long constant(void) { return (unsigned long)text; }
    SHOWN unsigned long variable(void) { return (unsigned long)&zeros; }
"#;

/// The lines of a file of flags that are no comments, as `scripts/install` installs it.
fn flags(name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(Path::new(LINKER).join(name)).unwrap();
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(String::from).collect()
}

/// GNU ld by gcc; lld by clang, where that is installed.
fn linkers() -> Vec<(&'static str, Command)> {
    let arch = std::env::consts::ARCH;
    let mut linkers = vec![("GNU ld", Command::new(format!("{arch}-linux-gnu-g++")))];
    let mut clang = Command::new("clang++-19");
    if clang.arg("--version").output().is_ok_and(|output| output.status.success()) {
        clang = Command::new("clang++-19");
        clang.args([&format!("--target={arch}-linux-gnu"), "-fuse-ld=lld"]);
        linkers.push(("lld", clang));
    }
    linkers
}

fn module(shop: &Workshop, number: usize, mut linker: Command, more: &[&str]) -> PathBuf {
    let output = shop.path(&format!("file{number}.so"));
    linker.args(["-O1", "-ffunction-sections", "-fdata-sections", "-fvisibility=hidden", "-s"]);
    linker.arg(concat!("-I", env!("CARGO_MANIFEST_DIR"), "/include"));
    linker.args(flags("module.flags")).arg("-Wl,--gc-sections").args(more).arg("-o").arg(&output);
    let told = linker.arg(shop.file("linked.cpp", SOURCE.as_bytes())).output().unwrap();
    assert!(told.status.success() && told.stderr.is_empty(), "{}", String::from_utf8_lossy(&told.stderr));
    output
}

/// What may be done with the memory at an address, as /proc/self/maps has it.
fn access(address: usize) -> String {
    let maps = mappings();
    let line = maps.lines().find(|line| {
        let (from, to) = line.split(' ').next().and_then(|range| range.split_once('-')).unwrap();
        let number = |text| usize::from_str_radix(text, 16).unwrap();
        (number(from)..number(to)).contains(&address)
    });
    line.unwrap_or_else(|| panic!("{address:#x} is not mapped")).split(' ').nth(1).unwrap()[..3].to_owned()
}

#[test]
fn every_form_of_the_link_line_is_a_module_for_large_pages() {
    // A host that is emulated may have small pages: these are the runtime's.
    let mut config = Config::default();
    config.page_size = Some(PAGE);
    let rt = Runtime::start_with(config).unwrap();
    let shop = Workshop::new("linking");
    let script = |name| format!("-Wl,-T,{LINKER}/{name}");
    let forms = [vec![], vec![script("module-note.ld")], vec![script("module.ld")]];
    let mut number = 0;
    for form in &forms {
        let form: Vec<&str> = form.iter().map(String::as_str).collect();
        for (linker, command) in linkers() {
            let path = module(&shop, number, command, &form);
            number += 1;
            // SAFETY: the module has the functions as declared.
            let published =
                unsafe { rt.load(&path) }.unwrap_or_else(|error| panic!("{linker} {form:?}: {error}"));
            // The file's name is another: so the note is there.
            assert_eq!(published.modules[0].name, "linked", "{linker} {form:?}");
            let frame = rt.frame();
            assert_eq!((linked::counted(&frame), linked::counted(&frame)), (3, 4), "{linker} {form:?}");
            assert_eq!((linked::caught(&frame, 6), linked::caught(&frame, 0)), (7, 0), "{linker} {form:?}");
            assert_eq!((linked::local(&frame), linked::local(&frame)), (4, 5), "{linker} {form:?}");
            let [table, constant, variable] =
                [linked::table(&frame), linked::constant(&frame), linked::variable(&frame)].map(access);
            assert_eq!([&*table, &*constant, &*variable], ["r--", "r--", "rw-"], "{linker} {form:?}");
            drop(frame);
            rt.unload("linked").unwrap();
            assert_eq!(rt.collect().unwrap().old_bytes, 0, "{linker} {form:?}");
        }
    }
}

#[test]
fn flags_are_one_to_a_line() {
    for name in ["module.flags", "libmidflight.flags"] {
        for flag in flags(name) {
            assert!(flag.starts_with('-') && !flag.contains(char::is_whitespace), "{name}: {flag:?}");
        }
    }
}
