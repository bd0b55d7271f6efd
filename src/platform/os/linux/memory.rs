//! What Linux adds: names for mappings, and memory behind a descriptor. prctl(2), memfd_create(2).

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use midflight_image::Protection;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MRemapFlags, MapFlags, MmapAdvise, madvise, mmap, mremap};
#[cfg(target_arch = "aarch64")]
use nix::sys::mman::{ProtFlags, mprotect};

pub(crate) use crate::platform::os::linux::gaps::reserve_within;
use crate::platform::os::posix::held::may_write_to;
use crate::platform::os::posix::memory::{flags, non_zero};
pub(crate) use crate::platform::os::posix::memory::{
    map_anywhere, map_zeroed, page_size, protect, release, reserve, reserve_aligned, unreserve, write_all_at,
};

/// Has the processor see to it that indirect branches into code end at landing pads: PROT_BTI, on
/// AArch64 with FEAT_BTI. Elsewhere nothing is to be done. Linux,
/// Documentation/arch/arm64/elf_hwcaps.rst; mprotect(2).
///
/// # Safety
///
/// As [`protect`]; the pages are readable and executable.
pub(crate) unsafe fn guard(at: NonNull<u8>, len: usize) -> io::Result<()> {
    #[cfg(target_arch = "aarch64")]
    {
        const PROT_BTI: ProtFlags = ProtFlags::from_bits_retain(0x10);
        const HWCAP2_BTI: u64 = 1 << 17;
        // SAFETY: reads a word that the kernel gave the process.
        if unsafe { libc::getauxval(libc::AT_HWCAP2) } & HWCAP2_BTI != 0 {
            // SAFETY: the caller promises that the pages are its own, readable and executable.
            unsafe { mprotect(at.cast(), len, flags(Protection::ReadExecute) | PROT_BTI) }?;
        }
    }
    let _ = (at, len);
    Ok(())
}

/// Address space that code is toggled in: see [`writable`]. Elsewhere such memory cannot be had at
/// an address of one's choice, nor in parts; here it is a reservation like others.
pub(crate) fn map_toggled(len: usize) -> io::Result<NonNull<u8>> {
    reserve(len)
}

/// As [`map_toggled`], for a block that must be somewhere: see [`reserve_within`].
pub(crate) fn map_toggled_within(
    low: usize,
    high: usize,
    len: usize,
    room: usize,
) -> io::Result<(NonNull<u8>, usize)> {
    reserve_within(low, high, len, room, room)
}

/// Whether the system executes code in such memory only. Never on Linux.
pub(crate) fn must_toggle() -> bool {
    false
}

/// Lets this thread write to code of [`map_toggled`], until [`executable`].
///
/// # Safety
///
/// As [`protect`]; nobody executes the code.
pub(crate) unsafe fn writable(at: NonNull<u8>, len: usize) -> io::Result<()> {
    // SAFETY: the caller promises that the pages are its own and nobody executes them.
    unsafe { protect(at, len, Protection::ReadWrite) }
}

/// The end of [`writable`], on the same thread: the code can be executed.
///
/// # Safety
///
/// As [`protect`].
pub(crate) unsafe fn executable(at: NonNull<u8>, len: usize) -> io::Result<()> {
    // SAFETY: the caller promises that the pages are its own.
    unsafe { protect(at, len, Protection::ReadExecute) }
}

/// Names pages in /proc/PID/maps, as `[anon:text]`. Needs Linux 5.17 with CONFIG_ANON_VMA_NAME:
/// elsewhere the mappings stay nameless, which is all that is lost, hence no error.
pub(crate) fn name(at: NonNull<u8>, len: usize, text: &str) {
    // Relaxed: who does not see that the kernel refused asks it once more.
    static REFUSED: AtomicBool = AtomicBool::new(false);
    if !REFUSED.load(Ordering::Relaxed) && !name_pages(at, len, &printable(text)) {
        REFUSED.store(true, Ordering::Relaxed);
    }
}

/// The kernel takes at most 79 printable characters without \ ` $ [ ] (mm/madvise.c,
/// is_valid_name_char).
fn printable(text: &str) -> CString {
    let allowed = |c: char| matches!(c, ' '..='~') && !matches!(c, '\\' | '`' | '$' | '[' | ']');
    let text: String = text.chars().map(|c| if allowed(c) { c } else { '_' }).take(79).collect();
    CString::new(text).expect("NUL was replaced")
}

/// False if the kernel does not know the request (it then says EINVAL; prctl(2)).
fn name_pages(at: NonNull<u8>, len: usize, text: &CStr) -> bool {
    // SAFETY: PR_SET_VMA_ANON_NAME reads the string and changes no memory.
    let done = unsafe {
        libc::prctl(libc::PR_SET_VMA, libc::PR_SET_VMA_ANON_NAME, at.as_ptr() as usize, len, text.as_ptr())
    };
    done == 0 || Errno::last() != Errno::EINVAL
}

/// Zeroed memory behind a file descriptor, named in /proc/PID/maps wherever it is mapped.
pub(crate) fn shared_memory(len: usize, name: &str) -> io::Result<File> {
    let name = printable(name);
    // MFD_EXEC says that it will be executed, for systems with vm.memfd_noexec=1; kernels before
    // 6.3 do not know the flag.
    let exec = MFdFlags::from_bits_retain(libc::MFD_EXEC);
    let file = match memfd_create(name.as_c_str(), MFdFlags::MFD_CLOEXEC | exec) {
        Err(Errno::EINVAL) => memfd_create(name.as_c_str(), MFdFlags::MFD_CLOEXEC),
        made => made,
    };
    let file = File::from(file?);
    may_write_to(len as u64)?;
    file.set_len(len as u64)?;
    Ok(file)
}

/// Maps part of a memory over reserved pages, not to be written there.
///
/// # Safety
///
/// As [`protect`]; nobody relies on what the pages held.
pub(crate) unsafe fn map_private(
    at: NonNull<u8>,
    len: usize,
    protection: Protection,
    memory: &File,
    offset: usize,
) -> io::Result<()> {
    // The loader takes the page faults, not the readers.
    let how = MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED | MapFlags::MAP_POPULATE;
    let offset = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: MAP_FIXED lands on the caller's own pages only.
    unsafe { mmap(Some(at.addr()), non_zero(len)?, flags(protection), how, memory.as_fd(), offset)? };
    Ok(())
}

/// Moves pages of [`map_anywhere`] over reserved ones. Those that were never written to stay zeros
/// that cost nothing. mremap(2).
///
/// # Safety
///
/// As [`protect`], for both places; nobody uses the pages at the first place any more, nor relies
/// on what those at the second held.
pub(crate) unsafe fn move_pages(from: NonNull<u8>, to: NonNull<u8>, len: usize) -> io::Result<()> {
    let how = MRemapFlags::MREMAP_MAYMOVE | MRemapFlags::MREMAP_FIXED;
    // SAFETY: both places are the caller's own.
    unsafe { mremap(from.cast(), len, len, how, Some(to.cast()))? };
    Ok(())
}

/// Frees part of a memory: it reads as zeros again. fallocate(2).
pub(crate) fn punch_hole(memory: &File, offset: usize, len: usize) -> io::Result<()> {
    let range = |value| i64::try_from(value).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let how = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fallocate(memory, how, range(offset)?, range(len)?).map_err(io::Error::from)
}

/// Drops what was written to private pages; their mapping and what is behind it stay. madvise(2),
/// MADV_DONTNEED.
///
/// # Safety
///
/// The pages lie inside a reservation of the caller's, and nobody relies on what was written.
pub(crate) unsafe fn discard(at: NonNull<u8>, len: usize) -> io::Result<()> {
    // SAFETY: the caller owns the pages.
    unsafe { madvise(at.cast(), len, MmapAdvise::MADV_DONTNEED) }.map_err(io::Error::from)
}
