//! What a module needs by name (DT_NEEDED): which of it are other modules, and which are libraries.
//!
//! A module is meant if the name is that of its library, as the linker noted it (its SONAME, else
//! its file's); or if it is the module's own, or comes to it without `lib` and version, and the
//! module has something of what is used. A name alone says little: a binding is often called like
//! the library that it is for.

use std::cell::OnceCell;
use std::path::Path;
use std::sync::Arc;

use midflight_image::{Image, Lookup};

use super::file::file_name;
use super::stage::{Libraries, Meant, Neighbours};
use super::{ModuleFile, Remark};
use crate::Error;
use crate::platform::arch::arithmetic;
use crate::platform::os::library::{Library, Search};
use crate::platform::os::scope;
use crate::platform::os::symbol;

/// For each name that the module needs, the module that it means.
pub(super) fn modules(
    file: &ModuleFile,
    image: &Image<'_>,
    name: &str,
    neighbours: &mut impl Neighbours,
    remarks: &mut Vec<Remark>,
) -> Vec<Option<Arc<str>>> {
    let mut meant = Vec::new();
    for (index, library) in file.needed(image).enumerate() {
        let found =
            neighbours.module_of(library).filter(|found| !is_apples(library) && &*found.module != name);
        let found = found.filter(|found| {
            let is_it = found.by_library
                || library == &*found.module
                || uses(image, index, name, &found.module, neighbours);
            if is_it
                && !found.by_library
                && found.library.as_deref().is_some_and(|is| is != file_name(library))
            {
                let (library, module) = (library.into(), found.module.clone());
                remarks.push(Remark::AnotherName { library, module });
            }
            is_it
        });
        meant.push(found.map(|found| found.module));
    }
    meant
}

/// Whether the module exports something that this one imports, of the library of this index if it
/// says which.
fn uses(image: &Image<'_>, index: usize, name: &str, module: &str, neighbours: &mut impl Neighbours) -> bool {
    let mut imports = image.imports().iter().filter(|import| match import.from {
        Lookup::Anywhere => true,
        Lookup::Library(from) => from == index,
        Lookup::Program => false,
    });
    imports.any(|import| {
        neighbours.exporters(&import.symbol(), name).iter().any(|found| &*found.module == module)
    })
}

/// Opens those that are no modules, or says in `absent` which are not in the process. True: some
/// were not there before.
///
/// # Safety
///
/// With [`Libraries::Load`], constructors of libraries run.
pub(super) unsafe fn libraries(
    file: &ModuleFile,
    image: &Image<'_>,
    meant: &[Option<Arc<str>>],
    libraries: Libraries,
    absent: &mut Vec<String>,
) -> Result<(Vec<Library>, bool), Error> {
    let needed = file.needed(image).enumerate().zip(meant).filter(|(_, module)| module.is_none());
    let needed = needed.filter_map(|((index, library), _)| Some((here(library)?, image.is_optional(index))));
    let search = OnceCell::new();
    let search = || search.get_or_init(|| search_of(file.path(), image));
    let (mut opened, mut missing, mut all, mut new) = (Vec::new(), Vec::new(), Vec::new(), false);
    let there = if libraries == Libraries::Load { Library::kept } else { Library::loaded };
    for (library, optional) in needed {
        match there(library) {
            Some(library) => opened.push(library),
            // What it imports from there is weak.
            None if optional && libraries == Libraries::Loaded => continue,
            // SAFETY: the caller accepts the library's constructors.
            None if optional => match arithmetic::kept(|| unsafe { scope::open(&[library], search()) }) {
                Ok(library) => {
                    opened.extend(library);
                    new = true;
                }
                Err(_) => continue,
            },
            None => missing.push(library),
        }
        all.push(library);
    }
    if libraries == Libraries::Loaded {
        absent.extend(missing.into_iter().map(str::to_owned));
        return Ok((opened, false));
    }
    if missing.is_empty() {
        return Ok((opened, new));
    }
    // SAFETY: as above.
    let together = arithmetic::kept(|| unsafe { scope::open(&all, search()) });
    let opened = together.map_err(|reason| {
        let library = missing.iter().find(|library| reason.contains(**library)).unwrap_or(&missing[0]);
        Error::Library { path: file.path().into(), library: (*library).into(), reason }
    })?;
    for library in missing {
        tracing::info!(library, module = %file.path().display(), "opened for a module: it stays in the process");
    }
    Ok((opened, true))
}

/// Those that are no modules, by the names that they are needed by, each by itself, once
/// [`libraries`] has opened them.
pub(super) fn opened<'i>(
    file: &'i ModuleFile,
    image: &'i Image<'_>,
    meant: &[Option<Arc<str>>],
) -> Vec<(&'i str, Library)> {
    let needed = file.needed(image).zip(meant).filter(|(_, module)| module.is_none());
    needed
        .filter_map(|(library, _)| here(library))
        .filter_map(|name| Some((name, Library::loaded(name)?)))
        .collect()
}

/// Where ld.so looks for what the module needs.
pub(super) fn search_of(module: &Path, image: &Image<'_>) -> Search {
    let module = std::path::absolute(module).ok();
    let origin = module.as_deref().and_then(Path::parent).unwrap_or(Path::new(".")).into();
    let mut search = Search { origin, path: None, inherited: image.is_runpath_inherited() };
    search.path = image.runpath().filter(|path| !path.is_empty()).map(|path| search.expand(path.as_bytes()));
    search
}

/// The libraries of the process that are modules as well: what was bound to them stays with them.
pub(super) fn copies(neighbours: &impl Neighbours, remarks: &mut Vec<Remark>) {
    symbol::each_object(|path| {
        let found = neighbours.module_of(file_name(path)).filter(|found| found.by_library);
        let copy = |found: Meant| Remark::Copy { library: path.into(), module: found.module };
        remarks.extend(found.map(copy));
    });
}

/// Whether the process has a library of this name.
pub(super) fn copy_of(library: &str, module: &Arc<str>, remarks: &mut Vec<Remark>) {
    symbol::each_object(|path| {
        if file_name(path) == library {
            remarks.push(Remark::Copy { library: path.into(), module: module.clone() });
        }
    });
}

/// Whether a library is one of Apple's own, by the folders that nobody else has libraries in. No
/// hot module is meant by such a name.
pub(super) fn is_apples(library: &str) -> bool {
    library.ends_with(".dylib") && library.starts_with("/usr/lib/") || library.starts_with("/System/")
}

/// What this system calls a library that a module needs; None: every process has what is to be had
/// of it. It has to do with the names that Apple's libraries have, in Mach-O modules on Linux. What
/// C++ needs of its run-time library is in libstdc++, which is in the process or is named by the
/// source; of libc++ itself nothing could be used (`apple_abi`).
fn here(library: &str) -> Option<&str> {
    match library.strip_prefix("/usr/lib/").filter(|_| cfg!(target_os = "linux")) {
        Some("libSystem.B.dylib" | "libSystem.dylib" | "libc.dylib" | "libm.dylib") => None,
        Some("libc++.1.dylib" | "libc++abi.dylib") => None,
        Some("libz.1.dylib") => Some("libz.so.1"),
        _ => Some(library),
    }
}
