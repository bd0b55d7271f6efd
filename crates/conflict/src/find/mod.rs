//! The search for conflicts: what a candidate's report says (`changes`), who needs whom
//! (`dependencies`), and what two modules cannot both have (`rivals`).

mod changes;
mod dependencies;
mod rivals;

use std::collections::BTreeSet;

use crate::{Candidate, Conflict, Kind, Place, Severity, Situation};

/// All conflicts of a situation: the gravest first; among those of one severity by kind, module and
/// symbol.
pub fn find(situation: &Situation) -> Vec<Conflict> {
    let mut found = Vec::new();
    for candidate in &situation.candidates {
        let look = Look { situation, candidate, found: &mut found };
        let look = changes::find(look);
        let look = dependencies::find(look);
        rivals::find(look);
    }
    found.sort_by(|a, b| {
        let key = |conflict: &Conflict| (std::cmp::Reverse(conflict.severity), conflict.kind);
        (key(a), &a.module, &a.place, &a.message).cmp(&(key(b), &b.module, &b.place, &b.message))
    });
    // Of two candidates that take the same from each other it is found twice.
    found.dedup();
    found
}

/// A candidate that is looked at.
struct Look<'s> {
    situation: &'s Situation,
    candidate: &'s Candidate,
    found: &'s mut Vec<Conflict>,
}

/// What is said of a conflict, but for the place.
struct Said {
    kind: Kind,
    severity: Severity,
    concerned: BTreeSet<String>,
    message: String,
    proposal: String,
}

impl Look<'_> {
    fn module(&self) -> &str {
        &self.candidate.module.name
    }

    /// Whoever calls a function of the module and is not replaced with it: modules, and the program
    /// if it was promised to it.
    fn callers(&self, symbol: &str) -> BTreeSet<String> {
        let is_call = |(module, called): &(String, String)| module == self.module() && means(symbol, called);
        let staying = self.situation.staying().filter(|module| module.calls.iter().any(is_call));
        let program = self.candidate.promised.iter().any(|promised| means(symbol, promised));
        let program = program.then(|| Conflict::PROGRAM.to_owned());
        staying.map(|module| module.name.clone()).chain(program).collect()
    }

    /// `at`: a symbol or type, and a member of it.
    fn add(&mut self, at: (&str, &str), said: Said) {
        let (symbol, member) = at;
        let known = self.candidate.places.get(symbol).cloned();
        let (file, line) = known.unwrap_or_else(|| (self.candidate.file.clone(), 0));
        self.found.push(Conflict {
            severity: said.severity,
            kind: said.kind,
            module: self.module().to_owned(),
            place: Place { symbol: symbol.into(), member: member.into(), file, line },
            concerned: said.concerned.into_iter().collect(),
            message: said.message,
            proposal: said.proposal,
        });
    }
}

/// Whether a report's word for a symbol may mean this one: reports cut what is long, and then it may.
fn means(subject: &str, symbol: &str) -> bool {
    /// Nobody writes a shorter name that ends so.
    const CUT: usize = 200;
    let start = subject.strip_suffix("...").filter(|start| start.len() >= CUT);
    subject == symbol || start.is_some_and(|start| symbol.starts_with(start))
}

/// Whether the program itself is among them, which cannot be replaced while it runs.
fn has_program(concerned: &BTreeSet<String>) -> bool {
    concerned.contains(Conflict::PROGRAM)
}

/// `a, b and c`.
fn list(names: &BTreeSet<String>) -> String {
    let word = |name: &'_ String| if name == Conflict::PROGRAM { "the program".into() } else { name.clone() };
    let names: Vec<String> = names.iter().map(word).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    match &names[..] {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

/// `calls` of one, `call` of several.
fn verb<'v>(of: &BTreeSet<String>, one: &'v str, several: &'v str) -> &'v str {
    if of.len() == 1 { one } else { several }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbol_that_a_report_has_cut_is_meant() {
        let long = "_ZN".to_owned() + &"x".repeat(300);
        assert!(means(&format!("{}...", &long[..240]), &long));
        assert!(means(&long, &long) && means("f", "f"));
        for (subject, symbol) in [("f", "ff"), ("f...", "ff"), ("...", "f")] {
            assert!(!means(subject, symbol), "{subject} {symbol}");
        }
        assert!(!means(&format!("{}...", &long[..240]), "_ZN1yEv"));
    }

    #[test]
    fn names_in_a_sentence() {
        let of = |names: &[&str]| list(&names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!([of(&[]), of(&["a"]), of(&["b", "a"])], ["", "a", "a and b"]);
        assert_eq!(of(&["c", "a", "b", Conflict::PROGRAM]), "the program, a, b and c");
    }
}
