//! The runtime, with modules loaded that the bench built itself.

use std::path::Path;

use midflight::{Publication, Runtime};

use crate::Result;
use crate::modules;

/// Loads or replaces.
pub(crate) fn load(rt: Runtime, path: &Path) -> Result<Publication> {
    // SAFETY: built from modules.rs's source, whose functions are as declared there and keep no
    // addresses.
    Ok(unsafe { rt.load(path) }?)
}

/// Loads or replaces in one publication.
pub(crate) fn load_all(rt: Runtime, paths: &[impl AsRef<Path>]) -> Result<Publication> {
    // SAFETY: as above.
    Ok(unsafe { rt.load_all(paths) }?)
}

/// A runtime with a version of each of the first modules of many.
pub(crate) fn start_with_many(folder: &Path, version: u64, count: usize) -> Result<Runtime> {
    let rt = Runtime::start()?;
    for number in 0..count {
        load(rt, &modules::many(folder, version, number))?;
    }
    Ok(rt)
}
