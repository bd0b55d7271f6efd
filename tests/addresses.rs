//! What there is at an address: of versions of every age, in handlers of crashes too.

mod support;

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use midflight::{AddressDescription, Backing, Config, Runtime, Source, Standing, describe_address};
use support::{DONE, Workshop, is_child, this_test};

/// What a description says, owned.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Told {
    standing: Standing,
    module: String,
    version: Option<u64>,
    symbol: String,
    offset: u64,
    is_code: bool,
}

fn told(description: &AddressDescription<'_>) -> Told {
    Told {
        standing: description.standing,
        module: description.module.into(),
        version: description.version,
        symbol: String::from_utf8_lossy(description.symbol.unwrap_or_default()).into(),
        offset: description.offset,
        is_code: description.is_code,
    }
}

fn describe(address: usize) -> Option<Told> {
    describe_address(ptr::without_provenance(address), told)
}

fn expected(standing: Standing, version: u64, symbol: &str, offset: u64) -> Option<Told> {
    let (module, symbol) = ("place".into(), symbol.into());
    Some(Told { standing, module, version: Some(version), symbol, offset, is_code: true })
}

fn source(version: u32) -> String {
    format!(
        "int value(void) {{ return {version}; }}
         int data = {version};
         const void *where(void) {{ return (const void *)value; }}
         const void *variable(void) {{ return &data; }}
         int crash(volatile int *at) {{ return *at = {version}; }}"
    )
}

/// Calls a function of the module that returns an address.
fn ask(rt: Runtime, symbol: &str) -> usize {
    let function = rt.frame_symbol("place", symbol).unwrap();
    // SAFETY: of this type, as `source` says; called in a frame.
    let function: extern "C" fn() -> *const c_void = unsafe { std::mem::transmute(function) };
    let _frame = rt.frame();
    function().addr()
}

fn load(rt: Runtime, source: impl Into<Source>) {
    // SAFETY: as `source` says.
    unsafe { rt.load(source) }.unwrap();
}

#[test]
fn versions_of_every_age() {
    if !is_child("versions_of_every_age") {
        return;
    }
    let mut config = Config::default();
    // What is freed cannot be read any more.
    config.backing = Backing::Toggled;
    let (rt, shop) = (Runtime::start_with(config).unwrap(), Workshop::new("places"));
    let files = [1, 2].map(|version| shop.module("place", version, &source(version)));
    load(rt, files[0].clone());
    let one = ask(rt, "where");
    assert_eq!(describe(one), expected(Standing::Current, 1, "value", 0));
    assert_eq!(describe(one + 2), expected(Standing::Current, 1, "value", 2));
    let variable = describe(ask(rt, "variable")).unwrap();
    assert_eq!((&*variable.symbol, variable.is_code), ("data", false));
    let path = describe_address(ptr::without_provenance(one), |found| found.path.unwrap().to_owned());
    assert_eq!(path.as_ref(), Some(&files[0]));

    let frame = rt.frame();
    load(rt, files[1].clone());
    assert_eq!(describe(one), expected(Standing::Old, 1, "value", 0));
    drop(frame);
    assert_eq!(rt.collect().unwrap().old_bytes, 0);
    assert_eq!(describe(one), expected(Standing::Gone, 1, "value", 0));
    let two = ask(rt, "where");
    assert_eq!(describe(two), expected(Standing::Current, 2, "value", 0));

    let own = versions_of_every_age as fn() as usize;
    let mut local = 0;
    let heap = Box::new(0);
    for nobodys in [
        0,
        1,
        usize::MAX,
        own,
        (&raw mut local).addr(),
        (&raw const *heap).addr(),
        libc::free as *const () as usize,
    ] {
        assert_eq!(describe(nobodys), None, "{nobodys:#x}");
    }
    // Who reads a version's names has them although it goes meanwhile, and others have come.
    let other = shop.module("other", 1, &source(9).replace("value", "eulav"));
    let name = describe_address(ptr::without_provenance(two), |found| {
        rt.unload("place").unwrap();
        load(rt, other.clone());
        String::from_utf8_lossy(found.symbol.unwrap()).into_owned()
    });
    assert_eq!(name.as_deref(), Some("value"));

    load(rt, files[0].clone());
    for (address, part) in [(rt.symbol("place", "value"), 0), (rt.frame_symbol("place", "value"), 5)] {
        let trampoline = describe(address.unwrap().addr().get() + part).unwrap();
        assert_eq!((trampoline.standing, trampoline.version), (Standing::Trampoline, None));
        assert_eq!((&*trampoline.module, &*trampoline.symbol), ("place", "value"));
        assert_eq!(trampoline.offset, part as u64);
    }
    println!("{DONE}");
}

/// Those have no tables in memory that say where a name is: a list has it.
#[test]
fn object_files() {
    if !is_child("object_files") {
        return;
    }
    let (rt, shop) = (Runtime::start().unwrap(), Workshop::new("places-objects"));
    let object = |version| shop.object("place.c", &source(version), &[]);
    load(rt, object(1));
    let one = ask(rt, "where");
    assert_eq!(describe(one), expected(Standing::Current, 1, "value", 0));
    load(rt, object(2));
    rt.collect().unwrap();
    assert_eq!(describe(one), expected(Standing::Gone, 1, "value", 0));
    println!("{DONE}");
}

static AT: AtomicUsize = AtomicUsize::new(0);
static VALUE: AtomicUsize = AtomicUsize::new(0);

/// Says where it crashed, and what the address that it was given is; with what a signal handler may
/// call.
extern "C" fn crashed(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: as SA_SIGINFO has it.
    let context = unsafe { &*context.cast::<libc::ucontext_t>() };
    #[cfg(target_arch = "x86_64")]
    let at = context.uc_mcontext.gregs[libc::REG_RIP as usize] as usize;
    #[cfg(all(target_arch = "aarch64", target_os = "linux"))]
    let at = context.uc_mcontext.pc as usize;
    #[cfg(all(target_arch = "aarch64", target_os = "macos"))]
    // SAFETY: the kernel's.
    let at = unsafe { (*context.uc_mcontext).__ss.__pc } as usize;
    let mut right = 0;
    describe_address(ptr::without_provenance(at), |found| {
        let is_it = found.module == "place" && found.symbol == Some(b"crash");
        right += c_int::from(is_it && found.standing == Standing::Old && found.version == Some(2));
    });
    for (address, standing) in [(&AT, Standing::Gone), (&VALUE, Standing::Current)] {
        let address = ptr::without_provenance(address.load(Ordering::Relaxed));
        right += c_int::from(describe_address(address, |found| found.standing) == Some(standing));
    }
    right += c_int::from(describe_address(ptr::null(), |_| ()).is_none());
    // SAFETY: ends this process.
    unsafe { libc::_exit(40 + right) }
}

/// In old code that a frame holds; and of addresses in code that is gone and current, and of none.
#[test]
fn in_a_handler_of_a_crash() {
    if std::env::var_os(CRASHES).is_some() {
        let mut config = Config::default();
        // Else the third version may have the pages of the first.
        config.hold_back = 8;
        let (rt, shop) = (Runtime::start_with(config).unwrap(), Workshop::new("places-crash"));
        let version = |version| load(rt, shop.module("place", version, &source(version)));
        version(1);
        AT.store(ask(rt, "where"), Ordering::Relaxed);
        version(2);
        assert_eq!(rt.collect().unwrap().old_bytes, 0);
        let crash = rt.frame_symbol("place", "crash").unwrap();
        // SAFETY: of this type, as `source` says; called in a frame.
        let crash: extern "C" fn(*mut c_int) -> c_int = unsafe { std::mem::transmute(crash) };
        let _frame = rt.frame();
        version(3);
        let ask = || VALUE.store(ask(rt, "where"), Ordering::Relaxed);
        std::thread::scope(|scope| scope.spawn(ask).join()).unwrap();
        // SAFETY: a handler, which ends the process.
        unsafe {
            let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
            action.sa_sigaction = crashed as extern "C" fn(_, _, _) as usize;
            action.sa_flags = libc::SA_SIGINFO;
            for signal in [libc::SIGSEGV, libc::SIGBUS] {
                assert_eq!(libc::sigaction(signal, &action, ptr::null_mut()), 0);
            }
        }
        crash(ptr::without_provenance_mut(8));
        unreachable!("it writes where nothing is");
    }
    let output = this_test("in_a_handler_of_a_crash").env(CRASHES, "").output().unwrap();
    assert_eq!(output.status.code(), Some(44), "{}", String::from_utf8_lossy(&output.stderr));
}

const CRASHES: &str = "MIDFLIGHT_TEST_CRASHES";
