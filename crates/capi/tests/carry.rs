//! The choice of what becomes of ordinary variables, made in C.
#![cfg(target_os = "linux")]

mod support;

use std::process::Command;

use support::*;

fn source(pair: &str) -> String {
    format!(
        "static int count = 100;
         static struct {{ {pair} }} pair = {{1, 2}};
         int next(void) {{ __asm__ volatile(\"\" : : \"r\"(&pair) : \"memory\"); return ++count; }}
         int both(void) {{ return (int)(pair.a + pair.b); }}"
    )
}

#[test]
fn a_choice_for_one_reload_and_for_all() {
    let session = stopped("carry");
    let program = session.path("carry");
    let mut compiler = host_compiler(std::env::consts::ARCH, false);
    compiler.args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-I"]).arg(include());
    compiler.arg("-o").arg(&program).arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/c-api/carry.c"));
    let built = compiler.arg(library("a")).args(["-lpthread", "-ldl", "-lm"]).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let versions = [(1, "int a, b;"), (2, "int a, b; "), (3, "long a, b;")];
    let machine = std::env::consts::ARCH;
    let versions =
        versions.map(|(number, pair)| session.module_for(machine, "counter", number, &source(pair), &["-g"]));
    let mut command = match std::env::var("MIDFLIGHT_TEST_RUNNER") {
        Ok(runner) => {
            let mut words = runner.split_whitespace();
            let mut command = Command::new(words.next().expect("a runner"));
            command.args(words).arg(&program);
            command
        }
        Err(_) => Command::new(&program),
    };
    let done = command.args(versions).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert_eq!((&*said, done.status.code()), ("", Some(0)), "{}", String::from_utf8_lossy(&done.stderr));
}
