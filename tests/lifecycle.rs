//! What runs when a version comes and goes, and what it can call then.

mod support;

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

use midflight::{Error, Frame, Runtime};

midflight::module! {
    unsafe mod early_user { safe fn through() -> i32; }
    unsafe mod held { safe fn number() -> i32; }
    unsafe mod r#move { safe fn r#yield() -> i32; }
    unsafe mod many { safe fn sum() -> i32; }
}

/// What the modules' constructors and destructors wrote, a decimal digit each.
static LOG: AtomicU64 = AtomicU64::new(0);

extern "C" fn write_log(digit: u64) {
    LOG.store(LOG.load(Ordering::Relaxed) * 10 + digit, Ordering::Relaxed);
}

fn start(name: &str) -> (Runtime, support::Workshop, std::sync::MutexGuard<'static, ()>) {
    let started = support::start(name);
    LOG.store(0, Ordering::Relaxed);
    started
}

fn load_all(rt: Runtime, paths: &[std::path::PathBuf]) {
    // SAFETY: the tests' modules have the functions as declared above.
    unsafe { rt.load_all(paths) }.unwrap();
}

/// A constructor that logs what `now()` returns, and a destructor that logs that and 1 more.
fn logging(now: &str) -> String {
    format!(
        "static void log_digit(unsigned long n) {{ ((void (*)(unsigned long)){}ul)(n); }}
         {now}
         __attribute__((constructor)) static void begin(void) {{ log_digit(now()); }}
         __attribute__((destructor)) static void end(void) {{ log_digit(now() + 1); }}",
        write_log as *const () as usize
    )
}

fn returns(function: &str, value: i32) -> String {
    format!("int {function}(void) {{ return {value}; }}")
}

#[test]
fn a_module_calls_one_that_was_loaded_before_it() {
    let (rt, shop, _turn) = start("early");
    load_all(rt, &[shop.module("early", 1, &returns("undeclared", 3))]);
    let user = "int undeclared(void); int through(void) { return 10 + undeclared(); }";
    load_all(rt, &[shop.module("early_user", 1, user)]);
    assert_eq!(early_user::through(&rt.frame()), 13);
    load_all(rt, &[shop.module("early", 2, &returns("undeclared", 4))]);
    assert_eq!(early_user::through(&rt.frame()), 14);
}

#[test]
fn constructors_and_destructors_call_their_own_publication_whatever_frame_is_open() {
    let (rt, shop, _turn) = start("digits");
    let caller = logging("int digit(void); static unsigned long now(void) { return digit(); }");
    let (a1, a2) =
        (shop.module("digit_a", 1, &returns("digit", 1)), shop.module("digit_a", 2, &returns("digit", 5)));
    let (b1, b2) = (shop.module("digit_b", 1, &caller), shop.module("digit_b", 2, &caller));
    let before = rt.frame();
    load_all(rt, &[b1, a1]);
    assert_eq!(LOG.load(Ordering::Relaxed), 1, "the new callee, from a frame in which there was none");
    drop(before);
    let inside = rt.frame();
    load_all(rt, &[b2, a2]);
    assert_eq!(LOG.load(Ordering::Relaxed), 15, "the new callee, not the frame's");
    drop(inside);
    rt.collect().unwrap();
    assert_eq!(
        LOG.load(Ordering::Relaxed),
        152,
        "the old caller's destructor calls the old callee, which dies with it"
    );
    let inside = rt.frame();
    rt.unload("digit_b").unwrap();
    rt.unload("digit_a").unwrap();
    drop(inside);
    rt.collect().unwrap();
    assert_eq!(LOG.load(Ordering::Relaxed), 1526, "also when both were unloaded");
}

#[test]
fn a_destructor_may_still_read_what_dies_with_it() {
    let (rt, shop, _turn) = start("reads");
    // Named so that the callee comes first by name.
    let callee = "static int data[4] = { 7 }; int *reads_data(void) { return data; }";
    let caller = logging(
        "int *reads_data(void); static int *kept;
         static unsigned long now(void) { if (!kept) kept = reads_data(); return *kept; }",
    );
    load_all(rt, &[shop.module("reads_a", 1, callee), shop.module("reads_b", 1, &caller)]);
    let inside = rt.frame();
    rt.unload("reads_b").unwrap();
    rt.unload("reads_a").unwrap();
    drop(inside);
    rt.collect().unwrap();
    assert_eq!(LOG.load(Ordering::Relaxed), 78);
}

/// More slots than the first page of slot code has.
#[test]
fn slots_beyond_a_page_work_for_frames_trampolines_and_constructors() {
    let (rt, shop, _turn) = start("many");
    let count = 200;
    let callee: String = (0..count).map(|i| format!("int many_{i}(void) {{ return {i}; }}")).collect();
    let names: String = (0..count).map(|i| format!("int many_{i}(void);")).collect();
    let sum: String = (0..count).map(|i| format!("+ many_{i}()")).collect();
    let caller = logging(&format!(
        "{names} int sum(void) {{ return 0 {sum}; }} static unsigned long now(void) {{ return sum() == 19900; }}"
    ));
    let open = rt.frame();
    load_all(rt, &[shop.module("many", 1, &caller), shop.module("many_functions", 1, &callee)]);
    assert_eq!(LOG.load(Ordering::Relaxed), 1);
    drop(open);
    assert_eq!(many::sum(&rt.frame()), 19900);
    let address = rt.symbol("many_functions", "many_199").unwrap();
    // SAFETY: it has this type.
    let many_199: extern "C" fn() -> i32 = unsafe { std::mem::transmute(address) };
    assert_eq!(many_199(), 199);
}

#[test]
fn asking_for_an_address_again_publishes_nothing() {
    let (rt, shop, _turn) = start("again");
    load_all(rt, &[shop.module("again", 1, &returns("asked", 1))]);
    let first = rt.symbol("again", "asked").unwrap();
    let generation = rt.frame().generation();
    assert_eq!(rt.symbol("again", "asked").unwrap(), first);
    assert_eq!(rt.frame().generation(), generation);
}

#[test]
fn imports_bind_to_the_named_module_and_the_process_before_others() {
    let (rt, shop, _turn) = start("binding");
    // Both export `which`; one also exports a function that the process has.
    let first =
        shop.module("which_a", 1, "int which(void) { return 1; } int abs(int x) { (void)x; return -1; }");
    let second = shop.module("which_b", 1, &returns("which", 2));
    load_all(rt, &[first, second.clone()]);
    let source = "#include <stdlib.h>
                  int which(void); int through(void) { volatile int x = -5; return 10 * abs(x) + which(); }";
    let arch = std::env::consts::ARCH;
    let named = shop.module_for(arch, "early_user", 3, source, &["-fno-builtin", second.to_str().unwrap()]);
    load_all(rt, &[named]);
    assert_eq!(early_user::through(&rt.frame()), 52);
    let unnamed = shop.module_for(arch, "early_user", 4, source, &["-fno-builtin"]);
    // SAFETY: it is refused.
    let error = unsafe { rt.load(&unnamed) }.unwrap_err();
    assert!(
        matches!(&error, Error::Ambiguous { modules, .. } if modules == &["which_a", "which_b"]),
        "{error}"
    );
    assert_eq!(early_user::through(&rt.frame()), 52);
}

#[test]
fn a_frame_in_a_thread_local_outlives_the_runtimes_own() {
    let (rt, shop, _turn) = start("held");
    let [one, two] = [1, 2].map(|n| shop.module("held", n, &returns("number", n as i32)));
    load_all(rt, &[one]);
    struct Keeper(RefCell<Option<Frame>>);
    impl Drop for Keeper {
        fn drop(&mut self) {
            let frame = self.0.take().unwrap();
            let within = Runtime::start().unwrap().frame();
            assert_eq!(
                (held::number(&frame), held::number(&within)),
                (1, 1),
                "still the kept frame's generation"
            );
            LOG.store(1, Ordering::Relaxed);
        }
    }
    thread_local! { static KEEPER: Keeper = const { Keeper(RefCell::new(None)) }; }
    let thread = std::thread::spawn(move || {
        // Registered before the runtime's own thread-local, hence destroyed after it.
        KEEPER.with(|keeper| {
            assert!(keeper.0.borrow().is_none());
            *keeper.0.borrow_mut() = Some(rt.frame());
        });
        load_all(rt, &[two]);
    });
    // Joining, unlike the end of a scope, waits for the thread-locals' destructors.
    thread.join().unwrap();
    assert_eq!(LOG.load(Ordering::Relaxed), 1);
    assert_eq!(held::number(&rt.frame()), 2);
    assert_eq!(rt.collect().unwrap().held, 0, "the thread's record holds nothing any more");
}

#[test]
fn names_that_rust_reserves_can_be_declared() {
    let (rt, shop, _turn) = start("reserved");
    load_all(rt, &[shop.module("move", 1, &returns("yield", 8))]);
    assert_eq!(r#move::r#yield(&rt.frame()), 8);
}

#[test]
fn a_forked_child_calls_but_does_not_load() {
    let (rt, shop, _turn) = start("forked");
    let module = shop.module("held", 9, &returns("number", 9));
    load_all(rt, std::slice::from_ref(&module));
    // SAFETY: the child only calls, asks, and exits without unwinding into the test harness.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let calls = held::number(&rt.frame()) == 9;
        // SAFETY: it is refused.
        let refused = matches!(unsafe { rt.load(&module) }, Err(Error::Forked));
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(if calls && refused { 0 } else { 1 }) };
    }
    let mut status = -1;
    // SAFETY: waits for the child made above.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0);
}

/// A page that was never written is shared with the child, so what the parent does with it must not
/// reach the child.
#[test]
fn a_forked_child_keeps_its_code_while_the_parent_reloads() {
    let (rt, shop, _turn) = start("fork-keeps");
    let versions = [1, 2].map(|n| shop.module("held", n, &returns("number", n as i32)));
    load_all(rt, &versions[..1]);
    let (mut child_waits, mut parent_tells) = std::io::pipe().unwrap();
    // SAFETY: the child only calls, reads, and exits without unwinding into the test harness.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let told = std::io::Read::read_exact(&mut child_waits, &mut [0]).is_ok();
        let kept = held::number(&rt.frame()) == 1;
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(if told && kept { 0 } else { 1 }) };
    }
    // The version that the child has is freed here, and its place is wanted.
    for round in 1..6 {
        load_all(rt, std::slice::from_ref(&versions[round % 2]));
        rt.collect().unwrap();
    }
    assert_eq!(held::number(&rt.frame()), 2);
    std::io::Write::write_all(&mut parent_tells, &[1]).unwrap();
    let mut status = -1;
    // SAFETY: waits for the child made above.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0);
}

#[test]
fn nothing_to_load_is_an_error() {
    let (rt, _shop, _turn) = start("nothing");
    // SAFETY: nothing is loaded.
    assert!(matches!(unsafe { rt.load_all([""; 0]) }, Err(Error::NoFiles)));
}

// Through /proc/self/mem, as debuggers write there.
#[cfg(target_os = "linux")]
#[test]
fn a_page_that_a_debugger_has_written_is_not_used_again() {
    use std::os::unix::fs::FileExt;
    let (rt, shop, _turn) = start("written");
    let version =
        |number: u32| shop.module("written", number, &format!("int number(void) {{ return {number}; }}"));
    let number = || {
        let address = rt.frame_symbol("written", "number").unwrap();
        let _frame = rt.frame();
        // SAFETY: the module's function has this type, and the thread is inside a frame.
        unsafe { std::mem::transmute::<*mut (), extern "C" fn() -> i32>(address.as_ptr())() }
    };
    // SAFETY: the module has the function as declared, here and below.
    unsafe { rt.load(version(1)) }.unwrap();
    assert_eq!(number(), 1);
    // As a breakpoint is written, and taken away again: what is private to the process from then on
    // is the whole page.
    let memory = std::fs::File::options().read(true).write(true).open("/proc/self/mem").unwrap();
    for line in
        support::mappings().lines().filter(|line| line.contains("r-xp") && line.contains("midflight: code"))
    {
        let start = u64::from_str_radix(line.split('-').next().unwrap(), 16).unwrap();
        let mut byte = [0];
        memory.read_exact_at(&mut byte, start).unwrap();
        memory.write_all_at(&byte, start).unwrap();
    }
    for round in 2..6 {
        // SAFETY: as above.
        unsafe { rt.load(version(round)) }.unwrap();
        rt.collect().unwrap();
        assert_eq!(number(), round as i32);
    }
}
