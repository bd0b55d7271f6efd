//! What macOS has otherwise than POSIX: code that each thread makes writable for itself, address
//! space near a place, and no names for mappings, and no executable memory behind a descriptor.
//!
//! Pages are 16 KiB on Apple Silicon. `mprotect` from writable to executable is allowed to a
//! process whose signature has not the hardened runtime; see [`must_toggle`].

use std::ffi::{c_int, c_uint, c_void};
use std::fs::File;
use std::io;
use std::mem::size_of_val;
use std::num::NonZeroUsize;
use std::ptr::{self, NonNull};

use mach2::kern_return::KERN_SUCCESS;
use mach2::traps::mach_task_self;
use mach2::vm::mach_vm_map;
use mach2::vm_inherit::VM_INHERIT_COPY;
use mach2::vm_prot::{VM_PROT_ALL, VM_PROT_NONE};
use mach2::vm_statistics::VM_FLAGS_FIXED;
use midflight_image::Protection;
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};

use super::regions;
use crate::platform::os::posix::gaps;
use crate::platform::os::posix::memory::non_zero;
pub(crate) use crate::platform::os::posix::memory::{
    map_anywhere, map_zeroed, page_size, protect, release, reserve, reserve_aligned, unreserve, write_all_at,
};

/// Apple's processors guard what is compiled for arm64e, which is not supported.
///
/// # Safety
///
/// None needed: it does nothing.
pub(crate) unsafe fn guard(_at: NonNull<u8>, _len: usize) -> io::Result<()> {
    Ok(())
}

/// macOS has no names for anonymous mappings.
pub(crate) fn name(_at: NonNull<u8>, _len: usize, _text: &str) {}

/// Address space that code is toggled in: see [`writable`]. mmap(2), MAP_JIT: the kernel takes it
/// with all protections at once, private, anonymous, and at an address of its own choice
/// (bsd/kern/kern_mman.c refuses MAP_FIXED). How many there are is not limited
/// on macOS (`VM_MAP_POLICY_ALLOW_MULTIPLE_JIT`, osfmk/vm/vm_map_internal.h), but for hosts that
/// ask for it by the entitlement `com.apple.security.cs.single-jit`. Its protection cannot be
/// changed by `mprotect` on all releases (11.2 refuses it), but parts of it can be unmapped or
/// mapped over with ordinary pages: osfmk/vm/vm_map.c, `vm_map_delete`, keeps permanent entries
/// only, which these are not.
///
/// # Errors
///
/// EINVAL or EPERM: the hardened runtime without the entitlement `com.apple.security.cs.allow-jit`.
pub(crate) fn map_toggled(len: usize) -> io::Result<NonNull<u8>> {
    map_jit(None, len)
}

/// At the address if that is free, else where the kernel likes.
fn map_jit(at: Option<NonZeroUsize>, len: usize) -> io::Result<NonNull<u8>> {
    let how = MapFlags::MAP_PRIVATE | MapFlags::from_bits_retain(libc::MAP_JIT);
    let all = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE | ProtFlags::PROT_EXEC;
    // SAFETY: a new mapping; without MAP_FIXED it overlaps nothing.
    match unsafe { mmap_anonymous(at, non_zero(len)?, all, how) } {
        Ok(at) => Ok(at.cast()),
        Err(errno @ (Errno::EINVAL | Errno::EPERM)) => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("MAP_JIT: {errno}: sign the host with the entitlement com.apple.security.cs.allow-jit"),
        )),
        Err(errno) => Err(errno.into()),
    }
}

/// As [`map_toggled`], `room` bytes for a block of `len`, whose first byte is between `low` and
/// `high`; see [`reserve_within`]. The address that mmap(2) is given is where it begins to look
/// (bsd/kern/kern_mman.c, `mmap_sanitize`), so it takes a gap that is there.
pub(crate) fn map_toggled_within(
    low: usize,
    high: usize,
    len: usize,
    room: usize,
) -> io::Result<(NonNull<u8>, usize)> {
    let map_at = |base: usize, size: usize| {
        let at = map_jit(NonZeroUsize::new(base), size)?;
        if at.addr().get() == base {
            return Ok(Some(at));
        }
        // SAFETY: the mapping just made.
        unsafe { unreserve(at, size)? };
        Ok(None)
    };
    gaps::reserve_within(&regions::mappings()?, (low, high), len, room, room, map_at)
}

/// Whether the system executes code in such memory only.
///
/// It enforces signatures page by page in a process that has CS_ENFORCEMENT: an unsigned page that
/// was writable and is executed ends the process, though `mprotect` allowed it
/// (bsd/kern/kern_exec.c and osfmk/vm/vm_map.c, `vm_map_cs_enforcement`; MAP_JIT is exempt,
/// `cs_bypass`). The hardened runtime (CS_RUNTIME) brings that about, unless an entitlement or a
/// debugger takes it back. The numbers are those of osfmk/kern/cs_blobs.h, and `csops` is declared
/// in bsd/sys/codesign.h, which is no public header.
pub(crate) fn must_toggle() -> bool {
    const CS_OPS_STATUS: c_uint = 0;
    const CS_ENFORCEMENT: u32 = 0x1000;
    const CS_RUNTIME: u32 = 0x1_0000;
    const CS_DEBUGGED: u32 = 0x1000_0000;
    unsafe extern "C" {
        fn csops(pid: libc::pid_t, operation: c_uint, into: *mut c_void, len: usize) -> c_int;
    }
    let mut flags = 0_u32;
    // SAFETY: writes at most the flags.
    let asked =
        unsafe { csops(libc::getpid(), CS_OPS_STATUS, (&raw mut flags).cast(), size_of_val(&flags)) == 0 };
    // A process without a signature fails the question, and is not enforced.
    asked && flags & (CS_ENFORCEMENT | CS_RUNTIME) != 0 && flags & CS_DEBUGGED == 0
}

/// Lets this thread write to code of [`map_toggled`], until [`executable`]: to all such code of the
/// process, none of which it can execute meanwhile. pthread_jit_write_protect_np(3).
///
/// # Safety
///
/// The code is in nobody's use. Between this and `executable` the thread calls no module's code; a
/// signal handler that does ends the process.
///
/// It does not nest: if the host is in the midst of writing code of its own on this thread, it is
/// not any more after `executable`. A host that was signed with
/// `com.apple.security.cs.jit-write-allowlist` is ended by the call (libpthread src/pthread.c).
///
/// # Errors
///
/// If the processor knows no such thing: none of Apple's own.
pub(crate) unsafe fn writable(_at: NonNull<u8>, _len: usize) -> io::Result<()> {
    // SAFETY: takes no pointers.
    unsafe {
        if libc::pthread_jit_write_protect_supported_np() == 0 {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "this processor has no toggled code: use Backing::WriteOnce",
            ));
        }
        libc::pthread_jit_write_protect_np(0);
    }
    Ok(())
}

/// The end of [`writable`], on the same thread: the code can be executed. The caller maintains the
/// caches.
///
/// # Safety
///
/// None beyond that of `writable`.
pub(crate) unsafe fn executable(_at: NonNull<u8>, _len: usize) -> io::Result<()> {
    // SAFETY: takes no pointers.
    unsafe { libc::pthread_jit_write_protect_np(1) };
    Ok(())
}

/// Drops what was written to private pages. A new mapping: what madvise(2) has for it keeps the
/// contents (MADV_DONTNEED), or may (MADV_FREE).
///
/// # Safety
///
/// The pages lie inside a reservation of the caller's, were mapped writable by [`map_zeroed`], and
/// nobody relies on what was written.
pub(crate) unsafe fn discard(at: NonNull<u8>, len: usize) -> io::Result<()> {
    // SAFETY: the caller promises that these pages are its own, and that nobody relies on them.
    unsafe { map_zeroed(at, len) }
}

/// See Linux. mach_vm_map (osfmk/mach/mach_vm.defs) takes an address without replacing what is
/// there (VM_FLAGS_FIXED without VM_FLAGS_OVERWRITE), which mmap(2) cannot. It is for object files
/// whose code reaches something directly.
pub(crate) fn reserve_within(
    low: usize,
    high: usize,
    len: usize,
    room: usize,
    most: usize,
) -> io::Result<(NonNull<u8>, usize)> {
    gaps::reserve_within(&regions::mappings()?, (low, high), len, room, most, reserve_at)
}

/// None if something is there, or nothing may be: the first 4 GiB are kept from everyone
/// (__PAGEZERO).
fn reserve_at(base: usize, size: usize) -> io::Result<Option<NonNull<u8>>> {
    let mut address = base as u64;
    // SAFETY: a new mapping that replaces none. The null object is memory that is zero.
    let result = unsafe {
        mach_vm_map(
            mach_task_self(),
            &mut address,
            size as u64,
            0,
            VM_FLAGS_FIXED,
            0,
            0,
            0,
            VM_PROT_NONE,
            VM_PROT_ALL,
            VM_INHERIT_COPY,
        )
    };
    let at: *mut u8 = ptr::with_exposed_provenance_mut(base);
    Ok(if result == KERN_SUCCESS { NonNull::new(at) } else { None })
}

fn no_memfd<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "Backing::Memfd needs Linux; use Backing::WriteOnce"))
}

/// Linux only.
pub(crate) fn shared_memory(_len: usize, _name: &str) -> io::Result<File> {
    no_memfd()
}

/// Linux only.
///
/// # Safety
///
/// None needed: it always fails.
pub(crate) unsafe fn map_private(
    _at: NonNull<u8>,
    _len: usize,
    _protection: Protection,
    _memory: &File,
    _offset: usize,
) -> io::Result<()> {
    no_memfd()
}

/// Linux only.
///
/// # Safety
///
/// None needed: it always fails.
pub(crate) unsafe fn move_pages(_from: NonNull<u8>, _to: NonNull<u8>, _len: usize) -> io::Result<()> {
    no_memfd()
}

/// Linux only.
pub(crate) fn punch_hole(_memory: &File, _offset: usize, _len: usize) -> io::Result<()> {
    no_memfd()
}
