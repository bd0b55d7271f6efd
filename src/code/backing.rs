//! How the pages of an arena become writable and then executable. `benches/code_memory.rs` measures both ways, and
//! ARCHITECTURE.md has the figures behind the default.

use std::io;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;

use midflight_image::{Protection, Region};

use crate::os::memory;

/// How code is written before it executes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Backing {
    /// Written into anonymous shared memory (memfd) through its file descriptor, then mapped privately with the final
    /// protections. Code is never mapped writable anywhere, and no reader's TLB is flushed on the way in. Linux only. A
    /// kernel with `vm.memfd_noexec=2` forbids it.
    Memfd,
    /// Private pages that are writable, then by `mprotect` what they are to be. Works everywhere; each `mprotect`
    /// interrupts every core that runs a thread of the process.
    WriteOnce,
}

impl Default for Backing {
    /// What was measured to disturb readers least; ARCHITECTURE.md has the figures.
    fn default() -> Self {
        if cfg!(target_os = "linux") { Self::Memfd } else { Self::WriteOnce }
    }
}

/// One arena's way. `at` and `len` are pages of the arena throughout.
pub(crate) trait Pages: Send + Sync {
    /// Zeroed memory of `len` bytes to write to, for what will be at `at`.
    ///
    /// # Safety
    ///
    /// The pages lie inside the arena and are inaccessible: new, or released.
    unsafe fn open(&self, at: NonNull<u8>, len: usize) -> io::Result<NonNull<u8>>;

    /// Gives what was written its final protections, at `at`; what is in no region becomes inaccessible.
    ///
    /// # Safety
    ///
    /// `open` returned `view` for these pages, and nobody uses it but to close it. The regions lie within `len`.
    unsafe fn seal(
        &self,
        at: NonNull<u8>,
        len: usize,
        view: NonNull<u8>,
        name: &str,
        regions: &[Region],
    ) -> io::Result<()>;

    /// Frees what `open` took beside the pages. Once per `open`, after `seal` or in its stead.
    ///
    /// # Safety
    ///
    /// `open` returned `view` for `len` bytes, and nobody uses it any more.
    unsafe fn close(&self, view: NonNull<u8>, len: usize);

    /// Makes the pages inaccessible and frees their memory, sealed or not.
    ///
    /// # Safety
    ///
    /// Nobody uses the pages any more.
    unsafe fn release(&self, at: NonNull<u8>, len: usize) -> io::Result<()> {
        // SAFETY: inside the arena and in nobody's use, as the caller says.
        unsafe { vacate(at, len) }
    }
}

/// Makes pages inaccessible, and part of the reservation around them again: same name, so that the mappings merge.
///
/// # Safety
///
/// As [`memory::release`].
unsafe fn vacate(at: NonNull<u8>, len: usize) -> io::Result<()> {
    // SAFETY: the caller's promise.
    unsafe { memory::release(at, len)? };
    memory::name(at, len, RESERVED);
    Ok(())
}

/// The name of address space that holds nothing.
pub(crate) const RESERVED: &str = "midflight: reserved";

/// A region's place in bytes. Regions come from a validated image whose span fits an arena.
fn extent(region: &Region) -> (usize, usize) {
    (region.offset as usize, region.len as usize)
}

/// See [`Backing::WriteOnce`].
pub(crate) struct WriteOnce;

impl Pages for WriteOnce {
    unsafe fn open(&self, at: NonNull<u8>, len: usize) -> io::Result<NonNull<u8>> {
        // SAFETY: inside the arena and in nobody's use, as the caller says.
        unsafe { memory::protect(at, len, Protection::ReadWrite)? };
        Ok(at)
    }

    unsafe fn seal(
        &self,
        at: NonNull<u8>,
        len: usize,
        view: NonNull<u8>,
        name: &str,
        regions: &[Region],
    ) -> io::Result<()> {
        memory::name(view, len, name);
        let mut covered = 0;
        // SAFETY: inside the arena; the writes are done, as the caller says.
        unsafe {
            for region in regions {
                let (start, bytes) = extent(region);
                if start > covered {
                    vacate(at.add(covered), start - covered)?;
                }
                if region.protection != Protection::ReadWrite {
                    memory::protect(at.add(start), bytes, region.protection)?;
                }
                covered = start + bytes;
            }
            if covered < len {
                vacate(at.add(covered), len - covered)?;
            }
        }
        Ok(())
    }

    unsafe fn close(&self, _view: NonNull<u8>, _len: usize) {}
}

/// See [`Backing::Memfd`].
pub(crate) struct Memfd;

impl Pages for Memfd {
    unsafe fn open(&self, _at: NonNull<u8>, len: usize) -> io::Result<NonNull<u8>> {
        let buffer = Box::leak(vec![0u8; len].into_boxed_slice());
        Ok(NonNull::from(buffer).cast())
    }

    unsafe fn seal(
        &self,
        at: NonNull<u8>,
        len: usize,
        view: NonNull<u8>,
        name: &str,
        regions: &[Region],
    ) -> io::Result<()> {
        // SAFETY: `open` made it of this length, and nobody writes to it any more.
        let bytes = unsafe { std::slice::from_raw_parts(view.as_ptr(), len) };
        // The mappings keep the memory alive; the descriptor goes at the end of this function.
        let memory = memory::shared_memory(len, name)?;
        for region in regions {
            let (start, length) = extent(region);
            memory.write_all_at(&bytes[start..start + length], start as u64)?;
            // SAFETY: inside the arena's reservation, over pages that are in nobody's use yet.
            unsafe { memory::map_private(at.add(start), length, region.protection, &memory, start)? };
        }
        Ok(())
    }

    unsafe fn close(&self, view: NonNull<u8>, len: usize) {
        // SAFETY: leaked by `open` as a box of this length, closed once.
        drop(unsafe { Box::from_raw(NonNull::slice_from_raw_parts(view, len).as_ptr()) });
    }
}
