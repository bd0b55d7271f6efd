//! Staging: a parsed image placed, bound to its neighbours and to the process, and sealed. Nothing of it runs here.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use midflight_image::{Binding, ExportKind, Image, Import, ImportKind};

use super::exports::Exports;
use super::file::stem;
use super::indirect::Resolvers;
use super::{Clock, ModuleFile, Phases, Version};
use crate::Error;
use crate::code::{CodeMemory, Shape};
use crate::debug::{FileOnDisk, Observers};
use crate::host::{self, Tenant};
use crate::os::library::{self, Library};
use crate::os::thread_local;
use crate::unwind;

/// What other modules offer to the one that is being staged.
pub(crate) trait Neighbours {
    /// Whether a module of this name is in the next generation.
    fn is_module(&self, name: &str) -> bool;
    /// The modules of the next generation, `from` apart, that export a symbol.
    fn exporters(&mut self, symbol: &str, from: &str) -> Vec<Found>;
    /// The trampoline of a neighbour's function.
    fn trampoline(&mut self, module: &str, symbol: &str) -> Result<usize, Error>;
}

/// A neighbour's export.
#[derive(Clone)]
pub(crate) struct Found {
    pub(crate) module: Arc<str>,
    pub(crate) function: bool,
}

impl Found {
    /// If the version exports the symbol.
    pub(crate) fn of(version: &Version, symbol: &str) -> Option<Self> {
        let exported = version.exports(symbol)?;
        Some(Self { module: version.name().clone(), function: exported.function })
    }
}

/// What a module's imports were bound to.
pub(crate) struct Bound {
    /// In the order of the image's imports. Missing are those that nobody defines.
    bindings: Vec<Option<Binding>>,
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
pub(crate) unsafe fn bind(
    file: &ModuleFile,
    image: &Image<'_>,
    name: &str,
    neighbours: &mut impl Neighbours,
) -> Result<Bound, Error> {
    let (modules, needed): (Vec<&str>, Vec<&str>) =
        file.needed(image).partition(|library| neighbours.is_module(stem(library)));
    let modules: Vec<&str> = modules.into_iter().map(stem).collect();
    let mut bound = Bound { bindings: Vec::new(), calls: BTreeSet::new(), libraries: Vec::new() };
    for library in needed {
        // SAFETY: the caller accepts the library's constructors.
        let opened = unsafe { open(library, image.runpath(), file.path()) }
            .map_err(|reason| Error::Library { path: file.path().into(), library: library.into(), reason })?;
        bound.libraries.push(opened);
    }

    for import in image.imports() {
        let mut exporters = Vec::new();
        if !modules.is_empty() {
            exporters = neighbours.exporters(import.name, name);
            let place = |found: &Found| modules.iter().position(|needed| *needed == &*found.module);
            exporters.retain(|found| place(found).is_some());
            exporters.sort_by_key(place);
            exporters.truncate(1);
        }
        if exporters.is_empty() {
            if let Some(binding) = process_symbol(import, &bound.libraries) {
                bound.bindings.push(Some(binding));
                continue;
            }
            exporters = neighbours.exporters(import.name, name);
        }
        let symbol = import.name;
        match &exporters[..] {
            // `link` lists all that are missing, and leaves weak ones null.
            [] => bound.bindings.push(None),
            [Found { module, function: true }] => {
                let trampoline = neighbours.trampoline(module, symbol)?;
                bound.bindings.push(Some(Binding::Address(trampoline as u64)));
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

/// Places, relocates and seals the module. Other cores are not yet synchronised.
///
/// # Safety
///
/// Of the module's code, only what chooses its indirect functions runs; the caller vouches for it.
pub(crate) unsafe fn link(
    file: &ModuleFile,
    image: &Image<'_>,
    bound: Bound,
    (name, number): (Arc<str>, u64),
    (memory, observers): (&mut CodeMemory, &mut Observers),
    clock: &mut Clock,
    phases: &mut Phases,
) -> Result<Version, Error> {
    let failed = |source| Error::CodeMemory { of: file.path().display().to_string(), source };
    let wrong = |source| file.wrong(source);
    let span = image.span() as usize;
    let window = image.window(&bound.bindings).map_err(wrong)?;
    let frames = unwind::Plan::of(image, memory.page_size());
    let regions = &frames.regions(image);
    // Observers read all of the image. Nobody else needs more than where it ends up.
    let verbatim = if file.watched() { &[] } else { image.verbatim() };
    let shape = Shape { len: frames.len(image), align: image.align() as usize, regions, verbatim, window };
    let tenant = Tenant::new(image.thread_locals())?;
    let mut draft = memory.draft(&shape).map_err(failed)?;
    let base = draft.base() as u64;
    let whole = draft.bytes();
    let bytes = &mut whole[..span];
    if file.watched() {
        image.link(base, bytes, &tenant.host(), &bound.bindings).map_err(wrong)?;
    } else {
        image.link_rest(base, bytes, &tenant.host(), &bound.bindings).map_err(wrong)?;
    }
    let constructors = image.init(base, bytes).map_err(wrong)?;
    let destructors = image.fini(base, bytes).map_err(wrong)?;
    let frames = frames.finish(image, base, whole).map_err(wrong)?;
    let on_disk = FileOnDisk::new(
        file.path(),
        file.identity().filter(|_| image.bias(base).is_some()),
        name.clone(),
        number,
    );
    let description = observers.describe(image, on_disk, base, whole, file.watched(), frames)?;
    let debug_omitted = description.omitted();
    clock.lap(&mut phases.link);
    let block = draft.seal().map_err(failed)?;
    tenant.settle(block.base(), block.len());
    clock.lap(&mut phases.seal);

    // SAFETY: at the address that was described, and the version drops the registration before the block.
    let registration = unsafe { description.register() };
    let mut resolvers = Resolvers::new(&block);
    // SAFETY: linked and sealed, known to nobody; the caller vouches for the code.
    unsafe { resolvers.fill(image) }.map_err(failed)?;
    let exports = Exports::new(image, |export| match export.kind {
        // SAFETY: as above; the image says that a resolver is there.
        ExportKind::Indirect => unsafe { resolvers.ask(export.offset) },
        _ => base + export.offset,
    });
    clock.lap(&mut phases.register);
    Ok(Version {
        exports,
        name,
        number,
        path: file.path().into(),
        debug_omitted,
        calls: bound.calls,
        constructors,
        destructors,
        initialised: AtomicBool::new(false),
        _registration: registration,
        tenant,
        block,
        _libraries: bound.libraries,
    })
}

/// Opens a library as ld.so would for the module: what the process has already, then what is in the module's own search
/// path, then what the system finds.
///
/// # Safety
///
/// The library's constructors run.
unsafe fn open(library: &str, runpath: Option<&str>, module: &Path) -> Result<Library, String> {
    if let Some(loaded) = Library::loaded(library) {
        return Ok(loaded);
    }
    if !library.contains('/') {
        let origin = std::path::absolute(module).ok();
        let origin = origin.as_deref().and_then(Path::parent).and_then(Path::to_str).unwrap_or(".");
        for folder in runpath.into_iter().flat_map(|path| path.split(':')).filter(|folder| !folder.is_empty())
        {
            let folder = folder.replace("${ORIGIN}", origin).replace("$ORIGIN", origin);
            let path = format!("{folder}/{library}");
            if Path::new(&path).exists() {
                // SAFETY: the caller's promise.
                return unsafe { Library::open(&path) };
            }
        }
    }
    // SAFETY: the caller's promise.
    unsafe { Library::open(library) }
}

/// What the process has for an import, or the host in its place.
fn process_symbol(import: &Import<'_>, libraries: &[Library]) -> Option<Binding> {
    if import.kind == ImportKind::ThreadLocal {
        let name = CString::new(import.name).ok()?;
        let version = import.version.map(CString::new).transpose().ok()?;
        return thread_local::find(&name, version.as_deref(), libraries).map(Binding::ThreadLocal);
    }
    let process = || system_symbol(import, libraries);
    host::symbol(import.name, process).or_else(process).map(Binding::Address)
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
