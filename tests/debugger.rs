//! gdb sees what is loaded: names, lines and callers, in each version, and nothing of what is gone.

#![cfg(target_os = "linux")]

mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use midflight::{Config, Gdb, Runtime};
use support::{Workshop, is_emulated, start, this_test};

midflight::module! {
    unsafe mod debugged { safe fn step(x: i32) -> i32; }
}

/// Each version has ten lines more before its code: `step_inside` is on line 11 of version 1 and on
/// line 21 of version 2.
fn source(version: u32) -> String {
    let before = "\n".repeat(version as usize * 10);
    let code =
        "static int __attribute__((noinline)) step_inside(int x) { counter += x; return counter * VERSION; }
int step(int x) {
    int result = step_inside(x) + 1;
    return result;
}
";
    format!("static int counter;{before}{code}")
}

const CHILD: &str = "MIDFLIGHT_TEST_DEBUGGED";
const TEST: &str = "gdb_breaks_in_each_version_and_shows_function_file_and_line";

/// Where the debugged process has unloaded everything.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn midflight_test_unloaded(held: usize) {
    std::hint::black_box(held);
}

fn debugged_process() {
    let mut config = Config::default();
    if is_emulated() {
        // The emulator keeps breakpoints to itself, so that nobody sees that gdb is there.
        config.gdb = Gdb::Always;
    }
    Runtime::start_with(config).unwrap();
    let (rt, shop, _turn) = start("debugged");
    for version in [1, 2] {
        let machine = std::env::consts::ARCH;
        let options = ["-g", "-O0", &format!("-DVERSION={version}")];
        let module = shop.module_for(machine, "debugged", version, &source(version), &options);
        // SAFETY: as declared.
        unsafe { rt.load(module) }.unwrap();
        debugged::step(&rt.frame(), 5);
    }
    rt.unload("debugged").unwrap();
    midflight_test_unloaded(rt.collect().unwrap().held);
}

/// gdb with the child under it, and the emulator that runs the child if there is one.
fn under_gdb(child: &Command, shop: &Workshop, script: &str) -> (Command, Option<Child>) {
    let Ok(runner) = std::env::var("MIDFLIGHT_TEST_RUNNER") else {
        let mut gdb =
            gdb("gdb", &shop.file("script", format!("{script}\n").replace("START", "run").as_bytes()));
        gdb.arg("--args").arg(child.get_program()).args(child.get_args());
        return (gdb, None);
    };
    // gdb does not run the emulator's process but talks to the emulator.
    let socket = shop.path("gdb.socket");
    let mut emulator = Command::new(runner.split_whitespace().next().expect("a runner"));
    emulator.arg("-g").arg(&socket).args(child.get_args()).env(CHILD, "1").stdout(Stdio::null());
    let mut emulator = emulator.spawn().expect("the emulator that runs this test");
    while !socket.exists() {
        assert_eq!(emulator.try_wait().unwrap(), None, "the emulator has ended before it could be talked to");
        std::thread::yield_now();
    }
    let program = std::env::current_exe().unwrap();
    let connect = format!("file {}\ntarget remote {}\n", program.display(), socket.display());
    let script = connect + &script.replace("START", "continue");
    (gdb("gdb-multiarch", &shop.file("script", script.as_bytes())), Some(emulator))
}

fn gdb(name: &str, script: &Path) -> Command {
    let mut gdb = Command::new(name);
    gdb.args(["-batch", "-nx", "-iex", "set auto-load no", "-x"]).arg(script);
    gdb
}

#[test]
fn gdb_breaks_in_each_version_and_shows_function_file_and_line() {
    if std::env::var_os(CHILD).is_some() {
        return debugged_process();
    }
    let shop = Workshop::new("gdb");
    // `unsigned long`, because gdb may take `char` for Rust's, of four bytes.
    let script = "set pagination off
set width 0
set breakpoint pending on
break step_inside
break module.c:24
break midflight_test_unloaded
START
echo == version 1\\n
backtrace
print counter + x
set $old = $pc
continue
echo == version 2\\n
backtrace
continue
echo == line 24\\n
backtrace
continue
echo == unloaded\\n
backtrace 2
set language c
output *(void **)((unsigned long)&__jit_debug_descriptor + 16)
echo \\n
info symbol $old
kill
";
    let (mut gdb, emulator) = under_gdb(&this_test(TEST), &shop, script);
    let output =
        gdb.env(CHILD, "1").output().unwrap_or_else(|e| panic!("{gdb:?}: {e}; scripts/setup installs it"));
    if let Some(mut emulator) = emulator {
        // gdb has ended it, or it was never reached.
        let _ = emulator.kill();
        emulator.wait().unwrap();
    }
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let part = |from: &str| {
        let begin =
            text.find(&format!("== {from}\n")).unwrap_or_else(|| panic!("not reached: {from}\n{text}"));
        text[begin + 3..].split("\n== ").next().unwrap_or_default()
    };
    let shows = |from, what: &[&str]| {
        let part = part(from);
        assert!(what.iter().all(|what| part.contains(what)), "{what:?} in\n{part}\nof\n{text}");
    };
    shows(
        "version 1",
        &["#0  step_inside (x=5) at ", "-debugged-1/module.c:11\n", "#1 ", "in step (x=5) at "],
    );
    shows("version 1", &["-debugged-1/module.c:13\n", "debugged_process ()", "$1 = 5"]);
    shows(
        "version 2",
        &["#0  step_inside (x=5) at ", "-debugged-2/module.c:21\n", "-debugged-2/module.c:23\n"],
    );
    shows("line 24", &["#0  step (x=5) at ", "-debugged-2/module.c:24\n"]);
    shows("unloaded", &["midflight_test_unloaded", "(void *) 0x0\n", "No symbol matches $old"]);
}
