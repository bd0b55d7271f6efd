//! Modules of several files, what there is in memory, and options.

mod support;

use std::ffi::{CString, c_char, c_void};
use std::path::PathBuf;
use std::ptr;

use midflight::ErrorKind::{InvalidArgument, Unresolved, Unsupported};
use midflight_c::hot_reload::*;
use midflight_c::options::*;
use midflight_c::runtime_core::*;
use midflight_c::runtime_types::*;
use support::*;

/// Strings as C has them, as long as this is there.
struct Strings(#[expect(dead_code, reason = "what the others lead to")] Vec<CString>, Vec<*const c_char>);

impl Strings {
    fn new(texts: impl IntoIterator<Item = PathBuf>) -> Self {
        let strings: Vec<CString> = texts.into_iter().map(c).collect();
        let pointers = strings.iter().map(|string| string.as_ptr()).collect();
        Self(strings, pointers)
    }
}

fn source(files: &Strings, name: *const c_char, needs: &Strings) -> HotReloadSource {
    HotReloadSource {
        struct_size: size_of::<HotReloadSource>() as u32,
        file_count: files.1.len() as u32,
        files: files.1.as_ptr(),
        name,
        needs: needs.1.as_ptr(),
        need_count: needs.1.len() as u32,
        carry: 0,
    }
}

#[test]
fn several_objects_are_one_module() {
    let session = start("sources");
    let one = session.object("one.c", "int other(void); int value(void) { return other() + 1; }", &[]);
    let two = session.object(
        "two.c",
        "double cbrt(double); double eight = 8; int other(void) { return (int)cbrt(eight); }",
        &[],
    );
    let (files, none) = (Strings::new([one, two]), Strings::new([]));
    let library = if cfg!(target_os = "linux") { "libm.so.6" } else { "libSystem.B.dylib" };
    let needs = Strings::new([library.into()]);
    let load = |source: &HotReloadSource| {
        // SAFETY: a source; the tests' modules are sound.
        unsafe { hot_reload_source(source, ptr::null()) }
    };
    ok(load(&source(&files, c"answer".as_ptr(), &needs)));
    assert_eq!(call(c"answer", c"value"), 3);

    // One that was compiled before there were needs.
    let mut earlier = source(&files, c"answer".as_ptr(), &needs);
    earlier.struct_size = 24;
    ok(load(&earlier));
    // And one that knows more.
    let mut later = [0_u64; 8];
    later[0] = (2 << 32) | 64;
    later[1] = files.1.as_ptr().addr() as u64;
    later[2] = c"answer".as_ptr().addr() as u64;
    ok(load(unsafe_source(&later)));
    later[7] = 1;
    fails(load(unsafe_source(&later)), Unsupported, "source: at offset 56 it is not 0");

    fails(load(&source(&files, ptr::null(), &none)), InvalidArgument, "name is NULL, and there are 2 files");
    fails(load(&source(&none, c"answer".as_ptr(), &none)), InvalidArgument, "file_count is 0");
    let mut bad = source(&files, c"answer".as_ptr(), &none);
    bad.carry = 4;
    fails(load(&bad), InvalidArgument, "source: carry is 4, which is none of hot_reload_carry_t");
    bad.carry = 0;
    bad.struct_size = 0;
    fails(load(&bad), InvalidArgument, "struct_size is 0");
    let absent = Strings::new(["libabsent_of_all.so.1".into()]);
    fails(load(&source(&files, c"answer".as_ptr(), &absent)), Unresolved, "libabsent_of_all");
    // Nothing of these has moved.
    assert_eq!(call(c"answer", c"value"), 3);

    // Two in one publication, of which each calls the other.
    let left = session.object("left.c", "int right(void); int left(void) { return right() + 1; }", &[]);
    let right = session.object(
        "right.c",
        "int left(void); int right(void) { return 5; } int both(void) { return left(); }",
        &[],
    );
    let (left, right) = (Strings::new([left]), Strings::new([right]));
    let [left, right] = [source(&left, c"left".as_ptr(), &none), source(&right, c"right".as_ptr(), &none)];
    // SAFETY: sources.
    ok(unsafe { hot_reload_sources_atomic([&raw const left, &raw const right].as_ptr(), 2, ptr::null()) });
    assert_eq!(call(c"right", c"both"), 6);
    // SAFETY: as above, of which one is none.
    let code = unsafe { hot_reload_sources_atomic([&raw const left, ptr::null()].as_ptr(), 2, ptr::null()) };
    fails(code, InvalidArgument, "sources[1] is NULL");
    // SAFETY: none at all.
    fails(
        unsafe { hot_reload_sources_atomic(ptr::null(), 0, ptr::null()) },
        InvalidArgument,
        "source_count is 0",
    );
}

fn unsafe_source(words: &[u64; 8]) -> &HotReloadSource {
    // SAFETY: longer than it, as aligned, and any pattern is a value.
    unsafe { &*words.as_ptr().cast() }
}

type Listed = Vec<(String, u64, i32, u64, u32)>;

unsafe extern "C-unwind" fn list(version: *const HotReloadVersion, user: *mut c_void) {
    // SAFETY: the test's own list; the structure is as long as was asked for.
    let (version, listed) = unsafe { (&*version, &mut *user.cast::<Listed>()) };
    assert_eq!(version.struct_size as usize, size_of::<HotReloadVersion>());
    assert!(version.code_bytes > 0 && text(version.path).ends_with(&library_name("answer")));
    listed.push((text(version.module), version.version, version.state, version.until, version.holders));
    // It may ask, and so no lock is held.
    assert_eq!(statistics().loaded_modules, 1);
    assert_eq!(runtime_shutdown(), midflight::ErrorKind::Busy as i32);
}

fn listed() -> Listed {
    let mut listed = Listed::new();
    // SAFETY: a callback, and its list.
    ok(unsafe {
        hot_reload_list_versions(size_of::<HotReloadVersion>(), Some(list), (&raw mut listed).cast())
    });
    listed
}

#[test]
fn versions_are_listed() {
    const CURRENT: i32 = 1;
    const RETIRED: i32 = 2;
    const RETAINED: i32 = 3;
    const BACKUP: i32 = 4;
    let session = start("versions");
    assert_eq!(listed(), []);
    let modules: Vec<_> = (1..=4).map(|n| session.module("answer", n, &returns(n as i32))).collect();
    let line = |version, state, until, holders| (String::from("answer"), version, state, until, holders);
    ok(reload(&modules[0]));
    let first = statistics().generation;
    assert_eq!(listed(), [line(1, CURRENT, 0, 0)]);
    let mut frame = RuntimeFrame::default();
    // SAFETY: a frame, which stays where it is.
    ok(unsafe { runtime_frame_begin(&mut frame) });
    ok(reload(&modules[1]));
    assert_eq!(listed(), [line(1, RETIRED, first + 1, 1), line(2, CURRENT, 0, 0)]);
    // SAFETY: as above.
    ok(unsafe { runtime_frame_end(&mut frame) });
    let keeping = HotReloadConfig { backup_current_state: true.into(), ..HotReloadConfig::default() };
    ok(reload_with(&modules[2], &keeping));
    assert_eq!(listed(), [line(2, BACKUP, first + 2, 0), line(3, CURRENT, 0, 0)]);
    // SAFETY: a name.
    ok(unsafe { hot_reload_retain(c"answer".as_ptr()) });
    ok(reload(&modules[3]));
    let states: Vec<_> = listed().iter().map(|(_, version, state, ..)| (*version, *state)).collect();
    assert_eq!(states.last(), Some(&(4, CURRENT)));
    assert!(states.contains(&(3, RETAINED)), "{states:?}");

    for size in [0, 7, 1 << 20] {
        // SAFETY: refused.
        let code = unsafe { hot_reload_list_versions(size, Some(list), ptr::null_mut()) };
        fails(code, InvalidArgument, "set it to sizeof(hot_reload_version_t)");
    }
    // SAFETY: refused.
    let code = unsafe { hot_reload_list_versions(64, None, ptr::null_mut()) };
    fails(code, InvalidArgument, "callback is NULL");
}

/// What is written for profilers, and that it is decided once.
#[test]
fn options_hold_for_the_process() {
    const TEST: &str = "options_hold_for_the_process";
    const FOLDER: &str = "MIDFLIGHT_TEST_FOLDER";
    let set = |options: &RuntimeOptions| {
        // SAFETY: options.
        unsafe { runtime_set_options(options) }
    };
    let size = size_of::<RuntimeOptions>() as u32;
    let none = || RuntimeOptions {
        struct_size: size,
        gdb: 0,
        perf_map: false.into(),
        reserved: [0; 7],
        jitdump_folder: ptr::null(),
        journal_folder: ptr::null(),
        journal_two_phase: false.into(),
        journal_rebuild: false.into(),
        journal_reserved: [0; 6],
    };
    let Some(folder) = std::env::var_os(FOLDER) else {
        let session = stopped("options");
        let folder = session.path("dump");
        std::fs::create_dir(&folder).unwrap();
        let output = this_test(TEST).env(FOLDER, &folder).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let files = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name());
        let files: Vec<_> = files.map(|name| name.into_string().unwrap()).collect();
        assert!(files.len() == 1 && files[0].starts_with("jit-"), "{files:?}");
        return;
    };
    fails(set(&RuntimeOptions { gdb: 4, ..none() }), InvalidArgument, "gdb is 4");
    fails(set(&RuntimeOptions { reserved: [1; 7], ..none() }), InvalidArgument, "reserved");
    // SAFETY: none.
    fails(unsafe { runtime_set_options(ptr::null()) }, InvalidArgument, "options is NULL");
    let folder = c(&folder);
    let options = RuntimeOptions { perf_map: true.into(), jitdump_folder: folder.as_ptr(), gdb: 3, ..none() };
    ok(set(&none()));
    ok(set(&options));
    let session = start("options-child");
    ok(reload(session.module("answer", 1, &returns(1))));
    let map = format!("/tmp/perf-{}.map", std::process::id());
    let names = std::fs::read_to_string(&map).unwrap();
    std::fs::remove_file(&map).unwrap();
    assert!(names.lines().any(|line| line.ends_with(" value")), "{names}");
    ok(set(&options));
    fails(set(&none()), Unsupported, "before the first runtime_init()");
}
