//! docs/runtime-api.md is the plan of the whole API. It says of each part and of each function
//! whether it is there, and says so truly.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

const MARKS: [&str; 3] = ["There", "There, with limits", "Planned"];

fn root() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../.."].iter().collect()
}

fn document() -> String {
    fs::read_to_string(root().join("docs/runtime-api.md")).unwrap()
}

/// The function that a line of C declares at its left margin: `int runtime_init(const
/// runtime_config_t* config);`
fn declared(line: &str) -> Option<&str> {
    let (before, _) = line.split_once('(')?;
    let whole = line.starts_with(|c: char| c.is_ascii_lowercase()) && line.trim_end().ends_with([',', ';']);
    let (result, name) = before.rsplit_once([' ', '*'])?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    (whole && is_name && !result.starts_with("typedef") && !result.contains(['"', '='])).then_some(name)
}

fn declared_by_headers() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(root().join("include")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "h") {
            found.extend(fs::read_to_string(path).unwrap().lines().filter_map(declared).map(String::from));
        }
    }
    assert!(found.contains("runtime_init") && found.contains("hot_reload_module"), "{found:?}");
    found
}

/// The rows "| `runtime_init()` | There | |", each function once.
fn marks(text: &str) -> BTreeMap<String, String> {
    let mut marks = BTreeMap::new();
    for line in text.lines() {
        let Some((function, rest)) = line.strip_prefix("| `").and_then(|row| row.split_once("()` | ")) else {
            continue;
        };
        let (mark, limits) = rest.split_once(" | ").unwrap_or_else(|| panic!("{line}"));
        assert!(MARKS.contains(&mark), "{function}: `{mark}` is none of {MARKS:?}");
        let says_which = !limits.trim_matches([' ', '|']).is_empty();
        assert_eq!(
            says_which,
            mark == "There, with limits",
            "{function}: limits are said where there are some"
        );
        assert!(marks.insert(function.into(), mark.into()).is_none(), "{function} is marked twice");
    }
    marks
}

/// Lines outside of blocks of code, and inside.
fn split(text: &str) -> [Vec<&str>; 2] {
    let mut lines = [Vec::new(), Vec::new()];
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with("```") {
            inside = !inside;
        } else {
            lines[usize::from(inside)].push(line);
        }
    }
    lines
}

#[test]
fn a_function_is_marked_as_there_if_a_header_declares_it() {
    let (text, headers) = (document(), declared_by_headers());
    for (function, mark) in marks(&text) {
        assert_eq!(mark != "Planned", headers.contains(&function), "{function} is marked `{mark}`");
    }
}

#[test]
fn every_function_of_the_document_is_marked() {
    let text = document();
    let [prose, code] = split(&text);
    let summary = prose.iter().filter_map(|line| line.strip_prefix("- `")?.split_once("()` - "));
    // Behind a comment it is a declaration, else a definition of an example.
    let declarations =
        code.windows(2).filter(|lines| lines[0] == " */").filter_map(|lines| declared(lines[1]));
    let named: BTreeSet<&str> = declarations.chain(summary.map(|(name, _)| name)).collect();
    let marked = marks(&text);
    let marked: BTreeSet<&str> = marked.keys().map(String::as_str).collect();
    assert!(named.len() > 20, "{named:?}");
    // The advice on memory calls this one, and no block declares it.
    let advised = BTreeSet::from(["runtime_gc_collect"]);
    assert_eq!(named.union(&advised).copied().collect::<BTreeSet<_>>(), marked);
}

#[test]
fn every_part_is_marked() {
    let text = document();
    let [prose, _] = split(&text);
    let parts = prose.iter().enumerate().filter(|(_, line)| line.starts_with("##"));
    let mut count = 0;
    for (at, part) in parts.filter(|(_, line)| **line != "## Table of Contents") {
        let mark = prose[at + 2].strip_prefix("> **").and_then(|line| line.split_once("**"));
        let mark = mark.unwrap_or_else(|| panic!("`{part}` has no mark")).0;
        assert!(MARKS.contains(&mark.trim_end_matches('.')), "`{part}` is marked `{mark}`");
        count += 1;
    }
    assert!(count > 40);
}

#[test]
fn declarations_are_found_and_calls_are_not() {
    assert_eq!(declared("int runtime_init(const runtime_config_t* config);"), Some("runtime_init"));
    assert_eq!(declared("const char* runtime_strerror(int code);"), Some("runtime_strerror"));
    assert_eq!(declared("int transaction_add(transaction_id_t transaction_id,"), Some("transaction_add"));
    for line in [
        "runtime_gc_collect();",
        "typedef void (*reload_error_callback_t)(const char* module_path, int error_code);",
        "    return runtime_init(NULL);",
        "int reload_graphics_module(void) {",
        "printf(\"  P95 time: %.2f ms\\n\", metrics.p95_reload_time_ms);",
    ] {
        assert_eq!(declared(line), None, "{line}");
    }
}
