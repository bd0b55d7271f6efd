//! What Linux adds: names for mappings, and memory behind a descriptor. prctl(2), memfd_create(2).

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use midflight_image::Protection;
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, mmap};

use crate::os::posix::memory::{flags, non_zero};
pub(crate) use crate::os::posix::memory::{page_size, protect, release, reserve_aligned, unreserve};

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
