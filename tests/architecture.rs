//! The arrows of ARCHITECTURE.md: which room of `src` may name which other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The code of a file: without comments, and without the tests beside it.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// The paths that a text begins with, as a `use` has them: `a::{b::c, d}` is `a/b/c` and `a/d`.
fn paths(text: &str) -> Vec<String> {
    let text = text.trim_start();
    if let Some(list) = text.strip_prefix('{') {
        let (mut depth, mut from, mut found) = (0, 0, Vec::new());
        for (at, c) in list.char_indices() {
            match c {
                '}' if depth == 0 => {
                    found.extend(paths(&list[from..at]));
                    break;
                }
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    found.extend(paths(&list[from..at]));
                    from = at + 1;
                }
                _ => {}
            }
        }
        return found;
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, behind) = text.split_at(end);
    match behind.strip_prefix("::") {
        _ if name.is_empty() => Vec::new(),
        // Macros belong to the root.
        _ if behind.starts_with('!') => Vec::new(),
        Some(rest) => match paths(rest) {
            none if none.is_empty() => vec![name.to_owned()],
            further => further.into_iter().map(|path| format!("{name}/{path}")).collect(),
        },
        None => vec![name.to_owned()],
    }
}

/// What a file names of its crate. `module` is where it is itself, for paths by `super`.
fn named(code: &str, module: &[&str]) -> BTreeSet<String> {
    let from_root = code.split("crate::").skip(1).flat_map(paths);
    let from_above = code.match_indices("super::").filter_map(|(at, _)| {
        // The first of a row of them: `super::super::` is one path.
        if code[..at].ends_with("super::") {
            return None;
        }
        let mut rest = &code[at..];
        let mut place = module;
        while let Some(behind) = rest.strip_prefix("super::") {
            (rest, place) = (behind, place.split_last().map_or(place, |(_, above)| above));
        }
        let place = place.join("/");
        Some(paths(rest).into_iter().map(move |path| format!("{place}/{path}")))
    });
    from_root.chain(from_above.flatten()).collect()
}

#[test]
fn paths_are_read_as_use_has_them() {
    let text = "use crate::{a::{b, c::d}, e};\nf(crate::g::h(1), super::i, super::super::j::k!());";
    let found: Vec<_> = named(text, &["x", "y", "z"]).into_iter().collect();
    assert_eq!(found, ["a/b", "a/c/d", "e", "g/h", "x/j", "x/y/i"]);
}

#[test]
fn each_room_names_only_those_behind_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let rooms: Vec<&str> = text
        .split("```rooms")
        .nth(1)
        .expect("the list of rooms")
        .split("```")
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    // The innermost that a path leads into.
    let place = |path: &str| {
        let is_in =
            |room: &str| path.strip_prefix(room).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        (0..rooms.len()).filter(|at| is_in(rooms[*at])).max_by_key(|at| rooms[*at].len())
    };

    // What the crate's root re-exports is of the room that it comes from.
    let mut exported = BTreeMap::new();
    for statement in code(&root.join("src/lib.rs")).split(';') {
        for path in statement.trim().strip_prefix("pub use ").into_iter().flat_map(paths) {
            exported.insert(path.rsplit('/').next().unwrap().to_owned(), path);
        }
    }

    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    let (mut arrows, mut seen, mut wrong) = (0, BTreeSet::new(), Vec::new());
    for path in files {
        let relative = path.strip_prefix(root.join("src")).unwrap();
        let mut module: Vec<&str> = relative.iter().map(|part| part.to_str().unwrap()).collect();
        if module == ["lib.rs"]
            || module == ["platform", "mod.rs"]
            || module.iter().any(|part| *part == "tests" || *part == "tests.rs")
        {
            continue;
        }
        match module.pop().unwrap() {
            "mod.rs" => {}
            file => module.push(file.strip_suffix(".rs").unwrap()),
        }
        let Some(from) = place(&module.join("/")) else {
            wrong.push(format!("{} is in no room of the list", relative.display()));
            continue;
        };
        seen.insert(from);
        for name in named(&code(&path), &module) {
            let to = place(exported.get(&name).unwrap_or(&name));
            let Some(to) = to.filter(|to| *to != from) else { continue };
            arrows += 1;
            if to < from {
                wrong.push(format!(
                    "{} names {name}: {} is behind {}",
                    relative.display(),
                    rooms[from],
                    rooms[to]
                ));
            }
        }
    }
    let empty = (0..rooms.len()).filter(|room| !seen.contains(room));
    wrong.extend(empty.map(|room| format!("there is no room {}", rooms[room])));
    assert!(arrows > 100, "{arrows} arrows were found");
    assert!(wrong.is_empty(), "against the arrows of ARCHITECTURE.md:\n{}", wrong.join("\n"));
}
