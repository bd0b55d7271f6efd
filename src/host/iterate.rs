//! What is loaded, as modules find it in place of what the C library says: `dl_iterate_phdr` and
//! `_dl_find_object` with the versions behind the process's own objects. Rust's standard library
//! names the functions of a backtrace by the first; an unwinder that is linked into a module
//! (`-static-libgcc`) finds a function's caller by the one or the other.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::{Elf64_Phdr, dl_phdr_info};
use midflight_image::{Protection, Region};

use super::loaded::{self, FrameHeader, Object};
use crate::platform::os::library::process_symbol;
use crate::platform::os::walk::{self, Walking};

fn program_headers(object: &Object) -> Vec<Elf64_Phdr> {
    let header = |p_type, p_flags, address: u64, size| Elf64_Phdr {
        p_type,
        p_flags,
        p_offset: 0,
        p_vaddr: address.wrapping_sub(object.bias),
        p_paddr: address.wrapping_sub(object.bias),
        p_filesz: size,
        p_memsz: size,
        p_align: 0,
    };
    let segment = |region: &Region| {
        let flags = match region.protection {
            Protection::Read => libc::PF_R,
            Protection::ReadWrite => libc::PF_R | libc::PF_W,
            Protection::ReadExecute => libc::PF_R | libc::PF_X,
        };
        header(libc::PT_LOAD, flags, object.base + region.offset, region.len)
    };
    let frames = object.frames.iter().map(|frames| {
        header(libc::PT_GNU_EH_FRAME, libc::PF_R, &raw const *frames as u64, size_of::<FrameHeader>() as u64)
    });
    object.regions.iter().map(segment).chain(frames).collect()
}

type Callback = unsafe extern "C-unwind" fn(*mut dl_phdr_info, usize, *mut c_void) -> c_int;

/// `dl_iterate_phdr` as modules have it.
///
/// # Safety
///
/// As for that function: `callback` takes what it is given, and `data`.
pub(crate) unsafe extern "C-unwind" fn dl_iterate_phdr(callback: Callback, data: *mut c_void) -> c_int {
    struct Caller {
        callback: Callback,
        data: *mut c_void,
        added: u64,
        removed: u64,
        /// What glibc counts.
        process: (u64, u64),
    }

    unsafe extern "C-unwind" fn own(info: *mut dl_phdr_info, size: usize, caller: *mut c_void) -> c_int {
        // SAFETY: the C library passes on what it was given below, and an object that it describes.
        unsafe {
            let caller = &mut *caller.cast::<Caller>();
            let mut info = *info;
            caller.process = (info.dlpi_adds, info.dlpi_subs);
            info.dlpi_adds += caller.added;
            info.dlpi_subs += caller.removed;
            (caller.callback)(&mut info, size, caller.data)
        }
    }

    let _walking = Walking::new();
    let (objects, added, removed) = loaded::snapshot();
    let mut caller = Caller { callback, data, added, removed, process: (0, 0) };
    // SAFETY: `own` takes what the function passes, and the caller behind `data` is there until it
    // returns.
    let stopped = unsafe { process_dl_iterate_phdr(own, (&raw mut caller).cast()) };
    if stopped != 0 {
        return stopped;
    }
    for object in objects {
        let (name, headers) = (object.file.name(), program_headers(&object));
        let mut info = dl_phdr_info {
            dlpi_addr: object.bias,
            dlpi_name: name.as_ptr(),
            dlpi_phdr: headers.as_ptr(),
            dlpi_phnum: headers.len() as u16,
            dlpi_adds: caller.process.0 + added,
            dlpi_subs: caller.process.1 + removed,
            dlpi_tls_modid: 0,
            dlpi_tls_data: std::ptr::null_mut(),
        };
        // SAFETY: the caller passes a callback for its data; all that the description points to is
        // there until the callback has returned.
        let stopped = unsafe { callback(&mut info, size_of::<dl_phdr_info>(), data) };
        if stopped != 0 {
            return stopped;
        }
    }
    0
}

unsafe extern "C-unwind" {
    #[link_name = "dl_iterate_phdr"]
    fn process_dl_iterate_phdr(callback: Callback, data: *mut c_void) -> c_int;
}

/// `struct dl_find_object` of glibc 2.35 (bits/dl_find_object.h), without what only i386 and 32-bit
/// Arm have.
#[repr(C)]
pub(crate) struct FoundObject {
    flags: u64,
    map_start: *mut c_void,
    map_end: *mut c_void,
    link_map: *mut c_void,
    frames: *mut c_void,
    reserved: [u64; 7],
}

/// `_dl_find_object` as modules have it. Async-signal-safe, as the C library's: profilers call it
/// in their handlers.
///
/// # Safety
///
/// As for that function: `result` can be written to.
pub(crate) unsafe extern "C-unwind" fn dl_find_object(pc: *mut c_void, result: *mut FoundObject) -> c_int {
    let found = loaded::find(pc as u64, |object| {
        let end = object.regions.last().map_or(0, |region| region.offset + region.len);
        let frames = object.frames.as_ref().map_or(std::ptr::null(), |frames| &raw const *frames);
        FoundObject {
            flags: 0,
            map_start: object.base as *mut c_void,
            map_end: (object.base + end) as *mut c_void,
            link_map: std::ptr::null_mut(),
            frames: frames.cast_mut().cast(),
            reserved: [0; 7],
        }
    });
    let Some(found) = found else {
        // SAFETY: the caller's `result` can be written to.
        return unsafe { process_dl_find_object(pc, result) };
    };
    // SAFETY: the caller's `result` can be written to. What it points to is there as long as the
    // version, which the caller is unwinding through.
    unsafe { result.write(found) };
    0
}

/// The C library's function: null as long as nobody has looked, and [`ABSENT`] where it has none.
static PROCESS: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
const ABSENT: *mut c_void = std::ptr::without_provenance_mut(1);

/// Looks for what [`dl_find_object`] passes on to, before any module can call it: a look-up takes
/// locks, which a signal handler must not.
pub(crate) fn prepare() {
    walk::watch_forks();
    if PROCESS.load(Ordering::Relaxed).is_null() {
        let found = process_symbol(c"_dl_find_object", None);
        let found = found.map_or(ABSENT, |address| std::ptr::with_exposed_provenance_mut(address as usize));
        // Relaxed: a constant.
        PROCESS.store(found, Ordering::Relaxed);
    }
}

/// The C library's, or not found where it has none.
///
/// # Safety
///
/// As for [`dl_find_object`].
unsafe fn process_dl_find_object(pc: *mut c_void, result: *mut FoundObject) -> c_int {
    let found = PROCESS.load(Ordering::Relaxed);
    if found.is_null() || found == ABSENT {
        return -1;
    }
    // SAFETY: the C library's function of this name has this type; the caller's `result` can be
    // written to.
    unsafe {
        let find: unsafe extern "C-unwind" fn(*mut c_void, *mut FoundObject) -> c_int =
            std::mem::transmute(found);
        find(pc, result)
    }
}
