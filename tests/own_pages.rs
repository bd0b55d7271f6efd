//! Modules that map something else over pages of their own: what is mapped there goes with the version.

#![cfg(target_os = "linux")]

mod support;

use midflight::Runtime;
use support::{is_bridged, start};

midflight::module! {
    unsafe mod own_pages { safe fn touch() -> i32; }
}

/// What version 1 does to a page of its own, which every later version writes to.
const WAYS: &[(&str, &str)] = &[
    ("a guard", "mmap(own, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);"),
    ("shared memory", "mmap(own, PAGE, PROT_READ, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);"),
    ("nothing", "munmap(own, PAGE);"),
    ("protected", "mprotect(own, PAGE, PROT_READ);"),
    (
        "moved away",
        "mremap(own, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, mmap(0, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));",
    ),
    ("by number", "syscall(SYS_mmap, own, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0l);"),
    (
        "by name",
        "void *(*map)(void *, size_t, int, int, int, off_t) = (void *(*)(void *, size_t, int, int, int, off_t))dlsym(RTLD_DEFAULT, \"mmap\");
         map(own, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);",
    ),
    ("System V's", "shmat(shmget(IPC_PRIVATE, PAGE, IPC_CREAT | 0600), own, SHM_REMAP | SHM_RDONLY);"),
];

#[test]
fn what_a_version_maps_over_its_pages_goes_with_it() {
    // Mach-O modules are refused what differs between the systems.
    if is_bridged() {
        return;
    }
    let (rt, shop, _turn) = start("own-pages");
    for (way, (name, change)) in WAYS.iter().enumerate() {
        let module = |version: u32| {
            let source = format!(
                "#define _GNU_SOURCE
                 #include <dlfcn.h>
                 #include <sys/mman.h>
                 #include <sys/shm.h>
                 #include <sys/syscall.h>
                 #include <unistd.h>
                 #define PAGE 65536
                 static char pages[3 * PAGE] __attribute__((aligned(PAGE)));
                 static char *const own = pages + PAGE;
                 static const volatile int version = {version};
                 __attribute__((constructor)) static void begin(void) {{ if (version == 1) {{ {change} }} }}
                 int touch(void) {{ return version == 1 ? 1 : (own[5] += 1) * 10 + version; }}"
            );
            shop.module("own_pages", way as u32 * 10 + version, &source)
        };
        let load = |version: u32| {
            // SAFETY: the module has the function as declared.
            unsafe { rt.load(module(version)) }.unwrap();
            own_pages::touch(&rt.frame())
        };
        let touched: Vec<i32> = [1, 2, 3, 2].into_iter().map(load).collect();
        assert_eq!(touched, [1, 12, 13, 12], "{name}");
        unload(rt);
    }
}

fn unload(rt: Runtime) {
    rt.unload("own_pages").unwrap();
    rt.collect().unwrap();
}
