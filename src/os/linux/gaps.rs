//! Address space near a place: the gaps between this process's mappings, from /proc/self/maps (proc_pid_maps(5)).

use std::io;
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};

use crate::os::posix::memory::{non_zero, page_size};

/// The kernel keeps the first pages from everyone (vm.mmap_min_addr, 64 KiB by default).
const LOWEST: usize = 1 << 16;

/// Reserves inaccessible address space for blocks of `len` bytes whose first byte is between `low` and `high`: `most` bytes
/// if there is that much in one piece, at least `room`, whose multiple it starts at. Returns what it got.
pub(crate) fn reserve_within(
    low: usize,
    high: usize,
    len: usize,
    room: usize,
    most: usize,
) -> io::Result<(NonNull<u8>, usize)> {
    let end = high.saturating_add(len).min(1 << 47);
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let mut gaps = gaps(&maps, low.max(LOWEST), end);
    // The largest first, and its end: what grows into a gap, such as the heap, grows from its start.
    gaps.sort_by_key(|(start, end)| std::cmp::Reverse(end - start));
    for (start, end) in gaps {
        let mut size = most;
        while size >= room && size >= page_size() {
            let base = end.saturating_sub(size) & !(room - 1);
            if base >= start && base <= high && base >= low {
                match reserve_at(base, size) {
                    Err(Errno::EEXIST) => {} // Another thread was quicker.
                    done => return Ok((done?, size)),
                }
            }
            size /= 2;
        }
    }
    Err(io::Error::new(
        io::ErrorKind::OutOfMemory,
        format!(
            "no free address space between {low:#x} and {high:#x}, where the module's code must be: compile it with -fPIC"
        ),
    ))
}

/// MAP_FIXED_NOREPLACE (Linux 4.17): at this address or not at all. Older kernels take it for a hint.
fn reserve_at(base: usize, size: usize) -> nix::Result<NonNull<u8>> {
    let how = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE | MapFlags::MAP_FIXED_NOREPLACE;
    let size = non_zero(size).map_err(|_| Errno::EINVAL)?;
    // SAFETY: a new mapping that replaces none.
    let at = unsafe { mmap_anonymous(base.try_into().ok(), size, ProtFlags::PROT_NONE, how)? };
    if at.addr().get() == base {
        return Ok(at.cast());
    }
    // SAFETY: just mapped, nobody knows it.
    unsafe { nix::sys::mman::munmap(at, size.get())? };
    Err(Errno::EEXIST)
}

/// The parts of `low..end` that no line of the list covers.
fn gaps(maps: &str, low: usize, end: usize) -> Vec<(usize, usize)> {
    let hex = |text: &str| usize::from_str_radix(text, 16).ok();
    let taken = maps.lines().filter_map(|line| {
        let (start, end) = line.split(' ').next()?.split_once('-')?;
        Some((hex(start)?, hex(end)?))
    });
    let mut gaps = Vec::new();
    let mut free = low;
    for (start, stop) in taken {
        if start > free {
            gaps.push((free, start.min(end)));
        }
        free = free.max(stop);
        if free >= end {
            break;
        }
    }
    if free < end {
        gaps.push((free, end));
    }
    gaps.retain(|(start, end)| start < end);
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "00400000-00500000 r-xp 0 00:00 0 /bin/x\n00500000-00600000 rw-p 0 00:00 0\n\
                        10000000-10001000 rw-p 0 00:00 0 [heap]\n7f0000000000-7f0000100000 r-xp 0 00:00 0 /lib/y\n";

    #[test]
    fn gaps_between_mappings() {
        assert_eq!(
            gaps(MAPS, 0x10000, 0x8000_0000),
            [(0x10000, 0x400000), (0x600000, 0x1000_0000), (0x1000_1000, 0x8000_0000)]
        );
        assert_eq!(gaps(MAPS, 0x480000, 0x580000), []);
        assert_eq!(gaps(MAPS, 0x480000, 0x700000), [(0x600000, 0x700000)]);
        assert_eq!(gaps("", 5, 9), [(5, 9)]);
    }

    #[test]
    fn low_and_near_reservations_are_where_they_must_be() {
        let (at, size) = reserve_within(0, 1 << 31, 4096, 1 << 16, 1 << 26).unwrap();
        assert!(at.addr().get() <= 1 << 31 && size >= 1 << 16);
        let here = reserve_within as *const () as usize;
        let (low, high) = (here.saturating_sub(1 << 30), here + (1 << 30));
        let (near, _) = reserve_within(low, high, 4096, 1 << 16, 1 << 26).unwrap();
        assert!((low..=high).contains(&near.addr().get()));
        let none = reserve_within(here & !0xFFFF, here, 4096, 1 << 16, 1 << 26);
        assert!(none.unwrap_err().to_string().contains("-fPIC"));
    }
}
