//! The states that a module declares, bound to the memory that they keep.

use std::ptr;
use std::sync::Arc;

use midflight_image::{DeclaredState, Image};

use super::{ModuleFile, Neighbours};
use crate::code::Block;
use crate::error::StateProblem;
use crate::state::{Held, Storage};
use crate::{Error, error};

/// The storage that a declared state is to have: that of the version before, or a new one.
/// `symbol_size`: what the module's symbol table says of it; 0 if nothing.
pub(super) fn bind(
    file: &ModuleFile,
    module: &str,
    state: &DeclaredState<'_>,
    symbol_size: u64,
    neighbours: &impl Neighbours,
) -> Result<Held, Error> {
    let size = if state.size == 0 { symbol_size } else { state.size };
    let now = error::StateLayout { schema: state.schema, size };
    match neighbours.state(module, state.name) {
        Some(storage) => {
            let before = error::StateLayout { schema: storage.schema(), size: storage.size() as u64 };
            match before == now {
                true => Ok(Held { storage, is_new: false }),
                false => Err(refused(file, state.name, StateProblem::Changed { before, now })),
            }
        }
        None => {
            let no_memory = |source| Error::CodeMemory { of: format!("the state `{}`", state.name), source };
            let size =
                usize::try_from(size).map_err(|_| no_memory(std::io::ErrorKind::OutOfMemory.into()))?;
            let storage = Storage::new(module, state.name, state.schema, size).map_err(no_memory)?;
            Ok(Held { storage: Arc::new(storage), is_new: true })
        }
    }
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
