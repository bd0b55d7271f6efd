//! Address space near a place: the gaps between this process's mappings.

use std::io;
use std::ptr::NonNull;

use crate::platform::os::posix::memory::page_size;

/// The kernel keeps the first pages from everyone (on Linux vm.mmap_min_addr, 64 KiB by default).
const LOWEST: usize = 1 << 16;

/// Reserves inaccessible address space for blocks of `len` bytes whose first byte is between `low`
/// and `high`: `most` bytes if there is that much in one piece, at least `room`, whose multiple it
/// starts at. Returns what it got.
///
/// `maps` is a list as proc_pid_maps(5) has it. `reserve_at` reserves at that address, or says that
/// it cannot.
pub(crate) fn reserve_within(
    maps: &str,
    (low, high): (usize, usize),
    len: usize,
    room: usize,
    most: usize,
    reserve_at: impl Fn(usize, usize) -> io::Result<Option<NonNull<u8>>>,
) -> io::Result<(NonNull<u8>, usize)> {
    let end = high.saturating_add(len).min(1 << 47);
    let mut gaps = gaps(maps, low.max(LOWEST), end);
    // The largest first, and its end: what grows into a gap, such as the heap, grows from its
    // start.
    gaps.sort_by_key(|(start, end)| std::cmp::Reverse(end - start));
    for (start, end) in gaps {
        let mut size = most;
        while size >= room && size >= page_size() {
            let base = end.saturating_sub(size) & !(room - 1);
            if base >= start
                && base <= high
                && base >= low
                // None: another thread was quicker.
                && let Some(at) = reserve_at(base, size)?
            {
                return Ok((at, size));
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
    use crate::platform::os::memory;

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
    fn near_reservations_are_where_they_must_be() {
        if cfg!(target_os = "linux") {
            let (at, size) = memory::reserve_within(0, 1 << 31, 4096, 1 << 16, 1 << 26).unwrap();
            assert!(at.addr().get() <= 1 << 31 && size >= 1 << 16);
        }
        let here = gaps as *const () as usize;
        let (low, high) = (here.saturating_sub(1 << 30), here + (1 << 30));
        let (near, _) = memory::reserve_within(low, high, 4096, 1 << 16, 1 << 26).unwrap();
        assert!((low..=high).contains(&near.addr().get()));
        let none = memory::reserve_within(here & !0xFFFF, here, 4096, 1 << 16, 1 << 26);
        assert!(none.unwrap_err().to_string().contains("-fPIC"));
    }
}
