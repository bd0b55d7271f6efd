//! The states that a module declares, bound to the memory that they keep.

use std::ptr;
use std::sync::Arc;

use midflight_image::{DeclaredState, ExportKind, Image};
use midflight_interface::Variables;
use midflight_migrate::Defaults;
use parking_lot::Mutex;

use super::hooks::MIGRATE as HOOK;
use super::{ModuleFile, Neighbours};
use crate::Error;
use crate::code::Block;
use crate::error::{StateLayout, StateProblem};
use crate::state::{Held, How, Layout, Migration, Storage};

/// The states of a module that is being bound.
pub(super) struct States<'i, 'f> {
    file: &'i ModuleFile,
    image: &'i Image<'f>,
    /// What debug information says of their layouts.
    variables: Option<Arc<Variables>>,
}

impl<'i, 'f> States<'i, 'f> {
    pub(super) fn of(file: &'i ModuleFile, image: &'i Image<'f>) -> Self {
        let variables = || Variables::of(image).ok().map(Arc::new);
        Self { file, image, variables: (!image.states().is_empty()).then(variables).flatten() }
    }

    /// The state of this symbol, if the module declares one.
    pub(super) fn get(&self, symbol: &str) -> Option<&'i DeclaredState<'f>> {
        self.image.states().iter().find(|state| state.name == symbol)
    }

    /// The storage that a declared state is to have: that of the version before if the layout is
    /// the same, or a new one. `symbol_size`: what the module's symbol table says of it; 0 if
    /// nothing.
    pub(super) fn bind(
        &self,
        module: &str,
        state: &DeclaredState<'_>,
        symbol_size: u64,
        neighbours: &impl Neighbours,
    ) -> Result<Held, Error> {
        let size = if state.size == 0 { symbol_size } else { state.size };
        let layout = self.layout(state.name, size);
        let before = neighbours.state(module, state.name);
        let migration = match before {
            Some(storage) if is_same(&storage, state.schema, size, layout.as_ref()) => {
                return Ok(Held { storage, is_new: false, migration: Mutex::default() });
            }
            Some(from) => Some(self.migration(from, state, size, layout.as_ref())?),
            None => None,
        };
        let no_memory = |source| Error::CodeMemory { of: format!("the state `{}`", state.name), source };
        let size = usize::try_from(size).map_err(|_| no_memory(std::io::ErrorKind::OutOfMemory.into()))?;
        let storage = Storage::new(module, state.name, state.schema, size, layout).map_err(no_memory)?;
        Ok(Held { storage: Arc::new(storage), is_new: true, migration: Mutex::new(migration) })
    }

    fn layout(&self, state: &str, size: u64) -> Option<Layout> {
        let variables = self.variables.clone()?;
        let of = variables.at(self.image.export(state)?.offset)?.of;
        (variables.layouts.size(of) == Some(size)).then_some(Layout { variables, of })
    }

    /// How the state becomes one of another layout. The module does it itself if it can and has
    /// counted up the schema version, or if there is no plan.
    fn migration(
        &self,
        from: Arc<Storage>,
        state: &DeclaredState<'_>,
        size: u64,
        layout: Option<&Layout>,
    ) -> Result<Migration, Error> {
        let has_hook = self.image.export(HOOK).is_some_and(|export| export.kind == ExportKind::Function);
        if has_hook && from.schema() != state.schema {
            return Ok(Migration { from, how: How::Hook });
        }
        let planned = from
            .layout()
            .zip(layout)
            .map(|(was, is)| midflight_migrate::plan(was.state(), is.state(), &Defaults::new()));
        let obstacles = match planned {
            Some(Ok(plan)) => {
                for change in plan.changes() {
                    tracing::info!(state = state.name, "is carried over to another layout: {change}");
                }
                return Ok(Migration { from, how: How::Plan(plan) });
            }
            _ if has_hook => return Ok(Migration { from, how: How::Hook }),
            Some(Err(obstacles)) => obstacles.iter().map(ToString::to_string).collect(),
            None => Vec::new(),
        };
        let described = |schema, size, layout: Option<&Layout>| {
            Box::new(StateLayout {
                schema,
                size,
                members: layout.map(|layout| layout.variables.layouts.describe(layout.of)),
            })
        };
        let before = described(from.schema(), from.size() as u64, from.layout());
        let now = described(state.schema, size, layout);
        Err(refused(self.file, state.name, StateProblem::Changed { before, now, obstacles }))
    }
}

/// Whether a version that expects this layout may have the storage as it is.
fn is_same(storage: &Storage, schema: u32, size: u64, layout: Option<&Layout>) -> bool {
    let is_alike =
        |(was, is): (&Layout, &Layout)| was.variables.layouts.is_alike(was.of, &is.variables.layouts, is.of);
    let declared = (storage.schema(), storage.size() as u64) == (schema, size);
    declared && storage.layout().zip(layout).is_none_or(is_alike)
}

/// That each state that is declared was bound: what refers to another one in the module would not
/// see what is kept.
pub(super) fn check(file: &ModuleFile, image: &Image<'_>, bound: &[Held]) -> Result<(), Error> {
    let is_bound = |name: &str| bound.iter().any(|held| held.storage.name() == name);
    match image.states().iter().find(|state| !is_bound(state.name)) {
        None => Ok(()),
        Some(state) => Err(refused(file, state.name, StateProblem::OutOfReach)),
    }
}

fn refused(file: &ModuleFile, state: &str, problem: StateProblem) -> Error {
    Error::State { path: file.path().into(), state: state.into(), problem }
}

/// Gives new storages the values of the declarations.
pub(super) fn fill(
    file: &ModuleFile,
    image: &Image<'_>,
    block: &Block,
    states: &[Held],
) -> Result<(), Error> {
    for held in states.iter().filter(|held| held.is_new) {
        let storage = &held.storage;
        let outside = || refused(file, storage.name(), StateProblem::OutOfReach);
        let offset = image.export(storage.name()).ok_or_else(outside)?.offset;
        let end = offset.checked_add(storage.size() as u64).ok_or_else(outside)?;
        let region = image.regions().iter().find(|r| r.offset <= offset && end <= r.offset + r.len);
        region.ok_or_else(outside)?;
        let from = ptr::with_exposed_provenance::<u8>(block.base() + offset as usize);
        // SAFETY: within a region of the linked image, which can be read, and nothing of the module
        // runs yet; the storage is as large, and nobody else has it.
        unsafe { ptr::copy_nonoverlapping(from, storage.at().as_ptr(), storage.size()) };
    }
    Ok(())
}
