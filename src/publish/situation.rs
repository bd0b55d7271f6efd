//! What is loaded and what is about to be, as conflicts are looked for in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use midflight_conflict::{Candidate as Coming, Met, Module, Need, Situation, met};
use midflight_interface::{Interface, Report};

use super::besides::Besides;
use super::candidates::{Candidate, Candidates};
use super::layers::Covered;
use super::state::{Next, State};
use crate::Error;
use crate::module::{Interfaces, Origin, Version};

/// What the state knows, and nobody else: taken while it is locked, so that what takes long is done
/// behind that.
pub(crate) struct Facts {
    /// All that is loaded, with what it was made of if that was kept.
    loaded: Vec<(Module, Option<Arc<Origin>>)>,
    /// Of each candidate: the functions that the program was promised, and whether its module was
    /// changed since.
    candidates: Vec<(BTreeSet<String>, Option<String>)>,
    /// The generation that this is of.
    pub(crate) generation: u64,
}

impl State {
    /// `since`: of a module, the generation that whoever asks has looked at.
    ///
    /// # Errors
    ///
    /// If what is to change besides is not there.
    pub(crate) fn facts(
        &self,
        candidates: &Candidates<'_>,
        besides: &Besides,
        since: impl Fn(&str) -> Option<u64>,
    ) -> Result<Facts, Error> {
        // What goes calls nothing any more, and what comes back calls what it called.
        let others = besides.find(self)?;
        let staying = self.current().filter(|version| !others.contains_key(version.name()));
        let loaded = staying.chain(others.values().flatten());
        let loaded = loaded.map(|version| {
            let function = |module: &str, slot: &str| match self.layers.wanted(module, slot) {
                Some(wanted) => wanted.symbol.to_owned(),
                None => slot.to_owned(),
            };
            (of_version(version, function), version.origin().cloned())
        });
        let of_candidate = |candidate: &Candidate<'_>| {
            let promised = self.promised(&candidate.name).map(str::to_owned).collect();
            (promised, since(&candidate.name).and_then(|since| self.change_after(since, &candidate.name)))
        };
        Ok(Facts {
            loaded: loaded.collect(),
            candidates: candidates.iter().map(of_candidate).collect(),
            generation: self.figures().generation,
        })
    }

    /// What has become of a module after a generation, in words.
    fn change_after(&self, generation: u64, module: &str) -> Option<String> {
        let changed = self.changed_in(module).filter(|changed| *changed > generation)?;
        let now = match self.loaded(module) {
            Ok(version) => format!("version {} came with generation {changed}", version.number()),
            Err(_) => format!("it was taken out with generation {changed}"),
        };
        Some(format!("{now}, and you looked at generation {generation}"))
    }

    /// That whoever says which versions of another module it needs, has one of them: the candidates,
    /// and what stays of those that they replace.
    pub(super) fn check_ranges(&self, candidates: &Candidates<'_>) -> Result<(), Error> {
        let declared = |module: &str| match candidates.get(module) {
            Some(candidate) => candidate.image.declared_version(),
            None => self.loaded(module).ok().and_then(|version| version.declared()),
        };
        for candidate in candidates.iter() {
            let check = |(needs, range)| {
                check_range(candidate.file.path(), (&candidate.name, needs, range), declared(needs))
            };
            candidate.image.ranges().try_for_each(check)?;
        }
        self.check_users(|module| candidates.get(module).map(|candidate| candidate.file.path()), declared)
    }

    /// The same of versions that are current again in the generation that `next` leads to.
    pub(super) fn check_ranges_again(&self, next: &Next) -> Result<(), Error> {
        let coming = |module: &str| next.get(module).and_then(Option::as_ref);
        let declared = |module: &str| match next.get(module) {
            Some(version) => version.as_ref().and_then(|version| version.declared()),
            None => self.loaded(module).ok().and_then(|version| version.declared()),
        };
        for version in next.values().flatten() {
            let check =
                |(needs, range)| check_range(version.path(), (version.name(), needs, range), declared(needs));
            version.ranges().try_for_each(check)?;
        }
        self.check_users(|module| coming(module).map(|version| version.path()), declared)
    }

    /// That what comes will do for those that stay and need it. `path`: of what comes, by module.
    fn check_users<'p, 'd>(
        &self,
        path: impl Fn(&str) -> Option<&'p Path>,
        declared: impl Fn(&str) -> Option<&'d str>,
    ) -> Result<(), Error> {
        for user in self.current().filter(|version| path(version.name()).is_none()) {
            for (needs, range) in user.ranges() {
                if let Some(path) = path(needs) {
                    check_range(path, (user.name(), needs, range), declared(needs))?;
                }
            }
        }
        Ok(())
    }
}

/// `path`: the file that is refused if the version that the needed module says it is will not do.
fn check_range(
    path: &Path,
    (module, needs, range): (&str, &str, &str),
    declared: Option<&str>,
) -> Result<(), Error> {
    let version = declared.map_or_else(|| "of no version".into(), |declared| format!("version {declared}"));
    let found = match met(declared, range) {
        Met::Yes => return Ok(()),
        Met::No => version,
        Met::Unknown(why) => format!("{version} ({why})"),
    };
    let (path, module) = (path.into(), module.to_owned());
    Err(Error::VersionNotMet { path, module, needs: needs.into(), range: range.into(), found })
}

impl Facts {
    /// With the candidates' reports, and who else is about to change modules: (module, who).
    ///
    /// Returns what is not known as well, in words.
    pub(crate) fn situation(
        self,
        candidates: &Candidates<'_>,
        reports: Vec<(Report, Arc<Interface>)>,
        covered: Vec<Vec<Covered>>,
        others: &[(String, String)],
        interfaces: &Interfaces,
    ) -> (Situation, Vec<String>) {
        let mut unknown = Vec::new();
        let mut situation = Situation::default();
        // Layouts are compared of what has changed alone: to read all modules' would take long.
        let changed: BTreeSet<String> = reports
            .iter()
            .flat_map(|(report, _)| &report.differences)
            .filter(|difference| !difference.compatible)
            .map(|difference| difference.subject.clone())
            .collect();
        let structures = |interface: &Interface| -> BTreeMap<String, String> {
            changed.iter().filter_map(|name| Some((name.clone(), interface.layout(name)?))).collect()
        };
        let mut replaced: BTreeMap<String, Arc<Interface>> = BTreeMap::new();
        for (mut module, origin) in self.loaded {
            if !changed.is_empty() {
                match origin.map(|origin| origin.interface(interfaces)) {
                    Some(Ok(interface)) => {
                        module.structures = structures(&interface);
                        if candidates.has(&module.name) {
                            replaced.insert(module.name.clone(), interface);
                        }
                    }
                    // What its own report says already need not be said again.
                    _ if candidates.has(&module.name) => {}
                    _ => {
                        unknown.push(format!("{} was not kept, so its structures are not known", module.name))
                    }
                }
            }
            situation.loaded.push(module);
        }
        let all = candidates.iter().zip(reports).zip(covered).zip(self.candidates);
        for (((candidate, (report, interface)), covered), (promised, changed_since)) in all {
            unknown.extend(report.reason.iter().map(|reason| format!("{}: {reason}", candidate.name)));
            let also = others.iter().filter(|(module, _)| **module == *candidate.name);
            let subjects = report.differences.iter().map(|difference| &difference.subject);
            let place = |subject: &String| {
                // What is gone, where it was.
                let before = replaced.get(&*candidate.name);
                let before = || before.and_then(|before| before.place(subject));
                let (file, line) = interface.place(subject).or_else(before)?;
                Some((subject.clone(), (file.to_owned(), line)))
            };
            let places = subjects.filter_map(place).collect();
            let calls = situation.loaded.iter().flat_map(|module| &module.calls);
            let calls = calls.filter(|(module, _)| **module == *candidate.name);
            let asked = calls.map(|(_, symbol)| symbol).chain(&promised).cloned().collect();
            let module = of_candidate(candidate, structures(&interface), asked);
            let adapted = covered.iter().filter_map(|covered| {
                let by = covered.by(interface.signature(&covered.symbol).as_deref())?;
                (!by.is_empty()).then(|| (covered.symbol.clone(), by.join(", ")))
            });
            situation.candidates.push(Coming {
                module,
                file: candidate.file.path().display().to_string(),
                places,
                promised,
                adapted: adapted.collect(),
                also_changed_by: also.map(|(_, who)| who.clone()).collect(),
                changed_since,
                report,
            });
        }
        (situation, unknown)
    }
}

fn needs<'n>(
    needs: impl Iterator<Item = &'n str>,
    ranges: impl Iterator<Item = (&'n str, &'n str)>,
) -> Vec<Need> {
    let ranges: Vec<_> = ranges.collect();
    let ranged = |module: &str| ranges.iter().any(|(of, _)| *of == module);
    let any =
        needs.filter(|module| !ranged(module)).map(|module| Need { module: module.into(), range: None });
    let within =
        ranges.iter().map(|(module, range)| Need { module: (*module).into(), range: Some((*range).into()) });
    any.chain(within).collect()
}

/// `function`: the function that a slot of a module is for.
fn of_version(version: &Arc<Version>, function: impl Fn(&str, &str) -> String) -> Module {
    Module {
        name: version.name().to_string(),
        declared: version.declared().map(str::to_owned),
        needs: needs(version.needs(), version.ranges()),
        calls: version.calls().map(|(module, slot)| (module.to_owned(), function(module, slot))).collect(),
        exports: version.functions_with("").into_iter().map(str::to_owned).collect(),
        exclusive: version.exclusive().map(str::to_owned).collect(),
        structures: BTreeMap::new(),
    }
}

/// `asked`: symbols that somebody calls, which may be of versions of their own (`name@version`) and
/// so are in no list.
fn of_candidate(
    candidate: &Candidate<'_>,
    structures: BTreeMap<String, String>,
    asked: BTreeSet<String>,
) -> Module {
    let image = &candidate.image;
    let listed = image.exports().into_iter().map(|export| export.name.to_owned());
    let exports = listed.chain(asked).filter(|name| candidate.function(name)).collect();
    Module {
        name: candidate.name.to_string(),
        declared: image.declared_version().map(str::to_owned),
        needs: needs(image.needs(), image.ranges()),
        calls: BTreeSet::new(),
        exports,
        exclusive: image.exclusive().map(str::to_owned).collect(),
        structures,
    }
}
