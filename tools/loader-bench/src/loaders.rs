//! What is compared: each loads a file, calls its function once, and takes it out again until
//! nothing of it is mapped.

use std::error::Error;
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;

use elf_loader::image::ModuleHandle;
use elf_loader::observer::{SectionGroups, SectionLifetime};
use elf_loader::os::ProtFlags;
use elf_loader::tls::DefaultTlsResolver;
use elf_loader::{AddressSpaceId, Domain, Loader, Relocator, host};
use midflight::Runtime;

use crate::modules::Module;

midflight::module! {
    unsafe mod measured { safe fn call(x: u64) -> u64; }
}

type Call = extern "C" fn(u64) -> u64;
type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Somebody who loads modules.
pub(crate) trait Peer {
    fn name(&self) -> &'static str;
    /// Whether it takes files of this kind at all.
    fn takes(&self, module: &Module) -> bool;
    /// Loads, calls, unloads and frees. Returns what the call returned.
    fn cycle(&mut self, module: &Module, x: u64) -> Result<u64>;
}

/// Us.
pub(crate) struct Midflight(pub(crate) Runtime);

impl Peer for Midflight {
    fn name(&self) -> &'static str {
        "midflight"
    }

    fn takes(&self, _: &Module) -> bool {
        true
    }

    fn cycle(&mut self, module: &Module, x: u64) -> Result<u64> {
        // SAFETY: the file was built from a source that has `call` as it is declared.
        unsafe { self.0.load(&module.path) }?;
        let y = measured::call(&self.0.frame(), x);
        // No frame is open, so this frees it too.
        self.0.unload("measured")?;
        Ok(y)
    }
}

/// The system's dynamic linker.
pub(crate) struct DynamicLinker;

impl Peer for DynamicLinker {
    fn name(&self) -> &'static str {
        "dlopen"
    }

    fn takes(&self, module: &Module) -> bool {
        !module.object
    }

    fn cycle(&mut self, module: &Module, x: u64) -> Result<u64> {
        let path = CString::new(module.path.as_os_str().as_bytes())?;
        // SAFETY: as for midflight; the handle is closed once, after the last use of what came of
        // it.
        unsafe {
            let library = libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
            if library.is_null() {
                return Err(dlerror());
            }
            let call = libc::dlsym(library, c"call".as_ptr());
            if call.is_null() {
                return Err(dlerror());
            }
            let y = std::mem::transmute::<*mut libc::c_void, Call>(call)(x);
            if libc::dlclose(library) != 0 {
                return Err(dlerror());
            }
            Ok(y)
        }
    }
}

/// The reason of this thread's last failure.
fn dlerror() -> Box<dyn Error> {
    // SAFETY: it failed, so there is a text, which lasts until the next call.
    unsafe { CStr::from_ptr(libc::dlerror()) }.to_string_lossy().into()
}

/// The `elf_loader` crate, used as its own benchmark does: the domain and the C library's symbols
/// are prepared beforehand.
pub(crate) struct ElfLoader {
    domain: Domain<elf_loader::arch::NativeArch, DefaultTlsResolver>,
    libc: ModuleHandle,
    /// Where the sections of objects go.
    groups: SectionGroups,
}

impl ElfLoader {
    pub(crate) fn new() -> Result<Self> {
        let domain = Domain::native(AddressSpaceId::PROCESS).with_tls(DefaultTlsResolver::new())?;
        // SAFETY: it is this process's C library, which stays.
        let libc = unsafe { host::open(&domain, c_library()?.as_str(), "libc.so.6") }?;
        Ok(Self { domain, libc, groups: section_groups() })
    }
}

/// elf_loader's own groups of sections. Version 0.18.0 makes them inside of `debug_assert_eq!`, so
/// that a release build has none and refuses every object ("section layout group is not defined");
/// these are the same.
fn section_groups() -> SectionGroups {
    let mut groups = SectionGroups::default();
    if cfg!(not(debug_assertions)) {
        use SectionLifetime::{Core, Init};
        let (r, w, x) = (ProtFlags::PROT_READ, ProtFlags::PROT_WRITE, ProtFlags::PROT_EXEC);
        for (order, protection) in [r, r | w, r | x, r | w | x].into_iter().enumerate() {
            groups.define(protection, protection, order, Core);
        }
        groups.define(r | w, r | w, usize::MAX, Init);
    }
    groups
}

impl Peer for ElfLoader {
    fn name(&self) -> &'static str {
        "elf_loader"
    }

    fn takes(&self, module: &Module) -> bool {
        // Its relocations for objects are written for x86-64 and RISC-V only.
        !module.object || cfg!(target_arch = "x86_64")
    }

    fn cycle(&mut self, module: &Module, x: u64) -> Result<u64> {
        let path = module.path.to_str().ok_or("the temporary folder's name is not UTF-8")?;
        let loader = const { Loader::new() };
        let mut loader = loader.run(self.domain.clone());
        let relocator = const { Relocator::new() };
        if module.object {
            let object = loader.with_object_section_groups(self.groups.clone()).load_object(path)?;
            let object = relocator.run(object).with_modules([self.libc.clone()])?.relocate()?;
            // SAFETY: as for midflight.
            Ok(unsafe { object.get::<Call>("call") }?.ok_or("no symbol `call`")?(x))
        } else {
            let library = relocator.run(loader.load_dylib(path)?).with_modules([self.libc.clone()])?;
            let library = library.eager().relocate()?;
            // SAFETY: as for midflight.
            Ok(unsafe { library.get::<Call>("call") }?.ok_or("no symbol `call`")?(x))
        }
    }
}

/// The file of this process's C library.
fn c_library() -> Result<String> {
    // SAFETY: zeros are a valid Dl_info, and the address is a function's.
    unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        if libc::dladdr(libc::getpid as *const libc::c_void, &raw mut info) == 0 {
            return Err("the C library's file is not known".into());
        }
        Ok(CStr::from_ptr(info.dli_fname).to_str()?.into())
    }
}
