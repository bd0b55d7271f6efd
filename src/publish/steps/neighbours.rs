//! What a module finds in the generation that it is being made for.

use std::sync::Arc;

use crate::Error;
use crate::module::{Found, Meant, Neighbours, file_name, stem};
use crate::publish::besides::{Others, coming};
use crate::publish::candidates::{Candidate, NewExporters};
use crate::publish::layers::Said;
use crate::publish::state::{State, current};
use crate::state::Storage;

/// Where calls to other modules go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::publish) enum Trampolines {
    /// Through the slots' trampolines; a slot that is not there is made.
    Made,
    /// Nothing is going to be called, and no slot is made: another slot's trampoline stands for one
    /// that is not there, near enough to whatever calls it.
    Found,
}

/// The next generation as a module that is being linked into it sees it: the new files first, else
/// what comes back and what stays.
pub(in crate::publish) struct Neighbourhood<'s, 'n, 'f> {
    new: &'s NewExporters<'n, 'f>,
    others: &'s Others,
    state: &'s mut State,
    trampolines: Trampolines,
    /// What the new files say of functions that have adapters. None: it is not asked.
    said: Option<&'s Said>,
}

impl<'s, 'n, 'f> Neighbourhood<'s, 'n, 'f> {
    pub(in crate::publish) fn new(
        new: &'s NewExporters<'n, 'f>,
        others: &'s Others,
        state: &'s mut State,
        trampolines: Trampolines,
    ) -> Self {
        Self { new, others, state, trampolines, said: None }
    }

    /// One in which callers go by the slots of what they were built against.
    pub(in crate::publish) fn saying(self, said: &'s Said) -> Self {
        Self { said: Some(said), ..self }
    }

    /// Whether a module that is loaded stays as it is.
    fn stays(&self, module: &str) -> bool {
        !self.new.candidates().has(module) && !self.others.contains_key(module)
    }
}

impl Neighbours for Neighbourhood<'_, '_, '_> {
    fn module_of(&self, library: &str) -> Option<Meant> {
        let (candidates, file) = (self.new.candidates(), file_name(library));
        let meant = |module: &Arc<str>, library: Option<&str>, by_library| {
            Some(Meant { module: module.clone(), by_library, library: library.map(Into::into) })
        };
        if let Some(Candidate { name, .. }) = candidates.of_library(file) {
            return meant(name, Some(file), true);
        }
        let coming = coming(self.others).find(|version| version.library() == Some(file));
        let staying = || self.state.libraries.module(file).filter(|module| self.stays(module));
        if let Some(module) = coming.map(|version| version.name()).or_else(staying) {
            return meant(module, Some(file), true);
        }
        match candidates.get(stem(library)) {
            Some(Candidate { file, image, name }) => meant(name, file.library(image), false),
            None => {
                let version = self.state.then(self.others, stem(library)).ok()?;
                meant(version.name(), version.library(), false)
            }
        }
    }

    fn exporters(&mut self, symbol: &str, from: &str) -> Vec<Found> {
        let candidates = self.new.candidates();
        let others = self.others;
        let State { exporters, modules, .. } = &mut *self.state;
        let ask = || current(modules).filter_map(|version| Found::of(version, symbol)).collect();
        let stays = |found: &&Found| !candidates.has(&found.module) && !others.contains_key(&found.module);
        let staying = exporters.of(symbol, ask).iter().filter(stays);
        let coming = coming(others).filter_map(|version| Found::of(version, symbol));
        let new = self.new.find(symbol).into_iter();
        new.chain(coming).chain(staying.cloned()).filter(|found| &*found.module != from).collect()
    }

    fn functions_with(&self, word: &str, from: &str) -> Vec<(Arc<str>, String)> {
        let candidates = self.new.candidates();
        let new = candidates.iter().flat_map(|candidate| {
            let exports = candidate.image.exports().into_iter();
            let functions =
                exports.filter(|export| candidate.function(export.name)).map(|export| export.name.to_owned());
            functions.map(|symbol| (candidate.name.clone(), symbol)).collect::<Vec<_>>()
        });
        let new = new.filter(|(_, symbol)| symbol.contains(word));
        let staying = self.state.current().filter(|version| self.stays(version.name()));
        let staying = staying.chain(coming(self.others)).flat_map(|version| {
            let functions = version.functions_with(word).into_iter();
            functions.map(|symbol| (version.name().clone(), symbol.to_owned())).collect::<Vec<_>>()
        });
        new.chain(staying).filter(|(module, _)| **module != *from).collect()
    }

    fn state(&self, module: &str, state: &str) -> Option<Arc<Storage>> {
        self.state.loaded(module).ok()?.state(state).cloned()
    }

    fn trampoline(&mut self, module: &str, symbol: &str, from: &str) -> Result<(Box<str>, usize), Error> {
        let symbol = match self.said {
            Some(said) => self.state.slot_for((from, module, symbol), said)?,
            None => symbol.to_owned(),
        };
        let slot = match self.trampolines {
            Trampolines::Made => self.state.slot(module, &symbol, false)?,
            Trampolines::Found => self.state.slot_of(module, &symbol).unwrap_or(0),
        };
        Ok((symbol.into(), self.state.trampolines.trampoline(slot)))
    }
}
