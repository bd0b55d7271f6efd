//! What docs/debugging.md says of ThreadSanitizer.

use std::process::Command;

use crate::bench::{Bench, read, run, write};
use crate::checks::Checks;

/// Natively only: an emulator has not the memory where ThreadSanitizer wants it. Nor has a kernel
/// that places things too much at random.
pub(crate) fn check(bench: &Bench, checks: &mut Checks) -> Result<(), String> {
    if bench.is_emulated() {
        return Ok(());
    }
    println!("== docs/debugging.md");
    let source = bench.root.join("tests/c-api/sanitized.c");
    let compile = || {
        let mut compile = bench.gcc();
        compile.args(["-g", "-fsanitize=thread"]).arg(&source);
        compile
    };
    for (folder, flags) in [("clean", &[][..]), ("race", &["-DRACE"])] {
        let module = bench.folder(folder)?.join("value.so");
        run(compile().args(["-shared", "-fPIC", "-DMODULE"]).args(flags).arg("-o").arg(module))?;
    }
    let program = bench.work.join("sanitized");
    run(compile()
        .arg("-o")
        .arg(&program)
        .arg("-rdynamic")
        .args(bench.cflags()?)
        .args(bench.libraries(false)?))?;
    let document = read(&bench.root.join("docs/debugging.md"))?;
    let option = document.lines().find_map(|line| line.strip_prefix("$ TSAN_OPTIONS=")?.split(' ').next());
    let option = option.ok_or("docs/debugging.md has no line with TSAN_OPTIONS")?;
    let suppressions = bench.work.join("suppressions");
    write(&suppressions, "called_from_lib:libmidflight.so\n")?;
    let file = format!("suppressions={}", suppressions.display());
    for (shown, option) in [(option, option), ("suppressions=", &file)] {
        let sanitized = |folder: &str| -> Command {
            let mut command = bench.command("setarch");
            command.env("TSAN_OPTIONS", option).args(["-R", "timeout", "60"]).arg(&program);
            command.arg(bench.work.join(folder));
            command
        };
        checks.attempt(&format!("ThreadSanitizer, TSAN_OPTIONS={shown}: a reload is no race"), || {
            run(&mut sanitized("clean"))
        });
        checks.attempt("and a module's own is one", || match run(&mut sanitized("race")) {
            Err(said) if said.contains("WARNING: ThreadSanitizer: data race") => Ok(()),
            Ok(said) | Err(said) => Err(said),
        });
    }
    Ok(())
}
