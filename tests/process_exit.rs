//! What a process runs when it exits: the functions that loaded modules registered, in the C
//! library's order, and nothing of what is gone.
//!
//! On Linux only: `on_exit` and `quick_exit` are not macOS's.

#![cfg(target_os = "linux")]

mod support;

use std::process::Command;

use midflight::Runtime;
use support::start;

midflight::module! {
    unsafe mod leaver { safe fn register_more(); safe fn register_for_thread(); }
}

#[test]
fn a_process_that_exits_runs_the_functions_of_what_is_loaded() {
    const CHILD: &str = "MIDFLIGHT_TEST_EXIT_CHILD";
    if let Some(how) = std::env::var_os(CHILD) {
        match how.to_str().unwrap() {
            "quick, replaced" => exit_from_an_old_version(),
            how => exit_child(how),
        }
    }
    for (how, expected) in [
        ("loaded", "[thread][second 5][host][first][status 5]"),
        ("unloaded", "[destructor][second 0][first][status 0][host]"),
        ("quick", "[quick host][quick two][quick one]"),
        ("quick unloaded", "[destructor][second 0][first][status 0][quick host]"),
        ("quick, replaced", "[busy 1][quick]"),
    ] {
        let mut child = this_program();
        let output = child
            .env(CHILD, how)
            .args(["a_process_that_exits", "--nocapture", "--test-threads=1"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let printed: String =
            text.split_inclusive(']').filter_map(|part| part.find('[').map(|at| &part[at..])).collect();
        assert_eq!(
            printed,
            expected,
            "{how}: {:?} {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(output.status.code(), Some(5), "{how}");
    }
}

fn this_program() -> Command {
    let this = std::env::current_exe().unwrap();
    // Under an emulator a process cannot start another of its own kind by itself.
    match std::env::var("MIDFLIGHT_TEST_RUNNER") {
        Ok(runner) => {
            let mut words = runner.split_whitespace();
            let mut command = Command::new(words.next().expect("a runner"));
            command.args(words).arg(this);
            command
        }
        Err(_) => Command::new(this),
    }
}

unsafe extern "C" {
    fn __cxa_atexit(
        function: extern "C" fn(*mut libc::c_void),
        argument: *mut libc::c_void,
        dso: *const libc::c_void,
    ) -> i32;
    fn __cxa_at_quick_exit(function: extern "C" fn(*mut libc::c_void), dso: *const libc::c_void) -> i32;
    fn quick_exit(status: i32) -> !;
}

fn print(text: &str) {
    // SAFETY: writes the text.
    unsafe { libc::write(1, text.as_ptr().cast(), text.len()) };
}

/// An old version's function runs, and another thread frees what nobody is inside.
fn exit_from_an_old_version() -> ! {
    extern "C" fn collect() {
        let collect = || {
            // SAFETY: nobody is inside but whom the runtime has call there.
            let left = unsafe { Runtime::start().unwrap().collect_escaped() }.unwrap();
            print(&format!("[busy {}]", left.busy));
        };
        std::thread::spawn(collect).join().unwrap();
    }
    let (rt, shop, _turn) = start("exit_from_old");
    let source = format!(
        "#include <stdlib.h>
         #include <unistd.h>
         static void quick(void) {{ ((void (*)(void)){}ul)(); if (write(1, \"[quick]\", 7) < 0) abort(); }}
         void nothing(void) {{}}
         __attribute__((constructor)) static void begin(void) {{ at_quick_exit(quick); }}",
        collect as *const () as usize
    );
    // SAFETY: nothing of them is called by the host.
    unsafe {
        rt.load(shop.module("kept", 1, &source)).unwrap();
        rt.symbol("kept", "nothing").unwrap();
        rt.load(shop.module("kept", 2, "void nothing(void) {}")).unwrap();
    }
    drop(shop);
    // SAFETY: ends the process.
    unsafe { quick_exit(5) }
}

fn exit_child(how: &str) -> ! {
    extern "C" fn host(_: *mut libc::c_void) {
        print("[host]");
    }
    extern "C" fn quick_host(_: *mut libc::c_void) {
        print("[quick host]");
    }
    let (rt, shop, _turn) = start("exit_child");
    let source = "
        #include <stdlib.h>
        #include <string.h>
        #include <unistd.h>
        extern void *__dso_handle;
        int __cxa_thread_atexit_impl(void (*)(void *), void *, void *);
        static void print(const char *text) { if (write(1, text, strlen(text)) < 0) abort(); }
        int on_exit(void (*)(int, void *), void *);
        static void first(void) { print(\"[first]\"); }
        static void second(int status, void *n) { print(status ? \"[second 5]\" : \"[second 0]\"); }
        static void status(int status, void *n) { print(status ? \"[status 5]\" : \"[status 0]\"); }
        static void thread(void *n) { print(\"[thread]\"); }
        static void one(void) { print(\"[quick one]\"); }
        static void two(void) { print(\"[quick two]\"); }
        __attribute__((constructor)) static void begin(void) { on_exit(status, 0); atexit(first); at_quick_exit(one); }
        __attribute__((destructor)) static void end(void) { print(\"[destructor]\"); }
        void register_more(void) { on_exit(second, 0); at_quick_exit(two); }
        void register_for_thread(void) { __cxa_thread_atexit_impl(thread, 0, &__dso_handle); }";
    // SAFETY: the module has the functions as declared above.
    unsafe { rt.load(shop.module("leaver", 1, source)) }.unwrap();
    // SAFETY: functions of this program.
    unsafe {
        __cxa_atexit(host, std::ptr::null_mut(), std::ptr::null());
        __cxa_at_quick_exit(quick_host, std::ptr::null());
    }
    leaver::register_more(&rt.frame());
    match how {
        "loaded" => leaver::register_for_thread(&rt.frame()),
        "unloaded" | "quick unloaded" => rt.unload("leaver").unwrap(),
        _ => {}
    }
    drop(shop);
    if how.starts_with("quick") {
        // SAFETY: ends the process.
        unsafe { quick_exit(5) };
    }
    std::process::exit(5);
}
