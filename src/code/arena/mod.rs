//! Reserved address space, handed out in blocks.

mod block;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use midflight_image::{Region, Verbatim, Window};

use super::Backing;
use super::backing::{Memfd, Pages, RESERVED, Toggled, WriteOnce};
use crate::platform::os::memory;
use crate::platform::os::witness::Witness;
use block::Allocation;
pub(crate) use block::{Block, Draft, Sealed};

/// An arena's size: well inside the +-128 MiB of an AArch64 branch, so that a module's text, GOT
/// and veneers reach each other wherever in the arena they are.
const ARENA: usize = 64 << 20;

/// The largest block, and so the largest module: half a tebibyte, which systems refuse sooner. What
/// is larger than an arena has one of its own. Branches and addresses within a shared object its
/// linker has settled, and within object files each is checked when it is written.
pub(crate) const MAX_BLOCK: usize = 1 << 39;

/// How much memory an arena keeps in the shape of blocks that were freed. A reload whose layout is
/// that of a version that was freed before takes its pages as they are mapped: mapping its regions
/// is more than half of the time of loading a small module, and every mapping that is taken away
/// interrupts the readers.
const IDLE_BYTES: usize = 4 << 20;
const IDLE_BLOCKS: usize = 64;

/// How many of the blocks that were freed last are not used again yet, in each arena. Their text
/// traps meanwhile, so that a stale call is noticed for longer. Relaxed: a block more or less does
/// not matter.
static HELD_BACK: AtomicUsize = AtomicUsize::new(0);

/// Of an arena, at most.
const HELD_BACK_BYTES: usize = ARENA / 4;

/// Has the pages of so many blocks held back from now on.
pub(crate) fn hold_back(blocks: usize) {
    HELD_BACK.store(blocks, Ordering::Relaxed);
}

/// What a block is to be.
pub(crate) struct Shape<'r, 'v> {
    /// In bytes, at most [`MAX_BLOCK`].
    pub(crate) len: usize,
    /// A power of two.
    pub(crate) align: usize,
    /// The final protections; in order, within `len`.
    pub(crate) regions: &'r [Region],
    /// What goes into it as it is: in order, each part in a region that is not writable.
    pub(crate) verbatim: &'v [Verbatim<'v>],
    /// Where it must be.
    pub(crate) window: Window,
    /// Indirect branches into its code must meet a landing pad, where the processor sees to that.
    pub(crate) guarded: bool,
}

/// Where a block can be.
#[derive(Clone, Copy)]
struct Fit {
    len: usize,
    align: usize,
    window: Window,
    guarded: bool,
}

impl Shape<'_, '_> {
    fn fit(&self) -> Fit {
        Fit { len: self.len, align: self.align, window: self.window, guarded: self.guarded }
    }
}

/// All the arenas of the process. Grows by an arena when none has room; an arena that is empty is
/// kept. Where code is toggled each block has an arena of its own, which is not kept; and so has
/// one that is larger than an arena.
pub(crate) struct CodeMemory {
    backing: Backing,
    page_size: usize,
    arenas: Vec<Arc<Arena>>,
    /// What the next arena is to have.
    witness: Option<Arc<Witness>>,
}

struct Arena {
    base: NonNull<u8>,
    len: usize,
    pages: Box<dyn Pages>,
    extents: Mutex<Extents>,
    /// Only for blocks that must be in a window.
    reserved_for_windows: bool,
    /// Of children that have its pages: see [`Arena::is_shared`]. None if these are private memory.
    witness: Option<Arc<Witness>>,
}

#[derive(Default)]
struct Extents {
    /// Offset and length, never adjacent to each other.
    free: BTreeMap<usize, usize>,
    /// Retired blocks, the latest last.
    idle: VecDeque<Idle>,
    idle_bytes: usize,
    /// Retired blocks that are not to be used yet, the latest last.
    held_back: VecDeque<Retired>,
    held_back_bytes: usize,
    /// How many sealed blocks there are of each layout.
    sealed: HashMap<Box<[Region]>, usize>,
}

/// The mapped pages of a block that was freed.
struct Idle {
    offset: usize,
    fit: Fit,
    regions: Box<[Region]>,
}

/// A block that was freed: its pages are mapped, or else inaccessible.
struct Retired {
    idle: Idle,
    mapped: bool,
}

// SAFETY: the base is an address range that the arena owns; which part of it a thread may touch is
// settled by ownership of a Draft or Block, and the extents are behind a mutex.
unsafe impl Send for Arena {}
// SAFETY: as for Send.
unsafe impl Sync for Arena {}

impl CodeMemory {
    /// # Errors
    ///
    /// If the process may have no memory of this kind.
    pub(crate) fn new(backing: Backing, page_size: usize) -> io::Result<Self> {
        if backing == Backing::Toggled {
            let at = memory::map_toggled(page_size)?;
            // SAFETY: just mapped.
            unsafe { memory::unreserve(at, page_size)? };
        }
        Ok(Self { backing, page_size, arenas: Vec::new(), witness: None })
    }

    pub(crate) fn page_size(&self) -> usize {
        self.page_size
    }

    /// Writable memory of the shape's length: zeros, but for the verbatim parts, which need not be
    /// written.
    pub(crate) fn draft<'v>(&mut self, shape: &Shape<'_, 'v>) -> io::Result<Draft<'v>> {
        let len = shape.len.max(1).next_multiple_of(self.page_size);
        let shape = &Shape { len, align: shape.align.max(self.page_size), ..*shape };
        let place = self.place(shape)?;
        // SAFETY: `place` took the pages off the free or the idle list, so they are in nobody's
        // use.
        match unsafe { place.arena.pages.open(place.span(), shape.verbatim) } {
            Ok(view) => {
                let regions = shape.regions.into();
                Ok(Draft { place: Some(place), view, regions, verbatim: shape.verbatim })
            }
            Err(error) => {
                // SAFETY: as above.
                unsafe { place.release() };
                Err(error)
            }
        }
    }

    /// A new arena. What is behind a descriptor has a witness of children that no arena of theirs
    /// has.
    fn reserve(&mut self, shape: &Shape<'_, '_>) -> io::Result<Arena> {
        if self.backing != Backing::Memfd {
            return Arena::reserve(self.backing, shape, None);
        }
        if self.witness.as_ref().is_none_or(|witness| witness.is_shared()) {
            self.witness = match Witness::new() {
                Ok(witness) => Some(Arc::new(witness)),
                Err(error) => {
                    tracing::warn!(%error, "forked children cannot be seen: private pages are used for code");
                    None
                }
            };
        }
        Arena::reserve(self.backing, shape, self.witness.clone())
    }

    fn place(&mut self, shape: &Shape<'_, '_>) -> io::Result<Allocation> {
        // What a forked child shares is neither reused nor kept: it goes with the last of its
        // blocks. So does what could not be written any more, because the program has closed its
        // descriptor or limited the size of files.
        self.arenas.retain(|arena| !arena.is_shared() && arena.pages.is_usable());
        if self.backing == Backing::Toggled || is_large(shape) {
            let arena = Arc::new(self.reserve(shape)?);
            let offset = arena.take(shape).ok_or(io::ErrorKind::OutOfMemory)?;
            return Ok(Allocation { arena, offset, fit: shape.fit(), warm: false });
        }
        let windowed = shape.window != Window::ANYWHERE;
        for arena in &self.arenas {
            if let Some(offset) = arena.take_idle(shape) {
                return Ok(Allocation { arena: arena.clone(), offset, fit: shape.fit(), warm: true });
            }
        }
        for arena in &self.arenas {
            if (windowed || !arena.reserved_for_windows)
                && let Some(offset) = arena.take(shape)
            {
                return Ok(Allocation { arena: arena.clone(), offset, fit: shape.fit(), warm: false });
            }
        }
        let arena = Arc::new(self.reserve(shape)?);
        // A new arena has room, at any alignment up to its size, for whatever fits at all.
        let offset = arena.take(shape).ok_or(io::ErrorKind::OutOfMemory)?;
        self.arenas.push(arena.clone());
        Ok(Allocation { arena, offset, fit: shape.fit(), warm: false })
    }
}

impl Arena {
    fn reserve(backing: Backing, shape: &Shape<'_, '_>, witness: Option<Arc<Witness>>) -> io::Result<Self> {
        let reserved_for_windows = shape.window != Window::ANYWHERE;
        // Aligned to its own size, so that a block of any alignment up to that fits a new arena.
        let (base, len) = if reserved_for_windows {
            let (low, high) = (shape.window.low as usize, shape.window.high as usize);
            let room = (shape.len.max(shape.align) as u64).next_power_of_two() as usize;
            if backing == Backing::Toggled {
                memory::map_toggled_within(low, high, shape.len, room)?
            } else {
                memory::reserve_within(low, high, shape.len, room, room.max(ARENA))?
            }
        } else if backing == Backing::Toggled {
            aligned(memory::map_toggled, shape.len, shape.align)?
        } else if is_large(shape) {
            aligned(memory::reserve, shape.len, shape.align)?
        } else {
            match memory::reserve_aligned(ARENA) {
                Ok(base) => (base, ARENA),
                // Under a limit on address space (RLIMIT_AS) there may still be room for what is
                // asked for.
                Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => {
                    let room = shape.len.max(shape.align).next_power_of_two();
                    (memory::reserve_aligned(room)?, room)
                }
                Err(error) => return Err(error),
            }
        };
        let pages: io::Result<Box<dyn Pages>> = match backing {
            Backing::WriteOnce => Ok(Box::new(WriteOnce)),
            Backing::Toggled => Ok(Box::<Toggled>::default()),
            Backing::Memfd if witness.is_none() => Ok(Box::new(WriteOnce)),
            Backing::Memfd => match Memfd::new(len) {
                Ok(pages) => Ok(Box::new(pages)),
                // The process may have no more descriptors, or no file of this size.
                Err(error) if is_limit(&error) => {
                    tracing::warn!(%error, "no code memory behind a descriptor: private pages are used");
                    Ok(Box::new(WriteOnce))
                }
                Err(error) => Err(error),
            },
        };
        let pages = match pages {
            Ok(pages) => pages,
            Err(error) => {
                // SAFETY: just reserved. What could not be given back stays reserved, which harms
                // no one.
                let _ = unsafe { memory::unreserve(base, len) };
                return Err(error);
            }
        };
        memory::name(base, len, RESERVED);
        let extents = Extents { free: BTreeMap::from([(0, len)]), ..Extents::default() };
        Ok(Self { base, len, pages, extents: Mutex::new(extents), reserved_for_windows, witness })
    }

    /// Whether a child of this process may have the arena's pages. A private page that was never
    /// written is the file's, in both processes: writing to the file again would change the
    /// code that the child runs.
    fn is_shared(&self) -> bool {
        self.witness.as_ref().is_some_and(|witness| witness.is_shared())
    }

    fn extents(&self) -> std::sync::MutexGuard<'_, Extents> {
        self.extents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn within(&self, window: Window, offset: usize) -> bool {
        let address = (self.base.addr().get() + offset) as u64;
        (window.low..=window.high).contains(&address)
    }

    /// The latest retired block of the same shape: its pages are the likeliest to be in a cache.
    fn take_idle(&self, shape: &Shape<'_, '_>) -> Option<usize> {
        let mut extents = self.extents();
        let index = extents.idle.iter().rposition(|idle| {
            idle.fit.len == shape.len
                && idle.fit.guarded == shape.guarded
                && *idle.regions == *shape.regions
                && (self.base.addr().get() + idle.offset).is_multiple_of(shape.align)
                && self.within(shape.window, idle.offset)
        })?;
        let idle = extents.idle.remove(index)?;
        extents.idle_bytes -= idle.fit.len;
        Some(idle.offset)
    }

    /// First fit: modules of one process are of similar sizes and short lives, and low offsets are
    /// reused first, which keeps the page tables of the rest untouched.
    fn take(&self, shape: &Shape<'_, '_>) -> Option<usize> {
        let mut extents = self.extents();
        let (start, size, offset) = self.first_fit(&extents, shape.fit())?;
        extents.free.remove(&start);
        if offset > start {
            extents.free.insert(start, offset - start);
        }
        let (end, end_of_free) = (offset + shape.len, start + size);
        if end < end_of_free {
            extents.free.insert(end, end_of_free - end);
        }
        Some(offset)
    }

    /// The first free extent in which there is room, its size, and where in it.
    fn first_fit(&self, extents: &Extents, fit: Fit) -> Option<(usize, usize, usize)> {
        let base = self.base.addr().get();
        let lowest = usize::try_from(fit.window.low).ok()?.saturating_sub(base);
        extents.free.iter().find_map(|(&start, &size)| {
            let offset = (base + start.max(lowest)).checked_next_multiple_of(fit.align)? - base;
            let fits = offset + fit.len <= start + size && self.within(fit.window, offset);
            fits.then_some((start, size, offset))
        })
    }

    fn put_back(&self, offset: usize, len: usize) {
        let free = &mut self.extents().free;
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

    /// Keeps a retired block's pages, and returns those that are one too many. Of a layout no more
    /// are kept than are in use, or one, and the lowest: a reload needs one at a time, and what
    /// frames have held back for a while is not to stay mapped for ever.
    fn keep_idle(&self, idle: Idle) -> Option<Idle> {
        let mut extents = self.extents();
        let sealed = extents.sealed.get(&idle.regions).copied().unwrap_or(0);
        let alike = |other: &&Idle| other.regions == idle.regions;
        let (count, fit) = (extents.idle.iter().filter(alike).count(), idle.fit);
        let highest = extents.idle.iter().filter(alike).map(|other| other.offset).max().unwrap_or(0);
        let excess = if count < sealed.max(1) {
            let full = extents.idle.len() >= IDLE_BLOCKS || extents.idle_bytes + fit.len > IDLE_BYTES;
            full.then_some(0)
        } else if idle.offset > highest {
            return Some(idle);
        } else {
            extents.idle.iter().position(|other| other.offset == highest)
        };
        let excess = excess.and_then(|at| extents.idle.remove(at));
        extents.idle_bytes += fit.len;
        extents.idle_bytes -= excess.as_ref().map_or(0, |excess| excess.fit.len);
        extents.idle.push_back(idle);
        excess
    }

    /// Holds a retired block back, and returns those that have been for long enough.
    fn hold_back(&self, retired: Retired) -> Vec<Retired> {
        let most = HELD_BACK.load(Ordering::Relaxed);
        let mut extents = self.extents();
        extents.held_back_bytes += retired.idle.fit.len;
        extents.held_back.push_back(retired);
        let mut over = Vec::new();
        while extents.held_back.len() > most || extents.held_back_bytes > HELD_BACK_BYTES {
            let oldest = extents.held_back.pop_front().expect("there are some");
            extents.held_back_bytes -= oldest.idle.fit.len;
            over.push(oldest);
        }
        over
    }

    /// A block of this layout was sealed.
    fn sealed(&self, regions: &[Region]) {
        let sealed = &mut self.extents().sealed;
        match sealed.get_mut(regions) {
            Some(count) => *count += 1,
            None => drop(sealed.insert(regions.into(), 1)),
        }
    }

    /// A sealed block of this layout is no more.
    fn dropped(&self, regions: &[Region]) {
        let sealed = &mut self.extents().sealed;
        if let Some(count) = sealed.get_mut(regions) {
            *count -= 1;
            if *count == 0 {
                sealed.remove(regions);
            }
        }
    }
}

/// Whether an error is a limit of the process or of the system, and not that such memory is
/// forbidden.
fn is_limit(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::FileTooLarge
        || matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOSPC | libc::ENOMEM))
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: blocks hold the arena, so none is left. What could not be given back stays
        // reserved, which harms no one.
        let _ = unsafe { memory::unreserve(self.base, self.len) };
    }
}

/// The address space of an arena.
pub(crate) struct Reservation(Weak<Arena>);

impl Reservation {
    /// Address space that nobody has.
    #[cfg(test)]
    pub(crate) fn of_nobody() -> Self {
        Self(Weak::new())
    }

    /// Whether it is code memory's still. Async-signal-safe.
    pub(crate) fn is_there(&self) -> bool {
        self.0.strong_count() > 0
    }
}

/// Whether no ordinary arena has room for it.
fn is_large(shape: &Shape<'_, '_>) -> bool {
    shape.len.max(shape.align) > ARENA
}

/// Address space for one block, as `map` takes it.
fn aligned(
    map: impl Fn(usize) -> io::Result<NonNull<u8>>,
    len: usize,
    align: usize,
) -> io::Result<(NonNull<u8>, usize)> {
    let spare = if align > memory::page_size() { align } else { 0 };
    let wide = map(len.checked_add(spare).ok_or(io::ErrorKind::OutOfMemory)?)?;
    let before = wide.addr().get().next_multiple_of(align) - wide.addr().get();
    // SAFETY: trims our own new mapping; zero bytes are not trimmed.
    unsafe {
        let aligned = wide.add(before);
        if before > 0 {
            memory::unreserve(wide, before)?;
        }
        if before < spare {
            memory::unreserve(aligned.add(len), spare - before)?;
        }
        Ok((aligned, len))
    }
}
