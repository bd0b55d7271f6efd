//! Modules whose functions may run on threads that nobody has noted as the module's
//! (`host::threads`). A library starts such a thread, or the module does so by a function that we
//! do not know.
//!
//! Such a module counts as called outside frames, whatever the host does. Its replaced versions,
//! and those of the modules that it calls, are kept until a look at all threads shows that none is
//! inside.

use crate::platform::os::library::Library;

/// Functions of the C library by which code of a module comes to run on threads of which no word
/// passes here.
const UNNOTED: [&str; 10] = [
    "clone",
    "clone3",
    "aio_read",
    "aio_read64",
    "aio_write",
    "aio_write64",
    "aio_fsync",
    "aio_fsync64",
    "lio_listio",
    "lio_listio64",
];

/// Libraries that start threads and are no concern: those of OpenMP's run what they were given
/// while the call lasts that gave it; and what the others are asked for is asked of `host`, or
/// keeps the version in any case (`host::shared_std`).
const KNOWN: [&str; 6] = ["libgomp.", "libomp.", "libiomp5.", "libstdc++.", "librt.", "libstd-"];

/// By what the module lends its functions, if it does.
pub(super) fn by<'n>(
    mut imports: impl Iterator<Item = &'n str>,
    mut libraries: impl Iterator<Item = (&'n str, &'n Library)>,
) -> Option<&'n str> {
    let library =
        || Some(libraries.find(|(name, library)| !is_known(name) && library.starts_threads(is_known))?.0);
    imports.find(|import| UNNOTED.contains(import)).or_else(library)
}

fn is_known(library: &str) -> bool {
    let file = library.rsplit('/').next().unwrap_or(library);
    KNOWN.iter().any(|known| file.starts_with(known)) || super::needed::is_apples(library)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(name: &'static str) -> (&'static str, Library) {
        // SAFETY: these have constructors as the system's own have.
        (name, unsafe { Library::open(name) }.unwrap())
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_lends_functions_is_told_by_imports_and_libraries() {
        let libraries = [opened("libc.so.6"), opened("libm.so.6"), opened("libstdc++.so.6")];
        let by = |imports: &[&'static str]| {
            by(imports.iter().copied(), libraries.iter().map(|(name, library)| (*name, library)))
        };
        assert_eq!(by(&["f", "pthread_create", "aio_error"]), None);
        assert_eq!(by(&["f", "lio_listio", "clone"]), Some("lio_listio"));
        // libstdc++ does start threads; so may what needs it.
        let [_, (_, libm), (_, libstdcpp)] = &libraries;
        assert!(libstdcpp.starts_threads(|_| false));
        assert!(!libm.starts_threads(|_| false));
        assert!(
            is_known("/usr/lib/libstdc++.so.6") && is_known("libgomp.so.1") && is_known("libstd-0123.so")
        );
        assert!(!is_known("libstd.so") && !is_known("libSDL2-2.0.so.0"));
    }
}
