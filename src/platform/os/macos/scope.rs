//! The libraries that a module needs: one after the other, since two-level names say of each symbol
//! which library it is of.

use crate::platform::os::library::{Library, Search};

/// Opens libraries: what the process has already, then what is in the search path, then what the
/// system finds.
///
/// # Safety
///
/// The libraries' constructors run.
pub(crate) unsafe fn open(libraries: &[&str], search: &Search) -> Result<Vec<Library>, String> {
    // SAFETY: the caller accepts the libraries' constructors. dyld finds what they need by their
    // own load commands.
    unsafe { search.open_each(libraries) }
}
