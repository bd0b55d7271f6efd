//! A call into a version that is gone says which it was and what to do, and the process ends as it
//! would have.

mod support;

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use libc::siginfo_t;
use midflight::{Backing, Config, Runtime, StaleCalls, explain_address};
use support::{DONE, Workshop, is_child, this_test};

midflight::module! {
    unsafe mod stale {
        safe fn address() -> *const ();
        safe fn table() -> *const Function;
        safe fn local() -> *const ();
    }
    unsafe mod shapes { safe fn make() -> *const *const Function; }
}

type Function = extern "C" fn() -> i32;

fn source(version: u32) -> String {
    format!(
        "typedef int (*function)(void);
         int value(void) {{ return {version}; }}
         static int unnamed(void) {{ return {version}; }}
         static const function functions[] = {{ value, unnamed }};
         const void *address(void) {{ return (const void *)value; }}
         const void *table(void) {{ return functions; }}
         const void *local(void) {{ return (const void *)functions[1]; }}"
    )
}

/// How code is written, for the child.
const WAY: &str = "MIDFLIGHT_TEST_WAY";
/// What the child prints before the fault: what it ends by is that.
const NOW: &str = "now";

const WAYS: [(&str, Backing); 3] =
    [("memfd", Backing::Memfd), ("write once", Backing::WriteOnce), ("toggled", Backing::Toggled)];

fn ways() -> impl Iterator<Item = &'static str> {
    WAYS.iter().map(|(name, _)| *name).filter(|name| cfg!(target_os = "linux") || *name != "memfd")
}

/// The runtime of the child, as its way is.
fn start(change: impl FnOnce(&mut Config)) -> Runtime {
    let way = std::env::var(WAY).expect("asked for");
    let mut config = Config::default();
    config.backing = WAYS.iter().find(|(name, _)| *name == way).expect("a way").1;
    change(&mut config);
    Runtime::start_with(config).unwrap()
}

/// Version 1's address of something, when version 2 is there and version 1 is gone.
fn outlived<T>(rt: Runtime, address: impl FnOnce() -> T) -> T {
    let shop = Workshop::new("stale");
    let [one, two] = [1, 2].map(|version| shop.module("stale", version, &source(version)));
    // SAFETY: the functions have the types that are declared.
    unsafe { rt.load(&one) }.unwrap();
    let address = address();
    // SAFETY: as above.
    unsafe { rt.load(&two) }.unwrap();
    assert_eq!(rt.collect().unwrap().old_bytes, 0, "version 1 is gone");
    address
}

fn function(address: *const ()) -> Function {
    // SAFETY: it was one.
    unsafe { std::mem::transmute(address) }
}

fn call(address: *const ()) -> ! {
    println!("{NOW}");
    let returned = function(address)();
    println!("it returned {returned}");
    std::process::exit(0)
}

fn way() -> bool {
    std::env::var_os(WAY).is_some()
}

fn output(test: &str, way: &str) -> (Output, String) {
    let output = this_test(test).env(WAY, way).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(NOW), "{way}: {:?}\n{said}\n{told}", output.status);
    (output, told)
}

/// What the child was told on stderr that ended by a fault.
fn told(test: &str, way: &str) -> String {
    let (output, told) = output(test, way);
    let faults = [libc::SIGILL, libc::SIGTRAP, libc::SIGSEGV, libc::SIGBUS].map(Some);
    assert!(faults.contains(&output.status.signal()), "{way}: {:?}\n{told}", output.status);
    told
}

#[test]
fn a_call_of_a_function_that_was_replaced() {
    if way() {
        call(outlived(start(|_| ()), || stale::address(&Runtime::start().unwrap().frame())));
    }
    for way in ways() {
        let told = told("a_call_of_a_function_that_was_replaced", way);
        let expected = [
            "midflight: stale call by thread ",
            " was code of `value` (+0x0) in stale version 1 (",
            "libstale.so), which version 2 replaced in generation 2, 0.",
            " s ago, and which was freed 0.",
            "Runtime::symbol()",
            "Runtime::retain()",
        ];
        assert!(expected.iter().all(|part| told.replace("dylib", "so").contains(part)), "{way}: {told}");
    }
}

#[test]
fn a_call_of_a_module_that_was_unloaded() {
    if way() {
        let (rt, shop) = (start(|_| ()), Workshop::new("unloaded"));
        // SAFETY: the functions have the types that are declared.
        unsafe { rt.load(shop.module("stale", 1, &source(1))) }.unwrap();
        let address = stale::address(&rt.frame());
        rt.unload("stale").unwrap();
        assert_eq!(rt.collect().unwrap().old_bytes, 0);
        call(address);
    }
    for way in ways() {
        let told = told("a_call_of_a_module_that_was_unloaded", way);
        assert!(told.contains("`value` (+0x0) in stale version 1"), "{way}: {told}");
        assert!(told.contains(", which was unloaded in generation 2, 0."), "{way}: {told}");
    }
}

/// It has given its address away before it was refused.
#[test]
fn a_call_of_a_version_whose_load_failed() {
    if way() {
        static PLACE: AtomicUsize = AtomicUsize::new(0);
        let (rt, shop) = (start(|_| ()), Workshop::new("failed"));
        let init = "char *getenv(const char *); unsigned long strtoul(const char *, char **, int);
            int module_init(void) {
                *(const void **)strtoul(getenv(\"MIDFLIGHT_TEST_PLACE\"), 0, 10) = (const void *)value;
                return 1;
            }";
        // SAFETY: no other thread asks for the environment.
        unsafe { std::env::set_var("MIDFLIGHT_TEST_PLACE", PLACE.as_ptr().addr().to_string()) };
        let module = shop.module("stale", 1, &(source(1) + init));
        // SAFETY: the functions have the types that are declared, and the place is there.
        unsafe { rt.load(module) }.unwrap_err();
        assert_eq!(rt.collect().unwrap().old_bytes, 0);
        call(ptr::with_exposed_provenance(PLACE.load(Ordering::Relaxed)));
    }
    for way in ways() {
        let told = told("a_call_of_a_version_whose_load_failed", way);
        assert!(told.contains("`value` (+0x0) in stale version 1 ("), "{way}: {told}");
        assert!(
            told.contains(", which was never published: its load failed, and which was freed 0."),
            "{way}: {told}"
        );
    }
}

/// The table may be there yet, and lead to code that is not, or be gone itself.
#[test]
fn a_call_by_a_table_of_functions() {
    if way() {
        let rt = start(|_| ());
        let table = outlived(rt, || stale::table(&rt.frame()));
        println!("{NOW}");
        // SAFETY: there is nothing that makes it sound.
        unsafe { table.read_volatile()() };
    }
    for way in ways() {
        let told = told("a_call_by_a_table_of_functions", way);
        let code =
            told.contains("stale call by") && told.contains("code of `value` (+0x0) in stale version 1");
        let data = told.contains("stale access by")
            && told.contains("was data ")
            && told.contains("in stale version 1");
        assert!(code || data, "{way}: {told}");
    }
}

/// The same address in each version, until that has been used again.
#[test]
fn pages_that_are_held_back_trap_for_longer() {
    if way() {
        let (rt, shop) = (start(|config| config.hold_back = 3), Workshop::new("held-back"));
        let mut places = Vec::new();
        for version in 1..=12 {
            // SAFETY: the functions have the types that are declared.
            unsafe { rt.load(shop.module("stale", version, &source(version))) }.unwrap();
            assert_eq!(rt.collect().unwrap().old_bytes, 0);
            let place = stale::address(&rt.frame());
            // The current one, and three that are held back, have other places than it.
            assert!(!places.iter().rev().take(4).any(|other| *other == place), "{place:?} {places:?}");
            assert!(version < 6 || places.contains(&place), "they are used again: {place:?} {places:?}");
            places.push(place);
        }
        println!("{NOW}");
        function(places[8])();
    }
    // Where code is toggled each version has address space of its own, which goes with it.
    for way in ways().filter(|way| *way != "toggled" && !support::is_forced("toggled")) {
        let told = told("pages_that_are_held_back_trap_for_longer", way);
        assert!(told.contains("code of `value` (+0x0) in stale version 9 ("), "{way}: {told}");
    }
}

/// As callbacks and lambdas are: the file's addresses say where it was.
#[test]
fn a_call_of_a_function_that_is_not_exported() {
    if way() {
        let rt = start(|_| ());
        call(outlived(rt, || stale::local(&rt.frame())));
    }
    for way in ways() {
        let told = told("a_call_of_a_function_that_is_not_exported", way);
        assert!(told.contains("in stale version 1"), "{way}: {told}");
        let named = told.contains("code at offset 0x") && told.contains("(of no exported symbol)");
        // Mach-O says of no symbol how long it is.
        assert!(named || support::is_macho() && told.contains("code of `"), "{way}: {told}");
    }
}

#[test]
fn a_virtual_function_of_an_object_that_an_old_version_made() {
    if way() {
        let (rt, shop) = (start(|_| ()), Workshop::new("virtual"));
        let source = |version| {
            format!(
                "struct Enemy {{ virtual int speed() = 0; }};
                 struct Zombie : Enemy {{ int speed() override; }};
                 int Zombie::speed() {{ return {version}; }}
                 static Zombie zombies[2];
                 extern \"C\" Enemy *make() {{ return new (zombies) Zombie; }}"
            )
        };
        let source = |version| format!("#include <new>\n{}", source(version));
        let [one, two] = [1, 2].map(|version| shop.cpp("shapes", version, &source(version), &[]));
        // SAFETY: the function has the declared type, and what it returns begins with a table of
        // virtual functions.
        unsafe {
            rt.load(&one).unwrap();
            let table = *shapes::make(&rt.frame());
            assert_eq!((*table)(), 1);
            rt.load(&two).unwrap();
            assert_eq!(rt.collect().unwrap().old_bytes, 0);
            println!("{NOW}");
            table.read_volatile()();
        }
    }
    for way in ways() {
        let told = told("a_virtual_function_of_an_object_that_an_old_version_made", way);
        let code = told.contains("stale call by") && told.contains("code of `Zombie::speed` (+0x0)");
        let data = told.contains("stale access by") && told.contains("was data of `_ZTV6Zombie` (+0x10)");
        assert!((code || data) && told.contains("in shapes version 1 ("), "{way}: {told}");
    }
}

/// Signals and addresses that a handler got, for the tests of those.
static GOT: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];

extern "C" fn leave(signal: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel's record.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr()) };
    for (to, value) in GOT.iter().zip([signal as usize, code as usize, address as usize]) {
        to.store(value, Ordering::Relaxed);
    }
    let text = b"the handler that was there before\n";
    // SAFETY: a text of that length; nothing else runs.
    unsafe {
        libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len());
        libc::_exit(if code > 0 { 7 } else { 8 });
    }
}

extern "C" fn explain(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    struct Text([u8; 1024], usize);
    impl std::fmt::Write for Text {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            self.0[self.1..][..text.len()].copy_from_slice(text.as_bytes());
            self.1 += text.len();
            Ok(())
        }
    }
    let mut text = Text([0; 1024], 0);
    // SAFETY: the kernel's record and context.
    let address = unsafe {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        let trap =
            (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_RIP as usize] as usize - 1;
        #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
        let (trap, _) = ((*info).si_addr() as usize, context);
        if signal == libc::SIGTRAP { trap } else { (*info).si_addr() as usize }
    };
    let known = explain_address(ptr::with_exposed_provenance(address), &mut text);
    // SAFETY: a text of that length; nothing else runs.
    unsafe {
        libc::write(libc::STDERR_FILENO, text.0.as_ptr().cast(), text.1);
        libc::_exit(if known == Ok(true) { 7 } else { 8 });
    }
}

type Handler = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);

fn handle(handler: usize, signals: &[c_int], flags: c_int) {
    for signal in signals {
        // SAFETY: a handler that is async-signal-safe, or no handler.
        unsafe {
            let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
            action.sa_sigaction = handler;
            action.sa_flags = libc::SA_SIGINFO | flags;
            assert_eq!(libc::sigaction(*signal, &action, ptr::null_mut()), 0);
        }
    }
}

const FAULTS: [c_int; 4] = [libc::SIGILL, libc::SIGTRAP, libc::SIGSEGV, libc::SIGBUS];

fn address_of(handler: Handler) -> usize {
    handler as *const () as usize
}

#[test]
fn a_handler_that_was_there_before_is_called() {
    if way() {
        let rt = start(|_| ());
        handle(address_of(leave), &FAULTS, libc::SA_RESETHAND | libc::SA_NODEFER);
        call(outlived(rt, || stale::address(&rt.frame())));
    }
    for way in ways() {
        let (output, told) = output("a_handler_that_was_there_before_is_called", way);
        assert_eq!(output.status.code(), Some(7), "{way}: {told}");
        let (report, theirs) = (told.find("stale call by"), told.find("the handler that was there before"));
        assert!(report.is_some() && report < theirs, "{way}: {told}");
    }
}

#[test]
fn a_handler_that_comes_later_can_ask() {
    if way() {
        let rt = start(|_| ());
        let address = outlived(rt, || stale::address(&rt.frame()));
        handle(address_of(explain), &FAULTS, 0);
        call(address);
    }
    for way in ways() {
        let (output, told) = output("a_handler_that_comes_later_can_ask", way);
        assert_eq!(output.status.code(), Some(7), "{way}: {told}");
        assert!(told.contains(" was code of `value` (+0x0) in stale version 1"), "{way}: {told}");
        assert!(!told.contains("midflight:"), "{way}: {told}");
    }
}

#[test]
fn no_handler_is_installed_where_none_is_wanted() {
    if way() {
        let rt = start(|config| config.stale_calls = StaleCalls::Unreported);
        let current = |signal| {
            let mut action = MaybeUninit::<libc::sigaction>::zeroed();
            // SAFETY: room for an action.
            unsafe {
                assert_eq!(libc::sigaction(signal, ptr::null(), action.as_mut_ptr()), 0);
                action.assume_init().sa_sigaction
            }
        };
        let before = FAULTS.map(current);
        let address = outlived(rt, || stale::address(&rt.frame()));
        assert_eq!(FAULTS.map(current), before);
        call(address);
    }
    for way in ways() {
        let told = told("no_handler_is_installed_where_none_is_wanted", way);
        assert!(!told.contains("midflight:"), "{way}: {told}");
    }
}

/// With a page below it that no one may touch.
#[test]
fn the_report_has_room_on_a_small_alternate_stack() {
    if way() {
        let rt = start(|_| ());
        // What the kernel pushes, and so much for the handler.
        const ROOM: usize = 4096;
        let address = outlived(rt, || stale::address(&rt.frame()));
        // SAFETY: memory of this thread's own.
        unsafe {
            let page = libc::sysconf(libc::_SC_PAGESIZE) as usize;
            #[cfg(target_os = "linux")]
            let pushed = (libc::getauxval(51) as usize).max(libc::MINSIGSTKSZ);
            #[cfg(not(target_os = "linux"))]
            let pushed = libc::MINSIGSTKSZ;
            let len = (pushed + ROOM).next_multiple_of(page);
            let flags = libc::MAP_PRIVATE | libc::MAP_ANON;
            let at =
                libc::mmap(ptr::null_mut(), page + len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
            assert_ne!(at, libc::MAP_FAILED);
            assert_eq!(libc::mprotect(at, page, libc::PROT_NONE), 0);
            let end = at.byte_add(page + len);
            let stack =
                libc::stack_t { ss_sp: end.byte_sub(pushed + ROOM), ss_flags: 0, ss_size: pushed + ROOM };
            assert_eq!(libc::sigaltstack(&stack, ptr::null_mut()), 0);
        }
        call(address);
    }
    for way in ways() {
        let told = told("the_report_has_room_on_a_small_alternate_stack", way);
        assert!(told.contains("stale call by") && told.contains("docs/debugging.md"), "{way}: {told}");
    }
}

#[test]
fn a_forked_child_is_told_as_well() {
    if way() {
        let rt = start(|_| ());
        let address = outlived(rt, || stale::address(&rt.frame()));
        println!("{NOW}");
        // SAFETY: the child calls only what is async-signal-safe, and faults.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                function(address)();
                libc::_exit(0);
            }
            let mut status = 0;
            assert_eq!(libc::waitpid(child, &mut status, 0), child);
            assert!(libc::WIFSIGNALED(status), "{status:#x}");
            libc::_exit(7);
        }
    }
    for way in ways() {
        let (output, told) = output("a_forked_child_is_told_as_well", way);
        assert_eq!(output.status.code(), Some(7), "{way}: {told}");
        assert!(told.contains("`value` (+0x0) in stale version 1"), "{way}: {told}");
    }
}

/// What a test's child does that is no call into a version that is gone.
const OTHER: &str = "MIDFLIGHT_TEST_OTHER";

fn other(test: &str, what: &str) -> (Option<i32>, Option<i32>, String) {
    let mut child: Command = this_test(test);
    let output = child.env(WAY, ways().next().unwrap()).env(OTHER, what).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(String::from_utf8_lossy(&output.stdout).contains(NOW), "{what}: {:?} {told}", output.status);
    (output.status.code(), output.status.signal(), told)
}

#[test]
fn other_faults_and_signals_are_as_they_were() {
    const TEST: &str = "other_faults_and_signals_are_as_they_were";
    if let Ok(what) = std::env::var(OTHER) {
        // Rust's standard library has handlers of its own for stack overflows.
        if what != "overflow" {
            handle(libc::SIG_DFL, &FAULTS, 0);
        }
        match &*what {
            "ignored" => handle(libc::SIG_IGN, &FAULTS, 0),
            "handled" => handle(address_of(leave), &FAULTS, 0),
            _ => (),
        }
        let rt = start(|_| ());
        outlived(rt, || stale::address(&rt.frame()));
        println!("{NOW}");
        // SAFETY: signals of this process's own, and faults.
        unsafe {
            match &*what {
                "null" => _ = ptr::null::<u8>().wrapping_add(8).read_volatile(),
                "overflow" => _ = std::hint::black_box(deepen(1)),
                // Another thread may be given it.
                "killed" => {
                    assert_eq!(libc::kill(libc::getpid(), libc::SIGSEGV), 0);
                    loop {
                        libc::pause();
                    }
                }
                "raised" | "handled" => _ = libc::raise(libc::SIGTRAP),
                "ignored" => {
                    FAULTS.iter().for_each(|signal| assert_eq!(libc::raise(*signal), 0));
                    libc::_exit(9);
                }
                _ => unreachable!(),
            }
        }
        std::process::exit(0);
    }
    let expected = [
        ("null", None, Some(libc::SIGSEGV)),
        ("killed", None, Some(libc::SIGSEGV)),
        ("raised", None, Some(libc::SIGTRAP)),
        ("overflow", None, Some(libc::SIGABRT)),
        ("handled", Some(8), None),
        ("ignored", Some(9), None),
    ];
    for (what, code, signal) in expected {
        let (ended, by, told) = other(TEST, what);
        assert_eq!((ended, by), (code, signal), "{what}: {told}");
        assert!(!told.contains("stale"), "{what}: {told}");
        assert_eq!(told.contains("has overflowed its stack"), what == "overflow", "{what}: {told}");
    }
}

/// Without an end.
#[allow(unconditional_recursion)]
fn deepen(by: usize) -> usize {
    let room = [by; 1000];
    deepen(std::hint::black_box(&room)[by % 1000] + 1) + room[0]
}

/// What a debugger, and so a core dump, sees at the process's end.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn the_process_ends_by_the_fault_itself() {
    const TEST: &str = "the_process_ends_by_the_fault_itself";
    if way() {
        handle(libc::SIG_DFL, &FAULTS, 0);
        let rt = start(|_| ());
        let address = outlived(rt, || stale::address(&rt.frame()));
        println!("{NOW}");
        // SAFETY: the child calls only what is async-signal-safe, and is traced; what is read of it
        // has room.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
                function(address)();
                libc::_exit(0);
            }
            let mut seen: Vec<(c_int, c_int, usize, u64, u64)> = Vec::new();
            loop {
                let mut status = 0;
                assert_eq!(libc::waitpid(child, &mut status, 0), child);
                if !libc::WIFSTOPPED(status) {
                    assert!(libc::WIFSIGNALED(status), "{status:#x}");
                    assert_eq!(libc::WTERMSIG(status), seen[0].0);
                    break;
                }
                let mut info = MaybeUninit::<siginfo_t>::zeroed();
                let mut registers = MaybeUninit::<libc::user_regs_struct>::zeroed();
                assert_eq!(libc::ptrace(libc::PTRACE_GETSIGINFO, child, 0, info.as_mut_ptr()), 0);
                assert_eq!(libc::ptrace(libc::PTRACE_GETREGS, child, 0, registers.as_mut_ptr()), 0);
                let (info, registers) = (info.assume_init(), registers.assume_init());
                let signal = libc::WSTOPSIG(status);
                seen.push((signal, info.si_code, info.si_addr().addr(), registers.rip, registers.rsp));
                assert_eq!(libc::ptrace(libc::PTRACE_CONT, child, 0, signal), 0);
            }
            assert_eq!(seen.len(), 2, "the fault, and again: {seen:?}");
            assert_eq!(seen[0], seen[1]);
            libc::_exit(7);
        }
    }
    for way in ways() {
        let (output, told) = output(TEST, way);
        assert_eq!(output.status.code(), Some(7), "{way}: {told}");
        assert!(told.contains("stale call by"), "{way}: {told}");
    }
}

#[test]
fn an_address_that_is_in_use_again_is_not_called_stale() {
    const TEST: &str = "an_address_that_is_in_use_again_is_not_called_stale";
    if !is_child(TEST) {
        return;
    }
    let (rt, shop) = (Runtime::start().unwrap(), Workshop::new("again"));
    let explained = |address: *const ()| {
        let mut text = String::new();
        explain_address(address, &mut text).unwrap().then_some(text)
    };
    let mut places = Vec::new();
    for version in 1..=6 {
        // SAFETY: the functions have the types that are declared.
        unsafe { rt.load(shop.module("stale", version, &source(version))) }.unwrap();
        rt.collect().unwrap();
        let place = stale::address(&rt.frame());
        assert_eq!(explained(place), None);
        places.push(place);
    }
    let current = *places.last().unwrap();
    for (place, version) in places.iter().zip(1..) {
        let latest = places.iter().rposition(|other| other == place).unwrap() + 1;
        match explained(*place) {
            None => assert_eq!(*place, current, "version {version}"),
            Some(text) => assert!(text.contains(&format!("in stale version {latest} (")), "{text}"),
        }
    }
    assert_eq!(explained(ptr::from_ref(&rt).cast()), None);
    println!("{DONE}");
}
