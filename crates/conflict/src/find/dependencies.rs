//! Who needs whom, in which versions.

use std::collections::{BTreeMap, BTreeSet};

use super::{Look, Said, list};
use crate::range::{Met, met};
use crate::{Kind, Module, Severity};

pub(super) fn find(mut look: Look<'_>) -> Look<'_> {
    let (situation, candidate) = (look.situation, &look.candidate.module);
    let all: BTreeMap<&str, &Module> = situation.next().map(|module| (&*module.name, module)).collect();
    let missing: BTreeSet<&str> =
        candidate.needs.iter().map(|need| &*need.module).filter(|name| !all.contains_key(name)).collect();
    for needed in missing {
        let said = Said {
            kind: Kind::DependencyChain,
            severity: Severity::Critical,
            concerned: BTreeSet::from([needed.to_owned()]),
            message: format!("it needs the module `{needed}`, which is not loaded"),
            proposal: format!("Load {needed} first, or in one publication with it"),
        };
        look.add((needed, ""), said);
    }
    // What it needs, and what needs it.
    let own = candidate.needs.iter().map(|need| (candidate, need));
    let others = situation.staying().flat_map(|module| module.needs.iter().map(move |need| (module, need)));
    let others = others.filter(|(_, need)| need.module == candidate.name);
    for (who, need) in own.chain(others) {
        let Some((needed, range)) = all.get(&*need.module).copied().zip(need.range.as_deref()) else {
            continue;
        };
        versions(&mut look, who, needed, range);
    }
    cycle(&mut look, &all);
    look
}

fn versions(look: &mut Look<'_>, who: &Module, needed: &Module, range: &str) {
    let declared = needed.declared.as_deref().unwrap_or("without a number");
    let (severity, why) = match met(needed.declared.as_deref(), range) {
        Met::Yes => return,
        Met::No => (Severity::Critical, String::new()),
        Met::Unknown(why) => (Severity::Critical, format!(": {why}")),
    };
    let other = if who.name == look.module() { needed } else { who };
    let message = format!(
        "{} needs {} in a version of `{range}`, and it is version {declared}{why}",
        who.name, needed.name
    );
    let proposal =
        format!("Load a version of {} or of {} that fits, in one publication", needed.name, who.name);
    let concerned = BTreeSet::from([other.name.clone()]);
    look.add(
        (&needed.name, ""),
        Said { kind: Kind::DependencyChain, severity, concerned, message, proposal },
    );
}

/// Whether the candidate needs itself by way of others, and did not before.
fn cycle(look: &mut Look<'_>, all: &BTreeMap<&str, &Module>) {
    let name = look.module().to_owned();
    let before: BTreeMap<&str, &Module> =
        look.situation.loaded.iter().map(|module| (&*module.name, module)).collect();
    let now = circle(&name, all);
    if now.len() < 2 || now == circle(&name, &before) {
        return;
    }
    let others: BTreeSet<String> = now.iter().filter(|other| **other != name).cloned().collect();
    let said = Said {
        kind: Kind::DependencyChain,
        severity: Severity::Low,
        message: format!("{} need each other", list(&now)),
        proposal:
            "Load it if none of them uses another in its constructors: which of them is first is not said"
                .into(),
        concerned: others,
    };
    look.add((&name, ""), said);
}

/// The modules that a module needs and that need it, it included: by way of others or not.
fn circle(module: &str, all: &BTreeMap<&str, &Module>) -> BTreeSet<String> {
    let reached = |from: &str, edges: &dyn Fn(&str) -> Vec<String>| {
        let (mut seen, mut left) = (BTreeSet::new(), vec![from.to_owned()]);
        while let Some(next) = left.pop() {
            for other in edges(&next) {
                if seen.insert(other.clone()) {
                    left.push(other);
                }
            }
        }
        seen
    };
    let needs = |from: &str| all.get(from).map_or_else(Vec::new, |of| names(&of.needs));
    let needed = |by: &str| {
        let users = all.values().filter(|user| user.needs.iter().any(|need| need.module == by));
        users.map(|user| user.name.clone()).collect()
    };
    let forth = reached(module, &needs);
    let back = reached(module, &needed);
    forth.intersection(&back).cloned().collect()
}

fn names(needs: &[crate::Need]) -> Vec<String> {
    needs.iter().map(|need| need.module.clone()).collect()
}
