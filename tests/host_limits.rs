//! Limits that the process has (setrlimit(2)): a load works within them, or is refused by name; it
//! never ends the process.

#![cfg(target_os = "linux")]

mod support;

use std::fs::File;
use std::path::{Path, PathBuf};

use midflight::{Config, Error, Runtime};
use support::{DONE, Workshop, is_child, library_name};

midflight::module! {
    unsafe mod limited { safe fn number() -> i32; }
}

fn limit(what: libc::__rlimit_resource_t, to: u64) {
    let limit = libc::rlimit { rlim_cur: to, rlim_max: libc::RLIM_INFINITY };
    let mut before = limit;
    // SAFETY: room for the limits.
    unsafe {
        assert_eq!(libc::getrlimit(what, &raw mut before), 0);
        let limit = libc::rlimit { rlim_cur: to.min(before.rlim_max), ..before };
        assert_eq!(libc::setrlimit(what, &raw const limit), 0);
    }
}

fn version(shop: &Workshop, number: u32) -> PathBuf {
    let source = format!("static volatile int n = {number}; int number(void) {{ return n; }}");
    shop.module("limited", number, &source)
}

fn load(rt: Runtime, path: &Path) -> Result<i32, Error> {
    // SAFETY: the tests' modules have the function as declared.
    unsafe { rt.load(path) }?;
    Ok(limited::number(&rt.frame()))
}

/// Memory behind a descriptor is a file too, for RLIMIT_FSIZE, whose signal ends the process.
#[test]
fn files_may_be_small() {
    if !is_child("files_may_be_small") {
        return;
    }
    let shop = Workshop::new("small-files");
    let versions = [1, 2, 3].map(|n| version(&shop, n));
    limit(libc::RLIMIT_FSIZE, 2 << 20);
    let rt = Runtime::start().unwrap();
    assert_eq!(load(rt, &versions[0]).unwrap(), 1);
    limit(libc::RLIMIT_FSIZE, 0);
    assert_eq!(load(rt, &versions[1]).unwrap(), 2);
    limit(libc::RLIMIT_FSIZE, libc::RLIM_INFINITY);
    assert_eq!(load(rt, &versions[2]).unwrap(), 3);
    println!("{DONE}");
}

/// The limit comes when there is such memory, and pages of it that are to be written again.
#[test]
fn files_may_be_small_from_now_on() {
    if !is_child("files_may_be_small_from_now_on") {
        return;
    }
    let shop = Workshop::new("small-later");
    let versions = [1, 2, 3].map(|n| version(&shop, n));
    let rt = Runtime::start().unwrap();
    for (round, to) in [libc::RLIM_INFINITY, 0, 1 << 20, libc::RLIM_INFINITY, 4096].into_iter().enumerate() {
        for again in 0..4 {
            let n = (round + again) % 3;
            assert_eq!(load(rt, &versions[n]).unwrap(), n as i32 + 1);
            limit(libc::RLIMIT_FSIZE, to);
        }
        rt.collect().unwrap();
    }
    println!("{DONE}");
}

/// What is written for profilers is as long as the code: the load is refused, and the process goes
/// on.
#[test]
fn records_that_may_not_grow_are_errors() {
    if !is_child("records_that_may_not_grow_are_errors") {
        return;
    }
    let shop = Workshop::new("small-records");
    let versions = [1, 2].map(|n| version(&shop, n));
    let mut config = Config::default();
    config.jitdump = Some(shop.path("."));
    let rt = Runtime::start_with(config).unwrap();
    assert_eq!(load(rt, &versions[0]).unwrap(), 1);
    limit(libc::RLIMIT_FSIZE, 64);
    let error = load(rt, &versions[1]).unwrap_err();
    assert!(matches!(error, Error::Profile { .. }), "{error}");
    assert!(error.to_string().contains("ulimit -f") && error.to_string().contains("jit-"), "{error}");
    assert_eq!(limited::number(&rt.frame()), 1);
    println!("{DONE}");
}

#[test]
fn there_may_be_no_descriptors_left() {
    if !is_child("there_may_be_no_descriptors_left") {
        return;
    }
    let shop = Workshop::new("no-descriptors");
    let versions = [1, 2].map(|n| version(&shop, n));
    limit(libc::RLIMIT_NOFILE, 64);
    let mut taken = Vec::new();
    let full = loop {
        match File::open("/dev/null") {
            Ok(file) => taken.push(file),
            Err(error) => break error,
        }
    };
    assert_eq!(full.raw_os_error(), Some(libc::EMFILE));
    let rt = Runtime::start().unwrap();
    let error = load(rt, &versions[0]).unwrap_err();
    assert!(error.to_string().contains(&library_name("limited")), "{error}");
    // The file's own, and none for memory.
    taken.pop();
    assert_eq!(load(rt, &versions[0]).unwrap(), 1);
    assert_eq!(load(rt, &versions[1]).unwrap(), 2);
    drop(taken);
    assert_eq!(load(rt, &versions[0]).unwrap(), 1);
    println!("{DONE}");
}

/// An arena is 64 MiB of address space, of which a small module needs little. (QEMU has address
/// space of its own.)
#[test]
fn there_may_be_little_address_space() {
    if !is_child("there_may_be_little_address_space") {
        return;
    }
    let shop = Workshop::new("little-space");
    let versions = [1, 2].map(|n| version(&shop, n));
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = status.split(' ').next().unwrap().parse().unwrap();
    let page = region::page::size() as u64;
    limit(libc::RLIMIT_AS, pages * page + (16 << 20));
    let rt = Runtime::start().unwrap();
    assert_eq!(load(rt, &versions[0]).unwrap(), 1);
    assert_eq!(load(rt, &versions[1]).unwrap(), 2);
    println!("{DONE}");
}
