//! A call to a function whose module is not loaded stops the process and names the function.

use std::process::Command;

use midflight::Runtime;

midflight::module! {
    unsafe mod absent { safe fn compute(x: i32) -> i32; }
}

#[test]
fn an_unbound_call_names_the_function() {
    const CHILD: &str = "MIDFLIGHT_TEST_UNBOUND_CHILD";
    let rt = Runtime::start().unwrap();
    if std::env::var_os(CHILD).is_some() {
        absent::compute(&rt.frame(), 1);
        unreachable!("the call returned");
    }
    let mut child = match std::env::var("MIDFLIGHT_TEST_RUNNER") {
        // Under an emulator a process cannot start another of its own kind by itself.
        Ok(runner) => {
            let mut words = runner.split_whitespace();
            let mut command = Command::new(words.next().expect("a runner"));
            command.args(words).arg(std::env::current_exe().unwrap());
            command
        }
        Err(_) => Command::new(std::env::current_exe().unwrap()),
    };
    let output = child.env(CHILD, "1").args(["--nocapture", "--test-threads=1"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains("absent::compute was called") && text.contains("load it"), "{text}");
    assert!(!text.contains("the call returned"), "{text}");
}
