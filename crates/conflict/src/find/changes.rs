//! What has changed between what is loaded and the candidate, and whom that concerns.

use std::collections::BTreeSet;

use midflight_interface::{Aspect, Difference, Kind as Changed, Verdict};

use super::{Look, Said, has_program, list, verb};
use crate::range::version;
use crate::{Kind, Severity};

pub(super) fn find(mut look: Look<'_>) -> Look<'_> {
    functions(&mut look);
    let candidate = look.candidate;
    for difference in candidate.report.differences.iter().filter(|difference| !difference.compatible) {
        match (difference.aspect, difference.kind) {
            (_, Changed::ImportUnresolved) => unresolved(&mut look, difference),
            (_, Changed::Signature) => signature(&mut look, difference),
            (Aspect::Links, Changed::ExportSize) | (Aspect::Calls, _) => structure(&mut look, difference),
            (Aspect::State, Changed::Enumeration) => values(&mut look, difference),
            (Aspect::State, _) => state(&mut look, difference),
            // Of functions see above; another machine is refused by who reads it.
            (Aspect::Links, _) => {}
        }
    }
    says(&mut look);
    look
}

/// Functions that are gone, or are none any more.
fn functions(look: &mut Look<'_>) {
    let name = look.module().to_owned();
    let before = look.situation.loaded(&name).map(|loaded| &loaded.exports);
    let staying = look.situation.staying().flat_map(|module| &module.calls);
    let called = staying.filter(|(module, _)| *module == name).map(|(_, symbol)| symbol);
    let all: BTreeSet<&String> =
        called.chain(&look.candidate.promised).chain(before.into_iter().flatten()).collect();
    for symbol in all.into_iter().filter(|symbol| !look.candidate.module.exports.contains(*symbol)) {
        let callers = look.callers(symbol);
        if let Some(said) = adapted(look, symbol, "is gone", &callers) {
            look.add((symbol, ""), said);
            continue;
        }
        let said = match callers.is_empty() {
            true => Said {
                kind: Kind::ApiChange,
                severity: Severity::Low,
                message: format!("the function `{symbol}` is gone, which nobody calls that is loaded"),
                proposal: "Load it; a module that still calls the function will be refused".into(),
                concerned: callers,
            },
            false => Said {
                kind: Kind::ApiChange,
                severity: Severity::Critical,
                message: format!(
                    "the function `{symbol}` is gone, and {} {} it",
                    list(&callers),
                    verb(&callers, "calls", "call")
                ),
                proposal: match has_program(&callers) {
                    true => {
                        "Keep a function of that name that calls what has taken its place: the program calls it as long as it runs"
                            .into()
                    }
                    false => format!(
                        "Keep a function of that name that calls what has taken its place, or load new versions of {} with it",
                        list(&callers)
                    ),
                },
                concerned: callers,
            },
        };
        look.add((symbol, ""), said);
    }
}

fn unresolved(look: &mut Look<'_>, difference: &Difference) {
    let symbol = &difference.subject;
    let said = Said {
        kind: Kind::ApiChange,
        severity: Severity::Critical,
        concerned: BTreeSet::new(),
        message: format!("it needs `{symbol}`, which nobody defines"),
        proposal: "Load the module that defines it first or with it, or link the library that does".into(),
    };
    look.add((symbol, ""), said);
}

/// What is said of a function whose callers are given another one.
fn adapted(look: &Look<'_>, symbol: &str, what: &str, callers: &BTreeSet<String>) -> Option<Said> {
    let by = look.candidate.adapted.get(symbol).filter(|_| !callers.is_empty())?;
    Some(Said {
        kind: if what == "is gone" { Kind::ApiChange } else { Kind::FunctionSignature },
        severity: Severity::Low,
        message: format!(
            "`{symbol}` {what}, and {} {} given what does as before ({by})",
            list(callers),
            verb(callers, "is", "are")
        ),
        proposal: "Load it".into(),
        concerned: callers.clone(),
    })
}

fn signature(look: &mut Look<'_>, difference: &Difference) {
    let Difference { subject: symbol, old, new, .. } = difference;
    let callers = look.callers(symbol);
    if let Some(said) = adapted(look, symbol, &format!("was `{old}` and is `{new}`"), &callers) {
        look.add((symbol, ""), said);
        return;
    }
    let (severity, proposal) = match (callers.is_empty(), has_program(&callers)) {
        (true, _) => (Severity::Low, "Load it: nobody calls the function that is loaded".into()),
        (_, true) => (
            Severity::High,
            "Give the new function another name and keep this one, or start the program anew, built against it"
                .into(),
        ),
        (_, false) => (
            Severity::High,
            format!(
                "Rebuild {} against it and load all in one publication, or give the new function another name and keep this one",
                list(&callers)
            ),
        ),
    };
    let who = match callers.is_empty() {
        true => String::new(),
        false => {
            format!(", and {} {} it as it was", list(&callers), verb(&callers, "calls", "call"))
        }
    };
    let message = format!("`{symbol}` was `{old}` and is `{new}`{who}");
    look.add(
        (symbol, ""),
        Said { kind: Kind::FunctionSignature, severity, concerned: callers, message, proposal },
    );
}

/// What callers can see into, or is of another size for who was linked with it.
fn structure(look: &mut Look<'_>, difference: &Difference) {
    let Difference { subject, old, new, through, member, .. } = difference;
    let mut concerned = look.callers(through);
    concerned.append(&mut sharers(look, subject));
    let (severity, proposal) = match (concerned.is_empty(), has_program(&concerned)) {
        (true, _) => (
            Severity::Medium,
            "Load it if nobody keeps one that the loaded version has made, or reads one by its old layout"
                .into(),
        ),
        (_, true) => (
            Severity::High,
            "Keep the layout that the program was built with, or start the program anew, built with the new one"
                .into(),
        ),
        (_, false) => (
            Severity::High,
            format!("Rebuild {} with the new layout and load all in one publication", list(&concerned)),
        ),
    };
    let who = match concerned.is_empty() {
        true => String::new(),
        false => format!(", and {} {} the old layout", list(&concerned), verb(&concerned, "has", "have")),
    };
    let message = format!("`{subject}` was `{old}` and is `{new}`{who}");
    look.add((subject, member), Said { kind: Kind::DataStructure, severity, concerned, message, proposal });
}

/// The modules that stay and lay a structure out as the loaded version does.
fn sharers(look: &Look<'_>, structure: &str) -> BTreeSet<String> {
    let layout = |module: &crate::Module| module.structures.get(structure).cloned();
    let before = look.situation.loaded(look.module()).and_then(layout);
    let now = layout(&look.candidate.module);
    let Some(before) = before.filter(|before| now.as_ref() != Some(before)) else { return BTreeSet::new() };
    let staying = look.situation.staying().filter(|module| layout(module).as_ref() == Some(&before));
    staying.map(|module| module.name.clone()).collect()
}

fn state(look: &mut Look<'_>, difference: &Difference) {
    let Difference { subject, old, new, through, member, .. } = difference;
    let concerned = sharers(look, subject);
    let from = if through.is_empty() { String::new() } else { format!(" (reached from `{through}`)") };
    let (severity, proposal) = match (difference.kind, concerned.is_empty()) {
        // The module's own begin anew with each version.
        (Changed::Variable, _) => (
            Severity::Medium,
            "Load it if the variable may begin anew; carry its value over with a migration if not".into(),
        ),
        (_, true) => (
            Severity::High,
            "Have the loaded version's objects made anew, or migrate them, before the new version is given one"
                .into(),
        ),
        (_, false) => (
            Severity::High,
            format!("Rebuild {} with the new layout, and migrate the objects there are", list(&concerned)),
        ),
    };
    let message = format!("state: `{subject}`{from} was `{old}` and is `{new}`");
    look.add((subject, member), Said { kind: Kind::MemoryLayout, severity, concerned, message, proposal });
}

fn values(look: &mut Look<'_>, difference: &Difference) {
    let Difference { subject, old, new, member, .. } = difference;
    let said = Said {
        kind: Kind::StateMachine,
        severity: Severity::High,
        concerned: sharers(look, subject),
        message: format!(
            "values that state holds have another meaning: `{subject}` was `{old}` and is `{new}`"
        ),
        proposal: "Give new names the numbers behind the last, and keep those of names that are gone".into(),
    };
    look.add((subject, member), said);
}

/// What the candidate says its version is, beside what has changed.
fn says(look: &mut Look<'_>) {
    let candidate = look.candidate;
    let loaded = look.situation.loaded(look.module());
    let Some((was, is)) =
        loaded.and_then(|loaded| loaded.declared.as_deref()).zip(candidate.module.declared.as_deref())
    else {
        return;
    };
    let breaks = [candidate.report.links, candidate.report.calls].contains(&Verdict::Incompatible);
    let message = match (version(was), version(is)) {
        _ if was == is && breaks => {
            format!("it says that it is version {is}, as what is loaded does, and its interface is another")
        }
        (Some(before), Some(now)) if now < before => {
            format!("it says that it is version {is}, which is older than {was}, which is loaded")
        }
        (Some(before), Some(now)) if breaks && before.major == now.major && now.major > 0 => {
            format!(
                "it says that it is version {is}, which fits whoever uses {was}, and its interface does not"
            )
        }
        _ => return,
    };
    let said = Said {
        kind: Kind::SemanticMismatch,
        severity: Severity::Low,
        concerned: BTreeSet::new(),
        message,
        proposal:
            "Look whether it is the file that you mean; if so, give it a version that says what has changed"
                .into(),
    };
    look.add((is, ""), said);
}
