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

/// The names that follow `crate::`, those of a list in braces included.
fn named(code: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let name = |text: &str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        if let Some(list) = rest.strip_prefix('{') {
            let (mut depth, mut begins) = (0, true);
            for (at, c) in list.char_indices() {
                match c {
                    '}' if depth == 0 => break,
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 0 => begins = true,
                    c if c.is_alphanumeric() && begins => {
                        let item = &list[at..];
                        names.insert(&item[..name(item)]);
                        begins = false;
                    }
                    _ => {}
                }
            }
        } else {
            // Macros belong to the root.
            let (name, behind) = rest.split_at(name(rest));
            if !behind.starts_with('!') {
                names.insert(name);
            }
        }
    }
    names
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
    let place = |room: &str| rooms.iter().position(|other| *other == room);

    // What the crate's root re-exports is of the room that it comes from.
    let root_code = code(&root.join("src/lib.rs"));
    let mut exported = BTreeMap::new();
    for line in root_code.split(';').filter_map(|statement| statement.trim().strip_prefix("pub use ")) {
        let room = line.split("::").next().unwrap();
        for name in line.split(|c: char| !c.is_alphanumeric() && c != '_') {
            exported.insert(name, room);
        }
    }

    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    let (mut arrows, mut seen, mut wrong) = (0, BTreeSet::new(), Vec::new());
    for path in files {
        let relative = path.strip_prefix(root.join("src")).unwrap();
        let mut parts = relative.iter().map(|part| part.to_str().unwrap());
        let room = parts.next().unwrap().trim_end_matches(".rs").to_owned();
        if room == "lib" || relative.iter().any(|part| part == "tests" || part == "tests.rs") {
            continue;
        }
        seen.insert(room.clone());
        let Some(from) = place(&room) else {
            wrong.push(format!("{room} is not in the list of rooms"));
            continue;
        };
        for name in named(&code(&path)) {
            let to = exported.get(name).copied().unwrap_or(name);
            let Some(to) = place(to).filter(|_| to != room) else { continue };
            arrows += 1;
            if to < from {
                wrong.push(format!("{} names {name}: {room} is behind {}", relative.display(), rooms[to]));
            }
        }
    }
    wrong.extend(
        rooms.iter().filter(|room| !seen.contains(**room)).map(|room| format!("there is no room {room}")),
    );
    assert!(arrows > 100, "{arrows} arrows were found");
    assert!(wrong.is_empty(), "against the arrows of ARCHITECTURE.md:\n{}", wrong.join("\n"));
}
