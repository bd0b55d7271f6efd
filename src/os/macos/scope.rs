//! The libraries that a module needs: one after the other, since two-level names say of each symbol which library it is of.

use std::path::Path;

use crate::os::library::{Library, Search};

/// Opens libraries: what the process has already, then what is in the search path, then what the system finds.
///
/// # Safety
///
/// The libraries' constructors run.
pub(crate) unsafe fn open(libraries: &[&str], search: &Search) -> Result<Vec<Library>, String> {
    // dyld finds what they need by their own load commands.
    let Search { path, .. } = search;
    let find = |library: &&str| {
        if let Some(loaded) = Library::loaded(library) {
            return Ok(loaded);
        }
        let folders = path.iter().flat_map(|path| path.split(':')).filter(|folder| !folder.is_empty());
        let mut found =
            folders.filter(|_| !library.contains('/')).map(|folder| format!("{folder}/{library}"));
        let found = found.find(|path| Path::new(path).exists());
        // SAFETY: the caller's promise.
        unsafe { Library::open(found.as_deref().unwrap_or(library)) }
    };
    libraries.iter().map(find).collect()
}
