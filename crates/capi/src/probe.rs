//! Whether memory can be read or written, without a fault: a system call is asked to.
//!
//! Memory that another thread unmaps meanwhile is beyond what can be known.

use std::os::fd::AsRawFd;

/// No system that we run on has smaller pages; those with larger ones are asked more often than
/// need be.
pub(crate) const PAGE: usize = 4096;

/// Of the mask that the kernel reads or writes there.
const MASK_SIZE: usize = 8;

/// What the memory is wanted for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    Read,
    /// Changes what is there.
    Write,
}

/// Whether `size` bytes at an address can be accessed. For `Write` they are the caller's to
/// overwrite.
pub(crate) fn is_accessible(address: usize, size: usize, access: Access) -> bool {
    let Some(end) = address.checked_add(size) else { return false };
    let mut at = address;
    while at < end {
        let accessible = match access {
            // A mask has no room in them.
            Access::Write if size < MASK_SIZE => by_pipe(at, access).unwrap_or(true),
            _ => ask(at, end, access),
        };
        if !accessible {
            return false;
        }
        at = (at & !(PAGE - 1)) + PAGE;
    }
    true
}

/// Asks about the page that `at` is in.
fn ask(at: usize, end: usize, access: Access) -> bool {
    // Reading, the aligned word that has the byte is in its page; but not word 0, which says "no
    // mask". Writing, the word is all in the caller's memory.
    let word = match access {
        Access::Read => (at & !7).max(8),
        Access::Write => at.min(end - MASK_SIZE),
    };
    by_mask(word, access).or_else(|| by_pipe(at, access)).unwrap_or(true)
}

/// rt_sigprocmask(2): copies a mask from memory, and only then finds that it does not know what to
/// do with it (EINVAL); or copies the thread's mask to memory. None if it says something else.
#[cfg(target_os = "linux")]
fn by_mask(word: usize, access: Access) -> Option<bool> {
    const NO_SUCH_WAY: i32 = -1;
    let (new, old) = match access {
        Access::Read => (word, 0),
        Access::Write => (0, word),
    };
    // SAFETY: nothing is changed but, where asked for, memory that is the caller's to overwrite;
    // addresses that are none are refused.
    let done = unsafe { libc::syscall(libc::SYS_rt_sigprocmask, NO_SUCH_WAY, new, old, MASK_SIZE) };
    match (done, std::io::Error::last_os_error().raw_os_error()) {
        (0, _) => Some(true),
        (_, Some(libc::EINVAL)) => Some(true),
        (_, Some(libc::EFAULT)) => Some(false),
        _ => None,
    }
}

#[cfg(not(target_os = "linux"))]
fn by_mask(_: usize, _: Access) -> Option<bool> {
    None
}

/// A byte through a pipe: write(2) and read(2) return EFAULT. None if there is no pipe to be had.
fn by_pipe(address: usize, access: Access) -> Option<bool> {
    // A new one each time: under the number of one that is kept the program might have put a file
    // of its own.
    let (reader, writer) = std::io::pipe().ok()?;
    let (from, to) = (writer.as_raw_fd(), reader.as_raw_fd());
    let mut byte = 0_u8;
    let own = (&raw mut byte).addr();
    let (source, target) = match access {
        Access::Read => (address, own),
        Access::Write => (own, address),
    };
    // The pipe is empty, and this thread has it alone: none of these waits.
    // SAFETY: one byte, from and to memory that is ours, the caller's, or none.
    unsafe {
        if libc::write(from, source as *const libc::c_void, 1) != 1 {
            return Some(false);
        }
        if libc::read(to, target as *mut libc::c_void, 1) == 1 {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::*;

    /// Two pages, of which the second cannot be accessed; its address.
    fn edge(first: i32) -> usize {
        // A host with larger pages has its own idea of where the second begins.
        // SAFETY: new memory.
        unsafe {
            let page = libc::sysconf(libc::_SC_PAGESIZE) as usize;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let memory = libc::mmap(ptr::null_mut(), 2 * page, first, flags, -1, 0);
            assert_ne!(memory, libc::MAP_FAILED);
            let edge = memory.byte_add(page);
            assert_eq!(libc::mprotect(edge, page, libc::PROT_NONE), 0);
            edge.addr()
        }
    }

    #[test]
    fn accessible_is_what_can_be_accessed() {
        let both = edge(libc::PROT_READ | libc::PROT_WRITE);
        let constant = edge(libc::PROT_READ);
        for (at, size, access, expected) in [
            (both - 8, 8, Access::Read, true),
            (both - 1, 1, Access::Read, true),
            (both - 1, 2, Access::Read, false),
            (both - 8, 9, Access::Read, false),
            (both, 1, Access::Read, false),
            (both - 3000, 3000, Access::Write, true),
            (both - 3000, 3004, Access::Write, false),
            (both - 1, 1, Access::Write, true),
            (both - 1, 2, Access::Write, false),
            (both, 1, Access::Write, false),
            (constant - 1, 1, Access::Write, false),
            (constant - 16, 16, Access::Read, true),
            (constant - 16, 16, Access::Write, false),
            (1, 1, Access::Read, false),
            (8, 8, Access::Read, false),
            (8, 8, Access::Write, false),
            (usize::MAX - 7, 8, Access::Read, false),
            (usize::MAX - 7, 7, Access::Read, false),
            // Not canonical, on x86-64.
            (0x0123_4567_89ab_c000, 8, Access::Read, false),
        ] {
            let message = format!("{at:#x} {size} {access:?} (edges {both:#x}, {constant:#x})");
            assert_eq!(is_accessible(at, size, access), expected, "{message}");
        }
    }

    #[test]
    fn what_is_beside_the_memory_stays() {
        for size in 1..=20 {
            let mut memory = [0xaa_u8; 40];
            let at = memory.as_mut_ptr().wrapping_add(10).expose_provenance();
            assert!(is_accessible(at, size, Access::Write));
            assert!(memory[..10].iter().chain(&memory[10 + size..]).all(|byte| *byte == 0xaa), "{size}");
        }
    }

    #[test]
    fn pipes_say_the_same() {
        let both = edge(libc::PROT_READ | libc::PROT_WRITE);
        let constant = edge(libc::PROT_READ);
        for _ in 0..3 {
            for access in [Access::Read, Access::Write] {
                assert_eq!(by_pipe(both - 1, access), Some(true));
                assert_eq!(by_pipe(both, access), Some(false));
            }
            assert_eq!(by_pipe(constant - 1, Access::Read), Some(true));
            assert_eq!(by_pipe(constant - 1, Access::Write), Some(false));
        }
    }
}
