//! midflight.hpp: a call through it is one through a pointer, with and without exceptions.

use crate::bench::{Bench, output, run};
use crate::blocks::Modules;
use crate::checks::{Checks, indented, same};

pub(crate) fn check(bench: &Bench, checks: &mut Checks) -> Result<(), String> {
    println!("== midflight.hpp");
    let modules = Modules::of(bench);
    let (object, program) = (bench.work.join("call.o"), bench.work.join("program"));
    for compiler in &bench.compilers {
        let name = compiler.name;
        let mut last = Vec::new();
        for level in ["-O1", "-O2"] {
            let mut compile = bench.compiler(compiler, true);
            compile
                .args(["-std=c++17", level, "-Wall", "-Wextra", "-Wpedantic", "-Werror"])
                .args(bench.cflags()?);
            run(compile.arg("-c").arg("-o").arg(&object).arg(bench.root.join("tests/c-api/call.cpp")))?;
            let [pointer, function] =
                ["by_pointer", "by_function"].map(|symbol| instructions(bench, &object, symbol));
            let (pointer, function) = (pointer?, function?);
            let count = pointer.len();
            checks.attempt(
                &format!("{name} {level}: a call through midflight::function is the {count} instructions of one through a pointer"),
                || same(&pointer, &function),
            );
            if !pointer.iter().any(|line| ["call", "blr", "br", "jmp"].iter().any(|word| line.contains(word)))
            {
                checks.fail(&format!("{name} {level}: no call in the disassembly"), &pointer.join("\n"));
            }
            last = function;
        }
        if name == "gcc" {
            indented(&last.join("\n"));
        }
        for exceptions in [&["-fexceptions"][..], &["-fno-exceptions", "-fno-rtti"]] {
            let what = format!("{name} {}", exceptions.join(" "));
            let mut compile = bench.compiler(compiler, true);
            compile.args([
                "-std=c++17",
                "-O2",
                "-g",
                "-Wall",
                "-Wextra",
                "-Wpedantic",
                "-Wshadow",
                "-Werror",
            ]);
            compile.args(exceptions).args(bench.cflags()?).arg(bench.root.join("tests/c-api/cplusplus.cpp"));
            compile.arg("-o").arg(&program).args(["-rdynamic", "-pthread"]).args(bench.libraries(true)?);
            checks.attempt(&format!("{what} compiles"), || run(&mut compile));
            checks.attempt(&format!("{what} runs"), || modules.run(&program));
        }
    }
    Ok(())
}

/// The instructions of a function, without addresses.
fn instructions(bench: &Bench, object: &std::path::Path, symbol: &str) -> Result<Vec<String>, String> {
    let mut dump = bench.tool("objdump");
    dump.args(["-dr", "--no-show-raw-insn", &format!("--disassemble={symbol}")]).arg(object);
    Ok(output(&mut dump)?.lines().filter_map(|line| instruction(line, symbol)).collect())
}

/// Of a line like `1c: call 1a <by_function+0x5> # comment` what comes behind the address; the
/// function itself is called `<.+0x5>`.
fn instruction(line: &str, symbol: &str) -> Option<String> {
    let (address, text) = line.split_once(':')?;
    // Relocations are behind tabs.
    let address = address.trim_start_matches(' ');
    if address.is_empty() || !address.chars().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    let text = text.split(" #").next()?.split("//").next()?;
    let text = text.replace(&format!("<{symbol}>"), "<.>").replace(&format!("<{symbol}+"), "<.+");
    Some(text.trim_matches([' ', '\t']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_left_out() {
        let of = |line| instruction(line, "by_function");
        assert_eq!(of("0000000000000000 <by_function>:"), None);
        assert_eq!(of("Disassembly of section .text:"), None);
        assert_eq!(of("   4:\tmov    %rsi,%rax").unwrap(), "mov    %rsi,%rax");
        assert_eq!(of("  10:\tjmp    4 <by_function+0x4>  # x").unwrap(), "jmp    4 <.+0x4>");
        assert_eq!(of("  1c:\tb\t0 <by_function>  // b.any").unwrap(), "b\t0 <.>");
        assert_eq!(of("\t\t\t10: R_X86_64_PC32\t.rodata-0x4"), None);
    }
}
