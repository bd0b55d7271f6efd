//! Address space: reserve, protect, give back, name. mmap(2), mprotect(2), memfd_create(2), prctl(2).

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use midflight_image::Protection;
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, mprotect};

fn flags(protection: Protection) -> ProtFlags {
    match protection {
        Protection::Read => ProtFlags::PROT_READ,
        Protection::ReadWrite => ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
        Protection::ReadExecute => ProtFlags::PROT_READ | ProtFlags::PROT_EXEC,
    }
}

fn non_zero(len: usize) -> io::Result<NonZeroUsize> {
    NonZeroUsize::new(len).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
}

const RESERVED: MapFlags = MapFlags::MAP_PRIVATE.union(MapFlags::MAP_NORESERVE);

/// Bytes per page: 4096, and on AArch64 also 16384 or 65536.
pub(crate) fn page_size() -> usize {
    region::page::size()
}

/// Takes `len` bytes of inaccessible address space, wherever the kernel likes.
pub(crate) fn reserve(len: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
    let at = unsafe { mmap_anonymous(None, non_zero(len)?, ProtFlags::PROT_NONE, RESERVED)? };
    Ok(at.cast())
}

/// As [`reserve`], at a multiple of `size`, a power of two.
pub(crate) fn reserve_aligned(size: usize) -> io::Result<NonNull<u8>> {
    let wide = reserve(2 * size)?;
    let before = wide.addr().get().next_multiple_of(size) - wide.addr().get();
    // SAFETY: trims our own new reservation to the aligned part; zero bytes are not trimmed.
    unsafe {
        let aligned = wide.add(before);
        if before > 0 {
            unreserve(wide, before)?;
        }
        if before < size {
            unreserve(aligned.add(size), size - before)?;
        }
        Ok(aligned)
    }
}

/// Changes the protection of pages.
///
/// # Safety
///
/// The pages lie inside a reservation of the caller's, and nobody relies on the access that is taken away.
pub(crate) unsafe fn protect(at: NonNull<u8>, len: usize, protection: Protection) -> io::Result<()> {
    // SAFETY: the caller owns the pages.
    unsafe { mprotect(at.cast(), len, flags(protection)) }.map_err(io::Error::from)
}

/// Makes pages inaccessible again and their memory free.
///
/// A new PROT_NONE mapping over the old, rather than mprotect and madvise: it is one call, and since it carries no
/// history (accounting, anon_vma) the kernel merges it with the reservation around it, so that the number of
/// mappings returns to what it was.
///
/// # Safety
///
/// The pages lie inside a reservation of the caller's, and nobody uses them any more.
pub(crate) unsafe fn release(at: NonNull<u8>, len: usize) -> io::Result<()> {
    let address = at.addr();
    // SAFETY: MAP_FIXED lands on the caller's own pages only.
    unsafe {
        mmap_anonymous(Some(address), non_zero(len)?, ProtFlags::PROT_NONE, RESERVED | MapFlags::MAP_FIXED)?
    };
    Ok(())
}

/// Gives a whole reservation back to the system.
///
/// # Safety
///
/// `at` and `len` are what `reserve` was given and returned, and nobody uses it any more.
pub(crate) unsafe fn unreserve(at: NonNull<u8>, len: usize) -> io::Result<()> {
    // SAFETY: the caller's own mapping.
    unsafe { nix::sys::mman::munmap(at.cast(), len) }.map_err(io::Error::from)
}

/// Names pages in /proc/PID/maps, as `[anon:text]`. Needs Linux 5.17 with CONFIG_ANON_VMA_NAME: elsewhere the
/// mappings stay nameless, which is all that is lost, hence no error.
pub(crate) fn name(at: NonNull<u8>, len: usize, text: &str) {
    name_pages(at, len, &printable(text));
}

/// The kernel takes at most 79 printable characters without \ ` $ [ ] (mm/madvise.c, is_valid_name_char).
fn printable(text: &str) -> CString {
    let allowed = |c: char| matches!(c, ' '..='~') && !matches!(c, '\\' | '`' | '$' | '[' | ']');
    let text: String = text.chars().map(|c| if allowed(c) { c } else { '_' }).take(79).collect();
    CString::new(text).expect("NUL was replaced")
}

fn name_pages(at: NonNull<u8>, len: usize, text: &CStr) {
    // SAFETY: PR_SET_VMA_ANON_NAME reads the string and changes no memory.
    unsafe {
        libc::prctl(libc::PR_SET_VMA, libc::PR_SET_VMA_ANON_NAME, at.as_ptr() as usize, len, text.as_ptr());
    }
}

/// Zeroed memory behind a file descriptor, named in /proc/PID/maps wherever it is mapped.
pub(crate) fn shared_memory(len: usize, name: &str) -> io::Result<File> {
    let name = printable(name);
    // MFD_EXEC says that it will be executed, for systems with vm.memfd_noexec=1; kernels before 6.3 do not know the flag.
    let exec = MFdFlags::from_bits_retain(libc::MFD_EXEC);
    let file = match memfd_create(name.as_c_str(), MFdFlags::MFD_CLOEXEC | exec) {
        Err(Errno::EINVAL) => memfd_create(name.as_c_str(), MFdFlags::MFD_CLOEXEC),
        made => made,
    };
    let file = File::from(file?);
    file.set_len(len as u64)?;
    Ok(file)
}

/// Maps part of a memory over reserved pages; what is written there stays this mapping's own.
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
    let address = at.addr();
    let mut how = MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED;
    if protection != Protection::ReadWrite {
        // The loader takes the page faults, not the readers. Writable pages would be copied by it, used or not.
        how |= MapFlags::MAP_POPULATE;
    }
    let offset = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: MAP_FIXED lands on the caller's own pages only.
    unsafe { mmap(Some(address), non_zero(len)?, flags(protection), how, memory.as_fd(), offset)? };
    Ok(())
}
