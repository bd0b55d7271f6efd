//! Staging: a parsed image bound to its neighbours and to the process ([`bind`]), placed
//! ([`place`]), linked and sealed ([`Placed::link`]), and made known ([`Linked::finish`]). Nothing
//! of it runs here.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use midflight_image::{Binding, ExportKind, Format, Image, Import, ImportKind, Lookup, Protection, Region};
use midflight_interface::Variables;
use parking_lot::Mutex;

use super::exports::Exports;
use super::hooks::Hooks;
use super::indirect::Resolvers;
use super::needed::{self, is_apples};
use super::sanitizers;
use super::states::{self, States};
use super::{Clock, ModuleFile, Phases, Remark, Version, lent};
use crate::code::{CodeMemory, Draft, Sealed, Shape};
use crate::error::symbols;
use crate::host::dynamic::Scope;
use crate::host::loaded::FileOnDisk;
use crate::host::{self, Tenant, apple_abi, shared_std, signals};
use crate::module::debug::{Description, Observers};
use crate::module::unwind;
use crate::platform::os::library::{self, Library};
use crate::platform::os::{symbol, thread_local};
use crate::state::{Held, Storage};
use crate::{Error, MissingSymbol};

/// What other modules offer to the one that is being staged.
pub(crate) trait Neighbours {
    /// The module of the next generation that is meant by the name of a library, as that name alone
    /// tells.
    fn module_of(&self, library: &str) -> Option<Meant>;
    /// The modules of the next generation, `from` apart, that export a symbol, which may be
    /// `name@version`.
    fn exporters(&mut self, symbol: &str, from: &str) -> Vec<Found>;
    /// Functions of the next generation's modules, `from` apart, that have a word in their symbols:
    /// (module, symbol).
    fn functions_with(&self, word: &str, from: &str) -> Vec<(Arc<str>, String)>;
    /// The memory of a state of the version that is to be replaced, if that has it.
    fn state(&self, module: &str, state: &str) -> Option<Arc<Storage>>;
    /// The trampoline by which `from` calls a neighbour's function, and the symbol of its slot.
    fn trampoline(&mut self, module: &str, symbol: &str, from: &str) -> Result<(Box<str>, usize), Error>;
}

/// A module that may be meant by a library's name.
pub(crate) struct Meant {
    pub(crate) module: Arc<str>,
    /// Its library has that name; else the module has.
    pub(crate) by_library: bool,
    /// What its library is called.
    pub(crate) library: Option<Box<str>>,
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

/// With these a module can change the protection of its own pages, or map something else over them:
/// a guard page, a ring buffer, memory that it shares. What is mapped there is then no place for
/// another version.
const REMAPPING: &[&str] = &[
    "mprotect",
    "pkey_mprotect",
    "mmap",
    "mmap64",
    "munmap",
    "mremap",
    "remap_file_pages",
    "shmat",
    "shmdt",
    "madvise",
    "process_madvise",
    "mseal",
    "syscall",
    // By these it can have any of them.
    "dlsym",
    "dlvsym",
];

/// Of so many variables that are a module's own for want of others it is asked which modules have
/// them as well: a module with the same header has most of them.
const LOOKED_AT: usize = 64;

/// What a module's imports were bound to.
pub(crate) struct Bound {
    /// In the order of the image's imports. Missing are those that nobody defines.
    bindings: Vec<Option<Binding>>,
    /// The neighbours' functions among them: (module, symbol).
    calls: BTreeSet<(Arc<str>, Box<str>)>,
    libraries: Vec<Library>,
    /// By what it lends its functions ([`lent`]). Unknown if only [`Libraries::Loaded`] are used.
    lent: Option<Box<str>>,
    /// It can change what its pages are: see [`REMAPPING`].
    remaps: bool,
    /// It asks for symbols or libraries by name.
    asks: bool,
    /// The states that it declares.
    states: Vec<Held>,
    /// What ld.so would have done in another way.
    remarks: Vec<Remark>,
    /// Libraries that it needs and that are not in the process. Empty unless only
    /// [`Libraries::Loaded`] are used.
    pub(crate) absent: Vec<String>,
}

impl Bound {
    /// The imports that nobody defines and that must be there.
    pub(crate) fn missing<'i>(&'i self, image: &'i Image<'_>) -> impl Iterator<Item = &'i Import<'i>> {
        let unbound = self.bindings.iter().zip(image.imports()).filter(|(binding, _)| binding.is_none());
        unbound.map(|(_, import)| import).filter(|import| !import.weak)
    }

    /// That nothing is missing that must be there. What nobody has may be in a library that is
    /// [absent](Self::absent).
    ///
    /// # Errors
    ///
    /// Else it says what is missing, and who has something like it.
    pub(crate) fn check(
        &self,
        file: &ModuleFile,
        image: &Image<'_>,
        name: &str,
        neighbours: &impl Neighbours,
    ) -> Result<(), Error> {
        match self.absent.is_empty() && self.missing(image).next().is_some() {
            true => Err(unresolved(self, file, image, name, neighbours)),
            false => Ok(()),
        }
    }

    /// Says what ld.so would have done in another way; of a module that is reloaded only what is
    /// new.
    pub(crate) fn say(&mut self, file: &ModuleFile, image: &Image<'_>, name: &Arc<str>, reloaded: bool) {
        if !reloaded && let Some(library) = file.library(image) {
            needed::copy_of(library, name, &mut self.remarks);
        }
        Remark::say(&self.remarks, name, reloaded);
    }

    /// The neighbours' functions that it calls: (module, symbol).
    pub(crate) fn calls(&self) -> impl Iterator<Item = (&str, &str)> {
        self.calls.iter().map(|(module, symbol)| (&**module, &**symbol))
    }
}

/// Finds what the module's imports stand for.
///
/// Some things exist once in a process, such as inline variables and allocators. If the process or
/// a library that the module needs has one, that is used, although the module defines it as well.
///
/// All other imports are looked for in this order:
///
/// 1. in the modules that DT_NEEDED names, in its order;
/// 2. in the process and in the system libraries that the module needs;
/// 3. in other modules: exactly one must export the symbol.
///
/// A Mach-O import that names its library (two-level names) is looked for in that one only. A
/// function of a module is always bound through its trampoline, so that replacing that module never
/// relinks this one.
///
/// # Safety
///
/// With [`Libraries::Load`] the libraries that it needs are loaded into the process if they are not
/// there, and their constructors run.
pub(crate) unsafe fn bind(
    file: &ModuleFile,
    image: &Image<'_>,
    name: &str,
    libraries: Libraries,
    neighbours: &mut impl Neighbours,
) -> Result<Bound, Error> {
    let mut bound = Bound {
        bindings: Vec::new(),
        calls: BTreeSet::new(),
        libraries: Vec::new(),
        lent: None,
        remaps: false,
        asks: false,
        states: Vec::new(),
        remarks: Vec::new(),
        absent: Vec::new(),
    };
    let meant = needed::modules(file, image, name, neighbours, &mut bound.remarks);
    let modules: Vec<&str> = meant.iter().flatten().map(|module| &**module).collect();
    if image.format() == Format::Elf {
        let needed = file.needed(image).zip(&meant).filter(|(_, module)| module.is_none());
        let names = image.imports().iter().map(|import| import.name).chain(needed.map(|(name, _)| name));
        if let Some((symbol, reason)) = sanitizers::missing(names) {
            return Err(Error::Convention { path: file.path().into(), symbol, reason });
        }
    }
    // SAFETY: the caller accepts the libraries' constructors.
    let (opened, new) = unsafe { needed::libraries(file, image, &meant, libraries, &mut bound.absent) }?;
    bound.libraries = opened;
    if new {
        needed::copies(neighbours, &mut bound.remarks);
    }
    if libraries == Libraries::Load {
        let opened = needed::opened(file, image, &meant);
        let opened = opened.iter().map(|(name, library)| (*name, library));
        bound.lent = lent::by(image.imports().iter().map(|import| import.name), opened).map(Into::into);
    }

    let states = States::of(file, image);
    let mut own_variables = 0;
    for import in image.imports() {
        if let Some(size) = import.own {
            if let Some(state) = states.get(import.name) {
                let held = states.bind(name, state, size, neighbours)?;
                bound
                    .bindings
                    .push(Some(Binding::Address(held.storage.at().as_ptr().expose_provenance() as u64)));
                bound.states.push(held);
                continue;
            }
            let shared = shared_definition(import, size, &bound.libraries, file.path())?;
            if shared.is_none() && import.kind != ImportKind::Function && own_variables < LOOKED_AT {
                own_variables += 1;
                if let Some(other) = neighbours.exporters(import.name, name).first() {
                    let (symbol, module) = (import.name.into(), other.module.clone());
                    Remark::Twin { symbol, module }.add_first(&mut bound.remarks);
                }
            }
            bound.bindings.push(shared);
            continue;
        }
        bound.remaps |= REMAPPING.contains(&import.name);
        bound.asks |= Scope::is_asked_by(import.name);
        let one;
        let first: &[&str] = match import.from {
            Lookup::Anywhere => &modules,
            Lookup::Program => &[],
            Lookup::Library(index) => {
                one = meant.get(index).and_then(|module| module.as_deref());
                one.as_slice()
            }
        };
        let place = |found: &Found| first.iter().position(|needed| *needed == &*found.module);
        let in_one_module =
            import.from != Lookup::Anywhere && first.iter().any(|name| modules.contains(name));
        // Only in its version, as ld.so has it.
        let symbol = &*import.symbol();
        let mut exporters = Vec::new();
        if !modules.is_empty() && !first.is_empty() {
            exporters = neighbours.exporters(symbol, name);
            exporters.retain(|found| place(found).is_some());
            exporters.sort_by_key(place);
            exporters.truncate(1);
        }
        if exporters.is_empty() && !in_one_module {
            let found = process_symbol(means_apples(image, import), import, &bound.libraries);
            let refused =
                |reason| Error::Convention { path: file.path().into(), symbol: import.name.into(), reason };
            if let Some(binding) = found.map_err(refused)? {
                bound.bindings.push(Some(binding));
                continue;
            }
            if import.from == Lookup::Anywhere {
                exporters = neighbours.exporters(symbol, name);
            }
        }
        match &exporters[..] {
            // `link` lists all that are missing, and leaves weak ones null.
            [] => bound.bindings.push(None),
            [Found { module, function: true }] => {
                let (slot, trampoline) = neighbours.trampoline(module, symbol, name)?;
                if import.addressed {
                    let (symbol, module) = (symbol.into(), module.clone());
                    Remark::Address { symbol, module }.add_first(&mut bound.remarks);
                }
                bound.bindings.push(Some(Binding::Address(trampoline as u64)));
                bound.calls.insert((module.clone(), slot));
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
    states::check(file, image, &bound.states)?;
    Ok(bound)
}

/// So many missing symbols are named, and of so many it is asked what may have been meant.
const NAMED: usize = 1000;
const EXPLAINED: usize = 16;

fn unresolved(
    bound: &Bound,
    file: &ModuleFile,
    image: &Image<'_>,
    name: &str,
    neighbours: &impl Neighbours,
) -> Error {
    let missing = bound.missing(image).take(NAMED).enumerate().map(|(at, import)| {
        let explained = at < EXPLAINED && import.kind != ImportKind::ThreadLocal;
        let alike = if explained { alike(import, &bound.libraries, name, neighbours) } else { Vec::new() };
        MissingSymbol { symbol: import.symbol().into_owned(), alike }
    });
    let symbols: Vec<_> = missing.collect();
    let omitted = bound.missing(image).count() - symbols.len();
    Error::Unresolved { path: file.path().into(), symbols, omitted }
}

/// Who has something like what is missing: in another version, with other parameters, or with C
/// linkage where C++ is meant, or the other way round.
fn alike(
    import: &Import<'_>,
    libraries: &[Library],
    from: &str,
    neighbours: &impl Neighbours,
) -> Vec<String> {
    let base = symbols::base(import.name);
    let mut alike: Vec<String> = Vec::new();
    let found = match symbols::word(&base) {
        "" => Vec::new(),
        word => neighbours.functions_with(word, from),
    };
    for (module, symbol) in found.into_iter().filter(|(_, symbol)| symbols::base(symbol) == base) {
        let in_another_version = if symbol == import.name { " in another version" } else { "" };
        alike.push(format!("module `{module}` exports {}{in_another_version}", symbols::Shown(&symbol)));
    }
    let there = |name| system_symbol(&Import { name, version: None, ..*import }, libraries).is_some();
    if import.version.is_some() && there(import.name) {
        alike.push("the process has it in another version".into());
    }
    if base != import.name && there(&base) {
        alike.push(format!("the process has `{base}` with C linkage: declare it extern \"C\""));
    }
    alike
}

/// What of the libraries that a module needs may be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Libraries {
    /// All: those that are not in the process are loaded.
    Load,
    /// Those that are in the process already.
    Loaded,
}

/// A module that has its place in code memory.
pub(crate) struct Placed<'i, 'f> {
    file: &'i ModuleFile,
    image: &'i Image<'f>,
    bound: Bound,
    tenant: Tenant,
    frames: unwind::Plan,
    draft: Draft<'i>,
    /// Written by nobody but [`Placed::link`]: all of it, not only what the file does not have as
    /// it is.
    whole: bool,
}

/// Finds a place for the module. One at a time; what is behind it can be done for several modules
/// at once.
///
/// `whole`: the code is to be compared with what was linked.
pub(crate) fn place<'i, 'f>(
    file: &'i ModuleFile,
    image: &'i Image<'f>,
    bound: Bound,
    memory: &mut CodeMemory,
    whole: bool,
) -> Result<Placed<'i, 'f>, Error> {
    let window = image.window(&bound.bindings).map_err(|source| file.wrong(source))?;
    let frames = unwind::Plan::of(image, memory.page_size());
    let regions = &frames.regions(image);
    // Observers and who compares read all of the image. Nobody else needs more than where it ends
    // up.
    let whole = whole || file.observed();
    let verbatim = if whole { &[] } else { image.verbatim() };
    let (len, align, guarded) = (frames.len(image), image.align() as usize, image.is_guarded());
    let shape = Shape { len, align, regions, verbatim, window, guarded };
    let tenant = Tenant::new(image.thread_locals())?;
    let draft = memory.draft(&shape).map_err(|source| no_memory(file, source))?;
    Ok(Placed { file, image, bound, tenant, frames, draft, whole })
}

fn no_memory(file: &ModuleFile, source: std::io::Error) -> Error {
    Error::CodeMemory { of: file.path().display().to_string(), source }
}

/// A module that is linked and sealed. Other cores are not yet synchronised.
pub(crate) struct Linked<'i, 'f> {
    file: &'i ModuleFile,
    image: &'i Image<'f>,
    bound: Bound,
    name: Arc<str>,
    number: u64,
    tenant: Tenant,
    constructors: Vec<u64>,
    destructors: Vec<u64>,
    description: Description,
    block: Sealed,
    variables: Option<Result<Variables, &'static str>>,
    pub(crate) code: Code,
    pub(crate) phases: Phases,
}

/// The executable bytes of an image as they were linked, each run with its offset. Empty unless
/// they are to be compared.
pub(crate) type Code = Vec<(usize, Box<[u8]>)>;

impl<'i, 'f> Placed<'i, 'f> {
    /// Relocates and seals the module. Nothing of it runs. `compare`: notes its code. `carried`:
    /// its variables are asked for.
    pub(crate) fn link(
        self,
        name: Arc<str>,
        number: u64,
        observers: &Mutex<Observers>,
        compare: bool,
        carried: bool,
    ) -> Result<Linked<'i, 'f>, Error> {
        let Self { file, image, bound, tenant, frames, mut draft, whole } = self;
        let (mut clock, mut phases) = (Clock::start(), Phases::default());
        let wrong = |source| file.wrong(source);
        let base = draft.base() as u64;
        let memory = draft.bytes();
        let bytes = &mut memory[..image.span() as usize];
        if whole {
            image.link(base, bytes, &tenant.host(), &bound.bindings).map_err(wrong)?;
        } else {
            image.link_rest(base, bytes, &tenant.host(), &bound.bindings).map_err(wrong)?;
        }
        let constructors = image.init(base, bytes).map_err(wrong)?;
        let destructors = image.fini(base, bytes).map_err(wrong)?;
        let code = if compare { code(image, bytes) } else { Code::new() };
        let frames = frames.finish(image, base, memory).map_err(wrong)?;
        let on_disk = FileOnDisk::new(
            file.path(),
            file.identity().filter(|_| image.bias(base).is_some()),
            name.clone(),
            number,
        );
        let mut description =
            observers.lock().describe(image, on_disk, base, memory, file.observed(), frames)?;
        if bound.asks {
            let search = needed::search_of(file.path(), image);
            description = description.reaching(Scope::new(&bound.libraries, search));
        }
        clock.lap(&mut phases.link);
        let mut block = draft.seal().map_err(|source| no_memory(file, source))?;
        if bound.remaps {
            block.use_once();
        }
        tenant.settle(block.base(), block.len());
        clock.lap(&mut phases.seal);
        let variables = carried.then(|| Variables::of(image));
        Ok(Linked {
            file,
            image,
            bound,
            name,
            number,
            tenant,
            constructors,
            destructors,
            description,
            block,
            variables,
            code,
            phases,
        })
    }
}

fn code(image: &Image<'_>, bytes: &[u8]) -> Code {
    let executable = image.regions().iter().filter(|region| region.protection == Protection::ReadExecute);
    let run = |region: &Region| {
        let (start, end) = (region.offset as usize, (region.offset + region.len) as usize);
        Some((start, bytes.get(start..end.min(bytes.len()))?.into()))
    };
    executable.filter_map(run).collect()
}

impl Linked<'_, '_> {
    /// Whether code of it that [`finish`](Self::finish) runs may call other modules.
    pub(crate) fn calls_to_choose(&self) -> bool {
        self.image.chooses() && !self.bound.calls.is_empty()
    }

    /// The neighbours' functions that it calls: (module, symbol).
    pub(crate) fn calls(&self) -> impl Iterator<Item = (&str, &str)> {
        self.bound.calls()
    }

    /// Its module.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Registers it with who must know of it.
    ///
    /// # Safety
    ///
    /// Of the module's code, only what chooses its indirect functions runs; the caller vouches for
    /// it, and sees to it that what [it calls](Self::calls_to_choose) can be called.
    pub(crate) unsafe fn finish(self) -> Result<Version, Error> {
        let Self { file, image, block, .. } = self;
        let base = block.base() as u64;
        let debug_omitted = self.description.omitted();
        // SAFETY: at the address that was described, and the version drops the registration before
        // the block.
        let registration = unsafe { self.description.register() };
        let mut resolvers = Resolvers::new(&block);
        // SAFETY: linked and sealed, known to nobody; the caller vouches for the code.
        unsafe { resolvers.fill(image) }.map_err(|source| no_memory(file, source))?;
        states::fill(file, image, &block, &self.bound.states)?;
        let exports = Exports::new(image, |export| match export.kind {
            // SAFETY: as above; the image says that a resolver is there.
            ExportKind::Indirect => unsafe { resolvers.ask(export.offset) },
            _ => base + export.offset,
        });
        registration.loaded.set_names(exports.listed());
        let stays = image.imports().iter().any(|import| shared_std::starts_threads(import.name));
        if stays {
            tracing::warn!(
                module = &*self.name,
                "may start threads by way of a shared standard library of Rust, and so stays in memory when it is replaced: \
                 build it without `-C prefer-dynamic`"
            );
        }
        if let Some(by) = &self.bound.lent {
            tracing::info!(
                module = &*self.name,
                by,
                "may be run by threads that nobody counts: what is replaced is kept until a look at all threads \
                 (`collect_quiescent`, `runtime_gc_collect`) shows that none is inside"
            );
        }
        let handles =
            self.bound.lent.is_some() || image.imports().iter().any(|import| signals::installs(import.name));
        Ok(Version {
            hooks: Hooks::of(&exports, &block),
            declared: image.declared_version().map(Into::into),
            needs: image.needs().map(Into::into).collect(),
            ranges: image.ranges().map(|(module, range)| (module.into(), range.into())).collect(),
            exclusive: image.exclusive().map(Into::into).collect(),
            exports,
            name: self.name,
            number: self.number,
            path: file.path().into(),
            content: file.content_hash().map_or_else(OnceLock::new, OnceLock::from),
            stored: OnceLock::new(),
            library: file.library(image).map(Into::into),
            debug_omitted,
            calls: self.bound.calls,
            constructors: self.constructors,
            destructors: self.destructors,
            initialised: AtomicBool::new(false),
            stays,
            handles,
            handled: AtomicBool::new(false),
            lends: self.bound.lent.is_some(),
            origin: OnceLock::new(),
            end: Mutex::default(),
            signatures: Mutex::default(),
            retained: AtomicBool::new(false),
            variables: self.variables,
            states: ManuallyDrop::new(self.bound.states),
            registration: ManuallyDrop::new(registration),
            tenant: ManuallyDrop::new(self.tenant),
            block: ManuallyDrop::new(block.into_block()),
            freed: false,
        })
    }
}

/// Whether an import may be meant for Apple's C library, and not for the program or another
/// library.
fn means_apples(image: &Image<'_>, import: &Import<'_>) -> bool {
    image.format() == Format::MachO
        && match import.from {
            Lookup::Anywhere => true,
            Lookup::Program => false,
            Lookup::Library(index) => image.needed().get(index).is_some_and(|library| is_apples(library)),
        }
}

/// What the process or a library has for a definition of the module, of which a process has one.
fn shared_definition(
    import: &Import<'_>,
    size: u64,
    libraries: &[Library],
    path: &Path,
) -> Result<Option<Binding>, Error> {
    let (path, symbol) = (|| path.into(), || import.name.into());
    let found = process_symbol(false, import, libraries).map_err(|reason| Error::Convention {
        path: path(),
        symbol: symbol(),
        reason,
    })?;
    if let Some(Binding::Address(address)) = found
        && import.kind == ImportKind::Data
        && let Some(there) = symbol::size(address, import.name)
        && there != size
    {
        return Err(Error::AnotherSize { path: path(), symbol: symbol(), sizes: [there, size] });
    }
    Ok(found)
}

/// What the process has for an import, or the host in its place. An error is why a module cannot
/// use what the process has.
fn process_symbol(
    apples: bool,
    import: &Import<'_>,
    libraries: &[Library],
) -> Result<Option<Binding>, &'static str> {
    if import.kind == ImportKind::ThreadLocal {
        let find = || {
            let name = CString::new(import.name).ok()?;
            let version = import.version.map(CString::new).transpose().ok()?;
            thread_local::find(&name, version.as_deref(), libraries)
        };
        return Ok(find().map(Binding::ThreadLocal));
    }
    let process = || system_symbol(import, libraries);
    if let Some(address) = host::symbol(import.name, process) {
        return Ok(Some(Binding::Address(address)));
    }
    if !apples && let Some(address) = host::dynamic::symbol(import.name) {
        return Ok(Some(Binding::Address(address)));
    }
    if apples {
        match apple_abi::symbol(import.name) {
            apple_abi::Found::Address(address) => return Ok(Some(Binding::Address(address))),
            apple_abi::Found::Refused(reason) => return Err(reason),
            apple_abi::Found::Unknown => {}
        }
    }
    Ok(process().map(Binding::Address))
}

/// A symbol of the process or of the libraries the module needs, in the version the module was
/// linked with.
fn system_symbol(import: &Import<'_>, libraries: &[Library]) -> Option<u64> {
    let name = CString::new(import.name).ok()?;
    let version = import.version.map(CString::new).transpose().ok()?;
    let anywhere = |version| {
        library::process_symbol(&name, version)
            .or_else(|| libraries.iter().find_map(|library| library.symbol(&name, version)))
    };
    anywhere(version.as_deref())
}
