//! The memory of this process, region by region: mach_vm_region (osfmk/mach/mach_vm.defs).

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use mach2::kern_return::{KERN_INVALID_ADDRESS, KERN_SUCCESS};
use mach2::traps::mach_task_self;
use mach2::vm::mach_vm_region;
use mach2::vm_prot::{VM_PROT_EXECUTE, VM_PROT_READ, VM_PROT_WRITE};
use mach2::vm_region::{VM_REGION_BASIC_INFO_64, vm_region_basic_info_64};

/// A run of pages with one protection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Region {
    start: u64,
    end: u64,
    protection: i32,
}

/// The mappings of this process, in the form of Linux's proc_pid_maps(5), the first thread's stack
/// marked `[stack]`.
///
/// The kernel may have one stack in several entries, for reasons of its own; so neighbours with one
/// protection are one here. But the first thread's stack ends where the kernel says: what is above
/// may go at any time.
pub(crate) fn mappings() -> io::Result<String> {
    Ok(text(&regions()?, main_stack_end()?))
}

/// The memory of this process.
pub(crate) struct Memory(Vec<Region>);

impl Memory {
    pub(crate) fn open() -> io::Result<Self> {
        regions().map(Self)
    }

    /// Reads a part, word by aligned word, but for pages that cannot be read.
    pub(crate) fn words(&self, part: Range<usize>, mut see: impl FnMut(usize)) -> io::Result<()> {
        const WORD: usize = size_of::<usize>();
        for region in self.0.iter().filter(|region| region.protection & VM_PROT_READ != 0) {
            let start = part.start.max(region.start as usize) & !(WORD - 1);
            for at in (start..part.end.min(region.end as usize)).step_by(WORD) {
                let at: *const AtomicUsize = std::ptr::with_exposed_provenance(at);
                // SAFETY: aligned, and readable: the caller has the host's word that it stays so.
                // Others may write it: Relaxed, for a value that was there at some time.
                see(unsafe { &*at }.load(Ordering::Relaxed));
            }
        }
        Ok(())
    }
}

fn regions() -> io::Result<Vec<Region>> {
    let mut regions = Vec::new();
    let mut address = 0;
    loop {
        let mut size = 0;
        let mut info = vm_region_basic_info_64::default();
        let (mut count, mut object) = (vm_region_basic_info_64::count(), 0);
        // SAFETY: room for what this flavour has, `count` words; the kernel gives no object's name
        // (osfmk/vm/vm_map.c, `vm_map_region`).
        let result = unsafe {
            mach_vm_region(
                mach_task_self(),
                &mut address,
                &mut size,
                VM_REGION_BASIC_INFO_64,
                (&raw mut info).cast(),
                &mut count,
                &mut object,
            )
        };
        match result {
            KERN_SUCCESS => {
                regions.push(Region { start: address, end: address + size, protection: info.protection });
                address += size;
            }
            // There is none at or above the address.
            KERN_INVALID_ADDRESS => return Ok(regions),
            error => {
                return Err(io::Error::other(format!("mach_vm_region: error {error} of mach/kern_return.h")));
            }
        }
    }
}

/// Where the first thread's stack begins, at its upper end: sysctl(3), KERN_USRSTACK64, which
/// libpthread asks as well.
pub(super) fn main_stack_end() -> io::Result<u64> {
    let mut name = [libc::CTL_KERN, libc::KERN_USRSTACK64];
    let (mut end, mut size) = (0_u64, size_of::<u64>());
    // SAFETY: two names, and room for the number.
    let result = unsafe {
        libc::sysctl(name.as_mut_ptr(), 2, (&raw mut end).cast(), &mut size, std::ptr::null_mut(), 0)
    };
    if result == 0 { Ok(end) } else { Err(io::Error::last_os_error()) }
}

fn text(regions: &[Region], stack_end: u64) -> String {
    let mut merged: Vec<Region> = Vec::with_capacity(regions.len());
    for &region in regions {
        let mut parts = [Some(region), None];
        if region.start < stack_end && stack_end < region.end {
            parts = [Some(Region { end: stack_end, ..region }), Some(Region { start: stack_end, ..region })];
        }
        for part in parts.into_iter().flatten() {
            match merged.last_mut() {
                Some(last)
                    if last.end == part.start
                        && last.protection == part.protection
                        && part.start != stack_end =>
                {
                    last.end = part.end;
                }
                _ => merged.push(part),
            }
        }
    }
    let mut text = String::with_capacity(merged.len() * 40);
    for Region { start, end, protection } in merged {
        let [r, w, x] = [(VM_PROT_READ, 'r'), (VM_PROT_WRITE, 'w'), (VM_PROT_EXECUTE, 'x')]
            .map(|(bit, letter)| if protection & bit != 0 { letter } else { '-' });
        let stack = if end == stack_end { " [stack]" } else { "" };
        text.push_str(&format!("{start:x}-{end:x} {r}{w}{x}p 0 00:00 0{stack}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_and_the_first_stack_ends_where_it_does() {
        let region = |start, end, protection| Region { start, end, protection };
        let regions = [
            region(0x1000, 0x2000, 1),
            region(0x2000, 0x3000, 1),
            region(0x3000, 0x4000, 3),
            region(0x5000, 0x6000, 3),
            region(0x6000, 0x9000, 3),
        ];
        let expected = "1000-3000 r--p 0 00:00 0\n3000-4000 rw-p 0 00:00 0\n\
                        5000-8000 rw-p 0 00:00 0 [stack]\n8000-9000 rw-p 0 00:00 0\n";
        assert_eq!(text(&regions, 0x8000), expected);
    }

    #[test]
    fn this_process_has_its_code_and_its_stack() {
        let maps = mappings().unwrap();
        let here = this_process_has_its_code_and_its_stack as *const () as usize;
        let holds = |line: &str| {
            let (start, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
            let bounds = [start, end].map(|text| usize::from_str_radix(text, 16).unwrap());
            (bounds[0]..bounds[1]).contains(&here) && line.contains(" r-x")
        };
        assert!(maps.lines().any(holds), "{maps}");
        assert_eq!(maps.lines().filter(|line| line.ends_with("[stack]")).count(), 1);
    }
}
