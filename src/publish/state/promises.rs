//! What must be there before anything is published: what the program was promised, and what
//! versions call.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::{Next, State};
use crate::Error;
use crate::module::Version;
use crate::publish::layers::Versions;

impl State {
    /// That the version has all that the program declares of its module, and that the modules of
    /// the generation which `next` leads to call. Versions that are not current call what is at
    /// their homes.
    pub(in crate::publish) fn check_version(&self, version: &Version, next: &Next) -> Result<(), Error> {
        let staying = || self.current().filter(|version| !next.contains_key(version.name()));
        let callers = || staying().chain(next.values().flatten());
        let is_called =
            |symbol: &str| callers().flat_map(|v| v.calls()).any(|call| call == (&**version.name(), symbol));
        let has = |symbol: &str| version.function(symbol).is_some();
        self.check_promises(version.name(), version.path(), has, is_called)
    }

    /// As [`check_version`](Self::check_version), of whatever `has` functions.
    pub(in crate::publish) fn check_promises(
        &self,
        module: &str,
        path: &Path,
        has: impl Fn(&str) -> bool,
        is_called: impl Fn(&str) -> bool,
    ) -> Result<(), Error> {
        let mut symbols: Vec<String> = self
            .slots
            .of(module)
            // Of those that have adapters see `check_layers`.
            .filter(|(symbol, _)| self.layers.wanted(module, symbol).is_none())
            .filter(|(symbol, slot)| !has(symbol) && (slot.promised || is_called(symbol)))
            .map(|(symbol, _)| symbol.to_owned())
            .collect();
        if symbols.is_empty() {
            return Ok(());
        }
        symbols.sort();
        Err(Error::MissingFunctions { path: path.into(), module: module.into(), symbols })
    }

    /// That in the generation that `next` leads to, whoever calls a function that has adapters finds
    /// one that it was built against.
    pub(in crate::publish) fn check_adapted(&self, next: &Next) -> Result<(), Error> {
        let staying = self.current().filter(|version| !next.contains_key(version.name()));
        let all = staying.chain(next.values().flatten());
        let calls =
            all.flat_map(|version| version.calls().map(|(module, slot)| (&**version.name(), module, slot)));
        let there = Versions(|module: &str| self.then(next, module).ok().map(|version| &**version));
        self.check_layers(calls.chain(self.promised_calls()), &there)
    }

    /// That what the version calls and needs is there in the generation that `next` leads to.
    pub(in crate::publish) fn check_calls(&self, version: &Version, next: &Next) -> Result<(), Error> {
        if let Some(missing) = version.needs().find(|module| self.then(next, module).is_err()) {
            return Err(Error::MissingModule { path: version.path().into(), needs: missing.into() });
        }
        for (module, symbol) in version.calls() {
            let has = self.then(next, module)?.function(symbol).is_some();
            if !has && self.layers.wanted(module, symbol).is_none() {
                let (module, symbol) = (module.into(), symbol.into());
                return Err(Error::NoSuchFunction { module, symbol, alike: Vec::new() });
            }
        }
        Ok(())
    }
}

/// That none of these versions depends on a module that is to go, but its own. Looks at each
/// version once, however many go.
pub(in crate::publish) fn check_callers<'v>(
    going: &BTreeSet<Arc<str>>,
    versions: impl Iterator<Item = &'v Version>,
) -> Result<(), Error> {
    let mut callers = BTreeMap::<&str, BTreeSet<&str>>::new();
    for version in versions {
        let others = version.dependencies().filter(|on| **on != **version.name() && going.contains(*on));
        others.for_each(|on| _ = callers.entry(on).or_default().insert(version.name()));
    }
    match callers.pop_first() {
        None => Ok(()),
        Some((module, by)) => {
            Err(Error::StillImported { module: module.into(), by: by.into_iter().map(Into::into).collect() })
        }
    }
}
