//! What the tests of the C API share. They call it as C would: through its functions only.
#![allow(dead_code, reason = "each test binary uses its part")]

#[path = "../../../../tests/support/mod.rs"]
mod shared;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use midflight::ErrorKind;
use midflight_c::hot_reload::*;
use midflight_c::runtime_core::*;
use midflight_c::runtime_types::*;

#[allow(unused_imports, reason = "as above")]
pub(crate) use shared::{
    MACHINES, Workshop, count_mappings, host_compiler, is_emulated, library_name, mappings, this_test,
};

/// The runtime, started with defaults, for one test at a time; stopped at its end.
pub(crate) struct Session {
    workshop: Workshop,
    _turn: MutexGuard<'static, ()>,
}

impl std::ops::Deref for Session {
    type Target = Workshop;
    fn deref(&self) -> &Workshop {
        &self.workshop
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Whatever a test has come to.
        runtime_shutdown();
    }
}

pub(crate) fn stopped(name: &str) -> Session {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    Session { workshop: Workshop::new(&format!("capi-{name}")), _turn: turn }
}

pub(crate) fn start(name: &str) -> Session {
    start_with(name, &RuntimeConfig::default())
}

pub(crate) fn start_with(name: &str, config: &RuntimeConfig) -> Session {
    let session = stopped(name);
    ok(init(config));
    session
}

pub(crate) fn init(config: &RuntimeConfig) -> c_int {
    // SAFETY: a configuration.
    unsafe { runtime_init(config) }
}

pub(crate) fn last() -> String {
    // SAFETY: never NULL, and it stays until the next failure.
    unsafe { CStr::from_ptr(runtime_last_error()) }.to_string_lossy().into_owned()
}

#[track_caller]
pub(crate) fn ok(code: c_int) {
    assert_eq!(code, 0, "{}", last());
}

/// That a call failed with a code, and a message that says something.
#[track_caller]
pub(crate) fn fails(code: c_int, kind: ErrorKind, message: &str) {
    assert_eq!(code, kind as c_int, "{}", last());
    assert!(last().contains(message), "`{message}` is not in `{}`", last());
}

pub(crate) fn c(path: impl AsRef<Path>) -> CString {
    CString::new(path.as_ref().as_os_str().as_bytes()).unwrap()
}

pub(crate) fn reload(path: impl AsRef<Path>) -> c_int {
    // SAFETY: the tests' modules are sound.
    unsafe { hot_reload_module(c(path).as_ptr(), ptr::null()) }
}

pub(crate) fn reload_with(path: impl AsRef<Path>, config: &HotReloadConfig) -> c_int {
    // SAFETY: as above.
    unsafe { hot_reload_module(c(path).as_ptr(), config) }
}

pub(crate) fn reload_all(paths: &[PathBuf], config: &HotReloadConfig) -> c_int {
    let strings: Vec<CString> = paths.iter().map(c).collect();
    let pointers: Vec<*const c_char> = strings.iter().map(|string| string.as_ptr()).collect();
    // SAFETY: as above.
    unsafe { hot_reload_modules_atomic(pointers.as_ptr(), pointers.len() as u32, config) }
}

pub(crate) fn unload(module: &CStr) -> c_int {
    // SAFETY: a string.
    unsafe { hot_reload_unload(module.as_ptr()) }
}

pub(crate) fn rollback(module: &CStr) -> c_int {
    // SAFETY: a string.
    unsafe { hot_reload_rollback(module.as_ptr()) }
}

/// The address of a function, and the code.
pub(crate) fn look_up(module: &CStr, symbol: &CStr) -> (c_int, *mut c_void) {
    let mut address = ptr::dangling_mut();
    // SAFETY: strings, and a place for the address.
    let code = unsafe { hot_reload_frame_symbol(module.as_ptr(), symbol.as_ptr(), &mut address) };
    (code, address)
}

/// Calls `int symbol(void)` in a frame.
#[track_caller]
pub(crate) fn call(module: &CStr, symbol: &CStr) -> c_int {
    let (code, address) = look_up(module, symbol);
    ok(code);
    let mut frame = RuntimeFrame::default();
    // SAFETY: the tests' functions are of this type, and called in a frame.
    unsafe {
        ok(runtime_frame_begin(&mut frame));
        let function: extern "C" fn() -> c_int = std::mem::transmute(address);
        let result = function();
        ok(runtime_frame_end(&mut frame));
        result
    }
}

pub(crate) fn status() -> RuntimeStatus {
    let mut status = RuntimeStatus::default();
    // SAFETY: a place for it.
    ok(unsafe { runtime_get_status(&mut status) });
    status
}

/// The runtime's own threads: the kernel may count others, that tests are done with.
pub(crate) fn own_threads() -> usize {
    threads().iter().filter(|name| name.starts_with("midflight")).count()
}

/// The names of this process's threads.
#[cfg(target_os = "linux")]
pub(crate) fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    tasks.map(|task| std::fs::read_to_string(task.join("comm")).unwrap_or_default()).collect()
}

/// The names of this process's threads (sys/proc_info.h).
#[cfg(target_os = "macos")]
pub(crate) fn threads() -> Vec<String> {
    const PROC_PIDLISTTHREADS: c_int = 6;
    let mut handles = [0_u64; 1024];
    // SAFETY: writes at most what there is room for, and returns how many bytes.
    let listed = unsafe {
        libc::proc_pidinfo(
            libc::getpid(),
            PROC_PIDLISTTHREADS,
            0,
            handles.as_mut_ptr().cast(),
            size_of_val(&handles) as c_int,
        )
    };
    assert!(listed > 0, "{}", std::io::Error::last_os_error());
    let name = |handle: &u64| {
        // SAFETY: plain numbers and characters.
        let mut info: libc::proc_threadinfo = unsafe { std::mem::zeroed() };
        let size = size_of_val(&info) as c_int;
        // SAFETY: as above. A thread that is over has no name.
        unsafe {
            libc::proc_pidinfo(
                libc::getpid(),
                libc::PROC_PIDTHREADINFO,
                *handle,
                (&raw mut info).cast(),
                size,
            )
        };
        // SAFETY: a string, as the last character stays zero.
        unsafe { CStr::from_ptr(info.pth_name.as_ptr()) }.to_string_lossy().into_owned()
    };
    handles[..listed as usize / 8].iter().map(name).collect()
}

/// That the runtime has so many threads, soon: one that is new has the process's name, and one that
/// was joined is there until the kernel has taken it away.
#[track_caller]
pub(crate) fn own_threads_become(threads: usize) {
    let begun = std::time::Instant::now();
    while own_threads() != threads {
        assert!(begun.elapsed().as_secs() < 10, "{} threads, not {threads}", own_threads());
        std::thread::yield_now();
    }
}

pub(crate) fn statistics() -> HotReloadStats {
    let mut stats = HotReloadStats::default();
    // SAFETY: a place for it.
    ok(unsafe { hot_reload_get_statistics(&mut stats) });
    stats
}

/// `int value(void)` that returns a number.
pub(crate) fn returns(number: i32) -> String {
    format!("int value(void) {{ return {number}; }}")
}

pub(crate) fn text(pointer: *const c_char) -> String {
    // SAFETY: the callbacks' strings.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

/// The folder of the headers.
pub(crate) fn include() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../include")
}

/// The folders of the headers of earlier versions.
pub(crate) fn earlier_headers() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/c-api/earlier");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let folders: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    assert!(!folders.is_empty());
    folders
}

/// The library that was built with this test: `libmidflight_c` with that ending.
pub(crate) fn library(ending: &str) -> PathBuf {
    let deps = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let is_it = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("libmidflight_c") && name.ends_with(&format!(".{ending}"))
    };
    let found = std::fs::read_dir(&deps).unwrap().map(|entry| entry.unwrap().path()).filter(is_it);
    found
        .max_by_key(|path| path.metadata().unwrap().modified().unwrap())
        .expect("cargo builds it with the tests")
}
