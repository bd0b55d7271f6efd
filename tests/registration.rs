//! What the process is told of a version, it forgets when the version goes.
//!
//! On Linux only: macOS has no `dl_iterate_phdr`, and its unwinder's table is asked elsewhere
//! (src/platform/os/macos/unwind.rs).

#![cfg(target_os = "linux")]

mod support;

use std::ffi::{c_char, c_void};

use midflight::{Config, Gdb, Runtime};
use support::start;

midflight::module! {
    unsafe mod registered { safe fn number() -> i32; safe fn place() -> *const c_void; safe fn objects(count: &mut [i64; 3]); }
}

/// `objects` counts what `dl_iterate_phdr` shows it: all objects, versions of this module, and what
/// came less what went.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <link.h>
#include <string.h>
int number(void) { return VERSION; }
const void *place(void) { return (const void *)number; }
static int see(struct dl_phdr_info *info, size_t size, void *data) {
    long *count = data;
    count[0]++;
    count[1] += strstr(info->dlpi_name, "libregistered.so") != 0;
    count[2] = (long)(info->dlpi_adds - info->dlpi_subs);
    return 0;
}
void objects(long *count) { memset(count, 0, 3 * sizeof *count); dl_iterate_phdr(see, count); }
"#;

/// `struct jit_descriptor` and `struct jit_code_entry`, as gdb's manual has them.
#[repr(C)]
struct Descriptor {
    version: u32,
    action: u32,
    relevant: *const Entry,
    first: *const Entry,
}

#[repr(C)]
struct Entry {
    next: *const Entry,
    previous: *const Entry,
    file: *const c_char,
    size: u64,
}

unsafe extern "C" {
    static __jit_debug_descriptor: Descriptor;
    /// libgcc's: the record of the function that `pc` is in, or null.
    fn _Unwind_Find_FDE(pc: *const c_void, bases: *mut [*const c_void; 3]) -> *const c_void;
}

/// How many symbol files gdb would find. The list must be whole in both directions.
fn files_for_gdb() -> usize {
    // SAFETY: nothing is loaded or freed meanwhile.
    unsafe {
        let list = &raw const __jit_debug_descriptor;
        assert_eq!(((*list).version, (*list).action), (1, 0));
        let (mut entry, mut previous, mut count) = ((*list).first, std::ptr::null(), 0);
        while let Some(this) = entry.as_ref() {
            assert_eq!(this.previous, previous);
            let file = std::slice::from_raw_parts(this.file.cast::<u8>(), this.size as usize);
            assert!(file.starts_with(b"\x7fELF"));
            (previous, entry, count) = (entry, this.next, count + 1);
        }
        count
    }
}

fn can_unwind_through(place: *const c_void) -> bool {
    let mut bases = [std::ptr::null(); 3];
    // SAFETY: any address may be asked for.
    !unsafe { _Unwind_Find_FDE(place.byte_add(1), &mut bases) }.is_null()
}

#[test]
fn a_thousand_reloads_leave_nothing() {
    let mut config = Config::default();
    config.gdb = Gdb::Always;
    Runtime::start_with(config).unwrap();
    let (rt, shop, _turn) = start("registered");
    let machine = std::env::consts::ARCH;
    let module =
        |n: u32| shop.module_for(machine, "registered", n, SOURCE, &["-g", &format!("-DVERSION={n}")]);
    let versions = [module(1), module(2)];
    let load = |rt: Runtime, n: usize| {
        // SAFETY: as declared.
        unsafe { rt.load(&versions[n % 2]) }.unwrap();
    };
    load(rt, 0);
    let objects = || {
        let mut count = [0; 3];
        registered::objects(&rt.frame(), &mut count);
        count
    };
    let before = objects();
    assert_eq!((before[1], files_for_gdb()), (1, 1), "{before:?}");
    let mut places = std::collections::BTreeSet::new();
    for n in 1..1000 {
        load(rt, n);
        let frame = rt.frame();
        assert_eq!(registered::number(&frame), n as i32 % 2 + 1);
        let place = registered::place(&frame);
        assert!(can_unwind_through(place));
        places.insert(place);
    }
    rt.collect().unwrap();
    assert_eq!((objects(), files_for_gdb()), (before, 1));

    let last = registered::place(&rt.frame());
    let gone: Vec<_> = places.into_iter().filter(|place| *place != last).collect();
    assert!(!gone.is_empty() && !gone.iter().any(|place| can_unwind_through(*place)));

    let held = rt.frame();
    rt.unload("registered").unwrap();
    assert!(files_for_gdb() == 1 && can_unwind_through(last), "a frame is inside");
    drop(held);
    rt.collect().unwrap();
    assert!(files_for_gdb() == 0 && !can_unwind_through(last));
}
