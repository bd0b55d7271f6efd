//! The variables of a module: where each is, and how it is laid out.

use std::collections::HashMap;

use midflight_image::Image;
use midflight_migrate::{Layouts, TypeId};

use crate::dwarf::{Placed, Storage};
use crate::{base, find, layouts};

/// The variables of one version, by debug information: those of files, of namespaces and classes,
/// and the static ones of functions. Constants among them too.
#[derive(Clone, Debug)]
pub struct Variables {
    /// How they are laid out.
    pub layouts: Layouts,
    /// By name.
    pub variables: Vec<Variable>,
    /// The source of a part that has debug information of lines only, so that nothing is known of
    /// its variables.
    pub untyped: Option<Box<str>>,
}

/// A variable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Variable {
    /// With namespaces, classes and function: `sim::step::count`.
    pub name: Box<str>,
    /// The source that it is private to, without folders. Several sources may have the same name;
    /// and so may variables of several blocks of one function.
    pub source: Option<Box<str>>,
    /// Where it is.
    pub place: VariablePlace,
    /// Its layout, in [`Variables::layouts`].
    pub of: TypeId,
    /// It never changes: it is declared so, or is where nothing can be written.
    pub constant: bool,
    /// Its class, or one that it has a part of, has a constructor or a destructor (C++).
    pub constructed: bool,
    /// Of a static variable of a function that code makes when it is first used: the word that says
    /// whether that was done, as an offset in the image (C++).
    pub guard: Option<u64>,
}

/// Where a variable is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VariablePlace {
    /// An offset in the image.
    Image(u64),
    /// Each thread has its own.
    ThreadLocal,
}

impl Variables {
    /// Reads them from all of a module's files: what [`Image::loaded_length`] leaves out is the
    /// debug information.
    ///
    /// # Errors
    ///
    /// Why debug information cannot be used.
    pub fn of(image: &Image<'_>) -> Result<Self, &'static str> {
        let base = base(image);
        let found = find(image, base, &[], &[])?;
        let targets = found.data.iter().map(|placed| placed.data.target);
        let (layouts, types) = layouts::layouts(&found.types, targets);
        let guards = Guards::of(image);
        let variable = |(placed, of): (Placed, TypeId)| {
            let place = match placed.place {
                Storage::Thread => VariablePlace::ThreadLocal,
                Storage::Address(address) => {
                    VariablePlace::Image(address.checked_sub(base).filter(|offset| *offset < image.span())?)
                }
            };
            let guard = match place {
                VariablePlace::Image(offset) => guards.of_variable(offset),
                VariablePlace::ThreadLocal => None,
            };
            let data = placed.data;
            let constant = data.constant || data.read_only;
            let constructed = placed.constructed;
            Some(Variable { name: data.name, source: data.source, place, of, constant, constructed, guard })
        };
        let variables = found.data.into_iter().zip(types).filter_map(variable).collect();
        Ok(Self { layouts, variables, untyped: found.untyped })
    }

    /// The variable that is at an offset of the image.
    pub fn at(&self, offset: u64) -> Option<&Variable> {
        self.variables.iter().find(|variable| variable.place == VariablePlace::Image(offset))
    }
}

/// The words that say whether a static variable of a function was made.
struct Guards {
    /// By the name of the variable that it is for, without the prefix.
    places: HashMap<Vec<u8>, u64>,
    /// Of static variables of functions: by where they are.
    names: HashMap<u64, Vec<u8>>,
}

impl Guards {
    /// By the names that the C++ ABI for Itanium gives them ("Guard Variables").
    fn of(image: &Image<'_>) -> Self {
        let (mut places, mut names) = (HashMap::new(), HashMap::new());
        let symbols = image.symbols();
        for symbol in symbols.symbols.iter().filter(|symbol| !symbol.function) {
            let name = symbols.name(symbol);
            if let Some(of) = name.strip_prefix(b"_ZGV") {
                places.insert(of.to_vec(), symbol.offset);
            } else if let Some(of) = name.strip_prefix(b"_Z").filter(|of| of.starts_with(b"Z")) {
                names.insert(symbol.offset, of.to_vec());
            }
        }
        Self { places, names }
    }

    fn of_variable(&self, offset: u64) -> Option<u64> {
        self.places.get(self.names.get(&offset)?).copied()
    }
}
