//! What the systems share: reserve, protect, give back. mmap(2), mprotect(2), munmap(2).

use std::fs::File;
use std::io::{self, IoSlice};
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use midflight_image::Protection;
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use nix::sys::uio::pwritev;

use crate::platform::os::posix::held::may_write_to;

pub(crate) fn flags(protection: Protection) -> ProtFlags {
    match protection {
        Protection::Read => ProtFlags::PROT_READ,
        Protection::ReadWrite => ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
        Protection::ReadExecute => ProtFlags::PROT_READ | ProtFlags::PROT_EXEC,
    }
}

pub(crate) fn non_zero(len: usize) -> io::Result<NonZeroUsize> {
    NonZeroUsize::new(len).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
}

const RESERVED: MapFlags = MapFlags::MAP_PRIVATE.union(MapFlags::MAP_NORESERVE);

/// Bytes per page: 4096, and on AArch64 also 16384 or 65536.
pub(crate) fn page_size() -> usize {
    region::page::size()
}

/// Writes the pieces one behind the other, by as few calls as may be: a page that two pieces share
/// is then found once.
pub(crate) fn write_all_at(file: &File, mut pieces: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
    /// What every system takes (IOV_MAX).
    const AT_ONCE: usize = 1024;
    may_write_to(pieces.iter().fold(offset, |end, piece| end.saturating_add(piece.len() as u64)))?;
    while pieces.iter().any(|piece| !piece.is_empty()) {
        let at = i64::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        match pwritev(file, &pieces[..pieces.len().min(AT_ONCE)], at) {
            Ok(written) => {
                IoSlice::advance_slices(&mut pieces, written);
                offset += written as u64;
            }
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Takes `len` bytes of inaccessible address space, wherever the kernel likes.
pub(crate) fn reserve(len: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
    let at = unsafe { mmap_anonymous(None, non_zero(len)?, ProtFlags::PROT_NONE, RESERVED)? };
    Ok(at.cast())
}

/// Zeroed and writable pages, wherever the kernel likes: those that are never written to cost no
/// memory. [`unreserve`] gives them back.
pub(crate) fn map_anywhere(len: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
    let at =
        unsafe { mmap_anonymous(None, non_zero(len)?, flags(Protection::ReadWrite), MapFlags::MAP_PRIVATE)? };
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
/// The pages lie inside a reservation of the caller's, and nobody relies on the access that is
/// taken away.
pub(crate) unsafe fn protect(at: NonNull<u8>, len: usize, protection: Protection) -> io::Result<()> {
    // SAFETY: the caller owns the pages.
    unsafe { mprotect(at.cast(), len, flags(protection)) }.map_err(io::Error::from)
}

/// Makes pages inaccessible again and their memory free.
///
/// A new PROT_NONE mapping over the old, rather than mprotect and madvise: it is one call, and
/// since it carries no history (accounting, anon_vma) the kernel merges it with the reservation
/// around it, so that the number of mappings returns to what it was.
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

/// Makes pages of a reservation zeroed and writable.
///
/// # Safety
///
/// As [`protect`]; nobody relies on what the pages held.
pub(crate) unsafe fn map_zeroed(at: NonNull<u8>, len: usize) -> io::Result<()> {
    let how = MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED;
    // SAFETY: MAP_FIXED lands on the caller's own pages only.
    unsafe { mmap_anonymous(Some(at.addr()), non_zero(len)?, flags(Protection::ReadWrite), how)? };
    Ok(())
}

/// Gives a whole reservation back to the system.
///
/// # Safety
///
/// `at` and `len` are what `reserve` or `map_anywhere` was given and returned, and nobody uses it
/// any more.
pub(crate) unsafe fn unreserve(at: NonNull<u8>, len: usize) -> io::Result<()> {
    // SAFETY: the caller's own mapping.
    unsafe { munmap(at.cast(), len) }.map_err(io::Error::from)
}
