//! Staging: a parsed image placed, bound to its neighbours and to the process, and sealed. Nothing of it runs here.

use std::collections::{BTreeSet, HashMap};
use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use midflight_image::{Image, Import};

use super::file::stem;
use super::version::Exported;
use super::{ModuleFile, Version};
use crate::Error;
use crate::code::CodeMemory;
use crate::os::library::{self, Library};

/// What other modules offer to the one that is being staged.
pub(crate) trait Neighbours {
    /// Whether a module of this name is in the next generation.
    fn is_module(&self, name: &str) -> bool;
    /// The modules of the next generation, `from` apart, that export a symbol.
    fn exporters(&self, symbol: &str, from: &str) -> Vec<Found>;
    /// The trampoline of a neighbour's function.
    fn trampoline(&mut self, module: &str, symbol: &str) -> Result<usize, Error>;
}

/// A neighbour's export.
pub(crate) struct Found {
    pub(crate) module: Arc<str>,
    pub(crate) function: bool,
}

/// What a module's imports were bound to.
pub(crate) struct Bound<'data> {
    /// By name and symbol version.
    addresses: HashMap<(&'data str, Option<&'data str>), u64>,
    /// The neighbours' functions among them: (module, symbol).
    calls: BTreeSet<(Arc<str>, Box<str>)>,
    libraries: Vec<Library>,
}

/// Finds what the module's imports stand for.
///
/// They bind, in this order: to a module that it names in DT_NEEDED, in that order; to the process and the system libraries
/// that it needs; to the one other module that exports the symbol. A function of a module is always bound through its trampoline, so
/// that replacing that module never relinks this one.
///
/// # Safety
///
/// The libraries that it needs are loaded into the process if they are not there, and their constructors run.
pub(crate) unsafe fn bind<'data>(
    file: &ModuleFile,
    image: &Image<'data>,
    name: &str,
    neighbours: &mut impl Neighbours,
) -> Result<Bound<'data>, Error> {
    let (modules, needed): (Vec<&str>, Vec<&str>) =
        image.needed().iter().partition(|library| neighbours.is_module(stem(library)));
    let modules: Vec<&str> = modules.into_iter().map(stem).collect();
    let mut bound = Bound { addresses: HashMap::new(), calls: BTreeSet::new(), libraries: Vec::new() };
    for library in needed {
        // SAFETY: the caller accepts the library's constructors.
        let opened = unsafe { Library::open(library) }.map_err(|reason| Error::Library {
            path: file.path().into(),
            library: library.into(),
            reason,
        })?;
        bound.libraries.push(opened);
    }

    for import in image.imports() {
        if UNWINDING.contains(&import.name) && !import.weak {
            return Err(Error::Unwinding { path: file.path().into(), symbol: import.name.into() });
        }
        let mut exporters = Vec::new();
        if !modules.is_empty() {
            exporters = neighbours.exporters(import.name, name);
            let place = |found: &Found| modules.iter().position(|needed| *needed == &*found.module);
            exporters.retain(|found| place(found).is_some());
            exporters.sort_by_key(place);
            exporters.truncate(1);
        }
        if exporters.is_empty() {
            if let Some(address) = system_symbol(&import, &bound.libraries) {
                bound.addresses.insert((import.name, import.version), address);
                continue;
            }
            exporters = neighbours.exporters(import.name, name);
        }
        let symbol = import.name;
        match &exporters[..] {
            // `link` lists all that are missing, and leaves weak ones null.
            [] => {}
            [Found { module, function: true }] => {
                let trampoline = neighbours.trampoline(module, symbol)?;
                bound.addresses.insert((symbol, import.version), trampoline as u64);
                bound.calls.insert((module.clone(), symbol.into()));
            }
            [Found { module, function: false }] => {
                let (path, symbol, module) = (file.path().into(), symbol.into(), module.to_string());
                return Err(Error::DataImport { path, symbol, module });
            }
            several => {
                let modules = several.iter().map(|found| found.module.to_string()).collect();
                return Err(Error::Ambiguous { path: file.path().into(), symbol: symbol.into(), modules });
            }
        }
    }
    Ok(bound)
}

/// What code imports that throws or catches. A module's unwind tables are not registered yet, so an exception that meets
/// its code would end the process.
const UNWINDING: [&str; 5] =
    ["__cxa_throw", "__cxa_rethrow", "__cxa_begin_catch", "_Unwind_RaiseException", "_Unwind_Resume"];

/// Places, relocates and seals the module. Nothing of it runs, and other cores are not yet synchronised.
pub(crate) fn link(
    file: &ModuleFile,
    image: &Image<'_>,
    bound: Bound<'_>,
    name: Arc<str>,
    number: u64,
    memory: &mut CodeMemory,
) -> Result<Version, Error> {
    let failed = |source| Error::CodeMemory { of: file.path().display().to_string(), source };
    let (span, align) = (image.span() as usize, image.align() as usize);
    let mut draft = memory.draft(span, align, &format!("midflight: {name} {number}")).map_err(failed)?;
    let base = draft.base() as u64;
    let bytes = &mut draft.bytes()[..span];
    let mut resolve = |import: &Import<'_>| bound.addresses.get(&(import.name, import.version)).copied();
    image.link(base, bytes, &mut resolve).map_err(|e| file.wrong(e))?;
    let constructors = image.init(base, bytes).map_err(|e| file.wrong(e))?;
    let destructors = image.fini(base, bytes).map_err(|e| file.wrong(e))?;
    let block = draft.seal(image.regions()).map_err(failed)?;

    let exports = image.exports().map(|export| {
        let exported = Exported { address: (base + export.offset) as usize, function: export.function };
        (export.name.into(), exported)
    });
    Ok(Version {
        exports: exports.collect(),
        name,
        number,
        path: file.path().into(),
        calls: bound.calls,
        constructors,
        destructors,
        initialised: AtomicBool::new(false),
        block,
        _libraries: bound.libraries,
    })
}

/// A symbol of the process or of the libraries the module needs, in the version the module was linked with.
fn system_symbol(import: &Import<'_>, libraries: &[Library]) -> Option<u64> {
    let name = CString::new(import.name).ok()?;
    let version = import.version.map(CString::new).transpose().ok()?;
    let anywhere = |version| {
        library::process_symbol(&name, version)
            .or_else(|| libraries.iter().find_map(|library| library.symbol(&name, version)))
    };
    anywhere(version.as_deref())
}
