//! What is asked of a module that is loaded, in one frame: its functions are called, and through
//! them the runtime is asked what it gives modules in place of the C library's own.

use std::ffi::{CStr, CString, c_int, c_void};

use midflight::Runtime;
use midflight_image::unwind;

use crate::harmless::Does;
use crate::{Known, Version, unwinder};

type Function = extern "C" fn(usize, usize, usize, usize, usize) -> u64;

/// Functions of a loaded version, each with its trampoline.
pub struct Functions<'v>(Vec<(Function, &'v Known)>);

impl<'v> Functions<'v> {
    pub fn of(rt: Runtime, version: &'v Version<'_>, module: &str) -> Self {
        let function = |known: &'v Known| {
            let address = rt.frame_symbol(module, &known.name).expect("the runtime has what the image has");
            // SAFETY: code whose bytes are known.
            (unsafe { std::mem::transmute::<*mut (), Function>(address.as_ptr()) }, known)
        };
        let other = "no such symbol";
        assert!(rt.frame_symbol(module, other).is_err() || version.image.export(other).is_some());
        Self(version.functions.iter().map(function).collect())
    }

    /// Calls those of which the answer is known, in the frame that is open. Returns where they say
    /// that the image is.
    pub fn call(&self) -> Option<usize> {
        let mut base = None;
        for (function, known) in &self.0 {
            match known.does {
                Does::Returns => drop(function(0, 0, 0, 0, 0)),
                Does::Number(number) => assert_eq!(function(0, 0, 0, 0, 0), u64::from(number)),
                Does::Place(place) => {
                    let found = function(0, 0, 0, 0, 0).wrapping_sub(place) as usize;
                    assert_eq!(*base.get_or_insert(found), found, "all are at one place");
                }
                Does::Calls(_) | Does::ThreadLocal(_) => {}
            }
        }
        base
    }
}

/// Asks everything of a version in one frame. Returns some addresses that are the module's.
pub fn everything(rt: Runtime, version: &Version<'_>, others: &[Version<'_>], module: &str) -> Vec<usize> {
    let functions = Functions::of(rt, version, module);
    let _frame = rt.frame();
    let Some(base) = functions.call() else { return Vec::new() };
    assert!(base.is_multiple_of(version.image.align() as usize));
    let loaded = Loaded { version, base };
    for (function, known) in functions.0 {
        match known.does {
            Does::Calls(place) => {
                let import = version.trial.import(place).expect("it is known");
                let name = version.image.imports()[import].name;
                loaded.ask(function, base + known.offset as usize, name);
                others.iter().for_each(|other| other_module(function, name, other));
            }
            Does::ThreadLocal(place) => loaded.thread_local(function, place),
            Does::Returns | Does::Number(_) | Does::Place(_) => {}
        }
    }
    loaded.records();
    version.functions.iter().take(4).map(|known| base + known.offset as usize).collect()
}

/// A call to the other module, if only that has what it calls.
fn other_module(function: Function, name: &str, other: &Version<'_>) {
    let known = other.functions.iter().find(|known| known.name == name);
    let Some(Does::Number(number)) = known.map(|known| known.does) else { return };
    let in_process = CString::new(name).is_ok_and(|name| {
        // SAFETY: a look-up.
        !unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }.is_null()
    });
    if !in_process {
        assert_eq!(function(0, 0, 0, 0, 0), number.into(), "{name} of the other module");
    }
}

/// A backtrace through the function at this address comes out where the function was called.
fn unwind(function: Function, at: usize) {
    struct Seen {
        function: usize,
        addresses: Vec<usize>,
    }
    extern "C" fn compare(key: *mut c_void, _: *const c_void) -> c_int {
        // SAFETY: the key is what is given below.
        let seen = unsafe { &mut *key.cast::<Seen>() };
        let found = unwinder::record(seen.function + CALL);
        // SAFETY: what was found. What it says of the module's function is right, and the others
        // are compiled.
        unsafe {
            if found.is_some_and(|(record, start)| start == seen.function && unwinder::is_of_a_call(record)) {
                seen.addresses = unwinder::backtrace();
            }
        }
        0
    }
    let mut seen = Seen { function: at, addresses: Vec::new() };
    function(&raw mut seen as usize, 1, 1, 1, compare as *const () as usize);
    if let Some(place) = seen.addresses.iter().position(|address| *address == at + CALL) {
        assert!(seen.addresses.len() > place + 3, "the host's frames are behind it: {:x?}", seen.addresses);
    } else {
        assert!(seen.addresses.is_empty(), "{at:#x} is on the stack: {:x?}", seen.addresses);
    }
}

#[cfg(target_arch = "x86_64")]
fn thread_pointer() -> usize {
    let thread;
    // SAFETY: where %fs points to, its own address stands.
    unsafe { std::arch::asm!("mov {}, fs:0", out(reg) thread, options(nostack, readonly)) };
    thread
}

#[cfg(target_arch = "aarch64")]
fn thread_pointer() -> usize {
    let thread;
    // SAFETY: reads a register.
    unsafe { std::arch::asm!("mrs {}, tpidr_el0", out(reg) thread, options(nostack, nomem)) };
    thread
}

/// From the start of a function that calls to where its call returns.
const CALL: usize = 7;

/// A version at its place.
struct Loaded<'v, 'f> {
    version: &'v Version<'f>,
    base: usize,
}

impl Loaded<'_, '_> {
    fn contains(&self, address: usize) -> bool {
        address.wrapping_sub(self.base) < self.version.image.span() as usize
    }

    /// Asks the C library's function of a name by way of the module, which calls it.
    fn ask(&self, function: Function, at: usize, name: &str) {
        match name {
            "bsearch" => unwind(function, at),
            "dl_iterate_phdr" => self.iterate(function),
            "_dl_find_object" => self.find_object(function),
            "dladdr" => self.name(function),
            "dlsym" => self.find(function),
            _ => {}
        }
    }

    /// Every object of the process, the module among them and described as it is.
    fn iterate(&self, function: Function) {
        struct Seen<'a, 'v, 'f>(&'a Loaded<'v, 'f>, usize, usize);
        unsafe extern "C" fn see(info: *mut libc::dl_phdr_info, _: usize, data: *mut c_void) -> c_int {
            // SAFETY: what is given below, and what the function passes.
            let (Seen(loaded, own, all), info) = unsafe { (&mut *data.cast::<Seen<'_, '_, '_>>(), &*info) };
            *all += 1;
            // SAFETY: as above.
            let (name, headers) = unsafe {
                let headers = std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into());
                (CStr::from_ptr(info.dlpi_name), headers)
            };
            assert!(name.count_bytes() < 4096);
            let start = |header: &libc::Elf64_Phdr| info.dlpi_addr.wrapping_add(header.p_vaddr) as usize;
            let segments = || headers.iter().filter(|header| header.p_type == libc::PT_LOAD);
            if segments().any(|header| loaded.contains(start(header))) {
                *own += 1;
                assert!(segments().all(|header| {
                    let start = start(header);
                    loaded.contains(start) && loaded.contains(start + header.p_memsz as usize - 1)
                }));
                assert_eq!(segments().count(), loaded.version.image.regions().len());
            }
            0
        }
        let mut seen = Seen(self, 0, 0);
        function(see as *const () as usize, &raw mut seen as usize, 0, 0, 0);
        assert!(seen.1 == 1 && seen.2 > 3, "the module is among {} objects {} times", seen.2, seen.1);
    }

    /// What an unwinder of the module's own finds at its addresses.
    fn find_object(&self, function: Function) {
        for region in self.version.image.regions() {
            let mut found = [0_usize; 12];
            let address = self.base + region.offset as usize;
            let answer = function(address, &raw mut found as usize, 0, 0, 0) as c_int;
            assert!(answer == 0 && found[1] == self.base && found[2] > address, "{answer}, {found:x?}");
            assert_eq!(found[4] != 0, self.functions().is_some_and(|functions| !functions.is_empty()));
        }
        let mut found = [0_usize; 12];
        assert_eq!(function(8, &raw mut found as usize, 0, 0, 0) as c_int, -1);
    }

    /// What each of its addresses is called: a symbol that begins there or before.
    fn name(&self, function: Function) {
        for region in self.version.image.regions() {
            for offset in [region.offset, region.offset + 1, region.offset + region.len - 1] {
                let address = self.base + offset as usize;
                // SAFETY: numbers and pointers.
                let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
                assert_eq!(function(address, &raw mut info as usize, 0, 0, 0) as c_int, 1);
                assert_eq!(info.dli_fbase as usize, self.base);
                if !info.dli_sname.is_null() {
                    // SAFETY: a name of the module's, which is loaded.
                    let name = unsafe { CStr::from_ptr(info.dli_sname) };
                    assert!(info.dli_saddr as usize <= address && name.count_bytes() < 1 << 20);
                }
            }
        }
    }

    /// What the module finds by the names of its own exports, unless the process has them.
    fn find(&self, function: Function) {
        for export in self.version.image.exports().into_iter().take(24) {
            let Ok(name) = CString::new(export.name) else { continue };
            let found = function(libc::RTLD_DEFAULT as usize, name.as_ptr() as usize, 0, 0, 0) as usize;
            let first = self.version.image.export(export.name).map(|export| (export.kind, export.offset));
            if self.contains(found) {
                assert_eq!(first.map(|(_, offset)| self.base + offset as usize), Some(found), "{name:?}");
            }
        }
        assert_eq!(function(libc::RTLD_NEXT as usize, c"no such symbol".as_ptr() as usize, 0, 0, 0), 0);
    }

    /// A variable of this thread, as it is in the beginning.
    fn thread_local(&self, function: Function, place: u64) {
        let offset = self.version.trial.descriptor(place).expect("it is known");
        let Some(block) = self.version.image.thread_locals() else {
            panic!("it has no thread-local variables")
        };
        if offset >= block.size {
            return;
        }
        let variable = thread_pointer().wrapping_add(function(0, 0, 0, 0, 0) as usize);
        let start = variable - offset as usize;
        assert_eq!(start as u64 % block.align, block.skew);
        // SAFETY: a variable of this thread, of at least a byte.
        let found = unsafe { *(variable as *const u8) };
        let initial = self.version.trial.memory[block.offset as usize..][..block.initialised as usize]
            .get(offset as usize);
        assert_eq!(found, initial.copied().unwrap_or(0));
    }

    /// What its call frame information describes, by offsets from its start.
    fn functions(&self) -> Option<Vec<(u64, u64)>> {
        let (trial, section) = (&self.version.trial, self.version.image.unwind()?);
        let bytes = &trial.memory[section.offset as usize..][..section.size as usize];
        let (functions, _) = unwind::functions(bytes, trial.base + section.offset).ok()?;
        let offset = |address: u64| address.wrapping_sub(trial.base);
        Some(functions.iter().map(|function| (offset(function.start), offset(function.end))).collect())
    }

    /// The unwinder finds a record for each function that has one, unless two of them have the same
    /// code.
    fn records(&self) {
        let Some(mut functions) = self.functions() else { return };
        functions.sort_unstable();
        if functions.iter().any(|(start, end)| start >= end)
            || functions.windows(2).any(|pair| pair[0].1 > pair[1].0)
        {
            return;
        }
        for (start, end) in functions.into_iter().take(16) {
            for offset in [start, end - 1] {
                let found = unwinder::record(self.base + offset as usize);
                let found = found.map(|(_, function)| function.wrapping_sub(self.base) as u64);
                assert_eq!(found, Some(start), "what describes {offset:#x}");
            }
        }
    }
}
