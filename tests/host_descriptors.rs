//! Programs that close descriptors which they did not open, as whoever becomes a daemon does, and
//! have files of their own under the same numbers afterwards. The runtime neither writes to these,
//! nor reads or closes them, and goes on.

#![cfg(target_os = "linux")]

mod support;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Duration;

use midflight::{Config, LoadOptions, Runtime};
use support::{DONE, Workshop, is_child, library_name};

midflight::module! {
    unsafe mod closing { safe fn number() -> i32; }
}

/// Functions, constants and variables, so that each kind of page is written; one constant is filled
/// in by the module's own code.
fn version(shop: &Workshop, number: u32) -> PathBuf {
    let source = format!(
        "static int value(void) {{ return {number}; }}
         static int (*choose(void))(void) {{ return value; }}
         int chosen(void) __attribute__((ifunc(\"choose\")));
         static volatile int variable = {number};
         static int (*const function)(void) = chosen;
         int (*const *volatile place)(void) = &function;
         int number(void) {{ return variable == (*place)() ? {number} : -1; }}"
    );
    shop.module("closing", number, &source)
}

fn load(rt: Runtime, path: &Path) {
    // SAFETY: the tests' modules have the function as declared.
    unsafe { rt.load(path) }.unwrap();
}

/// The program's own files, which get the lowest numbers that are free.
struct Own(Vec<(PathBuf, File, String)>);

impl Own {
    fn open(shop: &Workshop) -> Self {
        let open = |n: usize| {
            let (path, text) = (shop.path(&format!("own-{n}")), format!("the program's own data {n}"));
            let mut file =
                File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            (path, file, text)
        };
        Self((0..40).map(open).collect())
    }

    fn are_untouched(&self) {
        for (path, file, text) in &self.0 {
            assert_eq!(fs::read_to_string(path).unwrap(), *text);
            // Open still, and at its end.
            assert_eq!((&*file).read(&mut [0]).unwrap(), 0);
            // SAFETY: a descriptor of this test's.
            assert_eq!(unsafe { libc::lseek(file.as_raw_fd(), 0, libc::SEEK_CUR) }, text.len() as i64);
        }
    }
}

/// All but those of input and output.
fn close_all() {
    // At once: a thread that opens a file meanwhile is not to lose it.
    // SAFETY: what becomes of whoever had them is what is tested.
    assert_eq!(unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) }, 0);
}

#[test]
fn loads_go_on_after_all_descriptors_were_closed() {
    if !is_child("loads_go_on_after_all_descriptors_were_closed") {
        return;
    }
    let shop = Workshop::new("closed");
    let versions = [1, 2, 3].map(|n| version(&shop, n));
    let dumps = shop.path("dumps");
    fs::create_dir(&dumps).unwrap();
    let mut config = Config::default();
    config.perf_map = true;
    config.jitdump = Some(dumps.clone());
    let rt = Runtime::start_with(config).unwrap();
    // Pages of versions that were freed wait to be written again.
    for round in 0..6 {
        load(rt, &versions[round % 2]);
    }
    let recorded = || {
        let dump = fs::read_dir(&dumps).unwrap().next().unwrap().unwrap().path();
        [dump, format!("/tmp/perf-{}.map", std::process::id()).into()]
            .map(|path| fs::metadata(path).unwrap().len())
    };
    let before = recorded();
    close_all();
    let own = Own::open(&shop);
    for round in 0..12 {
        load(rt, &versions[round % 3]);
        assert_eq!(closing::number(&rt.frame()), round as i32 % 3 + 1);
        rt.collect().unwrap();
        own.are_untouched();
    }
    assert!(recorded().iter().zip(before).all(|(now, before)| *now > before), "{before:?}");
    // Once more, without anything being opened: there is nothing under the numbers.
    std::mem::forget(own);
    close_all();
    load(rt, &versions[0]);
    assert_eq!(closing::number(&rt.frame()), 1);
    rt.unload("closing").unwrap();
    let _ = fs::remove_file(format!("/tmp/perf-{}.map", std::process::id()));
    println!("{DONE}");
}

/// A file of the program's is put under each number that the runtime has, without its being closed
/// before.
#[test]
fn loads_go_on_after_numbers_were_taken_over() {
    if !is_child("loads_go_on_after_numbers_were_taken_over") {
        return;
    }
    let shop = Workshop::new("taken-over");
    let versions = [1, 2].map(|n| version(&shop, n));
    let path = shop.file("own", b"the program's own data");
    let before: Vec<i32> = numbers();
    let rt = Runtime::start().unwrap();
    load(rt, &versions[0]);
    let own = File::options().read(true).write(true).open(&path).unwrap();
    for number in numbers().into_iter().filter(|number| !before.contains(number)) {
        // SAFETY: two numbers.
        unsafe { libc::dup2(own.as_raw_fd(), number) };
    }
    for round in 0..8 {
        load(rt, &versions[round % 2]);
        assert_eq!(closing::number(&rt.frame()), round as i32 % 2 + 1);
        assert_eq!(fs::read(&path).unwrap(), b"the program's own data");
    }
    println!("{DONE}");
}

/// Those that are open.
fn numbers() -> Vec<i32> {
    // SAFETY: a question.
    (3..1024).filter(|&number| unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0).collect()
}

#[test]
fn a_watch_goes_on_after_all_descriptors_were_closed() {
    if !is_child("a_watch_goes_on_after_all_descriptors_were_closed") {
        return;
    }
    let shop = Workshop::new("closed-watch");
    let watched = shop.path(&library_name("closing"));
    let versions = [1, 2, 3, 4].map(|n| version(&shop, n));
    let write = |n: usize| {
        fs::copy(&versions[n], watched.with_extension("new")).unwrap();
        fs::rename(watched.with_extension("new"), &watched).unwrap();
    };
    write(0);
    let rt = Runtime::start().unwrap();
    load(rt, &watched);
    let (tell, told) = channel();
    // SAFETY: as for `load`.
    unsafe {
        rt.watch(&watched, &LoadOptions::default(), move |_, result| {
            tell.send(result.map(drop).map_err(|error| error.to_string())).unwrap();
        })
    }
    .unwrap();
    let next = || told.recv_timeout(Duration::from_secs(60)).expect("the change is noticed");
    write(1);
    next().unwrap();
    for n in [2, 3] {
        close_all();
        let own = Own::open(&shop);
        write(n);
        next().unwrap();
        assert_eq!(closing::number(&rt.frame()), n as i32 + 1);
        own.are_untouched();
        std::mem::forget(own);
    }
    // What waits for the thread that watches does not wait for ever, also when nothing happens any
    // more.
    close_all();
    let own = Own::open(&shop);
    rt.unwatch(&watched).unwrap();
    // SAFETY: as above.
    unsafe { rt.watch(&watched, &LoadOptions::default(), |_, _| {}) }.unwrap();
    close_all();
    std::mem::forget(own);
    let own = Own::open(&shop);
    rt.shutdown().unwrap();
    own.are_untouched();
    println!("{DONE}");
}
