//! Hooks before and after reloads, as C has them.

mod support;

use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use midflight::ErrorKind::{Busy, InvalidArgument, Vetoed};
use midflight_c::hot_reload::*;
use midflight_c::runtime_core::*;
use support::*;

/// What one test's hooks were told, and what the one before returns.
#[derive(Default)]
struct Seen {
    told: Mutex<Vec<String>>,
    refuses: Mutex<c_int>,
}

impl Seen {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.lock().unwrap())
    }
}

unsafe fn note(change: *const HotReloadChange, user: *mut c_void, when: &str) -> c_int {
    // SAFETY: what a test gave, and what the library made.
    let (change, seen) = unsafe { (&*change, &*user.cast::<Seen>()) };
    assert_eq!(change.struct_size as usize, size_of::<HotReloadChange>());
    // SAFETY: so many there are.
    let (modules, paths, replaces) = unsafe {
        let count = change.module_count as usize;
        (
            std::slice::from_raw_parts(change.modules, count),
            std::slice::from_raw_parts(change.paths, count),
            std::slice::from_raw_parts(change.replaces, count),
        )
    };
    for path in paths {
        assert!(text(*path).starts_with('/'));
    }
    let modules: Vec<_> =
        modules.iter().zip(replaces).map(|(module, number)| format!("{} {number}", text(*module))).collect();
    let ended =
        if when == "after" { format!(": {} {}", change.code, change.generation) } else { String::new() };
    assert_eq!(text(change.message).is_empty(), change.code == 0);
    seen.told.lock().unwrap().push(format!("{when} {}{ended}", modules.join(", ")));
    // On whatever thread: these would wait for it.
    assert_eq!(runtime_shutdown(), Busy as c_int);
    assert_eq!(statistics().watched_files, statistics().watched_files);
    *seen.refuses.lock().unwrap()
}

unsafe extern "C-unwind" fn before(change: *const HotReloadChange, user: *mut c_void) -> c_int {
    // SAFETY: as the library calls it.
    unsafe { note(change, user, "before") }
}

unsafe extern "C-unwind" fn after(change: *const HotReloadChange, user: *mut c_void) {
    // SAFETY: as above.
    unsafe { note(change, user, "after") };
}

fn hooks(name: &'static CStr, seen: &Seen) -> HotReloadHooks {
    HotReloadHooks {
        struct_size: size_of::<HotReloadHooks>() as u32,
        change_size: size_of::<HotReloadChange>() as u32,
        name: name.as_ptr(),
        before: Some(before),
        after: Some(after),
        user: ptr::from_ref(seen).cast_mut().cast(),
    }
}

fn add(hooks: &HotReloadHooks) -> (c_int, u64) {
    let mut id = u64::MAX;
    // SAFETY: hooks, and a place for the number.
    let code = unsafe { hot_reload_add_hooks(hooks, &mut id) };
    (code, id)
}

#[test]
fn hooks_are_asked_and_told() {
    let session = start("hooks");
    let seen = Seen::default();
    let (code, id) = add(&hooks(c"saves", &seen));
    ok(code);
    let path = session.module("answer", 1, &returns(1));
    ok(reload(&path));
    let generation = statistics().generation;
    assert_eq!(seen.take(), ["before answer 0".to_owned(), format!("after answer 0: 0 {generation}")]);

    *seen.refuses.lock().unwrap() = 5;
    fails(
        reload(session.module("answer", 2, &returns(2))),
        Vetoed,
        "the hook `saves` does not let it be loaded now: it returned 5",
    );
    assert_eq!(seen.take(), ["before answer 1", "after answer 1: -24 0"]);
    assert_eq!(call(c"answer", c"value"), 1);
    *seen.refuses.lock().unwrap() = 0;

    // A watch asks them, too, on its own thread.
    // SAFETY: a path.
    ok(unsafe { hot_reload_watch(c(&path).as_ptr(), ptr::null()) });
    std::fs::copy(session.module("answer", 3, &returns(3)), session.path("new")).unwrap();
    std::fs::rename(session.path("new"), &path).unwrap();
    let begun = Instant::now();
    while seen.told.lock().unwrap().len() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(60), "the watch reloads");
        std::thread::yield_now();
    }
    // SAFETY: as above.
    ok(unsafe { hot_reload_unwatch(c(&path).as_ptr()) });
    let told = seen.take();
    assert!(told[0] == "before answer 1" && told[1].starts_with("after answer 1: 0 "), "{told:?}");

    ok(hot_reload_remove_hooks(id));
    fails(hot_reload_remove_hooks(id), InvalidArgument, &format!("there are no hooks {id}"));
    ok(reload(&path));
    assert_eq!(seen.take(), [""; 0]);

    // Those that are forgotten go with the runtime.
    let (code, id) = add(&hooks(c"forgotten", &seen));
    ok(code);
    ok(runtime_shutdown());
    // SAFETY: defaults.
    ok(unsafe { runtime_init(ptr::null()) });
    fails(hot_reload_remove_hooks(id), InvalidArgument, "there are no hooks");
    ok(reload(&path));
    assert_eq!(seen.take(), [""; 0]);
}

#[test]
fn hooks_that_are_none() {
    let _session = start("no-hooks");
    let seen = Seen::default();
    let good = hooks(c"good", &seen);
    for (bad, message) in [
        (HotReloadHooks { struct_size: 0, ..good }, "hooks: its struct_size is 0"),
        (
            HotReloadHooks { change_size: 0, ..good },
            "hooks: change_size: struct_size is 0: set it to sizeof(hot_reload_change_t)",
        ),
        (HotReloadHooks { name: ptr::null(), ..good }, "hooks: name is NULL"),
        (HotReloadHooks { before: None, after: None, ..good }, "before and after are NULL"),
    ] {
        let (code, id) = add(&bad);
        fails(code, InvalidArgument, message);
        assert_eq!(id, 0);
    }
}
