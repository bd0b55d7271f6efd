//! What is known when conflicts are looked for.

use std::collections::{BTreeMap, BTreeSet};

use midflight_interface::Report;

/// What a module needs of another one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Need {
    /// The other module.
    pub module: String,
    /// Which versions of it will do, as Cargo writes that (`>=2.1, <3`). None: any.
    pub range: Option<String>,
}

/// A version of a module, loaded or about to be.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Module {
    /// The module's name.
    pub name: String,
    /// The version that it says it is.
    pub declared: Option<String>,
    /// The modules that it says it needs.
    pub needs: Vec<Need>,
    /// The functions of other modules that it calls: (module, symbol). Of a candidate, which is not
    /// bound yet, nothing.
    pub calls: BTreeSet<(String, String)>,
    /// The functions that it exports.
    pub exports: BTreeSet<String>,
    /// Resources that it says are its alone.
    pub exclusive: BTreeSet<String>,
    /// The layouts of structures that it knows, by name; at least of those that a candidate's
    /// report names. Two layouts are the same if their texts are.
    pub structures: BTreeMap<String, String>,
}

/// A version that is about to replace what is loaded of its module, or to be the first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// What it is.
    pub module: Module,
    /// Its file, or the first of them.
    pub file: String,
    /// How it differs from what is loaded.
    pub report: Report,
    /// Where the functions and types are declared that the report names, as far as that is known:
    /// (file, line).
    pub places: BTreeMap<String, (String, u32)>,
    /// Functions of the module that the program declares or has asked for.
    pub promised: BTreeSet<String>,
    /// Functions of which all who call them and stay were built against something that the candidate
    /// is not, or against what it is, and are served: by what adapters, in words.
    pub adapted: BTreeMap<String, String>,
    /// Who else is about to change the module: names of open transactions, in words that a user
    /// knows them by.
    pub also_changed_by: Vec<String>,
    /// The module was changed after whoever asks has looked: in words, such as "it was version 3,
    /// and is version 4 now".
    pub changed_since: Option<String>,
}

/// What is loaded, and what is about to be.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Situation {
    /// All current versions, those included that the candidates replace.
    pub loaded: Vec<Module>,
    /// What is about to be loaded in one publication: each of another module.
    pub candidates: Vec<Candidate>,
}

impl Situation {
    /// What is loaded of a module.
    pub(crate) fn loaded(&self, module: &str) -> Option<&Module> {
        self.loaded.iter().find(|loaded| loaded.name == module)
    }

    /// The loaded modules that no candidate replaces.
    pub(crate) fn staying(&self) -> impl Iterator<Item = &Module> {
        let replaced = |module: &str| self.candidates.iter().any(|candidate| candidate.module.name == module);
        self.loaded.iter().filter(move |loaded| !replaced(&loaded.name))
    }

    /// All modules as they will be.
    pub(crate) fn next(&self) -> impl Iterator<Item = &Module> {
        self.staying().chain(self.candidates.iter().map(|candidate| &candidate.module))
    }
}
