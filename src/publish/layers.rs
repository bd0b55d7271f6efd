//! Compatibility layers: functions that do for old callers what another one of that name did once.
//!
//! A caller goes by the slot of the function that it calls. Once a function has an adapter, its slot
//! is for one signature, and each other signature that somebody was built against has a slot of its
//! own (`twice as double (double)`). Behind a slot is the function itself if it has that signature,
//! else the adapter for it. So old and new callers are bound in the one publication that changes the
//! function, and nobody is linked again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::candidates::Candidates;
use super::load::Load;
use super::state::State;
use crate::Error;
use crate::error::NoAdapter;
use crate::interface::Interface;
use crate::module::{Interfaces, Version};

/// What a caller is taken for that does not say which signature it was built against, because it
/// has no debug information that tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
#[non_exhaustive]
pub enum Unsaid {
    /// Nothing: it is refused ([`Error::UnknownSignature`]).
    #[default]
    Refuse,
    /// Built against the old one.
    Old,
    /// Built against what is loaded, or is being loaded with it.
    New,
}

/// A function that does for old callers what another one did.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Adapter {
    /// The module of the function that has changed.
    pub module: String,
    /// The function's symbol.
    pub symbol: String,
    /// The signature that old callers were built against, as
    /// [`Runtime::signature`](crate::Runtime::signature) says it.
    pub signature: String,
    /// Where the adapter is: (module, symbol). It may be the module that it is for.
    pub by: (String, String),
    /// What modules are taken for that do not say what they were built against.
    pub unsaid: Unsaid,
}

impl Adapter {
    /// For callers of a function that were built against a signature. `by`: a module and a symbol.
    pub fn new(
        module: impl Into<String>,
        symbol: impl Into<String>,
        signature: impl Into<String>,
        by: (impl Into<String>, impl Into<String>),
    ) -> Self {
        Self {
            module: module.into(),
            symbol: symbol.into(),
            signature: signature.into(),
            by: (by.0.into(), by.1.into()),
            unsaid: Unsaid::Refuse,
        }
    }

    /// Sets [`unsaid`](Self#structfield.unsaid).
    #[must_use]
    pub fn unsaid(self, unsaid: Unsaid) -> Self {
        Self { unsaid, ..self }
    }
}

/// All adapters, by the functions that they are for.
#[derive(Default)]
pub(crate) struct Layers {
    /// By module and symbol.
    functions: BTreeMap<(Arc<str>, Box<str>), Layer>,
    last: u64,
}

/// What is known of a function that has adapters.
pub(super) struct Layer {
    /// What the callers of its first slot were built against.
    first: Box<str>,
    adapters: Vec<(u64, Adapter)>,
}

impl Layer {
    fn adapter(&self, signature: &str) -> Option<&Adapter> {
        self.adapters.iter().map(|(_, adapter)| adapter).find(|adapter| adapter.signature == signature)
    }
}

/// A slot of a function that has adapters.
pub(super) struct Wanted<'l> {
    pub(super) symbol: &'l str,
    pub(super) signature: &'l str,
    layer: &'l Layer,
}

impl Layers {
    pub(crate) fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.functions.clear();
    }

    fn of<'l>(&'l self, module: &str) -> impl Iterator<Item = (&'l str, &'l Layer)> {
        let all = self.functions.iter().filter(move |((of, _), _)| **of == *module);
        all.map(|((_, symbol), layer)| (&**symbol, layer))
    }

    /// The function that a slot's symbol means, and the signature. None: it has no adapters.
    pub(super) fn wanted<'l>(&'l self, module: &str, slot: &'l str) -> Option<Wanted<'l>> {
        self.of(module).find_map(|(symbol, layer)| {
            let rest = slot.strip_prefix(symbol)?;
            let signature = if rest.is_empty() { &*layer.first } else { rest.strip_prefix(AS)? };
            Some(Wanted { symbol, signature, layer })
        })
    }

    /// The symbol of the slot for callers that were built against a signature.
    pub(super) fn slot(&self, module: &str, symbol: &str, signature: &str) -> String {
        match self.of(module).find(|(of, _)| *of == symbol) {
            Some((_, layer)) if *layer.first != *signature => format!("{symbol}{AS}{signature}"),
            _ => symbol.to_owned(),
        }
    }

    /// Modules that have adapters for functions of a module.
    pub(super) fn adapting(&self, module: &str) -> impl Iterator<Item = &str> {
        let adapters = self.of(module).flat_map(|(_, layer)| &layer.adapters);
        adapters.map(|(_, adapter)| &*adapter.by.0)
    }

    /// Modules that have functions for which a module has adapters.
    pub(super) fn adapted_by(&self, module: &str) -> BTreeSet<Arc<str>> {
        let by = |layer: &Layer| layer.adapters.iter().any(|(_, adapter)| adapter.by.0 == module);
        self.functions.iter().filter(|(_, layer)| by(layer)).map(|((of, _), _)| of.clone()).collect()
    }

    /// Of functions that have adapters.
    fn symbols(&self) -> BTreeSet<&str> {
        self.functions.keys().map(|(_, symbol)| &**symbol).collect()
    }
}

/// Between a function's symbol and a signature, in the symbol of a slot. Symbols of C, C++ and Rust
/// have no spaces.
const AS: &str = " as ";

/// What the files of a load say of functions that have adapters.
#[derive(Default)]
pub(super) struct Said(BTreeMap<Arc<str>, OfFile>);

#[derive(Default)]
struct OfFile {
    /// Of its own functions.
    is: BTreeMap<Box<str>, Box<str>>,
    /// Of those that it calls.
    expects: BTreeMap<Box<str>, Box<str>>,
}

impl Said {
    /// # Errors
    ///
    /// If the signature is not known of a function that has adapters.
    pub(super) fn of(state: &State, candidates: &Candidates<'_>, load: &Load<'_>) -> Result<Self, Error> {
        if state.layers.is_empty() {
            return Ok(Self::default());
        }
        let symbols = state.layers.symbols();
        let mut said = BTreeMap::new();
        for candidate in candidates.iter() {
            let interfaces = &load.loader.interfaces;
            let interface = interfaces
                .of(&candidate.file.inputs(), false, || Ok::<_, Error>(Interface::of(&candidate.image)))?;
            let mut of = OfFile::default();
            for (symbol, _) in state.layers.of(&candidate.name) {
                match interface.signature(symbol) {
                    Some(is) => _ = of.is.insert(symbol.into(), is.into()),
                    None if !candidate.function(symbol) => {}
                    None => {
                        return Err(Error::UnknownSignature {
                            caller: None,
                            module: candidate.name.to_string(),
                            symbol: symbol.into(),
                        });
                    }
                }
            }
            for symbol in &symbols {
                let expects = interface.expected_signature(symbol);
                of.expects.extend(expects.map(|expects| ((*symbol).into(), expects.into())));
            }
            said.insert(candidate.name.clone(), of);
        }
        Ok(Self(said))
    }

    /// The signature of a function that a file defines.
    pub(super) fn signature(&self, module: &str, symbol: &str) -> Option<&str> {
        self.0.get(module)?.is.get(symbol).map(|is| &**is)
    }

    /// Notes what a version's functions are.
    pub(super) fn note(&self, version: &Version) {
        if let Some(of) = self.0.get(version.name()) {
            of.is.iter().for_each(|(symbol, is)| version.set_signature(symbol, is));
        }
    }
}

/// A generation: who has which function, and with which signature.
pub(super) trait Generation {
    fn has(&self, module: &str) -> bool;
    fn function(&self, module: &str, symbol: &str) -> bool;
    fn signature(&self, module: &str, symbol: &str) -> Option<Box<str>>;
}

/// One that is made of versions.
pub(super) struct Versions<F>(pub(super) F);

impl<'v, F: Fn(&str) -> Option<&'v Version>> Generation for Versions<F> {
    fn has(&self, module: &str) -> bool {
        (self.0)(module).is_some()
    }

    fn function(&self, module: &str, symbol: &str) -> bool {
        (self.0)(module).is_some_and(|version| version.function(symbol).is_some())
    }

    fn signature(&self, module: &str, symbol: &str) -> Option<Box<str>> {
        (self.0)(module)?.signature(symbol)
    }
}

/// A call: who calls which slot of which module.
pub(super) type Call<'c> = (&'c str, &'c str, &'c str);

impl State {
    /// What is behind a slot among the versions that `find` finds: of which version it is, and its
    /// address.
    pub(super) fn behind<'v>(
        &self,
        module: &str,
        slot: &str,
        find: impl Fn(&str) -> Option<&'v Version>,
    ) -> Option<(&'v Version, usize)> {
        let version = find(module)?;
        let Some(wanted) = self.layers.wanted(module, slot) else {
            return Some((version, version.function(slot)?));
        };
        if version.signature(wanted.symbol).as_deref() == Some(wanted.signature) {
            return Some((version, version.function(wanted.symbol)?));
        }
        let (module, symbol) = &wanted.layer.adapter(wanted.signature)?.by;
        let by = find(module)?;
        Some((by, by.function(symbol)?))
    }

    /// The symbol of the slot by which a file calls a function.
    ///
    /// # Errors
    ///
    /// If that depends on what the file was built against, and it does not say.
    pub(super) fn slot_for(
        &self,
        (caller, module, symbol): (&str, &str, &str),
        said: &Said,
    ) -> Result<String, Error> {
        let Some((_, layer)) = self.layers.of(module).find(|(of, _)| *of == symbol) else {
            return Ok(symbol.to_owned());
        };
        if let Some(expects) = said.0.get(caller).and_then(|of| of.expects.get(symbol)) {
            return Ok(self.layers.slot(module, symbol, expects));
        }
        let current = || self.loaded(module).ok().and_then(|version| version.signature(symbol));
        let new = || said.signature(module, symbol).map(Into::into).or_else(current);
        let signature = layer.unsaid(new).ok_or_else(|| Error::UnknownSignature {
            caller: Some(caller.into()),
            module: module.into(),
            symbol: symbol.into(),
        })?;
        Ok(self.layers.slot(module, symbol, &signature))
    }

    /// That there is something behind each slot of an adapted function that somebody calls. That a
    /// module goes of which others call something is not looked at here.
    pub(super) fn check_layers<'c>(
        &self,
        calls: impl Iterator<Item = Call<'c>>,
        next: &impl Generation,
    ) -> Result<(), Error> {
        if self.layers.is_empty() {
            return Ok(());
        }
        let mut missing: BTreeMap<(&str, String), BTreeSet<&str>> = BTreeMap::new();
        for (caller, module, slot) in calls {
            let Some(wanted) = self.layers.wanted(module, slot).filter(|_| next.has(module)) else {
                continue;
            };
            if !wanted.is_there(module, next) {
                missing.entry((module, slot.to_owned())).or_default().insert(caller);
            }
        }
        let Some(((module, slot), callers)) = missing.pop_first() else { return Ok(()) };
        let wanted = self.layers.wanted(module, &slot).expect("it was wanted");
        Err(Error::NoAdapter(Box::new(NoAdapter {
            module: module.into(),
            symbol: wanted.symbol.into(),
            signature: wanted.signature.into(),
            is: next.signature(module, wanted.symbol).map(Into::into),
            callers: callers.into_iter().map(Into::into).collect(),
        })))
    }

    /// What the program was promised of functions that have adapters.
    pub(super) fn promised_calls(&self) -> impl Iterator<Item = Call<'_>> {
        const PROGRAM: &str = midflight_conflict::Conflict::PROGRAM;
        let modules: BTreeSet<&str> = self.layers.functions.keys().map(|(module, _)| &**module).collect();
        modules.into_iter().flat_map(|module| self.promised(module).map(move |slot| (PROGRAM, module, slot)))
    }

    /// See [`crate::Runtime::add_adapter`].
    pub(crate) fn add_adapter(&mut self, adapter: &Adapter, interfaces: &Interfaces) -> Result<u64, Error> {
        let (module, symbol) = (&*adapter.module, &*adapter.symbol);
        let known = self.layers.of(module).any(|(of, _)| of == symbol);
        if !known {
            let first = self.first_signature(adapter, interfaces)?;
            let layer = Layer { first, adapters: Vec::new() };
            self.layers.functions.insert((module.into(), symbol.into()), layer);
        }
        self.layers.last += 1;
        let id = self.layers.last;
        let layer = self.layers.functions.get_mut(&(module.into(), symbol.into())).expect("it is there");
        layer.adapters.retain(|(_, other)| other.signature != adapter.signature);
        layer.adapters.push((id, adapter.clone()));
        Ok(id)
    }

    /// What the callers of a function's slot were built against, which has no adapters yet. Notes
    /// what its versions are.
    fn first_signature(&self, adapter: &Adapter, interfaces: &Interfaces) -> Result<Box<str>, Error> {
        let (module, symbol) = (&*adapter.module, &*adapter.symbol);
        let unknown = |caller: Option<&str>| Error::UnknownSignature {
            caller: caller.map(Into::into),
            module: module.into(),
            symbol: symbol.into(),
        };
        let interface =
            |version: &Version| version.origin().and_then(|origin| origin.interface(interfaces).ok());
        for version in self.versions_of(module) {
            if let Some(is) = interface(&version).and_then(|interface| interface.signature(symbol)) {
                version.set_signature(symbol, &is);
            }
        }
        let current = self.loaded(module).ok();
        let is = current.and_then(|version| version.signature(symbol));
        if is.is_none() && current.is_some_and(|version| version.function(symbol).is_some()) {
            return Err(unknown(None));
        }
        let mut signatures: BTreeMap<Box<str>, Vec<String>> = BTreeMap::new();
        for caller in self.current() {
            if !caller.calls().any(|call| call == (module, symbol)) {
                continue;
            }
            let said = interface(caller)
                .and_then(|interface| interface.expected_signature(symbol).map(Box::<str>::from));
            let of = said.or_else(|| adapter.signature_if_unsaid(|| is.clone()));
            let of = of.ok_or_else(|| unknown(Some(caller.name())))?;
            signatures.entry(of).or_default().push(caller.name().to_string());
        }
        if let Some(is) = is.as_ref().filter(|_| self.promised(module).any(|slot| slot == symbol)) {
            signatures.entry(is.clone()).or_default().push(midflight_conflict::Conflict::PROGRAM.into());
        }
        match signatures.len() {
            0 => Ok(is.unwrap_or_else(|| (*adapter.signature).into())),
            1 => Ok(signatures.pop_first().expect("one").0),
            _ => {
                let callers = signatures.into_iter().map(|(of, callers)| (of.into(), callers)).collect();
                Err(Error::MixedCallers { module: module.into(), symbol: symbol.into(), callers })
            }
        }
    }

    /// See [`crate::Runtime::remove_adapter`].
    pub(crate) fn remove_adapter(&mut self, id: u64) -> Result<bool, Error> {
        let of = |layer: &Layer| layer.adapters.iter().position(|(other, _)| *other == id);
        let Some((key, layer)) = self.layers.functions.iter_mut().find(|(_, layer)| of(layer).is_some())
        else {
            return Ok(false);
        };
        let key = key.clone();
        let removed = layer.adapters.remove(of(layer).expect("it was found"));
        let next = Versions(|module: &str| self.loaded(module).ok().map(|version| &**version));
        let checked = self.check_layers(self.all_calls(), &next);
        if let Err(error) = checked {
            self.layers.functions.get_mut(&key).expect("it is there").adapters.push(removed);
            return Err(error);
        }
        // Whoever has a slot of its own for a signature still means it.
        let has_slots = || self.slots_of(&key.0).any(|slot| slot.starts_with(&format!("{}{AS}", key.1)));
        if self.layers.functions[&key].adapters.is_empty() && !has_slots() {
            self.layers.functions.remove(&key);
        }
        Ok(true)
    }

    /// The calls of the current generation, the program's included.
    fn all_calls(&self) -> impl Iterator<Item = Call<'_>> {
        let calls = self
            .current()
            .flat_map(|version| version.calls().map(|(module, slot)| (&**version.name(), module, slot)));
        calls.chain(self.promised_calls())
    }

    /// Of a module's functions that have adapters: those of which all who call and stay are served,
    /// whatever their signature becomes, and by whom. `becomes`: the signatures of the next version.
    pub(crate) fn covered(&self, module: &str, stays: impl Fn(&str) -> bool) -> Vec<Covered> {
        let calls: Vec<_> =
            self.all_calls().filter(|(caller, of, _)| *of == module && stays(caller)).collect();
        let of = |(symbol, layer): (&str, &Layer)| Covered {
            symbol: symbol.to_owned(),
            wanted: calls
                .iter()
                .filter_map(|(_, _, slot)| self.layers.wanted(module, slot))
                .filter(|wanted| wanted.symbol == symbol)
                .map(|wanted| wanted.signature.to_owned())
                .collect(),
            adapters: layer
                .adapters
                .iter()
                .map(|(_, of)| (of.signature.clone(), format!("{}::{}", of.by.0, of.by.1)))
                .collect(),
        };
        self.layers.of(module).map(of).collect()
    }
}

/// A function that has adapters, as who looks for conflicts is told of it.
pub(crate) struct Covered {
    pub(crate) symbol: String,
    /// The signatures by which it is called.
    wanted: BTreeSet<String>,
    /// Those that there are adapters for, and what these are.
    adapters: BTreeMap<String, String>,
}

impl Covered {
    /// If all who call it are served once it has another signature (None: is gone): by whom.
    pub(crate) fn by(&self, becomes: Option<&str>) -> Option<Vec<&str>> {
        let others = self.wanted.iter().filter(|wanted| Some(&***wanted) != becomes);
        others.map(|wanted| self.adapters.get(wanted).map(|by| &**by)).collect()
    }
}

impl Adapter {
    /// What a module is taken for that does not say.
    fn signature_if_unsaid(&self, new: impl FnOnce() -> Option<Box<str>>) -> Option<Box<str>> {
        match self.unsaid {
            Unsaid::Refuse => None,
            Unsaid::Old => Some((*self.signature).into()),
            Unsaid::New => new(),
        }
    }
}

impl Layer {
    /// The same, by the adapter that was added last.
    fn unsaid(&self, new: impl FnOnce() -> Option<Box<str>>) -> Option<Box<str>> {
        self.adapters.last()?.1.signature_if_unsaid(new)
    }
}

impl Wanted<'_> {
    /// Whether there is something behind it.
    fn is_there(&self, module: &str, next: &impl Generation) -> bool {
        let own = next.signature(module, self.symbol).as_deref() == Some(self.signature);
        own && next.function(module, self.symbol)
            || self.layer.adapter(self.signature).is_some_and(|of| next.function(&of.by.0, &of.by.1))
    }
}
