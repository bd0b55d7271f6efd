//! Reserved address space, handed out in blocks.

use std::collections::BTreeMap;
use std::io;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use midflight_image::{Protection, Region};

use super::Backing;
use super::backing::{Memfd, Pages, RESERVED, WriteOnce};
use crate::arch;
use crate::os::memory;

/// An arena's size: well inside the +-128 MiB of an AArch64 branch, so that a module's text, GOT and veneers reach each
/// other wherever in the arena they are.
const ARENA: usize = 64 << 20;

/// The largest block, and so the largest module.
pub(crate) const MAX_BLOCK: usize = ARENA;

/// All the arenas of the process. Grows by an arena when none has room; an arena that is empty is kept.
pub(crate) struct CodeMemory {
    backing: Backing,
    page_size: usize,
    arenas: Vec<Arc<Arena>>,
}

struct Arena {
    base: NonNull<u8>,
    pages: Box<dyn Pages>,
    /// Free extents by offset, never adjacent to each other.
    free: Mutex<BTreeMap<usize, usize>>,
}

// SAFETY: the base is an address range that the arena owns; which part of it a thread may touch is settled by
// ownership of a Draft or Block, and the free list is behind a mutex.
unsafe impl Send for Arena {}
// SAFETY: as for Send.
unsafe impl Sync for Arena {}

impl CodeMemory {
    pub(crate) fn new(backing: Backing, page_size: usize) -> Self {
        Self { backing, page_size, arenas: Vec::new() }
    }

    pub(crate) fn page_size(&self) -> usize {
        self.page_size
    }

    /// Writable, zeroed memory for `len` bytes (at most [`MAX_BLOCK`]), aligned to `align` (a power of two).
    pub(crate) fn draft(&mut self, len: usize, align: usize, name: &str) -> io::Result<Draft> {
        let len = len.max(1).next_multiple_of(self.page_size);
        let align = align.max(self.page_size);
        let (arena, offset) = self.place(len, align)?;
        let place = Place { arena, offset, len };
        // SAFETY: `place` took the pages off the free list, so they are inaccessible and ours.
        match unsafe { place.arena.pages.open(place.address(), len) } {
            Ok(view) => Ok(Draft { place: Some(place), view, name: name.to_owned() }),
            Err(error) => {
                place.arena.put_back(offset, len);
                Err(error)
            }
        }
    }

    fn place(&mut self, len: usize, align: usize) -> io::Result<(Arc<Arena>, usize)> {
        for arena in &self.arenas {
            if let Some(offset) = arena.take(len, align) {
                return Ok((arena.clone(), offset));
            }
        }
        let arena = Arc::new(Arena::reserve(self.backing)?);
        // A new arena has room, at any alignment up to its size, for whatever fits at all.
        let offset = arena.take(len, align).ok_or(io::ErrorKind::OutOfMemory)?;
        self.arenas.push(arena.clone());
        Ok((arena, offset))
    }
}

impl Arena {
    fn reserve(backing: Backing) -> io::Result<Self> {
        let pages: Box<dyn Pages> = match backing {
            Backing::WriteOnce => Box::new(WriteOnce),
            Backing::Memfd => Box::new(Memfd),
        };
        // Aligned to its own size, so that a block of any alignment up to that fits a new arena.
        let base = memory::reserve_aligned(ARENA)?;
        memory::name(base, ARENA, RESERVED);
        Ok(Self { base, pages, free: Mutex::new(BTreeMap::from([(0, ARENA)])) })
    }

    /// First fit: modules of one process are of similar sizes and short lives, and low offsets are reused first, which
    /// keeps the page tables of the rest untouched.
    fn take(&self, len: usize, align: usize) -> Option<usize> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let base = self.base.addr().get();
        let (start, size, offset) = free.iter().find_map(|(&start, &size)| {
            let offset = (base + start).next_multiple_of(align) - base;
            (offset + len <= start + size).then_some((start, size, offset))
        })?;
        free.remove(&start);
        if offset > start {
            free.insert(start, offset - start);
        }
        let (end, end_of_free) = (offset + len, start + size);
        if end < end_of_free {
            free.insert(end, end_of_free - end);
        }
        Some(offset)
    }

    fn put_back(&self, offset: usize, len: usize) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut start, mut size) = (offset, len);
        if let Some((&before, &before_size)) = free.range(..offset).next_back()
            && before + before_size == offset
        {
            free.remove(&before);
            (start, size) = (before, size + before_size);
        }
        if let Some(after_size) = free.remove(&(offset + len)) {
            size += after_size;
        }
        free.insert(start, size);
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: blocks hold the arena, so none is left. What could not be given back stays reserved, which harms no one.
        let _ = unsafe { memory::unreserve(self.base, ARENA) };
    }
}

struct Place {
    arena: Arc<Arena>,
    offset: usize,
    len: usize,
}

impl Place {
    fn address(&self) -> NonNull<u8> {
        // SAFETY: the offset is inside the arena's reservation.
        unsafe { self.arena.base.add(self.offset) }
    }

    /// # Safety
    ///
    /// Nobody uses the pages any more.
    unsafe fn release(&self) {
        // SAFETY: the caller's promise.
        let released = unsafe { self.arena.pages.release(self.address(), self.len) };
        // The kernel may refuse to split a mapping when the process has too many (ENOMEM). The pages then stay as they are and
        // are never handed out again: memory is lost, and nothing else.
        if released.is_ok() {
            self.arena.put_back(self.offset, self.len);
        }
    }
}

/// Memory that is being written and cannot be executed yet.
pub(crate) struct Draft {
    /// None once sealed.
    place: Option<Place>,
    /// Where it is written.
    view: NonNull<u8>,
    /// For whoever reads /proc/PID/maps.
    name: String,
}

impl Draft {
    fn place(&self) -> &Place {
        self.place.as_ref().expect("a draft has its place until it is sealed")
    }

    /// Where byte 0 will be when sealed: the address to link for.
    pub(crate) fn base(&self) -> usize {
        self.place().address().addr().get()
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the view is writable for the place's length, initialised (zero pages), and ours alone until sealed.
        unsafe { std::slice::from_raw_parts_mut(self.view.as_ptr(), self.place().len) }
    }

    /// Gives each region its final protection, and makes executable ones visible to instruction fetch. Other cores
    /// are synchronised by `barrier::synchronise_cores` before anybody is told the address.
    pub(crate) fn seal(mut self, regions: &[Region]) -> io::Result<Block> {
        let place = self.place();
        // SAFETY: `self` was the only way to write, and it is consumed; the regions lie within the image that the place was made
        // for. On error Drop releases the pages.
        unsafe {
            place.arena.pages.seal(place.address(), place.len, self.view, &self.name, regions)?;
            place.arena.pages.close(self.view, place.len);
        }
        let place = self.place.take().expect("sealed once");
        let block = Block { place };
        for region in regions.iter().filter(|r| r.protection == Protection::ReadExecute) {
            // SAFETY: just mapped readable and executable at this address.
            unsafe {
                let at = block.place.address().add(region.offset as usize);
                arch::cache::publish_code(at.as_ptr(), region.len as usize);
            }
        }
        Ok(block)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            // SAFETY: not sealed, so not closed yet. Nobody was told the address of a draft, and `bytes` borrows from it, so
            // nobody is left.
            unsafe {
                place.arena.pages.close(self.view, place.len);
                place.release();
            }
        }
    }
}

/// Sealed memory. Its pages go when it is dropped, so its owner must know that nobody is inside.
pub(crate) struct Block {
    place: Place,
}

impl Block {
    pub(crate) fn base(&self) -> usize {
        self.place.address().addr().get()
    }

    pub(crate) fn len(&self) -> usize {
        self.place.len
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: who drops a block says that nobody executes or reads it any more.
        unsafe { self.place.release() };
    }
}
