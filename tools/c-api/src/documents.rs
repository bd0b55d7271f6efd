//! The documents: their blocks of code, and the table of codes.

use crate::bench::{Bench, output, read, remove, run, write};
use crate::checks::{Checks, same};
use crate::linking::fresh;

/// A block of code in C.
pub(crate) struct Block {
    /// Of the section that it is in.
    pub(crate) heading: String,
    pub(crate) text: String,
}

/// The blocks in C of a document, in order.
pub(crate) fn blocks(document: &str) -> Vec<Block> {
    let (mut heading, mut found, mut inside) = ("", Vec::<Block>::new(), false);
    for line in document.lines() {
        match line {
            "```c" => {
                inside = true;
                found.push(Block { heading: heading.into(), text: String::new() });
            }
            _ if line.starts_with("```") => inside = false,
            _ if inside => {
                if let Some(block) = found.last_mut() {
                    block.text += line;
                    block.text.push('\n');
                }
            }
            _ if line.starts_with("##") => heading = line.trim_start_matches('#').trim_start(),
            _ => {}
        }
    }
    found
}

/// The code of a section's blocks in a language.
pub(crate) fn section(document: &str, heading: &str, language: &str) -> String {
    let (mut here, mut inside, mut code) = (false, false, String::new());
    for line in document.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            here = name == heading;
        }
        if let Some(name) = line.strip_prefix("```") {
            inside = here && !inside && name == language;
        } else if inside {
            code += line;
            code.push('\n');
        }
    }
    code
}

pub(crate) fn check(bench: &Bench, checks: &mut Checks) {
    println!("== docs/c-api.md");
    checks.attempt("its first program works, and says which file is not there", || first_program(bench));
    let codes = || -> Result<_, String> {
        let header = header_codes(&read(&bench.root.join("include/runtime_types.h"))?);
        let table = table_codes(&read(&bench.root.join("docs/c-api.md"))?);
        Ok((header, table))
    };
    match codes() {
        Ok((header, table)) => {
            let what = format!("its table has the {} codes of runtime_types.h", header.len());
            checks.attempt(
                &what,
                || if header.is_empty() { Err("none".into()) } else { same(&header, &table) },
            );
        }
        Err(why) => checks.fail("its table has the codes of runtime_types.h", &why),
    }
}

fn first_program(bench: &Bench) -> Result<(), String> {
    let folder = fresh(bench)?;
    let document = blocks(&read(&bench.root.join("docs/c-api.md"))?);
    let program = document.first().ok_or("no block in C")?;
    write(&folder.join("first.c"), &program.text)?;
    write(&folder.join("guess.c"), "int answer(void) { return 42; }\n")?;
    run(bench.gcc().current_dir(&folder).args(["-shared", "-fPIC", "guess.c", "-o", "libguess.so"]))?;
    let mut link = bench.gcc();
    link.current_dir(&folder).args(["-std=c11", "-Wall", "-Wextra", "-Werror", "first.c", "-o", "first"]);
    run(link.args(bench.cflags()?).args(bench.libraries(false)?))?;
    let first = folder.join("first");
    let answer = output(bench.on_machine(&first).current_dir(&folder))?;
    if answer.trim_end() != "42" {
        return Err(format!("it printed {answer}"));
    }
    remove(&folder.join("libguess.so"))?;
    match run(bench.on_machine(&first).current_dir(&folder)) {
        Ok(said) => Err(format!("it ends well without its module: {said}")),
        Err(said) if said.contains("./libguess.so") => Ok(()),
        Err(said) => Err(said),
    }
}

/// `CODE NAME` of each, as the header has them.
fn header_codes(header: &str) -> Vec<String> {
    let code = |line: &str| {
        let (name, number) = line.trim_start().trim_end_matches(',').split_once(" = ")?;
        let is_code = name == "RUNTIME_OK" || name.starts_with("RUNTIME_ERROR_");
        (is_code && number.parse::<i32>().is_ok()).then(|| format!("{number} {name}"))
    };
    header.lines().filter_map(code).collect()
}

/// The same, as the table has them: `| CODE | ``NAME`` | ...`.
fn table_codes(document: &str) -> Vec<String> {
    let code = |line: &str| {
        let (number, rest) = line.strip_prefix('|')?.split_once('|')?;
        let (name, _) = rest.trim_start().strip_prefix('`')?.split_once('`')?;
        let number = number.trim();
        (name.starts_with("RUNTIME_") && number.parse::<i32>().is_ok()).then(|| format!("{number} {name}"))
    };
    document.lines().filter_map(code).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "# T\n## One\n```sh\na\n```\n### Two\n```c\nb\n## no heading\n```\n## Three\n```sh\nc\n```\n```c\nd\n```\n```sh\ne\n```\n";

    #[test]
    fn blocks_have_the_heading_above() {
        let found: Vec<_> = blocks(DOCUMENT).into_iter().map(|block| (block.heading, block.text)).collect();
        assert_eq!(found, [("Two".into(), "b\n## no heading\n".into()), ("Three".into(), "d\n".into())]);
    }

    #[test]
    fn sections_have_their_languages() {
        assert_eq!(section(DOCUMENT, "Three", "sh"), "c\ne\n");
        assert_eq!(section(DOCUMENT, "One", "sh"), "a\n");
        assert_eq!(section(DOCUMENT, "Four", "sh"), "");
    }

    #[test]
    fn codes_of_both() {
        let header =
            "typedef enum {\n    RUNTIME_OK = 0,\n    RUNTIME_ERROR_ONE = -1,\n    RUNTIME_LAST = 3,\n";
        let table =
            "| code | name |\n|---|---|\n| 0 | `RUNTIME_OK` | well |\n| -1 | `RUNTIME_ERROR_ONE` | not |\n";
        assert_eq!(header_codes(header), table_codes(table));
        assert_eq!(header_codes(header), ["0 RUNTIME_OK", "-1 RUNTIME_ERROR_ONE"]);
    }
}
