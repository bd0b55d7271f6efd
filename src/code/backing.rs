//! How the pages of an arena become writable and then executable. `benches/code_memory.rs` measures both ways, and
//! ARCHITECTURE.md has the figures behind the default.

use std::fs::File;
use std::io;
use std::ptr::NonNull;

use midflight_image::{Protection, Region};

use crate::os::memory;

/// How code is written before it executes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Backing {
    /// Private pages that are writable, then by `mprotect` what they are to be. One mapping, one address.
    #[default]
    WriteOnce,
    /// Shared memory (memfd) mapped twice: written through a view of its own that is unmapped before the executable
    /// mapping is made. Linux only. A fork shares the modules' data with its parent.
    Dual,
}

/// One arena's way, with what it needs for it. `base` is the arena's reservation throughout.
pub(crate) trait Pages: Send + Sync {
    /// Makes zeroed pages writable and says where.
    ///
    /// # Safety
    ///
    /// The pages lie inside the arena and are inaccessible: new, or released.
    unsafe fn open(&self, base: NonNull<u8>, offset: usize, len: usize) -> io::Result<NonNull<u8>>;

    /// Ends writing through the `view` that `open` returned, if that is a mapping of its own. Always between `open` and
    /// whatever follows: no page is writable through one mapping while it is executable through another.
    ///
    /// # Safety
    ///
    /// `view` and `len` are of one `open`, closed once, and nobody uses the view any more.
    unsafe fn close(&self, view: NonNull<u8>, len: usize) -> io::Result<()>;

    /// Gives the written pages their final protections, at `base + offset`; the rest becomes inaccessible.
    ///
    /// # Safety
    ///
    /// The pages were opened and closed. The regions lie within `len`.
    unsafe fn seal(&self, base: NonNull<u8>, offset: usize, len: usize, regions: &[Region])
    -> io::Result<()>;

    /// Makes the pages inaccessible and frees their memory, sealed or not.
    ///
    /// # Safety
    ///
    /// Nobody uses the pages any more.
    unsafe fn release(&self, base: NonNull<u8>, offset: usize, len: usize) -> io::Result<()>;
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
    unsafe fn open(&self, base: NonNull<u8>, offset: usize, len: usize) -> io::Result<NonNull<u8>> {
        // SAFETY: inside the arena and in nobody's use, as the caller says.
        unsafe {
            let at = base.add(offset);
            memory::protect(at, len, Protection::ReadWrite)?;
            Ok(at)
        }
    }

    unsafe fn close(&self, _view: NonNull<u8>, _len: usize) -> io::Result<()> {
        Ok(())
    }

    unsafe fn seal(
        &self,
        base: NonNull<u8>,
        offset: usize,
        len: usize,
        regions: &[Region],
    ) -> io::Result<()> {
        // Gaps between regions hold nothing; they go back to being inaccessible, as what follows the last region.
        let mut covered = 0;
        // SAFETY: inside the arena; the module's writes are done, as the caller says.
        unsafe {
            for region in regions {
                let (start, bytes) = extent(region);
                if start > covered {
                    vacate(base.add(offset + covered), start - covered)?;
                }
                if region.protection != Protection::ReadWrite {
                    memory::protect(base.add(offset + start), bytes, region.protection)?;
                }
                covered = start + bytes;
            }
            if covered < len {
                vacate(base.add(offset + covered), len - covered)?;
            }
        }
        Ok(())
    }

    unsafe fn release(&self, base: NonNull<u8>, offset: usize, len: usize) -> io::Result<()> {
        // SAFETY: inside the arena and in nobody's use, as the caller says.
        unsafe { vacate(base.add(offset), len) }
    }
}

/// See [`Backing::Dual`].
pub(crate) struct Dual {
    pub(crate) memory: File,
}

impl Pages for Dual {
    unsafe fn open(&self, _base: NonNull<u8>, offset: usize, len: usize) -> io::Result<NonNull<u8>> {
        let view = memory::reserve(len)?;
        // SAFETY: over the reservation just made.
        unsafe { memory::map_shared(view, len, Protection::ReadWrite, &self.memory, offset)? };
        Ok(view)
    }

    unsafe fn close(&self, view: NonNull<u8>, len: usize) -> io::Result<()> {
        // SAFETY: `open` reserved the view for this caller alone, who is done with it.
        unsafe { memory::unreserve(view, len) }
    }

    unsafe fn seal(
        &self,
        base: NonNull<u8>,
        offset: usize,
        _len: usize,
        regions: &[Region],
    ) -> io::Result<()> {
        for region in regions {
            let (start, bytes) = extent(region);
            // SAFETY: inside the arena's reservation, over pages that are in nobody's use yet.
            unsafe {
                let at = base.add(offset + start);
                memory::map_shared(at, bytes, region.protection, &self.memory, offset + start)?;
            }
        }
        Ok(())
    }

    unsafe fn release(&self, base: NonNull<u8>, offset: usize, len: usize) -> io::Result<()> {
        // SAFETY: inside the arena and in nobody's use, as the caller says.
        unsafe { vacate(base.add(offset), len)? };
        memory::punch(&self.memory, offset, len)
    }
}
