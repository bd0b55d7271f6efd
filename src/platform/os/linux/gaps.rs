//! Address space near a place: the gaps of /proc/self/maps (proc_pid_maps(5)).

use std::io;
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};

use crate::platform::os::posix::gaps;
use crate::platform::os::posix::memory::non_zero;

/// See [`gaps::reserve_within`].
pub(crate) fn reserve_within(
    low: usize,
    high: usize,
    len: usize,
    room: usize,
    most: usize,
) -> io::Result<(NonNull<u8>, usize)> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    gaps::reserve_within(&maps, (low, high), len, room, most, reserve_at)
}

/// MAP_FIXED_NOREPLACE (Linux 4.17): at this address or not at all. Older kernels take it for a
/// hint.
fn reserve_at(base: usize, size: usize) -> io::Result<Option<NonNull<u8>>> {
    let how = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE | MapFlags::MAP_FIXED_NOREPLACE;
    let size = non_zero(size)?;
    // SAFETY: a new mapping that replaces none.
    let at = match unsafe { mmap_anonymous(base.try_into().ok(), size, ProtFlags::PROT_NONE, how) } {
        Err(Errno::EEXIST) => return Ok(None),
        mapped => mapped?,
    };
    if at.addr().get() == base {
        return Ok(Some(at.cast()));
    }
    // SAFETY: just mapped, nobody knows it.
    unsafe { nix::sys::mman::munmap(at, size.get())? };
    Ok(None)
}
