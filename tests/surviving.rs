//! What becomes of a module's data when its version is replaced, comes back or is unloaded: the
//! rows of docs/surviving.md that no other test shows.

mod support;

use std::ffi::{CStr, c_char, c_int};
use std::path::PathBuf;
use std::sync::{MutexGuard, PoisonError};

use midflight::{LoadOptions, Runtime};
use support::Workshop;

midflight::module! {
    unsafe mod keeper {
        safe fn global() -> c_int;
        safe fn local() -> c_int;
        safe fn inside() -> c_int;
        safe fn per_thread() -> c_int;
        safe fn allocated() -> *mut c_int;
        safe fn opened(descriptor: c_int) -> c_int;
        safe fn text() -> *const c_char;
        safe fn peer() -> extern "C" fn() -> c_int;
    }
    unsafe mod neighbour { safe fn number() -> c_int; }
}

/// Counts in a global, in a static and in a thread-local variable, points from one of its variables
/// to another and to a function of its neighbour's, and takes memory and descriptors from the
/// process.
fn keeper(shop: &Workshop, version: u32) -> PathBuf {
    let source = format!(
        "void *malloc(unsigned long);
         int dup(int);
         int number(void);
         int calls;
         static int hidden = 10 * {version};
         static int *pointer = &hidden;
         static int (*const called)(void) = number;
         int global(void) {{ return ++calls; }}
         int local(void) {{ static int n; return ++n; }}
         int inside(void) {{ return ++*pointer; }}
         int per_thread(void) {{ static _Thread_local int n; return ++n; }}
         int *allocated(void) {{ int *p = malloc(sizeof *p); *p = {version}; return p; }}
         int opened(int descriptor) {{ return dup(descriptor); }}
         const char *text(void) {{ return \"text {version}\"; }}
         int (*peer(void))(void) {{ return called; }}"
    );
    shop.module("keeper", version, &source)
}

fn neighbour(shop: &Workshop, version: u32) -> PathBuf {
    shop.module("neighbour", version, &format!("int number(void) {{ return {version}; }}"))
}

/// The runtime with the first version of both modules, and this test's turn.
fn start(name: &str) -> (Runtime, Workshop, MutexGuard<'static, ()>) {
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (rt, shop) = (Runtime::start().unwrap(), Workshop::new(name));
    // SAFETY: the functions have the types that are declared.
    unsafe { rt.load_all([neighbour(&shop, 1), keeper(&shop, 1)]) }.unwrap();
    (rt, shop, turn)
}

fn replace(rt: Runtime, path: &PathBuf, keep_previous: bool) {
    let options = LoadOptions::new().keep_previous(keep_previous);
    // SAFETY: as above.
    unsafe { rt.load_with([path], &options) }.unwrap();
}

fn unload(rt: Runtime) {
    rt.unload("keeper").unwrap();
    rt.unload("neighbour").unwrap();
}

/// What each counter says next.
fn counted(rt: Runtime) -> [c_int; 4] {
    let frame = rt.frame();
    [keeper::global(&frame), keeper::local(&frame), keeper::inside(&frame), keeper::per_thread(&frame)]
}

#[test]
fn variables_begin_anew_in_a_new_version_and_come_back_with_an_old_one() {
    let (rt, shop, _turn) = start("anew");
    assert_eq!((counted(rt), counted(rt)), ([1, 1, 11, 1], [2, 2, 12, 2]));
    replace(rt, &keeper(&shop, 2), true);
    assert_eq!(counted(rt), [1, 1, 21, 1], "pointers of a new version are to its own variables");
    rt.rollback_module("keeper").unwrap();
    assert_eq!(counted(rt), [3, 3, 13, 3], "as they were left");
    rt.rollback_module("keeper").unwrap();
    assert_eq!(counted(rt), [2, 2, 22, 2], "and so are those of the version that was taken back");
    unload(rt);
    replace(rt, &neighbour(&shop, 1), false);
    replace(rt, &keeper(&shop, 1), false);
    assert_eq!(counted(rt), [1, 1, 11, 1], "nothing is left of what was unloaded");
    unload(rt);
}

#[test]
fn memory_and_descriptors_are_the_processs_and_stay() {
    let (rt, shop, _turn) = start("heap");
    let (mut ends, frame) = ([0; 2], rt.frame());
    // SAFETY: room for two descriptors.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    let (memory, descriptor) = (keeper::allocated(&frame), keeper::opened(&frame, ends[0]));
    drop(frame);
    let as_they_were = || {
        // SAFETY: an int that nobody has freed; and a number to be asked for.
        unsafe { *memory == 1 && libc::fcntl(descriptor, libc::F_GETFD) != -1 }
    };
    replace(rt, &keeper(&shop, 2), false);
    assert_eq!(rt.collect().unwrap().old_bytes, 0, "version 1 is gone");
    assert!(as_they_were());
    unload(rt);
    assert_eq!(rt.collect().unwrap().old_bytes, 0, "and so is version 2");
    assert!(as_they_were());
    // SAFETY: from malloc(), and descriptors of this test's.
    unsafe {
        libc::free(memory.cast());
        for descriptor in [ends[0], ends[1], descriptor] {
            assert_eq!(libc::close(descriptor), 0);
        }
    }
}

#[test]
fn literals_are_a_versions_and_are_good_while_that_is_kept() {
    let (rt, shop, _turn) = start("literals");
    // SAFETY: a text of the version, which is current or kept.
    let said = |text| unsafe { CStr::from_ptr(text) }.to_str().unwrap();
    let first = keeper::text(&rt.frame());
    assert_eq!(said(first), "text 1");
    replace(rt, &keeper(&shop, 2), true);
    let second = keeper::text(&rt.frame());
    assert_eq!((said(first), said(second)), ("text 1", "text 2"), "the backup keeps the first");
    rt.rollback_module("keeper").unwrap();
    assert_eq!(keeper::text(&rt.frame()), first);
    unload(rt);
}

#[test]
fn an_address_of_another_modules_function_follows_that_module() {
    let (rt, shop, _turn) = start("peers");
    let called = |address: extern "C" fn() -> c_int| {
        let _frame = rt.frame();
        address()
    };
    let address = keeper::peer(&rt.frame());
    assert_eq!(called(address), 1);
    replace(rt, &neighbour(&shop, 2), false);
    assert_eq!(called(address), 2, "it is a trampoline's");
    unload(rt);
}
