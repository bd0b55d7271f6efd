//! The fields of `hot_reload_config_t` and `runtime_config_t` that say how a reload is done, and
//! the codes.

mod support;

use std::ffi::{c_char, c_void};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use midflight::ErrorKind;
use midflight_c::hot_reload::*;
use midflight_c::runtime_core::*;
use support::*;

fn with(change: impl FnOnce(&mut HotReloadConfig)) -> HotReloadConfig {
    let mut config = HotReloadConfig::default();
    change(&mut config);
    config
}

/// Works with a module's addresses on a thread of its own, so that none stays behind on this one's
/// stack, where every word counts.
fn elsewhere<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}

/// Does something until no old version is left that may be called outside frames: a look that is
/// late, on a loaded machine, proves nothing. Under QEMU none ever does: the emulator has a thread
/// that answers nobody.
fn until_freed(work: impl Fn()) {
    let begun = Instant::now();
    loop {
        work();
        match statistics().retained_bytes {
            0 if !is_emulated() => return,
            left if is_emulated() => return assert!(left > 0),
            left => assert!(begun.elapsed() < Duration::from_secs(20), "{left} bytes are left"),
        }
    }
}

#[test]
fn modules_come_are_replaced_and_go() {
    let session = start("reload");
    let versions = [1, 2].map(|n| session.module("plain", n, &returns(n as i32)));
    elsewhere(|| {
        ok(reload(&versions[0]));
        assert_eq!(call(c"plain", c"value"), 1);
        let mut address: *mut c_void = std::ptr::null_mut();
        // SAFETY: strings, and a place for the address.
        ok(unsafe { hot_reload_symbol(c"plain".as_ptr(), c"value".as_ptr(), &mut address) });
        // SAFETY: its type.
        let value: extern "C" fn() -> i32 = unsafe { std::mem::transmute(address) };
        assert_eq!(value(), 1);
        ok(reload(&versions[1]));
        assert_eq!(value(), 2);
        assert_eq!(look_up(c"plain", c"value"), (0, address));
    });
    // Called outside frames: kept until somebody looks.
    assert!(statistics().retained_bytes > 0);
    until_freed(|| ok(runtime_gc_collect()));
    ok(unload(c"plain"));
    assert_eq!(statistics().loaded_modules, 0);
}

#[test]
fn atomic_reloads_are_all_or_nothing() {
    let session = start("atomic");
    let even = |n: i32| {
        format!(
            "int odd_part(void); int even_part(void) {{ return {n}; }} int both(void) {{ return even_part() * 10 + odd_part(); }}"
        )
    };
    let odd = |n: i32| format!("int odd_part(void) {{ return {n}; }}");
    let first = [session.module("even", 1, &even(2)), session.module("odd", 1, &odd(1))];
    ok(reload_all(&first, &with(|_| ())));
    assert_eq!(call(c"even", c"both"), 21);
    let wrong = session.module("odd", 2, "int other_part(void) { return 3; }");
    let second = session.module("even", 2, &even(4));
    fails(reload_all(&[second.clone(), wrong], &with(|_| ())), ErrorKind::Unresolved, "odd_part");
    assert_eq!(call(c"even", c"both"), 21);
    let parallel = with(|config| config.parallel_loading = true.into());
    ok(reload_all(&[second, session.module("odd", 3, &odd(3))], &parallel));
    assert_eq!(call(c"even", c"both"), 43);
    let stats = statistics();
    assert_eq!((stats.successful_reloads, stats.failed_reloads, stats.loaded_modules), (4, 2, 2));
}

#[test]
fn parallel_loading_uses_so_many_threads() {
    let config = RuntimeConfig { hot_reload_threads: 3, ..RuntimeConfig::default() };
    let session = start_with("parallel", &config);
    let paths: Vec<_> = (0..6).map(|i| session.module(&format!("part{i}"), 1, &returns(i))).collect();
    ok(reload_all(&paths, &with(|_| ())));
    own_threads_become(0);
    ok(reload_all(
        &paths,
        &with(|config| (config.parallel_loading, config.max_reload_threads) = (true.into(), 2)),
    ));
    own_threads_become(3);
    ok(runtime_shutdown());
    ok(init(&config));
    own_threads_become(0);
}

// By ELF's debug information.
#[cfg(target_os = "linux")]
#[test]
fn validation_refuses_what_does_not_fit() {
    let session = start("validate");
    let source = |kind: &str| {
        format!("struct point {{ {kind} x, y; }}; int value(struct point *p) {{ return (int)p->x; }}")
    };
    let module =
        |version, kind| session.module_for(std::env::consts::ARCH, "valid", version, &source(kind), &["-g"]);
    ok(reload(module(1, "int")));
    let before = statistics().generation;
    let validate = with(|config| config.validate_before_reload = true.into());
    fails(reload_with(module(2, "double"), &validate), ErrorKind::Incompatible, "point");
    assert_eq!(statistics().generation, before);
    let same = module(3, "int");
    ok(reload_with(&same, &validate));
    ok(reload_with(&same, &validate));
    let stats = statistics();
    assert!(stats.cache_hits > 0 && stats.cache_misses > 0, "{stats:?}");
    assert!(stats.cache_hit_rate > 0.0 && stats.cache_hit_rate < 1.0, "{stats:?}");
    // Without it, it is loaded.
    ok(reload(module(4, "double")));
}

#[test]
fn backups_are_gone_back_to() {
    let session = start("backup");
    let keep = with(|config| config.backup_current_state = true.into());
    ok(reload_with(session.module("kept", 1, &returns(1)), &keep));
    fails(rollback(c"kept"), ErrorKind::NoPreviousVersion, "kept");
    ok(reload_with(session.module("kept", 2, &returns(2)), &keep));
    ok(rollback(c"kept"));
    assert_eq!(call(c"kept", c"value"), 1);
    ok(rollback(c"kept"));
    assert_eq!(call(c"kept", c"value"), 2);
    fails(rollback(c"none"), ErrorKind::NotLoaded, "none");
}

#[test]
fn a_dry_run_changes_nothing() {
    let session = start("dry");
    let before = statistics().generation;
    let dry = with(|config| config.dry_run = true.into());
    let noisy = "static int made; __attribute__((constructor)) static void make(void) { __builtin_trap(); } int value(void) { return made; }";
    ok(reload_with(session.module("dry", 1, noisy), &dry));
    fails(look_up(c"dry", c"value").0, ErrorKind::NotLoaded, "dry");
    fails(
        reload_with(session.module("dry", 2, "int f(void); int value(void) { return f(); }"), &dry),
        ErrorKind::Unresolved,
        "`f`",
    );
    assert_eq!((statistics().total_reloads, statistics().generation), (0, before));
}

/// A module that writes to its own code after it was linked, which
/// [`HotReloadConfig::verify_integrity`] is to find.
const TAMPERED: &str = r#"
    #include <stdint.h>
    #include <string.h>
    #include <sys/mman.h>
    int value(void) { return 7; }
    __attribute__((aligned(PAGE_SIZE))) int spare(void) { volatile int n = 0; for (int i = 0; i < 100; i++) n += i; return n; }
    __attribute__((constructor, aligned(PAGE_SIZE))) static void tamper(void) {
        uintptr_t page = PAGE_SIZE, at = (uintptr_t)spare & ~(page - 1);
        mprotect((void *)at, page, PROT_READ | PROT_WRITE);
        *(volatile uint32_t *)(((uintptr_t)spare + 7) & ~(uintptr_t)3) ^= 0x10;
        mprotect((void *)at, page, PROT_READ | PROT_EXEC);
    }
"#;

#[test]
fn integrity_is_verified() {
    let session = start("verify");
    let verify = with(|config| config.verify_integrity = true.into());
    ok(reload_with(session.module("sound", 1, &returns(1)), &verify));
    // SAFETY: takes a number.
    let page_size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.to_string();
    let tampered = TAMPERED.replace("PAGE_SIZE", &page_size);
    let module = session.module("sound", 2, &tampered.replace("return 7", "return 2"));
    fails(reload_with(&module, &verify), ErrorKind::Integrity, "sound");
    assert_eq!(call(c"sound", c"value"), 2, "it is current nevertheless");
    ok(reload(session.module("sound", 3, &returns(3))));
    // Of another size: where the first was, the kernel has a copy of the page that was written.
    let larger = tampered.replace("return 7", "return 4") + "const char filler[100000] = { 1 };";
    let module = session.module("sound", 4, &larger);
    let back =
        with(|config| (config.verify_integrity, config.rollback_on_failure) = (true.into(), true.into()));
    fails(reload_with(&module, &back), ErrorKind::Integrity, "current again");
    assert_eq!(call(c"sound", c"value"), 3);
    let (status, stats) = (status(), statistics());
    assert_eq!(stats.rolled_back_reloads, 1, "{stats:?}");
    assert_eq!((status.recovered_errors, status.total_errors), (1, 2));
}

#[test]
fn reloads_have_a_time_limit() {
    let session = start("timeout");
    let path = session.module("late", 1, &returns(1));
    fails(
        reload_with(&path, &with(|config| config.reload_timeout_ns = 1)),
        ErrorKind::Timeout,
        "Hot-reload timeout after 0ms",
    );
    assert_eq!(statistics().loaded_modules, 0);
    // The runtime's own limit, and a call's that wins over it.
    ok(init(&RuntimeConfig { reload_timeout_ns: 1, ..RuntimeConfig::default() }));
    fails(reload(&path), ErrorKind::Timeout, "Hot-reload timeout");
    ok(reload_with(&path, &with(|config| config.reload_timeout_ns = u64::MAX)));
    ok(init(&RuntimeConfig::default()));
    ok(reload(&path));
}

#[test]
fn memory_has_a_limit() {
    let session = start("memory");
    let path = session.module("large", 1, "static char data[1 << 20]; char *value(void) { return data; }");
    ok(init(&RuntimeConfig { max_memory_usage: 100_000, ..RuntimeConfig::default() }));
    fails(reload(&path), ErrorKind::MemoryLimit, "limit of 100000");
    assert!(status().is_healthy.get());
    ok(init(&RuntimeConfig { max_memory_usage: 1_400_000, ..RuntimeConfig::default() }));
    ok(reload(&path));
    let stats = statistics();
    assert!((1.0..1.4).contains(&stats.memory_usage_mb), "{stats:?}");
    ok(init(&RuntimeConfig { max_memory_usage: 1_100_000, ..RuntimeConfig::default() }));
    assert!(!status().is_healthy.get());
    ok(init(&RuntimeConfig::default()));
    assert!(status().is_healthy.get());
}

#[test]
fn old_versions_are_looked_for_when_asked_to() {
    let config = RuntimeConfig { enable_memory_optimization: true.into(), ..RuntimeConfig::default() };
    let session = start_with("eager", &config);
    let versions = [1, 2].map(|n| session.module("eager", n, &returns(n as i32)));
    elsewhere(|| {
        ok(reload(&versions[0]));
        let mut address: *mut c_void = std::ptr::null_mut();
        // SAFETY: strings, and a place for the address.
        ok(unsafe { hot_reload_symbol(c"eager".as_ptr(), c"value".as_ptr(), &mut address) });
    });
    until_freed(|| elsewhere(|| ok(reload(&versions[1]))));
    ok(init(&RuntimeConfig::default()));
    elsewhere(|| ok(reload(&versions[0])));
    assert!(statistics().retained_bytes > 0);
}

#[test]
fn codes() {
    let session = start("codes");
    let module = |name: &str, source: &str| session.module(name, 1, source);
    fails(reload(session.path("missing.so")), ErrorKind::Io, "missing.so");
    fails(reload(session.file("text.so", b"text")), ErrorKind::InvalidModule, "text.so");
    fails(
        reload(module("lost", "int gone(void); int f(void) { return gone(); }")),
        ErrorKind::Unresolved,
        "gone",
    );
    fails(reload(module("unwilling", "int module_init(void) { return -7; }")), ErrorKind::Refused, "-7");
    let base = module("base", "int base_value(void) { return 1; }");
    ok(reload(&base));
    ok(reload(module("user", "int base_value(void); int f(void) { return base_value(); }")));
    fails(unload(c"base"), ErrorKind::InUse, "`user`");
    fails(
        reload(session.module("base", 2, "int other(void) { return 1; }")),
        ErrorKind::Incompatible,
        "base_value",
    );
    fails(look_up(c"base", c"nothing").0, ErrorKind::NoSuchSymbol, "nothing");
    fails(look_up(c"absent", c"f").0, ErrorKind::NotLoaded, "absent");
    fails(reload_all(&[base.clone(), base], &with(|_| ())), ErrorKind::InvalidArgument, "both module `base`");
    let status = status();
    assert_eq!(status.total_errors, 9);
    assert!(status.last_error_time > 0);
}

/// What the first reload's progress callback does, while that has its turn.
static MEANWHILE: Mutex<Option<Box<dyn FnOnce() + Send>>> = Mutex::new(None);

extern "C-unwind" fn meanwhile(_: *const c_char, _: u32) {
    let act = MEANWHILE.lock().unwrap().take();
    if let Some(act) = act {
        std::thread::spawn(act).join().unwrap();
    }
}

#[test]
fn so_many_reloads_are_under_way() {
    for (limit, expected) in [(1, ErrorKind::Timeout as i32), (2, 0), (0, 0)] {
        let config = RuntimeConfig { max_concurrent_reloads: limit, ..RuntimeConfig::default() };
        let session = start_with("concurrent", &config);
        let [first, second] = ["first", "second"].map(|name| session.module(name, 1, &returns(1)));
        *MEANWHILE.lock().unwrap() = Some(Box::new(move || {
            assert_eq!(status().state, 2);
            let code = reload_with(&second, &with(|config| config.reload_timeout_ns = 200_000_000));
            assert_eq!(code, expected, "{}", last());
        }));
        ok(reload_with(&first, &with(|config| config.progress_callback = Some(meanwhile))));
        assert!(MEANWHILE.lock().unwrap().is_none());
        assert_eq!(status().state, 1);
    }
}
