//! The files of one load, found by their modules' names and by what they export.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::sync::Arc;

use midflight_image::{ExportKind, Image};

use crate::Error;
use crate::module::{Found, ModuleFile};

/// A file that was read, parsed and named: what a version may be made of.
pub(crate) struct Candidate<'f> {
    pub(crate) file: &'f ModuleFile,
    pub(crate) image: Image<'f>,
    pub(crate) name: Arc<str>,
}

impl<'f> Candidate<'f> {
    pub(crate) fn new(file: &'f ModuleFile, page_size: usize) -> Result<Self, Error> {
        let image = file.parse(page_size)?;
        let name = file.name(&image)?.into();
        Ok(Self { file, image, name })
    }

    /// Whether it exports such a function.
    pub(crate) fn function(&self, symbol: &str) -> bool {
        self.image.export(symbol).is_some_and(|export| is_function(export.kind))
    }

    /// If it exports the symbol.
    fn exports(&self, symbol: &str) -> Option<Found> {
        let export = self.image.export(symbol)?;
        Some(Found { module: self.name.clone(), function: is_function(export.kind) })
    }
}

fn is_function(kind: ExportKind) -> bool {
    matches!(kind, ExportKind::Function | ExportKind::Indirect)
}

/// The candidates of one load: each of another module.
pub(crate) struct Candidates<'f> {
    all: Vec<Candidate<'f>>,
    names: BTreeMap<Arc<str>, usize>,
    /// By the names of their libraries.
    libraries: HashMap<Box<str>, usize>,
}

/// Of so many candidates, what they export is gathered once; fewer are asked each time. Asking
/// costs a look at the file's hash table, and gathering one at each name: few candidates may have
/// many names.
const MANY: usize = 64;

impl<'f> Candidates<'f> {
    /// # Errors
    ///
    /// If two are of one module.
    pub(crate) fn new(all: Vec<Candidate<'f>>) -> Result<Self, Error> {
        let (mut names, mut libraries) = (BTreeMap::new(), HashMap::new());
        for (at, candidate) in all.iter().enumerate() {
            if let Some(first) = names.insert(candidate.name.clone(), at) {
                let paths = [all[first].file.path().into(), candidate.file.path().into()];
                return Err(Error::DuplicateModule { module: candidate.name.to_string(), paths });
            }
            let library = candidate.file.library(&candidate.image);
            libraries.extend(library.map(|library| (library.into(), at)));
        }
        Ok(Self { all, names, libraries })
    }

    /// The one whose library has this name.
    pub(super) fn of_library(&self, library: &str) -> Option<&Candidate<'f>> {
        self.libraries.get(library).map(|at| &self.all[*at])
    }

    /// The one of this module.
    pub(super) fn get(&self, module: &str) -> Option<&Candidate<'f>> {
        self.names.get(module).map(|at| &self.all[*at])
    }

    /// Whether one of them is of this module.
    pub(crate) fn has(&self, module: &str) -> bool {
        self.names.contains_key(module)
    }
}

impl<'f> Deref for Candidates<'f> {
    type Target = [Candidate<'f>];

    fn deref(&self) -> &Self::Target {
        &self.all
    }
}

/// Which candidates export a symbol.
pub(super) struct NewExporters<'n, 'f> {
    candidates: &'n Candidates<'f>,
    /// By name; of candidates that are [`MANY`].
    gathered: OnceCell<Gathered<'n>>,
}

#[derive(Default)]
struct Gathered<'n> {
    names: HashMap<&'n str, Vec<usize>>,
    /// Those that define versions of symbols: a name is not all that they are found by.
    versioned: Vec<usize>,
}

impl<'n, 'f> NewExporters<'n, 'f> {
    pub(super) fn of(candidates: &'n Candidates<'f>) -> Self {
        Self { candidates, gathered: OnceCell::new() }
    }

    pub(super) fn candidates(&self) -> &'n Candidates<'f> {
        self.candidates
    }

    /// In the candidates' order.
    pub(super) fn find(&self, symbol: &str) -> Vec<Found> {
        let all = &self.candidates.all;
        if all.len() < MANY {
            return all.iter().filter_map(|candidate| candidate.exports(symbol)).collect();
        }
        let Gathered { names, versioned } = self.gathered.get_or_init(|| self.gather());
        let (name, versioned) = match symbol.split_once('@') {
            Some((name, _)) => (name, &versioned[..]),
            None => (symbol, &[][..]),
        };
        let mut places: Vec<usize> =
            names.get(name).into_iter().flatten().chain(versioned).copied().collect();
        places.sort_unstable();
        places.dedup();
        places.into_iter().filter_map(|at| all[at].exports(symbol)).collect()
    }

    fn gather(&self) -> Gathered<'n> {
        let mut gathered = Gathered::default();
        for (at, candidate) in self.candidates.all.iter().enumerate() {
            for export in candidate.image.exports() {
                let places = gathered.names.entry(export.name).or_default();
                // Of one name there may be several definitions in a damaged file.
                if places.last() != Some(&at) {
                    places.push(at);
                }
            }
            if candidate.image.defines_versions() {
                gathered.versioned.push(at);
            }
        }
        gathered
    }
}
