//! What two modules cannot both have: a function's name, a resource, the next version of a module.

use std::collections::BTreeSet;

use super::{Look, Said, list};
use crate::{Kind, Module, Severity};

/// Functions that every module may have: the runtime finds them by name.
const HOOKS: [&str; 5] =
    ["module_init", "module_shutdown", "module_save_state", "module_load_state", "module_migrate_state"];

pub(super) fn find(mut look: Look<'_>) {
    exports(&mut look);
    resources(&mut look);
    changes(&mut look);
}

/// Functions that another module exports as well, and did not before.
fn exports(look: &mut Look<'_>) {
    let (situation, candidate) = (look.situation, &look.candidate.module);
    let before = situation.loaded(&candidate.name);
    let is_new = |symbol: &&String| before.is_none_or(|before| !before.exports.contains(*symbol));
    for symbol in candidate.exports.iter().filter(is_new).filter(|symbol| !HOOKS.contains(&&***symbol)) {
        let others = || situation.next().filter(|other| other.name != candidate.name);
        let exporters: BTreeSet<String> =
            others().filter(|other| other.exports.contains(symbol)).map(|other| other.name.clone()).collect();
        if exporters.is_empty() {
            continue;
        }
        let is_call = |(module, called): &(String, String)| called == symbol && exporters.contains(module);
        let calls = |module: &&Module| module.calls.iter().any(is_call);
        let users: BTreeSet<String> = others().filter(calls).map(|other| other.name.clone()).collect();
        // Inline functions and templates of C++, and what Rust makes of generics, are in all that
        // use them.
        if users.is_empty() && (symbol.starts_with("_Z") || symbol.starts_with("_R")) {
            continue;
        }
        let severity = if users.is_empty() { Severity::Low } else { Severity::High };
        let who = match users.is_empty() {
            true => "a module that calls it will be refused, because it could mean either".to_owned(),
            false => {
                format!("the next version of {} will be refused, because it could mean either", list(&users))
            }
        };
        let said = Said {
            kind: Kind::ApiChange,
            severity,
            message: format!("`{symbol}` is exported by {} too: {who}", list(&exporters)),
            proposal: "Make the function static or hidden in one of them, or link the caller with the library that is meant".into(),
            concerned: exporters.union(&users).cloned().collect(),
        };
        look.add((symbol, ""), said);
    }
}

fn resources(look: &mut Look<'_>) {
    let candidate = &look.candidate.module;
    for other in look.situation.next().filter(|other| other.name != candidate.name) {
        for resource in candidate.exclusive.intersection(&other.exclusive) {
            let said = Said {
                kind: Kind::ResourceAccess,
                severity: Severity::High,
                concerned: BTreeSet::from([other.name.clone()]),
                message: format!(
                    "`{resource}` is {}'s alone, as that says, and it says the same",
                    other.name
                ),
                proposal: format!(
                    "Unload {} first, or have one of them use it by way of the other",
                    other.name
                ),
            };
            look.add((resource, ""), said);
        }
    }
}

fn changes(look: &mut Look<'_>) {
    let candidate = look.candidate;
    let name = candidate.module.name.clone();
    for other in &candidate.also_changed_by {
        let said = Said {
            kind: Kind::ConcurrentModification,
            severity: Severity::High,
            concerned: BTreeSet::from([other.clone()]),
            message: format!("{name} is also being changed by {other}"),
            proposal: format!(
                "Wait until {other} has ended, look at what it has made of {name}, and try again"
            ),
        };
        look.add((&name, ""), said);
    }
    if let Some(change) = &candidate.changed_since {
        let said = Said {
            kind: Kind::ConcurrentModification,
            severity: Severity::High,
            concerned: BTreeSet::new(),
            message: format!("{name} was changed after you looked: {change}"),
            proposal: "Ask for the state again, and look whether the new version is still what you mean"
                .into(),
        };
        look.add((&name, ""), said);
    }
}
